"""The attention half of a layer: projections, positions, attention itself."""

from __future__ import annotations

from simgpu.model.config import TransformerConfig
from simgpu.model.operators import Attention, Dim, Kernel, Matmul, Pointwise


def attention_operators(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, flash: bool = True
) -> tuple[Kernel, ...]:
    """From normalised rows to the output projection. `flash`: fused attention, else scores go through memory."""
    c, rows = config, Dim(batch, tokens, "batch")
    q = Dim(c.heads, c.head_dim, "heads")
    kv = Dim(c.kv_heads, 2 * c.head_dim, "heads")
    heads = (q, Dim(c.kv_heads, c.head_dim, "heads"))
    operators: list[Kernel] = [Matmul("qkv", rows, (q, kv), Dim(c.hidden), dtype, accumulate, bias=c.qkv_bias)]
    if c.qk_norm:
        operators.append(Pointwise("qk_norm", "normalization", rows, heads, dtype, 1, 1, 5, weights=2 * c.head_dim))
    if c.rope:
        operators.append(Pointwise("rope", "rope", rows, heads, dtype, 1, 1, 3))
    operators += _attention(c, batch, tokens, dtype, accumulate, flash)
    operators.append(Matmul("attention_out", rows, (Dim(c.hidden),), q, dtype, accumulate, bias=c.bias))
    return tuple(operators)


def _attention(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, flash: bool
) -> tuple[Kernel, ...]:
    """softmax(Q K^T) V, fused or as two batched products of all heads with the whole [tokens, tokens] between them.

    The unfused products do not skip the masked half. Grouped keys and values are repeated for every query head.
    """
    c, sequences, heads = config, Dim(batch, 1, "batch"), Dim(config.heads, 1, "heads")
    if flash:
        kv_heads = Dim(c.kv_heads, 1, "heads")
        fused = Attention(
            "attention", sequences, tokens, tokens, heads, kv_heads, c.head_dim, dtype,
            accumulate=accumulate, window=c.window,
        )  # fmt: skip
        return (fused,)
    over = (sequences, heads)
    queries, keys, head = Dim(tokens), Dim(tokens), Dim(c.head_dim)
    rows, scores = Dim(batch, tokens, "batch"), (Dim(c.heads, tokens, "heads"),)
    return (
        Matmul("scores", queries, (keys,), head, dtype, accumulate, weight=False, over=over),
        Pointwise("attention_softmax", "scores", rows, scores, dtype, 1, 1, 7),  # scale, mask and softmax in one kernel
        Matmul("values", queries, (head,), keys, dtype, accumulate, weight=False, over=over),
    )
