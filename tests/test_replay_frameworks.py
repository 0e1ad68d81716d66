"""A step that PyTorch's profiler recorded, at another scale: told by the sizes of its operators alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sampling import sampled
from step_traces import write
from traces_by_hand import BF16, H100, Trace

from simgpu import api
from simgpu.cli import main
from simgpu.lab.replay.changes import Changes, Tensors, UnclearError
from simgpu.lab.replay.flow import graph_of, length
from simgpu.lab.replay.gaps import BETWEEN, HOST, WAITED, gaps
from simgpu.lab.traces.kineto import read_kineto
from simgpu.lab.traces.records import COLLECTIVE, OPERATOR, Ran, Record

EXPERIMENT = """
experiment: dense
scenario:
  model: {base: llama-3.1-8b, layers: 2}
  cluster: CLUSTER
  workload: {kind: training, batch: 8, tokens: 2048}
  plan: {tp: 2, dp: 2, pp: PP}
"""
MINE = """
machine: dgx-h100
source: made up
stacks: {megatron: {slowdown: 1.25, runs: 3}}
links: {nvlink-4: 0.8}
"""
RANKS = {"tp": 2, "grad": 2, "shard": 2}
CHANGES = ["", "plan.tp=4 plan.dp=1", "plan.pp=1", "workload.batch=16", "workload.tokens=4096"]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def sets(changes: str) -> list[str]:
    return [part for change in changes.split() for part in ("--set", change)]


def experiment(folder: Path, pp: int, name: str = "own", cluster: object = "dgx-h100") -> Path:
    file = folder / f"{name}.yaml"
    file.write_text(EXPERIMENT.replace("PP", str(pp)).replace("CLUSTER", str(cluster)))
    return file


def replayed(trace: Path, *more: object) -> dict[str, Any]:
    done = run("replay", trace, "--format", "json", *more)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def step_of(file: Path, changes: str = "") -> Any:
    return next(iter(api.run_experiment(file, *changes.split()).results))


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine whose kernels take 1.25 times as long as predicted, and whose links carry 0.8 times as much."""
    file = tmp_path / "mine.yaml"
    file.write_text(MINE)
    return file


@pytest.mark.parametrize(("pp", "rank"), [(1, 0), (2, 0), (2, 1)])
@pytest.mark.parametrize("changes", sampled(CHANGES, 2))
def test_any_rank_of_a_slower_machine_becomes_its_own_prediction(
    tmp_path: Path, machine: Path, pp: int, rank: int, changes: str
) -> None:
    """Sizes tell the stage, the products and the links; the experiment knows nothing of the machine."""
    mine = experiment(tmp_path, pp, "mine-too", machine)
    there = step_of(mine)
    trace = write(there.execution, RANKS, tmp_path / "step.json", rank)
    found = replayed(trace, "--of", experiment(tmp_path, pp), *sets(changes))
    assert found["measured_s"] == pytest.approx(there.execution.step, rel=1e-6)
    truth = step_of(mine, changes).execution.step
    assert found["predicted_s"] == pytest.approx(truth, rel=0.005 if changes else 1e-6)
    wide = found["predicted_s_p90"] / found["predicted_s_p10"]
    assert (
        (1.2 < wide < 1.6) if changes not in ("", f"plan.pp={pp}") else wide == 1
    )  # what runs of one machine are off from each other
    assert (f"pipeline stage {rank + 1}" in " ".join(found["notes"])) == (pp > 1)
    factors = {one["name"]: one["factor"] for one in found["factors"]}
    assert factors["gemm"] == pytest.approx(1.25, rel=0.01) and factors["tp"] > 1.1


@pytest.mark.parametrize("rank", [0, 1])
def test_a_recording_without_steps_is_from_its_first_kernel_to_its_last(tmp_path: Path, rank: int) -> None:
    file = experiment(tmp_path, 2)
    whole = step_of(file).execution.step
    trace = write(step_of(file).execution, RANKS, tmp_path / "step.json", rank, step=False)
    same = replayed(trace, "--of", file)
    assert same["predicted_s"] == pytest.approx(same["measured_s"], rel=1e-12) and same["measured_s"] < 0.95 * whole
    more = replayed(trace, "--of", file, "--set", "workload.batch=16")
    parts = {row["part"]: row for row in more["parts"]}["before and after the kernels"]
    assert same["measured_s"] - parts["recorded_s"] == pytest.approx(whole, rel=1e-6)
    truth = step_of(file, "workload.batch=16").execution.step
    assert more["predicted_s"] - parts["asked_s"] == pytest.approx(truth, rel=1e-6)
    assert "shows no steps (ProfilerStep#)" in " ".join(more["notes"])


def test_what_the_experiment_does_not_hold_is_kept_and_named(tmp_path: Path) -> None:
    file = experiment(tmp_path, 1)
    found = replayed(write(step_of(file).execution, RANKS, tmp_path / "step.json"), "--of", file)
    kept = {one["operator"]: one for one in found["kept"]}
    assert "no shapes" in kept["optimizer"]["why"] and 0 < kept["optimizer"]["share"] < 0.2


def test_another_model_is_refused(tmp_path: Path) -> None:
    trace = write(step_of(experiment(tmp_path, 1)).execution, RANKS, tmp_path / "step.json")
    other = experiment(tmp_path, 1, "other")
    other.write_text(other.read_text().replace("layers: 2", "layers: 16"))
    done = run("replay", trace, "--of", other)
    assert done.exit_code == 2 and "times the FLOPs of the experiment's on that rank" in done.stderr
    assert done.stderr.count("\n") == 1


