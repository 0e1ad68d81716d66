"""A job `traffic` on a deployment: the server is set up, its requests are served, and every one of them is counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from simgpu.errors import InputError
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.speculation import Speculation
from simgpu.workload.server.class_counts import ClassCount, Limits
from simgpu.workload.server.fleet import Fleet
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.load import requests_of
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request, copy_of
from simgpu.workload.server.routing import Router
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.session import Sessions
from simgpu.workload.server.setup import fleet_of, load_at, load_of, replicas_of
from simgpu.workload.server.shards import Count, Dealt, bounds, dealt, expected, in_parallel, parts_of, sample_of
from simgpu.workload.server.started import check_end, check_engine, check_traffic, rules_of, steps_for
from simgpu.workload.server.steps import Steps
from simgpu.workload.server.tally import Sample, Series, Tally

PARTS = ("front", "wait", "prompt", "interference", "decode")
"""Parts of a request's time: outside the engine, until its first step, its prompt, prompts of others, decodes."""

KEPT = 200_000
"""Requests of which a run keeps a record: of more, one of so many over the whole run, whichever replica it has."""

MIX = 2654435761
"""Numbers times this are spread (D. E. Knuth, The Art of Computer Programming 3, 6.4: 2^32 over the golden ratio)."""

GROWTH = 0.03
"""A load is not stationary if, of the requests that come between its second quarter and its last, so large a share is
still inside, and more than three standard deviations of a Poisson count."""


@dataclass
class Served:
    """What a server did with a load: samples of its requests, s, and what was counted."""

    rules: Rules
    tally: Tally
    replicas: int
    classes: list[ClassCount]
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
    fates: Counter[str] = field(default_factory=Counter)
    retries: int = 0
    failures: int = 0
    replica_s: float = 0.0
    most_replicas: int = 0
    up: float = 1.0
    transfer_s: float = 0.0
    blocks: int = 0
    stride: int = 1
    gpus: int = 0
    places: dict[str, list[float]] = field(default_factory=dict)
    sessions: Sessions = field(default_factory=Sessions)

    def close(self, fleet: Fleet) -> None:
        """Take over what the fleet has counted."""
        self.end = max(self.end, fleet.now)
        self.area, self.fates, self.retries, self.failures = fleet.area, fleet.fates, fleet.retries, fleet.failures
        for rank, number in fleet.lost.items():
            self.classes[rank].lost += number
        self.replica_s, self.most_replicas = self.replicas * self.end, self.replicas
        if fleet.scaler is not None:
            self.replica_s, self.most_replicas = fleet.scaler.seconds, fleet.scaler.most
        self.up = 1 - min(fleet.down_s / (self.replicas * self.end), 1.0)
        if fleet.transfers is not None:
            self.transfer_s = fleet.transfers.seconds / max(fleet.transfers.number, 1)

    def add(self, one: Request) -> None:
        """Count a request that has its last token."""
        sent, first, last = one.sent, one.first, one.last
        ttft, total = first - sent, last - sent
        self.ttft.add(ttft)
        self.total.add(total)
        tpot = 0.0
        if one.output > 1:
            tpot = (last - first) / (one.output - 1)
            self.tpot.add(tpot)
        self.good += self.classes[one.rank].add(one, ttft, tpot)
        self.prompts += one.prompt
        self.outputs += one.output
        self.hits += one.hit
        if one.session is not None:
            self.sessions.count(one)
        if self.rules.tiers is not None:
            found = self.places.setdefault(one.place, [0, 0.0])
            found[0] += 1
            found[1] += ttft
        parts, arrival, admitted, interfered = self.parts, one.arrival, one.admitted, one.interfered
        parts[0] += arrival - sent
        parts[1] += admitted - arrival
        parts[2] += first - admitted
        parts[3] += interfered
        parts[4] += last - first - interfered
        if last > self.end:  # noqa: PLR1730 - quicker than max
            self.end = last
        if sent > self.last_sent:  # noqa: PLR1730 - quicker than max
            self.last_sent = sent
        self.rates.event(last, (1.0, float(one.output), ttft))
        if not (one.number * MIX >> 16) % self.stride and len(self.records) < KEPT:
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

    def join(self, other: Served) -> None:
        """Add what was counted of other replicas under a part of the same load."""
        self.tally.join(other.tally)
        self.rates.join(other.rates)
        for mine, more in zip(self.samples, other.samples, strict=True):
            mine.join(more)
        self.parts = [a + b for a, b in zip(self.parts, other.parts, strict=True)]
        self.records = sorted(self.records + other.records)[:KEPT]
        self.fates += other.fates
        self.sessions.join(other.sessions)
        for count, another in zip(self.classes, other.classes, strict=True):
            count.join(another)
        for name in (
            "replicas",
            "good",
            "prompts",
            "outputs",
            "hits",
            "area",
            "retries",
            "failures",
            "most_replicas",
            "blocks",
            "gpus",
        ):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.end, self.last_sent = max(self.end, other.end), max(self.last_sent, other.last_sent)
        self.replica_s = self.replicas * self.end

    @property
    def samples(self) -> tuple[Sample, ...]:
        """TTFT, TPOT, end to end."""
        return self.ttft, self.tpot, self.total

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
    rules, steps = rules_of(deployment, job, speculation), steps_for(deployment, job, speculation)
    check_end(job, steps)
    return serve_requests(deployment, job, rules, steps.scaled(factor), leaps)


