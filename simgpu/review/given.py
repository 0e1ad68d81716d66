"""Inputs of a scenario as a page shows them: what was asked, catalogue figures with their sources, defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simgpu.reading import built_in_folder
from simgpu.review.subject import Given
from simgpu.units import format_si

MADE = ("B/s", "FLOP/s", "FLOP", "B", "s", "Hz")
"""Units that take a prefix."""


def given_of(resolved: Mapping[str, Any]) -> list[Given]:
    """The inputs of one scenario: those that were asked first, then figures of the catalogue, then defaults."""
    found = [_given(key, one) for key, one in resolved.items() if one.get("value") is not None]
    order = ("asked", "catalogue", "default")
    return sorted(found, key=lambda one: order.index(one.how))


def _given(key: str, one: Mapping[str, Any]) -> Given:
    source = str(one.get("source") or "default")
    return Given(key, value_words(one["value"], str(one.get("unit") or "")), near(source), _how(source))


def _how(source: str) -> str:
    if source == "default":
        return "default"
    end = source.rpartition(":")
    asked = source.startswith(("--set", "<")) or (end[2].isdigit() and end[0].endswith((".yaml", ".yml", ">")))
    return "asked" if asked else "catalogue"


def value_words(value: Any, unit: str) -> str:
    """A value with its unit."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (int, float)):
        if unit in MADE:
            return format_si(value, unit)
        return f"{value:,.6g} {unit}".rstrip() if isinstance(value, float) else f"{value:,} {unit}".rstrip()
    if isinstance(value, (list, tuple)):
        return ", ".join(str(one) for one in value)
    return str(value)


def near(source: str) -> str:
    """A source without the folder that this was run in: a page names no place of one person's disk."""
    for folder, short in ((Path.cwd(), ""), (built_in_folder(), ""), (Path.home(), "~/")):
        source = source.replace(f"{folder}/", short)
    return source
