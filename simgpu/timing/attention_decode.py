"""Fused attention of a decode step: few queries per sequence against a long cache (flash-decoding)."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simgpu.timing.attention_tiles import FULL_ENOUGH, WIDTH, clocks_under_load, move, resident, score_clocks
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, in_chunks

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


@in_chunks(CHUNK, "batch", "keys", "heads", "kv_heads", "head_dim", "v_head_dim", "queries", "window", "cache_width")
def decode_time(
    batch: ArrayLike,
    keys: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    v_head_dim: ArrayLike,
    queries: ArrayLike = 1.0,
    window: ArrayLike = 0.0,
    cache_width: ArrayLike = 0.0,
    *,
    input_bytes: float,
    kv_bytes: float,
    warm: bool = True,
    peak: float,
    sm_count: float,
    clock: float,
    bandwidth: float,
    l2_bytes: float,
    compute_fraction: float,
    narrow_fraction: float,
    wide_fraction: float,
    softmax_clocks: float,
    decode_memory_fraction: float,
    clock_fraction: float,
    throttle: float,
    clock_exponent: float,
    resident_fraction: float,
    resident_bytes_per_clock: float,
    block_bytes_per_clock: float,
    decode_tile_rows: float,
    decode_largest_rows: float,
    decode_slowdown: float,
    small_group: float,
    small_group_fraction: float,
    wave_latency: float,
    narrow_slowdown: float,
    planned_keys: float,
    decode_split_latency: float,
    decode_overlap_exponent: float,
    decode_overhead: float,
    decode_cast_overhead: float,
    decode_wide_overhead: float,
    uneven_overhead: float,
    **_: float,
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
    batch, keys, heads, kv_heads, head_dim, v_head_dim, queries, window : array_like, broadcast against each other;
        keys counts the new tokens; window 0 sees all keys
    cache_width : elements stored per token and KV head; 0: head_dim + v_head_dim (latent attention stores keys only)
    input_bytes, kv_bytes : bytes per element in the products, and of the cache
    warm : a cache that fits L2 is read from there, as in a benchmark that repeats one layer; in a model whose layers
        take turns it is not
    the rest : see `simgpu.hardware.constants.AttentionConstants`, times in s
    """
    b, k, h, kv, d, dv, q, w, stored = (
        np.asarray(x, float) for x in (batch, keys, heads, kv_heads, head_dim, v_head_dim, queries, window, cache_width)
    )
    k = np.where(w > 0, np.minimum(k, w + q - 1), k)
    group = h / kv
    row = np.where(stored > 0, stored, d + dv) * kv_bytes
    narrow = kv_bytes < 2
    small = (group < small_group) & (not narrow)
    packed = q * group
    larger = np.where(packed <= WARP_GROUP, WARP_GROUP, 2 * WARP_GROUP)
    rows = np.where(packed <= decode_tile_rows, decode_tile_rows, np.minimum(larger, decode_largest_rows))
    filled = b * kv * np.maximum(packed / rows, 1)
    copies = b * kv * np.ceil(packed / rows)
    burst, _slowdown = clocks_under_load(clock_fraction, throttle, clock_exponent)
    f = clock * burst
    clocks = score_clocks(
        d, dv, input_bytes=input_bytes, peak_per_clock=peak / sm_count / clock, softmax_clocks=softmax_clocks,
        compute_fraction=compute_fraction, narrow_fraction=narrow_fraction, wide_fraction=wide_fraction,
    )  # fmt: skip
    slower = narrow_slowdown if narrow else 1.0
    worked = np.maximum(decode_tile_rows * decode_slowdown, rows * min(decode_slowdown, 1.0))
    multiply = worked * STEP * clocks * slower / f
    step = np.maximum(STEP * row / (block_bytes_per_clock * f), multiply)
    wave = wave_latency * np.where(small, small_group_fraction, slower)
    wave = wave * (1 - WIDTH_SHARE + WIDTH_SHARE * (d + dv) / WIDTH)
    l2 = resident_bytes_per_clock * sm_count * clock
    moved = b * k * kv * row + 2 * b * q * h * (d + dv)
    hit = resident(moved, l2_bytes * warm, resident_fraction)
    memory = move(moved, hit, decode_memory_fraction * bandwidth, l2)
    steps = np.where(small, k / STEP, np.ceil(k / STEP))  # without tensor cores there are no tiles to fill
    stream = Stream(copies, filled, steps, step, memory, wave, 8 * b * q * h * dv / l2)
    figures = {"sm_count": sm_count, "p": decode_overlap_exponent, "split_latency": decode_split_latency}
    if planned_keys:
        busy, waves = _planned(stream, k, planned_keys, **figures)
    else:
        busy, waves = _fastest(stream, **figures)
    append = b * q * kv * row / kv_bytes * (2 + 3 * kv_bytes if narrow else 2 * kv_bytes)
    append = append / (decode_memory_fraction * bandwidth)
    fixed = decode_overhead + narrow * decode_cast_overhead + np.where(d != dv, uneven_overhead, 0) * (stored == 0)
    fixed = fixed + decode_wide_overhead * np.clip((d - 128) / 128, 0, 1)
    compute = copies * np.ceil(k / STEP) * multiply / sm_count
    seconds = fixed + busy + append
    return KernelTimes(seconds, compute, memory + append, fixed + waves)


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
    stream: Stream, splits: Array | float, combined: Any, *, sm_count: float, p: float, split_latency: float
) -> tuple[Array, Array]:
    """(seconds between the fixed parts, those of them that are latency) with the cache in so many parts."""
    waves = np.ceil(stream.copies * splits / sm_count)
    latency = waves * stream.wave
    parts = np.where(combined, split_latency + splits * stream.combine, 0.0)
    steps = np.maximum(stream.steps / splits, np.where(stream.steps < 1, stream.steps, np.ceil(stream.steps / splits)))
    busy = waves * steps * stream.step + latency
    return (busy**p + stream.memory**p) ** (1 / p) + parts, latency + parts


