"""Loads of experts from a file: how many tokens each was given, of all layers together or by layer.

CSV: a row a load, with columns `expert` and `count`, and `layer` if it is by layer; or numbers alone, a row a layer
(one column is one layer). JSON: a list of numbers, a list of such lists by layer, or mappings from expert to count.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from simgpu.documents import read_text
from simgpu.errors import InputError, shown

SUFFIXES = (".csv", ".json")
"""Ends of names by which a file of loads is told from a law."""

MOST = 16 << 20
"""Bytes of a file at most: a hundred layers of some thousand experts are less than 2 MB."""

MOST_EXPERTS = 100_000
COUNTS = ("count", "counts", "load", "tokens")
"""Names of the column that counts."""


def expert_loads(file: str) -> list[float]:
    """The load of each expert, over the mean of its layer.

    Loads by layer are sorted from most to least before they are averaged over layers: expert 7 of one layer is none of
    expert 7 of the next, and adding them up by number would even out what every layer waits for. Raises `InputError`.
    """
    text = read_text(Path(file), MOST)
    layers = _json(text, file) if file.lower().endswith(".json") else _csv(text, file)
    whole = [_over_mean(layer, file) for layer in layers]
    if len(whole) == 1:
        return whole[0]
    experts = len(whole[0])
    for number, layer in enumerate(whole):
        if len(layer) != experts:
            problem = f"layer {number} of the file has {len(layer)} experts and the first has {experts}"
            raise InputError(f"{problem}; expected as many in each", file=file)
    ordered = [sorted(layer, reverse=True) for layer in whole]
    return [sum(place) / len(ordered) for place in zip(*ordered, strict=True)]


def _over_mean(loads: Sequence[float], file: str) -> list[float]:
    if len(loads) < 2 or not any(loads):
        problem = f"{shown(list(loads))} are no loads of experts; expected two or more, not all zero"
        raise InputError(problem, file=file)
    mean = sum(loads) / len(loads)
    return [one / mean for one in loads]


def _number(given: object, file: str, line: int | None = None, key: str | None = None) -> float:
    """A load. Raises `InputError`."""
    try:
        value = float(given) if isinstance(given, (int, float, str)) and not isinstance(given, bool) else -1.0
    except (ValueError, OverflowError):
        value = -1.0
    if not 0 <= value < 1e30:
        raise InputError(f"{shown(given)}: expected a load, a number from 0 on", file=file, line=line, key=key)
    return value


def _place(given: object, what: str, file: str, line: int | None = None) -> int:
    """The number of an expert or a layer. Raises `InputError`."""
    text = str(given).strip()
    if not text.isdecimal() or len(text) > 6 or int(text) >= MOST_EXPERTS:
        problem = f"{shown(given)}: expected the number of {what}, from 0 on"
        raise InputError(problem, file=file, line=line)
    return int(text)


def _filled(counts: Mapping[int, Mapping[int, float]]) -> list[list[float]]:
    """Loads by layer; an expert that a layer does not name has none."""
    experts = 1 + max(max(layer) for layer in counts.values())
    return [[layer.get(expert, 0.0) for expert in range(experts)] for _, layer in sorted(counts.items())]


# ---- CSV ---------------------------------------------------------------------------------------------


def _csv(text: str, file: str) -> list[list[float]]:
    rows = [
        (line, row) for line, row in enumerate(csv.reader(text.splitlines()), 1) if any(cell.strip() for cell in row)
    ]
    if not rows:
        raise InputError("is empty; expected columns expert and count, or numbers", file=file)
    head = [cell.strip().lower() for cell in rows[0][1]]
    if any(any(letter.isalpha() for letter in cell) for cell in head):
        return _named(head, rows[1:], file)
    numbers = [[_number(cell, file, line) for cell in row] for line, row in rows]
    return [[row[0] for row in numbers]] if all(len(row) == 1 for row in numbers) else numbers


def _named(head: Sequence[str], rows: Sequence[tuple[int, list[str]]], file: str) -> list[list[float]]:
    """Loads of a file whose columns have names."""
    count = next((name for name in COUNTS if name in head), None)
    if "expert" not in head or count is None:
        problem = f"columns {', '.join(head[:8])}: expected expert and count, and layer if it is by layer"
        raise InputError(problem, file=file, line=1)
    found: dict[int, dict[int, float]] = {}
    for line, row in rows:
        cells = dict(zip(head, row, strict=False))
        if len(row) < len(head):
            raise InputError(f"{len(row)} cells; expected {len(head)}, as in the head", file=file, line=line)
        layer = _place(cells["layer"], "a layer", file, line) if "layer" in head else 0
        expert = _place(cells["expert"], "an expert", file, line)
        if expert in found.setdefault(layer, {}):
            problem = f"expert {expert}{f' of layer {layer}' if 'layer' in head else ''} is given twice"
            raise InputError(problem, file=file, line=line)
        found[layer][expert] = _number(cells[count], file, line, count)
    if not found:
        raise InputError("has no rows below its head", file=file)
    return _filled(found)


# ---- JSON --------------------------------------------------------------------------------------------


def _json(text: str, file: str) -> list[list[float]]:
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"is not valid JSON ({error.msg})", file=file, line=error.lineno) from None
    except (RecursionError, ValueError):
        raise InputError("is not valid JSON (nested too deeply, or a number too long)", file=file) from None
    layers = _members(data, file)
    if not any(isinstance(one, (list, dict)) for one in layers.values()):
        return _filled({0: {place: _number(one, file, key=str(place)) for place, one in layers.items()}})
    return _filled(
        {
            layer: {place: _number(one, file, key=f"{layer}.{place}") for place, one in _members(of, file).items()}
            for layer, of in layers.items()
        }
    )


def _members(data: Any, file: str) -> dict[int, Any]:
    """Members of a list or a mapping, by number. Raises `InputError`."""
    if isinstance(data, list) and data:
        return dict(enumerate(data))
    if isinstance(data, dict) and data:
        return {_place(key, "an expert or a layer", file): value for key, value in data.items()}
    raise InputError(f"{shown(data)}: expected the load of each expert, as a list or by number", file=file)
