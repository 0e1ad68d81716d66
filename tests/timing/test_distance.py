"""Widths by distance: what is new never narrows an interval, and none is narrower than first looks were wide."""

from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.catalog import Catalogue
from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.components import BELIEF, LEVEL, OUTGROWN, first_looks
from simgpu.timing import distance, uncertainty
from simgpu.timing.distance import (
    ARCHITECTURE,
    EXPERTS,
    LAYERS,
    OF,
    QUEUE,
    SOFTWARE,
    SOURCE,
    WITHIN,
    component,
    ends,
    in_words,
    narrowed,
    reach,
    student,
    widened,
)
from simgpu.timing.uncertainty import HOLD_KERNELS, WholeRun, interval, layers_of, run_spread

KINDS = {
    "gemm": "gemm",
    "attention_prefill": "attention",
    "attention_decode": "attention",
    "moe": "moe",
    "all_reduce": "collective",
    "normalization": "vector",
}
"""Operators, and the class of constants that each uses."""
TIMES = [1e-5, 6e-5, 1e-3]

repeatable = settings(derandomize=True, deadline=None, max_examples=100)


@pytest.mark.parametrize(("freedom", "expected"), [(3, 1.638), (4, 1.533), (6, 1.440), (10, 1.372), (1e9, 1.2816)])
def test_quantiles_of_student_are_those_of_tables(freedom, expected):
    assert student(1.2815516, freedom) == pytest.approx(expected, abs=0.01)


@repeatable
@given(st.floats(0.1, 1.0), st.floats(1.0, 8.0), st.floats(0.0, 2.0))
def test_a_part_that_was_added_can_be_taken_away(low, high, more):
    wider = widened(low, high, more)
    assert wider[0] <= low * (1 + 1e-12) and wider[1] >= high * (1 - 1e-12)
    assert narrowed(*wider, exp(-more), exp(more)) == pytest.approx((low, high), rel=1e-6, abs=1e-7)


@repeatable
@given(
    op=st.sampled_from(sorted(OF)),
    library=st.sampled_from(["vllm", "trtllm", "llama.cpp", "megatron", "never heard of"]),
    kernels=st.tuples(st.floats(0.6, 1.0), st.floats(1.0, 1.6)),
    flag=st.sampled_from(["version", "experts", "seen"]),
)
def test_a_run_that_is_farther_is_never_surer(op, library, kernels, flag):
    """Of each flag alone: another version, experts that nobody measured, a machine of one's own."""
    asked = {"library": library, "architecture": "hopper", "kernels": kernels, "seen": True}
    near = run_spread(op, 0.5, WholeRun(**asked))
    far = run_spread(op, 0.5, WholeRun(**asked | {flag: flag == "experts"}))
    assert far.low <= near.low * (1 + 1e-12) and far.high >= near.high * (1 - 1e-12)
    if op not in HOLD_KERNELS or library not in ("megatron",):
        assert near.low <= kernels[0] * (1 + 1e-12) and near.high >= kernels[1] * (1 - 1e-12)
    assert far.low <= kernels[0] * (1 + 1e-12) and far.high >= kernels[1] * (1 - 1e-12)


def test_steps_of_measured_software_hold_what_their_kernels_are_off_by():
    """Their residuals are of whole steps, kernels and all; a machine of one's own, or other software, has neither."""
    asked = {"library": "megatron", "architecture": "hopper", "seen": True}
    sure, unsure = (run_spread("step_time", 0.5, WholeRun(**asked, kernels=ends)) for ends in ((1, 1), (0.6, 1.6)))
    assert (sure.low, sure.high) == (unsure.low, unsure.high)
    for far in ({"seen": False}, {"version": False}, {"library": "never heard of"}):
        wide = run_spread("step_time", 0.5, WholeRun(**asked | far, kernels=(0.6, 1.6)))
        assert wide.low <= 0.6 and wide.high >= 1.6


