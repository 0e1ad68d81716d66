"""Limits of a search in the reader's unit: what is kept, that nothing better is missed, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main
from simgpu.columns import better
from simgpu.study.search.limits import SERVING, TRAINING, at_least, ends_of, limits_of, plain

JOB = """
scenario:
  model: llama-3.1-8b
  cluster: dgx-h100
  workload: {kind: training, batch: 32, tokens: 4096, train_tokens: 10e9}
  plan: {sequence_parallel: true}
search:
  top: 3
  price: 2.5
  space: {tp: [1, 2], dp: all, micro_batch: [1, 2], recompute: [none, full], zero: [1, 2]}
"""
Row = dict[str, Any]


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """All plans of the space that fit, simulated."""
    file = tmp_path_factory.mktemp("all") / "all.yaml"
    file.write_text(JOB.replace("top: 3", "top: 1000\n  front: false"))
    answer = simgpu.search(file, jobs=1)
    assert answer.counts["bound_decides"] == 0
    return list(answer.every)


def searched(folder: Path, limits: str, text: str = JOB) -> Any:
    (folder / "e.yaml").write_text(text.replace("top: 3", f"top: 3\n  limits: {{{limits}}}"))
    return simgpu.search(folder / "e.yaml", jobs=1)


@pytest.mark.parametrize(
    ("limits", "keeps"),
    [
        ("training_days_p90: 42 h", lambda row: row["training_days_p90"] <= 42 / 24),
        ("training_days: 1.45 days, gpu_hours: 275 GPU-hours", lambda row: row["gpu_hours"] <= 275),
        ("samples_per_s: 19 images/s", lambda row: row["samples_per_s"] >= 19),
        ("samples_per_s_p10: 15", lambda row: row["samples_per_s_p10"] >= 15),
        ("tokens_per_s: 70k tokens/s", lambda row: row["tokens_per_s"] >= 70_000),
        ("tokens_per_s_per_gpu: '9,000 tokens/s/GPU'", lambda row: row["tokens_per_s_per_gpu"] >= 9000),
        ("usd_per_run: $700", lambda row: row["usd_per_run"] <= 700),
        ("usd_per_step_p90: 0.011 USD", lambda row: row["usd_per_step_p90"] <= 0.011),
        ("memory_bytes_per_gpu: 50 GiB", lambda row: row["memory_bytes_per_gpu"] <= 50 * 2**30),
        ("step_s: 1700 ms, memory_bytes_per_gpu: 60 GiB",
         lambda row: row["step_s"] <= 1.7 and row["memory_bytes_per_gpu"] <= 60 * 2**30),
    ],
)  # fmt: skip
def test_the_answer_is_that_of_simulating_every_plan_and_leaving_out(
    tmp_path: Path, every: list[Row], limits: str, keeps: Callable[[Row], bool]
) -> None:
    best = sorted(row["step_s"] for row in every if keeps(row))
    assert 0 < len(best) < len(every)  # the limit says something
    answer = searched(tmp_path, limits)
    assert all(map(keeps, answer.rows)) and all(map(keeps, answer.front))
    assert [row["step_s"] for row in answer.rows] == pytest.approx(sorted(set(best))[:3], rel=1e-9)
    assert answer.counts["over_limits"] <= len(every) - len(best) and "Limits: " in answer.notes[0]
    assert sum(not keeps(row) for row in answer.every) <= answer.counts["over_limits"]
    assert {plain(one.split(":")[0]) for one in limits.split(", ")} <= set(answer.shown)


def test_limits_that_nothing_keeps_name_the_best_without_them(tmp_path: Path, every: list[Row]) -> None:
    answer = searched(tmp_path, "training_days: 0.5 days, usd_per_run: 100 USD")
    best = min(every, key=lambda row: row["step_s"])
    assert not answer.rows and not answer.every and answer.counts["over_limits"] > 0
    assert answer.notes[1].startswith("no plan meets the limits; without them the best is DP8")
    assert f"days {best['training_days']:.3g} d" in answer.notes[1] and "USD a run" in answer.notes[1]


def test_what_runs_cost_can_limit_servers_too(tmp_path: Path) -> None:
    text = """
scenario:
  model: llama-3.1-8b
  cluster: dgx-h100
  workload: {kind: serving, concurrency: 8, prompt: 512, output: 64}
search:
  top: 3
  price: 2
  space: {tp: [1, 8], workload.concurrency: [2, 64]}
"""
    answer = searched(tmp_path, "usd_per_million_output_tokens_p90: 1 USD", text)
    assert answer.rows and len(answer.rows) < len(answer.every)
    kept = [row for row in answer.every if row["usd_per_million_output_tokens_p90"] <= 1]
    assert answer.counts["over_limits"] == len(answer.every) - len(kept)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("top: 3", "limits: {ttft_s: 1}", "e.yaml:8: search.limits.ttft_s: 'ttft_s' cannot be limited in this search"),
        ("top: 3", "limits: {training_day: 1}", "cannot be limited in this search; did you mean 'training_days'?"),
        ("top: 3", "limits: {step_s: 3 tokens/s}", "search.limits.step_s: '3 tokens/s' is not a limit of 'step_s'"),
        ("top: 3", "limits: {samples_per_s: 3 s}", "such as '30 samples/s'"),
        ("top: 3", "limits: {tokens_per_s: 30 tokens/s/GPU}", "such as '30 tokens/s'"),
        ("top: 3", "limits: {gpu_hours: 0}", "0 is not a limit of 'gpu_hours'; expected a positive number, such as"),
        ("top: 3", "limits: {step_s_p10: 3 s}", "cannot be limited in this search; names like it: step_s_p90"),
        ("  price: 2.5", "  limits: {usd_per_run: 100 EUR}", "'100 EUR' is not a limit of 'usd_per_run'"),
        (", train_tokens: 10e9}\n", "}\n", "2 days': the length of the run is not known; expected workload"),
    ],
)  # fmt: skip
def test_what_can_be_no_limit_ends_in_one_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    text = JOB if "limits" in new else JOB.replace("top: 3", "limits: {training_days: 2 days}")
    file = tmp_path / "e.yaml"
    file.write_text(text.replace(old, new))
    done = CliRunner().invoke(main, ["search", str(file), "--jobs", "1"])
    assert done.exit_code == 2 and message in done.output and done.output.count("\n") == 1, done.output


@pytest.mark.parametrize("column", sorted({*TRAINING, *SERVING["serving"], *SERVING["inference"], "requests_per_s"}))
def test_a_limit_goes_the_way_of_its_column_and_a_number_is_in_its_unit(column: str) -> None:
    assert at_least(column) == (better(column) == "higher") == column.startswith(("samples", "tokens", "requests"))
    for one in ends_of(column):
        assert limits_of({one: 3}, [column], 1.0) == limits_of({one: "3"}, [column], 1.0) == {one: 3.0}
        assert plain(one) == column and not one.endswith("_p10" if better(column) == "lower" else "_p90")
