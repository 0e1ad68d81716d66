"""Operators of mixtures of experts: the products of all experts of a layer, apart (training) or fused (inference)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

from simgpu.model.dims import ACCUMULATE, BYTES, Dim, timed
from simgpu.model.formats import format_of


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
        """Columns of the result: the sum of its outputs."""
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
        """The part of one rank: its experts, and its slice of their widths."""
        n = tuple(dim.split(ways) for dim in self.n)
        rows, experts, k = self.rows.split(ways), self.experts.split(ways), self.k.split(ways)
        return timed(self, replace(self, rows=rows, experts=experts, n=n, k=k))

    def sums_over(self, ways: Mapping[str, int]) -> bool:
        """True if a split leaves each rank with a partial sum of the output."""
        return self.k.is_split(ways) and not self.weight_gradient

    def slices_output(self, ways: Mapping[str, int]) -> bool:
        """True if a split leaves each rank with a slice of the output's columns."""
        return any(dim.is_split(ways) for dim in self.n)


@dataclass(frozen=True, slots=True)
class ExpertLayer:
    """The experts of a layer as inference engines run them: fused kernels permute, multiply twice, weigh and add up.

    `rows` enter over all ranks that share the experts; `ranks` share them by number (expert parallelism), and each is
    split by width along `inner`. FLOPs and bytes are those of the average rank; `routing` as in
    `simgpu.timing.routing`, with the number of copies of popular experts that ranks hold behind a '+'. `stored` as in
    `Matmul`.
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
        """The dtype that products are summed in."""
        return ACCUMULATE[self.dtype]

    @property
    def copies(self) -> int:
        """Copies of popular experts beside them, of all ranks."""
        return int(self.routing.partition("+")[2] or 0)

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
        """FLOPs of the average rank."""
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
        return (self.experts + self.copies) // self.ranks * (each + biases)

    def split(self, ways: Mapping[str, int]) -> ExpertLayer:  # noqa: ARG002 - every operator's signature
        """The operator itself: it is made for one rank."""
        return self
