"""Single operators of LLMCompass: matmul, softmax, layer norm and GELU on A100 and MI210.

How it was measured: torch, a host timer around the call and a synchronisation, median. The overhead of launch and
synchronisation is part of each time; layer norm and GELU are compiled by torch.compile.

Traps: on AMD the vector operators are in fp32, whatever the table says: twice the bytes fill the memory bandwidth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from simgpu.lab.validation.adapters.gemm import matmul
from simgpu.lab.validation.adapters.streams import StreamCall, streamed
from simgpu.lab.validation.batches import WIDTHS, Adapter, Machine, Part
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.gemm import GemmWork

SYNC_OVERHEAD = 25e-6
"""Launch and synchronisation that a host timer sees beside a matrix multiplication, s: the smallest of the table take
30 us on an A100 (PyTorch, time.time() around the call and a synchronisation), of which the kernel has 3 to 5 us."""

COLUMNS = Columns(
    positive=("m", "n", "io_bytes", "latency_s"),
    words=("gpu", "op", "dtype"),
    optional=("suspicious",),
    sparse=("k", "num_elements"),
)


def stream(op: str, m: Array, n: Array, amd: bool = False) -> StreamCall | None:
    """An operator on [m, n]: softmax by torch, layer norm and GELU by torch.compile. None where no model has it.

    On AMD the repository works in fp32, which its times confirm (twice the bytes fill the memory bandwidth).
    """
    dtype = "fp32" if amd else "fp16"
    width, size = WIDTHS[dtype], m * n
    shape: dict[str, Any] = {"rows": m, "cols": n}
    if op == "softmax":
        return StreamCall("softmax", "softmax", "torch-host", shape, 2 * width * size, 5 * size, dtype)
    if op == "layernorm":
        given: dict[str, Any] = shape | {"layer": True}
        return StreamCall(
            "normalization", "normalization", "torch-compile-host", given, 2 * width * size, 6 * size, dtype
        )
    if op == "gelu":
        given = {"elements": size, "function": "gelu"}
        return StreamCall("elementwise", "elementwise", "torch-compile-host", given, 2 * width * size, 10 * size, dtype)
    return None


def host_timed(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Calls timed by the host with a synchronisation: its overhead is part of each time."""
    for (op, dtype), at in table.split(rows, "op", "dtype"):
        if op == "matmul":
            work = GemmWork(*(table.number(name, at) for name in "mnk"))
            yield matmul(machine, at, dtype, work, overhead=SYNC_OVERHEAD)
        else:
            m, n = (table.number(name, at) for name in "mn")
            amd = machine.gpu.vendor.lower() == "amd"
            yield streamed(machine, at, op, dtype, stream(op, m, n, amd), ("op", "m", "n"))


SOURCE = Source(
    "https://github.com/PrincetonUniversity/LLMCompass at 2e015fd2e, BSD-3: ae/figure5/{ab,cf,de,g}/real_hardware",
    [Adapter("kernels", COLUMNS, host_timed)],
)