def serve_middle(
    deployment: Deployment, job: Traffic, speculation: Speculation | None = None, others: Sequence[Deployment] = ()
) -> list[Served]:
    """Serve the requests of a job in parts, on several cores where it is large. Raises `InputError` (key only)."""
    check_traffic(deployment, job)
    dp, parts = deployment.plan.dp, _parts_of(deployment, job)
    tasks = [(1.0, *bounds(dp, part, parts)) for part in range(parts)]
    return _in_parts(deployment, job, speculation, tasks, others)


def _parts_of(deployment: Deployment, job: Traffic) -> int:
    return parts_of(job, deployment.plan.dp, deployment.experts.replicas * deployment.plan.pp)


def serve_ends(
    deployment: Deployment, job: Traffic, factors: Sequence[float], speculation: Speculation | None = None,
    others: Sequence[Deployment] = (),
) -> list[Served]:  # fmt: skip
    """Serve them with kernels that take so many times as long; of a load in parts, some of the first replicas alone.

    Where these are fewer than those of the first part, a last answer is theirs with kernels as they are.
    """
    dp, parts = deployment.plan.dp, _parts_of(deployment, job)
    last = dp if parts == 1 else sample_of(job, dp, parts)
    if last < bounds(dp, 0, parts)[1]:
        factors = *factors, 1.0
    return _in_parts(deployment, job, speculation, [(factor, 0, last) for factor in factors], others)


Part = tuple[float, int, int]
"""How many times as long kernels take, the first of the replicas, and the one after the last."""


