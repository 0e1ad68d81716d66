"""`simgpu sensitivity`: from a file to the sensitivities of its rows, on the screen and on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.render.data import print_csv, print_json
from simgpu.render.fields import PlotFields, rows_of
from simgpu.render.files import written_whole
from simgpu.render.notes import settings_notes
from simgpu.study.experiment.running import Experiment, ExperimentResult
from simgpu.study.pools.where import Where
from simgpu.study.search.ranked import open_experiment
from simgpu.study.whatif.sensitivity import ALONE, Asked, Progress, Sensitivity, document, sensitivities


def run(
    file: str,
    settings: Sequence[str],
    catalogue: Catalogue,
    query: Asked,
    progress: Progress | None = None,
    where: Where = ALONE,
) -> tuple[Experiment, list[Sensitivity]]:
    """Load an experiment and find the inputs that its rows depend on. Raises `InputError`."""
    experiment = open_experiment(file, settings, catalogue)
    return experiment, sensitivities(experiment, catalogue, query, progress, where)


def show(experiment: Experiment, answers: Sequence[Sensitivity], style: str, out: IO[str]) -> None:
    """Print tables, or everything as JSON, or all rows as CSV."""
    if style == "json":
        print_json(document(experiment, answers), out)
    elif style == "csv":
        print_csv([row for one in answers for row in one.rows], out)
    else:
        from simgpu.render.sensitivity import print_sensitivity
        from simgpu.render.table import print_notes

        for one in answers:
            print_sensitivity(one.document(), out)
        print_notes(settings_notes(experiment.settings), out)


def write(
    experiment: Experiment,
    answers: Sequence[Sensitivity],
    folder: Path,
    plots: bool = True,
    formats: Sequence[str] = (),
) -> list[tuple[str, Path]]:
    """Write data and a tornado for each answer into `folder`; returns the files. Figures are built first.

    `formats` of the pictures are by default those of the file.
    """
    figures = figures_of(answers) if plots else {}
    with written_whole(folder / "sensitivity.json") as stream:
        print_json(document(experiment, answers), stream)
    with written_whole(folder / "sensitivity.csv") as stream:
        print_csv([row for one in answers for row in one.rows], stream)
    written = [("data", folder / "sensitivity.json"), ("data", folder / "sensitivity.csv")]
    if figures:
        from simgpu.render.files import save
    kinds = dict.fromkeys(formats or experiment.fields.formats)
    for name, figure in figures.items():
        written += [("plot", file) for file in save(figure, *(folder / f"{name}.{kind}" for kind in kinds))]
    return written


def figures_of(answers: Sequence[Sensitivity]) -> dict[str, Any]:
    """A tornado for each answer, by the names of their files."""
    names = ["tornado"] if len(answers) == 1 else [f"tornado-{n}" for n in range(1, len(answers) + 1)]
    return {name: figure_of([one]) for name, one in zip(names, answers, strict=True)}


def plotted(
    outcome: ExperimentResult, plot: PlotFields, names: Sequence[str], catalogue: Catalogue, heading: str
) -> Any:
    """The tornado that a plot of an experiment file asks for: a panel for each of its rows, called by `names`."""
    wanted = rows_of(outcome.rows, plot)
    numbers = [n for n, row in enumerate(outcome.rows) if any(row == one for one in wanted)]
    query = Asked(values=plot.y, cases=[str(n + 1) for n in numbers])
    answers = sensitivities(outcome.experiment, catalogue, query)
    return figure_of([replace(one, name=names[n]) for n, one in zip(numbers, answers, strict=True)], heading)


def figure_of(answers: Sequence[Sensitivity], heading: str = "") -> Any:
    """A tornado figure with a panel for each answer."""
    from simgpu.render.sensitivity import tornado_heading, tornado_of
    from simgpu.render.tornado import tornado_figure

    documents = [one.document() for one in answers]
    return tornado_figure(
        [tornado_of(one) for one in documents], answers[0].change, tornado_heading(documents, heading)
    )
