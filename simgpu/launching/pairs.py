"""Keys that a scenario and a framework both have, under other names: tables that are written and read the same way."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from simgpu.errors import InputError, nearest, shown
from simgpu.launching.answer import Draft


@dataclass(frozen=True)
class Pair:
    """A key of a scenario and the name that a framework has for it.

    default
        The value that is not written, being the framework's own where it says nothing.
    names
        The framework's words for the values of simgpu; None: the same.
    always
        True for what is written at its default, too.
    """

    key: str
    name: str
    default: Any = None
    names: Mapping[Any, Any] | None = None
    always: bool = False

    def put(self, draft: Draft) -> None:
        """Write it."""
        draft.set(self.name, self.key, self.default, self.names, self.always)

    def read(self, value: Any, where: str) -> Any:
        """The value of simgpu for one of the framework. Raises `InputError` (key only)."""
        if self.names is None:
            return value
        for mine, its in self.names.items():
            if its == value or str(its) == str(value):
                return mine
        known = nearest(str(value), [str(one) for one in self.names.values()])
        raise InputError(f"{shown(value)} has no counterpart here{known}", key=where)


def nested(flags: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Dotted names with values as mappings in mappings."""
    made: dict[str, Any] = {}
    for name, value in flags:
        *path, last = name.split(".")
        here: MutableMapping[str, Any] = made
        for part in path:
            here = here.setdefault(part, {})
        here[last] = value
    return made


def flat(data: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Mappings in mappings as dotted names with values."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            found |= flat(value, f"{name}.")
        else:
            found[name] = value
    return found
