"""Fused attention of a prefill or a training step: every query block walks over the keys it may see."""

from __future__ import annotations

import numpy as np

from simgpu.timing.parts import ArrayLike, KernelTimes


def prefill_time(
    batch: ArrayLike,
    queries: ArrayLike,
    keys: ArrayLike,
    heads: ArrayLike,
    kv_heads: ArrayLike,
    head_dim: ArrayLike,
    v_head_dim: ArrayLike,
    *,
    causal: bool,
    window: ArrayLike,
    input_bytes: float,
    kv_bytes: float,
    peak: float,
    sm_count: float,
    clock: float,
    bandwidth: float,
    l2_bytes: float,
    launch_overhead: float,
    memory_fraction: float,
    **_: float,
) -> KernelTimes:
    """First version, replaced soon: tensor-core time at 0.9 of the peak plus 0.1 clock of softmax per score and SM."""
    b, q, k, h, kv, d, dv, w = np.broadcast_arrays(
        *(np.asarray(x, float) for x in (batch, queries, keys, heads, kv_heads, head_dim, v_head_dim, window))
    )
    scores = b * h * np.where(causal, q * (2 * k - q + 1) / 2, q * k)
    scores = np.where((w > 0) & (w < k), np.minimum(scores, b * h * q * w), scores)
    compute = scores * (2 * (d + dv) / (0.9 * peak) + 0.1 / (clock * sm_count))
    memory = b * (2 * q * h * (d + dv) + k * kv * (d + dv) * kv_bytes) / (bandwidth * memory_fraction)
    latency = np.full(b.shape, 4 * launch_overhead)
    return KernelTimes(latency + np.maximum(compute, memory), compute, memory, latency)
