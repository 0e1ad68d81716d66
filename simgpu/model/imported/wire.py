"""The wire format of protocol buffers: fields of a message without its schema, and messages without their weights.

Format: https://protobuf.dev/programming-guides/encoding (varints, 32 and 64 bits, lengths before what they count).
Fields of ONNX: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from mmap import mmap

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Kinds of fields."""

SMALL = 4096
"""Bytes of a message that is taken as it is: shapes and scalars are needed, weights are not."""

Buffer = bytes | mmap


class WireError(ValueError):
    """Bytes that are no message: what is wrong, and at which byte."""


def varint(data: Buffer, at: int, end: int) -> tuple[int, int]:
    """The number at a place, and the place behind it."""
    if at < end and (byte := data[at]) < 0x80:
        return byte, at + 1
    value = shift = 0
    while at < end:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
        if shift > 63:
            break
    raise WireError(f"ends in the middle of a number, at byte {at:,}" if at >= end else f"is damaged at byte {at:,}")


def fields(data: Buffer, at: int = 0, end: int | None = None) -> Iterator[tuple[int, int, int, int, int]]:
    """(number, kind, place of the field, place of its content, place behind it) of each field of a message."""
    end = len(data) if end is None else end
    while at < end:
        start = at
        tag, at = varint(data, at, end)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            content, (_, at) = at, varint(data, at, end)
        elif kind in (FIXED32, FIXED64):
            content, at = at, at + (8 if kind == FIXED64 else 4)
        elif kind == LENGTH:
            size, content = varint(data, at, end)
            at = content + size
        else:
            raise WireError(f"is damaged at byte {start:,}")
        if at > end or not number:
            raise WireError(f"ends at byte {end:,}, where {at:,} were announced" if number else "is damaged")
        yield number, kind, start, content, at


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


Rule = Callable[[Buffer, int, int], bytes]


def _rebuilt(data: Buffer, at: int, end: int, rules: dict[int, Rule], dropped: frozenset[int] = frozenset()) -> bytes:
    """A message with some fields rebuilt by their rules and some left out."""
    out: list[bytes] = []
    for number, kind, start, content, behind in fields(data, at, end):
        if number in dropped:
            continue
        if kind == LENGTH and number in rules:
            inside = rules[number](data, content, behind)
            out += (_number(number << 3 | LENGTH), _number(len(inside)), inside)
        else:
            out.append(data[start:behind])
    return b"".join(out)


_DATA = frozenset((4, 5, 6, 7, 9, 10, 11, 13))
"""Fields of a TensorProto that hold its elements, or name the file that does."""


def _tensor(data: Buffer, at: int, end: int) -> bytes:
    return data[at:end] if end - at <= SMALL else _rebuilt(data, at, end, {}, _DATA)


def _attribute(data: Buffer, at: int, end: int) -> bytes:
    return _rebuilt(data, at, end, {5: _tensor})


def _node(data: Buffer, at: int, end: int) -> bytes:
    return data[at:end] if end - at <= SMALL else _rebuilt(data, at, end, {5: _attribute})


def _graph(data: Buffer, at: int, end: int) -> bytes:
    return _rebuilt(data, at, end, {1: _node, 5: _tensor})


def without_weights(data: Buffer) -> bytes:
    """An ONNX model without the elements of its large tensors. Raises `WireError`."""
    return _rebuilt(data, 0, len(data), {7: _graph})
