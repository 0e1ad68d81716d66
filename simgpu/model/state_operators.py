"""Operators of mixers that are no softmax over all keys: scans over a state, and what picks keys (sparse attention).

A scan over many tokens runs in chunks: products inside a chunk, and a state carried from chunk to chunk (Dao and Gu,
Mamba-2, arXiv:2405.21060, section 6; Yang et al., arXiv:2412.06464, section 3.2). Over a few tokens it reads and writes
the state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from simgpu.model.dims import BYTES, Dim, timed

CHUNK = 64
"""Tokens of a chunk (flash-linear-attention, chunk_gated_delta_rule; fla-org/flash-linear-attention)."""

FEW_TOKENS = 16
"""New tokens of a sequence up to which a step goes token by token."""

STATE = "fp32"
"""The dtype of states."""


@dataclass(frozen=True, slots=True)
class Scan:
    """New tokens of `batch` sequences folded into states [key_dim, value_dim] of `heads` heads each, and read out.

    `variant` is a kind of `simgpu.model.recurrence.Recurrence`. `continued`: states of earlier tokens are read too.
    `passes` scales the work as in `Attention`.
    """

    kind: ClassVar[str] = "scan"
    name: str
    variant: str
    batch: Dim
    tokens: int  # per sequence
    heads: Dim
    key_heads: Dim
    key_dim: int
    value_dim: int
    dtype: str
    continued: bool = False
    passes: float = 1.0
    chunked: bool = False  # in chunks, however few tokens there are
    accumulate: ClassVar[str] = "fp32"
    weights: ClassVar[int] = 0
    time_s: float | None = None

    @property
    def steps(self) -> bool:
        """True if it goes token by token."""
        return self.tokens <= FEW_TOKENS and not self.chunked

    @property
    def flops(self) -> float:
        """FLOPs of all heads.

        Of a token in a chunk of C: 2 (3 C d_k + 2 C d_v + 3 d_k d_v) with the delta rule, 2 (C d_k + C d_v + 2 d_k d_v)
        without; of one that is folded in alone 2 x 3 d_k d_v or 2 x 2 d_k d_v.
        """
        k, v, delta = self.key_dim, self.value_dim, self.variant in ("gated_delta", "kda")
        products = (3 if delta else 2) * k * v
        if not self.steps and self.variant != "mamba":
            products += CHUNK * ((3 * k + 2 * v) if delta else (k + v))
        return 2.0 * self.batch.size * self.tokens * self.heads.size * products * self.passes

    @property
    def model_flops(self) -> float:
        """FLOPs without recomputation: 1 pass forward, 2 backward."""
        return self.flops / self.passes * min(self.passes, 2.0)

    @property
    def state_bytes(self) -> float:
        """Bytes of the states of all sequences and heads, once."""
        return self.batch.size * self.heads.size * self.key_dim * self.value_dim * BYTES[STATE]

    @property
    def chunks(self) -> int:
        """Chunks of a sequence."""
        return 1 if self.steps else -(-self.tokens // CHUNK)

    @property
    def bytes(self) -> float:
        """Queries, keys, values and outputs once; states written, and read where there are some already.

        Tokens that are verified leave a state each, so that any of them can be the last.
        """
        rows = self.batch.size * self.tokens
        wide = 2 * self.key_heads.size * self.key_dim + 2 * self.heads.size * self.value_dim + 2 * self.heads.size
        written = self.tokens if self.steps and self.continued else 1
        return (rows * wide * BYTES[self.dtype] + self.state_bytes * (written + self.continued)) * self.passes

    def split(self, ways: Mapping[str, int]) -> Scan:
        """The part of one rank: its heads."""
        batch, heads, keys = (dim.split(ways) for dim in (self.batch, self.heads, self.key_heads))
        return timed(self, replace(self, batch=batch, heads=heads, key_heads=keys))


@dataclass(frozen=True, slots=True)
class Indexer:
    """Scores of every visible key for each query by small heads, and the choice of the best `chosen` keys.

    DeepSeek-V3.2 (deepseek-ai/DeepSeek-V3.2-Exp, inference/model.py, Indexer): products in fp8 of `heads` queries with
    one key for all of them, summed over heads with weights; scores are written in fp32 and read by the choice. Every
    rank of a tensor-parallel group does all of it.
    """

    kind: ClassVar[str] = "indexer"
    name: str
    batch: Dim
    queries: int
    keys: int
    heads: int
    dim: int
    chosen: int
    dtype: str = "fp8"
    causal: bool = True
    passes: float = 1.0
    accumulate: ClassVar[str] = "fp32"
    weights: ClassVar[int] = 0
    time_s: float | None = None

    @property
    def pairs(self) -> float:
        """(query, visible key) pairs of a sequence."""
        q, k = self.queries, self.keys
        return q * (k - q) + q * (q + 1) / 2 if self.causal else float(q * k)

    @property
    def flops(self) -> float:
        """2 d for each pair and head."""
        return 2.0 * self.pairs * self.heads * self.dim * self.batch.size * self.passes

    @property
    def model_flops(self) -> float:
        """FLOPs without recomputation."""
        return self.flops / self.passes * min(self.passes, 2.0)

    @property
    def score_bytes(self) -> float:
        """Scores in fp32, which are written once and read once."""
        return self.batch.size * 4.0 * self.pairs * self.passes

    @property
    def bytes(self) -> float:
        """Keys and queries in, scores out and in again."""
        entry = (self.keys + self.queries * self.heads) * self.dim * BYTES[self.dtype]
        return self.batch.size * entry * self.passes + 2 * self.score_bytes

    def split(self, ways: Mapping[str, int]) -> Indexer:
        """The part of one rank: its sequences."""
        return timed(self, replace(self, batch=self.batch.split(ways)))
