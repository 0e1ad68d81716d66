"""How sure ratios of predictions are, and sums of what is scaled by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, sqrt


@dataclass(frozen=True)
class Factor:
    """Of one record: new over old time, and how far P10 and P90 lie from it (logarithms, 0 or more).

    `common` is the share of that variance which records of its `part` have in common. `why` says why the time is kept.
    """

    value: float = 1.0
    low: float = 0.0
    high: float = 0.0
    common: float = 0.0
    part: str = ""
    why: str = ""


def away(shapes: Sequence[tuple[float, Factor]], sign: int) -> float:
    """How far an end of a class lies from its time, as a share of it; `shapes` are seconds with their factors.

    What all its kernels have in common adds up, the rest of each shape adds in squares.
    """
    total, common, own = sum(seconds for seconds, _ in shapes), 0.0, 0.0
    for seconds, factor in shapes:
        reach = factor.high if sign > 0 else factor.low
        common += seconds * abs(exp(sign * reach * sqrt(factor.common)) - 1)
        own = hypot(own, seconds * (exp(sign * reach * sqrt(1 - factor.common)) - 1))
    return hypot(common, own) / total if total else 0.0
