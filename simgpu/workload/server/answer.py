"""A job `traffic` on a deployment: the server is set up, its requests are served, and every one of them is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from simgpu.errors import InputError
from simgpu.plan.serving_memory import cache_bytes, cache_tokens
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.disaggregation import TRANSFER_FRACTION, network_rate
from simgpu.workload.inference.vision import look, pictures_of
from simgpu.workload.server.fleet import Clients, Fleet, Transfer
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.load import requests_of, span_of
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request
from simgpu.workload.server.routing import ROUTERS, Router
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.steps import Steps, steps_of
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

    def add(self, one: Request) -> None:
        """Count a request that has its last token."""
        ttft, total = one.first - one.sent, one.last - one.sent
        self.ttft.add(ttft)
        self.total.add(total)
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


def rules_of(deployment: Deployment, job: Traffic) -> Rules:
    """The rules of the engine, where the job says nothing else. Raises `InputError` (key only)."""
    run = deployment.runtime
    block = job.block or run.block_tokens
    pictures = pictures_of(job, deployment.config)
    images = pictures.tokens if pictures else 0
    longest = job.longest + job.turns * images
    pool = job.cache_tokens
    if pool is None:
        capacity = deployment.cluster.gpu.memory.capacity.si
        pool = cache_tokens(deployment.served, deployment.plan.dp, max(longest, 2), capacity)
    if pool < block:
        raise InputError(
            f"the cache holds {pool:,} tokens; expected more memory, or fewer bytes of weights", key="plan"
        )
    if longest > pool // block * block:
        problem = f"requests of {longest:,} tokens are more than the {pool:,} tokens of the cache"
        raise InputError(problem, key="workload.prompt")
    keeps = run.prefix_cache if job.prefix_cache is None else job.prefix_cache
    return Rules(
        chunk=deployment.chunk,
        seats=deployment.seats or pool,
        blocks=pool // block,
        block=block,
        keeps=keeps,
        mixes=run.mixes,
        ahead=run.overlaps_host,
        watermark=run.watermark if job.watermark is None else job.watermark,
        reserve=run.reserved,
        reserve_floor=run.reserved_least,
        reserve_steps=run.reserved_steps,
        front_s=run.first_s if job.front_s is None else job.front_s,
        image_tokens=images,
        look_s=look(deployment, pictures).seconds if pictures else 0.0,
    )


def check_traffic(deployment: Deployment, job: Traffic) -> None:
    """Raise `InputError` (key only) for a server that is not modelled request by request."""
    plan, run = deployment.plan, deployment.runtime
    if run.style != "fused":
        problem = f"{run.name} does not batch continuously; expected vllm, sglang or trtllm"
        raise InputError(problem, key="workload.runtime")
    for key, value in (("pp", plan.pp), ("cp", plan.cp)):
        if value > 1:
            problem = f"{value}: requests are not followed through {'stages' if key == 'pp' else 'split caches'}"
            raise InputError(f"{problem}; expected 1", key=f"plan.{key}")
    if plan.ep > plan.tp:
        problem = f"{plan.ep}: replicas that share experts step together, which is not modelled; expected at most tp"
        raise InputError(f"{problem} {plan.tp}", key="plan.ep")
    if job.prefill_replicas >= plan.dp and job.prefill_replicas:
        problem = f"{job.prefill_replicas} of {plan.dp} replicas leave none for decodes; expected fewer"
        raise InputError(problem, key="workload.prefill_replicas")
    if job.clients is not None and job.clients < plan.dp:
        raise InputError(f"{plan.dp} replicas are more than {job.clients} clients", key="plan.dp")


def serve_traffic(deployment: Deployment, job: Traffic, factor: float = 1.0, leaps: bool = True) -> Served:
    """Serve the requests of a job; kernels take `factor` times as long. Raises `InputError` (key only)."""
    check_traffic(deployment, job)
    rules = rules_of(deployment, job)
    return serve_requests(deployment, job, rules, steps_of(deployment).scaled(factor), leaps)


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
    replicas = [replica(rules, steps, tally, leaps) for _ in range(count)]
    made = router or ROUTERS[job.router]
    clients = Clients(job.clients or 0, job.think_s, job.max_concurrency or 0, span_of(job), job.clients_start_s)
    split = job.prefill_replicas
    if split:
        fleet = Fleet(
            replicas[:split], made(job.seed), served.add, clients, replicas[split:], made(job.seed + 1),
            transfer_of(deployment),
        )  # fmt: skip
    else:
        fleet = Fleet(replicas, made(job.seed), served.add, clients)
    fleet.run(iter(requests) if requests is not None else requests_of(job, rules.image_tokens))
    if not served.requests:
        raise InputError("no request comes in this time; expected a higher rate or a longer duration", key="workload")
    served.area = fleet.area
    return served


def transfer_of(deployment: Deployment) -> Transfer:
    """How a cache crosses the links of an engine's GPUs, each of which sends its part."""

    def size(tokens: int) -> float:
        return cache_bytes(deployment.served, tokens, 0)

    return Transfer(TRANSFER_FRACTION * network_rate(deployment), size)
