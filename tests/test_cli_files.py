"""The command line: what `run` and `trace` write, and that `resolve` prints the scenarios of `run`."""

# ruff: noqa: F811 - fixtures are imported, and are arguments too

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from command_line import LLAMA, TP2, _elsewhere, document, everything_below, simgpu, small  # noqa: F401 - fixtures

# ---- files -------------------------------------------------------------------------------------------


def test_out_receives_data_trace_and_plots(tmp_path: Path) -> None:
    result = simgpu("run", TP2, "--format", "json", "--out", "answer")
    assert everything_below(tmp_path / "answer") == [
        "efficiency.png",
        "efficiency.svg",
        "result.json",
        "rows.csv",
        "trace.json",
    ]
    assert everything_below(tmp_path)[0] == "answer" and len(list(tmp_path.iterdir())) == 1
    assert json.loads(Path("answer/result.json").read_text()) == json.loads(result.stdout)
    assert Path("answer/rows.csv").read_text() == simgpu("run", TP2, "--format", "csv", "--no-plots").stdout
    assert Path("answer/efficiency.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert ElementTree.parse("answer/efficiency.svg").getroot().tag.endswith("svg")
    for name in everything_below(tmp_path / "answer"):
        assert name in result.stderr


def test_default_folder_is_results_and_the_experiment_name(tmp_path: Path, small: Path) -> None:
    simgpu("run", small)
    assert everything_below(tmp_path) == [
        "results",
        "results/small",
        "results/small/result.json",
        "results/small/rows.csv",
        "results/small/trace.json",
    ]


def test_no_plots_writes_data_and_trace_but_no_pictures(tmp_path: Path) -> None:
    for style in ("table", "json", "csv"):
        assert simgpu("run", TP2, "--no-plots", "--format", style, "--quiet").stdout
    simgpu("run", TP2, "--no-plots", "--out", "answer")
    for folder in ("answer", "results/tp2_scaling"):
        assert everything_below(Path(folder)) == ["result.json", "rows.csv", "trace.json"]


@pytest.mark.slow
def test_plots_of_every_experiment_are_written() -> None:
    simgpu("run", LLAMA, "--out", "answer")
    for name in ("scaling", "communication"):
        assert Path(f"answer/{name}.png").stat().st_size > 10_000
        ElementTree.parse(f"answer/{name}.svg")


@pytest.mark.slow
def test_running_twice_overwrites_with_the_same_bytes() -> None:
    simgpu("run", TP2, "--out", "answer")
    before = {path.name: path.read_bytes() for path in Path("answer").iterdir()}
    simgpu("run", TP2, "--out", "answer")
    assert {path.name: path.read_bytes() for path in Path("answer").iterdir()} == before


def test_quiet_leaves_stderr_empty(small: Path) -> None:
    assert simgpu("run", small, "--out", "a").stderr
    assert simgpu("run", small, "--out", "b", "--quiet").stderr == ""
    assert simgpu("trace", small).stderr
    assert simgpu("trace", small, "-q").stderr == ""


def _checked_trace(file: Path, rows: list[dict[str, Any]]) -> None:
    """One named process for each rank of each row, named threads, and spans that fill the row's step."""
    events = json.loads(file.read_text())["traceEvents"]
    processes = {e["pid"]: e["args"]["name"] for e in events if e["name"] == "process_name"}
    threads = {(e["pid"], e["tid"]): e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = [e for e in events if e["ph"] == "X"]
    assert len(processes) == sum(row["gpus"] for row in rows) == len(set(processes.values()))
    assert {pid for pid, _ in threads} == set(processes)
    assert all(name for name in (*processes.values(), *threads.values()))
    assert spans and all(e["dur"] >= 0 and e["ts"] >= 0 and (e["pid"], e["tid"]) in threads for e in spans)
    first = 0
    for row in rows:
        mine = [e for e in spans if first <= e["pid"] < first + row["gpus"]]
        assert {e["pid"] for e in mine} == set(range(first, first + row["gpus"]))
        assert max(e["ts"] + e["dur"] for e in mine) == pytest.approx(1e6 * row["step_s"], rel=1e-9)
        first += row["gpus"]


def test_trace_has_a_process_for_each_rank() -> None:
    found = document(TP2)
    simgpu("run", TP2, "--out", "answer", "--no-plots")
    _checked_trace(Path("answer/trace.json"), found["rows"])


def test_trace_command_writes_the_same_trace() -> None:
    simgpu("run", TP2, "--out", "answer", "--no-plots")
    result = simgpu("trace", TP2, "-o", "deep/down/t.json")
    assert result.stdout == "" and "deep/down/t.json" in result.stderr
    assert Path("deep/down/t.json").read_bytes() == Path("answer/trace.json").read_bytes()


def test_trace_command_takes_settings_and_has_a_default_file(tmp_path: Path, small: Path) -> None:
    simgpu("trace", small, "--set", "plan.tp=4")
    assert everything_below(tmp_path) == ["trace.json"]
    _checked_trace(tmp_path / "trace.json", document(small, "--set", "plan.tp=4")["rows"])


# ---- resolve -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [(), ("--set", "plan.tp=1", "--set", "gpu.memory.bandwidth=1TB/s")])
def test_resolve_prints_the_scenarios_of_run(tmp_path: Path, settings: tuple[str, ...]) -> None:
    found = json.loads(simgpu("resolve", TP2, *settings).stdout)
    assert everything_below(tmp_path) == []
    ran = document(TP2, *settings)
    whole = [dict(one) for one in ran["scenarios"]]
    for shared in ran["constants"]:
        for number in shared["rows"]:
            assert not set(whole[number]) & set(shared["inputs"])
            whole[number] |= shared["inputs"]
    assert found == {"experiment": "tp2_scaling", "scenarios": whole}


def test_constants_that_rows_share_are_written_once() -> None:
    """They fill a file: some 300 of each GPU, each with a long source."""
    found = document(TP2)
    assert not any(key.startswith("gpu.kernel.") for one in found["scenarios"] for key in one)
    written = [(key, str(one)) for shared in found["constants"] for key, one in shared["inputs"].items()]
    assert len(set(written)) == len(written)
    assert [row for shared in found["constants"] if len(shared["rows"]) == 2 for row in shared["rows"]]
