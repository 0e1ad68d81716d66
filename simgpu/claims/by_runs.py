"""Verdicts by measurements that others published, by simulations, and by prices."""

from __future__ import annotations

from simgpu.claims.answers import Answer
from simgpu.claims.bounds import misfit
from simgpu.claims.case import BEYOND, Case, capital, log_of, ratio_of, times
from simgpu.claims.conventions import explained
from simgpu.claims.evidence import CONSTANTS, cited, meets
from simgpu.claims.facts import gpu_of
from simgpu.claims.finding import IMPOSSIBLE, OFF, PLAUSIBLE, REPRODUCED, UNDECIDABLE, Finding, Number
from simgpu.claims.readings import DATED, Reading

FAR = 7.0
"""Factor from a simulated value from which a convention is looked for: nearer, it may be the model or the words."""
MOVES = 2.0
"""Factor by which prices of one thing differ between vendors and months (392 dated prices, OPERATIONS study)."""


def by_measurement(case: Case) -> Finding | None:
    """The verdict by a cited measurement; None where none is cited."""
    known = cited(case.entry, case.record, case.name)
    if known is None:
        return None
    figure, source = known
    number = Number(figure.low, figure.value, figure.high, source)
    factor = ratio_of(case.cell.figure.value, figure.value)
    if meets(case.cell.figure, (figure.low, figure.high), BEYOND):
        return case.finding(
            REPRODUCED, f"Measured: {case.show(figure.value)} ({source}).", measured=number, factor=factor
        )
    return case.finding(
        OFF, f"Measured: {case.show(figure.value)}, {times(factor)} ({source}).", measured=number, factor=factor
    )


def by_simulation(case: Case, answer: Answer | None) -> Finding | None:
    """The verdict by the simulator; None where nothing is simulated for the quantity."""
    if answer is None:
        return None
    if not answer.corners:
        refused = "does not fit" in answer.refused and case.cell.figure.value > 0
        reason = f"{capital(answer.refused)}."
        if refused and "precision" not in case.record.words:
            missing = (*answer.missing, "precision")
            return case.finding(
                UNDECIDABLE, f"{reason[:-1]} in 16 bits; narrower weights are not excluded.", missing=missing
            )
        verdict = OFF if refused else UNDECIDABLE
        return case.finding(verdict, reason, missing=answer.missing, explanation="does not fit" if refused else "")
    if case.cell.figure.flag is not None:
        return _flagged(case, answer)
    number = Number(answer.low, answer.value, answer.high, "simulated")
    inside = [one for one in answer.corners if meets(case.cell.figure, (one.low, one.high), 0.0)]
    near = [one for one in answer.corners if meets(case.cell.figure, (one.low, one.high), BEYOND)]
    closest = min(answer.corners, key=lambda one: abs(log_of(case.cell.figure.value) - log_of(one.value)))
    factor = ratio_of(case.cell.figure.value, closest.value)
    where = f" with {closest.words}" if closest.words and len(answer.corners) > 1 else ""
    if not near and answer.missing and meets(case.cell.figure, (answer.low, answer.high), 0.0):
        unsaid = ", ".join(answer.missing)
        reason = f"Between the corners of what is not said ({unsaid}): {case.span(answer.low, answer.high)}"
        return case.finding(UNDECIDABLE, reason + ".", simulated=number, factor=factor, missing=answer.missing)
    if not near:
        words = explained(factor, case.dimension) if factor and not 1 / FAR < factor < FAR else ""
        reason = (
            f"Simulated {case.show(closest.value)} ({case.span(closest.low, closest.high)}){where}, {times(factor)}"
        )
        reason += f"; the factor is near {words}" if words else ""
        if len(answer.corners) > 1:
            reason += f"; all {len(answer.corners)} readings of the words are off"
        return case.finding(OFF, reason + ".", simulated=number, factor=factor, explanation=words)
    if len(near) < len(answer.corners) and answer.missing:
        reason = f"Simulated {case.span(answer.low, answer.high)}: it holds{where}, not everywhere"
        reason += f"; not said: {', '.join(answer.missing)}"
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
        verdict,
        f"By the words it {_so(1 - claimed)}: {answer.corners[0].words}.",
        simulated=number,
        explanation="does not fit",
    )


def _so(value: float) -> str:
    return "fits" if value else "does not fit"


def by_price(case: Case) -> Finding | None:
    """The verdict on a price by the catalogue's undated one; None for other quantities."""
    gpu = gpu_of(case.bench.catalogue, case.record)
    if gpu is None or case.name not in DATED:
        return None
    known = next(iter(DATED[case.name](gpu, case.bench.catalogue)), None)
    if known is None:
        return case.finding(
            UNDECIDABLE, "Prices change: a date and a vendor would say which.", missing=("date", "vendor")
        )
    gpus = case.record.known("gpus")
    known = Reading(known.convention, known.value * (gpus.value if gpus is not None else 1.0))
    number = Number(known.value / MOVES, known.value, known.value * MOVES, "catalogue")
    factor = ratio_of(case.cell.figure.value, known.value)
    if meets(case.cell.figure, (number.low, number.high), 0.0):
        reason = f"The catalogue has {case.show(known.value)}; between vendors and months prices differ by {MOVES:g}."
        return case.finding(PLAUSIBLE, reason, computed=number, factor=factor)
    reason = f"The catalogue has {case.show(known.value)}, {times(factor)}; a date and a vendor would decide."
    return case.finding(UNDECIDABLE, reason, computed=number, factor=factor, missing=("date", "vendor"))
