"""What NCCL chooses: its own estimate of every algorithm and protocol, by size and topology.

NVIDIA NCCL v2.27 to v2.29, src/graph/tuning.cc (ncclTopoTuneModel, ncclTopoGetAlgoTime, ncclTunerConstantsDefaults)
and src/graph/search.cc (speeds that channels can have). These estimates are not what a collective takes, often by a
factor of two; but they say at which size NCCL goes from one protocol to the next, which is where measured times
jump. Times in us and bandwidths in GB/s here, as in that source.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from simgpu.hardware.topology import Topology
from simgpu.timing.collectives import mesh, schedules
from simgpu.timing.collectives.traffic import bus_factor, ring_steps
from simgpu.timing.parts import Array

PROTOCOLS = ("ll", "ll128", "simple")

_BASE = {"tree": (6.8, 14.0, 8.4), "ring": (6.6, 14.0, 8.4), "nvls": (0.0, 0.0, 0.0)}
"""Fixed latency by protocol (baseLatencies)."""

_HOP = {
    "nvlink": {"tree": (0.6, 1.25, 4.0), "ring": (0.6, 1.9, 3.4), "nvls": (0.0, 0.0, 25.0)},
    "pci": {"tree": (1.0, 1.9, 4.0), "ring": (1.0, 2.5, 5.7), "nvls": (0.0, 0.0, 0.0)},
    "net": {"tree": (5.0, 8.5, 14.0), "ring": (2.7, 4.0, 14.0), "nvls": (0.0, 0.0, 20.9)},
}
"""Latency of a hop by kind of link and protocol (hwLatencies)."""

_TREE_CORRECTION = (
    (1.0, 1.0, 1.0, 1.0, 0.9, 0.8, 0.7, 0.7, 0.7, 0.7, 0.6, 0.5, 0.4, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.0, 1.0, 1.0),
    (1.0, 1.0, 1.0, 1.0, 1.0, 0.9, 0.8, 0.8, 0.8, 0.7, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6, 0.8, 0.9, 0.9, 0.9, 0.9, 1.0, 1.0),
    (0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.8, 0.7, 0.6, 0.6, 0.5, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.7, 0.7, 0.8, 0.9, 0.9),
)
"""What trees reach of their bandwidth, by protocol, at 64 B, 128 B, ... 256 MB (treeCorrectionFactor)."""

_COLLNET_HOP, _COLLNET_NET = 2.8, 30.0
"""Latency of a hop of CollNetChain within a node and through the network, us (hwLatencies)."""

_LL_BETWEEN = {"AMD": (22.5, 19.0), "": (39.0, 20.4)}
"""Most that LL gives between two nodes and between more, GB/s, by vendor of the CPU (llMaxBws)."""

_POST = {"AMD": 2.0, "": 1.0}
"""What the CPU needs to post a send, us, by its vendor; three times that with Simple (getNetOverhead)."""

_PAIR_CHANNEL = 14.0
"""Rate of a network adapter for which a point-to-point operation has a channel, GB/s."""

_NVLS_SPEEDS = (90.0, 80.0, 70.0, 60.0, 50.0, 45.0, 40.0, 30.0, 24.0, 20.0, 15.0, 12.0, 11.0, 6.0, 3.0)
"""Bandwidths that the search gives a channel (sm90SpeedArrayIntra up to 60, sm100SpeedArrayIntra up to 90)."""


@dataclass(frozen=True)
class Communicator:
    """The inputs of NCCL's estimates. Bandwidths in GB/s, per direction and GPU, all channels together."""

    ranks: int
    nodes: int
    bandwidth: float  # of rings inside a node, as NCCL reckons with
    network: float  # of rings between nodes; infinite in one node
    nvlink: bool  # whether all hops inside nodes are NVLink
    ll128: bool  # whether it uses LL128: NVLink inside, and no host bridge between GPU and network adapter
    nvls: float  # its efficiency; 0 where there is none
    nvls_speed: float  # most that one of its channels can have
    channels: int
    open_channels: float  # the same without rounding
    post: float  # what the CPU needs to post a send, us
    plugin: float  # latency that the network's plugin reports, us
    rails: int  # network adapters of a node that the rings use
    ll_bandwidth: float
    ll128_per_channel: float
    tree_per_channel: float


