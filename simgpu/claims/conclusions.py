"""Does the conclusion survive? Ratios and winners, as printed, with corrected cells, and simulated.

The probability that an order holds takes both sides as lognormal: of simulations from P10 and P90, of printed figures
from the ends of what was printed, which are as likely as what lies between.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import NormalDist

from simgpu.claims.answers import Answer
from simgpu.claims.bench import Bench
from simgpu.claims.case import BEYOND
from simgpu.claims.conventions import explained
from simgpu.claims.derived import derived
from simgpu.claims.entry import Compared, Entry, Record, subjects
from simgpu.claims.evidence import CONSTANTS, implied, meets, readings_of
from simgpu.claims.finding import (
    APPLES,
    INCONSISTENT,
    OFF,
    PLAUSIBLE,
    REPRODUCED,
    UNDECIDABLE,
    Finding,
    Number,
    Survival,
)
from simgpu.claims.printed import Printed
from simgpu.claims.quantities import Quantity

RATIO = Quantity("ratio", "number", "", "derived", (), "one column over another")
Z = 1.2816
"""Quantile of a normal distribution at 90 %."""


def compared(bench: Bench, entry: Entry, one: Compared) -> tuple[Finding | None, Survival]:
    """The finding on a printed ratio or factor, and whether the order of the two survives."""
    name = one.quantity or _common(entry, one)
    pair = [_record(bench, entry, one, subject) for subject in (one.first, one.second)]
    claimed = _claimed_ratio(one)
    printed_ratio = _ratio_of([_printed(record, name) for record in pair])
    corrected = _ratio_of([_corrected(bench, entry, record, name) for record in pair])
    answers = [None if record is None else derived(bench, record, name, entry.fields.kind) for record in pair]
    model = _ratio_of_answers(answers)
    arithmetic = any(record is not None and _own(bench, entry, record, name) for record in pair)
    finding = None if claimed is None else _finding(entry, one, claimed, (printed_ratio, corrected, arithmetic), model)
    return finding, _survival(entry, one, name, claimed, printed_ratio, corrected, model, _refusals(one, answers))


def _common(entry: Entry, one: Compared) -> str:
    for record in subjects(entry.records, one.row, one.first):
        return next(iter(record.cells), "")
    return ""


def _record(bench: Bench, entry: Entry, one: Compared, subject: str) -> Record | None:
    """The record of a column, or, where the row prints none, one with the words of the row about that GPU."""
    found = next(subjects(entry.records, one.row, subject), None)
    if found is not None:
        return found
    base = next((record for record in entry.records if record.row == one.row), None)
    if base is None:
        words, inputs = _of_inputs(entry)
        base = Record(one.row, one.label, words, inputs, {})
    key = "gpu" if bench.catalogue.find("gpus", subject) else "cluster"
    return replace(base, words={**base.words, key: (subject,)}, cells={}, shared={**base.shared, **base.cells})


def _of_inputs(entry: Entry) -> tuple[Mapping[str, tuple[str, ...]], Mapping[str, tuple[Printed, ...]]]:
    for record in entry.records:
        return record.words, record.inputs
    return {}, {}


def _claimed_ratio(one: Compared) -> Printed | None:
    """First over second as claimed; of a winner by a factor, the way round that its direction says."""
    if one.figure is None or one.winner is None:
        return one.figure
    figure = one.figure
    up = (one.winner == one.first) == (one.better != "lower")
    return figure if up else Printed(figure.text, 1 / figure.high, 1 / figure.value, 1 / figure.low)


# ---- three ways to the figures -----------------------------------------------------------------------


def _printed(record: Record | None, name: str) -> Number | None:
    figure = record.known(name) if record is not None else None
    return None if figure is None or figure.value <= 0 else Number(figure.low, figure.value, figure.high)


def _corrected(bench: Bench, entry: Entry, record: Record | None, name: str) -> Number | None:
    """What the cell's own equation gives, else the catalogue in the usual convention, else what is printed."""
    if record is None:
        return None
    figures = [one for one in implied(bench, record, name, entry.fields.kind) if one.own]
    figure = record.known(name)
    if figures:
        best = next((one for one in figures if figure and meets(figure, one.interval, CONSTANTS)), figures[0])
        return Number.of(best.interval)
    usual = [one.value for one in readings_of(bench.catalogue, entry, record, name) if one.usual and one.value > 0]
    if usual:
        return Number(min(usual), math.sqrt(min(usual) * max(usual)), max(usual))
    return _printed(record, name)


def _own(bench: Bench, entry: Entry, record: Record, name: str) -> bool:
    return any(one.own for one in implied(bench, record, name, entry.fields.kind))


# ---- ratios and probabilities ------------------------------------------------------------------------


def _ratio_of(pair: Sequence[Number | None]) -> Number | None:
    first, second = pair
    if first is None or second is None or second.low <= 0 or math.inf in (first.high, second.high):
        return None
    return Number(first.low / second.high, first.value / second.value, first.high / second.low)


def _ratio_of_answers(answers: Sequence[Answer | None]) -> list[tuple[float, float]]:
    """For each corner that both have: the logarithm of the ratio, and its standard deviation."""
    first, second = answers
    if first is None or second is None:
        return []
    beside = {one.words: one for one in second.corners}
    made = []
    for one in first.corners:
        other = beside.get(one.words)
        if other is not None and one.value > 0 and other.value > 0:
            spread = [math.log(max(x.high / x.low, 1.0)) / (2 * Z) if x.low > 0 else 0.0 for x in (one, other)]
            made.append((math.log(one.value / other.value), math.hypot(*spread)))
    return made


