"""Fused attention of a prefill or a training step: every block of queries walks over the keys it may see."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simgpu.timing.attention_tiles import WIDTH, clocks_under_load, move, resident, score_clocks
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, in_chunks, smooth_maximum

SPLITS = (2, 3, 4, 6, 8, 12, 16, 24, 32)
"""Parts into which the keys of a block may be split where blocks are too few for the multiprocessors."""
SMALL_ROWS = 64
"""Rows of the smallest tile: one warp group."""
WIDTH_SHARE = 0.35
"""Share of a block's latency that grows with the width of a head: loading queries and first keys, storing output."""
CHUNK = 8192

BACKWARD_FLOPS = 2.5
"""FLOPs of backward over forward: five products of a tile instead of two (FlashAttention-2, section 3.1.2)."""


class Blocks(NamedTuple):
    """Blocks of queries and the tiles of keys they visit, per sequence and KV head."""

    rows: Array  # of queries in a block
    number: Array  # of blocks
    tiles: Array  # of keys, over all blocks
    spread: Array  # tiles that the longest block has more than the shortest, unrounded
    positions: Array  # tokens in a block (heads that share a KV head are packed together)
    before: Array  # keys before the first query
    keys: Array  # that there are
    limit: Array  # keys that a block sees at most
    outside: Array  # part of the keys before its window that a block walks over too
    step: Array  # keys of a tile
    full: Array  # blocks that see `limit` keys


def blocks(
    queries: Array, keys: Array, group: Array, window: Array, *, causal: bool, tile_rows: Array, tile_keys: float,
    outside_window: float,
) -> Blocks:  # fmt: skip
    """Count the tiles. A library that does not skip tiles outside a window pays `outside_window` of them."""
    per_head = queries * group
    rows = np.minimum(tile_rows, SMALL_ROWS * np.ceil(per_head / SMALL_ROWS))
    count, positions = np.ceil(per_head / rows), rows / group
    before = np.maximum(keys - queries, 0) if causal else keys
    windowed = (window > 0) & (window < keys)
    limit = np.where(windowed, np.minimum(keys, window + positions - 1), keys)
    outside, step = np.full_like(limit, outside_window), np.full_like(limit, tile_keys)
    tiles = _tiles(limit, before, keys, positions, count, step, outside)
    spread = np.maximum(limit - before - positions, 0) / tile_keys
    full = count - _ramp(limit, before, positions, count)
    return Blocks(rows, count, tiles, spread, positions, before, keys, limit, outside, step, full)


def _ramp(limit: Array, before: Array, positions: Array, count: Array) -> Array:
    """Blocks that see fewer keys than `limit`, as they come early: block i sees min(before + i positions, limit)."""
    return np.clip(np.floor((limit - before) / positions), 0, count)


def _tiles(
    limit: Array, before: Array, keys: Array, positions: Array, count: Array, step: Array, outside: Array
) -> Array:  # fmt: skip
    """Tiles of all blocks; a window that ends within a tile costs half of one more."""
    whole = _walk(keys, before, positions, count, step)
    cut = limit < keys
    if not cut.any():
        return whole
    tiles = np.minimum(_walk(limit, before, positions, count, step) + np.where(cut, count / 2, 0), whole)
    return np.asarray(tiles + outside * (whole - tiles))


def _walk(limit: Array, before: Array, positions: Array, count: Array, step: Array) -> Array:
    """Tiles of all blocks up to a `limit` of keys."""
    ramp = _ramp(limit, before, positions, count)
    seen = ramp * before + positions * ramp * (ramp + 1) / 2 + (count - ramp) * limit
    ragged = np.maximum(0, 1 - positions / step) / 2  # diagonal tiles that are only partly below the diagonal
    return np.asarray(np.maximum(seen / step + count * ragged, count))


