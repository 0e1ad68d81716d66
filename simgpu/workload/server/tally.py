"""What is counted while a server runs: gaps between tokens, samples of requests, and its state over time.

Memory does not grow with the load: samples beyond `EXACT` are kept as counts in bins of a thousandth, and of the state
over time there are at most `BINS` averages, two of which become one when the run outlasts them.
"""

from __future__ import annotations

from array import array
from collections import Counter
from math import ceil, exp, floor, log

EXACT = 200_000
"""Samples that are kept one by one."""

FINE = 1000.0
"""Bins in a factor of e."""

NONE = -(10**6)
"""The bin of 0."""

BINS = 400
"""Averages over time at most; at least half as many."""

STEPS = 20_000
"""Steps of which a run keeps a record, the first of all; many equal ones are one."""

Step = tuple[int, float, float, int, int, int]
"""A step of a replica: its number, start, end, sequences that decode, tokens of prompts, and how many equal ones."""

State = tuple[int, int, int, int]
"""A replica's state, as `SERIES` names it."""

SERIES = ("running", "waiting", "used", "decoding")
"""What a replica's state over time has: requests with a place and without, blocks in use, sequences that decode."""


class Sample:
    """Weighted values of one kind: their mean, and percentiles."""

    def __init__(self) -> None:
        self.values = array("d")
        self.counts: dict[int, int] = {}
        self.number, self.sum, self.most = 0, 0.0, 0.0

    def add(self, value: float) -> None:
        """Add a value."""
        self.number += 1
        self.sum += value
        if self.number <= EXACT:
            self.values.append(value)
        else:
            if self.values:
                for one in self.values:
                    self._count(one, 1)
                self.values = array("d")
            self._count(value, 1)

    def add_many(self, value: float, times: int) -> None:
        """Add a value several times: it is counted in its bin."""
        self.number += times
        self.sum += value * times
        self._count(value, times)

    def _count(self, value: float, times: int) -> None:
        place = floor(log(value) * FINE) if value > 0 else NONE
        counts = self.counts
        if place in counts:  # quicker than a method of the dictionary
            counts[place] += times
        else:
            counts[place] = times
        if value > self.most:  # noqa: PLR1730 - quicker than max
            self.most = value

    def join(self, other: Sample) -> None:
        """Add the values of another sample."""
        number = self.number + other.number
        kept = number <= EXACT and not self.counts and not other.counts
        for one in () if kept else (self, other):
            for value in one.values:
                one._count(value, 1)
            one.values = array("d")
        self.values.extend(other.values)
        for place, times in other.counts.items():
            self.counts[place] = self.counts.get(place, 0) + times
        self.number, self.sum, self.most = number, self.sum + other.sum, max(self.most, other.most)

    @property
    def mean(self) -> float:
        """Mean; 0 of nothing."""
        return self.sum / self.number if self.number else 0.0

    def percentiles(self, shares: tuple[float, ...]) -> tuple[float, ...]:
        """Values below which so many percent lie, between neighbours in proportion (as numpy has it)."""
        if not self.number:
            return tuple(0.0 for _ in shares)
        if self.values:
            rows = sorted(self.values)
            return tuple(_between(rows, share) for share in shares)
        found, bins = [], sorted(self.counts.items())
        for share in shares:
            wanted, seen, place = share / 100 * (self.number - 1), 0, bins[-1][0]
            for one, times in bins:
                seen += times
                if seen > wanted:
                    place = one
                    break
            found.append(0.0 if place == NONE else min(exp((place + 0.5) / FINE), self.most))
        return tuple(found)

    def curve(self, points: int = 200) -> list[tuple[float, float]]:
        """(value, share of the values up to it), for a plot."""
        shares = tuple(100 * i / points for i in range(points + 1))
        return [(value, share / 100) for value, share in zip(self.percentiles(shares), shares, strict=True)]


def _between(rows: list[float], share: float) -> float:
    place = share / 100 * (len(rows) - 1)
    low = floor(place)
    high = min(ceil(place), len(rows) - 1)
    return rows[low] + (rows[high] - rows[low]) * (place - low)


