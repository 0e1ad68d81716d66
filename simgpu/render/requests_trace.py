"""A trace of a server for the Perfetto UI: every request with its wait, prompt and decodes, its state as counters.

Requests lie on lanes, of which each holds one at a time; a lane is no place of the server. Steps lie on a track of
their replica. The format is that of `simgpu.trace_events`.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import Any

from simgpu.trace_events import IN_A_SECOND, complete, named

MOST_REQUESTS = 20_000
"""Requests of a trace."""

_PARTS = ("wait", "prompt", "decode")
_SEEN = {"running": "requests running", "waiting": "requests waiting", "used": "cache blocks held"}


def request_events(served: Any, process: int = 0, name: str = "") -> list[dict[str, Any]]:
    """Events of a server (`simgpu.workload.server.answer.Served`): one process of its requests, one of its steps."""
    events = [
        named("process_name", process, name=f"{name} requests".strip()),
        named("process_name", process + 1, name=f"{name} steps".strip()),
    ]
    free: list[int] = []
    busy: list[tuple[float, int]] = []
    lanes = 0
    for record in sorted(served.records, key=lambda one: (one[1], one[0]))[:MOST_REQUESTS]:
        number, sent, prompt, output, hit, admitted, first, last, preempted = record[:9]
        while busy and busy[0][0] <= sent:
            heappush(free, heappop(busy)[1])
        lane = heappop(free) if free else lanes
        lanes = max(lanes, lane + 1)
        heappush(busy, (last, lane))
        said = {"request": number, "prompt": prompt, "output": output, "cached": hit, "preempted": preempted}
        ends = (sent, min(max(admitted, sent), first), first, last)
        for part, start, end in zip(_PARTS, ends, ends[1:], strict=False):
            if end > start or part == "decode":
                events.append(complete(f"{part} {number}", part, (process, lane), start, end - start, said))
    events += [named("thread_name", process, lane, name=f"lane {lane}") for lane in range(lanes)]
    for row in served.tally.series.rows():
        for key, title in _SEEN.items():
            place = {"ph": "C", "name": title, "pid": process, "ts": row["time_s"] * IN_A_SECOND}
            events.append(place | {"args": {key: row[key]}})
    return events + _steps(served, process + 1)


def _steps(served: Any, process: int) -> list[dict[str, Any]]:
    """Steps of the replicas; several equal ones are one event."""
    events = []
    seen = set()
    for replica, start, end, decodes, tokens, steps in served.tally.steps:
        kind = "prompts" if tokens else "decodes"
        what = {"steps": steps, "decodes": decodes, "prompt tokens": tokens}
        events.append(
            complete(kind if steps == 1 else f"{steps} x {kind}", kind, (process, replica), start, end - start, what)
        )
        seen.add(replica)
    return events + [named("thread_name", process, one, name=f"replica {one}") for one in sorted(seen)]
