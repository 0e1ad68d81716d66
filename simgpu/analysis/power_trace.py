"""Power over time, beside the timeline: as the GPU draws it, and as the controller of its board sees it.

The controller, and what reads it (NVML), averages over a window of some 100 ms. Peaks that are shorter do not count for
it; the mean over any longer time is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgpu.analysis.power import Board
from simgpu.engine.timeline import union
from simgpu.errors import InputError
from simgpu.timing.parts import Array
from simgpu.trace_events import counter
from simgpu.workload.execution import Activity, Execution

WINDOW = 0.1
"""s over which a board's controller averages: power stays between idle and the limit in every longer window."""

ENGINE_RUNS = ("prefill", "decode")
"""Segments of a timeline that stand for many equal steps of an engine, with the host's part of all behind them."""

MOST_POINTS = 4_000
"""Points of a track of a trace file."""

FINEST = 1e-9
"""Least window over the length of a run: what is left of a time that long in 53 bits."""


@dataclass(frozen=True)
class PowerTrace:
    """Power of one rank: `watts[i]` from `times[i]` to `times[i + 1]`, s; one value less than times."""

    times: Array
    watts: Array

    @property
    def joules(self) -> float:
        """The integral of power over time, J."""
        return float(np.sum(np.diff(self.times) * self.watts))

    def until(self, at: Array) -> Array:
        """J drawn from the start to each time."""
        sums = np.concatenate([[0.0], np.cumsum(np.diff(self.times) * self.watts)])
        return np.asarray(np.interp(at, self.times, sums))

    def windowed(self, window: float = WINDOW, points: int = 400) -> PowerTrace:
        """The mean over the `window` seconds before each of `points` moments; over what there was at the start.

        Raises `InputError` for a window that is not above zero.
        """
        if not window > 0:
            raise InputError(f"{window:g} s is no window; expected more than zero", key="window")
        edges = np.linspace(self.times[0], self.times[-1], points + 1)
        ends = edges[1:]
        finest = FINEST * (self.times[-1] - self.times[0])  # of a run of years
        starts = np.maximum(ends - max(window, finest), self.times[0])
        mean = (self.until(ends) - self.until(starts)) / (ends - starts)
        return PowerTrace(edges, mean)

    def thinned(self, most: int = MOST_POINTS) -> PowerTrace:
        """The same energy in at most `most` steps."""
        if len(self.watts) <= most:
            return self
        edges = np.linspace(self.times[0], self.times[-1], most + 1)
        return PowerTrace(edges, np.diff(self.until(edges)) / np.diff(edges))


def trace_of(execution: Execution, board: Board, rank: int = 0) -> PowerTrace:
    """Power of a rank over a run. Its integral is the energy of that rank (`simgpu.analysis.power`)."""
    pieces = sorted(_pieces(execution, board, rank))
    times, watts = [0.0], []
    waiting, end = board.levels.waiting, execution.step
    for start, stop, level in [*pieces, (end, end, 0.0)]:
        if start > times[-1]:
            times.append(start)
            watts.append(waiting)
        if stop > times[-1]:
            times.append(stop)
            watts.append(level)
    return PowerTrace(np.asarray(times), np.asarray(watts))


def _pieces(execution: Execution, board: Board, rank: int) -> Iterator[tuple[float, float, float]]:
    """(start, end, W) of everything that a rank does, without overlaps: its compute stream, else its collectives."""
    timeline, streams = execution.timeline, execution.streams[rank]
    spans: list[tuple[float, float]] = []
    pieces: list[tuple[float, float, float]] = []
    for number in timeline.of(streams["compute"]):
        start, end, label = timeline.start[number], timeline.end[number], timeline.labels[number]
        assert isinstance(label, Activity)
        if end <= start:
            continue
        spans.append((start, end))
        watts = board.activity(label, execution.blocks.get(label, ()), end - start).watts
        if pieces and label.kind == "host" and label.segment in ENGINE_RUNS and pieces[-1][1] == start:
            first, _, level = pieces.pop()  # of each of many steps: it is drawn among their kernels
            watts = (level * (start - first) + watts * (end - start)) / (end - first)
            start = first
        pieces.append((start, end, watts))
    yield from pieces
    taken = union(spans)
    for number in sorted({i for name, stream in streams.items() if name != "compute" for i in timeline.of(stream)}):
        start, end, label = timeline.start[number], timeline.end[number], timeline.labels[number]
        assert isinstance(label, Activity)
        bare = list(_bare(start, end, taken))
        for a, b in bare:
            yield a, b, board.watts(label, end - start)
        if bare:
            taken = union([*taken, (start, end)])


def _bare(start: float, end: float, taken: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The parts of an interval that disjoint, ordered ones leave bare."""
    at = start
    for a, b in taken:
        if b <= at:
            continue
        if a >= end:
            break
        if a > at:
            yield at, a
        at = b
    if at < end:
        yield at, end


def counters(trace: PowerTrace, process: int, window: float = WINDOW) -> Iterator[dict[str, Any]]:
    """Counter tracks of a trace file (Perfetto): power, and its mean over `window` seconds, W."""
    for name, one in (
        ("power (W)", trace.thinned()),
        (f"power, mean of {window * 1e3:g} ms (W)", trace.windowed(window)),
    ):
        levels = [*one.watts.tolist(), float(one.watts[-1])] if len(one.watts) else []
        for at, watts in zip(one.times.tolist(), levels, strict=False):
            yield counter(name, process, at, W=round(watts, 1))
