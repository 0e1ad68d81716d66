"""The requests of a job `traffic`: when they come, how long they are, what they share.

Gaps, lengths and prefixes are drawn from streams of their own, so that a change of one leaves the others as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count, islice
from math import exp, inf, log, pi, sin, sqrt
from random import Random

from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.requests import Path, Request
from simgpu.workload.server.trace import Row, read_trace


def requests_of(job: Traffic, image_tokens: int = 0) -> Iterator[Request]:
    """Requests in the order in which they are sent; each prompt has `image_tokens` beside those of its text."""
    if job.trace is not None:
        rows = read_trace(job.trace, job.time_scale, job.duration_s or inf)
        return _traced(job, islice(rows, job.count), image_tokens)
    return _drawn(job, islice(_times(job), job.count), image_tokens)


def span_of(job: Traffic) -> float:
    """Seconds for which requests are sent at most."""
    whole = sum(seconds for _, seconds in job.stages) if job.stages else inf
    return min(whole, job.duration_s or inf)


def _traced(job: Traffic, rows: Iterator[Row], images: int) -> Iterator[Request]:
    shared = Random(f"prefixes {job.seed}")
    for number, (sent, prompt, output) in enumerate(rows):
        path = _prefix(job, shared)
        yield Request(number, sent, prompt + images + (path[-1][1] if path else 0), output, path)


def _drawn(job: Traffic, times: Iterator[float], images: int) -> Iterator[Request]:
    assert job.prompt is not None and job.output is not None
    prompts, outputs = Random(f"prompts {job.seed}"), Random(f"outputs {job.seed}")
    shared, number = Random(f"prefixes {job.seed}"), 0
    for sent in times:
        path = _prefix(job, shared)
        held = path[-1][1] if path else 0
        first: Request | None = None
        last: Request | None = None
        for _ in range(job.turns):
            new, output = _length(job, job.prompt, prompts), _length(job, job.output, outputs)
            made = Request(number, sent, held + new + images, output, path)
            number += 1
            if last is None:
                first = made
            else:
                last.follows = made, job.think_s
            last, held = made, made.prompt + made.output
            path = (*path, (made.number, made.longest))
        assert first is not None
        yield first


def _prefix(job: Traffic, random: Random) -> Path:
    if not job.prefix_tokens:
        return ()
    return ((f"prefix {int(random.random() * job.prefixes)}", job.prefix_tokens),)


def _length(job: Traffic, mean: int, random: Random) -> int:
    """Tokens of a prompt or an output."""
    if job.lengths == "fixed" or not job.spread:
        return mean
    if job.lengths == "uniform":
        low, high = int(mean * (1 - job.spread)), int(mean * (1 + job.spread))
        return max(low + int(random.random() * (high - low + 1)), 1)
    variance = log(1 + job.spread**2)
    return max(round(mean * exp(random.gauss(0.0, 1.0) * sqrt(variance) - variance / 2)), 1)


# ---- arrivals ----------------------------------------------------------------------------------------


def _times(job: Traffic) -> Iterator[float]:
    """Seconds at which requests are sent."""
    if job.process in ("burst", "closed"):
        return (0.0 for _ in count())
    random = Random(f"arrivals {job.seed}")
    if job.process == "constant":
        assert job.rate is not None
        rate = job.rate
        return _until((i / rate for i in count()), span_of(job))
    if job.process == "gamma":
        assert job.rate is not None
        return _until(_gamma(job.rate, job.burstiness, random), span_of(job))
    return _until(_varying(job, random), span_of(job))


def _until(times: Iterator[float], end: float) -> Iterator[float]:
    for time in times:
        if time > end:
            return
        yield time


def _gamma(rate: float, shape: float, random: Random) -> Iterator[float]:
    now = 0.0
    while True:
        now += random.gammavariate(shape, 1 / (rate * shape))
        yield now


def _varying(job: Traffic, random: Random) -> Iterator[float]:
    """Poisson arrivals at a rate that varies, by thinning those at the highest rate."""
    most, now, whole = _most(job), 0.0, span_of(job)
    while now <= whole:
        now += random.expovariate(most)
        if random.random() * most < _rate(job, now):
            yield now


def _most(job: Traffic) -> float:
    if job.stages:
        return max(rate for rate, _ in job.stages)
    assert job.rate is not None
    return max(job.rate * (1 + job.swing if job.process == "day" else 1), job.end_rate or 0.0)


def _rate(job: Traffic, now: float) -> float:
    """Requests/s at a time."""
    if job.stages:
        for rate, seconds in job.stages:
            if now < seconds:
                return rate
            now -= seconds
        return 0.0
    assert job.rate is not None
    if job.process == "day":
        return job.rate * (1 - job.swing * sin(2 * pi * now / job.day_s + pi / 2))
    if job.process == "ramp":
        assert job.end_rate is not None and job.duration_s is not None
        return job.rate + (job.end_rate - job.rate) * now / job.duration_s
    return job.rate
