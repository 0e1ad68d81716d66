"""Mixture-of-experts layers of AIConfigurator by engine and version: the experts of one rank.

How it was measured: the collectors of SGLang, TensorRT-LLM and vLLM: top-k, permutation, grouped multiplications with
the activation between them, and back, in the kernel that the engine takes; a CUDA graph. Shapes are shared by engines.

Traps: no all-to-all. SGLang's Triton and Marlin rows with expert parallelism compute remote experts too, and some rows
of vLLM and SGLang on H100 were not tuned: both are flagged. vLLM's weights are constant.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np

from simgpu.lab.validation.batches import Adapter, Batch, Machine, Part, Unpredicted, roofline, timed, unpredictable
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.sources.aic_moe import SHAPE
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.model.formats import format_of
from simgpu.model.operators import BYTES
from simgpu.timing.expert_libraries import library_of
from simgpu.timing.expert_timer import ExpertLayerWork

COLUMNS = Columns(
    positive=(*SHAPE, "latency_s"),
    words=("gpu", "dtype", "gated", "distribution", "engine", "kernel"),
    optional=("suspicious", "version"),
)

TYPES = {
    "bfloat16": ("bf16", ""),
    "fp8": ("fp8", ""),
    "fp8_block": ("fp8", ""),
    "nvfp4": ("fp4", ""),
    "int4_wo": ("bf16", "int4"),
    "w4a16_mxfp4": ("bf16", "mxfp4"),
    "w4a8_mxfp4_mxfp8": ("fp8", "mxfp4"),
}
"""What experts are multiplied in, and what their weights are stored in where that is narrower."""

ONCE = 1.0
"""Layers that pass before the same weights are used again: every replay runs the same one."""


def layers(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """The expert layer of one rank in the library that the row names; no all-to-all."""
    for (dtype, gated, how, engine, kernel), at in table.split(
        rows, "dtype", "gated", "distribution", "engine", "kernel"
    ):
        library = library_of(engine, kernel, dtype)
        if library is None or dtype not in TYPES:
            yield Unpredicted("moe", at, f"no library of '{engine}' is known for '{dtype}'", key="kernel")
            continue
        refused = unpredictable(machine, "moe", at, {"fp8": "fp8", "fp4": "nvfp4"}.get(TYPES[dtype][0], "bfloat16"))
        yield refused or _layer(table, at, machine, dtype, library, gated == "True", how)


def _layer(table: Table, at: Rows, machine: Machine, dtype: str, library: str, gated: bool, distribution: str) -> Part:
    tokens, hidden, inter, topk, experts, tp, ep = (table.number(name, at) for name in SHAPE)
    name, stored = TYPES[dtype]
    products = 3 if gated else 2
    flops = 2 * tokens * topk * products * hidden * inter / (tp * ep)
    used = np.minimum(experts / ep, np.maximum(tokens * topk / ep, 1.0))
    width = format_of(stored).bytes if stored else BYTES[name]
    moved = used * products * hidden * inter / tp * width + 2 * tokens * topk / ep * hidden * 2.0
    work = ExpertLayerWork(tokens, hidden, inter, topk, experts, tp, ep, gated, distribution)
    call = partial(
        timed, machine.timer.experts.layer, 0.0, work, dtype=name, library=library, rotation=ONCE,
        weights=stored or None,
    )  # fmt: skip
    baseline = partial(roofline, flops, moved, machine.peak(name), machine.bandwidth)
    return Batch("moe", dtype, at, call, baseline, "moe", library, (*SHAPE, "gated", "distribution", "engine"))


SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/moe/{sglang,trtllm,vllm}/<version>/moe_perf.parquet",
    [Adapter("kernels", COLUMNS, layers)],
)
