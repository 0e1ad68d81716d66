"""Methods of `simgpu.timing.timer.GPUTimer` for matrix multiplications."""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np

from simgpu.errors import InputError, shown
from simgpu.hardware.inherit import DEFAULT
from simgpu.model.config import MAX_EXPERTS
from simgpu.model.formats import format_of
from simgpu.model.operators import BYTES
from simgpu.timing.base import TimerBase
from simgpu.timing.checks import check_dtypes, check_format, check_library, check_sizes
from simgpu.timing.parts import ArrayLike, KernelTimes

SIMT = "simt"
"""Matrix multiplications on the vector units."""

WEIGHT_ONLY = "weight-only"
"""Weights stored narrower than what they are multiplied with."""

ROW_WISE = "fp8-rowwise"
"""Products in fp8 with a scale for each row and column, as PyTorch trains with them."""

EXPERT_LIBRARIES = ("cutlass-fp8", "cutlass-fp4")
"""Libraries of experts in narrow dtypes (int8 has those of fp8); a GPU without constants of them has the default's."""

CLOCKS = ("clock_fraction", "throttle")

LIBRARIES = {"fp8": "fp8-scaled-mm", "int8": "fp8-scaled-mm", "fp4": "nvfp4", "fp64": "fp64"}
"""Which library multiplies a dtype unless another is asked for; what the vector units multiply is `simt`.

int8 and fp8 share their kernels and the quantisation of the activations before them (vllm-project/vllm,
csrc/quantization/cutlass_w8a8: one CUTLASS kernel for both types).
"""

GGML, GGML_GRAPHS = "ggml", "ggml-graphs"
"""Products of a few rows as llama.cpp runs them (`simgpu.timing.gemv`): launched one by one, or replayed as a graph."""

GGML_MMQ = "ggml-mmq"
"""Products of many rows by weights that stay in blocks, as llama.cpp multiplies them in 8-bit integers."""


