"""From the operators of a step to the kernels of a runtime.

Serving engines run one fused kernel for each operator. llama.cpp multiplies by query, key, value, gate and up apart
and keeps activations in fp32; of 2024 it materialises scores, and prompts are multiplied by cuBLAS in fp16 after
weights were unpacked. Eager PyTorch runs one kernel for each operation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from simgpu.model.config import TransformerConfig
from simgpu.model.formats import format_of
from simgpu.model.operators import BYTES, Attention, Dim, ExpertLayer, Matmul, Operator, Pointwise
from simgpu.timing.kernels import vector_rows
from simgpu.workload.runtimes import Runtime
from simgpu.workload.training.lowering import lower as lower_training

INSIDE, INTEGERS, UNPACKED = "inside", "integers", "unpacked"
"""How llama.cpp multiplies many rows by weights in blocks: it converts them inside the product, multiplies them as
8-bit integers, or unpacks them first."""


def kernels_of(
    operators: Sequence[Operator], runtime: Runtime, config: TransformerConfig, products: str = UNPACKED
) -> tuple[Operator, ...]:
    """The kernels that `runtime` runs for operators whose formats are chosen; `products` of many rows in llama.cpp."""
    if runtime.style == "ggml":
        return tuple(kernel for op in operators for kernel in _ggml(op, runtime, products))
    if runtime.style == "eager":
        return tuple(_eager(operators, config, runtime))
    return tuple(operators)


# ---- llama.cpp ---------------------------------------------------------------------------------------

WIDE = "fp32"
"""Activations of llama.cpp."""

QUANTISED = 1.125 / 4
"""Activations in blocks of 32 bytes with a scale and a sum of 16 bits each (block_q8_1), over those in fp32."""


def _ggml(op: Operator, runtime: Runtime, products: str) -> Iterator[Operator]:
    match op:
        case Matmul():
            yield from _ggml_product(op, runtime, products)
        case Attention():
            yield from _ggml_attention(op, runtime.fused_attention)
        case ExpertLayer() if runtime.counted_experts:
            yield from _ggml_experts(op, products)
        case Pointwise(kind="normalization") if op.writes > 1:  # addition, normalisation, product with its weights
            yield replace(op, name=f"{op.name}_add", kind="elementwise", dtype=WIDE, reads=2, writes=1, weights=0)
            yield replace(op, dtype=WIDE, reads=1, writes=1)
            if not runtime.fused_pointwise:
                yield replace(op, name=f"{op.name}_scale", kind="elementwise", dtype=WIDE, reads=1, writes=1, weights=0)
        case Pointwise(name="activation") if op.reads > 1 and not runtime.fused_pointwise:  # function, product
            yield replace(op, dtype=WIDE, reads=1, writes=1)
            yield replace(op, name=f"{op.name}_product", dtype=WIDE, reads=2, writes=1)
        case Pointwise(kind="rope"):  # of queries, of keys
            for part, dim in zip(("q", "k"), op.width, strict=True):
                yield replace(op, name=f"{op.name}_{part}", kind="elementwise", width=(dim,), dtype=WIDE)
        case Pointwise():
            yield replace(op, dtype=WIDE)
        case _:
            yield op


def _ggml_product(op: Matmul, runtime: Runtime, products: str) -> Iterator[Operator]:
    """A few rows: weights as stored, by vectors, which are quantised first. Many: see `Deployment`."""
    rows = op.m.size
    quantise = Pointwise(f"{op.name}_quantise", "elementwise", op.m, (op.k,), WIDE, 1, 0.28)
    if rows <= vector_rows(runtime.vectors, op.stored):
        if op.stored and products != INSIDE:
            yield quantise
        yield op
        return
    wide = (Dim(op.n_size, 1, op.n[0].axis),)
    if products == INSIDE:
        yield replace(op, dtype="fp16", accumulate="fp32", stored="")
        return
    if op.stored and products == INTEGERS:
        yield replace(quantise, writes=QUANTISED)
        yield replace(op, dtype="int8", accumulate="int32")
        return
    if op.stored:
        read = format_of(op.stored).bytes / BYTES["fp16"]
        yield Pointwise(f"{op.name}_unpack", "elementwise", op.k, wide, "fp16", read, 1)
    yield Pointwise(f"{op.name}_narrow", "elementwise", op.m, (op.k,), "fp16", 2, 1)
    yield replace(op, dtype="fp16", accumulate="fp16", stored="")
    yield Pointwise(f"{op.name}_widen", "elementwise", op.m, wide, "fp16", 1, 2)


def _ggml_experts(op: ExpertLayer, products: str) -> Iterator[Operator]:
    """Experts as a graph of operations (llama-graph.cpp, build_moe_ffn).

    The best of the router's scores are sorted out and weighed; activations are quantised before each product; products
    of the experts of one token are products of vectors, of more the experts' own; results are weighed, and added up one
    expert after another.
    """
    rows, scores, chosen = Dim(op.rows), (Dim(op.experts),), (Dim(op.topk),)
    if op.bias:
        yield _small("router_bias", rows, scores)
    yield _small("sort", rows, scores)
    for name in ("pick", "softmax"):
        yield _small(name, rows, chosen)
    yield from _ggml_expert_products(op, products)
    wide = (Dim(op.hidden),)
    yield _small("weigh", Dim(op.rows * op.topk), wide)
    for _ in range(op.topk - 1):
        yield _small("add", rows, wide, 2)


def _small(name: str, of: Dim, width: tuple[Dim, ...], reads: float = 1, writes: float = 1) -> Pointwise:
    """An operation of the graph around experts, in fp32."""
    return Pointwise(f"experts_{name}", "elementwise", of, width, WIDE, reads, writes)


def _ggml_expert_products(op: ExpertLayer, products: str) -> Iterator[Operator]:
    """Products of experts, with what stands between: quantisation of the rows, biases, activation."""
    visits, wide, inner = Dim(op.rows * op.topk), (Dim(op.hidden),), (Dim(op.inner),)
    apart = op.ranks == 1 and op.rows == 1 and op.stored != ""
    if products != INSIDE:
        yield _small("quantise", Dim(op.rows), wide, 1, QUANTISED)
    if not apart:
        yield op
    for name in ("gate", "up") if op.gated else ("up",):
        if apart:
            yield _of_experts(op, name, op.inner, op.hidden)
        if op.bias:
            yield _small(f"{name}_bias", visits, inner)
    yield _small("activation", visits, inner, 2 if op.gated else 1)
    if products != INSIDE:
        yield _small("down_quantise", visits, inner, 1, QUANTISED)
    if apart:
        yield _of_experts(op, "down", op.hidden, op.inner)
    if op.bias:
        yield _small("down_bias", visits, wide)


def _of_experts(op: ExpertLayer, name: str, n: int, k: int) -> Matmul:
    """One product of the experts that one token visits: their matrices below each other."""
    return Matmul(f"experts_{name}", Dim(1), (Dim(n * op.topk),), Dim(k), op.dtype, op.accumulate, stored=op.stored)


def _ggml_attention(op: Attention, fused: bool) -> Iterator[Operator]:
    """Attention of llama.cpp: keys and values are copied into the cache.

    Scores pass memory in fp32, softmax and all, unless one kernel keeps them on chip.
    """
    rows = Dim(1, op.batch.size * op.queries)
    new = (Dim(op.kv_heads.size, op.head_dim),)
    yield Pointwise("keys_append", "elementwise", rows, new, WIDE, 1, 0.5)
    yield Pointwise("values_append", "elementwise", rows, new, WIDE, 1, 0.5)
    if fused:
        yield op
        return
    if op.queries == 1:
        yield op
        yield Pointwise("attention_softmax", "elementwise", rows, (Dim(op.heads.size, op.keys),), WIDE, 1, 1)
        yield Pointwise("heads_together", "elementwise", rows, (Dim(op.heads.size, op.head_dim),), WIDE, 1, 1)
        return
    yield Pointwise("queries_narrow", "elementwise", rows, (Dim(op.heads.size, op.head_dim),), "fp16", 2, 1)
    over, keys = (op.batch, op.heads), Dim(op.keys)
    half = {"dtype": "fp16", "accumulate": "fp16", "weight": False, "over": over}
    scores = (Dim(op.heads.size, op.keys),)
    yield Matmul("scores", Dim(op.queries), (keys,), Dim(op.head_dim), **half)  # type: ignore[arg-type]
    yield Pointwise("scores_widen", "elementwise", rows, scores, "fp16", 1, 2)
    yield Pointwise("attention_softmax", "elementwise", rows, scores, WIDE, 1, 1)
    yield Pointwise("scores_narrow", "elementwise", rows, scores, "fp16", 2, 1)
    yield Matmul("values", Dim(op.queries), (Dim(op.head_dim),), keys, **half)  # type: ignore[arg-type]
    wide = (Dim(op.heads.size, op.head_dim),)
    yield Pointwise("values_widen", "elementwise", rows, wide, "fp16", 1, 2)
    yield Pointwise("heads_together", "elementwise", rows, wide, WIDE, 1, 1)


# ---- PyTorch -----------------------------------------------------------------------------------------

ACTIVATION_KERNELS = {
    # operations of transformers' NewGELUActivation: pow, product, sum, product, tanh, sum, product, product
    "gelu_new": ((1, 1), (1, 1), (2, 1), (1, 1), (1, 1), (1, 1), (1, 1), (2, 1)),
}
"""Tensors read and written by each kernel of an activation function that is not one kernel."""


def _eager(operators: Sequence[Operator], config: TransformerConfig, runtime: Runtime) -> Iterator[Operator]:
    stack = runtime.stack
    assert stack is not None, "a runtime of PyTorch names its framework"
    fused = stack.memory.fused
    for op in operators:
        if isinstance(op, Attention):
            yield from _eager_attention(op, fused, runtime.repeats_heads)
        elif isinstance(op, Pointwise) and op.name == "activation" and not fused:
            yield from _activation(op, config)
        elif isinstance(op, Matmul) and op.stored and not fused:
            yield from _eager_quantised(op)
        else:
            yield from lower_training((op,), stack, None, config.rms_norm)


def _eager_quantised(op: Matmul) -> Iterator[Operator]:
    """A product of weights in 8 or 4 bits.

    Kernels of 8 bits leave their sum in fp32, which another brings back (AutoGPTQ, qlinear_cuda.py); that of 4 bits
    does both (qlinear_exllamav2.py). AutoAWQ adds up parts of k in a second kernel too (awq_ext, gemm_forward_cuda):
    a step that waits for the host is a fifth longer there than predicted.
    """
    yield op
    if format_of(op.stored).bytes >= 1:
        for number, dim in enumerate(op.n):
            yield Pointwise(f"{op.name}_narrow_{number + 1}", "elementwise", op.m, (dim,), op.dtype, 2, 1)


def _activation(op: Pointwise, config: TransformerConfig) -> Iterator[Operator]:
    kernels = ACTIVATION_KERNELS.get(config.activation) or (((1, 1), (2, 1)) if op.reads > 1 else ((1, 1),))
    for i, (reads, writes) in enumerate(kernels):
        name = op.name if i == 0 else f"{op.name}_{i + 1}"
        yield replace(op, name=name, reads=float(reads), writes=float(writes))


def _eager_attention(op: Attention, fused: bool, repeats: bool) -> Iterator[Operator]:
    """Attention of transformers: one fused kernel in 16 bits, separate operations in fp32.

    The fused kernel is scaled_dot_product_attention, the default since 4.36. It lacks fp32, which runs scores, scaling,
    mask, softmax, and their product with the values. `fused`: scaling and mask go into the softmax, and the cache has
    its full length from the start.
    """
    rows, heads = Dim(1, op.batch.size * op.queries), op.heads
    over, keys = (op.batch, heads), Dim(op.keys)
    scores = (Dim(heads.units, heads.width * op.keys, heads.axis),)
    plain = {"dtype": op.dtype, "accumulate": op.accumulate, "weight": False, "over": over}
    each = op.head_dim + op.v_dim
    new = (_heads(heads, op.head_dim), _heads(op.kv_heads, each))
    yield Pointwise("attention_split", "elementwise", rows, new, op.dtype, 1, 1)
    repeats = repeats and op.kv_heads.size < op.heads.size and not op.cache_width
    yield from _eager_cache(op, joins=op.keys > op.queries and not fused, repeats=repeats)
    if BYTES[op.dtype] <= 2:
        yield replace(op, kv_heads=op.heads) if repeats else op
        return
    yield Matmul("scores", Dim(op.queries), (keys,), Dim(op.head_dim), **plain)  # type: ignore[arg-type]
    if not fused:
        yield Pointwise("scores_scale", "elementwise", rows, scores, op.dtype, 1, 1)
        yield Pointwise("scores_mask", "elementwise", rows, scores, op.dtype, 1, 1)
    yield Pointwise("attention_softmax", "scores", rows, scores, op.dtype, 1, 1)
    yield Matmul("values", Dim(op.queries), (Dim(op.v_dim),), keys, **plain)  # type: ignore[arg-type]
    yield Pointwise("heads_together", "elementwise", rows, (_heads(heads, op.v_dim),), op.dtype, 1, 1)


def _eager_cache(op: Attention, joins: bool, repeats: bool) -> Iterator[Operator]:
    """Copies of the cache that each step makes.

    New keys and values are joined to the old ones in a new tensor (cache_utils.py, DynamicCache.update: torch.cat), and
    repeated for the heads that share them: a copy of a view whose heads do not lie in one piece (`repeat_kv`).
    """
    tokens = Dim(1, op.batch.size * op.keys)
    parts = (("latents", op.cache_width),) if op.cache_width else (("keys", op.head_dim), ("values", op.v_dim))
    for name, width in parts if joins else ():
        yield Pointwise(f"{name}_join", "elementwise", tokens, (_heads(op.kv_heads, width),), op.dtype, 1, 1)
    for name, width in parts if repeats else ():
        read = op.kv_heads.size / op.heads.size
        yield Pointwise(f"{name}_repeat", "strided", tokens, (_heads(op.heads, width),), op.dtype, read, 1)


def _heads(heads: Dim, width: int) -> Dim:
    """`width` elements of each head, which are split as the heads are."""
    return Dim(heads.units, heads.width * width, heads.axis)
