"""An experiment's answer: table, JSON document, CSV, and the files beside them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.plan.memory import Memory
from simgpu.plan.serving_memory import ServingMemory
from simgpu.render.fields import PlotFields, rows_of
from simgpu.render.files import written_whole
from simgpu.render.notes import fit_notes, memory_notes, settings_notes, walk_notes
from simgpu.render.trace import trace_events, write_events
from simgpu.result import COLUMNS, Result
from simgpu.study.attribution import walks
from simgpu.study.experiment import ExperimentResult
from simgpu.study.memory import misfits, print_tables, row_name
from simgpu.version import __version__

MAX_TRACE_EVENTS = 200_000
MAX_TRACE_RANKS = 64


def build(outcome: ExperimentResult, catalogue: Catalogue) -> dict[str, Any]:
    """The JSON document: experiment, rows, notes, memory of every pipeline stage of rows that train, and every input of
    every scenario with its source."""
    fields = outcome.experiment.fields
    found = walks(outcome, catalogue)
    compare = fields.compare
    notes = walk_notes(found, compare.start, compare.end) if compare else []
    notes += settings_notes(outcome.experiment.settings)
    notes += memory_notes(outcome.rows, _first_label(outcome))
    notes += fit_notes(misfits(outcome, catalogue))
    return {
        "experiment": outcome.experiment.name,
        "title": fields.title,
        "simgpu_version": __version__,
        "rows": outcome.rows,
        "notes": notes,
        "memory": [[stage.as_dict() for stage in result.memory] for result in outcome.results],
        "scenarios": scenarios(outcome),
    }


def scenarios(outcome: ExperimentResult) -> list[Mapping[str, Any]]:
    """Every input of each row's scenario: {key: {value, unit, source}}, in the order of the rows."""
    return [result.resolved for result in outcome.results]


def print_json(document: Mapping[str, Any], out: IO[str]) -> None:
    """One JSON document."""
    long = [key for key in ("memory", "scenarios") if key in document]
    short = {key: value for key, value in document.items() if key not in long}
    text = json.dumps(short, indent=1, allow_nan=False)[:-2] if short else "{"
    for n, key in enumerate(long):  # thousands of numbers: one line for each row, in the order of the rows
        lines = ",\n  ".join(json.dumps(one, allow_nan=False) for one in document[key])
        text += f'{"," if short or n else ""}\n "{key}": [\n  {lines}\n ]'
    out.write(text + "\n}\n")


