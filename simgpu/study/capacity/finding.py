"""The largest load of a server within limits, and the fewest replicas for a load, by bisection.

Every trial serves the same requests, drawn from the same seeds: at another rate the same gaps are longer or shorter. So
a trial differs from the next by the load alone. The limits are of percentiles, and the load has to be stationary.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from simgpu.errors import InputError
from simgpu.simulation.inference import kernel_ends, run_spread_of
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.generation import Run
from simgpu.workload.server.answer import Served, serve_requests
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.started import check_traffic, rules_of, steps_for

CLOSE = 0.01
"""Relative width of the interval at which a search for a rate ends."""

MOST_REPLICAS = 4096


@dataclass(frozen=True)
class Limits:
    """Limits of TTFT, TPOT and the time to the last token, s, that `share` percent of the requests keep."""

    ttft: float
    tpot: float
    share: float = 99.0
    total: float = 1e30

    def kept(self, done: Served) -> bool:
        """True if a run keeps the limits and does not fall behind."""
        ttft, tpot, total = (one.percentiles((self.share,))[0] for one in (done.ttft, done.tpot, done.total))
        return ttft <= self.ttft and tpot <= self.tpot and total <= self.total and done.stationary


def limits_of(job: Traffic, share: float) -> Limits:
    """The limits that a job names. Raises `InputError` (key only) where it names none."""
    if job.ttft_limit_s is None and job.tpot_limit_s is None and job.e2e_limit_s is None:
        raise InputError(
            "is missing; expected it or tpot_limit_s, which the server is to keep", key="workload.ttft_limit_s"
        )
    return Limits(job.ttft_limit_s or 1e30, job.tpot_limit_s or 1e30, share, job.e2e_limit_s or 1e30)


@dataclass(frozen=True)
class Capacity:
    """The largest load of a server within limits, at steps as predicted and at both ends of their interval.

    `key` is 'rate' (requests/s) or 'clients'; `at` is what the server does there. `replicas` are the fewest for the
    load that the job asks for, None where no number is enough.
    """

    key: str
    largest: float
    low: float
    high: float
    at: Served | None
    asked: float
    replicas: int | None
    engine: int  # GPUs of a replica

    def row(self) -> dict[str, Any]:
        """The answer as columns."""
        row: dict[str, Any] = {
            f"largest_{self.key}": self.largest,
            f"largest_{self.key}_p10": self.low,
            f"largest_{self.key}_p90": self.high,
        }
        if self.at is not None:
            row["ttft_99th_s"], row["tpot_99th_s"] = (
                one.percentiles((99.0,))[0] for one in (self.at.ttft, self.at.tpot)
            )
        row |= {self.key: self.asked, "replicas_needed": self.replicas}
        row["gpus_needed"] = None if self.replicas is None else self.replicas * self.engine
        return row

    def costs(self, price: float) -> dict[str, Any]:
        """What the GPUs that are needed cost in an hour, and a million output tokens at the largest load, USD."""
        found: dict[str, Any] = {}
        if self.replicas is not None:
            found["usd_per_hour"] = price * self.replicas * self.engine
        if self.at is not None and self.at.outputs:
            done = self.at
            seconds = done.requests / self.largest if self.key == "rate" else done.end
            hours = seconds / 3600 * done.replicas * self.engine
            found["usd_per_million_output_tokens"] = price * hours / done.outputs * 1e6
        return found


def capacity_of(deployment: Deployment, job: Traffic, limits: Limits) -> Capacity:
    """The capacity of a server. Raises `InputError` (key only)."""
    key = "clients" if job.process == "closed" else "rate"
    if key == "rate" and (job.rate is None or job.process not in ("poisson", "gamma", "constant", "day")):
        problem = f"arrivals {job.process} have no rate that could be more or less; expected poisson, gamma or closed"
        raise InputError(problem, key="workload.arrivals")
    for name in ("pools", "speculative", "scaling"):
        if getattr(job, name):
            problem = "a capacity is that of equal replicas without a draft, all of which are there; leave it out"
            raise InputError(problem, key=f"workload.{name}")
    check_traffic(deployment, job)
    asked = float(job.clients or 0) if key == "clients" else float(job.rate or 0)
    context = (job.prefix_tokens + (job.prompt or 1)) + (job.output or 2) // 2
    step = deployment.decode(32, context)
    spread = run_spread_of(deployment, "tpot", step.seconds, kernel_ends([Run(step, 1.0, step.seconds, 1.0)]), True)
    runs: dict[tuple[float, float, int], Served] = {}

    def serve(load: float, factor: float, replicas: int) -> Served:
        known = (load, factor, replicas)
        if known not in runs:
            runs[known] = _serve(deployment, job, key, *known)
        return runs[known]

    def largest(factor: float, start: float) -> float:
        return _largest(lambda load: limits.kept(serve(load, factor, deployment.plan.dp)), start, key == "clients")

    found = largest(1.0, asked)
    low, high = (largest(factor, found or asked) for factor in (spread.high, spread.low))
    at = serve(found, 1.0, deployment.plan.dp) if found else None
    replicas = _fewest(lambda count: limits.kept(serve(asked, 1.0, count)), asked, found, deployment.plan.dp)
    return Capacity(key, found, low, high, at, asked, replicas, deployment.plan.world // deployment.plan.dp)


def _serve(deployment: Deployment, job: Traffic, key: str, load: float, factor: float, replicas: int) -> Served:
    value = max(int(load), 1) if key == "clients" else load
    changed = job.model_copy(update={key: value})
    several = replace(deployment, plan=replace(deployment.plan, dp=replicas))
    return serve_requests(several, changed, rules_of(deployment, job), steps_for(deployment, job).scaled(factor))


def _largest(keeps: Callable[[float], bool], start: float, whole: bool) -> float:
    """The largest load that keeps the limits; 0 where not even a thousandth of `start` does."""
    low, high = 0.0, start
    while keeps(high):
        low, high = high, high * 2
        if high > 1e6 * start:
            return low
    while not low:
        half = high / 2
        if half < start / 1000 or (whole and half < 1):
            return 0.0
        low, high = (half, high) if keeps(half) else (0.0, half)
    while high - low > CLOSE * low and not (whole and int(high) - int(low) <= 1):
        middle = (low + high) / 2
        low, high = (middle, high) if keeps(middle) else (low, middle)
    return float(int(low)) if whole else low


def _fewest(keeps: Callable[[int], bool], asked: float, largest: float, replicas: int) -> int | None:
    """The fewest replicas that keep the limits under the load that is asked for."""
    if not largest:
        return None
    high = max(int(asked / largest * replicas), 1)
    low = 0
    while not keeps(high):
        low, high = high, high * 2
        if high > MOST_REPLICAS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if keeps(middle) else (middle, high)
    return high
