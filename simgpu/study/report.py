"""An experiment's answer: table, JSON document, CSV, and the files beside them."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.render.notes import memory_notes, walk_notes
from simgpu.result import COLUMNS
from simgpu.study.attribution import walks
from simgpu.study.experiment import ExperimentResult
from simgpu.version import __version__

MAX_TRACE_EVENTS = 200_000


def build(outcome: ExperimentResult, catalogue: Catalogue) -> dict[str, Any]:
    """The JSON document: experiment, rows, notes, and every input of every scenario with its source."""
    fields = outcome.experiment.fields
    found = walks(outcome, catalogue)
    compare = fields.compare
    notes = walk_notes(found, compare.start, compare.end) if compare else []
    notes += memory_notes(outcome.rows, _first_label(outcome))
    return {
        "experiment": outcome.experiment.name,
        "title": fields.title,
        "simgpu_version": __version__,
        "rows": outcome.rows,
        "notes": notes,
        "scenarios": scenarios(outcome),
    }


def scenarios(outcome: ExperimentResult) -> list[Mapping[str, Any]]:
    """Every input of each row's scenario: {key: {value, unit, source}}, in the order of the rows."""
    return [result.resolved for result in outcome.results]


def print_json(document: Mapping[str, Any], out: IO[str]) -> None:
    """One JSON document."""
    out.write(json.dumps(document, indent=1, allow_nan=False) + "\n")


def print_csv(rows: Sequence[Mapping[str, Any]], out: IO[str]) -> None:
    """All columns of all rows; a value that a row lacks is an empty cell."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def print_report(outcome: ExperimentResult, document: Mapping[str, Any], out: IO[str]) -> None:
    """The table and its notes."""
    from simgpu.render.table import print_table

    print_table(outcome.rows, outcome.experiment.fields.table, document["title"], document["notes"], out)


def write(
    outcome: ExperimentResult, document: Mapping[str, Any], folder: Path, plots: bool = True
) -> list[tuple[str, Path]]:
    """Write data (JSON, CSV), trace and plots (PNG and SVG) into `folder`; returns what was written.

    Figures are built before anything is written, so that an error leaves no half of a result behind.
    """
    from simgpu.render.files import written_whole

    figures = _figures(outcome) if plots else {}
    written = []
    with written_whole(folder / "result.json") as stream:
        print_json(document, stream)
    with written_whole(folder / "rows.csv") as stream:
        print_csv(outcome.rows, stream)
    written += [("data", folder / "result.json"), ("data", folder / "rows.csv")]
    written.append(("trace", write_trace(outcome, folder / "trace.json")))
    for name, figure in figures.items():
        from simgpu.render.style import save

        written += [("plot", file) for file in save(figure, folder / f"{name}.png", folder / f"{name}.svg")]
    return written


def write_trace(outcome: ExperimentResult, file: Path) -> Path:
    """One trace with the timelines of all rows, as many as stay readable; each row is a group of processes."""
    from simgpu.render.trace import trace_events, write_events

    events: list[dict[str, Any]] = []
    process = 0
    for number, result in enumerate(outcome.results):
        if events and len(events) > MAX_TRACE_EVENTS:
            break
        events += trace_events(result.execution, process, _row_name(outcome, number))
        process += len(result.execution.streams)
    return write_events(events, file)


def _figures(outcome: ExperimentResult) -> dict[str, Any]:
    from simgpu.render.plots import rows_figure

    return {
        plot.name or f"plot{i + 1}": rows_figure(outcome.rows, plot)
        for i, plot in enumerate(outcome.experiment.fields.plots)
    }


def _row_name(outcome: ExperimentResult, number: int) -> str:
    """Labels of a row and the degrees of its plan, for the trace."""
    row = outcome.rows[number]
    labels = [str(value) for key, value in row.items() if key not in COLUMNS and isinstance(value, str)]
    return ", ".join([*labels, f"TP {row['tp']}", *([f"DP {row['dp']}"] if row["dp"] > 1 else [])]) + ":"


def _first_label(outcome: ExperimentResult) -> str | None:
    return next((key for row in outcome.rows for key in row if key not in COLUMNS), None)
