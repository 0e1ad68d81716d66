"""Kernels of a layer beside attention, by LLMServingSim.

How it was measured: kernel times inside vLLM 0.19 (eager, dummy weights), or transformers in eager mode under torch's
profiler (v0): the column `method` says which.

Traps: norms and RoPE of transformers are many launches. Rows of experts have no shape, and the table does not say how
many there are.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgpu.lab.validation.adapters.gemm import matmul
from simgpu.lab.validation.adapters.streams import StreamCall, rope, streamed
from simgpu.lab.validation.batches import DTYPES, Adapter, Machine, Part, Unpredicted
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.gemm import GemmWork

COLUMNS = Columns(
    positive=("num_tokens", "tp_size", "latency_s"),
    words=("gpu", "layer", "dtype"),
    optional=("suspicious", "model", "method"),
    sparse=("gemm_n", "gemm_k"),
)


@dataclass(frozen=True)
class Shape:
    """Sizes of a model that the table leaves out.

    `ffn` is the width of one expert in a mixture of experts, whose experts are not split by tensor parallelism in these
    measurements.
    """

    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    ffn: int
    vocab: int
    experts: bool = False
    layer_norm: bool = False


SHAPES = {
    "Llama-3.1-8B": Shape(4096, 32, 8, 128, 14336, 128256),
    "Llama-3.1-70B": Shape(8192, 64, 8, 128, 28672, 128256),
    "Mixtral-8x7B-v0.1": Shape(4096, 32, 8, 128, 14336, 32000, experts=True),
    "Phi-mini-MoE-instruct": Shape(4096, 32, 8, 128, 960, 32064, experts=True, layer_norm=True),
    "Qwen3-32B": Shape(5120, 64, 8, 128, 25600, 151936),
    "Qwen3-30B-A3B-Instruct-2507": Shape(2048, 32, 4, 128, 768, 151936, experts=True),
}
"""From the config.json of each model."""

EXPERTS = ("gate", "expert.w1", "expert.w2", "expert.w3")
NORMS = ("layernorm", "input_layernorm", "post_layernorm", "final_layernorm")

HEAD_NORMS = ("qk_norm", "q_norm", "k_norm")
"""RMS norms over each head of queries and keys (Qwen3: modeling_qwen3.py, q_norm and k_norm of `head_dim`)."""


def stream(layer: str, model: str, method: str, tokens: Array, tp_size: Array, dtype: str) -> StreamCall | None:
    """Rows without a GEMM shape, by `layer`; `method` tells transformers from vLLM.

    In vLLM the norms inside a block add the residual in the same kernel.
    """
    shape = SHAPES.get(model)
    if shape is None:
        return None
    served = method.startswith("vllm")
    library = "default" if served else "torch"
    rows: dict[str, Any] = {"rows": tokens, "cols": np.full_like(tokens, shape.hidden)}
    size = tokens * shape.hidden
    if layer in NORMS:
        fused = served or shape.layer_norm
        given: dict[str, Any] = rows | {"layer": shape.layer_norm, "residual": served, "fused": fused}
        return StreamCall(
            "normalization", "normalization", library, given, (8.0 if served else 4.0) * size, 4 * size, dtype
        )
    if layer in HEAD_NORMS:
        normed = {"q_norm": shape.heads, "k_norm": shape.kv_heads}.get(layer, shape.heads + shape.kv_heads)
        given = {"rows": tokens * np.maximum(normed / tp_size, 1.0), "cols": np.full_like(tokens, shape.head_dim)}
        size = given["rows"] * shape.head_dim
        given |= {"layer": False, "fused": served}
        return StreamCall("normalization", "normalization", library, given, 4 * size, 4 * size, dtype)
    if layer == "embedding":
        return StreamCall("embedding", "embedding", library, rows, 4 * size, 0 * size, dtype)
    if layer == "act_fn":
        cols = shape.ffn / (1.0 if shape.experts else tp_size)
        size = tokens * cols
        given = {"rows": tokens, "cols": cols, "fused": served}
        return StreamCall("activation", "activation", library, given, 6 * size, 8 * size, dtype)
    if layer in ("rope", "rotary_emb"):
        one = np.ones_like(tokens)
        heads, kv_heads = shape.heads / tp_size, np.maximum(shape.kv_heads / tp_size, 1.0)
        return rope(tokens, heads, kv_heads, shape.head_dim * one, library, served, dtype)
    if layer == "sampler":
        given = {"rows": tokens, "vocab": np.full_like(tokens, shape.vocab)}
        return StreamCall("sampling", "sampling", library, given, 2 * tokens * shape.vocab, tokens * shape.vocab, dtype)
    return None


def layers(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    """Kernels of a layer as a profiler sees them; rows with a GEMM shape are matrix multiplications."""
    for (layer, model, method, dtype), at in table.split(rows, "layer", "model", "method", "dtype"):
        with_shape = ~np.isnan(table.number("gemm_n", at))
        products, others = at[with_shape], at[~with_shape]
        if len(products):
            work = GemmWork(*(table.number(name, products) for name in ("num_tokens", "gemm_n", "gemm_k")))
            shape = ("model", "tp_size", "layer", "num_tokens", "gemm_n", "gemm_k")
            yield matmul(machine, products, dtype, work, shape=shape)
        if len(others):
            tokens, tp = table.number("num_tokens", others), table.number("tp_size", others)
            call = stream(layer, model, method, tokens, tp, DTYPES.get(dtype, "bf16"))
            if call is None and layer in EXPERTS:
                yield Unpredicted(
                    layer, others, "which tokens reach an expert, and how many experts there are, is not stated"
                )
                continue
            yield streamed(machine, others, layer, dtype, call, ("model", "tp_size", "layer", "num_tokens"))


SOURCE = Source(
    "https://github.com/casys-kaist/LLMServingSim at 5daddb21a, MIT: profiler/perf, profiler/v0/perf_models",
    [Adapter("kernels", COLUMNS, layers)],
    also=("inference",),
)
