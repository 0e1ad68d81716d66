"""From what files say of a machine to a node and, where they show a fabric, a cluster of the catalogue.

Every figure says where it is from: a file, an option, or (`assumed`) the node of the catalogue that is most like it.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest
from simgpu.hardware.derive import base_name, is_slice
from simgpu.hardware.parts import HOST
from simgpu.hardware.spec import GPUSpec, LinkSpec, NodeSpec, PCIeSwitch
from simgpu.lab.importing.joining import Joined
from simgpu.lab.importing.names import gpu_named
from simgpu.lab.importing.parts import Device, Fabric, Found, Group, Lane, Place
from simgpu.lab.importing.wiring import faults, wiring
from simgpu.version import __version__

ASSUMED = "assumed"
GENERATIONS = {8.0: "pcie-3", 16.0: "pcie-4", 32.0: "pcie-5", 64.0: "pcie-6"}
"""Links by GT/s of a lane."""
EFA = {"1d0f:efa0": "efa-100g"}
"""Links of adapters that a PCI id alone tells (aws/aws-ofi-nccl, topology of P4d)."""
PORTS = 64
"""Ports of the leaf switch that is assumed where no file tells how many nodes share one: half of them lead down."""


@dataclass(frozen=True)
class Options:
    """What a user adds to the files."""

    gpu: str | None = None
    network: str | None = None
    as_built: bool = False
    name: str = "machine"
    nodes: int | None = None


@dataclass(frozen=True)
class Built:
    """A node, the cluster that it is in (None: alone), and what was assumed, left out or lost, in words."""

    node: dict[str, Any]
    cluster: dict[str, Any] | None
    notes: tuple[str, ...]
    joined: Joined | None = None


def build(found: Sequence[Found], joined: Joined, options: Options, catalogue: Catalogue) -> Built:
    """The node of a machine, and the cluster that its files show."""
    return _Builder(found, joined, options, catalogue).built()


class _Builder:
    """Collects figures, the sources that they point to, and notes."""

    def __init__(self, found: Sequence[Found], joined: Joined, options: Options, catalogue: Catalogue) -> None:
        self.joined, self.options, self.catalogue = joined, options, catalogue
        self.notes = list(joined.notes)
        self.keys = {one.file: _key(one, i) for i, one in enumerate(found)}
        day = datetime.date.today().isoformat()
        self.sources = {self.keys[one.file]: f"{Path(one.file).name} ({one.kind}), read {day} by simgpu {__version__}"
                        for one in found}  # fmt: skip
        self.like = _most_like(joined, catalogue)
        words = f"as in {self.like.name} of simgpu {__version__}" if self.like else HOST
        self.sources[ASSUMED] = f"not in these files; {words}"
        self.assumed: list[str] = []

    def built(self) -> Built:
        node = self._node()
        told = self.joined.fabric.nodes if self.joined.fabric is not None else 1
        cluster = self._cluster(self.options.nodes or told) if (self.options.nodes or told) > 1 else None
        if self.assumed:
            like = f"as in {self.like.name}" if self.like else "those of a plain host"
            self.notes.append(f"not told, so {like}: {', '.join(dict.fromkeys(self.assumed))}")
        return Built(node, cluster, tuple(self.notes), self.joined)

    # ---- the node ----------------------------------------------------------------------------------------

    def _node(self) -> dict[str, Any]:
        gpu, places = self.joined.gpu, self.joined.places
        if not places:
            return self._whole()
        count = sum(one.kind == "gpu" for place in places for one in place.devices)
        node: dict[str, Any] = {"name": self.options.name, "title": f"{count} x {gpu.title}", "gpu": gpu.name,
                                "sources": self.sources}  # fmt: skip
        nics = [one for place in places for one in place.devices if one.kind == "nic"]
        node["sockets"] = [self._socket(place) for place in places]
        nvlink = self._nvlink(count)
        if len(places) > 1 and not (nvlink and nvlink["topology"] in ("nvswitch", "full-mesh") and self.like
                                    and self.like.inter_socket is None):  # fmt: skip
            node["inter_socket"] = self._inter_socket()
        if nvlink is not None:
            node["nvlink"] = nvlink
        scope = self.like.peer_to_peer_scope.value if self.like else "switch"
        node["peer_to_peer_scope"] = {"value": scope, "source": ASSUMED}
        if nics:
            node["nic"] = self._nic(nics)
        if self.like and self.like.power and self.like.gpu_count == count:
            node["power"] = {"overhead": _plain(self.like.power.overhead, "W")}
        self._renumbering()
        return node

    def _whole(self) -> dict[str, Any]:
        """A node of which files give GPUs alone: that of the catalogue with as many of them."""
        like, count = self.like, self.joined.count
        if is_slice(self.joined.gpu):
            return self._sliced(count)
        if like is None or like.gpu_count != count:
            what = f"{count or 'how many'} x {self.joined.gpu.name}: how they are joined is not told"
            raise InputError(f"{what}, and no node of the catalogue has them; expected nvidia-smi topo -m with it")
        self.notes.append(f"how the GPUs are joined is not told: taken as in {like.name}")
        node = _dumped(like)
        used = _sources_in(node)
        node.update(name=self.options.name, title=like.title, gpu=self.joined.gpu.name)
        node["sources"] = {**self.sources, **{key: text for key, text in like.sources.items() if key in used}}
        if like.nic is not None and self.options.network:
            node["nic"]["port"] = self._named_port(self.options.network)
            node["sources"]["option"] = self.sources["option"]
        return node

    def _sliced(self, count: int) -> dict[str, Any]:
        """A host with slices of GPUs, which have no links to each other."""
        gpu = self.joined.gpu
        self.assumed.append("the host")
        self.sources[ASSUMED] = f"not in these files; {HOST}"
        socket = {"memory_bandwidth": _figure(307.2, "GB/s"), "devices": ["gpu"] * count}
        return {"name": self.options.name, "title": f"{count} x {gpu.title}", "gpu": gpu.name, "sources": self.sources,
                "sockets": [socket], "peer_to_peer_scope": {"value": "switch", "source": ASSUMED}}  # fmt: skip

    def _socket(self, place: Place) -> dict[str, Any]:
        like = self.like.sockets[0] if self.like else None
        memory = _plain(like.memory_bandwidth, "GB/s", 1e9) if like else _figure(307.2, "GB/s")
        self.assumed.append("memory bandwidth of sockets")
        socket: dict[str, Any] = {}
        cpu = place.cpu if len(place.cpu.split()) > 1 else like.cpu if like else ""
        if cpu:
            socket["cpu"] = cpu
        if like and like.cpu_slowdown is not None:
            socket["cpu_slowdown"] = _plain(like.cpu_slowdown)
        devices: list[Any] = []
        for entry in (self._entry(group) for group in place.groups):
            if isinstance(entry, str):
                devices.append(entry)
            elif devices and isinstance(devices[-1], dict) and _same(devices[-1], entry):
                devices[-1]["count"] += 1
            else:
                devices.append(entry)
        return socket | {"memory_bandwidth": memory, "devices": devices}

    def _entry(self, group: Group) -> str | dict[str, Any]:
        """A device at its own root port, or a switch: also for a slot that is narrower than the GPU's link."""
        link = self.joined.gpu.host_link
        only = group.devices[0]
        rated = int(link.lanes.si) if link.link.startswith("pcie") else 0
        narrow = len(group.devices) == 1 and only.kind == "gpu" and 0 < _width(only, group) < rated
        if len(group.devices) == 1 and not narrow:
            return only.kind
        if narrow:
            self.notes.append(f"{only.name} has {_width(only, group)} lanes of {rated}")
        lane = group.lane if group.shared or not only.lane.width else only.lane
        port = self._pcie(lane)
        like = next((one for one in _switches(self.like)), None)
        if narrow:
            port["latency"] = {"value": 0, "unit": "us", "source": self._tree()}
        elif like is not None and like.switch.latency is not None:
            port["latency"] = _plain(like.switch.latency, "us", 1e-6)
        return {"switch": port, "count": 1, "devices": [one.kind for one in group.devices]}

    def _pcie(self, lane: Lane) -> dict[str, Any]:
        """The port of a switch: as told, else as wide and fast as the GPU's."""
        own = self.joined.gpu.host_link
        like = next((one.switch for one in _switches(self.like)), None)
        link = like.link if like is not None else own.link if own.link.startswith("pcie") else "pcie-5"
        told = GENERATIONS.get(lane.rate)
        if lane.rate and told is None:
            self.assumed.append(f"rates of PCIe ports (told: {lane.rate:g} GT/s, as idle links say)")
        elif not lane.rate:
            self.assumed.append("ports of PCIe switches")
        usual = like.lanes.si if like is not None else own.lanes.si if own.link.startswith("pcie") else 16
        width = lane.width or int(usual)
        return {"link": told or link, "lanes": {"value": width, "source": self._tree() if lane.width else ASSUMED}}

    def _tree(self) -> str:
        return self.keys.get(self.joined.tree_from, ASSUMED)

    def _inter_socket(self) -> dict[str, Any]:
        self.assumed.append("links between sockets")
        if self.like and self.like.inter_socket:
            port = self.like.inter_socket
            return {"link": port.link, "lanes": _plain(port.lanes)}
        return {"link": "upi-16gt", "lanes": _figure(3)}

    def _nvlink(self, count: int) -> dict[str, Any] | None:
        gpu, wires = self.joined.gpu, self.joined.wires
        if wires is None:
            return self._hidden(count)
        lanes = int(gpu.nvlink.lanes.si) if gpu.nvlink is not None else 0
        lost = faults(count, wires, lanes) if lanes and any(wires.values()) else []
        each = [sum(links for pair, links in wires.items() if i in pair) for i in range(count)]
        if self.options.as_built and lost and max(each) > lanes:
            self.notes += [f"{one}; written as it was built" for one in lost]
            return {"topology": "nvswitch"}
        if not wires and gpu.nvlink is not None and "sxm" in gpu.name and count > 1:
            raise InputError(f"shows no link between GPUs; '{gpu.name}' is joined by {lanes} of them: was it printed by"
                             " nvidia-smi topo -m, and is the GPU right?", file=self.joined.wires_from)  # fmt: skip
        block, notes = wiring(gpu, count, wires, self.joined.switched, self.joined.wires_from)
        self.notes += notes
        key = self.keys.get(self.joined.wires_from, ASSUMED)
        for wire in (block or {}).get("links", ()):
            wire["lanes"]["source"] = key
        return block

    def _hidden(self, count: int) -> dict[str, Any] | None:
        """Links that no file shows: those of the catalogue's node, where all its GPUs are joined alike."""
        gpu = self.joined.gpu
        if gpu.nvlink is None or count == 1:
            return None
        like = self.like
        alike = like is not None and like.gpu_count == count
        if like is not None and alike and (like.nvlink is None or like.nvlink.topology in ("nvswitch", "full-mesh")):
            self.assumed.append("links between GPUs")
            return {"topology": like.nvlink.topology} if like.nvlink else None
        what = f"no file shows the links between the {count} GPUs ('{gpu.name}' has some)"
        raise InputError(f"{what}; expected the output of nvidia-smi topo -m with it")

    def _nic(self, nics: Sequence[Device]) -> dict[str, Any]:
        like = self.like.nic if self.like else None
        lane = Counter(one.lane for one in nics).most_common(1)[0][0]
        if lane.width and lane.rate in GENERATIONS:
            host = {"link": GENERATIONS[lane.rate], "lanes": {"value": lane.width, "source": self._tree()}}
        elif like is not None:
            host = {"link": like.host_link.link, "lanes": _plain(like.host_link.lanes)}
        else:
            own = self.joined.gpu.host_link
            host = {"link": own.link if own.link.startswith("pcie") else "pcie-5", "lanes": _figure(16)}
        direct = like.gpudirect_rdma.value if like else bool(self.joined.gpu.host_link.peer_to_peer.value)
        self.assumed.append("GPUDirect RDMA")
        return {"port": self._port(nics), "host_link": host, "gpudirect_rdma": {"value": direct, "source": ASSUMED}}

    def _port(self, nics: Sequence[Device]) -> dict[str, Any]:
        """The port to the network: of an option, of its speed as told, by its PCI id, else the catalogue's."""
        if self.options.network:
            return self._named_port(self.options.network)
        speeds = Counter(one.speed for one in nics if one.speed)
        fabric = self.joined.fabric
        if speeds or (fabric is not None and fabric.speed):
            speed = speeds.most_common(1)[0][0] if speeds else fabric.speed if fabric else 0.0
            source = self._tree() if speeds else self.keys.get(self.joined.fabric_from, ASSUMED)
            return self._of_speed(speed, source, nics[0].family if speeds else "infiniband")
        known = EFA.get(nics[0].pci)
        if known:
            return {"link": known, "lanes": {"value": 1, "source": self._tree()}}
        if self.like is not None and self.like.nic is not None:
            self.assumed.append("what network adapters are (--network LINK says it)")
            port = self.like.nic.port
            return {"link": port.link, "lanes": _plain(port.lanes)}
        raise InputError("what its network adapters are is not told; expected --network LINK, such as infiniband-ndr or"
                         " ethernet-400g (simgpu list links)")  # fmt: skip

    def _named_port(self, name: str) -> dict[str, Any]:
        self._network(name)
        self.sources["option"] = f"--network {name}, as asked for"
        return {"link": name, "lanes": {"value": 1, "source": "option"}}

    def _network(self, name: str) -> LinkSpec:
        known = [one for one in self.catalogue.names("links") if self._kind(one) == "network"]
        if name not in known:
            raise InputError(f"unknown network '{name}'{nearest(name, known)}", key="--network")
        spec = self.catalogue.spec("links", name)
        assert isinstance(spec, LinkSpec)
        return spec

    def _kind(self, link: str) -> str:
        spec = self.catalogue.spec("links", link)
        assert isinstance(spec, LinkSpec)
        return spec.kind

    def _of_speed(self, speed: float, source: str, family: str) -> dict[str, Any]:
        """A port of a speed in bytes/s: lanes of the link of the family that is told, else of the catalogue's node."""
        usual = self.like.nic.port.link.partition("-")[0] if self.like and self.like.nic else "infiniband"
        family = family or usual
        names = [one for one in self.catalogue.names("links") if one.startswith(f"{family}-")]
        rates = {name: self._network(name).lane_bandwidth.si for name in names}
        best = min(rates, key=lambda name: (abs(rates[name] / speed - 1), name))
        return {"link": best, "lanes": {"value": round(speed / rates[best], 4), "source": source}}

    def _renumbering(self) -> None:
        numbers = self.joined.numbers
        moved = [f"{name} is {i}" for at, (name, i) in enumerate(sorted(numbers.items(), key=lambda one: one[1]))
                 if name.startswith("GPU") and name != f"GPU{at}"]  # fmt: skip
        if moved:
            self.notes.append(f"GPUs are numbered by socket: {', '.join(moved)}")

    # ---- the cluster -------------------------------------------------------------------------------------

    def _cluster(self, nodes: int) -> dict[str, Any]:
        fabric = self.joined.fabric or Fabric(nodes)
        key = self.keys.get(self.joined.fabric_from, ASSUMED)
        told = bool(fabric.speed or self.options.network)
        port: Mapping[str, Any] = self._port([]) if told else self._like_port()
        source = key
        if self.options.nodes:
            source = "nodes"
            self.sources["nodes"] = f"--nodes {nodes}, as asked for"
        block: dict[str, Any] = {"topology": "rail-fat-tree" if fabric.rails is not False else "fat-tree", **port}
        if fabric.latency:
            block["latency"] = {"value": fabric.latency * 1e6, "unit": "us", "source": key}
        leaf = fabric.nodes_per_leaf or min(nodes, PORTS // 2)
        if not fabric.nodes_per_leaf:
            self.assumed.append("nodes of a leaf switch")
        if not fabric.oversubscription:
            self.assumed.append("oversubscription (1)")
        own = sum(one.kind == "nic" for place in self.joined.places for one in place.devices)
        if fabric.nics and own and fabric.nics != own:
            self.notes.append(
                f"the fabric shows {fabric.nics} adapters a host, the node {own}: are they the same hosts?"
            )
        block["nodes_per_leaf"] = {"value": leaf, "source": key if fabric.nodes_per_leaf else ASSUMED}
        ratio = round(fabric.oversubscription or 1.0, 3)
        block["oversubscription"] = {"value": ratio, "source": key if fabric.oversubscription else ASSUMED}
        node = f"{self.options.name}-node"
        return {
            "name": self.options.name, "title": f"{nodes} nodes of {self.joined.gpu.title}", "node": node,
            "sources": self.sources, "nodes": {"value": nodes, "source": source}, "fabric": block,
        }  # fmt: skip

    def _like_port(self) -> dict[str, Any]:
        told = next((one for place in self.joined.places for one in place.devices if one.kind == "nic"), None)
        if told is not None:
            return self._port([one for place in self.joined.places for one in place.devices if one.kind == "nic"])
        port = self.like.nic.port if self.like and self.like.nic else None
        if port is None:
            raise InputError("what network joins the nodes is not told; expected --network LINK (simgpu list links)")
        self.assumed.append("what network joins the nodes (--network LINK says it)")
        return {"link": port.link, "lanes": _plain(port.lanes)}


def _key(one: Found, i: int) -> str:
    """A short name of a file among the sources."""
    words = {"graph": "graph", "NCCL": "xml", "topo -m": "topo", "query": "query", "-q": "query", "-L": "list",
             "lstopo": "lstopo", "ibnet": "fabric", "Slurm": "slurm", "Kubernetes": "labels"}  # fmt: skip
    name = next((short for word, short in words.items() if word in one.kind), "file")
    return name if i == 0 else f"{name}{i + 1}"


def _most_like(joined: Joined, catalogue: Catalogue) -> NodeSpec | None:
    """The node of the catalogue with this GPU, as many of them, and adapters where this one has some."""
    if joined.instance and joined.instance in catalogue.instances:
        return catalogue.instance(joined.instance)
    count = joined.count or sum(one.kind == "gpu" for place in joined.places for one in place.devices)
    nics = any(one.kind == "nic" for place in joined.places for one in place.devices)
    linked = bool(joined.wires)
    mine = base_name(joined.gpu.name)
    same = [_node(catalogue, name) for name in catalogue.names("nodes") if _gpu_of(catalogue, name) == mine]
    if not any(node.gpu_count == count for node in same):
        same += [node for name in catalogue.names("nodes") if (node := _node(catalogue, name)).gpu != mine
                 and _board(gpu_named(node.gpu, catalogue, "gpu")) == _board(joined.gpu)]  # fmt: skip
    return min(
        same,
        default=None,
        key=lambda one: (
            nics and one.nic is None,
            abs(one.gpu_count - count),
            one.gpu != mine,
            linked != (one.nvlink is not None),
            one.name,
        ),
    )


def _gpu_of(catalogue: Catalogue, node: str) -> object:
    """The GPU that the file of a node names, without all the rest of it."""
    file = catalogue.find("nodes", node)
    return catalogue.document(file).data.get("gpu") if file is not None else None


def _node(catalogue: Catalogue, name: str) -> NodeSpec:
    node = catalogue.spec("nodes", name)
    assert isinstance(node, NodeSpec)
    return node


def _board(gpu: GPUSpec) -> tuple[object, ...]:
    """What boards of a GPU must match: GPUs that agree in it stand on the same ones."""
    own = (gpu.nvlink.link, gpu.nvlink.lanes.si) if gpu.nvlink is not None else ()
    return gpu.architecture, gpu.host_link.link, "sxm" in gpu.name.split("-"), *own


def _width(device: Device, group: Group) -> int:
    """Lanes of a device alone at its port: the fewer of its own and the port's."""
    told = [lane.width for lane in (device.lane, group.lane) if lane.width]
    return min(told, default=0)


def _switches(node: NodeSpec | None) -> list[PCIeSwitch]:
    return [entry for socket in (node.sockets if node else ()) for entry in socket.devices
            if isinstance(entry, PCIeSwitch)]  # fmt: skip


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return bool(one["switch"] == other["switch"] and one["devices"] == other["devices"])


def _figure(value: float, unit: str = "") -> dict[str, Any]:
    return {"value": value, **({"unit": unit} if unit else {}), "source": ASSUMED}


def _plain(figure: Any, unit: str = "", scale: float = 1.0) -> dict[str, Any]:
    """A figure of the catalogue's node as one that is assumed."""
    value = float(f"{figure.si / scale:.10g}")
    return _figure(int(value) if value.is_integer() else value, unit)


def _dumped(node: NodeSpec) -> dict[str, Any]:
    """A node as a file would say it."""
    data: dict[str, Any] = node.model_dump(exclude_none=True, exclude_defaults=True)
    return data


def _sources_in(data: Any) -> set[str]:
    if isinstance(data, dict):
        inner = {name for value in data.values() for name in _sources_in(value)}
        return inner | ({data["source"]} if isinstance(data.get("source"), str) else set())
    return {name for value in data for name in _sources_in(value)} if isinstance(data, (list, tuple)) else set()


__all__ = ["Built", "Options", "build"]
