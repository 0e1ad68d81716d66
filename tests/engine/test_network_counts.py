"""Laws of the fluid network: a flow that stands for several equal ones."""

from dataclasses import dataclass
from math import inf

import pytest
from fluid_cases import cases, ends_of, fine_grained, repeatable, whole_arrivals, whole_sizes
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.engine.network import FluidNetwork

# ---- flows that stand for several equal ones ---------------------------------------------------------------


@dataclass(frozen=True)
class Copies:
    """`count` equal copies of some links and flows that meet on common links, where other flows pass too."""

    count: int
    common: tuple  # capacities; their numbers are 0, 1, ...
    own: tuple  # capacities of the links that each copy has; their numbers follow those of the common ones
    flows: tuple  # (arrival, route, size) of each copy
    others: tuple  # (arrival, route over common links, size)


@st.composite
def copies(draw, sizes=whole_sizes, arrivals=whole_arrivals):
    capacities = st.lists(st.integers(1, 12), min_size=1, max_size=3).map(tuple)
    common, own = draw(capacities), draw(capacities)

    def flows(links, least):
        routes = st.lists(st.integers(0, links - 1), min_size=1, unique=True, max_size=4).map(tuple)
        return tuple(draw(st.lists(st.tuples(arrivals, routes, sizes), min_size=least, max_size=3)))

    return Copies(draw(st.integers(2, 7)), common, own, flows(len(common) + len(own), 1), flows(len(common), 0))


def run_to_the_end(capacities, flows):
    """Ends by key of flows (arrival, key, route, size, counts)."""
    network, ends = FluidNetwork(), {}
    for capacity in capacities:
        network.add_link(capacity)
    waiting = sorted(flows, key=lambda flow: flow[0])
    while waiting or network.next_time < inf:
        now = min(network.next_time, waiting[0][0] if waiting else inf)
        ends.update(dict.fromkeys(network.finish(now), now))
        while waiting and waiting[0][0] == now:
            network.start(*waiting.pop(0)[1:])
        network.solve(now)
    return ends


def folded(case):
    """One flow for all copies: on a common link it counts for each of them, on its own links for itself."""
    flows = []
    for i, (arrival, route, size) in enumerate(case.flows):
        counts = tuple(case.count if link < len(case.common) else 1 for link in route)
        flows.append((arrival, ("copy", i), route, size, counts))
    flows += [(arrival, ("other", i), route, size, None) for i, (arrival, route, size) in enumerate(case.others)]
    return run_to_the_end((*case.common, *case.own), flows)


def unfolded(case):
    """Ends of all the copies, each with links of its own."""
    flows = []
    for i, (arrival, route, size) in enumerate(case.flows):
        for copy in range(case.count):
            crossed = tuple(link + copy * len(case.own) if link >= len(case.common) else link for link in route)
            flows.append((arrival, ("copy", i, copy), crossed, size, None))
    flows += [(arrival, ("other", i), route, size, None) for i, (arrival, route, size) in enumerate(case.others)]
    return run_to_the_end((*case.common, *case.own * case.count), flows)


@settings(repeatable, max_examples=400)
@given(st.one_of(copies(), copies(**fine_grained)))
@pytest.mark.slow
def test_one_flow_with_counts_ends_when_the_flows_behind_it_would(case):
    ends = folded(case)
    for key, end in unfolded(case).items():
        assert ends[key[:2]] == pytest.approx(end, rel=1e-12)


@repeatable
@given(st.integers(2, 10_000), st.floats(1, 1e9), st.floats(1e-3, 1e12))
def test_a_flow_with_a_count_on_one_link_takes_as_many_times_as_long(count, size, capacity):
    ends = run_to_the_end([capacity], [(0.0, "all", (0,), size, (count,))])
    assert ends["all"] == pytest.approx(count * size / capacity, rel=1e-12)


def test_a_flow_with_a_count_beside_a_flow_without():
    """Three flows of 20 bytes behind one, and one of 30, over 4 bytes/s: all have 1; the one is left with all of it."""
    network = FluidNetwork()
    link = network.add_link(4.0)
    network.start("three", (link,), 20.0, (3,))
    network.start("one", (link,), 30.0)
    network.solve(0.0)
    assert network.rates() == {"three": 1.0, "one": 1.0}
    assert network.finish(network.next_time) == ["three"]
    network.solve(20.0)
    assert network.rates() == {"one": 4.0}
    assert network.next_time == 22.5


def test_counts_differ_between_the_links_of_a_route():
    """Alone the backbone gives 12/8 and the own link 2; with 4 others on the backbone each has a twelfth of it."""
    network = FluidNetwork()
    own, backbone = network.add_link(2.0), network.add_link(12.0)
    network.start("eight", (own, backbone), 6.0, (1, 8))
    network.solve(0.0)
    assert network.rates() == {"eight": 1.5}
    network.start("four", (backbone,), 6.0, (4,))
    network.solve(0.0)
    assert network.rates() == {"eight": 1.0, "four": 1.0}


@repeatable
@given(cases(most_flows=6), st.lists(st.sampled_from([0.1, 0.3, 1.0, 2.5, 7.0]), min_size=20, max_size=20))
def test_a_link_of_so_many_times_the_capacity_and_so_many_times_the_flows_is_the_same_link(case, factors):
    """Counts need not be whole: only load over capacity matters."""
    factors = factors[: len(case.capacities)]
    scaled = [capacity * factor for capacity, factor in zip(case.capacities, factors, strict=True)]
    flows = [
        (arrival, key, route, size, tuple(factors[link] for link in route))
        for key, (arrival, route, size) in enumerate(case.flows)
    ]
    assert run_to_the_end(scaled, flows) == pytest.approx(ends_of(case), rel=1e-12)


def test_a_small_count_is_not_lost_beside_a_huge_one():
    """1e17 + 0.25 is 1e17 in floating point; when the huge flow is stopped by its own link, the small one is left."""
    network = FluidNetwork()
    own, backbone = network.add_link(0.5), network.add_link(1e17)
    network.start("huge", (own, backbone), 1.0, (1, 1e17))
    network.start("small", (backbone,), 1.0, (0.25,))
    network.solve(0.0)
    assert network.rates() == pytest.approx({"huge": 0.5, "small": 2e17}, rel=1e-12)


@repeatable
@given(cases(most_flows=10))
def test_counts_of_one_change_nothing_to_the_bit(case):
    flows = [(arrival, key, route, size, (1.0,) * len(route)) for key, (arrival, route, size) in enumerate(case.flows)]
    assert run_to_the_end(case.capacities, flows) == ends_of(case)
