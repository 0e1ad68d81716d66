"""Traces of Nsight Systems, as `nsys export --type sqlite` writes them: the same records as of PyTorch's profiler.

Tables and columns: https://docs.nvidia.com/nsight-systems/UserGuide/ (SQLite Schema Reference): kernels, copies and
calls of CUDA by CUPTI, ranges of NVTX, names in `StringIds`; ns; `globalTid` holds the process in bits 24 to 47.
Operators with the sizes of their inputs are ranges that PyTorch makes under
`torch.autograd.profiler.emit_nvtx(record_shapes=True)`: 'aten::mm, op_id = 7, sizes = [[8, 4], [4, 2]]' (`getNvtxStr`
in torch/csrc/profiler/util.cpp). They do not say types, which are read from the names of kernels.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from simgpu.errors import InputError
from simgpu.event_stream import MOST_KEPT
from simgpu.lab.traces.kineto import WAITS, read_kineto
from simgpu.lab.traces.records import Recorded
from simgpu.reading import readable

MAGIC = b"SQLite format 3\0"
"""The first bytes of a database."""
REPORTS = (".nsys-rep", ".qdrep")
"""Endings of reports that are not exported."""
NAMES, GPUS, NVTX, CALLS = "StringIds", "TARGET_INFO_GPU", "NVTX_EVENTS", "CUPTI_ACTIVITY_KIND_RUNTIME"
ON_GPU = {
    "CUPTI_ACTIVITY_KIND_KERNEL": "kernel",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "gpu_memcpy",
    "CUPTI_ACTIVITY_KIND_MEMSET": "gpu_memset",
}
"""Tables of what ran on GPUs, and the kind of such events of PyTorch's profiler."""
COPIES = {1: "Memcpy HtoD", 2: "Memcpy DtoH", 8: "Memcpy DtoD", 10: "Memcpy PtoP"}
"""Kinds of copies, of CUpti_ActivityMemcpyKind."""
IN_A_MICROSECOND = 1e3
LONGEST = 1_000_000
"""Characters of a name that are read at most."""

_VERSION = re.compile(r"_v\d+$")
_SIZES = re.compile(r", sizes = (\[.*?\])(?:, input_op_ids|$)")

Row = Mapping[str, Any]


def is_database(start: bytes) -> bool:
    """True for the first bytes of a SQLite database."""
    return start.startswith(MAGIC)


