"""Tasks of a list over a pool of workers: their answers in the order of the list, whoever was quicker."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any

from simgpu.errors import InputError
from simgpu.study.pools.pool import Pool

MOMENT_SECONDS = 0.5
"""Answers are waited for so long at a time, so that Ctrl-C is heard."""


def spread(pool: Pool, tasks: Sequence[Any], tell: Callable[[], None]) -> list[Any]:
    """Answers of tasks, each handed out alone; `tell` is called after each. The pool is closed, however this ends.

    A task whose worker died is tried again; raises `InputError` where it dies too often.
    """
    answers: dict[int, Any] = {}
    waiting, away, deaths = deque(range(len(tasks))), dict[int, int](), Counter[int]()
    try:
        while waiting or away:
            while waiting and pool.busy < pool.capacity:
                number = waiting.popleft()
                away[id(tasks[number])] = number
                pool.submit([tasks[number]])
            for given, found, end in pool.answers(MOMENT_SECONDS):
                number = away.pop(id(given[0]))
                if found is not None:
                    answers[number] = found[0]
                    tell()
                    continue
                deaths[number] += 1
                if deaths[number] >= pool.patience:
                    problem = f"a worker {end} {deaths[number]} times (out of memory?); fewer may do: --jobs 1"
                    raise InputError(problem)
                waiting.append(number)
    finally:
        pool.close()
    return [answers[number] for number in range(len(tasks))]
