"""What a kernel model returns: seconds and where they go, as arrays over shapes."""

from __future__ import annotations

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
        """What decides, as words: compute, memory or latency."""
        which = np.argmax(np.stack([self.compute, self.memory, self.latency]), axis=0)
        return np.asarray(["compute", "memory", "latency"])[which]
