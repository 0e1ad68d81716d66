"""The hardware as a graph, and the routes that data takes through it.

Vertices are GPUs, NVSwitches, PCIe switches, root complexes, host memories, NICs, leaf and spine switches, named
like `n0.gpu3`. Every directed edge carries `bandwidth` (payload bytes/s), `planned` (what NCCL assumes when it
chooses, bytes/s), `latency` (s), `link` (which kind) and `kind`. Any networkx function can be called on
`Topology.graph`; simulations read `Topology.wires`, which is the same without networkx.

Three vertices stand for more than one box. `nvswitch` is the whole switch plane of a node and `spine` (`spine0`, ...,
`core`) a whole stage of switches: both are non-blocking for what is attached to them, apart from the capacity of the
attached links. `simgpu.hardware.layout` says which switches a fabric has.
`mem` is the DRAM of a socket: its edges in and out each get half of the DRAM bandwidth, because what is staged
through it is written once and read once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster, PortRate
from simgpu.hardware.derive import is_slice
from simgpu.hardware.faults import break_things
from simgpu.hardware.layout import EFFICIENCY, Layout
from simgpu.hardware.spec import PCIeSwitch, Socket
from simgpu.hardware.wiring import Wiring, steps
from simgpu.memo import Memo, Region

if TYPE_CHECKING:
    import networkx as nx

ROUTES = 2**18
"""Routes of a graph that are remembered, and ways through its PCIe: some hundred bytes each."""

_SCOPES = ("none", "switch", "root", "node")


@dataclass(frozen=True)
class Route:
    """The directed edges between two GPUs. `via` says how: gpu-link, pcie, host (staged in its memory), network."""

    edges: tuple[tuple[str, str], ...]
    latency: float  # s, of all edges
    via: str


class Topology:
    """The graph of a cluster (or of its first nodes) and the routing rules of its hardware."""

    def __init__(self, cluster: Cluster, nodes: int, wires: Wiring, layout: Layout | None = None) -> None:
        self.cluster = cluster
        self.nodes = nodes
        self.wires = wires
        self.layout = layout
        """Where the switches of the fabric stand; None within a node."""
        self.gpus = [name for name in wires if wires.nodes[name]["kind"] == "gpu"]
        """GPU vertices in order: all of node 0, then all of node 1, ..."""
        self.memo = Memo()
        """Results that follow from this graph and are remembered."""
        self._routes: Region[tuple[int, int], Route] = self.memo.region("routes", ROUTES)
        self._paths: Region[tuple[str, str], list[tuple[str, str]]] = self.memo.region("paths", ROUTES)

    @cached_property
    def graph(self) -> nx.DiGraph[str]:
        """The wires as a graph of networkx, to look at."""
        return self.wires.networkx()

    def route(self, source: int, target: int) -> Route:
        """How bytes get from GPU `source` to GPU `target` (positions in `gpus`, different).

        Within a node: over the GPUs' own links where they are joined by them (directly or through the switch
        plane, never through a third GPU); else over PCIe, if the driver allows peer-to-peer and the platform
        supports it that far; else staged through the memory of the sender's socket. Between nodes: through the
        NICs of both, directly from GPU memory where GPUDirect RDMA works, else staged at both ends. MIG slices of a
        node reach each other on no way, so that asking for one raises `InputError`.
        """
        found = self._routes.get((source, target))
        if found is None:
            edges, via = self._find(self.gpus[source], self.gpus[target])
            latency = sum(self.wires.edges[edge]["latency"] for edge in edges)
            found = self._routes[source, target] = Route(tuple(edges), latency, via)
        return found

    def to_host(self, gpu: int) -> tuple[tuple[str, str], ...]:
        """The edges from a GPU to the memory of its socket; back they are the other way round."""
        name = self.gpus[gpu]
        return tuple(self._path(name, self.wires.nodes[name]["memory"]))

    def to_network(self, gpu: int) -> list[str]:
        """The vertices between a GPU and its network adapter, host memory among them without GPUDirect RDMA."""
        assert self.cluster.node.nic is not None
        name = self.gpus[gpu]
        edges = self._to_nic(name, self._nic_of(name))
        return [vertex for edge in edges for vertex in edge][1:-1]

    def edges(self, edges: tuple[tuple[str, str], ...], via: str = "gpu-link") -> Route:
        """The route along given edges, such as from a GPU to its switch."""
        return Route(edges, sum(self.wires.edges[edge]["latency"] for edge in edges), via)

    def leaf(self, gpu: int) -> str:
        """The leaf switch above the NIC of a GPU, in a topology of several nodes."""
        return self._leaf_of(self._nic_of(self.gpus[gpu]))

    def bandwidth(self, route: Route) -> float:
        """Bandwidth of the narrowest edge of a route, bytes/s."""
        return float(min(self.wires.edges[edge]["bandwidth"] for edge in route.edges))

    # ---- the rules -----------------------------------------------------------------------------------

    def _find(self, a: str, b: str) -> tuple[list[tuple[str, str]], str]:
        place = self.wires.nodes
        if place[a]["node"] != place[b]["node"]:
            return self._between_nodes(a, b), "network"
        if is_slice(self.cluster.gpu):
            # MIG user guide: "no GPU to GPU P2P (either PCIe or NVLink)", and NCCL takes one slice of a GPU at most
            problem = (
                f"MIG slices ('{self.cluster.gpu.name}') cannot communicate: they have no peer-to-peer over NVLink or"
            )
            raise InputError(f"{problem} PCIe; expected one slice for each replica", key="plan")
        if self.wires.has_edge(a, b):  # a bridge, or a link of a full mesh
            return [(a, b)], "gpu-link"
        switch = place[a].get("nvswitch")
        if switch is not None:
            return [(a, switch), (switch, b)], "gpu-link"
        path = self._pcie_path(a, b)
        if path is not None and self._peer_to_peer(path):
            return steps(path), "pcie"
        return self._staged(a, b), "host"

    def _pcie_path(self, a: str, b: str) -> list[str] | None:
        """The way through PCIe switches, root complexes and the inter-socket link; None where there is none."""
        return self.wires.way(a, b, lambda edge: edge["kind"] in ("pcie", "host", "inter-socket"))

    def _peer_to_peer(self, path: list[str]) -> bool:
        if not self.cluster.gpu.host_link.peer_to_peer.value:
            return False
        roots = sum(self.wires.nodes[vertex]["kind"] == "root" for vertex in path)
        reach = _SCOPES.index(self.cluster.node.peer_to_peer_scope.value)
        return bool(reach >= 1 + roots)

    def _staged(self, a: str, b: str) -> list[tuple[str, str]]:
        memory = self.wires.nodes[a]["memory"]
        return self._path(a, memory) + self._path(memory, b)

    def _path(self, a: str, b: str) -> list[tuple[str, str]]:
        found = self._paths.get((a, b))
        if found is None:
            path = self._pcie_path(a, b)
            if path is None:
                raise LookupError(f"no way from {a} to {b}")
            found = self._paths[a, b] = steps(path)
        return found

    def _between_nodes(self, a: str, b: str) -> list[tuple[str, str]]:
        out, into = self._nic_of(a), self._nic_of(b)
        from_gpu = self._to_nic(a, out)
        memory = self.wires.nodes[b]["memory"]
        to_gpu = self._path(into, b) if self._gpudirect else self._path(into, memory) + self._path(memory, b)
        assert self.layout is not None
        leaf, other = self._leaf_of(out), self._leaf_of(into)
        if leaf != other and (relay := self._relay(a, leaf, other)) is not None:
            switch = self.wires.nodes[a]["nvswitch"]
            return [(a, switch), (switch, relay), *self._between_nodes(relay, b)]
        middle = self.layout.way(leaf, other).switches
        return from_gpu + steps([out, *middle, into]) + to_gpu

    @property
    def crosses_over(self) -> bool:
        """True if data for another rail goes to the GPU of this node first that is on it (NCCL's PXN)."""
        fabric = self.cluster.spec.fabric
        if fabric is None or fabric.topology not in ("rail-fat-tree", "rail-only"):
            return False
        wanted = fabric.topology == "rail-only" if fabric.pxn is None else fabric.pxn
        wiring = self.cluster.node.nvlink
        return wanted and wiring is not None and wiring.topology == "nvswitch"

    def _relay(self, gpu: str, leaf: str, other: str) -> str | None:
        """The GPU beside `gpu` on the rail of leaf switch `other`, where data for that rail cross over to it first."""
        assert self.layout is not None
        rail = self.layout.rail_of(other)
        if not self.crosses_over or self.layout.rail_of(leaf) == rail:
            return None
        node = self.wires.nodes[gpu]["node"]
        beside = (f"n{node}.gpu{i}" for i in range(self.cluster.node.gpu_count))
        return next((g for g in beside if self.layout.rail_of(self._leaf_of(self._nic_of(g))) == rail), None)

    @property
    def _gpudirect(self) -> bool:
        assert self.cluster.node.nic is not None
        return bool(self.cluster.node.nic.gpudirect_rdma.value and self.cluster.gpu.host_link.peer_to_peer.value)

    def _to_nic(self, gpu: str, nic: str) -> list[tuple[str, str]]:
        return self._path(gpu, nic) if self._gpudirect else self._staged(gpu, nic)

    def _leaf_of(self, nic: str) -> str:
        return str(next(v for v in self.wires[nic] if v.startswith("leaf")))

    def _nic_of(self, gpu: str) -> str:
        """The NIC of a GPU: NICs are dealt to the GPUs of a node in order, evenly; for a lost one stands the next."""
        node = self.cluster.node
        place = self.wires.nodes[gpu]
        own, n = place["index"] * node.nic_count // node.gpu_count, place["node"]
        if self.nodes == 1 or not self.lost:
            return f"n{n}.nic{own}"
        ways = (f"n{n}.nic{(own + i) % node.nic_count}" for i in range(node.nic_count))
        found = next((nic for nic in ways if nic not in self.lost), None)
        if found is None:
            raise InputError(f"node {n} has lost all of its NICs", key="cluster.degraded")
        return found

    @cached_property
    def lost(self) -> frozenset[str]:
        """NICs that do not work."""
        return frozenset(self.wires.graph.get("lost", ()))

    @cached_property
    def without_nics(self) -> frozenset[int]:
        """Nodes that have lost a NIC."""
        return frozenset(self.wires.nodes[nic]["node"] for nic in self.lost)

    @property
    def whole_rails(self) -> int:
        """NICs of a node, but for those that some node has lost: rails that run through all nodes."""
        return self.cluster.node.nic_count - len(self._gone)

    def on_whole_rail(self, gpu: int) -> bool:
        """True if every node has the NIC that a GPU has for its own."""
        node = self.cluster.node
        return self.wires.nodes[self.gpus[gpu]]["index"] * node.nic_count // node.gpu_count not in self._gone

    @cached_property
    def _gone(self) -> frozenset[int]:
        return frozenset(self.wires.nodes[nic]["index"] for nic in self.lost)


def build_topology(
    cluster: Cluster, nodes: int, real: Sequence[int] | None = None, positions: Sequence[int] | None = None
) -> Topology:
    """The graph of `nodes` nodes of a cluster and of the switches between them.

    They stand where the cluster's placement has them, or at `positions`. With `real` they stand leaf by leaf instead,
    as nodes that stand for those of these numbers, whose faults they have.
    """
    graph = Wiring()
    for n in range(nodes):
        _add_node(graph, cluster, n)
    layout = None
    if nodes > 1:
        assert cluster.spec.fabric is not None
        layout = Layout(cluster.spec, cluster.node.nic_count)
        if positions is None:
            positions = range(nodes) if real is not None else layout.positions(nodes)
        _add_fabric(graph, cluster, layout, positions)
    if cluster.spec.degraded:
        break_things(graph, cluster, layout, range(nodes) if real is None else real)
    return Topology(cluster, nodes, graph, layout)


def _add_node(graph: Wiring, cluster: Cluster, n: int) -> None:
    """Add node `n`: its sockets with their PCIe trees, the links between sockets, and those between its GPUs."""
    node, numbers = cluster.node, Counter[str]()
    sockets = [socket for socket in node.sockets for _ in range(socket.count)]
    for number, socket in enumerate(sockets):
        _add_socket(graph, cluster, n, number, socket, numbers)
    if node.inter_socket is not None:
        port = cluster.port(node.inter_socket)
        for i in range(len(sockets)):
            for j in range(i):
                _join(graph, f"n{n}.root{i}", f"n{n}.root{j}", port, "inter-socket")
    for a, b, port in _own_links(cluster, n):
        if b.endswith("nvswitch"):
            graph.add_node(b, kind="nvswitch", node=n)
            graph.nodes[a]["nvswitch"] = b
        _join(graph, a, b, port, "gpu-link")


def _add_socket(graph: Wiring, cluster: Cluster, n: int, number: int, socket: Socket, numbers: Counter[str]) -> None:
    """Add a socket of node `n`: root complex, memory, and what hangs on its PCIe, directly or below switches.

    `numbers` counts the GPUs, NICs and PCIe switches that the node has so far.
    """
    root, memory = f"n{n}.root{number}", f"n{n}.mem{number}"
    graph.add_node(root, kind="root", node=n)
    graph.add_node(memory, kind="memory", node=n)
    half = socket.memory_bandwidth.si / 2
    _join(graph, root, memory, PortRate(half, 0.0, "dram", half), "host")

    def attach(device: str, above: str) -> None:
        name, index = f"n{n}.{device}{numbers[device]}", numbers[device]
        numbers[device] += 1
        graph.add_node(name, kind=device, node=n, index=index, memory=memory)
        _join(graph, name, above, _host_port(cluster, device), "pcie")

    for entry in socket.devices:
        if not isinstance(entry, PCIeSwitch):
            attach(entry, root)
            continue
        for _ in range(entry.count):
            switch = f"n{n}.pcie{numbers['switch']}"
            numbers["switch"] += 1
            graph.add_node(switch, kind="pcie-switch", node=n)
            _join(graph, switch, root, cluster.port(entry.switch), "pcie")
            for device in entry.devices:
                attach(device, switch)


def _host_port(cluster: Cluster, device: str) -> PortRate:
    """The PCIe port of a GPU ('gpu') or of a NIC ('nic')."""
    if device == "gpu":
        return cluster.port(cluster.gpu.host_link)
    assert cluster.node.nic is not None
    return cluster.port(cluster.node.nic.host_link)


def _own_links(cluster: Cluster, n: int) -> Iterator[tuple[str, str, PortRate]]:
    """The links of the GPUs among themselves."""
    wiring, gpu = cluster.node.nvlink, cluster.gpu
    if wiring is None or gpu.nvlink is None:
        return
    count = cluster.node.gpu_count
    if wiring.topology == "nvswitch":
        for i in range(count):
            yield f"n{n}.gpu{i}", f"n{n}.nvswitch", cluster.port(gpu.nvlink)
    elif wiring.topology == "bridge":
        for i, j in wiring.pairs:
            yield f"n{n}.gpu{i}", f"n{n}.gpu{j}", cluster.port(gpu.nvlink)
    elif wiring.topology == "mesh":
        for wire in wiring.links:
            i, j = wire.gpus
            share = wire.lanes.si / gpu.nvlink.lanes.si
            yield f"n{n}.gpu{i}", f"n{n}.gpu{j}", cluster.port(gpu.nvlink, share=share)
    else:
        for i in range(count):
            for j in range(i):
                yield f"n{n}.gpu{i}", f"n{n}.gpu{j}", cluster.port(gpu.nvlink, share=1 / (count - 1))


def _add_fabric(graph: Wiring, cluster: Cluster, layout: Layout, positions: Sequence[int]) -> None:
    """Add the leaf switches above nodes at some positions, and what joins them where there is more than one."""
    fabric, nic = cluster.spec.fabric, cluster.node.nic
    assert fabric is not None and nic is not None
    fabric_port, nic_port = cluster.port(fabric), cluster.port(nic.port)
    port = fabric_port if layout.tree and fabric_port.bandwidth <= nic_port.bandwidth else nic_port
    leaves: dict[str, None] = {}
    for n, position in enumerate(positions):
        for i in range(cluster.node.nic_count):
            leaf = layout.leaf(position, i)
            graph.add_node(leaf, kind="leaf")
            leaves[leaf] = None
            _join(graph, f"n{n}.nic{i}", leaf, port, "network")
    way = fabric.routing
    spread = way.kind in ("adaptive", "spray")
    share = 1.0 if not spread else way.efficiency.si if way.efficiency is not None else EFFICIENCY
    for a, b, ports in layout.cables(leaves):
        for switch in (a, b):
            if switch not in graph:
                graph.add_node(switch, kind=switch.rstrip("0123456789"))
        rate = ports * fabric_port.bandwidth * share
        _join(graph, a, b, PortRate(rate, fabric_port.latency, fabric.link, rate), "network")


def _join(graph: Wiring, a: str, b: str, port: PortRate, kind: str) -> None:
    """Add two directed edges between `a` and `b`, one each way."""
    for edge in ((a, b), (b, a)):
        graph.add_edge(
            *edge, bandwidth=port.bandwidth, planned=port.planned, latency=port.latency, link=port.link, kind=kind
        )
