"""Kernel times by the roofline: the slower of arithmetic and memory, plus a launch.

S. Williams, A. Waterman, D. Patterson, "Roofline: an insightful visual performance model for multicore
architectures", CACM 52(4), 2009. Peaks are multiplied by the fraction of them that good libraries reach
(`KernelConstants`, inherited GPU <- architecture <- generic).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.operators import ACCUMULATE, Attention, Kernel, Matmul


@dataclass(frozen=True)
class KernelTime:
    """Seconds of one kernel. `bound` is what decides: compute, memory, latency, or measured (given by the user)."""

    seconds: float
    compute: float
    memory: float
    bound: str


def roofline_time(
    flops: float,
    bytes_moved: float,
    peak: float,
    bandwidth: float,
    launch_overhead: float,
) -> KernelTime:
    """launch + max(FLOPs / peak, bytes / bandwidth), s. `peak` in FLOP/s and `bandwidth` in B/s are achieved ones."""
    compute, memory = flops / peak, bytes_moved / bandwidth
    bound = "latency" if launch_overhead > max(compute, memory) else "compute" if compute >= memory else "memory"
    return KernelTime(launch_overhead + max(compute, memory), compute, memory, bound)


class KernelModel:
    """Times kernels on the GPU of a cluster. Equal operators are timed once."""

    def __init__(self, cluster: Cluster) -> None:
        self.gpu = cluster.gpu
        self.constants = cluster.kernel
        self._known: dict[Kernel, KernelTime] = {}

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

    def time(self, op: Kernel) -> KernelTime:
        """Seconds of one run of `op`. A measured time that the user gave is taken as it is."""
        found = self._known.get(op)
        if found is None:
            found = self._known[op] = self._time(op)
        return found

    def _time(self, op: Kernel) -> KernelTime:
        if op.time_s is not None:
            return KernelTime(op.time_s, 0.0, 0.0, "measured")
        constants = self.constants
        assert constants.compute_fraction and constants.memory_fraction and constants.launch_overhead
        if isinstance(op, (Matmul, Attention)):
            peak = self.peak(op.dtype, op.accumulate)
        else:
            peak = self.peak("fp32", "fp32", tensor=False)
        return roofline_time(
            op.flops,
            op.bytes,
            peak * constants.compute_fraction.si,
            self.gpu.memory.bandwidth.si * constants.memory_fraction.si,
            constants.launch_overhead.si,
        )
