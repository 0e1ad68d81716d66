"""A step that PyTorch's profiler recorded, at another scale: told by the sizes of its operators alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from step_traces import write

from simgpu import api
from simgpu.cli import main

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
@pytest.mark.parametrize("changes", CHANGES)
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
    assert found["predicted_s_p10"] <= found["predicted_s"] <= found["predicted_s_p90"]
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