def makespan(
    shape: Blocks, copies: Array, tile: Array, block: Array, splits: float, *, batch: Array, sm_count: float,
    tail: float, sorted_work: float, lone_block: float,
) -> Array:  # fmt: skip
    """Seconds until the last of `copies` x `shape` blocks is done; one costs its tiles x `tile` + `block` seconds.

        max(k c_{(k-1) SMs + 1} for k = 1, 2, 3, 4, F / SMs, N / SMs;
            W / SMs + max(0, tail (c_1 - c_N) - sorted_work W / (batch SMs)))

    c_j are the blocks' times in falling order: of the longest (k - 1) SMs + 1 blocks some multiprocessor gets k. F of
    the N blocks see a whole window, W is the sum of all. The second term is the end of the list: the last long block
    starts when the others are taken, and `tail` of what it is longer than the shortest sticks out; a library that sorts
    the blocks of a sequence by length (`sorted_work` 1) starts long ones first, so that only the last sequence's work
    is left to fill in. Keys before the first query make short blocks of a window longer, so that less sticks out; they
    never make the list shorter.
    A block alone on a multiprocessor runs at `lone_block` of the rate that several reach together.
    """
    total = copies * shape.number * splits
    work = copies * (shape.tiles * tile + shape.number * splits * block) / sm_count
    fullness = np.clip(total / sm_count - 1, 0, 1)
    spill = np.maximum(0, tail * (shape.spread / splits * tile + block) - sorted_work * work / batch)
    result = work + spill * fullness
    several: list[Any] = [1, 2, 3, 4, np.ceil(total / sm_count)]
    if (shape.limit < shape.keys).any():
        several.append(np.maximum(np.ceil(copies * shape.full * splits / sm_count), 1))
        ends: dict[str, Any] = {"batch": batch, "sm_count": sm_count, "tail": tail, "sorted_work": sorted_work}
        result = np.maximum(result, _behind_a_cache(shape, copies, tile, block, splits, fullness, work, **ends))
    for k in several:
        index = np.floor((k - 1) * sm_count / (copies * splits))
        before = np.minimum(shape.before + np.maximum(shape.number - index, 0) * shape.positions, shape.keys)
        keys = np.minimum(shape.limit, before)
        keys = keys + shape.outside * (before - keys)
        tiles = np.maximum(np.ceil(keys / shape.step / splits), 1)
        alone = (k % 2) * (1 / lone_block - 1)
        least = (k + alone) * tiles * tile + k * block
        result = np.maximum(result, np.where((k - 1) * sm_count < total, least, 0))
    return np.asarray(result)


def _behind_a_cache(
    shape: Blocks, copies: Array, tile: Array, block: Array, splits: float, fullness: Array, work: Array, *,
    batch: Array, sm_count: float, tail: float, sorted_work: float,
) -> Array:  # fmt: skip
    """The second term of `makespan` with as many keys before the first query, up to those that there are, as make it
    longest: more of them add work to as many blocks as are shorter than the window, until so few of these are left that
    what no longer sticks out outweighs it."""
    filled = np.maximum(1 - fullness * sorted_work / batch, 1e-9)  # of a tile more, what the list gets longer
    fewest = np.ceil(fullness * tail * sm_count / (filled * copies * splits))
    before = np.clip(shape.limit - fewest * shape.positions, 0, shape.before)
    keys = shape.keys - shape.before + before
    tiles = _tiles(shape.limit, before, keys, shape.positions, shape.number, shape.step, shape.outside)
    work = work + copies * (tiles - shape.tiles) * tile / sm_count
    spread = np.maximum(shape.limit - before - shape.positions, 0) / shape.step
    spill = np.maximum(0, tail * (spread / splits * tile + block) - sorted_work * work / batch)
    return np.asarray(work + spill * fullness)


