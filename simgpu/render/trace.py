"""Traces for the Perfetto UI and chrome://tracing: one process for each rank, one track for each stream.

Format: "Trace Event Format", Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
(JSON object, complete events 'X', metadata events 'M'; microseconds).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from simgpu.render.files import written_whole
from simgpu.workload.execution import Activity, Execution


def trace_events(
    execution: Execution, process: int = 0, name: str = "", ranks: int | None = None
) -> list[dict[str, Any]]:
    """Events of a timeline, of its first `ranks`: processes from `process` on, with `name` before their names."""
    events: list[dict[str, Any]] = []
    place: dict[int, tuple[int, int]] = {}
    for rank, streams in enumerate(execution.streams[:ranks]):
        pid = process + rank
        title = f"{name} rank {rank}".strip()
        events.append({"ph": "M", "name": "process_name", "pid": pid, "args": {"name": title}})
        events.append({"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": pid}})
        for tid, (stream, number) in enumerate(streams.items()):
            place[number] = (pid, tid)
            label = {"name": stream if stream == "compute" else f"{stream} communication"}
            events.append({"ph": "M", "name": "thread_name", "pid": pid, "tid": tid, "args": label})
    for span in execution.timeline.spans(place):
        activity = span.label
        assert isinstance(activity, Activity)
        pid, tid = place[span.stream]
        details: dict[str, Any] = {"segment": activity.segment, "kind": activity.kind, "bound": activity.bound}
        details |= {"bytes": activity.bytes} | ({"flop": activity.flops} if activity.flops else {})
        event = {"ph": "X", "name": activity.name, "cat": activity.category, "pid": pid, "tid": tid}
        events.append(event | {"ts": span.start * 1e6, "dur": span.duration * 1e6, "args": details})
    return events


def write_trace(execution: Execution, file: Path) -> Path:
    """Write the trace of one execution."""
    return write_events(trace_events(execution), file)


def write_events(events: list[dict[str, Any]], file: Path) -> Path:
    """Write events as a trace file."""
    with written_whole(file) as stream:
        json.dump({"traceEvents": events, "displayTimeUnit": "ns"}, stream, separators=(",", ":"))
    return file
