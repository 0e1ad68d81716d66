"""From evidence to a verdict, the same rules for every cell.

In this order: impossible, inconsistent, apples to oranges, reproduced, plausible or off, undecidable. No rule knows an
entry, a GPU or a model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from simgpu.claims.bench import Bench
from simgpu.claims.bounds import SLACK, bounds, misfit
from simgpu.claims.conventions import explained
from simgpu.claims.entry import Cell, Entry, Record
from simgpu.claims.evidence import CONSTANTS, DATASHEET, Implied, alternatives, cited, implied, meets, missing_inputs, readings_of
from simgpu.claims.facts import gpu_of
from simgpu.claims.finding import (
    APPLES,
    IMPOSSIBLE,
    INCONSISTENT,
    OFF,
    PLAUSIBLE,
    REPRODUCED,
    UNDECIDABLE,
    Finding,
    Number,
)
from simgpu.claims.quantities import show
from simgpu.claims.readings import DATED, Reading
from simgpu.claims.simulated import Answer, simulated
from simgpu.hardware.spec import GPUSpec

BEYOND = 0.10
"""How far (relative) outside an interval a figure must lie to be off."""
MOVES = 2.0
"""Factor by which prices of one thing differ between vendors and months (392 dated prices, OPERATIONS study)."""
SERVED = ("tokens_per_s", "tokens_per_s_per_user", "tokens_per_s_per_gpu", "tpot", "usd_per_token")
"""Quantities that need the model in memory."""
LACKS: Mapping[str, str] = {
    "replicas": "what a concurrent user is: a request in flight, a rate of requests, or a think time; lengths; and the latency that must hold",
    "busy": "the share of the GPU time that is overhead",
    "job_time": "the tokens or samples of the job",
    "correctable_rate": "a measurement of this memory",
    "flip_rate": "a measurement of this memory: it has no counter of flips",
}  # fmt: skip
"""What the words would have to say for quantities that nothing here computes."""


@dataclass(frozen=True)
class Case:
    """A cell with its surroundings."""

    bench: Bench
    entry: Entry
    record: Record
    cell: Cell
    beside: Sequence[tuple[Record, Cell]]  # cells of the same quantity in the row, this one among them

    @property
    def name(self) -> str:
        """The quantity's name."""
        return self.cell.quantity.name

    @property
    def dimension(self) -> str:
        """What conventions can apply to: the quantity's dimension; times of transfers go by those of rates."""
        transfer = self.name == "communication" or (self.name == "time" and self.kind == "collective")
        return "transfer" if transfer else self.cell.quantity.dimension

    @property
    def kind(self) -> str:
        """The kind of the entry."""
        return self.entry.fields.kind

    def finding(self, verdict: str, reason: str, **more: object) -> Finding:
        """A finding about the cell."""
        line = self.entry.document.line_of((*self.entry.path, *self.cell.path))
        return Finding(
            self.entry.fields.id, self.kind, self.record.label, self.record.subject, self.cell.column,
            self.cell.quantity, self.cell.figure, verdict, reason, path=self.cell.path, line=line, unit=self.cell.unit, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def show(self, value: float) -> str:
        """A value of the cell's quantity."""
        return show(value, self.cell.quantity, self.cell.unit)

    def span(self, low: float, high: float) -> str:
        """Two values of the cell's quantity, the unit once if it is one."""
        first, second = self.show(low), self.show(high)
        same = first.partition(" ")[2] == second.partition(" ")[2]
        return f"{first.partition(' ')[0] if same else first} to {second}"


def judged(case: Case) -> Finding:
    """The verdict on a cell, with every number that there is."""
    figures = implied(case.bench, case.record, case.name, case.kind)
    answer = None if _is_arithmetic(case, figures) else simulated(case.bench, case.record, case.name, case.kind)
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
    steps = (
        lambda: _by_catalogue(case),
        lambda: consistent,
        lambda: _by_equation(case, [one for one in figures if not one.own]),
        lambda: _by_measurement(case),
        lambda: _by_simulation(case, answer),
        lambda: _by_price(case),
    )
    for step in steps:
        found = step()
        if found is not None:
            return found
    return _undecided(case, answer)


# ---- bounds ------------------------------------------------------------------------------------------


def _impossible(case: Case) -> Finding | None:
    figure = case.cell.figure
    if figure.flag is not None:
        return None
    if case.name in SERVED and figure.value > 0 and (words := misfit(case.bench, case.record)):
        return case.finding(IMPOSSIBLE, f"{_capital(words)}.", explanation="does not fit")
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
            factor=_ratio(case.cell.figure.value, number.value),
        )  # fmt: skip
    factor = _ratio(case.cell.figure.value, number.value)
    words = explained(factor, case.dimension) if factor else ""
    what = "its own inputs give" if best.own else "the words give"
    reason = f"{best.relation.equation}: {what} {case.show(number.value)}, {_times(factor)}"
    if words:
        reason += f"; the factor is near {words}"
    if best.own:
        other = alternatives(case.bench, case.record, best, case.cell)
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
    from simgpu.claims.quantities import TABLE

    low, high = interval
    return show((low * high) ** 0.5 if 0 < low and high < float("inf") else low, TABLE[name])


