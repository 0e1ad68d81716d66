"""Figures of a GPU that no known part comes near: a wrong unit, or a board's figure taken for a chip's.

Each check is a figure, or a quotient of figures, with the least and the greatest value among the parts of the catalogue
(a test holds the table to it). What lies beyond them by more than `FAR` is a doubt: a sentence, never an error, because
next year's part may go there.
"""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.hardware.spec import GPUSpec
from simgpu.units import format_si

FAR = 4.0
"""How far beyond every known part a figure may lie before it is doubted: two to three generations of GPUs."""


@dataclass(frozen=True)
class Check:
    """A figure's key, its value on one GPU, its SI unit, and the range over the catalogue."""

    key: str
    value: float
    unit: str
    least: float
    most: float
    means: str = ""  # of a quotient: what it is

    @property
    def doubt(self) -> str:
        """One sentence where the value is far outside the range, else empty."""
        if self.least / FAR <= self.value <= self.most * FAR:
            return ""
        what = f"{self.key}{f' ({self.means})' if self.means else ''} = {format_si(self.value, self.unit)}"
        return f"{what}: known parts have {format_si(self.least, self.unit)} to {format_si(self.most, self.unit)}"


def checks(gpu: GPUSpec) -> list[Check]:
    """Every check of a whole GPU (not of a MIG slice)."""
    clocks = gpu.compute.sm_count.si * gpu.compute.boost_clock.si  # multiprocessor clocks per second
    half, vector, memory = gpu.half_peak.si, gpu.vector_peak.si, gpu.memory
    of_half, of_vector = f"gpu.peak.{gpu.half_peak.key}", f"gpu.peak.{gpu.vector_peak.key}"
    return [
        Check("gpu.memory.bandwidth", memory.bandwidth.si, "B/s", 68.25e9, 8e12),
        Check("gpu.memory.capacity", memory.capacity.si, "B", 5461 * 2**20, 288 * 2**30),
        Check("gpu.memory.l2_cache", memory.l2_cache.si, "B", 2 * 2**20, 128 * 2**20),
        Check("gpu.compute.boost_clock", gpu.compute.boost_clock.si, "Hz", 1.063e9, 2.61e9),
        Check("gpu.power.tdp", gpu.power.tdp.si, "W", 15, 1400),
        Check(of_half, half, "FLOP/s", 2.29e12, 2.517e15),
        Check(of_vector, vector, "FLOP/s", 2.29e12, 163.4e12),
        Check(of_half, half / clocks, "FLOP", 128, 10_909, "per clock and multiprocessor"),
        Check(of_vector, vector / clocks, "FLOP", 127.3, 294.3, "per clock and multiprocessor"),
        Check(of_half, half / memory.bandwidth.si, "FLOP", 12.75, 453.3, "per byte of memory bandwidth"),
    ]


def doubts(gpu: GPUSpec) -> list[str]:
    """A sentence for each figure of `gpu` that lies far outside every known part."""
    found = [check.doubt for check in checks(gpu)]
    if gpu.half_peak.engine == "vector" and gpu.half_peak.si > 100e12:
        found.append("gpu.peak: gives no tensor peak, so matrices are multiplied on the vector units")
    return [doubt for doubt in found if doubt]
