"""The parts of a step's time on one rank: compute, communication, idle."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.engine.timeline import length, outside, union
from simgpu.workload.execution import HOST, Execution, PeriodicExecution


@dataclass(frozen=True)
class Breakdown:
    """Parts of a step on one rank, s. step = compute + exposed communication + idle."""

    rank: int
    step: float
    compute: float  # compute stream busy
    communication: float  # any communication stream busy
    exposed_communication: float  # communication while the compute stream is not busy
    idle: float  # neither


def breakdown(execution: Execution) -> Breakdown:
    """The parts of a step on the rank that finishes last; of several, on the lowest."""
    if isinstance(execution, PeriodicExecution):
        few, more = breakdown(execution.few), breakdown(execution.more)
        names = ("step", "compute", "communication", "exposed_communication", "idle")
        return Breakdown(more.rank, *(execution.grown(getattr(few, name), getattr(more, name)) for name in names))
    spans = _intervals_by_stream(execution)
    last = [max((end for s in streams.values() for _, end in spans[s]), default=0.0) for streams in execution.streams]
    rank = max(range(len(last)), key=lambda r: (last[r], -r))
    streams = execution.streams[rank]
    compute = union(spans[streams["compute"]])
    communication = union(i for name, s in streams.items() if name not in ("compute", HOST) for i in spans[s])
    exposed = outside(communication, compute)
    step = execution.step
    idle = step - length(compute) - exposed
    idle = idle if idle > 1e-12 * step else 0.0  # what rounding leaves
    return Breakdown(rank, step, length(compute), length(communication), exposed, idle)


def _intervals_by_stream(execution: Execution) -> list[list[tuple[float, float]]]:
    """(start, end) of the activities on each stream, s."""
    timeline = execution.timeline
    intervals: list[list[tuple[float, float]]] = [[] for _ in timeline.streams]
    for streams, start, end in zip(timeline.streams_of, timeline.start, timeline.end, strict=True):
        for stream in streams:
            intervals[stream].append((start, end))
    return intervals
