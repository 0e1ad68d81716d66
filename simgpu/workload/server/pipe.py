"""A replica whose layers stand on several stages: a pipeline with a batch on each, in turn.

Every batch has sequences of its own and comes back to the scheduler when it has been through all stages; the next one
enters as soon as the first stage is free. With T seconds through all stages and s in the slowest, batches enter s apart
at least, and a batch leaves s after the one before it at least:

    leaves = max(enters + T, leaves before + s)

A prompt in chunks does not wait for its chunks to come back: each goes with the next batch that enters (vLLM,
v1/core/sched/scheduler.py, _update_after_schedule). Steps are followed one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import Any

from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.steps import Steps
from simgpu.workload.server.tally import Tally


class Lane(Replica):
    """A batch of a pipeline, which shares its queue, its cache and its prompts in progress with the others."""

    alone = False
    pipe: Pipe

    def _seat(self) -> bool:
        return sum(len(one.running) for one in self.pipe.lanes) < self.rules.seats

    def _form(self, seen: float, need: int, lost: bool) -> list[tuple[Request, int]]:
        """Chunks of prompts for the next step, those of every batch."""
        self.prompts = self.pipe.prompts
        return super()._form(seen, need, lost)

    def plan(self, now: float) -> None:
        """Decide on the next step, which enters when the first stage is free."""
        self.ending: list[Request] = []
        super().plan(now)
        if self.end == inf:
            return
        pipe, seconds = self.pipe, self.end - now
        slowest = pipe.share * seconds
        enters = max(now, pipe.free)
        self.end = pipe.leaves = max(enters + seconds, pipe.leaves + slowest)
        pipe.free = enters + slowest
        if not self.has_prompts:
            self._t = self.end - now
            super()._take(1)
        for request, new in self._chunks:
            self._goes(request, new)

    def _take(self, k: int) -> None:
        """Nothing: other batches could have taken blocks while it was on its way, so it took its own before."""

    def _spent(self, start: float, end: float) -> None:
        """The queue and the cache are those of the whole pipeline, of which a batch is a part."""
        running, waiting, used, decoding = self._state
        parts = self.pipe.stages
        self.tally.busy_s += (end - start) / parts
        self.tally.most_used = max(self.tally.most_used, used)
        self.tally.series.span(start, end, (running, waiting / parts, used / parts, decoding))
        if self.tally.keeps:
            self._kept(start, end)

    def _goes(self, request: Request, new: int) -> None:
        """A chunk is on its way: the next one need not wait for it."""
        for one in self.pipe.lanes:
            one.running.pop(request.number, None)
        self.running[request.number] = request
        request.left -= new
        if not request.left:
            self.pipe.prompts.remove(request)
            self.ending.append(request)

    def _computed(self, end: float) -> None:
        for _, new in self._chunks:
            self.queued -= new
            self.tally.computed += new
        for request in self.ending:
            if request.number in self.running:
                self.prompt_done(request, end)
        self.prompts = self.pipe.prompts


class Pipe:
    """A pipeline: what a router and a fleet see of it is one replica."""

    def __init__(self, rules: Rules, steps: Steps, tally: Tally, stages: int, share: float) -> None:
        self.rules, self.steps, self.tally, self.share = rules, steps, tally, share
        self.engine: Any = self
        self.members: Sequence[Any] = (self,)
        self.serves, self.down, self.number = True, False, 0
        self.done: list[Request] = []
        self.stages = stages
        self._begin()

    def _begin(self) -> None:
        self.lanes = [Lane(self.rules, self.steps, self.tally, leaps=False) for _ in range(self.stages)]
        first = self.lanes[0]
        self.pool, self.waiting = first.pool, first.waiting
        self.prompts: list[Request] = []
        self.free = self.leaves = 0.0
        self.end = inf
        for one in self.lanes:
            one.pipe, one.pool, one.waiting, one.prompts = self, self.pool, self.waiting, self.prompts

    # ---- what a router sees --------------------------------------------------------------------------

    @property
    def running(self) -> dict[int, Request]:
        """Requests that have a place."""
        return {number: one for lane in self.lanes for number, one in lane.running.items()}

    @property
    def requests(self) -> int:
        """Requests that wait or run."""
        return len(self.waiting) + sum(len(one.running) for one in self.lanes)

    @property
    def queued(self) -> int:
        """Tokens of prompts that wait."""
        return sum(one.queued for one in self.lanes)

    @property
    def held(self) -> int:
        """Tokens that decodes hold."""
        return sum(one.held for one in self.lanes)

    @property
    def tokens(self) -> int:
        """Tokens that wait to be computed or are held."""
        return self.queued + self.held

    # ---- events --------------------------------------------------------------------------------------

    def receive(self, request: Request, now: float) -> None:
        """Take a request that comes at `now`: a batch that is not on its way takes it in."""
        request.arrival, request.at = now, self
        self.waiting.append(request)
        self.lanes[0].queued += request.tokens
        self.wake(now)

    def wake(self, now: float) -> None:
        """Batches that are not on their way take in what they can."""
        for one in self.lanes:
            if one.end == inf and (self.waiting or self.prompts or one.n):
                one.last_start = now
                one.plan(now)
        self.end = min(one.end for one in self.lanes)

    def commit(self) -> None:
        """Carry out the step that is through."""
        lane = min(self.lanes, key=lambda one: one.end)
        lane.commit()
        self.done += lane.done
        lane.done, lane.end = [], inf
        self._last = lane

    def plan(self, now: float) -> None:
        """The batch that came back goes again, and others that have work now."""
        self._last.last_start = now
        self._last.plan(now)
        self.wake(now)

    def abort(self, request: Request, now: float) -> None:
        """A client has given a request up."""
        del now
        for one in self.lanes:
            if request.number in one.running:
                one.leaving.append(request)
                return
        self.waiting.remove(request)
        self.lanes[0].queued -= request.tokens

    def let_go(self, request: Request) -> None:
        """The cache of a request has moved to another engine."""
        self.lanes[0].let_go(request)

    def fail(self, now: float) -> list[Request]:
        """All requests are lost; returns them."""
        waiting = list(self.waiting)
        self.waiting.clear()
        lost = [request for one in self.lanes for request in one.fail(now)] + waiting
        self._begin()
        return lost
