"""A cluster with everything its files refer to: node, GPU, kinds of links, inherited constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from simgpu.hardware.cluster_spec import ClusterSpec
from simgpu.hardware.figure import Quantity
from simgpu.hardware.inherit import Calibration
from simgpu.hardware.spec import GPUSpec, LinkSpec, NodeSpec, Port


@dataclass(frozen=True)
class PortRate:
    """What a port carries in each direction."""

    bandwidth: float  # payload bytes/s
    latency: float  # s
    link: str
    planned: float  # bytes/s that NCCL assumes when it chooses an algorithm


@dataclass(frozen=True)
class Cluster:
    """Specifications that belong together, and nothing that was worked out of them (`simgpu.hardware.machine`).

    `kernel` holds the constants after inheritance.
    """

    spec: ClusterSpec
    node: NodeSpec
    gpu: GPUSpec
    links: Mapping[str, LinkSpec]
    kernel: Calibration

    def __hash__(self) -> int:
        """Equal for equal clusters; which of those of a name it is, only a comparison tells."""
        return hash((self.spec.name, self.gpu.name))

    def __repr__(self) -> str:
        return f"Cluster({self.name!r}, {self.gpu_count:,} x {self.gpu.name})"

    @property
    def name(self) -> str:
        """The name of the cluster in the catalogue."""
        return self.spec.name

    @property
    def gpus_per_node(self) -> int:
        """GPUs of a node; of a GPU split by MIG, its slices."""
        return self.node.gpu_count

    @property
    def usual_ranks(self) -> int:
        """GPUs that a collective runs over by default: those of a node, or all where a node has one."""
        return self.gpus_per_node if self.gpus_per_node > 1 else self.gpu_count

    @property
    def gpu_count(self) -> int:
        """GPUs of all nodes."""
        return self.gpus_per_node * int(self.spec.nodes.si)

    def port(self, port: Port, share: float = 1.0) -> PortRate:
        """Payload rate of a port, or of `share` of its lanes."""
        link = self.links[port.link]
        raw = port.bandwidth.si if port.bandwidth else port.lanes.si * link.lane_bandwidth.si
        fraction: Quantity = port.payload_fraction or link.payload_fraction
        latency: Quantity = port.latency or link.latency
        rate = raw * fraction.si * share
        planned = raw * link.planned_fraction.si * share if link.planned_fraction else rate
        return PortRate(rate, latency.si, port.link, planned)
