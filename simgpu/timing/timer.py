"""Times kernels of one GPU: looks up its figures and constants and calls the model of the class.

The models (`simgpu.timing.gemm`, `attention`, `vector`, `moe` ...) are pure functions over numpy arrays that take
every figure by name; this class is the only place that knows where the figures come from.
"""

from __future__ import annotations

from functools import cached_property

from simgpu.errors import InputError
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.spec import GPUSpec
from simgpu.model.operators import ACCUMULATE, BYTES
from simgpu.timing.parts import ArrayLike, KernelTimes


class GPUTimer:
    """Kernel times of a GPU with its constants. All methods broadcast over arrays of shapes."""

    def __init__(self, gpu: GPUSpec, constants: Calibration) -> None:
        self.gpu = gpu
        self.constants = constants

    @cached_property
    def _peaks(self) -> dict[tuple[str, str, str], float]:
        return {(peak.dtype, peak.accumulate, peak.engine): peak.si for peak in self.gpu.peak}

    def peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True, key: str = "dtype") -> float:
        """Dense datasheet peak, FLOP/s: the tensor cores' where they have the dtype, else the vector units'.

        Raises `InputError` at `key` where the GPU has neither.
        """
        sums = accumulate or ACCUMULATE[dtype]
        for engine in ("tensor", "vector") if tensor else ("vector",):
            found = self._peaks.get((dtype, sums, engine))
            if found is not None:
                return found
        known = sorted({f"{d} ({a})" for d, a, _ in self._peaks})
        raise InputError(
            f"'{self.gpu.name}' has no {dtype} peak with {sums} accumulation; it has {', '.join(known)}", key=key
        )

    @cached_property
    def device(self) -> dict[str, float]:
        """Datasheet figures that the models take, in SI units."""
        gpu = self.gpu
        return {
            "sm_count": gpu.compute.sm_count.si,
            "clock": gpu.compute.boost_clock.si,
            "bandwidth": gpu.memory.bandwidth.si,
            "l2_bytes": gpu.memory.l2_cache.si,
        }

    def gemm(
        self,
        m: ArrayLike,
        n: ArrayLike,
        k: ArrayLike,
        batch: ArrayLike = 1,
        dtype: str = "bf16",
        accumulate: str | None = None,
        library: str = DEFAULT,
    ) -> KernelTimes:
        """C[m, n] = A[m, k] B[k, n], `batch` times; output in 2 bytes for inputs narrower than that."""
        from simgpu.timing.gemm import gemm_time

        width = BYTES[dtype]
        return gemm_time(
            m,
            n,
            k,
            batch=batch,
            input_bytes=width,
            output_bytes=max(width, 2.0),
            peak=self.peak(dtype, accumulate),
            **self.device,
            **self.constants.group("gemm", library),
        )
