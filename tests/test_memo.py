"""What was worked out is remembered within bounds, and never under the name of something else."""

import ast
import copy
from collections.abc import Mapping
from dataclasses import dataclass, fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

import simgpu
from simgpu.hardware.machine import MACHINES, machine_of
from simgpu.memo import SHARED, WORDS, Memo, Region, content, fields_of, key_of
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import OUTSIDE_LAYERS, Plan
from simgpu.plan.precision import PRECISIONS
from simgpu.timing import kernels as kernel_times
from simgpu.timing.kernels import KernelModel
from simgpu.workload import links
from simgpu.workload.framework_files import framework
from simgpu.workload.inference import deployment
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.links import Links
from simgpu.workload.runtime_files import runtime
from simgpu.workload.training import bound, layers
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import Layers

CATALOGUE = simgpu.Catalogue()
MODEL = replace(CATALOGUE.model("llama-3.1-8b"), layers=2, name="small")


def test_a_region_keeps_the_newest():
    region = Region(3)
    for n in range(10):
        region[n] = str(n)
        region[n] = str(n)
        assert len(region) <= 3
    assert list(region) == [7, 8, 9]
    assert region.known(9, lambda: pytest.fail("it is known")) == "9"
    assert region.known(1, lambda: "made") == "made" and list(region) == [8, 9, 1]


def test_regions_are_by_name():
    memo = Memo()
    memo.region("a", 1)["x"] = 1
    memo.region("a", 1)["y"] = 2
    memo.region("b", 5)
    assert memo.counts() == {"a": 1, "b": 0}
    memo.clear()
    assert memo.counts() == {"a": 0, "b": 0}


def test_a_region_may_be_bounded_by_size():
    region = Region(10, len)
    for n in range(8):
        region[n] = "x" * n
        assert region.held == sum(map(len, region.values())) <= 10
    assert list(region) == [7]
    region[8] = "y" * 30
    assert list(region) == [8] and region.held == 30, "the newest stays, however large"
    region[8] = "y"
    assert region.held == 1
    region.clear()
    assert region.held == 0 and not region


def test_answers_of_functions_are_counted_and_forgotten_with_the_rest():
    memo, calls = Memo(), []

    @memo.answers(2)
    def square(n: int) -> int:
        calls.append(n)
        return n * n

    assert [square(n) for n in (2, 3, 2, 4, 4)] == [4, 9, 4, 16, 16] and calls == [2, 3, 4]
    (name,) = memo.counts()
    assert memo.counts()[name] == memo.bounds()[name] == 2
    memo.clear()
    assert memo.counts()[name] == 0 and square(4) == 16 and calls == [2, 3, 4, 4]


@pytest.mark.slow
def test_nothing_of_the_package_remembers_beside_the_regions():
    """Functions of `functools` that remember are used in `memo.py` alone, where each has a bound and can be cleared."""
    package = Path(simgpu.__file__).parent
    for file in package.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = {one.name for one in node.names} if isinstance(node, ast.ImportFrom) else set()
            assert not names & {"lru_cache", "cache"} or file.name == "memo.py", file
    assert all(isinstance(most, int) and most > 0 for most in SHARED.bounds().values())


# ---- keys --------------------------------------------------------------------------------------------


