"""A prediction against what a log says, column by column: inside its interval or not, and the rest in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from typing import Any

from simgpu.columns import TABLE
from simgpu.errors import InputError
from simgpu.lab.logs.observed import Measurement, Observed

FACTS = {
    "batch": ("batch",),
    "tokens": ("tokens",),
    "gpus": ("gpus",),
    "tp": ("tp",),
    "pp": ("pp",),
    "micro_batch": ("micro_batch",),
    "concurrency": ("concurrency",),
    "input_tokens": ("input_tokens", "prompt"),
    "output_tokens": ("output_tokens", "output"),
}
"""Columns of a result that a fact of a log must equal."""
CLOSE = 0.02
"""How far a mean length may be from the one asked for, relative."""
SAME_WORK = 1.6
"""FLOPs of a step in a log over those predicted, or the inverse, beyond which the log is of another job: conventions of
trainers (causal attention, embeddings, recomputation) differ by less."""


@dataclass(frozen=True)
class Line:
    """One column: measured, and predicted with its 80 % interval, in SI units."""

    column: str
    measured: Measurement
    predicted: float
    p10: float
    p90: float

    @property
    def ratio(self) -> float:
        """Measured over predicted."""
        return self.measured.value / self.predicted

    @property
    def inside(self) -> bool:
        """Whether the measurement lies in the interval."""
        return self.p10 <= self.measured.value <= self.p90

    def row(self) -> dict[str, Any]:
        """The line as data."""
        return {
            "column": self.column, "measured": self.measured.value, "values": self.measured.count,
            "predicted": self.predicted, "p10": self.p10, "p90": self.p90, "ratio": self.ratio,
            "in_interval": self.inside,
        }  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """One run of a log beside the row of a scenario; `unpredicted` names columns that the scenario does not give."""

    observed: Observed
    lines: Sequence[Line]
    unpredicted: Sequence[str]

    def words(self, most: int = 3) -> list[str]:
        """The largest differences as sentences, the largest first."""
        beyond = sorted(self.lines, key=lambda line: -abs(log(line.ratio)))
        return [sentence(line) for line in beyond[:most]]


def compared(observed: Observed, row: Mapping[str, Any]) -> Comparison:
    """A run of a log against the row of a scenario.

    Raises `InputError` where the log is of another job: a fact that differs, or the FLOPs of a step.
    """
    _same_job(observed, row)
    lines, missing = [], []
    for one in observed.measurements:
        predicted = row.get(one.column)
        if not isinstance(predicted, (int, float)) or not predicted > 0:
            missing.append(one.column)
            continue
        low, high = row.get(f"{one.column}_p10", predicted), row.get(f"{one.column}_p90", predicted)
        lines.append(Line(one.column, one, float(predicted), float(low), float(high)))
    if not lines:
        raise InputError(
            f"a log of {observed.tool} says {', '.join(missing)}; the experiment predicts none of these: a case of"
            f" another kind of job?",
            file=observed.file,
        )
    return Comparison(observed, tuple(lines), tuple(missing))


def _same_job(observed: Observed, row: Mapping[str, Any]) -> None:
    """Refuse a log of another job."""
    for fact, names in FACTS.items():
        said = observed.facts.get(fact)
        asked = next((row[name] for name in names if isinstance(row.get(name), (int, float))), None)
        if said is None or not asked:
            continue
        if abs(said / asked - 1) > (CLOSE if fact.endswith("_tokens") else 1e-9):
            raise InputError(
                f"the log says {fact} {said:g}, the experiment {asked:g}; expected a log of the same job",
                file=observed.file,
            )
    step, rate = observed.of("step_s"), observed.of("flop_per_s_per_gpu")
    if step and rate and row.get("step_s") and row.get("flop_per_s_per_gpu"):
        ratio = step.value * rate.value / (row["step_s"] * row["flop_per_s_per_gpu"])
        if not 1 / SAME_WORK < ratio < SAME_WORK:
            raise InputError(
                f"a step of the log is {ratio:.3g} times the FLOPs of the experiment's; expected a log of the same"
                " model, batch and tokens",
                file=observed.file,
            )


def sentence(line: Line) -> str:
    """One line in words: 'step: 30 % longer than predicted, beyond the 80 % interval'."""
    away = abs(line.ratio - 1)
    title = TABLE[line.column].title if line.column in TABLE else line.column
    if away < 0.005:
        return f"{title}: as predicted"
    more = "longer" if line.column.endswith("_s") and not line.column.endswith("per_s") else "more"
    less = "shorter" if more == "longer" else "less"
    where = "within" if line.inside else "beyond"
    return f"{title}: {100 * away:.0f} % {more if line.ratio > 1 else less} than predicted, {where} the 80 % interval"


__all__ = ["Comparison", "Line", "compared", "sentence"]