@in_chunks(CHUNK, "batch", "queries", "keys", "heads", "kv_heads", "head_dim", "v_head_dim", "window")
def prefill_time(
    batch: ArrayLike,
    queries: ArrayLike,
    keys: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    v_head_dim: ArrayLike,
    window: ArrayLike = 0.0,
    *,
    causal: bool,
    input_bytes: float,
    kv_bytes: float,
    backward: bool = False,
    warm: bool = True,
    sustained: bool = False,
    peak: float,
    sm_count: float,
    clock: float,
    bandwidth: float,
    l2_bytes: float,
    compute_fraction: float,
    narrow_fraction: float,
    wide_fraction: float,
    backward_fraction: float,
    softmax_clocks: float,
    memory_fraction: float,
    clock_fraction: float,
    throttle: float,
    throttle_time: float,
    clock_exponent: float,
    resident_fraction: float,
    resident_bytes_per_clock: float,
    tile_rows: float,
    wide_tile_rows: float,
    tile_keys: float,
    packed: float,
    block_latency: float,
    largest_split: float,
    split_latency: float,
    tail: float,
    sorted_work: float,
    lone_block: float,
    outside_window: float,
    overlap_exponent: float,
    overhead: float,
    cast_overhead: float,
    uneven_overhead: float,
    **_: float,
) -> KernelTimes:
    """Seconds of fused attention of `queries` new tokens per sequence over `keys` (new and cached ones).

        tile   = rows tile_keys score_clocks / f        f: clock under load (`attention_tiles`)
        span   = min over splits of the keys of `makespan` of all blocks
        memory = (Q, O, K and V once) / memory bandwidth, from L2 what it holds
        time   = overheads + (span^p + memory^p)^(1/p) + append,   p = `overlap_exponent`

    Heads that share a KV head are `packed` into one block's rows (FlashAttention 3, FlashInfer) or not. `append`
    writes the new keys and values to the cache, and converts them where the cache is narrower than they are.

    Parameters
    ----------
    batch, queries, keys, heads, kv_heads, head_dim, v_head_dim, window : array_like, broadcast against each other;
        window 0 sees all keys; causal queries are the last of the keys (chunked prefill: keys > queries)
    input_bytes, kv_bytes : bytes per element of queries in the products, and of the cache
    backward : the backward pass of training instead: 2.5 times the FLOPs at `backward_fraction` of the forward rate,
        twice the bytes, no cache
    warm : operands that fit L2 are found there, as they are right after the kernel that wrote them
    sustained : a long run of such kernels, throttled in full; else throttling sets in over `throttle_time`
    peak, bandwidth : FLOP/s (dense, of the input type) and B/s of the datasheet
    the rest : see `simgpu.hardware.constants.AttentionConstants`, times in s
    """
    b, q, k, h, kv, d, dv, w = (
        np.asarray(x, float) for x in (batch, queries, keys, heads, kv_heads, head_dim, v_head_dim, window)
    )
    group = h / kv if packed else np.ones_like(h)
    copies = b * h / group
    burst, slowdown = clocks_under_load(clock_fraction, throttle, clock_exponent)
    rows = np.where(d > 128, wide_tile_rows, tile_rows)
    shape = blocks(q, k, group, w, causal=causal, tile_rows=rows, tile_keys=tile_keys, outside_window=outside_window)
    clocks = score_clocks(
        d, dv, input_bytes=input_bytes, peak_per_clock=peak / sm_count / clock, softmax_clocks=softmax_clocks,
        compute_fraction=compute_fraction, narrow_fraction=narrow_fraction, wide_fraction=wide_fraction,
    )  # fmt: skip
    tile = shape.rows * tile_keys * clocks / (clock * burst)
    if backward:
        tile = tile * (BACKWARD_FLOPS / backward_fraction)
    block = block_latency * (1 - WIDTH_SHARE + WIDTH_SHARE * (d + dv) / WIDTH)
    l2 = resident_bytes_per_clock * sm_count * clock
    span = _fastest(
        shape, copies, tile, block, split_latency, 8 * b * q * h * dv / l2,
        most=largest_split, batch=b, sm_count=sm_count, tail=tail, sorted_work=sorted_work, lone_block=lone_block,
    )  # fmt: skip
    span = span * (1 + slowdown * (1.0 if sustained else span / (span + throttle_time)))
    memory, append = _memory(
        b, q, k, h, kv, d, dv, kv_bytes=kv_bytes, input_bytes=input_bytes, backward=backward,
        dram=memory_fraction * bandwidth, l2=l2, l2_bytes=l2_bytes * warm, resident_fraction=resident_fraction,
    )  # fmt: skip
    fixed = overhead + (kv_bytes < input_bytes) * cast_overhead + np.where(d != dv, uneven_overhead, 0)
    seconds = fixed + smooth_maximum((span, memory), overlap_exponent) + append
    compute = copies * shape.tiles * tile / sm_count
    return KernelTimes(seconds, compute, memory + append, fixed + span - np.minimum(compute, span))


def _fastest(
    shape: Blocks, copies: Array, tile: Array, block: Array, split_latency: float, combine: Array, *,
    most: float, sm_count: float, **figures: Array | float,
) -> Array:  # fmt: skip
    """`makespan` without splitting the keys, or with the best split where blocks leave multiprocessors idle."""
    best = makespan(shape, copies, tile, block, 1, sm_count=sm_count, **figures)  # type: ignore[arg-type]
    for splits in SPLITS:
        few = np.flatnonzero(copies * shape.number * splits <= sm_count)
        if splits > most or not few.size:
            break
        part = Blocks(*(x[few] for x in shape))
        some = {name: np.asarray(value)[few] if np.ndim(value) else value for name, value in figures.items()}
        span = makespan(part, copies[few], tile[few], block[few], splits, sm_count=sm_count, **some)  # type: ignore[arg-type]
        best[few] = np.minimum(best[few], span + split_latency + splits * combine[few])
    return best


def _memory(
    b: Array, q: Array, k: Array, h: Array, kv: Array, d: Array, dv: Array, *, kv_bytes: float, input_bytes: float,
    backward: bool, dram: float, l2: float, l2_bytes: float, resident_fraction: float,
) -> tuple[Array, Array]:  # fmt: skip
    """Seconds to move (queries and output, keys and values; the new keys and values into the cache)."""
    queries, fresh = 2 * b * q * h * (d + dv), b * q * kv * (d + dv)
    cache = b * k * kv * (d + dv) * kv_bytes
    hit = resident(queries + 2 * fresh + cache, l2_bytes, resident_fraction)
    just_written = resident(cache, l2_bytes, resident_fraction)
    memory = move(queries, hit, dram, l2) + move(cache, just_written, dram, l2)
    if backward:
        return 2 * memory, np.zeros_like(memory)
    # a narrow cache costs a kernel that converts and one that copies; heads of two widths are padded and cut again
    moved = fresh * (2 + 3 * kv_bytes if kv_bytes < input_bytes else 2 * kv_bytes)
    uneven = np.where(d != dv, 2 * b * q * (h * dv + kv * (d + dv)), 0)
    return memory, move(moved + uneven, hit, dram, l2)
