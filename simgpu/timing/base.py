"""What every part of the timer knows: one GPU, its constants, its datasheet figures."""

from __future__ import annotations

from functools import cached_property

from simgpu.errors import InputError
from simgpu.hardware.inherit import Calibration
from simgpu.hardware.spec import GPUSpec, Peak
from simgpu.model.operators import ACCUMULATE
from simgpu.timing.checks import check_name


class TimerBase:
    """Datasheet figures of a GPU in SI units."""

    def __init__(self, gpu: GPUSpec, constants: Calibration, sustained: bool = False) -> None:
        self.gpu = gpu
        self.constants = constants
        self.sustained = sustained
        """Whether kernels are part of a long run, throttled in full, or of a short burst as benchmarks time them."""

    @cached_property
    def _peaks(self) -> dict[tuple[str, str, str], Peak]:
        return {(peak.dtype, peak.accumulate, peak.engine): peak for peak in self.gpu.peak}

    def engine(self, dtype: str, accumulate: str | None = None) -> str:
        """The unit that multiplies matrices of a dtype: tensor, vector, or '' if the GPU cannot."""
        sums = accumulate or ACCUMULATE[dtype]
        return next((e for e in ("tensor", "vector") if (dtype, sums, e) in self._peaks), "")

    def peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True, key: str = "dtype") -> float:
        """Dense peak, FLOP/s: the tensor cores' where they have the dtype, else the vector units'.

        It is the datasheet's; under a power cap or a clock limit, what the clock then allows. Raises `InputError` at
        `key` where the GPU has neither.
        """
        return self._peak(dtype, accumulate, tensor, key).si

    def datasheet_peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True) -> float:
        """`peak` of the part as sold, whatever a power cap or a clock limit makes of it, FLOP/s."""
        return self._peak(dtype, accumulate, tensor, "dtype").datasheet

    def _peak(self, dtype: str, accumulate: str | None, tensor: bool, key: str) -> Peak:
        check_name(dtype, ACCUMULATE, key)
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
