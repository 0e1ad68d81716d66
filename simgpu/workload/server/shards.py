"""Large loads in parts, on several cores: replicas that know nothing of each other are served apart and joined.

The parts are a matter of the job, not of the machine, and are joined in their order: the bytes of a result are the same
for any number of processes.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, wait
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import count, cycle, islice
from math import ceil
from typing import Any

from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.requests import Request

LARGE = 200_000
"""Requests from which on a load is served in parts."""

PARTS = 4
"""Parts of a load."""

SAMPLE = 200_000
"""Requests that are enough for the ends of an interval."""

TOLD = 5_000
"""Requests between two reports of progress."""

Tell = Callable[[int, int], None]

_TELL: ContextVar[Tell | None] = ContextVar("tell", default=None)


@contextmanager
def telling(tell: Tell | None) -> Iterator[None]:
    """Report (requests served, requests of all) of runs inside."""
    token = _TELL.set(tell)
    try:
        yield
    finally:
        _TELL.reset(token)


def expected(job: Traffic) -> int:
    """Requests of a job, as far as it says so."""
    return int(job.expected)


def parts_of(job: Traffic, replicas: int, together: int = 1) -> int:
    """Parts in which a load is served: 1 where replicas have to do with each other."""
    alone = job.router in ("round_robin", "random") and together == 1 and not job.retries
    alone = alone and job.turns == 1 and job.session is None
    free = (job.rate is not None or job.stages is not None) and not job.users
    held = (
        job.pools
        or job.tiers
        or job.max_concurrency
        or job.apart
        or job.scaling
        or job.failures
        or job.gateway
        or job.warmups
        or job.lora
    )
    return PARTS if alone and free and not held and replicas >= PARTS and expected(job) >= LARGE else 1


def dealt(job: Traffic, replicas: int, first: int, last: int) -> Iterator[int]:
    """Where the router deals each request, among the replicas from `first` to before `last`; elsewhere it is -1."""
    from simgpu.workload.server.routing import ROUTERS

    places = [one - first if first <= one < last else -1 for one in range(replicas)]
    if job.router == "round_robin":
        return cycle(places)
    router: Any = ROUTERS[job.router](job.seed)
    return (router.choose(None, places) for _ in count())


def bounds(replicas: int, part: int, parts: int) -> tuple[int, int]:
    """The first replica of a part, and the one after its last."""
    return replicas * part // parts, replicas * (part + 1) // parts


def sample_of(job: Traffic, replicas: int, parts: int) -> int:
    """Replicas, the first of all, with which the ends of the interval of a load in parts are served.

    Those of a part; fewer where these have more than `SAMPLE` requests.
    """
    return max(min(bounds(replicas, 0, parts)[1], ceil(replicas * SAMPLE / expected(job))), 1)


class Dealt:
    """A router of requests that have been dealt already."""

    def __init__(self, seed: int = 0) -> None:
        del seed

    def choose(self, request: Request, replicas: Sequence[Any]) -> Any:
        """The replica that the request names."""
        return replicas[request.at]


class Count:
    """Requests served so far, by all processes."""

    def __init__(self, total: int, shared: Any = None) -> None:
        self.total, self.shared, self.done = total, shared, 0
        self.tell = _TELL.get()

    def over(self, requests: Iterator[Request]) -> Iterator[Request]:
        """The requests, counted as they are sent."""
        while True:
            yield from islice(requests, TOLD - 1)
            last = next(requests, None)
            if last is None:
                return
            self._add(TOLD)
            yield last

    def _add(self, count: int) -> None:
        if self.shared is not None:
            with self.shared.get_lock():
                self.shared.value += count
        elif self.tell is not None:
            self.done += count
            self.tell(min(self.done, self.total), self.total)


_WORK: tuple[Callable[[Any, Count], Any], Sequence[Any], Count] | None = None


def _one(place: int) -> Any:
    """A task of the work that this process was forked with."""
    assert _WORK is not None
    work, tasks, count = _WORK
    return work(tasks[place], count)


def in_parallel(work: Callable[[Any, Count], Any], tasks: Sequence[Any], requests: int) -> list[Any]:
    """The results of tasks in their order; `requests` are those of all, many of which are worth more processes."""
    global _WORK
    cores = min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1, len(tasks))
    forks = "fork" in multiprocessing.get_all_start_methods() and multiprocessing.parent_process() is None
    if requests < LARGE or cores < 2 or not forks:
        told = Count(requests)
        return [work(task, told) for task in tasks]
    context = multiprocessing.get_context("fork")
    shared = context.Value("q", 0)
    tell = _TELL.get()
    _WORK = work, tasks, Count(requests, shared)
    try:
        with ProcessPoolExecutor(cores, mp_context=context) as pool:
            futures = [pool.submit(_one, place) for place in range(len(tasks))]
            pending = set(futures)
            while pending:
                _, pending = wait(pending, timeout=0.5)
                if tell is not None:
                    tell(min(shared.value, requests), requests)
            return [one.result() for one in futures]
    finally:
        _WORK = None
