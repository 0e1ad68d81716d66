"""Calls in Python: names go where objects go, numbers of numpy are numbers, and a wrong type is one line."""

import copy
import inspect
import json
import pickle
from pathlib import Path

import numpy as np
import pytest

import simgpu
from simgpu import InputError, SimgpuError
from simgpu.arguments import NUMBER, TEXT, check, plain, takes
from simgpu.engine import Phase, Simulator
from simgpu.errors import ArgumentError
from simgpu.workload.options import RunOptions

CLUSTER, MODEL = simgpu.load_cluster("dgx-h100"), simgpu.load_model("llama-3.1-8b")
EXPERIMENT = {
    "scenario": {"model": "llama-3.1-8b", "cluster": "h100-sxm", "workload": {"kind": "prefill", "tokens": 8}}
}


class Stranger:
    """Nothing that any call takes, and nothing that can be shown."""

    def __repr__(self):
        raise RuntimeError("cannot be shown")


WRONG = (
    *(
        Stranger(),
        object(),
        5,
        -1,
        2.5,
        float("nan"),
        10**40,
        True,
        "nothing of that name",
        b"bytes",
        "",
        [],
        [object()],
    ),
    *({"a": 1}, {}, (1, 2, 3), lambda: 1, int, np.array([1, 2])),
)
NO_CALLS = {"InputError", "Interval", "MemoryUse", "SimgpuError", "__version__"}
NO_CALLS |= {name for name in simgpu.__all__ if name.endswith("Result")}  # what simulate makes
GIVEN = {
    **{name: {"experiment": EXPERIMENT} for name in ("explain", "recommend", "run_experiment")},
    **{name: {"name": "h100-sxm"} for name in ("load_cluster", "load_gpu", "load_timer")},
    "Inference": {"batch": 1, "prompt": 8, "output": 2},
    **{name: {"tokens": 8} for name in ("Prefill", "Training")},
    "MixedStep": {"prefill": 8},
    "OperatorList": {"operators": [{"op": "matmul", "m": 8, "n": 8, "k": 8}]},
    "Serving": {"concurrency": 1, "prompt": 8, "output": 2},
    "Speculative": {"draft": "mtp", "acceptance": 0.5},
    "diff": {"a": EXPERIMENT, "b": EXPERIMENT},
    "load_model": {"name": "llama-3.1-8b"},
    "simulate": {"cluster": CLUSTER, "workload": simgpu.Prefill(tokens=8), "model": MODEL},
    "topology_of": {"cluster": CLUSTER},
    "time_collective": {"cluster": CLUSTER, "kind": "all_reduce", "sizes": 8},
}
"""What a call needs beside the wrong argument. Others get the wrong one alone."""


def calls():
    """Every public name with every of its parameters."""
    for name in simgpu.__all__:
        if name in NO_CALLS:
            continue
        target = getattr(simgpu, name)
        fields = getattr(target, "model_fields", None)
        names = list(fields if fields is not None else inspect.signature(target).parameters)
        if "settings" in names and name == "simulate":
            names = [*(one for one in names if one != "settings"), *RunOptions.__dataclass_fields__]
        yield from ((name, parameter) for parameter in names)


