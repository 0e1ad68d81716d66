"""Matrix multiplication."""

from __future__ import annotations

import numpy as np

from simgpu.timing.parts import ArrayLike, KernelTimes


def gemm_time(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, *, batch: ArrayLike = 1, input_bytes: float, output_bytes: float,
    peak: float, sm_count: float, clock: float, bandwidth: float, l2_bytes: float,
    compute_fraction: float, memory_fraction: float, launch_overhead: float,
) -> KernelTimes:
    """Placeholder: plain roofline."""
    m, n, k, batch = np.broadcast_arrays(*(np.asarray(x, float) for x in (m, n, k, batch)))
    compute = 2 * batch * m * n * k / (peak * compute_fraction)
    memory = batch * ((m * k + k * n) * input_bytes + m * n * output_bytes) / (bandwidth * memory_fraction)
    latency = np.full(m.shape, launch_overhead)
    return KernelTimes(latency + np.maximum(compute, memory), compute, memory, latency)
