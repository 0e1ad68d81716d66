"""What a kernel model returns: seconds and where they go, as arrays over shapes."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import Parameter, signature
from typing import Any, NamedTuple

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

    def bound(self) -> Array:
        """The limiting part, in words: compute, memory or latency."""
        which = np.argmax(np.stack([self.compute, self.memory, self.latency]), axis=0)
        made: Array = np.asarray(["compute", "memory", "latency"])[which]
        return made


def smooth_maximum(parts: tuple[Array, ...], p: Array | float) -> Array:
    """(sum of x^p)^(1/p): the longest part where one is long, their sum for p = 1; scaled, as powers of very small and
    very large times are no floats."""
    stack = np.stack(parts)
    longest = np.maximum(stack.max(axis=0), 1e-30)
    return np.asarray(longest * ((stack / longest) ** p).sum(axis=0) ** (1 / p))


def in_chunks(length: int, *names: str) -> Callable[[Callable[..., KernelTimes]], Callable[..., KernelTimes]]:
    """Make a model of 1-d arrays one of arrays of any shape: the arguments `names` broadcast against each other.

    The model sees `length` shapes at a time, so that its tables of candidates stay in the processor's cache.
    Names that are not given have the model's defaults.
    """

    def decorate(model: Callable[..., KernelTimes]) -> Callable[..., KernelTimes]:
        known = signature(model).parameters
        defaults = {name: known[name].default for name in names if known[name].default is not Parameter.empty}

        @wraps(model)
        def over_chunks(*positional: ArrayLike, **keywords: Any) -> KernelTimes:
            given = (
                defaults
                | dict(zip(names, positional, strict=False))
                | {q: keywords.pop(q) for q in names if q in keywords}
            )
            arrays = np.broadcast_arrays(*(np.asarray(value, dtype=float) for value in given.values()))
            flat = dict(zip(given, (array.reshape(-1) for array in arrays), strict=True))
            size, shape = arrays[0].size, arrays[0].shape
            pieces = [
                model(**{name: array[i : i + length] for name, array in flat.items()}, **keywords)
                for i in range(0, max(size, 1), length)
            ]
            if len(pieces) == 1:
                return KernelTimes(*(part.reshape(shape) for part in pieces[0]))
            return KernelTimes(*(np.concatenate(part).reshape(shape) for part in zip(*pieces, strict=True)))

        return over_chunks

    return decorate