def test_layers_add_in_squares_and_wider_kernels_count_on_a_new_architecture():
    near = run_spread("tpot", 0.02, WholeRun(library="vllm", architecture="hopper"))
    far = run_spread("tpot", 0.02, WholeRun(library="vllm", architecture="hopper", version=False))
    assert log(far.high) ** 2 == pytest.approx(log(near.high) ** 2 + component("served", SOFTWARE).reach ** 2)
    asked = {"library": "vllm", "architecture": "volta"}
    plain, wide = (run_spread("tpot", 0.02, WholeRun(**asked, kernels=(end, 1 / end))) for end in (1.0, 0.8))
    assert log(wide.high) ** 2 == pytest.approx(log(plain.high) ** 2 + log(0.8) ** 2)


@pytest.mark.parametrize("op", ["gemm", "attention_prefill", "attention_decode", "moe", "all_reduce", "normalization"])
def test_a_kernel_of_a_new_architecture_is_as_unsure_as_other_architectures_were(op):
    of = uncertainty.component_class(op)
    low, high = interval(op, 1e-4, architecture="tesla", regime="datasheet")
    least = component(of, ARCHITECTURE).reach
    assert log(high) >= least and -log(low) >= least
    usual = interval(op, 1e-4, architecture="hopper", regime="calibrated", seen=True)
    user = interval(op, 1e-4, architecture="hopper", regime="calibrated")
    assert log(user[1] / user[0]) > log(usual[1] / usual[0]), "another machine than the one that was measured"


@pytest.mark.parametrize("op", ["all_reduce", "all_gather", "all_to_all"])
def test_a_network_spreads_collectives_by_as_much_whatever_the_gpus(op):
    """On GPUs that nobody measured they are as unsure as on relatives, or on others and beyond by an architecture."""
    near, relative, far = (
        uncertainty.residual(op, "any", where, regime, "nccl between nodes")
        for where, regime in (("ampere", "calibrated"), ("any", "inherited"), ("nobody", "datasheet"))
    )
    beyond = component("collective", ARCHITECTURE).reach
    for end in ("low", "high"):
        own, like, away = (abs(log(getattr(one, end))) for one in (near, relative, far))
        assert max(beyond, like) * (1 - 1e-9) <= away <= max(np.hypot(own, beyond), like) * (1 + 1e-9)


def test_collectives_that_leave_their_node_are_less_sure():
    near, far = (
        uncertainty.spread("all_reduce", 1e-3, architecture="hopper", regime="inherited", library="nccl", nodes=nodes)
        for nodes in (False, True)
    )
    assert far.high > near.high and far.low < near.low and 0 <= far.correlated <= 1


def test_no_component_is_far_below_what_strangers_were_first_off_by():
    """Fitting constants to a source makes it no stranger, and other strangers no nearer: a component is drawn towards
    those of like classes, by no more than four groups weigh, and levelled once. Of what a model learned since, others
    have to say how far strangers are."""
    floors = {(look.of, look.component): look for look in first_looks() if look.component}
    floors = {key: look for key, look in floors.items() if key not in OUTGROWN}
    assert len(floors) > 20
    for (of, layer), look in floors.items():
        runs = of in set(OF.values()) and layer != WITHIN
        least = LEVEL * (look.groups / (look.groups + BELIEF)) ** 0.5 if runs else 1.0
        assert component(of, layer).sd >= least * look.spread - 1e-4, look


def test_no_interval_shrinks_with_distance():
    """Of each class, library and GPU of the catalogue: no surer as it stands than with constants of its own; and the
    typical relative is no surer than the typical GPU with its own, no less sure than a new architecture."""
    catalogue, away = Catalogue(), {}
    for name in catalogue.names("gpus"):
        spec = catalogue.spec("gpus", name)
        constants = catalogue.kernel_constants(spec)
        for op, kind in KINDS.items():
            for library in constants.libraries(kind) or [DEFAULT]:
                regime = constants.regime(kind, library)
                asked = {"architecture": spec.architecture, "library": library}
                own, usual = (interval(op, TIMES, regime=level, **asked) for level in ("calibrated", regime))
                measured = (op, library, "any", "calibrated", "any") in uncertainty._table()
                if measured:
                    assert (usual[0] <= own[0] * (1 + 1e-9)).all(), (name, op, library)
                    assert (usual[1] >= own[1] * (1 - 1e-9)).all(), (name, op, library)
                new = ARCHITECTURE in layers_of(op, spec.architecture, regime, library)
                of = "new" if new else "relative" if regime != "calibrated" else "own" if measured else "mixed"
                away.setdefault((op, library), {}).setdefault(of, []).append(np.log(usual[1] / usual[0]))
    for place, found in away.items():
        middle = [np.median(found[of]) for of in ("own", "relative", "new") if of in found]
        assert middle == sorted(middle), (place, middle)


