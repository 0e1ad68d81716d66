"""The graph of a transformer: prefill of a batch, or forward and backward of a training step.

Traffic of pointwise operators follows fused kernels as serving engines and Megatron run them: one read and one
write for each tensor, with the residual addition fused into the normalisation that follows it (vLLM
`fused_add_rms_norm`, Apex). FLOPs of matrix multiplications are 2mnk; of attention the causal half.
"""

from __future__ import annotations

from simgpu.model import residuals
from simgpu.model.attention_block import attention_operators
from simgpu.model.config import TransformerConfig, feed_of, is_moe, mixer_of
from simgpu.model.feed_forward import dense_operators, expert_operators
from simgpu.model.gradients import backward, is_weight_gradient
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.layers import PREDICTS
from simgpu.model.operators import Dim, Embedding, Matmul, Operator, Pointwise
from simgpu.model.state_block import state_operators

__all__ = [
    "backward",
    "embedding_operators",
    "further_head_operators",
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
    segments: tuple[Segment, ...] = (
        Segment("embedding", embedding_operators(config, batch, tokens, dtype)),
        *_layers(config, batch, tokens, dtype, accumulate, routing, flash),
        Segment("head", head_operators(config, batch, tokens, dtype, accumulate)),
    )
    if config.trained_mtp:
        further = further_head_operators(config, batch, tokens, dtype, accumulate)
        segments = (*segments, Segment("further head", further, config.trained_mtp))
    reverse = (Segment(f"{s.name} backward", backward(s.operators), s.repeat) for s in reversed(segments))
    return ModelGraph(config.name, (*segments, *reverse), tokens=batch * tokens)


def layer_operators(
    config: TransformerConfig, kind: str, batch: int, tokens: int, dtype: str, accumulate: str,
    routing: str = "balanced", flash: bool = True,
) -> tuple[Operator, ...]:  # fmt: skip
    """Forward operators of one layer of a kind (`TransformerConfig.layer_kinds`)."""
    rows, c = _rows(batch, tokens), config.of(kind)
    mixer: list[Operator] = []
    if mixer_of(kind) in ("attention", "both"):
        mixer += attention_operators(c, batch, tokens, dtype, accumulate, flash, config.window_of(kind))
    if mixer_of(kind) in ("state", "both"):
        mixer += state_operators(c, rows, ((Dim(batch, 1, "batch"), tokens, False),), dtype, accumulate)
    feed_forward: tuple[Operator, ...] = ()
    if is_moe(kind):
        feed_forward = expert_operators(c, rows, dtype, accumulate, routing)
    elif feed_of(kind) == "dense":
        feed_forward = dense_operators(c, rows, c.ffn, dtype, accumulate)
    layer = residuals.lent(c, rows, dtype, accumulate, in_order(c, rows, dtype, tuple(mixer), feed_forward))
    return _predicting(config, rows, dtype, accumulate, layer) if kind.endswith(PREDICTS) else layer


def _predicting(
    config: TransformerConfig, rows: Dim, dtype: str, accumulate: str, layer: tuple[Operator, ...]
) -> tuple[Operator, ...]:
    """A module that predicts a further token: the hidden state and the next embedding, joined, then a layer and a norm.

    Each is normed, and both are projected to one row of the hidden width (DeepSeek-V3, arXiv 2412.19437, section 2.2;
    Megatron-Core, transformer/multi_token_prediction.py). The table is the embedding's, the head the model's own.
    """
    hidden = Dim(config.hidden)
    return (
        Pointwise("mtp_embedding", "embedding", rows, (hidden,), dtype, 1, 1),
        norm_operator("mtp_embedding_norm", config, rows, dtype, residual=False),
        norm_operator("mtp_hidden_norm", config, rows, dtype, residual=False),
        Matmul("mtp_projection", rows, (hidden,), Dim(2 * config.hidden), dtype, accumulate),
        *layer,
        norm_operator("mtp_final_norm", config, rows, dtype, residual=not config.post_norm),
    )


def in_order(
    config: TransformerConfig, rows: Dim, dtype: str, mixer: tuple[Operator, ...], feed_forward: tuple[Operator, ...]
) -> tuple[Operator, ...]:
    """Mixer, feed-forward and the norms around them. In parallel blocks both read the same rows: norms come first."""
    c = config
    names = [name for name, half in (("attention_norm", mixer), ("ffn_norm", feed_forward)) if half]
    if c.single_norm:
        names = names[:1]
    norms = [norm_operator(name, c, rows, dtype) for name in names]
    both = (("attention", mixer), ("ffn", feed_forward))
    halves = [residuals.mixed(name, c, rows, dtype, half) for name, half in both if half]
    if c.parallel:
        return (*norms, *mixer, *feed_forward, *residuals.own_embedding(c, rows, dtype))
    found: list[Operator] = []
    for norm, half in zip(norms, halves, strict=True):
        if c.post_norm:
            found += [*half, norm]
            continue
        found += [norm, *half]
        if c.sandwich_norms:
            name = norm.name.replace("_norm", "_post_norm")
            found.append(norm_operator(name, c, rows, dtype, residual=False))
    return (*residuals.predicted(c, rows, dtype, tuple(found)), *residuals.own_embedding(c, rows, dtype))


def embedding_operators(config: TransformerConfig, batch: int, tokens: int, dtype: str) -> tuple[Operator, ...]:
    """Operators before the first layer."""
    rows, vocab = _rows(batch, tokens), Dim(config.vocab, 1, "vocab")
    others = config.position_rows + config.token_types
    width = config.embedding_width or config.hidden
    found: list[Operator] = [Embedding("embedding", rows, vocab, width, dtype, 0 if config.embedding_width else others)]
    if config.embedding_width:
        if others:
            found.append(Embedding("positions", rows, Dim(others), config.hidden, dtype))
        found.append(Matmul("embedding_in", rows, (Dim(config.hidden),), Dim(width), dtype))
    if config.layer_embedding:
        each = (Dim(config.layers * config.layer_embedding),)
        found.append(Embedding("layer_embeddings", rows, vocab, each[0].size, dtype))
        found.append(Matmul("layer_embeddings_in", rows, each, Dim(config.hidden), dtype))
    found += residuals.streams_made(config, rows, dtype)
    if config.post_norm or config.embedding_norm:
        found.append(norm_operator("embedding_norm", config, rows, dtype, residual=False))
    return tuple(found)


def head_operators(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str
) -> tuple[Operator, ...]:
    """Operators after the last layer in training: norm, logits of every token, loss."""
    rows = _rows(batch, tokens)
    if not config.lm_head:
        return _logits(config, batch, rows, dtype, accumulate)
    loss = Pointwise("loss", "softmax", rows, (Dim(config.vocab, 1, "vocab"),), dtype, 1, 1, 5)
    return (*_logits(config, batch, rows, dtype, accumulate), loss)


def further_head_operators(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str
) -> tuple[Operator, ...]:
    """Logits and loss of a module that predicts a further token, with the weights of the model's own head."""
    rows, vocab = _rows(batch, tokens), (Dim(config.vocab, 1, "vocab"),)
    product = Matmul("lm_head", rows, vocab, Dim(config.hidden), dtype, accumulate, weight=False)
    return product, Pointwise("loss", "softmax", rows, vocab, dtype, 1, 1, 5)


def _logits(config: TransformerConfig, batch: int, rows: Dim, dtype: str, accumulate: str) -> tuple[Operator, ...]:
    """Final norm and logits of `rows`. BERT: the pooled first token first, then a transformation before the logits."""
    c, hidden = config, Dim(config.hidden)
    vocab, first = (Dim(c.vocab, 1, "vocab"),), Dim(batch, 1, "batch")
    operators: list[Operator] = []
    if c.pooler:
        operators.append(Matmul("pooler", first, (hidden,), hidden, dtype, accumulate, bias=True))
        if c.masked_lm:
            operators.append(Matmul("next_sentence", first, (Dim(2),), hidden, dtype, accumulate, bias=True))
    if c.masked_lm:
        operators.append(Matmul("transform", rows, (hidden,), hidden, dtype, accumulate, bias=True))
        operators.append(Pointwise("transform_activation", "elementwise", rows, (hidden,), dtype, 1, 1, 8))
    operators += residuals.streams_joined(c, rows, dtype, accumulate)
    if c.final_norm:
        operators.append(norm_operator("final_norm", c, rows, dtype, residual=not c.post_norm))
    return (*operators, *head_product(c, rows, vocab, dtype, accumulate))


def head_product(
    config: TransformerConfig, rows: Dim, vocab: tuple[Dim, ...], dtype: str, accumulate: str
) -> tuple[Operator, ...]:
    """The logits of `rows`, where a model makes some. A tied head reads the embedding's table."""
    c, width = config, Dim(config.embedding_width or config.hidden)
    if not c.lm_head:
        return ()
    weight, bias = not c.tied_embeddings, c.masked_lm or c.head_bias
    product = Matmul("lm_head", rows, vocab, width, dtype, accumulate, weight=weight, bias=bias)
    if not c.embedding_width:
        return (product,)
    return (Matmul("embedding_out", rows, (width,), Dim(c.hidden), dtype, accumulate), product)


def _layers(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, routing: str, flash: bool
) -> tuple[Segment, ...]:
    """A segment for each run of equal layers."""
    return tuple(
        Segment(segment(kind), layer_operators(config, kind, batch, tokens, dtype, accumulate, routing, flash), count)
        for kind, count in config.layer_kinds()
    )


def segment(kind: str) -> str:
    """The name of the segment that holds layers of a kind."""
    return SEGMENTS.get(kind) or f"{kind} layer"


def _rows(batch: int, tokens: int) -> Dim:
    return Dim(batch, tokens, "batch")


def norm_operator(name: str, config: TransformerConfig, rows: Dim, dtype: str, residual: bool = True) -> Pointwise:
    """Normalisation, with the residual addition in the same kernel: reads both, writes the sum and normalised rows."""
    width = config.entered if name == "attention_norm" else config.hidden
    weights = (width if config.rms_norm else 2 * width) if config.norm_weights else 0
    passes = 2 if residual else 1
    return Pointwise(name, "normalization", rows, (Dim(width),), dtype, passes, passes, 6, weights=weights)
