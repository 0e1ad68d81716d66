"""Mixture-of-experts layers: grouped matrix multiplications, and what brings tokens to their experts and back."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.timing.constants import ExpertConstants
from simgpu.timing.device import Device
from simgpu.timing.gemm import K_STEP, Operands, memory_time
from simgpu.timing.parts import Array, ArrayLike, KernelTimes
from simgpu.timing.power import TensorClock
from simgpu.timing.routing import TILE_ROWS

COLUMNS = (64.0, 128.0, 256.0)
"""Widths of tiles that grouped multiplications choose from."""

HIDDEN_BYTES = 2.0
"""B of an element of the tokens' rows on their way to the experts and back."""


class ExpertLoad(NamedTuple):
    """What the experts of one rank have to do, arrays over layers (`simgpu.timing.routing.rank_load`)."""

    blocks: ArrayLike  # tiles of rows of each height in TILE_ROWS: shape (..., len(TILE_ROWS))
    active: ArrayLike  # experts with a token
    visits: ArrayLike  # (token, expert) pairs


class LayerWork(NamedTuple):
    """The feed-forward layer of one rank; arrays broadcast against each other."""

    tokens: ArrayLike  # that enter, over all ranks: each of them reads and writes all
    load: ExpertLoad  # of this rank
    hidden: ArrayLike  # width of the model
    inner: ArrayLike  # width of one expert on this rank
    gated: ArrayLike  # whether the first multiplication makes a gate beside the values
    routed: ArrayLike  # (token, expert) pairs of all ranks, which each rank sorts
    experts: ArrayLike = 0.0  # of the layer, over all ranks


def grouped_gemm_time(
    load: ExpertLoad,
    n: ArrayLike,
    k: ArrayLike,
    operands: Operands,
    device: Device,
    constants: ExpertConstants,
    *,
    hertz: ArrayLike,
    resident_bytes: ArrayLike = np.inf,
) -> KernelTimes:
    """Seconds of one grouped multiplication: expert i multiplies its tokens [load_i, k] by its own weights [k, n].

        W    = ceil(blocks(TM) ceil(n / TN) / SMs),   blocks(TM) = sum over experts of ceil(load / TM)
        step = max(multiply, feed from L2, k_step_clocks / f) + TN c / (convert_per_clock f)
        t    = min over (TM, TN) of ((W tile)^3 + memory^3)^(1/3) + W wave_latency

    with the tiles of `simgpu.timing.gemm.gemm_time`, of `most_rows` at most; k is not split. A kernel that multiplies
    in a wider type than weights are stored in widens those of a tile in every step (Marlin, MXFP4 in Triton), and
    again for each tile of rows. `memory` moves the weights of the experts that
    have a token once, and the tokens' rows in and out. The launch is not counted.

    Parameters
    ----------
    load : of the experts of this rank
    n, k : columns of the weights, contracted length
    operands : bytes of an element and the peak for its type, FLOP/s
    device, constants : datasheet of the GPU, constants of the library
    hertz : Hz, the clock under load
    resident_bytes : B that pass through L2 before the same weights are used again; inf: they come from DRAM
    """
    stored, width = operands.weight_bytes, K_STEP / operands.input_bytes
    blocks = np.asarray(load.blocks, dtype=float)
    active, visits, n, k, clock = (np.asarray(x, dtype=float) for x in (load.active, load.visits, n, k, hertz))
    rows, columns = np.asarray(TILE_ROWS, dtype=float)[:, None], np.asarray(COLUMNS)
    under_load, wide, deep = (x[..., None, None] for x in np.broadcast_arrays(clock, n, k))
    feed = constants.l2_bytes_per_clock * under_load
    rate = constants.compute_fraction * (operands.peak / device.clock) / device.sm_count * under_load
    fed = width * (rows * operands.input_bytes + columns * stored) / feed
    step = np.maximum(2 * rows * columns * width / rate, fed)
    step = np.maximum(step, constants.k_step_clocks / under_load)
    step = step + columns * width / (constants.convert_per_clock * under_load)
    step = np.where(rows > constants.most_rows, np.inf, step)
    waves = np.ceil(blocks[..., :, None] * np.ceil(wide / columns) / device.sm_count)
    busy = waves * (np.ceil(deep / width) * step + 3.0 * rows * columns / feed)
    memory = memory_time(
        active * n * k * stored + visits * (k * operands.input_bytes + operands.output_bytes * n),
        np.asarray(resident_bytes, dtype=float),
        clock,
        device,
        constants,
    )
    total = np.cbrt(busy**3 + memory[..., None, None] ** 3) + waves * constants.wave_latency
    flat, shape = total.reshape(*memory.shape, -1), memory.shape
    best = np.argmin(flat, axis=-1)[..., None]

    def chosen(values: Array) -> Array:
        return np.take_along_axis(np.broadcast_to(values, total.shape).reshape(*shape, -1), best, axis=-1)[..., 0]

    return KernelTimes(chosen(total), chosen(busy), memory, chosen(waves) * constants.wave_latency)


