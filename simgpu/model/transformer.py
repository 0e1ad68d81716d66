"""The graph of a transformer: prefill of a batch, or forward and backward of a training step.

Traffic of pointwise operators follows fused kernels as serving engines and Megatron run them: one read and one
write for each tensor, with the residual addition fused into the normalisation that follows it (vLLM
`fused_add_rms_norm`, Apex). FLOPs of matrix multiplications are 2mnk; of attention the causal half.
"""

from __future__ import annotations

from simgpu.model.attention_block import attention_operators
from simgpu.model.config import TransformerConfig, is_moe
from simgpu.model.feed_forward import dense_operators, expert_operators
from simgpu.model.gradients import backward, is_weight_gradient
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.operators import Dim, Embedding, Matmul, Operator, Pointwise

__all__ = [
    "backward",
    "embedding_operators",
    "head_operators",
    "is_weight_gradient",
    "layer_operators",
    "norm_operator",
    "prefill_graph",
    "training_graph",
]

SEGMENTS = {
    "dense": "layer",
    "moe": "expert layer",
    "dense local": "window layer",
    "moe local": "expert window layer",
}
"""Names of the segments that hold each kind of layer."""


def prefill_graph(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, routing: str = "balanced"
) -> ModelGraph:
    """Prefill of `batch` prompts of `tokens` tokens: all layers, then the logits of each prompt's last token.

    A model that sees both ways makes the logits of every token.
    """
    rows = Dim(batch, 1, "batch") if config.causal else _rows(batch, tokens)
    return ModelGraph(
        config.name,
        (
            Segment("embedding", embedding_operators(config, batch, tokens, dtype)),
            *_layers(config, batch, tokens, dtype, accumulate, routing, True),
            Segment("head", _logits(config, batch, rows, dtype, accumulate)),
        ),
        tokens=batch * tokens,
    )


def training_graph(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, routing: str = "balanced",
    flash: bool = True,
) -> ModelGraph:  # fmt: skip
    """Forward and backward of `batch` sequences of `tokens` tokens, logits for every token; no optimizer."""
    segments = (
        Segment("embedding", embedding_operators(config, batch, tokens, dtype)),
        *_layers(config, batch, tokens, dtype, accumulate, routing, flash),
        Segment("head", head_operators(config, batch, tokens, dtype, accumulate)),
    )
    reverse = (Segment(f"{s.name} backward", backward(s.operators), s.repeat) for s in reversed(segments))
    return ModelGraph(config.name, (*segments, *reverse), tokens=batch * tokens)


def layer_operators(
    config: TransformerConfig, kind: str, batch: int, tokens: int, dtype: str, accumulate: str,
    routing: str = "balanced", flash: bool = True,
) -> tuple[Operator, ...]:  # fmt: skip
    """Forward operators of one layer of a kind (`TransformerConfig.layer_kinds`)."""
    rows = _rows(batch, tokens)
    attention = attention_operators(config, batch, tokens, dtype, accumulate, flash, config.window_of(kind))
    feed_forward: tuple[Operator, ...]
    if is_moe(kind):
        feed_forward = expert_operators(config, rows, dtype, accumulate, routing)
    else:
        feed_forward = dense_operators(config, rows, config.ffn, dtype, accumulate)
    norms = norm_operator("attention_norm", config, rows, dtype), norm_operator("ffn_norm", config, rows, dtype)
    if config.post_norm:
        return (*attention, norms[0], *feed_forward, norms[1])
    if config.sandwich_norms:
        behind = (
            norm_operator(name, config, rows, dtype, residual=False)
            for name in ("attention_post_norm", "ffn_post_norm")
        )
        return (norms[0], *attention, next(behind), norms[1], *feed_forward, next(behind))
    return (norms[0], *attention, norms[1], *feed_forward)


def embedding_operators(config: TransformerConfig, batch: int, tokens: int, dtype: str) -> tuple[Operator, ...]:
    """Operators before the first layer."""
    rows, vocab = _rows(batch, tokens), Dim(config.vocab, 1, "vocab")
    table = Embedding("embedding", rows, vocab, config.hidden, dtype, config.position_rows + config.token_types)
    if not config.post_norm:
        return (table,)
    return (table, norm_operator("embedding_norm", config, rows, dtype, residual=False))


def head_operators(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str
) -> tuple[Operator, ...]:
    """Operators after the last layer in training: norm, logits of every token, loss."""
    rows = _rows(batch, tokens)
    loss = Pointwise("loss", "softmax", rows, (Dim(config.vocab, 1, "vocab"),), dtype, 1, 1, 5)
    return (*_logits(config, batch, rows, dtype, accumulate), loss)


def _logits(config: TransformerConfig, batch: int, rows: Dim, dtype: str, accumulate: str) -> tuple[Operator, ...]:
    """Final norm and logits of `rows`. BERT: the pooled first token first, then a transformation before the logits."""
    c, hidden = config, Dim(config.hidden)
    vocab, first = (Dim(c.vocab, 1, "vocab"),), Dim(batch, 1, "batch")
    operators: list[Operator] = []
    if c.pooler:
        operators.append(Matmul("pooler", first, (hidden,), hidden, dtype, accumulate, bias=True))
        operators.append(Matmul("next_sentence", first, (Dim(2),), hidden, dtype, accumulate, bias=True))
    if c.masked_lm:
        operators.append(Matmul("transform", rows, (hidden,), hidden, dtype, accumulate, bias=True))
        operators.append(Pointwise("transform_activation", "elementwise", rows, (hidden,), dtype, 1, 1, 8))
    operators.append(norm_operator("final_norm", c, rows, dtype, residual=not c.post_norm))
    weight = not c.tied_embeddings  # a tied head reads the embedding's table
    operators.append(Matmul("lm_head", rows, vocab, hidden, dtype, accumulate, weight=weight, bias=c.masked_lm))
    return tuple(operators)


def _layers(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, routing: str, flash: bool
) -> tuple[Segment, ...]:
    """A segment for each run of equal layers."""
    return tuple(
        Segment(SEGMENTS[kind], layer_operators(config, kind, batch, tokens, dtype, accumulate, routing, flash), count)
        for kind, count in config.layer_kinds()
    )


def _rows(batch: int, tokens: int) -> Dim:
    return Dim(batch, tokens, "batch")


def norm_operator(name: str, config: TransformerConfig, rows: Dim, dtype: str, residual: bool = True) -> Pointwise:
    """Normalisation, with the residual addition in the same kernel: reads both, writes the sum and normalised rows."""
    weights = config.hidden if config.rms_norm else 2 * config.hidden
    passes = 2 if residual else 1
    return Pointwise(name, "normalization", rows, (Dim(config.hidden),), dtype, passes, passes, 6, weights=weights)
