"""The graph of a transformer: prefill of a batch, or forward and backward of a training step.

Traffic of pointwise operators follows fused kernels as serving engines and Megatron run them: one read and one
write for each tensor, with the residual addition fused into the normalisation that follows it (vLLM
`fused_add_rms_norm`, Apex). FLOPs of matrix multiplications are 2mnk; of attention the causal half.
"""

from __future__ import annotations

from simgpu.model.attention_block import attention_operators
from simgpu.model.config import TransformerConfig
from simgpu.model.feed_forward import dense_operators
from simgpu.model.gradients import backward, is_weight_gradient
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.operators import Dim, Embedding, Matmul, Operator, Pointwise

__all__ = [
    "backward",
    "embedding_operators",
    "head_operators",
    "is_weight_gradient",
    "layer_operators",
    "prefill_graph",
    "training_graph",
]

SEGMENTS = {"dense": "layer", "moe": "expert layer"}
"""Names of the segments that hold each kind of layer."""


def prefill_graph(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str, routing: str = "balanced"
) -> ModelGraph:
    """Prefill of `batch` prompts of `tokens` tokens: all layers, then the logits of each prompt's last token."""
    last = Dim(batch, 1, "batch")
    return ModelGraph(
        config.name,
        (
            Segment("embedding", embedding_operators(config, batch, tokens, dtype)),
            *_layers(config, batch, tokens, dtype, accumulate, routing, True),
            Segment("head", (_norm("final_norm", config, last, dtype), _head(config, last, dtype, accumulate))),
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
    return (
        _norm("attention_norm", config, rows, dtype),
        *attention_operators(config, batch, tokens, dtype, accumulate, flash),
        _norm("ffn_norm", config, rows, dtype),
        *dense_operators(config, rows, config.ffn, dtype, accumulate),
    )


def embedding_operators(config: TransformerConfig, batch: int, tokens: int, dtype: str) -> tuple[Operator, ...]:
    """What stands before the first layer."""
    positions = 0 if config.rope else config.max_tokens
    vocab = Dim(config.vocab, 1, "vocab")
    return (Embedding("embedding", _rows(batch, tokens), vocab, config.hidden, dtype, positions),)


def head_operators(
    config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str
) -> tuple[Operator, ...]:
    """What stands behind the last layer in training: norm, logits of every token, loss."""
    rows = _rows(batch, tokens)
    loss = Pointwise("loss", "softmax", rows, (Dim(config.vocab, 1, "vocab"),), dtype, 1, 1, 5)
    return (_norm("final_norm", config, rows, dtype), _head(config, rows, dtype, accumulate), loss)


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


def _norm(name: str, config: TransformerConfig, rows: Dim, dtype: str) -> Pointwise:
    """Residual addition and normalisation in one kernel: reads both, writes the sum and the normalised rows."""
    weights = config.hidden if config.rms_norm else 2 * config.hidden
    return Pointwise(name, "normalization", rows, (Dim(config.hidden),), dtype, 2, 2, 6, weights=weights)


def _head(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> Matmul:
    vocab = (Dim(config.vocab, 1, "vocab"),)
    weight = not config.tied_embeddings  # a tied head reads the embedding's table
    return Matmul("lm_head", rows, vocab, Dim(config.hidden), dtype, accumulate, weight=weight)
