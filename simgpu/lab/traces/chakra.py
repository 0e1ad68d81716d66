"""Chakra execution traces: the protobuf form (.et), and the JSON of PyTorch's ExecutionTraceObserver.

Messages: https://github.com/mlcommons/chakra/blob/main/schema/protobuf/et_def.proto (GlobalMetadata, then nodes, each
behind its length). Kernels of a GPU are nodes below the operator that launched them; PyTorch's converter says no starts
(https://github.com/mlcommons/chakra/blob/main/src/converter/pytorch_converter.py).
JSON: torch/csrc/profiler/standalone/execution_trace_observer.cpp. It has no times.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from mmap import ACCESS_READ, mmap
from os import SEEK_END
from pathlib import Path
from struct import error as struct_error
from struct import unpack
from typing import Any

from simgpu.errors import InputError
from simgpu.event_stream import MOST_KEPT
from simgpu.lab.traces.kineto import COLLECTIVES
from simgpu.lab.traces.operations import is_known, is_whole
from simgpu.lab.traces.records import COLLECTIVE, COPY, KERNEL, OPERATOR, Ran, Record, Recorded
from simgpu.memo import remembered
from simgpu.model.imported.wire import FIXED32, FIXED64, LENGTH, VARINT, Buffer, WireError, fields, varint
from simgpu.reading import readable

SCHEMA = "chakra"
COMPUTE, COLLECTIVE_NODE, COMMUNICATION = 4, 7, (5, 6, 7)
"""Types of nodes (NodeType) that are told: what computes, collectives, sends and receives with them."""

COMM_TYPES = ("all_reduce", "reduce", "all_gather", "gather", "scatter", "broadcast", "all_to_all", "reduce_scatter",
              "reduce_scatter", "barrier")  # fmt: skip
"""CollectiveCommType."""

_INTEGERS, _ZIGZAG = range(7, 15), range(15, 19)
MICRO = 1e-6


def is_chakra_json(data: Mapping[str, Any]) -> bool:
    """True for an execution trace in JSON."""
    return SCHEMA in str(data.get("schema", "")) or ("nodes" in data and "traceEvents" not in data)


def read_json_nodes(data: Mapping[str, Any], file: Path) -> Recorded:
    """The operators of an execution trace in JSON: those that call no other. Raises `InputError`."""
    nodes = data.get("nodes")
    if not isinstance(nodes, list):
        raise InputError("holds no list of nodes; expected a Chakra execution trace", file=file)
    nodes = [node for node in nodes if isinstance(node, dict) and isinstance(node.get("id"), int)]
    _check_tree(nodes, file)
    parents = {node.get("ctrl_deps", node.get("parent")) for node in nodes
               if str(node.get("name", "")).startswith(("aten::", "c10d::", "record_param"))}  # fmt: skip
    records = tuple(_json_record(node) for node in nodes if node["id"] not in parents and "::" in str(node.get("name")))
    if not records:
        raise InputError("holds no operators", file=file)
    return Recorded("Chakra execution trace (JSON)", records, notes=("it has no times of kernels",))


def _check_tree(nodes: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Raise `InputError` where a node is below itself."""
    above = {node["id"]: node.get("ctrl_deps", node.get("parent")) for node in nodes}
    done: set[Any] = set()
    for start in above:
        path: set[Any] = set()
        node = start
        while node in above and node not in done:
            if node in path and above[node] != node:
                raise InputError(f"node {node} is below itself: its parents make a circle", file=file)
            if node in path:
                break
            path.add(node)
            node = above[node] if isinstance(above[node], int) else None
        done |= path


def _json_record(node: Mapping[str, Any]) -> Record:
    inputs: Any = node.get("inputs")
    old = not isinstance(inputs, dict)
    shapes, types, values = (
        (node.get("input_shapes"), node.get("input_types"), inputs) if old
        else (inputs.get("shapes"), inputs.get("types"), inputs.get("values"))
    )  # fmt: skip
    lists = [one if isinstance(one, list) else [] for one in (shapes, types, values)]
    plain = [None if isinstance(value, list) and value and isinstance(value[0], (int, list)) and shape else value
             for value, shape in zip(lists[2], lists[0], strict=False)]  # fmt: skip
    return Record(str(node.get("name", "")), OPERATOR, None, lists[0], [_type(one) for one in lists[1]], plain)


def _type(text: Any) -> str:
    """'c10::BFloat16' of 'Tensor(c10::BFloat16)'."""
    return str(text).removeprefix("Tensor(").removesuffix(")")


# ---- protobuf --------------------------------------------------------------------------------------------

MOST_BYTES = 6_000_000_000
"""Bytes of a trace in protobuf, of which the operating system keeps in memory what fits."""
LONGEST, LISTED = 100_000, 200_000
"""Characters of a name, and of a list in the form of Python's, beyond which they are passed over."""


