"""Kinds of rows of a table, and the model that predicts each.

A table may hold one kind of row or, with a column `what`, several; without it the columns decide. Tables of the
shared folder are known by their names and read as `simgpu validate` reads them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.inherit import DEFAULT
from simgpu.lab import products as timed_products
from simgpu.lab.validation.adapters import attention, collectives
from simgpu.lab.validation.adapters.gemm import LIBRARIES
from simgpu.lab.validation.batches import (
    DTYPES,
    KINDS,
    WIDTHS,
    Adapter,
    Batch,
    Machine,
    Part,
    Unpredicted,
    roofline,
    timed,
    unpredictable,
)
from simgpu.lab.validation.cells import ENDINGS, Cells, Skipped, read_cells
from simgpu.lab.validation.sources import aic_custom_allreduce, aic_moe, known
from simgpu.lab.validation.sources.aic_gemm import COPIES
from simgpu.lab.validation.tables import Columns, Rows, Table, table_of

CLASSES = {"stream": "vector", "l2": "vector", "gemm": "gemm", "attention": "attention", "moe": "moe"}
CLASSES["nccl"] = "collective"
"""Class of constants that a kind of row says something about."""

SUSTAINED = "sustained"
"""Value of the column `regime` for a time from a run long enough to be throttled in full; others are bursts."""

COPY, READ = "copy", "read"
READ_ROWS = 1024.0
"""Rows whose sums a `read` takes, in fp32: `bytes` in all."""


# ---- adapters of rows that `simgpu measure` writes ---------------------------------------------------


def products(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """C[m, n] = A[m, k] B[n, k]^T, with what the rows say of batch, rotation of operands and regime."""
    for (dtype, batch, turns, regime), at in table.split(rows, "dtype", "batch", "rotation", "regime"):
        refused = unpredictable(machine, "gemm", at, dtype)
        if refused:
            yield refused
            continue
        count, rotation = _number(batch, 1.0), _number(turns, COPIES)
        if count is None or rotation is None:
            key, text = ("batch", batch) if count is None else ("rotation", turns)
            yield Unpredicted("gemm", at, f"{shown(text)}: expected a number from one on", key=key)
            continue
        name, library = DTYPES[dtype], LIBRARIES.get(dtype, DEFAULT)
        m, n, k = (table.number(column, at) for column in "mnk")
        width = WIDTHS[name]
        moved = count * ((m * k + k * n) * width + m * n * max(width, 2.0))
        call = partial(
            timed, machine.timer.gemm, 0.0, m, n, k, count, dtype=name, library=library, rotation=rotation,
            sustained=regime == SUSTAINED,
        )  # fmt: skip
        baseline = partial(roofline, 2 * count * m * n * k, moved, machine.peak(name), machine.bandwidth)
        yield Batch("gemm", dtype, at, call, baseline, "gemm", library, ("m", "n", "k"))


def _number(text: str, missing: float) -> float | None:
    """A number from one on of a column that may be missing; None for anything else."""
    try:
        value = float(text or missing)
    except ValueError:
        return None
    return value if 1 <= value < math.inf else None


def streams(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Copies of `bytes` within the GPU's memory, and sums over `bytes`, back to back: from L2 where they fit it."""
    for (op,), at in table.split(rows, "op"):
        size = table.number("bytes", at)
        if op == COPY:
            call = partial(timed, machine.timer.vector.memory_copy, 0.0, size)
        elif op == READ:
            call = partial(timed, machine.timer.vector.reduction, 0.0, READ_ROWS, size / 4 / READ_ROWS, dtype="fp32")
        else:
            yield Unpredicted("stream", at, f"unknown operation {shown(op)}{nearest(op, (COPY, READ))}", key="op")
            continue
        moved = size * (2.0 if op == COPY else 1.0)
        baseline = partial(roofline, 0 * size, moved, 1.0, machine.bandwidth)
        yield Batch(op, "", at, call, baseline, "vector", DEFAULT, ("op", "bytes"))


