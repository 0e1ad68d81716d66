"""`simgpu search`: from a file to the table, the data and the pictures."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.columns import cost_column, unit
from simgpu.documents import Document, Source
from simgpu.errors import InputError, shown
from simgpu.operations.fitting import MISFIT, fits
from simgpu.operations.money import priced
from simgpu.operations.power.site import site_columns
from simgpu.operations.quality import LIMIT
from simgpu.render.data import print_csv
from simgpu.render.files import written_whole
from simgpu.scenario import Origins, Place
from simgpu.study.experiment.loading import Case, rewritten
from simgpu.study.experiment.running import Experiment, Given, find_experiment, load_experiment
from simgpu.study.pools.where import HERE, Where
from simgpu.study.search.answer import Answer, nothing_within, serving_answer, serving_words, training_answer, words_of
from simgpu.study.search.keeping import Keeper
from simgpu.study.search.problem import Problem
from simgpu.study.search.searching import Progress, Search, Searched
from simgpu.study.search.serving import ServingProblem, search_serving
from simgpu.study.search.together import together
from simgpu.study.search.workers import SearchInputs, Workers, asked_hour, by_cost
from simgpu.study.sweep.store import Store, store_file
from simgpu.tree import leaves
from simgpu.workload.jobs import Inference, Serving, Traffic, Training

Tell = Callable[[Progress], None]

LOADS = ("batch", "micro_batch", "concurrency", "prompt", "output", "context")
"""Counts that tell plans of one kind apart, beside their degrees."""


@dataclass(frozen=True)
class Wish:
    """What is asked beside the file: how many plans to list, the share of the quality in 16 bits that is kept."""

    top: int | None = None
    min_quality: float | None = None


def search(
    file: Given, settings: Sequence[str], catalogue: Catalogue, work: Where = HERE, top: int | Wish | None = None,
    store: Path | None = None, tell: Tell = lambda _: None, keep: bool = True,
) -> Answer:  # fmt: skip
    """Find the best plans that a file asks for.

    Training plans that were simulated are kept in `store` unless `keep` is false (stored ones are used all the same).
    Raises `InputError`. Ctrl-C ends it with what is known (`complete` of the answer is false).
    """
    place = find_experiment(file, catalogue)
    experiment = load_experiment(place, settings, catalogue)
    _check(experiment)
    fields = experiment.fields.search
    assert fields is not None
    wish = top if isinstance(top, Wish) else Wish(top)
    top = wish.top
    if wish.min_quality is not None:
        fields = fields.model_copy(update={"limits": {**fields.limits, LIMIT: wish.min_quality}})
    if top is not None:
        if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= 1000:
            raise InputError(f"{shown(top)} is not a whole number from 1 to 1000", key="top")
        fields = fields.model_copy(update={"top": top})
    folders = tuple(str(folder) for folder in catalogue.folders[:-1])
    planned = [(case, inputs := SearchInputs(case.scenario, fields, folders), _problem(inputs, case, experiment))
               for case in experiment.cases]  # fmt: skip
    if len(planned) == 1:
        where = StorePlace(place, experiment.name, store, keep)
        return _search(experiment, *planned[0][1:], catalogue, work, where, tell)
    answers, refused = [], []
    for case, inputs, problem in planned:  # every cluster was looked at before the first search
        cluster = case.scenario.cluster
        where = StorePlace(place, f"{experiment.name} on {cluster}", store, keep)
        try:
            ranked = _search(replace(experiment, cases=[case]), inputs, problem, catalogue, work, where, tell)
        except InputError as error:  # nothing fits there: others may hold it
            refused.append((cluster, error))
            continue
        answers.append(replace(ranked, notes=[f"{cluster}: {note}" for note in ranked.notes]))
        if not ranked.complete:
            break
    if not answers:
        raise refused[0][1]
    some = next((row for ranked in answers for row in ranked.every), None)
    cheapest = some is not None and by_cost(fields, experiment.cases[0].scenario)
    column = (cost_column(some) if some is not None and cheapest else None) or answers[0].objective
    answer = together(answers, fields.top, column)
    return replace(answer, notes=[*answer.notes, *(f"{cluster}: {error.problem}" for cluster, error in refused)])


@dataclass(frozen=True)
class StorePlace:
    """The place where simulated plans are stored: the experiment's file, its name, the store."""

    file: Source
    name: str
    store: Path | None
    keep: bool


def _problem(inputs: SearchInputs, case: Case, experiment: Experiment) -> Problem | ServingProblem:
    try:
        return inputs.problem()
    except InputError as error:
        raise _placed(error, experiment.document, case.origins) from None


