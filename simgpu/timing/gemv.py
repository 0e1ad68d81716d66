"""Products of llama.cpp with weights in blocks, by a few vectors, for which every weight is read once, or by many."""

from __future__ import annotations

import numpy as np

from simgpu.timing.constants import GemvConstants, MmqConstants
from simgpu.timing.device import Device
from simgpu.timing.gemm import GemmWork
from simgpu.timing.parts import KernelTimes

FP32 = 4.0
"""B of a number in fp32."""
BLOCK_OF_ACTIVATIONS = 1.125
"""B of an activation in 8-bit integers: 32 of them share two scales of 16 bits (ggml, block_q8_1)."""


def gemv_time(work: GemmWork, weight_bytes: float, device: Device, constants: GemvConstants) -> KernelTimes:
    """Seconds of C[m, n] = A[m, k] B[k, n] for small m (ggml/src/ggml-cuda/mmvq.cu, dmmv.cu).

        memory = bytes / (memory_fraction bandwidth)
        fed    = max(bytes / vector_bytes_per_clock, n k / vector_weights_per_clock) / (clock SMs)
        time   = launch_overhead + (memory^p + fed^p)^(1/p)

    A warp unpacks the blocks of one row and multiplies them by a vector that stays on chip; the multiprocessors cannot
    pull weights faster than they unpack them, which is what limits GPUs with few of them beside fast memory.

    Parameters
    ----------
    work : shapes of one product each (no batch); A and C are in fp32
    weight_bytes : B of one stored weight, scales included
    device : datasheet of the GPU: clock in Hz, bandwidth in B/s
    constants : of the library. `vector_bytes_per_clock`, `vector_weights_per_clock`: bytes of weights, and weights,
        that one multiprocessor unpacks in a clock at most; `vector_exponent`: p, how sharply the slower of the two
        decides
    """
    m, n, k = (np.asarray(x, float) for x in work[:3])
    moved = n * k * weight_bytes + m * k * FP32 + m * n * FP32
    memory = moved / (constants.memory_fraction * device.bandwidth)
    fed = np.maximum(moved / constants.vector_bytes_per_clock, n * k / constants.vector_weights_per_clock)
    fed = fed / (device.clock * device.sm_count)
    p = constants.vector_exponent
    busy = (memory**p + fed**p) ** (1 / p)
    fixed = constants.launch_overhead
    return KernelTimes(fixed + busy, fed, memory, np.full_like(busy, fixed))


def mmq_time(work: GemmWork, weight_bytes: float, peak: float, device: Device, constants: MmqConstants) -> KernelTimes:
    """Seconds of C[m, n] = A[m, k] B[k, n] for many rows m (ggml/src/ggml-cuda/mmq.cuh).

        memory  = bytes / (memory_fraction bandwidth)
        compute = 2 m n k / min(integer_flops_per_clock clock SMs, peak)
        time    = launch_overhead + memory + compute

    Blocks are unpacked to 8-bit integers on chip, multiplied by activations that a kernel before quantised, and every
    32 products are scaled in fp32. Unpacking and scaling fill the multiprocessor, not its matrix units, so that the
    rate goes with its clock. A tile loads weights before it multiplies by them: the two add up.

    Parameters
    ----------
    work : shapes of one product each (no batch)
    weight_bytes : B of one stored weight, scales included
    peak : FLOP/s of 8-bit integers, dense
    device, constants : as in `gemv_time`; `integer_flops_per_clock` is that of one multiprocessor
    """
    m, n, k = (np.asarray(x, float) for x in work[:3])
    moved = n * k * weight_bytes + m * k * BLOCK_OF_ACTIVATIONS + m * n * FP32
    memory = moved / (constants.memory_fraction * device.bandwidth)
    compute = 2 * m * n * k / min(constants.integer_flops_per_clock * device.clock * device.sm_count, peak)
    fixed = constants.launch_overhead
    return KernelTimes(fixed + memory + compute, compute, memory, np.full_like(compute, fixed))
