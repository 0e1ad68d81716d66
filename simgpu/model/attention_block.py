"""The attention half of a layer: projections, positions, attention itself."""

from __future__ import annotations

from simgpu.model.config import TransformerConfig
from simgpu.model.operators import Attention, Dim, Indexer, Kernel, Matmul, Pointwise


def attention_operators(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, flash: bool = True,
    window: int = 0,
) -> tuple[Kernel, ...]:  # fmt: skip
    """Operators from normalised rows to the output projection. `flash`: fused, else scores go through memory."""
    rows, seen = Dim(batch, tokens, "batch"), visible(config, window, tokens, tokens)
    return (
        *projections(config, rows, dtype, accumulate),
        *index(config, Dim(batch, 1, "batch"), tokens, tokens),
        *_attention(config, batch, tokens, dtype, accumulate, flash, seen),
        *outputs(config, rows, dtype, accumulate),
    )


def visible(config: TransformerConfig, window: int, queries: int, keys: int) -> int:
    """Keys that a query sees; 0: all before it.

    Of compressed keys those that an indexer picks, or all: of a prompt half of them on average.
    """
    c = config
    if c.compress:
        entries = c.entries(keys) if c.index_heads or queries == 1 else -(-c.entries(keys) // 2)
        return window + (min(entries, c.index_topk) if c.index_heads else entries)
    return window or c.index_topk


def outputs(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """What follows attention: a gate where there is one, and the projection out, by groups of heads or whole."""
    c, values = config, Dim(config.heads, config.value_dim, "heads")
    if c.o_rank:
        group = Dim(c.heads * c.head_dim // c.o_groups)
        values = Dim(c.o_groups, c.o_rank, "heads")
        down: tuple[Kernel, ...] = (Matmul("out_down", rows, (values,), group, dtype, accumulate),)
    else:
        down = gate(c, rows, dtype, accumulate)
    out = Matmul("attention_out", rows, (Dim(c.hidden),), values, dtype, accumulate, bias=c.biased_output)
    return (*down, out)


def index(config: TransformerConfig, sequences: Dim, queries: int, keys: int) -> tuple[Kernel, ...]:
    """The choice of the keys that sparse attention sees, where there are more than it takes, or always."""
    c = config
    if not c.index_heads or (keys // max(c.compress, 1) <= c.index_topk and not c.index_always):
        return ()
    entries = max(keys // max(c.compress, 1), 1)
    causal = c.causal and not c.compress
    share = 2 if c.compress and queries > 1 else 1  # of a prompt a query sees half of the entries, on average
    return (
        Indexer("index", sequences, queries, entries // share, c.index_heads, c.index_dim, c.index_topk, causal=causal),
    )


def gate(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """The product of the output of attention and its gate."""
    values = Dim(config.heads, config.value_dim, "heads")
    product = Pointwise("attention_gate", "elementwise", rows, (values,), dtype, 2, 1, 5)
    hidden = Dim(config.hidden)
    if config.head_gate:
        return Matmul("head_gate", rows, (Dim(config.heads, 1, "heads"),), hidden, dtype, accumulate), product
    if config.attention_gate and config.kv_rank:
        return Matmul("output_gate", rows, (values,), hidden, dtype, accumulate), product
    return (product,) if config.attention_gate else ()


def projections(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """Operators that make queries, keys and values of normalised rows."""
    if config.o_rank:
        return _shared_key(config, rows, dtype, accumulate)
    return (_latent if config.kv_rank else _direct)(config, rows, dtype, accumulate)


def _shared_key(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """DeepSeek V4 (transformers, modeling_deepseek_v4.py): queries by a latent, one key for all heads, its compression.

    Key and compression are whole on every rank of a tensor-parallel group.
    """
    c, hidden, rank = config, Dim(config.hidden), Dim(config.q_rank)
    queries, key = Dim(c.heads, c.head_dim, "heads"), Dim(c.head_dim)
    found: list[Kernel] = [
        Matmul("q_down", rows, (rank,), hidden, dtype, accumulate),
        Pointwise("q_norm", "normalization", rows, (rank,), dtype, 1, 1, 5, weights=c.q_rank),
        Matmul("q_up", rows, (queries,), rank, dtype, accumulate),
        Matmul("kv_down", rows, (Dim(c.head_dim + c.compress_width),), hidden, dtype, accumulate),
        Pointwise("kv_norm", "normalization", rows, (key,), dtype, 1, 1, 5, weights=c.head_dim + c.compress_weights),
        Pointwise("rope", "rope", rows, (queries, key), dtype, 1, 1, 3),
    ]
    if c.index_heads:
        found.append(Matmul("index_q", rows, (Dim(c.index_heads * c.index_dim),), rank, dtype, accumulate))
        found.append(Matmul("index_weights", rows, (Dim(c.index_heads),), hidden, dtype, accumulate))
    return tuple(found)


def _direct(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """Queries, keys and values in one product, then norms and rotary positions of queries and keys."""
    c = config
    q = Dim(c.heads, (1 + c.attention_gate) * c.head_dim, "heads")
    kv = Dim(c.kv_heads, sum(c.made_widths) // c.kv_heads, "heads")
    made = (q, kv) if kv.width else (q,)
    heads = (Dim(c.heads, c.head_dim, "heads"), Dim(c.kv_heads, c.head_dim, "heads"))
    operators: list[Kernel] = [Matmul("qkv", rows, made, Dim(c.entered), dtype, accumulate, bias=c.qkv_bias)]
    if c.qk_norm:
        operators.append(Pointwise("qk_norm", "normalization", rows, heads, dtype, 1, 1, 5, weights=_norm_weights(c)))
    if c.rope:
        operators.append(Pointwise("rope", "rope", rows, heads, dtype, 1, 1, 3))
    return (*operators, *_index_projections(c, rows, dtype, accumulate))


def _norm_weights(config: TransformerConfig) -> int:
    """Parameters of the norms of queries and keys: of one head each, or of all."""
    d = config.head_dim
    return (config.heads + config.kv_heads) * d if config.qk_norm_whole else 2 * d


def _latent(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """Multi-head latent attention (DeepSeek-V2, arXiv:2405.04434, section 2.1), expanded as in training and prefill.

    Every rank of a tensor-parallel group makes the latents, which have no heads; their expansion is split by head.
    Rotary positions and the shared rotary key are written into whole queries and keys of each head.
    """
    c, hidden = config, Dim(config.hidden)
    q, kv = Dim(c.heads, c.head_dim, "heads"), Dim(c.heads, c.qk_nope_dim + c.value_dim, "heads")
    latent = Dim(c.kv_rank)
    if c.q_rank:
        rank = Dim(c.q_rank)
        queries: tuple[Kernel, ...] = (
            Matmul("q_down", rows, (rank,), hidden, dtype, accumulate),
            Pointwise("q_norm", "normalization", rows, (rank,), dtype, 1, 1, 5, weights=c.q_rank),
            Matmul("q_up", rows, (q,), rank, dtype, accumulate),
        )
    else:
        queries = (Matmul("q", rows, (q,), hidden, dtype, accumulate),)
    return (
        *queries,
        Matmul("kv_down", rows, (Dim(c.kv_rank + c.qk_rope_dim),), hidden, dtype, accumulate),
        Pointwise("kv_norm", "normalization", rows, (latent,), dtype, 1, 1, 5, weights=c.kv_rank),
        Matmul("kv_up", rows, (kv,), latent, dtype, accumulate),
        Pointwise("rope", "rope", rows, (q, q), dtype, 1, 1, 3),
        *_index_projections(c, rows, dtype, accumulate),
    )


def _index_projections(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    """Queries, the key and weights of heads of the indexer, whole on every rank."""
    c = config
    if not c.index_heads:
        return ()
    of_queries, hidden = Dim(c.q_rank or c.hidden), Dim(c.hidden)
    key = (Dim(c.index_dim),)
    return (
        Matmul("index_q", rows, (Dim(c.index_heads * c.index_dim),), of_queries, dtype, accumulate),
        Matmul("index_k", rows, (Dim(c.index_dim + c.index_heads),), hidden, dtype, accumulate),
        Pointwise("index_norm", "normalization", rows, key, dtype, 1, 1, 5, weights=2 * c.index_dim),
    )


def _attention(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, flash: bool, window: int
) -> tuple[Kernel, ...]:
    """softmax(Q K^T) V, fused or as two batched products of all heads with the whole [tokens, tokens] between them.

    The unfused products do not skip the masked half. Grouped keys and values are repeated for every query head.
    """
    c, sequences, heads = config, Dim(batch, 1, "batch"), Dim(config.heads, 1, "heads")
    if flash:
        kv_heads = Dim(c.kv_heads, 1, "heads")
        fused = Attention(
            "attention", sequences, tokens, tokens, heads, kv_heads, c.head_dim, dtype, c.causal,
            accumulate=accumulate, window=window, v_head_dim=c.v_head_dim, sinks=c.sinks,
        )  # fmt: skip
        return (fused,)
    over = (sequences, heads)
    queries, keys = Dim(tokens), Dim(tokens)
    rows, scores = Dim(batch, tokens, "batch"), (Dim(c.heads, tokens, "heads"),)
    return (
        Matmul("scores", queries, (keys,), Dim(c.head_dim), dtype, accumulate, weight=False, over=over),
        Pointwise("attention_softmax", "scores", rows, scores, dtype, 1, 1, 7),  # scale, mask and softmax in one kernel
        Matmul("values", queries, (Dim(c.value_dim),), keys, dtype, accumulate, weight=False, over=over),
    )
