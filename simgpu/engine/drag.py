"""Streams that are slowed down while something else runs: kernels beside a collective.

A transfer may **drag** streams: from its start to its end it takes a fraction of the speed at which their delays
are worked off. The speed of a stream is

    v(t) = max(1 - sum of the fractions of the transfers that drag it at t, SLOWEST)

and a delay of w seconds that starts at a ends at the b for which the integral of v from a to b is w.

What keeps it cheap is that no speed exceeds 1. The calendar may hold a delay at a + w, as if nobody dragged it,
because it cannot end earlier. Only when that entry comes up is the work that was lost until then looked at,

    L(t) = integral of 1 - v from 0 to t,    left over at a + w:  L(a + w) - L(a),

and where there is some, the delay is entered anew. Delays that nothing drags therefore cost nothing more.
"""

from __future__ import annotations

import heapq
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from math import fsum, inf

SLOWEST = 0.05
"""Speed that a stream keeps whatever drags it (pure number)."""


class DraggedStream:
    """The speed of one stream over time, and its delay that takes longer than at full speed."""

    __slots__ = ("_left", "_lost", "_seen", "_since", "_speed", "delay", "due", "fractions")

    def __init__(self) -> None:
        self.fractions: dict[int, float] = {}  # of the transfers that drag it now
        self.delay = -1  # the last delay that was not over at its end at full speed
        self.due = 0.0  # when it ends, if the speed stays, or ended, s
        self._left = 0.0  # its work that was left at time `_seen`, s at full speed
        self._seen = 0.0
        # At time `_since[k]` work of `_lost[k]` seconds had been lost, and the speed became `_speed[k]`:
        self._since, self._lost, self._speed = [0.0], [0.0], [1.0]

    def lost(self, time: float) -> float:
        """Seconds of work, at full speed, that drags have cost the stream until `time`."""
        k = bisect_right(self._since, time) - 1
        return self._lost[k] + (1.0 - self._speed[k]) * (time - self._since[k])

    def prolong(self, delay: int, start: float, now: float) -> bool:
        """Work out when a delay ends that at full speed would end `now`. False where it does end now."""
        self._left, self._seen = self.lost(now) - self.lost(start), now
        self.due = now + self._left / self._speed[-1]
        self.delay = delay
        return self.due > now

    def change(self, now: float) -> bool:
        """Bring the speed up to date after a change of `fractions`. True where `due` moved."""
        before, speed = self._speed[-1], max(1.0 - fsum(self.fractions.values()), SLOWEST)
        if speed == before:
            return False
        self._lost.append(self.lost(now))
        self._since.append(now)
        self._speed.append(speed)
        if self.due <= now:  # there is none, or it ended or ends now
            return False
        self._left = max(self._left - before * (now - self._seen), 0.0)
        self._seen = now
        self.due = now + self._left / speed
        return True


class Drags:
    """All streams that are slowed down in a run, and the entries of their delays in the calendar.

    `drags[transfer]` are the fractions by stream. The others are what the run works with: `calendar` is its heap of
    (time, activity), `start` and `end` are filled as it goes, `end` being infinite until then.
    """

    def __init__(
        self,
        drags: Mapping[int, Mapping[int, float]],
        streams_of: Sequence[tuple[int, ...]],
        start: Sequence[float],
        end: Sequence[float],
        calendar: list[tuple[float, int]],
    ) -> None:
        self._drags = drags
        self._streams_of = streams_of
        self._start = start
        self._end = end
        self._calendar = calendar
        self._streams = {stream: DraggedStream() for fractions in drags.values() for stream in fractions}
        alone = {(stream,) for stream in self._streams}
        # Activities that hold just a stream which is dragged at some time:
        self.delays = {activity for activity, held in enumerate(streams_of) if held in alone} if alone else set()

    def turn(self, transfer: int, now: float) -> None:
        """Start or, when called again, stop the drag of `transfer` on its streams."""
        for number, fraction in self._drags[transfer].items():
            stream = self._streams[number]
            if stream.fractions.pop(transfer, None) is None:
                stream.fractions[transfer] = fraction
            if stream.change(now):
                heapq.heappush(self._calendar, (stream.due, stream.delay))

    def ends(self, delay: int, now: float) -> bool:
        """True if one of `delays`, an entry of which came up, ends `now`.

        If not, it ended before (an entry may be out of date), or its next entry is in the calendar.
        """
        stream = self._streams[self._streams_of[delay][0]]
        if self._end[delay] < inf:
            return False
        if stream.delay == delay:
            return stream.due <= now
        if stream.prolong(delay, self._start[delay], now):
            heapq.heappush(self._calendar, (stream.due, delay))
            return False
        return True