@dataclass
class _Node:
    """A node: where its message lies, what it depends on, when it ran, s."""

    place: tuple[int, int]
    name: str = ""
    kind: int = 0
    parent: int | None = None
    after: list[int] = field(default_factory=list)
    start: float = 0.0
    seconds: float = 0.0
    attr: dict[str, Any] = field(default_factory=dict)

    @property
    def on_gpu(self) -> bool:
        """True for what the converter says that a GPU ran; where it does not say, for all that has a time."""
        cpu = self.attr.get("is_cpu_op")
        return self.kind in (COMPUTE, *COMMUNICATION) and (cpu == 0 if cpu is not None else self.seconds > 0)


def read_protobuf(file: Path) -> Recorded:
    """The nodes of an execution trace (.et). Raises `InputError`."""
    with readable(file), file.open("rb") as stream:
        size = stream.seek(0, SEEK_END)
        if size > MOST_BYTES:
            raise InputError(f"is larger than {MOST_BYTES:,} bytes, expected a trace of a few steps", file=file)
        with mmap(stream.fileno(), 0, access=ACCESS_READ) as raw:
            return _read(raw, file)


def _read(raw: Buffer, file: Path) -> Recorded:
    nodes: dict[int, _Node] = {}
    try:
        for number, (start, end) in enumerate(_messages(raw)):
            if number:
                identity, node = _node(raw, start, end)
                nodes[identity if identity not in nodes else -number] = node
            if len(nodes) > MOST_KEPT:
                raise InputError(f"holds more than {MOST_KEPT:,} nodes; record fewer steps", file=file)
        records = tuple(_records(raw, nodes))
    except (WireError, UnicodeDecodeError, IndexError, ValueError, struct_error) as error:
        reason = f"it {error}" if isinstance(error, WireError) else "a message is damaged"
        raise InputError(f"is no Chakra execution trace, or it is cut off: {reason}", file=file) from None
    if not records:
        raise InputError("is a Chakra execution trace without operators", file=file)
    timed = any(record.seconds for record in records)
    notes = () if timed else ("it has no times",)
    if timed and not any(node.start for node in nodes.values()):
        notes = ("it has no starts: what each node depends on, and its stream, say when it runs",)
    return Recorded("Chakra execution trace", records, notes=notes)


def _messages(raw: Buffer) -> Iterator[tuple[int, int]]:
    at, whole = 0, len(raw)
    while at < whole:
        size, at = varint(raw, at, whole)
        if at + size > whole:
            raise WireError(f"ends at byte {whole:,}, where {at + size:,} were announced")
        yield at, at + size
        at += size


def _node(raw: Buffer, start: int, end: int) -> tuple[int, _Node]:
    """A node and its number; its inputs are read where they are needed."""
    node, identity = _Node((start, end)), 0
    for number, kind, _, at, behind in fields(raw, start, end):
        if kind == VARINT:
            value = varint(raw, at, behind)[0]
            if number == 1:
                identity = value
            elif number == 3:
                node.kind = value
            elif number in (4, 5):
                _depends(node, number, (value,))
            elif number in (6, 7):
                setattr(node, "start" if number == 6 else "seconds", value * MICRO)
        elif kind == LENGTH and number == 2:
            node.name = _text(raw, at, behind, LONGEST)
        elif kind == LENGTH and number in (4, 5):
            _depends(node, number, _packed(raw, at, behind))
        elif kind == LENGTH and number == 10 and _is_used(raw, at, behind):
            name, value = _attribute(raw, at, behind)
            node.attr[name] = value
    return identity, node


USED = frozenset(("is_cpu_op", "stream", "comm_type", "comm_size"))
"""Attributes of nodes that are read."""


_NAMES = {name.encode() for name in USED}


def _is_used(raw: Buffer, at: int, end: int) -> bool:
    """True if an attribute, whose name stands first in it, is one that is read."""
    return end - at > 1 and raw[at] == (1 << 3 | LENGTH) and raw[at + 2 : at + 2 + raw[at + 1]] in _NAMES


def _depends(node: _Node, number: int, others: Iterable[int]) -> None:
    """Note what a node depends on: the operator that called it (4), and nodes that end before it begins (5)."""
    for other in others:
        if number == 5:
            node.after.append(other)
        elif node.parent is None:
            node.parent = other


def _packed(raw: Buffer, at: int, end: int) -> Iterator[int]:
    while at < end:
        value, at = varint(raw, at, end)
        yield value


def _text(raw: Buffer, at: int, end: int, most: int) -> str:
    return raw[at:end].decode() if end - at <= most else ""


def _records(raw: Buffer, nodes: Mapping[int, _Node]) -> Iterator[Record]:
    """Records in the order of the file: the kernels that an operator launched are one."""
    together: dict[int, list[_Node]] = {}
    for identity, node in nodes.items():
        if node.kind in COMMUNICATION or node.name.startswith(("Memcpy", "Memset")):
            together[identity] = [node]
        elif node.on_gpu and node.kind == COMPUTE:
            caller = _caller(identity, nodes) if "is_cpu_op" in node.attr else identity
            together.setdefault(caller, []).append(node)
    if not together:
        together = {identity: [node] for identity, node in nodes.items() if node.kind == COMPUTE}
    runs = _runs(nodes)
    for identity, some in together.items():
        seconds = sum(node.seconds for node in some) if any(node.seconds for node in some) else None
        ran = tuple(runs[id(node)] for node in some if id(node) in runs)
        yield replace(_record(raw, nodes[identity], some[0], seconds), ran=ran)


