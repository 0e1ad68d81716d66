"""Output of a finished sweep: the best rows, failures with their reasons, data and plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from simgpu.errors import InputError
from simgpu.render.columns import title
from simgpu.render.data import print_csv, print_json
from simgpu.render.files import written_whole
from simgpu.render.rows import ROW_KINDS
from simgpu.study.experiment.running import Experiment
from simgpu.study.experiment.shown import left_out, shown_columns
from simgpu.study.sweep.command import Swept
from simgpu.version import __version__

MOST_ROWS = 20
MOST_REASONS = 3
BEST = ("tokens_per_s_per_gpu", "output_tokens_per_s_per_gpu", "tokens_per_s", "step_s")
"""Columns that tell the best rows of many: the first that the rows have. Of the last the smallest is best."""


def document(swept: Swept) -> dict[str, Any]:
    """The JSON document: counts, rows, and points that failed with their reasons."""
    fields = swept.experiment.fields
    return {
        "experiment": swept.experiment.name,
        "title": fields.title,
        "simgpu_version": __version__,
        "points": swept.total,
        "ok": len(swept.rows),
        "rows": swept.rows,
        "failed": [{"labels": one.labels, "reason": one.reason, "key": one.key} for one in swept.failed],
    }


def show(swept: Swept, style: str, out: IO[str]) -> None:
    """Print the rows: all as JSON or CSV, the best as a table."""
    if style == "json":
        print_json(document(swept), out)
    elif style == "csv":
        print_csv(swept.rows, out)
    else:
        _show_table(swept, out)


def _show_table(swept: Swept, out: IO[str]) -> None:
    from simgpu.render.notes import settings_notes
    from simgpu.render.table import print_notes, print_table

    rows, heading = swept.rows, swept.experiment.fields.title
    if len(rows) > MOST_ROWS:
        column = next(column for column in BEST if any(row.get(column) for row in rows))
        up = column == "step_s"
        known = [row for row in rows if row.get(column) is not None]
        known.sort(key=lambda row: (row.get("memory_fits") is False, row[column] if up else -row[column]))
        rows = known[:MOST_ROWS]
        fit = ", plans that fit first" if any(row.get("memory_fits") is False for row in known) else ""
        which = f"{'shortest' if up else 'most'} {title(column)} of {len(swept.rows):,}{fit}"
        heading = f"{heading or swept.experiment.name}: {which}"
    if rows:
        print_table(rows, shown_columns(swept.experiment.fields, rows), heading, [], out)
    gone = left_out(swept.experiment.fields, rows) if rows else ()
    print_notes([*settings_notes(swept.experiment.settings, gone), *notes(swept)], out)


def notes(swept: Swept) -> list[str]:
    """Notes below the table: counts, time, why points failed, what is left out."""
    ok, failed = len(swept.rows), len(swept.failed)
    rate = f", {swept.ran / swept.seconds:,.3g} a second" if swept.ran and swept.seconds else ""
    lines = [f"{swept.total:,} points: {ok:,} ok, {failed:,} failed, {swept.total - ok - failed:,} left to do."]
    lines.append(f"{swept.before:,} were in the store, {swept.ran:,} ran in {swept.seconds:.1f} s{rate}.")
    lines += [f"failed, {count:,} x: {reason}" for reason, count in swept.reasons[:MOST_REASONS]]
    if len(swept.reasons) > MOST_REASONS:
        lines.append(f"{len(swept.reasons) - MOST_REASONS:,} more reasons: simgpu results --status failed")
    if swept.experiment.fields.search is not None:
        lines.append("The file has a search too; run it with: simgpu search FILE")
    undrawn: list[str] = [plot.kind for plot in swept.experiment.fields.plots if plot.kind not in ROW_KINDS]
    undrawn += ["compare"] if swept.experiment.fields.compare else []
    if undrawn:
        lines.append(f"Not drawn, because a store keeps only rows: {', '.join(undrawn)}. `simgpu run` draws them.")
    if swept.experiment.settings:
        lines += [f"Not drawn after --set: {error}" for error in _drawable(swept)[1].values()]
    return lines


def write(swept: Swept, folder: Path, plots: bool = True, formats: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """Write data (JSON, CSV) and plots into `folder`; returns the files. `formats` are by default the file's.

    Data is written first, then the plots that can be drawn: one that cannot raises `InputError` and loses none of it.
    """
    with written_whole(folder / "result.json") as stream:
        print_json(document(swept), stream)
    with written_whole(folder / "rows.csv") as stream:
        print_csv(swept.rows, stream)
    written = [("data", folder / "result.json"), ("data", folder / "rows.csv")]
    if not swept.rows:
        return written
    experiment, undrawn = _drawable(swept)
    drawn = figures_of(swept) if plots else {}
    if drawn:
        from simgpu.render.files import save
    kinds = dict.fromkeys(formats or experiment.fields.formats)
    for name, figure in drawn.items():
        written += [("plot", file) for file in save(figure, *(folder / f"{name}.{kind}" for kind in kinds))]
    if undrawn and plots and not experiment.settings:  # by --set a row that a plot asks for may go
        raise next(iter(undrawn.values()))
    return written


def figures_of(swept: Swept) -> dict[str, Any]:
    """The plots of the file that need rows alone and can be drawn, by the names of their files."""
    experiment, undrawn = _drawable(swept)
    if not swept.rows or not experiment.fields.plots:
        return {}
    from simgpu.render.rows import figure_of_rows

    return {
        plot.name or f"plot{n}": figure_of_rows(
            swept.rows, plot, experiment.settings, experiment.fields.title or experiment.name
        )
        for n, plot in enumerate(experiment.fields.plots, 1)
        if n - 1 not in undrawn
    }


def _drawable(swept: Swept) -> tuple[Experiment, Mapping[int, InputError]]:
    """The experiment with the plots that need rows alone, and which of these cannot be drawn.

    Raises `InputError` for columns of its table that the rows lack.
    """
    fields = swept.experiment.fields
    kept = [plot for plot in fields.plots if plot.kind in ROW_KINDS]
    drawable = replace(swept.experiment, fields=fields.model_copy(update={"plots": kept, "compare": None}))
    return drawable, drawable.undrawn(swept.rows) if swept.rows else {}


def interrupted(swept: Swept) -> str:
    """The message after Ctrl-C."""
    done = len({point.key for point in swept.points})
    text = f"interrupted: {done:,} scenarios are finished and kept in {swept.store}, {swept.left:,} are left"
    return f"{text}; run the same command again to continue"