# ---- without its experiment ------------------------------------------------------------------------------


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """One rank's step of 4 sequences of 2,048 tokens."""
    return write(step_of(experiment(tmp_path, 1)).execution, RANKS, tmp_path / "plain.json", step=False)


def rows_of(found: dict[str, Any]) -> dict[str, Any]:
    return {(row["operator"], row["shape"]): row for row in found["operators"]}


def test_collectives_of_tokens_grow_with_them_and_those_of_gradients_stay(plain: Path) -> None:
    sized = ["--cluster", "dgx-h100", "--set", "batch=4:8", "--set", "tokens=2048:2048"]
    found = replayed(plain, *sized)
    tokens, vocabulary = 4 * 2048 * 4096 * 2, 64128 * 4096 * 2
    rows = rows_of(found)
    assert rows["all_reduce", f"{tokens:,} B over 2"]["factor"] == pytest.approx(2, rel=0.1)
    assert not rows["all_reduce", f"{tokens:,} B over 2"]["kept"]
    gradients = next(row for (_, shape), row in rows.items() if f"{2 * (vocabulary + 4096 * 2):,} B over 2" == shape)
    assert gradients["factor"] == 1 and "weights or gradients" in gradients["kept"]
    truth = step_of(plain.parent / "own.yaml", "workload.batch=16").execution.step
    whole = step_of(plain.parent / "own.yaml").execution.step
    assert found["ratio"] == pytest.approx(truth / whole, rel=0.12)  # the host's part is no kernel's


def test_a_collective_that_may_be_of_either_keeps_its_bytes() -> None:
    changes = Changes(batch=(4, 8), tokens=(2048, 2048))
    rows, weights = [[8192, 4096]], [[4096, 4096], [4096, 8192]]
    both = [[4096, 32, 256]]
    say = Record("all_reduce", COLLECTIVE, 1.0, types=["BFloat16"], size=2.0 * 8192 * 4096, ranks=2)
    products = [Record("aten::mm", OPERATOR, 1.0, shapes, [BF16] * 2) for shapes in (rows, weights)]
    assert changes.payload(say, changes.tensors(products)) == 2 * say.size
    with pytest.raises(UnclearError, match="may be of tokens or of weights"):
        changes.payload(say, changes.tensors([*products, Record("aten::add", OPERATOR, 1.0, both, [BF16])]))
    with pytest.raises(UnclearError, match="does not say its size"):
        changes.payload(replace(say, types=[""]), changes.tensors(products))
    experts = replace(say, name="all_to_all", size=12345678.0)
    assert changes.payload(experts, changes.tensors(products)) == 2 * experts.size
    assert Changes().payload(say, Tensors()) == say.size


def test_gaps_have_a_cause(tmp_path: Path) -> None:
    """A host that launches every 2 ms, one that waits for the GPU in between, and a kernel that starts late."""
    runs = [Ran(0.0, 0.001, "a", 0.0), Ran(0.002, 0.001, "a", 0.002), Ran(0.005, 0.001, "a", 0.005),
            Ran(0.009, 0.001, "a", 0.0051)]  # fmt: skip
    graph = graph_of([Record("x", OPERATOR, run.seconds, ran=(run,)) for run in runs], [(0.0021, 0.003)])
    found = gaps(graph, graph.play([1.0] * 4))
    assert found == pytest.approx({HOST: 0.001, WAITED: 0.002, BETWEEN: 0.003})
    fast = gaps(graph, graph.play([0.5] * 4))
    assert fast[HOST] == pytest.approx(0.0015) and fast[WAITED] == pytest.approx(0.002)


def test_a_host_whose_queue_is_full_is_as_fast_as_the_gpu(tmp_path: Path) -> None:
    """Launches of 5 us until the queue is full; then each waits for a kernel of 1 ms to end."""
    trace = Trace(H100)
    host, gpu = 1000.0, 1010.0
    for number in range(1, 30):
        dur = 5.0 if number < 20 else max(gpu - 10 * 1000.0 + 1 - host, 5.0)
        args = {"correlation": number}
        trace._add({"cat": "cuda_runtime", "name": "cudaLaunchKernel", "pid": 1, "tid": 1, "args": args}, host, dur)
        trace._add({"cat": "kernel", "name": "k", "pid": 0, "tid": 7, "args": {**args, "device": 0, "stream": 7}},
                   gpu, 1000.0)  # fmt: skip
        host, gpu = host + dur + 1, gpu + 1000.0
    recorded = read_kineto(trace.data(), tmp_path)
    graph = graph_of(recorded.records, recorded.waits)
    assert length(graph.play([1.0] * 29)) == pytest.approx(29e-3)
    assert length(graph.play([0.25] * 29)) == pytest.approx(29e-3 / 4, rel=0.05)


def test_a_clock_that_jumps_between_kernels_is_named(tmp_path: Path) -> None:
    trace = Trace(H100)
    for number in range(3):
        trace.kernel("a", 500.0)
        trace.now += 60e6 * (number == 1)
    trace.events.append({"ph": "X", "cat": "user_annotation", "name": "ProfilerStep#1", "pid": 1, "tid": 1, "ts": 1.0,
                         "dur": 9.0})  # fmt: skip
    trace.events.append({**trace.events[-1], "name": "ProfilerStep#2"})
    found = " ".join(replayed(trace.write(tmp_path / "jump.json"))["notes"])
    assert "no kernel runs for 60 s of it, from 1 ms on: a clock that jumps" in found
    assert "it holds 2 steps" in found
