"""The cluster that a measured row means: a table names a GPU, how many, and at most a few words about the links.

The rule is the same for every GPU. A node of the catalogue with that GPU, that wiring and room for the GPUs is taken,
the smallest; where there is none, a plain box is put together around the GPU's datasheet: NVSwitch, bridges or full
mesh as the words say, else a PCIe box with up to four GPUs on the root ports of a socket.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.cluster_spec import ClusterSpec
from simgpu.hardware.parts import links_of
from simgpu.hardware.spec import GPUSpec, LinkSpec, NodeSpec, Port

_BOX = "plain box of this project for measurements that do not describe their machine"
_RATES = {
    "infiniband": {25: "hdr", 50: "ndr", 100: "xdr"},
    "ethernet": {3: "25g", 12: "100g", 25: "200g", 50: "400g"},
    "efa": {12: "100g", 25: "200g"},
    "slingshot": {25: "11"},
}
"""Links by GB/s per direction."""

MATCHED = 64
"""Nodes of a job on Slingshot whose messages its adapters match themselves; in larger ones the CPUs do."""

BOARD = 8
"""GPUs that one board takes at most. A larger node is a rack of trays, as GB200 NVL72."""


def cluster_for(
    catalogue: Catalogue, gpu: str, gpus: int, gpus_per_node: int = 0, link: str = "", network: str = ""
) -> Cluster:
    """The cluster of a measurement over `gpus` GPUs, `gpus_per_node` in each node (0: all in one).

    Parameters
    ----------
    gpu
        Name in the catalogue.
    link, network
        What the table says of the links in a node ('nvlink4+nvswitch', 'nvlink-bridge pairs + pcie4', 'pcie4') and
        between nodes ('EFAv4 50 GB/s per GPU', 'InfiniBand NDR'). With nothing said: NVSwitch for GPUs on modules,
        the bridges of the catalogue's nodes, else PCIe; and plain Ethernet without RDMA between nodes.

    Raises
    ------
    InputError
        For an unknown GPU, or GPUs that do not divide into nodes.
    """
    per_node = gpus_per_node or gpus
    if gpus % per_node:
        raise InputError(f"{gpus} GPUs do not divide into nodes of {per_node}", key="gpus_per_node")
    spec = catalogue.spec("gpus", gpu)
    assert isinstance(spec, GPUSpec)
    wiring = _wiring(spec, link.lower())
    if gpus == per_node:
        known = _known(catalogue, gpu, per_node, wiring)
        if known is not None:
            return catalogue.cluster(known)
    return _assembled(catalogue, spec, gpus // per_node, _node(spec, per_node, wiring, network.lower()))


def training_cluster(
    catalogue: Catalogue, gpu: str, gpus: int, gpus_per_node: int, link: str = "", network: str = ""
) -> Cluster:
    """The cluster of a training run, in nodes as its GPUs are sold.

    GPUs on modules stand on boards as in the catalogue's node with such modules, with one adapter of the stated rate
    for each GPU; other GPUs in a plain box.

    `network` names the rate: 'InfiniBand HDR 25 GB/s per GPU', 'RoCE 50 GB/s per GPU'.
    """
    spec = catalogue.spec("gpus", gpu)
    assert isinstance(spec, GPUSpec)
    node = _board(catalogue, spec, gpus_per_node) if _wiring(spec, link.lower()) == "nvswitch" else None
    if node is None or gpus % gpus_per_node:
        return cluster_for(catalogue, gpu, gpus, gpus_per_node, link, network)
    stated = re.search(r"([\d.]+) ?gb/s per gpu", network.lower())
    if stated and node.nic is not None:
        name = _network_link(network.lower(), float(stated[1]))
        nic = node.nic.model_copy(update={"port": node.nic.port.model_copy(update={"link": name})})
        node = node.model_copy(update={"nic": nic})
    return _assembled(catalogue, spec, gpus // gpus_per_node, node)


def network_cluster(catalogue: Catalogue, gpu: str, nodes: int, per_node: int, network: str, rate: float) -> Cluster:
    """Nodes on a network that a measurement names.

    They are the smallest of the catalogue with this GPU, room for `per_node` and adapters, else a board of such
    modules, else a plain box.

    `network` is what is said of it ('RoCE 400G', 'IB NDR', 'EFA v2', 'Slingshot 11', with 'SHARP' of its switches),
    `rate` what the adapters of a node carry together, bytes/s per direction.
    """
    spec = catalogue.spec("gpus", gpu)
    assert isinstance(spec, GPUSpec)
    found = [node for node in nodes_with(catalogue, gpu) if node.nic is not None and node.gpu_count >= per_node]
    words = network.lower()
    node = min(found, key=lambda one: one.gpu_count, default=None) or _board(catalogue, spec, per_node)
    node = node or _node(spec, per_node, _wiring(spec, ""), words)
    assert node.nic is not None
    each = rate / node.nic_count
    name = _network_link(words, each / 1e9)
    if "slingshot" in name and ("match_mode=software" in words or nodes > MATCHED):
        name += "-software"
    link = catalogue.spec("links", name)
    assert isinstance(link, LinkSpec)
    port = Port.model_validate({"link": name, "lanes": _count(each / link.lane_bandwidth.si)})
    nic = node.nic.model_copy(update={"port": port})
    made = _assembled(catalogue, spec, nodes, node.model_copy(update={"nic": nic}))
    if "sharp" in words and made.spec.fabric is not None:
        fabric = made.spec.fabric.model_copy(update={"sharp": True})
        made = replace(made, spec=made.spec.model_copy(update={"fabric": fabric}))
    return made


def nodes_with(catalogue: Catalogue, gpu: str) -> list[NodeSpec]:
    """The nodes of the catalogue with a GPU."""
    nodes = [catalogue.spec("nodes", name) for name in catalogue.names("nodes")]
    return [node for node in nodes if isinstance(node, NodeSpec) and node.gpu == gpu]


def largest_node(catalogue: Catalogue, gpu: str) -> int:
    """GPUs of the largest node of the catalogue with a GPU: more than `BOARD` in a rack, `BOARD` if there is none."""
    return max((node.gpu_count for node in nodes_with(catalogue, gpu)), default=BOARD)


def _board(catalogue: Catalogue, gpu: GPUSpec, per_node: int) -> NodeSpec | None:
    """The catalogue's node of as many modules of this architecture and these links, with this GPU in it."""
    for name in catalogue.names("nodes"):
        node = catalogue.spec("nodes", name)
        assert isinstance(node, NodeSpec)
        other = catalogue.spec("gpus", node.gpu)
        assert isinstance(other, GPUSpec)
        if node.nvlink is None or node.nvlink.topology != "nvswitch" or node.nic is None:
            continue
        if _sockets_of(other) != _sockets_of(gpu):
            continue
        if node.gpu_count > per_node and len(node.sockets) == 1:  # a rack of trays, used in part
            (socket,) = node.sockets
            each = node.gpu_count // socket.count
            if socket.count > 2 and per_node % each == 0:
                fewer = socket.model_copy(update={"count": per_node // each})
                node = node.model_copy(update={"sockets": [fewer], "name": f"{name}-{per_node}"})
        if node.gpu_count != per_node:
            continue
        if node.gpu == gpu.name:
            return node
        title = f"{node.title}, with {gpu.title}"
        return node.model_copy(update={"gpu": gpu.name, "name": f"{name}-{gpu.name}", "title": title})
    return None


def _sockets_of(gpu: GPUSpec) -> tuple[object, ...]:
    """The properties of a GPU that its board must match: architecture and links."""
    links = (gpu.nvlink.link, gpu.nvlink.lanes.si) if gpu.nvlink is not None else ()
    return gpu.architecture, gpu.host_link.link, *links


def _network_link(words: str, rate: float) -> str:
    """Name of the link nearest to a rate in GB/s, of the family that the words name."""
    family = "infiniband" if re.search(r"\b(infiniband|hdr|ndr|xdr|ib)\b", words) else "ethernet"
    family = next((one for one in ("efa", "slingshot") if re.search(rf"\b{one}", words)), family)
    if family == "efa" and re.search(r"\bv[12]\b", words):
        rate = 12.5
    return f"{family}-{_RATES[family][min(_RATES[family], key=lambda known: abs(known - rate))]}"


def _wiring(gpu: GPUSpec, words: str) -> str:
    """The wiring in words: nvswitch, bridge, full-mesh, pcie; or '' where nothing says."""
    if "nvswitch" in words or "nvl72" in words:
        return "nvswitch"
    if "bridge" in words or "pair" in words:
        return "bridge"
    if "xgmi" in words or "infinity" in words or (gpu.nvlink and gpu.nvlink.link.startswith("infinity")):
        return "full-mesh"
    if "nvlink" in words and gpu.nvlink is not None:
        return "nvswitch" if _module(gpu) or "fully connected" in words else "bridge"
    if "pci" in words:
        return "pcie"
    return "nvswitch" if gpu.nvlink is not None and _module(gpu) else ""


def _module(gpu: GPUSpec) -> bool:
    """True if the GPU sits on a module with NVLink in the board, by its title: not a card."""
    return re.search(r"\b(SXM\d?|NVL\d+|GB\d+|HGX)\b", gpu.title) is not None and "NVL 94" not in gpu.title


def one_node_holds(catalogue: Catalogue, gpu: str, gpus: int) -> bool:
    """True if the catalogue has a node with this many GPUs of a kind, as GB200 NVL72."""
    return _known(catalogue, gpu, gpus, "") is not None


def _known(catalogue: Catalogue, gpu: str, per_node: int, wiring: str) -> str | None:
    """The smallest node of the catalogue that has the GPUs and the wiring."""
    nodes = []
    for name in catalogue.names("nodes"):
        node = catalogue.spec("nodes", name)
        assert isinstance(node, NodeSpec)
        has = node.nvlink.topology if node.nvlink else "pcie"
        if node.gpu == gpu and node.gpu_count >= per_node and wiring in ("", has):
            nodes.append((node.gpu_count, name))
    return min(nodes)[1] if nodes else None


def _count(value: float) -> dict[str, Any]:
    return {"value": value, "source": "box"}


def _node(gpu: GPUSpec, per_node: int, wiring: str, network: str) -> NodeSpec:
    """A box around the GPU: up to four GPUs and their adapters on the root ports of a socket."""
    nics, nic = _adapters(per_node, wiring, network)
    sockets = -(-per_node // 4)
    devices: list[list[str]] = [["gpu"] * len(range(i, per_node, sockets)) for i in range(sockets)]
    for i in range(nics):
        devices[i * sockets // nics].append("nic")
    memory = {"value": 307.2, "unit": "GB/s", "source": "box"}
    node: dict[str, Any] = {
        "name": f"{gpu.name}-{per_node}x-{wiring or 'pcie'}",
        "title": f"{per_node} x {gpu.title}, {_BOX}",
        "gpu": gpu.name,
        "sources": {"box": _BOX},
        "sockets": [{"memory_bandwidth": memory, "devices": entry} for entry in devices],
        "peer_to_peer_scope": {"value": "switch", "source": "box"},
    }
    if sockets > 1:
        node["inter_socket"] = {"link": "upi-16gt", "lanes": _count(3)}
    if wiring == "bridge":
        pairs = [[i, i + 1] for i in range(0, per_node - 1, 2)]
        if pairs and gpu.nvlink is not None:
            node["nvlink"] = {"topology": "bridge", "pairs": pairs}
    elif wiring in ("nvswitch", "full-mesh") and gpu.nvlink is not None and per_node > 1:
        node["nvlink"] = {"topology": wiring}
    if nic:
        node["nic"] = nic
    return NodeSpec.model_validate(node)


def _adapters(per_node: int, wiring: str, network: str) -> tuple[int, dict[str, Any]]:
    """The number of network adapters, and their link: one for each GPU where a rate per GPU is given.

    Without words on the network: Ethernet without RDMA, up to four ports of 100 Gb/s for GPUs on modules, of which TCP
    sockets reach half (microsoft/vidur @7d4751336: 5.9 GB/s between two A100 SXM), one of 25 Gb/s for a box of cards.
    """
    stated = re.search(r"([\d.]+) ?gb/s per gpu", network)
    modules = wiring in ("nvswitch", "full-mesh")
    host = {"link": "pcie-5", "lanes": _count(16)}
    lanes = 1.0
    if stated or network:
        rate = float(stated[1]) if stated else 50.0
        name, count, rdma = _network_link(network, rate), per_node, True
        if name.startswith("efa"):  # several cards for a GPU
            lanes = round(8 * rate / float(name.removeprefix("efa-").removesuffix("g")))
    else:
        name, count, rdma = ("ethernet-100g", min(4, per_node), False) if modules else ("ethernet-25g", 1, False)
    port: dict[str, Any] = {"link": name, "lanes": _count(lanes)}
    if modules and not rdma:
        port["payload_fraction"] = _count(0.5)
    return count, {"port": port, "host_link": host, "gpudirect_rdma": {"value": rdma, "source": "box"}}


def _assembled(catalogue: Catalogue, gpu: GPUSpec, nodes: int, node: NodeSpec) -> Cluster:
    """The cluster of `nodes` such nodes behind one switch."""
    assert node.nic is not None
    spec: dict[str, Any] = {
        "name": node.name if nodes == 1 else f"{nodes} x {node.name}",
        "title": node.title,
        "node": node.name,
        "nodes": _count(nodes),
        "sources": {"box": _BOX},
    }
    if nodes > 1:
        lanes = _count(node.nic.port.lanes.si)
        fabric = {"link": node.nic.port.link, "lanes": lanes, "nodes_per_leaf": _count(64)}
        spec["fabric"] = {**fabric, "topology": "rail-fat-tree", "oversubscription": _count(1)}
    cluster = ClusterSpec.model_validate(spec)
    links: dict[str, LinkSpec] = {}
    for name in sorted({name for _, _, _, name in links_of(cluster, node, gpu)}):
        link = catalogue.spec("links", name)
        assert isinstance(link, LinkSpec)
        links[name] = link
    return Cluster(cluster, node, gpu, links, catalogue.kernel_constants(gpu))
