"""The command line: what each command prints, what it writes, and where it finds things."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from simgpu.cli import LISTED, main
from simgpu.columns import COLUMNS

ROOT = Path(__file__).resolve().parents[1]
TP2 = ROOT / "experiments" / "tp2_scaling.yaml"
LLAMA = ROOT / "experiments" / "llama70b_tp.yaml"
CLAIMED = {"2x H100 SXM": 0.86, "2x A100 SXM": 0.87, "2x RTX 4090": 0.35, "2x RTX 3090": 0.81}
ENTRY = shutil.which("simgpu", path=str(Path(sys.executable).parent)) or "simgpu"

SMALL = """\
experiment: small
scenario:
  cluster: dgx-h100
  dtype: fp16
  plan: {tp: 2}
  workload:
    kind: operators
    operators:
      - {op: matmul, name: gemm, m: 512, n: 512, k: 512, split: k}
      - {op: all_reduce, name: sum, bytes: 1 MB}
"""

PREFILL = """\
experiment: prefill
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  plan: {tp: 2}
  workload: {kind: prefill, tokens: 512}
"""

TINY_GPU = """\
name: tiny
title: A GPU of the tests
vendor: nobody
architecture: generic
sources:
  sheet: a made-up datasheet
compute:
  sm_count: {value: 100, source: sheet}
  boost_clock: {value: 1000, unit: MHz, source: sheet}
peak:
  - {dtype: fp16, accumulate: fp32, engine: tensor, value: 100, unit: TFLOPS, source: sheet}
  - {dtype: bf16, accumulate: fp32, engine: tensor, value: 100, unit: TFLOPS, source: sheet}
  - {dtype: fp32, accumulate: fp32, engine: vector, value: 10, unit: TFLOPS, source: sheet}
memory:
  type: HBM
  capacity: {value: 16, unit: GiB, source: sheet}
  bandwidth: {value: 1, unit: TB/s, source: sheet}
  l2_cache: {value: 32, unit: MiB, source: sheet}
  ecc: {value: true, source: sheet}
host_link:
  link: pcie-4
  lanes: {value: 16, source: sheet}
  peer_to_peer: {value: true, source: sheet}
power:
  tdp: {value: 100, unit: W, source: sheet}
"""

TINY_NODE = """\
name: tiny-box
title: Two of them
gpu: tiny
sources:
  guide: a made-up guide
sockets:
  - cpu: none
    memory_bandwidth: {value: 100, unit: GB/s, source: guide}
    devices: [gpu, gpu]
peer_to_peer_scope: {value: root, source: guide}
"""

TINY_MODEL = {
    "model_type": "llama",
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 8,
    "num_key_value_heads": 8,
    "num_hidden_layers": 2,
    "vocab_size": 1000,
    "max_position_embeddings": 8192,
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test works in an empty folder, without a catalogue of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_CATALOG", raising=False)


@pytest.fixture
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _file(tmp_path_factory.mktemp("input") / "small.yaml", SMALL)


@pytest.fixture
def prefill(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _file(tmp_path_factory.mktemp("input") / "prefill.yaml", PREFILL)


@pytest.fixture
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's own catalogue: a GPU, a node, a model and an experiment."""
    folder = tmp_path_factory.mktemp("own")
    _file(folder / "gpus/tiny.yaml", TINY_GPU)
    _file(folder / "nodes/tiny-box.yaml", TINY_NODE)
    _file(folder / "models/tiny-llama.json", json.dumps(TINY_MODEL))
    mine = PREFILL.replace("llama-2-7b", "tiny-llama").replace("dgx-h100", "tiny-box")
    _file(folder / "experiments/mine.yaml", mine.replace("experiment: prefill", "title: My own\nexperiment: mine"))
    return folder


