"""BabelStream from papers and vendors' pages. The table comes with simgpu; each row names its page."""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.adapters.streams import StreamCall, streamed
from simgpu.lab.validation.batches import DTYPES, WIDTHS, Adapter, Machine, Part, Unpredicted
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Columns, Rows, Table

COLUMNS = Columns(
    positive=("elements", "latency_s"),
    words=("gpu", "op", "dtype"),
    optional=("suspicious", "tool", "citation"),
)

_READS = {"copy": 1.0, "mul": 1.0, "add": 2.0, "triad": 2.0}
"""Vectors that an operator of BabelStream reads; each writes one."""


def streams(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Copy, mul, add and triad of BabelStream."""
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        if dtype not in DTYPES:
            yield Unpredicted(op, at, f"no model of data type '{dtype}'")
            continue
        if op not in _READS:
            yield Unpredicted(op, at, f"no operator of BabelStream; expected one of {', '.join(_READS)}")
            continue
        size, width, reads = table.number("elements", at), WIDTHS[DTYPES[dtype]], _READS[op]
        given = {"elements": size, "reads": reads, "writes": 1.0}
        call = StreamCall("elementwise", "elementwise", DEFAULT, given, (reads + 1) * width * size, size, DTYPES[dtype])
        yield streamed(machine, at, op, dtype, call, ("op", "elements"))


SOURCE = Source("the column `citation` of each row", [Adapter("kernels", COLUMNS, streams)])
