"""When requests are sent: processes of arrivals, each an iterator of seconds that rise.

Rates that vary are Poisson arrivals at the highest rate of which each is kept with the chance of its time (thinning; P.
A. W. Lewis and G. S. Shedler, Naval Research Logistics 26, 1979). Ramps over requests are those of `vllm bench serve`
(vllm/benchmarks/serve.py, `get_request`): the gap before each has the rate of its number.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heappush, heapreplace
from itertools import count, islice, repeat
from math import gcd, inf, log, pi, sin
from random import Random

from simgpu.workload.server.jobs import Point, Traffic

Start = tuple[float, int]
"""When a conversation begins, s, and its turns."""


def times_of(job: Traffic) -> Iterator[float]:
    """Seconds at which the requests of a job are sent; of clients that wait, 0: they are sent when answers come."""
    if job.process in ("burst", "closed"):
        return (0.0 for _ in count())
    return _until(_scaled(job) if job.scaled else _process(job), span_of(job))


def sessions_of(job: Traffic) -> Iterator[Start]:
    """When conversations of a job begin, and the turns of each."""
    if job.users:
        return _users(job)
    return zip(times_of(job), repeat(job.turns))


def _users(job: Traffic) -> Iterator[Start]:
    """Users who send a turn every `users` / rate seconds, at all stages of their conversations at the start.

    As aiperf has it (timing/strategies/user_centric_rate.py): each has a place of its own in the gap, from which a new
    one starts when the turns of the one before are over.
    """
    assert job.users is not None and job.rate is not None
    users, gap, life, end = job.users, job.users / job.rate, max(job.turns - 1, 1), span_of(job)
    apart = next((step for step in range(2, users) if gcd(users, step) == 1), 1) if gcd(users, life) > 1 else 0
    starts = [(0.0, -1, job.turns)]
    for number in range(users):
        age = (users - number) * life
        place = number * apart % users if apart else age % users
        if life > age // users:
            heappush(starts, ((users - place) / job.rate, number, life - age // users))
    while starts[0][0] <= end:
        time, number, turns = starts[0]
        heapreplace(starts, (time + turns * gap, number, job.turns))
        yield time, turns


def span_of(job: Traffic) -> float:
    """Seconds for which requests are sent at most."""
    whole = sum(seconds for _, seconds in job.stages) if job.stages else inf
    return min(whole, job.duration_s or inf)


def _until(times: Iterator[float], end: float) -> Iterator[float]:
    for time in times:
        if time > end:
            return
        yield time


def _process(job: Traffic) -> Iterator[float]:
    random = Random(f"arrivals {job.seed}")
    if job.process == "constant":
        assert job.rate is not None
        rate = job.rate
        return (i / rate for i in count())
    if job.process == "gamma":
        assert job.rate is not None
        return _gamma(job.rate, job.burstiness, random)
    if job.process == "ramp" and job.ramp != "time":
        return _ramp(job, random)
    return _varying(job, random)


def _scaled(job: Traffic) -> Iterator[float]:
    """Arrivals of which the last of `requests` comes at requests / rate: they are drawn twice, and never kept."""
    assert job.rate is not None and job.requests is not None
    last = next(islice(_process(job), job.requests - 1, None))
    factor = job.requests / job.rate / last if last else 1.0
    return (factor * time for time in _process(job))


def _gamma(rate: float, shape: float, random: Random) -> Iterator[float]:
    now = 0.0
    while True:
        now += random.gammavariate(shape, 1 / (rate * shape))
        yield now


def _ramp(job: Traffic, random: Random) -> Iterator[float]:
    """A ramp over requests: the rate of each is further up than that of the one before, by a step or a factor."""
    assert job.rate is not None and job.end_rate is not None and job.requests is not None
    start, end, shape, now = job.rate, job.end_rate, job.burstiness, 0.0
    for number in range(job.requests):
        part = number / job.requests
        rate = start * (end / start) ** part if job.ramp == "factor" else start + (end - start) * part
        now += random.gammavariate(shape, 1 / (rate * shape))
        yield now


# ---- rates that vary ---------------------------------------------------------------------------------


def _varying(job: Traffic, random: Random) -> Iterator[float]:
    """Poisson arrivals at a rate that varies, by thinning those at the highest rate."""
    most, now, whole, draw, rate = _most(job), 0.0, span_of(job), random.random, _rate_of(job)
    while now <= whole:
        now -= log(1.0 - draw()) / most  # random.expovariate, without a call
        if draw() * most < rate(now):
            yield now


def _most(job: Traffic) -> float:
    if job.stages:
        return max(rate for rate, _ in job.stages)
    if job.profile:
        return max(rate for _, rate in job.profile)
    assert job.rate is not None
    return max(job.rate * (1 + job.swing if job.process == "day" else 1), job.end_rate or 0.0)


def _rate_of(job: Traffic) -> Callable[[float], float]:
    """`rate_at` of a job."""
    if job.stages or job.profile or job.process != "day":
        return partial(rate_at, job)
    assert job.rate is not None
    mean, swing, day = job.rate, job.swing, job.day_s
    return lambda now: mean * (1 - swing * sin(2 * pi * now / day + pi / 2))


def rate_at(job: Traffic, now: float) -> float:
    """Requests/s of a job at a time."""
    if job.stages:
        for rate, seconds in job.stages:
            if now < seconds:
                return rate
            now -= seconds
        return 0.0
    if job.profile:
        return _between(job.profile, now % job.profile[-1][0])
    assert job.rate is not None
    if job.process == "day":
        return _rate_of(job)(now)
    if job.process == "ramp":
        assert job.end_rate is not None and job.duration_s is not None
        return job.rate + (job.end_rate - job.rate) * now / job.duration_s
    return job.rate


def _between(points: list[Point], now: float) -> float:
    """The rate of a profile at a time, on the line between the points about it."""
    place = bisect_right(points, now, key=lambda point: point[0])
    if place == len(points):
        return points[-1][1]
    (start, first), (end, last) = points[place - 1], points[place]
    return first + (last - first) * (now - start) / (end - start)
