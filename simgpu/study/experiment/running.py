"""Experiments: a base scenario, cases that change it, axes that vary it, and what to show.

Every row of the result is one scenario: the base, changed by one case, changed by one point of the varied axes,
changed by `--set`. Keys may be nested or dotted (`plan.tp`); keys that begin with `gpu.`, `node.`, `cluster.` or
`link.` set hardware parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from simgpu.catalog import Catalogue
from simgpu.documents import Document, Source, Text, as_text, read_text
from simgpu.errors import InputError, nearest, shown
from simgpu.reading import is_pipe
from simgpu.scenario import effective, run_scenario
from simgpu.settings import parse_settings
from simgpu.simulation.result import Result
from simgpu.study.experiment.fields import ExperimentFields
from simgpu.study.experiment.loading import Case, load
from simgpu.study.experiment.plot_checks import ColumnChecks, check_said
from simgpu.study.experiment.points import written_key
from simgpu.study.experiment.resolver import Resolver
from simgpu.tabular import Tabular
from simgpu.tree import indexed, leaves, value_at
from simgpu.workload.server.shards import Tell, telling

T = TypeVar("T")


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file: what to show, and its cases in the order of the rows."""

    name: str
    document: Document
    fields: ExperimentFields
    cases: Sequence[Case]
    settings: Sequence[str] = ()  # 'key=value' changes to every scenario

    def undrawn(self, rows: Sequence[Mapping[str, Any]]) -> dict[int, InputError]:
        """Plots that these rows cannot draw, by number from 0, with reasons. Raises `InputError` for its table."""
        return ColumnChecks(self.document, self.fields, self.cases, rows, bool(self.settings)).all()


@dataclass(frozen=True)
class Refused:
    """A row that cannot run: its number from 1, words that tell it from the others, and the reason."""

    number: int
    name: str
    error: InputError

    def __str__(self) -> str:
        return f"row {self.number}{f' ({self.name})' if self.name else ''} cannot run: {self.error}"


def refused_notes(refused: Sequence[Refused]) -> list[str]:
    """A line for each reason: a broken node that many rows stand on is reported once."""
    reasons: dict[str, list[Refused]] = {}
    for one in refused:
        reasons.setdefault(str(one.error), []).append(one)
    notes = []
    for reason, (first, *more) in reasons.items():
        numbers = f"{first.number} to {more[-1].number}" if more else ""
        notes.append(f"{len(more) + 1} of rows {numbers} cannot run: {reason}" if more else str(first))
    return notes


