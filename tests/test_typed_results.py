"""Results are typed: every column of `columns.csv` is an attribute with its type, its unit and its meaning."""

import ast
import inspect
import subprocess
import sys
from pathlib import Path
from typing import Any, get_overloads, get_type_hints

import pytest

import simgpu
from simgpu.columns import COLUMNS, PLAIN_COLUMNS, TABLE
from simgpu.simulation import (
    inference_result,
    network_result,
    operated,
    post_training_result,
    shared_result,
    step_result,
)
from simgpu.simulation import result as any_result
from simgpu.simulation.inference_result import (
    BatchResult,
    InferenceResult,
    MixedStepResult,
    ServerResult,
    ServingResult,
    TrafficResult,
)
from simgpu.simulation.network_result import NetworkResult
from simgpu.simulation.operated import Operated
from simgpu.simulation.post_training_result import PostTrainingResult
from simgpu.simulation.result import Interval, Result, SplitResult
from simgpu.simulation.shared_result import SharedResult
from simgpu.simulation.step_result import StepResult, TrainingResult

CLASSES = (
    Operated, Result, SplitResult, StepResult, TrainingResult, InferenceResult, BatchResult, MixedStepResult,
    ServerResult, ServingResult, TrafficResult, NetworkResult, PostTrainingResult,
    SharedResult,
)  # fmt: skip
NO_COLUMNS = {"execution", "memory", "board", "inputs", "order", "labels", "HEADLINE", "draw", "served"}
MODEL = "llama-3.2-1b"
JOBS: dict[str, tuple[Any, dict[str, Any], type[Result]]] = {
    "prefill": (simgpu.Prefill(batch=4, tokens=512), {"tp": 2}, StepResult),
    "operators": (
        simgpu.OperatorList(operators=[{"op": "matmul", "m": 64, "n": 64, "k": 64}]),  # type: ignore[list-item]
        {},
        StepResult,
    ),
    "training": (simgpu.Training(batch=8, tokens=512, train_tokens=1e9), {"tp": 2}, TrainingResult),
    "offload": (simgpu.Training(batch=8, tokens=512), {"dp": 2, "zero": 1, "offload": "optimizer"}, TrainingResult),
    "batch": (simgpu.Inference(batch=4, prompt=512, output=8), {"tp": 2}, BatchResult),
    "first token": (simgpu.Inference(batch=4, prompt=512, output=1), {"tp": 2}, BatchResult),
    "llama.cpp": (simgpu.Inference(batch=1, prompt=64, output=8, runtime="llama.cpp"), {}, BatchResult),
    "draft": (
        simgpu.Inference(batch=1, prompt=64, output=8, speculative=simgpu.Speculative(draft=MODEL, acceptance=0.7)),
        {"tp": 2},
        BatchResult,
    ),
    "mixed": (simgpu.MixedStep(prefill=512, decodes=8, context=64), {"tp": 2}, MixedStepResult),
    "traffic": (simgpu.Traffic(rate=4.0, prompt=512, output=8, requests=40), {"dp": 2}, TrafficResult),
    "tiers": (
        simgpu.Traffic(
            rate=4.0,
            prompt=512,
            output=8,
            requests=40,
            prefix_tokens=2048,
            prefixes=5,
            cache_tokens=8192,
            tiers=[{"kind": "host", "size": "8 GB"}, {"kind": "ssd", "size": "1 TB", "bandwidth": "1 MB/s"}],
        ),
        {},
        TrafficResult,
    ),
    "images": (simgpu.Network(batch=2, steps=4), {}, NetworkResult),
    "training of a network": (simgpu.Network(mode="training", batch=8), {"dp": 2}, NetworkResult),
    "read from disk": (simgpu.Network(mode="training", batch=8, data={}), {"dp": 2}, NetworkResult),  # type: ignore[arg-type]
    "streams": (simgpu.Network(batch=8, video={}), {"dp": 2}, NetworkResult),  # type: ignore[arg-type]
    "shared": (
        simgpu.Shared(parts=({"name": "see", "model": "yolov8n", "workload": {"kind": "network"}},)),  # type: ignore[arg-type]
        {},
        SharedResult,
    ),
    "rl": (
        simgpu.PostTraining(prompts=4, group=2, prompt=64, output=32, output_spread=0.5, tokens=128, batch=8),
        {"dp": 2, "micro_batch": 1},
        PostTrainingResult,
    ),
    "server": (simgpu.Serving(concurrency=8, prompt=512, output=8), {"tp": 2}, ServingResult),
}


def result_of(name: str) -> Result:
    job, plan, _ = JOBS[name]
    named = {
        "operators": None, "draft": "llama-3.1-8b", "images": "sdxl", "training of a network": "resnet50",
        "read from disk": "resnet50", "streams": "yolov8n", "shared": None,
    }  # fmt: skip
    model = named.get(name, MODEL)
    return simgpu.simulate("dgx-h100", job, model, plan, draft=MODEL if name == "draft" else None)


def written() -> dict[tuple[str, str], tuple[str, str]]:
    """(class, attribute): its type and its docstring, as they stand in the source."""
    found = {}
    for module in (
        operated,
        any_result,
        step_result,
        inference_result,
        network_result,
        post_training_result,
        shared_result,
    ):
        for kind in ast.parse(inspect.getsource(module)).body:
            if not isinstance(kind, ast.ClassDef) or kind.name not in {one.__name__ for one in CLASSES}:
                continue
            for line, after in zip(kind.body, [*kind.body[1:], None], strict=True):
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    says = after.value.value if isinstance(after, ast.Expr) else ""  # type: ignore[attr-defined]
                    found[kind.name, line.target.id] = ast.unparse(line.annotation), " ".join(says.split())
    return {key: said for key, said in found.items() if key[1] not in NO_COLUMNS}


