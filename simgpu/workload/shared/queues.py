"""Requests that queue for models which share a GPU, followed one by one.

Between two events every call goes on at its rate (`simgpu.workload.shared.rates`); an event is a request that comes or
a call that ends. Models of a chain hand a request on; models apart have requests of their own, or are always busy.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from math import inf

from simgpu.workload.shared.rates import SLICE, Call, rates

WARM = 0.1
"""Share of the requests that come first and are not counted: the queues are still empty."""

MOST_EVENTS = 4_000_000
"""Events after which nothing more is followed: a load far above what the GPU can serve."""


@dataclass(frozen=True)
class Model:
    """One model: its calls by how many run at a time, `slots` of them at most; its own requests a second, or busy."""

    calls: Callable[[int], Call]
    slots: int = 1
    rate: float | None = None
    host: float = 0.0
    """Seconds of a call before it asks for the GPU."""


@dataclass
class Running:
    """A call: the request, when it came to the model, what is left of it, seconds until it asks for the GPU."""

    request: int
    came: float
    left: float = 1.0
    waits: float = 0.0


@dataclass(frozen=True)
class Followed:
    """Seconds of requests: `whole` through the chain (apart: of the first model), and of each model, waits included."""

    whole: Sequence[float]
    parts: Sequence[Sequence[float]]
    seconds: float
    """Seconds that were followed."""

    @property
    def per_second(self) -> float:
        """Requests a second that were served, of models apart those of the first."""
        return len(self.whole) / self.seconds if self.seconds else 0.0


def percentile(times: Sequence[float], share: float) -> float:
    """The time that a share of all stay below; 0 without any."""
    if not times:
        return 0.0
    ordered = sorted(times)
    place = share * (len(ordered) - 1)
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def follow(models: Sequence[Model], sharing: str, rate: float | None, requests: int, seed: int) -> Followed:
    """Follow `requests` requests through a chain at `rate` a second; without a rate the models stand apart."""
    return _Run(models, sharing, rate, requests, seed).run()


@dataclass
class _Run:
    models: Sequence[Model]
    sharing: str
    rate: float | None
    requests: int
    seed: int
    now: float = 0.0
    sent: int = 0
    done: int = 0
    came: dict[int, float] = field(default_factory=dict)
    known: dict[tuple[int, ...], dict[int, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.draw = random.Random(self.seed)
        count = len(self.models)
        self.waiting: list[deque[tuple[int, float]]] = [deque() for _ in range(count)]
        self.running: list[list[Running]] = [[] for _ in range(count)]
        self.next = [inf] * count
        self.whole: list[float] = []
        self.parts: list[list[float]] = [[] for _ in range(count)]
        self.warm = int(WARM * self.requests)
        self.since = 0.0

    def run(self) -> Followed:
        """Follow all of them."""
        if self.rate is not None:
            self.next[0] = self._gap(self.rate)
        else:
            for i, model in enumerate(self.models):
                if model.rate is None:
                    self._arrive(i)
                else:
                    self.next[i] = self._gap(model.rate)
        for _ in range(MOST_EVENTS):
            if self.done >= self.requests:
                break
            self._event()
        return Followed(self.whole, self.parts, self.now - self.since)

    def _gap(self, rate: float) -> float:
        return self.now + self.draw.expovariate(rate)

    # ---- events ---------------------------------------------------------------------------------------

    def _event(self) -> None:
        speeds = self._speeds()
        arrival = min(self.next)
        ending, first = inf, (-1, -1)
        for i, calls in enumerate(self.running):
            for j, call in enumerate(calls):
                after = call.waits or (call.left / speeds[i] if speeds[i] > 0 else inf)
                if after < ending:
                    ending, first = after, (i, j)
        gap = arrival - self.now
        passed = min(gap, ending)
        for i, calls in enumerate(self.running):
            for call in calls:
                if call.waits:
                    call.waits = max(call.waits - passed, 0.0)
                else:
                    call.left -= passed * speeds[i]
        self.now += passed
        if ending <= gap and self._asks(*first):
            return
        if ending <= gap:
            self._end(*first)
        else:
            i = self.next.index(arrival)
            rate = self.rate if self.rate is not None else self.models[i].rate
            assert rate is not None
            self.next[i] = self._gap(rate)
            self._arrive(i)

    def _asks(self, i: int, j: int) -> bool:
        """True if what ended is the time before a call asks for the GPU, and not the call."""
        call = self.running[i][j]
        call.waits = 0.0 if call.waits < 1e-15 else call.waits
        return call.left > 1e-12

    def _speeds(self) -> dict[int, float]:
        """Progress a second of the calls of each model that ask for the GPU."""
        counts = tuple(sum(not call.waits for call in calls) for calls in self.running)
        if self.sharing == "in_turn":
            came = {i: min(c.came for c in self.running[i] if not c.waits) for i, count in enumerate(counts) if count}
            first = min(came, key=lambda i: (came[i], i), default=-1)
            return {
                i: 1.0 / self.models[i].calls(count).seconds if i == first else 0.0 for i, count in enumerate(counts)
            }
        found = self.known.get(counts)
        if found is None:
            active = [i for i, count in enumerate(counts) if count]
            calls = [self.models[i].calls(counts[i]) for i in active]
            shares = rates(self.sharing, calls)
            found = dict.fromkeys(range(len(counts)), 0.0)
            found |= {i: share / call.seconds for i, share, call in zip(active, shares, calls, strict=True)}
            self.known[counts] = found
        return found

    def _arrive(self, i: int) -> None:
        """A new request comes to a model."""
        request, self.sent = self.sent, self.sent + 1
        self.came[request] = self.now
        self._queue(i, request)

    def _queue(self, i: int, request: int) -> None:
        self.waiting[i].append((request, self.now))
        self._start(i)

    def _start(self, i: int) -> None:
        while self.waiting[i] and len(self.running[i]) < self.models[i].slots:
            request, came = self.waiting[i].popleft()
            others = any(calls for j, calls in enumerate(self.running) if j != i)
            sliced = self.sharing == "time_slicing" and others
            waits = self.models[i].host + (self.draw.random() * SLICE if sliced else 0.0)
            self.running[i].append(Running(request, came, waits=waits))

    def _end(self, i: int, j: int) -> None:
        call = self.running[i].pop(j)
        counted = self.done >= self.warm
        if counted:
            self.parts[i].append(self.now - call.came)
        last = i == len(self.models) - 1 if self.rate is not None else i == 0
        begun = self.came[call.request]
        if last:
            self.done += 1
            if counted:
                self.whole.append(self.now - begun)
            elif self.done == self.warm:
                self.since = self.now
        if self.rate is not None and i + 1 < len(self.models):
            self._queue(i + 1, call.request)
        else:
            del self.came[call.request]
        if self.rate is None and self.models[i].rate is None:
            self._arrive(i)
        self._start(i)
