"""Specifications of GPUs, links, nodes and clusters, as the catalogue files hold them.

One class per kind of file. Every figure is a `Figure` with unit and source; after loading it is in SI units.
Link bandwidth is per direction; peaks are dense.
"""

from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, Field, model_validator

from simgpu.errors import shown
from simgpu.hardware.constants import KernelConstants
from simgpu.hardware.figure import (
    Bandwidth,
    Bytes,
    Count,
    Figure,
    Flag,
    Fraction,
    Frequency,
    Number,
    Quantity,
    Rate,
    Seconds,
    Spec,
    Watts,
    Whole,
    in_unit,
)
from simgpu.hardware.figure import Power as PowerLimit

Dtype = Literal["fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "int8", "fp4"]
Accumulate = Literal["fp64", "fp32", "fp16", "int32"]


def _peak_key(given: str) -> str:
    parts = given.split("-")
    kinds = (get_args(Dtype), get_args(Accumulate), ("vector", "tensor"))
    if len(parts) != 3 or any(part not in known for part, known in zip(parts, kinds, strict=True)):
        raise ValueError(f"{shown(given)} names no peak; expected dtype-accumulate-engine, such as 'bf16-fp32-tensor'")
    return given


PeakKey = Annotated[str, AfterValidator(_peak_key)]


class CatalogueFile(Spec):
    """The base of every catalogue file: its name (= the file's), a title, and the sources its figures point to."""

    name: str
    title: str
    sources: dict[str, Annotated[str, Field(min_length=1)]] = {}


# ---- links -------------------------------------------------------------------------------------------


class LinkSpec(CatalogueFile):
    """A kind of link. A port of it bundles lanes: PCIe lanes, NVLink links, network ports."""

    kind: Literal["pcie", "nvlink", "inter-socket", "network", "host"]
    lane_bandwidth: Bandwidth  # B/s per lane and direction, after line coding
    payload_fraction: Fraction  # payload per byte on the wire for collectives: packet format, or what NCCL plans with
    latency: Seconds  # one traversal, with the switch port behind it
    planned_fraction: Fraction | None = None  # of the raw rate, what NCCL reckons with; default: payload_fraction
    peer_fraction: Fraction | None = None  # of the payload rate, what kernels reach that write to another GPU over it
    staged_fraction: Fraction | None = None  # the same through a buffer in host memory
    staged_latency: Seconds | None = None  # what a hop through host memory adds
    # of a network alone, see `simgpu.timing.collectives.between`
    post_latency: Seconds | None = None  # what posting a send, and its completion, add to a hop
    proxy_latency: Seconds | None = None  # what the flush of protocol Simple adds to a hop
    step_latency: Seconds | None = None  # least that a step of a ring takes, in nodes too: the CPU threads keep pace
    peer_latency: Seconds | None = None  # what every GPU of another node adds to an all-to-all
    inject_bytes: Bytes | None = None  # messages up to this are copied by the CPU into what it posts
    inject_latency: Seconds | None = None  # what that adds for every GPU of another node in an all-to-all
    rendezvous_bytes: Bytes | None = None  # larger messages wait until sender and receiver have met
    rendezvous_latency: Seconds | None = None  # what that adds to a hop
    pair_fraction: Fraction | None = None  # of the payload rate, what all-to-alls reach
    plugin_latency: Seconds | None = None  # what the network's plugin reports to NCCL, which chooses by it


class Port(Spec):
    """Lanes of one kind of link. `bandwidth` overrides lanes x lane bandwidth (B/s per direction, before packets)."""

    link: str
    lanes: Number
    bandwidth: Bandwidth | None = None
    payload_fraction: Fraction | None = None
    latency: Seconds | None = None


class HostPort(Port):
    """The link of a GPU to its host, and whether the driver lets it reach other GPUs that way."""

    peer_to_peer: Flag


# ---- GPUs --------------------------------------------------------------------------------------------


class Peak(Quantity):
    """Dense peak of one input dtype, accumulate dtype and engine, FLOP/s."""

    dtype: Dtype
    accumulate: Accumulate
    engine: Literal["vector", "tensor"]
    rated: Rate | None = None  # of a GPU with a power cap or a clock limit: the peak without them

    @property
    def datasheet(self) -> float:
        """The peak that the vendor states, FLOP/s: the base of utilisation, whatever the clock."""
        return self.si if self.rated is None else self.rated.si

    def over(self, ratio: float) -> "Peak":
        """This peak divided by `ratio`, with and without a power cap."""
        whole = self.rated and self.rated.model_copy(update={"value": self.rated.value / ratio})
        return self.model_copy(update={"value": self.value / ratio, "rated": whole})

    @property
    def key(self) -> str:
        """Dtype, accumulate dtype and engine in one name: 'bf16-fp32-tensor'."""
        return f"{self.dtype}-{self.accumulate}-{self.engine}"


class Compute(Spec):
    """Multiprocessors, clocks and dense peaks of a GPU."""

    sm_count: Count  # streaming multiprocessors, or compute units
    boost_clock: Frequency  # the clock of the tensor peaks (of the FP32 peak where there are none)
    max_clock: Frequency | None = None  # the highest the driver allows, where that is another: lighter kernels reach it
    base_clock: Frequency | None = None
    rated_clock: Frequency | None = None  # of a derived GPU: the boost clock of the whole, which its constants are for
    tensor_cores_per_sm: Count | None = None


class Memory(Spec):
    """Device memory of a GPU: size, bandwidth and L2."""

    type: str
    capacity: Bytes  # what the GPU can hold: of a memory shared with a processor, the GPU's part
    bandwidth: Bandwidth
    bus_width: Count | None = None  # bits, of all stacks or chips: with the bandwidth, what one pin carries
    l2_cache: Bytes
    ecc: Flag


class Power(Spec):
    """Power limits of a GPU, and the clocks that follow from them."""

    tdp: PowerLimit  # of this GPU alone, with its memory
    module: PowerLimit | None = None  # of the module it shares with a processor or another GPU; nothing follows from it
    rated_tdp: PowerLimit | None = None  # of a GPU under a power cap: the limit without it
    rated_peak: Rate | None = None  # `GPUSpec.half_peak` that the limit was made for, where a peak was changed
    rated_vector_peak: Rate | None = None  # the same of `GPUSpec.vector_peak`


class MigProfile(Spec):
    """A slice of a GPU as the vendor's partitioning offers it."""

    name: str
    compute_slices: int = Field(gt=0)
    memory_slices: int = Field(gt=0)
    memory: Bytes
    sm_count: Count | None = None  # as the driver lists it; slices need not be equal shares of the SMs
    instances: int = Field(gt=0)
    source: str

    @model_validator(mode="before")
    @classmethod
    def _one_source(cls, given: Any) -> Any:
        """The source of the profile is that of its figures."""
        if not isinstance(given, dict):
            return given
        figures = {key: given[key] for key in ("memory", "sm_count") if isinstance(given.get(key), dict)}
        return given | {key: {"source": given.get("source")} | figure for key, figure in figures.items()}

    @property
    def key(self) -> str:
        """The name of the profile."""
        return self.name


class VideoEngines(Spec):
    """Engines that decode and encode video beside the multiprocessors, and the generation whose rates they have."""

    generation: Literal["pascal", "turing", "ampere", "ada", "blackwell"]
    nvdec: Whole
    nvenc: Whole
    clock: Frequency | None = None  # the highest video clock, as nvidia-smi prints it
    sessions: Count | None = None  # streams that a system may encode at once, all such cards together


class GPUSpec(CatalogueFile):
    """A GPU: peaks, memory, ports and power."""

    vendor: str
    architecture: str
    compute: Compute
    peak: Annotated[list[Annotated[Peak, in_unit("FLOP/s")]], Field(min_length=1)]
    memory: Memory
    nvlink: Port | None = None
    host_link: HostPort
    power: Power
    video: VideoEngines | None = None
    mig_profiles: list[MigProfile] = []
    kernel: KernelConstants = KernelConstants()

    @property
    def half_peak(self) -> Peak:
        """The peak that clocks under the power limit follow from: 16 bits summed in fp32; fp32 where there is none.

        A GPU whose tensor cores have no 16-bit peak has the one that their other types stand for (`_OF_HALF`).
        """
        known = {peak.key: peak for peak in self.peak}
        for key, ratio in _OF_HALF.items():
            if key in known:
                return known[key].over(ratio)
        return next(known[key] for key in ("fp16-fp32-vector", "fp32-fp32-vector") if key in known)

    @property
    def vector_peak(self) -> Peak:
        """The fp32 peak of the vector units."""
        return next(peak for peak in self.peak if peak.key == "fp32-fp32-vector")

    @model_validator(mode="after")
    def _peaks_differ(self) -> Self:
        keys = [peak.key for peak in self.peak]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"peak {key} is given twice")
        if "fp32-fp32-vector" not in keys:
            raise ValueError("peak lacks a line for fp32, accumulate fp32, engine vector: elementwise work runs there")
        return self


