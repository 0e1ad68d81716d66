"""The command line: rows, settings, and the installed command."""

# ruff: noqa: F811 - fixtures are imported, and are arguments too

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import (  # noqa: F401 - fixtures
    CLAIMED,
    LLAMA,
    SMALL,
    TP2,
    _elsewhere,
    command,
    document,
    physical,
    prefill,
    published,
    simgpu,
    small,
)

from simgpu.cli import main
from simgpu.columns import COLUMNS

# ---- the rows ----------------------------------------------------------------------------------------


def test_json_is_one_document_with_eight_rows() -> None:
    result = simgpu("run", TP2, "--format", "json", "--no-plots")
    found, end = json.JSONDecoder().raw_decode(result.stdout)
    assert result.stdout[end:] == "\n"
    assert len(found["rows"]) == len(found["scenarios"]) == 8
    assert [row["assumptions"] for row in found["rows"]] == ["published", "physical"] * 4
    assert found["experiment"] == "tp2_scaling"
    assert found["simgpu_version"]


def test_published_rows_reproduce_the_published_table() -> None:
    rows = published(document(TP2))
    assert len(rows) == 4
    for row in rows:
        claimed = next(value for name, value in CLAIMED.items() if row["configuration"].startswith(name))
        assert row["claimed_efficiency"] == claimed
        assert row["efficiency"] == pytest.approx(claimed, abs=0.01)


@pytest.mark.parametrize("experiment", [TP2, LLAMA], ids=lambda path: path.stem)
def test_rows_keep_the_contract_of_columns(experiment: Path) -> None:
    labels = {"configuration", "assumptions", "claimed_efficiency", "box"}
    for row in document(experiment)["rows"]:
        assert {"step_s", "compute_s", "communication_s", "exposed_communication_s", "efficiency"} <= set(row)
        assert set(row) <= set(COLUMNS) | labels
        assert row["gpus"] == row["tp"] * row["dp"]
        assert 0 <= row["exposed_communication_s"] <= row["communication_s"] * (1 + 1e-12)
        busy = row["compute_s"] + row["exposed_communication_s"] + row["idle_s"]
        assert busy == pytest.approx(row["step_s"], rel=1e-9)
        assert row["efficiency"] == pytest.approx(row["ideal_step_s"] / row["step_s"])
        assert row["ideal_step_s"] == pytest.approx(row["single_gpu_step_s"] / row["gpus"])


@pytest.mark.parametrize("experiment", [TP2, LLAMA], ids=lambda path: path.stem)
def test_every_input_has_a_value_and_a_source(experiment: Path) -> None:
    lacking = set()
    for scenario in document(experiment)["scenarios"]:
        assert {"cluster", "dtype", "plan.tp", "plan.dp", "gpu.memory.bandwidth"} <= set(scenario)
        lacking |= {key for key, entry in scenario.items() if "value" not in entry or not entry.get("source")}
    assert not lacking


def test_sources_name_the_line_the_default_or_the_catalogue() -> None:
    scenario = document(TP2)["scenarios"][0]
    line = 1 + TP2.read_text().splitlines().index("    workload.operators.gemm.time: 3.5 ms")
    assert scenario["workload.operators.gemm.time"] == {"value": 0.0035, "unit": "s", "source": f"{TP2}:{line}"}
    assert scenario["plan.dp"] == {"value": 1, "source": "default"}
    assert scenario["gpu.memory.bandwidth"]["unit"] == "B/s"
    assert "datasheet" in scenario["gpu.memory.bandwidth"]["source"]


def test_a_default_inside_a_list_says_that_it_is_one(small: Path) -> None:
    """Nobody wrote `batch`: the file's line must not be named as its source."""
    scenario = document(small)["scenarios"][0]
    assert scenario["workload.operators.gemm.m"]["source"].startswith(f"{small}:")
    assert scenario["workload.operators.gemm.batch"] == {"value": 1, "source": "default"}


