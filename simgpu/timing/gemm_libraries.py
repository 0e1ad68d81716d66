"""Libraries of matrix multiplications: their names, and the constants that each has on a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simgpu.hardware.inherit import DEFAULT, Calibration, filled
from simgpu.hardware.spec import GPUSpec
from simgpu.memo import Region
from simgpu.timing.constants import GemmConstants, PowerConstants, QuantiseConstants
from simgpu.timing.device import Device
from simgpu.timing.power import TensorClock, tensor_clock

SIMT = "simt"
"""Matrix multiplications on the vector units."""

WEIGHT_ONLY = "weight-only"
"""Weights stored narrower than what they are multiplied with."""

ROW_WISE = "fp8-rowwise"
"""Products in fp8 with a scale for each row and column, as PyTorch trains with them."""

GGML, GGML_GRAPHS = "ggml", "ggml-graphs"
"""Products of a few rows as llama.cpp runs them (`simgpu.timing.gemv`): launched one by one, or replayed as a graph."""

GGML_MMQ = "ggml-mmq"
"""Products of many rows by weights that stay in blocks, as llama.cpp multiplies them in 8-bit integers."""

BY_DTYPE = {"fp8": "fp8-scaled-mm", "int8": "fp8-scaled-mm", "fp4": "nvfp4", "fp64": "fp64"}
"""Which library multiplies a data type unless another is asked for; what the vector units multiply is `simt`.

int8 and fp8 share their kernels and the quantisation of the activations before them (vllm-project/vllm,
csrc/quantization/cutlass_w8a8: one CUTLASS kernel for both types).
"""

NAMED = (SIMT, WEIGHT_ONLY, ROW_WISE, GGML, GGML_GRAPHS, *BY_DTYPE.values())
"""Libraries that can be named on any GPU; one without constants of its own has the default's."""

MOST = 64
"""Libraries whose constants are remembered for a GPU."""

MEASURED_CLOCKS = ("clock_fraction", "throttle")
"""Constants of the clock under load that follow from the power limit where a GPU does not give them."""


@dataclass(frozen=True)
class GemmLibrary:
    """What a library is on a GPU: its products, the clock under them, and the kernel that quantises before them."""

    constants: GemmConstants
    clock: TensorClock
    quantise: QuantiseConstants | None = None  # None: activations come in the type that is multiplied


class GemmLibraries:
    """The libraries of one GPU. Clocks that nobody measured follow from its power limit.

    `sustained` is a long run, of hours: the clock of short kernels in it is lower than in a benchmark under the same
    power limit.
    """

    def __init__(self, gpu: GPUSpec, calibration: Calibration, device: Device, sustained: bool) -> None:
        self.gpu, self.calibration, self.device, self.sustained = gpu, calibration, device, sustained
        self._values: Region[str, dict[str, float]] = Region(MOST)
        self._libraries: Region[str, GemmLibrary] = Region(MOST)

    def chosen(self, dtype: str, accumulate: str | None = None, weights: str | None = None) -> str:
        """The library that multiplies a data type on this GPU unless another is named."""
        if weights is not None:
            return WEIGHT_ONLY
        if self.device.engine(dtype, accumulate) == "vector":
            return SIMT
        return BY_DTYPE.get(dtype, DEFAULT)

    def of(self, library: str = DEFAULT) -> GemmLibrary:
        """A library by its name. Raises `InputError` where the GPU lacks a constant that its model reads."""
        return self._libraries.known(library, lambda: self._made(library))

    def values(self, library: str = DEFAULT) -> dict[str, float]:
        """Constants of a library by name, SI units, those that follow from others among them."""
        return self._values.known(library, lambda: self._derived(library))

    def _made(self, library: str) -> GemmLibrary:
        values, whose = self.values(library), f"'{self.device.name}', library '{library}',"
        quantise = filled(QuantiseConstants, values, whose) if "quantise_bytes" in values else None
        clock = TensorClock(
            values["clock_fraction"],
            values["throttle"],
            values["throttle_time"],
            values.get("sustained_throttle", math.inf),
        )
        return GemmLibrary(filled(GemmConstants, values, whose), clock, quantise)

    def _derived(self, library: str) -> dict[str, float]:
        """Constants as files give them, with the clock and the rate of L2 that follow where they give none.

        Clocks measured under tensor load say nothing of the vector units (`simt`).
        """
        found = dict(self.calibration.group("gemm", library))
        if library == SIMT:
            own = {path[2] for path in self.calibration.given if path[:2] == ("gemm", SIMT)}
            found = {name: value for name, value in found.items() if name in own or name not in MEASURED_CLOCKS}
        power = self.calibration.read(PowerConstants, library)
        clock_fraction, throttle = self._clock(power, library)
        found = {"clock_fraction": clock_fraction, "throttle": throttle, **found}
        del found["steady_slowdown"]
        if self.sustained and library == DEFAULT:  # others' clocks under load are in their throttle
            found["clock_fraction"] /= power.steady_slowdown
        if library not in (DEFAULT, SIMT):
            found["sustained_throttle"] = self.values()["throttle"]
        if "l2_bytes_per_clock" not in found:
            rate = found["l2_bytes_per_flop"] * self.gpu.half_peak.si / self.device.sm_count
            found["l2_bytes_per_clock"] = rate / self.device.clock
        return found

    def _clock(self, constants: PowerConstants, library: str) -> tuple[float, float]:
        """(clock_fraction, throttle) from the power limit."""
        clocks, power = self.gpu.compute, self.gpu.power
        tensor, vector = power.rated_peak or self.gpu.half_peak, power.rated_vector_peak or self.gpu.vector_peak
        peak = (vector if library == SIMT else tensor).si
        energy = constants.energy_per_flop * clocks.boost_clock.si / (clocks.rated_clock or clocks.boost_clock).si
        return tensor_clock(power.tdp.si, peak, constants.compute_fraction, energy, constants.burst_exponent)
