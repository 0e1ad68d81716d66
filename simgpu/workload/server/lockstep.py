"""Replicas that share experts step together: data-parallel attention with wide expert parallelism.

A step is as long as the slowest of its ranks, and ranks without work run along empty (vLLM, v1/engine/core.py,
DPEngineCoreProc: dummy batches while any rank has requests). Steps of decodes are padded to the rank with the most
sequences, as CUDA graphs need it; in steps with prompts each rank has its own tokens, and experts have those of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request


class Rank(Replica):
    """A replica whose steps begin and end with those of its group."""

    engine: Lockstep
    alone = False

    def receive(self, request: Request, now: float) -> None:
        """Take a request that comes at `now`."""
        request.arrival, request.at = now, self
        self.waiting.append(request)
        self.queued += request.tokens
        group = self.engine
        if group.end == inf:
            self.last_start = now
            group.plan(now)
            return
        if not self.blocked or self.waiting[0] is request:
            group.cut(now)
        self.tally.series.span(now, group.end, (0, 1, 0, 0))

    def wake(self, now: float) -> None:
        """Blocks have become free: what waits may join."""
        if self.engine.end == inf and self.waiting:
            self.engine.plan(now)
        elif self.blocked:
            self.engine.cut(now)

    def cut(self, now: float) -> None:
        """End the leap of the group with the step that runs at `now`."""
        self.engine.cut(now)

    def shorten(self, now: float) -> None:
        """End its own leap with the step that runs at `now`."""
        super().cut(now)


class Lockstep:
    """Ranks that step together."""

    def __init__(self, ranks: Sequence[Rank]) -> None:
        self.members = tuple(ranks)
        self.end = inf
        self.active: list[Rank] = []
        for one in ranks:
            one.engine = self

    def plan(self, now: float) -> None:
        """Decide on the next step of all."""
        self.active = self._planned(now)
        if not self.active and any(one.waiting for one in self.members):  # seen by the next step only
            for one in self.members:
                one.last_start = now
            self.active = self._planned(now)
        if not self.active:
            self.end = inf
            return
        if any(one.has_prompts for one in self.active):
            self._mixed(now)
        else:
            self._decodes(now)
        for one in self.members:
            if one not in self.active:
                one.last_start = now

    def _planned(self, now: float) -> list[Rank]:
        """The ranks that have work, each with a step of its own in mind."""
        for one in self.members:
            one.plan(now)
        return [one for one in self.members if one.end < inf]

    def _mixed(self, now: float) -> None:
        steps, moved = self.active[0].steps, max(one.moved for one in self.active)
        sizes = [one.sizes() for one in self.active]
        self._same(now, steps.lockstep(sizes, len(self.members)) + moved, 0.0, 1)

    def _decodes(self, now: float) -> None:
        rows = max(one.n for one in self.active)
        lines = []
        for one in self.active:
            held = one.held + one.n
            _, start, slope = one.steps.line(one.n, held, rows)
            lines.append((start + slope * held, slope * one.n))
        first, rise = max(lines)
        k = min(one.planned for one in self.active)
        for other, steeper in lines:
            if steeper > rise:
                k = min(k, int((first - other) / (steeper - rise)) + 1)
        moved = max(one.moved for one in self.active)
        pending = any(one.waiting for one in self.members if one.end == inf)  # not seen yet
        self._same(now, first + moved, rise, 1 if moved or pending else k)

    def _same(self, now: float, first: float, rise: float, k: int) -> None:
        """All have as many steps of the same seconds."""
        for one in self.active:
            one.pace(first, rise, k)
        self.end = self.active[0].end
        one = self.active[0]
        idle = len(self.members) - len(self.active)
        one.tally.dummy_s += idle * (self.end - now)

    def cut(self, now: float) -> None:
        """End a leap with the step that runs at `now`."""
        before = self.end
        for one in self.active:
            one.shorten(now)
        self.end = self.active[0].end
        self.active[0].tally.dummy_s -= (len(self.members) - len(self.active)) * (before - self.end)

    def commit(self) -> None:
        """Carry out the step of all."""
        for one in self.active:
            one.commit()

    def fail(self, now: float) -> list[Request]:
        """All requests of all ranks are lost; returns them."""
        lost = [request for one in self.members for request in one.fail(now)]
        self.end, self.active = inf, []
        return lost
