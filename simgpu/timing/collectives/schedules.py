"""Who sends how much to whom: collectives as flows on the topology graph, per byte of payload.

Ring and double binary tree: P. Sanders, J. Speck, J. L. Traeff, "Two-tree algorithms for full bandwidth broadcast,
reduction and scan", Parallel Computing 35(12), 2009, and NVIDIA NCCL (src/graph/trees.cc, connect.cc). NVLS is the
in-switch reduction and multicast of NVSwitch: for each of its n parts of the payload a head GPU reads the sum of
all (every GPU sends the part, one GPU receives it) and writes it once (one GPU sends, every GPU receives). So each
port carries (1 + 1/n) times the payload in each direction; NCCL reserves the same (src/graph/search.cc,
ncclTopoSearchTryNvls).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from simgpu.hardware.topology import Route, Topology
from simgpu.timing.collectives.traffic import bus_factor, passes, ring_steps

ALGORITHMS = ("ring", "tree", "nvls", "direct")


@dataclass(frozen=True)
class Schedule:
    """Flows of one collective; all of them start together and run through as a pipeline.

    `hops` are those that a piece of data makes one after another, with how often it makes each. `work` are the
    bytes that the channels of one GPU pass per byte of payload, `moved` those that leave it.
    """

    algorithm: str
    flows: tuple[tuple[Route, float], ...]  # bytes per byte of payload
    hops: tuple[tuple[Route, float], ...]
    moved: float
    work: float


def nodes_of(topology: Topology, gpus: Sequence[int]) -> list[list[int]]:
    """The GPUs, node by node."""
    nodes: dict[int, list[int]] = {}
    for gpu in gpus:
        nodes.setdefault(gpu // topology.cluster.gpus_per_node, []).append(gpu)
    return list(nodes.values())


def rings(topology: Topology, gpus: Sequence[int]) -> list[list[int]]:
    """One ring within a node; across nodes one per NIC, so that every rail carries its share, as NCCL does.

    Ring r enters the first node at the first GPU of rail r and leaves at the one before; the next node is walked
    the other way round and so is entered on the rail where the first was left.
    """
    nodes = nodes_of(topology, gpus)
    members, nics = len(nodes[0]), topology.cluster.node.nic_count
    if len(nodes) == 1 or members == 1 or nics == 1 or any(len(local) != members for local in nodes):
        return [list(gpus)]
    found = []
    for r in range(min(nics, members)):
        ring: list[int] = []
        for i, local in enumerate(nodes):
            turned = _turned(local, r, min(nics, members))
            ring += turned if i % 2 == 0 else turned[::-1]
        found.append(ring)
    return found


def _turned(local: Sequence[int], rail: int, rails: int) -> list[int]:
    """The GPUs of a node, beginning with the first of a rail."""
    first = rail * len(local) // rails
    return [*local[first:], *local[:first]]


def ring(topology: Topology, kind: str, gpus: Sequence[int]) -> Schedule:
    """Each GPU sends to its successor. Broadcast and reduce do not close the ring."""
    n = len(gpus)
    share = bus_factor(kind, n)
    found = rings(topology, gpus)
    closed = kind not in ("broadcast", "reduce")
    flows: list[tuple[Route, float]] = []
    for one in found:
        edges = pairwise([*one, one[0]] if closed else one)
        flows += [(topology.route(a, b), share / len(found)) for a, b in edges]
    per_ring = len(flows) // len(found)
    hops = tuple((route, ring_steps(kind, n) / per_ring) for route, _ in flows[:per_ring])
    return Schedule("ring", tuple(flows), hops, share, passes(kind, n))


def direct(topology: Topology, kind: str, gpus: Sequence[int], one_shot: bool = False) -> Schedule:
    """Every GPU with every other at once: parts of S/n, twice for an all-reduce; `one_shot`: whole buffers, once."""
    n = len(gpus)
    rounds = 1 if one_shot or kind != "all_reduce" else 2
    part = 1.0 if one_shot else rounds / n
    routes = [topology.route(a, b) for a in gpus for b in gpus if a != b]
    slowest = max(routes, key=lambda route: route.latency)
    flows = tuple((route, part) for route in routes)
    moved = part * (n - 1)
    return Schedule("direct", flows, ((slowest, float(rounds)),), moved, moved + rounds / n)


def tree(topology: Topology, kind: str, gpus: Sequence[int]) -> Schedule:
    """Reduce towards a root and broadcast back, over two trees of nodes on every rail; chains inside the nodes."""
    nodes = nodes_of(topology, gpus)
    rails = min(max(topology.cluster.node.nic_count, 1), min(map(len, nodes))) if len(nodes) > 1 else 1
    flows: list[tuple[Route, float]] = []
    for r in range(rails):
        chains = [_turned(local, r, rails) if len(nodes) > 1 else list(local) for local in nodes]
        pairs = [pair for chain in chains for pair in pairwise(chain) for _ in range(2)]
        for parents in double_tree(len(nodes)):
            pairs += [(chains[parent][0], chains[child][0]) for child, parent in parents.items()]
        for a, b in pairs:
            flows += [(topology.route(a, b), 0.5 / rails), (topology.route(b, a), 0.5 / rails)]
    hops = _down_and_up(topology, nodes)
    return Schedule("tree", tuple(_merged(flows)), hops, 2.0, 2.0)


def _down_and_up(topology: Topology, nodes: Sequence[Sequence[int]]) -> tuple[tuple[Route, float], ...]:
    """The longest way through a tree, up and down: the chain of a node, and the depth of the tree of nodes."""
    longest = max(nodes, key=len)
    hops = [(topology.route(a, b), 2.0) for a, b in pairwise(longest)]
    if len(nodes) > 1:
        hops.append((topology.route(nodes[0][0], nodes[1][0]), 2.0 * (len(nodes) - 1).bit_length()))
    return tuple(hops)


def double_tree(n: int) -> tuple[dict[int, int], dict[int, int]]:
    """Parent of each of n nodes in two binary trees; a node inside one is a leaf of the other where n is even.

    The first tree is the in-order binary tree of NCCL; the second is its mirror image (even n) or the first moved on
    by one (odd n).
    """
    first = {i: parent for i in range(n) if (parent := _parent(i, n)) is not None}
    if n % 2 == 0:
        return first, {n - 1 - child: n - 1 - parent for child, parent in first.items()}
    return first, {(child + 1) % n: (parent + 1) % n for child, parent in first.items()}


def _parent(i: int, n: int) -> int | None:
    """In-order binary tree over 0..n-1, rooted at 0: a node's lowest bit moves up one place."""
    if i == 0:
        return None
    bit = i & -i
    up = (i ^ bit) | (bit << 1)
    return up if up < n else i ^ bit


