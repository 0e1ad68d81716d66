"""What is counted of the requests of each class: how long they wait, and how many are answered within their limits."""

from __future__ import annotations

from typing import Any

from simgpu.workload.server.tally import Sample

Limits = tuple[float, float, float]
"""Most seconds to the first token, of a token, and to the last one."""

CLASS = ("class", "requests", "answered", "within", "ttft_s", "ttft_99th_s", "tpot_s", "tpot_99th_s", "preempted")
"""What is counted of a class: its number, from 1 on, requests, those that were answered, the share of all that were
answered within their limits, means and P99 of TTFT and TPOT, and how often one of them lost its place."""


class ClassCount:
    """The requests of a class."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.ttft, self.tpot = Sample(), Sample()
        self.good = self.lost = self.preempted = 0

    def add(self, one: Any, ttft: float, tpot: float) -> bool:
        """Count an answered request (`simgpu.workload.server.requests.Request`); True if it met its limits."""
        self.ttft.add(ttft)
        if one.output > 1:
            self.tpot.add(tpot)
        self.preempted += one.preempted
        limits = self.limits
        good = bool(ttft <= limits[0] and tpot <= limits[1] and one.last - one.sent <= limits[2])
        self.good += good
        return good

    def join(self, other: ClassCount) -> None:
        """Add what was counted elsewhere."""
        self.ttft.join(other.ttft)
        self.tpot.join(other.tpot)
        self.good += other.good
        self.lost += other.lost
        self.preempted += other.preempted

    @property
    def within(self) -> float:
        """Share of all requests that were answered within their limits."""
        return self.good / max(self.ttft.number + self.lost, 1)

    def row(self, place: int) -> dict[str, float]:
        """A row of `CLASS`."""
        number = self.ttft.number
        seconds = [value for one in (self.ttft, self.tpot) for value in (one.mean, *one.percentiles((99.0,)))]
        values = (place, number + self.lost, number, self.within, *seconds, self.preempted)
        return dict(zip(CLASS, values, strict=True))