class MatrixTimer(TimerBase):
    """Matrix multiplications. All sizes broadcast."""

    def gemm(
        self,
        m: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        batch: ArrayLike = 1,
        dtype: str = "bf16",
        accumulate: str | None = None,
        library: str = DEFAULT,
        weights: str | None = None,
        rotation: float = math.inf,
        sustained: bool | None = None,
    ) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n], `batch` times; output in 2 bytes for inputs narrower than that.

        `weights` is what B is stored in where it is narrower than `dtype` (`simgpu.model.formats`: int8, int4, fp8,
        fp4, q4_k ...): it is read at that width and converted on the way. In fp8 and fp4 without `weights` a kernel
        before it quantises A. `rotation` and `sustained` as in `simgpu.timing.gemm.gemm_time`.
        """
        from simgpu.timing.gemm import gemm_time

        check_sizes(m=m, n=n, k=k, batch=batch)
        check_dtypes(dtype)
        check_library(
            library, self.constants, "gemm", (SIMT, WEIGHT_ONLY, ROW_WISE, GGML, GGML_GRAPHS, *LIBRARIES.values())
        )
        if weights is not None:
            check_format(weights)
        if library == DEFAULT:
            library = self.matrix_library(dtype, accumulate, weights)
        width = BYTES[dtype]
        figures = {**self.device, **self.matrix_constants(library)}
        times = gemm_time(
            m,
            n,
            k,
            batch=batch,
            input_bytes=width,
            output_bytes=max(width, 2.0),
            weight_bytes=format_of(weights).bytes if weights else None,
            rotation=rotation,
            sustained=self.sustained if sustained is None else sustained,
            peak=self.peak(dtype, accumulate),
            **figures,
        )
        if "quantise_bytes" not in figures:
            return times
        return times + quantise_time(m, k, batch, **figures)

    def gemv(
        self, m: ArrayLike, n: ArrayLike, k: ArrayLike, dtype: str = "fp16", weights: str | None = None,
        library: str = GGML,
    ) -> KernelTimes:  # fmt: skip
        """C[m, n] = A[m, k] B[k, n] for a few rows m, as llama.cpp multiplies: B as stored, A and C in fp32."""
        from simgpu.timing.gemv import gemv_time

        check_sizes(m=m, n=n, k=k)
        check_dtypes(dtype)
        if weights is not None:
            check_format(weights)
        figures = self._ggml(library)
        stored = format_of(weights).bytes if weights else BYTES[dtype]
        return gemv_time(m, n, k, weight_bytes=stored, input_bytes=4.0, output_bytes=4.0, **figures)

    def quantised(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, weights: str) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n] with B in blocks and A in 8-bit integers, as llama.cpp multiplies many rows."""
        from simgpu.timing.gemv import mmq_time

        check_sizes(m=m, n=n, k=k)
        check_format(weights)
        figures = self._ggml(GGML_MMQ)
        return mmq_time(m, n, k, weight_bytes=format_of(weights).bytes, peak=self.peak("int8"), **figures)

    def _ggml(self, library: str) -> dict[str, float]:
        """Figures of a library of llama.cpp's products."""
        figures = {**self.device, **self.constants.group("gemm", library)}
        if not (self.gpu.memory.ecc.value and self.gpu.memory.type.startswith("GDDR")):
            figures["inline_ecc_fraction"] = 1.0
        return figures

    def expert_library(self, dtype: str) -> str:
        """The library that multiplies experts in a dtype."""
        return {"fp4": "cutlass-fp4", "fp8": "cutlass-fp8", "int8": "cutlass-fp8"}.get(dtype, DEFAULT)

    def moe_layer(
        self, tokens: ArrayLike, hidden: ArrayLike, inner: ArrayLike, topk: ArrayLike, experts: ArrayLike,
        tp: ArrayLike = 1, ep: ArrayLike = 1, gated: ArrayLike = True, distribution: ArrayLike = "random",
        dtype: str = "bf16", library: str = DEFAULT, rotation: float = math.inf, sustained: bool | None = None,
        weights: str | None = None, whole: bool = True,
    ) -> KernelTimes:  # fmt: skip
        """The experts of a mixture-of-experts layer on the busiest rank, without all-to-all.

        `tokens` enter over the whole expert-parallel group of `ep` ranks; each expert of width `inner` is split over
        `tp`. `distribution` and `whole` as in `simgpu.timing.routing.rank_loads` and `rank_load`, `weights` as in
        `gemm`.
        """
        from simgpu.timing.moe import moe_time
        from simgpu.timing.routing import TILE_ROWS, rank_load

        check_sizes(tokens=tokens, hidden=hidden, inner=inner, topk=topk, tp=tp, ep=ep)
        check_sizes(1, MAX_EXPERTS, experts=experts)
        check_dtypes(dtype)
        check_library(library, self.constants, "moe", EXPERT_LIBRARIES)
        _check_experts(topk, experts, ep)
        given = np.broadcast_arrays(tokens, topk, experts, ep, distribution)
        flat = zip(*(array.reshape(-1).tolist() for array in given), strict=True)
        try:
            loads = [rank_load(int(n), int(t), int(e), int(r), str(how), whole) for n, t, e, r, how in flat]
        except ValueError:
            problem = f"{shown(distribution)} is not known; expected balanced, random, power_law_A or popularity_A"
            raise InputError(problem, key="distribution") from None
        shape = given[0].shape
        if library == DEFAULT:
            library = self.expert_library(dtype)
        figures = {**self.device, **self.matrix_constants(), **self.constants.group("moe", library)}
        return moe_time(
            tokens, np.reshape([x.visits for x in loads], shape), np.reshape([x.active for x in loads], shape),
            np.reshape([x.blocks for x in loads], (*shape, len(TILE_ROWS))), hidden,
            np.asarray(inner, float) / np.asarray(tp, float), gated=gated, input_bytes=BYTES[dtype], rotation=rotation,
            sustained=self.sustained if sustained is None else sustained, peak=self.peak(dtype),
            routed=np.asarray(tokens, float) * np.asarray(topk, float),
            weight_bytes=format_of(weights).bytes if weights else None, **figures,
        )  # fmt: skip

    def matrix_library(self, dtype: str, accumulate: str | None = None, weights: str | None = None) -> str:
        """The library that multiplies a dtype on this GPU unless another is named."""
        if weights is not None:
            return WEIGHT_ONLY
        if self.engine(dtype, accumulate) == "vector":
            return SIMT
        return LIBRARIES.get(dtype, DEFAULT)

    def matrix_constants(self, library: str = DEFAULT) -> dict[str, float]:
        """Constants of a library of matrix multiplications; clocks that nobody measured follow from the power limit.

        Clocks measured under tensor load say nothing of the vector units (`simt`).
        """
        known = self._matrix_constants.get(library)
        if known is not None:
            return known
        found = dict(self.constants.group("gemm", library))
        if library == SIMT:
            own = {path[2] for path in self.constants.given if path[:2] == ("gemm", SIMT)}
            found = {name: value for name, value in found.items() if name in own or name not in CLOCKS}
        clock, throttle = self._clocks(found, library)
        found = {"clock_fraction": clock, "throttle": throttle, **found}
        steady = found.pop("steady_slowdown")
        if self.sustained and library == DEFAULT:  # others' clocks under load are in their throttle
            found["clock_fraction"] /= steady
        if library not in (DEFAULT, SIMT):
            found["sustained_throttle"] = self.matrix_constants()["throttle"]
        if "l2_bytes_per_clock" not in found:
            found["l2_bytes_per_clock"] = found["l2_bytes_per_flop"] * self.gpu.half_peak.si / self.device["sm_count"]
            found["l2_bytes_per_clock"] /= self.device["clock"]
        self._matrix_constants[library] = found
        return found

    @cached_property
    def _matrix_constants(self) -> dict[str, dict[str, float]]:
        return {}

    def _clocks(self, found: dict[str, float], library: str) -> tuple[float, float]:
        """(clock_fraction, throttle) from the power limit."""
        from simgpu.timing.power import tensor_clock

        clocks, power = self.gpu.compute, self.gpu.power
        tensor, vector = power.rated_peak or self.gpu.half_peak, power.rated_vector_peak or self.gpu.vector_peak
        peak = vector if library == SIMT else tensor
        energy = found["energy_per_flop"] * clocks.boost_clock.si / (clocks.rated_clock or clocks.boost_clock).si
        return tensor_clock(power.tdp.si, peak.si, found["compute_fraction"], energy, found["burst_exponent"])