def _search(
    experiment: Experiment, inputs: SearchInputs, problem: Problem | ServingProblem, catalogue: Catalogue, work: Where,
    where: StorePlace, tell: Tell,
) -> Answer:  # fmt: skip
    """Run the search that starts from the only case of an experiment."""
    workers = Workers(inputs, problem, work)
    before = signal.getsignal(signal.SIGINT)
    try:
        if isinstance(problem, Problem):
            with _kept(store_file(where.store), where.keep) as kept:
                keeper = Keeper(kept, catalogue, where.name, where.file, writes=where.keep)
                answer = _training(problem, experiment, inputs, workers, tell, keeper)
        else:
            answer = _serving(problem, experiment, workers, tell)
        return operated(replace(answer, cases=_cases(answer, experiment)), problem, inputs, catalogue)
    except InputError as error:
        raise _placed(error, experiment.document, experiment.cases[0].origins) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        workers.close()


def operated(
    answer: Answer, problem: Problem | ServingProblem, inputs: SearchInputs, catalogue: Catalogue
) -> Answer:  # fmt: skip
    """The same answer with what its plans cost and draw at their site."""
    if not answer.every:
        return answer
    price, words = asked_hour(inputs.search, inputs.scenario, problem.cluster, catalogue)
    site = inputs.scenario.power

    def whole(row: Mapping[str, Any]) -> dict[str, Any]:
        used = words if fits(row) else MISFIT
        return {**priced(row, price), "price_used": used, **site_columns(site, row, problem.cluster)}

    rows, front, every = ([whole(row) for row in some] for some in (answer.rows, answer.front, answer.every))
    answer = replace(answer, rows=rows, front=front, every=every)
    answer = replace(answer, notes=[*answer.notes, f"Price: {words}."])
    cost = cost_column(every[0])
    if cost is None:
        return answer
    shown, front_shown = (
        [*names[:2], *([] if cost in names else [cost]), *names[2:]]
        for names in (list(answer.shown), list(answer.front_shown))
    )
    return replace(answer, shown=shown, front_shown=front_shown)


def _cases(answer: Answer, experiment: Experiment) -> list[Case]:
    """The scenarios of an answer's rows as cases; values that the search chose have it as their origin."""
    (start,) = experiment.cases
    before = dict(leaves(start.scenario.model_dump()))
    cases = []
    for row, scenario in zip(answer.rows, answer.scenarios, strict=True):
        place = Place(f"search of {experiment.document.file}, plan {row['rank']}")
        chosen = [
            (path, value, place)
            for path, value in leaves(scenario.model_dump())
            if path[0] in ("plan", "workload") and before.get(path) != value
        ]
        cases.append(rewritten(start, chosen, {"plan": row["plan"]}))
    return cases


@contextmanager
def _kept(file: Path, keep: bool) -> Iterator[Store | None]:
    """The store of a search; one that stays empty is removed with its folders.

    With nothing to `keep` none is made.
    """
    if not keep:
        if not file.exists():
            yield None
            return
        with Store(file, create=False) as store:
            yield store
        return
    missing = [place for place in (file, *file.parents) if not place.exists()]
    empty = False
    try:
        with Store(file) as store:
            try:
                yield store
            finally:
                empty = bool(missing) and not store.scenario("")
    finally:
        if empty:
            with suppress(OSError):  # another search may have come in between
                file.unlink()
                for folder in missing[1:]:
                    folder.rmdir()


def _training(
    problem: Problem, experiment: Experiment, inputs: SearchInputs, workers: Workers, tell: Tell, keeper: Keeper
) -> Answer:
    if not problem.groups():
        raise experiment.document.error(problem.nothing(), ("search",))
    searched = Search(problem, workers, tell, keeper).run()
    free = _without_limits(inputs, workers.where, tell, keeper) if searched.complete and not searched.within else None
    if free is not None and not free.simulated:
        raise experiment.document.error(problem.why_none(searched.progress.plans), ("search",))
    named = [(problem.scenario_of(run.plan), {"plan": words_of(run.plan)}) for run in searched.simulated]
    keeper.members(named, experiment.settings)
    answer = training_answer(experiment.name, experiment.fields.title, problem, searched)
    if free is not None and free.complete:
        answer = nothing_within(answer, problem, free)
    return replace(answer, formats=experiment.fields.formats)


def _without_limits(inputs: SearchInputs, work: Where, tell: Tell, keeper: Keeper) -> Searched:
    """The best plan without regard to limits."""
    fields = inputs.search.model_copy(update={"limits": {}, "top": 1, "front": False})
    free = replace(inputs, search=fields)
    problem = free.problem()
    assert isinstance(problem, Problem)
    workers = Workers(free, problem, work)
    try:
        return Search(problem, workers, tell, keeper).run()
    finally:
        workers.close()


def _serving(problem: ServingProblem, experiment: Experiment, workers: Workers, tell: Tell) -> Answer:
    progress = Progress(0, doing="simulating")

    def count(done: int, of: int) -> None:
        progress.groups, progress.done, progress.simulated = of, done, done
        tell(progress)

    served = search_serving(problem, workers, count)
    if not served.plans:
        raise experiment.document.error("no plan in the search space splits the model over the GPUs", ("search",))
    if served.complete and not served.every and served.refused:
        reason, times = next(iter(served.refused.items()))
        raise experiment.document.error(f"no plan in the search space can be run ({times:,} x: {reason})", ("search",))
    answer = serving_answer(experiment.name, experiment.fields.title, problem, served)
    return replace(answer, formats=experiment.fields.formats)


