"""Copies: within a GPU's memory, and between it and its host."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgpu.timing.constants import HostCopyConstants, LaunchConstants
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.vector import StreamWork
from simgpu.timing.vector_work import FlatKernel, flat_work


def copy_work(size: ArrayLike, launch: LaunchConstants) -> StreamWork:
    """`size` bytes read and written in the memory of one GPU."""
    return flat_work(size, FlatKernel(read_bytes=1.0, written_bytes=1.0, width=1.0, arithmetic=1.0 / 16), launch)


@dataclass(frozen=True)
class HostLink:
    """How copies between a GPU and its host go.

    Parameters
    ----------
    bandwidth : B/s of the link in one direction, after line coding
    host_bandwidth : B/s of the host's memory, which reads or writes each byte once, of pageable memory twice more
    pinned : whether the copy engine reaches the host's memory; pageable memory goes through a pinned staging buffer
    """

    bandwidth: float
    host_bandwidth: float = np.inf
    pinned: bool = True


def host_copy_time(size: ArrayLike, link: HostLink, constants: HostCopyConstants) -> KernelTimes:
    """Seconds to copy `size` bytes between host memory and GPU memory by a copy engine.

        pinned:   copy_overhead + size / min(host_link_fraction link_bandwidth, host_bandwidth)
        pageable: the same through a pinned staging buffer, that is, size / (pageable_fraction link_bandwidth)

    Parameters
    ----------
    size : array_like, B
    link : between GPU and host
    constants : fractions of the link's bandwidth, `copy_overhead` in s
    """
    size = np.asarray(size, float)
    if link.pinned:
        rate = min(constants.host_link_fraction * link.bandwidth, link.host_bandwidth)
    else:  # read, write to staging, read again
        rate = min(constants.pageable_fraction * link.bandwidth, link.host_bandwidth / 3)
    moving = size / rate
    zero, fixed = np.zeros_like(size), np.full_like(size, constants.copy_overhead)
    return KernelTimes(fixed + moving, zero, moving, fixed)
