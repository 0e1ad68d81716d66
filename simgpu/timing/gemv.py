"""Products of llama.cpp with weights in blocks, by a few vectors, for which every weight is read once, or by many."""

from __future__ import annotations

import numpy as np

from simgpu.timing.parts import ArrayLike, KernelTimes


def gemv_time(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, *, weight_bytes: float, input_bytes: float, output_bytes: float,
    sm_count: float, clock: float, bandwidth: float, memory_fraction: float, launch_overhead: float,
    vector_bytes_per_clock: float, vector_weights_per_clock: float, vector_exponent: float,
    inline_ecc_fraction: float = 1.0, **_: float,
) -> KernelTimes:  # fmt: skip
    """Seconds of C[m, n] = A[m, k] B[k, n] for small m (ggml/src/ggml-cuda/mmvq.cu, dmmv.cu).

        memory = bytes / (memory_fraction bandwidth)
        fed    = max(bytes / vector_bytes_per_clock, n k / vector_weights_per_clock) / (clock SMs)
        time   = launch_overhead + (memory^p + fed^p)^(1/p)

    A warp unpacks the blocks of one row and multiplies them by a vector that stays on chip; the multiprocessors cannot
    pull weights faster than they unpack them, which is what limits GPUs with few of them beside fast memory.

    Parameters
    ----------
    m, n, k : array_like, broadcast against each other
    weight_bytes : of one stored weight, scales included
    vector_bytes_per_clock, vector_weights_per_clock : bytes of weights, and weights, that one multiprocessor unpacks in
        a clock at most
    vector_exponent : p, how sharply the slower of the two decides
    inline_ecc_fraction : of the bandwidth, where ECC bits share the memory with the data
    """
    m, n, k = (np.asarray(x, float) for x in (m, n, k))
    moved = n * k * weight_bytes + m * k * input_bytes + m * n * output_bytes
    memory = moved / (memory_fraction * inline_ecc_fraction * bandwidth)
    fed = np.maximum(moved / vector_bytes_per_clock, n * k / vector_weights_per_clock) / (clock * sm_count)
    p = vector_exponent
    busy = (memory**p + fed**p) ** (1 / p)
    return KernelTimes(launch_overhead + busy, fed, memory, np.full_like(busy, launch_overhead))


def mmq_time(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, *, weight_bytes: float, sm_count: float, clock: float, bandwidth: float,
    memory_fraction: float, launch_overhead: float, integer_flops_per_clock: float, peak: float,
    inline_ecc_fraction: float = 1.0, **_: float,
) -> KernelTimes:  # fmt: skip
    """Seconds of C[m, n] = A[m, k] B[k, n] for many rows m (ggml/src/ggml-cuda/mmq.cuh).

        memory  = bytes / (memory_fraction bandwidth)
        compute = 2 m n k / min(integer_flops_per_clock clock SMs, peak)
        time    = launch_overhead + memory + compute

    Blocks are unpacked to 8-bit integers on chip, multiplied by activations that a kernel before quantised, and every
    32 products are scaled in fp32. Unpacking and scaling fill the multiprocessor, not its matrix units, so that the
    rate goes with its clock. A tile loads weights before it multiplies by them: the two add up.
    """
    m, n, k = (np.asarray(x, float) for x in (m, n, k))
    moved = n * k * weight_bytes + m * k * 1.125 + m * n * 4.0  # activations: 32 bytes and two scales of 16 bits
    memory = moved / (memory_fraction * inline_ecc_fraction * bandwidth)
    compute = 2 * m * n * k / min(integer_flops_per_clock * clock * sm_count, peak)
    return KernelTimes(launch_overhead + memory + compute, compute, memory, np.full_like(compute, launch_overhead))
