"""Reports of Nsight Systems, exported to SQLite: the same records and the same step as from PyTorch's profiler."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from traces_by_hand import H100, Trace, step

from simgpu.cli import main
from simgpu.lab.replay.flow import graph_of
from simgpu.lab.traces.kineto import read_kineto
from simgpu.lab.traces.nsight import read_nsight

PID, TID = 4321, 4322
THREAD = (PID << 24) | TID
SCHEMA = """
CREATE TABLE StringIds (id INTEGER PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_KERNEL (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
  demangledName INTEGER NOT NULL, shortName INTEGER NOT NULL, gridX INTEGER, blockX INTEGER);
CREATE TABLE CUPTI_ACTIVITY_KIND_MEMCPY (start INTEGER NOT NULL, end INTEGER NOT NULL, deviceId INTEGER NOT NULL,
  contextId INTEGER NOT NULL, streamId INTEGER NOT NULL, correlationId INTEGER, globalPid INTEGER,
  bytes INTEGER NOT NULL, copyKind INTEGER NOT NULL);
CREATE TABLE CUPTI_ACTIVITY_KIND_RUNTIME (start INTEGER NOT NULL, end INTEGER NOT NULL, eventClass INTEGER NOT NULL,
  globalTid INTEGER, correlationId INTEGER, nameId INTEGER NOT NULL, returnValue INTEGER NOT NULL);
CREATE TABLE NVTX_EVENTS (start INTEGER NOT NULL, end INTEGER, eventType INTEGER NOT NULL, text TEXT,
  globalTid INTEGER, textId INTEGER);
CREATE TABLE TARGET_INFO_GPU (id INTEGER NOT NULL, name TEXT NOT NULL, totalMemory INTEGER, smCount INTEGER);
"""


def export(trace: Trace, file: Path) -> Path:
    """The trace of a profiler as Nsight Systems would have written the same step."""
    base = sqlite3.connect(file)
    base.executescript(SCHEMA)
    names: dict[str, int] = {}

    def named(text: str) -> int:
        return names.setdefault(text, len(names) + 1)

    for event in trace.events:
        start = round(event["ts"] * 1000)
        end, args, kind = start + round(event["dur"] * 1000), event["args"], event["cat"]
        number = args.get("correlation")
        if kind == "kernel":
            row = (start, end, args["device"], 1, args["stream"], number, PID << 24, named(event["name"]), 0, 1, 1)
            base.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_KERNEL VALUES ({','.join('?' * 11)})", row)
        elif kind == "gpu_memcpy":
            row = (start, end, args["device"], 1, args["stream"], number, PID << 24, 512, 1)
            base.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_MEMCPY VALUES ({','.join('?' * 9)})", row)
        elif kind == "cuda_runtime":
            row = (start, end, 0, THREAD, number, named(event["name"] + "_v7000"), 0)
            base.execute(f"INSERT INTO CUPTI_ACTIVITY_KIND_RUNTIME VALUES ({','.join('?' * 7)})", row)
        else:
            sizes = f", op_id = 3, sizes = {json.dumps(args['Input Dims'])}, input_op_ids = [(2,0)]"
            text = named(event["name"] + (sizes if args["Input Dims"] else ""))
            base.execute("INSERT INTO NVTX_EVENTS VALUES (?,?,59,NULL,?,?)", (start, end, THREAD, text))
    base.executemany("INSERT INTO StringIds VALUES (?, ?)", [(number, text) for text, number in names.items()])
    base.execute(
        "INSERT INTO TARGET_INFO_GPU VALUES (0, ?, ?, ?)", (H100["name"], H100["totalGlobalMem"], H100["numSms"])
    )
    base.commit()
    base.close()
    return file


def run(*arguments: object) -> Any:
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_the_same_step_is_read_from_either_tool(tmp_path: Path) -> None:
    """Records, their kernels, launches and gaps; types come from the names of kernels, values are not told."""
    found = read_nsight(export(step(), tmp_path / "report.sqlite"))
    known = read_kineto(step().data(), tmp_path / "step.json")
    assert found.gpus == known.gpus and len(found.records) == len(known.records)
    for one, other in zip(found.records, known.records, strict=True):
        assert one.name == other.name or other.kind == "collective"
        assert list(one.shapes) == list(other.shapes) or other.kind == "collective"
        assert one.seconds == pytest.approx(other.seconds) and len(one.ran) == len(other.ran)
    graphs = [graph_of(one.records, one.waits) for one in (found, known)]
    for one, other in zip(*(graph.nodes for graph in graphs), strict=True):
        assert (one.after, one.launch, one.ran.stream) == (other.after, other.launch, other.ran.stream)
        assert one.gap == pytest.approx(other.gap, abs=1e-9)


def test_a_report_is_listed_compared_and_played(tmp_path: Path) -> None:
    trace = step()
    for event in trace.events:
        event["name"] = event["name"].replace("nvjet_hsh_128x256", "sm90_xmma_gemm_bf16bf16_bf16f32_128x256")
    file, plain = export(trace, tmp_path / "report.sqlite"), trace.write(tmp_path / "step.json")
    assert "report of Nsight Systems" in run("trace", "list", file).stdout
    rows = [json.loads(run("trace", "compare", one, "--no-plots", "-o", tmp_path, "--format", "json").stdout)["rows"]
            for one in (file, plain)]  # fmt: skip
    products = [next(row for row in some if row["operator"] == "aten::mm") for some in rows]
    assert products[0]["dtype"] == "bf16" and products[0]["predicted_s"] == products[1]["predicted_s"] > 0
    same = json.loads(run("replay", file, "--format", "json").stdout)
    assert same["predicted_s"] == pytest.approx(same["measured_s"], rel=1e-12)
    there = json.loads(run("replay", file, "--to-gpu", "b200-sxm", "--format", "json").stdout)
    assert {row["operator"]: row["factor"] for row in there["operators"]}["aten::mm"] < 0.6


def test_reports_that_are_no_good_are_one_line(tmp_path: Path) -> None:
    whole = export(step(), tmp_path / "report.sqlite").read_bytes()

    def changed(name: str, *statements: str) -> None:
        file = tmp_path / name
        file.write_bytes(whole)
        base = sqlite3.connect(file)
        for one in statements:
            base.execute(one)
        base.commit()
        base.close()

    (tmp_path / "cut.sqlite").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "noise.sqlite").write_bytes(whole[:100] + bytes(5000))
    (tmp_path / "step.nsys-rep").write_bytes(b"\x00\x01binary")
    sqlite3.connect(tmp_path / "other.sqlite").execute("CREATE TABLE cookies (id INTEGER)").connection.commit()
    changed("empty.sqlite", "DELETE FROM CUPTI_ACTIVITY_KIND_KERNEL", "DELETE FROM CUPTI_ACTIVITY_KIND_MEMCPY")
    changed("ranks.sqlite", "UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET globalPid = 5 WHERE rowid = 1")
    changed("gpus.sqlite", "UPDATE CUPTI_ACTIVITY_KIND_KERNEL SET deviceId = 1 WHERE rowid = 1")
    endless = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x AS start, x AS end FROM c"
    changed("bomb.sqlite", "DROP TABLE CUPTI_ACTIVITY_KIND_KERNEL", "DELETE FROM CUPTI_ACTIVITY_KIND_MEMCPY",
            f"CREATE VIEW CUPTI_ACTIVITY_KIND_KERNEL AS {endless}")  # fmt: skip
    for name, said in (
        ("cut.sqlite", "is cut off or damaged"),
        ("noise.sqlite", "is cut off or damaged"),
        ("step.nsys-rep", "nsys export --type sqlite"),
        ("other.sqlite", "holds no tables of Nsight Systems"),
        ("empty.sqlite", "holds no kernels on a GPU"),
        ("ranks.sqlite", "kernels of 2 processes"),
        ("gpus.sqlite", "kernels of 2 GPUs"),
        ("bomb.sqlite", "holds no kernels on a GPU"),
    ):
        done = run("replay", tmp_path / name, "--gpu", "h100-sxm", "-o", tmp_path / "out.json")
        assert done.exit_code == 2 and said in done.stderr, (name, done.output, done.exception)
        assert done.stderr.count("\n") == 1 and not (tmp_path / "out.json").exists()
