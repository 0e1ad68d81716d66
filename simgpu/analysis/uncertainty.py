"""How sure the numbers of a step are: intervals of its parts put together.

Every kernel and collective has an interval from residuals against measurements (`simgpu.timing.uncertainty`). A step
is a sum of different parts, each run some number of times; the same shape is off the same way each time. Within a
class (matrix multiplications, attention, streaming kernels, collectives) a part of the error is common to all, the
rest independent:

    width^2 = sum over classes of (sum of common)^2 + sum of independent^2

for the lower and the upper end apart, since residuals are skewed. For a ratio of two sums (efficiency) what they have
in common cancels: relative widths of a class are subtracted before they are squared.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

from simgpu.engine.timeline import outside, union
from simgpu.timing.kernels import Uncertainty
from simgpu.workload.execution import Activity, Execution, PeriodicExecution


@dataclass(frozen=True)
class Part:
    """All runs of one different kernel or collective in a step, s."""

    activity: Activity
    runs: int
    seconds: float
    exposed: float  # during which the compute stream does nothing else

    @property
    def uncertainty(self) -> Uncertainty:
        """How sure the time of the activity is."""
        return self.activity.uncertainty


@dataclass(frozen=True)
class Range:
    """P10 and P90."""

    p10: float
    p90: float


def parts_of(execution: Execution, rank: int) -> list[Part]:
    """The different kernels and collectives of a rank, in the order of their first run.

    An activity that stands for whole layers counts as what its blocks are made of; where other communication slowed
    it down, all of it is longer by the same factor.
    """
    if isinstance(execution, PeriodicExecution):
        return _grown(execution, _parts_of(execution.few, rank), _parts_of(execution.more, rank))
    return list(_parts_of(execution, rank))


def _parts_of(execution: Execution, rank: int) -> list[Part]:
    return execution.remembered(("parts", rank), lambda: _counted(execution, rank))


def _counted(execution: Execution, rank: int) -> list[Part]:
    """Parts of a run that was simulated."""
    timeline, streams = execution.timeline, execution.streams[rank]
    busy = union((timeline.start[i], timeline.end[i]) for i in timeline.of(streams["compute"]))
    alike: dict[int, list[Any]] = {}  # label, runs, seconds, exposed; by identity, since many share theirs
    for number in sorted({i for stream in streams.values() for i in timeline.of(stream)}):
        label, seconds = timeline.labels[number], timeline.end[number] - timeline.start[number]
        kernel = label.category == "compute"  # type: ignore[attr-defined]
        bare = seconds if kernel else _bare(timeline.start[number], timeline.end[number], busy)
        sums = alike.setdefault(id(label), [label, 0, 0.0, 0.0])
        sums[1] += 1
        sums[2] += seconds
        sums[3] += bare
    found: dict[Activity, list[float]] = {}

    def add(activity: Activity, runs: float, seconds: float, exposed: float) -> None:
        sums = found.setdefault(activity, [0, 0.0, 0.0])
        for i, value in enumerate((runs, seconds, exposed)):
            sums[i] += value

    stretched: dict[Activity, list[float]] = {}  # seconds and runs of activities made of blocks
    for activity, runs, seconds, exposed in alike.values():
        assert isinstance(activity, Activity)
        if activity in execution.blocks:
            pair = stretched.setdefault(activity, [0.0, 0])
            pair[0] += seconds
            pair[1] += runs
        else:
            add(activity, runs, seconds, exposed)
    for made, (times, factor) in _by_blocks(execution, stretched).items():
        for part in made.parts:
            add(part.activity, part.runs * times, part.seconds * factor, part.exposed * factor)
    return [Part(activity, int(runs), seconds, exposed) for activity, (runs, seconds, exposed) in found.items()]


def _grown(execution: PeriodicExecution, few: Sequence[Part], more: Sequence[Part]) -> list[Part]:
    """Parts of the whole run from those of two runs that differ by a period."""
    known = {part.activity: part for part in few}
    found = []
    for part in more:
        less = known.get(part.activity, Part(part.activity, 0, 0.0, 0.0))
        runs = round(execution.grown(less.runs, part.runs))
        seconds, exposed = (
            max(execution.grown(getattr(less, name), getattr(part, name)), 0.0) for name in ("seconds", "exposed")
        )
        found.append(Part(part.activity, runs, seconds, exposed))
    return found


def _bare(start: float, end: float, busy: Sequence[tuple[float, float]]) -> float:
    return outside([(start, end)], busy) if end > start else 0.0


def _by_blocks(execution: Execution, stretched: Mapping[Activity, Sequence[float]]) -> dict[Any, tuple[int, float]]:
    """How often each block ran, and its runs as a sum of factors of their length."""
    found: dict[int, tuple[Any, int, float]] = {}
    for activity, (seconds, runs) in stretched.items():
        made = execution.blocks[activity]
        planned = sum(block.seconds * times for block, times in made)
        factor = seconds / planned if planned else 1.0
        for block, times in made:
            _, n, total = found.get(id(block), (block, 0, 0.0))
            found[id(block)] = (block, n + int(runs) * times, total + factor * times)
    return {block: (n, total) for block, n, total in found.values()}


Weighted = Sequence[tuple[float, Uncertainty]]
"""Seconds, and how sure they are."""


def range_of(parts: Weighted, certain: float = 0.0) -> Range:
    """P10 and P90 of a sum of parts, s, and of `certain` seconds beside them."""
    total = sum(seconds for seconds, _ in parts) + certain
    low, high = (_width(((seconds, uncertainty) for seconds, uncertainty in parts), upper) for upper in (False, True))
    return Range(max(total - low, 0.0), total + high)


def range_of_ratio(above: Weighted, below: Weighted, certain: float = 0.0) -> Range:
    """P10 and P90 of sum(above) / (sum(below) + certain)."""
    top, bottom = sum(s for s, _ in above), sum(s for s, _ in below) + certain
    if top == 0 or bottom == 0:
        return Range(0.0, 0.0)
    shares = [(s / top, uncertainty) for s, uncertainty in above] + [
        (-s / bottom, uncertainty) for s, uncertainty in below
    ]
    up, down = (_width(shares, upper) for upper in (True, False))
    return Range(top / bottom / (1 + down), top / bottom * (1 + up))


def _width(parts: Iterable[tuple[float, Uncertainty]], upper: bool) -> float:
    """Distance to an end of the interval of a signed sum; what lowers a negative part raises the sum."""
    return sqrt(sum(variances(parts, upper).values()))


def variances(parts: Iterable[tuple[float, Uncertainty]], upper: bool) -> dict[str, float]:
    """What each class adds to the square of the distance to an end of the interval of a signed sum.

    What is common to a class moves all its parts up or all down, whichever brings the sum further.
    """
    up: dict[str, float] = {}  # what all parts of a class at their P90, or at their P10, add to the sum
    down: dict[str, float] = {}
    independent: dict[str, float] = {}
    for seconds, uncertainty in parts:
        above, below, group = seconds * (uncertainty.high - 1), seconds * (uncertainty.low - 1), uncertainty.group
        up[group] = up.get(group, 0.0) + above * sqrt(uncertainty.correlated)
        down[group] = down.get(group, 0.0) + below * sqrt(uncertainty.correlated)
        alone = (above if upper == (seconds >= 0) else below) ** 2 * (1 - uncertainty.correlated)
        independent[group] = independent.get(group, 0.0) + alone
    sign = 1 if upper else -1
    return {group: max(sign * up[group], sign * down[group], 0.0) ** 2 + independent[group] for group in up}
