"""The answer of a search: the best plans, why each lost to the first, the front, and how it was decided."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simgpu.operations.money import priced
from simgpu.operations.quality import COLUMN, quality_notes
from simgpu.plan.parallelism import Plan
from simgpu.plan.space import KEYS
from simgpu.render.columns import cell, title
from simgpu.scenario import Scenario
from simgpu.study.experiment.loading import Case
from simgpu.study.search.limits import at_least, plain
from simgpu.study.search.problem import LEVELS, Problem
from simgpu.study.search.reasons import SAME, why
from simgpu.study.search.searching import Searched, Simulated
from simgpu.study.search.serving import Served, ServingProblem, queues
from simgpu.tabular import Tabular
from simgpu.units import format_seconds

GIB = 2.0**30


@dataclass(frozen=True, repr=False)
class Answer(Tabular):
    """The answer of a search.

    rows
        The best plans, best first: the columns of a row, `rank`, `plan` in words, `lost_by` (against the first) and
        `also` (plans that take the same time), and keys of the plan that rows have no column for.
    front
        The best plan for each budget of memory, for each number of GPUs, or the trade of speed against throughput.
    every
        All rows that were simulated.
    counts
        Plans by how they were decided. `exact`: nothing that was not simulated could stand in `rows` or `front`.
    """

    name: str
    title: str
    objective: str
    rows: Sequence[dict[str, Any]]
    front: Sequence[dict[str, Any]]
    every: Sequence[dict[str, Any]]
    counts: Mapping[str, int]
    seconds: float
    exact: bool
    complete: bool
    shown: Sequence[str]
    notes: Sequence[str] = field(default_factory=list)
    front_shown: Sequence[str] = ()
    front_title: str = ""
    front_heading: str = ""
    heading: str = ""
    axes: tuple[str, str] = ("", "")
    formats: Sequence[str] = ("png", "svg")  # of pictures
    scenarios: Sequence[Scenario] = ()  # of `rows`
    cases: Sequence[Case] = ()  # of `rows`, with the places where their values were written

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {
            "search": self.name, "title": self.title, "objective": self.objective, "counts": dict(self.counts),
            "seconds": self.seconds, "exact": self.exact, "complete": self.complete, "notes": list(self.notes),
            "rows": list(self.rows), "front": list(self.front),
        }  # fmt: skip


def words_of(plan: Plan) -> str:
    """A plan in a few letters: 'TP8 PP16 VP3 DP8 mb1 SP ZeRO-1 selective'."""
    words = [f"TP{plan.tp}"] if plan.tp > 1 else []
    words += [f"{key.upper()}{getattr(plan, key)}" for key in ("cp", "ep", "pp", "vp") if getattr(plan, key) > 1]
    words.append(f"DP{plan.dp}")
    words += [f"mb{plan.micro_batch}"] if plan.micro_batch else []
    words += ["SP"] if plan.sequence_parallel and plan.tp > 1 else []
    words += [f"ZeRO-{plan.zero}" + (f"/{plan.shard}" if plan.shard else "")] if plan.zero else []
    if plan.recompute != "none":
        layers = f" of {plan.recompute_layers} layers" if plan.recompute_layers else ""
        words.append(f"{plan.recompute} recomputation{layers}")
    words += [plan.schedule] if plan.schedule else []
    place = "" if plan.offload_to == "host" else f" to {'NVMe' if plan.offload_to == 'nvme' else 'host and NVMe'}"
    words += [f"offload of {plan.offload}{place}"] if plan.offload != "none" else []
    words += ["async TP"] if plan.async_tp and plan.tp > 1 else []
    words += [
        f"no {key.replace('_', ' ')}" for key in ("overlap_gradients", "overlap_weights") if not getattr(plan, key)
    ]
    return " ".join(words)


def training_answer(name: str, heading: str, problem: Problem, searched: Searched) -> Answer:
    """The answer of a search for training plans."""
    search = problem.search
    ties = _ties(searched.within)
    best = ties[0][0].row if ties else {}
    rows = []
    for rank, same in enumerate(ties[: search.top], 1):
        first, *others = same
        row = {"rank": rank, "plan": words_of(first.plan), **first.row, **_keys(problem, first.plan)}
        row["lost_by"] = why(first.row, best) if rank > 1 else ""
        row["also"] = ", ".join(_difference(first.plan, one.plan) for one in others[:3])
        row["also"] += f" and {len(others) - 3} more" if len(others) > 3 else ""
        rows.append(row)
    front = [_front_row(problem, run) for run in searched.front]
    progress = searched.progress
    counts = {
        "plans": progress.plans, "do_not_fit": progress.misfits, "simulated": progress.simulated,
        "bound_decides": progress.plans - progress.misfits - progress.over - progress.simulated,
    }  # fmt: skip
    missed = len(searched.simulated) - len(searched.within)
    if problem.limits.limits:
        counts["over_limits"] = progress.over + missed
    shown = ["rank", "plan", "step_s", "tokens_per_s_per_gpu", "mfu", "bubble_fraction", "memory_bytes_per_gpu"]
    shown += [name for name in dict.fromkeys(map(plain, problem.limits.limits)) if name not in shown and rows]
    shown += ["lost_by"] + (["also"] if any(row["also"] for row in rows) else [])
    if len(problem.gpus) > 1:
        shown.insert(2, "gpus")
    exact = not search.tolerance and searched.complete
    notes = _training_notes(counts, searched, search.tolerance, missed)
    if problem.limits.limits:
        notes[0] += f". Limits: {_limits_text(problem.limits.limits)}"
    every = [run.row for run in searched.simulated]
    return Answer(
        name, heading, problem.objective, rows, front, every, counts, searched.seconds,
        exact, searched.complete, shown, notes, **_training_words(problem, rows, front, searched.complete),
        scenarios=[problem.scenario_of(same[0].plan) for same in ties[: search.top]],
    )  # fmt: skip


def _training_words(
    problem: Problem, rows: Sequence[Mapping[str, Any]], front: Sequence[Mapping[str, Any]], whole: bool
) -> dict[str, Any]:
    """Titles of tables and pictures."""
    many = len(problem.gpus) > 1
    shown = [
        "gpus" if many else "memory_budget_bytes",
        "plan",
        "step_s",
        "tokens_per_s_per_gpu",
        "mfu",
        "memory_bytes_per_gpu",
    ]
    model, gpu = problem.config.name, problem.cluster.gpu.name
    where = f"{model} on {problem.gpus[-1]:,} x {gpu}" if not many else f"{model} on {gpu}"
    words = {
        "front_shown": shown,
        "front_title": "The best plan for each number of GPUs"
        if many
        else "The best plan within each budget of memory",
        "axes": ("gpus", "step_s") if many else ("memory_budget_bytes", "step_s"),
    }
    if not rows or not front:
        return {**words, "heading": where}
    best = rows[0]
    rate = f", {best['tokens_per_s_per_gpu']:,.0f} tokens/s/GPU" if problem.objective != "step_s" else ""
    size = f" on {best['gpus']:,} GPUs" if many else ""
    so_far = "" if whole else " (of what was looked at)"
    words["heading"] = f"{where}: {best['plan']}{size} is best{so_far}, {format_seconds(best['step_s'])} a step{rate}"
    least, last = front[0], front[-1]
    times = least["step_s"] / last["step_s"]
    if many:
        words["front_heading"] = f"{where}, the best plan for each number of GPUs{so_far}"
    elif len(front) > 1:
        held = [one["memory_budget_bytes"] / GIB for one in (least, last)]
        words["front_heading"] = (
            f"{where}: {held[1]:.0f} GiB instead of {held[0]:.0f} make steps {times:.2f} times as fast{so_far}"
        )
    else:
        words["front_heading"] = words["heading"]
    return words


def nothing_within(answer: Answer, problem: Problem, searched: Searched) -> Answer:
    """An answer without rows, with the best plan of a search without limits, and how far that is from the limits."""
    best = searched.simulated[0]
    row = priced(best.row, problem.price)
    held = ", ".join(
        f"{title(name)} {cell(name, row[name])}" for name in dict.fromkeys(map(plain, problem.limits.limits))
    )
    note = f"no plan meets the limits; without them the best is {words_of(best.plan)} on {row['gpus']:,} GPUs: {held}"
    return replace(answer, notes=[answer.notes[0], note])


def _ties(runs: Iterable[Simulated]) -> list[list[Simulated]]:
    """Groups of plans that take the same time, least memory first."""
    groups: list[list[Simulated]] = []
    for run in runs:
        if groups and abs(run.cost - groups[-1][0].cost) <= SAME * run.cost:
            groups[-1].append(run)
        else:
            groups.append([run])
    for same in groups:
        same.sort(key=lambda run: (run.row["memory_bytes_per_gpu"], str(run.plan)))
    return groups


def _difference(plan: Plan, other: Plan) -> str:
    told = [f"{key} {getattr(other, key)}" for key in KEYS if getattr(plan, key) != getattr(other, key)]
    return " ".join(told)


def _keys(problem: Problem, plan: Plan) -> dict[str, Any]:
    """Keys of the space that a row has no column for."""
    return {f"plan.{key}": getattr(plan, key) for key in problem.space.choices if key not in ROW_KEYS}


ROW_KEYS = (*("tp", "pp", "dp", "cp", "ep", "vp", "micro_batch", "recompute", "zero", "sequence_parallel", "schedule"),)


def _front_row(problem: Problem, run: Simulated) -> dict[str, Any]:
    budget = (run.level + 1) * problem.capacity / LEVELS
    level = {"memory_budget_bytes": budget} if problem.nested else {}
    return {"plan": words_of(run.plan), **level, **run.row}


def _training_notes(counts: Mapping[str, int], searched: Searched, tolerance: float, missed: int) -> list[str]:
    fit = f"{counts['do_not_fit']:,} do not fit in memory"
    ran = f"{counts['simulated']:,} were simulated"
    if "over_limits" in counts:
        fit += f", {counts['over_limits'] - missed:,} provably miss a limit"
        ran += f", {missed:,} of which miss a limit"
    ran += f"; {format_seconds(searched.seconds)}"
    if not searched.complete:
        summary = f"Of {counts['plans']:,} plans so far, {fit}, {ran}"
        return [
            summary,
            "Interrupted: there may be better plans. The same command continues from those that were simulated.",
        ]
    by = f" by more than {100 * tolerance:g} %" if tolerance else ""
    decided = f"{counts['bound_decides']:,} are provably not better{by} than the plans listed"
    summary = f"Of {counts['plans']:,} plans, {fit}, {decided}, {ran}"
    if tolerance:
        most = f"{100 * tolerance:g} %"
        return [
            summary,
            f"Stopped early: a plan that was not simulated is at most {most} better than the last of the list.",
        ]
    return [summary, "Proven: no other plan in the search space is better than the last of the list."]


def serving_answer(name: str, heading: str, problem: ServingProblem, served: Served) -> Answer:
    """The answer of a search for plans of inference."""
    objective = problem.objective
    best = served.rows[0] if served.rows else {}
    rows = []
    for rank, row in enumerate(served.rows[: problem.search.top], 1):
        lost = _lost(row, best, objective) if rank > 1 else ""
        rows.append({"rank": rank, "plan": serving_words(row), **row, "lost_by": lost})
    refused = sum(served.refused.values())
    counts = {"plans": served.plans, "do_not_fit": served.misfits, "refused": refused, "over_limits": served.over}
    summary = (
        f"Of {served.plans:,} combinations of plan and load, {served.misfits:,} do not fit in memory, "
        f"{refused:,} cannot be run, {len(served.every):,} were simulated, {served.over:,} of which miss a limit; "
        f"{format_seconds(served.seconds)}"
    )
    notes = [summary + (f". Limits: {_limits_text(problem.limits)}" if problem.limits else "")]
    notes += [f"cannot be run, {count:,} x: {reason}" for reason, count in list(served.refused.items())[:3]]
    if not served.complete:
        notes.append("Interrupted: there may be better plans among those that were not simulated.")
    if not rows:
        notes.append(_nothing(served))
    shown = ["rank", "plan", "gpus", *_loads_of(problem), objective, "ttft_s", "tpot_s"]
    shown += [] if objective == "output_tokens_per_s_per_user" else ["output_tokens_per_s_per_user"]
    shown += [name for name in dict.fromkeys(map(plain, problem.limits)) if name not in shown and rows]
    several = len({row["precision"] for row in served.every}) > 1
    shown += [COLUMN] if several and COLUMN not in shown else []
    notes += quality_notes(rows, [row["plan"] for row in rows])
    queue = [name for name in ("saturated", "stationary") if any(queues(row) and name in row for row in served.every)]
    shown += ["memory_bytes_per_gpu", *queue, "lost_by"]
    front = _serving_front(served.every)
    if "saturated" in queue:
        notes.append(_saturated(rows))
    if "stationary" in queue:
        notes.append("not stationary: requests come faster than they are answered; unsure: within the interval they do")
    user, gpu = "output_tokens_per_s_per_user", "output_tokens_per_s_per_gpu"
    words = f"{problem.config.name} on {problem.cluster.gpu.name}"
    if rows:
        words += f": {rows[0]['plan']} is best, {rows[0][gpu]:,.0f} tokens/s/GPU at {rows[0][user]:,.0f} tokens/s/user"
    complete = served.complete
    return Answer(
        name, heading, objective, rows, front, served.every, counts, served.seconds, complete, complete, shown,
        notes, ["plan", "gpus", *_loads_of(problem), user, gpu, "ttft_s", "memory_bytes_per_gpu", *queue],
        "Best trade-offs between speed per user and throughput per GPU (Pareto front)", words, words, (user, gpu),
        scenarios=served.scenarios[: problem.search.top],
    )  # fmt: skip


def _lost(row: Mapping[str, Any], best: Mapping[str, Any], objective: str) -> str:
    """Why a plan is not the best; of requests that are followed only by how much, as waits have no parts of a step."""
    if row["workload"] != "traffic":
        return why(row, best)
    if queues(row) and not queues(best):
        return "may fall behind its load" if row["stationary"] == "unsure" else "falls behind its load"
    return f"{title(objective)} {100 * (row[objective] / best[objective] - 1):+.1f} %" if best[objective] else ""


def _limits_text(limits: Mapping[str, float]) -> str:
    """Limits in words: 'TTFT (P90) of at most 3 s'."""
    return ", ".join(
        f"{_end(column)} of at {'least' if at_least(column) else 'most'} {cell(plain(column), limit)}"
        for column, limit in limits.items()
    )


def _end(column: str) -> str:
    """The name of a column with its interval's end: 'TTFT (P90)' of 'ttft_s_p90'."""
    name = plain(column)
    return title(name) + (f" (P{column[-2:]})" if name != column else "")


