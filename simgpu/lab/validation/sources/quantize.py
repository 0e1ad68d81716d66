"""Kernels of AIConfigurator that quantise activations [m, k] from 16 bits to fp8, by engine.

How it was measured: the collectors of TensorRT-LLM and vLLM, CUDA graphs. `static_quantize` casts with a scale that is
given; `dynamic_minus_static` is what looking for the scale adds: a scale for each token in vLLM, of the whole tensor in
TensorRT-LLM.

Traps: a difference says nothing alone; it is scored with the cast of the same shape added, in the library whose
products it comes before. Small tensors stay in L2.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from simgpu.lab.validation.adapters.gemm import engine_library
from simgpu.lab.validation.batches import Adapter, Batch, Machine, Part, Unpredicted, roofline, timed, unpredictable
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.quantise import CAST, CAST_BYTES, SCALED

COLUMNS = Columns(
    positive=("m", "k", "latency_s"), words=("gpu", "engine", "op"), optional=("suspicious", "version", "kernel")
)

STATIC, DYNAMIC = "static_quantize", "dynamic_minus_static"


def casts(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """The kernels that look for scales and cast, before products in fp8."""
    for (engine, op), at in table.split(rows, "engine", "op"):
        library = engine_library(engine, "fp8")
        quantise = None if library is None else machine.timer.matrix.libraries.of(library).quantise
        refused = unpredictable(machine, "quantise", at, "fp8")
        if refused is not None or library is None or quantise is None or op not in (STATIC, DYNAMIC):
            yield refused or Unpredicted("quantise", at, f"no kernel of '{engine}' is known", key="op")
        elif op == STATIC:
            yield _kernel(table, at, machine, library, CAST, table.number("latency_s", at))
        else:
            yield from _dynamic(table, at, machine, engine, library)


def _dynamic(table: Table, at: Rows, machine: Machine, engine: str, library: str) -> Iterator[Part]:
    """Scale and cast together: the difference and the cast of the same shape on the same GPU."""
    words, shape = table.words, [table.numbers[name] for name in "mk"]
    same = np.flatnonzero((words["gpu"] == words["gpu"][at[0]]) & (words["engine"] == engine) & (words["op"] == STATIC))
    cast = {(shape[0][i], shape[1][i]): table.numbers["latency_s"][i] for i in same.tolist()}
    alone = np.asarray([cast.get((shape[0][i], shape[1][i]), np.nan) for i in at.tolist()])
    if np.isnan(alone).any():
        yield Unpredicted("quantise", at[np.isnan(alone)], "no cast of the same shape is in the table", left_out=True)
    known = at[~np.isnan(alone)]
    if len(known):
        measured = table.number("latency_s", known) + alone[~np.isnan(alone)]
        yield _kernel(table, known, machine, library, SCALED, measured)


def _kernel(table: Table, at: Rows, machine: Machine, library: str, how: str, measured: Array) -> Part:
    m, k = (table.number(name, at) for name in "mk")
    return Batch(
        "quantise",
        "fp8",
        at,
        partial(timed, machine.timer.matrix.quantise, 0.0, m, k, library, how),
        partial(roofline, 0 * m, CAST_BYTES * m * k, 1.0, machine.bandwidth),
        "gemm",
        library,
        ("m", "k", "op"),
        measured=measured,
    )


SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/quantize/{trtllm,vllm}/<version>/computescale_perf.parquet, scale_matrix_perf.parquet",
    [Adapter("kernels", COLUMNS, casts)],
)
