"""A GPU of which a process may use a share of the multiprocessors (CUDA MPS): memory and its bandwidth are common."""

from __future__ import annotations

from typing import Any

from simgpu.hardware.derive import rated_power
from simgpu.hardware.figure import Quantity
from simgpu.hardware.spec import GPUSpec, Peak, Power


def shared_gpu(gpu: GPUSpec, share: float, port: float) -> GPUSpec:
    """`gpu` for kernels that may use a `share` of its multiprocessors.

    `port` are the bytes that a multiprocessor takes in a clock at most, so that few of them cannot read all that the
    memory gives. The clock is that of the whole GPU.
    """
    if share >= 1.0:
        return gpu
    count = max(round(gpu.compute.sm_count.si * share), 1)
    share = count / gpu.compute.sm_count.si
    source = f"@{count}sm"
    bandwidth = min(1.0, count * port * gpu.compute.boost_clock.si / gpu.memory.bandwidth.si)

    def part(figure: Quantity, of: float) -> Any:
        return figure.model_copy(update={"value": figure.value * of, "source": source})

    def part_of(peak: Peak) -> Any:
        made = part(peak, share)
        return made if peak.rated is None else made.model_copy(update={"rated": part(peak.rated, share)})

    reason = f"{count} of the {gpu.compute.sm_count.si:g} multiprocessors of {gpu.name} (CUDA MPS)"
    return gpu.model_copy(
        update={
            "name": gpu.name + source,
            "sources": gpu.sources | {source: reason},
            "compute": gpu.compute.model_copy(update={"sm_count": part(gpu.compute.sm_count, share)}),
            "peak": [part_of(peak) for peak in gpu.peak],
            "memory": gpu.memory.model_copy(update={"bandwidth": part(gpu.memory.bandwidth, bandwidth)}),
            "power": Power(
                tdp=part(gpu.power.tdp, share),
                rated_tdp=gpu.power.rated_tdp and part(gpu.power.rated_tdp, share),
                **{key: part(of, share) for key, of in rated_power(gpu).items()},
            ),
            "mig_profiles": [],
        }
    )


def slower_memory(gpu: GPUSpec, share: float) -> GPUSpec:
    """`gpu` with a share of its memory's bandwidth."""
    source = f"@{100 * share:.6g}% of its bandwidth"
    rate = gpu.memory.bandwidth
    made = rate.model_copy(update={"value": rate.value * share, "source": source})
    return gpu.model_copy(
        update={
            "name": gpu.name + source,
            "sources": gpu.sources | {source: f"{share:g} of the memory bandwidth of {gpu.name}"},
            "memory": gpu.memory.model_copy(update={"bandwidth": made}),
        }
    )
