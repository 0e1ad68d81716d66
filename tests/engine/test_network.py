"""Laws of the fluid network: conservation, max-min fairness, exact contention, and the end times of brute force."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from simgpu.engine.network import FluidNetwork

repeatable = settings(derandomize=True, deadline=None, max_examples=150)


@dataclass(frozen=True)
class Case:
    """Capacities of the links, and flows (arrival, route, size) in order of arrival."""

    capacities: tuple
    flows: tuple


whole_sizes, whole_arrivals = st.integers(1, 60), st.integers(0, 12)


@st.composite
def cases(draw, most_flows=8, sizes=whole_sizes, arrivals=whole_arrivals):
    """Few links, and for half of the flows a new one, private until a later flow crosses it; integers make ties."""
    capacities = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    times = sorted(draw(st.lists(arrivals, min_size=1, max_size=most_flows)))
    flows = []
    for time in times:
        known = st.integers(0, len(capacities) - 1)
        crossed = draw(st.lists(known, unique=True, max_size=min(len(capacities), 4)))
        if not crossed or draw(st.booleans()):
            capacities.append(draw(st.integers(1, 12)))
            crossed.insert(draw(st.integers(0, len(crossed))), len(capacities) - 1)
        flows.append((time, tuple(crossed), draw(sizes)))
    return Case(tuple(capacities), tuple(flows))


fine_grained = {
    "sizes": st.floats(1e-3, 1e3, allow_nan=False),
    "arrivals": st.floats(0, 20, allow_nan=False),
}


def network_of(case):
    network = FluidNetwork()
    for number, capacity in enumerate(case.capacities):
        assert network.add_link(capacity) == number
    return network


def history(case):
    """Run a case on FluidNetwork. Yields (now, rates by flow, flows that ended now) after every event."""
    network = network_of(case)
    waiting = list(enumerate(case.flows))
    while waiting or network.next_time < inf:
        now = min(network.next_time, waiting[0][1][0] if waiting else inf)
        done = network.finish(now) if network.next_time == now else []
        while waiting and waiting[0][1][0] == now:
            key, (_, route, size) = waiting.pop(0)
            network.start(key, route, size)
        network.solve(now)
        yield now, network.rates(), done


def ends_of(case):
    return {key: now for now, _, done in history(case) for key in done}


def progressive_filling(capacities, routes):
    """Max-min rates from the definition: raise all rates together, freeze whoever crosses a full link. Exact."""
    rates, frozen = dict.fromkeys(routes, Fraction(0)), set()
    free_capacity = [Fraction(capacity) for capacity in capacities]
    while len(frozen) < len(routes):
        users = {
            link: sum(key not in frozen and link in route for key, route in routes.items())
            for link in range(len(capacities))
        }
        step = min(free_capacity[link] / n for link, n in users.items() if n)
        for key, route in routes.items():
            if key not in frozen:
                rates[key] += step
                for link in route:
                    free_capacity[link] -= step
        frozen |= {key for key, route in routes.items() if any(free_capacity[link] == 0 for link in route)}
    return rates


def brute_force_ends(case):
    """End of each flow when every rate is worked out from scratch at every event, in exact arithmetic."""
    now, left, ends = Fraction(0), {}, {}
    waiting = list(enumerate(case.flows))
    while waiting or left:
        rates = progressive_filling(case.capacities, {key: case.flows[key][1] for key in left})
        next_end = min((now + left[key] / rates[key] for key in left), default=None)
        next_arrival = Fraction(waiting[0][1][0]) if waiting else None
        then = min(time for time in (next_end, next_arrival) if time is not None)
        left = {key: size - rates[key] * (then - now) for key, size in left.items()}
        now = then
        for key in [key for key, size in left.items() if size == 0]:
            ends[key] = now
            del left[key]
        while waiting and waiting[0][1][0] == now:
            key, (_, _, size) = waiting.pop(0)
            left[key] = Fraction(size)
    return ends


def lexicographic_max_min(capacities, routes):
    """Max-min rates by linear programs: maximise the least rate, fix the flows that cannot exceed it, repeat."""
    keys = list(routes)
    uses = [[float(link in routes[key]) for key in keys] for link in range(len(capacities))]
    fixed = {}
    while len(fixed) < len(keys):
        # variables: one rate for each flow, and the level t; t <= rate of every flow that is not fixed
        level_rows = [[-float(other == key) for other in keys] + [1.0] for key in keys if key not in fixed]
        best = linprog(
            [0.0] * len(keys) + [-1.0],
            A_ub=[[*row, 0.0] for row in uses] + level_rows,
            b_ub=[*capacities, *[0.0] * len(level_rows)],
            bounds=[(fixed[key], fixed[key]) if key in fixed else (0, None) for key in keys] + [(0, None)],
        )
        assert best.status == 0
        level = best.x[-1]
        floor = [(fixed[key], fixed[key]) if key in fixed else (level * (1 - 1e-9), None) for key in keys]
        stuck = {}
        for i, key in enumerate(keys):
            if key not in fixed:
                alone = linprog([-float(i == j) for j in range(len(keys))], A_ub=uses, b_ub=capacities, bounds=floor)
                assert alone.status == 0
                if alone.x[i] <= level * (1 + 1e-7):
                    stuck[key] = level
        assert stuck, "the least rate must be bottlenecked somewhere"
        fixed.update(stuck)
    return fixed


def assert_max_min(capacities, routes, rates):
    """Bertsekas and Gallager: fair exactly when each flow crosses a full link on which no flow is faster."""
    assert rates.keys() == routes.keys()
    load = [sum(rates[key] for key, route in routes.items() if link in route) for link in range(len(capacities))]
    for link, capacity in enumerate(capacities):
        assert load[link] <= capacity * (1 + 1e-9)
    for key, route in routes.items():
        assert any(
            load[link] >= capacities[link] * (1 - 1e-9)
            and rates[key] >= max(rates[other] for other, crossed in routes.items() if link in crossed) * (1 - 1e-9)
            for link in route
        ), f"flow {key} has no bottleneck"


# ---- conservation ------------------------------------------------------------------------------------------


@repeatable
@given(st.one_of(cases(), cases(**fine_grained)))
def test_every_flow_receives_exactly_its_size_and_no_link_carries_more_than_its_capacity(case):
    received = dict.fromkeys(range(len(case.flows)), 0.0)
    ended, before, rates = [], 0.0, {}
    for now, new_rates, done in history(case):
        assert now >= before
        for key, rate in rates.items():
            received[key] += rate * (now - before)
        ended += done
        arrived = {key for key, (time, _, _) in enumerate(case.flows) if time <= now}
        assert new_rates.keys() == arrived - set(ended)
        assert all(rate > 0 for rate in new_rates.values())
        for link, capacity in enumerate(case.capacities):
            load = sum(rate for key, rate in new_rates.items() if link in case.flows[key][1])
            assert load <= capacity * (1 + 1e-9)
        before, rates = now, new_rates
    assert sorted(ended) == list(range(len(case.flows)))
    for key, (_, _, size) in enumerate(case.flows):
        assert received[key] == pytest.approx(size, rel=1e-9)


# ---- fairness ----------------------------------------------------------------------------------------------


@settings(repeatable, max_examples=60)
@given(cases(most_flows=6, arrivals=st.just(0)))
def test_rates_are_the_lexicographic_max_min_of_linear_programming(case):
    _, rates, _ = next(history(case))
    routes = {key: route for key, (_, route, _) in enumerate(case.flows)}
    assert rates == pytest.approx(lexicographic_max_min(case.capacities, routes), rel=1e-6)


@settings(repeatable, max_examples=40)
@given(cases(most_flows=5, sizes=st.integers(20, 60), arrivals=st.integers(0, 3)))
def test_rates_stay_the_max_min_of_linear_programming_while_flows_join_and_leave(case):
    for _, rates, _ in history(case):
        if rates:
            routes = {key: case.flows[key][1] for key in rates}
            assert rates == pytest.approx(lexicographic_max_min(case.capacities, routes), rel=1e-6)


@settings(repeatable, max_examples=300)
@given(st.one_of(cases(most_flows=14), cases(most_flows=14, **fine_grained)))
def test_every_flow_has_a_bottleneck_after_every_event(case):
    for _, rates, _ in history(case):
        assert_max_min(case.capacities, {key: case.flows[key][1] for key in rates}, rates)


def test_a_flow_that_joins_later_turns_a_private_link_into_a_shared_one():
    """The narrow link of flow a is its own at first; b then crosses it and both slow down, c takes what is left."""
    network = FluidNetwork()
    narrow, wide = network.add_link(4.0), network.add_link(10.0)
    network.start("a", (narrow, wide), 8.0)
    network.start("c", (wide,), 100.0)
    network.solve(0.0)
    assert network.rates() == {"a": 4.0, "c": 6.0}
    network.start("b", (narrow,), 100.0)
    network.solve(1.0)
    assert network.rates() == {"a": 2.0, "b": 2.0, "c": 8.0}
    assert network.next_time == 3.0  # a has 4 of its 8 bytes left
    assert network.finish(3.0) == ["a"]
    network.solve(3.0)
    assert network.rates() == {"b": 4.0, "c": 10.0}


def test_flows_with_equal_caps_share_a_bundle_until_one_of_them_is_joined():
    """Three flows are one bundle; a fourth takes half of the private link of one of them."""
    network = FluidNetwork()
    backbone = network.add_link(30.0)
    private = [network.add_link(8.0) for _ in range(3)]
    for key, link in enumerate(private):
        network.start(key, (link, backbone), 80.0)
    network.solve(0.0)
    assert network.rates() == {0: 8.0, 1: 8.0, 2: 8.0}
    network.start("joins", (private[1],), 40.0)
    network.solve(5.0)
    assert network.rates() == {0: 8.0, 1: 4.0, 2: 8.0, "joins": 4.0}
    assert network.next_time == 10.0
    assert network.finish(10.0) == [0, 2]
    network.solve(10.0)
    assert network.next_time == 15.0  # flow 1: 40 bytes in 5 s, 40 in 10 s; the other: 40 in 10 s
    assert network.finish(15.0) == [1, "joins"]


def test_a_flow_that_leaves_its_bundle_takes_its_end_along():
    """Two flows on links of their own are one bundle; the smaller one is joined, and the larger must not end for it."""
    network = FluidNetwork()
    links = [network.add_link(10.0) for _ in range(2)]
    network.start("small", (links[0],), 100.0)
    network.start("large", (links[1],), 200.0)
    network.solve(0.0)
    assert network.next_time == 10.0
    network.start("joins", (links[0],), 500.0)
    network.solve(5.0)
    assert network.rates() == {"small": 5.0, "large": 10.0, "joins": 5.0}
    assert network.next_time == 15.0  # small has 50 of its 100 bytes left, at half its rate
    assert network.finish(15.0) == ["small"]
    network.solve(15.0)
    assert network.next_time == 20.0
    assert network.finish(20.0) == ["large"]


def test_a_link_used_again_after_it_fell_idle_has_its_full_capacity():
    network = FluidNetwork()
    link = network.add_link(10.0)
    for now in (0.0, 100.0, 200.0):
        network.start("a", (link,), 10.0)
        network.start("b", (link,), 10.0)
        network.solve(now)
        assert network.next_time == now + 2.0
        assert network.finish(now + 2.0) == ["a", "b"]
        network.solve(now + 2.0)
        assert network.next_time == inf
        assert network.rates() == {}


def test_the_textbook_line_of_links():
    """A long flow over two unit links gets a third of the crowded one; the flow on the other link takes the rest."""
    network = FluidNetwork()
    crowded, roomy = network.add_link(1.0), network.add_link(1.0)
    network.start("long", (crowded, roomy), 1.0)
    network.start("short 1", (crowded,), 1.0)
    network.start("short 2", (crowded,), 1.0)
    network.start("alone", (roomy,), 1.0)
    network.solve(0.0)
    assert network.rates() == pytest.approx({"long": 1 / 3, "short 1": 1 / 3, "short 2": 1 / 3, "alone": 2 / 3})


# ---- dynamics ----------------------------------------------------------------------------------------------


@settings(repeatable, max_examples=300)
@given(cases())
def test_ends_equal_those_of_brute_force(case):
    assert ends_of(case) == pytest.approx({key: float(end) for key, end in brute_force_ends(case).items()}, rel=1e-9)


@repeatable
@given(cases(most_flows=5, **fine_grained))
def test_ends_equal_those_of_brute_force_without_ties(case):
    assert ends_of(case) == pytest.approx({key: float(end) for key, end in brute_force_ends(case).items()}, rel=1e-9)


@repeatable
@given(cases(most_flows=10), st.randoms(use_true_random=False))
def test_the_order_of_starts_within_an_instant_changes_no_end(case, random):
    order = list(range(len(case.flows)))
    random.shuffle(order)
    order.sort(key=lambda key: case.flows[key][0])
    shuffled = ends_of(Case(case.capacities, tuple(case.flows[key] for key in order)))
    assert {order[key]: end for key, end in shuffled.items()} == pytest.approx(ends_of(case), rel=1e-9)


@repeatable
@given(cases(most_flows=10, arrivals=st.just(0)), st.sampled_from([0.25, 2.0, 1024.0]))
def test_twice_the_capacity_is_half_the_time(case, factor):
    faster = Case(tuple(factor * capacity for capacity in case.capacities), case.flows)
    assert {key: factor * end for key, end in ends_of(faster).items()} == ends_of(case)


@repeatable
@given(cases(most_flows=12))
def test_two_runs_are_equal_to_the_bit(case):
    assert list(history(case)) == list(history(case))


@repeatable
@given(st.integers(2, 40), st.integers(1, 1000), st.sampled_from([1.0, 3.0, 370.8e9, 0.1]))
def test_equal_flows_on_one_link_take_as_many_times_as_long_and_end_together(count, size, capacity):
    alone = ends_of(Case((capacity,), ((0, (0,), size),)))[0]
    ends = ends_of(Case((capacity,), ((0, (0,), size),) * count))
    assert len(set(ends.values())) == 1
    assert ends[0] == pytest.approx(count * alone, rel=1e-12)


@pytest.mark.parametrize(("count", "seconds"), [(1, 3.0), (2, 6.0), (3, 9.0), (4, 12.0)])
def test_two_flows_take_exactly_twice_and_three_thrice(count, seconds):
    ends = ends_of(Case((10.0,), ((0, (0,), 30.0),) * count))
    assert list(ends.values()) == [seconds] * count


@repeatable
@given(st.lists(st.integers(1, 1000), min_size=1, max_size=8, unique=True), st.integers(1, 50))
def test_unequal_flows_on_one_link_end_in_order_of_size_at_the_closed_form(sizes, capacity):
    """When the k-th smallest ends, each flow has had as much, or all of its own: sum of min(size, k-th) / capacity."""
    ends = ends_of(Case((capacity,), tuple((0, (0,), size) for size in sizes)))
    for key, size in enumerate(sizes):
        assert ends[key] == pytest.approx(sum(min(size, other) for other in sizes) / capacity, rel=1e-12)


def test_a_thousand_flows_over_one_backbone_with_private_links():
    """Half are held back by their own narrow link, half share what is left; the ends follow from arithmetic."""
    network = FluidNetwork()
    backbone = network.add_link(1500.0)
    for key in range(1000):
        own = network.add_link(1.0 if key % 2 else 100.0)
        network.start(key, (own, backbone), 10.0)
    network.solve(0.0)
    rates = network.rates()
    assert {rates[key] for key in range(1, 1000, 2)} == {1.0}
    assert {rates[key] for key in range(0, 1000, 2)} == {2.0}
    assert network.next_time == 5.0
    assert network.finish(5.0) == list(range(0, 1000, 2))
    network.solve(5.0)
    assert network.next_time == 10.0
    assert network.finish(10.0) == list(range(1, 1000, 2))


def test_a_small_flow_after_a_huge_one_on_its_way_keeps_its_time():
    """A petabyte in the background does not blur a late kilobyte beyond the resolution of the clock."""
    ends = ends_of(Case((1e12,), ((0.0, (0,), 1e15), (900.0, (0,), 1e3))))
    assert ends[1] == pytest.approx(900.0 + 2e-9, abs=3e-13)
    assert ends[0] == pytest.approx(1000.0 + 1e-9, rel=1e-12)


def test_flows_that_end_together_are_returned_in_order_of_their_start():
    network = FluidNetwork()
    links = [network.add_link(capacity) for capacity in (5.0, 1.0, 3.0)]
    for key, link, size in (("z", 1, 2.0), ("a", 0, 10.0), ("m", 2, 6.0), ("b", 0, 10.0)):
        network.start(key, (links[link],), size)
    network.solve(0.0)
    assert network.next_time == 2.0
    assert network.finish(2.0) == ["z", "m"]
    network.solve(2.0)
    assert network.finish(4.0) == ["a", "b"]


def test_starts_of_an_instant_may_be_told_before_its_ends():
    """`start` and `finish` of one instant come in either order before `solve`; each flow ends once."""
    network = FluidNetwork()
    link = network.add_link(10.0)
    network.start("first", (link,), 10.0)
    network.solve(0.0)
    network.start("second", (link,), 10.0)
    assert network.finish(1.0) == ["first"]
    network.solve(1.0)
    assert network.rates() == {"second": 10.0}
    assert network.next_time == 2.0
    assert network.finish(2.0) == ["second"]
    assert network.next_time == inf


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


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capacity", [0.0, -1.5, float("nan")])
def test_a_link_needs_a_positive_capacity(capacity):
    with pytest.raises(ValueError, match=f"positive, not {capacity!r}"):
        FluidNetwork().add_link(capacity)


@pytest.mark.parametrize("route", [(0, 1, 0), (), (1, 1)])
def test_a_route_needs_links_and_none_twice(route):
    network = FluidNetwork()
    network.add_link(1.0)
    network.add_link(1.0)
    with pytest.raises(ValueError, match="none twice") as error:
        network.start("a", route, 1.0)
    assert repr(route) in str(error.value)


def test_a_refused_flow_leaves_the_network_as_it_was():
    network = FluidNetwork()
    link = network.add_link(10.0)
    with pytest.raises(ValueError, match="none twice"):
        network.start("bad", (link, link), 1.0)
    network.start("good", (link,), 10.0)
    network.solve(0.0)
    assert network.rates() == {"good": 10.0}
    assert network.finish(1.0) == ["good"]


@pytest.mark.parametrize("counts", [(), (1,), (1, 2, 3), (1, 0), (2, -1.0), (1, inf), (float("nan"), 1)])
def test_a_flow_needs_a_positive_finite_count_for_each_link(counts):
    network = FluidNetwork()
    route = (network.add_link(1.0), network.add_link(1.0))
    with pytest.raises(ValueError, match="count for each link") as error:
        network.start("a", route, 1.0, counts)
    assert repr(counts) in str(error.value)
