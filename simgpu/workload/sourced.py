"""Figures of a file: value, unit and source, where the file lists that source."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from simgpu.documents import Document
from simgpu.errors import nearest, shown
from simgpu.units import EXAMPLES, parse_quantity, to_si


def source_of(document: Document, given: Any, path: tuple[Any, ...]) -> str:
    """The source, in words, that something at `path` of a file names. Raises `InputError` where the file lists none."""
    sources = document.data.get("sources", {})
    known: Mapping[str, Any] = sources if isinstance(sources, Mapping) else {}
    if not isinstance(given, str) or given not in known:
        near = nearest(given if isinstance(given, str) else "", known)
        raise document.error(f"source {shown(given)} is not among the file's sources{near}", path)
    return str(known[given])


def figure(document: Document, given: Any, path: tuple[Any, ...]) -> tuple[Any, str, str]:
    """Value, unit and source, in words, of a figure at `path` of a file. Raises `InputError`."""
    if not isinstance(given, dict) or "value" not in given or set(given) - {"value", "unit", "source"}:
        raise document.error(f"{shown(given)}: expected value, unit and source", path)
    return given["value"], str(given.get("unit", "")), source_of(document, given.get("source"), path)


def number(given: Any, unit: str, dimension: str) -> float:
    """A number in SI units; `dimension` is '', 's' or 'B'. Raises `ValueError` for one that lacks its unit."""
    if dimension and not unit:
        raise ValueError(f"{given} has no unit; expected one, such as '{EXAMPLES[dimension]}'")
    return quantity(given, unit, dimension)


def quantity(given: Any, unit: str, dimension: str) -> float:
    """A value in SI units, as its literal in them would read: 40 us are 40e-6 s to the last digit."""
    value, own = parse_quantity(given)
    return float(Decimal(repr(value)) * Decimal(repr(to_si(1.0, own or unit, dimension))))
