"""Pieces of an imported network: an operator in the words of an operator list, and the tensors it reads and writes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simgpu.errors import InputError

Shape = tuple[int, ...]
Entry = dict[str, Any]
"""An operator as `simgpu.workload.listed` takes it."""

MOST_ELEMENTS = 10**12
"""Elements of a tensor, as `simgpu.workload.fields.Size` has it."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a network. A `parameter` is constant: the file holds it, or makes it from what it holds."""

    name: str
    shape: Shape
    parameter: bool = False
    floating: bool = True

    @property
    def elements(self) -> int:
        """Elements of the tensor."""
        return math.prod(self.shape)


@dataclass
class Piece:
    """One operator. `joins` says that a compiler can put it into one kernel with pointwise ones beside it."""

    entry: Entry
    reads: tuple[Tensor, ...]
    writes: tuple[Tensor, ...]
    joins: bool = False

    @property
    def base(self) -> int:
        """Elements of the largest tensor that it goes over."""
        return max((one.elements for one in (*self.reads, *self.writes) if not one.parameter), default=0)


@dataclass
class Pieces:
    """The pieces of a network in order, and what was met on the way."""

    found: list[Piece] = field(default_factory=list)
    unknown: Counter[str] = field(default_factory=Counter)
    outputs: tuple[str, ...] = ()
    held: dict[str, int] = field(default_factory=dict)
    """Elements of each parameter that an operator holds; one that several use counts once."""
    _alias: dict[str, str] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Parameters of the network."""
        return sum(self.held.values())

    def root(self, name: str) -> str:
        """The tensor that a view looks at."""
        while name in self._alias:
            name = self._alias[name]
        return name

    def view(self, out: Tensor, source: Tensor) -> None:
        """`out` is `source` in another shape: nothing runs."""
        if out.name != source.name:
            self._alias[out.name] = source.name

    def hold(self, *tensors: Tensor | None) -> int:
        """Parameters among tensors that nobody held before: an operator holds them from now on."""
        new = 0
        for one in tensors:
            if one is not None and one.parameter and one.floating and self.root(one.name) not in self.held:
                self.held[self.root(one.name)] = one.elements
                new += one.elements
        return new

    def add(self, entry: Entry, reads: Iterable[Tensor], writes: Iterable[Tensor], joins: bool = False) -> None:
        """An operator at the end of the list."""
        self.found.append(Piece(entry, tuple(reads), tuple(writes), joins))

    # ---- operators --------------------------------------------------------------------------------------

    def product(self, name: str, a: Tensor, b: Tensor, out: Tensor, bias: Tensor | None = None, **more: Any) -> None:
        """`out` = `a` `b`: rows of `a` times one matrix, or a product for each of a batch. `b` is [..., k, n]."""
        k = a.shape[-1] if a.shape else 1
        n = b.shape[-1] if len(b.shape) > 1 else 1
        flat = math.prod(b.shape[:-2]) == 1  # one matrix for all rows
        rows = max(out.elements // max(n, 1), 1)
        batch = 1 if flat else math.prod(out.shape[:-2]) if len(b.shape) > 1 else 1
        self.matmul(name, (a, b), out, (rows // max(batch, 1), n, k, batch), bias, **more)

    def matmul(
        self, name: str, operands: tuple[Tensor, Tensor], out: Tensor, sizes: tuple[int, int, int, int],
        bias: Tensor | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """A product of the sizes m, n, k and batch."""
        weights = self.hold(*operands)
        with_bias = bool(self.hold(bias))
        m, n, k, batch = (max(size, 1) for size in sizes)
        entry: Entry = {"op": "matmul", "name": name, "m": m, "n": n, "k": k}
        entry |= {"batch": batch} if batch > 1 else {}
        entry |= {"weight": False} if not weights else {}
        entry |= {"bias": True} if with_bias else {}
        self.add(entry | more, (*operands, *([bias] if bias else [])), (out,))

    def normalise(self, name: str, x: Tensor, out: Tensor, width: int, weights: Iterable[Tensor | None] = ()) -> None:
        """Mean and variance of runs of `width` elements, and their application."""
        entry = self._rows(name, "normalization", x.elements, width) | self._weights(*weights)
        self.add(entry, (x,), (out,), True)

    def softmax(self, name: str, x: Tensor, out: Tensor, axis: int = -1) -> None:
        """Softmax along an axis."""
        self.add(self._rows(name, "softmax", x.elements, x.shape[axis] if x.shape else 1), (x,), (out,), True)

    def pointwise(
        self, name: str, reads: Iterable[Tensor], writes: Iterable[Tensor], kind: str = "elementwise"
    ) -> None:
        """A kernel that reads and writes each of its tensors once. Parameters among them are its own."""
        given, made = tuple(reads), tuple(writes)
        entry = streaming(name, given, made, kind)
        if entry is not None:
            self.add(entry | self._weights(*given), given, made, True)

    def copy(self, name: str, source: Tensor, out: Tensor) -> None:
        """Elements moved to another place: as many are read as are written, or those there are."""
        part = Tensor(source.name, (min(source.elements, out.elements),), source.parameter, source.floating)
        self.pointwise(name, (part,), (out,))

    def lookup(self, name: str, table: Tensor, out: Tensor) -> None:
        """Rows of a table."""
        width = math.prod(table.shape[1:])
        if not table.parameter or not out.elements:
            self.copy(name, table, out)
            return
        new = self.hold(table)
        entry: Entry = {"op": "embedding", "name": name, "rows": max(out.elements // width, 1), "width": width}
        entry |= {"vocab": table.shape[0]} if new else {"vocab": table.shape[0], "weight": False}
        self.add(entry, (), (out,))

    def missing(self, kind: str, name: str, reads: Iterable[Tensor], writes: Iterable[Tensor]) -> None:
        """An operator that is not known: it counts, and runs as one that is bound by memory."""
        self.unknown[kind] += 1
        self.pointwise(name, reads, writes)

    def _weights(self, *tensors: Tensor | None) -> Entry:
        new = self.hold(*tensors)
        return {"weights": new} if new else {}

    def _rows(self, name: str, kind: str, elements: int, width: int) -> Entry:
        width = max(width, 1)
        return {"op": "pointwise", "kind": kind, "name": name, "rows": max(elements // width, 1), "width": width}


def streaming(name: str, reads: Iterable[Tensor], writes: Iterable[Tensor], kind: str = "elementwise") -> Entry | None:
    """A pointwise operator over the largest of its tensors; None where there is nothing to move."""
    given, made = [one for one in reads if one.elements], [one for one in writes if one.elements]
    if not made:
        return None
    largest = max((*made, *given), key=lambda one: one.elements)
    width = largest.shape[-1] if largest.shape else 1
    base = largest.elements
    moved = (sum(one.elements for one in given) / base, sum(one.elements for one in made) / base)
    entry: Entry = {"op": "pointwise", "name": name, "rows": base // width, "width": width}
    entry |= {"kind": kind} if kind != "elementwise" else {}
    return entry | {"reads": round(min(moved[0], 1000.0), 9), "writes": round(min(moved[1], 1000.0), 9)}


@dataclass(frozen=True)
class Imported:
    """A network that was read: its operators as entries of an operator list, and what to know of it."""

    name: str
    source: str
    dtype: str
    inputs: Mapping[str, Shape]
    entries: tuple[Entry, ...]
    parameters: int
    fused: bool
    unknown: Mapping[str, int]


def check_known(unknown: Mapping[str, int], allowed: bool, file: object, remedy: str = "--unknown memory") -> None:
    """Raise `InputError` with the names and counts of operators that are not known, unless they are allowed."""
    if unknown and not allowed:
        names = ", ".join(f"{name} ({count})" for name, count in sorted(unknown.items(), key=lambda one: -one[1])[:12])
        more = f" and {len(unknown) - 12} more" if len(unknown) > 12 else ""
        problem = f"holds operators that are not known: {names}{more}"
        raise InputError(f"{problem}; {remedy} takes them as bound by memory", file=file)
