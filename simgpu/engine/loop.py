"""The event loop: what starts, what ends, and when, until nothing is left.

The calendar holds an entry (time, activity) for each activity that has started: of a delay its end, of a transfer the
end of a latency. Flows that are on their way end when the network says so. The loop takes whichever comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush, heapreplace
from math import inf

from simgpu.engine.drag import Drags
from simgpu.engine.network import FluidNetwork


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a transfer: after `latency` seconds all `flows` start together; it ends with the last of them.

    A flow is `(route, size)`: the numbers of the links it crosses and its bytes. `(route, size, counts)` stands for
    equal flows of `size` bytes each, `counts[i]` of them on link `route[i]`.
    """

    latency: float
    flows: tuple[tuple[tuple[int, ...], float] | tuple[tuple[int, ...], float, tuple[float, ...]], ...] = ()

    def slower(self, factor: float) -> Phase:
        """The same part on links without others, longer by a factor."""
        flows = ((flow[0], flow[1] * factor, *flow[2:]) for flow in self.flows)
        return Phase(self.latency * factor, tuple(flows))


@dataclass(frozen=True)
class Program:
    """Activities by number, each waiting for others that were submitted before it.

    lead: seconds of a delay, latency before the first flows of a transfer. follower: an activity that waits for this
    one, -1 for none; followers: further ones. waits_for: how many activities stand before one, where it is not one.
    phases, drags: of transfers (drags: fractions of speed by stream).
    """

    lead: Sequence[float]
    streams_of: Sequence[tuple[int, ...]]
    follower: Sequence[int]
    followers: Mapping[int, Sequence[int]]
    waits_for: Mapping[int, int]
    phases: Mapping[int, Sequence[Phase]]
    drags: Mapping[int, dict[int, float]]


class Loop:
    """One run of a program. `start` and `end` hold the times of every activity once it is over."""

    def __init__(self, program: Program, network: FluidNetwork) -> None:
        count = len(program.lead)
        self.program, self.network = program, network
        self.start, self.end = [0.0] * count, [inf] * count
        self.waits = [1] * count  # activities that each one still waits for
        for i, others in program.waits_for.items():
            self.waits[i] = others
        self.calendar = [(program.lead[i], i) for i, others in program.waits_for.items() if others == 0]
        heapify(self.calendar)
        self.drags = Drags(program.drags, program.streams_of, self.start, self.end, self.calendar)
        self._reached: dict[int, int] = {}  # how many phases of a transfer have begun
        self._moving: dict[int, int] = {}  # how many flows of its present phase are on their way

    def run(self) -> None:
        """Run to the end. Ties go by the order of submission."""
        program, network, calendar = self.program, self.network, self.calendar
        lead, follower, followers = program.lead, program.follower, program.followers
        start, end, waits = self.start, self.end, self.waits
        special = program.phases.keys() | self.drags.delays if self.drags.delays else program.phases
        next_flow, changed = inf, False  # the next end of a flow; whether flows came or went since the last solve
        while calendar or next_flow < inf:
            if not calendar or calendar[0][0] > next_flow:
                now = next_flow
                self._land(now)
                changed = True
            else:
                now, i = calendar[0]
                if i in special and not self._is_over(i, now):
                    changed = self._advance(i, now) or changed
                else:  # the activity ends; written out here, since a call for each end is felt
                    end[i] = now
                    j = follower[i]
                    if j >= 0 and waits[j] == 1:  # the frequent case: the next in the stream takes its place
                        waits[j], start[j] = 0, now
                        heapreplace(calendar, (now + lead[j], j))
                    else:
                        heappop(calendar)
                        if j >= 0:
                            waits[j] -= 1
                    if i in followers:
                        self._release(followers[i], now)
            if changed and not (calendar and calendar[0][0] == now):
                network.solve(now)
                next_flow, changed = network.next_time, False

    def _release(self, waiting: Sequence[int], now: float) -> None:
        """Start those of `waiting` that wait for nothing else, now that one activity they waited for is over."""
        for j in waiting:
            self.waits[j] -= 1
            if self.waits[j] == 0:
                self.start[j] = now
                heappush(self.calendar, (now + self.program.lead[j], j))

    def _is_over(self, i: int, now: float) -> bool:
        """True if a transfer has gone through its phases, or a slowed delay ends now."""
        phases = self.program.phases.get(i)
        return self.drags.ends(i, now) if phases is None else self._reached.get(i, 0) == len(phases)

    def _advance(self, i: int, now: float) -> bool:
        """Begin the next phase of a transfer. Returns whether flows were launched."""
        phases = self.program.phases.get(i)
        if phases is None:  # a dragged delay that has a later entry, or ended at an earlier one
            heappop(self.calendar)
            return False
        at = self._reached.get(i, 0)
        self._reached[i] = at + 1
        flows = phases[at].flows
        if flows:
            heappop(self.calendar)
            self._moving[i] = len(flows)
            for flow in flows:
                self.network.launch(i, *flow)
            return True
        heapreplace(self.calendar, (now + self._latency(i), i))
        if i in self.program.drags and at in (0, len(phases) - 1):
            self.drags.turn(i, now)
        return False

    def _land(self, now: float) -> None:
        """End the flows that are done: a transfer whose last flow has ended waits for its next phase."""
        for i in self.network.finish(now):
            self._moving[i] -= 1
            if self._moving[i] == 0:
                heappush(self.calendar, (now + self._latency(i), i))

    def _latency(self, i: int) -> float:
        """Latency of a transfer's next phase; 0 after the last."""
        phases, reached = self.program.phases[i], self._reached[i]
        return phases[reached].latency if reached < len(phases) else 0.0
