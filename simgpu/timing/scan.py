"""Scans over a state (gated delta nets, Mamba-2 ...) and the indexer of sparse attention.

A scan of many tokens works through its sequence in chunks. Heads and sequences run beside each other, the chunks of one
after each other: many heads are limited by products or memory, one long sequence with few heads by the chain of its
chunks. A step of a few tokens streams the states of all heads through the GPU.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.timing.attention_tiles import move, resident
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
    warm: ArrayLike = 0  # B of states that the run before left in L2, as far as they fit


def scan_time(work: ScanWork, device: Device, constants: ScanConstants) -> KernelTimes:
    """t0 + (products^p + memory^p + chain^p)^(1/p), the chain that of all chunks where lanes fill the GPU or not."""
    flops, moved, peak, chunks, lanes, warm = (np.asarray(one, dtype=float) for one in work)
    stepped = chunks == 0
    launch = np.where(stepped, constants.step_overhead, constants.launch_overhead)
    compute = np.where(stepped, 0.0, flops / (constants.compute_fraction * peak))
    fraction = np.where(stepped, constants.step_memory_fraction, constants.memory_fraction)
    hit = np.where(stepped & (warm > 0), resident(warm, device.l2_bytes, 1.0), 0.0)
    cached = constants.step_bytes_per_clock * device.sm_count * device.clock
    memory = move(moved, hit, fraction * device.bandwidth, cached)
    chain = chunks * constants.chunk_latency * np.maximum(lanes / device.sm_count, 1.0)
    body: Array = smooth_maximum((compute, memory, chain), SHARPNESS)
    seconds = launch + body
    return KernelTimes(*np.broadcast_arrays(seconds, compute, memory, launch + chain))


class IndexWork(NamedTuple):
    """What an indexer does; everything broadcasts."""

    flops: ArrayLike  # of its scores
    scores: ArrayLike  # B, each written once and read once
    other: ArrayLike  # B: queries and keys
    peak: ArrayLike  # dense, FLOP/s
    rows: ArrayLike  # query tokens of all sequences
    keys: ArrayLike  # that a query sees, on average; 0: no more than are picked, so that nothing is chosen


def indexer_time(work: IndexWork, device: Device, constants: ScanConstants) -> KernelTimes:
    """Scores, then the choice of the best of them.

        t = 2 t0 + (products^p + memory^p)^(1/p) + (choice^p + scores^p)^(1/p)

    Scores are the slower of products in fp8 and of what they write. A block chooses for one query token: choice =
    ceil(rows / SMs) (a + keys b), a radix select of a few passes over counters on chip (fast_topk_transform of
    sgl-kernel), or what it takes to read the scores.
    """
    flops, scores, other, peak, rows, keys = (np.asarray(one, dtype=float) for one in work)
    rate = constants.index_memory_fraction * device.bandwidth
    compute, written = flops / (constants.index_fraction * peak), (scores + other) / rate
    each = np.where(keys > 0, constants.choice_latency + keys * constants.choice_key_time, 0.0)
    choice, read = np.ceil(rows / device.sm_count) * each, np.where(keys > 0, scores / rate, 0.0)
    launch = np.full_like(compute, 2 * constants.step_overhead)
    body = smooth_maximum((compute, written), SHARPNESS) + smooth_maximum((choice, read), SHARPNESS)
    return KernelTimes(*np.broadcast_arrays(launch + body, compute, written + read, launch + choice))
