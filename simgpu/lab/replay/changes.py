"""What is asked of a replay besides another machine: `batch=4:8`, `tokens=2048:4096`, `ranks=8:16`, `dtype=fp8`.

A trace says sizes and not what they mean, so the size that was is named with the one that is asked. Where an operator
has that size twice and only one of them can be meant, it is left as it is, and told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any

from simgpu.errors import InputError, nearest, shown
from simgpu.lab.traces.kineto import BYTES_OF
from simgpu.lab.traces.operations import operators_of
from simgpu.lab.traces.records import OPERATOR, Record
from simgpu.model.operators import ACCUMULATE, BYTES, Kernel, Matmul
from simgpu.settings import SCENARIO

KEYS = ("batch", "tokens", "ranks", "dtype")
MOST = 1 << 40


class UnclearError(Exception):
    """A size of an operator may be what is changed, or something else."""


@dataclass(frozen=True)
class Tensors:
    """Elements of the tensors of a trace: those with a row for each token, and the others."""

    tokens: frozenset[int] = frozenset()
    weights: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Changes:
    """Sizes (was, asked) of the batch of one rank, of its sequences, of groups of collectives; the type of products."""

    batch: tuple[int, int] = (1, 1)
    tokens: tuple[int, int] = (1, 1)
    ranks: tuple[int, int] = (1, 1)
    dtype: str = ""

    @property
    def sized(self) -> bool:
        """Whether shapes change."""
        return any(was != now for was, now in (self.batch, self.tokens))

    def operators(self, record: Record) -> list[Kernel]:
        """The operators of a record as they are asked for. Raises `UnclearError`."""
        changed = record
        if self.sized:
            if record.op is not None:
                raise UnclearError("sizes of operators in simgpu's own traces are set in their experiment")
            changed = replace(record, shapes=self._shapes(record.shapes))
        return [self._typed(op) for op in operators_of(changed)]

    @property
    def rows(self) -> tuple[int, int]:
        """Tokens of one rank's batch, before and after."""
        return self.batch[0] * self.tokens[0], self.batch[1] * self.tokens[1]

    def payload(self, record: Record, tensors: Tensors) -> float:
        """Bytes of a collective as it is asked for. Raises `UnclearError`.

        What exchanges tokens between all ranks grows with them, and so does what has as many elements as one of the
        trace's tensors of tokens. All else is taken for weights or gradients.
        """
        was, asked = self.rows
        width = BYTES_OF.get(str(record.types[0]).lower() if record.types else "", 0)
        if not self.sized or was == asked:
            return record.size
        if not width or not record.size:
            raise UnclearError("the trace does not say its size")
        elements = record.size / width
        if record.name != "all_to_all" and elements not in tensors.tokens:
            raise UnclearError("as large as no tensor of tokens: taken for weights or gradients, it keeps its bytes")
        if elements in tensors.weights:
            raise UnclearError(f"{elements:,.0f} elements may be of tokens or of weights")
        return record.size * asked / was

    def tensors(self, records: Iterable[Record]) -> Tensors:
        """The tensors of a trace's operators that have a row for each token, and the others."""
        sizes: tuple[set[int], set[int]] = set(), set()
        for record in records if self.sized else ():
            shapes = _flat(record.shapes) if record.kind == OPERATOR else ()
            for shape in (shape for shape in shapes if len(shape) > 1):
                has_rows = self.rows[0] in (*shape, prod(shape[:2]) if len(shape) > 2 else 0)
                sizes[not has_rows].add(prod(shape))
        return Tensors(frozenset(sizes[0]), frozenset(sizes[1]))

    def _typed(self, op: Kernel) -> Kernel:
        if self.dtype and isinstance(op, Matmul):
            return replace(op, dtype=self.dtype, accumulate=ACCUMULATE[self.dtype])
        return op

    def _shapes(self, shapes: Sequence[Any]) -> list[Any]:
        changed = [self._shape(shape) for shape in shapes]
        flat = [shape for shape in shapes if isinstance(shape, list) and len(shape) == 2]
        rows = self.batch[0] * self.tokens[0]
        if any(shape == [rows, rows] for shape in flat):
            raise UnclearError(f"{rows} is its size in both directions")
        return changed

    def _shape(self, shape: Any) -> Any:
        if not isinstance(shape, list) or not shape:
            return shape
        if isinstance(shape[0], list):
            return [self._shape(one) for one in shape]
        (batch, more), (tokens, length) = self.batch, self.tokens
        if len(shape) < 3:
            return [more * length if size == batch * tokens else size for size in shape]
        changed = [more * length if size == batch * tokens and tokens > 1 < batch else size for size in shape]
        if batch > 1 and shape[0] == batch:
            changed[0] = more
        if tokens > 1:
            at = [i for i, size in enumerate(shape) if size == tokens and (i or batch == 1)]
            if len(at) > 1 and at != [len(shape) - 2, len(shape) - 1]:
                raise UnclearError(f"{tokens} is its size in {len(at)} directions")
            for i in at:
                changed[i] = length
        return changed


def _flat(shapes: Iterable[Any]) -> Iterator[list[int]]:
    """The shapes of tensors, those in lists of tensors too."""
    for shape in shapes:
        if isinstance(shape, list) and shape:
            if all(isinstance(size, int) for size in shape):
                yield shape
            else:
                yield from _flat(one for one in shape if isinstance(one, list) and one and isinstance(one[0], int))


def needs_experiment(settings: Sequence[str]) -> bool:
    """True if keys of an experiment are among `key=value` texts, which say what sizes mean."""
    keys = [text.partition("=")[0].strip() for text in settings]
    return any(key.partition(".")[0] in SCENARIO and key not in KEYS for key in keys)


def changes_of(settings: Sequence[str]) -> tuple[Changes, list[str]]:
    """The changes among `key=value` texts, and the others, which set parameters of the hardware."""
    found: dict[str, Any] = {}
    others = []
    for text in settings:
        key, _, value = (part.strip() for part in text.partition("="))
        if key == "dtype":
            if value not in BYTES:
                raise InputError(f"unknown {shown(value)}{nearest(value, BYTES)}", file="--set", key=key)
            found[key] = value
        elif key in KEYS:
            found[key] = _pair(key, value)
        elif "." not in key:
            raise InputError(
                f"unknown key {shown(key)}{nearest(key, KEYS)}; a trace takes {', '.join(KEYS)}, hardware parameters"
                " such as gpu.memory.bandwidth, and keys of its experiment such as plan.tp", file="--set",
            )  # fmt: skip
        else:
            others.append(text)
    return Changes(**found), others


def _pair(key: str, value: str) -> tuple[int, int]:
    parts = re.fullmatch(r"(\d{1,12}):(\d{1,12})", value)
    sizes = tuple(map(int, parts.groups())) if parts else ()
    if len(sizes) != 2 or not all(0 < size < MOST for size in sizes):
        raise InputError(f"{shown(value)}; expected what it was and what is asked, such as 8:16", file="--set", key=key)
    return sizes[0], sizes[1]
