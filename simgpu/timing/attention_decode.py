"""Fused attention of a decode step: few queries per sequence against a long cache (flash-decoding)."""

from __future__ import annotations

from typing import Any

import numpy as np

from simgpu.timing.attention_tiles import FULL_ENOUGH, WIDTH, clocks_under_load, move, resident, score_clocks
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, in_chunks

SPLITS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 96, 128)
"""Parts of a sequence's cache that blocks of their own work on."""
STEP = 64.0
"""Keys that a block reads at a time."""
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
    memory_fraction: float,
    clock_fraction: float,
    throttle: float,
    clock_exponent: float,
    resident_fraction: float,
    resident_bytes_per_clock: float,
    block_bytes_per_clock: float,
    decode_tile_rows: float,
    decode_slowdown: float,
    small_group: float,
    small_group_fraction: float,
    wave_latency: float,
    narrow_wave: float,
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

        step   = max(64 row / (block_bytes_per_clock clock), decode_slowdown rows 64 score_clocks / clock)
        W      = ceil(batch kv_heads ceil(queries heads / kv_heads / rows) s / SMs)            waves
        stream = W ceil(keys / 64 / s) step
        memory = (cache + Q + O) / memory bandwidth, from L2 what it holds
        time   = overheads + append
               + min over s of (stream^p + memory^p)^(1/p) + W wave_latency + [s > 1] (split latency + combining)

    with row = the bytes of a key and its value in one KV head and rows = `decode_tile_rows`: tensor cores multiply
    whole tiles of rows however few queries there are, which is what limits a block, more than its loads do.

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
    copies = b * kv * np.ceil(q * group / decode_tile_rows)
    burst, _slowdown = clocks_under_load(clock_fraction, throttle, clock_exponent)
    f = clock * burst
    clocks = score_clocks(
        d, dv, input_bytes=input_bytes, peak_per_clock=peak / sm_count / clock, softmax_clocks=softmax_clocks,
        compute_fraction=compute_fraction, narrow_fraction=narrow_fraction, wide_fraction=wide_fraction,
    )  # fmt: skip
    share = np.where(small, small_group_fraction, 1.0)
    multiply = decode_tile_rows * STEP * clocks * decode_slowdown * share / f
    step = np.maximum(STEP * row / (block_bytes_per_clock * f), multiply)
    wave = wave_latency * share * (narrow_wave if narrow else 1.0)
    wave = wave * (1 - WIDTH_SHARE + WIDTH_SHARE * (d + dv) / WIDTH)
    l2 = resident_bytes_per_clock * sm_count * clock
    moved = b * k * kv * row + 2 * b * q * h * (d + dv)
    hit = resident(moved, l2_bytes * warm, resident_fraction)
    memory = move(moved, hit, memory_fraction * bandwidth, l2)
    busy, waves = _fastest(
        copies, np.ceil(k / STEP), step, memory, wave, decode_split_latency, 8 * b * q * h * dv / l2,
        sm_count=sm_count, p=decode_overlap_exponent,
    )  # fmt: skip
    append = b * q * kv * row / kv_bytes * (2 + 3 * kv_bytes if narrow else 2 * kv_bytes)
    append = append / (memory_fraction * bandwidth)
    fixed = decode_overhead + narrow * decode_cast_overhead + np.where(d != dv, uneven_overhead, 0) * (stored == 0)
    fixed = fixed + decode_wide_overhead * np.clip((d - 128) / 128, 0, 1)
    compute = copies * np.ceil(k / STEP) * multiply / sm_count
    seconds = fixed + busy + append
    return KernelTimes(seconds, compute, memory + append, fixed + waves)


def _fastest(
    copies: Array, steps: Array, step: Array, memory: Array, wave: Array, split_latency: float, combine: Array, *,
    sm_count: float, p: float,
) -> tuple[Array, Array]:  # fmt: skip
    """(seconds between the fixed parts, those of them that are latency of waves) of the best number of splits.

    Where unsplit blocks fill most multiprocessors they stay unsplit, as in FlashAttention's heuristic.
    """

    def cost(which: Any, splits: int) -> tuple[Array, Array]:
        waves = np.ceil(copies[which] * splits / sm_count)
        stream = waves * np.ceil(steps[which] / splits) * step[which]
        latency = waves * wave[which] + (split_latency + splits * combine[which] if splits > 1 else 0.0)
        return (stream**p + memory[which] ** p) ** (1 / p) + latency, latency

    best, waves = cost(slice(None), 1)
    few = np.flatnonzero((copies < FULL_ENOUGH * sm_count) & (steps > 1))
    for splits in SPLITS[1:]:
        seconds, latency = cost(few, splits)
        better = seconds < best[few]
        best[few] = np.where(better, seconds, best[few])
        waves[few] = np.where(better, latency, waves[few])
    return best, waves