def test_csv_has_the_numbers_of_the_json() -> None:
    rows = document(TP2)["rows"]
    text = simgpu("run", TP2, "--format", "csv", "--no-plots").stdout
    found = list(csv.DictReader(io.StringIO(text), strict=True))
    assert len(found) == len(rows)
    for cells, row in zip(found, rows, strict=True):
        assert set(cells) >= set(row)
        for key, cell in cells.items():
            value = row.get(key)
            if value is None:
                assert cell == ""
            elif isinstance(value, (str, bool)):
                assert cell == str(value)
            else:
                assert float(cell) == value


def test_table_shows_the_headline_numbers() -> None:
    text = simgpu("run", TP2, "--no-plots").stdout
    assert "86.0 %" in text
    for name in CLAIMED:
        assert name in text
    assert max(map(len, text.splitlines())) <= 200


def test_a_table_shows_labels_as_they_are_written(small: Path) -> None:
    """Square brackets are text, not markup of the library that draws the table."""
    small.write_text(SMALL + 'title: "A [bold] title"\ncases:\n  - labels: {note: "[red] [8x] [/bold]"}\n')
    text = simgpu("run", small, "--no-plots").stdout
    assert "A [bold] title" in text
    assert "[red] [8x] [/bold]" in text


def test_notes_explain_the_difference_between_the_rows() -> None:
    notes = "\n".join(document(TP2)["notes"])
    assert "kernel model instead of the article's GEMM time" in notes
    assert notes.count(" points  ") >= 12
    assert notes in simgpu("run", TP2, "--no-plots").stdout


def test_a_walk_ends_at_the_value_of_its_last_row() -> None:
    found = document(TP2)
    for row in physical(found):
        heading = next(note for note in found["notes"] if note.startswith(row["configuration"]))
        assert heading.endswith(f"-> {100 * row['efficiency']:.1f} % (physical)")


# ---- --set -------------------------------------------------------------------------------------------


def test_set_changes_the_plan() -> None:
    rows = document(TP2, "--set", "plan.tp=1")["rows"]
    assert {row["tp"] for row in rows} == {1}
    assert all(row["communication_s"] == 0 and row["efficiency"] == 1 for row in rows)


def test_set_changes_the_dtype() -> None:
    assert {row["dtype"] for row in document(TP2, "--set", "dtype=bf16")["rows"]} == {"bf16"}


def test_set_changes_a_peak_where_the_kernel_model_is_used() -> None:
    before, after = document(TP2), document(TP2, "--set", "gpu.peak.fp16=100TFLOPS")
    assert all(a["compute_s"] != b["compute_s"] for a, b in zip(physical(before), physical(after), strict=True))
    assert [row["step_s"] for row in published(before)] == [row["step_s"] for row in published(after)]
    assert after["scenarios"][1]["gpu.peak.fp16-fp32-tensor"] == {"value": 1e14, "unit": "FLOP/s", "source": "--set"}


def test_set_changes_the_memory_bandwidth(prefill: Path) -> None:
    before, after = document(prefill), document(prefill, "--set", "gpu.memory.bandwidth=1TB/s")
    assert after["rows"][0]["compute_s"] > before["rows"][0]["compute_s"]
    assert after["scenarios"][0]["gpu.memory.bandwidth"] == {"value": 1e12, "unit": "B/s", "source": "--set"}


def test_set_changes_an_operator_by_its_name(small: Path) -> None:
    found = document(small, "--set", "workload.operators.gemm.time=4 ms")
    assert found["rows"][0]["compute_s"] == pytest.approx(2e-3)


def test_set_is_repeatable_and_the_last_of_a_key_holds(small: Path) -> None:
    row = document(small, "--set", "plan.tp=4", "--set", "dtype=bf16", "--set", "plan.tp=8")["rows"][0]
    assert (row["tp"], row["dtype"]) == (8, "bf16")


