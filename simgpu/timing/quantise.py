"""The kernel that quantises the activations of a matrix product before it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simgpu.timing.constants import QuantiseConstants
from simgpu.timing.device import Device
from simgpu.timing.gemm import GemmWork
from simgpu.timing.parts import KernelTimes

SCALED, CAST, NONE = "scaled", "cast", "none"
"""How activations come to the narrow type: a kernel looks for their scale and casts, casts by a scale that the
checkpoint gives, or the kernel before has written them so."""

CAST_BYTES = 3.0
"""B read and written for each activation that is cast from 16 bits to 8."""


def cast_time(work: GemmWork, device: Device, constants: QuantiseConstants) -> KernelTimes:
    """Seconds of the kernel that casts activations [m, k] by a scale that is given: `quantise_time` of one pass."""
    fixed = constants.quantise_overhead if constants.cast_overhead is None else constants.cast_overhead
    moved = min(constants.quantise_bytes, CAST_BYTES)
    one = replace(constants, quantise_overhead=fixed, quantise_bytes=moved, quantise_row=0.0, quantise_step=0.0)
    return quantise_time(work, device, one)


def quantise_time(work: GemmWork, device: Device, constants: QuantiseConstants) -> KernelTimes:
    """Seconds of the kernel that brings activations [m, k] to the narrow type before they are multiplied.

        time = quantise_overhead + k quantise_step
               + max(batch m k quantise_bytes / (memory_fraction bandwidth), batch m quantise_row)

    A kernel that takes a block for each row is done no sooner than its blocks have started, and one block works through
    a row from end to end.

    Parameters
    ----------
    work : the products that follow; n does not matter
    device : datasheet of the GPU: bandwidth in B/s
    constants : of the library; `quantise_bytes` are B read and written per activation, `quantise_row` s from one row
        to the next (0: blocks are not the limit), `quantise_step` s for each activation along a row
    """
    rows, along = np.asarray(work.batch, float) * np.asarray(work.m, float), np.asarray(work.k, float)
    memory = rows * along * constants.quantise_bytes / (constants.memory_fraction * device.bandwidth)
    latency = np.broadcast_to(constants.quantise_overhead + along * constants.quantise_step, memory.shape)
    busy = np.maximum(memory, rows * constants.quantise_row)
    return KernelTimes(latency + busy, np.zeros_like(memory), memory, latency)