def moe_time(
    work: LayerWork,
    operands: Operands,
    device: Device,
    constants: ExpertConstants,
    clock: TensorClock,
    *,
    rotation: float = np.inf,
    sustained: bool = False,
) -> KernelTimes:
    """Seconds of the feed-forward layer of one rank: route, permute, multiply, activate, multiply, bring back.

        time = fixed_time + expert_time experts + visit_time routed
               + grouped(up) + grouped(down) + moved / (memory_fraction bandwidth)
        moved = 2 hidden (permute_passes visits + token_passes tokens + remote_passes (routed - visits))
                + visits inner (2 gates + e)

    with e bytes of an element that is multiplied. `fixed_time` is that of the chain of small kernels around the
    multiplications.

    Parameters
    ----------
    work : sizes of the layer and the load of this rank
    operands : bytes of an element and the peak for its type, FLOP/s
    device, constants : datasheet of the GPU, constants of the library; `fixed_time` and `visit_time` in s,
        `remote_passes` of a library that keeps rows for pairs of other ranks
    clock : how the clock falls under load
    rotation : passes over such layers before the same weights are used again; inf: weights come from DRAM
    sustained : a long run of such kernels instead of a short burst
    """
    tokens, visits, active, hidden, inner = (
        np.asarray(x, dtype=float) for x in (work.tokens, work.load.visits, work.load.active, work.hidden, work.inner)
    )
    load = ExpertLoad(work.load.blocks, active, visits)
    parts = np.where(work.gated, 2.0, 1.0)
    weights = active * inner * hidden * (parts + 1) * operands.weight_bytes
    ideal = 2 * visits * inner * hidden * (parts + 1) / operands.peak
    hertz = clock.under_load(device.clock, ideal, sustained)
    resident = rotation * (weights + visits * hidden * HIDDEN_BYTES)
    up = grouped_gemm_time(
        load, parts * inner, hidden, operands, device, constants, hertz=hertz, resident_bytes=resident
    )
    down = grouped_gemm_time(load, hidden, inner, operands, device, constants, hertz=hertz, resident_bytes=resident)
    remote = np.maximum(np.asarray(work.routed, dtype=float) - visits, 0.0)
    passes = constants.permute_passes * visits + constants.token_passes * tokens + constants.remote_passes * remote
    moved = HIDDEN_BYTES * hidden * passes + visits * inner * (HIDDEN_BYTES * parts + operands.input_bytes)
    around = moved / (constants.memory_fraction * device.bandwidth)
    latency = constants.fixed_time + constants.visit_time * np.asarray(work.routed, dtype=float)
    latency = latency + constants.expert_time * np.asarray(work.experts, dtype=float)
    both = up + down
    return KernelTimes(both.seconds + around + latency, both.compute, both.memory + around, both.latency + latency)