_OF_HALF = {
    "fp16-fp32-tensor": 1.0,
    "bf16-fp32-tensor": 1.0,
    "fp16-fp16-tensor": 1.0,
    "tf32-fp32-tensor": 0.5,
    "fp8-fp32-tensor": 2.0,
    "int8-int32-tensor": 2.0,
}
"""Tensor peaks over the 16-bit one: half the width doubles the rate (datasheets in hardware/gpus)."""


class PeakRule(Spec):
    """A ratio of two dense peaks that all GPUs of an architecture share: `peak` = `ratio` x `of`.

    Peaks are named dtype-accumulate-engine, such as 'bf16-fp32-tensor'.
    """

    peak: PeakKey
    of: PeakKey
    ratio: Number


class Most(Spec):
    """Upper bounds per multiprocessor that no GPU of an architecture passes: a greater figure is of something else."""

    flop_per_clock: Number  # dense FLOP of 16-bit products in a clock
    watts_per_ghz: Number  # of the power limit, over the clock of the tensor peaks


class ArchitectureSpec(CatalogueFile):
    """A family of GPUs and what its members inherit: constants of kernels, from `parent` too, and rules of peaks.

    Rules are those of the nearest architecture that has any, and so is `most`: what a type runs at changes with every
    generation.
    """

    parent: str | None = None
    most: Most | None = None
    peak_rules: list[PeakRule] = []
    kernel: KernelConstants = KernelConstants()


