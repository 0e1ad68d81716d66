"""What `simgpu recommend` does: the rows of an experiment file are machines; it ranks them and says why."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.columns import better, cost_column
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.derive import base_name
from simgpu.operations.choice import (
    Candidate,
    break_even_price,
    pareto,
    probability_better,
    ranked,
    utilisation_to_win,
    why_it_loses,
)
from simgpu.operations.draw import power_of
from simgpu.operations.fitting import fits
from simgpu.operations.quality import COLUMN, LIMIT, quality_notes
from simgpu.plan.memory import GIB
from simgpu.render.columns import cell, title
from simgpu.render.notes import price_notes
from simgpu.scenario import Place, resolve_cluster
from simgpu.study.choice.limits import Limit, limits_of
from simgpu.study.experiment.answers import natural
from simgpu.study.experiment.loading import Case, rewritten
from simgpu.study.experiment.recommend_fields import RecommendFields
from simgpu.study.experiment.running import Experiment, Given, find_experiment, load_experiment, run_case
from simgpu.study.experiment.selection import case_names
from simgpu.tabular import Tabular

MOST_SAID = 6
"""Machines of which is said what would let them win."""

TIMES = ("tpot_s", "ttft_s", "training_days_with_failures", "training_days", "step_s")
"""Times that stand beside a cost, the first that all machines have."""


@dataclass(frozen=True, repr=False)
class Recommended(Tabular):
    """Machines in order, with reasons; notes say how sure the order is and what would change it."""

    name: str
    title: str
    objective: str
    against: str
    found: Sequence[dict[str, Any]]
    notes: Sequence[str]
    cases: Sequence[Mapping[str, Any]]

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """A row for each machine, best first."""
        return self.found

    @property
    def shown(self) -> list[str]:
        """Columns of the table."""
        names = ["rank", "machine", "gpus", self.objective, self.against, "usd_per_gpu_hour", "power_kw"]
        names += [
            "kwh_per_run",
            "kwh_per_million_output_tokens",
            "training_goodput",
            *([COLUMN] if len({row.get("precision") for row in self.found}) > 1 else []),
            "memory_fits",
            "front",
            "sure",
            "why",
        ]
        return [name for name in names if any(row.get(name) is not None for row in self.found)]


def recommend(
    file: Given, settings: Sequence[str], catalogue: Catalogue, told: Callable[[int, int], None] | None = None,
    min_quality: float | None = None,
) -> Recommended:  # fmt: skip
    """Rank the machines of a file, of whose weights `min_quality` of the quality in 16 bits is kept.

    Raises `InputError` at its place.
    """
    experiment = load_experiment(find_experiment(file, catalogue), settings, catalogue)
    fields = experiment.fields.recommend or RecommendFields()
    document = experiment.document
    try:
        limits = limits_of({**fields.limits, **({LIMIT: min_quality} if min_quality is not None else {})})
    except InputError as error:
        raise document.error(error.problem, tuple((error.key or "").split("."))) from None
    names, total = case_names(experiment), len(experiment.cases) * (1 + len(fields.batches))
    count = 0

    def step() -> None:
        nonlocal count
        count += 1
        if told:
            told(count, total)

    found = _candidates(experiment, names, catalogue, limits, fields, step)
    able = [one for one in found if one.row]
    if not able:
        raise InputError(f"no machine can run it: {found[0].name}: {found[0].broken}")
    try:
        objective, against = _columns(fields, able)
    except InputError as error:
        raise document.error(error.problem, tuple((error.key or "").split("."))) from None
    order = ranked(able, objective) + [one for one in found if not one.row]
    rows = _rows(order, objective, against)
    notes = [*_notes(order, objective), *_others(experiment, names, catalogue, limits, fields, objective, step, order)]
    notes += quality_notes([one.row for one in order], [one.name for one in order])
    notes += price_notes([{"machine": one.name, **one.row} for one in order if fits(one.row)], "machine")
    return Recommended(
        experiment.name, experiment.fields.title, objective, against, rows, notes, [one.row for one in order]
    )


def _candidates(
    experiment: Experiment, names: Sequence[str], catalogue: Catalogue, limits: Sequence[Limit],
    fields: RecommendFields, step: Callable[[], None],
) -> list[Candidate]:  # fmt: skip
    """Every machine with its figures, and the limit that it breaks; one that cannot run has no figures."""
    found = []
    for name, case in zip(names, experiment.cases, strict=True):
        try:
            row = _figures(case, catalogue)
            found.append(Candidate(name, row, _broken(row, case, catalogue, limits, fields)))
        except InputError as error:
            if (error.key or "").startswith("cost"):
                raise
            found.append(Candidate(name, {}, f"cannot run: {error.problem}"))
        step()
    return found


def _figures(case: Case, catalogue: Catalogue) -> dict[str, Any]:
    """The figures of one machine: the row of its job, and power and energy of the site."""
    result = run_case(case, catalogue)
    row = dict(result.row)
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    if not fits(row):
        if result.memory:
            row["short_by"] = result.memory.short_by
        return row
    cost = case.scenario.cost
    draw = power_of(row, cluster, cost.power if cost else None)
    row["power_kw"] = draw.watts * row["gpus"] * case.scenario.power.pue / 1e3
    days, rate = (
        row.get("training_days_with_failures", row.get("training_days")),
        row.get("output_tokens_per_s_per_gpu"),
    )
    if days is not None:
        row["kwh_per_run"] = row["power_kw"] * days * 24.0
    elif rate:
        row["kwh_per_million_output_tokens"] = row["power_kw"] * 1e6 / (rate * row["gpus"]) / 3600.0
    return row


def _broken(
    row: Mapping[str, Any], case: Case, catalogue: Catalogue, limits: Sequence[Limit], fields: RecommendFields
) -> str:
    """The first thing that a machine lacks or breaks; '' for none."""
    gpu = resolve_cluster(case.scenario, catalogue, case.origins)
    if "fit" in fields.require and not fits(row):
        needs = row.get("memory_bytes_per_gpu", row["weights_bytes_per_gpu"]) / GIB
        short = row.get("short_by")
        return f"does not fit: needs {needs:.1f} GiB" + (f", {short / GIB:.1f} GiB too much" if short else "")
    if "ecc" in fields.require and not gpu.gpu.memory.ecc.value:
        return "no ECC"
    whole = catalogue.cluster(base_name(gpu.gpu.name)).gpu
    if "mig" in fields.require and not whole.mig_profiles:
        return "cannot be split by MIG"
    if "nvlink" in fields.require and gpu.node.nvlink is None:
        return "no NVLink"
    return next((words for limit in limits if (words := limit.broken(row))), "")


def _columns(fields: RecommendFields, able: Sequence[Candidate]) -> tuple[str, str]:
    """The column that ranks machines, and the time beside it. Raises `InputError` (key only)."""
    some = next((one.row for one in able if fits(one.row)), able[0].row)
    cost = cost_column(some)
    if cost is None or any(one.row.get(cost) is None for one in able if fits(one.row)):
        cost = natural(some)  # all have a time
    objective = fields.objective or cost
    if "usd_per_run_with_failures" in some and fields.objective is None:
        objective = "usd_per_run_with_failures"
    against = fields.against or next((name for name in TIMES if some.get(name) and name != objective), "step_s")
    for key, column in (("objective", objective), ("against", against)):
        if not isinstance(some.get(column), (int, float)):
            problem = f"{shown(column)} is no figure of these machines{nearest(column, some)}"
            raise InputError(problem, key=f"recommend.{key}")
        if better(column) is None:
            raise InputError(f"{shown(column)}: neither more nor less of it is better", key=f"recommend.{key}")
    return objective, against


def _rows(order: Sequence[Candidate], objective: str, against: str) -> list[dict[str, Any]]:
    """A row for each machine: rank, figures, whether it is on the front, how sure, why it loses."""
    best, front = order[0], pareto(order, objective, against)
    words = title(objective)
    rows = []
    for rank, one in enumerate(order, 1):
        row = {"rank": rank, "machine": one.name, **one.row, "front": one.name in front}
        measured = one.row.get(objective) is not None and best.row.get(objective) is not None
        if measured and one.name != best.name and not one.broken:
            row["sure"] = probability_better(best.row, one.row, objective)
        row["why"] = why_it_loses(one, best, objective, words)
        rows.append(row)
    return rows


def _notes(order: Sequence[Candidate], objective: str) -> list[str]:
    """How sure the order is, and which price or utilisation would change it."""
    best = order[0]
    if best.broken:
        return [f"No machine keeps every limit; the nearest is {best.name}: {best.broken}."]
    kept = [one for one in order[1:] if not one.broken]
    notes = []
    if kept:
        sure = probability_better(best.row, kept[0].row, objective)
        notes.append(f"{best.name} before {kept[0].name} with a probability of {sure:.0%}, by the intervals of both.")
    for one in kept[:MOST_SAID]:
        price = break_even_price(one, best, objective)
        if price is None:
            continue
        hour = one.row["usd_per_gpu_hour"]
        line = f"{one.name} would win below {price:.3g} USD a GPU-hour ({hour:.3g} now)"
        used = utilisation_to_win(one, best, objective)
        if used is not None and used <= 1:
            line += f", or above a utilisation of {used:.0%} ({one.row['utilisation']:.0%} now)"
        notes.append(line + ".")
    if best.row.get("break_even_utilisation") is not None:
        even = best.row["break_even_utilisation"]
        line = f"{best.name}: owning costs less than renting above {even:.0%} of its hours"
        years = best.row.get("payback_years")
        notes.append(line + (f", and pays back in {years:.2g} years" if years is not None else "") + ".")
    return notes


def _others(
    experiment: Experiment, names: Sequence[str], catalogue: Catalogue, limits: Sequence[Limit],
    fields: RecommendFields, objective: str, step: Callable[[], None], order: Sequence[Candidate],
) -> list[str]:  # fmt: skip
    """Which machine wins at other batches."""
    notes = []
    for factor in fields.batches:
        cases = [changed for case in experiment.cases if (changed := _with_batch(case, factor)) is not None]
        if not cases:
            raise experiment.document.error("a job without a batch or clients", ("recommend", "batches"))
        found = _candidates(replace(experiment, cases=cases), names, catalogue, limits, fields, step)
        able = [one for one in found if one.row.get(objective) is not None]
        if not able:
            notes.append(f"At {factor:g} x the batch nothing runs.")
            continue
        best = ranked(able, objective)[0]
        same = "still " if best.name == order[0].name else ""
        value = cell(objective, best.row[objective])
        left = f", though {best.broken}" if best.broken else ""
        notes.append(f"At {factor:g} x the batch {same}{best.name} is first: {title(objective)} {value}{left}.")
    return notes


def _with_batch(case: Case, factor: float) -> Case | None:
    """The same machine with another batch, or other clients of a server; None for a job that has neither."""
    for key in ("batch", "concurrency", "clients", "rate"):
        value = getattr(case.scenario.workload, key, None)
        if value:
            number = value * factor if key == "rate" else max(round(value * factor), 1)
            place = Place("recommend.batches", key=f"workload.{key}")
            return rewritten(case, [(("workload", key), number, place)])
    return None
