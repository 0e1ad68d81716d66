"""Parts that diffusion transformers share, as diffusers writes them: each step of a formula is a kernel.

Source: huggingface/diffusers, models/normalization.py, models/embeddings.py, models/attention.py. Tensors of fp32 count
as two of 16 bits.
"""

from __future__ import annotations

from simgpu.model.dims import Dim
from simgpu.model.networks.build import Builder

ROPE = ((0.5, 0.5), (1, 1), (1, 2), (2, 2), (1, 2), (2, 2), (4, 2), (2, 1))
"""apply_rotary_emb: negation of a half, stack, cast to fp32, product with cosines, cast of the rotated, product with
sines, sum, cast back; tensors read and written by each."""

RMS = ((1, 2), (2, 2), (2, 0), (1, 2), (2, 1), (1, 1))
"""RMSNorm: cast to fp32, square, mean, product with the root, cast back, weights."""


def rope(b: Builder, rows: Dim, width: int) -> None:
    """Rotary positions of queries and of keys."""
    for _ in range(2):
        for reads, writes in ROPE:
            b.elementwise("rope", rows, width, reads, writes, saves=False)


def head_norms(b: Builder, rows: Dim, width: int, weights: int) -> None:
    """RMS norms of queries and of keys, of `weights` weights each."""
    for _ in range(2):
        for i, (reads, writes) in enumerate(RMS):
            b.elementwise("qk_norm", rows, width, reads, writes, saves=False, weights=weights * (i == len(RMS) - 1))


def modulate(b: Builder, rows: Dim, width: int, affine: bool = False) -> None:
    """A layer norm, the product with a scale, the sum with a shift."""
    b.layer_norm("norm", rows, width, affine=affine)
    b.elementwise("scale", rows, width)
    b.elementwise("shift", rows, width)


def ada(b: Builder, width: int, outputs: int, embedding: int = 0) -> None:
    """Scales, shifts and gates from the embedding of time: SiLU and a linear layer to `outputs` vectors."""
    embedding = embedding or width
    b.activation("ada_silu", b.batch, embedding)
    b.linear("ada", b.batch, outputs * width, embedding)


def gated(b: Builder, rows: Dim, width: int) -> None:
    """A product with a gate and the residual."""
    b.elementwise("gate", rows, width)
    b.elementwise("add", rows, width, reads=2)


def feed_forward(b: Builder, rows: Dim, width: int, inner: int) -> None:
    """Two linear layers with a GELU between them."""
    b.linear("ff_in", rows, inner, width)
    b.activation("ff_gelu", rows, inner)
    b.linear("ff_out", rows, width, inner)


def mlp(b: Builder, rows: Dim, first: int, inner: int, last: int) -> None:
    """Two linear layers with an activation between them, of an embedding."""
    b.linear("embed_1", rows, inner, first)
    b.activation("embed_act", rows, inner)
    b.linear("embed_2", rows, last, inner)


def time(b: Builder, width: int, channels: int = 256) -> None:
    """The embedding of the step: sines and cosines of `channels` frequencies, then two layers."""
    for _ in range(8):
        b.elementwise("time_sinus", b.batch, channels)
    mlp(b, b.batch, channels, width, width)
