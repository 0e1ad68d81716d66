"""Figures of the catalogue in every convention that people print them in.

A datasheet's peak has several values: dense or with 2:4 sparsity, summed in fp32 or fp16, on the tensor cores or the
shader units; a link has one per direction and one for both; a memory is counted in GB or GiB. Each is a reading, with
the words for its convention; those in `usual` are what the bare name of the quantity means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from simgpu.catalog import Catalogue
from simgpu.claims.quantities import HOUR
from simgpu.hardware.spec import GPUSpec, LinkSpec, Peak
from simgpu.operations.prices import Wanted, price_book

SPARSE = 2.0
"""Speedup that vendors print for 2:4 structured sparsity (NVIDIA A100 whitepaper)."""


@dataclass(frozen=True)
class Reading:
    """A value in SI, the convention it is in, and whether the bare name of the quantity means that convention."""

    convention: str
    value: float
    usual: bool = True


def readings(catalogue: Catalogue, gpu: str, quantity: str) -> Sequence[Reading]:
    """Every reading of a quantity of a GPU; none where the catalogue does not say.

    >>> [one.convention for one in readings(Catalogue(), "rtx-4090", "pcie")]
    ['one direction', 'both directions']
    """
    made = _READERS.get(quantity)
    if made is None:
        return ()
    spec = catalogue.spec("gpus", gpu)
    assert isinstance(spec, GPUSpec)
    return tuple(made(spec, catalogue))


Reader = Callable[[GPUSpec, Catalogue], Iterator[Reading]]


def has_sparsity(gpu: GPUSpec) -> bool:
    """True if the tensor cores skip zeros: those that know tf32 do, both came with Ampere."""
    return any(peak.dtype == "tf32" and peak.engine == "tensor" for peak in gpu.peak)


def _tensor(*dtypes: str, shader: str = "", any_usual: bool = False) -> Reader:
    """Readings of tensor peaks of input dtypes, and of the shader units' peak of `shader`."""

    def made(gpu: GPUSpec, _: Catalogue) -> Iterator[Reading]:
        for peak in gpu.peak:
            if peak.dtype in dtypes and peak.engine == "tensor":
                yield from _of_peak(gpu, peak, any_usual)
            elif peak.dtype == shader and peak.engine == "vector":
                yield Reading("on the shader units", peak.datasheet, False)

    return made


def _of_peak(gpu: GPUSpec, peak: Peak, any_usual: bool) -> Iterator[Reading]:
    usual = any_usual or peak.accumulate in ("fp32", "int32")
    sums = f"sums in {peak.accumulate}"
    yield Reading(f"dense, {sums}", peak.datasheet, usual)
    if has_sparsity(gpu):
        yield Reading(f"with sparsity, {sums}", SPARSE * peak.datasheet, any_usual)


def _vector(dtype: str) -> Reader:
    def made(gpu: GPUSpec, _: Catalogue) -> Iterator[Reading]:
        for peak in gpu.peak:
            if peak.dtype == dtype and peak.engine == "vector":
                yield Reading("outside the tensor cores", peak.datasheet)
            elif peak.dtype == dtype:
                yield Reading("on the tensor cores", peak.datasheet, False)

    return made


def _one(value: Callable[[GPUSpec], float | None], convention: str = "") -> Reader:
    def made(gpu: GPUSpec, _: Catalogue) -> Iterator[Reading]:
        found = value(gpu)
        if found is not None:
            yield Reading(convention, found)

    return made


def _memory(gpu: GPUSpec, _: Catalogue) -> Iterator[Reading]:
    size = gpu.memory.capacity.si
    yield Reading("GiB, printed as GB", size / 2**30 * 1e9)
    yield Reading("GB of 10^9 bytes", size)


def _l2(gpu: GPUSpec, _: Catalogue) -> Iterator[Reading]:
    size = gpu.memory.l2_cache.si
    yield Reading("MiB, printed as MB", size / 2**20 * 1e6)
    yield Reading("MB of 10^6 bytes", size)


def _lane(catalogue: Catalogue, link: str) -> float:
    spec = catalogue.spec("links", link)
    assert isinstance(spec, LinkSpec)
    return spec.lane_bandwidth.si


def _nvlink(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Reading]:
    if gpu.nvlink is None:
        yield Reading("no NVLink", 0.0)
        return
    rate = gpu.nvlink.bandwidth.si if gpu.nvlink.bandwidth else gpu.nvlink.lanes.si * _lane(catalogue, gpu.nvlink.link)
    yield Reading("both directions", 2 * rate)
    yield Reading("one direction", rate, False)


def _pcie(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Reading]:
    port = gpu.host_link
    rate = port.bandwidth.si if port.bandwidth else port.lanes.si * _lane(catalogue, port.link)
    yield Reading("one direction", rate)
    yield Reading("both directions", 2 * rate, False)


def _per_link(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Reading]:
    if gpu.nvlink is not None:
        for one in _nvlink(gpu, catalogue):
            yield Reading(one.convention, one.value / gpu.nvlink.lanes.si, one.usual)


def _one_way(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Reading]:
    """One direction of the fastest link to other GPUs."""
    for one in _interconnect(gpu, catalogue):
        if one.convention == "one direction":
            yield Reading(one.convention, one.value)


