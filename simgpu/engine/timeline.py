"""The outcome of a simulation: when each activity started and ended, and on which streams."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """One activity on one stream, seconds since the start of the simulation."""

    stream: int
    start: float
    end: float
    label: object

    @property
    def duration(self) -> float:
        """Seconds from start to end."""
        return self.end - self.start


class Timeline:
    """Start and end of every activity, in order of submission.

    `streams[s]` is the name of stream `s`; `start[a]`, `end[a]`, `labels[a]` and `streams_of[a]` describe
    activity `a`.
    """

    def __init__(
        self,
        streams: Sequence[str],
        streams_of: Sequence[tuple[int, ...]],
        labels: Sequence[object],
        start: Sequence[float],
        end: Sequence[float],
    ) -> None:
        self.streams = streams
        self.streams_of = streams_of
        self.labels = labels
        self.start = start
        self.end = end
        self._of: list[list[int]] | None = None

    def of(self, stream: int) -> list[int]:
        """Activities that hold a stream, in order of submission."""
        if self._of is None:
            self._of = [[] for _ in self.streams]
            for activity, held in enumerate(self.streams_of):
                for one in held:
                    self._of[one].append(activity)
        return self._of[stream]

    @property
    def makespan(self) -> float:
        """End of the last activity, s; 0 for an empty timeline."""
        return max(self.end, default=0.0)

    def spans(self, streams: Iterable[int] | None = None) -> Iterator[Span]:
        """Spans in order of submission; one per stream for an activity that holds several."""
        wanted = None if streams is None else frozenset(streams)
        some: Iterable[int] = range(len(self.streams_of))
        if wanted is not None and len(wanted) < len(self.streams):
            some = sorted({activity for stream in wanted for activity in self.of(stream)})
        for activity in some:
            for stream in self.streams_of[activity]:
                if wanted is None or stream in wanted:
                    yield Span(stream, self.start[activity], self.end[activity], self.labels[activity])


def nearest(timeline: Timeline, at: int, before: Sequence[int]) -> int:
    """The activity among `before` that shares a stream with `at`; of several, or of none, the latest submitted."""
    held = set(timeline.streams_of[at])
    return max(before, key=lambda number: (not held.isdisjoint(timeline.streams_of[number]), number))


def union(intervals: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """Disjoint, ordered intervals that cover the same points.

    >>> union([(3, 4), (0, 1), (1, 2), (3.5, 5)])
    [(0, 2), (3, 5)]
    """
    merged: list[tuple[float, float]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        elif end > start:
            merged.append((start, end))
    return merged


def length(intervals: Iterable[tuple[float, float]]) -> float:
    """Summed length of disjoint intervals."""
    return sum(end - start for start, end in intervals)


def outside(intervals: Sequence[tuple[float, float]], cover: Sequence[tuple[float, float]]) -> float:
    """Length of the part of `intervals` that `cover` leaves bare. Both must be disjoint and ordered.

    >>> outside([(0, 4), (6, 8)], [(1, 2), (7, 9)])
    4
    """
    bare = length(intervals)
    at = 0
    for start, end in intervals:
        at = bisect_right(cover, start, lo=at, key=lambda one: one[1])
        k = at
        while k < len(cover) and cover[k][0] < end:
            bare -= min(end, cover[k][1]) - max(start, cover[k][0])
            k += 1
    return bare
