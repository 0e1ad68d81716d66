"""The critical path: the chain of activities, each started by the end of the one before, that ends with the step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simgpu.engine.timeline import Timeline, nearest
from simgpu.workload.execution import Activity, Execution, PeriodicExecution


@dataclass(frozen=True)
class Link:
    """An activity on the critical path: its number in the timeline, label, start and seconds."""

    number: int
    activity: Activity
    start: float
    seconds: float


def critical_path(execution: Execution) -> tuple[Link, ...]:
    """Activities from the start of a step to its end, none of which could take longer without the step taking longer.

    An activity starts at the very instant at which the last of those it waits for ends, so that the path is found by
    walking back over equal times; of several that end together, one that shares a stream goes first, then the latest
    submitted.
    """
    timeline = execution.timeline
    if not timeline.end:
        return ()
    ending: dict[float, list[int]] = {}
    for number, end in enumerate(timeline.end):
        ending.setdefault(end, []).append(number)
    at = max(range(len(timeline.end)), key=lambda number: (timeline.end[number], number))
    path = [at]
    while timeline.start[at] > 0:
        before = [number for number in ending.get(timeline.start[at], ()) if number < at]
        if not before:
            break  # a stream that waited for nothing
        at = nearest(timeline, at, before)
        path.append(at)
    named = (number for number in reversed(path) if isinstance(timeline.labels[number], Activity))  # not mere joins
    return tuple(_link(timeline, number) for number in named)


def _link(timeline: Timeline, number: int) -> Link:
    label = timeline.labels[number]
    assert isinstance(label, Activity)
    start = timeline.start[number]
    return Link(number, label, start, timeline.end[number] - start)


def shares(path: Sequence[Link]) -> dict[str, float]:
    """Seconds of a path in passes of layers ('compute'), in the optimizer, and in communication between layers."""
    seconds = {"compute": 0.0, "optimizer": 0.0, "communication": 0.0}
    for link in path:
        activity = link.activity
        kind = (
            "communication"
            if activity.category != "compute"
            else "optimizer"
            if activity.segment == "optimizer"
            else "compute"
        )
        seconds[kind] += link.seconds
    return seconds


def shares_of(execution: Execution) -> dict[str, float]:
    """`shares` of the critical path of a run."""
    if isinstance(execution, PeriodicExecution):
        few, more = shares_of(execution.few), shares_of(execution.more)
        return {name: execution.grown(few[name], more[name]) for name in more}
    return execution.remembered("shares of the critical path", lambda: shares(critical_path(execution)))
