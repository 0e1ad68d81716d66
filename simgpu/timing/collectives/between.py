"""What a network between nodes adds to the time of a collective: posts, steps of rings, chunks on their way.

A CPU thread posts every send to the network (the proxy of NCCL, src/transport/net.cc). So a hop between nodes takes
longer than its links, by what the fabric's posts take, and a ring moves on no faster than its proxies, also where
the next GPU is in the same node. Messages of a collective are posted one after another, one for each channel; small
ones have a single channel, so that both figures grow with the size, up to `1 + QUEUED` times what they are alone.

A tree hands on chunks: the first must have gone all the way, through the chain of every node and up and down the tree
of nodes, before data arrive at the full rate. That is counted by hop: bytes in flight in all channels, over the rate of
the hop. NCCL makes chunks smaller where there are few of them (src/enqueue.cc, calcCollChunking). NVLSTree has fewer
and larger stages: reduction in the switch, each level of the tree up and down, multicast.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.topology import Route, Topology
from simgpu.timing.parts import Array

VERBS, PLUGIN = "between nodes", "between nodes by a plugin"
"""What residuals of collectives over several nodes are told by: NCCL's own verbs, or a plugin on another library."""

QUEUED = 0.8
"""By how much posts take longer where each channel has a message of its own (least squares over nccl-tests between
nodes over InfiniBand, RoCE and EFA: NVIDIA/nccl and nccl-tests issues, NVIDIA/deepops, KeitaW/p5-nccl-test)."""
QUEUE_BYTES = 13.5 * 1024
"""Payload at which half of that is reached, over the number of ranks in a ring; the same fit."""
MEETING = 3.0
"""Exponent that blends what the ends of messages wait for each other in a ring with its transfers (read off
argonne-lcf/alcf-nccl-tests, results_polaris, all-gathers of 128 to 540 nodes)."""
_LL128_TURN = 1.6e-6
"""What a hop between nodes takes longer with LL128, s; the same fit."""

REDUCED = 20 / 24.25
"""Of an adapter's payload rate, what switches reduce: 20 of HDR's 24.25 GB/s (S. Jeaugey of NVIDIA, NVIDIA/nccl issue
320, "~20 GB/s per NIC")."""
REDUCTION = 16e-6
"""What a hop takes longer through switches that reduce, s: 30 us with a chain where one of a tree has 14 (hwLatencies,
NCCL src/graph/tuning.cc)."""

_CHUNKS = {"ll": (32768, 32768), "ll128": (32768, 131072), "simple": (32768, 131072)}
"""Least and most bytes of a chunk of a tree in one channel (src/enqueue.cc)."""
_NVLS_CHUNK = 65536
"""Bytes of a chunk of NVLSTree in a channel and for a head, over four nodes and more; over fewer up to twice as many
(src/enqueue.cc, NCCL_NVLSTREE_MAX_CHUNKSIZE)."""


class Fabric(NamedTuple):
    """What the network between nodes adds, s; 0 within a node. Figures of the slowest of its links."""

    post: float  # to a hop, any protocol
    flush: float  # to a hop, protocol Simple
    step: float  # least that a step of a ring takes, less the fence and flag of Simple
    peer: float  # to an all-to-all, for each GPU of another node
    plugin: float  # latency that the network's plugin reports to NCCL's tuner
    inject: tuple[float, float]  # message up to which the CPU copies, bytes, and what that adds to an all-to-all
    rendezvous: tuple[float, float]  # message above which both ends must meet, bytes, and what that adds to a hop
    pairs: float  # of the payload rate, what all-to-alls reach


def fabric_of(topology: Topology, routes: Iterable[Route]) -> Fabric:
    """The network among the nodes that some routes join; all zeros where none leaves its node."""
    graph, known = topology.wires, topology.cluster.links
    crossing = {graph.edges[edge]["link"] for route in routes if route.via == "network" for edge in route.edges}
    links = [known[name] for name in crossing if name in known and known[name].kind == "network"]

    def slowest(figure: str) -> float:
        return max((one.si for link in links if (one := getattr(link, figure)) is not None), default=0.0)

    return Fabric(
        post=slowest("post_latency"),
        flush=slowest("proxy_latency"),
        step=slowest("step_latency"),
        peer=slowest("peer_latency"),
        plugin=slowest("plugin_latency"),
        inject=(slowest("inject_bytes"), slowest("inject_latency")),
        rendezvous=(slowest("rendezvous_bytes"), slowest("rendezvous_latency")),
        pairs=min((one.si for link in links if (one := link.pair_fraction) is not None), default=1.0),
    )


def measured_on(cluster: Cluster) -> str:
    """Which of both the network of a cluster is; one whose plugin is known has its latency in the link's file."""
    fabric, nic = cluster.spec.fabric, cluster.node.nic
    names = {fabric.link if fabric is not None else "", nic.port.link if nic is not None else ""}
    links = (cluster.links[name] for name in names if name in cluster.links)
    return PLUGIN if any(link.plugin_latency is not None for link in links) else VERBS


def queued(size: Array, ranks: int = 1) -> Array:
    """By how much a post takes longer than one alone; `ranks` are the parts that a ring cuts the payload into."""
    made: Array = 1 + QUEUED * size / (size + QUEUE_BYTES * ranks)
    return made


def hop(fabric: Fabric, protocol: str) -> float:
    """Seconds that a hop between nodes takes longer than its links, whatever the size."""
    return {"ll128": _LL128_TURN, "simple": fabric.flush}.get(protocol, 0.0)


def in_flight(protocol: str, size: Array, channels: float, nodes: int, per_node: float) -> Array:
    """Bytes of a chunk of a tree in all channels.

    NCCL halves it until each channel has a number of them that grows with the depth of the tree.
    """
    least, most = _CHUNKS[protocol]
    if protocol == "simple":
        wanted = 8.0 * (1 + np.log2(nodes))
    else:
        wanted = (1 + np.log2(nodes) + 0.1 * per_node) * 16 / per_node
    chunk = np.clip(size / wanted, least * channels, most * channels)
    made: Array = np.minimum(size, chunk)
    return made


def nvls_slice(nodes: int, heads: int, channels: float) -> float:
    """Bytes of a chunk of NVLSTree in all channels and for all heads."""
    return _NVLS_CHUNK * (2 if nodes < 4 else 1) * heads * channels
