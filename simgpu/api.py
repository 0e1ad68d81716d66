"""Short calls for notebooks and scripts. `simgpu` itself offers them: `simgpu.load_model("llama-2-70b")`.

An `experiment` is a file, the name of one of the catalogue, or what a file would say: YAML text of several lines, or
the same as a mapping, of which errors name `<experiment>` and the key.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.api_parts import (  # noqa: F401 - the calls can be imported from here too
    CATALOGUE,
    capture,
    check_known,
    import_config,
    import_machine,
    import_onnx,
    load_cluster,
    load_gpu,
    load_model,
    load_timer,
    time_collective,
    topology_of,
)
from simgpu.arguments import FLAG, MAPPING, NUMBER, PATH, TEXT, TEXTS, WHOLE, Kind, instance, some, takes
from simgpu.catalog import Catalogue
from simgpu.documents import Text
from simgpu.errors import ArgumentError, InputError, shown
from simgpu.simulation.result import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simgpu.lab.calibration.outcome import Calibrated
    from simgpu.launching.answer import Launch
    from simgpu.review.report import Report
    from simgpu.study.capacity.planning import PlannedCapacity
    from simgpu.study.choice.recommending import Recommended
    from simgpu.study.experiment.running import ExperimentResult, Given
    from simgpu.study.largest.finding import Largest
    from simgpu.study.report.capacity import Fitted
    from simgpu.study.report.explain import Explanation
    from simgpu.study.report.pictures import Drawn
    from simgpu.study.search.answer import Answer
    from simgpu.study.sweep.command import Swept
    from simgpu.study.sweep.results import Results
    from simgpu.study.whatif.difference import Chosen, Difference
    from simgpu.study.whatif.sensitivity import Sensitivity
    from simgpu.workload.inference.jobs import RuntimeName


RESULT = instance("a Result", "simgpu.simulation.result.Result")
EXPERIMENT = PATH | MAPPING | instance("a Text", "simgpu.documents.Text")
ROW = TEXT | WHOLE
PAIR = Kind("a pair of an experiment and a row", lambda value: isinstance(value, tuple) and len(value) == 2
            and EXPERIMENT.holds(value[0]) and ROW.holds(value[1]))  # fmt: skip
NAMES = TEXT | TEXTS


def _given(experiment: Given) -> Given:
    """Read a text of several lines as the contents of a file, anything else as its name."""
    return Text(experiment) if isinstance(experiment, str) and "\n" in experiment else experiment


@takes(experiment=EXPERIMENT, target=TEXT, settings=TEXT, row=ROW, catalogue=CATALOGUE)
def launch(
    experiment: Given, target: str, *settings: str, row: str | int | None = None, catalogue: Catalogue | None = None
) -> Launch:
    """Write what runs a row of an experiment with an engine, a trainer or on Kubernetes; see `simgpu launch`.

    `.command` and `.files` are text, `.rows` the flags with the keys they follow from, `.missing` what the software
    cannot do, `.check.command` the measurement and `.expected` its figures; `.write(folder)` writes all of it.
    """
    from simgpu.launching import targets

    return targets.launch(_given(experiment), target, settings, catalogue or Catalogue(), row)


@takes(machine=TEXT, settings=TEXT, finetune=TEXT, serve=TEXT | WHOLE, tokens=TEXT | WHOLE, family=TEXT,
       epoch=TEXT | NUMBER, catalogue=CATALOGUE)  # fmt: skip
def largest(
    machine: str, *settings: str, finetune: str | None = None, serve: str | int | None = None,
    tokens: str | int = 2048, family: str | None = None, epoch: str | float | None = None,
    catalogue: Catalogue | None = None,
) -> Largest:  # fmt: skip
    """Find the largest models that a machine fine-tunes or serves; see `simgpu largest`.

    `.rows` are models of the catalogue, `.best` the largest that fits, `.sizes` the largest size of a family and what
    one more option buys.

    >>> simgpu.largest("rtx-4090", finetune="qlora").best["model"]  # doctest: +SKIP
    """
    from simgpu.study.largest import command

    return command.largest(catalogue or Catalogue(), machine, finetune, serve, tokens, settings, epoch, family)


@takes(experiment=EXPERIMENT, settings=TEXT, catalogue=CATALOGUE)
def explain(experiment: Given, *settings: str, catalogue: Catalogue | None = None) -> list[Explanation]:
    """Explain where the time of an experiment's scenarios goes, operator by operator, and from which constants."""
    from simgpu.study.report.explain import explain as explained
    from simgpu.study.search.ranked import open_experiment

    known = catalogue or Catalogue()
    return explained(open_experiment(_given(experiment), settings, known), known)


