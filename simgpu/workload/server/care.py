"""What clients and operators do to a server beside sending it requests: give up, fail, start and stop replicas."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from random import Random
from typing import Any

from simgpu.workload.server.managed import Failures, Gateway, Managed, Scaling
from simgpu.workload.server.requests import Request

TURNED_AWAY, TIMED_OUT, CANCELLED, FAILED = "turned_away", "timed_out", "cancelled", "failed"
FATES = (TURNED_AWAY, TIMED_OUT, CANCELLED, FAILED)
"""Why a request was not answered: the server did not take it, its client waited too long, its user left, engines that
had it failed."""


@dataclass(frozen=True)
class Care:
    """What happens beside requests.

    queue, longest
        Requests that wait at a replica at most (None: any), and tokens of a request at most (0: any).
    timeout, patience
        Seconds after which a client gives up, and mean seconds after which a user leaves.
    retries, retry_s
        Times that a client sends a request again, and the pause before that.
    seed
        Of failures and of patience.
    gateway
        How many requests of a replica are let through to the router.
    """

    queue: int | None = None
    longest: int = 0
    timeout: float = inf
    patience: float = inf
    retries: int = 0
    retry_s: float = 0.0
    scaling: Scaling | None = None
    failures: Failures | None = None
    seed: int = 0
    gateway: Gateway | None = None

    @property
    def watches(self) -> bool:
        """True if requests may be given up."""
        return self.timeout < inf or self.patience < inf

    def patience_of(self, request: Request) -> tuple[float, str]:
        """Seconds after which the client of a request gives it up, and what that is called."""
        if self.patience == inf:
            return self.timeout, TIMED_OUT
        leaves = Random(f"patience {self.seed} {request.number}").expovariate(1 / self.patience)
        return (leaves, CANCELLED) if leaves < self.timeout else (self.timeout, TIMED_OUT)

    def start(self, fleet: Any) -> None:
        """Set the operators to work."""
        fleet.scaler = Scaler(fleet, self.scaling) if self.scaling else None
        if self.failures:
            for number, engine in enumerate(fleet.engines):
                Breaker(fleet, engine, self.failures, Random(f"failures {self.seed} {number}"))

    def stop(self, fleet: Any) -> None:
        """Close the books of the operators."""
        if fleet.scaler is not None:
            fleet.scaler.count(fleet.now)


PLAIN = Care()


def care_of(job: Managed, seed: int) -> Care:
    """What a job says of it."""
    return Care(
        job.max_queue, job.max_model_len or 0, job.timeout_s or inf, job.patience_s or inf, job.retries, job.retry_s,
        job.scaling, job.failures, seed, job.gateway,
    )  # fmt: skip


class Breaker:
    """What makes an engine fail, and repairs it."""

    def __init__(self, fleet: Any, engine: Any, failures: Failures, random: Random) -> None:
        self.fleet, self.engine, self.failures, self.random = fleet, engine, failures, random
        self._next(0.0)

    def _next(self, now: float) -> None:
        self.fleet.at(now + self.random.expovariate(1 / self.failures.every_s), self._fail)

    def _fail(self, now: float) -> None:
        fleet, members = self.fleet, self.engine.members
        if not fleet.busy:
            return
        lost = self.engine.fail(now)
        served = [one for one in members if one.serves]
        fleet.down_s += self.failures.repair_s * len(members)
        fleet.failures += 1
        for one in members:
            one.down = True
            fleet.takes(one, False, now)
        fleet.at(now + self.failures.repair_s, lambda time: self._repaired(served, time))
        for request in lost:
            if request.fate:
                continue
            request.failures += 1
            if request.failures > self.failures.retries:
                fleet.lose(request, FAILED, now)
                continue
            fleet.restart(request, now)

    def _repaired(self, served: Sequence[Any], now: float) -> None:
        for one in self.engine.members:
            one.down = False
        for one in served:
            self.fleet.takes(one, True, now)
        self._next(now)


FACTOR, FEWEST = 2, 4
"""A decision starts at most as many replicas as make twice those that there are, or four (Kubernetes,
pkg/controller/podautoscaler/horizontal.go, calculateScaleUpLimit: scaleUpLimitFactor, scaleUpLimitMinimum)."""


class Scaler:
    """Starts and stops replicas, and counts the seconds of those that are there."""

    def __init__(self, fleet: Any, scaling: Scaling) -> None:
        self.fleet, self.scaling = fleet, scaling
        self.wanted: deque[tuple[float, int]] = deque()
        self.starting = 0
        self.seconds, self._since = 0.0, 0.0
        self.most = min(scaling.least, len(fleet.takers))
        for one in fleet.takers[scaling.least :]:
            fleet.takes(one, False, 0.0)
        fleet.at(scaling.every_s, self._decide)

    @property
    def there(self) -> int:
        """Replicas that serve, end their last requests, or start."""
        return sum(bool(one.serves or one.requests) for one in self.fleet.takers) + self.starting

    def count(self, now: float) -> None:
        """Add up the seconds of replicas until now."""
        self.seconds += self.there * (now - self._since)
        self._since = now
        self.most = max(self.most, self.there)

    def _decide(self, now: float) -> None:
        fleet, scaling = self.fleet, self.scaling
        if not fleet.busy:
            return
        self.count(now)
        ready = len(fleet.open)
        ratio = fleet.inside / max(ready, 1) / scaling.target
        current = ready + self.starting
        number = current if abs(ratio - 1) <= scaling.tolerance else ceil(ready * ratio)
        number = min(max(number, scaling.least), max(FACTOR * current, FEWEST), len(fleet.takers))
        self.wanted.append((now, number))
        while self.wanted[0][0] < now - scaling.settle_s:
            self.wanted.popleft()
        kept = max(one for _, one in self.wanted)
        for _ in range(number - current):
            self.starting += 1
            fleet.at(now + scaling.start_s, self._started)
        for one in reversed(fleet.open[max(kept - self.starting, scaling.least) :]):
            fleet.takes(one, False, now)
        self.most = max(self.most, self.there)
        fleet.at(now + scaling.every_s, self._decide)

    def _started(self, now: float) -> None:
        self.count(now)
        self.starting -= 1
        idle = next((one for one in self.fleet.takers if not (one.serves or one.down)), None)
        if idle is not None:
            self.fleet.takes(idle, True, now)