def _interconnect(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Reading]:
    for one in _nvlink(gpu, catalogue) if gpu.nvlink else _pcie(gpu, catalogue):
        yield Reading(one.convention, one.value, True)


def _cores(gpu: GPUSpec) -> float:
    """FP32 lanes: the shader peak over two FLOPs a clock, rounded to the 32 lanes of a partition."""
    clock = (gpu.compute.max_clock or gpu.compute.boost_clock).si
    lanes = gpu.vector_peak.datasheet / (2 * clock * gpu.compute.sm_count.si)
    return max(32.0, 32 * round(lanes / 32)) * gpu.compute.sm_count.si


def _tensor_cores(gpu: GPUSpec) -> float | None:
    each = gpu.compute.tensor_cores_per_sm
    return each.si * gpu.compute.sm_count.si if each else None


def _ridge(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Reading]:
    for one in _tensor("fp16", shader="fp16")(gpu, catalogue):
        yield Reading(one.convention, one.value / gpu.memory.bandwidth.si, one.usual)


def _bus(gpu: GPUSpec) -> float | None:
    return gpu.memory.bus_width.si if gpu.memory.bus_width else None


def _base(gpu: GPUSpec) -> float | None:
    return gpu.compute.base_clock.si if gpu.compute.base_clock else None


def _quoted(kind: str, per: float) -> Reader:
    """The price of the newest quotes of a kind, `per` of its unit in the claims' own."""

    def made(gpu: GPUSpec, catalogue: Catalogue) -> Iterator[Reading]:
        found = price_book(catalogue).find(gpu.name, Wanted(kind))
        if found is not None:
            yield Reading("", found.value / per)

    return made


_READERS: Mapping[str, Reader] = {
    "memory": _memory,
    "memory_bandwidth": _one(lambda gpu: gpu.memory.bandwidth.si),
    "memory_bus": _one(_bus),
    "l2": _l2,
    "cuda_cores": _one(_cores),
    "tensor_cores": _one(_tensor_cores),
    "sms": _one(lambda gpu: gpu.compute.sm_count.si),
    "boost": _one(lambda gpu: gpu.compute.boost_clock.si),
    "base": _one(_base),
    "fp16_tensor": _tensor("fp16", shader="fp16"),
    "bf16_tensor": _tensor("bf16", shader="fp16"),
    "fp8_tensor": _tensor("fp8"),
    "int8_tensor": _tensor("int8"),
    "fp4_tensor": _tensor("fp4"),
    "tf32_tensor": _tensor("tf32"),
    "ai": _tensor("fp4", "fp8", "int8", any_usual=True),
    "fp32": _vector("fp32"),
    "fp64": _vector("fp64"),
    "tdp": _one(lambda gpu: gpu.power.tdp.si),
    "nvlink": _nvlink,
    "pcie": _pcie,
    "interconnect": _interconnect,
    "per_link": _per_link,
    "per_direction": _one_way,
    "mig_instances": _one(lambda gpu: float(max((one.instances for one in gpu.mig_profiles), default=0))),
    "ecc": _one(lambda gpu: float(bool(gpu.memory.ecc.value))),
    "nvdec_support": _one(lambda gpu: None if gpu.video is None else float(gpu.video.nvdec.si > 0)),
    "nvenc_support": _one(lambda gpu: None if gpu.video is None else float(gpu.video.nvenc.si > 0)),
    "fp8_support": _one(lambda gpu: float(any(peak.dtype == "fp8" for peak in gpu.peak))),
    "ridge": _ridge,
    "bandwidth_per_byte": _one(lambda gpu: gpu.memory.bandwidth.si / (gpu.memory.capacity.si / 2**30 * 1e9)),
    "fp32_per_watt": _one(lambda gpu: gpu.vector_peak.datasheet / gpu.power.tdp.si),
}
DATED: Mapping[str, Reader] = {"price": _quoted("purchase", 1.0), "hourly": _quoted("on_demand", HOUR)}
"""Prices: right on their day alone."""


def slice_readings(catalogue: Catalogue, gpu: str, profile: str) -> Mapping[str, Sequence[Reading]]:
    """What a MIG profile of a GPU has, by quantity; empty where the GPU has no such profile."""
    spec = catalogue.spec("gpus", gpu)
    assert isinstance(spec, GPUSpec)
    found = next((one for one in spec.mig_profiles if one.name == profile), None)
    if found is None:
        return {}
    slices = max(one.compute_slices for one in spec.mig_profiles)
    whole = spec.compute.sm_count.si
    shares = [Reading(f"compute slices of {slices}", found.compute_slices / slices)]
    peaks = [Reading("dense", spec.half_peak.datasheet * found.compute_slices / slices)]
    if found.sm_count is not None:
        shares.append(Reading("multiprocessors as the driver lists them", found.sm_count.si / whole))
        peaks.append(Reading("multiprocessors as listed", spec.half_peak.datasheet * found.sm_count.si / whole))
    return {
        "compute_fraction": shares,
        "instance_memory": [Reading("as named", found.memory.si)],
        "instances": [Reading("", float(found.instances))],
        "instance_fp16": peaks,
    }
