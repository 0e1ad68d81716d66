"""Steps of a run: which are warm-up, which hold an evaluation or a checkpoint, and what the steady ones say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

SLOW = 1.5
"""A step this many times as long as the median holds something else: an evaluation, a checkpoint, a pause."""
WARM = 1.1
"""Steps at the beginning that take longer than this many medians are warm-up."""
MOST_WARM = 0.5
"""Largest share of the steps that can be warm-up."""


@dataclass(frozen=True)
class Split:
    """Positions of steps by what they are."""

    steady: tuple[int, ...]
    warm: tuple[int, ...]
    slow: tuple[int, ...]


def split(seconds: Sequence[float]) -> Split:
    """Tell warm-up and slow steps from steady ones, which is what a prediction is of.

    The first step is warm-up always, where there are others: it allocates, compiles and tunes.

    >>> split([9.0, 2.0, 1.0, 1.0, 1.02, 4.0, 1.0, 0.99])
    Split(steady=(2, 3, 4, 6, 7), warm=(0, 1), slow=(5,))
    """
    if len(seconds) == 1:
        return Split((0,), (), ())
    middle = median(seconds[len(seconds) // 2 :])
    warm = 1
    while warm < MOST_WARM * len(seconds) and seconds[warm] > WARM * middle:
        warm += 1
    later = range(warm, len(seconds))
    slow = tuple(i for i in later if seconds[i] > SLOW * middle)
    return Split(tuple(i for i in later if i not in set(slow)), tuple(range(warm)), slow)