@dataclass(frozen=True, repr=False)
class ExperimentResult(Tabular):
    """Results of the cases that can run, in order. `rows` are flat. `catalogue` is where their names were found.

    `experiment` holds the cases of these rows alone; `refused` are the others. `undrawn` are plots that cannot be drawn
    of these rows, by their number in the file from 0, with the reason.
    """

    experiment: Experiment
    results: Sequence[Result]
    catalogue: Catalogue
    refused: Sequence[Refused] = ()
    undrawn: Mapping[int, InputError] = field(default_factory=dict)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A flat row for each case that ran."""
        return [dict(result.row) for result in self.results]


Given = str | Path | Mapping[str, Any] | Text
"""Ways to name an experiment: a file, a name in the catalogue, or the content of a file as a mapping or as text."""


def find_experiment(given: Given, catalogue: Catalogue) -> Source:
    """Find an experiment: a path, a name in the catalogue, or the experiment itself. Raises `InputError`."""
    if isinstance(given, Text):
        return given
    if isinstance(given, Mapping):
        return as_text(given)
    name = str(given)
    path = Path(name)
    if is_pipe(path):
        return Text(read_text(path), stem=path.stem)  # read once; much asks again what the text was
    if os.path.isfile(name) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    file = catalogue.find("experiments", name)
    if file is None and os.path.exists(name):
        return path
    if file is None:
        known = nearest(name, catalogue.names("experiments"), most=60, where="simgpu list experiments names them")
        raise InputError(f"no such file or experiment {shown(name)}{known}")
    return file


def load_experiment(file: Source, settings: Sequence[str], catalogue: Catalogue) -> Experiment:
    """Read and check an experiment file; `settings` are 'key=value' changes to every scenario. Runs nothing.

    Conditions look up clusters and models in `catalogue`: the one that the scenarios run with, so it has no default.
    """
    document, fields, cases = load(file, parse_settings(settings), catalogue)
    return Experiment(fields.experiment or file.stem, document, fields, cases, told(settings))


def told(settings: Sequence[str]) -> list[str]:
    """The 'key=value' settings that change a row."""
    return [setting for setting in settings if not setting.startswith("require_fit=")]


def run_case(case: Case, catalogue: Catalogue) -> Result:
    """Simulate one case. Its labels stand first in the row, then what the file varies, in SI units."""
    result = run_scenario(case.scenario, catalogue, case.origins)
    return result.told(labels={**case.labels, **varied_values(case, Resolver(catalogue))})


def varied_values(case: Case, resolver: Resolver) -> dict[str, Any]:
    """Values that the file varies, by key: in SI units, defaults filled in; anything but a plain value as words."""
    if not case.varied:
        return {}
    data = case.scenario.model_dump(exclude={"hardware"})
    values = {".".join(path): effective(path, value, case.scenario)["value"] for path, value in leaves(data)}
    if any(path[0] == "hardware" for path in case.varied):
        values |= resolver.figures(resolver.cluster(case.scenario.cluster, case.scenario.hardware, case.origins))
    varied = {}
    for path in case.varied:
        key, place = written_key(path), ".".join(indexed(case.data, path))
        given = value_at(case.data, path)
        plain = given if isinstance(given, (int, float)) else str(given)
        varied[key] = values[key] if key in values else values.get(place, plain)
    return varied


def run_experiment(
    experiment: Experiment, catalogue: Catalogue, progress: Callable[[int, int], None] | None = None
) -> ExperimentResult:
    """Simulate every case. `progress` is called with (done, total).

    A case that cannot run does not silence the others: it is one of `refused`. Raises its `InputError` where none can,
    and before anything runs that of columns of table and plots that no row could have.
    """
    labels = {key for case in experiment.cases for key in (*case.labels, *map(written_key, case.varied))}
    check_said(experiment.document, experiment.fields, labels)

    def run(number: int, case: Case) -> Result:
        if progress:
            progress(number - 1, len(experiment.cases))
        with telling(_within(progress, number, len(experiment.cases))):
            return run_case(case, catalogue)

    results, ran, refused = run_each(experiment.cases, run)
    outcome = ExperimentResult(replace(experiment, cases=ran), results, catalogue, refused)
    try:
        return replace(outcome, undrawn=outcome.experiment.undrawn(outcome.rows))
    except InputError:
        if refused:  # what is asked of the rows may be of those that are not there
            raise refused[0].error from None
        raise


def _within(progress: Callable[[int, int], None] | None, number: int, cases: int) -> Tell | None:
    """Progress of a long case, in thousandths of it."""
    if progress is None:
        return None
    return lambda done, total: progress(1000 * (number - 1) + 1000 * done // max(total, 1), 1000 * cases)


def run_each(cases: Sequence[Case], run: Callable[[int, Case], T]) -> tuple[list[T], list[Case], list[Refused]]:
    """Call `run` on each (number, case); return its results, the cases that could be run, and the others.

    Raises the `InputError` of the first where none could.
    """
    results, ran, refused = [], [], []
    for number, case in enumerate(cases, 1):
        try:
            results.append(run(number, case))
            ran.append(case)
        except InputError as error:
            refused.append(Refused(number, _words_of(case), error))
    if refused and not results:
        raise refused[0].error
    return results, ran, refused


def _words_of(case: Case) -> str:
    """Words that tell a case from the others: its labels and what the file varies."""
    varied = (f"{written_key(path)} {value_at(case.data, indexed(case.data, path))}" for path in case.varied)
    return ", ".join([*(str(value) for value in case.labels.values()), *varied])
