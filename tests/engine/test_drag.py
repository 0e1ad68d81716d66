"""Delays that transfers slow down: exact ends by hand, and those of an integrator in exact arithmetic."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.engine import Phase, Simulator
from simgpu.engine.drag import SLOWEST

repeatable = settings(derandomize=True, deadline=None, max_examples=150)


@pytest.fixture
def sim():
    """A stream of kernels (0) and two of communication (1, 2)."""
    simulator = Simulator()
    for name in ("kernels", "one", "two"):
        simulator.add_stream(name)
    return simulator


def send(sim, seconds, fraction, stream=1, after=(), drags=0):
    """A transfer of known duration."""
    return sim.transfer([stream], [Phase(seconds)], after, drag={drags: fraction})


# ---- by hand -----------------------------------------------------------------------------------------------


def test_a_delay_is_dragged_for_the_part_of_its_time_that_the_transfer_runs(sim):
    """4 s of work: 2 s at half speed do 1 s of it, 3 s are left."""
    send(sim, 2.0, 0.5)
    kernel = sim.delay(0, 4.0)
    assert sim.run().end[kernel] == 5.0


def test_a_transfer_that_starts_and_ends_within_the_delay(sim):
    """1 s at full speed, 2 s at a quarter, and the 0.5 s that are left."""
    first = sim.delay(1, 1.0)
    sent = send(sim, 2.0, 0.75, after=[first])
    kernel = sim.delay(0, 2.0)
    timeline = sim.run()
    assert (timeline.start[sent], timeline.end[sent]) == (1.0, 3.0)
    assert timeline.end[kernel] == 3.5


def test_a_transfer_drags_in_its_latencies_while_its_bytes_move_and_between_its_phases(sim):
    """From 0 to 1 + 4/2 + 1 + 2/2 = 5 s at half speed."""
    link = sim.add_link(2.0)
    sent = sim.transfer([1], [Phase(1.0, (((link,), 4.0),)), Phase(1.0), Phase(0.0, (((link,), 2.0),))], drag={0: 0.5})
    kernel = sim.delay(0, 3.0)
    timeline = sim.run()
    assert timeline.end[sent] == 5.0
    assert timeline.end[kernel] == 5.5


def test_fractions_of_transfers_that_overlap_add_up(sim):
    """1 s at 3/4, 1 s at 1/4, 1 s at 1/2 are 1.5 s of the 2 s."""
    send(sim, 2.0, 0.25, stream=1)
    first = sim.delay(2, 1.0)
    send(sim, 2.0, 0.5, stream=2, after=[first])
    kernel = sim.delay(0, 2.0)
    assert sim.run().end[kernel] == 3.5


def test_a_delay_that_is_past_its_end_at_full_speed_is_slowed_and_sped_up_again(sim):
    """1 s of work: 1.5 s at 1/2, 1 s at 1/4 is its end; with the second transfer 0.5 s long it ends at 2.25 s."""
    send(sim, 10.0, 0.5, stream=1)
    first = sim.delay(2, 1.5)
    send(sim, 0.5, 0.25, stream=2, after=[first])
    kernel = sim.delay(0, 1.0)
    assert sim.run().end[kernel] == 1.5 + 0.5 + 0.125 / 0.5


def test_a_delay_past_its_end_at_full_speed_ends_sooner_when_the_transfer_ends(sim):
    """At a quarter 1 s would take 4 s; after 2 s half of it is left, at full speed."""
    send(sim, 2.0, 0.75)
    kernel = sim.delay(0, 1.0)
    tail = sim.delay(0, 1.0)
    timeline = sim.run()
    assert timeline.end[kernel] == 2.5
    assert (timeline.start[tail], timeline.end[tail]) == (2.5, 3.5)


def test_the_sum_of_fractions_leaves_the_slowest_speed(sim):
    """Two transfers of 1 s that take 3/5 each: 1 s of work is 0.05 s done then."""
    send(sim, 1.0, 0.6, stream=1)
    send(sim, 1.0, 0.6, stream=2)
    kernel = sim.delay(0, 1.0)
    assert SLOWEST == 0.05
    assert sim.run().end[kernel] == pytest.approx(1.95, rel=1e-15)


def test_after_the_floor_the_speed_is_what_the_transfers_that_remain_leave(sim):
    send(sim, 1.0, 1.0, stream=1)
    send(sim, 2.0, 0.5, stream=2)
    kernel = sim.delay(0, 1.0)
    assert sim.run().end[kernel] == pytest.approx(2 + (1 - 0.05 - 0.5), rel=1e-15)


def test_a_transfer_waits_for_the_delay_that_another_drags(sim):
    send(sim, 2.0, 0.5)
    kernel = sim.delay(0, 2.0)
    sent = sim.transfer([2], [Phase(0.5)], after=[kernel])
    also = sim.transfer([0, 1], [Phase(0.5)])
    timeline = sim.run()
    assert timeline.end[kernel] == 3.0
    assert (timeline.start[sent], timeline.start[also]) == (3.0, 3.0)


def test_a_dragged_delay_and_a_transfer_that_drags_it_can_wait_for_each_other_in_turn(sim):
    """Layer by layer: the gradients of one layer travel while the next is worked on."""
    ends, sent = [], []
    for _ in range(3):
        ends.append(sim.delay(0, 3.0))
        sent.append(send(sim, 2.0, 0.5, after=[ends[-1]]))
    timeline = sim.run()
    assert [timeline.end[a] for a in ends] == [3.0, 7.0, 11.0]
    assert [timeline.end[a] for a in sent] == [5.0, 9.0, 13.0]


def test_an_idle_stream_can_be_dragged(sim):
    """What comes after the transfer costs what it costs alone."""
    sent = send(sim, 2.0, 0.5)
    kernel = sim.delay(0, 1.0, after=[sent])
    assert sim.run().end[kernel] == 3.0


def test_a_stream_that_becomes_busy_while_it_is_dragged(sim):
    send(sim, 2.0, 0.5)
    first = sim.delay(2, 1.0)
    kernel = sim.delay(0, 2.0, after=[first])
    assert sim.run().end[kernel] == 3.5


def test_only_the_named_streams_are_dragged_each_by_its_own_fraction(sim):
    sim.transfer([], [Phase(4.0)], drag={0: 0.5, 1: 0.75, 2: 0.0})
    kernels = [sim.delay(stream, 1.0) for stream in (0, 1, 2)]
    timeline = sim.run()
    assert [timeline.end[kernel] for kernel in kernels] == [2.0, 4.0, 1.0]


def test_latencies_and_bytes_of_transfers_are_not_dragged(sim):
    link = sim.add_link(1.0)
    send(sim, 10.0, 0.5)
    sent = sim.transfer([0], [Phase(1.0, (((link,), 1.0),))])
    assert sim.run().end[sent] == 2.0


def test_a_transfer_may_drag_a_stream_that_it_holds(sim):
    sim.transfer([0, 1], [Phase(1.0)], drag={0: 0.5})
    kernel = sim.delay(0, 1.0)
    assert sim.run().end[kernel] == 2.0


@pytest.mark.parametrize("phases", [[], [Phase(0.0)]])
def test_a_transfer_of_no_time_drags_nothing(sim, phases):
    sent = sim.transfer([1], phases, after=[sim.delay(2, 1.0)], drag={0: 0.5})
    kernel = sim.delay(0, 2.0)
    timeline = sim.run()
    assert (timeline.start[sent], timeline.end[sent], timeline.end[kernel]) == (1.0, 1.0, 2.0)


def test_delays_of_no_time_end_at_once_however_they_are_dragged(sim):
    """Also at the moments at which the transfer starts and ends."""
    send(sim, 2.0, 0.5)
    last = sim.sequence(0, [0.0, 0.5, 0.0, 0.0, 0.5, 0.0, 0.0])
    timeline = sim.run()
    assert timeline.end[last - 6 :] == [0.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0]


@pytest.mark.parametrize("one_by_one", [True, False])
def test_a_sequence_is_dragged_delay_by_delay(sim, one_by_one):
    """From 1 s to 3 s at half speed: the second delay takes twice its time, the third 0.25 s more than alone."""
    send(sim, 2.0, 0.5, after=[sim.delay(1, 1.0)])
    seconds = [1.0, 0.75, 0.5, 1.0]
    last = [sim.delay(0, time) for time in seconds][-1] if one_by_one else sim.sequence(0, seconds)
    timeline = sim.run()
    assert timeline.end[last - 3 :] == [1.0, 2.5, 3.25, 4.25]
    assert timeline.start[last - 3 :] == [0.0, 1.0, 2.5, 3.25]


def test_after_all_drags_the_stream_is_as_fast_as_before_to_the_bit(sim):
    """Fractions that have no exact sum leave nothing behind."""
    for stream, fraction in ((1, 0.1), (2, 0.2), (1, 0.7), (2, 0.3)):
        send(sim, 0.3, fraction, stream=stream)
    idle = sim.delay(1, 1.0)
    kernels = [sim.delay(0, 0.1, after=[idle]) for _ in range(3)]
    timeline = sim.run()
    for kernel in kernels:
        assert timeline.end[kernel] == timeline.start[kernel] + 0.1


def test_the_timeline_shows_what_was_submitted_and_can_be_had_twice(sim):
    send(sim, 2.0, 0.5)
    sim.delay(0, 2.0, label="kernel")
    first, second = sim.run(), sim.run()
    assert [(span.stream, span.start, span.end, span.label) for span in first.spans()] == [
        (1, 0.0, 2.0, None),
        (0, 0.0, 3.0, "kernel"),
    ]
    assert list(first.spans()) == list(second.spans())


# ---- against an integrator ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A delay (`size` None), or a transfer that after `time` moves `size` bytes (0: none) over one of two links."""

    streams: tuple
    time: float
    size: float | None
    link: int
    drag: tuple  # (stream, fraction)
    after: tuple


