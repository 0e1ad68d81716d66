"""Laws of the discrete-event core: order in streams, dependencies, phases, contention, determinism."""

import os
import subprocess
import sys
from itertools import pairwise
from math import inf

import pytest
from event_programs import before, brute_force, fine_grained, programs, repeatable, simulated
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.engine import Phase, Simulator

# ---- laws --------------------------------------------------------------------------------------------------


@settings(repeatable, max_examples=300)
@given(programs())
@pytest.mark.slow
def test_starts_and_ends_equal_those_of_brute_force(program):
    timeline = simulated(program)
    start, end = brute_force(program)
    assert timeline.start == pytest.approx(start, rel=1e-9)
    assert timeline.end == pytest.approx(end, rel=1e-9)


@settings(repeatable, max_examples=100)
@given(programs(most_jobs=6, **fine_grained))
def test_starts_and_ends_equal_those_of_brute_force_without_ties(program):
    timeline = simulated(program)
    start, end = brute_force(program)
    assert timeline.start == pytest.approx(start, rel=1e-9)
    assert timeline.end == pytest.approx(end, rel=1e-9)


@settings(repeatable, max_examples=80)
@given(st.one_of(programs(most_jobs=25), programs(most_jobs=25, **fine_grained)))
def test_a_stream_runs_one_activity_at_a_time_in_order_of_submission(program):
    timeline = simulated(program)
    for stream in range(program.streams):
        spans = list(timeline.spans([stream]))
        assert [span.label for span in spans] == [n for n, job in enumerate(program.jobs) if stream in job.streams]
        for first, second in pairwise(spans):
            assert first.end <= second.start


@settings(repeatable, max_examples=80)
@given(st.one_of(programs(most_jobs=25), programs(most_jobs=25, **fine_grained)))
def test_an_activity_starts_the_moment_the_last_of_what_it_waits_for_ends(program):
    timeline = simulated(program)
    for number, waits in enumerate(before(program)):
        assert timeline.start[number] == max((timeline.end[other] for other in waits), default=0.0)
        assert timeline.start[number] <= timeline.end[number] < inf


@settings(repeatable, max_examples=80)
@given(programs(most_jobs=25))
def test_a_transfer_is_never_faster_than_its_latencies_and_its_narrowest_links(program):
    timeline = simulated(program)
    for number, job in enumerate(program.jobs):
        least = 0.0
        for latency, flows in job.phases:
            alone = (size / min(program.capacities[link] for link in route) for route, size in flows)
            least += latency + max(alone, default=0.0)
        took = timeline.end[number] - timeline.start[number]
        assert took >= least * (1 - 1e-9)
        if job.kind == "delay":
            assert took == pytest.approx(least, rel=1e-12)


@settings(repeatable, max_examples=80)
@given(programs(most_jobs=25, **fine_grained))
def test_two_runs_give_equal_times_to_the_bit(program):
    first, second = simulated(program), simulated(program)
    assert repr(first.start) == repr(second.start)
    assert repr(first.end) == repr(second.end)


def test_times_do_not_depend_on_hashes_or_addresses():
    """Keys of links and streams are numbers, but nothing may order objects by hash: two interpreters, two seeds."""
    code = """
import random
from simgpu.engine import Phase, Simulator
random = random.Random(7)
sim = Simulator()
links = [sim.add_link(random.choice([1.0, 2.0, 3.0]) * 1e9 / 7) for _ in range(20)]
streams = [sim.add_stream(f"s{i}") for i in range(10)]
for i in range(300):
    routes = [tuple(random.sample(links, random.randint(1, 4))) for _ in range(random.randint(0, 4))]
    flows = tuple((route, random.choice([1e6, 2e6, 3.3e6])) for route in routes)
    after = random.sample(range(i), min(i, random.randint(0, 2)))
    sim.transfer(random.sample(streams, 2), [Phase(1e-6, flows)], after, label=f"t{i}")
timeline = sim.run()
print(timeline.start, timeline.end)
"""
    runs = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert runs[0] == runs[1]
    assert len(runs[0]) > 1000


# ---- delays ------------------------------------------------------------------------------------------------


