"""Kernels that stream: normalisation, softmax, elementwise work, gathers, updates, reductions.

What an operator does is a `StreamWork` (`simgpu.timing.vector_work`); how long that takes on a GPU is `stream_time`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from simgpu.timing.constants import StreamConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array, ArrayLike, KernelTimes, smooth_maximum


class StreamWork(NamedTuple):
    """The work of one operator: FLOPs, bytes, launches; arrays broadcast against each other.

    A block of `threads` threads makes `steps` dependent trips to memory, one after the other: a row of a
    normalisation is one block, and two passes over a row of eight loads a thread are sixteen trips. `read` and
    `written` are bytes that must pass the memory system once, `reread` those that come back after each block has
    read `row_bytes` (and hit L2 if all rows in flight fit). `instructions` are those of single threads (lanes), summed.
    """

    blocks: ArrayLike
    threads: ArrayLike
    steps: ArrayLike
    read: ArrayLike  # B
    written: ArrayLike  # B
    reread: ArrayLike = 0.0  # B
    row_bytes: ArrayLike = 0.0  # B
    instructions: ArrayLike = 0.0
    flops: ArrayLike = 0.0
    special: ArrayLike = 0.0  # exp, tanh, rsqrt ...: results of the special function units
    chain: ArrayLike = 0.0  # clocks of dependent arithmetic behind each trip
    kernels: ArrayLike = 1.0  # launched one after another
    in_place: ArrayLike = 0.0  # 1: written where it was read, so that it takes its room in L2 once
    flat: ArrayLike = 0.0  # 1: no block waits for others or passes again, 0: rows with barriers


def stream_time(work: StreamWork, device: Device, constants: StreamConstants, warm: float = 1.0) -> KernelTimes:
    """Seconds of streaming kernels.

        at_once = SMs floor(threads_per_sm / threads)                        blocks that run at a time
        hit     = warm / (1 + (footprint / (l2_fraction L2))^l2_sharpness)   what the kernel before left in L2
        rehit   = 1 / (1 + (min(blocks, at_once) row_bytes / (l2_fraction L2))^reread_sharpness)
        dram    = ((read + written) (1 - hit) + reread (1 - rehit)) / (memory_fraction bandwidth)
        l2_rate = max(l2_bytes_per_clock clock SMs, l2_memory_ratio bandwidth)      slices feed the memory channels
        l2      = (read + written) / min(l2_rate, sm_bytes_per_clock clock min(blocks, SMs))
        far     = read (1 - hit) / (read + reread)                           part of the trips that go to DRAM
        trip    = memory_latency (l2_latency_fraction (1 - far) + far) + chain / clock
        latency = ceil(blocks / at_once) steps trip
        issue   = (instructions / lanes_per_sm + special / special_per_sm) / (clock SMs), or flops / peak if longer
        busy    = (max(dram, l2)^p + latency^p + issue^p)^(1/p),  p = overlap or flat_overlap
        time    = kernels launch_overhead + host_overhead + max(busy, host_tail)

    The latency term is Little's law: with few threads, or few bytes a thread asks for at a time, trips to memory and
    not its bandwidth decide (J. Little, 1961; V. Volkov, "Understanding Latency Hiding on GPUs", 2016). Waves are
    whole: one row more than run at a time costs another wave. `hit` falls gently, because what is left of a tensor
    larger than L2 is a matter of chance and of writes still to be written back; `rehit` falls sharply, because cyclic
    reuse of more than fits evicts everything. `host_tail` is what the host still does after the launch when it times
    a kernel by its own clock, and hides a short kernel.

    Parameters
    ----------
    work : of the operators; arrays broadcast against each other
    device : datasheet of the GPU: clock in Hz, bandwidth in B/s, L2 in B, peak of the vector units in FLOP/s
    constants : of the library; times in s, what is per SM or per clock is per SM and clock. `l2_bytes_per_clock` with
        all SMs at work, `sm_bytes_per_clock` the port of one, `lanes_per_sm` and `special_per_sm` results of its units
    warm : 1 where inputs or outputs were just used by the kernel before, 0 where something flushed L2 in between
    """
    w, c = StreamWork(*np.broadcast_arrays(*(np.asarray(one, float) for one in work))), constants
    sms, clock, bandwidth = device.sm_count, device.clock, device.bandwidth
    capacity, moved = c.l2_fraction * device.l2_bytes, w.read + w.written
    at_once = sms * np.maximum(np.floor(c.threads_per_sm / w.threads), 1.0)
    footprint = np.where(w.in_place > 0, np.maximum(w.read, w.written), moved) / w.kernels
    hit = warm * hits(footprint, capacity, c.l2_sharpness)
    rehit = hits(np.minimum(w.blocks, at_once) * w.row_bytes, capacity, c.reread_sharpness)
    dram = (moved * (1 - hit) + w.reread * (1 - rehit)) / (c.memory_fraction * bandwidth)
    l2_rate = max(c.l2_bytes_per_clock * sms * clock, c.l2_memory_ratio * bandwidth)
    l2 = moved / np.minimum(l2_rate, c.sm_bytes_per_clock * clock * np.clip(w.blocks, 1.0, sms))
    far = w.read * (1 - hit) / np.maximum(w.read + w.reread, 1e-30)
    trip = c.memory_latency * (c.l2_latency_fraction * (1 - far) + far) + w.chain / clock
    latency = np.ceil(w.blocks / at_once) * w.steps * trip
    issue = (w.instructions / c.lanes_per_sm + w.special / c.special_per_sm) / (clock * sms)
    issue = np.maximum(issue, w.flops / device.vector_peak)
    fixed = w.kernels * c.launch_overhead + c.host_overhead
    exponent = np.where(w.flat > 0, c.flat_overlap, c.overlap)
    busy = np.maximum(smooth_maximum((np.maximum(dram, l2), latency, issue), exponent), c.host_tail)
    return KernelTimes(fixed + busy, issue, np.maximum(dram, l2), fixed + latency)


def hits(footprint: ArrayLike, capacity: float, sharpness: float) -> Array:
    """Part of reused bytes that a cache of `capacity` bytes still holds: 1 / (1 + (footprint / capacity)^sharpness)."""
    return np.asarray(1.0 / (1.0 + (np.asarray(footprint, float) / capacity) ** sharpness))
