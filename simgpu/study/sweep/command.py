"""`simgpu sweep`: plan, skip what the store has, run the rest, and gather the rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import Source
from simgpu.errors import InputError
from simgpu.study.experiment.running import Experiment
from simgpu.study.pools.where import HERE, Where
from simgpu.study.sweep.planning import Planned, plan
from simgpu.study.sweep.running import Progress, Runner
from simgpu.study.sweep.store import Store, StoredPoint, store_file
from simgpu.study.sweep.work import Setup, Task
from simgpu.tabular import Tabular


@dataclass(frozen=True)
class SweepOptions:
    """The options of a sweep. `limit` bounds the scenarios of this call."""

    store: Path | None = None
    where: Where = HERE
    limit: int | None = None
    retry_failed: bool = False

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise InputError(f"{self.limit} is not a whole number above zero", key="--limit")


@dataclass(frozen=True, repr=False)
class Swept(Tabular):
    """A sweep after it ran: points in order of the rows, as far as they are finished.

    `before` of its scenarios were finished when it began, `ran` in this call, in `seconds`; `left` are still to do.
    """

    experiment: Experiment
    store: Path
    points: Sequence[StoredPoint]
    total: int
    before: int
    ran: int
    left: int
    seconds: float
    interrupted: bool = False

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of points that succeeded, in the form of `simgpu run`."""
        return [point.whole_row for point in self.points if point.status == "ok"]

    @property
    def failed(self) -> list[StoredPoint]:
        """Points that failed, each with its reason."""
        return [point for point in self.points if point.status == "failed"]

    @property
    def reasons(self) -> list[tuple[str, int]]:
        """The reasons why points failed, the commonest first."""
        return Counter(point.reason or "" for point in self.failed).most_common()


def run(
    file: Source, settings: Sequence[str], catalogue: Catalogue, options: SweepOptions,
    progress: Callable[[Progress], None] | None = None,
) -> Swept:  # fmt: skip
    """Run the points of an experiment file that the store does not have. Raises `InputError`."""
    planned = plan(file, settings, catalogue)
    place = store_file(options.store)
    with Store(place) as store:
        sweep = store.begin(planned.experiment.name, str(file), planned.text, settings, planned.members, planned.parts)
        store.keep(planned.wrong, planned.provenance)
        done = store.statuses([*planned.tasks, *(one.key for one in planned.wrong)])
        todo = _todo(planned, done, options)
        before = len(planned.tasks) - sum(
            key not in done or (options.retry_failed and done[key] == "failed") for key in planned.tasks
        )
        runner = None
        if todo:
            runner = _run(planned, todo, done, store, catalogue, options, progress)
        points = list(store.members(sweep=sweep))
    ran = runner.ran if runner else 0
    finished = {point.key for point in points}
    left = sum(key not in finished for key in planned.tasks)
    return Swept(
        planned.experiment, place, points, len(planned.members), before, ran, left,
        runner.elapsed if runner else 0.0, runner.interrupted if runner else False,
    )  # fmt: skip


def _todo(planned: Planned, done: Mapping[str, str], options: SweepOptions) -> list[Task]:
    again = ("failed",) if options.retry_failed else ()
    todo = [task for key, task in planned.tasks.items() if key not in done or done[key] in again]
    return todo[: options.limit] if options.limit is not None else todo


def _run(
    planned: Planned,
    todo: Sequence[Task],
    done: Mapping[str, str],
    store: Store,
    catalogue: Catalogue,
    options: SweepOptions,
    progress: Callable[[Progress], None] | None,
) -> Runner:
    mine = {task.key for task in todo}
    before = [status for key, status in done.items() if key not in mine]
    pool = options.where.pool(Setup(tuple(str(folder.absolute()) for folder in catalogue.folders[:-1])), len(todo))
    try:
        runner = Runner(pool, store, planned.provenance, len(before), before.count("failed"), progress)
        runner.run(todo, options.retry_failed)
    finally:
        pool.close()
    return runner