def _check(experiment: Experiment) -> None:
    """Raise `InputError` unless a file asks for a search from one scenario, or from one that only clusters vary."""
    fields, document = experiment.fields, experiment.document
    if fields.search is None:
        raise document.error("has no section 'search:', which says what to search (docs/search.md)", ())
    case = experiment.cases[0]
    if len({one.scenario.model_dump_json(exclude={"cluster"}) for one in experiment.cases}) > 1:
        problem = f"{len(experiment.cases)} scenarios; a search starts from one, or from one on several clusters"
        raise document.error(problem, ("vary",) if fields.vary else ("cases",))
    if not isinstance(case.scenario.workload, (Training, Inference, Serving, Traffic)):
        problem = (
            f"'{case.scenario.workload.kind}' has no plans to search; expected training, inference, serving or traffic"
        )
        raise case.origins.error(problem, ("workload", "kind"))


def _placed(error: InputError, document: Document, origins: Origins) -> InputError:
    """The error of a search at its place in the file; an error of the scenario where that value was written."""
    if error.file or not error.key:
        return error
    path = tuple(int(part) if part.isdigit() else part for part in error.key.split("."))
    if path[0] != "search":
        return origins.error(error.problem, tuple(map(str, path)))
    if path[1:2] == ("space",):
        path = ("search", "space", error.key.removeprefix("search.space."))
    return document.error(error.problem, path)


def show(answer: Answer, style: str, out: IO[str]) -> None:
    """Print the best plans, the front and how they were found; or all of it as JSON, or the rows as CSV."""
    if style == "json":
        out.write(json.dumps(answer.document(), indent=1, allow_nan=False) + "\n")
        return
    if style == "csv":
        print_csv(answer.rows, out)
        return
    from simgpu.render.table import print_notes, print_table

    if answer.rows:
        print_table(answer.rows, answer.shown, answer.title, [], out)
    if len(answer.front) > 1:
        print_table(answer.front, answer.front_shown, answer.front_title, [], out)
    print_notes(answer.notes, out)


def write(answer: Answer, folder: Path, plots: bool = True, formats: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """Write data and pictures, in `formats` or those of the file; returns the files."""
    figures = figures_of(answer) if plots else {}
    written = []
    with written_whole(folder / "search.json") as stream:
        show(answer, "json", stream)
    with written_whole(folder / "simulated.csv") as stream:
        print_csv(answer.every, stream)
    written += [("data", folder / "search.json"), ("data", folder / "simulated.csv")]
    if figures:
        from simgpu.render.files import save

        kinds = dict.fromkeys(formats or answer.formats)
        for name, figure in figures.items():
            written += [("plot", file) for file in save(figure, *(folder / f"{name}.{kind}" for kind in kinds))]
    return written


def _load(row: Mapping[str, Any], answer: Answer) -> str:
    """The load of a plan of inference, where several were tried: ', 64 clients'."""
    varied = [key for key in LOADS if key in answer.shown and len({one.get(key) for one in answer.every}) > 1]
    return "".join(f", {row[key]:,} {unit(key)}" for key in varied)


def figures_of(answer: Answer) -> dict[str, Any]:
    """Figures of an answer: the front with the best plan marked; of training also the parts of the best steps.

    An answer without plans has none.
    """
    if not answer.rows:
        return {}
    from simgpu.render.pareto import pareto_figure
    from simgpu.render.stack import stack_figure

    x, y = answer.axes
    training = "bubble_s" in answer.rows[0]
    rows = (
        answer.front if training else [{**row, "plan": serving_words(row) + _load(row, answer)} for row in answer.every]
    )
    series = "cluster" if len({row["cluster"] for row in rows}) > 1 else None
    drawn: dict[str, Any] = {"heading": answer.front_heading, "series": series, "label": "plan"}
    if not training:
        best = answer.rows[0]
        drawn["chosen"] = next(i for i, row in enumerate(answer.every) if all(row[key] == best[key] for key in row))
        return {"front": pareto_figure(rows, x, y, **drawn)}
    figures = {}
    if len(rows) > 1:  # the best of each budget: what else was simulated is no front
        fastest = rows.index(min(rows, key=lambda row: row[y]))
        figures["front"] = pareto_figure(rows, x, y, chosen=fastest if series else len(rows) - 1, **drawn)
    many = len({row["gpus"] for row in answer.rows}) > 1
    names = [f"{row['rank']}. {row['plan']}" + (f", {row['gpus']:,} GPUs" if many else "") for row in answer.rows]
    figures["best"] = stack_figure(dict(zip(names, answer.rows, strict=True)), [], answer.heading)
    return figures