def _refusals(one: Compared, answers: Sequence[Answer | None]) -> list[str]:
    """Which of the two cannot run at all, and why."""
    return [
        f"{name}: {answer.refused}"
        for name, answer in zip((one.first, one.second), answers, strict=True)
        if answer is not None and not answer.corners and answer.refused
    ]


def _probability(ratio: Number, above: bool) -> float:
    """That the first is above (or below) the second, for figures that are known to their ends."""
    if ratio.low >= 1 or ratio.high <= 1:
        return float((ratio.low >= 1) == above)
    share = math.log(ratio.high) / math.log(ratio.high / ratio.low)
    return share if above else 1 - share


def _of_model(model: Sequence[tuple[float, float]], above: bool) -> float:
    each = [NormalDist(mean, max(spread, 1e-9)).cdf(0.0) for mean, spread in model]
    below = sum(each) / len(each)
    return 1 - below if above else below


def _span(model: Sequence[tuple[float, float]]) -> Number:
    low = min(mean - Z * spread for mean, spread in model)
    high = max(mean + Z * spread for mean, spread in model)
    means = [mean for mean, _ in model]
    return Number(math.exp(low), math.exp((min(means) + max(means)) / 2), math.exp(high))


def _finding(
    entry: Entry, one: Compared, claimed: Printed, ratios: tuple[Number | None, Number | None, bool],
    model: Sequence[tuple[float, float]],
) -> Finding:  # fmt: skip
    printed_ratio, corrected, arithmetic = ratios
    span = _span(model) if model else None
    said = {"computed": printed_ratio or corrected, "simulated": span}
    text = Printed(one.figure.text if one.figure else "", claimed.low, claimed.value, claimed.high)

    def made(verdict: str, reason: str, **more: object) -> Finding:
        line = entry.document.line_of((*entry.path, *one.path))
        return Finding(
            entry.fields.id, entry.fields.kind, one.label, f"{one.first} / {one.second}", "ratio", RATIO, text, verdict,
            reason, path=one.path, line=line, **{**said, **more},  # type: ignore[arg-type]
        )  # fmt: skip

    if printed_ratio is not None:
        factor = claimed.value / printed_ratio.value
        if not meets(claimed, (printed_ratio.low, printed_ratio.high), CONSTANTS):
            words = explained(factor, "number")
            return made(
                INCONSISTENT, f"The two columns give {printed_ratio.value:.3g}, the claim is {factor:.3g} times that"
                + (f"; the factor is near {words}." if words else "."), factor=factor, explanation=words,
            )  # fmt: skip
        if corrected is not None and not meets(claimed, (corrected.low, corrected.high), BEYOND):
            return made(
                INCONSISTENT if arithmetic else APPLES,
                f"The columns give {printed_ratio.value:.3g}, but corrected cells give {corrected.value:.3g}.",
                factor=claimed.value / corrected.value,
            )  # fmt: skip
        return made(REPRODUCED, f"The two columns give {printed_ratio.value:.3g}.", factor=factor)
    if corrected is not None and span is None:
        factor = claimed.value / corrected.value
        if meets(claimed, (corrected.low, corrected.high), CONSTANTS):
            return made(REPRODUCED, f"The catalogue gives {corrected.value:.3g}.", factor=factor)
        return made(OFF, f"The catalogue gives {corrected.value:.3g}.", factor=factor)
    if span is not None:
        factor = claimed.value / span.value
        if meets(claimed, (span.low, span.high), BEYOND):
            return made(PLAUSIBLE, f"Simulated {span.low:.3g} to {span.high:.3g}.", factor=factor)
        return made(OFF, f"Simulated {span.value:.3g} ({span.low:.3g} to {span.high:.3g}).", factor=factor)
    return made(UNDECIDABLE, "Neither printed nor computed figures of both are there.")


def _survival(
    entry: Entry, one: Compared, name: str, claimed: Printed | None, printed_ratio: Number | None,
    corrected: Number | None, model: Sequence[tuple[float, float]], refused: Sequence[str],
) -> Survival:  # fmt: skip
    if one.winner is not None:
        above = (one.winner == one.first) == (one.better != "lower")
    else:
        middle = claimed.value if claimed is not None else printed_ratio.value if printed_ratio else 1.0
        above = middle >= 1
    claim = (
        f"{one.winner or (one.first if above else one.second)} wins" if one.winner else f"{one.first} over {one.second}"
    )
    by = f" by {one.figure.text}" if one.figure is not None else ""
    span = _span(model) if model else None
    return Survival(
        entry.fields.id, one.label, f"{name}: {claim}{by}", _text(printed_ratio), _text(corrected),
        None if corrected is None else _probability(corrected, above),
        "; ".join(refused) if refused and span is None else _text(span),
        _of_model(model, above) if model else _by_default(one, refused),
    )  # fmt: skip


def _by_default(one: Compared, refused: Sequence[str]) -> float | None:
    """That a named winner wins where exactly one of the two cannot run at all."""
    if one.winner is None or len(refused) != 1:
        return None
    return 0.0 if refused[0].startswith(f"{one.winner}:") else 1.0


def _text(ratio: Number | None) -> str:
    if ratio is None:
        return ""
    if ratio.high / ratio.low < 1.02:
        return f"{ratio.value:.3g}"
    return f"{ratio.value:.3g} ({ratio.low:.3g} to {ratio.high:.3g})"
