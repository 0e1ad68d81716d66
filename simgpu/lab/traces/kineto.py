"""Traces of PyTorch's profiler (Kineto): kernels, the operators that launched them, collectives.

An event of a kernel has the number of its launch (`correlation`); the launch is an event of the thread that made it,
inside the events of operators (`cpu_op`), which say the sizes and types of their inputs where shapes were recorded.
Names: https://github.com/pytorch/kineto/blob/main/libkineto/src/CuptiActivity.cpp and ActivityType.cpp; arguments of
operators and collectives: torch/csrc/profiler/kineto_shim.cpp and collection.cpp, c10d's ParamCommsUtils.hpp.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from simgpu.errors import InputError, shown
from simgpu.lab.traces.operations import is_known, is_product, is_whole, runs_alone
from simgpu.lab.traces.records import COLLECTIVE, COPY, KERNEL, OPERATOR, Ran, Record, Recorded
from simgpu.trace_events import COMPLETE, IN_A_SECOND, events

KERNELS, COPIES = ("kernel",), ("gpu_memcpy", "gpu_memset")
LAUNCHES = ("cuda_runtime", "cuda_driver", "privateuse1_runtime")
WAITS = ("devicesynchronize", "streamsynchronize", "eventsynchronize")
"""Ends of the names of calls, of CUDA and HIP, in which the host waits for the GPU."""
OPERATORS = ("cpu_op", "user_annotation")
STEP = "ProfilerStep#"
"""How the annotation of a step begins that `torch.profiler.profile.step` makes."""
NO_KERNELS = "it has no times of kernels: it was recorded without a GPU"
ARROW, TO_GPU = "s", "ac2g"
"""The start of an arrow from a launch to its kernel, with the launch's number: all that some traces of ROCm say."""

COLLECTIVES = {
    "allreduce": "all_reduce", "allgather": "all_gather", "reducescatter": "reduce_scatter",
    "alltoall": "all_to_all", "broadcast": "broadcast", "reduce": "reduce", "sendrecv": "send_recv",
    "send": "send_recv", "recv": "send_recv",
}  # fmt: skip
"""Collectives by the letters of their names, as c10d and NCCL's kernels write them."""

BYTES_OF = {"byte": 1, "char": 1, "bool": 1, "half": 2, "bfloat16": 2, "short": 2, "float": 4, "int": 4, "double": 8,
            "long": 8, "float8_e4m3fn": 1, "float8_e5m2": 1}  # fmt: skip
"""Bytes of an element by c10's names of types."""


USED = frozenset(("External id", "correlation", "device", "stream", "Input Dims", "Input type", "Concrete Inputs",
                  "Collective name", "In msg nelems", "Out msg nelems", "dtype", "Group size"))  # fmt: skip
"""Arguments of events that are read."""


def slim(event: dict[str, Any]) -> dict[str, Any] | None:
    """An event without arguments that nothing reads; None for frames of Python and ends of arrows.

    Events of no kind of PyTorch's profiler stay as they are.
    """
    kind, phase = event.get("cat"), event.get("ph")
    if kind == "python_function" or (kind == TO_GPU and phase != ARROW):
        return None
    args = event.get("args")
    if phase == COMPLETE and kind in SLIMMED and isinstance(args, dict) and len(args) > FEW:
        event["args"] = {name: args[name] for name in USED.intersection(args)}
    return event


SLIMMED = frozenset(("cpu_op", *KERNELS, *COPIES, *LAUNCHES))
FEW = 3
"""Arguments that are not worth a look."""


@dataclass(frozen=True)
class _Span:
    """An operator on a thread."""

    start: float
    end: float
    event: Mapping[str, Any]


class _Thread:
    """Operators of a thread, for the question which of them were open at a time."""

    def __init__(self) -> None:
        self.spans: list[_Span] = []
        self._starts: list[float] = []
        self._above: list[int] = []

    def close(self) -> None:
        """Find the operator that each lies in, once all are known."""
        self.spans.sort(key=lambda span: (span.start, -span.end))
        self._starts = [span.start for span in self.spans]
        open_: list[int] = []
        for i, span in enumerate(self.spans):
            while open_ and self.spans[open_[-1]].end < span.end:
                open_.pop()
            self._above.append(open_[-1] if open_ else -1)
            open_.append(i)

    def innermost(self) -> Iterator[_Span]:
        """Operators that call no other."""
        above = set(self._above)
        return (span for i, span in enumerate(self.spans) if i not in above)

    def chain(self, at: float) -> list[_Span]:
        """Operators that were open at a time, innermost first."""
        i = bisect_right(self._starts, at) - 1
        found = []
        while i >= 0:
            if self.spans[i].end >= at:
                found.append(self.spans[i])
            i = self._above[i]
        return found


