"""Verdicts by the catalogue's readings: reproduced, apples to oranges, or off."""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.claims.bench import Bench
from simgpu.claims.case import Case, ratio_of, times
from simgpu.claims.conventions import explained
from simgpu.claims.entry import Cell, Entry, Record
from simgpu.claims.evidence import DATASHEET, meets, readings_of
from simgpu.claims.finding import APPLES, OFF, REPRODUCED, Finding, Number
from simgpu.claims.readings import Reading


def _matching(entry: Entry, bench: Bench, record: Record, cell: Cell) -> list[Reading]:
    found = readings_of(bench.catalogue, entry, record, cell.quantity.name)
    return [one for one in found if _reads(cell, one)]


def _reads(cell: Cell, reading: Reading) -> bool:
    if reading.value == 0 or cell.figure.whole:
        if cell.figure.value == 0 or reading.value == 0 or cell.figure.flag is not None:
            return cell.figure.value == reading.value
        return abs(cell.figure.value - reading.value) < 0.5
    return meets(cell.figure, (reading.value, reading.value), DATASHEET)


def by_catalogue(case: Case) -> Finding | None:
    """The verdict by readings of the catalogue; None where it has none."""
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
            REPRODUCED,
            f"The catalogue has {case.show(number.value)}{_in(nearest.convention)}.",
            computed=number,
            factor=1.0,
        )
    common = _shared(case)
    matched = " or ".join(one.convention for one in mine)
    reason = (
        f"{case.cell.figure.text} is {matched}; the name alone means {usual[0].convention}: {case.show(usual[0].value)}"
    )
    if common and len(case.beside) > 1 and not _some_usual(case):
        return case.finding(
            REPRODUCED, f"All cells of the row are {common[0]}; {usual[0].convention}: {case.show(usual[0].value)}.",
            computed=Number(mine[0].value, mine[0].value, mine[0].value, common[0]), factor=1.0,
        )  # fmt: skip
    if len(case.beside) > 1:
        reason += ", as beside it" if _some_usual(case) else ""
    return case.finding(
        APPLES,
        reason + ".",
        computed=number,
        factor=ratio_of(case.cell.figure.value, usual[0].value),
        explanation=matched,
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
    if (
        len(case.beside) < 2
        or len({one.convention for one in every if one.usual}) < 2
        or case.name in ("memory", "l2", "ai")
    ):
        return None
    if case.name != "interconnect" or _shared(case):
        return None
    others = sorted({one.convention for pair in case.beside for one in _matching(case.entry, case.bench, *pair)})
    return case.finding(
        APPLES,
        f"{case.cell.figure.text} is of {mine[0].convention}; cells of this row are of {' and of '.join(others)}.",
        computed=number, explanation=mine[0].convention,
    )  # fmt: skip


def _not_in_catalogue(case: Case, number: Number, every: Sequence[Reading]) -> Finding:
    if case.cell.figure.flag is not None or number.value == 0 or case.cell.figure.value == 0:
        return case.finding(OFF, f"The catalogue says {case.show(number.value)}{_in(number.words)}.", computed=number)
    options = [one for one in every if one.usual and one.value > 0]
    told = [(one, explained(case.cell.figure.value / one.value, case.dimension)) for one in options]
    best, words = next(((one, words) for one, words in told if words), (None, ""))
    if best is not None:
        number = Number(best.value, best.value, best.value, best.convention)
    factor = case.cell.figure.value / number.value
    reason = f"The catalogue has {case.show(number.value)}{_in(number.words)}, {times(factor)}"
    reason += f"; the factor is near {words}" if words else f"; no convention of {len(every)} gives it"
    return case.finding(OFF, reason + ".", computed=number, factor=factor, explanation=words)


def _in(convention: str) -> str:
    return f" ({convention})" if convention else ""
