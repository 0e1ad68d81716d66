"""What a log says: quantities that were measured, facts about the run, and what was left out of either."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

TRAINING, SERVER, BATCH, LINK, KERNELS, TRACE = "training", "server", "batch", "links", "kernels", "trace"
"""Kinds of logs: steps of a trainer, a server under load, one batch at a time, what links carry, kernels one by one, a
recorded step."""


@dataclass(frozen=True)
class Measurement:
    """One measured quantity in SI units.

    `column` is that of results (docs/results.md) which predicts it; `spread` the standard deviation of the logarithm of
    single values, 0 where the log prints one figure alone; `count` how many values stand behind it.
    """

    column: str
    value: float
    count: int = 1
    spread: float = 0.0


@dataclass(frozen=True)
class Observed:
    """What one run of a log says.

    `tool` is what wrote the log, `facts` what it says of the run under the names of experiment files (`batch`,
    `tokens`, `concurrency`, `rate`, `gpus`, `model`), `notes` what was left out and why.
    """

    file: Path
    kind: str
    tool: str
    measurements: tuple[Measurement, ...]
    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def of(self, column: str) -> Measurement | None:
        """The measurement of a column, None where the log does not say it."""
        return next((one for one in self.measurements if one.column == column), None)


def spread_of(values: Sequence[float]) -> float:
    """Standard deviation of the logarithm, from the median absolute deviation: a slow step or two do not count.

    >>> round(spread_of([1.0, 1.01, 0.99, 1.0, 5.0]), 4)
    0.0148
    """
    middle = median(values)
    return 1.4826 * median(abs(math.log(value / middle)) for value in values)
