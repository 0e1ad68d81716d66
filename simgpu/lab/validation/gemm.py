"""Adapters of tables of matrix multiplications."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.batches import DTYPES, WIDTHS, Batch, Machine, Part, roofline, unpredictable
from simgpu.lab.validation.tables import Array, Rows, Table
from simgpu.timing.matrix_timer import quantise_time

LIBRARIES = {"fp8": "fp8-scaled-mm", "fp8_block": "fp8-block", "nvfp4": "nvfp4", "float32": "simt"}
"""Which library the tables of served models mean with a data type."""

COPIES = 6.0
"""Copies of operands that the served tables rotate in one CUDA graph (MANIFEST of the tables)."""

EAGER_OVERHEAD = 30e-6
"""What launching from PyTorch adds to a kernel that is timed alone, s: NeuSight's smallest kernels take 24 to 36 us on
every GPU, fits of its tables 23 to 47 us."""

SYNC_OVERHEAD = 25e-6
"""Launch and synchronisation that a host timer sees beside a matrix multiplication, s: LLMCompass' smallest take
30 us on an A100 (PyTorch, time.time() around the call and a synchronisation), of which the kernel has 3 to 5 us."""


def linear(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """y[m, n] = x[m, k] W[n, k]^T as inference servers run it; narrow types with the quantisation of x."""
    for (dtype,), at in table.split(rows, "dtype"):
        m, n, k = (table.number(name, at) for name in "mnk")
        library = LIBRARIES.get(dtype, DEFAULT)
        yield matmul(machine, at, dtype, m, n, k, library=library, rotation=COPIES)


def plain(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Matrix multiplications alone, of any type: narrow operands are given, not quantised on the way."""
    names = ["dtype", *(["kernel_source"] if "kernel_source" in table.words else [])]
    for (dtype, *source), at in table.split(rows, *names):
        refused = unpredictable(machine, "gemm", at, dtype, "gemm")
        if refused:
            yield refused
            continue
        m, n, k = (table.number(name, at) for name in "mnk")
        block = source == ["deep_gemm"]
        library = "fp8-block" if block else machine.timer.matrix_library(DTYPES.get(dtype, dtype))
        constants = machine.timer.matrix_constants(library)
        saved: Array | float = 0.0
        if "quantise_bytes" in constants:
            saved = -quantise_time(m, k, **{**machine.timer.device, **constants}).seconds
        yield matmul(machine, at, dtype, m, n, k, library=library, overhead=saved)


def single_precision(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """linear (with bias; the batch is part of m) and bmm on the vector units, without TF32."""
    for (dtype, op), at in table.split(rows, "dtype", "op"):
        m, n, k, batch = (table.number(name, at) for name in ("m", "n", "k", "batch"))
        if op == "linear":
            m, batch = batch * m, np.ones_like(m)
        shape = ("op", "batch", "m", "n", "k")
        library = LIBRARIES.get(dtype, DEFAULT)
        yield matmul(machine, at, dtype, m, n, k, batch, library, EAGER_OVERHEAD, shape=shape, rotation=1.0)


def matmul(
    machine: Machine,
    rows: Rows,
    dtype: str,
    m: Array,
    n: Array,
    k: Array,
    batch: Array | float = 1.0,
    library: str = DEFAULT,
    overhead: Array | float = 0.0,
    shape: tuple[str, ...] = ("m", "n", "k"),
    rotation: float = np.inf,
) -> Part:
    """A batch of matrix multiplications; `overhead` is what the way of measuring adds to each, s.

    `rotation` is how many such operands are used in turn (inf: always cold ones).
    """
    refused = unpredictable(machine, "gemm", rows, dtype, "gemm")
    if refused:
        return refused
    name = DTYPES[dtype]
    width = WIDTHS[name]
    flops = 2 * batch * m * n * k
    moved = batch * ((m * k + k * n) * width + m * n * max(width, 2.0))
    return Batch(
        "gemm",
        dtype,
        rows,
        partial(timed, machine.timer.gemm, overhead, m, n, k, batch, dtype=name, library=library, rotation=rotation),
        partial(roofline, flops, moved, machine.peak(name), machine.bandwidth),
        "gemm",
        library,
        shape,
    )


def timed(model: Any, overhead: float | Array, *args: Any, **named: Any) -> Array:
    """Seconds of a model, with what the way of measuring adds."""
    return np.asarray(model(*args, **named).seconds, float) + overhead