def _in_parts(
    deployment: Deployment, job: Traffic, speculation: Speculation | None, tasks: Sequence[Part],
    others: Sequence[Deployment],
) -> list[Served]:  # fmt: skip
    rules = rules_of(deployment, job, speculation)
    steps, dp = steps_for(deployment, job, speculation), deployment.plan.dp
    check_end(job, steps)
    for one in others:
        check_engine(one, job)

    load_of_ends: list[Request] = []
    if all(task[1:] == tasks[0][1:] for task in tasks) and tasks[0][2] < dp:
        load_of_ends += load_at(job, rules.image_tokens, dealt(job, dp, *tasks[0][1:]))

    def work(task: Part, count: Count) -> Served:
        factor, first, last = task
        if last - first == dp:
            load = count.over(requests_of(job, rules.image_tokens))
            more = [(one, rules_of(one, job), steps_for(one, job).scaled(factor)) for one in others]
            return serve_pools([(deployment, rules, steps.scaled(factor)), *more], job, requests=load)
        some = replace(deployment, plan=replace(deployment.plan, dp=last - first))
        if load_of_ends:
            load = count.over(map(copy_of, load_of_ends))
        else:
            load = count.over(load_at(job, rules.image_tokens, dealt(job, dp, first, last)))
        plain = job.model_copy(update={"classes": None})  # they have them already
        return serve_pools(
            [(some, rules, steps.scaled(factor))], plain, router=Dealt, requests=load, limits=limits_of(job)
        )

    requests = round(sum(expected(job) * (last - first) / dp for _, first, last in tasks))
    found: list[Served] = in_parallel(work, tasks, requests)
    return found


def joined(parts: Sequence[Served]) -> Served:
    """What was counted in all parts; the first is used up."""
    whole = parts[0]
    for one in parts[1:]:
        whole.join(one)
    return whole


Pool = tuple[Deployment, Rules, Steps]
"""Replicas of a deployment, with their rules and steps."""


def serve_requests(
    deployment: Deployment, job: Traffic, rules: Rules, steps: Steps, leaps: bool = True,
    router: Callable[[int], Router] | None = None, replica: type[Replica] = Replica,
    requests: Iterable[Request] | None = None,
) -> Served:  # fmt: skip
    """Serve the requests of a job by the rules.

    Of one's own may be: `router`, which makes one from a seed, `replica`, a class whose scheduler differs, and
    `requests` in the order in which they are sent, in place of the job's.
    """
    return serve_pools([(deployment, rules, steps)], job, leaps, router, replica, requests)


def serve_pools(
    pools: Sequence[Pool], job: Traffic, leaps: bool = True, router: Callable[[int], Router] | None = None,
    replica: type[Replica] = Replica, requests: Iterable[Request] | None = None,
    limits: Sequence[Limits] | None = None,
) -> Served:  # fmt: skip
    """Serve the requests of a job by several pools of replicas behind one router.

    `limits` are those of the classes that `requests` have, in place of the job's.
    """
    tally = Tally()
    made = [(one, replicas_of(one, rules, steps, tally, leaps, replica)) for one, rules, steps in pools]
    replicas = [one for _, some in made for one in some]
    served = Served(pools[0][1], tally, len(replicas), [ClassCount(one) for one in limits or limits_of(job)])
    served.stride = max(-(-expected(job) // KEPT), 1)
    served.gpus = sum(one.plan.world for one, _, _ in pools)
    served.blocks = sum(one.pool.total for one in replicas)
    fleet = fleet_of(made, job, served.add, router)
    fleet.run(load_of(job, requests, pools[0][1].image_tokens))
    if not served.requests and not fleet.fates:
        if job.trace is not None:
            raise InputError("has no request in the part of it that is replayed", file=job.trace)
        raise InputError("no request comes in this time; expected a higher rate or a longer duration", key="workload")
    if not served.requests:
        problem = f"none of {sum(fleet.fates.values()):,} requests was answered: {_listed(fleet.fates)}"
        raise InputError(f"{problem}; expected a lower rate, or longer limits", key="workload")
    served.close(fleet)
    return served


def limits_of(job: Traffic) -> list[Limits]:
    """The limits of each class of a job, of all requests where it has none."""
    names = ("ttft_limit_s", "tpot_limit_s", "e2e_limit_s")
    usual = [getattr(job, name) or 1e30 for name in names]
    if job.classes is None:
        return [(usual[0], usual[1], usual[2])]
    asked = [[getattr(one, name) or other for name, other in zip(names, usual, strict=True)] for one in job.classes]
    return [(ttft, tpot, total) for ttft, tpot, total in asked]


def _listed(fates: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name.replace('_', ' ')}" for name, count in fates.items())