STREAMS, CAPACITIES = 4, (1, 3)


@st.composite
def jobs(draw, times, sizes, fractions):
    made = []
    for number in range(draw(st.integers(1, 12))):
        after = tuple(draw(st.lists(st.integers(0, number - 1), max_size=2, unique=True))) if number else ()
        streams = st.integers(0, STREAMS - 1)
        if draw(st.booleans()):
            made.append(Job((draw(streams),), draw(times), None, 0, (), after))
        else:
            held = tuple(draw(st.lists(streams, max_size=2, unique=True)))
            drag = tuple(draw(st.dictionaries(streams, fractions, max_size=3)).items())
            size = draw(st.one_of(st.just(0), sizes))
            made.append(Job(held, draw(times), size, draw(st.integers(0, 1)), drag, after))
    return made


whole = jobs(st.integers(0, 4), st.integers(1, 9), st.sampled_from([0, 0.25, 0.5, 0.75, 1]))
fine = jobs(st.floats(0, 10), st.floats(1e-2, 10), st.floats(0, 1))


def simulated(made):
    sim = Simulator()
    for stream in range(STREAMS):
        sim.add_stream(str(stream))
    for capacity in CAPACITIES:
        sim.add_link(capacity)
    for job in made:
        if job.size is None:
            sim.delay(job.streams[0], job.time, job.after)
        else:
            flows = (((job.link,), job.size),) if job.size else ()
            sim.transfer(job.streams, [Phase(job.time, flows)], job.after, drag=dict(job.drag))
    return sim.run()


