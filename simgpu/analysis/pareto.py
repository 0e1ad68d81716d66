"""The Pareto front of two columns, and its knee."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, log
from typing import Any

Rows = Sequence[Mapping[str, Any]]


def front(rows: Rows, x: str, y: str, better: Mapping[str, str]) -> list[int]:
    """Numbers of the rows on the Pareto front of columns `x` and `y`, ascending in `x`.

    No other row is as good in both columns and better in one.

    `better` says of both columns whether 'lower' or 'higher' is better. Rows without a finite number in both are never
    among them; of equal rows all are.

    >>> front([{"s": 1, "usd": 9}, {"s": 2, "usd": 5}, {"s": 3, "usd": 7}], "s", "usd", {"s": "lower", "usd": "lower"})
    [0, 1]
    """
    signs = [1.0 if better[name] == "lower" else -1.0 for name in (x, y)]
    points = {
        i: tuple(sign * float(row[name]) for sign, name in zip(signs, (x, y), strict=True))
        for i, row in enumerate(rows)
        if _is_number(row.get(x)) and _is_number(row.get(y))
    }
    numbers = []
    least = float("inf")  # of y among all that are strictly better in x
    ordered = sorted(points, key=lambda i: points[i])
    i = 0
    while i < len(ordered):
        same = [j for j in ordered[i:] if points[j][0] == points[ordered[i]][0]]
        lowest = min(points[j][1] for j in same)
        if lowest < least:
            numbers += [j for j in same if points[j][1] == lowest]
            least = lowest
        i += len(same)
    return sorted(numbers, key=lambda i: (rows[i][x], i))


def knee(rows: Rows, x: str, y: str, better: Mapping[str, str], among: Sequence[int]) -> int | None:
    """The row among those of a front that is nearest to the best values of both columns; None for an empty front.

    Distances are between logarithms, as fractions of the range of the front: at the knee, giving up a little of one
    column no longer buys much of the other. `among` are the numbers of the rows of the front.
    """
    if not among:
        return None
    shares = [_shares([float(rows[i][name]) for i in among], better[name]) for name in (x, y)]
    distances = [a * a + b * b for a, b in zip(*shares, strict=True)]
    return among[min(range(len(among)), key=lambda n: (distances[n], n))]


def _shares(values: Sequence[float], better: str) -> list[float]:
    """The distance of each value from the best, as a fraction of that of the worst; of logarithms if possible."""
    scaled = [log(value) for value in values] if all(value > 0 for value in values) else list(values)
    low, high = min(scaled), max(scaled)
    best = low if better == "lower" else high
    return [abs(value - best) / (high - low) if high > low else 0.0 for value in scaled]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
