"""What passes from layer to layer where that is not one residual stream, and blocks that several layers share.

- Hyper-connections (DeepSeek V4; transformers, modeling_deepseek_v4.py): several streams, mixed around each half.
- AltUp (Baykal et al., arXiv:2301.13310; transformers, modeling_gemma3n.py): a layer computes one of several streams,
  the others are predicted from it before and corrected behind; LAuReL (arXiv:2411.07501) adds a product of low rank.
- Attention over depth (Kimi K3; transformers, modular_kimi_k3.py, `KimiK3AttentionResidual`): each half reads a
  weighted sum of the sums of earlier blocks of layers.
- One block of attention and feed-forward for several places in the model (Zamba; transformers, modeling_zamba2.py),
  which reads the embedding beside the hidden state, with a projection and small adapters of each place's own.
"""

from __future__ import annotations

from dataclasses import replace

from simgpu.model.config import TransformerConfig
from simgpu.model.operators import Dim, Matmul, Operator, Pointwise


def blocks_seen(config: TransformerConfig) -> int:
    """Sums of earlier blocks of layers that a layer reads, on average over the layers."""
    return (-(-config.layers // config.depth_block) + 1) // 2


def mixed(
    name: str, config: TransformerConfig, rows: Dim, dtype: str, half: tuple[Operator, ...]
) -> tuple[Operator, ...]:
    """One half of a layer with what is done to the residual before and behind it."""
    c, hidden = config, (Dim(config.hidden),)
    if c.depth_block:
        n = blocks_seen(c) + 1
        reads = Pointwise(f"{name}_depth", "normalization", rows, hidden, dtype, n, 1, 6 * n, weights=2 * c.hidden)
        return (reads, *half)
    if c.side_rank and name == "attention":
        rank = (Dim(c.side_rank),)
        beside = (
            Matmul("side_in", rows, rank, hidden[0], dtype),
            Matmul("side_out", rows, hidden, rank[0], dtype),
            Pointwise("side_norm", "normalization", rows, hidden, dtype, 3, 1, 8, weights=c.hidden),
        )
        return (*half, *beside)
    if not c.streams:
        return half
    n = c.streams
    mix = Matmul(f"{name}_streams", rows, (Dim(n * (n + 2)),), Dim(n * c.hidden), dtype)
    before = Pointwise(f"{name}_streams_in", "elementwise", rows, hidden, dtype, n, 1, 2 * n, weights=n * (n + 2) + 3)
    behind = Pointwise(f"{name}_streams_out", "elementwise", rows, hidden, dtype, n + 1, n, 2 * n)
    return (mix, before, *half, behind)


def predicted(config: TransformerConfig, rows: Dim, dtype: str, layer: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """A layer between the prediction of the streams and their correction (AltUp), where there are several."""
    c, n, hidden = config, config.predicted_streams, (Dim(config.hidden),)
    if not n:
        return layer
    router = Matmul("altup_router", rows, (Dim(n),), hidden[0], dtype)
    again = replace(router, name="altup_router_again", weight=False)
    small = n * n + n**3 + 2 * c.hidden
    before = Pointwise("altup_predict", "elementwise", rows, hidden, dtype, n, n, 2 * n * n, weights=small)
    behind = Pointwise("altup_correct", "elementwise", rows, hidden, dtype, n + 1, n, 3 * n)
    found = [router, before, *layer, again, behind]
    own = _own_embedding(c, rows, dtype)
    if own:
        added = Pointwise("altup_add", "elementwise", rows, hidden, dtype, n, n - 1, n - 1, weights=c.hidden)
        found += [*own, added]
    return tuple(found)


def own_embedding(config: TransformerConfig, rows: Dim, dtype: str) -> tuple[Operator, ...]:
    """What a layer reads of its own table of tokens, where that is added to its one stream (Gemma 4)."""
    return () if config.predicted_streams else _own_embedding(config, rows, dtype)


def _own_embedding(config: TransformerConfig, rows: Dim, dtype: str) -> tuple[Operator, ...]:
    """A gate, and the projection back (Gemma 3n)."""
    c, width = config, Dim(config.layer_embedding)
    if not c.layer_embedding:
        return ()
    return (
        Matmul("layer_gate", rows, (width,), Dim(c.hidden), dtype),
        Pointwise("layer_activation", "elementwise", rows, (width,), dtype, 2, 1, 8),
        Matmul("layer_projection", rows, (Dim(c.hidden),), width, dtype),
    )


def streams_made(config: TransformerConfig, rows: Dim, dtype: str) -> tuple[Operator, ...]:
    """Further streams out of the embedding, by a product each (AltUp)."""
    c, more = config, config.predicted_streams - 1
    return (Matmul("streams_made", rows, (Dim(more * c.hidden),), Dim(c.hidden), dtype),) if more > 0 else ()


def streams_joined(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> tuple[Operator, ...]:
    """One stream out of several behind the last layer."""
    c, hidden = config, (Dim(config.hidden),)
    if c.predicted_streams:
        n = c.predicted_streams
        product = Matmul("streams_head", rows, ((n - 1) * hidden)[: n - 1], hidden[0], dtype, accumulate)
        return (product, Pointwise("streams_joined", "elementwise", rows, hidden, dtype, n, 1, 2 * n))
    if c.depth_block:
        n = -(-c.layers // c.depth_block) + 1
        return (Pointwise("depth_head", "normalization", rows, hidden, dtype, n, 1, 6 * n, weights=2 * c.hidden),)
    if not c.streams:
        return ()
    n = c.streams
    return (
        Matmul("streams_head", rows, (Dim(n),), Dim(n * c.hidden), dtype, accumulate),
        Pointwise("streams_joined", "elementwise", rows, hidden, dtype, n, 1, 2 * n, weights=n + 1),
    )


def lent(
    config: TransformerConfig, rows: Dim, dtype: str, accumulate: str, layer: tuple[Operator, ...]
) -> tuple[Operator, ...]:
    """A block that several places share: what each place has of its own, the rest without weights where borrowed."""
    c, hidden = config, Dim(config.hidden)
    if not c.shared_block:
        return layer
    kept = tuple(_borrowed(op) for op in layer) if c.borrowed_weights else layer
    own: list[Operator] = []
    if c.adapter_rank:
        rank, up = Dim(c.adapter_rank), Dim(c.ffn, 1 + c.gated, "ffn")
        own.append(Matmul("adapter_in", rows, (rank,), hidden, dtype, accumulate))
        own.append(Matmul("adapter_out", rows, (up,), rank, dtype, accumulate))
        if c.adapted_attention:
            ranks, wide = (rank, rank, rank), Dim(c.heads, c.head_dim, "heads")
            own.append(Matmul("attention_adapter_in", rows, ranks, Dim(c.entered), dtype, accumulate))
            own.append(Matmul("attention_adapter_out", rows, (wide, wide, wide), rank, dtype, accumulate))
    return (*kept, *own, Matmul("block_out", rows, (hidden,), hidden, dtype, accumulate))


def _borrowed(op: Operator) -> Operator:
    if isinstance(op, Matmul):
        return replace(op, weight=False)
    return replace(op, weights=0) if isinstance(op, Pointwise) else op
