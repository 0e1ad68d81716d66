"""Copies of popular experts, and which rank holds which: as deepseek-ai/EPLB places them.

The expert with the most tokens for each of its copies gets one more, until all copies are used; copies share its tokens
evenly. Then the heaviest go first, each to the rank with the least so far that has a free slot (eplb.py,
`replicate_experts` and `balanced_packing`). Fewer copies may be used than there is room for, where that is more even.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np

from simgpu.memo import remembered
from simgpu.timing.parts import Array

COPIES = "+"
"""What stands between a distribution and the number of copies."""


def parted(distribution: str) -> tuple[str, int | None]:
    """A distribution without its copies, and their number; None where experts are not placed by their loads.

    >>> parted("zipf_0.8+32"), parted("random")
    (('zipf_0.8', 32), ('random', None))
    """
    base, mark, copies = distribution.partition(COPIES)
    return base, int(copies) if mark else None


def busiest_placed(loads: Sequence[float] | Array, ranks: int, copies: int) -> Array:
    """Tokens of each slot of the busiest rank, sorted downwards, where experts with these loads are placed.

    Slots are the experts and their copies; `ranks` divides them. Further copies never make the busiest rank busier.
    """
    return np.asarray(_placed(tuple(map(float, loads)), ranks, copies))


@remembered(1024)
def _placed(loads: tuple[float, ...], ranks: int, copies: int) -> tuple[float, ...]:
    best: list[float] = []
    for used in range(copies % ranks if len(loads) % ranks else 0, copies + 1, ranks):
        found = _packed(_shared(loads, used), ranks, (len(loads) + used) // ranks)
        if not best or sum(found) < sum(best) * (1 - 1e-12):
            best = found
    room = (len(loads) + copies) // ranks
    return (*best, *[0.0] * (room - len(best)))


def _shared(loads: Sequence[float], copies: int) -> list[float]:
    """Tokens of each slot, where so many copies share them with the busiest experts."""
    heap = [(-load, load, 1) for load in loads]
    heapq.heapify(heap)
    for _ in range(copies):
        _, load, count = heap[0]
        heapq.heapreplace(heap, (-load / (count + 1), load, count + 1))
    return [load / count for _, load, count in heap for _ in range(count)]


def _packed(slots: list[float], ranks: int, room: int) -> list[float]:
    """Slots of the busiest rank, where each is given to the rank with the least that has room."""
    free = [(0.0, rank) for rank in range(ranks)]
    held: list[list[float]] = [[] for _ in range(ranks)]
    for slot in sorted(slots, reverse=True):
        load, rank = heapq.heappop(free)
        held[rank].append(slot)
        if len(held[rank]) < room:
            heapq.heappush(free, (load + slot, rank))
    return max(held, key=sum)
