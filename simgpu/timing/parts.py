"""What a kernel model returns: seconds and where they go, as arrays over shapes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np

Array = np.ndarray[Any, np.dtype[np.float64]]
ArrayLike = Any
"""A number or an array of numbers; arguments of a model broadcast against each other."""


class KernelTimes(NamedTuple):
    """Seconds of kernels, shape = that of the broadcast arguments.

    `compute` and `memory` are what the kernel would take if it only computed or only moved its DRAM bytes at the
    achieved rates; `latency` is what is neither (launches, waves, dependent steps). They overlap, so they need not
    add up to `seconds`.
    """

    seconds: Array
    compute: Array
    memory: Array
    latency: Array

    def __add__(self, other: object) -> KernelTimes:
        """One kernel after another."""
        if not isinstance(other, KernelTimes):
            return NotImplemented
        return KernelTimes(*(a + b for a, b in zip(self, other, strict=True)))

    def stretched(self, factor: float, arithmetic: float = 1.0) -> KernelTimes:
        """Kernels that take `factor` times as long, and whose arithmetic takes `arithmetic` times that.

        The latter is felt where arithmetic binds, and not where memory or latency does with it, too.
        """
        if factor == arithmetic == 1:
            return self
        others = np.maximum(np.maximum(self.memory, self.latency), 1e-30)
        grown = np.maximum(self.compute * arithmetic, others) / np.maximum(self.compute, others)
        return KernelTimes(*(part * (factor * grown if arithmetic != 1 else factor) for part in self))

    def bound(self) -> Array:
        """The limiting part, in words: compute, memory or latency."""
        which = np.argmax(np.stack([self.compute, self.memory, self.latency]), axis=0)
        made: Array = np.asarray(["compute", "memory", "latency"])[which]
        return made


def smooth_maximum(parts: tuple[Array, ...], p: Array | float) -> Array:
    """(sum of x^p)^(1/p) of parts x: close to the longest part for large p, their sum for p = 1.

    Parts are scaled by the longest first, as powers of very small and very large times overflow.
    """
    stack = np.stack(parts)
    longest = np.maximum(stack.max(axis=0), 1e-30)
    return np.asarray(longest * ((stack / longest) ** p).sum(axis=0) ** (1 / p))


W = TypeVar("W", bound=NamedTuple)


def in_chunks(length: int, work: W, model: Callable[[W], KernelTimes]) -> KernelTimes:
    """Times of `work`, a tuple of numbers and arrays of any shape, which broadcast against each other.

    `model` sees 1-d arrays of at most `length` elements, so that its tables of candidates stay in the processor's
    cache.
    """
    arrays = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in work))
    shape, size = arrays[0].shape, arrays[0].size
    flat = [array.reshape(-1) for array in arrays]
    made: Callable[..., W] = type(work)
    if size <= length:
        return KernelTimes(*(part.reshape(shape) for part in model(made(*flat))))
    pieces = [model(made(*(array[i : i + length] for array in flat))) for i in range(0, size, length)]
    return KernelTimes(*(np.concatenate(part).reshape(shape) for part in zip(*pieces, strict=True)))