class Integrator:
    """Every activity is work by kind: seconds of a delay or a latency, then bytes. All speeds anew at each event."""

    def __init__(self, made):
        self.made, self.now = made, Fraction(0)
        self.start, self.end = [None] * len(made), [None] * len(made)
        self.left = [[Fraction(job.time), Fraction(job.size or 0)] for job in made]
        last, self.waits = {}, []
        for number, job in enumerate(made):
            self.waits.append({*job.after, *(last[stream] for stream in job.streams if stream in last)})
            last.update(dict.fromkeys(job.streams, number))

    def settle(self):
        """Start and end everything that can start or end now."""
        changed = True
        while changed:
            changed = False
            for number, waits in enumerate(self.waits):
                if self.start[number] is None and all(self.end[other] is not None for other in waits):
                    self.start[number], changed = self.now, True
                if self.start[number] is not None and self.end[number] is None and self.left[number] == [0, 0]:
                    self.end[number], changed = self.now, True

    def speed(self, number, running):
        job = self.made[number]
        if job.size is None:
            taken = sum(Fraction(dict(self.made[other].drag).get(job.streams[0], 0)) for other in running)
            return max(1 - taken, Fraction(SLOWEST))
        if self.left[number][0]:
            return Fraction(1)
        movers = [n for n in running if self.made[n].size and not self.left[n][0] and self.made[n].link == job.link]
        return Fraction(CAPACITIES[job.link], len(movers))

    def run(self):
        self.settle()
        while None in self.end:
            running = [n for n, end in enumerate(self.end) if end is None and self.start[n] is not None]
            speeds = {n: self.speed(n, running) for n in running}
            at = {n: 0 if self.left[n][0] else 1 for n in running}
            step = min(self.left[n][at[n]] / speeds[n] for n in running)
            for n in running:
                self.left[n][at[n]] -= step * speeds[n]
            self.now += step
            self.settle()
        return [float(time) for time in self.start], [float(time) for time in self.end]


@settings(repeatable, max_examples=600)
@given(st.one_of(whole, fine))
@pytest.mark.slow
def test_starts_and_ends_equal_those_of_an_integrator(made):
    timeline = simulated(made)
    start, end = Integrator(made).run()
    assert timeline.start == pytest.approx(start, rel=1e-9, abs=1e-12)
    assert timeline.end == pytest.approx(end, rel=1e-9, abs=1e-12)


@repeatable
@given(fine)
def test_two_runs_are_equal_to_the_bit(made):
    first, second = simulated(made), simulated(made)
    assert (first.start, first.end) == (second.start, second.end)


@repeatable
@given(whole)
def test_drag_makes_no_delay_shorter_and_none_longer_than_at_the_slowest_speed(made):
    timeline = simulated(made)
    for number, job in enumerate(made):
        if job.size is None:
            assert job.time - 1e-9 <= timeline.end[number] - timeline.start[number] <= job.time / SLOWEST + 1e-9


# ---- errors ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [-0.1, 1.5, inf, nan])
def test_a_fraction_is_between_zero_and_one(sim, fraction):
    with pytest.raises(ValueError, match="from 0 to 1") as error:
        sim.transfer([1], [Phase(1.0)], drag={0: fraction})
    assert repr(fraction) in str(error.value)


@pytest.mark.parametrize("stream", [-1, 3])
def test_only_streams_that_were_added_can_be_dragged(sim, stream):
    with pytest.raises(ValueError, match=f"added, not {stream}"):
        sim.transfer([1], [Phase(1.0)], drag={stream: 0.5})
    assert sim.last_in(1) is None
