"""Copies between a GPU and the host memory or drives of its node, as flows on the hardware graph.

A copy goes from a GPU through PCIe switches and the root complex to the memory of its socket (or over NVLink-C2C, where
that is the GPU's link to its host), so that GPUs behind one switch share its uplink, and those of a socket its memory.
What lives on drives goes on from there: a GPU has an equal part of what the drives of its node read or write together.
Copy engines do them, so that they take no multiprocessors from kernels.
"""

from __future__ import annotations

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.ideal import CollectivePhase, Edge, Transport

TO_HOST, FROM_HOST, TO_NVME, FROM_NVME = "to_host", "from_host", "to_nvme", "from_nvme"
COPIES = (TO_HOST, FROM_HOST, TO_NVME, FROM_NVME)
"""Kinds of copies, each of a GPU alone."""


def drives(cluster: Cluster) -> tuple[float, float]:
    """Rates at which the drives of a node read and write together, bytes/s.

    Raises `InputError` (key only) where the node has no drives.
    """
    nvme = cluster.node.nvme
    if nvme is None:
        problem = f"the node '{cluster.node.name}' says nothing of its drives; expected 'nvme' in its file, with read"
        raise InputError(f"{problem} and write", key="plan.offload_to")
    return nvme.read.si, nvme.write.si


def copy_phase(topology: Topology, kind: str, gpu: int, size: float, ranks: int) -> CollectivePhase:
    """A copy of `size` bytes of a GPU (its position in the topology), `ranks` of which work on a node."""
    name = topology.gpus[gpu]
    edges: list[Edge] = list(topology.to_host(gpu))
    if kind in (FROM_HOST, FROM_NVME):
        edges = [(b, a) for a, b in reversed(edges)]
    latency = sum(topology.wires.edges[edge]["latency"] for edge in edges)
    channels: dict[Edge, float] = {}
    if kind in (TO_NVME, FROM_NVME):
        read, write = drives(topology.cluster)
        lane = (name, "nvme", "read" if kind == FROM_NVME else "write")
        channels[lane] = (read if kind == FROM_NVME else write) / ranks
        edges.append(lane)
    return CollectivePhase(latency, (Transport(tuple(edges), size),), channels)
