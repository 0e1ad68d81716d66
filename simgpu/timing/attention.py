"""Fused attention of a prefill or a training step: every block of queries walks over the keys it may see."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from simgpu.timing.attention_tiles import WIDTH, AttentionOperands, clocks_under_load, move, resident, score_clocks
from simgpu.timing.attention_work import AttentionWork
from simgpu.timing.constants import PrefillConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array, KernelTimes, in_chunks, smooth_maximum
from simgpu.timing.power import TensorClock

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


def blocks(work: AttentionWork, group: Array, causal: bool, constants: PrefillConstants) -> Blocks:
    """Blocks and tiles of attention, where `group` heads share a block.

    A library that does not skip tiles outside a window pays for the fraction `outside_window` of them.
    """
    queries, keys, window = (np.asarray(x, float) for x in (work.queries, work.keys, work.window))
    per_head = queries * group
    tile_rows = np.where(np.asarray(work.head_dim) > 128, constants.wide_tile_rows, constants.tile_rows)
    rows = np.minimum(tile_rows, SMALL_ROWS * np.ceil(per_head / SMALL_ROWS))
    count, positions = np.ceil(per_head / rows), rows / group
    before = np.maximum(keys - queries, 0) if causal else keys
    windowed = (window > 0) & (window < keys)
    limit = np.where(windowed, np.minimum(keys, window + positions - 1), keys)
    outside, step = np.full_like(limit, constants.outside_window), np.full_like(limit, constants.tile_keys)
    tiles = _tiles(limit, before, keys, positions, count, step, outside)
    spread = np.maximum(limit - before - positions, 0) / constants.tile_keys
    full = count - _ramp(limit, before, positions, count)
    return Blocks(rows, count, tiles, spread, positions, before, keys, limit, outside, step, full)


def _ramp(limit: Array, before: Array, positions: Array, count: Array) -> Array:
    """Blocks that see fewer keys than `limit`, as they come early: block i sees min(before + i positions, limit)."""
    return np.clip(np.floor((limit - before) / positions), 0, count)


def _tiles(
    limit: Array, before: Array, keys: Array, positions: Array, count: Array, step: Array, outside: Array
) -> Array:
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


class BlockCost(NamedTuple):
    """How many blocks there are, and what one costs; 1-d arrays over shapes."""

    batch: Array  # sequences
    copies: Array  # of the blocks of one sequence and KV head
    tile: Array  # s for a tile of keys
    block: Array  # s to start and finish a block
    combine: Array  # s to write and read the partial outputs of one part of the keys


def makespan(shape: Blocks, cost: BlockCost, splits: float, sm_count: float, constants: PrefillConstants) -> Array:
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
    batch, copies, tile, block, _ = cost
    total = copies * shape.number * splits
    work = copies * (shape.tiles * tile + shape.number * splits * block) / sm_count
    fullness = np.clip(total / sm_count - 1, 0, 1)
    longer = constants.tail * (shape.spread / splits * tile + block)
    spill = np.maximum(0, longer - constants.sorted_work * work / batch)
    result = work + spill * fullness
    several: list[Any] = [1, 2, 3, 4, np.ceil(total / sm_count)]
    if (shape.limit < shape.keys).any():
        several.append(np.maximum(np.ceil(copies * shape.full * splits / sm_count), 1))
        result = np.maximum(result, _behind_a_cache(shape, cost, splits, fullness, work, sm_count, constants))
    for k in several:
        index = np.floor((k - 1) * sm_count / (copies * splits))
        before = np.minimum(shape.before + np.maximum(shape.number - index, 0) * shape.positions, shape.keys)
        keys = np.minimum(shape.limit, before)
        keys = keys + shape.outside * (before - keys)
        tiles = np.maximum(np.ceil(keys / shape.step / splits), 1)
        alone = (k % 2) * (1 / constants.lone_block - 1)
        least = (k + alone) * tiles * tile + k * block
        result = np.maximum(result, np.where((k - 1) * sm_count < total, least, 0))
    return np.asarray(result)


def _behind_a_cache(
    shape: Blocks,
    cost: BlockCost,
    splits: float,
    fullness: Array,
    work: Array,
    sm_count: float,
    constants: PrefillConstants,
) -> Array:
    """The largest second term of `makespan` over all numbers of keys before the first query, up to the actual one.

    More keys add work to all blocks that are shorter than the window, until so few of these are left that the last
    blocks end together with the others: that saves more than the added work costs.
    """
    batch, copies, tile, block, _ = cost
    filled = np.maximum(1 - fullness * constants.sorted_work / batch, 1e-9)  # of a tile more, what the list gets longer
    fewest = np.ceil(fullness * constants.tail * sm_count / (filled * copies * splits))
    before = np.clip(shape.limit - fewest * shape.positions, 0, shape.before)
    keys = shape.keys - shape.before + before
    tiles = _tiles(shape.limit, before, keys, shape.positions, shape.number, shape.step, shape.outside)
    work = work + copies * (tiles - shape.tiles) * tile / sm_count
    spread = np.maximum(shape.limit - before - shape.positions, 0) / shape.step
    longer = constants.tail * (spread / splits * tile + block)
    spill = np.maximum(0, longer - constants.sorted_work * work / batch)
    return np.asarray(work + spill * fullness)


def prefill_time(
    work: AttentionWork,
    operands: AttentionOperands,
    device: Device,
    constants: PrefillConstants,
    clock: TensorClock,
    *,
    causal: bool = True,
    backward: bool = False,
    warm: bool = True,
    sustained: bool = False,
) -> KernelTimes:
    """Seconds of fused attention of new tokens over keys (new and cached ones).

        tile   = rows tile_keys score_clocks / f        f: clock under load (`attention_tiles`)
        span   = min over splits of the keys of `makespan` of all blocks
        memory = (Q, O, K and V once) / memory bandwidth, from L2 what it holds
        time   = overheads + (span^p + memory^p)^(1/p) + append,   p = `overlap_exponent`

    Heads that share a KV head are `packed` into one block's rows (FlashAttention 3, FlashInfer) or not. `append`
    writes the new keys and values to the cache, and converts them where the cache is narrower than they are.

    Parameters
    ----------
    work : shapes, every width given (`AttentionWork.checked`)
    operands : bytes of an element and the peak for its type, FLOP/s
    device : datasheet of the GPU: clock in Hz, bandwidth in B/s, L2 in B
    constants : of the library, see `simgpu.hardware.constants.AttentionFigures`; times in s
    clock : of large matrix products, which attention's follows from
    causal : a query sees the keys up to its own
    backward : the backward pass of training instead: 2.5 times the FLOPs at `backward_fraction` of the forward rate,
        twice the bytes, no cache
    warm : operands that fit L2 are found there, as they are right after the kernel that wrote them
    sustained : a long run of such kernels, throttled in full; else throttling sets in over `throttle_time`

    Notes
    -----
    Blocks and tiles: T. Dao, "FlashAttention-2", arXiv:2307.08691; J. Shah et al., "FlashAttention-3",
    arXiv:2407.08608; Z. Ye et al., "FlashInfer", arXiv:2501.01005. List scheduling of blocks: R. Graham, "Bounds on
    Multiprocessing Timing Anomalies", 1969.
    """

    def times(piece: AttentionWork) -> KernelTimes:
        return _prefill_time(piece, operands, device, constants, clock, causal, backward, warm, sustained)

    return in_chunks(CHUNK, work, times)


def _prefill_time(
    work: AttentionWork,
    operands: AttentionOperands,
    device: Device,
    constants: PrefillConstants,
    clock: TensorClock,
    causal: bool,
    backward: bool,
    warm: bool,
    sustained: bool,
) -> KernelTimes:
    """`prefill_time` of 1-d arrays."""
    b, q, h, d, dv = (np.asarray(x) for x in (work.batch, work.queries, work.heads, work.head_dim, work.v_head_dim))
    group = h / work.kv_heads if constants.packed else np.ones_like(h)
    copies = b * h / group
    burst, slowdown = clocks_under_load(clock, constants.clock_exponent)
    shape = blocks(work, group, causal, constants)
    clocks = score_clocks(d, dv, operands, device, constants)
    tile = shape.rows * constants.tile_keys * clocks / (device.clock * burst)
    if backward:
        tile = tile * (BACKWARD_FLOPS / constants.backward_fraction)
    block = constants.block_latency * (1 - WIDTH_SHARE + WIDTH_SHARE * (d + dv) / WIDTH)
    l2 = constants.resident_bytes_per_clock * device.sm_count * device.clock
    cost = BlockCost(b, copies, tile, block, 8 * b * q * h * dv / l2)
    span = _fastest(shape, cost, device.sm_count, constants)
    span = span * (1 + slowdown * (1.0 if sustained else span / (span + clock.throttle_time)))
    memory, append = _memory(work, operands, device, constants, backward, warm)
    launches = constants.overhead + operands.narrow_cache * constants.cast_overhead
    fixed = launches + np.where(d != dv, constants.uneven_overhead, 0)
    seconds = fixed + smooth_maximum((span, memory), constants.overlap_exponent) + append
    compute = copies * shape.tiles * tile / device.sm_count
    return KernelTimes(seconds, compute, memory + append, fixed + span - np.minimum(compute, span))


def _fastest(shape: Blocks, cost: BlockCost, sm_count: float, constants: PrefillConstants) -> Array:
    """`makespan` without splitting the keys, or with the best split where blocks leave multiprocessors idle."""
    best = makespan(shape, cost, 1, sm_count, constants)
    for splits in SPLITS:
        few = np.flatnonzero(cost.copies * shape.number * splits <= sm_count)
        if splits > constants.largest_split or not few.size:
            break
        part, some = Blocks(*(x[few] for x in shape)), BlockCost(*(x[few] for x in cost))
        span = makespan(part, some, splits, sm_count, constants)
        best[few] = np.minimum(best[few], span + constants.split_latency + splits * some.combine)
    return best


def _memory(
    work: AttentionWork,
    operands: AttentionOperands,
    device: Device,
    constants: PrefillConstants,
    backward: bool,
    warm: bool,
) -> tuple[Array, Array]:
    """Seconds to move (queries and output, keys and values; the new keys and values into the cache)."""
    b, q, k, h, kv, d, dv = (np.asarray(x) for x in work[:7])
    dram, kv_bytes = constants.memory_fraction * device.bandwidth, operands.kv_bytes
    l2 = constants.resident_bytes_per_clock * device.sm_count * device.clock
    l2_bytes = device.l2_bytes * warm
    queries, fresh = 2 * b * q * h * (d + dv), b * q * kv * (d + dv)
    cache = b * k * kv * (d + dv) * kv_bytes
    hit = resident(queries + 2 * fresh + cache, l2_bytes, constants.resident_fraction)
    just_written = resident(cache, l2_bytes, constants.resident_fraction)
    memory = move(queries, hit, dram, l2) + move(cache, just_written, dram, l2)
    if backward:
        return 2 * memory, np.zeros_like(memory)
    # a narrow cache costs a kernel that converts and one that copies; heads of two widths are padded and cut again
    moved = fresh * (2 + 3 * kv_bytes if operands.narrow_cache else 2 * kv_bytes)
    uneven = np.where(d != dv, 2 * b * q * (h * dv + kv * (d + dv)), 0)
    return memory, move(moved + uneven, hit, dram, l2)
