"""Matrix multiplication: tiles over the multiprocessors, fed from L2, against DRAM traffic and latency."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.memo import remembered
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, in_chunks

TILES_M = (16, 32, 64, 128, 256)
TILES_N = (32, 64, 128, 256)
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32)
K_STEP = 128
"""Bytes of a row of A that a tile works through at a time: a line of shared memory."""
K_GRAIN = 64
"""Bytes to which k is padded: whole instructions."""
CHUNK = 256
"""Shapes priced at a time, so that the table of tiles stays in the processor's cache."""


@remembered(128)
def tiles(smallest_columns: float, largest_tile: float, largest_split: float) -> tuple[Array, Array, Array]:
    """(TM, TN, s) of every candidate, three arrays of one length."""
    columns, splits = [b for b in TILES_N if b >= smallest_columns], [s for s in SPLITS if s <= largest_split]
    found = [(a, b, s) for a in TILES_M for b in columns for s in splits if a * b <= largest_tile]
    tm, tn, split = np.asarray(found, dtype=float).T
    return tm, tn, split


def memory_time(
    moved: Array, working_set: Array, clock: Array | float, *, sm_count: float, bandwidth: float, l2_bytes: float,
    memory_fraction: float, resident_fraction: float, resident_bytes_per_clock: float,
) -> Array:  # fmt: skip
    """Seconds to move `moved` bytes: from L2 where `working_set` bytes fit it, else from DRAM.

    The change between the two is steep, as measured: half of it within 6 % of the capacity.
    """
    dram = memory_fraction * bandwidth
    l2 = np.maximum(resident_bytes_per_clock * clock * sm_count, dram)
    with np.errstate(over="ignore"):
        resident = 1 / (1 + (working_set / (resident_fraction * l2_bytes)) ** 12)
    return moved * ((1 - resident) / dram + resident / l2)


