"""What the tables of measurements call their streaming operators, and what that means for the models.

The one place that knows which method of `simgpu.timing.timer.GPUTimer`, with which arguments and which library, stands
for a row: a table's kind or layer, the way it was measured, and, where the table gives no shape, the model's.

    source              measured                                                libraries
    neusight_vector     torch 2.1, fp32, host side of each call included        torch-stream
    llmcompass          time.time() around the call and a synchronisation       torch-host, torch-compile-host
    vidur_ops           kernel times (kineto) of Sarathi-Serve (early vLLM)     vllm-2023, torch-2023
    llmservingsim_ops   kernel times: transformers in eager mode (v0)           torch, not fused
                        kernel times: vLLM 0.19                                 default
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class StreamCall:
    """`method` of a `GPUTimer` called with `arguments` (and dtype, library) gives the times of the rows.

    `op` is the operator as validation spells it. `moved` and `flops` are the least bytes and FLOPs of the operator, for
    the plain roofline.
    """

    op: str
    method: str
    library: str
    arguments: Mapping[str, Any]
    moved: Array
    flops: Array
    dtype: str


WIDTH = {"fp32": 4.0, "fp16": 2.0, "bf16": 2.0}

# ---- NeuSight ----------------------------------------------------------------------------------------

PAIRS = {"add": "add", "mul": "add", "div": "exp", "pow": "pow"}
"""Operators of two tensors, and what their arithmetic costs."""
SINGLES = {"addu": "add", "mulu": "add", "divu": "exp", "powu": "pow", "relu": "add", "tanh": "exp", "gelu": "gelu"}
"""Operators of one tensor (u: the other operand is a number)."""


def neusight(op: str, rows: Array, cols: Array) -> StreamCall | None:
    """Rows of neusight_vector_fp32: an operator on a [rows, cols] tensor in fp32."""
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


# ---- LLMCompass --------------------------------------------------------------------------------------


def llmcompass(op: str, m: Array, n: Array, amd: bool = False) -> StreamCall | None:
    """Rows of llmcompass_ops: [m, n]; softmax by torch, layer norm and GELU by torch.compile.

    On AMD the repository works in fp32, which its times confirm (twice the bytes fill the memory bandwidth).
    """
    dtype = "fp32" if amd else "fp16"
    width, size = WIDTH[dtype], m * n
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


# ---- Vidur -------------------------------------------------------------------------------------------

PARALLEL_BLOCKS = ("phi-2",)
"""Models whose attention and MLP run side by side: their sum is added to the residual in two steps, and norms are
layer norms of PyTorch (microsoft/phi-2, modeling_phi.py)."""


def vidur(kind: str, model: str, columns: Mapping[str, Array]) -> StreamCall | None:
    """Rows of vidur_ops by `kind`. Columns: num_tokens, hidden_size, num_heads, num_kv_heads, ffn_size, tp_size."""
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
        return _rope(tokens, heads, kv_heads, hidden / columns["num_heads"], "vllm-2023", True, "fp16")
    return None


def _rope(
    tokens: Array, heads: Array, kv_heads: Array, head_dim: Array, library: str, fused: bool, dtype: str
) -> StreamCall:
    given: dict[str, Any] = {
        "tokens": tokens,
        "heads": heads,
        "kv_heads": kv_heads,
        "head_dim": head_dim,
        "fused": fused,
    }
    size = tokens * (heads + kv_heads) * head_dim
    return StreamCall("rope", "rope", library, given, 4 * size, 6 * size, dtype)


# ---- LLMServingSim -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """Sizes of a model that the table leaves out. `ffn` is the width of one expert in a mixture of experts, whose
    experts are not split by tensor parallelism in these measurements."""

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

NORMS = ("layernorm", "input_layernorm", "post_layernorm", "final_layernorm")

HEAD_NORMS = ("qk_norm", "q_norm", "k_norm")
"""RMS norms over each head of queries and keys (Qwen3: modeling_qwen3.py, q_norm and k_norm of `head_dim`)."""


def llmservingsim(layer: str, model: str, method: str, tokens: Array, tp_size: Array, dtype: str) -> StreamCall | None:
    """Rows of llmservingsim_ops without a GEMM shape, by `layer`; `method` tells transformers from vLLM.

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
        return _rope(tokens, heads, kv_heads, shape.head_dim * one, library, served, dtype)
    if layer == "sampler":
        given = {"rows": tokens, "vocab": np.full_like(tokens, shape.vocab)}
        return StreamCall("sampling", "sampling", library, given, 2 * tokens * shape.vocab, tokens * shape.vocab, dtype)
    return None