def another(value: Any) -> Any:
    """A value of the same kind."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "x"
        case Mapping():
            return {**value, "another": ()}
        case tuple():
            return (*value, "another")
    return "another"


def changed(thing: Any, field: str) -> Any:
    """A copy with another value of a field, unchecked."""
    found = copy.copy(thing)
    object.__setattr__(found, field, another(getattr(thing, field)))
    return found


THINGS = {
    "framework": framework("megatron"),
    "runtime": runtime("vllm"),
    "gguf": PRECISIONS["q4_k_m"],
    "precision": PRECISIONS["fp8"],
    "numerics": Numerics(),
}


@pytest.mark.parametrize(("thing", "field"), [(name, one.name) for name, of in THINGS.items() for one in fields(of)])
def test_every_field_is_part_of_the_content_but_for_words(thing, field):
    of = THINGS[thing]
    assert (content(changed(of, field)) == content(of)) == (field in WORDS)
    assert content(copy.copy(of)) == content(of), "equal things have equal contents"


@pytest.mark.parametrize("kind", [Plan, Numerics, Job, Layers, Deployment, KernelModel, Links])
def test_a_new_field_is_part_of_the_key(kind):
    """As if somebody added one: nobody has to remember to write it into a key."""
    more = make_dataclass("More", [("brand_new", int, 0)], bases=(kind,), frozen=kind.__dataclass_params__.frozen)
    known = fields_of(kind)
    assert fields_of(more) == (*known, "brand_new")
    one, two = (object.__new__(more) for _ in range(2))
    for thing, value in ((one, 1), (two, 2)):
        for name in known:
            object.__setattr__(thing, name, None)
        object.__setattr__(thing, "brand_new", value)
    assert key_of(one) != key_of(two)


def test_what_does_not_matter_is_named_by_fields_that_there_are():
    assert set(fields_of(Plan, OUTSIDE_LAYERS)) | set(OUTSIDE_LAYERS) == {one.name for one in fields(Plan)}
    with pytest.raises(NameError, match="Plan has no field pipelines"):
        fields_of(Plan, ("pipelines",))


EXPERTS = {
    "offload_layers": 2,
    "stage_layers": (1, 2, 3, 4), "expert_tp": 1, "dispatcher": "hybridep", "cuda_graphs": "full", "grouped": "loop",
    "permute_fusion": True, "router_fusion": True, "redundant_experts": 2,
    "capacity_factor": 1.5, "expert_overlap": True, "balance": "forced",
}  # fmt: skip


@pytest.mark.parametrize("field", [one.name for one in fields(Plan)])
def test_a_plan_within_a_layer_holds_every_field_but_those_that_are_named(field):
    base = Plan(tp=2, cp=2, pp=2, vp=2, dp=4, ep=2, zero=3, micro_batch=1, recompute="selective")
    values = {
        "order": ("dp", "cp", "ep", "tp", "pp"), "schedule": "interleaved", "shard": 2, "context": "all_gather",
        "recompute": "full", "recompute_layers": 1, "offload": "optimizer", "offload_to": "nvme", "zero": 2,
        "recompute_modules": ("mlp",), **EXPERTS,
    }  # fmt: skip
    given = values.get(field, getattr(base, field))
    if field not in values:
        given = not given if isinstance(given, bool) else given * 2
    other = replace(base, **{field: given})
    assert (other.within_layer() == base.within_layer()) == (field in OUTSIDE_LAYERS)


def test_what_cannot_be_part_of_a_key_is_refused():
    @dataclass
    class Odd:
        thing: object

    with pytest.raises(TypeError, match="values of type object cannot be part of a key"):
        content(Odd(object()))


def test_every_memory_of_a_cluster_has_a_bound(monkeypatch):
    """Many different jobs on one cluster leave no more than the bounds, and change no answer."""
    SHARED.clear()
    monkeypatch.setattr(layers, "REMEMBERED", 6)
    monkeypatch.setattr(links, "REMEMBERED", 4)
    monkeypatch.setattr(links, "GROUPS", 2)
    monkeypatch.setattr(deployment, "REMEMBERED", 3)
    monkeypatch.setattr(deployment, "DEPLOYMENTS", 2)
    monkeypatch.setattr("simgpu.simulation.call.REMEMBERED", 2)
    monkeypatch.setattr("simgpu.simulation.training.REMEMBERED", 2)
    monkeypatch.setattr("simgpu.hardware.machine.TOPOLOGIES", 2)
    shared = CATALOGUE.cluster("dgx-h100-ib")
    cases = []
    for tokens in (128, 256, 384):
        for split in ({"tp": 2, "dp": 2}, {"tp": 4}, {"pp": 2, "dp": 4}, {"dp": 24}):
            plan = simgpu.Plan(**split, micro_batch=1)
            cases.append((simgpu.Training(batch=2 * plan.dp * plan.pp, tokens=tokens), plan))
        cases.append((simgpu.Prefill(tokens=tokens), simgpu.Plan(tp=2)))
        cases += [(simgpu.Inference(batch=4, prompt=tokens, output=8), simgpu.Plan(tp=tp)) for tp in (1, 2, 4)]
    first = [simgpu.simulate(shared, job, MODEL, plan).step_s for job, plan in cases]
    for name, region in machine_of(shared).memo._regions.items():
        assert len(region) <= region.most <= 6, name
    again = [simgpu.simulate(shared, job, MODEL, plan).step_s for job, plan in reversed(cases)]
    assert again[::-1] == first
    for (job, plan), step in list(zip(cases, first, strict=True))[::5]:
        SHARED.clear()
        assert simgpu.simulate(CATALOGUE.cluster("dgx-h100-ib"), job, MODEL, plan).step_s == step


def test_times_of_kernels_have_a_bound(monkeypatch):
    monkeypatch.setattr(kernel_times, "KERNELS", 5)
    cluster = simgpu.load_cluster("h100-sxm", gpu__memory__bandwidth="3.21 TB/s")
    for tokens in range(100, 120):
        simgpu.simulate(cluster, simgpu.Prefill(tokens=tokens), MODEL)
    assert len(KernelModel(cluster)._known) <= 5


def test_figures_of_gpus_have_a_bound():
    """As a sensitivity asks: many GPUs that differ in a figure. Names of kernels stay apart."""
    names = {}
    for n in range(kernel_times.FIGURES + 5):
        cluster = simgpu.load_cluster("h100-sxm", gpu__memory__bandwidth=f"{3 + n / 1000} TB/s", catalogue=CATALOGUE)
        names[KernelModel(cluster).identity] = n
    assert len(names) == kernel_times.FIGURES + 5
    assert SHARED.counts()["kernels"] <= kernel_times.FIGURES
    same = [KernelModel(CATALOGUE.cluster("h100-sxm")).identity for _ in range(2)]
    assert same[0] == same[1] not in names


def test_equal_clusters_are_one_machine_and_machines_have_a_bound():
    SHARED.clear()
    first = machine_of(CATALOGUE.cluster("dgx-h100"))
    assert machine_of(simgpu.load_cluster("dgx-h100")) is first
    for n in range(MACHINES + 5):
        other = machine_of(
            simgpu.load_cluster("dgx-h100", gpu__memory__bandwidth=f"{3 + n / 1000} TB/s", catalogue=CATALOGUE)
        )
        assert other is not first
        if n % 3 == 0:
            assert machine_of(CATALOGUE.cluster("dgx-h100")) is first, "what is asked for is not the oldest"
    assert SHARED.counts()["machines"] == MACHINES


@pytest.mark.parametrize("field", [one.name for one in fields(CATALOGUE.cluster("dgx-h100-ib"))])
def test_every_field_of_a_cluster_makes_another_machine(field):
    cluster = CATALOGUE.cluster("dgx-h100-ib")
    value = getattr(cluster, field)
    if field == "links":
        other = {**value, "more": next(iter(value.values()))}
    elif field == "kernel":
        other = replace(value, architecture="another")
    else:
        other = value.model_copy(update={"title": "another"})
    assert machine_of(replace(cluster, **{field: other})) is not machine_of(cluster)


def test_a_cluster_is_a_pure_specification():
    cluster, other = CATALOGUE.cluster("dgx-h100"), simgpu.load_cluster("dgx-h100")
    simgpu.simulate(cluster, simgpu.Prefill(tokens=64), MODEL, {"tp": 2})
    assert set(vars(cluster)) == {one.name for one in fields(cluster)}
    assert cluster == other and hash(cluster) == hash(other) and len({cluster, other}) == 1


LINKS = {
    "cluster": CATALOGUE.cluster("dgx-a100"), "plan": Plan(tp=4), "kernels": "fewer", "algorithm": "ring",
    "protocol": "simple", "folded": False, "custom": True, "custom_limits": ((2, 1e6),),
}  # fmt: skip
"""Another value of each field of `Links`."""


@pytest.mark.parametrize("field", [one.name for one in fields(Links)])
def test_what_a_collective_is_remembered_by_holds_every_field_but_those_that_are_named(field):
    cluster = CATALOGUE.cluster("dgx-h100")
    base = Links(cluster, Plan(tp=2), KernelModel(cluster), "auto", "auto")
    value = KernelModel(cluster, sustained=False) if field == "kernels" else LINKS[field]
    other = replace(base, **{field: value})
    same = base.identity(["tp"]) == other.identity(["tp"])
    # of another plan the groups differ here; of another cluster the machine is another
    assert same == (field in links.OUTSIDE_BLOCKS and field != "plan")
    flows = [key_of(one, links.NO_FLOWS) for one in (base, other)]
    assert (flows[0] == flows[1]) == (field in links.NO_FLOWS)


PLANS = {
    "order": ("dp", "cp", "ep", "tp", "pp"), "schedule": "gpipe", "shard": 2, "context": "all_gather",
    "recompute": "selective", "recompute_layers": 1, "offload": "optimizer", "offload_to": "nvme", "zero": 2,
    "micro_batch": 3, "recompute_modules": ("mlp",), **EXPERTS,
}  # fmt: skip


@pytest.mark.parametrize("key", ["cut", "ends", "traffic", "groups"])
@pytest.mark.parametrize("field", [one.name for one in fields(Plan)])
def test_a_bound_is_remembered_by_every_field_of_a_plan_but_those_that_are_named(field, key):
    make, without = {
        "cut": (bound._cut, bound.NO_CUT), "ends": (bound._ends_of, bound.NO_ENDS),
        "traffic": (lambda plan: bound._traffic_of(plan, 64 // plan.micro_batch, True), bound.NO_TRAFFIC),
        "groups": (bound._groups_of, bound.NO_GROUPS),
    }[key]  # fmt: skip
    base = Plan(tp=2, cp=2, pp=2, vp=2, dp=4, ep=2, zero=3, micro_batch=1, recompute="full", recompute_layers=2)
    value = PLANS.get(field, getattr(base, field))
    if field not in PLANS:
        value = not value if isinstance(value, bool) else value * 2
    other = copy.copy(base)  # unchecked: some values contradict others
    vars(other).pop("_groups", None)
    object.__setattr__(other, field, value)
    changed = make(base) != make(other)
    follows = {"recompute": {"cut"}}  # which layers count follows from it
    assert changed == (field not in without or key in follows.get(field, ()))
