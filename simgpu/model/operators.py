"""Operators: what is computed, with shapes, FLOPs and bytes. Nothing here knows how fast anything is.

Every size that can be split over GPUs is a `Dim` with the name of its axis. A plan splits axes, not operators:
a matrix multiplication whose output axis is split makes a slice of the output, one whose contracted axis is
split makes a partial sum that must be reduced. Megatron's column and row parallelism follow from that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, TypeVar, cast

from simgpu.model.convolution import Convolution
from simgpu.model.dims import ACCUMULATE, BYTES, Dim, split_all, timed
from simgpu.model.expert_operators import ExpertLayer, GroupedMatmul
from simgpu.model.formats import format_of
from simgpu.model.state_operators import Indexer, Scan

__all__ = [
    "ACCUMULATE",
    "BYTES",
    "Attention",
    "Communicate",
    "Convolution",
    "Dim",
    "Embedding",
    "ExpertLayer",
    "GroupedMatmul",
    "Indexer",
    "Kernel",
    "Matmul",
    "Operator",
    "Pointwise",
    "Scan",
    "split_rows",
]


@dataclass(frozen=True, slots=True)
class Matmul:
    """C[m, n] = A[m, k] B[k, n], `batch` times. `n` may be several outputs side by side (fused Q, K and V).

    `weight` tells that B holds parameters. `over` names what the product is repeated over besides (sequences, heads),
    where both A and B are activations. `time_s` is a measured time of the whole operator, s, which then replaces the
    kernel model; a part of the operator takes its share by FLOPs. `stored` names the format that weights are kept in
    where it is not `dtype` (`simgpu.model.formats`): they are converted on the way.
    """

    kind: ClassVar[str] = "matmul"
    name: str
    m: Dim
    n: tuple[Dim, ...]
    k: Dim
    dtype: str
    accumulate: str = "fp32"
    batch: int = 1
    weight: bool = True
    bias: bool = False
    time_s: float | None = None
    over: tuple[Dim, ...] = ()
    stored: str = ""

    @property
    def n_size(self) -> int:
        """Columns of the result: the sum of its outputs."""
        return sum(dim.size for dim in self.n)

    @property
    def products(self) -> int:
        """Separate products of [m, k] and [k, n]."""
        return self.batch * math.prod(dim.size for dim in self.over)

    @property
    def flops(self) -> float:
        """2 m n k for each product."""
        return 2.0 * self.products * self.m.size * self.n_size * self.k.size

    @property
    def bytes(self) -> float:
        """A and B read once, C written once."""
        m, n, k = self.m.size, self.n_size, self.k.size
        if self.stored:
            kept = format_of(self.stored).bytes
            return self.products * ((m * k + m * n) * BYTES[self.dtype] + k * n * kept)
        return self.products * (m * k + k * n + m * n) * BYTES[self.dtype]

    @property
    def weights(self) -> int:
        """Parameters it holds."""
        return self.batch * self.n_size * (self.weight * self.k.size + self.bias)

    @property
    def output_bytes(self) -> float:
        """Bytes of the result C: 2 per element where its operands are narrower."""
        return self.products * self.m.size * self.n_size * max(BYTES[self.dtype], 2.0)

    @property
    def input_bytes(self) -> float:
        """Bytes of the operand A."""
        return self.products * self.m.size * self.k.size * BYTES[self.dtype]

    def split(self, ways: Mapping[str, int]) -> Matmul:
        """The multiplication that one rank does when each axis is split in `ways`."""
        m, k, n, over = self.m.split(ways), self.k.split(ways), split_all(self.n, ways), split_all(self.over, ways)
        if m is self.m and k is self.k and n is self.n and over is self.over:
            return self
        return timed(self, replace(self, m=m, n=n, k=k, over=over))

    def sums_over(self, ways: Mapping[str, int]) -> bool:
        """True if a split leaves each rank with a partial sum of the output."""
        return self.k.is_split(ways)

    def slices_output(self, ways: Mapping[str, int]) -> bool:
        """True if a split leaves each rank with a slice of the output's columns."""
        return any(dim.is_split(ways) for dim in self.n)


