"""What a result depends on: every physical input is varied a little down and up, and the scenario simulated again.

Inputs are changed the way a user would change them (`hardware:` keys of a scenario), so that everything follows that
follows from them: which algorithm a collective runs, which bound a kernel meets, what fits. The elasticity is

    d ln(answer) / d ln(input)  ~  ln(answer(more) / answer(less)) / ln(more / less)

If all rates rise and all latencies fall by 1 %, a time gets 1 % shorter. So the elasticities of a time to rates, minus
those to latencies, sum to -1 (Euler's theorem on homogeneous functions); the rest comes from constants that are not
varied, or from non-linear response.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite, log
from typing import Any, NamedTuple

from simgpu.analysis.comparison import contributions, sides_of, unsure
from simgpu.catalog import Catalogue
from simgpu.columns import cost_column, sign, time_of
from simgpu.errors import InputError, shown
from simgpu.operations.money import asked, priced
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment.answers import checked_column, natural, scaling
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import Experiment
from simgpu.study.experiment.selection import case_names, chosen
from simgpu.study.pools.where import Where
from simgpu.study.whatif.inputs import Input, inputs_of
from simgpu.study.whatif.runs import Changed, Row, Runs, sides
from simgpu.tabular import Tabular
from simgpu.version import __version__

COLUMNS = {
    "scenario": "row of the experiment",
    "column": "the answer: a column of results, or the cost (usd_per_step, usd_per_million_output_tokens)",
    "value": "the answer with no input changed",
    "input": "the input that was changed, by its short name",
    "title": "the input in words",
    "input_value": "value of the unchanged input, SI units",
    "unit": "unit of `input_value`",
    "figures": "hardware keys that were scaled together, separated by blanks",
    "dimension": "whether the input is a rate, a time or other",
    "less": "factor by which the input was lowered",
    "more": "factor by which the input was raised",
    "value_less": "the answer with less of the input; null where that cannot be simulated",
    "value_more": "the answer with more of the input; null where that cannot be simulated",
    "elasticity": "d ln(answer) / d ln(input) over both sides; null where NCCL chooses differently on both",
    "elasticity_less": "elasticity with less of the input alone",
    "elasticity_more": "elasticity with more of the input alone",
    "better_side": "less or more: the change of the input that improves the answer; more where neither is better",
    "gain": "relative improvement of the answer on that side; its signed change where neither is better",
    "smooth": "whether the elasticities of both sides agree",
    "compound": "whether the input changes figures of other inputs too",
    "summed": "whether it counts in the sum of elasticities: rates and times that are not compound do",
    "remark": "what else changes with the input, or why it could not be changed",
}
"""Keys of a row of a sensitivity. SI units."""

CHANGE = 0.1
"""Relative change of each input, downwards and upwards."""

UNSEEN = 5e-4
"""Relative change of the answer below which an input counts as having no effect."""

MOST_ROWS = 4
"""Largest number of rows of which all are analysed when the query names none."""

_BEND = 4 * 0.25 / 2
"""Largest difference of the elasticities of both sides, times ln(more / less), that counts as smooth.

A sum of two parts, one of which is proportional to the input, bends by at most a quarter of the distance between the
middles of the sides."""

_HELD = ("memory_fits", "weights_fit", "saturated", "most_sequences", "longest_context", "smallest_gpus")
"""Columns that say what fits in memory or within limits: they change in jumps."""

ALONE = Where(1)
"""Simulations run in this process."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, repr=False)
class Sensitivity(Tabular):
    """How one answer of one scenario depends on each input.

    `rows` have the keys of `COLUMNS`, the largest effect first. `doubts` are fractions of the answer's P10 to P90
    interval by class of error. Where `doubt_of` is 'runs', they are fractions of what the errors of kernels alone would
    come to: the interval comes from whole measured runs and is wider.
    """

    name: str
    column: str
    value: float
    change: float
    base: Row
    rows: Sequence[Row]
    unused: Sequence[str]
    doubts: Mapping[str, float]
    doubt_of: str = ""
    price: float | None = None

    @cached_property
    def total(self) -> float:
        """The sum of elasticities to rates, less those to times."""
        return float(
            sum(row["elasticity"] * (-1 if row["dimension"] == "time" else 1) for row in self.rows if row["summed"])
        )

    @property
    def expected(self) -> int | None:
        """What `total` would be if all constants were varied too: -1 for a time or a cost, 1 for a rate, else None."""
        return scaling(self.column)

    def _host_share(self) -> float | None:
        """Share of the time in which GPUs wait for the host: constants of frameworks and runtimes are no input."""
        time = self.base["tpot_s" if self.base["workload"] in ("serving", "traffic") else "step_s"]
        return self.base["host_s"] / time if self.base.get("host_s") and time else None

    def document(self) -> dict[str, Any]:
        """Everything, for JSON."""
        return {
            "scenario": self.name,
            **{key: self.base[key] for key in ("model", "cluster", "workload", "gpus")},
            "column": self.column,
            "better": sign(self.column),
            "value": self.value,
            "p10": self.base.get(f"{self.column}_p10"),
            "p90": self.base.get(f"{self.column}_p90"),
            "change": self.change,
            "price_usd_per_gpu_hour": self.price,
            "sum_of_elasticities": self.total if self.expected is not None else None,
            "sum_expected": self.expected,
            "interval_of": self.doubt_of,
            "interval_shares": dict(self.doubts),
            "not_varied": list(self.unused),
            "host_share": self._host_share(),
            "rows": list(self.rows),
        }