def attentions(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Prefill, or decode where one query meets a cache."""
    decode = (table.number("q_len", rows) == 1) & (table.number("past_kv_len", rows) > 0)
    if not decode.all():
        yield from attention.prefill(table, rows[~decode], machine)
    if decode.any():
        yield from attention.decode(table, rows[decode], machine)


def _served(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Collectives as nccl-tests times them, or the kernels of serving frameworks."""
    custom = table.word("cuda_graph", rows) != ""
    if not custom.all():
        yield from collectives.nccl_tests(table, rows[~custom], machine)
    if custom.any():
        yield from aic_custom_allreduce.served(table, rows[custom], machine)


_STREAM = Adapter("kernels", Columns(("bytes", "latency_s"), words=("gpu", "op"), optional=("suspicious",)), streams)
_COLLECTIVES = aic_custom_allreduce.COLUMNS
_READ: dict[str, Adapter] = {
    "stream": _STREAM,
    "l2": _STREAM,
    "gemm": Adapter(
        "kernels",
        Columns(
            ("m", "n", "k", "latency_s"),
            words=("gpu", "dtype"),
            optional=("batch", "rotation", "regime", "suspicious"),
        ),
        products,
    ),
    "attention": Adapter("kernels", attention.COLUMNS, attentions),
    "moe": Adapter("kernels", aic_moe.COLUMNS, aic_moe.layers),
    "nccl": Adapter(
        "collectives",
        replace(
            _COLLECTIVES,
            words=("gpu", "collective"),
            optional=(*_COLLECTIVES.optional, "cuda_graph"),
            renamed={"link": "interconnect", "network": "inter_node_link"},
        ),
        _served,
    ),
}  # fmt: skip
"""Adapter of each kind of row."""

_WHAT = "what"


def read(
    file: Path, wanted: Collection[str] = KINDS, gpu: str | None = None
) -> tuple[list[tuple[Table, Adapter]], list[Skipped], int]:
    """The rows of a file, by kind, with the adapter of each; those of no kind; the number of rows of other kinds.

    A tool's own output names no GPU: its rows are of `gpu`. Raises `InputError` for a file that is neither such a table
    nor of a tool that times products.
    """
    source = next((file.name.removesuffix(ending) for ending in reversed(ENDINGS) if file.name.endswith(ending)), None)
    if source is None or timed_products.profiled(file):
        source, cells = "", _of_tool(file, gpu)
    else:
        cells = read_cells(file)
    if not cells.rows and not cells.skipped:
        raise InputError("holds no rows below its header", file=file, line=1)
    published = known()[source].adapters[0] if source in known() else None
    if published is not None and published.target in ("kernels", "collectives"):
        return [(table_of(source, file, cells, published.columns), published)], [], 0
    tables, unwanted = [], 0
    by_kind, skipped = _by_kind(file, cells)
    for kind, rows in by_kind.items():
        adapter = _READ[kind]
        if kind not in wanted:
            unwanted += len(rows)
            continue
        if kind == "nccl" and "num_nodes" in cells.header:
            columns = adapter.columns
            adapter = replace(adapter, columns=replace(columns, positive=(*columns.positive, "num_nodes")))
        tables.append((table_of(source, file, cells.chosen(rows), adapter.columns), adapter))
    return tables, [*cells.skipped, *skipped], unwanted


def _of_tool(file: Path, gpu: str | None) -> Cells:
    """What a tool that times products printed, as a table. Raises `InputError`."""
    tool, _ = timed_products.products(file)
    if not tool:
        forms = f"{' or '.join(ENDINGS)}; or output of mamf-finder, cutlass_profiler or gpu_burn"
        raise InputError(f"expected a table, {forms}", file=file)
    if gpu is None:
        raise InputError(f"{tool} does not say of which GPU; expected --gpu NAME with it", file=file, key="--gpu")
    lines, rows = timed_products.rows(file, gpu)
    if not rows:
        raise InputError(f"is of {tool}, and holds no product of a type that can be fitted", file=file)
    return Cells(list(timed_products.TABLE), lines, rows)


def _by_kind(file: Path, cells: Cells) -> tuple[dict[str, list[int]], list[Skipped]]:
    """Positions of rows by kind, and the rows of none."""
    if _WHAT not in cells.header:
        return {_kind_of(cells.header, file): list(range(len(cells.rows)))}, []
    place = cells.header.index(_WHAT)
    positions: dict[str, list[int]] = {}
    skipped = []
    for i, row in enumerate(cells.rows):
        kind = row[place]
        if kind in KINDS:
            positions.setdefault(kind, []).append(i)
        else:
            problem = f"unknown kind of row {shown(kind)}{nearest(kind, KINDS)}"
            skipped.append(Skipped(cells.lines[i], _WHAT, problem, "a kind of row"))
    return positions, skipped


def _kind_of(header: Collection[str], file: Path) -> str:
    """The kind whose columns a header has most of."""

    def share(kind: str) -> float:
        needed = [name for name in _READ[kind].columns.required if name not in ("gpu", "latency_s", "dtype")]
        return sum(name in header for name in needed) / len(needed)

    best = max((kind for kind in KINDS if kind != "l2"), key=share)
    if share(best) < 0.5:
        forms = "; ".join(f"{kind}: {', '.join(_READ[kind].columns.required)}" for kind in ("gemm", "stream", "nccl"))
        raise InputError(f"its columns are those of no kind of measurement ({forms})", file=file, line=1)
    return best


__all__ = ["CLASSES", "COPY", "KINDS", "READ", "READ_ROWS", "SUSTAINED", "read"]
