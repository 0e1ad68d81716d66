"""Times scans over a state and indexers of sparse attention on one GPU."""

from __future__ import annotations

from dataclasses import replace

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.state_operators import Indexer, Scan
from simgpu.timing.constants import ScanConstants
from simgpu.timing.device import Device
from simgpu.timing.parts import KernelTimes
from simgpu.timing.scan import IndexWork, ScanWork, indexer_time, scan_time

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

    def scan(self, op: Scan, library: str = DEFAULT, warm: bool = False) -> KernelTimes:
        """A scan of new tokens into states: of a few tokens whichever is quicker, token by token or in a chunk.

        Kernels of factors by row (KDA) go token by token and write the state after each of them: two, four and eight
        tokens take as long as 3, 5 and 9 passes over the states (fused_recurrent_kda of flash-linear-attention).

        `warm`: the same states were read just before and lie in L2 as far as they fit, as in a benchmark that replays
        one kernel; layers of a model take turns.
        """
        if op.steps and op.tokens > 1 and op.variant != "kda":
            ways = (self._scan(op, library, warm), self._scan(replace(op, chunked=True), library, warm))
            return min(ways, key=lambda times: float(times.seconds))
        return self._scan(op, library, warm)

    def _scan(self, op: Scan, library: str, warm: bool) -> KernelTimes:
        lanes = op.batch.size * op.heads.size
        peak = self._peak(op.dtype)
        copies = 1 + (op.tokens if op.tokens > 1 else 0)  # one after each token that is verified
        held = copies * op.state_bytes if warm else 0.0
        if op.variant == "mamba":  # a thread for each channel, on the vector units
            lanes, peak = max(lanes // CHANNELS, 1), self.device.vector_peak
        work = ScanWork(op.flops, op.bytes, peak, 0 if op.steps else op.chunks * op.passes, lanes, held)
        return scan_time(work, self.device, self.calibration.read(ScanConstants, library))

    def indexer(self, op: Indexer, library: str = DEFAULT) -> KernelTimes:
        """Scores of all keys and the choice of the best."""
        rows, sees = op.batch.size * op.queries, op.pairs / op.queries
        scores = op.score_bytes
        keys = sees if op.keys > op.chosen else 0.0
        work = IndexWork(op.flops, scores, op.bytes - 2 * scores, self._peak(op.dtype), rows * op.passes, keys)
        return indexer_time(work, self.device, self.calibration.read(ScanConstants, library))

    def _peak(self, dtype: str) -> float:
        """Dense peak of a type, FLOP/s; where the GPU lacks it, that of 16 bits."""
        name = next((one for one in (dtype, "bf16", "fp16") if self.device.engine(one)), "fp32")
        return self.device.peak(name)
