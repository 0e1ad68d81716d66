"""What a simulation leaves behind, and the arithmetic of intervals, against a grid of unit cells."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu.engine import Phase, Simulator, Span, Timeline
from simgpu.engine.timeline import length, outside, union

repeatable = settings(derandomize=True, deadline=None, max_examples=300)

cells = st.integers(0, 24)
intervals = st.lists(st.tuples(cells, cells).map(sorted).map(tuple), max_size=10)


def covered(given_intervals):
    """The unit cells [i, i + 1) that any of the intervals covers."""
    return {cell for start, end in given_intervals for cell in range(start, end)}


@repeatable
@given(intervals)
def test_union_covers_the_same_cells_with_disjoint_ordered_intervals(some):
    merged = union(some)
    assert covered(merged) == covered(some)
    assert all(start < end for start, end in merged)
    assert all(first[1] < second[0] for first, second in pairwise(merged))


@repeatable
@given(intervals, st.randoms(use_true_random=False))
def test_union_needs_no_order_and_is_its_own_union(some, random):
    shuffled = list(some)
    random.shuffle(shuffled)
    merged = union(shuffled)
    assert merged == union(some)
    assert union(merged) == merged
    assert union(iter(shuffled)) == merged


@repeatable
@given(intervals)
def test_length_of_a_union_counts_each_cell_once(some):
    assert length(union(some)) == len(covered(some))


@repeatable
@given(intervals, intervals)
def test_outside_counts_the_cells_that_the_cover_leaves_bare(some, cover):
    assert outside(union(some), union(cover)) == len(covered(some) - covered(cover))


@repeatable
@given(intervals, intervals)
def test_outside_and_inside_make_up_the_whole(some, cover):
    """Covered by both + only by one + only by the other = covered by any."""
    a, b = union(some), union(cover)
    both = length(a) - outside(a, b)
    assert both == length(b) - outside(b, a)
    assert both + outside(a, b) + outside(b, a) == length(union([*some, *cover]))


@repeatable
@given(intervals)
def test_outside_of_nothing_and_of_itself(some):
    merged = union(some)
    assert outside(merged, []) == length(merged)
    assert outside([], merged) == 0
    assert outside(merged, merged) == 0


def test_the_empty_union_has_no_length():
    assert union([]) == []
    assert union([(1, 1), (2, 2)]) == []
    assert length([]) == 0


def test_a_timeline_of_nothing():
    timeline = Timeline([], [], [], [], [])
    assert timeline.makespan == 0.0
    assert list(timeline.spans()) == []
    assert list(timeline.spans([0, 1])) == []


def example():
    sim = Simulator()
    a, b = sim.add_stream("a"), sim.add_stream("b")
    link = sim.add_link(2.0)
    sim.delay(a, 1.0, label="kernel")
    sim.transfer([a, b], [Phase(0.5, (((link,), 3.0),))], label="send")
    sim.delay(b, 0.25, label="tail")
    return sim.run()


def test_spans_come_in_order_of_submission_one_for_each_stream_held():
    assert list(example().spans()) == [
        Span(0, 0.0, 1.0, "kernel"),
        Span(0, 1.0, 3.0, "send"),
        Span(1, 1.0, 3.0, "send"),
        Span(1, 3.0, 3.25, "tail"),
    ]


@pytest.mark.parametrize(
    ("streams", "labels"),
    [([0], ["kernel", "send"]), ([1], ["send", "tail"]), ((1, 0), ["kernel", "send", "send", "tail"]), ([], [])],
)
def test_spans_can_be_asked_for_by_stream(streams, labels):
    assert [span.label for span in example().spans(streams)] == labels


def test_makespan_is_the_end_of_the_last_activity_and_duration_the_difference():
    timeline = example()
    assert timeline.makespan == 3.25
    assert [span.duration for span in timeline.spans([1])] == [2.0, 0.25]
    assert timeline.streams == ["a", "b"]
    assert timeline.labels == ["kernel", "send", "tail"]


def test_makespan_is_not_the_end_of_the_activity_submitted_last():
    sim = Simulator()
    sim.delay(sim.add_stream("long"), 5.0)
    sim.delay(sim.add_stream("short"), 1.0)
    assert sim.run().makespan == 5.0