def communicator(
    topology: Topology, gpus: Sequence[int], constants: Mapping[str, float], plugin: float = 0.0
) -> Communicator:
    """What NCCL sees of some GPUs: the planned rate of the narrowest hop of its rings, inside and between nodes.

    `plugin` is the latency that the network's plugin reports (`ncclNetProperties_t.latency`), s.
    """
    found = schedules.rings(topology, gpus)
    loads: Counter[tuple[str, str]] = Counter()  # how many rings share a link among GPUs
    routes = [mesh.way(topology, a, b, gpus) for one in found for a, b in zip(one, [*one[1:], one[0]], strict=True)]
    for route in routes:
        if route.via == "gpu-link":
            loads.update(route.edges)
    inside, between, nvlink = np.inf, np.inf, True
    for route in routes:
        planned = min(
            topology.wires.edges[edge]["planned"] * len(found) / loads.get(edge, len(found)) for edge in route.edges
        )
        if route.via == "network":
            between = min(between, planned * len(found))
        else:
            inside = min(inside, planned)
            nvlink = nvlink and route.via == "gpu-link"
    c, nodes = constants, len(schedules.nodes_of(topology, gpus))
    vendor = topology.cluster.node.sockets[0].cpu.partition(" ")[0].upper()
    between_ll = _LL_BETWEEN.get(vendor, _LL_BETWEEN[""])
    return Communicator(
        ranks=len(gpus),
        nodes=nodes,
        bandwidth=inside / 1e9,
        network=between / 1e9,
        nvlink=nvlink,
        ll128=nvlink and not (nodes > 1 and _behind_host_bridge(topology, _enters(topology, gpus))),
        nvls=c["nvls_efficiency"] if schedules.has_switch(topology, gpus) else 0.0,
        nvls_speed=c["nvls_speed"] / 1e9,
        channels=int(np.clip(np.rint(min(inside, between) / c["channel_bandwidth"]), 2, c["channels"])),
        open_channels=float(np.clip(min(inside, between) / c["channel_bandwidth"], 2, c["channels"])),
        post=_POST.get(vendor, _POST[""]),
        plugin=plugin * 1e6,
        rails=len(found),
        ll_bandwidth=c["planned_ll_bandwidth"] / 1e9 if nodes == 1 else between_ll[min(nodes, 3) - 2],
        ll128_per_channel=c["planned_ll128_bandwidth"] / 1e9,
        tree_per_channel=c["planned_tree_bandwidth"] / 1e9,
    )


def _enters(topology: Topology, gpus: Sequence[int]) -> int:
    """The first GPU that a ring enters its node at: one whose NIC every node has."""
    return next((gpu for gpu in gpus if topology.on_whole_rail(gpu)), gpus[0])


def _behind_host_bridge(topology: Topology, gpu: int) -> bool:
    """True if a GPU reaches its network adapter through the host bridge of a CPU (PATH_PHB) or host memory.

    There NCCL does not trust LL128's lines to stay whole. Grace's bridge is no such (PATH_P2C).
    """
    link = topology.cluster.links.get(topology.cluster.gpu.host_link.link)
    if link is not None and link.kind == "host":
        return False
    kinds = {topology.wires.nodes[vertex]["kind"] for vertex in topology.to_network(gpu)}
    return bool(kinds & {"root", "memory"})


def estimate(comm: Communicator, kind: str, algorithm: str, protocol: str, size: Array) -> Array:
    """NCCL's estimate, us; infinite where it would not use the combination."""
    size = np.asarray(size, float)
    p = PROTOCOLS.index(protocol)
    if protocol == "ll128" and not comm.ll128:
        return np.full(size.shape, np.inf)
    if algorithm == "nvls":
        return _nvls(comm, kind, protocol, size)
    if algorithm == "tree":
        return _tree(comm, kind, p, size)
    if algorithm == "collnet":
        return _collnet(comm, protocol, size)
    return _ring(comm, kind, p, size)


def pair_channels(comm: Communicator, local: int) -> int:
    """Channels that a rank has to each rank of another node, for point-to-point operations.

    As many as its network adapter needs at 14 GB/s each, rounded up to a power of two, halved while all ranks have
    more than four on each of the communicator's channels, of which there are two for every rail (src/graph/paths.cc,
    ncclTopoGetNchannels; NCCL 2.26 to 2.30).
    """
    rails = max(min(local, comm.rails), 1)
    most = 1 << (2 * rails - 1).bit_length()
    found = 1 << (max(int(np.ceil(comm.network / rails / _PAIR_CHANNEL)), 2) - 1).bit_length()
    while found > 1 and found * comm.ranks > 4 * most:
        found //= 2
    return found


