"""Two scenarios side by side: differences in inputs and time, their explanation, and the confidence in them.

Each scenario is a row of an experiment file. The difference of the answer is shared out over what differs in the input
(`simgpu.study.whatif.shapley`), and the ratio of the two answers gets an interval in which errors that both have in
common cancel (`simgpu.analysis.comparison`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.analysis.breakdown import breakdown
from simgpu.analysis.comparison import chance_above_one, ratio_range, unsure
from simgpu.analysis.inference import COLUMNS as INFERENCE_PARTS
from simgpu.analysis.uncertainty import Range, parts_of
from simgpu.catalog import Catalogue
from simgpu.columns import sign, time_of
from simgpu.documents import Text
from simgpu.errors import InputError
from simgpu.overrides import HARDWARE_ROOTS
from simgpu.render.fields import STEP_PARTS
from simgpu.scenario import Place, resolve_cluster
from simgpu.simulation.result import Result
from simgpu.study.experiment.answers import checked_column, natural
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import Given, run_case
from simgpu.study.experiment.selection import case_names, chosen, only, split_row
from simgpu.study.search.ranked import open_experiment
from simgpu.study.whatif.changes import Between, Side, separable, side
from simgpu.study.whatif.named_inputs import figures_of, split, unmoved
from simgpu.study.whatif.runs import with_hardware
from simgpu.study.whatif.sensitivity import Progress, case_inputs, dtype_of
from simgpu.study.whatif.shapley import shares
from simgpu.tabular import Tabular
from simgpu.version import __version__

REPEATABLE = 0.01
"""Relative difference up to which two scenarios are not told apart, however sure the ratio: runs of one job on one
machine differ by as much. An estimate of this project: its kernels, measured twice, lie 3 to 5 % apart at the median
(README), and a step is thousands of them."""

SAME = 1e-9
"""Relative difference of two numbers that counts as none."""

Row = Mapping[str, Any]

Chosen = Given | tuple[Given, str | int]
"""A scenario: 'FILE' or an experiment with a single row, 'FILE:ROW', or an experiment and its row."""


@dataclass(frozen=True)
class Verdict:
    """The verdict on which of two scenarios is better.

    `ratio` is by how much B is better than A (a time of A over that of B), with P10 and P90; None where the column has
    no interval. `chance` is the probability that B is the better one.
    """

    ratio: float
    p10: float | None
    p90: float | None
    chance: float | None
    shared: bool  # whether errors that both have in common were taken to cancel

    @property
    def sure(self) -> bool:
        """True if the interval leaves out that they are equal, and the difference can be measured at all."""
        if self.p10 is None or self.p90 is None:
            return abs(self.ratio - 1) > SAME
        return (self.p10 > 1 or self.p90 < 1) and abs(self.ratio - 1) > REPEATABLE


@dataclass(frozen=True, repr=False)
class Difference(Tabular):
    """Scenario B against A.

    `inputs`, `parts` and `explained` are rows: differences in the input, the parts of the time, and the share of each
    difference in that of `column`.
    """

    a: Side
    b: Side
    column: str
    inputs: Sequence[Row]
    time: str
    parts: Sequence[Row]
    explained: Sequence[Row]
    exact: bool
    verdict: Verdict
    notes: Sequence[str]

    @property
    def rows(self) -> Sequence[Row]:
        """Rows that say how much each difference explains."""
        return self.explained

    @property
    def values(self) -> tuple[float, float]:
        """The answer of A and of B."""
        return self.a.result.row[self.column], self.b.result.row[self.column]

    def document(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "simgpu_version": __version__,
            "a": self.a.name,
            "b": self.b.name,
            "column": self.column,
            "better": sign(self.column),
            "value_a": self.values[0],
            "value_b": self.values[1],
            **{
                f"{name}_{end}": row.get(f"{self.column}_{end}") for name, row in self._rows() for end in ("p10", "p90")
            },
            "verdict": {**vars(self.verdict), "sure": self.verdict.sure},
            "repeatable": REPEATABLE,
            "inputs": list(self.inputs),
            "time": self.time,
            "parts": list(self.parts),
            "explained": list(self.explained),
            "explained_over_all_orders": self.exact,
            "notes": list(self.notes),
        }

    def _rows(self) -> list[tuple[str, Row]]:
        return [("value_a", self.a.result.row), ("value_b", self.b.result.row)]


def diff(
    a: Chosen, b: Chosen, catalogue: Catalogue, settings: Sequence[str] = (), settings_a: Sequence[str] = (),
    settings_b: Sequence[str] = (), value: str | None = None, progress: Progress | None = None,
) -> Difference:  # fmt: skip
    """Compare two scenarios: 'FILE' with a single row, or 'FILE:ROW' with its number or a label; or both as a pair.

    `settings` are 'key=value' changes to both, `settings_a` and `settings_b` to one. Raises `InputError`.
    """
    with _blamed(settings_a, "--set-a"):
        name_a, case_a = _case(a, (*settings, *settings_a), "A", catalogue)
    with _blamed(settings_b, "--set-b"):
        name_b, case_b = _case(b, (*settings, *settings_b), "B", catalogue)
    kinds = [case.scenario.workload.kind for case in (case_a, case_b)]
    if kinds[0] != kinds[1]:
        problem = f"A is {kinds[0]} and B is {kinds[1]}; expected the same kind of workload in both"
        raise InputError(problem, key="workload.kind")
    dtype = dtype_of(case_a)
    with _blamed(settings_a, "--set-a"):
        side_a = side(name_a, case_a, catalogue, dtype)
    with _blamed(settings_b, "--set-b"):
        side_b = side(name_b, case_b, catalogue, dtype)
    row_a, row_b = side_a.result.row, side_b.result.row
    column = value or _fair(row_a, row_b)
    for row in (row_a, row_b):
        checked_column(column, row, "--value")
    between = separable(side_a, side_b, catalogue, progress)
    explained, exact = _explained(between, column)
    time = "tpot_s" if kinds[0] in ("serving", "traffic") else "step_s"
    verdict = _verdict(side_a, side_b, column, catalogue)
    notes = _notes(row_a, row_b)
    if abs(verdict.ratio - 1) <= SAME:
        notes += _nothing_moved(side_a, side_b, column, catalogue)
    inputs = _inputs(side_a, side_b)
    return Difference(
        side_a, side_b, column, inputs, time, _parts(side_a, side_b, time), explained, exact, verdict, notes
    )


@contextmanager
def _blamed(settings: Sequence[str], option: str) -> Iterator[None]:
    """A context in which errors about a setting of one side name its option."""
    try:
        yield
    except InputError as error:
        if error.file == "--set" and any(text.partition("=")[0].strip() == error.key for text in settings):
            raise InputError(error.problem, file=option, key=error.key) from None
        raise


def _case(given: Chosen, settings: Sequence[str], key: str, catalogue: Catalogue) -> tuple[str, Case]:
    """The row that is meant, with its name."""
    file: Given
    row: str | int | None
    if isinstance(given, tuple):
        file, row = given
    elif isinstance(given, (Mapping, Text)):
        file, row = given, None
    else:
        file, row = split_row(str(given))
    settings, named = split(settings)
    experiment = open_experiment(file, settings, catalogue)
    named_file = isinstance(file, (str, Path))
    how = f"say which: {file}:NUMBER or {file}:LABEL" if named_file else "say which: (experiment, row)"
    number = only(experiment, key, how) if row is None else chosen(experiment, str(row), key)
    name = case_names(experiment)[number]
    whole = f"{experiment.name}: {name}" if len(experiment.cases) > 1 else experiment.name
    case = experiment.cases[number]
    if named:
        figures = figures_of(named, case_inputs(case, catalogue))
        for changed in figures:
            case.origins.put(("hardware", changed), Place("--set"))
        case = with_hardware(case, figures)
    return whole, case


def _fair(a: Row, b: Row) -> str:
    """The natural answer; where the two do not do the same work in a step, work done per second and GPU."""
    column = natural(a)
    work = [_work(row) for row in (a, b)]
    if column == "step_s" and work[0] and work[1] and abs(work[0] / work[1] - 1) > SAME:
        return next((name for name in ("tokens_per_s_per_gpu", "tokens_per_s") if name in a and name in b), column)
    return column


def _work(row: Row) -> float | None:
    """Tokens of a step; None for jobs without."""
    return row["tokens_per_s"] * row["step_s"] if "tokens_per_s" in row else None


def _notes(a: Row, b: Row) -> list[str]:
    notes = []
    work, gpus = [_work(row) for row in (a, b)], [row["gpus"] for row in (a, b)]
    if work[0] and work[1] and abs(work[0] / work[1] - 1) > SAME:
        notes.append(f"A step of A is {work[0]:,.0f} tokens, one of B {work[1]:,.0f}.")
    if gpus[0] != gpus[1]:
        notes.append(f"A runs on {gpus[0]:,} GPU{'s' if gpus[0] > 1 else ''}, B on {gpus[1]:,}.")
    misfits = [n for n, row in (("A", a), ("B", b)) if row.get("memory_fits", row.get("weights_fit", True)) is False]
    if misfits:
        both = len(misfits) == 2
        who = "Neither A nor B fits" if both else f"{misfits[0]} does not fit"
        notes.append(f"{who} in GPU memory; {'their times are' if both else 'its time is'} hypothetical.")
    return notes


def _nothing_moved(a: Side, b: Side, column: str, catalogue: Catalogue) -> list[str]:
    """A sentence on why other hardware figures change nothing: what limits instead, first within the same input."""
    figures = [side.case.scenario.hardware for side in (a, b)]
    changed = [key for key in {**figures[0], **figures[1]} if figures[0].get(key) != figures[1].get(key)]
    if not changed:
        return []
    reasons = unmoved(changed, b.inputs.values())
    if reasons:
        return reasons
    gains = {}
    for limiting in b.inputs.values():
        factor = 1.1 if limiting.dimension == "rate" else 1 / 1.1
        if limiting.dimension == "other" or limiting.compound:
            continue
        try:
            row = run_case(with_hardware(b.case, limiting.scaled(factor)[1]), catalogue).row
        except InputError:
            continue
        gains[limiting.title.partition(" (")[0]] = abs(row[column] / b.result.row[column] - 1)
    best = sorted(gains, key=lambda title: -gains[title])[:2]
    limits = [
        f"{title} (a tenth better moves it by {100 * gains[title]:.2g} %)" for title in best if gains[title] > SAME
    ]
    return [f"{', '.join(changed)} limits nothing here; what does: {', '.join(limits) or 'no input'}."]


# ---- inputs ------------------------------------------------------------------------------------------

_FOLLOWS = ("framework.", "runtime.", "precision.", "numerics.", "serving.", "model.")
"""Keys of resolved scenarios that follow from others."""


def _inputs(a: Side, b: Side) -> list[Row]:
    """Differences in keys of the scenario, in physical inputs, and in everything else (`asked` false)."""
    keys = list(_differing_keys(a, b))
    gpu_a, gpu_b = (side.result.row["gpu"] for side in (a, b))
    gpus = [_row("gpu", "GPU", gpu_a, gpu_b, "", {}, {})] if gpu_a != gpu_b else []
    return [
        *({**row, "asked": True} for row, chosen in keys if chosen),
        *({**row, "asked": True} for row in (*gpus, *_differing_inputs(a, b))),
        *({**row, "asked": False} for row, chosen in keys if not chosen),
    ]


def _differing_keys(a: Side, b: Side) -> Iterator[tuple[Row, bool]]:
    """A row for each key whose values differ, and whether the files or settings chose it: it follows from no other."""
    resolved_a, resolved_b = a.result.resolved, b.result.resolved
    by_hand = {key for side in (a, b) for key in side.case.scenario.hardware}
    by_hand -= {key for side in (a, b) for part in side.inputs.values() for key in part.figures if not part.compound}
    for key in dict.fromkeys([*resolved_a, *resolved_b]):
        of_a, of_b = resolved_a.get(key, {}), resolved_b.get(key, {})
        value_a, value_b = of_a.get("value"), of_b.get("value")
        if _differs(value_a, value_b):
            follows = key.startswith(_FOLLOWS) or (key.partition(".")[0] in HARDWARE_ROOTS and key != "cluster")
            unit = of_a.get("unit") or of_b.get("unit") or ""
            yield _row(key, key, value_a, value_b, unit, of_a, of_b), not follows or key in by_hand


def _differing_inputs(a: Side, b: Side) -> Iterator[Row]:
    """A row for each physical input whose values differ, but for constants of kernels."""
    for name in dict.fromkeys([*a.inputs, *b.inputs]):
        part_a, part_b = a.inputs.get(name), b.inputs.get(name)
        first = part_a or part_b
        assert first is not None
        value_a, value_b = (part.value if part else None for part in (part_a, part_b))
        if _differs(value_a, value_b) and not all(key.startswith("gpu.kernel.") for key in first.figures):
            of_a, of_b = (
                side.result.resolved.get(next(iter(part.figures)), {}) if part else {}
                for side, part in ((a, part_a), (b, part_b))
            )
            title = first.title.replace(" (peak FLOP/s grows too)", "").replace(" (peak FLOP/s unchanged)", "")
            yield _row(name, title, value_a, value_b, first.unit, of_a, of_b)


def _row(key: str, title: str, a: Any, b: Any, unit: str, of_a: Row, of_b: Row) -> dict[str, Any]:
    sources = {"source_a": of_a.get("source", ""), "source_b": of_b.get("source", "")}
    return {"key": key, "title": title, "a": a, "b": b, "unit": unit, **sources}


def _differs(a: Any, b: Any) -> bool:
    numbers = all(isinstance(one, (int, float)) and not isinstance(one, bool) for one in (a, b))
    return bool(abs(a - b) > SAME * max(abs(a), abs(b)) if numbers else a != b)


# ---- parts of the time -------------------------------------------------------------------------------


def _parts(a: Side, b: Side, time: str) -> list[Row]:
    """Parts of the time of both, their difference, and its share of the whole difference; they add up."""
    parts = [_time_parts(of_a.result, time) for of_a in (a, b)]
    totals = [of_a.result.row[time] for of_a in (a, b)]
    whole = totals[1] - totals[0]
    rows = []
    for name in dict.fromkeys([*parts[0], *parts[1]]):
        of_a, of_b = (of.get(name, 0.0) for of in parts)
        if max(of_a, of_b) > SAME * max(totals):
            rows.append(_part(name, of_a, of_b, whole))
    rest = [total - sum(of.values()) for total, of in zip(totals, parts, strict=True)]
    if max(map(abs, rest)) > 1e-5 * max(totals):
        rows.append(_part("rest_s", rest[0], rest[1], whole))
    return [*rows, _part(time, totals[0], totals[1], whole)]


def _part(name: str, a: float, b: float, whole: float) -> Row:
    difference = b - a if abs(b - a) > SAME * max(abs(a), abs(b)) else 0.0
    share = difference / whole if abs(whole) > SAME * abs(a) else None
    return {"part": name, "a_s": a, "b_s": b, "difference_s": difference, "share_of_difference": share}


def _time_parts(result: Result, time: str) -> dict[str, float]:
    """Parts of a step by the columns of its kind; of prefill and lists by class of kernel."""
    row = result.row
    if row["workload"] == "training":
        return {name: row[name] for name in STEP_PARTS}
    if "runtime" in row:
        more = ("interference_s",) if time == "tpot_s" else ()
        return {name: row[name] for name in (*INFERENCE_PARTS, *more) if name in row}
    seconds: dict[str, float] = {}
    for part in parts_of(result.execution, breakdown(result.execution).rank):
        kernel = part.activity.category == "compute"
        name = _NAMES.get(part.uncertainty.group, "memory_bound_s") if kernel else "exposed_communication_s"
        seconds[name] = seconds.get(name, 0.0) + (part.seconds if kernel else part.exposed)
    return seconds


_NAMES = {"gemm": "gemm_s", "attention": "attention_s", "moe": "experts_s", "given": "given_s"}


# ---- explanation and verdict -------------------------------------------------------------------------


def _explained(between: Between, column: str) -> tuple[list[Row], bool]:
    """The share of each change in the difference of the column, the largest first."""
    changes = between.changes
    if not changes:
        return [], True
    done = shares(len(changes), lambda made: float(between.row(made).get(column) or 0.0))
    ends = between.row(frozenset()), between.row(frozenset(range(len(changes))))
    whole = ends[1][column] - ends[0][column]
    rows = [
        {"what": change.what, "explains": part, "share": part / whole if whole else None, "alone": alone}
        for change, part, alone in zip(changes, done.explains, done.alone, strict=True)
    ]
    return sorted(rows, key=lambda row: -abs(row["explains"])), done.exact


def _verdict(a: Side, b: Side, column: str, catalogue: Catalogue) -> Verdict:
    """By how much B is better, and how sure that is."""
    rows = a.result.row, b.result.row
    values = [row[column] for row in rows]
    up = sign(column) >= 0
    ratio = values[1] / values[0] if up else values[0] / values[1]
    time = time_of(column, rows[0])
    if rows[0].get(f"{column}_p10") is None and rows[0].get(f"{time}_p10") is None:
        return Verdict(ratio, None, None, None, False)
    if time in ("step_s", "tpot_s", "ttft_s"):
        errors = []
        for one in (a, b):
            cluster = resolve_cluster(one.case.scenario, catalogue, one.case.origins)
            about = one.case.scenario.model_dump_json(exclude={"hardware"})
            errors.append(unsure(one.result.execution, one.result.row, time, about, cluster.kernel))
        ends = ratio_range(*errors)
        shared = True
    else:
        ends, shared = _independent(rows, column, up), False
    low, high = ratio * ends.p10, ratio * ends.p90
    return Verdict(ratio, low, high, chance_above_one(ratio, low, high), shared)


def _independent(rows: Sequence[Row], column: str, up: bool) -> Range:
    """P10 and P90 over the ratio, of two answers whose errors are taken as independent."""
    above, below = (rows[1], rows[0]) if up else (rows[0], rows[1])
    low = [above[f"{column}_p10"] / above[column] - 1, 1 - below[f"{column}_p90"] / below[column]]
    high = [above[f"{column}_p90"] / above[column] - 1, 1 - below[f"{column}_p10"] / below[column]]
    down, top = (sum(one**2 for one in some) ** 0.5 for some in (low, high))
    return Range(1 / (1 + down), 1 + top)
