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
from simgpu.columns import unit
from simgpu.documents import Document, Source
from simgpu.errors import InputError, shown
from simgpu.render.data import print_csv
from simgpu.render.files import written_whole
from simgpu.scenario import Origins, Place
from simgpu.study.experiment.answers import cost_column, priced
from simgpu.study.experiment.loading import Case, rewritten
from simgpu.study.experiment.running import Experiment, Given, find_experiment, load_experiment
from simgpu.study.pools.where import HERE, Where
from simgpu.study.search.answer import Answer, nothing_within, serving_answer, serving_words, training_answer, words_of
from simgpu.study.search.keeping import Keeper
from simgpu.study.search.problem import Problem
from simgpu.study.search.searching import Progress, Search, Searched
from simgpu.study.search.serving import ServingProblem, search_serving
from simgpu.study.search.together import together
from simgpu.study.search.workers import Asked, Workers
from simgpu.study.sweep.store import Store, store_file
from simgpu.tree import leaves
from simgpu.workload.jobs import Inference, Serving, Training

Tell = Callable[[Progress], None]

LOADS = ("batch", "micro_batch", "concurrency", "prompt", "output", "context")
"""Counts that tell plans of one kind apart, beside their degrees."""


def search(
    file: Given, settings: Sequence[str], catalogue: Catalogue, work: Where = HERE, top: int | None = None,
    store: Path | None = None, tell: Tell = lambda _: None, keep: bool = True,
) -> Answer:  # fmt: skip
    """Find the best plans that a file asks for.

    Training plans that were simulated are kept in `store` unless `keep` is false (stored ones are used all the same).
    Raises `InputError`. Ctrl-C ends it with what is known (`whole` of the answer is false).
    """
    place = find_experiment(file, catalogue)
    experiment = load_experiment(place, settings, catalogue)
    _check(experiment)
    fields = experiment.fields.search
    assert fields is not None
    if top is not None:
        if not isinstance(top, int) or isinstance(top, bool) or not 1 <= top <= 1000:
            raise InputError(f"{shown(top)} is not a whole number from 1 to 1000", key="top")
        fields = fields.model_copy(update={"top": top})
    folders = tuple(str(folder) for folder in catalogue.folders[:-1])
    planned = [(case, asked := Asked(case.scenario, fields, folders), _problem(asked, case, experiment))
               for case in experiment.cases]  # fmt: skip
    if len(planned) == 1:
        where = Kept(place, experiment.name, store, keep)
        return _search(experiment, *planned[0][1:], catalogue, work, where, tell)
    found, refused = [], []
    for case, asked, problem in planned:  # every cluster was looked at before the first search
        cluster = case.scenario.cluster
        where = Kept(place, f"{experiment.name} on {cluster}", store, keep)
        try:
            one = _search(replace(experiment, cases=[case]), asked, problem, catalogue, work, where, tell)
        except InputError as error:  # nothing fits there: others may hold it
            refused.append((cluster, error))
            continue
        found.append(replace(one, notes=[f"{cluster}: {note}" for note in one.notes]))
        if not one.whole:
            break
    if not found:
        raise refused[0][1]
    some = next((row for one in found for row in one.every), None)
    by_cost = fields.price is not None and fields.objective is None
    answer = together(found, fields.top, cost_column(some) if by_cost and some else found[0].objective)
    return replace(answer, notes=[*answer.notes, *(f"{cluster}: {error.problem}" for cluster, error in refused)])


@dataclass(frozen=True)
class Kept:
    """The place where simulated plans are stored: the experiment's file, its name, the store."""

    file: Source
    name: str
    store: Path | None
    keep: bool


def _problem(asked: Asked, case: Case, experiment: Experiment) -> Problem | ServingProblem:
    try:
        return asked.problem()
    except InputError as error:
        raise _placed(error, experiment.document, case.origins) from None


def _search(
    experiment: Experiment, asked: Asked, problem: Problem | ServingProblem, catalogue: Catalogue, work: Where,
    where: Kept, tell: Tell,
) -> Answer:  # fmt: skip
    """Run the search that starts from the only case of an experiment."""
    workers = Workers(asked, problem, work)
    before = signal.getsignal(signal.SIGINT)
    try:
        if isinstance(problem, Problem):
            with _kept(store_file(where.store), where.keep) as kept:
                keeper = Keeper(kept, catalogue, where.name, where.file, writes=where.keep)
                answer = _training(problem, experiment, asked, workers, tell, keeper)
        else:
            answer = _serving(problem, experiment, workers, tell)
        price = problem.search.price_on(problem.scenario.cluster)
        return with_price(replace(answer, cases=_cases(answer, experiment)), price)
    except InputError as error:
        raise _placed(error, experiment.document, experiment.cases[0].origins) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        workers.close()


