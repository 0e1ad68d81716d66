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


PICKED_HEADS = 64
"""Heads that share a block of attention over picked keys; fewer take as long (deepseek-ai/FlashMLA, h_q of 64, 128)."""


def picked_time(
    rows: ArrayLike, heads: ArrayLike, places: ArrayLike, width: float, peak: float, device: Device, fraction: float,
    split: bool = False,
) -> Array:  # fmt: skip
    """Seconds of latent attention over keys that an indexer picked, of many query tokens.

    Each token has places for all keys that may be picked and multiplies them all, whether there are so many or not
    (flash_mla_sparse_fwd of FlashMLA), for 64 heads at a time:

        t = ceil(rows ceil(heads / 64) / SMs) 2 places 64 width / (fraction peak / SMs)

    Parameters
    ----------
    rows : query tokens of all sequences
    heads : of this rank
    places : keys that are picked for each token
    width : of a key and a value together, elements of the latent space
    peak : dense of 16 bits, FLOP/s
    fraction : of it
    split : keys of few tokens are split over multiprocessors, which then finish together
    """
    blocks = np.asarray(rows, float) * np.ceil(np.asarray(heads, float) / PICKED_HEADS) / device.sm_count
    flops = 2.0 * np.asarray(places, float) * PICKED_HEADS * width
    found: Array = (blocks if split else np.ceil(blocks)) * flops * device.sm_count / (fraction * peak)
    return found
