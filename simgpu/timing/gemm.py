"""Matrix multiplication: tiles over the multiprocessors, fed from L2, against DRAM traffic and latency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from simgpu.memo import remembered
from simgpu.timing.constants import ExpertConstants, GemmConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, in_chunks
from simgpu.timing.power import TensorClock

TILES_M = (16, 32, 64, 128, 256)
TILES_N = (32, 64, 128, 256)
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 32)
K_STEP = 128
"""Bytes of a row of A that a tile works through at a time: a line of shared memory."""
K_GRAIN = 64
"""Bytes to which k is padded: whole instructions."""
CHUNK = 64
"""Shapes priced at a time: their table of tiles is some 100 kB, which stays in the processor's cache, and which the
allocator keeps instead of giving it back to the system after every step."""


@remembered(128)
def tiles(smallest_columns: float, largest_tile: float, largest_split: float) -> tuple[Array, Array, Array]:
    """(TM, TN, s) of every candidate, three arrays of one length."""
    columns, splits = [b for b in TILES_N if b >= smallest_columns], [s for s in SPLITS if s <= largest_split]
    candidates = [(a, b, s) for a in TILES_M for b in columns for s in splits if a * b <= largest_tile]
    tm, tn, split = np.asarray(candidates, dtype=float).T
    return tm, tn, split


class GemmWork(NamedTuple):
    """C[m, n] = A[m, k] B[k, n], `batch` times in one kernel: whole numbers, broadcast against each other."""

    m: ArrayLike
    n: ArrayLike
    k: ArrayLike
    batch: ArrayLike = 1.0


@dataclass(frozen=True)
class Operands:
    """What a product multiplies: bytes of an element, and the peak for its types.

    Parameters
    ----------
    input_bytes : B per element of A, in which it is multiplied
    output_bytes : B per element of C
    weight_bytes : B per element of B as stored, which may be fewer bits than it is multiplied in
    peak : FLOP/s, dense, at the boost clock
    """

    input_bytes: float
    output_bytes: float
    weight_bytes: float
    peak: float


def memory_time(
    moved: Array, working_set: Array, clock: Array | float, device: Device, constants: GemmConstants | ExpertConstants
) -> Array:
    """Seconds to move `moved` bytes: from L2 where `working_set` bytes fit it, else from DRAM; `clock` in Hz.

    The change between the two is steep, as measured: half of it within 6 % of the capacity.
    """
    dram = constants.memory_fraction * device.bandwidth
    l2 = np.maximum(constants.resident_bytes_per_clock * clock * device.sm_count, dram)
    with np.errstate(over="ignore"):
        resident = 1 / (1 + (working_set / (constants.resident_fraction * device.l2_bytes)) ** 12)
    return moved * ((1 - resident) / dram + resident / l2)


def gemm_time(
    work: GemmWork,
    operands: Operands,
    device: Device,
    constants: GemmConstants,
    clock: TensorClock,
    *,
    rotation: float = np.inf,
    sustained: bool = False,
) -> KernelTimes:
    """Seconds of C[m, n] = A[m, k] B[k, n], `batch` times in one kernel, for arrays of shapes.

    A library picks the fastest tile (TM, TN) and split s of k for a shape; so does this model:

        f    = clock under load after T = 2 m n k batch / peak      (`simgpu.timing.power.TensorClock`)
        step = max(2 TM TN c / (compute_fraction peak f / clock / SMs),         multiply
                   (min(TM, m) + min(TN, n)) c e / (l2_bytes_per_clock f),      feed from L2
                   k_step_clocks / f)                                           dependent instructions
               + [B stored narrower] TN c / (convert_per_clock f)               widen B, for each tile of rows again
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
    work, operands : the shapes, and bytes and peak of what is multiplied
    device : datasheet of the GPU: clock in Hz (boost), bandwidth in B/s, L2 in B
    constants : of the library. `l2_bytes_per_clock`: B that L2 delivers to one multiprocessor in a clock;
        `k_step_clocks`: clocks of one dependent step of 128 bytes along k; `tile_latency`: s to start the first and
        finish the last tile of 128 x 128, smaller ones in proportion; `rows_covered`: a library that picks its tile by
        m alone takes TM >= min(m, this), 0: whichever is fastest; `smallest_columns`, `largest_tile`, `largest_split`:
        smallest TN, largest TM TN, most parts of k that the library has; `convert_per_clock`: weights that a
        multiprocessor widens in a clock, while it multiplies none; others in s, or fractions
    clock : how the clock falls under load
    rotation : how many such multiplications (each with its own operands) pass before operands are used again;
        inf: they come from DRAM (a model's weights), 1: the same again and again
    sustained : a long run of such kernels instead of a short burst

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

    def times(piece: GemmWork) -> KernelTimes:
        return _gemm_time(piece, operands, device, constants, clock, rotation, sustained)

    return in_chunks(CHUNK, work, times)


def _gemm_time(
    work: GemmWork,
    operands: Operands,
    device: Device,
    constants: GemmConstants,
    clock: TensorClock,
    rotation: float,
    sustained: bool,
) -> KernelTimes:
    """`gemm_time` of 1-d arrays."""
    m, n, k, batch = work
    ideal = 2 * m * n * k * batch / operands.peak
    hertz = clock.under_load(device.clock, ideal, sustained)
    feed = constants.l2_bytes_per_clock * hertz  # B/s of one multiprocessor
    rate = constants.compute_fraction * operands.peak / device.sm_count * hertz / device.clock  # FLOP/s of one
    read = batch * (m * k * operands.input_bytes + n * k * operands.weight_bytes)
    output = batch * m * n * operands.output_bytes
    memory = memory_time(read + output, rotation * read + output, hertz, device, constants)
    shape = _Shape(*(np.asarray(x, dtype=float)[:, None] for x in (m, n, k, batch, hertz, feed, rate, memory)))
    tile = tiles(constants.smallest_columns, constants.largest_tile, constants.largest_split)
    busy, waves, finish = _tile_times(shape, tile, operands, device.sm_count, constants)
    tm, tn, split = tile
    total = np.cbrt(busy * busy * busy + shape.memory**3) + waves * constants.wave_latency
    total += constants.tile_latency / 128**2 * tm * tn
    total += (split > 1) * (constants.split_latency + finish)
    total[tm < np.minimum(shape.m, constants.rows_covered)] = np.inf
    best = np.argmin(total, axis=1)
    here = np.arange(len(best))
    fixed = constants.launch_overhead
    latency = fixed + waves[here, best] * constants.wave_latency
    return KernelTimes(fixed + total[here, best], busy[here, best], memory, latency)


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
    shape: _Shape, tile: tuple[Array, Array, Array], operands: Operands, sm_count: float, constants: GemmConstants
) -> tuple[Array, Array, Array]:
    """Seconds that each candidate keeps a multiprocessor busy, its waves, and seconds to add up a split of k."""
    tm, tn, split = tile
    rows, columns = np.minimum(tm, shape.m), np.minimum(tn, shape.n)
    width, grain = K_STEP / operands.input_bytes, K_GRAIN / operands.input_bytes  # elements of k, see the constants
    step = 2 * width * tm * tn / shape.rate
    fed = width * (rows * operands.input_bytes + columns * operands.weight_bytes) / shape.feed
    np.maximum(step, fed, out=step)
    np.maximum(step, constants.k_step_clocks / shape.hertz, out=step)
    if operands.weight_bytes < operands.input_bytes:
        step += tn * width / (constants.convert_per_clock * shape.hertz)
    depth = np.where(split == 1, np.ceil(shape.k / grain) * (grain / width), np.ceil(shape.k / split / width))
    waves = np.ceil(np.ceil(shape.m / tm) * np.ceil(shape.n / tn) * split * shape.batch / sm_count)
    busy = waves * (depth * step + 1.5 * operands.output_bytes * rows * columns / shape.feed)
    return busy, waves, 4 * split * shape.m * shape.n * shape.batch / (sm_count * shape.feed)
