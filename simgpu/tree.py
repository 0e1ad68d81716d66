"""Nested data (mappings and lists, as YAML gives them) addressed by dotted keys.

An item of a list is addressed by its position or by its label: its `name`, or for the peaks of a GPU its dtype
('bf16', 'bf16-fp32', 'bf16-fp32-tensor').
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any


def replaced(data: Any, path: Sequence[str], leaf: Callable[[Any], Any]) -> Any:
    """A copy of `data` in which the value at `path` is `leaf(value)`; mappings on the way are made as needed.

    Raises `KeyError` with a message when the path leads nowhere.
    """
    if not path:
        return leaf(data)
    head, rest = path[0], path[1:]
    if isinstance(data, list):
        chosen = items_labelled(data, head)
        if not chosen:
            raise KeyError(head)
        return [replaced(item, rest, leaf) if i in chosen else item for i, item in enumerate(data)]
    if data is None or isinstance(data, dict):
        known = data or {}
        return {**known, head: replaced(known.get(head), rest, leaf)}
    raise KeyError(head)


def items_labelled(items: Sequence[Any], label: str) -> list[int]:
    """Positions of the list items that `label` means."""
    return [i for i, item in enumerate(items) if label == str(i) or _matches(item, label)]


def labels_of(items: Sequence[Any]) -> list[str]:
    """Labels by which the items of a list can be addressed."""
    named = [item.get("name") or item.get("dtype") or _ends(item) if isinstance(item, dict) else None for item in items]
    return [str(name or i) for i, (name, item) in enumerate(zip(named, items, strict=True)) if isinstance(item, dict)]


def _ends(item: dict[str, Any]) -> str | None:
    """The two GPUs that a wire joins, such as '0-3'."""
    gpus = item.get("gpus")
    return "-".join(map(str, gpus)) if isinstance(gpus, (list, tuple)) else None


def _matches(item: Any, label: str) -> bool:
    if not isinstance(item, dict):
        return False
    full = "-".join(str(item.get(key)) for key in ("dtype", "accumulate", "engine"))
    return label in (item.get("name"), item.get("dtype"), _ends(item)) or full == label or full.startswith(label + "-")


def leaves(data: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every value of a nested mapping with its path; lists are looked into when they hold mappings."""
    if isinstance(data, Mapping) and data:
        for key, value in data.items():
            yield from leaves(value, (*path, str(key)))
    elif isinstance(data, (list, tuple)) and any(isinstance(item, Mapping) for item in data):
        for i, item in enumerate(data):
            name = item.get("name") if isinstance(item, Mapping) else None
            yield from leaves(item, (*path, str(name or i)))
    else:
        yield path, data


def indexed(data: Any, path: Sequence[str]) -> tuple[str, ...]:
    """`path` with the labels of list items replaced by positions, as far as it leads; the first where several match."""
    positions: list[str] = []
    for part in path:
        if isinstance(data, (list, tuple)):
            chosen = items_labelled(data, part)
            part = str(chosen[0]) if chosen else part
            data = data[chosen[0]] if chosen else None
        else:
            data = data.get(part) if isinstance(data, Mapping) else None
        positions.append(part)
    return tuple(positions)


def value_at(data: Any, path: Sequence[str]) -> Any:
    """The value at `path`, None where there is none."""
    for part in path:
        if isinstance(data, (list, tuple)):
            chosen = items_labelled(data, part)
            data = data[chosen[0]] if chosen else None
        elif isinstance(data, Mapping):
            data = data.get(part)
        else:
            return None
    return data
