"""What one file says of a machine: sockets with the PCIe below them, links between GPUs, names, nodes and fabric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Lane:
    """The PCIe link of a device or switch, as a file tells it: 0 where it does not."""

    width: int = 0
    rate: float = 0.0  # GT/s


@dataclass(frozen=True)
class Device:
    """A GPU or a network adapter, by the name that the file gives it: 'GPU0', 'NIC3', a PCI address."""

    kind: Literal["gpu", "nic"]
    name: str
    lane: Lane = Lane()
    model: str = ""  # as the file prints it
    pci: str = ""  # vendor:device, '10de:2330'
    speed: float = 0.0  # of an adapter, bytes/s one way; 0: not told
    family: str = ""  # of an adapter's network: 'infiniband', 'ethernet'


@dataclass(frozen=True)
class Group:
    """Devices below one PCIe switch, or (`shared` false) one device alone at its root port."""

    devices: tuple[Device, ...]
    shared: bool = True
    lane: Lane = Lane()  # of the switch, towards the CPU


@dataclass(frozen=True)
class Place:
    """A CPU socket, or what the file shows of one: its NUMA nodes and what hangs below it, in order."""

    numa: tuple[int, ...] = ()
    cpu: str = ""
    groups: tuple[Group, ...] = ()

    @property
    def devices(self) -> list[Device]:
        """All devices of the socket, in order."""
        return [device for group in self.groups for device in group.devices]


@dataclass(frozen=True)
class Links:
    """Links between GPUs, by pairs of their names, each pair once.

    `whole` is false where the file shows no such links at all, so that their absence means nothing.
    """

    counts: Mapping[tuple[str, str], int] = field(default_factory=dict)
    whole: bool = True
    switched: bool = False  # the file says that they lead to a switch


@dataclass(frozen=True)
class Facts:
    """What a list of GPUs says of one: names, clocks in Hz, power limits in W, memory in bytes; 0 where it does not."""

    model: str
    memory: float = 0.0
    clock: float = 0.0
    limit: float = 0.0
    most: float = 0.0  # the limit that the card has by default
    slices: tuple[str, ...] = ()  # MIG profiles


@dataclass(frozen=True)
class Fabric:
    """The network between nodes; 0 where a file does not tell."""

    nodes: int
    nodes_per_leaf: int = 0
    oversubscription: float = 0.0
    rails: bool | None = None
    speed: float = 0.0  # of one port of a node, bytes/s one way
    latency: float = 0.0  # s, of a link
    nics: int = 0  # ports of a node


@dataclass(frozen=True)
class Found:
    """What one file says. Each part is None or empty where the file is silent."""

    file: str
    kind: str  # 'nvidia-smi topo -m'
    places: tuple[Place, ...] = ()
    links: Links | None = None
    facts: tuple[Facts, ...] = ()
    fabric: Fabric | None = None
    instance: str = ""  # the cloud's name of the machine
    model: str = ""  # of all GPUs, as the file prints it
    gpus: int = 0  # of a node, where nothing more is said of them
    order: tuple[str, ...] = ()  # GPUs as the driver numbers them, where the file says
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of the GPUs of `places`, as the driver numbers them."""
        listed = [one.name for place in self.places for one in place.devices if one.kind == "gpu"]
        return list(self.order) if set(self.order) == set(listed) else listed
