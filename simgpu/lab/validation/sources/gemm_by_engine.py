"""Matrix multiplications of AIConfigurator by engine and version: y[m, n] = x[m, k] W[n, k]^T, of shapes they share.

How it was measured: the collectors of SGLang, TensorRT-LLM and vLLM, a CUDA graph of a few copies of the operator, mean
of six replays. bfloat16 is cuBLAS in all of them. Narrow types include the kernels that quantise x: by token in SGLang
and vLLM, by tensor in TensorRT-LLM, which looks for the largest value first.

Traps: rows of vLLM above half of the peak multiply constant weights, and its fp8 in blocks ran eagerly, with host time:
both are flagged. The fp8_block rows of the B200 replace those of `aic_gemm`, which were measured with an older kernel.
"""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.lab.validation.adapters.gemm import engine_library, matmul, weight_only
from simgpu.lab.validation.batches import Adapter, Machine, Part, Unpredicted
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.sources.aic_gemm import COPIES
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.timing.gemm import GemmWork

COLUMNS = Columns(
    positive=("m", "n", "k", "latency_s"),
    words=("gpu", "dtype", "engine"),
    optional=("suspicious", "version", "kernel"),
)

STORED = {"int8_wo": "int8", "int4_wo": "int4"}
"""Formats of weights that are multiplied in 16 bits."""


def linear(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """A linear layer as an engine runs it; narrow types with the quantisation of x."""
    for (dtype, engine), at in table.split(rows, "dtype", "engine"):
        work = GemmWork(*(table.number(name, at) for name in "mnk"))
        if dtype in STORED:
            yield weight_only(machine, at, dtype, STORED[dtype], *work[:3], COPIES)
            continue
        library = engine_library(engine, dtype)
        if library is None:
            yield Unpredicted("gemm", at, f"no library of '{engine}' is known", key="engine")
        else:
            yield matmul(machine, at, dtype, work, library=library, rotation=COPIES)


SOURCE = Source(
    "https://pypi.org/project/aiconfigurator-core 0.12.0, Apache-2.0: "
    "systems/data/<gpu>/gemm/{sglang,trtllm,vllm}/<version>/gemm_perf.parquet",
    [Adapter("kernels", COLUMNS, linear)],
)