@takes(target=TEXT, data=PATH, regime=TEXT, catalogue=CATALOGUE)
def validate(
    target: str = "all", data: str | Path | None = None, regime: str = "full", catalogue: Catalogue | None = None
) -> dict[str, Any]:
    """Compare predictions with the tables of `data` (default: published figures): the document of `simgpu validate`.

    `regime` 'family' leaves out constants measured on a GPU itself, 'datasheet' those of its architecture too.
    """
    from simgpu.lab.validation import command

    check_known("target", target, ("kernels", "collectives", "training", "inference", "networks", "all"))
    _check_regime(regime)
    return command.run(target, Path(data) if data is not None else None, catalogue or Catalogue(), regime).document


def _check_regime(regime: str) -> None:
    from simgpu.lab.validation.batches import DATASHEET, FAMILY, FULL

    check_known("regime", regime, (FULL, FAMILY, DATASHEET))


@takes(files=PATH, gpu=TEXT, what=TEXT, regime=TEXT, catalogue=CATALOGUE)
def calibrate(
    *files: str | Path, gpu: str | None = None, what: str = "", regime: str = "full", catalogue: Catalogue | None = None
) -> Calibrated:
    """Fit a GPU's constants to measured rows; see docs/calibration.md."""
    from simgpu.lab.calibration import command

    _check_regime(regime)
    if not files:
        raise InputError("no file of measured rows is given; expected at least one", key="files")
    known = catalogue or Catalogue()
    if gpu is not None:
        load_gpu(gpu, known)
    return command.run([Path(file) for file in files], known, gpu, what, regime, lambda _: None)


@takes(
    models=TEXT,
    gpu=NAMES,
    precision=NAMES,
    context=WHOLE,
    users=WHOLE,
    runtime=TEXT,
    kv_cache=TEXT,
    catalogue=CATALOGUE,
)
def fit(
    *models: str, gpu: Sequence[str] = (), precision: Sequence[str] = (), context: int | None = None, users: int = 1,
    runtime: RuntimeName | None = None, kv_cache: str | None = None, catalogue: Catalogue | None = None,
) -> Fitted:  # fmt: skip
    """Find how many GPUs of each kind a model needs, with how much context for how many users; see `simgpu fit`.

    Names stand in sequences, `("h100-sxm", "l4")`; `.rows` are dicts with the keys of
    `simgpu.study.report.capacity.COLUMNS`. Raises `InputError` for unknown names and for contexts that a model cannot
    take.
    """
    from simgpu.study.report import capacity as fitting

    gpus, precisions = ((one,) if isinstance(one, str) else tuple(one) for one in (gpu, precision))
    asked = fitting.CapacityQuery(gpus, precisions, context, users, runtime, kv_cache)
    return fitting.fit(catalogue or Catalogue(), models, asked)


