"""Kernels of a new machine: BabelStream, and tables as `simgpu measure` writes them, against the GPU's prediction.

BabelStream (github.com/UoB-HPC/BabelStream) prints MB/s that count what each kernel reads and writes: two arrays for
Copy, Mul and Dot, three for Add and Triad.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.derive import base_name
from simgpu.lab.acceptance.checks import Check
from simgpu.lab.calibration import kinds
from simgpu.lab.calibration.trial import library_behind
from simgpu.lab.launchers import bare
from simgpu.lab.logs.text import lines_of
from simgpu.lab.validation.batches import Batch, Bench, Machine
from simgpu.lab.validation.gpus import resolve
from simgpu.lab.validation.tables import Table
from simgpu.timing.timer import GPUTimer
from simgpu.timing.uncertainty import interval

_STREAM = re.compile(r"^\s*(Copy|Mul|Add|Triad)\s+(\d+(?:\.\d+)?)\s+\d")
_HEAD = re.compile(r"^\s*Function\s+MBytes/sec")
_ARRAY = re.compile(r"Array size:\s*([\d.]+)\s*(KB|MB|GB)")
_SIZES = {"KB": 1e3, "MB": 1e6, "GB": 1e9}
ARRAY = 268e6
"""Bytes of an array of BabelStream where a log does not say: its default, 2^25 doubles."""
MOST = 10_000
"""Most rows of a table that become checks."""


def is_stream(text: str) -> bool:
    """True for the results of BabelStream."""
    return any(_HEAD.match(bare(line)) for line in text.splitlines())


def stream(file: Path, cluster: Cluster, catalogue: Catalogue) -> Iterator[Check]:
    """A check of each kernel: what a copy of an array reaches."""
    del catalogue
    size, runs = ARRAY, 0
    timer = GPUTimer(cluster.gpu, cluster.kernel)
    for number, raw in lines_of(file):
        line = bare(raw)
        if _HEAD.match(line):
            runs += 1
        elif told := _ARRAY.search(line):
            size = float(told[1]) * _SIZES[told[2]]
        elif runs and (row := _STREAM.match(line)):
            seconds = np.atleast_1d(np.asarray(timer.vector.memory_copy(size).seconds, float))
            low, high = interval("copy", seconds, **whose(cluster, "vector"))
            rate = 2 * size / float(seconds[0])
            yield Check(str(file), f"BabelStream {row[1]}", f"GPU of run {runs}", float(row[2]) * 1e6, "B/s", rate,
                        rate / float(high[0]), rate / float(low[0]), f"{file}|{row[1]}", (f"run {runs}",),
                        note=f"line {number}")  # fmt: skip


def is_table(text: str) -> bool:
    """True for a table of kernels: a line of columns with those of a kind."""
    header = text.lstrip().partition("\n")[0]
    return "," in header and ("what" in header.split(",") or {"m", "n", "k"} <= set(header.split(",")))


def table(file: Path, cluster: Cluster, catalogue: Catalogue) -> Iterator[Check]:
    """A check of each row that the GPU's models predict; by `gpu_index`, where the table has that column."""
    tables, skipped, _ = kinds.read(file)
    made = 0
    machine = Machine(cluster.gpu.name, cluster.gpu, Bench(catalogue))
    for one, adapter in tables:
        if adapter.target != "kernels":
            continue
        _of_this_gpu(one, cluster, catalogue)
        for part in adapter.parts(one, np.arange(len(one), dtype=np.intp), machine):
            if not isinstance(part, Batch):
                continue
            seconds = np.broadcast_to(np.asarray(part.predict(), float), part.rows.shape)
            low, high = interval(part.op, seconds, **whose(cluster, part.kind, library_behind(part, machine)))
            measured = one.number(adapter.measured, part.rows)
            for i, row in enumerate(part.rows.tolist()):
                made += 1
                if made > MOST:
                    raise InputError(f"holds more than {MOST:,} rows", file=file, line=int(one.lines[row]))
                shape = ", ".join(f"{name} {_value(one, name, row)}" for name in part.shape)
                yield Check(
                    str(file),
                    f"{part.op} {part.dtype} {shape}".replace("  ", " "),
                    "GPU",
                    float(measured[i]),
                    "s",
                    float(seconds[i]),
                    float(seconds[i] * low[i]),
                    float(seconds[i] * high[i]),
                    note=f"line {int(one.lines[row])}",
                )
    if not made:
        why = f" (line {skipped[0].line}: {skipped[0].problem})" if skipped else ""
        raise InputError(f"holds no row that is predicted on {cluster.gpu.name}{why}", file=file)


def _of_this_gpu(one: Table, cluster: Cluster, catalogue: Catalogue) -> None:
    """Raise `InputError` for rows of another GPU than the cluster's."""
    mine = base_name(cluster.gpu.name)
    for (name,), rows in one.split(np.arange(len(one), dtype=np.intp), "gpu"):
        if name and resolve(base_name(name), catalogue.names("gpus")) != mine:
            raise one.error(int(rows[0]), f"is of {name}; '{cluster.name}' has {mine}", "gpu")


def _value(one: Any, name: str, row: int) -> str:
    return f"{one.numbers[name][row]:g}" if name in one.numbers else str(one.words[name][row])


def whose(cluster: Cluster, kind: str, library: str = "default") -> dict[str, Any]:
    """What an interval depends on beside the kernel."""
    kernel = cluster.kernel
    return {"architecture": kernel.architecture, "regime": kernel.regime(kind, library), "library": library,
            "seen": kernel.by_user(kind, library)}  # fmt: skip


__all__: Sequence[str] = ["is_stream", "is_table", "stream", "table", "whose"]
