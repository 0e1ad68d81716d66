"""From evidence to a verdict, the same rules for every cell.

In this order: impossible, inconsistent, apples to oranges, reproduced, plausible or off, undecidable. No rule knows an
entry, a GPU or a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from simgpu.claims.answers import Answer
from simgpu.claims.bounds import SLACK, bounds, misfit
from simgpu.claims.by_catalogue import by_catalogue
from simgpu.claims.by_runs import by_measurement, by_price, by_simulation
from simgpu.claims.case import BEYOND, Case, capital, ratio_of, times
from simgpu.claims.conventions import explained
from simgpu.claims.derived import derived
from simgpu.claims.evidence import CONSTANTS, Implied, alternatives, cited, implied, meets, missing_inputs
from simgpu.claims.finding import IMPOSSIBLE, INCONSISTENT, OFF, REPRODUCED, UNDECIDABLE, Finding, Number
from simgpu.claims.quantities import TABLE, show

SERVED = ("tokens_per_s", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "tpot", "usd_per_token")
"""Quantities that need the model in memory."""
LACKS: Mapping[str, str] = {
    "replicas": "what a concurrent user is (in flight, a rate, a think time), lengths, and the latency that must hold",
    "busy": "the share of the GPU time that is overhead",
    "job_time": "the tokens or samples of the job",
    "correctable_rate": "a measurement of this memory",
    "flip_rate": "a measurement of this memory: it has no counter of flips",
}  # fmt: skip
"""What the words would have to say for quantities that nothing here computes."""


def judged(case: Case) -> Finding:
    """The verdict on a cell, with every number that there is."""
    figures = implied(case.bench, case.record, case.name, case.kind)
    alone = _is_arithmetic(case, figures) or (case.name in SERVED and misfit(case.bench, case.record))
    answer = None if alone else derived(case.bench, case.record, case.name, case.kind)
    found = _decided(case, figures, answer)
    more: dict[str, object] = {}
    if found.simulated is None and answer is not None and answer.corners:
        more["simulated"] = Number(answer.low, answer.value, answer.high)
    if found.computed is None and figures:
        more["computed"] = Number.of(figures[0].interval, figures[0].relation.name)
    known = cited(case.entry, case.record, case.name)
    if found.measured is None and known is not None:
        more["measured"] = Number(known[0].low, known[0].value, known[0].high, known[1])
    return replace(found, **more) if more else found  # type: ignore[arg-type]


def _is_arithmetic(case: Case, figures: Sequence[Implied]) -> bool:
    """True if the cell follows from printed figures and is money, which nothing simulates."""
    return case.cell.quantity.role in ("cost", "power") and bool(figures)


def _decided(case: Case, figures: Sequence[Implied], answer: Answer | None) -> Finding:
    first = _impossible(case)
    if first is not None:
        return first
    consistent = _by_equation(case, [one for one in figures if one.own])
    if consistent is not None and consistent.verdict != REPRODUCED:
        return consistent
    return (
        by_catalogue(case)
        or consistent
        or _by_equation(case, [one for one in figures if not one.own])
        or by_measurement(case)
        or by_simulation(case, answer)
        or by_price(case)
        or _undecided(case, answer)
    )


# ---- bounds ------------------------------------------------------------------------------------------


def _impossible(case: Case) -> Finding | None:
    figure = case.cell.figure
    if figure.flag is not None:
        return None
    if case.name in SERVED and figure.value > 0 and (words := misfit(case.bench, case.record)):
        return case.finding(IMPOSSIBLE, f"{capital(words)}.", explanation="does not fit")
    for one in bounds(case.bench, case.record, case.name, case.kind):
        beyond = figure.high < one.value / (1 + SLACK) if one.least else figure.low > one.value * (1 + SLACK)
        if beyond:
            end = figure.high if one.least else figure.low
            factor = figure.value / one.value
            size = max(end / one.value, one.value / end) if end > 0 else float("inf")
            word = "below" if one.least else "above"
            words = explained(factor, case.dimension)
            reason = f"{size:.3g} times {word} the bound of {case.show(one.value)}: {one.words}"
            return case.finding(
                IMPOSSIBLE, reason + (f" (the factor is near {words})." if words else "."), factor=factor,
                bound=Number(one.value, one.value, one.value, one.words), explanation=words or "beyond a bound",
            )  # fmt: skip
    return None


# ---- equations ---------------------------------------------------------------------------------------


def _by_equation(case: Case, figures: Sequence[Implied]) -> Finding | None:
    if not figures or case.cell.figure.flag is not None:
        return None
    best = next((one for one in figures if _meets(case, one)), figures[0])
    number = Number.of(best.interval, best.relation.name)
    if _meets(case, best):
        return case.finding(
            REPRODUCED, f"{best.relation.equation} gives {_wide(case, number)}.", computed=number,
            factor=ratio_of(case.cell.figure.value, number.value),
        )  # fmt: skip
    factor = ratio_of(case.cell.figure.value, number.value)
    words = explained(factor, case.dimension) if factor else ""
    what = "its own inputs give" if best.own else "the words give"
    reason = f"{best.relation.equation}: {what} {case.show(number.value)}, {times(factor)}"
    if words:
        reason += f"; the factor is near {words}"
    if best.own:
        other = alternatives(case.record, best, case.cell)
        said = [f"{name} {_ends(name, interval)}" for name, interval in other.items() if interval[0] > 0]
        reason += f"; or {' or '.join(said[:3])}" if said else ""
    verdict = INCONSISTENT if best.own else OFF
    return case.finding(verdict, reason + ".", computed=number, factor=factor, explanation=words)


def _wide(case: Case, number: Number) -> str:
    """A computed figure; its ends where they are far apart."""
    if number.low > 0 and number.high / number.low > 1 + BEYOND:
        return case.span(number.low, number.high)
    return case.show(number.value)


def _meets(case: Case, one: Implied) -> bool:
    low, high = one.interval
    if case.name in ("gpus_per_budget", "count_for_price", "replicas"):  # whole numbers: rounded down or up
        low, high = float(int(low)), high + 1
    return meets(case.cell.figure, (low, high), CONSTANTS)


def _ends(name: str, interval: tuple[float, float]) -> str:

    low, high = interval
    return show((low * high) ** 0.5 if low > 0 and high < float("inf") else low, TABLE[name])


def _undecided(case: Case, answer: Answer | None) -> Finding:
    lacking = LACKS.get(case.name)
    if lacking is None:
        lacking = ", ".join(answer.missing) if answer is not None and answer.missing else lacks(case)
    return case.finding(UNDECIDABLE, f"Nothing here decides it; missing: {lacking}.", missing=(lacking,))


def lacks(case: Case) -> str:
    """Quantities that would decide a cell: those that the nearest equation lacks."""
    options = missing_inputs(case.bench, case.record, case.name, case.kind)
    return ", ".join(min(options, key=lambda one: len(list(one)))) if options else "figures that it follows from"
