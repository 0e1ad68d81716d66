"""Steps of very many microbatches, simulated by a few of them.

Once a pipeline is full, what it does repeats: after some microbatches (a period) every stream is where it was, later by
the same time. So a step of `m` microbatches takes what a step of few takes, and as many periods as are left:

    step(m) = step(n) + (m - n) / k (step(n + k) - step(n))

with a period of `k` microbatches and `n = m` modulo `k`. `n` is found by trying: the ends of all passes in the middle
of a short step must repeat, and so must the ends of all activities of two steps that differ by a period. Where a
schedule couples all stages (all but GPipe, and one stage), they must shift by one and the same time: a loop of
dependencies that still lags behind would otherwise set another pace later (Baccelli et al., Synchronization and
Linearity, 1992, ch. 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from simgpu.errors import InputError
from simgpu.workload.execution import CLOSE, MOST_ACTIVITIES, Execution, PeriodicExecution, repeats

if TYPE_CHECKING:
    import numpy as np

    from simgpu.plan.schedule import Task

    Ends = Mapping[tuple[str, int, int, int], "np.ndarray"]
    """End of each pass, s: by kind, stage, chunk and rank, one entry for each microbatch."""

FEWEST = 64
"""Microbatches up to which a step is simulated as it is."""

MOST_TRIED = 40_000
"""Activities of the longest short step that is tried."""


def folded(
    microbatches: int, stages: int, chunks: int, couples: bool,
    run: Callable[[int], tuple[Execution, dict[Task, Mapping[int, int]]]], folds: bool = True,
) -> Execution:  # fmt: skip
    """A step of `microbatches`, from `run`, which simulates so many and returns the last activity of each pass.

    `couples`: whether every stage waits for every other again and again. `folds` false: all are simulated.
    Raises `InputError` (key only) where so many do not repeat and are too many to be simulated one by one.
    """
    groups = stages if chunks > 1 else 1  # interleaved schedules take microbatches in groups of so many
    few, each = 8 * stages, 2.0 * stages * chunks  # activities of a microbatch, at least

    def whole() -> Execution:
        if microbatches * each > MOST_ACTIVITIES:
            most = int(MOST_ACTIVITIES / each) // stages * stages
            problem = f"{microbatches:,} microbatches of a replica are too many to be simulated one by one"
            raise InputError(f"{problem}; expected at most {most:,}", key="workload.batch")
        return run(microbatches)[0]

    while folds and microbatches > max(FEWEST, 4 * few) and few * each <= MOST_TRIED:
        first, ends = run(few)
        each = len(first.timeline.end) / few
        period = _period(_ends_of(first, ends, few), few, groups, 2 * stages)
        if period:
            start = few + (microbatches - few) % period
            less = first if start == few else run(start)[0]
            more = run(start + period)[0]
            if repeats(less, more, couples):
                return PeriodicExecution(less, more, (microbatches - start) // period, whole)
        few *= 2
    return whole()


def _ends_of(execution: Execution, ends: Mapping[Task, Mapping[int, int]], count: int) -> Ends:
    import numpy as np

    last_ends: dict[tuple[str, int, int, int], np.ndarray] = {}
    for task, ids in ends.items():
        for rank, number in ids.items():
            row = last_ends.setdefault((task.kind, task.stage, task.chunk, rank), np.zeros(count))
            row[task.microbatch] = execution.timeline.end[number]
    return last_ends


def _period(ends: Ends, count: int, groups: int, longest: int) -> int | None:
    """The least number of microbatches after which all passes of the middle half repeat."""
    import numpy as np

    middle = np.array(list(ends.values()))[:, count // 4 : 3 * count // 4]
    close = CLOSE * float(middle.max())
    for period in range(groups, longest + 1, groups):
        later = middle[:, period:] - middle[:, :-period]
        if later.shape[1] and bool((np.ptp(later, axis=1) <= close).all()):
            return period
    return None