def _ratio(claimed: float, value: float) -> float | None:
    return claimed / value if value > 0 and claimed > 0 else None


def _times(factor: float | None) -> str:
    if factor is None:
        return "not this"
    return f"the claim is {factor:.3g} times that" if factor >= 1 else f"the claim is 1/{1 / factor:.3g} of that"


# ---- the catalogue -----------------------------------------------------------------------------------


def _matching(entry: Entry, bench: Bench, record: Record, cell: Cell) -> list[Reading]:
    found = readings_of(bench.catalogue, entry, record, cell.quantity.name)
    return [one for one in found if _reads(cell, one)]


def _reads(cell: Cell, reading: Reading) -> bool:
    if reading.value == 0 or cell.figure.whole:
        if cell.figure.value == 0 or reading.value == 0 or cell.figure.flag is not None:
            return cell.figure.value == reading.value
        return abs(cell.figure.value - reading.value) < 0.5
    return meets(cell.figure, (reading.value, reading.value), DATASHEET)


def _by_catalogue(case: Case) -> Finding | None:
    every = readings_of(case.bench.catalogue, case.entry, case.record, case.name)
    if not every:
        return None
    mine = [one for one in every if _reads(case.cell, one)]
    usual = [one for one in every if one.usual] or list(every)
    nearest = min(usual, key=lambda one: abs(one.value - case.cell.figure.value))
    number = Number(nearest.value, nearest.value, nearest.value, nearest.convention)
    if not mine:
        return _not_in_catalogue(case, number, every)
    if any(one.usual for one in mine):
        return _mixed(case, mine, number) or case.finding(
            REPRODUCED, f"The catalogue has {case.show(number.value)}{_in(nearest.convention)}.", computed=number, factor=1.0
        )
    common = _shared(case)
    matched = " or ".join(one.convention for one in mine)
    reason = f"{case.cell.figure.text} is {matched}; the name alone means {usual[0].convention}: {case.show(usual[0].value)}"
    if common and len(case.beside) > 1 and not _some_usual(case):
        return case.finding(
            REPRODUCED, f"All cells of the row are {common[0]}; {usual[0].convention} it is {case.show(usual[0].value)}.",
            computed=Number(mine[0].value, mine[0].value, mine[0].value, common[0]), factor=1.0,
        )  # fmt: skip
    if len(case.beside) > 1:
        reason += ", as beside it" if _some_usual(case) else ""
    return case.finding(
        APPLES, reason + ".", computed=number, factor=_ratio(case.cell.figure.value, usual[0].value), explanation=matched
    )


def _some_usual(case: Case) -> bool:
    """True if another cell of the row is in the usual convention."""
    return any(
        any(one.usual for one in _matching(case.entry, case.bench, record, cell))
        for record, cell in case.beside
        if cell is not case.cell
    )


def _shared(case: Case) -> list[str]:
    """Conventions in which every cell of the row that has any reading can be read."""
    sets = [{one.convention for one in _matching(case.entry, case.bench, *pair)} for pair in case.beside]
    sets = [one for one in sets if one]
    common = set.intersection(*sets) if sets else set()
    return sorted(common)


