"""Who sends how much to whom: collectives as flows on the topology graph, per byte of payload.

Ring and double binary tree: P. Sanders, J. Speck, J. L. Traeff, "Two-tree algorithms for full bandwidth broadcast,
reduction and scan", Parallel Computing 35(12), 2009, and NVIDIA NCCL (src/graph/trees.cc, connect.cc). NVLS is the
in-switch reduction and multicast of NVSwitch: for each of its n parts of the payload a head GPU reads the sum of
all (every GPU sends the part, one GPU receives it) and writes it once (one GPU sends, every GPU receives). So each
port of a head carries (1 + 1/n) times the payload in each direction; NCCL reserves the same (src/graph/search.cc,
ncclTopoSearchTryNvls). It has at most 32 heads (NCCL_MAX_NVLS_ARITY, src/include/device.h): in a larger NVLink domain
the ports of the other GPUs carry the payload alone.

CollNet lets the switches of the network reduce (SHARP: R. Graham et al., "Scalable Hierarchical Aggregation and
Reduction Protocol", COMHPC 2016): chains inside the nodes end at the GPU beside the adapter, whose part goes up once
and comes down once, whatever the number of nodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from typing import NamedTuple

from simgpu.hardware.topology import Route, Topology
from simgpu.timing.collectives import mesh
from simgpu.timing.collectives.exchanges import exchanges
from simgpu.timing.collectives.traffic import SEND, bus_factor, passes, ring_steps

ALGORITHMS = ("ring", "tree", "nvls", "collnet", "direct")

NVLS_HEADS = 32
"""Most GPUs of an NVLink domain that reduce in the switch for all (NCCL_MAX_NVLS_ARITY, src/include/device.h)."""


class Flow(NamedTuple):
    """Equal flows over the same links: `share` bytes each per byte of payload, `times` of them."""

    route: Route
    share: float
    times: float = 1.0


@dataclass(frozen=True)
class Schedule:
    """Flows of one collective; all of them start together and run through as a pipeline.

    `hops` are those that a piece of data makes one after another, with how often it makes each. `work` are the
    bytes that the channels of one GPU pass per byte of payload, `moved` those that leave it.
    """

    algorithm: str
    flows: tuple[Flow, ...]
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
    """One ring within a node (in a mesh as many as use its links best); across nodes one per NIC.

    So every rail carries its share, as NCCL does. Ring r enters the first node at the first GPU of rail r and walks all
    of its GPUs; the next node is walked the other way round and so is entered on the rail where the first was left.
    """
    nodes = nodes_of(topology, gpus)
    rails = min(topology.whole_rails, min(map(len, nodes)))
    if len(nodes) == 1 and mesh.wired(topology):
        return mesh.mesh_rings(topology, gpus)
    if len(nodes) == 1 or (rails <= 1 and not mesh.wired(topology)):
        return [list(gpus)]
    rails = max(rails, 1)
    walks = [_walks(topology, local, rails) for local in nodes]
    return [
        [gpu for i, walk in enumerate(walks) for gpu in (walk[r] if i % 2 == 0 else walk[r][::-1])]
        for r in range(rails)
    ]


def _walks(topology: Topology, local: Sequence[int], rails: int) -> list[list[int]]:
    """The GPUs of a node in the order of each ring or chain: one for every rail, which begins with its first GPU."""
    if mesh.wired(topology):
        return mesh.mesh_walks(topology, local, rails)
    return [_walk(topology, local, r, rails) for r in range(rails)]


def _walk(topology: Topology, local: Sequence[int], rail: int, rails: int) -> list[int]:
    """The GPUs of a node in the order of a ring or chain, beginning with the first of a rail.

    Behind a switch any order does, and they are taken round. In a full mesh each pair has a link of its own: zigzag
    walks (0, 1, n-1, 2, n-2, ...) from every GPU of an even number use each link once, where walks round would all
    crowd on the links to the next. B. Gordon, "Sequences in groups with distinct partial products", Pacific Journal of
    Mathematics 11(4), 1961. RCCL's rings use all links too (src/graph/rome_models.cc).
    """
    n, first = len(local), rail * len(local) // rails
    if not _meshed(topology):
        whole = [gpu for gpu in local if topology.on_whole_rail(gpu)] if topology.lost else []
        if whole:  # in and out by NICs that every node has
            first = rail * len(whole) // rails
            begin, *others = [*whole[first:], *whole[:first]]
            return [begin, *(gpu for gpu in local if gpu not in whole), *others]
        return [*local[first:], *local[:first]]
    steps = [(i + 1) // 2 if i % 2 else -(i // 2) for i in range(n)]
    return [local[(first + step) % n] for step in steps]


def ring(topology: Topology, kind: str, gpus: Sequence[int]) -> Schedule:
    """Each GPU sends to its successor. Broadcast and reduce do not close the ring."""
    n = len(gpus)
    share = bus_factor(kind, n)
    if kind not in ("broadcast", "reduce") and fills_torus(topology, gpus):
        return torus(topology, kind, gpus)
    found = rings(topology, gpus)
    closed = kind not in ("broadcast", "reduce")
    flows: list[Flow] = []
    for one in found:
        edges = pairwise([*one, one[0]] if closed else one)
        flows += [Flow(mesh.way(topology, a, b, gpus), share / len(found)) for a, b in edges]
    per_ring = len(flows) // len(found)
    hops = tuple((flow.route, ring_steps(kind, n) / per_ring) for flow in flows[:per_ring])
    return Schedule("ring", tuple(flows), hops, share, passes(kind, n))


def fills_torus(topology: Topology, gpus: Sequence[int]) -> bool:
    """True if the GPUs are those of a whole torus, one at each of its places."""
    layout = topology.layout
    if layout is None or layout.kind != "torus" or topology.cluster.gpus_per_node > 1:
        return False
    return sorted(gpus) == list(range(prod(layout.fabric.dims)))


def torus(topology: Topology, kind: str, gpus: Sequence[int]) -> Schedule:
    """Rings both ways along every dimension at once, each of an equal part: every link of every GPU is busy.

    The part that begins along one dimension goes on along the next (N. Jouppi et al., "TPU v4", ISCA 2023; P. Sack,
    W. Gropp, "Collective algorithms for multiported torus networks", ACM TOPC 1(2), 2015). Steps are those of rings
    along all dimensions one after another.
    """
    assert topology.layout is not None
    n, dims = len(gpus), [size for size in topology.layout.fabric.dims if size > 1]
    at = sorted(gpus, key=lambda gpu: int(topology.leaf(gpu).removeprefix("leaf")))
    share = bus_factor(kind, n) / (2 * len(dims))
    flows: list[Flow] = []
    stride = 1
    for size in topology.layout.fabric.dims:
        for i, gpu in enumerate(at) if size > 1 else ():
            here = i // stride % size
            peers = (at[i + ((here + step) % size - here) * stride] for step in (1, -1))
            flows.extend(Flow(topology.route(gpu, peer), share) for peer in peers)
        stride *= size
    steps = sum(size - 1 for size in dims) * (2 if kind == "all_reduce" else 1)
    return Schedule("ring", tuple(flows), ((flows[0].route, float(steps)),), share * 2 * len(dims), passes(kind, n))


def shift(topology: Topology, kind: str, gpus: Sequence[int]) -> Schedule:
    """Each GPU sends its buffer to its successor at once, as `sendrecv_perf` does; a `send` is the first pair alone."""
    pairs = [(gpus[0], gpus[1])] if kind == SEND else list(zip(gpus, [*gpus[1:], gpus[0]], strict=True))
    flows = tuple(Flow(mesh.way(topology, a, b, gpus), 1.0) for a, b in pairs)
    slowest = max((flow.route for flow in flows), key=lambda route: route.latency)
    return Schedule("direct", flows, ((slowest, 1.0),), 1.0, 1.0)


def direct(topology: Topology, kind: str, gpus: Sequence[int], one_shot: bool = False) -> Schedule:
    """Every GPU with every other at once: parts of S/n, twice for an all-reduce; `one_shot`: whole buffers, once."""
    n = len(gpus)
    rounds = 1 if one_shot or kind != "all_reduce" else 2
    part = 1.0 if one_shot else rounds / n
    flows: list[Flow] = []
    ways: list[Route] = []
    for route, count in exchanges(topology, nodes_of(topology, gpus), ways):
        flows.append(Flow(route, part, count))
    slowest = max(ways, key=lambda route: route.latency)
    moved = part * (n - 1)
    return Schedule("direct", tuple(flows), ((slowest, float(rounds)),), moved, moved + rounds / n)


def tree(topology: Topology, gpus: Sequence[int]) -> Schedule:
    """Reduce towards a root and broadcast back, over two trees of nodes on every rail; chains inside the nodes."""
    nodes = nodes_of(topology, gpus)
    rails = min(max(topology.whole_rails, 1), min(map(len, nodes))) if len(nodes) > 1 else 1
    flows: list[tuple[Route, float]] = []
    walks = [_chains(topology, local, rails, len(nodes)) for local in nodes]
    for r in range(rails):
        chains = [walk[r] for walk in walks]
        pairs = [pair for chain in chains for pair in pairwise(chain) for _ in range(2)]
        for parents in double_tree(len(nodes)):
            pairs += [(chains[parent][0], chains[child][0]) for child, parent in parents.items()]
        for a, b in pairs:
            flows += [(mesh.way(topology, *ends, gpus), 0.5 / rails) for ends in ((a, b), (b, a))]
    hops = _down_and_up(topology, nodes, max((walk[0] for walk in walks), key=len))
    return Schedule("tree", _merged(flows), hops, 2.0, 2.0)


def _chains(topology: Topology, local: Sequence[int], rails: int, nodes: int) -> list[list[int]]:
    """The chains of the trees in one node: one for every rail, in a single node one."""
    if nodes > 1:
        return _walks(topology, local, rails)
    return [mesh.mesh_rings(topology, local)[0] if mesh.wired(topology) else list(local)]


def _down_and_up(
    topology: Topology, nodes: Sequence[Sequence[int]], longest: Sequence[int]
) -> tuple[tuple[Route, float], ...]:
    """The longest way through a tree, up and down: the chain of a node, and the depth of the tree of nodes."""
    hops = [(mesh.way(topology, a, b, longest), 2.0) for a, b in pairwise(longest)]
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


def collnet(topology: Topology, gpus: Sequence[int]) -> Schedule:
    """Chains inside the nodes on every rail, towards the adapter and back; between the nodes switches reduce.

    Each adapter sends its part to its leaf once and receives the sum once. A link between switches carries one part for
    each rail that crosses it, not one for each node.
    """
    nodes = nodes_of(topology, gpus)
    rails = min(max(topology.whole_rails, 1), min(map(len, nodes)))
    flows: list[tuple[Route, float]] = []
    walks = [_chains(topology, local, rails, len(nodes)) for local in nodes]
    switches = topology.wires.nodes
    for r in range(rails):
        chains = [walk[r] for walk in walks]
        for chain in chains:
            for a, b in pairwise(chain):
                flows += [(mesh.way(topology, *ends, gpus), 1 / rails) for ends in ((a, b), (b, a))]
        between: dict[tuple[str, str], None] = {}
        for i, chain in enumerate(chains):
            other = chains[0 if i else 1][0]
            for route, up in ((topology.route(chain[0], other), True), (topology.route(other, chain[0]), False)):
                leaves = [n for n, edge in enumerate(route.edges) if switches[edge[not up]]["kind"] == "leaf"]
                first, last = (0, leaves[0]) if up else (leaves[-1] + 1, len(route.edges))
                own = route.edges[first:last]
                flows.append((topology.edges(own, "network"), 1 / rails))
                between |= dict.fromkeys(edge for edge in route.edges if all(_is_switch(switches[end]) for end in edge))
        flows += [(topology.edges((edge,), "network"), 1 / rails) for edge in between]
    longest = max((walk[0] for walk in walks), key=len)
    hops = [(mesh.way(topology, a, b, longest), 2.0) for a, b in pairwise(longest)]
    hops.append((topology.route(nodes[0][0], nodes[1][0]), 1.0))
    return Schedule("collnet", _merged(flows), tuple(hops), 2.0, 2.0)


def _is_switch(vertex: Mapping[str, object]) -> bool:
    return vertex["kind"] in ("leaf", "spine", "core")


def nvls(topology: Topology, kind: str, gpus: Sequence[int]) -> Schedule:
    """Reduction and multicast inside the NVSwitch; between nodes, two trees on the rail of every head."""
    nodes = nodes_of(topology, gpus)
    count = min(*map(len, nodes), NVLS_HEADS)
    heads = [[local[i * len(local) // count] for i in range(count)] for local in nodes]
    part = 1 / count
    flows: list[tuple[Route, float]] = []
    for local, chosen in zip(nodes, heads, strict=True):
        for gpu in local:
            own = part if gpu in chosen else 0.0
            out, into = {"all_gather": (own, 1.0), "reduce_scatter": (1.0, own)}.get(kind, (1 + own, 1 + own))
            name = topology.gpus[gpu]
            switch = topology.wires.nodes[name]["nvswitch"]
            flows += [(topology.edges(((name, switch),)), out), (topology.edges(((switch, name),)), into)]
    if len(nodes) > 1:
        for i in range(count):
            for parents in double_tree(len(nodes)):
                for child, parent in parents.items():
                    ends = heads[child][i], heads[parent][i]
                    flows += [(topology.route(*ends), part / 2), (topology.route(*ends[::-1]), part / 2)]
    hops = [(topology.route(nodes[0][0], nodes[0][1]), 1.0)]
    if len(nodes) > 1:
        hops.append((topology.route(nodes[0][0], nodes[1][0]), 2.0 * (len(nodes) - 1).bit_length()))
    return Schedule("nvls", _merged(flows), tuple(hops), 1 + part, 1.0)


def _merged(flows: Sequence[tuple[Route, float]]) -> tuple[Flow, ...]:
    """Equal flows over the same route as one entry: two trees between the same nodes are two flows there."""
    total: dict[tuple[Route, float], float] = {}
    for route, share in flows:
        total[route, share] = total.get((route, share), 0.0) + 1
    return tuple(Flow(route, share, times) for (route, share), times in total.items())


def _meshed(topology: Topology) -> bool:
    """Whether every two GPUs of a node have a link of their own."""
    wiring = topology.cluster.node.nvlink
    return wiring is not None and wiring.topology == "full-mesh"


def all_joined(topology: Topology, gpus: Sequence[int]) -> bool:
    """True if every two of the GPUs have a link of their own: within a node, or between nodes of one GPU."""
    if topology.layout is not None and topology.cluster.gpus_per_node == 1:
        return topology.layout.kind == "full-mesh"
    return _meshed(topology) and len(nodes_of(topology, gpus)) == 1


def has_switch(topology: Topology, gpus: Sequence[int]) -> bool:
    """True if every node has more than one of the GPUs, all connected to an NVSwitch."""
    wiring = topology.cluster.node.nvlink
    local = nodes_of(topology, gpus)
    return wiring is not None and wiring.topology == "nvswitch" and min(map(len, local)) > 1
