"""What to measure next: what a measurement would make of an interval, and no promise that it does not keep."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

from simgpu.cli import main


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def planned(*arguments: object) -> dict[str, Any]:
    done = run("measure", "--plan", *arguments, "--format", "json")
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_plan_is_ranked_and_each_measurement_narrows() -> None:
    found = planned("tp2_scaling", "--case", 2)
    widths = [row["width_after"] for row in found["rows"]]
    assert found["column"] == "step_s" and widths and widths == sorted(widths)
    assert all(1 < width < found["width"] for width in widths)
    links = next(row for row in found["rows"] if row["measurement"] == "links")
    assert links["commands"][0] == "all_reduce_perf -b 8388608 -e 134217728 -f 2 -g 2 > all_reduce.log"
    gemm = next(row for row in found["rows"] if row["measurement"] == "kernels: gemm")
    assert "8192x8192x4096 fp16" in gemm["why"] and "simgpu measure --what gemm -o rows.csv" in gemm["commands"]


ONE = """
experiment: one
scenario:
  model: llama-3.1-8b
  cluster: dgx-h100
  workload: {kind: inference, batch: 4, prompt: 128, output: 16, runtime: vllm}
"""


def test_the_promised_interval_is_the_one_that_a_logged_run_brings(tmp_path) -> None:
    """A file as `observe` writes it after one run, which says what was predicted, has the width that was promised."""
    one, mine = tmp_path / "one.yaml", tmp_path / "mine.yaml"
    one.write_text(ONE)
    found = planned(one)
    assert found["rows"][0]["measurement"] == "the engine at concurrency 1 and 64"
    promised = next(row["width_after"] for row in found["rows"] if row["measurement"] == "the engine at concurrency 1")
    mine.write_text("machine: dgx-h100\nsource: one run\nstacks: {vllm: {slowdown: 1, runs: 1}}\n")
    again = planned(one, "--set", f"cluster={mine}")
    assert again["width"] == pytest.approx(promised, rel=1e-6)
    assert again["predicted"] == pytest.approx(found["predicted"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan", "tp2_scaling", "--case", "99"], "--case: 99: the experiment has"),
        (["--plan", "tp2_scalin"], "did you mean 'tp2_scaling'?"),
        (["--plan", "tp2_scaling", "-o", "rows.csv"], "--out: a plan is printed"),
        (["--case", "2", "-o", "rows.csv"], "--case: says which prediction is to be surer"),
        ([], "--out: no file is named"),
        (["--plan", "tp2_scaling", "--set", "hardware.gpu.memory.bandwith=1"], "bandwith"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(arguments: list[str], said: str) -> None:
    done = run("measure", *arguments)
    assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.output
