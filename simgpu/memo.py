"""The cache of computed results: regions by name, each of a bounded size, and their keys.

A region is a dict that holds at most so many entries; a further one takes the place of the oldest. A machine
(`simgpu.hardware.machine`: a cluster at work) has a memory of its own, forgotten with it; machines themselves and what
does not depend on one are in `SHARED`, answers of functions (`remembered`) among it.

Keys follow from dataclasses, so that a new field cannot be forgotten: `key_of` holds every field but those that its
caller names, `content` is a digest of everything that a nested thing holds but for `WORDS`. A key is never `id()` of
what may be forgotten.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Set
from dataclasses import fields, is_dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any, ParamSpec, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
P = ParamSpec("P")
R = TypeVar("R")

WORDS = ("title", "source", "sources")
"""Fields that only name things: no result depends on them."""

CONTENTS = 512
"""Objects whose digests are remembered."""


class Region(dict[K, V]):
    """A dict of at most `most` entries, the oldest of which goes first.

    >>> region = Region(2)
    >>> for n in range(4):
    ...     region[n] = n * n
    >>> region
    {2: 4, 3: 9}

    With `size`, entries together are at most `most` in size; the newest stays, however large.

    >>> words = Region(8, len)
    >>> words["a"], words["b"], words["c"] = "four", "abc", "de"
    >>> words
    {'b': 'abc', 'c': 'de'}
    """

    def __init__(self, most: int, size: Callable[[V], int] | None = None) -> None:
        super().__init__()
        self.most, self.held = most, 0
        self._size = size

    def __setitem__(self, key: K, value: V) -> None:
        if self._size is not None:
            self._weigh(key, self._size(value))
        elif len(self) >= self.most and key not in self:
            del self[next(iter(self))]
        super().__setitem__(key, value)

    def _weigh(self, key: K, size: int) -> None:
        """Make room for an entry of a size."""
        assert self._size is not None
        if key in self:
            self.held -= self._size(self.pop(key))
        while self and self.held + size > self.most:
            self.held -= self._size(self.pop(next(iter(self))))
        self.held += size

    def clear(self) -> None:
        """Forget every entry."""
        super().clear()
        self.held = 0

    def known(self, key: K, make: Callable[[], V]) -> V:
        """The entry of a key, made if it is not there."""
        found = self.get(key)
        if found is None:
            found = self[key] = make()
        return found


class Memo:
    """Regions by name.

    >>> memo = Memo()
    >>> memo.region("squares", 100)[3] = 9
    >>> memo.counts()
    {'squares': 1}
    >>> memo.clear()
    >>> memo.counts()
    {'squares': 0}
    """

    def __init__(self) -> None:
        self._regions: dict[str, Region[Any, Any]] = {}
        self._functions: dict[str, Any] = {}

    def region(self, name: str, most: int, size: Callable[[Any], int] | None = None) -> Region[Any, Any]:
        """The region of a name, of at most `most` entries (or `most` in `size` together)."""
        found = self._regions.get(name)
        if found is None:
            found = self._regions[name] = Region(most, size)
        return found

    def answers(self, most: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Remember the last `most` answers of a function: it must depend on its arguments alone."""

        def remember(function: Callable[P, R]) -> Callable[P, R]:
            known = lru_cache(maxsize=most)(function)
            self._functions[f"{function.__module__}.{function.__qualname__}"] = known
            return known  # type: ignore[return-value]

        return remember

    def counts(self) -> dict[str, int]:
        """How many entries each region has."""
        answers = {name: function.cache_info().currsize for name, function in self._functions.items()}
        return {name: len(region) for name, region in self._regions.items()} | answers

    def bounds(self) -> dict[str, int]:
        """The bound of each region: entries, or their size together."""
        answers = {name: function.cache_info().maxsize for name, function in self._functions.items()}
        return {name: region.most for name, region in self._regions.items()} | answers

    def clear(self) -> None:
        """Forget everything."""
        for region in self._regions.values():
            region.clear()
        for function in self._functions.values():
            function.cache_clear()


SHARED = Memo()
"""The cache of machines, and of results that depend on none."""

remembered = SHARED.answers
"""Remember the last answers of a function, `@remembered(256)`."""


# ---- keys --------------------------------------------------------------------------------------------


def key_of(thing: Any, without: tuple[str, ...] = (), **instead: Hashable) -> tuple[Hashable, ...]:
    """Every field of a dataclass as a key, but for those in `without`; `instead` stands for a field by its name.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Step:
    ...     batch: int
    ...     title: str
    ...     sizes: list[int]
    >>> key_of(Step(8, "a step", [1, 2]), without=("title",), sizes=(1, 2))
    (8, (1, 2))
    """
    names = fields_of(type(thing), without)
    if not instead:
        return tuple([getattr(thing, name) for name in names])
    return tuple([instead[name] if name in instead else getattr(thing, name) for name in names])


@remembered(256)
def fields_of(kind: Any, without: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Names of the fields of a dataclass that count in comparisons, but for those in `without`, which must be some."""
    known = _counting(kind)
    if unknown := [name for name in without if name not in known]:
        raise NameError(f"{kind.__name__} has no field {', '.join(unknown)}")
    return tuple(name for name in known if name not in without)


def _counting(kind: Any) -> tuple[str, ...]:
    """Names of the fields of a dataclass that count in comparisons, or of a pydantic model."""
    if is_dataclass(kind):
        return tuple(one.name for one in fields(kind) if one.compare)
    if hasattr(kind, "model_fields"):
        return tuple(kind.model_fields)
    raise TypeError(f"values of type {kind.__name__} cannot be part of a key")


@remembered(256)
def _held(kind: Any, without: tuple[str, ...]) -> tuple[str, ...]:
    """`_counting`, but for those in `without`, of which it need not have any."""
    return tuple(name for name in _counting(kind) if name not in without)


_contents: Region[tuple[int, tuple[str, ...]], tuple[Any, bytes]] = SHARED.region("contents", CONTENTS)


def content(thing: Any, without: tuple[str, ...] = WORDS) -> bytes:
    """A digest of everything that a dataclass or a pydantic model holds, to any depth, but for fields in `without`.

    Things that are equal but for their words have one digest. It is made once for an object, which must not change.
    """
    found = _contents.get((id(thing), without))
    if found is None or found[0] is not thing:
        text = repr(_plain(thing, without))
        found = _contents[id(thing), without] = thing, blake2b(text.encode(), digest_size=20).digest()
    return found[1]


@remembered(256)
def _collection(kind: Any) -> Any:
    """`Mapping` or `Set`, if values of a type are one."""
    return next((one for one in (Mapping, Set) if issubclass(kind, one)), None)


_SIMPLE = frozenset((type(None), bool, int, float, str, bytes))


def _plain(value: Any, without: tuple[str, ...]) -> Any:
    """Numbers, text and tuples of them that are equal where `value` is."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    if kind is tuple or kind is list:
        return tuple([_plain(one, without) for one in value])
    if (many := _collection(kind)) is Mapping:
        return sorted([(repr(_plain(name, without)), _plain(one, without)) for name, one in value.items()], key=_first)
    if many is Set:
        return sorted([repr(_plain(one, without)) for one in value])
    names = _held(kind, without)
    return (kind.__qualname__, names, [_plain(getattr(value, name), without) for name in names])


def _first(pair: tuple[str, Any]) -> str:
    return pair[0]