def _planned(stream: Stream, keys: Array, planned_keys: float, **figures: float) -> tuple[Array, Array]:
    """(seconds, those of them that are latency) as FlashAttention plans it: as many parts as fill one wave, but no part
    below a block of `planned_keys` keys. Up to 4 blocks the cache stays whole; from there on the kernel that combines
    parts always runs (`num_splits_heuristic` and `prepare_varlen_num_blocks` in its source).

    The plan itself rounds blocks to parts, so that a longer cache, or one sequence more, may run in fewer and longer
    parts and sooner be done. Which lengths that hits is chance; here parts are as long as they are on average, and a
    cache that stays whole costs no more than the shortest that is cut. One query more may open a block that halves the
    parts and with them what there is to combine; what is combined goes with the rows that are filled.
    """
    alone, waves = _cost(stream, 1.0, False, **figures)
    whole = keys <= UNSPLIT_BLOCKS * planned_keys
    long = np.where(whole, UNSPLIT_BLOCKS * planned_keys + 1, keys)
    sms, p = figures["sm_count"], figures["p"]
    room = np.maximum(sms / stream.copies, 1)  # for parts, in one wave
    parts = np.minimum(np.floor(room), long / planned_keys)
    latency = np.ceil(stream.copies / sms) * stream.wave
    combined = np.minimum(np.maximum(sms / stream.filled, 1), long / planned_keys)
    combining = figures["split_latency"] + combined * stream.combine
    busy = np.ceil(stream.copies / sms) * long / STEP / parts * stream.step + latency
    cut = (busy**p + stream.memory**p) ** (1 / p) + combining
    alone_is_best = whole & (alone <= cut)
    return np.where(alone_is_best, alone, cut), np.where(alone_is_best, waves, latency + combining)


def _fastest(stream: Stream, **figures: float) -> tuple[Array, Array]:
    """`_cost` of the best number of parts; blocks that fill most multiprocessors stay unsplit."""
    best, waves = _cost(stream, 1.0, False, **figures)
    few = np.flatnonzero((stream.copies < FULL_ENOUGH * figures["sm_count"]) & (stream.steps > 1))
    some = Stream(*(x[few] for x in stream))
    for splits in SPLITS:
        seconds, latency = _cost(some, splits, True, **figures)
        better = seconds < best[few]
        best[few] = np.where(better, seconds, best[few])
        waves[few] = np.where(better, latency, waves[few])
    return best, waves
