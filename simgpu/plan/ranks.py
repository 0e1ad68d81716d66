"""Ranks of a plan: where each stands, and the groups that ranks form."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from itertools import product

from simgpu.plan.keys import shard_of


class Ranks:
    """The ranks of a plan, which has these degrees and this order."""

    tp: int
    dp: int
    pp: int
    cp: int
    ep: int
    shard: int | None
    expert_tp: int | None
    order: tuple[str, ...]

    @property
    def world(self) -> int:
        """Ranks of the plan: tp x cp x pp x dp."""
        return self.tp * self.cp * self.pp * self.dp

    @property
    def shards(self) -> int:
        """Ranks that hold one sharded copy of weights, gradients or states between them."""
        return self.shard or shard_of(self.dp, self.cp)

    @property
    def whole_experts(self) -> bool:
        """True if experts are carved out of tensor-parallel ranks too, none of them split by width."""
        return self.tp > 1 and self.expert_tp == 1

    @property
    def expert_ranks(self) -> int:
        """Ranks of a stage that hold experts between them: copies of them, and their parts by number."""
        return self.dp * self.cp * (self.tp if self.whole_experts else 1)

    @property
    def expert_copies(self) -> int:
        """Ranks that hold the same experts."""
        return max(self.expert_ranks // self.ep, 1)

    def coordinates(self, rank: int) -> dict[str, int]:
        """Place of a rank along tp, cp, dp and pp."""
        places = {}
        for name in self._axes:
            size = getattr(self, name)
            places[name], rank = rank % size, rank // size
        return places

    def stage(self, rank: int) -> int:
        """The pipeline stage of a rank."""
        return rank // self._stride % self.pp

    @cached_property
    def _stride(self) -> int:
        """The distance in ranks from one rank to its like on the next stage."""
        return self.rank(pp=1) if self.pp > 1 else 1

    def rank(self, **place: int) -> int:
        """The rank at a place."""
        found = 0
        for name in reversed(self._axes):
            found = found * getattr(self, name) + place.get(name, 0)
        return found

    def group(self, kind: str, rank: int) -> tuple[int, ...]:
        """Ranks of a group of `rank`, in order.

        'tp', 'cp', 'dp', 'pp': the ranks along that axis. 'grad': the ranks along dp and cp, which reduce gradients
        together. 'shard': the ranks of 'grad' that hold one sharded copy; 'replica': those that hold the same shard.
        'ep': the ranks that share the experts; 'expert': those that hold the same experts. 'experts': in inference, the
        ranks of tp x dp that share the experts.
        """
        ranks = self._groups.get((kind, rank))
        if ranks is None:
            ranks = self._groups[kind, rank] = self._group(kind, rank)
        return ranks

    @cached_property
    def _groups(self) -> dict[tuple[str, int], tuple[int, ...]]:
        return {}

    def _group(self, kind: str, rank: int) -> tuple[int, ...]:
        place = self.coordinates(rank)
        if kind == "experts":
            near = [self.rank(**{**place, "tp": t, "dp": d}) for d in range(self.dp) for t in range(self.tp)]
            at = near.index(rank) // self.ep * self.ep
            return tuple(sorted(near[at : at + self.ep]))
        if kind in ("tp", "cp", "dp", "pp"):
            return tuple(sorted(self.rank(**{**place, kind: i}) for i in range(getattr(self, kind))))
        both = tuple(sorted(self.rank(**{**place, "dp": d, "cp": c}) for d in range(self.dp) for c in range(self.cp)))
        if kind == "grad":
            return both
        size = self.ep if kind in ("ep", "expert") else self.shards
        if kind in ("ep", "expert") and self.whole_experts:
            both = self._of_stage(place)
        at = both.index(rank)
        # with dp before ep in the order, ranks that share experts are as far apart as they can be
        far = kind in ("ep", "expert") and self.order.index("dp") < self.order.index("ep")
        if (kind in ("ep", "shard")) != far:
            first = at // size * size if not far else at // (len(both) // size) * (len(both) // size)
            span = size if not far else len(both) // size
            return both[first : first + span]
        stride = size if not far else len(both) // size
        return both[at % stride :: stride]

    def _of_stage(self, place: Mapping[str, int]) -> tuple[int, ...]:
        """All ranks of the stage of a place."""
        around = product(range(self.tp), range(self.cp), range(self.dp))
        return tuple(sorted(self.rank(**{**place, "tp": t, "cp": c, "dp": d}) for t, c, d in around))

    @cached_property
    def _axes(self) -> tuple[str, ...]:
        return tuple(name for name in self.order if name != "ep")
