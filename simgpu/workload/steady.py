"""Steps of very many microbatches, simulated by a few of them.

Once a pipeline is full, what it does repeats: after some microbatches (a period) every stream is where it was, later by
the same time. So a step of `m` microbatches takes what a step of few takes, and as many periods as are left:

    step(m) = step(n) + (m - n) / k (step(n + k) - step(n))

with a period of `k` microbatches and `n = m` modulo `k`. `n` is found by trying, in two ways.

**Within one run** (`_spliced`): activities in order of submission repeat, and start and end later by one time, for as
many microbatches as are ever under way together, and nothing that began earlier is still under way. What follows is
decided by that state alone, so that a further period can be put in, and all that comes later shifted, without a
simulation.

**Of two runs** (`repeats`): the ends of all passes in the middle of a short step repeat, and so do the ends of all
activities of two steps that differ by a period. Where a schedule couples all stages (all but GPipe, and one stage),
they must shift by one and the same time: a loop of dependencies that still lags behind would otherwise set another pace
later (Baccelli et al., Synchronization and Linearity, 1992, ch. 3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from simgpu.engine.timeline import Timeline, nearest
from simgpu.errors import InputError
from simgpu.plan.schedule import order
from simgpu.workload.execution import CLOSE, MOST_ACTIVITIES, Activity, Execution, PeriodicExecution, repeats

if TYPE_CHECKING:
    import numpy as np

    from simgpu.plan.schedule import Task

    Ends = Mapping[tuple[str, int, int, int], "np.ndarray"]
    """End of each pass, s: by kind, stage, chunk and rank, one entry for each microbatch."""

SHORTEST = 16
"""Microbatches of the shortest step that is tried to stand for longer ones."""

LEAST = 24
"""Microbatches up to which a step is simulated as it is."""

FEWEST = 64
"""The same where two runs are compared."""

MOST_TRIED = 40_000
"""Activities of the longest short step that is tried."""


class Run:
    """A simulated step of so many microbatches, with the last activity of each of its passes."""

    def __init__(self, execution: Execution, ends: Mapping[Task, Mapping[int, int]], count: int, schedule: str) -> None:
        self.execution, self.ends, self.count, self.schedule = execution, ends, count, schedule
        self._longer: dict[int, Execution | None] = {}

    def size(self) -> int:
        """Activities of the run, and as many of one that is made of it."""
        return 2 * len(self.execution.timeline.end)

    @cached_property
    def times(self) -> Ends:
        """The end of each pass, s."""
        return _ends_of(self.execution, self.ends, self.count)

    def longer(self, period: int, stages: int, chunks: int) -> Execution | None:
        """The step of `period` microbatches more, without a simulation; None where it does not follow from this one."""
        if period not in self._longer:
            self._longer[period] = _spliced(self, period, stages, chunks)
        return self._longer[period]


def folded(
    microbatches: int, stages: int, chunks: int, couples: bool, run: Callable[[int], Run], folds: bool = True,
) -> Execution:  # fmt: skip
    """A step of `microbatches`, from `run`, which simulates so many.

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
        return run(microbatches).execution

    start = _start(microbatches, stages, groups)
    if folds and start and (couples or stages == 1):
        first = run(start)
        each = len(first.execution.timeline.end) / start
        longer = first.longer(groups, stages, chunks)
        if longer is not None:
            return PeriodicExecution(first.execution, longer, (microbatches - start) // groups, whole)
    while folds and microbatches > max(FEWEST, 4 * few) and few * each <= MOST_TRIED:
        first = run(few)
        each = len(first.execution.timeline.end) / few
        found = _period(first.times, few, groups, 2 * stages)
        if found:
            start = few + (microbatches - few) % found
            less = first.execution if start == few else run(start).execution
            more = run(start + found).execution
            if repeats(less, more, couples):
                return PeriodicExecution(less, more, (microbatches - start) // found, whole)
        few *= 2
    return whole()


def _start(microbatches: int, stages: int, period: int) -> int:
    """Microbatches of the step that is tried to stand for one of `microbatches`; 0 where they are too few for one."""
    few = max(4 * stages, SHORTEST) if period == 1 else 7 * stages
    few += -few % period
    return few + (microbatches - few) % period if microbatches >= max(LEAST, 3 * few // 2) else 0


def _spliced(run: Run, period: int, stages: int, chunks: int) -> Execution | None:
    """A run with a period more, if activities of the middle of the run repeat, for as long as any is under way."""
    import numpy as np

    timeline = run.execution.timeline
    start, end = np.asarray(timeline.start), np.asarray(timeline.end)
    each, shift = _apart(run, period)
    if not each:
        return None
    codes = _codes(timeline)
    later, close = end[each:] - end[:-each], CLOSE * float(end.max())
    same = codes[each:] == codes[:-each]
    same &= (np.abs(later - shift) <= close) & (np.abs(start[each:] - start[:-each] - shift) <= close)
    low, high = _longest(same)
    high += each  # activities [low, high) repeat
    depth = (1 if chunks == 1 else 2) * stages  # microbatches under way together
    if high - low < each * (1 + -(-depth // period)):
        return None
    if low and float(end[:low].max()) > float(start[high - each :].min()):
        return None
    if not _inserts(run, period, stages, chunks, high):
        return None
    again = high - each  # what is put in are activities [again, high) once more

    def longer(values: Sequence[Any]) -> list[Any]:
        return [*values[:high], *values[again:]]

    starts, ends = ([*times[:high].tolist(), *(times[again:] + shift).tolist()] for times in (start, end))
    _joined(timeline, starts, ends, again, each)
    made = Timeline(timeline.streams, longer(timeline.streams_of), longer(timeline.labels), starts, ends)
    return Execution(made, run.execution.streams, run.execution.blocks)


def _joined(timeline: Timeline, starts: list[float], ends: Sequence[float], again: int, each: int) -> None:
    """Let what is put in start at the very instant at which what it waited for ends, as in a simulation.

    Activities from `again` on come `each` later. What they waited for before that has kept its own, equal time, which
    rounding has changed; a critical path is found by walking back over equal times.
    """
    last = max(timeline.end[:again])
    early = [number for number in range(again, len(timeline.end)) if timeline.start[number] <= last]
    ending: dict[float, list[int]] = {timeline.start[number]: [] for number in early}
    for number, end in enumerate(timeline.end):
        if end in ending:
            ending[end].append(number)
    for number in early:
        before = [other for other in ending[timeline.start[number]] if other < number]
        if before and (found := nearest(timeline, number, before)) < again:
            starts[number + each] = ends[found + each]


def _apart(run: Run, period: int) -> tuple[int, float]:
    """How many activities, and seconds, equal passes in the middle of a run are apart; 0 activities where they differ.

    The middle is the latest that all stages reach before any has begun its last microbatches.
    """
    at = run.count // 2
    passes = {(task.kind, task.stage, task.chunk, task.microbatch): ids for task, ids in run.ends.items()}
    apart, shift = set(), 0.0
    for (kind, stage, chunk, microbatch), ids in passes.items():
        if microbatch == at:
            for rank, number in ids.items():
                before = passes[kind, stage, chunk, at - period][rank]
                apart.add(number - before)
                shift = run.execution.timeline.end[number] - run.execution.timeline.end[before]
    return (apart.pop(), shift) if len(apart) == 1 else (0, 0.0)


def _codes(timeline: Timeline) -> np.ndarray:
    """A number for each activity, equal for those that do the same in the same streams."""
    import numpy as np

    numbers: dict[Any, int] = {}
    codes = []
    for streams, label in zip(timeline.streams_of, timeline.labels, strict=True):
        assert isinstance(label, Activity)
        alike = streams, label.kind, label.segment, label.flops, label.bytes
        codes.append(numbers.setdefault(alike, len(numbers)))
    return np.array(codes)


def _longest(true: np.ndarray) -> tuple[int, int]:
    """The longest run of what is true: where it begins and ends."""
    import numpy as np

    edges = np.flatnonzero(np.diff(np.concatenate(([0], true.astype(np.int8), [0]))))
    first, last = edges[::2], edges[1::2]
    at = int((last - first).argmax())
    return int(first[at]), int(last[at])


def _inserts(run: Run, period: int, stages: int, chunks: int, cut: int) -> bool:
    """True if the order of passes of a period more is that of the run with those of a period before `cut` again."""
    few, more = (order(run.schedule, stages, run.count + n, chunks) for n in (0, period))
    at = sum(max(ids.values()) < cut for ids in run.ends.values())
    many = len(more) - len(few)
    return all(
        (one.kind, one.stage, one.chunk) == (other.kind, other.stage, other.chunk)
        for one, other in zip(more, [*few[:at], *few[at - many :]], strict=True)
    )


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