@dataclass(frozen=True, slots=True)
class Attention:
    """softmax(Q K^T) V without materialised scores (flash attention), `batch` sequences.

    Values may be of another width than queries and keys (`v_head_dim`; 0: the same). FLOPs count the causal half where
    `causal`: each of the q queries sees the keys up to its own position. A `window` (0: none) limits each query to that
    many keys. `passes` scales the work that is run: 1 forward, 2.5 backward, of which 0.5 is recomputation (Dao et al.,
    FlashAttention-2, 2023, section 4.1). The cache may hold another dtype (`kv_dtype`), and in latent attention one row
    of `cache_width` elements for all heads (0: keys and values of each KV head).
    """

    kind: ClassVar[str] = "attention"
    name: str
    batch: Dim
    queries: int  # per sequence
    keys: int  # per sequence, the queries' own included
    heads: Dim
    kv_heads: Dim
    head_dim: int
    dtype: str
    causal: bool = True
    passes: float = 1.0
    accumulate: str = "fp32"
    window: int = 0
    time_s: float | None = None
    v_head_dim: int = 0
    kv_dtype: str = ""
    cache_width: int = 0
    sinks: bool = False  # a learned logit for each head
    picked: bool = False  # keys of the window are chosen one by one, by an indexer

    @property
    def weights(self) -> int:
        """Parameters it holds."""
        return self.heads.size if self.sinks else 0

    @property
    def v_dim(self) -> int:
        """Width of a value."""
        return self.v_head_dim or self.head_dim

    @property
    def flops(self) -> float:
        """2 (d + d_v) FLOPs (two products) for each query, visible key and head, in each pass that is run."""
        return 2.0 * (self.head_dim + self.v_dim) * self.pairs * self.batch.size * self.heads.size * self.passes

    @property
    def model_flops(self) -> float:
        """FLOPs without recomputation: 1 pass forward, 2 backward."""
        return self.flops / self.passes * min(self.passes, 2.0)

    @property
    def pairs(self) -> float:
        """(query, visible key) pairs of one head and sequence."""
        q, k = self.queries, self.keys
        w = min(self.window or k, k)
        if not self.causal:
            return float(q * w)
        before = k - q  # keys that stand before the first query
        ramp = max(w - before, 0)  # queries that see all keys up to their own
        ramp = min(ramp, q)
        return ramp * before + ramp * (ramp + 1) / 2 + (q - ramp) * float(w)

    @property
    def bytes(self) -> float:
        """Q, K, V read once and the output written once, each pass. A window is all that is read of the cache."""
        wide = self.head_dim + self.v_dim
        keys = min(self.keys, self.window + self.queries - 1) if self.window else self.keys
        cache = keys * self.kv_heads.size * (self.cache_width or wide) * BYTES[self.kv_dtype or self.dtype]
        return self.batch.size * (self.queries * self.heads.size * wide * BYTES[self.dtype] + cache) * self.passes

    def split(self, ways: Mapping[str, int]) -> Attention:
        """The attention of one rank: its query heads, and the KV heads that they use."""
        batch, heads, kv_heads = self.batch.split(ways), self.heads.split(ways), self.kv_heads.split(ways)
        if batch is self.batch and heads is self.heads and kv_heads is self.kv_heads:
            return self
        return timed(self, replace(self, batch=batch, heads=heads, kv_heads=kv_heads))


@dataclass(frozen=True, slots=True)
class Pointwise:
    """Normalisation, activation, residual addition, rotary positions...: memory traffic over [rows, width].

    `reads` and `writes` count passes over the tensor, `flops_per_element` is a rough count for the record.
    """

    name: str
    kind: str  # normalization, elementwise, softmax, rope ...
    rows: Dim
    width: tuple[Dim, ...]
    dtype: str
    reads: float = 1.0
    writes: float = 1.0
    flops_per_element: float = 1.0
    weights: int = 0
    accumulate: ClassVar[str] = "fp32"
    time_s: float | None = None

    @property
    def elements(self) -> int:
        """Elements of the tensor [rows, width]."""
        return self.rows.size * sum(dim.size for dim in self.width)

    @property
    def flops(self) -> float:
        """A rough count of FLOPs, for the record."""
        return self.flops_per_element * self.elements

    @property
    def bytes(self) -> float:
        """Bytes that all passes over the tensor read and write."""
        return (self.reads + self.writes) * self.elements * BYTES[self.dtype]

    def split(self, ways: Mapping[str, int]) -> Pointwise:
        """The part of one rank when each axis is split in `ways`."""
        rows, width = self.rows.split(ways), split_all(self.width, ways)
        return self if rows is self.rows and width is self.width else timed(self, replace(self, rows=rows, width=width))