def _mixed(case: Case, mine: Sequence[Reading], number: Number) -> Finding | None:
    """Apples to oranges where cells of a row whose name means several conventions share none, as of links."""
    every = readings_of(case.bench.catalogue, case.entry, case.record, case.name)
    if len(case.beside) < 2 or len({one.convention for one in every if one.usual}) < 2 or case.name in ("memory", "l2", "ai"):
        return None
    if case.name != "interconnect" or _shared(case):
        return None
    others = sorted({one.convention for pair in case.beside for one in _matching(case.entry, case.bench, *pair)})
    return case.finding(
        APPLES, f"{case.cell.figure.text} is of {mine[0].convention}; cells of this row are of {' and of '.join(others)}.",
        computed=number, explanation=mine[0].convention,
    )  # fmt: skip


def _not_in_catalogue(case: Case, number: Number, every: Sequence[Reading]) -> Finding:
    if case.cell.figure.flag is not None or number.value == 0 or case.cell.figure.value == 0:
        return case.finding(OFF, f"The catalogue says {case.show(number.value)}{_in(number.words)}.", computed=number)
    factor = case.cell.figure.value / number.value
    words = explained(factor, case.dimension)
    reason = f"The catalogue has {case.show(number.value)}{_in(number.words)}, {_times(factor)}"
    reason += f"; the factor is near {words}" if words else f"; no convention of {len(every)} gives it"
    return case.finding(OFF, reason + ".", computed=number, factor=factor, explanation=words)


def _in(convention: str) -> str:
    return f" ({convention})" if convention else ""


# ---- measurements, simulations, prices ---------------------------------------------------------------


def _by_measurement(case: Case) -> Finding | None:
    known = cited(case.entry, case.record, case.name)
    if known is None:
        return None
    figure, source = known
    number = Number(figure.low, figure.value, figure.high, source)
    factor = _ratio(case.cell.figure.value, figure.value)
    if meets(case.cell.figure, (figure.low, figure.high), BEYOND):
        return case.finding(REPRODUCED, f"Measured: {case.show(figure.value)} ({source}).", measured=number, factor=factor)
    return case.finding(OFF, f"Measured: {case.show(figure.value)}, {_times(factor)} ({source}).", measured=number, factor=factor)


def _by_simulation(case: Case, answer: Answer | None) -> Finding | None:
    if answer is None:
        return None
    if not answer.corners:
        refused = "does not fit" in answer.refused and case.cell.figure.value > 0
        reason = f"{_capital(answer.refused)}."
        if refused and "precision" not in case.record.words:
            missing = (*answer.missing, "precision")
            return case.finding(UNDECIDABLE, f"{reason[:-1]} in 16 bits; narrower weights are not excluded.", missing=missing)
        verdict = OFF if refused else UNDECIDABLE
        return case.finding(verdict, reason, missing=answer.missing, explanation="does not fit" if refused else "")
    if case.cell.figure.flag is not None:
        return _flagged(case, answer)
    number = Number(answer.low, answer.value, answer.high, "simulated")
    inside = [one for one in answer.corners if meets(case.cell.figure, (one.low, one.high), 0.0)]
    near = [one for one in answer.corners if meets(case.cell.figure, (one.low, one.high), BEYOND)]
    closest = min(answer.corners, key=lambda one: abs(_log(case.cell.figure.value) - _log(one.value)))
    factor = _ratio(case.cell.figure.value, closest.value)
    where = f" with {closest.words}" if closest.words and len(answer.corners) > 1 else ""
    if not near and answer.missing and meets(case.cell.figure, (answer.low, answer.high), 0.0):
        reason = f"Between the corners of what is not said ({', '.join(answer.missing)}): {case.span(answer.low, answer.high)}"
        return case.finding(UNDECIDABLE, reason + ".", simulated=number, factor=factor, missing=answer.missing)
    if not near:
        words = explained(factor, case.dimension) if factor else ""
        reason = f"Simulated {case.show(closest.value)} ({case.span(closest.low, closest.high)}){where}, {_times(factor)}"
        reason += f"; the factor is near {words}" if words and factor and not 0.4 < factor < 2.5 else ""
        if len(answer.corners) > 1:
            reason += f"; all {len(answer.corners)} readings of the words are off"
        return case.finding(OFF, reason + ".", simulated=number, factor=factor, explanation=words)
    if len(near) < len(answer.corners) and answer.missing:
        reason = f"Simulated {case.span(answer.low, answer.high)}: it holds{where}, not everywhere; not said: {', '.join(answer.missing)}"
        return case.finding(UNDECIDABLE, reason + ".", simulated=number, factor=factor, missing=answer.missing)
    if len(answer.corners) == 1 and meets(case.cell.figure, (closest.value, closest.value), CONSTANTS):
        return case.finding(REPRODUCED, f"Simulated {case.show(closest.value)}.", simulated=number, factor=factor)
    edge = "" if inside else ", at its edge"
    reason = f"Within the simulated {case.span(answer.low, answer.high)}{edge}"
    return case.finding(PLAUSIBLE, reason + ".", simulated=number, factor=factor)