@repeatable
@given(
    st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=20),
    st.integers(1, 4),
    st.booleans(),
)
def test_a_sequence_equals_repeated_delays(seconds, copies, labelled):
    def build(sequence):
        sim = Simulator()
        main, other = sim.add_stream("main"), sim.add_stream("other")
        last = sim.delay(other, 0.5, label="first")
        for copy in range(copies):
            labels = [f"{copy}.{i}" for i in range(len(seconds))] if labelled else None
            if sequence:
                last = sim.sequence(main, seconds, [last], labels)
            else:
                for i, time in enumerate(seconds):
                    last = sim.delay(main, time, [last] if i == 0 else (), labels[i] if labels else None)
            assert sim.last_in(main) == last
            last = sim.delay(other, 0.25, after=[last], label="between")
        sim.delay(main, 1.0)
        return sim.run()

    fast, slow = build(True), build(False)
    assert fast.start == slow.start
    assert fast.end == slow.end
    assert fast.labels == slow.labels
    assert list(fast.spans()) == list(slow.spans())


def test_delays_follow_one_another_within_a_stream_and_overlap_across_streams():
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    for stream, seconds in ((a, 1.0), (b, 2.0), (a, 3.0), (b, 4.0)):
        sim.delay(stream, seconds)
    timeline = sim.run()
    assert timeline.start == [0.0, 0.0, 1.0, 2.0]
    assert timeline.end == [1.0, 2.0, 4.0, 6.0]
    assert timeline.makespan == 6.0


def test_naming_the_same_dependency_twice_or_the_one_before_in_the_stream_changes_nothing():
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    first = sim.delay(a, 1.0)
    sim.delay(b, 0.5, after=[first, first])
    second = sim.delay(a, 1.0, after=[first, first])
    sim.delay(b, 1.0, after=iter([second, first, second]))
    assert sim.run().end == [1.0, 1.5, 2.0, 3.0]


def test_a_chain_of_delays_of_zero_seconds_ends_at_once():
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    last = sim.sequence(a, [0.0] * 5)
    sim.delay(b, 0.0, after=[last])
    assert sim.run().end == [0.0] * 6


def test_a_simulator_with_nothing_to_do_ends_at_zero():
    sim = Simulator()
    sim.add_stream("idle")
    timeline = sim.run()
    assert (timeline.start, timeline.end, timeline.makespan) == ([], [], 0.0)


def test_last_in_is_the_activity_submitted_last_to_a_stream():
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    assert sim.last_in(a) is None
    first = sim.delay(a, 1.0)
    both = sim.transfer([a, b], [])
    assert (first, sim.last_in(a), sim.last_in(b)) == (0, both, both)


# ---- transfers ---------------------------------------------------------------------------------------------


def test_a_transfer_takes_its_latency_and_its_bytes_at_the_narrowest_link():
    sim = Simulator()
    stream = sim.add_stream("s")
    wide, narrow = sim.add_link(8.0), sim.add_link(2.0)
    sim.transfer([stream], [Phase(0.5, (((wide, narrow), 4.0),))])
    assert sim.run().end == [2.5]


def test_phases_follow_one_another_each_after_its_own_latency():
    """1 + 4/2, then a phase without flows 0.5, then 0.25 and two flows of 2 bytes that share the link."""
    sim = Simulator()
    stream, link = sim.add_stream("s"), sim.add_link(2.0)
    phases = [Phase(1.0, (((link,), 4.0),)), Phase(0.5), Phase(0.25, (((link,), 2.0), ((link,), 2.0)))]
    sim.transfer([stream], phases)
    sim.delay(stream, 1.0)
    timeline = sim.run()
    assert timeline.end == [5.75, 6.75]
    assert timeline.start == [0.0, 5.75]


def test_a_phase_ends_with_the_last_of_its_flows():
    sim = Simulator()
    stream, slow, fast = sim.add_stream("s"), sim.add_link(1.0), sim.add_link(100.0)
    sim.transfer([stream], [Phase(0.0, (((slow,), 7.0), ((fast,), 7.0))), Phase(0.0, (((fast,), 100.0),))])
    assert sim.run().end == [8.0]


