"""Experiments: a base scenario, cases that change it, axes that vary it, and what to show.

Every row of the result is one scenario: the base, changed by one case, changed by one point of the varied axes,
changed by `--set`. Keys may be nested or dotted (`plan.tp`); keys that begin with `gpu.`, `node.`, `cluster.` or
`link.` set hardware parameters.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import Document
from simgpu.errors import InputError, nearest, shown
from simgpu.render.fields import MAX_PANELS, PlotFields, rows_of
from simgpu.result import Result
from simgpu.scenario import run_scenario
from simgpu.study.fields import CompareFields, ExperimentFields
from simgpu.study.loading import Case, load, parse_settings, written_key
from simgpu.tree import indexed, leaves, value_at


@dataclass(frozen=True)
class Experiment:
    """A checked experiment file: what to show, and its cases in the order of the rows."""

    name: str
    document: Document
    fields: ExperimentFields
    cases: Sequence[Case]
    settings: Sequence[str] = ()  # 'key=value' changes to every scenario


@dataclass(frozen=True)
class ExperimentResult:
    """Results of all cases, in order. `rows` are flat."""

    experiment: Experiment
    results: Sequence[Result]

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [dict(result.row) for result in self.results]


def find_experiment(name: str, catalogue: Catalogue) -> Path:
    """The file that `name` means: a path, or an experiment of the catalogue."""
    path = Path(name)
    if os.path.exists(name) or path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        return path
    found = catalogue.find("experiments", name)
    if found is None:
        raise InputError(f"no such file or experiment {shown(name)}{nearest(name, catalogue.names('experiments'))}")
    return found


def load_experiment(file: Path, settings: Sequence[str] = ()) -> Experiment:
    """Read and check an experiment file; `settings` are 'key=value' changes to every scenario. Runs nothing."""
    document, fields, cases = load(file, parse_settings(settings))
    told = [setting for setting in settings if not setting.startswith("require_fit=")]  # changes no row
    return Experiment(fields.experiment or file.stem, document, fields, cases, told)


def run_case(case: Case, catalogue: Catalogue) -> Result:
    """Simulate one case. Its labels stand first in the row, then what the file varies, in SI units."""
    result = run_scenario(case.scenario, catalogue, case.origins)
    varied = {}
    for path in case.varied:
        key = written_key(path)
        entry = result.resolved.get(key) or result.resolved.get(".".join(indexed(case.data, path)))
        varied[key] = entry["value"] if entry else str(value_at(case.data, path))
    return replace(result, row={**case.labels, **varied, **result.row})


def run_experiment(
    experiment: Experiment, catalogue: Catalogue, progress: Callable[[int, int], None] | None = None
) -> ExperimentResult:
    """Simulate every case. `progress` is called with (done, total)."""
    results = []
    for done, case in enumerate(experiment.cases):
        if progress:
            progress(done, len(experiment.cases))
        results.append(run_case(case, catalogue))
    outcome = ExperimentResult(experiment, results)
    _ColumnChecks(outcome).all()
    return outcome


class _ColumnChecks:
    """What tables, plots and comparisons ask for must be in the rows."""

    def __init__(self, outcome: ExperimentResult) -> None:
        self.document = outcome.experiment.document
        self.fields = outcome.experiment.fields
        self.cases = outcome.experiment.cases
        self.rows = outcome.rows
        self.known = dict.fromkeys(key for row in self.rows for key in row)

    def all(self) -> None:
        for i, column in enumerate(self.fields.table):
            self._exists(column, ("table", i))
        names: set[str] = set()
        for n, plot in enumerate(self.fields.plots):
            place: tuple = ("plots", n)
            if plot.name is not None and plot.name in names:
                raise self.document.error(f"{shown(plot.name)} is the name of another plot", (*place, "name"))
            names.add(plot.name or "")
            self._bars_of(plot, place)
            self._special(plot, place)
            if plot.kind == "line":
                self._numbers(plot.x, (*place, "x"), everywhere=True)
                self._single_valued(plot, (*place, "series"))
            for i, column in enumerate(plot.y):
                self._numbers(column, (*place, "y", i))
            if plot.series is not None:
                self._exists(plot.series, (*place, "series"))
            for column, label in plot.marks.items():
                if column not in plot.y:
                    problem = f"{shown(column)} is not a column of y{nearest(column, plot.y)}"
                    raise self.document.error(problem, (*place, "marks", column))
                self._numbers(label, (*place, "marks", column))
        if self.fields.compare:
            self._compare(self.fields.compare)

    def _special(self, plot: PlotFields, place: tuple) -> None:
        """What single kinds of plots need besides."""
        for key in plot.where:
            if plot.kind not in ("bar", "line", "curve", "matrix", "tornado"):
                raise self.document.error(f"has no meaning for a plot of kind {plot.kind}", (*place, "where"))
            self._exists(key, (*place, "where", key))
        if not rows_of(self.rows, plot):
            raise self.document.error(f"no row has {shown(plot.where)}", (*place, "where"))
        if plot.label is not None:
            if plot.kind != "curve":
                problem = f"{shown(plot.label)} has no meaning for a plot of kind {plot.kind}; only a curve has labels"
                raise self.document.error(problem, (*place, "label"))
            self._exists(plot.label, (*place, "label"))
        if plot.kind == "curve":
            self._numbers(plot.x, (*place, "x"))
            if not any(row.get(plot.x) and row.get(plot.y[0]) for row in self.rows):
                problem = f"no row has {plot.x} and {plot.y[0]} above zero"
                raise self.document.error(problem, (*place, "y"))
        if plot.kind == "matrix":
            if plot.series is None:
                raise self.document.error("is missing: what stands down the side of a matrix", (*place, "series"))
            self._single_valued(plot, (*place, "series"))
        panels = len(rows_of(self.rows, plot))
        if plot.kind in ("roofline", "tornado") and panels > MAX_PANELS:
            problem = f"{panels} rows; a plot of kind {plot.kind} has at most {MAX_PANELS} panels"
            raise self.document.error(problem, (*place, "kind"))
        if plot.kind == "tornado" and plot.series is not None:
            raise self.document.error("has no meaning for a plot of kind tornado", (*place, "series"))
        for column in plot.y if plot.kind == "tornado" else ():
            self._numbers(column, (*place, "y", 0), everywhere=True)
            if not all(row.get(column) for row in rows_of(self.rows, plot)):
                raise self.document.error(f"{shown(column)} is not above zero in every row", (*place, "y", 0))

    def _bars_of(self, plot: PlotFields, place: tuple) -> None:
        """What bars and panels stand for: a column, or the stages of the only row."""
        if plot.kind in ("memory", "pipeline"):
            self._exists("memory_fits", (*place, "kind"), "only training and inference have memory and stages; ")
        if plot.kind == "pipeline" and not any(row["workload"] == "training" for row in self.rows):
            raise self.document.error("only training has a pipeline picture", (*place, "kind"))
        if plot.kind == "memory" and plot.x == "stage" and plot.x not in self.known:
            if len(self.rows) > 1:
                problem = f"'stage' needs a single row, here are {len(self.rows)}; expected a column that differs"
                raise self.document.error(problem, (*place, "x"))
            return
        self._exists(plot.x, (*place, "x"))
        if plot.kind in ("stack", "memory", "pipeline", "tornado"):
            self._single_valued(plot, (*place, "x"))

    def _single_valued(self, plot: PlotFields, place: tuple) -> None:
        """A line has one value at each x."""
        seen = set()
        for row in rows_of(self.rows, plot):
            point = (row.get(plot.series) if plot.series else None, row.get(plot.x))
            if point in seen:
                one = "on one line" if plot.kind == "line" else "here"
                problem = f"several rows have {plot.x} = {shown(point[1])} {one}; expected a label that differs"
                raise self.document.error(problem, place)
            seen.add(point)

    def _compare(self, compare: CompareFields) -> None:
        self._numbers(compare.value, ("compare", "value"), everywhere=True)
        self._exists(compare.between, ("compare", "between"))
        for i, label in enumerate(compare.match):
            self._exists(label, ("compare", "match", i))
        for end in ("start", "end"):
            wanted = getattr(compare, end)
            found = [row.get(compare.between) for row in self.rows]
            if wanted not in found:
                hint = nearest(wanted, {str(value) for value in found})
                problem = f"no row has {shown(wanted)} as its {compare.between}{hint}"
                raise self.document.error(problem, ("compare", end))
        keys = {written_key(path) for case in self.cases for path, _ in leaves(case.data)}
        keys |= {".".join(path) for case in self.cases for path, _ in leaves(case.scenario.model_dump())}
        for s, step in enumerate(compare.steps):
            for k, key in enumerate(step.keys):
                if key not in keys:
                    problem = f"{shown(key)} is not a key of any scenario here{nearest(key, keys)}"
                    raise self.document.error(problem, ("compare", "steps", s, "keys", k))

    def _exists(self, column: str, place: tuple, why: str = "") -> None:
        if column not in self.known:
            hint = nearest(column, self.known)
            raise self.document.error(f"{why}no column {shown(column)} in the rows{hint}", place)

    def _numbers(self, column: str, place: tuple, everywhere: bool = False) -> None:
        """The column exists and holds numbers (in every row, if it must)."""
        self._exists(column, place)
        for row in self.rows:
            value = row.get(column)
            if (value is None and everywhere) or not isinstance(value, (int, float, type(None))):
                raise self.document.error(f"{shown(column)} is not a number in every row ({shown(value)})", place)
