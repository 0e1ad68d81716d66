"""Errors of the discrete-event core: a refused activity leaves the simulator as it was."""

from math import inf, nan

import pytest

from simgpu.engine import Phase, Simulator

# ---- errors ------------------------------------------------------------------------------------------------


@pytest.fixture
def sim():
    simulator = Simulator()
    simulator.add_stream("s")
    simulator.add_link(1.0)
    return simulator


@pytest.mark.parametrize("seconds", [-1.5, inf, nan])
def test_a_delay_must_be_finite_and_not_negative(sim, seconds):
    with pytest.raises(ValueError, match="negative") as error:
        sim.delay(0, seconds)
    assert repr(seconds) in str(error.value)


@pytest.mark.parametrize("bad", [-1.5, inf, nan])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_every_delay_of_a_sequence_must_be_finite_and_not_negative(sim, bad, position):
    seconds = [1.0, 1.0, 1.0]
    seconds[position] = bad
    with pytest.raises(ValueError, match="negative") as error:
        sim.sequence(0, seconds)
    assert repr(bad) in str(error.value)


def test_a_sequence_needs_delays_and_as_many_labels(sim):
    with pytest.raises(ValueError, match="at least one"):
        sim.sequence(0, [])
    with pytest.raises(ValueError, match="2 delays cannot have 3 labels"):
        sim.sequence(0, [1.0, 2.0], labels=["a", "b", "c"])


@pytest.mark.parametrize("latency", [-1e-6, inf, nan])
def test_a_latency_must_be_finite_and_not_negative(sim, latency):
    with pytest.raises(ValueError, match="latency") as error:
        sim.transfer([0], [Phase(0.0), Phase(latency)])
    assert repr(latency) in str(error.value)


@pytest.mark.parametrize("size", [0.0, -3.0, inf, nan])
def test_a_flow_needs_a_positive_finite_size(sim, size):
    with pytest.raises(ValueError, match="size") as error:
        sim.transfer([0], [Phase(0.0, (((0,), 1.0), ((0,), size)))])
    assert repr(size) in str(error.value)


@pytest.mark.parametrize("future", [1, 2, 7, -1])
def test_an_activity_can_only_wait_for_earlier_ones(sim, future):
    sim.delay(0, 1.0)
    with pytest.raises(ValueError, match="activity 1 cannot wait for") as error:
        sim.delay(0, 1.0, after=[future])
    assert f" {future!r}:" in str(error.value)


@pytest.mark.parametrize("route", [(0, 0), ()])
def test_a_route_needs_links_and_none_twice(sim, route):
    with pytest.raises(ValueError, match="none twice") as error:
        sim.transfer([0], [Phase(0.0, ((route, 1.0),))])
        sim.run()
    assert repr(route) in str(error.value)


@pytest.mark.parametrize("capacity", [0.0, -2.0, nan])
def test_a_link_needs_a_positive_capacity(sim, capacity):
    with pytest.raises(ValueError, match="capacity") as error:
        sim.add_link(capacity)
    assert repr(capacity) in str(error.value)


@pytest.mark.parametrize(
    "refused",
    [
        lambda sim: sim.delay(0, -1.0),
        lambda sim: sim.sequence(0, [1.0, -1.0]),
        lambda sim: sim.transfer([0], [Phase(-1.0)]),
        lambda sim: sim.transfer([0], [Phase(0.0, (((0,), 0.0),))]),
        lambda sim: sim.delay(0, 1.0, after=[0, 5]),
    ],
    ids=["delay", "sequence", "latency", "size", "dependency"],
)
def test_a_refused_activity_leaves_the_simulator_as_it_was(sim, refused):
    sim.delay(0, 1.0)
    with pytest.raises(ValueError, match=r"negative|size|wait"):
        refused(sim)
    assert sim.last_in(0) == 0
    assert sim.delay(0, 2.0) == 1
    assert sim.run().end == [1.0, 3.0]


@pytest.mark.parametrize("route", [(), (0, 0), (7,), (-1,)])
def test_a_route_is_checked_when_it_is_submitted(route):
    sim = Simulator()
    stream, _ = sim.add_stream("s"), sim.add_link(1.0)
    with pytest.raises(ValueError, match="route"):
        sim.transfer([stream], [Phase(0.0, ((route, 1.0),))])


def test_a_transfer_does_not_hold_a_stream_twice():
    sim = Simulator()
    stream = sim.add_stream("s")
    with pytest.raises(ValueError, match="twice"):
        sim.transfer([stream, stream], [Phase(1.0)])
