"""What `simgpu validate` does: find the folder, predict, write, print."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.lab.validation import report
from simgpu.lab.validation.run import Validation, validate_all
from simgpu.lab.validation.sources import NOT_PREDICTED, known
from simgpu.lab.validation.tables import tables_in
from simgpu.render.data import print_csv

PUBLISHED = Path(__file__).parent / "published"
"""Figures from papers and vendors' pages, each with its address, in the same schema."""

VARIABLE = "SIMGPU_MEASUREMENTS"
COMPONENTS = "components.csv"
"""The table of components, beside that of residuals."""


@dataclass(frozen=True)
class Outcome:
    """A validation and the document that says it."""

    done: Validation
    document: dict[str, Any]
    catalogue: Catalogue


def folder(given: Path | None) -> Path:
    """The folder of tables: the one given, that of the environment, else the published figures."""
    if given is not None:
        return given
    named = os.environ.get(VARIABLE)
    if named and not Path(named).is_dir():
        raise InputError("no such folder", file=named, key=VARIABLE)
    return Path(named) if named else PUBLISHED


def run(target: str, data: Path | None, catalogue: Catalogue, regime: str) -> Outcome:
    """Predict what the folder holds for `target`."""
    _check_names(folder(data))
    done = validate_all(target, folder(data), catalogue, regime)
    return Outcome(done, report.document(done), catalogue)


def serve(data: Path | None, catalogue: Catalogue, style: str, page: Path | None) -> list[Path]:
    """Compare servers request by request with what the folder holds, and print it; returns what was written."""
    import sys

    from simgpu.lab.validation import serving
    from simgpu.render.files import written_whole
    from simgpu.terminal import tell

    found = serving.compare(folder(data), catalogue, lambda text: tell(text, sys.stderr))
    if page is not None:
        with written_whole(page) as stream:
            stream.write(serving.page_text(found))
    serving.show(found, style, sys.stdout)
    return [] if page is None else [page]


def draw(data: Path | None, catalogue: Catalogue, style: str, page: Path | None) -> list[Path]:
    """Compare power and energy with what the folder holds, and print it; returns what was written."""
    from simgpu.lab.validation.energy import command

    return command.run(folder(data), catalogue, style, page)


def _check_names(place: Path) -> None:
    """Raise `InputError` where a folder has files but none with the name of a table."""
    found = tables_in(place)
    others = sorted(file.name for file in place.iterdir() if file.is_file())
    if others and not any(name in known() or name in NOT_PREDICTED for name in found):
        near = nearest(others[0].partition(".")[0], known())
        some = ", ".join(f"{name}.csv" for name in list(known())[:4])
        problem = f"holds no table: {shown(others[0])} is not the name of one{near}; expected names such as {some}"
        raise InputError(problem, file=place, key="data")


def write(
    outcome: Outcome, out: Path | None, page: Path | None, residuals: Path | None, plots: bool = True,
    formats: Sequence[str] = (),
) -> list[Path]:  # fmt: skip
    """Write what was asked for; returns the files."""
    texts: list[tuple[Path, str]] = []
    if page is not None:
        if outcome.done.target == "training":
            from simgpu.lab.validation.pages.training import page_text as training_text

            texts.append((page, training_text(outcome.done)))
        elif outcome.done.target == "inference":
            from simgpu.lab.validation.pages.inference import page_text as inference_text

            texts.append((page, inference_text(outcome.done)))
        else:
            from simgpu.lab.validation.pages.operators import page_text

            texts.append((page, page_text(outcome.done, outcome.catalogue)))
    if residuals is not None:
        from simgpu.lab.validation.residuals import tables

        made = tables(outcome.done, outcome.catalogue)
        texts += zip((residuals, residuals.with_name(COMPONENTS)), made, strict=True)
    written = report.write(outcome.done, outcome.document, out, plots, formats) if out is not None else []
    from simgpu.render.files import written_whole

    for file, text in texts:
        with written_whole(file) as stream:
            stream.write(text)
        written.append(file)
    return written


def show(outcome: Outcome, style: str, out: IO[str]) -> None:
    """Print the document."""
    if style == "json":
        report.print_json(outcome.document, out)
    elif style == "csv":
        print_csv(outcome.document["groups"], out, ["source"])
    else:
        report.print_report(outcome.document, out)
