"""Libraries of matrix multiplications: their names, and the constants that each has on a GPU."""

from __future__ import annotations

import math
from dataclasses import dataclass

from simgpu.hardware.inherit import DEFAULT, Calibration, filled
from simgpu.hardware.power import NARROW_ENERGY, clock_under, highest_clock, tensor_demand
from simgpu.hardware.spec import GPUSpec
from simgpu.memo import Region
from simgpu.timing.constants import GemmConstants, PowerConstants, QuantiseConstants
from simgpu.timing.device import Device
from simgpu.timing.power import TensorClock, clock_shape

SIMT = "simt"
"""Matrix multiplications on the vector units."""

WEIGHT_ONLY = "weight-only"
"""Weights stored narrower than what they are multiplied with."""

WIDENING = "weight-only-trtllm"
"""The same in TensorRT-LLM (fpA_intB_gemm), whose kernels stop to widen a tile; Marlin widens while it multiplies."""

ROW_WISE = "fp8-rowwise"
"""Products in fp8 with a scale for each row and column, as PyTorch trains with them."""

BLOCK_WISE = "fp8-block"
"""Products in fp8 with a scale for each 128 values, 128 x 128 of weights."""

GGML, GGML_GRAPHS = "ggml", "ggml-graphs"
"""Products of a few rows as llama.cpp runs them (`simgpu.timing.gemv`): launched one by one, or replayed as a graph."""

GGML_MMQ = "ggml-mmq"
"""Products of many rows by weights that stay in blocks, as llama.cpp multiplies them in 8-bit integers."""

BY_DTYPE = {"fp8": "fp8-scaled-mm", "int8": "fp8-scaled-mm", "fp4": "nvfp4", "fp64": "fp64"}
"""Which library multiplies a data type unless another is asked for; what the vector units multiply is `simt`.

int8 and fp8 share their kernels and the quantisation of the activations before them (vllm-project/vllm,
csrc/quantization/cutlass_w8a8: one CUTLASS kernel for both types).
"""

ENGINES = {
    "fp8-scaled-mm": "SGLang's CUTLASS kernels in fp8 (sgl-kernel), a scale for each token, found in a kernel before",
    "fp8-cutlass": "vLLM's CUTLASS kernels in fp8, quantised the same way",
    "fp8-trtllm": "TensorRT-LLM's kernels in fp8 (cuBLASLt, CUTLASS), one scale, looked for in kernels of their own",
    "fp8-block": "DeepGEMM, fp8 with a scale for each 128, as SGLang and vLLM call it",
    "fp8-block-trtllm": "TensorRT-LLM's kernels of fp8 with a scale for each 128: CUTLASS, DeepGEMM on Blackwell",
    "nvfp4": "CuTe-DSL kernels of NVFP4 in FlashInfer, as SGLang calls them",
    "nvfp4-vllm": "the same, as vLLM calls them",
    "nvfp4-trtllm": "TensorRT-LLM's kernels of NVFP4 (cuBLASLt, CUTLASS)",
    WIDENING: "TensorRT-LLM's kernels of weights in 4 and 8 bits (fpA_intB_gemm), widened for each tile of rows",
}
"""Libraries of narrow products that serving engines have, and what they are. Each quantises in its own way,
but that of weights alone."""

NAMED = (SIMT, WEIGHT_ONLY, ROW_WISE, GGML, GGML_GRAPHS, *BY_DTYPE.values(), *ENGINES)
"""Libraries that can be named on any GPU; one without constants of its own has the default's."""

NARROW = frozenset(BY_DTYPE[dtype] for dtype in ("fp8", "int8", "fp4"))
"""Libraries of products that an engine may replace by its own."""

OF_DTYPE = {"fp8-scaled-mm": "fp8", "nvfp4": "fp4"}
"""Libraries whose products training runs with cuBLASLt, under the law of power, by what they multiply."""

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

    `training` are products inside training steps, whose clock is lower than in a loop under the same power limit: their
    operands are cold, and links, memory and seven other GPUs draw power and heat beside them.
    """

    def __init__(self, gpu: GPUSpec, calibration: Calibration, device: Device, training: bool = False) -> None:
        self.gpu, self.calibration, self.device, self.training = gpu, calibration, device, training
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
        del found["training_slowdown"]
        lawful = (DEFAULT, *OF_DTYPE) if self.training else (DEFAULT,)
        if self.training and library in lawful:
            if library in OF_DTYPE:  # the throttle of its file is that of an engine's kernels
                found |= {"clock_fraction": clock_fraction, "throttle": throttle}
            found["clock_fraction"] /= power.training_slowdown
        if library not in (*lawful, SIMT):
            found["sustained_throttle"] = self.values()["throttle"]
        if "l2_bytes_per_clock" not in found:
            rate = found["l2_bytes_per_flop"] * self.gpu.half_peak.si / self.device.sm_count
            found["l2_bytes_per_clock"] = rate / self.device.clock
        return found

    def _narrow_demand(self, library: str) -> float:
        """Power of narrow products inside a training step at the highest clock over that of 16-bit ones."""
        dtype = OF_DTYPE.get(library) if self.training else None
        if dtype is None:
            return 1.0
        return NARROW_ENERGY[dtype] * self.device.peak(dtype) / self.gpu.half_peak.si

    def _clock(self, constants: PowerConstants, library: str) -> tuple[float, float]:
        """(clock_fraction, throttle) from the power limit.

        Products on the vector units draw by their own energy and peak, which holds at the highest clock. Cards that run
        above the clock of their datasheet reach its peak, no more: utilisation is a share of that.
        """
        compute, power = self.gpu.compute, self.gpu.power
        top, rated = highest_clock(self.gpu), power.rated_tdp or power.tdp
        if library == SIMT:
            peak = power.rated_vector_peak.si if power.rated_vector_peak else self.gpu.vector_peak.datasheet
            demand = constants.energy_per_flop * constants.compute_fraction * peak / rated.si
            of_peak = top * self.gpu.vector_peak.si / self.gpu.vector_peak.datasheet
        else:
            demand = tensor_demand(self.gpu, constants.energy_per_flop, constants.compute_fraction)
            demand *= self._narrow_demand(library)
            of_peak = compute.boost_clock.si
        clock = min(clock_under(power.tdp.si / rated.si, demand) * top, (compute.max_clock or compute.boost_clock).si)
        sustained = min(clock / of_peak, 1 / constants.compute_fraction)
        return clock_shape(sustained, constants.burst_exponent)
