"""From what a user names to what goes on the table: experiments, searches, machines to choose from, finished rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.documents import Text
from simgpu.errors import InputError
from simgpu.render.fields import PlotFields
from simgpu.review.finished import holds_claims, of_claims, of_run, of_store
from simgpu.review.given import given_of
from simgpu.review.pictures import machine_of, own_picture, words_of
from simgpu.review.subject import (
    DISTANCE,
    Picture,
    Subject,
    alike,
    answer_column,
    answer_of,
    best,
    command_line,
    distances_of,
    row_words,
)
from simgpu.study.experiment.running import Experiment, ExperimentResult, Given, find_experiment, run_experiment
from simgpu.study.experiment.shown import shown_columns
from simgpu.study.search.ranked import open_experiment

Progress = Callable[[int, int], None]

MOST_NAMED = 3
"""Models or clusters that a question without a title names."""


@dataclass(frozen=True)
class Asked:
    """What a page shall hold beside its files: settings, the column of the answer, whether to vary the inputs."""

    settings: Sequence[str] = ()
    value: str | None = None
    tornado: bool = False
    jobs: int | None = None


def subject_of(given: Given, asked: Asked, catalogue: Catalogue, progress: Progress | None = None) -> Subject:
    """What one file or name puts on the table. Raises `InputError`."""
    if isinstance(given, (str, Path)):
        file = Path(given)
        if file.suffix in (".sqlite", ".db"):
            _only_files(asked, file)
            return of_store(file, asked.value)
        if file.suffix == ".json":
            _only_files(asked, file)
            return of_run(file, asked.value)
        if holds_claims(file):
            _only_files(asked, file)
            return of_claims(file, catalogue, progress)
    experiment = open_experiment(given, asked.settings, catalogue)
    if experiment.fields.search is not None:
        return of_search(given, experiment, asked, catalogue)
    if experiment.fields.recommend is not None:
        return of_recommendation(given, experiment, asked, catalogue, progress)
    return of_experiment(given, run_experiment(experiment, catalogue, progress), asked)


def _only_files(asked: Asked, file: Path) -> None:
    """Raise `InputError` where something is asked of a finished run that only an experiment can do."""
    if asked.settings:
        raise InputError("changes an experiment; this file holds finished rows", file=file, key="--set")
    if asked.tornado:
        raise InputError(
            "varies the inputs of an experiment; this file holds finished rows", file=file, key="--tornado"
        )


# ---- experiments -------------------------------------------------------------------------------------


def of_experiment(given: Given, outcome: ExperimentResult, asked: Asked) -> Subject:
    """An experiment whose cases have run."""
    from simgpu.study.report.figures import figure_of
    from simgpu.study.report.rows import build

    fields, rows = outcome.experiment.fields, outcome.rows
    notes = build(outcome, outcome.catalogue)["notes"]
    columns = shown_columns(fields, rows)
    column = answer_column(rows, fields.plots, asked.value)
    chosen = best(rows, column)[0] if column and (asked.value or alike(rows)) else None
    pictures = [
        _picture(plot.name or f"plot{n + 1}", plot, figure_of(outcome, plot))
        for n, plot in enumerate(fields.plots) if n not in outcome.undrawn
    ]  # fmt: skip
    shown_row = chosen if chosen is not None else 0
    varied = column if column in rows[shown_row] else None
    return Subject(
        name=outcome.experiment.name, question=_question(outcome.experiment), description=fields.description,
        columns=columns, rows=rows, answer=answer_of(rows, columns, column, chosen), column=column, chosen=chosen,
        pictures=[*(pictures or own_picture(rows, columns, column)), *machine_of(outcome, shown_row)],
        inputs=given_of(outcome.results[shown_row].resolved),
        about=row_words(rows, columns, shown_row) if len(rows) > 1 else "",
        distances=[note for note in notes if note.startswith(DISTANCE)],
        notes=[note for note in notes if not note.startswith(DISTANCE)],
        change=_sensitivity(outcome.experiment, shown_row, varied, outcome.catalogue) if asked.tornado else {},
        commands=_commands("run", given, asked),
        text=_text(given, outcome.catalogue),
    )  # fmt: skip


def _commands(name: str, given: Given, asked: Asked) -> list[str]:
    """The command that gives the rows again, and the one that gives the page."""
    again = command_line("report", given, asked.settings, asked.value, asked.tornado)
    return [command_line(name, given, asked.settings), again]


def _question(experiment: Experiment) -> str:
    """The title of a file, else its name with the models and clusters that it is about."""
    if experiment.fields.title:
        return experiment.fields.title
    scenarios = [case.scenario for case in experiment.cases]
    models = dict.fromkeys(str(one.model) for one in scenarios if one.model)
    clusters = dict.fromkeys(str(one.cluster) for one in scenarios)
    words = " on ".join(" or ".join(list(names)[:MOST_NAMED]) for names in (models, clusters) if names)
    return f"{experiment.name}: {words}"


def _picture(name: str, plot: PlotFields, figure: Any) -> Picture:
    """A picture of an experiment, with its title as words for those who do not see it."""
    return Picture(name, words_of(figure, plot.title or f"{plot.kind} {name}"), figure, plot=plot)


def _sensitivity(experiment: Experiment, number: int, column: str | None, catalogue: Catalogue) -> dict[str, Any]:
    """What would change the answer: each input of the hardware a little less and a little more."""
    from simgpu.study.whatif.sensitivity import Asked as Varied
    from simgpu.study.whatif.sensitivity import sensitivities

    values = [column] if column else []
    return sensitivities(experiment, catalogue, Varied(values=values, cases=[str(number + 1)]))[0].document()


def _text(given: Given, catalogue: Catalogue) -> str:
    """The experiment as it stands in its file; '' of a plan of a search, whose file says more than it."""
    try:
        source = find_experiment(given, catalogue)
    except InputError:
        return ""
    if isinstance(source, Text):
        return source.text
    try:
        return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


# ---- answers of other studies ------------------------------------------------------------------------


def of_search(given: Given, experiment: Experiment, asked: Asked, catalogue: Catalogue) -> Subject:
    """The best plans that the search of a file finds."""
    from simgpu.study.pools.where import Where
    from simgpu.study.search import command

    found = command.search(given, asked.settings, catalogue, Where(asked.jobs), keep=False)
    rows = found.rows
    columns = [one for one in ("rank", "plan", *found.shown, "lost_by") if any(one in row for row in rows)]
    columns = list(dict.fromkeys(columns))
    usual = found.objective if rows and found.objective in rows[0] else None
    column = answer_column(rows, (), asked.value or usual)
    chosen = 0 if rows else None
    change = {}
    if asked.tornado and found.cases:
        change = _sensitivity(_alone(experiment, found.cases), 0, column, catalogue)
    return Subject(
        name=found.name, question=_question(experiment), description=experiment.fields.description,
        columns=columns, rows=rows, answer=answer_of(rows, columns, column, chosen, ranked=True), column=column,
        chosen=chosen, notes=list(found.notes), change=change,
        pictures=[_plain_picture(name, figure) for name, figure in command.figures_of(found).items()],
        distances=distances_of(rows), inputs=_resolved(found.cases, catalogue),
        about=row_words(rows, columns, 0) if len(rows) > 1 else "",
        commands=_commands("search", given, asked),
        text=_text(given, catalogue),
    )  # fmt: skip


def _alone(experiment: Experiment, cases: Sequence[Any]) -> Experiment:
    """An experiment of the first of the plans that a search found."""
    fields = experiment.fields.model_copy(update={"search": None, "plots": [], "table": [], "compare": None})
    return replace(experiment, fields=fields, cases=[cases[0]])


def _resolved(cases: Sequence[Any], catalogue: Catalogue) -> list[Any]:
    """Inputs of the first of the plans that a search found."""
    from simgpu.study.experiment.running import run_case

    return given_of(run_case(cases[0], catalogue).resolved) if cases else []


def _plain_picture(name: str, figure: Any) -> Picture:
    return Picture(name, words_of(figure, name), figure)


def of_recommendation(
    given: Given, experiment: Experiment, asked: Asked, catalogue: Catalogue, progress: Progress | None
) -> Subject:  # fmt: skip
    """Machines in order, for an experiment that asks which to take."""
    from simgpu.render.cost import ranked_figure
    from simgpu.study.choice.recommending import recommend

    if not isinstance(given, (str, Path)):
        raise InputError("asks which machine to take; expected it in a file", key="recommend")
    if asked.tornado:
        raise InputError("a recommendation says itself what would change it", key="--tornado")
    done = recommend(str(given), asked.settings, catalogue, progress)
    rows = done.rows
    column = answer_column(rows, (), asked.value or done.objective)
    figure = ranked_figure(rows, done.objective, done.against, done.title or done.name)
    return Subject(
        name=done.name, question=_question(experiment), description=experiment.fields.description,
        columns=done.shown, rows=rows, answer=answer_of(rows, done.shown, column, 0, ranked=True), column=column,
        chosen=0, notes=list(done.notes), pictures=[_plain_picture("ranked", figure)],
        distances=distances_of(done.cases),
        commands=_commands("recommend", given, asked),
        text=_text(given, catalogue),
    )  # fmt: skip
