"""Matrix multiplications of AIConfigurator by engine and version: y[m, n] = x[m, k] W[n, k]^T, of shapes they share.

How it was measured: the collectors of SGLang, TensorRT-LLM and vLLM, a CUDA graph of a few copies of the operator, mean
of six replays. bfloat16 is cuBLAS in all of them. Narrow types include the kernels that quantise x: by token in SGLang
and vLLM, by tensor in TensorRT-LLM, which looks for the largest value first.

Weights alone in 8 or 4 bits are a plugin of TensorRT, timed once by its profiler (collector/trtllm,
collect_gemm_trt.py): whole microseconds between two events, of which 6 are not the kernel's.

Traps: int8_wo of SGLang is int8_scaled_mm (W8A8) behind a quantisation in plain PyTorch, some eight kernels that no
engine runs (collector/sglang/collect_gemm.py): left out. Rows of vLLM above half of the peak multiply constant weights,
and its fp8 in blocks ran eagerly, with host time: both are flagged. The fp8_block rows of the B200 replace those of
`aic_gemm`, which were measured with an older kernel.
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

PROFILER = 6e-6
"""Seconds that TensorRT's profiler counts beside a plugin: what rows of the smallest products take above a launch."""


def linear(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """A linear layer as an engine runs it; narrow types with the quantisation of x."""
    for (dtype, engine), at in table.split(rows, "dtype", "engine"):
        work = GemmWork(*(table.number(name, at) for name in "mnk"))
        if dtype in STORED and engine == "sglang":
            yield Unpredicted("gemm", at, "W8A8 behind eight kernels of PyTorch that quantise", left_out=True)
            continue
        if dtype in STORED:
            yield weight_only(machine, at, dtype, STORED[dtype], work, COPIES, PROFILER)
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
