"""One thing that was measured of a cluster, with what it should be; and whether it is below that."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from statistics import median
from typing import Any

OK, BELOW, ODD, BROKEN = "as it should be", "below the interval", "below its peers", "broken"
COUNTED = ("links", "adapters")
"""Units of what is counted, not timed."""
PEERS = 0.9
"""A link that carries less than this part of the middle of its peers is below them, where those agree."""
AGREE = 4.0
"""Robust standard deviations of peers that a deviation must exceed, so that noise alone is none."""
LEAST = 4
"""Fewest peers that say anything of one of them."""


@dataclass(frozen=True)
class Check:
    """A rate (`unit` B/s or FLOP/s) or a time (s) of a place, with the prediction and its 80 % interval, in SI units.

    `group` names peers: things that should be alike. `predicted` is None where peers alone can tell.
    """

    file: str
    test: str
    place: str
    measured: float
    unit: str
    predicted: float | None = None
    p10: float = 0.0
    p90: float = 0.0
    group: str = ""
    devices: tuple[str, ...] = ()
    status: str = OK
    usual: float | None = None  # the middle of its peers, where it is below them
    note: str = ""

    @property
    def speed(self) -> float:
        """Measured over predicted as a speed: 0.8 is 20 % slower. Without a prediction, over the middle of peers."""
        of = self.predicted if self.predicted is not None else self.usual
        if not of:
            return 1.0
        return of / self.measured if self.unit == "s" else self.measured / of

    @property
    def below(self) -> bool:
        """True if something is wrong."""
        return self.status != OK

    def row(self) -> dict[str, Any]:
        """The check as data."""
        return {
            "file": self.file, "test": self.test, "place": self.place, "measured": self.measured, "unit": self.unit,
            "predicted": self.predicted, "p10": self.p10 or None, "p90": self.p90 or None, "peers": self.usual,
            "speed": self.speed, "status": self.status, "note": self.note,
        }  # fmt: skip


def apart(checks: Iterable[Check]) -> list[Check]:
    """Checks of which those of equal names in several files, one for each node, have the file in front of the name."""
    listed = list(checks)
    files: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in listed:
        files[one.test, one.place].add(one.file)
    return [_of_file(one) if len(files[one.test, one.place]) > 1 else one for one in listed]


def _of_file(one: Check) -> Check:
    node = PurePath(one.file).stem
    devices = tuple(f"{node} {device}" for device in one.devices)
    return replace(one, place=f"{node} {one.place}", devices=devices)


def judged(checks: Iterable[Check]) -> list[Check]:
    """Checks with their status: outside the interval on the slow side, or far below the middle of their peers."""
    listed = list(checks)
    groups: dict[str, list[float]] = defaultdict(list)
    for one in listed:
        if one.group:
            groups[one.group].append(one.measured)
    return [_judged(one, groups.get(one.group, [])) for one in listed]


def _judged(one: Check, peers: Sequence[float]) -> Check:
    slow = one.measured > one.p90 if one.unit == "s" else one.measured < one.p10
    if one.predicted is not None and one.p90 > 0 and slow:
        return replace(one, status=BELOW)
    if len(peers) < LEAST or one.status != OK:
        return one
    middle = median(peers)
    spread = 1.4826 * median(abs(value - middle) for value in peers)
    worse = one.measured / middle if one.unit != "s" else middle / one.measured
    if worse < PEERS and abs(one.measured - middle) > AGREE * spread:
        return replace(one, status=ODD, usual=middle)
    return one


def blamed(checks: Sequence[Check]) -> list[str]:
    """Devices to which most of what is below belongs, in words, the worst first.

    A GPU of whose pairs two thirds are below is named once, and its pairs are not named again.
    """
    found: list[tuple[float, str]] = []
    named: set[str] = set()
    for test in dict.fromkeys(one.test for one in checks):
        mine = [one for one in checks if one.test == test]
        for device in dict.fromkeys(device for one in mine if len(one.devices) == 2 for device in one.devices):
            pairs = [one for one in mine if device in one.devices]
            below = [one for one in pairs if one.below]
            others = [one for one in mine if one.below and device not in one.devices]
            if below and 3 * len(below) >= 2 * len(pairs) and len(others) < len(below):
                slow = median(one.speed for one in below)
                found.append(
                    (slow, f"{device}: {len(below)} of its {len(pairs)} pairs are below, {_less(slow)} ({test})")
                )
                named.add(f"{test}|{device}")
    found += [
        (one.speed, sentence(one))
        for one in checks
        if one.below and not any(f"{one.test}|{device}" in named for device in one.devices)
    ]
    return [text for _, text in sorted(found)]


def _less(speed: float) -> str:
    return f"{100 * (1 - speed):.0f} % less than they should be"


def sentence(one: Check) -> str:
    """What is below, by how much, against what."""
    from simgpu.units import format_si

    how = f"{100 * (1 - one.speed):.0f} % slower"
    if one.status == ODD and one.usual is not None:
        slower = one.measured / one.usual if one.unit != "s" else one.usual / one.measured
        usual = format_si(one.usual, one.unit)
        less = f"{100 * (1 - slower):.0f} % below its peers' {usual}"
        return f"{one.place}: {format_si(one.measured, one.unit)}, {less} ({one.test})"
    if one.predicted is None:
        return f"{one.place}: {one.note} ({one.test})"
    end = one.p90 if one.unit == "s" else one.p10
    should = f"{how} than the {format_si(one.predicted, one.unit)} that it should have"
    beyond = f"beyond the interval's {format_si(end, one.unit)}"
    return f"{one.place}: {format_si(one.measured, one.unit)}, {should}, {beyond} ({one.test})"
