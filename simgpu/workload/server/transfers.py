"""Caches on their way from engines of prompts to engines of decodes, as fluid flows over the links of both.

Every engine has a link out and a link in, which all of its transfers share; each gets its max-min fair part
(`simgpu.engine.network`). GPUs of both sides may differ: a cache crosses the links of all GPUs of an engine at a time,
each with what it holds of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from simgpu.engine.network import FluidNetwork


@dataclass(frozen=True)
class Transfer:
    """How caches move between engines: bytes/s of the links of an engine's GPU, bytes of tokens on it."""

    rate: float
    size: Callable[[int], float]


class Transfers:
    """Flows between engines, each with how caches leave it or come to it."""

    def __init__(self, of: Mapping[Any, Transfer]) -> None:
        self._of = of
        self._network = FluidNetwork()
        self._links: dict[Any, int] = {}
        self.number, self.seconds = 0, 0.0
        self._begun: dict[Any, float] = {}

    @property
    def next_time(self) -> float:
        """When the next transfer ends; infinite where there is none."""
        return self._network.next_time

    def start(self, key: Any, source: Any, target: Any, tokens: int, now: float) -> None:
        """The cache of so many tokens goes from an engine to another."""
        network, out, into = self._network, self._of[source], self._of[target]
        size = out.size(tokens)
        self._begun[key] = now
        route = (self._link(("out", source), out.rate), self._link(("in", target), into.rate))
        network.start(key, route, size, None if into is out else (1.0, into.size(tokens) / size))
        network.solve(now)

    def finish(self) -> list[Any]:
        """What ends at `next_time`."""
        now = self._network.next_time
        done = self._network.finish(now)
        self._network.solve(now)
        for key in done:
            self.number += 1
            self.seconds += now - self._begun.pop(key)
        return done

    def _link(self, name: Any, rate: float) -> int:
        found = self._links.get(name)
        if found is None:
            found = self._links[name] = self._network.add_link(rate)
        return found
