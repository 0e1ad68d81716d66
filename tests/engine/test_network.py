"""Laws of the fluid network: conservation, max-min fairness, exact contention, and the end times of brute force."""

from math import inf

import pytest
from fluid_cases import (
    Case,
    assert_max_min,
    brute_force_ends,
    cases,
    ends_of,
    fine_grained,
    history,
    lexicographic_max_min,
    repeatable,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.engine.network import FluidNetwork

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