@pytest.mark.parametrize("phases", [[], [Phase(0.0)], [Phase(0.0), Phase(0.0)]])
def test_a_transfer_of_nothing_takes_no_time(phases):
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    first = sim.delay(a, 2.0)
    sim.transfer([a, b], phases, after=[first])
    sim.delay(b, 1.0)
    timeline = sim.run()
    assert timeline.start == [0.0, 2.0, 2.0]
    assert timeline.end == [2.0, 2.0, 3.0]


def test_a_transfer_holds_all_its_streams_and_waits_for_all_of_them():
    sim = Simulator()
    a, b, c = (sim.add_stream(name) for name in "abc")
    link = sim.add_link(1.0)
    sim.delay(a, 1.0)
    sim.delay(b, 3.0)
    sim.transfer([a, b], [Phase(0.0, (((link,), 2.0),))])
    sim.delay(a, 1.0)
    sim.delay(b, 1.0)
    sim.delay(c, 1.0)
    assert sim.run().end == [1.0, 3.0, 5.0, 6.0, 6.0, 1.0]


def test_a_transfer_overlaps_with_the_kernels_of_another_stream():
    sim = Simulator()
    compute, copy = sim.add_stream("compute"), sim.add_stream("copy")
    link = sim.add_link(1.0)
    first = sim.delay(compute, 1.0)
    sent = sim.transfer([copy], [Phase(0.0, (((link,), 4.0),))], after=[first])
    sim.delay(compute, 3.0)
    sim.delay(compute, 1.0, after=[sent])
    timeline = sim.run()
    assert timeline.start == [0.0, 1.0, 1.0, 5.0]
    assert timeline.makespan == 6.0


# ---- contention --------------------------------------------------------------------------------------------


def same_moment(count, size=30.0, capacity=10.0):
    sim = Simulator()
    link = sim.add_link(capacity)
    for i in range(count):
        sim.transfer([sim.add_stream(f"s{i}")], [Phase(0.0, (((link,), size),))])
    return sim.run().end


@pytest.mark.parametrize("count", [1, 2, 3, 4, 8])
def test_equal_transfers_on_one_link_take_exactly_as_many_times_as_long(count):
    assert same_moment(count) == [count * 3.0] * count


@repeatable
@given(st.integers(2, 20), st.floats(1.0, 1e12), st.floats(1.0, 1e12))
def test_equal_transfers_of_any_size_take_as_many_times_as_long(count, size, capacity):
    assert same_moment(count, size, capacity) == pytest.approx([count * size / capacity] * count, rel=1e-12)


@repeatable
@given(st.floats(1, 100), st.floats(1, 100), st.floats(1, 10))
def test_of_two_unequal_transfers_the_small_one_takes_twice_and_the_large_one_both_together(small, more, capacity):
    sim = Simulator()
    link = sim.add_link(capacity)
    for i, size in enumerate((small, small + more)):
        sim.transfer([sim.add_stream(f"s{i}")], [Phase(0.0, (((link,), size),))])
    assert sim.run().end == pytest.approx([2 * small / capacity, (2 * small + more) / capacity], rel=1e-12)


def test_a_transfer_that_comes_late_slows_down_the_one_on_its_way():
    """10 B/s: a has 10 of its 20 bytes when b (20 bytes) comes at 1 s; a ends at 3 s, b at 4 s."""
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    link = sim.add_link(10.0)
    sim.transfer([a], [Phase(0.0, (((link,), 20.0),))])
    sim.transfer([b], [Phase(1.0, (((link,), 20.0),))])
    assert sim.run().end == [3.0, 4.0]


def test_transfers_in_one_stream_do_not_compete():
    sim = Simulator()
    stream, link = sim.add_stream("s"), sim.add_link(10.0)
    for _ in range(3):
        sim.transfer([stream], [Phase(0.0, (((link,), 10.0),))])
    assert sim.run().end == [1.0, 2.0, 3.0]


def test_a_transfer_that_starts_when_another_ends_does_not_slow_it_down():
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    link = sim.add_link(10.0)
    sim.transfer([a], [Phase(0.0, (((link,), 10.0),))])
    sim.transfer([b], [Phase(1.0, (((link,), 10.0),))])
    assert sim.run().end == [1.0, 2.0]
