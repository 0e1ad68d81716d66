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

from simgpu.model.formats import format_of

BYTES = {"fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}
"""Bytes of one element in memory, by dtype (tf32 is stored as fp32)."""

ACCUMULATE = dict.fromkeys(BYTES, "fp32") | {"fp64": "fp64", "int8": "int32"}
"""What products of a dtype are summed in unless something else is asked for."""


@dataclass(frozen=True, slots=True)
class Dim:
    """`units` equal parts of `width` elements along a named axis; an unnamed axis is never split."""

    units: int
    width: int = 1
    axis: str = ""

    @property
    def size(self) -> int:
        return self.units * self.width

    def split(self, ways: Mapping[str, int]) -> Dim:
        """The part of one rank when each axis is split in `ways`; fewer units than ranks are replicated."""
        n = ways.get(self.axis, 1)
        return self if n == 1 else Dim(-(-self.units // n), self.width, self.axis)

    def is_split(self, ways: Mapping[str, int]) -> bool:
        return ways.get(self.axis, 1) > 1


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
        n, over = (tuple(dim.split(ways) for dim in dims) for dims in (self.n, self.over))
        return _timed(self, replace(self, m=self.m.split(ways), n=n, k=self.k.split(ways), over=over))

    def sums_over(self, ways: Mapping[str, int]) -> bool:
        """Whether a split leaves each rank with a partial sum of the output."""
        return self.k.is_split(ways)

    def slices_output(self, ways: Mapping[str, int]) -> bool:
        """Whether a split leaves each rank with a slice of the output's columns."""
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
        """Without recomputation: 1 pass forward, 2 backward."""
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
        batch, heads, kv_heads = (dim.split(ways) for dim in (self.batch, self.heads, self.kv_heads))
        return _timed(self, replace(self, batch=batch, heads=heads, kv_heads=kv_heads))


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
        return self.rows.size * sum(dim.size for dim in self.width)

    @property
    def flops(self) -> float:
        return self.flops_per_element * self.elements

    @property
    def bytes(self) -> float:
        return (self.reads + self.writes) * self.elements * BYTES[self.dtype]

    def split(self, ways: Mapping[str, int]) -> Pointwise:
        width = tuple(dim.split(ways) for dim in self.width)
        return _timed(self, replace(self, rows=self.rows.split(ways), width=width))


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
        return (self.vocab.size + self.positions) * self.width

    @property
    def output_bytes(self) -> float:
        return self.rows.size * self.width * BYTES[self.dtype]

    def split(self, ways: Mapping[str, int]) -> Embedding:
        return _timed(self, replace(self, rows=self.rows.split(ways), vocab=self.vocab.split(ways)))

    def sums_over(self, ways: Mapping[str, int]) -> bool:
        return self.vocab.is_split(ways)


@dataclass(frozen=True, slots=True)
class GroupedMatmul:
    """The same layer of every expert: C_e[v, n] = A_e[v, k] B_e[k, n], where expert e gets v of the visits.

    Each of `rows` visits `topk` of the layer's `total` experts; `experts` are those whose weights are here, `total`
    over `experts` ranks share them. After dispatch a rank multiplies `topk` visits for each row it sent, on average;
    `routing` names how unevenly (`simgpu.timing.routing`). FLOPs and bytes are those of the average rank.

    `weight` tells that B holds parameters (not so of gradients). `weight_gradient`: dB_e[k, n] = A_e^T dC_e instead.
    `load` is what comes to the busiest rank over that mean, where more than the routing makes them uneven; `each_s` the
    least time of one expert, s, where each is a kernel of its own.
    """

    kind: ClassVar[str] = "grouped_matmul"
    name: str
    rows: Dim
    topk: int
    experts: Dim
    total: int
    n: tuple[Dim, ...]
    k: Dim
    dtype: str
    accumulate: str = "fp32"
    routing: str = "balanced"
    weight: bool = True
    weight_gradient: bool = False
    time_s: float | None = None
    bias: bool = False
    load: float = 1.0
    each_s: float = 0.0

    @property
    def ranks(self) -> int:
        """Number of ranks that share the experts."""
        return self.total // self.experts.size

    @property
    def entering(self) -> int:
        """Rows that enter over all ranks, as many as would make each as busy as the busiest."""
        return round(self.rows.size * self.ranks * self.load)

    @property
    def visits(self) -> int:
        """(row, expert) pairs of the average rank."""
        return self.rows.size * self.topk

    @property
    def n_size(self) -> int:
        return sum(dim.size for dim in self.n)

    @property
    def flops(self) -> float:
        """2 n k for each visit."""
        return self.work(0, self.visits)[0]

    @property
    def bytes(self) -> float:
        """Weights of experts with a visit once, rows of all visits in and out."""
        return self.work(min(self.experts.size, self.visits), self.visits)[1]

    def work(self, touched: float, visits: float) -> tuple[float, float]:
        """(FLOPs, bytes) where `visits` go to so many different experts of a rank."""
        n, k = self.n_size, self.k.size
        return 2.0 * visits * n * k, (touched * n * k + visits * (n + k)) * BYTES[self.dtype]

    @property
    def weights(self) -> int:
        """Parameters it holds."""
        return self.experts.size * self.n_size * (self.k.size + self.bias) if self.weight else 0

    @property
    def output_bytes(self) -> float:
        """Bytes of the result C, over all visits."""
        return self.visits * self.n_size * BYTES[self.dtype]

    @property
    def input_bytes(self) -> float:
        """Bytes of the operand A, over all visits."""
        return self.visits * self.k.size * BYTES[self.dtype]

    def split(self, ways: Mapping[str, int]) -> GroupedMatmul:
        n = tuple(dim.split(ways) for dim in self.n)
        rows, experts, k = self.rows.split(ways), self.experts.split(ways), self.k.split(ways)
        return _timed(self, replace(self, rows=rows, experts=experts, n=n, k=k))

    def sums_over(self, ways: Mapping[str, int]) -> bool:
        """Whether a split leaves each rank with a partial sum of the output."""
        return self.k.is_split(ways) and not self.weight_gradient

    def slices_output(self, ways: Mapping[str, int]) -> bool:
        """Whether a split leaves each rank with a slice of the output's columns."""
        return any(dim.is_split(ways) for dim in self.n)


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """The experts of a layer as inference engines run them: fused kernels permute, multiply twice, weigh and add up.

    `rows` enter over all ranks that share the experts; `ranks` share them by number (expert parallelism), and each is
    split by width along `inner`. FLOPs and bytes are those of the average rank; `routing` as in
    `simgpu.timing.routing`. `stored` as in `Matmul`.
    """

    kind: ClassVar[str] = "experts"
    name: str
    rows: int
    topk: int
    experts: int
    ranks: int
    hidden: int
    inner: int  # width of an expert on this rank
    gated: bool
    dtype: str
    routing: str = "random"
    stored: str = ""
    bias: bool = False
    time_s: float | None = None

    @property
    def accumulate(self) -> str:
        """What its products are summed in."""
        return ACCUMULATE[self.dtype]

    @property
    def matrices(self) -> int:
        """Matrices of an expert."""
        return 3 if self.gated else 2

    @property
    def visits(self) -> float:
        """(row, expert) pairs of the average rank."""
        return self.rows * self.topk / self.ranks

    @property
    def touched(self) -> float:
        """Experts of a rank that at least one row visits, on average, if rows choose evenly and independently."""
        here = self.experts / self.ranks
        return here * (1 - (1 - self.topk / self.experts) ** self.rows)

    @property
    def flops(self) -> float:
        return self.work(self.touched, self.visits)[0]

    @property
    def bytes(self) -> float:
        """Weights of the experts that are visited, rows of the visits in and out."""
        return self.work(self.touched, self.visits)[1]

    def work(self, touched: float, visits: float) -> tuple[float, float]:
        """(FLOPs, bytes) where `visits` go to so many different experts of a rank."""
        each = self.matrices * self.hidden * self.inner
        kept = format_of(self.stored).bytes if self.stored else BYTES[self.dtype]
        return 2.0 * visits * each, touched * each * kept + 2.0 * visits * self.hidden * max(BYTES[self.dtype], 2.0)

    @property
    def weights(self) -> int:
        """Parameters it holds."""
        each = self.matrices * self.hidden * self.inner
        biases = (self.matrices - 1) * self.inner + self.hidden if self.bias else 0
        return self.experts // self.ranks * (each + biases)

    def split(self, ways: Mapping[str, int]) -> ExpertLayer:
        """Itself: it is made for one rank."""
        return self


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
        return self if self.rows is None else self._of(self.rows.split(ways))

    def _of(self, rows: Dim) -> Communicate:
        whole = self.rows or rows
        return replace(self, rows=rows, size=self.size * rows.size / whole.size)


Kernel = Matmul | GroupedMatmul | Attention | Pointwise | Embedding | ExpertLayer
"""An operator that runs on one GPU."""

Operator = Kernel | Communicate

_O = TypeVar("_O", bound=Operator)
_K = TypeVar("_K", Matmul, GroupedMatmul, Attention, Pointwise, Embedding)


def split_rows(op: _O, ways: int) -> _O:
    """`op` with `1 / ways` of its rows: the tokens of each sequence shared over ranks. Attention keeps its tokens."""

    def part(dim: Dim) -> Dim:
        return replace(dim, width=-(-dim.width // ways)) if dim.axis == "batch" else dim

    found: Operator
    match op:
        case Matmul():
            found = _timed(op, replace(op, m=part(op.m), n=tuple(part(dim) for dim in op.n), k=part(op.k)))
        case GroupedMatmul():
            found = _timed(op, replace(op, rows=part(op.rows)))
        case Pointwise():
            found = _timed(op, replace(op, rows=part(op.rows)))
        case Embedding():
            found = _timed(op, replace(op, rows=part(op.rows)))
        case Communicate() if op.rows is not None:
            found = op._of(part(op.rows))
        case _:
            found = op
    return cast(_O, found)


def _timed(whole: _K, part: _K) -> _K:
    """`part` with its share of a measured time of `whole`: by FLOPs, by bytes where there are none."""
    if whole.time_s is None:
        return part
    share = part.flops / whole.flops if whole.flops else part.bytes / whole.bytes
    return replace(part, time_s=whole.time_s * share)
