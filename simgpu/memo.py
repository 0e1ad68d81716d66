"""The one memory of what was worked out and may be asked again: regions by name, each with a bound.

A region is a dict that holds at most so many entries; a further one takes the place of the oldest. Keys must be values
that stay equal (never `id()` of what may be forgotten). A cluster has a memory of its own, forgotten with it
(`simgpu.hardware.cluster.Cluster.memo`); what does not depend on a cluster is in `SHARED`.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Region(dict[K, V]):
    """A dict of at most `most` entries, the oldest of which goes first.

    >>> region = Region(2)
    >>> for n in range(4):
    ...     region[n] = n * n
    >>> region
    {2: 4, 3: 9}
    """

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def __setitem__(self, key: K, value: V) -> None:
        if len(self) >= self.most and key not in self:
            del self[next(iter(self))]
        super().__setitem__(key, value)

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

    def region(self, name: str, most: int) -> Region[Any, Any]:
        """The region of a name, of at most `most` entries."""
        found = self._regions.get(name)
        if found is None:
            found = self._regions[name] = Region(most)
        return found

    def counts(self) -> dict[str, int]:
        """How many entries each region has."""
        return {name: len(region) for name, region in self._regions.items()}

    def clear(self) -> None:
        """Forget everything."""
        for region in self._regions.values():
            region.clear()


SHARED = Memo()
"""What does not depend on a cluster."""