def with_price(answer: Answer, price: float | None) -> Answer:
    """The same answer with the costs of its plans at `price` USD per GPU-hour."""
    if price is None or not answer.every:
        return answer
    rows, front, every = (
        [dict(priced(row, price)) for row in some] for some in (answer.rows, answer.front, answer.every)
    )
    cost = cost_column(every[0])
    shown, front_shown = ([*names[:2], cost, *names[2:]] for names in (list(answer.shown), list(answer.front_shown)))
    return replace(answer, rows=rows, front=front, every=every, shown=shown, front_shown=front_shown)


def _cases(answer: Answer, experiment: Experiment) -> list[Case]:
    """The scenarios of an answer's rows as cases; values that the search chose have it as their origin."""
    (start,) = experiment.cases
    before = dict(leaves(start.scenario.model_dump()))
    found = []
    for row, scenario in zip(answer.rows, answer.scenarios, strict=True):
        place = Place(f"search of {experiment.document.file}, plan {row['rank']}")
        chosen = [
            (path, value, place)
            for path, value in leaves(scenario.model_dump())
            if path[0] in ("plan", "workload") and before.get(path) != value
        ]
        found.append(rewritten(start, chosen, {"plan": row["plan"]}))
    return found


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
    made = [place for place in (file, *file.parents) if not place.exists()]
    empty = False
    try:
        with Store(file) as store:
            try:
                yield store
            finally:
                empty = bool(made) and not store.scenario("")
    finally:
        if empty:
            with suppress(OSError):  # another search may have come in between
                file.unlink()
                for folder in made[1:]:
                    folder.rmdir()


def _training(
    problem: Problem, experiment: Experiment, asked: Asked, workers: Workers, tell: Tell, keeper: Keeper
) -> Answer:
    if not problem.groups():
        raise experiment.document.error(problem.nothing(), ("search",))
    found = Search(problem, workers, tell, keeper).run()
    free = _without_limits(asked, workers.where, tell, keeper) if found.whole and not found.within else None
    if free is not None and not free.simulated:
        raise experiment.document.error(problem.why_none(found.progress.plans), ("search",))
    named = [(problem.scenario_of(run.plan), {"plan": words_of(run.plan)}) for run in found.simulated]
    keeper.members(named, experiment.settings)
    answer = training_answer(experiment.name, experiment.fields.title, problem, found)
    if free is not None and free.whole:
        answer = nothing_within(answer, problem, free)
    return replace(answer, formats=experiment.fields.formats)


def _without_limits(asked: Asked, work: Where, tell: Tell, keeper: Keeper) -> Searched:
    """The best plan without regard to limits."""
    fields = asked.search.model_copy(update={"limits": {}, "top": 1, "front": False})
    free = replace(asked, search=fields)
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

    found = search_serving(problem, workers, count)
    if not found.plans:
        raise experiment.document.error("no plan of the space splits the model over the GPUs", ("search",))
    if found.whole and not found.every and found.refused:
        reason, times = next(iter(found.refused.items()))
        raise experiment.document.error(f"nothing of the space can be run ({times:,} x: {reason})", ("search",))
    answer = serving_answer(experiment.name, experiment.fields.title, problem, found)
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
    if not isinstance(case.scenario.workload, (Training, Inference, Serving)):
        problem = f"'{case.scenario.workload.kind}' has no plans to search; expected training, inference or serving"
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
    found = {}
    if len(rows) > 1:  # the best of each budget: what else was simulated is no front
        fastest = rows.index(min(rows, key=lambda row: row[y]))
        found["front"] = pareto_figure(rows, x, y, chosen=fastest if series else len(rows) - 1, **drawn)
    many = len({row["gpus"] for row in answer.rows}) > 1
    names = [f"{row['rank']}. {row['plan']}" + (f", {row['gpus']:,} GPUs" if many else "") for row in answer.rows]
    found["best"] = stack_figure(dict(zip(names, answer.rows, strict=True)), [], answer.heading)
    return found
