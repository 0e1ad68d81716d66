"""Element-wise operators, softmax and layer norm of NeuSight on a [rows, cols] tensor in fp32.

How it was measured: torch 2.1, the host side of each call included. Names that end in u have a number for the second
operand.

Traps: small tensors stay in L2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simgpu.lab.validation.adapters.streams import StreamCall, streamed
from simgpu.lab.validation.batches import Adapter, Machine, Part
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Array, Columns, Rows, Table

COLUMNS = Columns(
    positive=("rows", "cols", "io_bytes", "latency_s"), words=("gpu", "op", "dtype"), optional=("suspicious",)
)

PAIRS = {"add": "add", "mul": "add", "div": "exp", "pow": "pow"}
"""Operators of two tensors, and what their arithmetic costs."""
SINGLES = {"addu": "add", "mulu": "add", "divu": "exp", "powu": "pow", "relu": "add", "tanh": "exp", "gelu": "gelu"}
"""Operators of one tensor (u: the other operand is a number)."""


def stream(op: str, rows: Array, cols: Array) -> StreamCall | None:
    """An operator on a [rows, cols] tensor in fp32; None where there is no model of it."""
    library, size = "torch-stream", rows * cols
    shape: dict[str, Any] = {"rows": rows, "cols": cols}
    if op == "softmax":
        return StreamCall("softmax", "softmax", library, shape, 8 * size, 5 * size, "fp32")
    if op == "ln":
        return StreamCall(
            "normalization", "normalization", library, shape | {"layer": True}, 8 * size, 6 * size, "fp32"
        )
    reads = 2.0 if op in PAIRS else 1.0
    function = (PAIRS | SINGLES).get(op)
    if function is None:
        return None
    given: dict[str, Any] = {"elements": size, "reads": reads, "writes": 1.0, "function": function}
    return StreamCall("elementwise", "elementwise", library, given, (reads + 1) * 4 * size, size, "fp32")


def operators(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Streaming operators in fp32."""
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        call = stream(op, table.number("rows", at), table.number("cols", at))
        yield streamed(machine, at, op, dtype, call, ("op", "rows", "cols"))


SOURCE = Source(
    "https://github.com/sitar-lab/NeuSight at 6945927d9, MIT: scripts/asplos/data/dataset/test/{elem,softmax,ln}.csv",
    [Adapter("kernels", COLUMNS, operators)],
)
