"""Parts of attention that prefill and decode share: the time of a tile of scores, and of its memory traffic.

A fused attention kernel (T. Dao, "FlashAttention-2", arXiv:2307.08691; J. Shah et al., "FlashAttention-3",
arXiv:2407.08608) gives a block of `tile_rows` queries to a multiprocessor, which walks over the keys in steps of
`tile_keys`. Per score it multiplies 2 (head_dim + v_head_dim) FLOPs on the tensor cores and takes one exponential.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgpu.timing.constants import DecodeConstants, PrefillConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array
from simgpu.timing.power import TensorClock

WIDTH = 256.0
"""head_dim + v_head_dim of the usual head of 128, for which latencies are given."""
WIDE, WIDEST = 128.0, 192.0
"""Heads wider than the first lose speed, fully from the second on: their accumulators crowd out the registers."""
FULL_ENOUGH = 0.8
"""Share of the multiprocessors from which libraries do not split keys (FlashAttention, `num_splits_heuristic`)."""
CLIFF = 12.0
"""Steepness of the change from L2 to DRAM: half of it within 6 % of the capacity, as measured on the L40S."""


@dataclass(frozen=True)
class AttentionOperands:
    """What attention multiplies: bytes of an element, and the peak for its type.

    Parameters
    ----------
    input_bytes : B per element of queries, keys and values in the products
    kv_bytes : B per element of the cache
    peak : FLOP/s, dense, of the type of the products
    """

    input_bytes: float
    kv_bytes: float
    peak: float

    @property
    def narrow_cache(self) -> bool:
        """Whether new keys and values are converted to fewer bytes as they are appended."""
        return self.kv_bytes < self.input_bytes


def score_clocks(
    head_dim: Array,
    v_head_dim: Array,
    operands: AttentionOperands,
    device: Device,
    constants: PrefillConstants | DecodeConstants,
) -> Array:
    """Clocks of one multiprocessor per score.

        2 (d + dv) / (F c w) + s

    F = peak / SMs / clock, FLOPs of a multiprocessor per clock in the input type; c = `compute_fraction`, for 1-byte
    inputs `narrow_fraction`; w falls from 1 to `wide_fraction` as heads widen from 128 to 192; s = `softmax_clocks`,
    what exponential and rescaling add to the tensor work. The special function units take 1/16 clock for an
    exponential (16 per clock and multiprocessor, as FlashAttention-4 counts for Hopper and Blackwell;
    Blackwell Ultra has twice as many), and that is what measured kernels add: hardly any of it overlaps.
    """
    fraction = constants.compute_fraction if operands.input_bytes >= 2 else constants.narrow_fraction
    wide = np.clip((head_dim - WIDE) / (WIDEST - WIDE), 0, 1)
    slower = 1 + wide * (1 / constants.wide_fraction - 1)
    peak_per_clock = operands.peak / device.sm_count / device.clock
    return 2 * (head_dim + v_head_dim) / (peak_per_clock * fraction) * slower + constants.softmax_clocks


def resident(working_set: Array, l2_bytes: float, resident_fraction: float) -> Array:
    """Share of the traffic that L2 serves when `working_set` bytes are used again and again."""
    return 1 / (1 + np.minimum(working_set / max(resident_fraction * l2_bytes, 1.0), 10.0) ** CLIFF)


def move(moved: Array, hit: Array, dram: float | Array, l2: float) -> Array:
    """Seconds for `moved` bytes of which the share `hit` comes from L2; rates in B/s."""
    return moved * ((1 - hit) / dram + hit / np.maximum(l2, dram))


def clocks_under_load(clock: TensorClock, clock_exponent: float) -> tuple[float, float]:
    """(fraction of the boost clock in a burst, by how much a sustained run lengthens the period further).

    `clock` is that of large matrix products. Attention draws less power at the same clock (its tensor cores wait for
    exponentials, its operands come from shared memory): the exponent says how much less. Boards that run above their
    boost clock do so in attention too.
    """
    burst = clock.clock_fraction ** (clock_exponent if clock.clock_fraction < 1 else 1.0)
    return burst, (1 + clock.throttle) ** clock_exponent - 1