def test_every_column_is_an_attribute_with_its_unit_and_meaning() -> None:
    attributes = written()
    assert {name for _, name in attributes} == set(COLUMNS)
    for (kind, name), (typed, says) in attributes.items():
        if name not in PLAIN_COLUMNS:
            assert typed.removesuffix(" | None") == "float" and not says, (kind, name)
            continue
        column = TABLE[name]
        unit = f" ({'B' if column.unit == 'GiB' else column.unit})" if column.unit else ""  # tables print GiB
        assert says == f"{column.meaning[0].upper()}{column.meaning[1:]}{unit}.", (kind, name)


@pytest.mark.parametrize("name", JOBS)
def test_figures_are_those_of_the_row_and_of_the_type_that_is_written(name: str) -> None:
    result = result_of(name)
    assert type(result) is JOBS[name][2] and isinstance(result, Result)
    hints = get_type_hints(type(result), vars(any_result))
    for column, value in result.row.items():
        assert getattr(result, column) == value
        assert isinstance(value, (int, float) if "float" in str(hints[column]) else hints[column]), column
    absent = {one for one in hints if one not in (*NO_COLUMNS, *result.row) and not one.startswith("_")}
    assert {getattr(result, column) for column in absent} <= {None}
    assert {column.removesuffix("_p10") for column in result.row if column.endswith("_p10")} == set(result.intervals)
    assert all(one.p10 <= one.value * 1.0001 and one.value <= one.p90 * 1.0001 for one in result.intervals.values())


def test_memory_is_the_peak_by_part() -> None:
    for name in ("training", "batch", "server"):
        result = result_of(name)
        assert (
            result.memory.peak == result.row["memory_bytes_per_gpu"] == pytest.approx(sum(result.memory.parts.values()))
        )
        assert result.memory.fits == result.row["memory_fits"]
        assert all(result.memory.parts[part] == result.row[f"{part}_memory_bytes"] for part in result.memory.parts
                   if part != "weights")  # fmt: skip
        assert [stage.total for stage in result.memory] == [result.memory.peak] and result.memory[0].stage == 0
    tight = simgpu.simulate("dgx-h100", simgpu.Training(batch=64, tokens=4096), "llama-3.1-8b").memory
    assert tight.short_by == tight.peak - tight.budget > 0 and not tight.fits and "does not fit" in repr(tight)
    weights = result_of("prefill").memory
    assert not weights and list(weights.parts) == ["weights"] and weights.fits


def test_a_slip_says_the_nearest_name() -> None:
    result = result_of("prefill")
    with pytest.raises(AttributeError, match=r"StepResult has no 'stepp_s'; did you mean 'step_s'\?"):
        result.stepp_s  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError, match="StepResult has no 'ttft_s': it is a column of other jobs"):
        result.ttft_s  # type: ignore[attr-defined]  # noqa: B018
    fitted = simgpu.fit(MODEL, gpu="l4", precision="fp8")
    with pytest.raises(AttributeError, match=r"Fitted has no 'to_panda'; did you mean 'to_pandas'\?"):
        fitted.to_panda  # type: ignore[attr-defined]  # noqa: B018
    with pytest.raises(AttributeError):  # what cannot be changed says so
        result.step_s = 1.0  # type: ignore[misc]


@pytest.mark.slow
def test_a_notebook_completes_figures_and_what_is_below_them() -> None:
    jedi = pytest.importorskip("jedi")
    space = [{"result": result_of("training")}]

    def complete(text: str) -> set[str]:
        return {one.name for one in jedi.Interpreter(text, space).complete()}

    assert {"step_s", "mfu", "bubble_fraction", "memory", "to_pandas"} <= complete("result.")
    assert complete("result.tokens_per_s_per") == {"tokens_per_s_per_gpu", "tokens_per_s_per_gpu_p10",
                                                   "tokens_per_s_per_gpu_p90"}  # fmt: skip
    assert {"peak", "parts", "budget", "fits"} <= complete("result.memory.")
    assert {"p10", "p90", "value"} <= complete("result.interval('step_s').")
    assert "is_integer" in complete("result.step_s.")


def test_a_call_says_what_comes_back() -> None:
    """Each job has its overload; the rest is a `Result`."""
    from simgpu.simulation import call

    said = [one.__annotations__["return"] for one in get_overloads(call.simulate.__wrapped__)]
    assert said == ["StepResult", "PostTrainingResult", "TrainingResult", "BatchResult", "MixedStepResult",
                    "ServingResult", "TrafficResult", "NetworkResult", "SharedResult",
                    "Result"]  # fmt: skip
    assert {one.__name__ for _, _, one in JOBS.values()} == set(said) - {"Result"}
    assert tuple(Interval(2.0, 1.0, 3.0)) == (1.0, 3.0)


TYPED = """
import simgpu
step = simgpu.simulate("dgx-h100", simgpu.Training(batch=8, tokens=512), "llama-3.1-8b", {"tp": 2}, dtype="fp8")
reveal_type(step.step_s)
reveal_type(step.memory.peak)
reveal_type(step.interval("step_s").p10)
reveal_type(simgpu.simulate("dgx-h100", simgpu.Inference(batch=8, prompt=8, output=8), "llama-3.1-8b").tpot_s)
step.stepp_s
"""


@pytest.mark.slow
def test_a_type_checker_sees_floats(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    file = tmp_path / "user.py"
    file.write_text(TYPED)
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", file], capture_output=True, text=True
    ).stdout
    assert told.count('Revealed type is "float"') == 4, told
    assert '"TrainingResult" has no attribute "stepp_s"; maybe "step_s"' in told and "Found 1 error" in told
