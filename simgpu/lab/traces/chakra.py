"""Chakra execution traces: the protobuf form (.et), and the JSON of PyTorch's ExecutionTraceObserver.

Messages: https://github.com/mlcommons/chakra/blob/main/schema/protobuf/et_def.proto (GlobalMetadata, then nodes, each
behind its length). JSON: torch/csrc/profiler/standalone/execution_trace_observer.cpp. The JSON has no times.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from struct import unpack
from typing import Any

from simgpu.errors import InputError
from simgpu.lab.traces.kineto import COLLECTIVES
from simgpu.lab.traces.records import COLLECTIVE, OPERATOR, Record, Recorded
from simgpu.model.imported.wire import FIXED32, FIXED64, LENGTH, VARINT, WireError, fields, varint

SCHEMA = "chakra"
COMPUTE, COLLECTIVE_NODE = 4, 7
"""Types of nodes (NodeType) that are told; the others are metadata, memory, sends and receives."""

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


def read_protobuf(raw: bytes, file: Path) -> Recorded:
    """The nodes of an execution trace (.et). Raises `InputError`."""
    records = []
    try:
        for number, (start, end) in enumerate(_messages(raw)):
            node = _node(raw, start, end) if number else None
            record = _record(node) if node else None
            if record is not None:
                records.append(record)
    except (WireError, UnicodeDecodeError, IndexError, ValueError) as error:
        reason = f"it {error}" if isinstance(error, WireError) else "a message is damaged"
        raise InputError(f"is no Chakra execution trace, or it is cut off: {reason}", file=file) from None
    if not records:
        raise InputError("is a Chakra execution trace without operators", file=file)
    notes = () if any(record.seconds for record in records) else ("it has no times",)
    return Recorded("Chakra execution trace", tuple(records), notes=notes)


def _messages(raw: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(raw):
        size, at = varint(raw, at, len(raw))
        if at + size > len(raw):
            raise WireError(f"ends at byte {len(raw):,}, where {at + size:,} were announced")
        yield at, at + size
        at += size


def _node(raw: bytes, start: int, end: int) -> dict[str, Any]:
    node: dict[str, Any] = {"attr": {}}
    for number, kind, _, at, behind in fields(raw, start, end):
        if number in (3, 6, 7) and kind == VARINT:
            node[("", "", "", "type", "", "", "start", "duration")[number]] = varint(raw, at, behind)[0]
        elif number == 2 and kind == LENGTH:
            node["name"] = raw[at:behind].decode()
        elif number == 8 and kind == LENGTH:
            node["inputs"] = {one: raw[a:b].decode() for one, how, _, a, b in fields(raw, at, behind) if how == LENGTH}
        elif number == 10 and kind == LENGTH:
            name, value = _attribute(raw, at, behind)
            node["attr"][name] = value
    return node


def _attribute(raw: bytes, start: int, end: int) -> tuple[str, Any]:
    name = ""
    value: Any = None
    for number, kind, _, at, behind in fields(raw, start, end):
        if number == 1:
            name = raw[at:behind].decode()
        elif kind == VARINT:
            value = varint(raw, at, behind)[0]
            value = value >> 1 ^ -(value & 1) if number in _ZIGZAG else value
        elif kind in (FIXED32, FIXED64):
            form = {3: "<d", 5: "<f"}.get(number, "<q" if kind == FIXED64 else "<i")
            value = unpack(form, raw[at:behind])[0]
        elif number == 29:
            value = raw[at:behind].decode()
    return name, value


def _record(node: Mapping[str, Any]) -> Record | None:
    kind, attributes = node.get("type"), node["attr"]
    seconds = node["duration"] * MICRO if node.get("duration") else None
    name = str(node.get("name", ""))
    if kind == COLLECTIVE_NODE:
        number = attributes.get("comm_type")
        known_type = isinstance(number, int) and 0 <= number < len(COMM_TYPES)
        named = COMM_TYPES[number] if known_type else ""
        letters = "".join(letter for letter in name.lower() if letter.isalpha())
        named = named or next((plain for known, plain in COLLECTIVES.items() if known in letters), name)
        size = attributes.get("comm_size", 0)
        return Record(named, COLLECTIVE, seconds, size=float(size) if isinstance(size, (int, float)) else 0.0)
    if kind != COMPUTE or (attributes.get("is_cpu_op") == 1 and seconds is None):
        return None
    inputs = node.get("inputs", {})
    shapes, types, values = (_listed(inputs.get(number, "")) for number in (2, 3, 1))
    values = [None if isinstance(one, (list, tuple)) and shape else one
              for one, shape in zip(values, shapes, strict=False)]  # fmt: skip
    return Record(name, OPERATOR, seconds, shapes, [_type(one) for one in types], values)


def _listed(text: str) -> list[Any]:
    """A list that a trace holds as the text of Python."""
    try:
        found = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return list(found) if isinstance(found, (list, tuple)) else []
