"""A fleet for a job `traffic`: replicas that step together or alone, their routers, and the load with classes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from math import inf
from random import Random
from typing import Any

from simgpu.plan.serving_memory import cache_bytes
from simgpu.workload.inference.adapters import chances_of
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.disaggregation import TRANSFER_FRACTION, network_rate
from simgpu.workload.inference.jobs import Lora
from simgpu.workload.server.care import care_of
from simgpu.workload.server.fleet import Apart, Clients, Fleet
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.load import requests_of, span_of
from simgpu.workload.server.lockstep import Lockstep, Rank
from simgpu.workload.server.pipe import Pipe
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request, family_of
from simgpu.workload.server.routing import ROUTERS, Router
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.steps import Steps
from simgpu.workload.server.tally import Tally
from simgpu.workload.server.transfers import Transfer


def replicas_of(
    deployment: Deployment, rules: Rules, steps: Steps, tally: Tally, leaps: bool = True,
    kind: type[Replica] = Replica,
) -> list[Any]:  # fmt: skip
    """The replicas of a deployment; those that share experts step together."""
    count, together, stages = deployment.plan.dp, deployment.experts.replicas, deployment.plan.pp
    if stages > 1:
        share = steps.pieces.slowest()
        return [Pipe(rules, steps, tally, stages, share) for _ in range(count)]
    if together == 1:
        return [kind(rules, steps, tally, leaps) for _ in range(count)]
    ranks = [Rank(rules, steps, tally, leaps) for _ in range(count)]
    for first in range(0, count, together):
        Lockstep(ranks[first : first + together])
    return list(ranks)


def fleet_of(
    pools: Sequence[tuple[Deployment, Sequence[Replica]]], job: Traffic, report: Callable[[Request], None],
    router: Callable[[int], Router] | None = None,
) -> Fleet:  # fmt: skip
    """The fleet of a job: the replicas of its own GPUs, and those of its pools.

    `router` makes a router of one's own from a seed.
    """
    replicas = [one for _, some in pools for one in some]
    made = router or ROUTERS[job.router]
    until = span_of(job) if job.clients else inf
    gap = job.users / (job.rate or 1.0) if job.users else 0.0
    clients = Clients(job.clients or 0, job.think_s, job.max_concurrency or 0, until, job.clients_start_s, gap)
    care = care_of(job, job.seed)
    for one in replicas[: job.warmups]:
        one.pool.knows(next(requests_of(job, one.rules.image_tokens)).path)
    if not job.apart:
        return Fleet(replicas, made(job.seed), report, clients, None, care)
    prompts, decoders = list(pools[0][1][: job.prefill_replicas]), list(pools[0][1][job.prefill_replicas :])
    transfers: dict[Any, Transfer] = {}
    for deployment, some in pools:
        transfers |= dict.fromkeys([one.engine for one in some], transfer_of(deployment))
    for asked, (_, some) in zip(job.pools or (), pools[1:], strict=True):
        (prompts if asked.takes == "prompts" else decoders).extend(some)
    return Fleet(prompts, made(job.seed), report, clients, Apart(decoders, made(job.seed + 1), transfers), care)


def load_of(job: Traffic, requests: Iterable[Request] | None = None, images: int = 0) -> Iterator[Request]:
    """The requests of a job with their classes and the tokens of their `images`, or requests of one's own."""
    made = requests_of(job, images) if requests is None else iter(requests)
    if job.lora is not None and job.lora.rank:
        made = _adapted(made, job.lora, Random(f"adapters {job.seed}"))
    if job.classes is None:
        return made
    return _ranked(made, [one.share for one in job.classes], Random(f"classes {job.seed}"))


def load_at(job: Traffic, images: int, places: Iterator[int]) -> Iterator[Request]:
    """Those requests of a job that have a place, in `at`; those of a negative one are served elsewhere."""
    if job.classes is None and job.distinct is None:
        return requests_of(job, images, places)
    return _placed(load_of(job, images=images), places)


def _placed(requests: Iterator[Request], places: Iterator[int]) -> Iterator[Request]:
    for request, place in zip(requests, places, strict=False):
        if place >= 0:
            request.at = place
            yield request


def _adapted(requests: Iterator[Request], lora: Lora, random: Random) -> Iterator[Request]:
    """Requests with an adapter drawn by its popularity; all of a session have the same.

    What a prefix leaves in a cache is that of its adapter (vLLM, v1/core/kv_cache_utils.py: hashes with `lora_name`).
    """
    ends = list(accumulate(chances_of(lora.adapters, lora.exponent)))
    for request in requests:
        adapter = min(bisect_right(ends, random.random()), lora.adapters - 1)
        for one in family_of(request):
            one.adapter = adapter
            one.path = tuple((name if isinstance(name, int) else (adapter, name), end) for name, end in one.path)
        yield request


def _ranked(requests: Iterator[Request], shares: Sequence[float], random: Random) -> Iterator[Request]:
    """Requests with a class drawn by its share; all turns of a conversation have the same."""
    for request in requests:
        drawn, rank = random.random(), 0
        while rank < len(shares) - 1 and drawn >= shares[rank]:
            drawn -= shares[rank]
            rank += 1
        for one in family_of(request):
            one.rank = rank
        yield request


def transfer_of(deployment: Deployment) -> Transfer:
    """How a cache crosses the links of an engine's GPUs, each of which sends its part."""

    def size(tokens: int) -> float:
        return sum(cache_bytes(deployment.served, tokens, stage) for stage in range(deployment.plan.pp))

    return Transfer(TRANSFER_FRACTION * network_rate(deployment), size)
