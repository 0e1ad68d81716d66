"""A recorded step at another scale: its own time at the same one, simgpu's own prediction at others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from simgpu.cli import main

DENSE = """
experiment: dense
scenario:
  model: {base: llama-3.1-8b, layers: 4}
  cluster: dgx-h100
  workload: {kind: training, batch: 8, tokens: 2048}
  plan: {tp: 2, dp: 2, pp: 2}
"""
EXPERTS = """
experiment: experts
scenario:
  model: {base: mixtral-8x7b, layers: 2}
  cluster: dgx-h100
  workload: {kind: training, batch: 8, tokens: 2048}
  plan: {tp: 2, dp: 4, ep: 2}
"""
MINE = """
machine: dgx-h100
source: made up
stacks: {megatron: {slowdown: 1.25, runs: 3}}
links: {nvlink-4: 0.8}
"""


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def settings(changes: str) -> list[str]:
    return [part for change in changes.split() for part in ("--set", change)]


def recorded(folder: Path, text: str, *more: str) -> tuple[Path, Path]:
    """An experiment and the trace that simgpu writes of it."""
    file, trace = folder / "own.yaml", folder / "own.json"
    file.write_text(text)
    done = run("trace", "write", file, "-o", trace, *more)
    assert done.exit_code == 0, done.output
    return file, trace


def replayed(trace: Path, *more: object) -> dict[str, Any]:
    done = run("replay", trace, "--format", "json", *more)
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def predicted(file: Path, changes: list[str]) -> float:
    done = run("run", file, "--format", "json", "-q", "--no-plots", "-o", file.parent / "out", *changes)
    assert done.exit_code == 0, done.output
    return float(json.loads(done.stdout)["rows"][0]["step_s"])


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        (DENSE, "plan.tp=2"),
        (DENSE, "plan.tp=4 plan.dp=1"),
        (DENSE, "plan.pp=1"),
        (DENSE, "plan.pp=4 plan.dp=1"),
        (DENSE, "plan.dp=1"),
        (DENSE, "workload.batch=16"),
        (DENSE, "workload.tokens=4096"),
        (DENSE, "cluster=dgx-b200"),
        (DENSE, "dtype=fp8"),
        (DENSE, "gpu.memory.bandwidth=2x plan.tp=1"),
        (EXPERTS, "plan.ep=4"),
        (EXPERTS, "plan.ep=1"),
    ],
)
def test_our_own_traces_at_another_scale_return_our_own_prediction(tmp_path: Path, text: str, changes: str) -> None:
    """The trace says its experiment. Times in it have nine digits."""
    file, trace = recorded(tmp_path, text)
    found = replayed(trace, *settings(changes))
    assert found["predicted_s"] == pytest.approx(predicted(file, settings(changes)), rel=1e-6)
    assert found["predicted_s_p10"] <= found["predicted_s"] <= found["predicted_s_p90"]
    assert sum(row["asked_s"] for row in found["parts"]) == pytest.approx(found["predicted_s"], rel=1e-6)
    assert sum(row["recorded_s"] for row in found["parts"]) == pytest.approx(found["measured_s"], rel=1e-6)


@pytest.mark.parametrize("changes", ["plan.pp=1", "plan.tp=4 plan.dp=1", "workload.batch=16", "plan.tp=1"])
def test_what_a_slower_machine_recorded_becomes_its_own_prediction(tmp_path: Path, changes: str) -> None:
    """Kernels 1.25 times as long and links of 0.8: the experiment knows neither, the trace says both. Within 1 %."""
    file, _ = recorded(tmp_path, DENSE)
    (tmp_path / "mine.yaml").write_text(MINE)
    mine = ["--set", f"cluster={tmp_path / 'mine.yaml'}"]
    (tmp_path / "there").mkdir()
    _, trace = recorded(tmp_path / "there", DENSE, *mine)
    found = replayed(trace, "--of", file, *settings(changes))
    truth, naive = (predicted(file, [*more, *settings(changes)]) for more in (mine, []))
    assert found["predicted_s"] == pytest.approx(truth, rel=0.01)
    assert abs(naive / truth - 1) > 0.08
    kernels = {one["name"]: one["factor"] for one in found["factors"] if one["of"] == "kernel"}
    assert set(kernels) >= {"qkv", "attention", "ffn_down_wgrad", "gemm", "vector"}
    assert all(value == pytest.approx(1.25, rel=0.03) for value in kernels.values())  # less where links drag both


def test_the_same_scale_returns_the_measured_time(tmp_path: Path) -> None:
    file, trace = recorded(tmp_path, DENSE)
    data = json.loads(trace.read_text())
    for event in data["traceEvents"]:  # a step that holds more than any simulation of it
        if event["ph"] == "X" and event["name"] == "host":
            event["ts"] += 1000.0
            event["dur"] += 7000.0
    trace.write_text(json.dumps(data))
    found = replayed(trace, "--of", file)
    last = max(event["ts"] + event["dur"] for event in data["traceEvents"] if event["ph"] == "X")
    assert found["measured_s"] == pytest.approx(1e-6 * last, rel=1e-9)
    assert found["predicted_s"] == pytest.approx(found["measured_s"], rel=1e-12)
    assert found["predicted_s_p10"] == found["predicted_s"] == found["predicted_s_p90"]
    beyond = {row["part"]: row for row in found["parts"]}["beyond the simulation"]
    assert beyond["recorded_s"] == beyond["asked_s"] > 6e-3


def test_what_is_recorded_beside_what_is_asked(tmp_path: Path) -> None:
    _, trace = recorded(tmp_path, DENSE)
    out = tmp_path / "both.json"
    done = run("replay", trace, "--set", "plan.pp=1", "-o", out)
    assert done.exit_code == 0 and "bubble" in done.stdout and "most: " in done.stdout
    events = json.loads(out.read_text())["traceEvents"]
    names = {event["pid"]: event["args"]["name"] for event in events if event["name"] == "process_name"}
    assert names[0] == "recorded" and all(name.startswith("asked for:") for pid, name in names.items() if pid)
    assert {event["pid"] for event in events if event["ph"] == "X"} >= {0, 1}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--set", "plan.tp=3"], "tp 3"),
        (["--set", "plan.tq=4"], "plan.tq: unknown key; expected one of tp, dp"),
        (["--set", "plan.tp=4", "--case", 2], "--case: 2: the experiment has 1"),
        (["--set", "plan.tp=4", "--gpu", "h100-sxm"], "--gpu: the experiment names the machine"),
        (["--set", "plan.tp=4", "--to-gpu", "b200-sxm"], "--to-gpu: the experiment names the machine"),
        (["--of", "{other}"], "times the FLOPs of the experiment's on that rank"),
        (["--of", "{serving}"], "expected one of training, prefill, operators"),
        (["--of", "nowhere"], "no such file or experiment 'nowhere'"),
    ],
)
def test_what_cannot_be_scaled_is_refused_in_one_line(tmp_path: Path, more: list[Any], said: str) -> None:
    _, trace = recorded(tmp_path, DENSE)
    (tmp_path / "other.yaml").write_text(DENSE.replace("llama-3.1-8b", "llama-3.1-70b"))
    (tmp_path / "serving.yaml").write_text(DENSE.replace("kind: training", "kind: inference").replace(
        "tokens: 2048", "prompt: 128, output: 16").replace("dp: 2, pp: 2", "dp: 1"))  # fmt: skip
    named = {"other": tmp_path / "other.yaml", "serving": tmp_path / "serving.yaml"}
    done = run("replay", trace, *(str(one).format(**named) for one in more), "-o", tmp_path / "out.json")
    assert done.exit_code == 2 and said in done.stderr, done.output
    assert done.stderr.count("\n") == 1 and not (tmp_path / "out.json").exists()
