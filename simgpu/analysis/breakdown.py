"""Where the time of a step goes, read off its timeline."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.engine.timeline import length, outside, union
from simgpu.workload.execution import Activity, Execution


@dataclass(frozen=True)
class Breakdown:
    """Parts of a step on one rank, s. step = compute + exposed communication + idle."""

    rank: int
    step: float
    compute: float  # compute stream busy
    communication: float  # any communication stream busy
    exposed_communication: float  # communication while the compute stream is not busy
    idle: float  # neither

    @property
    def overlap(self) -> float:
        """Share of the communication that is hidden behind compute; 0 without communication."""
        return 1 - self.exposed_communication / self.communication if self.communication else 0.0


def breakdown(execution: Execution) -> Breakdown:
    """Parts of the step on the rank that finishes last (the lowest of them)."""
    spans = _intervals_by_stream(execution)
    last = [max((end for s in streams.values() for _, end in spans[s]), default=0.0) for streams in execution.streams]
    rank = max(range(len(last)), key=lambda r: (last[r], -r))
    streams = execution.streams[rank]
    compute = union(spans[streams["compute"]])
    communication = union(i for name, s in streams.items() if name != "compute" for i in spans[s])
    exposed = outside(communication, compute)
    step = execution.step
    return Breakdown(
        rank, step, length(compute), length(communication), exposed, max(step - length(compute) - exposed, 0.0)
    )


@dataclass(frozen=True)
class Share:
    """Time of all activities of one name in one segment on a rank: `count` of them, `seconds` in all."""

    segment: str
    name: str
    category: str
    kind: str
    count: int
    seconds: float
    bound: str


def shares(execution: Execution, rank: int = 0) -> list[Share]:
    """Time by operator on one rank, in order of first appearance. Overlapped communication counts in full."""
    found: dict[tuple[str, str], Share] = {}
    for span in execution.timeline.spans(execution.streams[rank].values()):
        label = span.label
        assert isinstance(label, Activity)
        key = (label.segment, label.name)
        before = found.get(key)
        count, seconds = (before.count, before.seconds) if before else (0, 0.0)
        found[key] = Share(*key, label.category, label.kind, count + 1, seconds + span.duration, label.bound)
    return list(found.values())


def _intervals_by_stream(execution: Execution) -> list[list[tuple[float, float]]]:
    found: list[list[tuple[float, float]]] = [[] for _ in execution.timeline.streams]
    for span in execution.timeline.spans():
        found[span.stream].append((span.start, span.end))
    return found