def _flagged(case: Case, answer: Answer) -> Finding:
    """Verdict on a yes or no."""
    claimed = case.cell.figure.value
    same = [one for one in answer.corners if one.value == claimed]
    number = Number(answer.low, answer.value, answer.high, "simulated")
    if len(same) == len(answer.corners):
        return case.finding(REPRODUCED, f"By the words it {_so(claimed)}: {same[0].words}.", simulated=number)
    if same:
        words = next(one.words for one in answer.corners if one.value != claimed)
        reason = f"Yes and no: {same[0].words}; but {words}"
        return case.finding(UNDECIDABLE, reason + ".", simulated=number, missing=answer.missing)
    verdict = IMPOSSIBLE if claimed and misfit(case.bench, case.record) else OFF
    return case.finding(
        verdict, f"By the words it {_so(1 - claimed)}: {answer.corners[0].words}.", simulated=number, explanation="does not fit"
    )


def _so(value: float) -> str:
    return "fits" if value else "does not fit"


def _by_price(case: Case) -> Finding | None:
    gpu = gpu_of(case.bench.catalogue, case.record)
    if gpu is None or case.name not in DATED or not isinstance(gpu, GPUSpec):
        return None
    known = next(iter(DATED[case.name](gpu, case.bench.catalogue)), None)
    if known is None:
        return case.finding(UNDECIDABLE, "Prices change: a date and a vendor would say which.", missing=("date", "vendor"))
    gpus = case.record.known("gpus")
    known = Reading(known.convention, known.value * (gpus.value if gpus is not None else 1.0))
    number = Number(known.value / MOVES, known.value, known.value * MOVES, "catalogue")
    factor = _ratio(case.cell.figure.value, known.value)
    if meets(case.cell.figure, (number.low, number.high), 0.0):
        reason = f"The catalogue has {case.show(known.value)}; prices of one card differ by {MOVES:g} and more between vendors and months."
        return case.finding(PLAUSIBLE, reason, computed=number, factor=factor)
    reason = f"The catalogue has {case.show(known.value)}, {_times(factor)}; a date and a vendor would decide."
    return case.finding(UNDECIDABLE, reason, computed=number, factor=factor, missing=("date", "vendor"))


def _undecided(case: Case, answer: Answer | None) -> Finding:
    lacking = LACKS.get(case.name)
    if lacking is None:
        lacking = ", ".join(answer.missing) if answer is not None and answer.missing else lacks(case)
    return case.finding(UNDECIDABLE, f"Nothing here decides it; missing: {lacking}.", missing=(lacking,))


def lacks(case: Case) -> str:
    """Quantities that would decide a cell: those that the nearest equation lacks."""
    options = missing_inputs(case.bench, case.record, case.name, case.kind)
    return ", ".join(min(options, key=len)) if options else "figures that it follows from"


def _log(value: float) -> float:
    import math

    return math.log(value) if value > 0 else -1e9


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