def _latency(comm: Communicator, algorithm: str, p: int) -> tuple[float, float]:
    """Latencies of a hop inside a node and between nodes, us. Where a node has one GPU, all hops are those of trees."""
    inside = _HOP["nvlink" if comm.nvlink else "pci"][algorithm][p]
    alone = algorithm == "ring" and 1 < comm.nodes == comm.ranks
    between = _HOP["net"]["tree" if alone else algorithm][p]
    return inside, between + comm.plugin * (2 if p == 2 else 1)  # Simple's flush is a second trip


def _ring(comm: Communicator, kind: str, p: int, size: Array) -> Array:
    inside, between = _latency(comm, "ring", p)
    steps = ring_steps(kind, comm.ranks)
    crossing = 0 if comm.nodes == 1 else (2 if kind == "all_reduce" else 1) * (comm.nodes - 1)
    if comm.nodes > 1:  # the CPU posts a send for every step, so that none is shorter
        inside = max(inside, comm.post * (3 if p == 2 else 1))
    bus = min(comm.bandwidth, comm.network)
    if p == 0:
        bus = min(comm.ll_bandwidth, bus / 2)
    elif p == 1:
        bus = min(bus * 0.92, comm.channels * comm.ll128_per_channel)
    latency = (steps - crossing) * inside + crossing * between
    if p == 2 and comm.nodes > 1 and kind == "all_reduce":
        latency *= 1.4  # the plateau effect of rings
    return _BASE["ring"][p] + latency + size * bus_factor(kind, comm.ranks) / (1e3 * bus)


def _tree(comm: Communicator, kind: str, p: int, size: Array) -> Array:
    if kind != "all_reduce":
        return np.full(size.shape, np.inf)
    inside, between = _latency(comm, "tree", p)
    local, depth = comm.ranks // comm.nodes, int(np.log2(comm.nodes))
    bus = min(min(comm.bandwidth, comm.network) * 0.92, comm.channels * comm.tree_per_channel)
    if p == 0:
        bus = min(bus / 3.8, comm.ll_bandwidth)
    elif p == 1:
        bus = min(bus * (7 / 9 if comm.nodes == 1 else 120 / 128), comm.channels * comm.ll128_per_channel)
    place = np.clip(np.log2(np.maximum(size / 64, 1)).astype(int), 0, 22)
    bandwidth = bus / 2 * np.asarray(_TREE_CORRECTION[p])[place]
    made: Array = _BASE["tree"][p] + 2 * ((local - 1) * inside + depth * between) + size / (1e3 * bandwidth)
    return made


def _collnet(comm: Communicator, protocol: str, size: Array) -> Array:
    """CollNetChain: chains at the rate inside a node, there and back; one hop of the network (ncclTopoTuneModel)."""
    if protocol != "simple":
        return np.full(size.shape, np.inf)
    local = comm.ranks // comm.nodes
    made: Array = 2 * (local - 1) * _COLLNET_HOP + _COLLNET_NET + 2 * comm.plugin + size / (1e3 * comm.bandwidth / 2)
    return made


def _nvls(comm: Communicator, kind: str, protocol: str, size: Array) -> Array:
    local = comm.ranks // comm.nodes
    if protocol != "simple" or kind != "all_reduce" or not comm.nvls or local < 3:
        return np.full(size.shape, np.inf)
    heads = min(local, schedules.NVLS_HEADS)
    most = min(comm.bandwidth / (heads + 1), comm.nvls_speed)
    speed = max((s for s in _NVLS_SPEEDS if s <= most), default=most)
    bus = speed * comm.nvls * (heads - 1) / heads * 2 * heads
    latency = _HOP["nvlink"]["nvls"][2]
    if comm.nodes > 1:
        bus = min(bus, comm.network * (2 if comm.nodes == 2 else 1))
        latency += 2 * int(np.log2(comm.nodes)) * _latency(comm, "nvls", 2)[1]
    return latency + size * bus_factor(kind, comm.ranks) / (1e3 * bus)
