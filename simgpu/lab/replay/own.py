"""Traces that `simgpu trace write` wrote: their kernels carry their operators, so that nothing has to be guessed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from simgpu.errors import InputError
from simgpu.lab.traces.records import COLLECTIVE, KERNEL, OPERATOR, Ran, Record, Recorded
from simgpu.memo import remembered
from simgpu.model import operators
from simgpu.trace_events import COMPLETE, IN_A_SECOND, METADATA, events

TYPES = ("Matmul", "GroupedMatmul", "Attention", "Pointwise", "Embedding", "ExpertLayer", "Scan", "Indexer",
         "Convolution")  # fmt: skip
COMMUNICATION = "communication"
OWN = "trace of simgpu"
"""What such a trace is called."""
ABOUT = "simgpu"
"""Key of a trace under which it says what it is of."""


def is_own(data: Mapping[str, Any]) -> bool:
    """True for a trace that simgpu wrote."""
    found = data.get("traceEvents")
    first = next((one for one in found if isinstance(one, dict) and one.get("ph") == COMPLETE), {}) if found else {}
    args = first.get("args")
    return isinstance(args, dict) and {"segment", "kind", "bound"} <= set(args)


def read_own(data: Mapping[str, Any], file: Path) -> Recorded:
    """What the first rank of the first row runs. Raises `InputError`.

    Kernels of the microbatch that the trace opens stand in the place of their pass; other passes stay whole.
    """
    told = events(data, file)
    runs = [one for one in told if one.get("ph") == COMPLETE and isinstance(one.get("args"), dict)]
    first = min((one.get("pid", 0) for one in runs if isinstance(one.get("pid", 0), int)), default=0)
    mine = [one for one in runs if one.get("pid", 0) == first]
    names = {one.get("tid"): str((one.get("args") or {}).get("name", "")) for one in told
             if one.get("ph") == METADATA and one.get("name") == "thread_name" and one.get("pid") == first}  # fmt: skip
    inside = [one for one in mine if "of the first microbatch" in names.get(one.get("tid"), "")]
    opened = sorted((_time(one, "ts"), _time(one, "ts") + _time(one, "dur")) for one in inside)
    shown = {id(one) for one in inside}
    records = [
        _record(one, names.get(one.get("tid"), ""), file)
        for one in sorted(mine, key=lambda event: _time(event, "ts"))
        if id(one) in shown or not _holds(one, opened)
    ]
    if not records:
        raise InputError("holds no kernels", file=file)
    others = sum(1 for one in runs if one.get("pid", 0) != first)
    notes = ("its first rank alone is played",) if others else ()
    return Recorded(OWN, tuple(records), notes=notes, info=_info(data, runs, first))


def _info(data: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], first: int) -> dict[str, Any]:
    """What the trace says of its first row: the scenario, and from the first start to the last end of its ranks, s."""
    about = data.get(ABOUT)
    rows = about.get("rows") if isinstance(about, dict) else None
    row = rows[0] if isinstance(rows, list) and rows and isinstance(rows[0], dict) else {}
    ranks, experiment = row.get("processes", 1), row.get("experiment")
    last = first + ranks if isinstance(ranks, int) else first + 1
    mine = [one for one in runs if isinstance(one.get("pid", 0), int) and one.get("pid", 0) < last]
    begin = min((_time(one, "ts") for one in mine), default=0.0)
    span = max((_time(one, "ts") + _time(one, "dur") for one in mine), default=0.0) - begin
    return {"span_s": span} | ({"experiment": experiment} if isinstance(experiment, str) else {})


def _holds(event: Mapping[str, Any], opened: Sequence[tuple[float, float]]) -> bool:
    """True for a pass whose kernels the trace shows."""
    args = event["args"]
    if "operator" in args or event.get("cat") == COMMUNICATION or not opened:
        return False
    start, end = _time(event, "ts"), _time(event, "ts") + _time(event, "dur")
    room = 1e-6 * (end - start)
    at = bisect_left(opened, (start - room, 0.0))
    return at < len(opened) and opened[at][1] <= end + room


def _record(event: Mapping[str, Any], track: str, file: Path) -> Record:
    args, name, seconds = event["args"], str(event.get("name", "")), _time(event, "dur")
    ran = (Ran(_time(event, "ts"), seconds, track),)
    if event.get("cat") == COMMUNICATION:
        size, ranks = args.get("bytes"), args.get("ranks")
        known = float(size) if isinstance(size, (int, float)) else 0.0
        count = ranks if isinstance(ranks, int) else 0
        return Record(str(args["kind"]), COLLECTIVE, seconds, (), ("bfloat16",), (), (name,), known, count, ran)
    if not isinstance(args.get("operator"), dict):
        return Record(name, KERNEL, seconds, kernels=(name,), ran=ran)
    return Record(name, OPERATOR, seconds, kernels=(name,), ran=ran, op=operator_of(args["operator"], file))


def operator_of(data: Mapping[str, Any], file: Path) -> Any:
    """The operator that `simgpu.render.trace.operator_data` wrote. Raises `InputError`."""
    kind = data.get("type")
    if kind not in TYPES:
        raise InputError(f"operator of type {str(kind)[:40]!r}; expected one of {', '.join(TYPES)}", file=file)
    try:
        return _adapter(kind).validate_python({name: value for name, value in data.items() if name != "type"})
    except (ValidationError, RecursionError):
        raise InputError(f"an operator of type {kind} is damaged", file=file) from None


@remembered(len(TYPES))
def _adapter(kind: str) -> TypeAdapter[Any]:
    return TypeAdapter(getattr(operators, kind))


def _time(event: Mapping[str, Any], key: str) -> float:
    value = event.get(key, 0.0)
    return float(value) / IN_A_SECOND if isinstance(value, (int, float)) and abs(value) < 1e18 else 0.0
