"""What a simulation says of a quantity: intervals at the corners of what the words of a claim leave open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Simulated:
    """P10, median and P90 at one corner, SI, and the corner in words."""

    low: float
    value: float
    high: float
    words: str = ""


@dataclass(frozen=True)
class Answer:
    """What the simulator says at every corner; `missing` is what the words do not fix, `refused` why it cannot run."""

    corners: Sequence[Simulated] = ()
    missing: Sequence[str] = ()
    refused: str = ""

    @property
    def low(self) -> float:
        """The lowest P10 of all corners."""
        return min(one.low for one in self.corners)

    @property
    def high(self) -> float:
        """The highest P90 of all corners."""
        return max(one.high for one in self.corners)

    @property
    def value(self) -> float:
        """The geometric middle of the corners' medians."""
        values = [one.value for one in self.corners]
        return float((min(values) * max(values)) ** 0.5) if min(values) > 0 else sum(values) / len(values)
