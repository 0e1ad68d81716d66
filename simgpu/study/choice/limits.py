"""Limits of a choice: columns of a machine's row, and power, with what they may be at most or at least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simgpu.columns import COLUMNS, TABLE, better
from simgpu.errors import InputError, nearest, shown
from simgpu.operations.quality import COLUMN, LIMIT, NONE
from simgpu.operations.quantities import DAY, PERCENT, SPANS, parsed
from simgpu.render.columns import cell, title

KW = {"W": 1e-3, "kW": 1.0, "MW": 1e3}

SHORT = {"power": "power_kw", LIMIT: COLUMN}
"""Limits by other names than those of their columns."""


@dataclass(frozen=True)
class Limit:
    """A column and what it may be at most, or of a rate at least."""

    column: str
    value: float

    def broken(self, row: Mapping[str, Any]) -> str:
        """The limit in words where a row breaks it; '' where it keeps it."""
        found = row.get(self.column)
        if found is None and self.column == COLUMN:
            return f"quality of {row.get('precision', 'its precision')}: {NONE}"
        if found is None:
            return f"no {title(self.column)} to hold against the limit"
        least = better(self.column) == "higher"
        if found >= self.value if least else found <= self.value:
            return ""
        sign = "<" if least else ">"
        return f"{title(self.column)} {cell(self.column, found)} {sign} {cell(self.column, self.value)}"


def limits_of(written: Mapping[str, Any]) -> list[Limit]:
    """The limits of a file as numbers. Raises `InputError` (key only)."""
    found = []
    for column, given in written.items():
        key = f"recommend.limits.{column}"
        name = SHORT.get(column, column)
        if name != "power_kw" and (name not in COLUMNS or better(name) is None):
            hint = nearest(column, [*(one for one in COLUMNS if better(one)), *SHORT], where="docs/results.md")
            raise InputError(f"{shown(column)} cannot be limited{hint}", key=key)
        try:
            value = _number(name, given)
        except ValueError as error:
            raise InputError(str(error), key=key) from None
        if value <= 0:
            raise InputError(f"{shown(given)} is out of range; expected above 0", key=key)
        found.append(Limit(name, value))
    return found


def _number(column: str, given: Any) -> float:
    """A limit in the unit of its column."""
    if column == "power_kw":
        return parsed(given, KW, "20 kW")
    unit = TABLE[column.removesuffix("_p10").removesuffix("_p90")].unit
    if unit == "s":
        return parsed(given, SPANS, "2 s", bare=True)
    if unit == "days":
        return parsed(given, {name: seconds / DAY for name, seconds in SPANS.items()}, "30 days", bare=True)
    if unit == "USD":
        return parsed(given, {"USD": 1.0, "kUSD": 1e3, "MUSD": 1e6}, "2 USD", bare=True)
    if unit == "GiB":
        return parsed(given, {"GiB": 2.0**30, "GB": 1e9}, "70 GiB", bare=True)
    if unit == "share":
        return parsed(given, PERCENT, "0.9", bare=True)
    return parsed(given, {unit: 1.0, "": 1.0}, f"30 {unit}".strip(), bare=True)