def read_kineto(data: Mapping[str, Any], file: Path) -> Recorded:
    """The records of a trace. Raises `InputError` where nothing ran on a GPU."""
    told = events(data, file)
    every = [one for one in told if one.get("ph") == COMPLETE]
    arrows = {_id(one, "id"): one for one in told if one.get("ph") == ARROW and one.get("cat") == TO_GPU}
    threads: dict[tuple[Any, Any], _Thread] = defaultdict(_Thread)
    launches: dict[Any, Mapping[str, Any]] = {}
    by_id: dict[Any, _Span] = {}
    on_gpu = []
    waits = []
    for event in every:
        kind, args = str(event.get("cat", "")).lower(), _args(event)
        if kind in OPERATORS:
            span = _Span(_number(event, "ts"), _number(event, "ts") + _number(event, "dur"), event)
            threads[_id(event, "pid"), _id(event, "tid")].spans.append(span)
            if kind == "cpu_op" and _id(args, "External id") is not None:
                by_id.setdefault(_id(args, "External id"), span)
        elif kind in LAUNCHES and _id(args, "correlation") is not None:
            number = _id(args, "correlation")
            if _id(launches.setdefault(number, event), "pid") != _id(event, "pid"):
                one, other = _id(launches[number], "pid"), _id(event, "pid")
                said = f"holds launches of several processes ({one} and {other}) under the same numbers"
                raise InputError(f"{said}; expected the trace of one rank", file=file)
            launches[number] = event
            if str(event.get("name", "")).lower().endswith(WAITS):
                waits.append((_seconds(event, "ts"), _seconds(event, "ts") + _seconds(event, "dur")))
        elif kind in KERNELS or kind in COPIES:
            on_gpu.append(event)
    _check_clock(on_gpu, file)
    waits += _blocked(launches, on_gpu)
    for thread in threads.values():
        thread.close()
    records = tuple(_records(on_gpu, arrows | launches, by_id, threads) if on_gpu else _on_host(threads.values()))
    if not records or not (on_gpu or any(record.shapes for record in records)):
        said = f"{len(every):,} events, none of them a kernel on a GPU" if every else "no events"
        raise InputError(f"holds {said}; record with ProfilerActivity.CUDA", file=file)
    gpus, notes = _gpus(data, on_gpu), _notes(data, records)
    notes += () if on_gpu else (NO_KERNELS,)
    info = _steps([span for thread in threads.values() for span in thread.spans], on_gpu)
    return Recorded("trace of PyTorch's profiler", records, gpus, notes, info, tuple(sorted(waits)))


