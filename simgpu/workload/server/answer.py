"""A job `traffic` on a deployment: the server is set up, its requests are served, and every one of them is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from simgpu.errors import InputError
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.speculation import Speculation
from simgpu.workload.server.fleet import Fleet
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request
from simgpu.workload.server.routing import Router
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.setup import fleet_of, load_of, replicas_of
from simgpu.workload.server.started import check_traffic, rules_of, steps_for
from simgpu.workload.server.steps import Steps
from simgpu.workload.server.tally import Sample, Series, Tally

PARTS = ("front", "wait", "prompt", "interference", "decode")
"""Parts of a request's time: outside the engine, until its first step, its prompt, prompts of others, decodes."""

KEPT = 200_000
"""Requests of which a run keeps a record."""

GROWTH = 0.03
"""A load is not stationary if, of the requests that come between its second quarter and its last, so large a share is
still inside, and more than three standard deviations of a Poisson count."""


@dataclass
class Served:
    """What a server did with a load: samples of its requests, s, and what was counted."""

    rules: Rules
    tally: Tally
    replicas: int
    limits: tuple[float, float, float]
    ttft: Sample = field(default_factory=Sample)
    tpot: Sample = field(default_factory=Sample)
    total: Sample = field(default_factory=Sample)
    parts: list[float] = field(default_factory=lambda: [0.0] * len(PARTS))
    rates: Series = field(default_factory=lambda: Series(("requests", "output", "ttft_s")))
    records: list[tuple[float, ...]] = field(default_factory=list)
    good: int = 0
    prompts: int = 0
    outputs: int = 0
    hits: int = 0
    start: float = 0.0
    end: float = 0.0
    last_sent: float = 0.0
    area: float = 0.0
    urgent: Sample = field(default_factory=Sample)
    fates: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    failures: int = 0
    replica_s: float = 0.0
    most_replicas: int = 0
    up: float = 1.0
    transfer_s: float = 0.0

    def close(self, fleet: Fleet) -> None:
        """Take over what the fleet has counted."""
        self.end = max(self.end, fleet.now)
        self.area, self.fates, self.retries, self.failures = fleet.area, fleet.fates, fleet.retries, fleet.failures
        self.replica_s, self.most_replicas = self.replicas * self.end, self.replicas
        if fleet.scaler is not None:
            self.replica_s, self.most_replicas = fleet.scaler.seconds, fleet.scaler.most
        self.up = 1 - min(fleet.down_s / (self.replicas * self.end), 1.0)
        if fleet.transfers is not None:
            self.transfer_s = fleet.transfers.seconds / max(fleet.transfers.number, 1)

    def add(self, one: Request) -> None:
        """Count a request that has its last token."""
        ttft, total = one.first - one.sent, one.last - one.sent
        self.ttft.add(ttft)
        self.total.add(total)
        if not one.rank:
            self.urgent.add(ttft)
        tpot = 0.0
        if one.output > 1:
            tpot = (one.last - one.first) / (one.output - 1)
            self.tpot.add(tpot)
        self.good += ttft <= self.limits[0] and tpot <= self.limits[1] and total <= self.limits[2]
        self.prompts += one.prompt
        self.outputs += one.output
        self.hits += one.hit
        decode = one.last - one.first
        parts = self.parts
        parts[0] += one.arrival - one.sent
        parts[1] += one.admitted - one.arrival
        parts[2] += one.first - one.admitted
        parts[3] += one.interfered
        parts[4] += decode - one.interfered
        self.end = max(self.end, one.last)
        self.last_sent = max(self.last_sent, one.sent)
        self.rates.event(one.last, (1.0, float(one.output), ttft))
        if len(self.records) < KEPT:
            self.records.append(
                (
                    one.number,
                    one.sent,
                    one.prompt,
                    one.output,
                    one.hit,
                    one.admitted,
                    one.first,
                    one.last,
                    one.preempted,
                )
            )

    @property
    def requests(self) -> int:
        """Requests that ended."""
        return self.total.number

    @property
    def hit_rate(self) -> float:
        """Share of the prompt tokens that were in the cache."""
        return self.hits / self.prompts if self.prompts else 0.0

    @property
    def stationary(self) -> bool:
        """False if ever more requests waited, or were inside, while they were sent.

        A server fills for as long as a request takes: those inside are compared after that, where the run is longer.
        """
        rows = [row for row in self.tally.series.rows() if row["time_s"] <= self.last_sent]
        if len(rows) < 8:  # all were sent in a moment of the run: it is the wait that tells
            return self.parts[1] <= 0.5 * self.requests * self.last_sent
        waiting = [row["waiting"] for row in rows]
        filled = self.total.percentiles((90.0,))[0]
        inside = [row["running"] + row["waiting"] for row in rows if row["time_s"] > filled]
        long = len(inside) >= len(rows) / 2
        return not self._grows(waiting, 0.5) and not (long and self._grows(inside, 0.5 * len(inside) / len(rows)))

    def _grows(self, counts: list[float], part: float) -> bool:
        """True if counts grow from their second quarter to their last, which are `part` of the sending apart."""
        quarter = len(counts) // 4
        early, late = (sum(some) / len(some) for some in (counts[quarter : 2 * quarter], counts[-quarter:]))
        return bool(late - early > max(GROWTH * self.requests * part, 3 * early**0.5 + 1))


COLUMNS = ("request", "sent_s", "prompt", "output", "hit", "admitted_s", "first_s", "last_s", "preempted")
"""What a record of a request holds."""


def serve_traffic(
    deployment: Deployment, job: Traffic, factor: float = 1.0, leaps: bool = True,
    speculation: Speculation | None = None,
) -> Served:  # fmt: skip
    """Serve the requests of a job; kernels take `factor` times as long. Raises `InputError` (key only)."""
    check_traffic(deployment, job)
    rules = rules_of(deployment, job, speculation)
    return serve_requests(deployment, job, rules, steps_for(deployment, job, speculation).scaled(factor), leaps)


def serve_requests(
    deployment: Deployment, job: Traffic, rules: Rules, steps: Steps, leaps: bool = True,
    router: Callable[[int], Router] | None = None, replica: type[Replica] = Replica,
    requests: Iterable[Request] | None = None,
) -> Served:  # fmt: skip
    """Serve the requests of a job by the rules.

    Of one's own may be: `router`, which makes one from a seed, `replica`, a class whose scheduler differs, and
    `requests` in the order in which they are sent, in place of the job's.
    """
    tally, count = Tally(), deployment.plan.dp
    limits = job.ttft_limit_s or 1e30, job.tpot_limit_s or 1e30, job.e2e_limit_s or 1e30
    served = Served(rules, tally, count, limits)
    replicas = replicas_of(deployment, rules, steps, tally, leaps, replica)
    fleet = fleet_of(deployment, job, replicas, served.add, router)
    fleet.run(load_of(job, requests))
    if not served.requests and not fleet.fates:
        raise InputError("no request comes in this time; expected a higher rate or a longer duration", key="workload")
    if not served.requests:
        problem = f"none of {sum(fleet.fates.values()):,} requests was answered: {_listed(fleet.fates)}"
        raise InputError(f"{problem}; expected a lower rate, or longer limits", key="workload")
    served.close(fleet)
    return served


def _listed(fates: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in fates.items())