def read_nsight(file: Path) -> Recorded:
    """The records of an exported report. Raises `InputError`."""
    where = file.resolve().as_uri() + "?mode=ro&immutable=1"
    try:
        with readable(file), closing(sqlite3.connect(where, uri=True)) as base:
            base.row_factory = sqlite3.Row
            base.execute("PRAGMA trusted_schema=OFF")
            base.execute("PRAGMA query_only=ON")
            data = _Export(base, file).data()
    except (sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
        said = "is cut off or damaged" if isinstance(error, sqlite3.DatabaseError) else "is damaged"
        raise InputError(
            f"{said}: {str(error)[:80]}; expected what nsys export --type sqlite writes", file=file
        ) from None
    recorded = read_kineto(data, file)
    shapes = any(record.shapes for record in recorded.records)
    notes = tuple(note for note in recorded.notes if "record_shapes" not in note)
    hint = "types of operators are read from the names of their kernels" if shapes else NO_SHAPES
    return replace(recorded, what="report of Nsight Systems", notes=(*notes, hint))


NO_SHAPES = "no shapes: record inside torch.autograd.profiler.emit_nvtx(record_shapes=True) to compare operators"


class _Export:
    """The tables of a report as events of PyTorch's profiler."""

    def __init__(self, base: sqlite3.Connection, file: Path) -> None:
        self.base, self.file = base, file
        self.tables = {row["name"] for row in base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not self.tables & {NAMES, *ON_GPU}:
            raise InputError(
                "holds no tables of Nsight Systems; expected what nsys export --type sqlite writes", file=file
            )
        self.names = {row["id"]: str(row["value"])[:LONGEST] for row in self._rows(NAMES, "id", "value")}
        self.count = 0

    def data(self) -> dict[str, Any]:
        """The report as the profiler's trace. Raises `InputError`."""
        events = [event for table, kind in ON_GPU.items() for event in self._on_gpu(table, kind)]
        if not events:
            raise InputError("holds no kernels on a GPU; record with nsys profile --trace=cuda,nvtx", file=self.file)
        processes = {event["process"] for event in events}
        if len(processes) > 1:
            said = f"holds kernels of {len(processes)} processes; expected the report of one rank"
            raise InputError(f"{said}: run nsys profile inside the launcher, not around it", file=self.file)
        launched = {event["args"]["correlation"] for event in events}
        events += self._calls(launched)
        events += self._ranges()
        return {"traceEvents": events, "deviceProperties": list(self._gpus())}

    def _rows(self, table: str, *columns: str) -> Iterator[Row]:
        """Rows of a table with columns that it may lack, which are None then."""
        if table not in self.tables:
            return
        there = {row["name"] for row in self.base.execute(f"PRAGMA table_info({table})")}
        wanted = ", ".join(f'"{name}"' if name in there else f'NULL AS "{name}"' for name in columns)
        yield from self.base.execute(f"SELECT {wanted} FROM {table}")

    def _event(self, kind: str, name: str, row: Row, args: dict[str, Any], **more: Any) -> dict[str, Any]:
        self.count += 1
        if self.count > MOST_KEPT:
            said = f"holds more than {MOST_KEPT:,} kernels, launches and ranges"
            raise InputError(f"{said}; record fewer steps", file=self.file)
        start, end = _whole(row["start"]), _whole(row["end"])
        times = {"ts": start / IN_A_MICROSECOND, "dur": max(end - start, 0) / IN_A_MICROSECOND}
        return {"ph": "X", "cat": kind, "name": name, **times, "args": args, **more}

    def _on_gpu(self, table: str, kind: str) -> Iterator[dict[str, Any]]:
        columns = ("start", "end", "deviceId", "streamId", "correlationId", "globalPid", "demangledName", "shortName",
                   "copyKind")  # fmt: skip
        for row in self._rows(table, *columns):
            args = {"device": row["deviceId"], "stream": row["streamId"], "correlation": row["correlationId"]}
            name = (
                self.names.get(row["demangledName"])
                or self.names.get(row["shortName"])
                or COPIES.get(row["copyKind"], kind)
            )
            yield self._event(kind, name, row, args, pid=row["deviceId"], tid=row["streamId"], process=row["globalPid"])

    def _calls(self, launched: set[Any]) -> Iterator[dict[str, Any]]:
        """Calls of CUDA that launched something, or waited."""
        for row in self._rows(CALLS, "start", "end", "globalTid", "correlationId", "nameId"):
            name = _VERSION.sub("", self.names.get(row["nameId"], ""))
            if row["correlationId"] in launched or name.lower().endswith(WAITS):
                yield self._event("cuda_runtime", name, row, {"correlation": row["correlationId"]}, **_thread(row))

    def _ranges(self) -> Iterator[dict[str, Any]]:
        """Ranges of NVTX: operators of PyTorch, and whatever else was marked."""
        for row in self._rows(NVTX, "start", "end", "globalTid", "text", "textId"):
            if row["end"] is None or _whole(row["end"]) < _whole(row["start"]):
                continue
            text = str(row["text"] or self.names.get(row["textId"], ""))[:LONGEST]
            name, args = text.partition(", ")[0], _arguments(text)
            kind = "cpu_op" if "::" in name or args else "user_annotation"
            yield self._event(kind, name, row, args, **_thread(row))

    def _gpus(self) -> Iterator[dict[str, Any]]:
        for row in self._rows(GPUS, "id", "name", "totalMemory", "smCount"):
            yield {"id": row["id"], "name": row["name"], "totalGlobalMem": row["totalMemory"], "numSms": row["smCount"]}


def _thread(row: Row) -> dict[str, Any]:
    thread = _whole(row["globalTid"])
    return {"pid": thread >> 24 & 0xFFFFFF, "tid": thread}


def _whole(value: Any) -> int:
    return value if isinstance(value, int) else 0


def _arguments(text: str) -> dict[str, Any]:
    """The sizes of inputs that the range of an operator says."""
    found = _SIZES.search(text)
    if not found:
        return {}
    try:
        sizes = json.loads(found[1])
    except (ValueError, RecursionError):
        return {}
    return {"Input Dims": sizes, "Input type": ["" for _ in sizes]}


__all__ = ["MAGIC", "REPORTS", "is_database", "read_nsight"]
