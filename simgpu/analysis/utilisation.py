"""Model FLOPs over what the datasheet allows: each product is held against the peak of the type that it runs in.

    MFU = sum over the products (FLOPs / peak of their type) / (GPUs x time)

Where all products run in one type that is FLOP/s over its peak. A model in fp8 still has attention and a head in 16
bits, whose FLOPs the GPU makes at half the rate or less: over the peak of either type alone the share would be wrong,
and could pass 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from simgpu.workload.execution import Activity, Execution, PeriodicExecution


class Products(NamedTuple):
    """FLOPs of matrix products and attention, and the seconds that they take at the datasheet peaks of their types."""

    flops: float
    seconds: float

    @property
    def peak(self) -> float:
        """FLOPs over the seconds at their peaks, FLOP/s; 0 where nothing is multiplied."""
        return self.flops / self.seconds if self.seconds else 0.0


def products(runs: Iterable[tuple[Activity, float]]) -> Products:
    """The sum of matrix products and attention among (activity, times it runs)."""
    flops = seconds = 0.0
    for activity, times in runs:
        if activity.time is not None and activity.time.peak:
            flops += activity.flops * times
            seconds += activity.flops * times / activity.time.peak
    return Products(flops, seconds)


def kernels_of(execution: Execution) -> list[tuple[Activity, float]]:
    """(kernel, times it runs) of all simulated ranks of a run."""
    if isinstance(execution, PeriodicExecution):
        few, more = _counted(execution.few), _counted(execution.more)
        return [(one, execution.grown(few.get(one, 0.0), count)) for one, count in more.items()]
    return _kernels_of(execution)


def _counted(execution: Execution) -> dict[Activity, float]:
    found: dict[Activity, float] = {}
    for one, count in kernels_of(execution):
        found[one] = found.get(one, 0.0) + count
    return found


def _kernels_of(execution: Execution) -> list[tuple[Activity, float]]:
    timeline, found = execution.timeline, []
    numbers = (i for streams in execution.streams for i in timeline.of(streams["compute"]))
    counts = Counter(id(timeline.labels[i]) for i in numbers)
    inside: dict[tuple[int, int], list[tuple[Activity, float]]] = {}  # of a block so many times; passes share blocks
    for label in {id(label): label for label in timeline.labels}.values():
        assert isinstance(label, Activity)
        count = counts.get(id(label), 0)
        if not count:
            continue
        if label not in execution.blocks:
            found.append((label, float(count)))
        for block, times in execution.blocks.get(label, ()):
            key = id(block), count * times
            if key not in inside:
                inside[key] = [(part.activity, float(count * times * part.runs)) for part in block.parts]
            found += inside[key]
    return found
