"""What is broken in a cluster, on its graph: links at a part of their rate, NICs and switches that are lost.

NCCL does not go on without a NIC that fails: the job is started again, with fewer rails through all nodes. A GPU that
has lost its own shares another's. What is left of a leaf or of the spines above it is a part of the leaf's uplinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.cluster_spec import ClusterSpec, Fault
from simgpu.hardware.layout import Layout, shortage
from simgpu.hardware.spec import GPUSpec, NodeSpec
from simgpu.hardware.wiring import Wiring


def misfits(spec: ClusterSpec, node: NodeSpec, gpu: GPUSpec) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """What of a cluster's fabric, placement and faults does not fit its nodes: place in the file, and why."""
    if spec.fabric is None:
        if spec.degraded and any(one.what not in ("gpu", "nvlink") for one in spec.degraded):
            yield ("degraded",), "a single node has no fabric that could be degraded"
    else:
        if problem := shortage(spec, node.nic_count):
            yield ("fabric", "dims" if spec.fabric.topology == "torus" else "radix"), problem
        wiring = node.nvlink
        if spec.fabric.topology == "rail-only" and node.nic_count > 1:
            if wiring is None or wiring.topology != "nvswitch":
                yield ("fabric", "topology"), f"'{node.name}' has no NVSwitch to cross from rail to rail over"
            elif spec.fabric.pxn is False:
                yield ("fabric", "pxn"), "'rail-only' has no other way from rail to rail; expected true"
        try:
            Layout(spec, node.nic_count).positions(1)
        except InputError as refused:
            yield ("placement", "nodes"), refused.problem
    for i, fault in enumerate(spec.degraded):
        if problem := _misfit(fault, spec, node, gpu):
            yield ("degraded", i), problem


def _misfit(fault: Fault, spec: ClusterSpec, node: NodeSpec, gpu: GPUSpec) -> str:
    """Why a cluster has no such thing to break; '' where it has."""
    nodes, gpus = int(spec.nodes.si), node.gpu_count
    if fault.node is not None and fault.node >= nodes:
        return f"node {fault.node} is not among its {nodes:,} nodes (0 to {nodes - 1})"
    if fault.nic is not None and fault.nic >= node.nic_count:
        return f"nic {fault.nic} is not among the {node.nic_count} of a node"
    place = fault.gpu if fault.gpu is not None else fault.nvlink
    if place is not None and place >= gpus:
        return f"{fault.what} {place} is not among the {gpus} GPUs of a node"
    if fault.nvlink is not None and (node.nvlink is None or gpu.nvlink is None):
        return f"the GPUs of '{node.name}' have no links of their own"
    return _misfit_of_fabric(fault, spec, node)


def _misfit_of_fabric(fault: Fault, spec: ClusterSpec, node: NodeSpec) -> str:
    fabric = spec.fabric
    if fabric is None:
        return ""
    layout = Layout(spec, node.nic_count)
    leaves = (layout.group(int(spec.nodes.si) - 1) + 1) * layout.rails
    if fault.leaf is not None and fault.leaf >= leaves:
        return f"leaf {fault.leaf} is not among its {leaves:,} leaf switches"
    if fault.leaf is not None and not layout.tree:
        return f"'{fabric.topology}' has no leaf switches; expected a nic"
    if fault.leaf is not None and not fault.rate and layout.rails == 1:
        return f"nodes below leaf {fault.leaf} have no other; expected rate, what is left of its uplinks"
    if fault.spines is not None and (not layout.tree or fault.spines >= spines_of(layout)):
        return f"{fault.spines} spines lost leave none of {spines_of(layout)}"
    if fault.planes is not None and fault.planes >= fabric.planes:
        return f"{fault.planes} planes lost leave none of {fabric.planes}"
    return ""


def spines_of(layout: Layout) -> int:
    """Switches that a leaf has a link to, in each plane."""
    return max(round(layout.uplinks), 1) if layout.tree else 0


def break_things(graph: Wiring, cluster: Cluster, layout: Layout | None, real: Sequence[int]) -> None:
    """Put the faults of a cluster on its graph, whose node i stands for node `real[i]`."""
    places = {number: i for i, number in enumerate(real)}
    if layout is not None and real != range(len(real)):
        true = layout.positions(max(real, default=0) + 1)
        leaves = {
            layout.leaf(true[number], nic): layout.leaf(i, nic)
            for i, number in enumerate(real)
            for nic in range(layout.nics)
        }
    else:
        leaves = {vertex: vertex for vertex in graph if graph.nodes[vertex]["kind"] == "leaf"}
    lost: dict[str, None] = {}
    for fault in cluster.spec.degraded:
        if fault.node is not None:
            if (n := places.get(fault.node)) is not None:
                _in_node(graph, fault, n, lost)
        elif layout is not None:
            _in_fabric(graph, fault, layout, cluster, leaves, lost)
    graph.graph["lost"] = tuple(lost)


def _in_node(graph: Wiring, fault: Fault, n: int, lost: dict[str, None]) -> None:
    if fault.nic is not None:
        nic = f"n{n}.nic{fault.nic}"
        if not fault.rate:
            lost[nic] = None
        else:
            _slow(graph, nic, fault.rate, "network")
    elif fault.nvlink is not None:
        _slow(graph, f"n{n}.gpu{fault.nvlink}", fault.rate, "gpu-link")


def _in_fabric(
    graph: Wiring, fault: Fault, layout: Layout, cluster: Cluster, leaves: dict[str, str],
    lost: dict[str, None],
) -> None:  # fmt: skip
    if fault.planes is not None:
        assert cluster.spec.fabric is not None
        left = 1 - fault.planes / cluster.spec.fabric.planes
        for _, _, edge in graph.edges(data=True):
            if edge["kind"] == "network":
                _scale(edge, left)
        return
    if fault.spines is not None:
        left = 1 - fault.spines / spines_of(layout)
        for leaf in leaves.values():
            _slow_uplinks(graph, leaf, left)
        return
    leaf = leaves.get(f"leaf{fault.leaf}", "")
    if leaf in graph and fault.rate:
        _slow_uplinks(graph, leaf, fault.rate)
    elif leaf in graph:
        lost |= dict.fromkeys(nic for nic in graph[leaf] if graph.nodes[nic]["kind"] == "nic")


def _slow_uplinks(graph: Wiring, leaf: str, rate: float) -> None:
    for other in list(graph[leaf]):
        if graph.nodes[other]["kind"] != "nic":
            _scale(graph.edges[leaf, other], rate)
            _scale(graph.edges[other, leaf], rate)


def _slow(graph: Wiring, vertex: str, rate: float, kind: str) -> None:
    """Slow all links of a kind at a vertex, in both directions."""
    for other in list(graph[vertex]):
        if graph.edges[vertex, other]["kind"] == kind:
            _scale(graph.edges[vertex, other], rate)
            _scale(graph.edges[other, vertex], rate)


def _scale(edge: dict[str, float], rate: float) -> None:
    edge["bandwidth"] *= rate
    edge["planned"] *= rate


def slow_gpus(spec: ClusterSpec) -> dict[int, float]:
    """What is left of the speed of the slowest GPU of each node that has one."""
    found: dict[int, float] = {}
    for fault in spec.degraded:
        if fault.gpu is not None and fault.node is not None:
            found[fault.node] = min(found.get(fault.node, 1.0), fault.rate)
    return found


def touched_nodes(spec: ClusterSpec) -> list[int]:
    """Nodes that a fault is in, in order."""
    return sorted({fault.node for fault in spec.degraded if fault.node is not None})