def _file(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def simgpu(*arguments: object, env: dict[str, str] | None = None) -> Result:
    """Run the command line in this process; it must succeed."""
    result = CliRunner().invoke(main, [str(argument) for argument in arguments], env=env)
    assert result.exit_code == 0, (result.stderr, result.exception)
    return result


def document(*arguments: object) -> dict[str, Any]:
    """The JSON document of `simgpu run`."""
    return json.loads(simgpu("run", *arguments, "--format", "json", "--no-plots").stdout)


def command(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    given: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60} | options
    return subprocess.run([ENTRY, *map(str, arguments)], **given)


def everything_below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def physical(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["assumptions"] == "physical"]


def published(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if row["assumptions"] == "published"]


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


def test_plots_of_every_experiment_are_written() -> None:
    simgpu("run", LLAMA, "--out", "answer")
    for name in ("scaling", "communication"):
        assert Path(f"answer/{name}.png").stat().st_size > 10_000
        ElementTree.parse(f"answer/{name}.svg")


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
    assert found == {"experiment": "tp2_scaling", "scenarios": document(TP2, *settings)["scenarios"]}


# ---- list and show -----------------------------------------------------------------------------------

FOLDERS = {
    "models": ROOT / "models",
    "runtimes": ROOT / "runtimes",
    "frameworks": ROOT / "frameworks",
    "gpus": ROOT / "hardware/gpus",
    "nodes": ROOT / "hardware/nodes",
    "clusters": ROOT / "hardware/clusters",
    "experiments": ROOT / "experiments",
    "links": ROOT / "hardware" / "links",
    "architectures": ROOT / "hardware" / "architectures",
}


def _names(kind: str) -> list[str]:
    ending = ".json" if kind == "models" else ".yaml"
    return sorted(path.stem for path in FOLDERS[kind].iterdir() if path.suffix == ending and path.stem != "SOURCES")


@pytest.mark.parametrize("kind", LISTED)
def test_list_shows_every_name_with_a_title(kind: str) -> None:
    lines = simgpu("list", kind).stdout.splitlines()
    names = [line.split()[0] for line in lines]
    assert (sorted(names) if kind == "runtimes" else names) == _names(kind)  # versions stand by age: 0.4 before 0.12
    assert all(len(line.split(maxsplit=1)) == 2 for line in lines), "an entry has no title"


def test_list_without_a_kind_shows_all_kinds() -> None:
    text = simgpu("list").stdout
    for kind in LISTED:
        assert f"{kind}:\n" in text
        for name in _names(kind):
            assert f"\n  {name} " in text


def test_show_gpu_has_units_sources_and_inherited_constants(tmp_path: Path) -> None:
    text = simgpu("show", "h100-sxm").stdout
    assert "3.35 TB/s" in text and "80 GiB" in text and "989.4 TFLOP/s" in text
    assert "NVIDIA H100 Tensor Core GPU datasheet" in text
    assert "clock_fraction 1, throttle 0.26" in text and text.count("throttle 0.26") == 1
    assert "kernel.gemm.weight-only" in text and "kernel.gemm.default.throttle" not in text
    every = simgpu("show", "h100-sxm", "--constants").stdout
    assert every.count("kernel.compute_fraction ") == 1 and every.count("kernel.gemm.default.throttle ") == 1
    assert len(text.splitlines()) < 0.5 * len(every.splitlines())
    assert everything_below(tmp_path) == []


def test_show_applies_settings() -> None:
    assert "1.5 TB/s" in simgpu("show", "h100-sxm", "--set", "gpu.memory.bandwidth=1.5 TB/s").stdout
    assert "100 GB/s" in simgpu("show", "dgx-h100", "--set", "gpu.nvlink.bandwidth=121.359 GB/s").stdout


def test_show_model_counts_its_parameters(tmp_path: Path) -> None:
    text = simgpu("show", "llama-2-7b").stdout
    assert "6,738,415,616" in text
    assert everything_below(tmp_path) == []


def test_show_link_and_architecture() -> None:
    assert "25 GB/s" in simgpu("show", "nvlink-4").stdout
    assert "kernel.memory_fraction" in simgpu("show", "hopper").stdout


@pytest.mark.parametrize("name", ["dgx-h100", "rtx-3090-nvlink-8x", "dgx-h100-ib"])
def test_show_draws_nodes_and_clusters(tmp_path: Path, name: str) -> None:
    result = simgpu("show", name, "--out", f"{name}.png")
    assert "Edges, per direction" in result.stdout and "GB/s" in result.stdout
    assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert f"{name}.png" in result.stderr
    assert len(everything_below(tmp_path)) == 1


def test_show_draws_where_it_is_told_to(tmp_path: Path) -> None:
    simgpu("show", "dgx-h100", "--out", "box.svg")
    assert everything_below(tmp_path) == ["box.svg"]
    ElementTree.parse("box.svg")


def test_show_writes_nothing_that_was_not_asked_for(tmp_path: Path) -> None:
    assert "4 of 128 nodes" in simgpu("show", "dgx-h100-ib", "--nodes", 4).stdout
    assert everything_below(tmp_path) == []


def test_help_cuts_no_sentence_and_has_an_example_of_every_command() -> None:
    lines = simgpu("--help").stdout.splitlines()
    commands = lines[lines.index("Commands:") + 1 : -2]  # an example of all stands below them
    assert [line.split()[0] for line in commands] == sorted(main.commands)
    assert all(line.endswith(".") and not line.endswith("...") and len(line) <= 80 for line in commands)
    for name in main.commands:
        *_, last = simgpu(name, "--help").stdout.splitlines()
        assert last.startswith(f"  Example: simgpu {name} ") and len(last) <= 80, name


# ---- where things are found --------------------------------------------------------------------------


def test_an_experiment_by_name_is_the_one_by_path() -> None:
    by_name, by_path = document("tp2_scaling"), document(TP2)
    assert by_name["rows"] == by_path["rows"]
    assert document(os.path.relpath(TP2))["rows"] == by_path["rows"]


@pytest.mark.parametrize("layout", [".", "hardware"], ids=["flat", "hardware/"])
@pytest.mark.parametrize("way", ["option", "environment"])
def test_a_catalogue_of_the_users_own(own: Path, monkeypatch: pytest.MonkeyPatch, way: str, layout: str) -> None:
    if layout == "hardware":
        (own / "hardware").mkdir()
        for kind in ("gpus", "nodes"):
            (own / kind).rename(own / "hardware" / kind)
    option = ["--catalog", str(own)] if way == "option" else []
    if way == "environment":
        monkeypatch.setenv("SIMGPU_CATALOG", os.pathsep.join(["", str(own)]))
    row = json.loads(simgpu(*option, "run", "mine", "--format", "json", "--no-plots").stdout)["rows"][0]
    assert (row["model"], row["cluster"], row["gpu"], row["tp"]) == ("tiny-llama", "tiny-box", "tiny", 2)
    for kind, name in {"gpus": "tiny", "nodes": "tiny-box", "models": "tiny-llama", "experiments": "mine"}.items():
        names = [line.split()[0] for line in simgpu(*option, "list", kind).stdout.splitlines()]
        assert name in names and set(_names(kind)) < set(names)
    assert "a made-up datasheet" in simgpu(*option, "show", "tiny").stdout
    assert "gpu0" in simgpu(*option, "show", "tiny-box").stdout
    assert "256" in simgpu(*option, "show", "tiny-llama").stdout
    experiment = own / "experiments" / "mine.yaml"
    assert json.loads(simgpu(*option, "run", experiment, "--format", "json", "--no-plots").stdout)["rows"] == [row]


def test_a_users_file_goes_before_the_built_in_one(own: Path, prefill: Path) -> None:
    changed = (ROOT / "hardware/gpus/h100-sxm.yaml").read_text().replace("value: 3.35,", "value: 1.25,")
    _file(own / "gpus/h100-sxm.yaml", changed)
    text = simgpu("--catalog", own, "resolve", prefill).stdout
    assert json.loads(text)["scenarios"][0]["gpu.memory.bandwidth"]["value"] == 1.25e12
    assert json.loads(simgpu("resolve", prefill).stdout)["scenarios"][0]["gpu.memory.bandwidth"]["value"] == 3.35e12


def test_several_catalogues_are_searched_in_order(own: Path, tmp_path: Path) -> None:
    first = tmp_path / "first"
    _file(first / "gpus/tiny.yaml", TINY_GPU.replace("A GPU of the tests", "The nearer one"))
    assert "The nearer one" in simgpu("--catalog", first, "--catalog", own, "show", "tiny").stdout
    assert "A GPU of the tests" in simgpu("--catalog", own, "--catalog", first, "show", "tiny").stdout


@pytest.mark.parametrize("given", ["config.json", "folder", "other.json"])
def test_a_model_is_found_by_path(tmp_path: Path, given: str) -> None:
    name = "mine" if given != "other.json" else "other"
    file = _file(tmp_path / "mine" / ("other.json" if given == "other.json" else "config.json"), json.dumps(TINY_MODEL))
    path = file.parent if given == "folder" else file
    found = document(LLAMA, "--set", f"model={path}")
    assert len(found["rows"]) == 20
    assert {row["model"] for row in found["rows"]} == {name}
    scenario = found["scenarios"][0]
    assert scenario["model.hidden"]["value"] == 256 and str(path) in scenario["model.hidden"]["source"]
    assert scenario["model"] == {"value": str(path), "source": "--set"}


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
