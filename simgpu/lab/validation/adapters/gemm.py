"""What tables of matrix multiplications share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from simgpu.hardware.inherit import DEFAULT
from simgpu.lab.validation.batches import DTYPES, WIDTHS, Batch, Machine, Part, roofline, timed, unpredictable
from simgpu.lab.validation.tables import Array, Rows, Table
from simgpu.model.formats import format_of
from simgpu.timing.gemm import GemmWork
from simgpu.timing.gemm_libraries import WIDENING
from simgpu.timing.quantise import quantise_time

LIBRARIES = {"fp8": "fp8-scaled-mm", "fp8_block": "fp8-block", "nvfp4": "nvfp4", "float32": "simt"}
"""Which library the tables of served models mean with a data type."""

BY_ENGINE = {
    "sglang": LIBRARIES,
    "vllm": {**LIBRARIES, "fp8": "fp8-cutlass", "nvfp4": "nvfp4-vllm"},
    "trtllm": {**LIBRARIES, "fp8": "fp8-trtllm", "fp8_block": "fp8-block-trtllm", "nvfp4": "nvfp4-trtllm"},
}
"""The same by engine."""


def engine_library(engine: str, dtype: str) -> str | None:
    """The library that an engine multiplies a data type with; None for an engine that is not known."""
    found = BY_ENGINE.get(engine.strip().lower())
    return None if found is None else found.get(dtype, DEFAULT)


def products(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Matrix multiplications alone, of any type: narrow operands are given, not quantised on the way."""
    names = ["dtype", *(["kernel_source"] if "kernel_source" in table.words else [])]
    libraries = machine.timer.matrix.libraries
    for (dtype, *source), at in table.split(rows, *names):
        refused = unpredictable(machine, "gemm", at, dtype)
        if refused:
            yield refused
            continue
        m, n, k = (table.number(name, at) for name in "mnk")
        block = source == ["deep_gemm"]
        library = "fp8-block" if block else libraries.chosen(DTYPES.get(dtype, dtype))
        quantise = libraries.of(library).quantise
        work = GemmWork(m, n, k)
        saved: Array | float = 0.0
        if quantise is not None:
            saved = -quantise_time(work, machine.timer.device, quantise).seconds
        yield matmul(machine, at, dtype, work, library=library, overhead=saved)


def matmul(
    machine: Machine,
    rows: Rows,
    dtype: str,
    work: GemmWork,
    library: str = DEFAULT,
    overhead: Array | float = 0.0,
    shape: tuple[str, ...] = ("m", "n", "k"),
    rotation: float = np.inf,
) -> Part:
    """Matrix multiplications; `overhead` is what the way of measuring adds to each, s.

    `rotation` is how many such operands are used in turn (inf: always cold ones).
    """
    refused = unpredictable(machine, "gemm", rows, dtype)
    if refused:
        return refused
    name = DTYPES[dtype]
    width = WIDTHS[name]
    m, n, k, batch = (np.asarray(size, float) for size in work)
    flops = 2 * batch * m * n * k
    moved = batch * ((m * k + k * n) * width + m * n * max(width, 2.0))
    return Batch(
        "gemm",
        dtype,
        rows,
        partial(timed, machine.timer.gemm, overhead, *work, dtype=name, library=library, rotation=rotation),
        partial(roofline, flops, moved, machine.peak(name), machine.bandwidth),
        "gemm",
        library,
        shape,
    )


def weight_only(
    machine: Machine, rows: Rows, dtype: str, stored: str, work: GemmWork, rotation: float, overhead: float = 0.0
) -> Part:
    """TensorRT-LLM's products in 16 bits of weights stored narrower; `overhead` s are of how they were timed."""
    m, n, k = (np.asarray(size, float) for size in work[:3])
    width, flops = format_of(stored).bytes, 2 * m * n * k
    how = {"dtype": "fp16", "weights": stored, "rotation": rotation, "library": WIDENING}
    return Batch(
        "gemm",
        dtype,
        rows,
        partial(timed, machine.timer.gemm, overhead, m, n, k, **how),
        partial(roofline, flops, 2.0 * m * (k + n) + n * k * width, machine.peak("fp16"), machine.bandwidth),
        "gemm",
        WIDENING,
        ("m", "n", "k"),
    )