def _check_experts(topk: ArrayLike, experts: ArrayLike, ep: ArrayLike) -> None:
    """Raise `InputError` unless a token can visit `topk` experts and each of `ep` ranks has as many as the others."""
    k, e, r = np.broadcast_arrays(np.asarray(topk, float), np.asarray(experts, float), np.asarray(ep, float))
    for key, given, wrong, says in (("topk", k, k > e, "is more than"), ("ep", r, e % r != 0, "does not divide")):
        if wrong.any():
            raise InputError(f"{given[wrong].flat[0]:g} {says} experts = {e[wrong].flat[0]:g}", key=key)


def quantise_time(
    m: ArrayLike,
    k: ArrayLike,
    batch: ArrayLike = 1,
    *,
    quantise_bytes: float,
    quantise_overhead: float,
    bandwidth: float,
    memory_fraction: float,
    **_: float,
) -> KernelTimes:
    """Seconds of the kernel that brings activations [m, k] to the narrow type before they are multiplied.

    quantise_overhead + batch m k quantise_bytes / (memory_fraction bandwidth), all B/s and bytes per element.
    """
    moved = np.asarray(batch, float) * np.asarray(m, float) * np.asarray(k, float) * quantise_bytes
    memory = moved / (memory_fraction * bandwidth)
    latency = np.full_like(memory, quantise_overhead)
    return KernelTimes(latency + memory, np.zeros_like(memory), memory, latency)
