"""Model FLOPs over what the datasheet allows: each product is held against the peak of the type that it runs in.

    MFU = sum over the products (FLOPs / peak of their type) / (GPUs x time)

Where all products run in one type that is FLOP/s over its peak. A model in fp8 still has attention and a head in 16
bits, whose FLOPs the GPU makes at half the rate or less: over the peak of either type alone the share would be wrong,
and could pass 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

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
        few, more = _counts(execution.few), _counts(execution.more)
        return [(one, execution.grown(few.get(one, 0.0), times)) for one, times in more.items()]
    return list(_counts(execution).items())


def _counts(execution: Execution) -> dict[Activity, float]:
    return execution.remembered("kernels", lambda: _kernels_of(execution))


def _kernels_of(execution: Execution) -> dict[Activity, float]:
    """The same of a run that was simulated, each different kernel once."""
    timeline = execution.timeline
    numbers = (i for streams in execution.streams for i in timeline.of(streams["compute"]))
    counts = Counter(id(timeline.labels[i]) for i in numbers)
    labels = {id(label): label for label in timeline.labels}
    blocks: dict[int, tuple[Any, float]] = {}  # by identity, and how often each runs: passes share blocks
    found: dict[Activity, float] = {}
    for number, count in counts.items():
        label = labels[number]
        assert isinstance(label, Activity)
        made = execution.blocks.get(label)
        if made is None:
            found[label] = found.get(label, 0.0) + count
        for block, times in made or ():
            _, runs = blocks.get(id(block), (block, 0.0))
            blocks[id(block)] = block, runs + count * times
    for block, runs in blocks.values():
        for part in block.parts:
            found[part.activity] = found.get(part.activity, 0.0) + runs * part.runs
    return found
