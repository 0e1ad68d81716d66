"""The "Trace Event Format" of Chrome and Perfetto, written and read in one place.

Format: Google, https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU (a JSON object with
`traceEvents`, or their list; complete events 'X', metadata events 'M'; microseconds). PyTorch's profiler writes it so
too (https://github.com/pytorch/kineto/blob/main/libkineto/src/output_json.cpp), with what it knows of the GPUs beside.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from simgpu.errors import InputError

COMPLETE, METADATA, COUNTER = "X", "M", "C"
IN_A_SECOND = 1e6
"""Units of time in a second: microseconds."""


def complete(
    name: str, category: str, place: tuple[int, int], start: float, seconds: float, args: Mapping[str, Any]
) -> dict[str, Any]:
    """An event with a beginning and a duration, s, at a place: process and track."""
    event = {"ph": COMPLETE, "name": name, "cat": category, "pid": place[0], "tid": place[1]}
    return event | {"ts": start * IN_A_SECOND, "dur": seconds * IN_A_SECOND, "args": dict(args)}


def counter(name: str, process: int, at: float, **values: float) -> dict[str, Any]:
    """Values of a counter of a process from a moment on, s."""
    return {"ph": COUNTER, "name": name, "pid": process, "ts": at * IN_A_SECOND, "args": values}


def named(what: str, process: int, track: int | None = None, **args: Any) -> dict[str, Any]:
    """A name, or an order, of a process or of a track of it."""
    where = {"pid": process} | ({} if track is None else {"tid": track})
    return {"ph": METADATA, "name": what, **where, "args": args}


@contextmanager
def uncollected() -> Iterator[None]:
    """No search for circles of garbage while millions of events are made: it would take as long as reading them."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def events(data: Mapping[str, Any], file: Path) -> list[dict[str, Any]]:
    """The events of a trace. Raises `InputError` where there is no list of them."""
    found = data.get("traceEvents")
    if not isinstance(found, list):
        raise InputError("holds no list of traceEvents; expected a trace of PyTorch's profiler", file=file)
    return [event for event in found if isinstance(event, dict)]