@takes(
    experiment=EXPERIMENT, settings=TEXT, value=NAMES, case=ROW | some(ROW, "a sequence of rows"), change=NUMBER | TEXT,
    price=NUMBER, jobs=WHOLE, catalogue=CATALOGUE,
)  # fmt: skip
def sensitivity(
    experiment: Given, *settings: str, value: str | Sequence[str] = (), case: str | int | Sequence[str | int] = (),
    change: float | str = 0.1, price: float | None = None, jobs: int | None = None, catalogue: Catalogue | None = None,
) -> list[Sensitivity]:  # fmt: skip
    """Find what the results of an experiment's rows depend on, by varying each input of the hardware down and up.

    `value` names columns (default: the main one of the job), `case` rows by number or label ("all" for all),
    `change` the relative change, `price` USD per GPU-hour. It runs in `jobs` processes, by default one for each core
    where it takes longer than a moment; the answers are the same. `.rows` are dicts with the keys of `COLUMNS` of
    `simgpu.study.whatif.sensitivity`. Raises `InputError` for rows and columns that do not exist.
    """
    from simgpu.study.pools.where import Where
    from simgpu.study.search.ranked import open_experiment
    from simgpu.study.whatif import sensitivity as study

    known = catalogue or Catalogue()
    values = (value,) if isinstance(value, str) else tuple(value)
    cases = [str(one) for one in ((case,) if isinstance(case, (str, int)) else case)]
    asked = study.Asked(values, study.parse_change(change), cases, price)
    chosen = open_experiment(_given(experiment), settings, known)
    return study.sensitivities(chosen, known, asked, where=Where(jobs))


@takes(
    a=EXPERIMENT | PAIR, b=EXPERIMENT | PAIR, settings=TEXT, settings_a=TEXTS, settings_b=TEXTS, value=TEXT,
    catalogue=CATALOGUE,
)  # fmt: skip
def diff(
    a: Chosen, b: Chosen, *settings: str, settings_a: Sequence[str] = (), settings_b: Sequence[str] = (),
    value: str | None = None, catalogue: Catalogue | None = None,
) -> Difference:  # fmt: skip
    """Compare two scenarios; see `simgpu diff`.

    Each is an experiment with one row, 'FILE:ROW' with its number or label, or both as a pair: (experiment, row).
    `settings` are 'key=value' changes to both, `settings_a` and `settings_b` to one. `.inputs`, `.parts` and
    `.explained` are rows, `.verdict` says whether one is better beyond the error bars.
    """
    from simgpu.study.whatif import difference as study

    known = catalogue or Catalogue()
    a, b = ((_given(one[0]), one[1]) if isinstance(one, tuple) else _given(one) for one in (a, b))
    return study.diff(a, b, known, settings, tuple(settings_a), tuple(settings_b), value)


@takes(experiment=EXPERIMENT, settings=TEXT, min_quality=NUMBER | TEXT, catalogue=CATALOGUE)
def recommend(
    experiment: Given, *settings: str, min_quality: float | str | None = None, catalogue: Catalogue | None = None
) -> Recommended:
    """Rank the machines that the rows of an experiment are; see `simgpu recommend`.

    `settings` are 'key=value' changes to every row; of the quality in 16 bits `min_quality` must be kept, as published
    ("98 %"). `.rows` are the machines, best first, with why each loses;
    `.notes` say how sure the order is and what would change it.
    """
    from simgpu.study.choice import recommending

    return recommending.recommend(
        _given(experiment), settings, catalogue or Catalogue(), min_quality=_quality(min_quality)
    )


def _quality(given: float | str | None) -> float | None:
    """The share `min_quality`. Raises `InputError`."""
    from simgpu.operations.quantities import share_of

    return share_of(given, "min_quality", above=True) if given is not None else None