def _caller(identity: int, nodes: Mapping[int, _Node]) -> int:
    """The operator that a kernel counts for: the outermost that is timed as a whole, else the innermost known one."""
    chain: list[int] = []
    here = nodes[identity].parent
    while here is not None and here in nodes and here not in chain and len(chain) < DEEPEST:
        chain.append(here)
        here = nodes[here].parent
    whole = [one for one in reversed(chain) if is_whole(nodes[one].name)]
    known = [one for one in chain if is_known(nodes[one].name)]
    return next(iter((*whole, *known, *chain[:1])), identity)


DEEPEST = 200
"""Operators in one another that are looked at."""


def _runs(nodes: Mapping[int, _Node]) -> dict[int, Ran]:
    """When nodes of a GPU ran, by the identity of objects: as recorded, else as soon as what they depend on has ended.

    Nothing where neither starts nor streams are known: then they run one after another.
    """
    timed = any(node.start for node in nodes.values())
    if not timed and not any("stream" in node.attr for node in nodes.values()):
        return {}
    ends: dict[int, float] = {}
    free: dict[str, float] = {}
    found = {}
    for identity, node in nodes.items():
        before = [one for one in (*node.after, *([] if node.parent is None else [node.parent])) if one in ends]
        place = f"GPU, stream {node.attr.get('stream', 0)}" if node.on_gpu else "host"
        start = node.start if timed else max([free.get(place, 0.0), *(ends[one] for one in before)])
        ends[identity] = free[place] = start + node.seconds
        if node.on_gpu:
            called = [ends[one] for one in before if not nodes[one].on_gpu and ends[one] <= start]
            found[id(node)] = Ran(start, node.seconds, place, max(called, default=None))
    return found


def _attribute(raw: Buffer, start: int, end: int) -> tuple[str, Any]:
    name = ""
    value: Any = None
    for number, kind, _, at, behind in fields(raw, start, end):
        if number == 1 and kind == LENGTH:
            name = _text(raw, at, behind, LONGEST)
        elif kind == VARINT:
            value = varint(raw, at, behind)[0]
            value = value >> 1 ^ -(value & 1) if number in _ZIGZAG else value
        elif kind in (FIXED32, FIXED64):
            form = {3: "<d", 5: "<f"}.get(number, "<q" if kind == FIXED64 else "<i")
            value = unpack(form, raw[at:behind])[0]
        elif number == 29 and kind == LENGTH:
            value = _text(raw, at, behind, LONGEST)
    return name, value


def _record(raw: Buffer, operator: _Node, node: _Node, seconds: float | None) -> Record:
    """The record of a node, or of the kernels of an operator, the first of which is `node`."""
    if node.kind in COMMUNICATION:
        number, letters = node.attr.get("comm_type"), "".join(filter(str.isalpha, node.name.lower()))
        known_type = isinstance(number, int) and 0 <= number < len(COMM_TYPES) and node.kind == COLLECTIVE_NODE
        named = COMM_TYPES[number] if known_type and number is not None else ""
        named = named or next((plain for known, plain in COLLECTIVES.items() if known in letters), node.name)
        size = node.attr.get("comm_size", 0)
        moved = float(size) if isinstance(size, (int, float)) else 0.0
        return Record(named, COLLECTIVE, seconds, kernels=(node.name,), size=moved)
    if node.name.startswith(("Memcpy", "Memset")):
        return Record(node.name, COPY, seconds, kernels=(node.name,))
    if operator is node and node.attr.get("is_cpu_op") == 0:
        return Record(node.name, KERNEL, seconds, kernels=(node.name,))
    inputs = _inputs(raw, operator)
    shapes, types, values = (_listed(inputs.get(number, "")) for number in (2, 3, 1))
    values = [None if isinstance(one, (list, tuple)) and shape else one
              for one, shape in zip(values, shapes, strict=False)]  # fmt: skip
    kernels = (node.name,) if node is not operator else ()
    return Record(operator.name, OPERATOR, seconds, shapes, [_type(one) for one in types], values, kernels)


def _inputs(raw: Buffer, node: _Node) -> dict[int, str]:
    """The inputs of a node as texts: values, shapes, types by the numbers of their fields."""
    found: dict[int, str] = {}
    for number, kind, _, at, behind in fields(raw, *node.place):
        if number == 8 and kind == LENGTH:
            found |= {one: _text(raw, a, b, LISTED) for one, how, _, a, b in fields(raw, at, behind) if how == LENGTH}
    return found


def _listed(text: str) -> list[Any]:
    """A list that a trace holds as the text of Python; of such short ones many are alike."""
    return list(_parsed(text) if len(text) < SHORT else _evaluated(text))


SHORT = 2000
"""Characters of a list that is remembered."""


@remembered(4096)
def _parsed(text: str) -> tuple[Any, ...]:
    return _evaluated(text)


def _evaluated(text: str) -> tuple[Any, ...]:
    try:
        found = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return ()
    return tuple(found) if isinstance(found, (list, tuple)) else ()
