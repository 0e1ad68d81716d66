"""Times scans over a state and indexers of sparse attention on one GPU."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.operators import Attention
from simgpu.model.state_operators import Indexer, Scan
from simgpu.timing.constants import ScanConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import Array, KernelTimes, smooth_maximum
from simgpu.timing.scan import SHARPNESS, ScanWork, indexer_time, picked_time, scan_time

CHANNELS = 128
"""Channels of a block of a selective scan (mamba-ssm, selective_scan_fwd_kernel: 128 threads)."""

LIBRARIES = ("flashinfer",)
"""Libraries of scans that an engine may name, besides the kernels in Triton that all have."""


def scan_library(named: str, variant: str) -> str:
    """The library of constants for a kind of recurrence: factors by row (KDA) have kernels of their own."""
    if variant == "kda":
        return "kda" if named == DEFAULT else "flashkda"
    return named if variant == "gated_delta" else DEFAULT


class ScanTimer:
    """Kernels of mixers with a state. `library` names the constants."""

    def __init__(self, device: Device, calibration: Calibration) -> None:
        self.device, self.calibration = device, calibration

    def scan(self, op: Scan, library: str = DEFAULT) -> KernelTimes:
        """A scan of new tokens into states: of a few tokens whichever is quicker, token by token or in a chunk."""
        if op.steps and op.tokens > 1:
            ways = (self._scan(op, library), self._scan(replace(op, chunked=True), library))
            return min(ways, key=lambda times: float(times.seconds))
        return self._scan(op, library)

    def _scan(self, op: Scan, library: str) -> KernelTimes:
        lanes = op.batch.size * op.heads.size
        peak = self._peak(op.dtype)
        if op.variant == "mamba":  # a thread for each channel, on the vector units
            lanes, peak = max(lanes // CHANNELS, 1), self.device.vector_peak
        work = ScanWork(op.flops, op.bytes, peak, 0 if op.steps else op.chunks * op.passes, lanes)
        return scan_time(work, self.device, self.calibration.read(ScanConstants, library))

    def indexer(self, op: Indexer, library: str = DEFAULT) -> KernelTimes:
        """Scores of all keys and the choice of the best."""
        work = ScanWork(op.flops, op.bytes, self._peak(op.dtype))
        return indexer_time(work, self.device, self.calibration.read(ScanConstants, library))

    def picked(self, op: Attention, streamed: KernelTimes) -> KernelTimes:
        """Attention of a few queries over picked keys, of which `streamed` is how long as many keys take to read."""
        fraction = self.calibration.read(ScanConstants, DEFAULT).picked_few_fraction
        products = self._picked(op, fraction, split=True)
        seconds = smooth_maximum((np.asarray(streamed.seconds), products), SHARPNESS)
        return KernelTimes(seconds, np.maximum(streamed.compute, products), streamed.memory, streamed.latency)

    def picked_prompt(self, op: Attention) -> KernelTimes:
        """The same of prompts, whose keys the products hide."""
        constants = self.calibration.read(ScanConstants, DEFAULT)
        products, launch = self._picked(op, constants.picked_fraction), np.asarray(constants.step_overhead)
        return KernelTimes(launch + products, products, np.zeros_like(products), launch)

    def _picked(self, op: Attention, fraction: float, split: bool = False) -> Array:
        rows, width, peak = op.batch.size * op.queries, float(op.head_dim + op.v_dim), self._peak("bf16")
        return picked_time(rows, op.heads.size, op.window, width, peak, self.device, fraction, split)

    def _peak(self, dtype: str) -> float:
        """Dense peak of a type, FLOP/s; where the GPU lacks it, that of 16 bits."""
        name = next((one for one in (dtype, "bf16", "fp16") if self.device.engine(one)), "fp32")
        return self.device.peak(name)
