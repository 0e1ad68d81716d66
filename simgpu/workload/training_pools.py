"""Groups of GPUs that train one model together although they are not alike: which they are, and who takes how much.

Each is a data-parallel group with a plan of its own. All wait for the last one before gradients are exchanged, so that
the best shares of the batch are those at which all are done at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from simgpu.workload.fields import Size, Strict

ROUNDS = 60
"""Halvings of the time in which shares are looked for."""


class TrainingPool(Strict):
    """More GPUs that train on a share of the batch, with a plan of their own."""

    cluster: Annotated[str, Field(min_length=1)]
    """A cluster or node of the catalogue."""
    dp: Size = 1
    tp: Size = 1
    pp: Size = 1
    cp: Size = 1
    ep: Size = 1
    micro_batch: Size | None = None
    """Default: that of the plan."""
    zero: Literal[0, 1, 2, 3] | None = None
    """Default: that of the plan."""
    recompute: Literal["none", "selective", "full"] | None = None
    """Default: that of the plan."""
    batch: Size | None = None
    """Sequences of the batch that it takes; default: by its speed."""


def shared_by_speed(
    batch: int, parts: Sequence[int], fixed: Sequence[float], each: Sequence[float]
) -> tuple[int, ...] | None:
    """Whole parts of a batch for groups that take `fixed` + `each` x sequences seconds, the last of them done earliest.

    `parts` are the sequences that a group takes at a time; each takes one part at least. None where no numbers of parts
    add up to the batch.

    >>> shared_by_speed(12, [2, 2], [0.0, 0.0], [1.0, 2.0])
    (8, 4)
    """
    whole = _within(batch, parts, [batch // part for part in parts])
    if whole is None:
        return None
    low, high, found = 0.0, max(f + e * n for f, e, n in zip(fixed, each, whole, strict=True)), whole
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        counts = [
            int(max(middle - f, 0.0) / (e * part) + 1e-9) if e else batch // part
            for f, e, part in zip(fixed, each, parts, strict=True)
        ]
        tried = _within(batch, parts, counts)
        low, high, found = (middle, high, found) if tried is None else (low, middle, tried)
    return found


def _within(batch: int, parts: Sequence[int], most: Sequence[int]) -> tuple[int, ...] | None:
    """Shares that add up to the batch, of at most so many parts each; as many as can be of the first groups.

    Sums that can be reached are bits of a number.
    """
    if any(count < 1 for count in most):
        return None
    reached = [1]
    for part, count in zip(parts, most, strict=True):
        bits, limit = 0, (1 << (batch + 1)) - 1
        for n in range(1, min(count, batch // part) + 1):
            bits |= reached[-1] << (n * part)
        reached.append(bits & limit)
    if not reached[-1] >> batch & 1:
        return None
    left, found = batch, []
    for part, count, before in zip(reversed(parts), reversed(most), reversed(reached[:-1]), strict=True):
        n = next(n for n in range(1, count + 1) if left >= n * part and before >> (left - n * part) & 1)
        found.append(n * part)
        left -= n * part
    return tuple(reversed(found))