@dataclass(frozen=True, slots=True)
class Embedding:
    """Rows looked up in a table [vocab, width]. A split vocabulary leaves partial sums (all but one rank: zero)."""

    kind: ClassVar[str] = "embedding"
    name: str
    rows: Dim
    vocab: Dim
    width: int
    dtype: str
    positions: int = 0  # rows of a learned position table beside it
    accumulate: ClassVar[str] = "fp32"
    flops: ClassVar[float] = 0.0
    time_s: float | None = None

    @property
    def bytes(self) -> float:
        """Each row read from the table and written out."""
        return 2.0 * self.rows.size * self.width * BYTES[self.dtype]

    @property
    def weights(self) -> int:
        """Parameters of the table."""
        return (self.vocab.size + self.positions) * self.width

    @property
    def output_bytes(self) -> float:
        """Bytes of the rows that come out."""
        return self.rows.size * self.width * BYTES[self.dtype]

    def split(self, ways: Mapping[str, int]) -> Embedding:
        """The lookup of one rank, in its part of the table."""
        return timed(self, replace(self, rows=self.rows.split(ways), vocab=self.vocab.split(ways)))

    def sums_over(self, ways: Mapping[str, int]) -> bool:
        """True if a split leaves partial sums: it cuts the vocabulary."""
        return self.vocab.is_split(ways)


@dataclass(frozen=True, slots=True)
class Communicate:
    """A collective that the model itself asks for, over all ranks of the `group` (as in `Plan.group`).

    `size` is its payload in bytes as nccl-tests count it: the buffer of a rank for all-reduce and all-to-all, the
    whole array for all-gather and reduce-scatter. It is proportional to `rows` where those are given.
    """

    name: str
    kind: str  # all_reduce, all_gather, reduce_scatter, all_to_all
    size: float
    group: str = "tp"
    rows: Dim | None = None
    flops: ClassVar[float] = 0.0
    weights: ClassVar[int] = 0

    def split(self, ways: Mapping[str, int]) -> Communicate:
        """The collective itself: its payload counts what one rank holds."""
        return self if self.rows is None else self._of(self.rows.split(ways))

    def _of(self, rows: Dim) -> Communicate:
        whole = self.rows or rows
        return replace(self, rows=rows, size=self.size * rows.size / whole.size)


Kernel = Matmul | GroupedMatmul | Attention | Pointwise | Embedding | ExpertLayer | Scan | Indexer | Convolution
"""An operator that runs on one GPU."""

Operator = Kernel | Communicate

_O = TypeVar("_O", bound=Operator)


def split_rows(op: _O, ways: int) -> _O:
    """`op` with `1 / ways` of its rows: the tokens of each sequence shared over ranks. Attention keeps its tokens."""

    def part(dim: Dim) -> Dim:
        return replace(dim, width=-(-dim.width // ways)) if dim.axis == "batch" else dim

    part_of_op: Operator
    match op:
        case Matmul():
            part_of_op = timed(op, replace(op, m=part(op.m), n=tuple(part(dim) for dim in op.n), k=part(op.k)))
        case GroupedMatmul():
            part_of_op = timed(op, replace(op, rows=part(op.rows)))
        case Pointwise():
            part_of_op = timed(op, replace(op, rows=part(op.rows)))
        case Embedding():
            part_of_op = timed(op, replace(op, rows=part(op.rows)))
        case Communicate() if op.rows is not None:
            part_of_op = op._of(part(op.rows))
        case _:
            part_of_op = op
    return cast(_O, part_of_op)
