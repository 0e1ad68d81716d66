"""Axes of an experiment: the values of what it varies, from lists, ranges, log ranges, and keys that move together.

    vary:
      plan.tp: [1, 2, 4, 8]
      workload.tokens: {range: [1024, 8192], step: 1024}       # both ends; `points: 8` says how many instead
      workload.batch: {log_range: [1, 64], factor: 2}          # 1, 2, 4, ..., 64; or `points: 7`
      gpu.memory.bandwidth: {range: [1 TB/s, 8 TB/s], points: 8}
    zip:
      - {plan.dp: [8, 4, 2], plan.pp: [1, 2, 4]}               # the first of each, the second of each, ...

Where both ends are whole numbers, so is every value of a log range, rounded; a linear range is as its step makes it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.errors import InputError, nearest, shown
from simgpu.units import UNITS, parse_quantity

MAX_VALUES = 100_000
"""The largest number of values of one axis."""

FORMS = "a list, or {range: [1, 8], step: 1} or {log_range: [1, 64], factor: 2} (or points: N for either)"


@dataclass(frozen=True)
class Axis:
    """Keys that move together: for each of `values` one value of every key. `places` are theirs in the document."""

    keys: tuple[str, ...]
    values: Sequence[tuple[Any, ...]]
    places: tuple[tuple[Any, ...], ...]

    def __len__(self) -> int:
        return len(self.values)

    def without(self, fixed: Callable[[str], bool]) -> Axis | None:
        """This axis without the keys that are `fixed` by hand; None where none is left."""
        left = [n for n, key in enumerate(self.keys) if not fixed(key)]
        if len(left) == len(self.keys):
            return self
        values = [tuple(point[n] for n in left) for point in self.values]
        return Axis(tuple(self.keys[n] for n in left), values, tuple(self.places[n] for n in left)) if left else None


Blame = Callable[[str, tuple[Any, ...]], InputError]


def axes_of(vary: Mapping[str, Any], zipped: Sequence[Mapping[str, Any]], blame: Blame) -> list[Axis]:
    """The axes in the order in which rows follow each other: the last one moves fastest. Raises what `blame` makes."""
    axes = []
    seen: dict[str, tuple[Any, ...]] = {}
    for key, given in vary.items():
        place: tuple[Any, ...] = ("vary", key)
        seen[key] = place
        axes.append(Axis((key,), [(value,) for value in values_of(given, place, blame)], (place,)))
    for n, group in enumerate(zipped):
        columns: dict[str, Sequence[Any]] = {}
        for key, given in group.items():
            place = ("zip", n, key)
            if key in seen:
                raise blame(f"is varied already (as {'.'.join(map(str, seen[key]))})", place)
            seen[key] = place
            columns[key] = values_of(given, place, blame)
            first = next(iter(columns))
            if len(columns[key]) != len(columns[first]):
                problem = f"{len(columns[key])} values beside the {len(columns[first])} of '{first}'"
                raise blame(f"{problem}; keys that move together need as many", place)
        if not columns:
            raise blame("names no keys; expected keys that move together, each with its values", ("zip", n))
        places = tuple(("zip", n, key) for key in columns)
        axes.append(Axis(tuple(columns), list(zip(*columns.values(), strict=True)), places))
    return axes


def values_of(given: Any, place: tuple[Any, ...], blame: Blame) -> list[Any]:
    """The values of one key."""
    if isinstance(given, list):
        if not given:
            raise blame("[]: expected at least 1 value", place)
        return given
    if not isinstance(given, dict):
        raise blame(f"{shown(given)} is not {FORMS}", place)
    kinds = [kind for kind in ("range", "log_range") if kind in given]
    for key in given:
        if key not in ("range", "log_range", "step", "factor", "points"):
            raise blame(f"unknown key{nearest(key, ('range', 'log_range', 'step', 'factor', 'points'))}", (*place, key))
    if len(kinds) != 1:
        raise blame(f"{shown(given)} is not {FORMS}", place)
    kind = kinds[0]
    how = "step" if kind == "range" else "factor"
    if len({how, "points"} & set(given)) != 1 or len(given) != 2:
        raise blame(f"{kind} needs '{how}' or 'points' beside it, one of them and nothing else", place)
    ends = given[kind]
    if not isinstance(ends, list) or len(ends) != 2:
        raise blame(f"{shown(ends)} is not a first and a last value, such as [1, 64]", (*place, kind))
    return _Range(kind, ends, given, place, blame).values()


class _Range:
    """Values between two ends, in the unit of the first."""

    def __init__(
        self, kind: str, ends: list[Any], given: Mapping[str, Any], place: tuple[Any, ...], blame: Blame
    ) -> None:
        self.place, self.blame, self.given = place, blame, given
        self.logarithmic = kind == "log_range"
        self.whole = all(isinstance(end, int) and not isinstance(end, bool) for end in ends)
        (self.first, self.unit), (self.last, _) = (self._number(end, (*place, kind)) for end in ends)
        self.last = self._in_unit(ends[1], (*place, kind))
        if self.logarithmic and not (self.first > 0 and self.last > 0):
            raise blame(f"{shown(ends)}: a log range needs ends above zero", (*place, kind))

    def values(self) -> list[Any]:
        """All values of the range, in order."""
        numbers = self._counted() if "points" in self.given else self._stepped()
        if not self.logarithmic and any(abs(number - round(number)) > 1e-9 for number in numbers):
            self.whole = False
        values = [self._written(number) for number in numbers]
        if len(set(values)) < len(values):
            problem = f"gives {len(set(values))} different whole numbers, not {len(values)}"
            raise self.blame(f"{problem}; write an end with a point (1.0) for values between them", self.place)
        return values

    def _counted(self) -> list[float]:
        """A given number of values, both ends among them."""
        points = self.given["points"]
        if not isinstance(points, int) or isinstance(points, bool) or not 2 <= points <= MAX_VALUES:
            problem = f"{shown(points)} is not a whole number from 2 to {MAX_VALUES:,}"
            raise self.blame(problem, (*self.place, "points"))
        shares = [i / (points - 1) for i in range(points)]
        if self.logarithmic:
            ratio = self.last / self.first
            inner = [self.first * ratio**share for share in shares[1:-1]]
        else:
            inner = [self.first + (self.last - self.first) * share for share in shares[1:-1]]
        return [self.first, *inner, self.last]

    def _stepped(self) -> list[float]:
        """Values from the first on, by a step or factor, up to the last."""
        key = "factor" if self.logarithmic else "step"
        place = (*self.place, key)
        by = self._number(self.given[key], place)[0] if self.logarithmic else self._in_unit(self.given[key], place)
        self.whole = self.whole and isinstance(self.given[key], int)
        if by <= 0 or (self.logarithmic and by == 1):
            expected = "more than 0 and not 1" if self.logarithmic else "more than zero"
            raise self.blame(f"{shown(self.given[key])} is out of range; expected {expected}", place)
        if self.logarithmic:
            by = by if (by > 1) == (self.last >= self.first) else 1 / by
            count = math.log(self.last / self.first) / math.log(by)
        else:
            by = by if self.last >= self.first else -by
            count = (self.last - self.first) / by
        if count > MAX_VALUES:
            raise self.blame(f"gives {count:,.0f} values, expected at most {MAX_VALUES:,}", place)
        steps = range(int(count + 1e-9) + 1)
        return [self.first * by**i if self.logarithmic else self.first + i * by for i in steps]

    def _written(self, number: float) -> Any:
        """A value as a file would write it: whole, or with twelve digits, with its unit."""
        if self.whole:
            return round(number)
        plain = float(f"{number:.12g}")
        return f"{plain:.12g} {self.unit}" if self.unit else plain

    def _number(self, value: Any, place: tuple[Any, ...]) -> tuple[float, str]:
        try:
            number, unit = parse_quantity(value)
        except ValueError:
            raise self.blame(f"{shown(value)} is not a number, or a number with a unit", place) from None
        if not math.isfinite(number):
            raise self.blame(f"{shown(value)} is not a finite number", place)
        return number, unit

    def _in_unit(self, value: Any, place: tuple[Any, ...]) -> float:
        """A number in the unit of the first end."""
        number, unit = self._number(value, place)
        if unit == self.unit:
            return number
        known, wanted = UNITS.get(unit), UNITS.get(self.unit)
        if known is None or wanted is None or known[0] != wanted[0]:
            expected = f"a unit such as {self.unit}" if self.unit else "no unit, as the first value has none"
            raise self.blame(f"{shown(value)}: expected {expected}", place)
        return number * known[1] / wanted[1]
