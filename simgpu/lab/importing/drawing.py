"""A node as text: what hangs where, and the matrix that `nvidia-smi topo -m` would print of it."""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import topology_of
from simgpu.hardware.spec import PCIeSwitch
from simgpu.hardware.topology import Topology

MOST = 16
"""Most GPUs of a matrix that is printed."""
_LEGEND = """
Legend:

  X    = Self
  SYS  = Connection traversing PCIe as well as the SMP interconnect between NUMA nodes (e.g., QPI/UPI)
  NODE = Connection traversing PCIe as well as the interconnect between PCIe Host Bridges within a NUMA node
  PHB  = Connection traversing PCIe as well as a PCIe Host Bridge (typically the CPU)
  PXB  = Connection traversing multiple PCIe bridges (without traversing the PCIe Host Bridge)
  PIX  = Connection traversing at most a single PCIe bridge
  NV#  = Connection traversing a bonded set of # NVLinks
"""


def tree(cluster: Cluster) -> list[str]:
    """Sockets of a node with what hangs below each, and how its GPUs are joined."""
    node, lines = cluster.node, []
    numbers = {"gpu": 0, "nic": 0}

    def named(devices: list[str]) -> str:
        said = []
        for device in devices:
            said.append(f"{device.upper()}{numbers[device]}")
            numbers[device] += 1
        return " ".join(said)

    sockets = [socket for socket in node.sockets for _ in range(socket.count)]
    for i, socket in enumerate(sockets):
        lines.append(f"socket {i}" + (f"  {socket.cpu}" if socket.cpu else ""))
        for entry in socket.devices:
            if isinstance(entry, PCIeSwitch):
                port = f"{entry.switch.link} x{entry.switch.lanes.si:g}"
                lines += [f"  +- switch ({port})  {named(list(entry.devices))}" for _ in range(entry.count)]
            else:
                lines.append(f"  +- {named([entry])}")
    lines += _joined(cluster)
    return lines


def _joined(cluster: Cluster) -> Iterator[str]:
    node, own = cluster.node, cluster.gpu.nvlink
    if node.nvlink is None or own is None:
        yield "links between GPUs: none of their own" if node.gpu_count > 1 else "one GPU"
        return
    lanes = f"{own.lanes.si:g} x {own.link}"
    if node.nvlink.topology == "nvswitch":
        yield f"links between GPUs: all on NVSwitch, {lanes} each"
    elif node.nvlink.topology == "bridge":
        pairs = ", ".join(f"GPU{a}-GPU{b}" for a, b in node.nvlink.pairs)
        yield f"links between GPUs: bridges {pairs}, {lanes} each"
    elif node.nvlink.topology == "full-mesh":
        yield f"links between GPUs: each to each, {lanes} in all"
    else:
        yield f"links between GPUs: a mesh of {len(node.nvlink.links)} pairs, at most {lanes} each"


def matrix_text(cluster: Cluster, legend: bool = True) -> str:
    """What `nvidia-smi topo -m` would print of a node: devices of one socket that share no switch are NODE."""
    topology = topology_of(cluster, 1)
    graph = topology.graph
    devices = [name for kind in ("gpu", "nic") for name in graph if graph.nodes[name]["kind"] == kind]
    labels = [f"{name.rpartition('.')[2][:3].upper()}{graph.nodes[name]['index']}" for name in devices]
    lines = ["\t".join(["", *labels, "CPU Affinity", "NUMA Affinity"])]
    for name, label in zip(devices, labels, strict=True):
        cells = [_cell(cluster, topology, name, other) for other in devices]
        own = ["N/A", graph.nodes[name]["memory"].rpartition("mem")[2]] if label.startswith("GPU") else []
        lines.append("\t".join([label, *cells, *own]))
    return "\n".join(lines) + "\n" + (_LEGEND if legend else "")


def _cell(cluster: Cluster, topology: Topology, a: str, b: str) -> str:
    if a == b:
        return " X "
    graph = topology.graph
    links = _links(cluster, topology, a, b)
    if links:
        return f"NV{links}"
    above_a, above_b = (_above(topology, one) for one in (a, b))
    if above_a == above_b and graph.nodes[above_a]["kind"] == "pcie-switch":
        return "PIX"
    return "NODE" if graph.nodes[a]["memory"] == graph.nodes[b]["memory"] else "SYS"


def _above(topology: Topology, device: str) -> str:
    """The switch or the root complex that a device hangs on."""
    kinds = topology.graph.nodes
    return next(other for other in topology.graph[device] if kinds[other]["kind"] in ("pcie-switch", "root"))


def _links(cluster: Cluster, topology: Topology, a: str, b: str) -> int:
    own, wiring = cluster.gpu.nvlink, cluster.node.nvlink
    place = topology.graph.nodes
    if own is None or wiring is None or place[a]["kind"] != "gpu" or place[b]["kind"] != "gpu":
        return 0
    if wiring.topology == "nvswitch":
        return int(own.lanes.si)
    if not topology.graph.has_edge(a, b):
        return 0
    if wiring.topology == "full-mesh":
        return int(own.lanes.si // (cluster.node.gpu_count - 1))
    pair = {place[a]["index"], place[b]["index"]}
    return next((int(wire.lanes.si) for wire in wiring.links if set(wire.gpus) == pair), int(own.lanes.si))