# ---- nodes -------------------------------------------------------------------------------------------


class PCIeSwitch(Spec):
    """A PCIe switch below a root complex (its port upwards) and the devices below it."""

    switch: Port
    count: int = Field(default=1, gt=0, le=64, strict=True)
    devices: Annotated[list[Literal["gpu", "nic"]], Field(min_length=1)]


class Socket(Spec):
    """A CPU socket: its memory and the devices below its root complex, in order."""

    count: int = Field(default=1, gt=0, le=128, strict=True)
    cpu: str = ""
    cpu_slowdown: Number | None = None  # times of a training stack's host code over those on an x86 server of a DGX
    memory_bandwidth: Bandwidth  # of its DRAM, reads and writes together
    memory_capacity: Bytes | None = None  # of its DRAM
    devices: Annotated[list[Literal["gpu", "nic"] | PCIeSwitch], Field(min_length=1)]


class Wire(Spec):
    """Links that lead from one GPU of a node straight to another."""

    gpus: tuple[int, int]
    lanes: Count  # of the `nvlink` port of each

    @property
    def key(self) -> str:
        """The two GPUs, such as '0-3'."""
        return "{}-{}".format(*self.gpus)


class NVLinkTopology(Spec):
    """How the GPUs' own links are wired: to a switch plane, in bridged pairs, each to each, or as `links` lists."""

    topology: Literal["nvswitch", "bridge", "full-mesh", "mesh"]
    pairs: list[tuple[int, int]] = []
    links: list[Wire] = []

    @model_validator(mode="after")
    def _as_the_topology_asks(self) -> Self:
        if (self.topology == "bridge") != bool(self.pairs):
            raise ValueError("pairs must be given for topology 'bridge', and only for it")
        if (self.topology == "mesh") != bool(self.links):
            raise ValueError("links must be given for topology 'mesh', and only for it")
        seen: set[frozenset[int]] = set()
        for wire in self.links:
            if len(set(wire.gpus)) == 1 or frozenset(wire.gpus) in seen:
                raise ValueError(f"links must name each two different GPUs once, not {wire.key}")
            seen.add(frozenset(wire.gpus))
        return self

    def lanes_of(self, gpu: int) -> float:
        """The number of links of a GPU that are wired in a mesh."""
        return sum(wire.lanes.si for wire in self.links if gpu in wire.gpus)


class Scope(Figure):
    """The reach of a feature: within a PCIe switch, a root complex (socket), the node, or not at all."""

    value: Literal["switch", "root", "node", "none"]

    @model_validator(mode="before")
    @classmethod
    def _from_scalar(cls, given: Any) -> Any:
        return {"value": given} if isinstance(given, str) else given


class NIC(Spec):
    """A network adapter: its port to the fabric and its port to the host."""

    port: Port
    host_link: Port
    gpudirect_rdma: Flag


class NVMe(Spec):
    """All drives of a node together, as offloading uses them."""

    read: Bandwidth
    write: Bandwidth
    capacity: Bytes | None = None


class NodePower(Spec):
    """Power that a node draws beside its GPUs."""

    overhead: Watts  # everything but the GPUs


class NodeSpec(CatalogueFile):
    """A server: sockets, PCIe tree, GPUs, their links, and network adapters."""

    gpu: str
    sockets: Annotated[list[Socket], Field(min_length=1)]
    inter_socket: Port | None = None
    nvlink: NVLinkTopology | None = None
    peer_to_peer_scope: Scope  # how far PCIe peer-to-peer reaches on this platform
    nic: NIC | None = None
    nvme: NVMe | None = None
    power: NodePower | None = None

    @property
    def gpu_count(self) -> int:
        """GPUs of the node."""
        return self._count("gpu")

    @property
    def nic_count(self) -> int:
        """Network adapters of the node."""
        return self._count("nic")

    def _count(self, device: str) -> int:
        count = 0
        for socket in self.sockets:
            for entry in socket.devices:
                below = entry.devices * entry.count if isinstance(entry, PCIeSwitch) else [entry]
                count += socket.count * below.count(device)  # type: ignore[arg-type]
        return count

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        gpus = self.gpu_count
        if gpus == 0:
            raise ValueError("sockets hold no gpu")
        if self.nic_count and self.nic is None:
            raise ValueError("sockets hold a nic, but key 'nic' that describes it is missing")
        joined = [gpu for pair in (self.nvlink.pairs if self.nvlink else ()) for gpu in pair]
        if joined and (min(joined) < 0 or max(joined) >= gpus or len(set(joined)) != len(joined)):
            raise ValueError(f"nvlink.pairs must name different GPUs from 0 to {gpus - 1}")
        for wire in self.nvlink.links if self.nvlink else ():
            if min(wire.gpus) < 0 or max(wire.gpus) >= gpus:
                raise ValueError(f"nvlink.links must name GPUs from 0 to {gpus - 1}, not {wire.key}")
        return self
