"""What is said of a cell: a verdict, one sentence of reason, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from simgpu.claims.printed import Printed
from simgpu.claims.quantities import Quantity, show
from simgpu.claims.relations import Interval

IMPOSSIBLE, INCONSISTENT, APPLES, OFF = "impossible", "inconsistent", "apples to oranges", "off"
UNDECIDABLE, PLAUSIBLE, REPRODUCED = "undecidable", "plausible", "reproduced"
VERDICTS = (IMPOSSIBLE, INCONSISTENT, APPLES, OFF, UNDECIDABLE, PLAUSIBLE, REPRODUCED)
"""All verdicts, worst first: an entry takes the worst of its cells."""
FALSE = (IMPOSSIBLE, INCONSISTENT, APPLES, OFF)
"""Verdicts that something is wrong."""

COLOURS = {"impossible": "#b30000", "inconsistent": "#D55E00", "apples to oranges": "#CC79A7", "off": "#E69F00",
           "undecidable": "#777777", "plausible": "#0072B2", "reproduced": "#009E73"}  # fmt: skip
"""Colour of a verdict, on pages and in pictures."""


@dataclass(frozen=True)
class Number:
    """A computed figure in SI with its interval, and what it comes from."""

    low: float
    value: float
    high: float
    words: str = ""

    @classmethod
    def of(cls, interval: Interval, words: str = "") -> Number:
        """A figure from an interval: its middle, geometric where both ends are positive."""
        low, high = interval
        if low > 0 and high < float("inf"):
            return cls(low, (low * high) ** 0.5, high, words)
        return cls(low, low if high == float("inf") else (low + high) / 2, high, words)


@dataclass(frozen=True)
class Finding:
    """The verdict on one cell."""

    entry: str
    kind: str
    row: str
    subject: str
    column: str
    quantity: Quantity
    claimed: Printed  # SI
    verdict: str
    reason: str
    factor: float | None = None  # claimed over what it should be
    computed: Number | None = None
    simulated: Number | None = None
    measured: Number | None = None
    bound: Number | None = None
    explanation: str = ""
    missing: Sequence[str] = ()
    path: tuple[Any, ...] = field(default=(), compare=False)
    line: int | None = None
    unit: str | None = None

    @property
    def row_of_table(self) -> dict[str, Any]:
        """A flat row: SI figures, names, verdict, reason."""
        made: dict[str, Any] = {
            "entry": self.entry, "kind": self.kind, "line": self.line, "row": self.row, "subject": self.subject,
            "quantity": self.column, "claimed": self.claimed.text, "claimed_low": _finite(self.claimed.low),
            "claimed_value": _finite(self.claimed.value), "claimed_high": _finite(self.claimed.high),
            "verdict": self.verdict, "factor": self.factor,
        }  # fmt: skip
        for name in ("computed", "simulated", "measured", "bound"):
            number: Number | None = getattr(self, name)
            for end in ("low", "value", "high"):
                made[f"{name}_{end}"] = None if number is None else _finite(getattr(number, end))
        return made | {"explanation": self.explanation, "missing": ", ".join(self.missing), "reason": self.reason}

    def shown(self, number: Number | None) -> str:
        """A figure for a table: '13.5 GB', or '90 to 140 tokens/s'."""
        if number is None:
            return ""
        if number.low == number.high or abs(number.high - number.low) < 2e-3 * abs(number.value):
            return show(number.value, self.quantity, self.unit)
        ends = show(number.low, self.quantity, self.unit), show(number.high, self.quantity, self.unit)
        return f"{show(number.value, self.quantity, self.unit)} ({ends[0].split(' ')[0]} to {ends[1]})"


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


@dataclass(frozen=True)
class Survival:
    """Whether a conclusion survives: an order of two subjects as printed, with corrected cells, and simulated."""

    entry: str
    row: str
    claim: str
    printed: str
    corrected: str
    corrected_probability: float | None
    simulated: str
    simulated_probability: float | None

    @property
    def row_of_table(self) -> dict[str, Any]:
        """A flat row."""
        return dict(vars(self))


@dataclass(frozen=True)
class RuleHeld:
    """A decision rule over a grid: the share of scenarios on which it holds, and counter-examples."""

    entry: str
    rule: str
    scenarios: int
    held: float | None
    counter_examples: Sequence[str]
    verdict: str
    reason: str

    @property
    def row_of_table(self) -> dict[str, Any]:
        """A flat row."""
        return {**vars(self), "counter_examples": "; ".join(self.counter_examples)}


@dataclass(frozen=True)
class Checked:
    """Everything that is said of one entry."""

    entry: str
    kind: str
    title: str
    source: str
    findings: Sequence[Finding]
    survivals: Sequence[Survival] = ()
    rules: Sequence[RuleHeld] = ()
    comment: str = ""

    @property
    def verdict(self) -> str:
        """The worst verdict of the cells and rules."""
        found = [one.verdict for one in self.findings] + [one.verdict for one in self.rules]
        return min(found, key=VERDICTS.index, default=UNDECIDABLE)

    @property
    def counts(self) -> dict[str, int]:
        """Cells and rules by verdict, worst first."""
        found = [one.verdict for one in self.findings] + [one.verdict for one in self.rules]
        return {verdict: found.count(verdict) for verdict in VERDICTS if verdict in found}
