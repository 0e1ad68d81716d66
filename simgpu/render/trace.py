"""Traces for the Perfetto UI and chrome://tracing: one process for each rank, one track for each stream.

The format is that of `simgpu.trace_events`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from simgpu.analysis.power import Board
from simgpu.analysis.power_trace import counters, trace_of
from simgpu.engine.timeline import Span
from simgpu.render.files import written_whole
from simgpu.trace_events import complete, named
from simgpu.workload.execution import Activity, Execution


def trace_events(
    execution: Execution, process: int = 0, name: str = "", ranks: int | None = None, board: Board | None = None
) -> list[dict[str, Any]]:
    """Events of a timeline, of its first `ranks`: processes from `process` on, with `name` before their names.

    With a `board` each has two tracks of counters: its power, and that as the board's controller sees it, W.
    """
    events: list[dict[str, Any]] = []
    told = _Told()
    place: dict[int, tuple[int, int]] = {}
    for rank, streams in enumerate(execution.streams[:ranks]):
        pid = process + rank
        title = f"{name} rank {rank}".strip()
        events.append(named("process_name", pid, name=title))
        events.append(named("process_sort_index", pid, sort_index=pid))
        for tid, (stream, number) in enumerate(streams.items()):
            place[number] = (pid, tid)
            label = stream if stream == "compute" else f"{stream} communication"
            events.append(named("thread_name", pid, tid, name=label))
    for span in execution.timeline.spans(place):
        activity = span.label
        assert isinstance(activity, Activity)
        events.append(told.event(activity, *place[span.stream], span.start, span.duration))
    for span in _opened(execution):
        events += _inside(execution, span, process, told)
    if board is not None:
        for rank in range(len(execution.streams[:ranks])):
            events += counters(trace_of(execution, board, rank), process + rank)
    return events


class _Told:
    """What the events of an activity say of it, made once: a pass runs the kernels of a layer many times."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[Activity, dict[str, Any]]] = {}  # with the activity, whose number stays its own

    def event(self, activity: Activity, pid: int, tid: int, start: float, seconds: float) -> dict[str, Any]:
        """The event of one run of an activity, s."""
        known = self._known.get(id(activity))
        if known is None:
            known = self._known[id(activity)] = activity, _details(activity)
        return complete(activity.name, activity.category, (pid, tid), start, seconds, known[1])


def _details(activity: Activity) -> dict[str, Any]:
    details: dict[str, Any] = {"segment": activity.segment, "kind": activity.kind, "bound": activity.bound}
    details |= {"bytes": activity.bytes} | ({"flop": activity.flops} if activity.flops else {})
    details |= {"ranks": activity.ranks} if activity.ranks else {}
    return details | ({"operator": operator_data(activity.op)} if activity.op is not None else {})


def operator_data(op: Any) -> dict[str, Any]:
    """An operator as data: the name of its class, and fields that are not what they are by default.

    `simgpu replay` makes the operator of it again (`simgpu.lab.replay.own`).
    """
    return {"type": type(op).__name__, **_fields(op)}


def _fields(of: Any) -> dict[str, Any]:
    found = {}
    for one in fields(of):
        value = getattr(of, one.name)
        if value != one.default:
            found[one.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    return _fields(value) if is_dataclass(value) else value


def _opened(execution: Execution) -> list[Span]:
    """Passes of the first rank whose kernels are shown: the first microbatch's, of each kind and chunk of layers."""
    if not execution.blocks:
        return []
    first: dict[tuple[str, int], int] = {}
    passes = []
    for span in execution.timeline.spans([execution.streams[0]["compute"]]):
        activity = span.label
        if isinstance(activity, Activity) and activity.task is not None and activity in execution.blocks:
            microbatch, chunk = activity.task
            if first.setdefault((activity.kind, chunk), microbatch) == microbatch:
                passes.append(span)
    return passes


def _inside(execution: Execution, span: Span, process: int, told: _Told) -> Iterator[dict[str, Any]]:
    """Kernels and collectives of the blocks of a pass, on tracks of their own, stretched as the pass is."""
    assert isinstance(span.label, Activity)
    blocks, left = execution.blocks[span.label], MOST_INSIDE
    nominal = sum(block.seconds * times for block, times in blocks)
    factor = span.duration / nominal if nominal else 0.0
    known = len(execution.streams[0])
    tracks: dict[str, int] = {}
    at = span.start
    for block, times in blocks:
        for _ in range(times):
            left -= len(block.spans)
            if left < 0:
                break
            for stream, start, end, activity in block.spans:
                tid = tracks.setdefault(stream, known + _INSIDE.index(stream))
                yield told.event(activity, process, tid, at + start * factor, (end - start) * factor)
            at += block.seconds * factor
    for stream, tid in tracks.items():
        title = (
            "kernels of the first microbatch"
            if stream == "compute"
            else f"{stream} collectives of the first microbatch"
        )
        yield named("thread_name", process, tid, name=title)


MOST_INSIDE = 50_000
"""Kernels of a pass that are shown: a batch of prompts may run a layer millions of times."""

_INSIDE = ("compute", "tp", "cp", "ep", "experts", "ep of another microbatch", "dp")
"""Streams inside blocks: kernels, and the groups that communicate there."""


def write_trace(execution: Execution, file: Path, board: Board | None = None) -> Path:
    """Write the trace of one execution, with the power of its ranks where their `board` is given."""
    return write_events(trace_events(execution, board=board), file)


def write_events(events: list[dict[str, Any]], file: Path, about: Mapping[str, Any] | None = None) -> Path:
    """Write events as a trace file, in pieces: `json.dump` would encode them in Python, several times slower.

    `about` is what the trace says of itself, which viewers pass over.
    """
    encode = json.JSONEncoder(separators=(",", ":")).encode
    with written_whole(file) as stream:
        stream.write('{"traceEvents":[')
        for first in range(0, len(events), _PIECE):
            stream.write("," if first else "")
            stream.write(encode(events[first : first + _PIECE])[1:-1])
        more = f',"simgpu":{encode(about)}' if about else ""
        stream.write(f'],"displayTimeUnit":"ns"{more}}}')
    return file


_PIECE = 10_000
