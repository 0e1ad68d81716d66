"""Operators of a layer beside attention, by Vidur: fp16, one GPU that stands for a tensor-parallel rank.

How it was measured: kernel times (kineto) of Sarathi-Serve, an early vLLM; median of 20.

Traps: dummy weights of at most 0.001, so that large products are faster than with random ones. SXM and PCIe nodes are
pooled as a100-80gb. The all-reduce is never part of a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from simgpu.lab.validation.adapters.gemm import matmul
from simgpu.lab.validation.adapters.streams import StreamCall, rope, streamed
from simgpu.lab.validation.batches import Adapter, Machine, Part
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.gemm import GemmWork

COLUMNS = Columns(
    positive=(
        *("num_tokens", "hidden_size", "num_heads", "ffn_size", "tp_size", "num_kv_heads", "vocab_size"),
        *("io_bytes", "latency_s"),
    ),
    words=("gpu", "op", "kind", "dtype", "gated_mlp"),
    optional=("suspicious", "model"),
    sparse=("gemm_n", "gemm_k"),
)

_SHAPE = ("num_tokens", "hidden_size", "num_heads", "num_kv_heads", "ffn_size", "tp_size")

PARALLEL_BLOCKS = ("phi-2",)
"""Models whose attention and MLP run side by side: their sum is added to the residual in two steps, and norms are
layer norms of PyTorch (microsoft/phi-2, modeling_phi.py)."""


def stream(kind: str, model: str, columns: Mapping[str, Array]) -> StreamCall | None:
    """An operator of a model by its `kind` and the columns of its shape; None where there is no model of it."""
    tokens, hidden, tp = columns["num_tokens"], columns["hidden_size"], columns["tp_size"]
    parallel = model in PARALLEL_BLOCKS
    size = tokens * hidden
    shape: dict[str, Any] = {"rows": tokens, "cols": hidden}
    if kind == "norm":
        library = "torch-2023" if parallel else "vllm-2023"
        given: dict[str, Any] = shape | {"layer": parallel}
        return StreamCall("normalization", "normalization", library, given, 4 * size, 4 * size, "fp16")
    if kind == "elementwise_add":
        tensors = 2.0 if parallel else 1.0
        given = {"elements": size, "reads": 2 * tensors, "writes": tensors, "kernels": tensors}
        return StreamCall("elementwise", "elementwise", "torch-2023", given, 6 * tensors * size, tensors * size, "fp16")
    if kind == "embedding":
        return StreamCall("embedding", "embedding", "torch-2023", shape, 4 * size, 0 * size, "fp16")
    if kind in ("silu_and_mul", "gelu"):
        gated = kind == "silu_and_mul"
        given = {
            "rows": tokens,
            "cols": columns["ffn_size"] / tp,
            "gated": gated,
            "function": "silu" if gated else "gelu",
        }
        size = tokens * given["cols"]
        library = "vllm-2023" if gated else "torch-2023"
        return StreamCall("activation", "activation", library, given, (6.0 if gated else 4.0) * size, 8 * size, "fp16")
    if kind == "rope":
        heads, kv_heads = columns["num_heads"] / tp, np.maximum(columns["num_kv_heads"] / tp, 1.0)
        return rope(tokens, heads, kv_heads, hidden / columns["num_heads"], "vllm-2023", True, "fp16")
    return None


def layers(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Kernels of a layer by their time on the GPU, as a server runs them."""
    for (kind, model, dtype), at in table.split(rows, "kind", "model", "dtype"):
        if kind == "gemm":
            work = GemmWork(*(table.number(name, at) for name in ("num_tokens", "gemm_n", "gemm_k")))
            yield matmul(machine, at, dtype, work, shape=("model", "tp_size", "op", "num_tokens", "gemm_n", "gemm_k"))
        else:
            call = stream(kind, model, {name: table.number(name, at) for name in _SHAPE})
            yield streamed(machine, at, kind, dtype, call, ("model", "tp_size", "op", "num_tokens"))


SOURCE = Source(
    "https://github.com/microsoft/vidur at 7d4751336, MIT: data/profiling/compute/<device>/<model>/mlp.csv",
    [Adapter("kernels", COLUMNS, layers)],
    also=("inference",),
)
