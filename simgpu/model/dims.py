"""Dimensions of operators: named axes that a plan can split, bytes of dtypes, and shares of a measured time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

BYTES = {"fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}
"""Bytes of one element in memory, by dtype (tf32 is stored as fp32)."""

ACCUMULATE = dict.fromkeys(BYTES, "fp32") | {"fp64": "fp64", "int8": "int32"}
"""The default dtype in which products of a dtype are summed."""


@dataclass(frozen=True, slots=True)
class Dim:
    """`units` equal parts of `width` elements along a named axis; an unnamed axis is never split."""

    units: int
    width: int = 1
    axis: str = ""

    @property
    def size(self) -> int:
        """Elements along the dimension."""
        return self.units * self.width

    def split(self, ways: Mapping[str, int]) -> Dim:
        """The part of one rank when each axis is split in `ways`; fewer units than ranks are replicated."""
        n = ways.get(self.axis, 1)
        return self if n == 1 else Dim(-(-self.units // n), self.width, self.axis)

    def is_split(self, ways: Mapping[str, int]) -> bool:
        """True if a split in `ways` cuts this dimension."""
        return ways.get(self.axis, 1) > 1


def split_all(dims: tuple[Dim, ...], ways: Mapping[str, int]) -> tuple[Dim, ...]:
    """The parts of several dimensions; the same tuple where none is split."""
    for dim in dims:
        if ways.get(dim.axis, 1) != 1:
            return tuple([dim.split(ways) for dim in dims])
    return dims


class _Timed(Protocol):
    """A dataclass of an operator whose time may have been measured."""

    @property
    def time_s(self) -> float | None: ...

    @property
    def flops(self) -> float: ...

    @property
    def bytes(self) -> float: ...


_T = TypeVar("_T", bound=_Timed)


def timed(whole: _Timed, part: _T) -> _T:
    """`part` with its share of a measured time of `whole`: by FLOPs, by bytes where there are none."""
    if whole.time_s is None:
        return part
    share = part.flops / whole.flops if whole.flops else part.bytes / whole.bytes
    return replace(part, time_s=whole.time_s * share)  # type: ignore[type-var]