def print_csv(rows: Sequence[Mapping[str, Any]], out: IO[str]) -> None:
    """All columns of all rows; a value that a row lacks is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def print_report(outcome: ExperimentResult, document: Mapping[str, Any], out: IO[str], memory: bool = False) -> None:
    """The table, the memory of every scenario if asked for, and the notes."""
    from simgpu.render.table import print_notes, print_table

    print_table(outcome.rows, outcome.experiment.fields.table, document["title"], [], out)
    if memory:
        print_tables(outcome, out)
    print_notes(document["notes"], out)


def write(
    outcome: ExperimentResult,
    document: Mapping[str, Any],
    folder: Path,
    plots: bool = True,
    catalogue: Catalogue | None = None,
) -> list[tuple[str, Path]]:
    """Write data (JSON, CSV), trace and plots (PNG and SVG) into `folder`; returns what was written.

    Figures are built before anything is written, so that an error leaves no half of a result behind.
    """
    figures = _figures(outcome, catalogue) if plots else {}
    written = []
    with written_whole(folder / "result.json") as stream:
        print_json(document, stream)
    with written_whole(folder / "rows.csv") as stream:
        print_csv(outcome.rows, stream)
    written += [("data", folder / "result.json"), ("data", folder / "rows.csv")]
    left_out = write_trace(outcome, folder / "trace.json")
    written.append((f"trace ({left_out})" if left_out else "trace", folder / "trace.json"))
    if figures:
        from simgpu.render.style import save
    for name, figure in figures.items():
        written += [("plot", file) for file in save(figure, folder / f"{name}.png", folder / f"{name}.svg")]
    return written


def write_trace(outcome: ExperimentResult, file: Path) -> str:
    """One trace with the timelines of the rows; each row is a group of processes. Returns what was left out, or ''.

    Of a row the first `MAX_TRACE_RANKS` ranks are written, and rows until the trace holds `MAX_TRACE_EVENTS` events.
    """
    events: list[dict[str, Any]] = []
    process = 0
    left_out = []
    for number, result in enumerate(outcome.results):
        if events and len(events) > MAX_TRACE_EVENTS:
            left_out.append(f"the first {number} of {len(outcome.results)} rows")
            break
        ranks = min(len(result.execution.streams), MAX_TRACE_RANKS)
        events += trace_events(result.execution, process, row_name(outcome, number) + ":", ranks)
        process += ranks
    if any(len(result.execution.streams) > MAX_TRACE_RANKS for result in outcome.results):
        left_out.append(f"the first {MAX_TRACE_RANKS} ranks of each row")
    write_events(events, file)
    return ", ".join(left_out)


def _figures(outcome: ExperimentResult, catalogue: Catalogue | None) -> dict[str, Any]:
    return {
        plot.name or f"plot{i + 1}": _figure(outcome, plot, catalogue)
        for i, plot in enumerate(outcome.experiment.fields.plots)
    }


def _figure(outcome: ExperimentResult, plot: PlotFields, catalogue: Catalogue | None = None) -> Any:
    from simgpu.render.plots import heading_of, rows_figure

    settings = outcome.experiment.settings
    rows = rows_of(outcome.rows, plot)
    if plot.kind in ("bar", "line"):
        return rows_figure(rows, plot, settings)
    if plot.kind == "curve":
        from simgpu.render.curve import curve_figure

        return curve_figure(rows, plot, heading_of(plot, settings, "Rows"))
    if plot.kind == "matrix":
        from simgpu.render.matrix import matrix_figure

        return matrix_figure(rows, plot.x, plot.series or "", plot.y[0], heading_of(plot, settings, ""))
    names = [_bar_name(row, plot) for row in outcome.rows]
    if plot.kind == "tornado":
        from simgpu.study.sensitivity_report import plotted

        return plotted(outcome, plot, names, catalogue or Catalogue(), heading_of(plot, settings, ""))
    if plot.kind == "roofline":
        from simgpu.render.roofline import roofline_figure
        from simgpu.study.roofs import roofs_of

        roofs = [roofs_of(result, name) for name, result in zip(names, outcome.results, strict=True)]
        return roofline_figure(roofs, heading_of(plot, settings, "Operators under the roof"))
    if plot.kind == "stack":
        from simgpu.render.stack import stack_figure

        return stack_figure(dict(zip(names, outcome.rows, strict=True)), plot.y, heading_of(plot, settings, "Step"))
    held = [(name, result) for name, result in zip(names, outcome.results, strict=True) if result.memory]
    if plot.kind == "memory":
        from simgpu.render.memory import memory_figure

        heading = heading_of(plot, settings, "Memory")
        if plot.x == "stage" and "stage" not in outcome.rows[0]:
            bars = {str(one.stage): one.as_dict() for one in outcome.results[0].memory}
            return memory_figure(bars, heading, "Pipeline stage")
        return memory_figure({name: _fullest(result).as_dict() for name, result in held}, heading)
    from simgpu.render.passes import panel_of
    from simgpu.render.pipeline import pipeline_figure

    training = [(name, result) for name, result in held if result.row["workload"] == "training"]
    panels = [panel_of(result.execution, result.row["pp"], name) for name, result in training]
    return pipeline_figure(panels, heading_of(plot, settings, ""))


def _fullest(result: Result) -> Memory | ServingMemory:
    """The stage that needs most."""
    stages: list[Memory | ServingMemory] = list(result.memory)
    return max(stages, key=lambda stage: stage.total)


def _bar_name(row: Mapping[str, Any], plot: PlotFields) -> str:
    """What a bar or panel is called: its value of x, and of the series."""
    return ", ".join(str(row.get(key)) for key in (plot.x, plot.series) if key)


def _first_label(outcome: ExperimentResult) -> str | None:
    return next((key for row in outcome.rows for key in row if key not in COLUMNS), None)