class Series:
    """Averages over time of a few numbers, and sums of events, in bins that widen as the run goes on."""

    def __init__(self, names: tuple[str, ...], width: float = 0.05) -> None:
        self.names, self.width = names, width
        self.bins: list[list[float]] = []

    def span(self, start: float, end: float, values: tuple[float, ...]) -> None:
        """The numbers are `values` from start to end."""
        while end >= BINS * self.width:
            self._widen()
        width, first, last = self.width, int(start / self.width), int(end / self.width)
        if first == last < len(self.bins):
            found, part = self.bins[first], end - start
            for i, value in enumerate(values):
                if value:
                    found[i] += value * part
            return
        while len(self.bins) <= last:
            self.bins.append([0.0] * len(self.names))
        for place in range(first, last + 1):
            part = min(end, (place + 1) * width) - max(start, place * width)
            found = self.bins[place]
            for i, value in enumerate(values):
                found[i] += value * part

    def event(self, time: float, values: tuple[float, ...]) -> None:
        """Something is added at a time: its rate is what the average says."""
        while time >= BINS * self.width:
            self._widen()
        place = int(time / self.width)
        while len(self.bins) <= place:
            self.bins.append([0.0] * len(self.names))
        found = self.bins[place]
        for i, value in enumerate(values):
            found[i] += value

    def join(self, other: Series) -> None:
        """Add the numbers of another run over the same time."""
        while self.width < other.width:
            self._widen()
        while other.width < self.width:
            other._widen()
        for place, values in enumerate(other.bins):
            if place == len(self.bins):
                self.bins.append([0.0] * len(self.names))
            self.bins[place] = [a + b for a, b in zip(self.bins[place], values, strict=True)]

    def _widen(self) -> None:
        self.width *= 2
        pairs = [self.bins[i : i + 2] for i in range(0, len(self.bins), 2)]
        self.bins = [[sum(values) for values in zip(*pair, strict=True)] for pair in pairs]

    def rows(self) -> list[dict[str, float]]:
        """A row for each bin: the time at its middle, and the averages."""
        return [
            {"time_s": (i + 0.5) * self.width, **{
                name: value / self.width for name, value in zip(self.names, found, strict=True)
            }}
            for i, found in enumerate(self.bins)
        ]  # fmt: skip


class Tally:
    """Counts of all replicas of a server together."""

    def __init__(self) -> None:
        self.itl = Sample()
        self.series = Series(SERIES)
        self.busy_s = self.prompt_s = self.dummy_s = 0.0
        self.made = self.computed = self.hits = self.preemptions = self.most_used = 0
        self.steps: list[Step] = []
        self.loaded: Counter[str] = Counter()  # tokens of prompts by kind of tier
        self.loads, self.load_s, self.loaded_bytes, self.written_bytes = 0, 0.0, 0.0, 0.0
        self.adapter_joins, self.adapter_loads, self.adapter_load_s = 0, 0, 0.0
        self.adapter_s = 0.0  # different adapters of steps, times seconds

    @property
    def keeps(self) -> bool:
        """True while steps are kept."""
        return len(self.steps) < STEPS

    def gap(self, seconds: float, times: int) -> None:
        """So many tokens came `seconds` after the one before."""
        if times:
            self.itl.add_many(seconds, times)

    def gaps(self, first: float, rise: float, steps: int, times: int) -> None:
        """Steps whose seconds rise by the same amount each, with a token of `times` sequences."""
        if rise * steps < first / FINE:  # nearly always; the loop would do the same
            if steps > 0:
                self.itl.add_many(first + rise * (steps - 1) / 2, times * steps)
            return
        while steps > 0:
            same = steps if rise * steps < first / FINE else max(int(first / FINE / rise), 1)
            same = min(same, steps)
            self.itl.add_many(first + rise * (same - 1) / 2, times * same)
            first += rise * same
            steps -= same

    def span(self, start: float, end: float, state: State) -> None:
        """A replica was busy with a step or several equal ones, in a state of `SERIES`."""
        part = end - start
        self.busy_s += part
        running, waiting, used, decoding = state
        if used > self.most_used:  # noqa: PLR1730 - quicker than max
            self.most_used = used
        series = self.series
        place = int(end / series.width)
        if place < len(series.bins) and place == int(start / series.width):  # nearly always: within one bin
            found = series.bins[place]
            found[0] += running * part
            found[1] += waiting * part
            found[2] += used * part
            found[3] += decoding * part
        else:
            series.span(start, end, state)

    def waits(self, start: float, end: float) -> None:
        """A request waited meanwhile, beside those of the state."""
        series = self.series
        place = int(end / series.width)
        if place < len(series.bins) and place == int(start / series.width):
            series.bins[place][1] += end - start
        else:
            series.span(start, end, (0, 1, 0, 0))

    def join(self, other: Tally) -> None:
        """Add what was counted elsewhere."""
        self.itl.join(other.itl)
        self.series.join(other.series)
        for name in ("busy_s", "prompt_s", "dummy_s", "made", "computed", "hits", "preemptions"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.most_used = max(self.most_used, other.most_used)