@pytest.mark.parametrize(("name", "parameter"), list(calls()))
def test_a_wrong_argument_is_one_line(name, parameter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SIMGPU_STORE", str(tmp_path / "store.sqlite"))
    target = getattr(simgpu, name)
    star = None
    if not hasattr(target, "model_fields") and parameter in inspect.signature(target).parameters:
        star = inspect.signature(target).parameters[parameter].kind.name == "VAR_POSITIONAL"
    for wrong in WRONG:
        given = {**GIVEN.get(name, {})}
        try:
            if star:
                target(*given.values(), wrong)
            elif parameter == "parameters":
                target(**given, gpu__memory__bandwidth=wrong)
            elif parameter == "how":
                target(**given, dtype=wrong)
            else:
                target(**{**given, parameter: wrong})
        except SimgpuError as error:
            assert "\n" not in str(error)
        except TypeError as error:
            assert "missing" in str(error) and "argument" in str(error), (name, parameter, type(wrong), error)


def test_the_line_names_argument_value_and_what_was_expected():
    with pytest.raises(
        TypeError,
        match=r"^model: 7 is of type int; expected text or a model from load_model or a network of a Catalogue$",
    ) as caught:
        simgpu.simulate("dgx-h100", simgpu.Prefill(tokens=8), 7)
    assert isinstance(caught.value, InputError)
    with pytest.raises(InputError, match=r"^plan\.ttp: unknown key; did you mean 'tp'\?$"):
        simgpu.simulate("dgx-h100", simgpu.Prefill(tokens=8), "llama-3.1-8b", {"ttp": 2})
    with pytest.raises(InputError, match=r"^options\.dtyp: unknown key; did you mean 'dtype'\?$"):
        simgpu.simulate("dgx-h100", simgpu.Prefill(tokens=8), "llama-3.1-8b", options={"dtyp": "fp8"})
    with pytest.raises(TypeError, match="unexpected keyword argument 'dtyp'; did you mean 'dtype'"):
        simgpu.simulate("dgx-h100", simgpu.Prefill(tokens=8), "llama-3.1-8b", dtyp="fp8")
    with pytest.raises(InputError, match=r"^workload\.kind: 'trainin' is not known; did you mean 'training'\?$"):
        simgpu.simulate("dgx-h100", {"kind": "trainin"}, "llama-3.1-8b")


def test_names_are_what_they_name():
    jobs = [
        (simgpu.Prefill(tokens=512), {"tp": 2}, simgpu.Plan(tp=2)),
        (simgpu.Training(batch=8, tokens=512), {"dp": 2}, simgpu.Plan(dp=2)),
        (simgpu.Inference(batch=2, prompt=64, output=4), {"order": list(simgpu.Plan().order)}, None),
    ]
    for job, split, plan in jobs:
        named = simgpu.simulate("dgx-h100", job.model_dump(), "llama-3.1-8b", split)
        assert named.row == simgpu.simulate(CLUSTER, job, MODEL, plan).row
    drafted = simgpu.Inference(
        batch=2, prompt=64, output=4, speculative=simgpu.Speculative(draft="llama-3.2-1b", acceptance=0.7)
    )
    named = simgpu.simulate("dgx-h100", drafted, "llama-3.1-8b", draft="llama-3.2-1b")
    assert named.row == simgpu.simulate(CLUSTER, drafted, MODEL, draft=simgpu.load_model("llama-3.2-1b")).row
    one, other = (simgpu.time_collective(where, "all_reduce", [1e6]).seconds for where in ("dgx-h100", CLUSTER))
    assert one.tolist() == other.tolist()


def test_names_are_found_in_the_catalogue_that_is_given(tmp_path):
    folder = tmp_path / "models"
    folder.mkdir()
    source = simgpu.Catalogue().find("models", "llama-3.1-8b")
    (folder / "mine.json").write_text(source.read_text())
    job = simgpu.Prefill(tokens=8)
    assert simgpu.simulate("h100-sxm", job, "mine", catalogue=simgpu.Catalogue(tmp_path)).model == "mine"
    with pytest.raises(InputError, match="unknown model 'mine'"):
        simgpu.simulate("h100-sxm", job, "mine")


def test_numbers_of_numpy_are_numbers():
    plan = simgpu.Plan(tp=np.int64(2), sequence_parallel=np.bool_(True))
    assert plan == simgpu.Plan(tp=2, sequence_parallel=True)
    assert type(plan.tp) is int and type(plan.sequence_parallel) is bool
    assert simgpu.Prefill(tokens=np.int32(512)) == simgpu.Prefill(tokens=512)
    assert simgpu.Training(batch=2, tokens=8, train_tokens=np.float64(1e9)).train_tokens == 1e9
    listed = [{"op": "matmul", "m": np.int64(8), "n": 8, "k": 8}]
    assert simgpu.OperatorList(operators=listed) == simgpu.OperatorList(operators=plain(listed))
    assert simgpu.load_cluster("dgx-h100-ib", cluster__nodes=np.int64(4)).gpu_count == 32
    experiment = copy.deepcopy(EXPERIMENT)
    experiment["scenario"]["workload"]["tokens"] = np.int64(8)
    assert simgpu.run_experiment(experiment).rows == simgpu.run_experiment(EXPERIMENT).rows
    with pytest.raises(InputError, match=r"plan.tp: 2.5 is not a positive whole number"):
        simgpu.Plan(tp=np.float64(2.5))


def test_checks_are_declared_for_parameters_that_exist():
    with pytest.raises(NameError, match="has no b"):
        takes(b=TEXT)(lambda a: a)

    @takes(many=NUMBER, word=TEXT)
    def total(*many, word=None):
        return sum(many), word

    assert total(1, np.int64(2), word=None) == (3, None)
    with pytest.raises(ArgumentError, match=r"^many: 'x' is of type str; expected a number$"):
        total(1, "x")
    assert type(check(NUMBER, "n", np.float32(1.5))) is float


def test_a_used_cluster_can_be_pickled_and_copied():
    cluster = simgpu.load_cluster("dgx-h100")
    fresh = len(pickle.dumps(cluster))
    job, plan = simgpu.Training(batch=8, tokens=256), simgpu.Plan(tp=2, dp=4)
    before = simgpu.simulate(cluster, job, MODEL, plan).row
    assert len(pickle.dumps(cluster)) < 1.1 * fresh, "what was worked out does not go along"
    for again in (pickle.loads(pickle.dumps(cluster)), copy.deepcopy(cluster)):
        assert again == cluster
        assert simgpu.simulate(again, job, MODEL, plan).row == before


def test_a_row_cannot_be_changed():
    result = simgpu.simulate(CLUSTER, simgpu.Prefill(tokens=8), MODEL)
    changes = (
        lambda row: row.update(step_s=0),
        lambda row: row.pop("step_s"),
        lambda row: row.clear(),
        lambda row: row.popitem(),
        lambda row: row.setdefault("more", 1),
        lambda row: row.__setitem__("step_s", 0),
        lambda row: row.__delitem__("step_s"),
        lambda row: row.__ior__({"step_s": 0}),
    )
    before = dict(result.row)
    for change in changes:
        with pytest.raises(TypeError, match=r"the row of a result cannot be changed; dict\(row\) is a copy that can"):
            change(result.row)
    assert result.row == before == json.loads(json.dumps(result.row)) == pickle.loads(pickle.dumps(result.row))
    assert (result.row | {"more": 1})["more"] == 1


def test_what_is_shown_of_objects_is_one_short_line():
    result = simgpu.simulate(CLUSTER, simgpu.Training(batch=8, tokens=256), MODEL, simgpu.Plan(pp=2, micro_batch=1))
    mfu, held = f"{100 * result.mfu:.1f} %", result.memory.words()
    assert repr(result) == (
        f"TrainingResult(training of llama-3.1-8b on 2 x h100-sxm: step {result.step_s * 1e3:.4g} ms, "
        f"{result.tokens_per_s:,.0f} tokens/s, MFU {mfu}, {held})"
    )
    for one in (result.execution, CLUSTER):
        assert len(repr(one)) < 100 and "\n" not in repr(one)


@pytest.mark.parametrize("wrong", [-1, -1e-300, float("nan"), float("inf"), -float("inf")])
def test_the_engine_refuses_times_and_bytes_that_cannot_be(wrong):
    sim = Simulator()
    stream, link = sim.add_stream("a"), sim.add_link(1.0)
    for call in (
        lambda: sim.delay(stream, wrong),
        lambda: sim.sequence(stream, [1.0, wrong]),
        lambda: sim.transfer([stream], [Phase(wrong)]),
        lambda: sim.transfer([stream], [Phase(0.0, (((link,), wrong),))]),
        lambda: sim.transfer([stream], [Phase(0.0, (((link,), 1.0, (wrong,)),))]),
    ):
        with pytest.raises(ValueError, match="not "):
            call()


def test_the_engine_refuses_streams_that_were_not_added():
    sim = Simulator()
    sim.add_stream("a")
    for stream in (-1, 1):
        for call in (lambda s: sim.delay(s, 1.0), lambda s: sim.sequence(s, [1.0]), lambda s: sim.transfer([s], [])):
            with pytest.raises(ValueError, match=f"an activity can only hold streams that were added, not {stream}"):
                call(stream)
    assert sim.run().end == []


def test_nothing_is_written_by_a_call_that_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ArgumentError):
        simgpu.save_trace("no result", "trace.json")
    assert list(Path().iterdir()) == []
