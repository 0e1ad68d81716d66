"""Errors of power and of energy by class and GPU, beside the constant that any model must beat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

import numpy as np

from simgpu.lab.validation.energy.rows import Scored, Skipped


@dataclass(frozen=True)
class Errors:
    """Median, mean and P90 of |predicted / measured - 1|, and the median of predicted / measured."""

    median: float
    mean: float
    p90: float
    bias: float

    @classmethod
    def of(cls, pairs: Sequence[tuple[float, float]]) -> Errors:
        """The errors of (predicted, measured)."""
        ratios = np.asarray([a / b for a, b in pairs])
        errors = np.abs(ratios - 1)
        worst = float(np.quantile(errors, 0.9))
        return cls(float(np.median(errors)), float(errors.mean()), worst, float(np.median(ratios)))

    def words(self) -> str:
        """Median, mean and P90 in percent."""
        return f"{100 * self.median:.1f} / {100 * self.mean:.1f} / {100 * self.p90:.0f}"


@dataclass(frozen=True)
class Group:
    """Rows of one class on one GPU."""

    kind: str
    gpu: str
    rows: int
    at_time: Errors
    power: Errors
    constant: Errors
    energy: Errors
    time: Errors
    coverage: float
    energy_coverage: float

    @property
    def beats(self) -> bool:
        """True if power, with the time as measured, is nearer than the constant, at the median."""
        return self.at_time.median < self.constant.median


def constants(rows: Sequence[Scored]) -> list[float]:
    """W by the constant share of each row: the median share of the limit of other models on the same GPU."""
    found = []
    shares = [(row.gpu, row.model, row.measured / row.tdp) for row in rows]
    known: dict[tuple[str, str], float] = {}
    for row in rows:
        key = (row.gpu, row.model)
        if key not in known:
            others = [share for gpu, model, share in shares if gpu == row.gpu and model != row.model]
            known[key] = median(others or [share for gpu, _, share in shares if gpu == row.gpu])
        found.append(known[key] * row.tdp)
    return found


def groups(rows: Sequence[Scored]) -> list[Group]:
    """Each class on each GPU, then everything together."""
    guessed = dict(zip(map(id, rows), constants(rows), strict=True))
    kinds: dict[tuple[str, str], list[Scored]] = {}
    for row in rows:
        kinds.setdefault((row.kind, row.gpu), []).append(row)
    found = [_group(*kind, some, guessed) for kind, some in sorted(kinds.items())]
    return [*found, _group("all", "", rows, guessed)]


def _group(kind: str, gpu: str, rows: Sequence[Scored], guessed: dict[int, float]) -> Group:
    return Group(
        kind, gpu, len(rows),
        Errors.of([(row.at_time, row.measured) for row in rows]),
        Errors.of([(row.power, row.measured) for row in rows]),
        Errors.of([(guessed[id(row)], row.measured) for row in rows]),
        Errors.of([(row.energy_j, row.measured_j) for row in rows]),
        Errors.of([(row.seconds, row.measured_s) for row in rows]),
        fmean(row.low <= row.measured <= row.high for row in rows),
        fmean(row.energy_low <= row.measured_j <= row.energy_high for row in rows),
    )  # fmt: skip


def document(rows: Sequence[Scored], skipped: Sequence[Skipped]) -> dict[str, Any]:
    """Everything as plain data: groups, rows, and what was left out with the reason."""
    return {
        "groups": [_plain(group) for group in groups(rows)],
        "rows": [vars(row) for row in rows],
        "left_out": dict(Counter(one.reason for one in skipped).most_common()),
    }


def _plain(group: Group) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in vars(group).items():
        found |= (
            {f"{name}_{key}": of for key, of in vars(value).items()} if isinstance(value, Errors) else {name: value}
        )
    return {**found, "beats_constant": group.beats}
