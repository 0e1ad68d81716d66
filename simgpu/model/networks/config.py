"""Reads the configuration file of a component, key by key; errors name file, line and key."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simgpu.documents import Document
from simgpu.errors import InputError, nearest, no_flag, shown

MOST = 10_000_000
"""Larger sizes than any network has."""


class Config:
    """The keys of a component's configuration. What is absent is its default; what has none is an error."""

    def __init__(self, document: Document, name: str = "") -> None:
        self.document, self.name = document, name

    def error(self, problem: str, *path: Any) -> InputError:
        """An error at a key of the file."""
        return self.document.error(problem, path)

    def get(self, key: str, default: Any = None) -> Any:
        """A value, `default` where the file has none or null."""
        value = self.document.data.get(key)
        return default if value is None else value

    def has(self, key: str) -> bool:
        """True if the file gives the key a value other than null."""
        return self.document.data.get(key) is not None

    def word(self, key: str, default: str | None = None, known: Iterable[str] = ()) -> str:
        """Text, one of `known` where those are given."""
        value = self.get(key, default)
        if value is None:
            raise self.error("this key is missing", key)
        names = list(known)
        if not isinstance(value, str) or (names and value not in names):
            raise self.error(f"{shown(value)} is not known{nearest(value, names)}", key)
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """True or false."""
        value = self.get(key, default)
        if not isinstance(value, bool):
            raise self.error(no_flag(value), key)
        return value

    def count(self, key: str, default: int | None = None, least: int = 1) -> int:
        """A whole number of at least `least`."""
        value = self.get(key, default)
        if value is None:
            raise self.error("this key is missing; expected a whole number", key)
        return self._count(value, least, key)

    def number(self, key: str, default: float) -> float:
        """A number above zero."""
        value = self.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < MOST:
            raise self.error(f"{shown(value)} is not a number above zero", key)
        return float(value)

    def counts(self, key: str, default: list[int] | None = None, length: int = 0, least: int = 1) -> list[int]:
        """A list of whole numbers; one number stands for `length` equal ones."""
        value = self.get(key, default)
        if value is None:
            raise self.error("this key is missing; expected a list of whole numbers", key)
        if not isinstance(value, list):
            value = [value] * max(length, 1)
        if length and len(value) != length:
            raise self.error(f"{len(value)} numbers; expected {length}, one for each block", key)
        return [self._count(one, least, key, i) for i, one in enumerate(value)]

    def words(self, key: str, known: Iterable[str]) -> list[str]:
        """A list of names, each one of `known`."""
        value, names = self.get(key), list(known)
        if not isinstance(value, list) or not value:
            raise self.error("expected a list of names", key)
        for i, one in enumerate(value):
            if one not in names:
                raise self.error(f"unknown type {shown(one)}{nearest(one, names)}", key, i)
        return [str(one) for one in value]

    def _count(self, value: Any, least: int, *path: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MOST:
            raise self.error(f"{shown(value)} is not a whole number from {least} to {MOST:,}", *path)
        return value

    def divides(self, part: int, whole: int, key: str, of: str) -> None:
        """Raise `InputError` at `key` where `part` does not divide `whole`."""
        if whole % part:
            raise self.error(f"{part} does not divide {of} = {whole}", key)
