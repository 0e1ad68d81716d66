"""The kernel that quantises the activations of a matrix product before it."""

from __future__ import annotations

import numpy as np

from simgpu.timing.constants import QuantiseConstants
from simgpu.timing.device import Device
from simgpu.timing.gemm import GemmWork
from simgpu.timing.parts import KernelTimes


def quantise_time(work: GemmWork, device: Device, constants: QuantiseConstants) -> KernelTimes:
    """Seconds of the kernel that brings activations [m, k] to the narrow type before they are multiplied.

        time = quantise_overhead + batch m k quantise_bytes / (memory_fraction bandwidth)

    Parameters
    ----------
    work : the products that follow; n does not matter
    device : datasheet of the GPU: bandwidth in B/s
    constants : of the library; `quantise_bytes` are B read and written per activation
    """
    moved = np.asarray(work.batch, float) * np.asarray(work.m, float) * np.asarray(work.k, float)
    memory = moved * constants.quantise_bytes / (constants.memory_fraction * device.bandwidth)
    latency = np.full_like(memory, constants.quantise_overhead)
    return KernelTimes(latency + memory, np.zeros_like(memory), memory, latency)
