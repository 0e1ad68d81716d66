"""Fluid flows over shared links: every flow gets its max-min fair share.

The model is the fluid model of SimGrid (Velho et al., "On the validity of flow-level TCP network models",
ACM TOMACS 23(4), 2013; Bertsekas and Gallager, *Data Networks*, 1992, section 6.5.2): the rate vector is the
one in which no flow can go faster without slowing a flow that is already no faster. It changes only when a
flow starts or ends, and only for flows that are joined through shared links.

What keeps it cheap is that flows which must have equal rates are kept as one **bundle**. Two flows share a
bundle when they cross the same shared links and the narrowest link that each has to itself has the same
capacity. A bundle has one rate and one cumulated service, so when its rate changes nothing is done per
flow: a flow ends when the service of its bundle reaches the value at which it was told to stop. Ten thousand
flows over one backbone are one bundle, and the end of one of them costs O(log n), not O(n).

A flow may stand for several equal ones (**counts**): at rate r it takes counts[i] x r of the i-th link of its
route, so that the rates are the max-min fair ones of all the flows behind it, each of which has rate r:

    sum over flows f on link l of count(f, l) x rate(f) <= capacity(l)

Ten equal flows that each have a private link and meet on a backbone are one flow with counts (1, 10).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Any

Counts = tuple[float, ...] | None
"""Equal flows behind one, for each link of its route or of its bundle; None: one on each."""

REMEMBERED = 10_000
"""Sets of flows whose rates are remembered, and states of the links of routes."""

_FEW = 64
"""Bundles in a set whose rates are worth remembering."""

_RELATIVE_SLACK = 1e-12
"""Flows of one bundle whose ends differ by less than this fraction of their size end together."""


class Flow:
    """Bytes on their way along a route of links, as `FluidNetwork.start` makes them."""

    __slots__ = ("bundle", "counts", "key", "order", "remaining", "route", "size", "target")

    def __init__(self, key: Any, route: tuple[int, ...], size: float, counts: Counts, order: int) -> None:
        self.key = key
        self.route = route
        self.counts = counts  # equal flows behind this one, for each link of the route; None: one on every link
        self.size = size
        self.order = order
        self.remaining = size  # bytes; true only while the flow is in no bundle
        self.target = 0.0  # service of the bundle at which this flow ends
        self.bundle: Bundle | None = None


class Bundle:
    """Flows that must have equal rates: same shared links (`core`) and counts, same private bottleneck (`cap`)."""

    __slots__ = ("cap", "core", "counts", "ends", "flows", "number", "order", "rate", "service", "since", "version")

    def __init__(self, core: tuple[int, ...], counts: Counts, cap: float, order: int, now: float, number: int) -> None:
        self.core = core
        self.counts = counts  # for each link of `core`; None: one on each
        self.cap = cap
        self.order = order
        self.number = number  # of what constrains it
        self.flows = 0
        self.rate = 0.0  # bytes/s of each of its flows
        self.service = 0.0  # bytes each flow would have received since the bundle was made, at time `since`
        self.since = now
        self.ends: list[tuple[float, int, Flow]] = []  # heap of (target, order, flow); may hold flows that left
        self.version = 0

    def served(self, now: float) -> float:
        """Bytes that each flow of the bundle has received until `now`."""
        return self.service + self.rate * (now - self.since)

    def settle(self, now: float) -> None:
        """Bring the cumulated service up to `now`, before the rate changes."""
        self.service = self.served(now)
        self.since = now


class FluidNetwork:
    """Links with a capacity in bytes/s, and the flows that share them.

    The caller moves time: `start` flows, `solve` once all starts and ends of an instant are known, go to
    `next_time`, and `finish` what ends there. Everything is deterministic: ties are broken by the order in
    which flows were started.

    Examples
    --------
    >>> network = FluidNetwork()
    >>> backbone = network.add_link(10.0)
    >>> network.start("a", (backbone,), 10.0)
    >>> network.start("b", (backbone,), 20.0)
    >>> network.solve(now=0.0)
    >>> network.next_time, network.finish(network.next_time)
    (2.0, ['a'])
    >>> network.solve(now=2.0)
    >>> network.next_time, network.finish(network.next_time)
    (3.0, ['b'])
    """

    def __init__(self) -> None:
        self.capacity: list[float] = []
        self.next_time = inf
        self._flows_on: list[int] = []  # how many flows cross each link
        self._sole: list[Flow | None] = []  # the flow that has a link to itself, until another joins
        self._bundles_on: list[dict[Bundle, None] | None] = []  # per shared link; None: the link is not shared
        self._bundles: dict[int, Bundle] = {}  # by the number of their constraints
        self._numbers: dict[tuple[tuple[int, ...], Counts, float], int] = {}
        self._constrained: dict[tuple[tuple[int, ...], Counts, tuple[bool, ...]], tuple[Any, ...]] = {}
        self._solved: dict[tuple[tuple[int, int], ...], list[tuple[int, float]]] = {}
        self._loose: dict[Flow, None] = {}  # flows waiting for `solve` to put them into a bundle
        self._dirty: dict[int, None] = {}  # shared links whose set of flows changed since the last solve
        self._events: list[tuple[float, int, int, Bundle]] = []
        self._orders = 0

    def add_link(self, capacity: float) -> int:
        """Add a link of `capacity` bytes/s (> 0) and return its number."""
        if not capacity > 0:
            raise ValueError(f"capacity of a link must be positive, not {capacity!r}")
        self.capacity.append(float(capacity))
        self._flows_on.append(0)
        self._sole.append(None)
        self._bundles_on.append(None)
        return len(self.capacity) - 1

    def check(self, route: Sequence[int], size: float, counts: Sequence[float] | None = None) -> None:
        """Raise `ValueError` for a flow that `start` could not take."""
        if not 0 < size < inf:
            raise ValueError(f"a flow must have a positive, finite size, not {size!r}")
        if not route or len(set(route)) != len(route):
            raise ValueError(f"a route must have at least one link and none twice, not {route!r}")
        if not (min(route) >= 0 and max(route) < len(self.capacity)):
            raise ValueError(f"a route must lead over links that were added, not {route!r}")
        if counts is not None and not (len(counts) == len(route) and all(0 < count < inf for count in counts)):
            raise ValueError(f"a flow needs a positive, finite count for each link of {route!r}, not {counts!r}")

    def start(self, key: Any, route: Sequence[int], size: float, counts: Sequence[float] | None = None) -> None:
        """Start a flow of `size` bytes over the links of `route`. It moves after the next `solve`.

        With `counts` it stands for equal flows of `size` bytes each, `counts[i]` of them on link `route[i]`.
        """
        self.check(route, size, counts)
        self.launch(key, route, size, counts)

    def launch(self, key: Any, route: Sequence[int], size: float, counts: Sequence[float] | None = None) -> None:
        """`start` without `check`."""
        flow = Flow(key, tuple(route), size, _counts(counts), self._orders)
        self._orders += 1
        self._loose[flow] = None
        for link in flow.route:
            users = self._flows_on[link]
            self._flows_on[link] = users + 1
            if users == 0:
                self._sole[link] = flow
            elif self._bundles_on[link] is None:
                self._bundles_on[link] = {}
                neighbour = self._sole[link]
                self._sole[link] = None
                if neighbour is not None:
                    self._loose[neighbour] = None

    def solve(self, now: float) -> None:
        """Bring every rate up to date after the starts and ends at time `now`."""
        for flow in self._loose:
            self._place(flow, now)
        self._loose.clear()
        while self._dirty:
            bundles, links = self._component(next(iter(self._dirty)))
            for link in links:
                self._dirty.pop(link, None)
            for bundle, rate in self._rates_of(bundles, links):
                self._set_rate(bundle, rate, now)
        self._refresh_next_time()

    def _rates_of(self, bundles: Sequence[Bundle], links: Sequence[int]) -> list[tuple[Bundle, float]]:
        """Max-min rates of a component; remembered, since the same flows on the same links come again and again."""
        if len(bundles) > _FEW:
            return _max_min_rates(bundles, links, self.capacity)
        key = tuple([(bundle.number, bundle.flows) for bundle in bundles])
        solution = self._solved.get(key)
        if solution is None:
            place = {bundle: i for i, bundle in enumerate(bundles)}
            rates = _max_min_rates(bundles, links, self.capacity)
            if len(self._solved) >= REMEMBERED:
                self._solved.clear()
            solution = self._solved[key] = [(place[bundle], rate) for bundle, rate in rates]
        return [(bundles[i], rate) for i, rate in solution]

    def finish(self, now: float) -> list[Any]:
        """End the flows that end at `now` (= `next_time`) and return their keys in order of their start."""
        done: list[Flow] = []
        while self._events and self._events[0][0] <= now:
            _, _, version, bundle = heapq.heappop(self._events)
            if version == bundle.version and bundle.flows:
                done += self._finish_first_of(bundle, now)
        self._refresh_next_time()
        return [flow.key for flow in sorted(done, key=lambda flow: flow.order)]

    def rates(self) -> dict[Any, float]:
        """Present rate of each flow, bytes/s, by key. For inspection: it walks over all flows."""
        return {
            flow.key: bundle.rate
            for bundle in self._bundles.values()
            for _, _, flow in bundle.ends
            if flow.bundle is bundle
        }

    # ---- bundles -------------------------------------------------------------------------------------

    def _place(self, flow: Flow, now: float) -> None:
        """Put a loose flow into the bundle where it belongs now."""
        if flow.bundle is not None:
            flow.remaining = max(flow.target - flow.bundle.served(now), 0.0)
            left = self._leave(flow)
            left.version += 1
            self._announce(left)
        core, counts, cap, number = self._constraints(flow)
        bundle = self._bundles.get(number)
        if bundle is None:
            bundle = Bundle(core, counts, cap, self._orders, now, number)
            self._orders += 1
            self._bundles[number] = bundle
            for link in core:
                self._bundles_on[link][bundle] = None  # type: ignore[index]
        flow.bundle = bundle
        flow.target = bundle.served(now) + flow.remaining
        bundle.flows += 1
        heapq.heappush(bundle.ends, (flow.target, flow.order, flow))
        if core:
            self._dirty.update(dict.fromkeys(core))
            bundle.version += 1  # its first end may have moved; `solve` will say when
            bundle.settle(now)
            bundle.rate = 0.0
        else:
            self._set_rate(bundle, cap, now, always=bundle.ends[0][2] is flow)

    def _constraints(self, flow: Flow) -> tuple[tuple[int, ...], Counts, float, int]:
        """The limits on the rate of `flow` now.

        They are its shared links in order, its counts on them, its narrowest private link, and the number of these.
        """
        shared = self._bundles_on
        state = (flow.route, flow.counts, tuple([shared[link] is not None for link in flow.route]))
        limits = self._constrained.get(state)
        if limits is None:
            if len(self._constrained) >= REMEMBERED:
                self._constrained.clear()
            core, counts, cap = self._bounds(flow)
            number = self._numbers.setdefault((core, counts, cap), len(self._numbers))
            limits = self._constrained[state] = core, counts, cap, number
        return limits

    def _bounds(self, flow: Flow) -> tuple[tuple[int, ...], Counts, float]:
        shared, capacity = self._bundles_on, self.capacity
        if flow.counts is None:
            core = tuple(sorted(link for link in flow.route if shared[link] is not None))
            return core, None, min((capacity[link] for link in flow.route if shared[link] is None), default=inf)
        crossed = sorted(zip(flow.route, flow.counts, strict=True))
        cap = min((capacity[link] / count for link, count in crossed if shared[link] is None), default=inf)
        core = tuple(link for link, _ in crossed if shared[link] is not None)
        counts = tuple(count for link, count in crossed if shared[link] is not None)
        return core, counts if any(count != 1 for count in counts) else None, cap

    def _leave(self, flow: Flow) -> Bundle:
        """Take `flow` out of its bundle; a bundle that becomes empty is forgotten."""
        bundle = flow.bundle
        assert bundle is not None
        flow.bundle = None
        bundle.flows -= 1
        self._dirty.update(dict.fromkeys(bundle.core))
        if bundle.flows == 0:
            del self._bundles[bundle.number]
            for link in bundle.core:
                del self._bundles_on[link][bundle]  # type: ignore[union-attr]
        return bundle

    def _finish_first_of(self, bundle: Bundle, now: float) -> list[Flow]:
        """Take out of `bundle` the flows that have received all their bytes at `now`."""
        done: list[Flow] = []
        bundle.settle(now)
        bundle.version += 1
        ends = bundle.ends
        first_end = None
        while ends:
            target, _, flow = ends[0]
            if flow.bundle is bundle:
                if first_end is None:
                    first_end = bundle.service = target  # reached by definition: drop the rounding of the clock
                elif target - first_end > _RELATIVE_SLACK * flow.size:
                    break
                done.append(flow)
                self._loose.pop(flow, None)
                self._leave(flow)
                self._release_links(flow)
            heapq.heappop(ends)
        if bundle.flows:
            self._announce(bundle)
        return done

    def _release_links(self, flow: Flow) -> None:
        for link in flow.route:
            self._flows_on[link] -= 1
            if self._flows_on[link] == 0:
                self._sole[link] = None
                if self._bundles_on[link] is not None:
                    self._bundles_on[link] = None
                    self._dirty.pop(link, None)

    def _component(self, link: int) -> tuple[list[Bundle], list[int]]:
        """Bundles and links that are joined to `link` through shared links."""
        links = {link: None}
        bundles: dict[Bundle, None] = {}
        frontier = [link]
        while frontier:
            for bundle in self._bundles_on[frontier.pop()] or ():
                if bundle not in bundles:
                    bundles[bundle] = None
                    for neighbour in bundle.core:
                        if neighbour not in links:
                            links[neighbour] = None
                            frontier.append(neighbour)
        return sorted(bundles, key=lambda bundle: bundle.order), sorted(links)

    # ---- time ----------------------------------------------------------------------------------------

    def _set_rate(self, bundle: Bundle, rate: float, now: float, always: bool = False) -> None:
        if rate != bundle.rate or always:
            bundle.settle(now)
            bundle.rate = rate
            bundle.version += 1
            self._announce(bundle)

    def _announce(self, bundle: Bundle) -> None:
        """Enter the first end of `bundle` into the calendar."""
        ends = bundle.ends
        while ends and ends[0][2].bundle is not bundle:
            heapq.heappop(ends)
        if ends and bundle.rate > 0:
            when = bundle.since + max(ends[0][0] - bundle.service, 0.0) / bundle.rate
            heapq.heappush(self._events, (when, bundle.order, bundle.version, bundle))

    def _refresh_next_time(self) -> None:
        events = self._events
        while events and (events[0][2] != events[0][3].version or not events[0][3].flows):
            heapq.heappop(events)
        self.next_time = events[0][0] if events else inf


def _max_min_rates(
    bundles: Iterable[Bundle], links: Iterable[int], capacity: Sequence[float]
) -> list[tuple[Bundle, float]]:
    """Progressive filling: raise all rates together; whoever meets a full link or its own cap stops there.

    The fair share of a link never falls while others stop (they stop at or below it), so a heap whose entries
    are checked when they come up needs no updates in place.
    """
    free: dict[Bundle, None] = dict.fromkeys(bundles)
    residual = {link: capacity[link] for link in links}
    loads = {bundle: _loads(bundle) for bundle in free}
    on_link = _by_link(loads, residual)
    # (level, 0, link) for a link's fair share, (level, 1, order, bundle) for a cap
    heap: list[tuple[Any, ...]] = [(residual[link] / sum(on.values()), 0, link) for link, on in on_link.items() if on]
    heap += [(bundle.cap, 1, bundle.order, bundle) for bundle in free if bundle.cap < inf]
    heapq.heapify(heap)
    rates: list[tuple[Bundle, float]] = []
    level = 0.0
    while free:
        entry = heapq.heappop(heap)
        stopping = [bundle for bundle in (on_link[entry[2]] if entry[1] == 0 else entry[3:]) if bundle in free]
        if not stopping:
            continue
        if entry[1] == 0:
            link = entry[2]
            # summed anew: what a huge count leaves when it is subtracted could be less than a small one
            share = max(residual[link] / sum(on_link[link][bundle] for bundle in stopping), level)
            if share > entry[0]:
                heapq.heappush(heap, (share, 0, link))
                continue
        level = max(entry[0], level)
        for bundle in stopping:
            del free[bundle]
            rates.append((bundle, level))
            for link, flows in loads[bundle]:
                residual[link] -= level * flows
    return rates


def _by_link(
    loads: Mapping[Bundle, Iterable[tuple[int, float]]], links: Iterable[int]
) -> dict[int, dict[Bundle, float]]:
    """The bundles on each link, with the number of their flows there."""
    on_link: dict[int, dict[Bundle, float]] = {link: {} for link in links}
    for bundle, crossed in loads.items():
        for link, flows in crossed:
            on_link[link][bundle] = flows
    return on_link


def _counts(counts: Sequence[float] | None) -> Counts:
    """Counts of a flow; None where all are 1."""
    return tuple(counts) if counts is not None and any(count != 1 for count in counts) else None


def _loads(bundle: Bundle) -> list[tuple[int, float]]:
    """(link, flows on it) for each link that a bundle shares."""
    if bundle.counts is None:
        return [(link, bundle.flows) for link in bundle.core]
    return [(link, bundle.flows * count) for link, count in zip(bundle.core, bundle.counts, strict=True)]