@pytest.mark.parametrize(
    ("key", "value", "resolved"),
    [
        ("plan.dp", "1", 1),
        ("accumulate", "fp32", "fp32"),
        ("algorithm", "ring", "ring"),
        ("workload.repeat", "3", 3),
        ("gpu.memory.bandwidth", "2 TB/s", 2e12),
        ("gpu.memory.bandwidth.value", "2", 2e12),
        ("gpu.kernel.compute_fraction", "0.5", 0.5),
        ("gpu.host_link.peer_to_peer", "false", False),
        ("link.nvlink-4.latency", "1 us", 1e-6),
        ("node.peer_to_peer_scope", "root", "root"),
    ],
)
def test_resolve_shows_what_was_set_and_by_whom(small: Path, key: str, value: str, resolved: object) -> None:
    scenario = json.loads(simgpu("resolve", small, "--set", f"{key}={value}").stdout)["scenarios"][0]
    entry = scenario.get(key.removesuffix(".value"))
    assert entry is not None, "an input is not among the resolved ones"
    assert (entry["value"], entry["source"]) == (resolved, "--set")


# ---- the installed command ---------------------------------------------------------------------------


def test_the_installed_command_separates_answer_and_messages(tmp_path: Path, small: Path) -> None:
    done = command("run", small, "--format", "json", cwd=tmp_path)
    assert done.returncode == 0
    assert len(json.loads(done.stdout)["rows"]) == 1
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["data", "data", "trace"]


def test_the_installed_command_ends_errors_with_two(tmp_path: Path) -> None:
    done = command("run", "nosuch.yaml", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "simgpu: nosuch.yaml: no such file\n")


def test_version_and_help(tmp_path: Path) -> None:
    assert command("--version", cwd=tmp_path).stdout.startswith("simgpu, version ")
    text = simgpu("-h").stdout
    for name in ("run", "resolve", "trace", "list", "show", "--catalog"):
        assert name in text


@pytest.mark.slow
def test_the_answer_does_not_depend_on_the_hash_seed(tmp_path: Path) -> None:
    outputs = set()
    for seed in ("1", "2"):
        env = os.environ | {"PYTHONHASHSEED": seed}
        done = command("run", TP2, "--format", "json", "--no-plots", "--out", seed, "-q", cwd=tmp_path, env=env)
        outputs.add((done.returncode, done.stdout, done.stderr, (tmp_path / seed / "trace.json").read_bytes()))
    assert len(outputs) == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", str(LLAMA), "--format", "json", "--no-plots"],
        ["run", str(LLAMA), "--no-plots"],
        ["show", "h100-sxm"],
    ],
    ids=["json", "table", "show"],
)
def test_a_closed_pipe_ends_quietly(tmp_path: Path, arguments: list[str]) -> None:
    """`simgpu ... | head -0`: nothing on stderr and no error code, whatever prints the answer."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = command(*arguments, cwd=tmp_path, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("style", ["json", "table", "csv"])
def test_a_full_disk_behind_stdout_is_one_line(tmp_path: Path, small: Path, style: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full on this system")
    with Path("/dev/full").open("w") as full:
        done = command(
            *("run", small, "--format", style, "--no-plots"),
            cwd=tmp_path,
            capture_output=False,
            stdout=full,
            stderr=subprocess.PIPE,
        )
    assert done.stderr.startswith("simgpu: ") and done.stderr.count("\n") == 1, done.stderr
    assert done.returncode in (1, 2)


@pytest.mark.parametrize("style", ["table", "csv"])
def test_a_terminal_that_knows_only_ascii(tmp_path: Path, small: Path, style: str) -> None:
    small.write_text(SMALL + 'title: "π"\ncases:\n  - labels: {note: "8 × π"}\n', encoding="utf-8")
    env = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = command("run", small, "--format", style, "--no-plots", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    assert "8 " in done.stdout


@pytest.mark.slow
def test_labels_in_other_scripts_leave_stderr_quiet(tmp_path: Path, small: Path) -> None:
    plots = "plots:\n  - {kind: bar, x: note, y: [step_s]}\n"
    small.write_text(SMALL + 'cases:\n  - labels: {note: "測試"}\n' + plots, encoding="utf-8")
    done = command("run", small, "--out", "answer", "--quiet", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "測試" in done.stdout


def test_interrupting_ends_with_130(monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("simgpu.study.experiment.running.run_experiment", interrupted)
    result = CliRunner().invoke(main, ["run", str(small)])
    assert (result.exit_code, result.stdout, result.stderr) == (130, "", "simgpu: interrupted\n")
