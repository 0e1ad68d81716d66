"""The points of an experiment: every combination of its axes for every case, without those its conditions leave out.

Combinations are walked axis by axis, and a condition is asked as soon as no later axis can change it. So `tp * pp <=
gpus` cuts a branch before the other axes multiply it, and a file may multiply to more than could be looked at one by
one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

from simgpu.documents import Document
from simgpu.errors import InputError, nearest, shown
from simgpu.scenario import Key, Origins, Place
from simgpu.study.experiment import conditions
from simgpu.study.experiment.conditions import Condition
from simgpu.study.experiment.names import PointValues, UnknownError, depends_on, is_hardware
from simgpu.study.experiment.names import names as condition_names
from simgpu.study.experiment.resolver import Resolver
from simgpu.tree import indexed, labels_of, replaced, value_at

MAX_SCENARIOS = 100_000
MAX_LOOKS = 1_000_000
"""Combinations that are looked at, whole or in part, before conditions have left out the others."""


@dataclass(frozen=True)
class Track:
    """An axis as it is walked: for each of `values` one value of every path. `places` tell where they were written."""

    paths: tuple[Key, ...]
    values: Sequence[tuple[Any, ...]]
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Point:
    """One scenario of an experiment that is not checked yet: labels, data, and where each value was written."""

    labels: Mapping[str, Any]
    data: Mapping[str, Any]
    origins: Origins


class Walk:
    """The points that the conditions leave of some starts (one for each case)."""

    def __init__(self, document: Document, tracks: Sequence[Track], where: Sequence[str], resolver: Resolver) -> None:
        self.document, self.tracks, self.where, self.resolver = document, tracks, where, resolver
        self._looks = 0

    def points(self, starts: Sequence[Point]) -> Iterator[Point]:
        """Points in the order of the rows: the last track moves fastest. Raises `InputError` for too many or none."""
        given = prod(len(track.values) for track in self.tracks) * len(starts)
        if not self.where and given > MAX_SCENARIOS:
            raise self.document.error(f"{given:,} scenarios, expected at most {MAX_SCENARIOS:,}", ("vary",))
        left = 0
        for start in starts:
            due = self._schedule(start)
            for point in self._below(start, start.data, 0, (), due):
                left += 1
                if left > MAX_SCENARIOS:
                    problem = f"more than {MAX_SCENARIOS:,} of {given:,} scenarios satisfy the conditions"
                    raise self.document.error(f"{problem}; expected at most as many", ("where",))
                yield point
        if not left:
            raise self.document.error(f"none of {given:,} scenarios satisfies the conditions", ("where",))

    def _schedule(self, start: Point) -> list[list[tuple[int, Condition]]]:
        """Conditions by the number of tracks after which they are asked."""
        due: list[list[tuple[int, Condition]]] = [[] for _ in range(len(self.tracks) + 1)]
        for n, text in enumerate(self.where):
            condition = self._parsed(n, text, start)
            decided = [key for name in condition.names for key in depends_on(name, start.labels)]
            after = [
                depth
                for depth, track in enumerate(self.tracks, 1)
                if any(_overlap(path, key) for path in track.paths for key in decided)
            ]
            due[max(after, default=0)].append((n, condition))
        return due

    def _parsed(self, number: int, text: str, start: Point) -> Condition:
        try:
            asked = conditions.parse(text, None).names
            return conditions.parse(text, condition_names(start.labels) | set(filter(is_hardware, asked)))
        except InputError as error:
            raise self.document.error(error.problem, ("where", number)) from None

    def _below(
        self,
        start: Point,
        data: Any,
        depth: int,
        chosen: tuple[Any, ...],
        due: Sequence[Sequence[tuple[int, Condition]]],
    ) -> Iterator[Point]:
        if due[depth] and not self._hold(due[depth], data, start):
            return
        if depth == len(self.tracks):
            yield Point(start.labels, data, self._origins(start, data, chosen))
            return
        track = self.tracks[depth]
        for values in track.values:
            self._looks += 1
            if self._looks > MAX_LOOKS:
                problem = f"more than {MAX_LOOKS:,} combinations would have to be checked"
                raise self.document.error(f"{problem}; vary less, or fewer keys at a time", ("vary",))
            changed = data
            for path, value, place in zip(track.paths, values, track.places, strict=True):
                changed = put(changed, path, value, place)
            yield from self._below(start, changed, depth + 1, (*chosen, values), due)

    def _hold(self, conditions: Sequence[tuple[int, Condition]], data: Any, start: Point) -> bool:
        names = PointValues(data, start.labels, self.resolver)
        for n, condition in conditions:
            try:
                if not condition.holds(names):
                    return False
            except UnknownError:
                continue
            except InputError as error:
                raise self.document.error(error.problem, ("where", n)) from None
        return True

    def _origins(self, start: Point, data: Any, chosen: tuple[Any, ...]) -> Origins:
        origins = start.origins.copy()
        for track, _ in zip(self.tracks, chosen, strict=True):
            for path, place in zip(track.paths, track.places, strict=True):
                origins.put(indexed(data, path), place)
        return origins


def put(data: Any, path: Key, value: Any, place: Place) -> Any:
    """A copy of `data` with another value at `path`. Raises `InputError` at `place` where the path leads nowhere."""
    try:
        return replaced(data, path, lambda _: value)
    except KeyError as missing:
        at = path.index(missing.args[0])
        parent = value_at(data, path[:at])
        hint = nearest(missing.args[0], labels_of(parent)) if isinstance(parent, list) else ""
        key = place.key or written_key(path)
        problem = f"nothing named '{missing.args[0]}' there{hint}"
        if not isinstance(parent, (dict, list)) and at:
            problem = f"{written_key(path[:at])} is {shown(parent)}, which has no keys such as '{missing.args[0]}'"
        raise InputError(problem, file=place.file or place.source, line=place.line, key=key) from None


def written_key(path: Key) -> str:
    """A path as people write it: 'plan.tp'."""
    return path[1] if path[0] == "hardware" and len(path) > 1 else ".".join(path)


def _overlap(a: Key, b: Key) -> bool:
    """True if one of two paths leads through the other."""
    return all(one == other for one, other in zip(a, b, strict=False))