@takes(
    experiment=EXPERIMENT, settings=TEXT, users=NUMBER, think_s=NUMBER, in_flight=NUMBER, rate=NUMBER, headroom=NUMBER,
    availability=NUMBER, catalogue=CATALOGUE,
)  # fmt: skip
def plan_capacity(
    experiment: Given, *settings: str, users: float | None = None, think_s: float | None = None,
    in_flight: float | None = None, rate: float | None = None, headroom: float = 0.8, availability: float = 0.0,
    catalogue: Catalogue | None = None,
) -> PlannedCapacity:  # fmt: skip
    """Plan replicas, GPUs, nodes, kW and USD a month of each server of an experiment; see `simgpu plan-capacity`.

    The load is `users` with `think_s` (s of a user between an answer and the next request), `in_flight` requests, or a
    `rate` of requests a second. `headroom` is the share of a replica's largest load to plan with, `availability` the
    share of the time that enough replicas are up. Failure rates, PUE and prices are those of each row's scenario.
    """
    from simgpu.operations.capacity import Demand
    from simgpu.study.capacity import planning

    for key, value in (("users", users), ("think_s", think_s), ("in_flight", in_flight), ("rate", rate)):
        if value is not None and not 0 <= value < float("inf"):
            raise ArgumentError(f"{value:g} is out of range; expected 0 or more", key=key)
    for key, value in (("headroom", headroom), ("availability", availability)):
        if not 0 <= value <= 1 or (key == "headroom" and value == 0):
            raise ArgumentError(f"{value:g} is out of range; expected a share of at most 1", key=key)
    asked = planning.CapacityAsked(Demand(users, think_s, in_flight, rate), headroom, availability)
    return planning.plan_capacity(_given(experiment), settings, catalogue or Catalogue(), asked)


@takes(experiment=EXPERIMENT, settings=TEXT, catalogue=CATALOGUE)
def run_experiment(experiment: Given, *settings: str, catalogue: Catalogue | None = None) -> ExperimentResult:
    """Run an experiment; `settings` are 'key=value' changes. `.rows` are dicts, `simgpu.figures` draws its plots."""
    from simgpu.study.experiment import running as study
    from simgpu.study.search.ranked import open_experiment

    known = catalogue or Catalogue()
    return study.run_experiment(open_experiment(_given(experiment), settings, known), known)


@takes(
    experiment=EXPERIMENT, settings=TEXT, store=PATH, jobs=WHOLE, limit=WHOLE, retry_failed=FLAG, scheduler=TEXT,
    dask_workers=WHOLE, catalogue=CATALOGUE,
)  # fmt: skip
def sweep(
    experiment: Given, *settings: str, store: str | Path | None = None, jobs: int | None = None,
    limit: int | None = None, retry_failed: bool = False, scheduler: str | None = None,
    dask_workers: int | None = None, catalogue: Catalogue | None = None,
) -> Swept:  # fmt: skip
    """Run the scenarios of an experiment that the store lacks and store their rows; see `simgpu sweep`.

    `store` is a file; without it, and without $SIMGPU_STORE, nothing is kept and every scenario runs.
    `.rows` are those that succeeded, `.failed` the others with their reasons, `.to_pandas()` is a DataFrame. Raises
    `InputError`, and `KeyboardInterrupt` after Ctrl-C: what was finished is kept, and the same call goes on.
    """
    from simgpu.study.experiment.running import find_experiment
    from simgpu.study.pools.where import Where
    from simgpu.study.sweep import command
    from simgpu.study.sweep.store import kept_in

    known = catalogue or Catalogue()
    with kept_in(store) as kept:
        asked = command.SweepOptions(kept, Where(jobs, scheduler, dask_workers), limit, retry_failed)
        done = command.run(find_experiment(_given(experiment), known), settings, known, asked)
    if done.interrupted:
        raise KeyboardInterrupt
    return done


@takes(
    experiment=EXPERIMENT, settings=TEXT, jobs=WHOLE, top=WHOLE, store=PATH, scheduler=TEXT, dask_workers=WHOLE,
    min_quality=NUMBER | TEXT, catalogue=CATALOGUE,
)  # fmt: skip
def search(
    experiment: Given, *settings: str, jobs: int | None = None, top: int | None = None, store: str | Path | None = None,
    scheduler: str | None = None, dask_workers: int | None = None, min_quality: float | str | None = None,
    catalogue: Catalogue | None = None,
) -> Answer:  # fmt: skip
    """Find the best plans that the `search:` section of an experiment asks for; see `simgpu search`.

    `.rows` are the best, best first, `.front` the best for each budget, `.every` all that was simulated. Training plans
    that were simulated are kept where `store` or $SIMGPU_STORE says. `min_quality` as in `recommend`. Raises
    `InputError`.
    """
    from simgpu.study.pools.where import Where
    from simgpu.study.search import command
    from simgpu.study.sweep.store import VARIABLE

    given, kept = _given(experiment), Path(store) if store is not None else None
    keep = kept is not None or bool(os.environ.get(VARIABLE))
    work, wish = Where(jobs, scheduler, dask_workers), command.Wish(top, _quality(min_quality))
    return command.search(given, settings, catalogue or Catalogue(), work, wish, kept, keep=keep)