@dataclass(frozen=True)
class Asked:
    """The question of a sensitivity analysis.

    `values` are columns of results, by default the main answer of each kind of job; `change` is the relative change of
    every input; `cases` are rows of the experiment, by number or label; `price`, USD per GPU-hour, adds the cost.
    """

    values: Sequence[str] = ()
    change: float = CHANGE
    cases: Sequence[str] = ()
    price: float | None = None


def parse_change(text: str | float) -> float:
    """'10%', '10 %' or 0.1 as a fraction, above 0 and at most 900 % (ten times). Raises `InputError`."""
    try:
        value = float(str(text).removesuffix("%")) / (100 if str(text).endswith("%") else 1)
    except ValueError:
        raise InputError(f"{shown(text)} is not understood; expected a change such as 10%", key="--change") from None
    if not 1e-4 <= value <= 9:
        raise InputError(f"{shown(text)} is out of range; expected 0.01% to 900%", key="--change")
    return value


def sensitivities(
    experiment: Experiment, catalogue: Catalogue, query: Asked, progress: Progress | None = None, where: Where = ALONE
) -> list[Sensitivity]:
    """A sensitivity for each row and each answer that the query names, in their order.

    `progress` is called with (done, total) simulations. These run in this process or, where `where` says so, in worker
    processes, with the same answers. Raises `InputError` for rows and columns that do not exist.
    """
    if query.price is not None and not (isfinite(query.price) and query.price > 0):
        raise InputError(f"{query.price:g} is out of range; expected USD above zero per GPU-hour", key="--price")
    change, names = parse_change(query.change), case_names(experiment)
    cases = [(names[n], experiment.cases[n]) for n in _numbers(experiment, query.cases)]
    planned = [case_inputs(case, catalogue) for _, case in cases]
    count, total = 0, sum(1 + 2 * len(inputs) for inputs in planned)

    def step() -> None:
        nonlocal count
        count += 1
        if progress:
            progress(count, total)

    def columns_of(base: Row) -> list[str]:
        row = priced(base, query.price)
        columns = list(dict.fromkeys(checked_column(column, row, "--value") for column in query.values))
        cost = cost_column(row)
        if query.price is not None and cost is None:
            raise InputError("a job that does not fit the memory costs nothing that could be said", key="--price")
        if cost is not None and (query.price is not None or (asked(row) and not columns)):
            return list(dict.fromkeys([*columns, cost]))
        return columns or [natural(row)]

    plan = [(name, case, inputs) for (name, case), inputs in zip(cases, planned, strict=True)]
    results = []
    for runs in sides(plan, change, catalogue, where, step, columns_of):
        results += [_sensitivity(runs, column, query.price, change, catalogue) for column in columns_of(runs.base.row)]
    return results


def _numbers(experiment: Experiment, cases: Sequence[str]) -> Sequence[int]:
    """Positions of the rows that `cases` name; without any, of all rows where these are few."""
    count = len(experiment.cases)
    if "all" in cases or (not cases and count <= MOST_ROWS):
        return range(count)
    if not cases:
        problem = f"'{experiment.name}' has {count} rows; say which: a number, a label, or all (repeatable)"
        listed = "; ".join(f"{i} {name}" for i, name in enumerate(case_names(experiment)[:12], 1))
        raise InputError(f"{problem} ({listed}{'; ...' if count > 12 else ''})", key="--case")
    return list(dict.fromkeys(chosen(experiment, case, "--case") for case in cases))


