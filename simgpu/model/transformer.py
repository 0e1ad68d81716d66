"""The graph of a dense decoder-only transformer: prefill of a batch, or forward and backward of a training step.

Traffic of pointwise operators follows fused kernels as serving engines and Megatron run them: one read and one
write for each tensor, with the residual addition fused into the normalisation that follows it (vLLM
`fused_add_rms_norm`, Apex). FLOPs of matrix multiplications are 2mnk; of attention the causal half.
"""

from __future__ import annotations

from dataclasses import replace

from simgpu.model.config import TransformerConfig
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.operators import Attention, Dim, Embedding, Kernel, Matmul, Pointwise


def prefill_graph(config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str) -> ModelGraph:
    """Prefill of `batch` prompts of `tokens` tokens: all layers, then the logits of each prompt's last token."""
    rows = _rows(batch, tokens)
    last = Dim(batch, 1, "batch")
    return ModelGraph(
        config.name,
        (
            Segment("embedding", (_embedding(config, rows, dtype),)),
            Segment("layer", _layer(config, batch, tokens, dtype, accumulate), config.layers),
            Segment("head", (_norm("final_norm", config, last, dtype), _head(config, last, dtype, accumulate))),
        ),
        tokens=batch * tokens,
    )


def training_graph(config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str) -> ModelGraph:
    """Forward and backward of `batch` sequences of `tokens` tokens, logits for every token; no optimizer."""
    rows = _rows(batch, tokens)
    layer = _layer(config, batch, tokens, dtype, accumulate)
    loss = Pointwise("loss", "softmax", rows, (Dim(config.vocab, 1, "vocab"),), dtype, 1, 1, 5)
    head = (_norm("final_norm", config, rows, dtype), _head(config, rows, dtype, accumulate), loss)
    first = _embedding(config, rows, dtype)
    return ModelGraph(
        config.name,
        (
            Segment("embedding", (first,)),
            Segment("layer", layer, config.layers),
            Segment("head", head),
            Segment("head backward", backward(head)),
            Segment("layer backward", backward(layer), config.layers),
            Segment("embedding backward", backward((first,))),
        ),
        tokens=batch * tokens,
    )


def backward(operators: tuple[Kernel, ...]) -> tuple[Kernel, ...]:
    """The gradients of `operators`, last first: of the inputs (dgrad), then of the weights (wgrad)."""
    found: list[Kernel] = []
    for op in reversed(operators):
        match op:
            case Matmul():
                # dA[m,k] = dC[m,n] B^T: contracts over the outputs; their axis, if split, makes it a partial sum
                axis = op.n[0].axis
                contracted = Dim(sum(d.units * d.width for d in op.n), 1, axis) if len(op.n) > 1 else op.n[0]
                found.append(replace(op, name=f"{op.name}_dgrad", n=(op.k,), k=contracted, weight=False, bias=False))
                found.append(replace(op, name=f"{op.name}_wgrad", m=op.k, n=op.n, k=op.m, weight=False, bias=False))
            case Attention():
                found.append(replace(op, name=f"{op.name}_backward", passes=2.5))
            case Pointwise():
                # reads the incoming gradient and the saved input, writes one gradient
                kind = "elementwise" if op.kind == "softmax" else op.kind  # the gradient needs no further sums
                extra = replace(op, name=f"{op.name}_backward", kind=kind, reads=op.reads + 1, weights=0)
                found.append(replace(extra, flops_per_element=2 * op.flops_per_element))
            case Embedding():
                scatter = (Dim(op.width),)
                found.append(Pointwise(f"{op.name}_backward", "embedding", op.rows, scatter, op.dtype, 2, 1))
    return tuple(found)


def _rows(batch: int, tokens: int) -> Dim:
    return Dim(batch, tokens, "batch")


def _layer(config: TransformerConfig, batch: int, tokens: int, dtype: str, accumulate: str) -> tuple[Kernel, ...]:
    c, rows = config, _rows(batch, tokens)
    hidden = Dim(c.hidden)
    q = Dim(c.heads, c.head_dim, "heads")
    kv = Dim(c.kv_heads, 2 * c.head_dim, "heads")
    inner = Dim(c.ffn, 1, "ffn")
    up = (Dim(c.ffn, 2, "ffn"),) if c.gated else (inner,)
    operators: list[Kernel] = [
        _norm("attention_norm", c, rows, dtype),
        Matmul("qkv", rows, (q, kv), hidden, dtype, accumulate, bias=c.qkv_bias),
    ]
    if c.qk_norm:
        heads = (q, Dim(c.kv_heads, c.head_dim, "heads"))
        operators.append(Pointwise("qk_norm", "normalization", rows, heads, dtype, 1, 1, 5, weights=2 * c.head_dim))
    if c.rope:
        heads = (q, Dim(c.kv_heads, c.head_dim, "heads"))
        operators.append(Pointwise("rope", "rope", rows, heads, dtype, 1, 1, 3))
    operators += [
        Attention(
            "attention",
            Dim(batch, 1, "batch"),
            tokens,
            tokens,
            Dim(c.heads, 1, "heads"),
            Dim(c.kv_heads, 1, "heads"),
            c.head_dim,
            dtype,
            accumulate=accumulate,
            window=c.window,
        ),
        Matmul("attention_out", rows, (hidden,), q, dtype, accumulate, bias=c.bias),
        _norm("ffn_norm", c, rows, dtype),
        Matmul("ffn_up", rows, up, hidden, dtype, accumulate, bias=c.bias),
        Pointwise("activation", "elementwise", rows, (inner,), dtype, 2 if c.gated else 1, 1, 8),
        Matmul("ffn_down", rows, (hidden,), inner, dtype, accumulate, bias=c.bias),
    ]
    return tuple(operators)


def _norm(name: str, config: TransformerConfig, rows: Dim, dtype: str) -> Pointwise:
    """Residual addition and normalisation in one kernel: reads both, writes the sum and the normalised rows."""
    weights = config.hidden if config.rms_norm else 2 * config.hidden
    return Pointwise(name, "normalization", rows, (Dim(config.hidden),), dtype, 2, 2, 6, weights=weights)


def _embedding(config: TransformerConfig, rows: Dim, dtype: str) -> Embedding:
    positions = 0 if config.rope else config.max_tokens
    return Embedding("embedding", rows, Dim(config.vocab, 1, "vocab"), config.hidden, dtype, positions)


def _head(config: TransformerConfig, rows: Dim, dtype: str, accumulate: str) -> Matmul:
    vocab = (Dim(config.vocab, 1, "vocab"),)
    weight = not config.tied_embeddings  # a tied head reads the embedding's table
    return Matmul("lm_head", rows, vocab, Dim(config.hidden), dtype, accumulate, weight=weight)