def _check_clock(on_gpu: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Raise `InputError` for a kernel that ends before it begins."""
    for event in on_gpu:
        took = event.get("dur")
        if isinstance(took, (int, float)) and took < 0:
            said = f"{shown(str(event.get('name', '')))} takes {took:g} us: the clock jumped; record it again"
            raise InputError(said, file=file)


def _blocked(
    launches: Mapping[Any, Mapping[str, Any]], on_gpu: Sequence[Mapping[str, Any]]
) -> list[tuple[float, float]]:
    """Times in which the host waits, s, since the queue of launches is full.

    A call that launches a kernel then takes many times as long as others, while the kernel that was launched before it
    has not begun.
    """
    began = {_id(_args(one), "correlation"): _seconds(one, "ts") for one in on_gpu}
    calls = sorted((_seconds(one, "ts"), _seconds(one, "dur"), began[number])
                   for number, one in launches.items() if number in began)  # fmt: skip
    usual = median(seconds for _, seconds, _ in calls) if calls else 0.0
    return [
        (start, start + seconds)
        for (_, _, before), (start, seconds, _) in pairwise(calls)
        if seconds > LONG * usual and before > start
    ]


LONG = 10
"""A launch that waits for room in the queue takes so many times as long as the median one, or longer."""


def _steps(spans: Sequence[_Span], on_gpu: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """How many steps were annotated, and where they were from the first to the end of the last and its kernels, s."""
    steps = [span for span in spans if str(span.event.get("name", "")).startswith(STEP)]
    if not steps:
        return {"steps": 1}
    ends = [span.end for span in steps] + [_number(one, "ts") + _number(one, "dur") for one in on_gpu]
    names = {str(span.event.get("name", "")) for span in steps}
    return {"steps": len(names), "span_s": (max(ends) - min(span.start for span in steps)) / IN_A_SECOND}


def _on_host(threads: Iterable[_Thread]) -> Iterator[Record]:
    """The operators of a trace without a GPU that are timed, each once; they have no times of kernels.

    What calls another one that is timed does not count, unless it is timed as a whole; a product counts with what a
    processor copies inside it.
    """
    for thread in threads:
        chosen: dict[int, Mapping[str, Any]] = {}
        outer: set[int] = set()
        for span in thread.innermost():
            chain = thread.chain(span.start)
            products = (one.event for one in reversed(chain) if is_product(str(one.event.get("name", ""))))
            found = next(products, None) or _chosen(chain)
            if found is not None and runs_alone(str(found.get("name", ""))):
                chosen[id(found)] = found
                inside = [one.event is found for one in chain].index(True)
                outer |= {id(one.event) for one in chain[inside + 1 :]}
        for number, event in chosen.items():
            if number not in outer:
                yield replace(_record(event, (), True), seconds=None)


def _records(
    on_gpu: Sequence[Mapping[str, Any]], launches: Mapping[Any, Mapping[str, Any]], by_id: Mapping[Any, _Span],
    threads: Mapping[tuple[Any, Any], _Thread],
) -> Iterator[Record]:  # fmt: skip
    """Records in the order of their first kernels: the kernels that an operator launched are one."""
    together: dict[int, list[Mapping[str, Any]]] = {}
    operator: dict[int, Mapping[str, Any] | None] = {}
    for number, event in enumerate(sorted(on_gpu, key=lambda one: _number(one, "ts"))):
        args = _args(event)
        launch = launches.get(_id(args, "correlation") or _id(args, "External id"))
        chain: list[_Span] = []
        if launch is not None:
            chain = threads[_id(launch, "pid"), _id(launch, "tid")].chain(_number(launch, "ts"))
        elif (span := by_id.get(_id(args, "External id"))) is not None:
            chain = threads[_id(span.event, "pid"), _id(span.event, "tid")].chain(span.start)
        chosen = None if _is_collective(event, chain) else _chosen(chain)
        key = id(chosen) if chosen is not None else -1 - number
        together.setdefault(key, []).append(event)
        operator.setdefault(key, chosen if chosen is not None else _comms(event, chain))
    for key, kernels in together.items():
        yield replace(_record(operator[key], kernels, key >= 0), ran=tuple(_ran(one, launches) for one in kernels))


def _ran(event: Mapping[str, Any], launches: Mapping[Any, Mapping[str, Any]]) -> Ran:
    """When and where a kernel ran. A launch after its own kernel is one of a clock that jumped: it is not known."""
    args, start = _args(event), _seconds(event, "ts")
    launch = launches.get(_id(args, "correlation") or _id(args, "External id"))
    launched = _seconds(launch, "ts") if launch is not None else None
    place = f"GPU {_id(args, 'device') or 0}, stream {_id(args, 'stream') or _id(event, 'tid') or 0}"
    return Ran(start, _seconds(event, "dur"), place, launched if launched is not None and launched <= start else None)


def _chosen(chain: Sequence[_Span]) -> Mapping[str, Any] | None:
    """The operator that a kernel counts for: the outermost that is timed as a whole, else the innermost that is known.

    One that is not known counts where there is no other.
    """
    named = [span.event for span in chain if str(span.event.get("cat", "")).lower() == "cpu_op"]
    shaped = [event for event in named if _args(event).get("Input Dims")]
    math = any("attention_math" in str(event.get("name")) for event in named)
    whole = [event for event in reversed(shaped) if is_whole(str(event.get("name")), math)]
    known = [event for event in shaped if is_known(str(event.get("name")))]
    return next(iter((*whole, *known, *shaped, *named)), None)


def _record(operator: Mapping[str, Any] | None, kernels: Sequence[Mapping[str, Any]], launched: bool) -> Record:
    seconds = sum(_number(event, "dur") for event in kernels) / IN_A_SECOND
    names = tuple(str(event.get("name", "")) for event in kernels)
    copied = bool(kernels) and all(str(event.get("cat", "")).lower() in COPIES for event in kernels)
    if not launched and _is_collective(kernels[0], ()):
        return _collective(names, seconds, _args(kernels[0]) | (_args(operator) if operator else {}))
    if not launched and operator is not None:
        return _collective(names, seconds, _args(operator))
    if operator is None or copied:
        return Record(names[0], COPY if copied else KERNEL, seconds, kernels=names)
    args = _args(operator)
    dims, types, values = (args.get(name) or () for name in ("Input Dims", "Input type", "Concrete Inputs"))
    if not isinstance(dims, list) or not isinstance(types, list):
        dims, types, values = (), (), ()
    return Record(str(operator.get("name", "")), OPERATOR, seconds, dims, types, values or (), names)


def _is_collective(event: Mapping[str, Any], chain: Sequence[_Span]) -> bool:
    name = str(event.get("name", "")).lower()
    return name.startswith(("nccl", "rccl")) or "Collective name" in _args(event) or _comms(event, chain) is not None


def _comms(_: Mapping[str, Any], chain: Sequence[_Span]) -> Mapping[str, Any] | None:
    """The event of c10d that a kernel of a collective was launched in, which says its sizes."""
    return next((span.event for span in chain if "Collective name" in _args(span.event)), None)


def _collective(names: tuple[str, ...], seconds: float, args: Mapping[str, Any]) -> Record:
    said = str(args.get("Collective name") or names[0])
    letters = "".join(letter for letter in said.lower() if letter.isalpha())
    name = next((plain for known, plain in COLLECTIVES.items() if known in letters), said)
    counted = [args.get(key) for key in ("In msg nelems", "Out msg nelems")]
    given, made = (value if isinstance(value, (int, float)) else 0 for value in counted)
    width = BYTES_OF.get(str(args.get("dtype", "")).lower(), 0)
    ranks = args.get("Group size")
    size = float(width * (max(given, made) if name in ("all_gather", "reduce_scatter") else given or made))
    shape = [[int(given)]] if given else ()
    types = [str(args.get("dtype", ""))]
    return Record(name, COLLECTIVE, seconds, shape, types, (), names, size, ranks if isinstance(ranks, int) else 0)


def _gpus(data: Mapping[str, Any], on_gpu: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, int, int], ...]:
    """The GPUs on which something ran: name, multiprocessors, bytes of memory."""
    used = {_id(_args(event), "device") for event in on_gpu}
    found = []
    properties = data.get("deviceProperties")
    for one in properties if isinstance(properties, list) else ():
        if isinstance(one, dict) and (_id(one, "id") in used or used == {None}):
            numbers = [one.get(key) for key in ("numSms", "totalGlobalMem")]
            sms, memory = (value if isinstance(value, int) else 0 for value in numbers)
            found.append((str(one.get("name", "")), sms, memory))
    return tuple(dict.fromkeys(found))


def _notes(data: Mapping[str, Any], records: Sequence[Record]) -> tuple[str, ...]:
    notes = []
    if not any(record.shapes for record in records if record.kind == OPERATOR):
        notes.append("no shapes: record with record_shapes=True to compare operators")
    info = data.get("distributedInfo")
    if isinstance(info, dict) and "rank" in info:
        notes.append(f"rank {info['rank']} of {info.get('world_size', '?')}")
    return tuple(notes)


def _id(mapping: Mapping[str, Any], key: str) -> int | str | None:
    """A number or a name that others refer to; None where there is none."""
    value = mapping.get(key)
    return value if isinstance(value, (int, str)) else None


def _args(event: Mapping[str, Any]) -> dict[str, Any]:
    found = event.get("args")
    return found if isinstance(found, dict) else {}


def _number(event: Mapping[str, Any], key: str) -> float:
    """A time of an event, us; 0 where it is none."""
    try:
        value = float(event.get(key, 0.0))
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return value if 0 <= value < LATEST else 0.0


def _seconds(event: Mapping[str, Any], key: str) -> float:
    return _number(event, key) / IN_A_SECOND


LATEST = 1e18
"""Microseconds since 1970 that no clock shows."""