@takes(store=PATH, experiment=TEXT, where=TEXT, status=TEXT, sort=TEXT, limit=WHOLE)
def results(
    store: str | Path | None = None, experiment: str | None = None, where: str | None = None, status: str = "ok",
    sort: str | None = None, limit: int | None = None,
) -> Results:  # fmt: skip
    """Load the rows that sweeps stored: `simgpu.results(where="mfu > 0.4").to_pandas()`; see `simgpu results`."""
    from simgpu.study.sweep import results as study

    return study.results(store, study.ResultsQuery(experiment, where, status, sort, limit))


def figures(answer: Drawn) -> dict[str, Figure]:
    """Draw the matplotlib figures of an answer, by name; in a notebook the last line of a cell shows one.

    An experiment has the plots that its file asks for, a sweep those of them that need rows alone. A search has
    `front`, and for training `best`; sensitivities have `tornado` (several: `tornado-1` and so on); `fit` has the heat
    map `fit`; a single simulation has `timeline` and, where they exist, `memory`, `step` and `pipeline`.
    """
    from simgpu.study.report.pictures import pictures

    return pictures(answer)


@takes(
    given=EXPERIMENT, settings=TEXTS, out=PATH, value=TEXT, tornado=FLAG, markdown=FLAG, pdf=FLAG, slide=PATH,
    catalogue=CATALOGUE,
)  # fmt: skip
def report(
    *given: Given, settings: Sequence[str] = (), out: str | Path | None = None, value: str | None = None,
    tornado: bool = False, markdown: bool = False, pdf: bool = False, slide: str | Path | None = None,
    catalogue: Catalogue | None = None,
) -> Report:  # fmt: skip
    """Put experiments, searches, finished runs, stores or claims on one page; see `simgpu report`.

    `.html` is the page, `.answers` its sentences. Without `out` and `slide` nothing is written. Raises `InputError`.
    """
    from simgpu.review import report as review

    asked, wanted = review.asked_for(settings, out, value, tornado, markdown, pdf, slide)
    return review.report(list(map(_given, given)), asked, catalogue or Catalogue(), wanted)


@takes(result=RESULT, file=PATH)
def save_trace(result: Result, file: str | Path) -> Path:
    """Write the timeline as a trace that opens in the Perfetto UI (ui.perfetto.dev) or chrome://tracing."""
    from simgpu.render.trace import write_trace

    return write_trace(result.execution, Path(file), result.board)


@takes(result=RESULT, file=PATH, title=TEXT, window=some(NUMBER, "a start and an end in seconds"), ranks=WHOLE)
def plot_timeline(
    result: Result, file: str | Path | None = None, title: str = "", window: tuple[float, float] | None = None,
    ranks: int | None = None,
) -> Figure:  # fmt: skip
    """Draw the timeline as a matplotlib figure, one row for each stream; written to `file` if given.

    `window` is a start and a later end in seconds, by default the whole step, or as much of its start as can be told
    apart. `ranks` is how many of the first ranks are drawn, 16 at most; by default one, which ends last. Raises
    `InputError` for others.
    """
    if window is not None and not (len(window) == 2 and 0 <= window[0] < window[1] < float("inf")):
        raise InputError(f"{shown(list(window))} is not a start and a later end, in seconds", key="window")
    if ranks is not None and ranks < 1:
        raise InputError(f"{ranks} is not a number of ranks, at least 1", key="ranks")
    from simgpu.render.files import save
    from simgpu.render.timeline import timeline_figure

    figure = timeline_figure(result.execution, title, window, ranks, result.row)
    if file is not None:
        save(figure, Path(file))
    return figure
