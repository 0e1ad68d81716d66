"""Fused attention of a decode step: few queries per sequence against a long cache (flash-decoding)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simgpu.timing.attention_tiles import (
    FULL_ENOUGH,
    WIDTH,
    AttentionOperands,
    clocks_under_load,
    move,
    resident,
    score_clocks,
)
from simgpu.timing.attention_work import AttentionWork
from simgpu.timing.constants import DecodeConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array, KernelTimes, in_chunks
from simgpu.timing.power import TensorClock

SPLITS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
"""Parts of a sequence's cache that blocks of their own work on."""
UNSPLIT_BLOCKS = 4
"""Blocks of keys that FlashAttention does not split, see `_planned`."""
STEP = 64.0
"""Keys that a block reads at a time."""
WARP_GROUP = 64.0
"""Rows that a warp group multiplies at a time."""
WIDTH_SHARE = 0.3
"""Share of a wave's latency that grows with the width of a head."""
CHUNK = 8192


def decode_time(
    work: AttentionWork,
    operands: AttentionOperands,
    device: Device,
    constants: DecodeConstants,
    clock: TensorClock,
    *,
    warm: bool = True,
) -> KernelTimes:
    """Seconds of fused attention of `queries` (1, or a few speculated) tokens over a cache of `keys` tokens.

    A block works on the heads of one KV head, and on one of s parts of the cache, 64 keys at a time:

        step   = max(64 row / (block_bytes_per_clock clock),
                     64 score_clocks max(rows, decode_tile_rows decode_slowdown) / clock)
        W      = ceil(batch kv_heads ceil(queries heads / kv_heads / rows) s / SMs)            waves
        stream = W ceil(keys / 64 / s) step
        memory = (cache + Q + O) / memory bandwidth, from L2 what it holds
        time   = overheads + append
               + min over s of ((stream + W wave_latency)^p + memory^p)^(1/p) + [s > 1] (split latency + combining)

    with row = the bytes of a key and its value in one KV head, and rows = the smallest of `decode_tile_rows`, 64, 128
    (up to `decode_largest_rows`) that holds the queries of a KV head: tensor cores multiply whole tiles of rows however
    few queries there are, which is what limits a block, more than its loads do.

    Parameters
    ----------
    work : shapes, every width given (`AttentionWork.checked`); keys count the new tokens
    operands : bytes of an element and the peak for its type, FLOP/s
    device : datasheet of the GPU: clock in Hz, bandwidth in B/s, L2 in B
    constants : of the library, see `simgpu.hardware.constants.AttentionFigures`; times in s
    clock : of large matrix products, which attention's follows from
    warm : a cache that fits L2 is read from there, as in a benchmark that repeats one layer; in a model whose layers
        take turns it is not

    Notes
    -----
    Splits of the cache: T. Dao et al., "Flash-Decoding for long-context inference", 2023; FlashAttention,
    `num_splits_heuristic`.
    """

    def times(piece: AttentionWork) -> KernelTimes:
        return _decode_time(piece, operands, device, constants, clock, warm)

    return in_chunks(CHUNK, work, times)


def _decode_time(
    work: AttentionWork,
    operands: AttentionOperands,
    device: Device,
    constants: DecodeConstants,
    clock: TensorClock,
    warm: bool,
) -> KernelTimes:
    """`decode_time` of 1-d arrays."""
    b, q, k, h, kv, d, dv, w, stored = (np.asarray(x) for x in work)
    k = np.where(w > 0, np.minimum(k, w + q - 1), k)
    group = h / kv
    kv_bytes, row = operands.kv_bytes, np.where(stored > 0, stored, d + dv) * operands.kv_bytes
    narrow = kv_bytes < 2
    small = (group < constants.small_group) & (not narrow)
    packed = q * group
    rows = tile_rows(packed, constants)
    filled = b * kv * np.maximum(packed / rows, 1)
    copies = b * kv * np.ceil(packed / rows)
    burst, _slowdown = clocks_under_load(clock, constants.clock_exponent)
    f = device.clock * burst
    clocks = score_clocks(d, dv, operands, device, constants)
    slower = constants.narrow_slowdown if narrow else 1.0
    least = constants.decode_tile_rows * constants.decode_slowdown
    worked = np.maximum(least, rows * min(constants.decode_slowdown, 1.0))
    multiply = worked * STEP * clocks * slower / f
    step = np.maximum(STEP * row / (constants.block_bytes_per_clock * f), multiply)
    wave = constants.wave_latency * np.where(small, constants.small_group_fraction, slower)
    wave = wave * (1 - WIDTH_SHARE + WIDTH_SHARE * (d + dv) / WIDTH)
    l2, dram = constants.resident_bytes_per_clock * device.sm_count * device.clock, _dram(device, constants)
    moved = b * k * kv * row + 2 * b * q * h * (d + dv)
    hit = resident(moved, device.l2_bytes * warm, constants.resident_fraction)
    memory = move(moved, hit, dram, l2)
    steps = np.where(small, k / STEP, np.ceil(k / STEP))  # without tensor cores there are no tiles to fill
    stream = Stream(copies, filled, steps, step, memory, wave, 8 * b * q * h * dv / l2)
    if constants.planned_keys:
        busy, waves = _planned(stream, k, device.sm_count, constants)
    else:
        busy, waves = _fastest(stream, device.sm_count, constants)
    append = b * q * kv * row / kv_bytes * (2 + 3 * kv_bytes if narrow else 2 * kv_bytes) / dram
    fixed = constants.decode_overhead + narrow * constants.decode_cast_overhead
    fixed = fixed + np.where(d != dv, constants.uneven_overhead, 0) * (stored == 0)
    fixed = fixed + constants.decode_wide_overhead * np.clip((d - 128) / 128, 0, 1)
    compute = copies * np.ceil(k / STEP) * multiply / device.sm_count
    return KernelTimes(fixed + busy + append, compute, memory + append, fixed + waves)


