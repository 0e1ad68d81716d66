"""The simulations of a sensitivity: each scenario as it is, and with each input less and more, here or in workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from simgpu.analysis.choices import Choices, choices_of, switches
from simgpu.analysis.comparison import sides_of
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.simulation.result import Result
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import run_case
from simgpu.study.pools.spread import spread
from simgpu.study.pools.where import Where
from simgpu.study.whatif.inputs import Input

Row = Mapping[str, Any]

QUICK_SECONDS = 2.0
"""Simulations that take less together are run in this process, where nobody says how many shall."""


class Changed(NamedTuple):
    """A run with an input changed by a factor.

    `row` is its row, or why there is none; `switches` are the collectives that NCCL runs in another way.
    """

    factor: float
    row: Row | str
    switches: Sequence[str] = ()

    def value(self, column: str) -> float | None:
        """The changed run's figure in a column; None where there is none."""
        return None if isinstance(self.row, str) else self.row.get(column)


@dataclass(frozen=True)
class Runs:
    """A scenario with its inputs: the result as it is, and both sides of each input by its name."""

    name: str
    case: Case
    inputs: Sequence[Input]
    base: Result
    sides: Mapping[str, Sequence[Changed]]


@dataclass(frozen=True)
class Side:
    """A scenario, by its number, with other figures of its hardware."""

    case: int
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Failed:
    """An exception of a worker, on its way back."""

    error: Exception


@dataclass(frozen=True)
class Setup:
    """The setup of a worker: the scenarios, and folders of specifications beside those that come with simgpu."""

    cases: Sequence[Case]
    folders: tuple[str, ...]

    def run(self, tasks: Sequence[Side]) -> list[Any]:
        """Rows of tasks with the choices of their collectives, or in words why there are none."""
        known = getattr(_kept, "catalogue", None)
        if known is None or known[0] != self.folders:
            known = _kept.catalogue = self.folders, Catalogue(*self.folders)
        return [self._answer(task, known[1]) for task in tasks]

    def _answer(self, task: Side, catalogue: Catalogue) -> Any:
        try:
            return self.simulated(task, catalogue)
        except Exception as error:
            return Failed(error)

    def simulated(self, task: Side, catalogue: Catalogue) -> tuple[Row, Choices] | str:
        """The row of a task and the choices of its collectives, or in words why there is none."""
        try:
            result = run_case(with_hardware(self.cases[task.case], task.figures), catalogue)
        except InputError as error:
            return error.problem
        return dict(result.row), choices_of(result.execution)


_kept = threading.local()


def with_hardware(case: Case, figures: Mapping[str, Any]) -> Case:
    """`case` with hardware figures replaced; they count after all that it says of its hardware itself."""
    kept = {key: value for key, value in case.scenario.hardware.items() if key not in figures}
    return case.changed({("hardware",): {**kept, **figures}})


def sides(
    runs: Sequence[tuple[str, Case, Sequence[Input]]], change: float, catalogue: Catalogue, where: Where,
    step: Callable[[], None], check: Callable[[Row], object],
) -> list[Runs]:  # fmt: skip
    """Scenarios (name, case, inputs) as they are, and with each input less and more by `change`.

    `check` gets the row of each as it is, before any other is simulated, and raises what is wrong with it. `step` is
    called after each simulation.
    """
    began, bases = time.perf_counter(), []
    for _, case, _ in runs:
        bases.append(run_case(case, catalogue))
        check(bases[-1].row)
        step()
    seconds = (time.perf_counter() - began) / max(len(runs), 1)
    changed = [
        (number, one.name, *one.scaled(factor))
        for number, (_, _, inputs) in enumerate(runs)
        for one in inputs
        for factor in sides_of(change)
    ]
    tasks = [Side(number, figures) for number, _, exact, figures in changed if exact != 1.0]
    setup = Setup([case for _, case, _ in runs], tuple(str(one.absolute()) for one in catalogue.folders[:-1]))
    quick = where == Where() and seconds * len(tasks) < QUICK_SECONDS
    if quick or not (where.on_dask or where.processes > 1):
        answers: list[Any] = []
        for task in tasks:
            answers.append(setup.simulated(task, catalogue))
            step()
    else:
        answers = spread(where.pool(setup, len(tasks)), tasks, step)
    return _together(runs, bases, changed, answers, step)


def _together(
    runs: Sequence[tuple[str, Case, Sequence[Input]]], bases: Sequence[Result],
    changed: Sequence[tuple[int, str, float, Mapping[str, Any]]], answers: Sequence[Any], step: Callable[[], None],
) -> list[Runs]:  # fmt: skip
    """The scenarios with what came back of each side of their inputs."""
    choices = [choices_of(base.execution) for base in bases]
    found: list[dict[str, list[Changed]]] = [{one.name: [] for one in inputs} for _, _, inputs in runs]
    units = {(number, one.name): one for number, (_, _, inputs) in enumerate(runs) for one in inputs}
    left = iter(answers)
    for number, name, exact, _ in changed:
        if exact == 1.0:
            step()
            side = Changed(exact, f"a count of {units[number, name].value:g} has no whole number that near")
        else:
            side = _changed(exact, next(left), choices[number])
        found[number][name].append(side)
    return [Runs(*one, base, sides) for one, base, sides in zip(runs, bases, found, strict=True)]


def _changed(factor: float, answer: Any, choices: Choices) -> Changed:
    """The side of an input that a worker answered. Raises what it raised."""
    if isinstance(answer, Failed):
        raise answer.error
    if isinstance(answer, str):
        return Changed(factor, answer)
    row, others = answer
    return Changed(factor, row, switches(choices, others))
