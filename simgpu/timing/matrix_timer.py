"""Times matrix multiplications of one GPU."""

from __future__ import annotations

import math

import numpy as np

from simgpu.errors import InputError, shown
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.model.formats import format_of
from simgpu.model.operators import BYTES
from simgpu.timing.checks import check_dtypes, check_format, check_library, check_sizes
from simgpu.timing.constants import GemvConstants, MmqConstants
from simgpu.timing.convolution import ConvolutionGemm, ConvolutionWork, convolution_gemm
from simgpu.timing.device import Device
from simgpu.timing.gemm import GemmWork, Operands, gemm_time
from simgpu.timing.gemm_libraries import GGML, GGML_MMQ, NAMED, GemmLibraries
from simgpu.timing.gemv import gemv_time, mmq_time
from simgpu.timing.parts import ArrayLike, KernelTimes
from simgpu.timing.quantise import CAST, NONE, SCALED, cast_time, quantise_time


class MatrixTimer:
    """Matrix multiplications. All sizes broadcast."""

    def __init__(self, device: Device, calibration: Calibration, libraries: GemmLibraries, sustained: bool) -> None:
        self.device, self.calibration, self.libraries, self.sustained = device, calibration, libraries, sustained

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
        quantise: str = SCALED,
    ) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n], `batch` times; output in 2 bytes for inputs narrower than that.

        `weights` is what B is stored in where it is narrower than `dtype` (`simgpu.model.formats`: int8, int4, fp8,
        fp4, q4_k ...): it is read at that width and converted on the way. In fp8 and fp4 without `weights` a kernel
        before it quantises A, or as `quantise` says
        (`simgpu.timing.quantise`). `rotation` and `sustained` as in `simgpu.timing.gemm.gemm_time`; None: as the timer.
        """
        check_sizes(m=m, n=n, k=k, batch=batch)
        check_dtypes(dtype)
        check_library(library, self.calibration, "gemm", NAMED)
        if weights is not None:
            check_format(weights)
        if library == DEFAULT:
            library = self.libraries.chosen(dtype, accumulate, weights)
        width, work, used = BYTES[dtype], GemmWork(m, n, k, batch), self.libraries.of(library)
        stored = format_of(weights).bytes if weights else width
        times = gemm_time(
            work,
            Operands(width, max(width, 2.0), stored, self.device.peak(dtype, accumulate)),
            self.device,
            used.constants,
            used.clock,
            rotation=rotation,
            sustained=self.sustained if sustained is None else sustained,
        )
        if used.quantise is None or quantise == NONE:
            return times
        return times + (cast_time if quantise == CAST else quantise_time)(work, self.device, used.quantise)

    def quantise(self, m: ArrayLike, k: ArrayLike, library: str, how: str = SCALED) -> KernelTimes:
        """The kernel of a library that brings activations [m, k] to the narrow type before a product."""
        check_sizes(m=m, k=k)
        check_library(library, self.calibration, "gemm", NAMED)
        constants = self.libraries.of(library).quantise
        if constants is None:
            raise InputError(f"{shown(library)} quantises nothing before its products", key="library")
        return (cast_time if how == CAST else quantise_time)(GemmWork(m, 1.0, k), self.device, constants)

    def gemv(
        self,
        m: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        dtype: str = "fp16",
        weights: str | None = None,
        library: str = GGML,
    ) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n] for a few rows m, as llama.cpp multiplies: B as stored, A and C in fp32."""
        check_sizes(m=m, n=n, k=k)
        check_dtypes(dtype)
        if weights is not None:
            check_format(weights)
        stored = format_of(weights).bytes if weights else BYTES[dtype]
        return gemv_time(GemmWork(m, n, k), stored, self.device, self.calibration.read(GemvConstants, library))

    def mmq(self, m: ArrayLike, n: ArrayLike, k: ArrayLike, weights: str) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n] with B in blocks and A in 8-bit integers, as llama.cpp multiplies many rows."""
        check_sizes(m=m, n=n, k=k)
        check_format(weights)
        constants, stored = self.calibration.read(MmqConstants, GGML_MMQ), format_of(weights).bytes
        return mmq_time(GemmWork(m, n, k), stored, self.device.peak("int8"), self.device, constants)

    def convolution(
        self, work: ConvolutionWork, dtype: str = "bf16", accumulate: str | None = None, library: str = DEFAULT
    ) -> KernelTimes:
        """A two-dimensional convolution as implicit GEMM: its time without the repeated reads of the unfolded input."""
        sizes = ("images", "channels", "height", "width", "filters", "groups")
        check_sizes(**{name: getattr(work, name) for name in sizes})
        return self.implicit(convolution_gemm(work), dtype, accumulate, library)

    def implicit(
        self, shape: ConvolutionGemm, dtype: str, accumulate: str | None = None, library: str = DEFAULT
    ) -> KernelTimes:
        """The products of a convolution, of whose bytes memory moves the part `shape.fresh`."""
        whole = self.gemm(shape.m, shape.n, shape.k, shape.batch, dtype=dtype, accumulate=accumulate, library=library)
        memory = whole.memory * shape.fresh
        saved = np.maximum(whole.memory - np.maximum(memory, whole.compute), 0.0)
        return KernelTimes(whole.seconds - saved, whole.compute, memory, whole.latency)