@pytest.mark.parametrize("op", sorted(OF))
def test_no_run_is_surer_for_being_farther(op):
    """In a version that was measured, in one that was not, in an engine that nobody measured; on a GPU of its own
    constants, on a relative, on a new architecture."""
    asked = {"architecture": "hopper", "library": "vllm" if OF[op] in ("served", "ttft") else "llama.cpp"}
    chains = [
        [{}, {"version": False}, {"version": False, "library": "never heard of"}],
        [{}, {"regime": "inherited"}, {"architecture": "never heard of", "regime": "inherited"}],
    ]
    for chain in chains:
        for near, far in pairwise(run_spread(op, 0.5, WholeRun(**asked | step)) for step in chain):
            assert far.low <= near.low * (1 + 1e-9) and far.high >= near.high * (1 - 1e-9), chain


def test_an_idle_server_is_surer_of_its_first_token_and_a_saturated_one_is_not():
    asked = {"library": "vllm", "architecture": "hopper"}
    hows: list[dict[str, bool]] = [{"load": False}, {}, {"queue": True}]
    idle, loaded, queued = (run_spread("ttft", 0.3, WholeRun(**asked, **how)) for how in hows)
    assert log(idle.high / idle.low) < 0.5 < log(loaded.high / loaded.low) < log(queued.high / queued.low)
    assert queued.layers == {QUEUE} and "saturated" in in_words("calibrated", queued.layers)


def test_components_are_there_for_every_class_and_have_freedom():
    table = distance.components()
    for of in set(OF.values()):
        assert {(of, SOURCE), (of, ARCHITECTURE), (of, SOFTWARE)} <= set(table)
    for of in ("gemm", "attention_prefill", "attention_decode", "moe", "collective", "vector"):
        assert 0.1 < component(of, ARCHITECTURE).sd < 0.6 and component(of, SOURCE).sd < component(of, ARCHITECTURE).sd
    assert all(one.freedom >= 3 and one.sd >= 0 for one in table.values())
    assert reach("memory", ("exact",)) < reach("memory", ("other",)) and reach("no class", LAYERS) == 0


def test_ends_of_a_class_without_residuals_hold_the_prediction():
    exact, other, above = (ends("memory", (name,), mean) for name, mean in (("exact", 0), ("other", 0), ("other", 0.1)))
    assert other[0] < exact[0] < 1 < exact[1] < other[1] < above[1] and exact[0] * exact[1] == pytest.approx(1)
    assert other[0] < above[0] < 1, "a known mean error moves both ends, not the prediction"
    assert ends("memory", ("exact",), 0.5)[0] == 1.0


def test_distance_in_words():
    assert in_words("calibrated", ()) == "calibrated on this GPU"
    assert in_words("inherited", (SOURCE,)) == "same architecture"
    assert in_words("calibrated", (), here=True) == "calibrated on this machine"
    runs = in_words("calibrated", {ARCHITECTURE}, here=True)
    assert runs == "calibrated on this machine; no whole run on its architecture measured"
    served = in_words("calibrated", {ARCHITECTURE}, kernels=False)
    assert served == "calibrated on this GPU; no whole run on its architecture measured"
    far = in_words("datasheet", {ARCHITECTURE, SOFTWARE, EXPERTS})
    assert far == "new architecture; software version never measured; experts never measured in this software"
