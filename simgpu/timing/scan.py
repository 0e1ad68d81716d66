"""Scans over a state (gated delta nets, Mamba-2 ...) and the indexer of sparse attention.

A scan of many tokens works through its sequence in chunks. Heads and sequences run beside each other, the chunks of one
after each other: many heads are limited by products or memory, one long sequence with few heads by the chain of its
chunks. A step of a few tokens streams the states of all heads through the GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.timing.constants import ScanConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, smooth_maximum

SHARPNESS = 3.0
"""Exponent of the smooth maximum of products, memory and the chain of chunks."""


class ScanWork(NamedTuple):
    """What a scan or an indexer does; everything broadcasts."""

    flops: ArrayLike
    bytes: ArrayLike
    peak: ArrayLike  # dense, FLOP/s
    chunks: ArrayLike = 0  # of a sequence, one after another; 0: a step of a few tokens
    lanes: ArrayLike = 1  # heads of all sequences, which run beside each other


def scan_time(work: ScanWork, device: Device, constants: ScanConstants) -> KernelTimes:
    """t0 + (products^p + memory^p + chain^p)^(1/p), the chain that of all chunks where lanes fill the GPU or not."""
    flops, moved, peak, chunks, lanes = (np.asarray(one, dtype=float) for one in work)
    stepped = chunks == 0
    launch = np.where(stepped, constants.step_overhead, constants.launch_overhead)
    compute = np.where(stepped, 0.0, flops / (constants.compute_fraction * peak))
    fraction = np.where(stepped, constants.step_memory_fraction, constants.memory_fraction)
    memory = moved / (fraction * device.bandwidth)
    chain = chunks * constants.chunk_latency * np.maximum(lanes / device.sm_count, 1.0)
    body: Array = smooth_maximum((compute, memory, chain), SHARPNESS)
    seconds = launch + body
    return KernelTimes(*np.broadcast_arrays(seconds, compute, memory, launch + chain))


def indexer_time(work: ScanWork, device: Device, constants: ScanConstants) -> KernelTimes:
    """t0 + the slower of products in fp8 and scores that pass memory."""
    flops, moved, peak = (np.asarray(one, dtype=float) for one in work[:3])
    compute = flops / (constants.index_fraction * peak)
    memory = moved / (constants.index_memory_fraction * device.bandwidth)
    launch = np.full_like(compute, 2 * constants.step_overhead)
    return KernelTimes(
        *np.broadcast_arrays(launch + smooth_maximum((compute, memory), SHARPNESS), compute, memory, launch)
    )
