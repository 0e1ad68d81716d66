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

LEFT_BY_ECC = 0.895
"""Of the bandwidth of a memory whose ECC bits lie among the data.

Decode of llama.cpp on A40 and L40S against RTX A6000, 3090 and 6000 Ada without ECC (XiongjieDai/
GPU-Benchmarks-on-LLM-Inference @aa72e0ec8); streaming kernels of A40 against RTX A6000 and 3090 have 0.90. Products
then reach alike of what is left: 0.866 on A40, 0.868 on L40S, 0.867 on RTX 3090, which has no ECC.
"""

BESIDE = "GDDR7"
"""The GDDR memory that keeps ECC bits beside the data.

Boards with GDDR6 lose a sixteenth of their memory to them (CUDA shows about 22 of 24 GiB on an L4), one with GDDR7 a
hundredth: 97,252 of 98,304 MiB with ECC switched on (RTX PRO 6000 Server Edition; ggml-org/llama.cpp, issue 28196).
"""


def ecc_among_data(gpu: GPUSpec) -> bool:
    """Whether ECC bits take their part of what a GPU's memory moves: GDDR up to the sixth generation."""
    return gpu.memory.ecc.value and gpu.memory.type.startswith("GDDR") and gpu.memory.type != BESIDE


@dataclass(frozen=True)
class Device:
    """Datasheet figures of one GPU in SI units; under a power cap or a clock limit, what the clock then allows.

    Parameters
    ----------
    sm_count : streaming multiprocessors, or compute units
    clock : Hz, boost: the clock that the peaks hold for
    bandwidth : B/s of the DRAM that are left to data
    l2_bytes : B of L2 cache
    vector_peak : FLOP/s of the vector units, fp32
    name : of the GPU, for messages
    peaks : dense peaks by (data type, type of the sums, engine)
    """

    sm_count: float
    clock: float
    bandwidth: float
    l2_bytes: float
    vector_peak: float
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
        bandwidth=gpu.memory.bandwidth.si * (LEFT_BY_ECC if ecc_among_data(gpu) else 1.0),
        l2_bytes=gpu.memory.l2_cache.si,
        vector_peak=gpu.vector_peak.si,
        name=gpu.name,
        peaks={(peak.dtype, peak.accumulate, peak.engine): peak for peak in gpu.peak},
    )
