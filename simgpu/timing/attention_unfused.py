"""Attention of llama.cpp where no fused kernel runs: two products that read the cache."""

from __future__ import annotations

import numpy as np

from simgpu.timing.constants import UnfusedConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import ArrayLike, KernelTimes


def unfused_time(cache_bytes: ArrayLike, device: Device, constants: UnfusedConstants) -> KernelTimes:
    """Seconds of the scores of one query and of their product with the values, as two kernels; softmax not counted.

        memory = cache_bytes / (decode_memory_fraction bandwidth)
        time   = memory + 2 launch_overhead + cache_bytes / cache_bandwidth

    The kernels work through the cache no faster than `cache_bandwidth`, whatever the GPU: few threads wait for one row
    after another.

    Parameters
    ----------
    cache_bytes : B of keys and values
    device, constants : datasheet of the GPU, constants of the library; s, B/s
    """
    cache = np.asarray(cache_bytes, float)
    memory = cache / (constants.decode_memory_fraction * device.bandwidth)
    latency = 2 * constants.launch_overhead + cache / constants.cache_bandwidth
    return KernelTimes(memory + latency, np.zeros_like(memory), memory, np.asarray(latency))
