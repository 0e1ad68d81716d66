"""Choosing between machines: ranks, why each loses, how sure the order is, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import erf, inf, isfinite, log, sqrt
from typing import Any

from simgpu.columns import better

P90 = 1.2815515655446004
"""The 90th percentile of the normal distribution."""


@dataclass(frozen=True)
class Candidate:
    """One machine: its name, the figures of its job, and the limits that it breaks ('' where it keeps them all)."""

    name: str
    row: Mapping[str, Any]
    broken: str = ""


def spread_of(row: Mapping[str, Any], column: str) -> float:
    """The standard deviation of the logarithm of a figure, from its P10 and P90; 0 of a sure one."""
    low, high = row.get(f"{column}_p10"), row.get(f"{column}_p90")
    if not low or not high or low <= 0:
        return 0.0
    return float(log(high / low) / (2.0 * P90))


def probability_better(row: Mapping[str, Any], other: Mapping[str, Any], column: str) -> float:
    """The probability that the first row is better than the second in a column, by both intervals.

    Logarithms of both are normal and independent: errors that both share, such as those of one engine, make the order
    surer than this says. The same job on the same GPU, had in two ways, has one time and no doubt.
    """
    a, b = row[column], other[column]
    sign = -1.0 if better(column) == "lower" else 1.0
    if a <= 0 or b <= 0:
        return 0.5
    gap = sign * log(a / b)
    same = row.get("gpu") == other.get("gpu") and row.get("step_s") == other.get("step_s") is not None
    width = 0.0 if same else sqrt(spread_of(row, column) ** 2 + spread_of(other, column) ** 2)
    if width == 0.0:
        return 0.5 if gap == 0 else float(gap > 0)
    return 0.5 * (1.0 + erf(gap / width / sqrt(2.0)))


def ranked(candidates: Sequence[Candidate], column: str) -> list[Candidate]:
    """Machines that keep every limit, best first in a column; then those that do not, likewise.

    A machine without the figure, such as one whose job does not fit, is last.
    """
    sign = 1.0 if better(column) == "lower" else -1.0

    def place(one: Candidate) -> tuple[bool, float]:
        value = one.row.get(column)
        return bool(one.broken) or value is None, inf if value is None else sign * value

    return sorted(candidates, key=place)


def pareto(candidates: Sequence[Candidate], first: str, second: str) -> set[str]:
    """Names of the machines that no other beats in both columns, of those that keep the limits."""
    kept = [one for one in candidates if not one.broken and first in one.row and second in one.row]
    signs = [1.0 if better(column) == "lower" else -1.0 for column in (first, second)]

    def values(one: Candidate) -> tuple[float, float]:
        return signs[0] * one.row[first], signs[1] * one.row[second]

    found = set()
    for one in kept:
        mine = values(one)
        beaten = any(theirs != mine and theirs[0] <= mine[0] and theirs[1] <= mine[1] for theirs in map(values, kept))
        if not beaten:
            found.add(one.name)
    return found


def why_it_loses(one: Candidate, best: Candidate, column: str, words: str) -> str:
    """Why a machine is not the first: the limit that it breaks, or how much worse it is and what makes it so."""
    if one.broken:
        return one.broken
    if one.name == best.name:
        return "first"
    ratio = one.row[column] / best.row[column]
    ratio = ratio if better(column) == "lower" else 1.0 / ratio
    reason = f"{ratio:.3g} x {words}"
    if column.startswith("usd_per_") and all(row.get("usd_per_gpu_hour") for row in (one.row, best.row)):
        hour = one.row["usd_per_gpu_hour"] * one.row["gpus"] / (best.row["usd_per_gpu_hour"] * best.row["gpus"])
        pace = hour / ratio
        reason += f": {hour:.3g} x the price an hour, {pace:.3g} x as fast"
    return reason


def break_even_price(one: Candidate, best: Candidate, column: str) -> float | None:
    """USD of a GPU-hour at which a machine would cost what the first does; None where cost is not the question."""
    hour = one.row.get("usd_per_gpu_hour")
    if not column.startswith("usd_per_") or hour is None or best.row.get(column) is None or not one.row.get(column):
        return None
    found = hour * best.row[column] / one.row[column]
    return float(found) if isfinite(found) else None


def utilisation_to_win(one: Candidate, best: Candidate, column: str) -> float | None:
    """The utilisation at which an owned machine would cost what the first does at its own; above 1: none does.

    Both sides as they are but for the utilisation of the one, whose hour costs F / u + E + I (1 - u) / u: fixed part,
    energy while it works and while it waits.
    """
    row = one.row
    if not column.startswith("usd_per_") or "fixed_usd_per_h" not in row or not row.get("usd_per_gpu_hour"):
        return None
    fixed, energy, idle = (row[f"{what}_usd_per_h"] / row["gpus"] for what in ("fixed", "energy", "idle"))
    target = row["usd_per_gpu_hour"] * best.row[column] / row[column]
    return (fixed + idle) / (target - energy + idle) if target > energy > 0 else None
