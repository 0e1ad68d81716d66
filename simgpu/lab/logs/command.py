"""The commands `simgpu observe` and `simgpu compare`: what logs say, and an experiment against them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.lab.logs.comparing import Comparison, compared
from simgpu.lab.logs.observed import Observed
from simgpu.lab.logs.reading import read
from simgpu.render.columns import cell, title
from simgpu.render.data import print_csv, print_json
from simgpu.render.table import print_table
from simgpu.scenario import Origins, Scenario, run_scenario


def observe(files: Iterable[Path]) -> list[Observed]:
    """The runs of all files. Raises `InputError` for the first that cannot be read."""
    return [run for file in files for run in read(file)]


def compare(scenario: Scenario, origins: Origins, catalogue: Catalogue, logs: Iterable[Path]) -> list[Comparison]:
    """The row of a scenario against each run of some logs."""
    runs = observe(logs)
    if not runs:
        raise InputError("no log is given; expected --log FILE", key="--log")
    row = run_scenario(scenario, catalogue, origins).row
    return [compared(run, row) for run in runs]


# ---- what is shown ---------------------------------------------------------------------------------------


def show_observed(runs: Sequence[Observed], style: str, out: IO[str]) -> None:
    """Print what each run says."""
    if style == "json":
        print_json({"runs": [_document(run) for run in runs]}, out)
    elif style == "csv":
        print_csv(
            [{"file": str(run.file), "tool": run.tool, **vars(one)} for run in runs for one in run.measurements], out
        )
    else:
        for run in runs:
            rows = [_measured(one.column, one.value, one.count, one.spread) for one in run.measurements]
            facts = ", ".join(f"{name} {_short(value)}" for name, value in run.facts.items())
            notes = [*([f"says {facts}"] if facts else []), *(f"left out or noted: {note}" for note in run.notes)]
            heading = f"{run.file}: {run.kind} by {run.tool}"
            print_table(rows, tuple(rows[0]), heading, notes, out)


def _measured(column: str, value: float, count: int, spread: float) -> dict[str, str]:
    return {
        "quantity": title(column),
        "column": column,
        "measured": cell(column, value),
        "values": f"{count:,}",
        "spread": f"{100 * spread:.1f} %" if spread else "",
    }


def _short(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, (int, float)) else str(value)


def _document(run: Observed) -> dict[str, Any]:
    return {
        "file": str(run.file), "kind": run.kind, "tool": run.tool, "facts": dict(run.facts), "notes": list(run.notes),
        "measurements": [vars(one) for one in run.measurements],
    }  # fmt: skip


def _compared(one: Comparison) -> dict[str, Any]:
    lines = [line.row() for line in one.lines]
    return {**_document(one.observed), "lines": lines, "unpredicted": list(one.unpredicted), "words": one.words()}


def show_compared(found: Sequence[Comparison], style: str, out: IO[str]) -> None:
    """Print predictions beside what logs say, the largest differences in words below."""
    if style == "json":
        print_json({"runs": [_compared(one) for one in found]}, out)
    elif style == "csv":
        print_csv([{"file": str(one.observed.file), **line.row()} for one in found for line in one.lines], out)
    else:
        for one in found:
            rows = [
                {
                    "quantity": title(line.column),
                    "measured": cell(line.column, line.measured.value),
                    "predicted": cell(line.column, line.predicted),
                    "80 % interval": f"{cell(line.column, line.p10)} to {cell(line.column, line.p90)}",
                    "measured / predicted": f"{line.ratio:.2f}",
                    "inside": "yes" if line.inside else "no",
                }
                for line in one.lines
            ]
            notes = [*one.words(), *(f"left out or noted: {note}" for note in one.observed.notes)]
            if one.unpredicted:
                notes.append(f"not predicted by this experiment: {', '.join(one.unpredicted)}")
            print_table(rows, tuple(rows[0]), f"{one.observed.file}: {one.observed.tool}", notes, out)