@in_chunks(CHUNK, "m", "n", "k", "batch")
def gemm_time(
    m: ArrayLike,
    n: ArrayLike,
    k: ArrayLike,
    *,
    batch: ArrayLike = 1.0,
    input_bytes: float,
    output_bytes: float,
    weight_bytes: float | None = None,
    rotation: float = np.inf,
    sustained: bool = False,
    peak: float,
    sm_count: float,
    clock: float,
    bandwidth: float,
    l2_bytes: float,
    compute_fraction: float,
    memory_fraction: float,
    launch_overhead: float,
    clock_fraction: float,
    throttle: float,
    throttle_time: float,
    l2_bytes_per_clock: float,
    k_step_clocks: float,
    wave_latency: float,
    split_latency: float,
    resident_fraction: float,
    resident_bytes_per_clock: float,
    sustained_throttle: float = np.inf,
    tile_latency: float = 0,
    rows_covered: float = 0,
    smallest_columns: float = 32,
    largest_tile: float = 256 * 128,
    largest_split: float = 32,
    **_: float,
) -> KernelTimes:
    """Seconds of C[m, n] = A[m, k] B[k, n], `batch` times in one kernel, for arrays of shapes.

    A library picks the fastest tile (TM, TN) and split s of k for a shape; so does this model:

        f    = clock clock_fraction / (1 + throttle T / (T + throttle_time)),   T = 2 m n k batch / peak
        step = max(2 TM TN c / (compute_fraction peak f / clock / SMs),         multiply
                   (min(TM, m) + min(TN, n)) c e / (l2_bytes_per_clock f),      feed from L2
                   k_step_clocks / f)                                           dependent instructions
        tile = ceil(k / s / c) step + 3 min(TM, m) min(TN, n) o / 2 / (l2_bytes_per_clock f)
        W    = ceil(ceil(m / TM) ceil(n / TN) s batch / SMs)                    waves
        t    = ((W tile)^3 + memory^3)^(1/3) + W wave_latency + tile_latency TM TN / 128^2
               + [s > 1] (split_latency + 4 s m n batch / (SMs l2_bytes_per_clock f))
        time = launch_overhead + min over (TM, TN, s) of t

    with e input and o output bytes per element and c = 128 / e elements of k in a step. `memory` is DRAM traffic
    (A, B and C once) at `memory_fraction` of the bandwidth; where everything used between two uses of the operands
    fits `resident_fraction` of L2, it is `resident_bytes_per_clock` per multiprocessor if that is faster.

    Parameters
    ----------
    m, n, k, batch : array_like of whole numbers, broadcast against each other
    input_bytes, output_bytes : bytes per element of A (and of B, unless `weight_bytes` is given) and of C
    weight_bytes : bytes per element of B as stored, for weights of fewer bits than they are multiplied in
    rotation : how many such multiplications (each with its own operands) pass before operands are used again;
        inf: they come from DRAM (a model's weights), 1: the same again and again
    sustained : True for a long run of such kernels, throttled from the first; False for a short burst, where
        throttling sets in over `throttle_time`
    peak : FLOP/s, dense, at the boost clock
    clock : Hz, boost
    bandwidth : B/s of DRAM
    clock_fraction : clock under tensor load over the boost clock, short bursts (power limit)
    throttle : how much longer the clock period gets in a long kernel
    sustained_throttle : the part of it that every kernel of a sustained run has: what the power limit takes. The
        rest, of libraries whose large shapes are slow, sets in with the length of a kernel
    l2_bytes_per_clock : bytes per clock that L2 delivers to one multiprocessor
    k_step_clocks : clocks of one dependent step of 128 bytes along k
    tile_latency : s to start the first and finish the last tile of 128 x 128; smaller ones in proportion
    rows_covered : a library that picks its tile by m alone takes TM >= min(m, this); 0: whichever is fastest
    smallest_columns, largest_tile, largest_split : what the library offers: smallest TN, largest TM TN (fp32 sums of
        256 x 128 fill half of the registers), most parts it splits k into (1: no split)
    others : s, fractions

    Returns
    -------
    KernelTimes
        Shape of the broadcast arguments, s.

    Notes
    -----
    Tiles and waves: NVIDIA, "Matrix Multiplication Background User's Guide" (DU-09799). Split k: CUTLASS
    documentation, "Efficient GEMM in CUDA". Throttling: power follows what is multiplied and how long.
    The cube norm between compute and memory is empirical, between overlap (infinity) and none (1).
    """
    weight_bytes = input_bytes if weight_bytes is None else weight_bytes
    flops = 2 * m * n * k * batch
    ideal = flops / peak
    slower = throttle * ideal / (ideal + throttle_time)
    if sustained:
        slower = np.maximum(slower, min(throttle, sustained_throttle))
    hertz = clock * clock_fraction / (1 + slower)
    feed = l2_bytes_per_clock * hertz  # B/s of one multiprocessor
    rate = compute_fraction * peak / sm_count * hertz / clock  # FLOP/s of one multiprocessor
    operands, output = batch * (m * k * input_bytes + n * k * weight_bytes), batch * m * n * output_bytes
    memory = memory_time(
        operands + output, rotation * operands + output, hertz, sm_count=sm_count, bandwidth=bandwidth,
        l2_bytes=l2_bytes, memory_fraction=memory_fraction, resident_fraction=resident_fraction,
        resident_bytes_per_clock=resident_bytes_per_clock,
    )  # fmt: skip
    shape = _Shape(*(np.asarray(x, dtype=float)[:, None] for x in (m, n, k, batch, hertz, feed, rate, memory)))
    tile = tiles(smallest_columns, largest_tile, largest_split)
    busy, waves, finish = _tile_times(shape, *tile, input_bytes, weight_bytes, output_bytes, sm_count, k_step_clocks)
    tm, tn, split = tile
    total = np.cbrt(busy * busy * busy + shape.memory**3) + waves * wave_latency + tile_latency / 128**2 * tm * tn
    total += (split > 1) * (split_latency + finish)
    total[tm < np.minimum(shape.m, rows_covered)] = np.inf
    best = np.argmin(total, axis=1)
    here = np.arange(len(best))
    seconds = launch_overhead + total[here, best]
    return KernelTimes(seconds, busy[here, best], memory, launch_overhead + waves[here, best] * wave_latency)


class _Shape(NamedTuple):
    """Shapes and rates of a piece, arrays of (shapes, 1)."""

    m: Array
    n: Array
    k: Array
    batch: Array
    hertz: Array
    feed: Array  # B/s that L2 delivers to one multiprocessor
    rate: Array  # FLOP/s of one multiprocessor
    memory: Array  # s of DRAM traffic


def _tile_times(
    shape: _Shape, tm: Array, tn: Array, split: Array, input_bytes: float, weight_bytes: float, output_bytes: float,
    sm_count: float, k_step_clocks: float,
) -> tuple[Array, Array, Array]:  # fmt: skip
    """Seconds that each candidate keeps a multiprocessor busy, its waves, and seconds to add up a split of k."""
    rows, columns = np.minimum(tm, shape.m), np.minimum(tn, shape.n)
    width, grain = K_STEP / input_bytes, K_GRAIN / input_bytes  # elements of k in a step, in an instruction
    step = 2 * width * tm * tn / shape.rate
    np.maximum(step, width * (rows * input_bytes + columns * weight_bytes) / shape.feed, out=step)
    np.maximum(step, k_step_clocks / shape.hertz, out=step)
    depth = np.where(split == 1, np.ceil(shape.k / grain) * (grain / width), np.ceil(shape.k / split / width))
    waves = np.ceil(np.ceil(shape.m / tm) * np.ceil(shape.n / tn) * split * shape.batch / sm_count)
    busy = waves * (depth * step + 1.5 * output_bytes * rows * columns / shape.feed)
    return busy, waves, 4 * split * shape.m * shape.n * shape.batch / (sm_count * shape.feed)