def dtype_of(case: Case) -> str:
    """The type that most products of a scenario are made in, as far as its name says: its precision's, or its own."""
    precision = getattr(case.scenario.workload, "precision", None) or ""
    first = precision.partition("-")[0]
    return first if first in ("fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4") else case.scenario.dtype


def case_inputs(case: Case, catalogue: Catalogue) -> list[Input]:
    """The physical inputs of the hardware that a case runs on."""
    plan = case.scenario.plan
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    return inputs_of(cluster, dtype_of(case), plan.tp * plan.pp * plan.dp * plan.cp)


def _sensitivity(runs: Runs, column: str, price: float | None, change: float, catalogue: Catalogue) -> Sensitivity:
    name, case, base = runs.name, runs.case, priced(runs.base.row, price)
    hour = base.get("usd_per_gpu_hour")
    rows = []
    for varied in runs.inputs:
        sides = [
            side if isinstance(side.row, str) else side._replace(row=priced(side.row, price))
            for side in runs.sides[varied.name]
        ]
        rows.append({"scenario": name, **_row_of(varied, column, base, sides)})
    if column.startswith("usd_per_") and hour is not None:
        rows.append({"scenario": name, **_of_price(column, base[column], hour, change)})
    rows.sort(key=lambda row: -_swing(row))
    used = {varied.name for varied in runs.inputs}
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    every = inputs_of(cluster, "", cluster.gpus_per_node + 1)
    time = time_of(column, base)
    doubts, doubt_of = {}, ""
    if time in ("step_s", "tpot_s", "ttft_s") and f"{time}_p10" in base:
        about = case.scenario.model_dump_json(exclude={"hardware"})
        errors = unsure(runs.base.execution, base, time, about, cluster.kernel)
        doubts, doubt_of = contributions(errors), "runs" if errors.runs_decide else "kernels"
    unused = [other.title for other in every if other.name not in used]
    return Sensitivity(name, column, base[column], change, base, rows, unused, doubts, doubt_of, hour)


class _Response(NamedTuple):
    """How an answer responds to an input, with less and with more of it.

    `ends` are the answers; `slopes` the elasticities of both sides, None where the side cannot be counted; `jumped`
    whether NCCL chooses another way there, so that the answer jumps; `wrong` whether the answer moves against what one
    expects; `smooth` whether both sides agree as far as a sum of parts would.
    """

    ends: Sequence[float | None]
    slopes: Sequence[float | None]
    jumped: Sequence[bool]
    wrong: Sequence[bool]
    smooth: bool
    elasticity: float | None


def _response(varied: Input, column: str, value: float, sides: Sequence[Changed]) -> _Response:
    """The response of an answer, `value` unchanged, to an input.

    A side on which NCCL chooses another way jumps: it counts for no elasticity, unless both sides agree all the same.
    """
    ends = [side.value(column) for side in sides]
    slopes = [
        log(end / value) / log(side.factor) if end and side.factor != 1.0 else None
        for end, side in zip(ends, sides, strict=True)
    ]
    span = log(sides[1].factor / sides[0].factor)
    wrong = [slope is not None and _against(varied, column, slope) for slope in slopes]
    less, more = slopes
    agree = less is not None and more is not None and abs(more - less) <= _BEND * span and not any(wrong)
    jumped = [bool(side.switches) and not agree for side in sides]
    smooth = agree or (less is None and more is None and not any(jumped))
    slopes = [None if jump else slope for slope, jump in zip(slopes, jumped, strict=True)]
    return _Response(ends, slopes, jumped, wrong, smooth, _elasticity(ends, slopes, jumped, span))


def _elasticity(
    ends: Sequence[float | None], slopes: Sequence[float | None], jumped: Sequence[bool], span: float
) -> float | None:
    """The elasticity over both sides where both count, else of the side that does.

    None where neither side counts because NCCL chooses another way, 0 where neither does for another reason.
    """
    counted = [slope for slope in slopes if slope is not None]
    if len(counted) == 2:
        assert ends[0] and ends[1]
        return log(ends[1] / ends[0]) / span
    return counted[0] if counted else None if any(jumped) else 0.0


