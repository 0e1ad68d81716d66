"""Figures of a GPU that no known part comes near: a wrong unit, or a figure of a board, a module or a sparse peak.

Each check is a figure, or a quotient of figures, with the least and the greatest value among the parts of the catalogue
(a test holds the tables to it) and how far beyond them it may lie. What lies farther is a doubt: a sentence, never an
error, because next year's part may go there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from simgpu.hardware.spec import ArchitectureSpec, GPUSpec, Most
from simgpu.units import format_si

SUSPECT_FACTOR = 4.0
"""Factor beyond every known part from which a figure is questioned: two to three generations of GPUs."""

RELATED = 1.4
"""The same of what the GPUs of an architecture share, and of a pin: below the 2 of sparsity or of a module of two."""

PIN_RATES = {
    "GDDR5": (5e9, 8e9),
    "GDDR5X": (10e9, 12e9),
    "GDDR6": (10e9, 20e9),
    "GDDR6X": (19e9, 24e9),
    "GDDR7": (24.9e9, 32e9),
    "HBM2": (1.4e9, 2.43e9),
    "HBM2e": (3e9, 3.65e9),
    "HBM3": (5.1e9, 6.4e9),
    "HBM3e": (5.8e9, 9.8e9),
    "LPDDR": (4.2e9, 9.6e9),
}
"""Bits per second on one pin of a kind of memory: from the slowest part of the catalogue to the fastest that JEDEC
standards and vendors name (JESD212, 232, 250, 239, 235, 238, 209; Micron for GDDR6X)."""


@dataclass(frozen=True)
class Check:
    """A figure's key, its value on one GPU, its SI unit, the range it is held to, and how far beyond it may lie."""

    key: str
    value: float
    unit: str
    least: float
    most: float
    means: str = ""  # of a quotient: what it is
    far: float = SUSPECT_FACTOR
    whose: str = "known parts have"
    asks: str = ""  # what the figure may be of instead

    @property
    def doubt(self) -> str:
        """One sentence where the value is far outside the range, else empty."""
        if self.least / self.far <= self.value <= self.most * self.far:
            return ""
        what = f"{self.key}{f' ({self.means})' if self.means else ''} = {format_si(self.value, self.unit)}"
        known = format_si(self.most, self.unit)
        known = f"{format_si(self.least, self.unit)} to {known}" if self.least else f"{known} at most"
        return f"{what}: {self.whose} {known}{f'; {self.asks}?' if self.asks else ''}"


def most_of(architectures: Iterable[ArchitectureSpec]) -> tuple[str, Most | None]:
    """The bounds of the first of `architectures` that states any, with its name; ('', None) if none does."""
    return next(((level.name, level.most) for level in architectures if level.most), ("", None))


def checks(gpu: GPUSpec, architectures: Iterable[ArchitectureSpec] = ()) -> list[Check]:
    """Every check of a whole GPU (not of a MIG slice), with `architectures` those of its relatives too."""
    clocks = gpu.compute.sm_count.si * gpu.compute.boost_clock.si  # multiprocessor clocks per second
    half, vector, memory = gpu.half_peak.si, gpu.vector_peak.si, gpu.memory
    of_half, of_vector = f"gpu.peak.{gpu.half_peak.key}", f"gpu.peak.{gpu.vector_peak.key}"
    each = "per clock and multiprocessor"
    return [
        Check("gpu.memory.bandwidth", memory.bandwidth.si, "B/s", 68.25e9, 8e12),
        Check("gpu.memory.capacity", memory.capacity.si, "B", 5461 * 2**20, 288 * 2**30),
        Check("gpu.memory.l2_cache", memory.l2_cache.si, "B", 2 * 2**20, 128 * 2**20),
        Check("gpu.compute.boost_clock", gpu.compute.boost_clock.si, "Hz", 1.063e9, 2.61e9),
        Check("gpu.power.tdp", gpu.power.tdp.si, "W", 15, 1400),
        Check(of_half, half, "FLOP/s", 2.29e12, 2.517e15),
        Check(of_vector, vector, "FLOP/s", 2.29e12, 163.4e12),
        Check(of_half, half / clocks, "FLOP", 128, 10_909, each),
        Check(of_vector, vector / clocks, "FLOP", 127.3, 294.3, each),
        Check(of_half, half / memory.bandwidth.si, "FLOP", 12.75, 947.6, "per byte of memory bandwidth"),
        *_of_relatives(gpu, *most_of(architectures)),
        *_of_memory(gpu),
    ]


def _of_relatives(gpu: GPUSpec, name: str, most: Most | None) -> list[Check]:
    """Checks of the figures that GPUs of an architecture share; a clock limit leaves them those of the whole GPU."""
    if most is None:
        return []
    clock = (gpu.compute.rated_clock or gpu.compute.boost_clock).si
    watts = gpu.power.tdp.si / gpu.compute.sm_count.si / clock * 1e9
    flop = gpu.half_peak.datasheet / gpu.compute.sm_count.si / clock
    whose = f"GPUs of {name} have"
    return [
        Check(
            f"gpu.peak.{gpu.half_peak.key}", flop, "FLOP", 0, most.flop_per_clock.si, "per clock and multiprocessor",
            RELATED, whose, "is it with sparsity, or of several dies",
        ),
        Check(
            "gpu.power.tdp", float(f"{watts:.3g}"), "W", 0, most.watts_per_ghz.si, "per multiprocessor and GHz",
            RELATED, whose, "is it of a module with a processor, or of several GPUs",
        ),
    ]  # fmt: skip


def _of_memory(gpu: GPUSpec) -> list[Check]:
    """A check of the rate of one memory pin, where the width of the bus is given."""
    memory = gpu.memory
    kind = "LPDDR" if memory.type.startswith("LPDDR") else memory.type
    if memory.bus_width is None or kind not in PIN_RATES:
        return []
    rate = 8 * memory.bandwidth.si / memory.bus_width.si
    return [
        Check(
            "gpu.memory.bandwidth", rate, "b/s", *PIN_RATES[kind], "per pin of gpu.memory.bus_width",
            RELATED, f"{kind} has", "is it of both directions, of one die of several, or of another memory",
        )
    ]  # fmt: skip


def doubts(gpu: GPUSpec, architectures: Iterable[ArchitectureSpec] = ()) -> list[str]:
    """A sentence for each figure of `gpu` that lies far outside every known part, or outside its `architectures`."""
    found = [check.doubt for check in checks(gpu, architectures)]
    if gpu.half_peak.engine == "vector" and gpu.half_peak.si > 100e12:
        found.append("gpu.peak: gives no tensor peak, so matrices are multiplied on the vector units")
    return [doubt for doubt in found if doubt]