def nvls(topology: Topology, kind: str, gpus: Sequence[int]) -> Schedule:
    """Reduction and multicast inside the NVSwitch; between nodes, two trees on every rail."""
    nodes = nodes_of(topology, gpus)
    flows: list[tuple[Route, float]] = []
    for local in nodes:
        part = 1 / len(local)
        out, into = {"all_gather": (part, 1.0), "reduce_scatter": (1.0, part)}.get(kind, (1 + part, 1 + part))
        for gpu in local:
            name = topology.gpus[gpu]
            switch = topology.graph.nodes[name]["nvswitch"]
            flows += [(topology.edges(((name, switch),)), out), (topology.edges(((switch, name),)), into)]
    if len(nodes) > 1:
        for i, _ in enumerate(nodes[0]):
            for parents in double_tree(len(nodes)):
                for child, parent in parents.items():
                    ends = nodes[child][i], nodes[parent][i]
                    part = 0.5 / len(nodes[0])
                    flows += [(topology.route(*ends), part), (topology.route(*ends[::-1]), part)]
    hops = [(topology.route(nodes[0][0], nodes[0][1]), 1.0)]
    if len(nodes) > 1:
        hops.append((topology.route(nodes[0][0], nodes[1][0]), 2.0 * (len(nodes) - 1).bit_length()))
    return Schedule("nvls", tuple(_merged(flows)), tuple(hops), 1 + 1 / len(nodes[0]), 1.0)


def _merged(flows: Sequence[tuple[Route, float]]) -> list[tuple[Route, float]]:
    """Flows over the same route as one."""
    total: dict[Route, float] = {}
    for route, share in flows:
        total[route] = total.get(route, 0.0) + share
    return list(total.items())


def all_joined(topology: Topology, gpus: Sequence[int]) -> bool:
    """Whether every two of the GPUs have a link of their own."""
    wiring = topology.cluster.node.nvlink
    return wiring is not None and wiring.topology == "full-mesh" and len(nodes_of(topology, gpus)) == 1


def has_switch(topology: Topology, gpus: Sequence[int]) -> bool:
    """Whether the GPUs of each node hang on an NVSwitch, as many in every node and more than one."""
    wiring = topology.cluster.node.nvlink
    sizes = {len(local) for local in nodes_of(topology, gpus)}
    return wiring is not None and wiring.topology == "nvswitch" and len(sizes) == 1 and sizes != {1}
