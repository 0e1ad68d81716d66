"""Copies: within a GPU's memory, and between it and its host."""

from __future__ import annotations

from typing import Any

import numpy as np

from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.vector import StreamWork
from simgpu.timing.vector_work import flat_work


def copy_work(size: ArrayLike, *, vector_bytes: float, load_instructions: float, **_: Any) -> StreamWork:
    """`size` bytes read and written in the memory of one GPU."""
    return flat_work(
        np.asarray(size, float), read_bytes=1.0, written_bytes=1.0, width=1.0, arithmetic=1.0 / 16,
        vector_bytes=vector_bytes, load_instructions=load_instructions,
    )  # fmt: skip


def host_copy_time(
    size: ArrayLike, *, pinned: bool, link_bandwidth: float, host_bandwidth: float, host_link_fraction: float,
    pageable_fraction: float, copy_overhead: float, **_: Any,
) -> KernelTimes:  # fmt: skip
    """Seconds to copy `size` bytes between host memory and GPU memory by a copy engine.

        pinned:   copy_overhead + size / min(host_link_fraction link_bandwidth, host_bandwidth)
        pageable: the same through a pinned staging buffer, that is, size / (pageable_fraction link_bandwidth)

    `link_bandwidth` is the host link's, B/s in one direction after line coding; `host_bandwidth` that of the host's
    memory (it reads or writes each byte once, twice for pageable memory). Units: B, B/s, s.
    """
    size = np.asarray(size, float)
    if pinned:
        rate = min(host_link_fraction * link_bandwidth, host_bandwidth)
    else:
        rate = min(pageable_fraction * link_bandwidth, host_bandwidth / 3)  # read, write to staging, read again
    moving = size / rate
    zero, fixed = np.zeros_like(size), np.full_like(size, copy_overhead)
    return KernelTimes(fixed + moving, zero, moving, fixed)
