"""How sure a comparison of two runs is, and what makes a run unsure.

Two runs share errors: a kernel of one shape on one GPU is off by the same factor in both, and what is systematic in a
class of kernels (`Uncertainty.correlated`) is the same for both on the same GPU with the same library. So relative
weights of equal errors are subtracted before they are squared; what remains is what differs.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import erf, log, sqrt
from typing import Any

from simgpu.analysis.breakdown import breakdown
from simgpu.analysis.inference import phases
from simgpu.analysis.training import anatomy, kernel_ends, spread_of, weighted
from simgpu.analysis.uncertainty import Part, Range, parts_of, variances
from simgpu.errors import InputError
from simgpu.hardware.inherit import Calibration
from simgpu.timing.distance import narrowed
from simgpu.timing.kernels import Uncertainty
from simgpu.timing.uncertainty import WholeRun, run_spread
from simgpu.workload.execution import Execution
from simgpu.workload.runtime_files import runtime
from simgpu.workload.runtimes import Runtime

STACK_CORRELATED = 0.5
"""Share of the variance of the stack around the kernels that runs of one framework on one GPU have in common.

`simgpu validate training --data DIR`, groups of source, GPU and framework with at least 4 rows (22): their medians of
log(measured / predicted) lie 0.085 apart (standard deviation); rows lie about their median by 0.061 (median over the
groups of 1.48 x the median distance) to 0.139 (standard deviation of all), which makes 0.66 to 0.27. Halfway."""

_Z90 = 1.2815515655446004  # 90 % quantile of the normal distribution


@dataclass(frozen=True)
class Term:
    """Seconds of a run with one error: `key` says which, so that the same error is known in another run.

    `of` is its class in plain words; `uncertainty.group` also names the GPU and library, outside of which nothing is
    shared.
    """

    seconds: float
    uncertainty: Uncertainty
    key: Hashable
    of: str


@dataclass(frozen=True)
class Unsure:
    """A time, s, and the errors it is made of: of its kernels, and of the run as a whole."""

    total: float
    kernels: Sequence[Term]
    whole: Term | None = None
    adds: bool = True  # whether the error of the whole comes on top of the kernels', or the wider of the two counts

    @property
    def runs_decide(self) -> bool:
        """Whether the error of the whole run counts in place of that of its kernels."""
        return self.whole is not None and not self.adds and _square([self.whole]) > _square(self.kernels)


def unsure(execution: Execution, row: Mapping[str, Any], time: str, about: Hashable, kernel: Calibration) -> Unsure:
    """The errors behind the column `time` of a row: 'step_s', 'tpot_s' or 'ttft_s'.

    `about` says what was run, hardware figures apart: the error of a whole run is one with that of the same run on
    changed figures. `kernel` are the constants of the GPU (`Cluster.kernel`).
    """
    gpu = row["gpu"]
    if row["workload"] == "training":
        found = anatomy(execution)
        terms = [_term(part, seconds, gpu) for seconds, part in weighted(found)]
        whole = spread_of(found, row["framework"], kernel, found.classes.get("moe", 0.0) > 0)
        ends = kernel_ends(found)
        low, high = narrowed(whole.low, whole.high, ends.p10 / found.step, ends.p90 / found.step)
        uncertainty = Uncertainty(f"stack {row['framework']} {gpu}", low, high, STACK_CORRELATED)
        return Unsure(found.step, terms, Term(found.step, uncertainty, ("stack", about), "stack"))
    if "runtime" not in row:
        parts = parts_of(execution, breakdown(execution).rank)
        own = [(p, p.seconds if p.activity.category == "compute" else p.exposed) for p in parts]
        return Unsure(execution.step, [_term(part, seconds, gpu) for part, seconds in own])
    wanted = {"tpot_s": "decode", "ttft_s": "prefill"}.get(time)
    found_parts = [(phase, part) for phase, _, some in phases(execution) for part in some]
    some = [part for phase, part in found_parts if wanted in (None, phase)]
    if not any(part.activity.kind != "host" for part in some):  # of a server the timeline has decodes only
        some = [part for _, part in found_parts]
    terms = [_term(part, part.exposed, gpu) for part in some if part.activity.kind != "host"]
    total = sum(part.exposed for part in some)
    return Unsure(total, terms, _run(row, time, total, about, kernel), adds=False)


def _term(part: Part, seconds: float, gpu: str) -> Term:
    one = part.activity
    library = one.chosen.library if one.chosen else one.time.library if one.time else ""
    chosen = (one.chosen.algorithm, one.chosen.protocol) if one.chosen else ()
    key = (gpu, one.kind, library, one.flops, one.bytes, one.group, chosen)
    return Term(
        seconds,
        replace(part.uncertainty, group=f"{part.uncertainty.group} {library} {gpu}"),
        key,
        part.uncertainty.group,
    )


_MEASURED_AS = {"ttft_s": ("ttft", "prefill"), "tpot_s": ("tpot", "decode"), "step_s": ("e2e", "decode")}


def _run(row: Mapping[str, Any], time: str, total: float, about: Hashable, kernel: Calibration) -> Term | None:
    """The error of a whole run of inference, by residuals of such runs; None where the row has no such time."""
    value = row.get(time)
    if not value:
        return None
    served, alone = _MEASURED_AS[time]
    engine = _shipped(row["runtime"])
    if engine is None:  # of a folder of the user: no runs of it stand behind the residuals
        op, library, measured = served, row["runtime"], False
    else:
        op, library = served if engine.style == "fused" else alone, engine.library(row["pp"])
        measured = engine.measured
    run = WholeRun(
        library=library,
        architecture=kernel.architecture,
        regime=kernel.regime("gemm"),
        version=measured,
        load=row["workload"] in ("serving", "traffic") and row.get("concurrency") != 1,
        queue=bool(row.get("saturated")) and time == "ttft_s",
        steps=kernel.steps(engine.engine if engine else row["runtime"])[1],
        scatter=kernel.scatter(engine.engine if engine else row["runtime"]),
    )
    found = run_spread(op, value, run)
    if not measured:
        library = row["runtime"] if engine is None else engine.name
    uncertainty = Uncertainty(f"run {time} {library} {row['gpu']}", found.low, found.high, found.correlated)
    return Term(total, uncertainty, ("run", time, about), "runs")


def _shipped(name: str) -> Runtime | None:
    """The runtime of that name, if it comes with simgpu."""
    try:
        return runtime(name)
    except InputError:
        return None


def _square(terms: Iterable[Term]) -> float:
    """Squared widths of both ends, together."""
    plain = [(term.seconds, term.uncertainty) for term in terms]
    return sum(sum(variances(plain, upper).values()) for upper in (False, True))


def contributions(of: Unsure) -> dict[str, float]:
    """What share of the (squared) width of the interval each class of error makes, largest first; they add up to 1.

    Where the error of the whole does not add to that of the kernels, these are the shares of the kernels' alone.
    """
    terms = [*of.kernels, *([of.whole] if of.whole and of.adds else [])]
    found: dict[str, float] = {}
    plain = [(term.seconds, term.uncertainty) for term in terms]
    words = {term.uncertainty.group: term.of for term in terms}
    for upper in (False, True):
        for group, variance in variances(plain, upper).items():
            found[words[group]] = found.get(words[group], 0.0) + variance
    total = sum(found.values())
    shares = {name: variance / total for name, variance in found.items() if total and variance > 0}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def ratio_range(above: Unsure, below: Unsure) -> Range:
    """P10 and P90 of (true time of `above` / true time of `below`) over the ratio of the predicted times.

    What both have in common cancels. Where whole runs were measured, the wider of what they and what kernels say.
    """
    whole = [[one.whole] if one.whole else [] for one in (above, below)]
    if above.adds:
        return _ends(above, below, [*above.kernels, *whole[0]], [*below.kernels, *whole[1]])
    kernels, runs = _ends(above, below, above.kernels, below.kernels), _ends(above, below, *whole)
    return Range(min(kernels.p10, runs.p10), max(kernels.p90, runs.p90))


def _ends(above: Unsure, below: Unsure, up: Iterable[Term], down: Iterable[Term]) -> Range:
    merged: dict[Hashable, tuple[float, Uncertainty]] = {}
    for terms, total, sign in ((up, above.total, 1), (down, below.total, -1)):
        for term in terms:
            weight, uncertainty = merged.get(term.key, (0.0, term.uncertainty))
            wider = max(uncertainty, term.uncertainty, key=lambda one: one.high / one.low)
            merged[term.key] = weight + sign * term.seconds / total, wider
    up_width, down_width = (sqrt(sum(variances(merged.values(), upper).values())) for upper in (True, False))
    return Range(1 / (1 + down_width), 1 + up_width)


def chance_above_one(value: float, p10: float, p90: float) -> float:
    """Probability that a positive ratio lies above 1: log-normal on each side of `value`, with these P10 and P90."""
    away = log(value)
    width = log(value / p10) if away > 0 else log(p90 / value)
    if away == 0 or width <= 0:
        return 0.5 if away == 0 else float(away > 0)
    return 0.5 * (1 + erf(_Z90 * away / width / sqrt(2)))


def sides_of(change: float) -> tuple[float, float]:
    """Factors of an input that is changed by the fraction `change` either way.

    From a half on, less is the inverse of more: an input cannot lose all of itself.

    >>> sides_of(0.1), sides_of(1.0)
    ((0.9, 1.1), (0.5, 2.0))
    """
    more = 1 + change
    return (1 - change if change < 0.5 else 1 / more), more