def _row_of(varied: Input, column: str, base: Row, sides: Sequence[Changed]) -> dict[str, Any]:
    """The row of an input that was varied; its keys are those of `COLUMNS` but 'scenario'."""
    value = base[column]
    ends, slopes, jumped, wrong, smooth, elasticity = _response(varied, column, value, sides)
    expected = [None if j and w else end for end, j, w in zip(ends, jumped, wrong, strict=True)]
    problems = [side.row for side in sides if isinstance(side.row, str)]
    return {
        "column": column,
        "value": value,
        "input": varied.name,
        "title": varied.title,
        "input_value": varied.value,
        "unit": varied.unit,
        "figures": " ".join(varied.figures),
        "dimension": varied.dimension,
        "less": sides[0].factor,
        "more": sides[1].factor,
        "value_less": ends[0],
        "value_more": ends[1],
        "elasticity": elasticity,
        "elasticity_less": slopes[0],
        "elasticity_more": slopes[1],
        **_gain(column, value, expected),
        "smooth": smooth,
        "compound": varied.compound,
        "summed": varied.dimension != "other" and not varied.compound and elasticity is not None,
        "remark": "; ".join([*dict.fromkeys(problems), *_reasons(sides, jumped, wrong), *_jumps(base, sides)]),
    }


def _against(varied: Input, column: str, slope: float) -> bool:
    """Whether a faster thing makes the answer worse, or a slower one better."""
    way = scaling(column)
    if way is None or varied.dimension == "other":
        return False
    return slope * (way if varied.dimension == "rate" else -way) < -UNSEEN / CHANGE


_AGAINST = "and the effect is the opposite of what one expects"


def _reasons(sides: Sequence[Changed], jumped: Sequence[bool], wrong: Sequence[bool]) -> list[str]:
    """Where NCCL chooses differently, and where faster hardware gives a worse answer."""
    reasons = []
    for side, jump, bad in zip(sides, jumped, wrong, strict=True):
        if jump:
            more = f" and {len(side.switches) - 1} more" if len(side.switches) > 1 else ""
            against = f", {_AGAINST}" if bad else ""
            reasons.append(f"at {side.factor:.3g} x NCCL chooses differently{against}: {side.switches[0]}{more}")
        elif bad:
            reasons.append(f"another choice of tiles or kernels, {_AGAINST}")
    return list(dict.fromkeys(reasons))


def _of_price(column: str, value: float, price: float, change: float) -> dict[str, Any]:
    """The row of the price, to which cost is proportional by definition."""
    less, more = sides_of(change)
    row = dict.fromkeys(COLUMNS)
    row |= {"column": column, "value": value, "input": "price", "title": "Price of a GPU-hour", "input_value": price}
    row |= {"unit": "USD/h", "figures": "", "dimension": "other", "less": less, "more": more}
    row |= {"value_less": value * less, "value_more": value * more, "elasticity": 1.0}
    row |= {"elasticity_less": 1.0, "elasticity_more": 1.0, "better_side": "less", "gain": 1 - less}
    row |= {"smooth": True, "compound": False, "summed": False, "remark": ""}
    del row["scenario"]
    return row


def _swing(row: Row) -> float:
    ends = [row[key] for key in ("value_less", "value_more") if row[key] is not None]
    return max((abs(end / row["value"] - 1) for end in ends), default=0.0)


def _jumps(base: Row, sides: Sequence[Changed]) -> list[str]:
    """Columns of `_HELD` that change with an input: their values with less of it, unchanged and with more."""
    changes = []
    for key in _HELD:
        if key not in base:
            continue
        values = [base[key] if isinstance(side.row, str) else side.row.get(key) for side in sides]
        if any(value != base[key] for value in values):
            words = [_word(value) for value in (values[0], base[key], values[1])]
            changes.append(f"{key} {words[0]} / {words[1]} / {words[2]}")
    return changes


def _word(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:,}"


def _gain(column: str, value: float, ends: Sequence[float | None]) -> dict[str, Any]:
    """Which side of an input betters the answer, and by how much."""
    good = sign(column)
    sides = [
        (side, (end / value - 1) * (good or 1) + 0.0)  # no negative zero
        for side, end in (("more", ends[1]), ("less", ends[0]))
        if end is not None
    ]
    side, gain = (max(sides, key=lambda side: side[1]) if good else sides[0]) if sides else ("more", 0.0)
    return {"better_side": side, "gain": gain}


def document(experiment: Experiment, results: Sequence[Sensitivity]) -> dict[str, Any]:
    """The JSON document of the sensitivities of an experiment."""
    return {
        "experiment": experiment.name,
        "simgpu_version": __version__,
        "settings": list(experiment.settings),
        "sensitivities": [result.document() for result in results],
    }
