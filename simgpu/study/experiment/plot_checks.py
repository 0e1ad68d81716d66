"""Checks that the columns of tables, plots and comparisons of an experiment file are in its rows.

A fault that needs no row is reported before any runs, in one line. Faults that only the rows show (no numbers, two
values on one line) are reported after the run, and the other plots are drawn.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from simgpu.columns import COLUMNS, COLUMNS_PAGE, better
from simgpu.documents import Document
from simgpu.errors import InputError, nearest, shown
from simgpu.render.columns import title
from simgpu.render.fields import MAX_PANELS, PlotFields, rows_of
from simgpu.study.experiment.fields import CompareFields, ExperimentFields
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.points import written_key
from simgpu.tree import leaves

Place = tuple[Any, ...]

_SINGLE = ("server", "steps", "topology", "timeline")
"""Kinds that draw one row."""
MOST_LINES = 8
"""Lines of a plot that has one for each row."""

_NAMED = ("x", "series", "label")
_LABELLED = ("curve", "pareto", "parity")
_ONLY = {
    "marks": ("bar",),
    "better": ("pareto", "heatmap"),
    "chosen": ("pareto",),
    "window": ("steps", "timeline"),
    "ranks": ("timeline",),
}
"""Keys that only some kinds have."""


def check_said(document: Document, fields: ExperimentFields, labels: Iterable[str]) -> None:
    """Raise `InputError` for columns of table and plots that no rows could have. Needs no row.

    `labels` are keys of rows beside their columns: labels of cases, varied keys.
    """
    known = {*COLUMNS, *labels}
    for i, column in enumerate(fields.table):
        _known(document, column, known, ("table", i))
    names: set[str] = set()
    for n, plot in enumerate(fields.plots):
        place: Place = ("plots", n)
        if plot.name is not None and plot.name in names:
            raise document.error(f"{shown(plot.name)} is the name of another plot", (*place, "name"))
        names.add(plot.name or "")
        needed: list[tuple[str, Place]] = [(column, ("y", i)) for i, column in enumerate(plot.y)]
        needed += [(key, (what, key)) for what in ("where", "chosen") for key in getattr(plot, what)]
        needed += [(label, ("marks", column)) for column, label in plot.marks.items()]
        named = ("series", "label") if plot.kind in (*_SINGLE, "parity") or plot.x == "stage" else _NAMED
        needed += [(getattr(plot, key), (key,)) for key in named if getattr(plot, key) is not None]
        for column, below in needed:
            _known(document, column, known, (*place, *below))
        _check_keys(document, plot, place)


def _known(document: Document, column: str, known: Collection[str], place: Place) -> None:
    if column not in known:
        raise document.error(
            f"no column {shown(column)} in the rows{nearest(column, known, where=COLUMNS_PAGE)}", place
        )


def _check_keys(document: Document, plot: PlotFields, place: Place) -> None:
    """Raise for keys that a kind of plot does not take, lacks, or that name something else than its columns."""
    for key, kinds in _ONLY.items():
        if getattr(plot, key) and plot.kind not in kinds:
            problem = f"is not supported for a plot of kind {plot.kind}; only {' and '.join(kinds)} plots have it"
            raise document.error(problem, (*place, key))
    if plot.series is not None and plot.kind in (*_SINGLE, "tornado"):
        raise document.error(f"is not supported for a plot of kind {plot.kind}", (*place, "series"))
    if plot.series is None and plot.kind in ("matrix", "heatmap"):
        raise document.error(f"this key is missing: what stands down the side of a {plot.kind}", (*place, "series"))
    if plot.label is not None and plot.kind not in _LABELLED:
        problem = f"{shown(plot.label)} is not supported for a plot of kind {plot.kind}; labels are of "
        raise document.error(problem + ", ".join(_LABELLED), (*place, "label"))
    for column in plot.marks:
        if column not in plot.y:
            problem = f"{shown(column)} is not a column of y{nearest(column, plot.y)}"
            raise document.error(problem, (*place, "marks", column))
    columns = (plot.x, plot.y[0]) if plot.kind == "pareto" else tuple(plot.y)
    for key in plot.better:
        if key not in columns:
            words = "is neither x nor y" if plot.kind == "pareto" else "is not the column of y"
            raise document.error(f"{shown(key)} {words}{nearest(key, columns)}", (*place, "better", key))
    for column in columns if plot.kind == "pareto" else ():
        if column in COLUMNS and column not in plot.better and better(column) is None:
            problem = f"it is not known whether more or less of {shown(column)} is better; expected better: "
            raise document.error(problem + f"{{{column}: lower}} or higher", place)


class ColumnChecks:
    """Checks of an experiment's rows. Raises `InputError` at the line of what cannot be shown.

    Rows that are `changed` by hand (`--set`) may lack columns of the table that the file's own have.
    """

    def __init__(
        self,
        document: Document,
        fields: ExperimentFields,
        cases: Sequence[Case],
        rows: Sequence[Mapping[str, Any]],
        changed: bool = False,
    ) -> None:
        self.document, self.fields, self.cases, self.changed = document, fields, cases, changed
        self.every = self.rows = rows
        self.known = dict.fromkeys(key for row in rows for key in row)

    def all(self) -> dict[int, InputError]:
        """Plots that cannot be drawn of these rows, by number from 0. Raises for the table and the comparison."""
        for i, column in enumerate(() if self.changed else self.fields.table):
            self._exists(column, ("table", i))
        if self.fields.compare:
            self._compare(self.fields.compare)
        undrawn = {}
        for n, plot in enumerate(self.fields.plots):
            try:
                self._plot(plot, ("plots", n))
            except InputError as error:
                undrawn[n] = error
        return undrawn

    # ---- plots ---------------------------------------------------------------------------------------

    def _plot(self, plot: PlotFields, place: Place) -> None:
        self.rows = self.every
        for key in plot.where:
            self._exists(key, (*place, "where", key))
        self.rows = rows_of(self.every, plot)
        if not self.rows:
            raise self.document.error(f"no row has {shown(plot.where)}", (*place, "where"))
        self._bars_of(plot, place)
        for i, column in enumerate(plot.y):
            self._numbers(column, (*place, "y", i))
        if plot.series is not None:
            self._exists(plot.series, (*place, "series"))
        if plot.label is not None:
            self._exists(plot.label, (*place, "label"))
        check = getattr(self, f"_{plot.kind}", None)
        if check is not None:
            check(plot, place)

    def _bars_of(self, plot: PlotFields, place: Place) -> None:
        """Check what bars, panels and axes stand for: a column, the stages of the only row, or nothing."""
        if plot.kind in ("memory", "pipeline"):
            self._exists("memory_fits", (*place, "kind"), "only training and inference have memory and stages; ")
        if plot.kind == "pipeline" and not any(row["workload"] == "training" for row in self.rows):
            raise self.document.error("only training has a pipeline picture", (*place, "kind"))
        if plot.kind == "memory" and plot.x == "stage" and plot.x not in self.known:
            if len(self.rows) > 1:
                problem = f"'stage' needs a single row, here are {len(self.rows)}; expected a column that differs"
                raise self.document.error(problem, (*place, "x"))
            return
        if plot.kind in (*_SINGLE, "parity"):  # of parity see there: it may stand nowhere in the file
            return
        self._exists(plot.x, (*place, "x"))
        if plot.kind in ("stack", "memory", "pipeline", "tornado", "cost", "breakeven"):
            self._single_valued(plot, (*place, "x"))

    def _bar(self, plot: PlotFields, place: Place) -> None:
        for column, label in plot.marks.items():
            self._numbers(label, (*place, "marks", column))

    def _line(self, plot: PlotFields, place: Place) -> None:
        self._numbers(plot.x, (*place, "x"), everywhere=True)
        self._single_valued(plot, (*place, "series"))

    def _scaling(self, plot: PlotFields, place: Place) -> None:
        """Check that numbers are above zero; against one GPU x must be how many there are."""
        self._numbers(plot.x, (*place, "x"), everywhere=True)
        self._single_valued(plot, (*place, "series" if plot.series else "x"))
        if not plot.y:
            for column in ("speedup", "efficiency"):
                self._exists(column, (*place, "kind"), "these rows are not compared with one GPU; name a column of y; ")
            if any(row[plot.x] != row["gpus"] for row in self.rows):
                problem = (
                    f"{shown(plot.x)} is not the number of GPUs, and speedup and efficiency are against one of them"
                )
                raise self.document.error(
                    f"{problem}; expected gpus, or a column of y to compare along x", (*place, "x")
                )
        elif better(plot.y[0]) is None:
            problem = f"{shown(plot.y[0])} is neither a time nor a rate, so that it has no speed-up"
            raise self.document.error(problem, (*place, "y", 0))
        for column, at in ((plot.x, "x"), *((one, "y") for one in plot.y)):
            self._positive(column, (*place, at))

    def _tornado(self, plot: PlotFields, place: Place) -> None:
        for column in plot.y:
            self._numbers(column, (*place, "y", 0), everywhere=True)
            if not all(row.get(column) for row in self.rows):
                raise self.document.error(f"{shown(column)} is not above zero in every row", (*place, "y", 0))
        self._few(plot, place)

    def _curve(self, plot: PlotFields, place: Place) -> None:
        self._numbers(plot.x, (*place, "x"))
        if not any(row.get(plot.x) and row.get(plot.y[0]) for row in self.rows):
            raise self.document.error(f"no row has {plot.x} and {plot.y[0]} above zero", (*place, "y"))

    def _pareto(self, plot: PlotFields, place: Place) -> None:
        self._numbers(plot.x, (*place, "x"))
        self._both(plot, place)
        for key in plot.chosen:
            self._exists(key, (*place, "chosen", key))
        matching = [row for row in self.rows if all(row.get(key) == value for key, value in plot.chosen.items())]
        if plot.chosen and len(matching) != 1:
            raise self.document.error(f"{len(matching) or 'no'} rows have {shown(plot.chosen)}", (*place, "chosen"))

    def _parity(self, plot: PlotFields, place: Place) -> None:
        self._numbers(plot.x, (*place, "x" if self._says_x(place) else "kind"))
        self._both(plot, place)
        some = [row for row in self.rows if row.get(plot.x) is not None and row.get(plot.y[0]) is not None]
        if any(row[column] <= 0 for row in some for column in (plot.x, plot.y[0])):
            raise self.document.error(f"{title(plot.y[0])} is not above zero everywhere", (*place, "y", 0))

    def _cost(self, plot: PlotFields, place: Place) -> None:
        """Check that some row has the cost; those that do not fit the memory have none."""
        self._exists("usd_per_gpu_hour", (*place, "kind"), "these rows have no cost: give the scenario `cost`; ")
        for column in plot.y:
            if not column.startswith("usd_per_"):
                raise self.document.error(f"{shown(column)} is not a cost, such as usd_per_gpu_hour", (*place, "y", 0))

    _breakeven = _cost

    def _matrix(self, plot: PlotFields, place: Place) -> None:
        self._single_valued(plot, (*place, "series"))

    _heatmap = _matrix

    def _roofline(self, plot: PlotFields, place: Place) -> None:
        self._few(plot, place)
        if any(row["workload"] == "training" for row in self.rows):
            raise self.document.error("only prefill and inference have a roofline", (*place, "kind"))

    def _few(self, plot: PlotFields, place: Place) -> None:
        """Check that panels, one for each row, have room."""
        if len(self.rows) > MAX_PANELS:
            problem = f"{len(self.rows)} rows; a plot of kind {plot.kind} has at most {MAX_PANELS} panels"
            raise self.document.error(problem, (*place, "kind"))

    def _topology(self, plot: PlotFields, place: Place) -> None:
        self._timeline(plot, place)
        (row,) = self.rows
        if row["workload"] in ("inference", "mixed", "serving", "traffic") and row.get("pp", 1) > 1:
            problem = f"loads of links are not supported for inference with {row['pp']} pipeline stages; expected 1"
            raise self.document.error(problem, (*place, "kind"))

    def _steps(self, plot: PlotFields, place: Place) -> None:
        self._server(plot, place)

    def _server(self, plot: PlotFields, place: Place) -> None:
        self._alone(plot, place)
        if self.rows[0]["workload"] != "traffic":
            problem = f"a workload of kind {self.rows[0]['workload']} has no requests to follow; expected traffic"
            raise self.document.error(problem, (*place, "kind"))

    def _turns(self, plot: PlotFields, place: Place) -> None:
        del plot
        bad = next((row for row in self.rows if row.get("sessions_ended") is None), None)
        if bad is not None:
            problem = "a plot of kind turns needs sessions; expected traffic with turns above 1, or a session"
            raise self.document.error(problem, (*place, "kind"))
        if len(self.rows) > MOST_LINES:
            problem = f"{len(self.rows)} rows; a plot of kind turns has at most {MOST_LINES} lines; expected a where"
            raise self.document.error(problem, (*place, "kind"))

    def _alone(self, plot: PlotFields, place: Place) -> None:
        if len(self.rows) > 1:
            problem = f"{len(self.rows)} rows; a plot of kind {plot.kind} draws one; expected a where that leaves one"
            raise self.document.error(problem, (*place, "where" if plot.where else "kind"))

    def _timeline(self, plot: PlotFields, place: Place) -> None:
        self._alone(plot, place)
        if plot.window is not None and plot.window[0] >= self.rows[0]["step_s"]:
            problem = f"{shown(list(plot.window))} begins after the step, which ends at {self.rows[0]['step_s']:.4g} s"
            raise self.document.error(problem, (*place, "window"))

    # ---- what they share -----------------------------------------------------------------------------

    def _says_x(self, place: Place) -> bool:
        """True if the file itself gives x: else the plot is blamed."""
        value: Any = self.document.data
        for part in place:
            value = value[part]
        return "x" in value

    def _both(self, plot: PlotFields, place: Place) -> None:
        """Check that some row has numbers in x and y."""
        if not any(row.get(plot.x) is not None and row.get(plot.y[0]) is not None for row in self.rows):
            raise self.document.error(f"no row has both {plot.x} and {plot.y[0]}", (*place, "y"))

    def _positive(self, column: str, place: Place) -> None:
        for row in self.rows:
            value = row.get(column)
            if value is not None and value <= 0:
                raise self.document.error(f"{shown(column)} is not above zero everywhere ({shown(value)})", place)

    def _single_valued(self, plot: PlotFields, place: Place) -> None:
        """Check that a line has one value at each x."""
        seen = set()
        for row in self.rows:
            point = (row.get(plot.series) if plot.series else None, row.get(plot.x))
            if point in seen:
                where = "on one line" if plot.kind in ("line", "scaling") else "here"
                problem = f"several rows have {plot.x} = {shown(point[1])} {where}; expected a label that differs"
                raise self.document.error(problem, place)
            seen.add(point)

    def _compare(self, compare: CompareFields) -> None:
        self._numbers(compare.value, ("compare", "value"), everywhere=True)
        self._exists(compare.between, ("compare", "between"))
        for i, label in enumerate(compare.match):
            self._exists(label, ("compare", "match", i))
        for end in ("start", "end"):
            wanted = getattr(compare, end)
            names = [row.get(compare.between) for row in self.rows]
            if wanted not in names:
                hint = nearest(wanted, {str(value) for value in names})
                problem = f"no row has {shown(wanted)} as its {compare.between}{hint}"
                raise self.document.error(problem, ("compare", end))
        keys = {written_key(path) for case in self.cases for path, _ in leaves(case.data)}
        keys |= {".".join(path) for case in self.cases for path, _ in leaves(case.scenario.model_dump())}
        for s, step in enumerate(compare.steps):
            for k, key in enumerate(step.keys):
                if key not in keys:
                    problem = f"{shown(key)} is not a key of any scenario here{nearest(key, keys)}"
                    raise self.document.error(problem, ("compare", "steps", s, "keys", k))

    def _exists(self, column: str, place: Place, why: str = "") -> None:
        if column not in self.known:
            hint = nearest(column, self.known, where=COLUMNS_PAGE)
            raise self.document.error(f"{why}no column {shown(column)} in the rows{hint}", place)

    def _numbers(self, column: str, place: Place, everywhere: bool = False) -> None:
        """Check that the column exists and holds numbers (in every row, if it must)."""
        self._exists(column, place)
        for row in self.rows:
            value = row.get(column)
            if (value is None and everywhere) or not isinstance(value, (int, float, type(None))):
                raise self.document.error(f"{shown(column)} is not a number in every row ({shown(value)})", place)
