"""Mixture-of-experts layers: grouped matrix multiplications, and what brings tokens to their experts and back."""

from __future__ import annotations

from typing import Any

import numpy as np

from simgpu.timing.gemm import K_STEP, memory_time
from simgpu.timing.parts import Array, ArrayLike, KernelTimes
from simgpu.timing.routing import TILE_ROWS

COLUMNS = (64.0, 128.0, 256.0)
"""Widths of tiles that grouped multiplications choose from."""


def grouped_gemm_time(
    blocks: ArrayLike, active: ArrayLike, visits: ArrayLike, n: ArrayLike, k: ArrayLike, *, input_bytes: float,
    resident_bytes: ArrayLike, clock: ArrayLike, peak_per_clock: float, sm_count: float, bandwidth: float,
    l2_bytes: float, compute_fraction: float, memory_fraction: float, l2_bytes_per_clock: float, k_step_clocks: float,
    wave_latency: float, resident_fraction: float, resident_bytes_per_clock: float,
    weight_bytes: float | None = None, **_: float,
) -> KernelTimes:  # fmt: skip
    """Seconds of one grouped multiplication: expert i multiplies its tokens [load_i, k] by its own weights [k, n].

        W    = ceil(blocks(TM) ceil(n / TN) / SMs),   blocks(TM) = sum over experts of ceil(load / TM)
        t    = min over (TM, TN) of ((W tile)^3 + memory^3)^(1/3) + W wave_latency

    with the tiles of `simgpu.timing.gemm.gemm_time`; k is not split. `memory` moves the weights of the experts that
    have a token once, and the tokens' rows in and out.

    Parameters
    ----------
    blocks : array, shape (..., len(TILE_ROWS)), tiles of rows of each height (`simgpu.timing.routing.rank_load`)
    active : experts with a token
    visits : (token, expert) pairs
    n, k : columns of the weights, contracted length
    resident_bytes : what passes through L2 before the same weights are used again; inf: they come from DRAM
    clock : Hz under load
    peak_per_clock : FLOP per clock of the whole GPU
    weight_bytes : per element of the weights as stored, where that is not `input_bytes`
    """
    stored = input_bytes if weight_bytes is None else weight_bytes
    blocks = np.asarray(blocks, dtype=float)
    active, visits, n, k, clock = (np.asarray(x, dtype=float) for x in (active, visits, n, k, clock))
    rows, columns = np.asarray(TILE_ROWS, dtype=float)[:, None], np.asarray(COLUMNS)
    hertz, wide, deep = (x[..., None, None] for x in np.broadcast_arrays(clock, n, k))
    width = K_STEP / input_bytes
    feed = l2_bytes_per_clock * hertz
    rate = compute_fraction * peak_per_clock / sm_count * hertz
    step = np.maximum(2 * rows * columns * width / rate, width * (rows * input_bytes + columns * stored) / feed)
    step = np.maximum(step, k_step_clocks / hertz)
    waves = np.ceil(blocks[..., :, None] * np.ceil(wide / columns) / sm_count)
    busy = waves * (np.ceil(deep / width) * step + 3.0 * rows * columns / feed)
    memory = memory_time(
        active * n * k * stored + visits * (k * input_bytes + 2 * n), np.asarray(resident_bytes, dtype=float),
        clock, sm_count=sm_count, bandwidth=bandwidth, l2_bytes=l2_bytes, memory_fraction=memory_fraction,
        resident_fraction=resident_fraction, resident_bytes_per_clock=resident_bytes_per_clock,
    )  # fmt: skip
    total = np.cbrt(busy**3 + memory[..., None, None] ** 3) + waves * wave_latency
    flat, shape = total.reshape(*memory.shape, -1), memory.shape
    best = np.argmin(flat, axis=-1)[..., None]

    def chosen(values: Array) -> Array:
        return np.take_along_axis(np.broadcast_to(values, total.shape).reshape(*shape, -1), best, axis=-1)[..., 0]

    return KernelTimes(chosen(total), chosen(busy), memory, chosen(waves) * wave_latency)


def moe_time(
    tokens: ArrayLike, visits: ArrayLike, active: ArrayLike, blocks: ArrayLike, hidden: ArrayLike, inner: ArrayLike,
    *, gated: ArrayLike, input_bytes: float, rotation: float = np.inf, sustained: bool = False, peak: float,
    clock: float, clock_fraction: float, throttle: float, throttle_time: float, fixed_time: float, visit_time: float,
    permute_passes: float, bandwidth: float, memory_fraction: float, routed: ArrayLike | None = None,
    token_passes: float = 1.0, weight_bytes: float | None = None, **figures: float,
) -> KernelTimes:  # fmt: skip
    """Seconds of the feed-forward layer of one rank: route, permute, multiply, activate, multiply, bring back.

        time = fixed_time + visit_time routed + grouped(up) + grouped(down) + moved / (memory_fraction bandwidth)
        moved = 2 hidden (permute_passes visits + token_passes tokens) + visits inner (2 gates + e)

    `fixed_time` is that of the chain of small kernels around the multiplications.

    Parameters
    ----------
    tokens : that enter the layer, over all ranks of the expert-parallel group: each rank reads and writes all of them
    routed : (token, expert) pairs of all ranks, which each rank sorts; default: those of this rank
    visits, active, blocks : of this rank, `simgpu.timing.routing.rank_load`
    hidden, inner : width of the model, of one expert on this rank
    gated : whether the first multiplication makes a gate beside the values
    rotation : passes over such layers before the same weights are used again; inf: weights come from DRAM
    others : as in `simgpu.timing.gemm.gemm_time`; s, B/s, FLOP/s
    """
    tokens, visits, active, hidden, inner = (
        np.asarray(x, dtype=float) for x in (tokens, visits, active, hidden, inner)
    )
    parts = np.where(gated, 2.0, 1.0)
    stored = input_bytes if weight_bytes is None else weight_bytes
    weights = active * inner * hidden * (parts + 1) * stored
    ideal = 2 * visits * inner * hidden * (parts + 1) / peak
    slower = throttle if sustained else throttle * ideal / (ideal + throttle_time)
    hertz = clock * clock_fraction / (1 + slower)
    resident = rotation * (weights + visits * hidden * 2)
    rates: dict[str, Any] = dict(
        input_bytes=input_bytes, clock=hertz, peak_per_clock=peak / clock, bandwidth=bandwidth,
        memory_fraction=memory_fraction, resident_bytes=resident, weight_bytes=stored, **figures,
    )  # fmt: skip
    up = grouped_gemm_time(blocks, active, visits, parts * inner, hidden, **rates)
    down = grouped_gemm_time(blocks, active, visits, hidden, inner, **rates)
    moved = 2 * hidden * (permute_passes * visits + token_passes * tokens) + visits * inner * (2 * parts + input_bytes)
    around = moved / (memory_fraction * bandwidth)
    latency = fixed_time + visit_time * (visits if routed is None else np.asarray(routed, dtype=float))
    both = up + down
    return KernelTimes(both.seconds + around + latency, both.compute, both.memory + around, both.latency + latency)