def serving_words(row: Mapping[str, Any]) -> str:
    """A plan of inference in a few letters: '2 x TP4, fp8'."""
    found = [f"{key.upper()}{row[key]}" for key in ("tp", "pp", "ep") if row[key] > 1] or ["TP1"]
    copies = f"{row['dp']} x " if row["dp"] > 1 else ""
    return f"{copies}{' '.join(found)}, {row['precision']}"


def _loads_of(problem: ServingProblem) -> list[str]:
    return [key.removeprefix("workload.") for key in problem.search.space if key.startswith("workload.")]


def _nothing(served: Served) -> str:
    if not served.every:
        return "no plan fits in memory"
    nearest = min(served.every, key=lambda row: (queues(row), row["tpot_s"]))
    return (
        f"no plan meets the limits; fastest for a user: {serving_words(nearest)} with TTFT "
        f"{format_seconds(nearest['ttft_s'])} and TPOT {format_seconds(nearest['tpot_s'])}"
    )


def _saturated(rows: Sequence[Mapping[str, Any]]) -> str:
    told = "saturated: requests queue for a place in the batch, so that TTFT grows with every client"
    if rows and rows[0].get("saturated"):
        return f"{told}. All plans are saturated: lower the concurrency, or use more GPUs or replicas"
    return f"{told}. Saturated plans are listed after the others"


def _serving_front(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The Pareto front of tokens/s of a user and tokens/s of a GPU.

    Saturated rows come last, with more of the latter than all others.
    """
    front: list[dict[str, Any]] = []
    user, gpu = "output_tokens_per_s_per_user", "output_tokens_per_s_per_gpu"
    for row in sorted(rows, key=lambda row: (queues(row), -row[user], -row[gpu])):
        if not front or row[gpu] > front[-1][gpu]:
            front.append({"plan": serving_words(row), **row})
    return front
