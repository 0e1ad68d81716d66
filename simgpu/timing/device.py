"""What the datasheet of a GPU says, as the kernel models take it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec, Peak
from simgpu.model.operators import ACCUMULATE
from simgpu.timing.checks import check_name

ENGINES = ("tensor", "vector")
"""Units that multiply matrices, the one that is taken first."""


@dataclass(frozen=True)
class Device:
    """Datasheet figures of one GPU in SI units; under a power cap or a clock limit, what the clock then allows.

    Parameters
    ----------
    sm_count : streaming multiprocessors, or compute units
    clock : Hz, boost: the clock that the peaks hold for
    bandwidth : B/s of the DRAM
    l2_bytes : B of L2 cache
    vector_peak : FLOP/s of the vector units, fp32
    inline_ecc : whether ECC bits lie among the data, as in GDDR memory with ECC switched on; in HBM they lie beside it
    name : of the GPU, for messages
    peaks : dense peaks by (data type, type of the sums, engine)
    """

    sm_count: float
    clock: float
    bandwidth: float
    l2_bytes: float
    vector_peak: float
    inline_ecc: bool = False
    name: str = ""
    peaks: Mapping[tuple[str, str, str], Peak] = field(default_factory=dict, repr=False)

    def engine(self, dtype: str, accumulate: str | None = None) -> str:
        """The unit that multiplies matrices of a data type: tensor, vector, or '' if the GPU cannot."""
        sums = accumulate or ACCUMULATE[dtype]
        return next((engine for engine in ENGINES if (dtype, sums, engine) in self.peaks), "")

    def peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True, key: str = "dtype") -> float:
        """Dense peak, FLOP/s: the tensor cores' where they have the data type, else the vector units'.

        Raises `InputError` at `key` where the GPU has neither.
        """
        return self._peak(dtype, accumulate, tensor, key).si

    def datasheet_peak(self, dtype: str, accumulate: str | None = None, tensor: bool = True) -> float:
        """`peak` of the part as sold, whatever a power cap or a clock limit makes of it, FLOP/s."""
        return self._peak(dtype, accumulate, tensor, "dtype").datasheet

    def _peak(self, dtype: str, accumulate: str | None, tensor: bool, key: str) -> Peak:
        check_name(dtype, ACCUMULATE, key)
        sums = accumulate or ACCUMULATE[dtype]
        for engine in ENGINES if tensor else ("vector",):
            found = self.peaks.get((dtype, sums, engine))
            if found is not None:
                return found
        known = sorted({f"{d} ({a})" for d, a, _ in self.peaks})
        raise InputError(
            f"'{self.name}' has no {dtype} peak with {sums} accumulation; it has {', '.join(known)}", key=key
        )


def device_of(gpu: GPUSpec) -> Device:
    """The datasheet of a GPU of the catalogue."""
    return Device(
        sm_count=gpu.compute.sm_count.si,
        clock=gpu.compute.boost_clock.si,
        bandwidth=gpu.memory.bandwidth.si,
        l2_bytes=gpu.memory.l2_cache.si,
        vector_peak=gpu.vector_peak.si,
        inline_ecc=gpu.memory.ecc.value and gpu.memory.type.startswith("GDDR"),
        name=gpu.name,
        peaks={(peak.dtype, peak.accumulate, peak.engine): peak for peak in gpu.peak},
    )
