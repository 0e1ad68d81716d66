"""A cell with its surroundings, and the words that all verdicts share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from simgpu.claims.bench import Bench
from simgpu.claims.entry import Cell, Entry, Record
from simgpu.claims.finding import Finding
from simgpu.claims.quantities import show

BEYOND = 0.10
"""How far (relative) outside an interval a figure must lie to be off."""


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
            self.cell.quantity, self.cell.figure, verdict, reason, path=self.cell.path, line=line,
            unit=self.cell.unit, **more,  # type: ignore[arg-type]
        )  # fmt: skip

    def show(self, value: float) -> str:
        """A value of the cell's quantity."""
        return show(value, self.cell.quantity, self.cell.unit)

    def span(self, low: float, high: float) -> str:
        """Two values of the cell's quantity, the unit once if it is one."""
        first, second = self.show(low), self.show(high)
        same = first.partition(" ")[2] == second.partition(" ")[2]
        return f"{first.partition(' ')[0] if same else first} to {second}"


def ratio_of(claimed: float, value: float) -> float | None:
    """Claimed over computed; None where either is zero."""
    return claimed / value if value > 0 and claimed > 0 else None


def times(factor: float | None) -> str:
    """A factor in words."""
    if factor is None:
        return "not this"
    return f"the claim is {factor:.3g} times that" if factor >= 1 else f"the claim is 1/{1 / factor:.3g} of that"


def log_of(value: float) -> float:
    """The logarithm, very low for zero."""
    return math.log(value) if value > 0 else -1e9


def capital(text: str) -> str:
    """The text with a capital letter."""
    return text[:1].upper() + text[1:]
