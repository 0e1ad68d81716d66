"""Fused attention of a decode step: few queries per sequence against a long cache (flash-decoding)."""

from __future__ import annotations

import numpy as np

from simgpu.timing.parts import ArrayLike, KernelTimes


def decode_time(
    batch: ArrayLike,
    keys: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    v_head_dim: ArrayLike,
    *,
    queries: ArrayLike,
    window: ArrayLike,
    kv_bytes: float,
    sm_count: float,
    clock: float,
    bandwidth: float,
    l2_bytes: float,
    launch_overhead: float,
    memory_fraction: float,
    **_: float,
) -> KernelTimes:
    """First version, replaced soon: the cache is read once."""
    b, k, h, kv, d, dv, q, w = np.broadcast_arrays(
        *(np.asarray(x, float) for x in (batch, keys, heads, kv_heads, head_dim, v_head_dim, queries, window))
    )
    seen = np.where(w > 0, np.minimum(k, w), k)
    memory = b * (seen * kv * (d + dv) * kv_bytes + 2 * q * h * (d + dv)) / (bandwidth * memory_fraction)
    latency = np.full(b.shape, 4 * launch_overhead)
    return KernelTimes(latency + memory, 0 * memory, memory, latency)