def tile_rows(packed: Array, constants: DecodeConstants) -> Array:
    """Rows of the smallest tile that holds the `packed` queries of a KV head, of those that the library has."""
    larger = np.where(packed <= WARP_GROUP, WARP_GROUP, 2 * WARP_GROUP)
    most = np.minimum(larger, constants.decode_largest_rows)
    return np.where(packed <= constants.decode_tile_rows, constants.decode_tile_rows, most)


def _dram(device: Device, constants: DecodeConstants) -> float:
    """B/s that reads of the cache reach."""
    return constants.decode_memory_fraction * device.bandwidth


class Stream(NamedTuple):
    """Blocks that read the cache, and what they cost."""

    copies: Array  # blocks before the cache is split
    filled: Array  # the same, those whose rows are filled in part counted in part
    steps: Array  # of 64 keys
    step: Array  # s
    memory: Array  # s for all bytes
    wave: Array  # s of latency per wave
    combine: Array  # s to write and read one part's partial outputs


def _cost(
    stream: Stream, splits: Array | float, combined: Any, sm_count: float, constants: DecodeConstants
) -> tuple[Array, Array]:
    """(seconds between the fixed parts, those of them that are latency) with the cache in so many parts."""
    waves = np.ceil(stream.copies * splits / sm_count)
    latency = waves * stream.wave
    parts = np.where(combined, constants.decode_split_latency + splits * stream.combine, 0.0)
    steps = np.maximum(stream.steps / splits, np.where(stream.steps < 1, stream.steps, np.ceil(stream.steps / splits)))
    busy, p = waves * steps * stream.step + latency, constants.decode_overlap_exponent
    return (busy**p + stream.memory**p) ** (1 / p) + parts, latency + parts


def _planned(stream: Stream, keys: Array, sms: float, constants: DecodeConstants) -> tuple[Array, Array]:
    """(seconds, those of them that are latency) as FlashAttention splits the cache.

    It makes as many parts as fill one wave, but none below a block of `planned_keys` keys. Up to 4 blocks the cache
    stays whole; from there on the kernel that combines parts always runs (`num_splits_heuristic` and
    `prepare_varlen_num_blocks` in its source).

    The plan itself rounds blocks to parts, so that a longer cache, or one sequence more, may run in fewer and longer
    parts and sooner be done. Which lengths that hits is chance; here parts are as long as they are on average, and a
    cache that stays whole costs no more than the shortest that is cut. One query more may open a block that halves the
    parts and with them what there is to combine; what is combined goes with the rows that are filled.
    """
    alone, waves = _cost(stream, 1.0, False, sms, constants)
    planned_keys, p = constants.planned_keys, constants.decode_overlap_exponent
    whole = keys <= UNSPLIT_BLOCKS * planned_keys
    long = np.where(whole, UNSPLIT_BLOCKS * planned_keys + 1, keys)
    room = np.maximum(sms / stream.copies, 1)  # for parts, in one wave
    parts = np.minimum(np.floor(room), long / planned_keys)
    latency = np.ceil(stream.copies / sms) * stream.wave
    combined = np.minimum(np.maximum(sms / stream.filled, 1), long / planned_keys)
    combining = constants.decode_split_latency + combined * stream.combine
    busy = np.ceil(stream.copies / sms) * long / STEP / parts * stream.step + latency
    cut = (busy**p + stream.memory**p) ** (1 / p) + combining
    alone_is_best = whole & (alone <= cut)
    return np.where(alone_is_best, alone, cut), np.where(alone_is_best, waves, latency + combining)


def _fastest(stream: Stream, sm_count: float, constants: DecodeConstants) -> tuple[Array, Array]:
    """`_cost` of the best number of parts; blocks that fill most multiprocessors stay unsplit."""
    best, waves = _cost(stream, 1.0, False, sm_count, constants)
    few = np.flatnonzero((stream.copies < FULL_ENOUGH * sm_count) & (stream.steps > 1))
    some = Stream(*(x[few] for x in stream))
    for splits in SPLITS:
        seconds, latency = _cost(some, splits, True, sm_count, constants)
        better = seconds < best[few]
        best[few] = np.where(better, seconds, best[few])
        waves[few] = np.where(better, latency, waves[few])
    return best, waves
