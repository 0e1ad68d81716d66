"""`ibnetdiscover`: switches, hosts and the links between them; also the short form of ibsim's net files.

Formats: linux-rdma/rdma-core infiniband-diags/ibnetdiscover.c, linux-rdma/ibsim net-examples.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simgpu.errors import InputError, shown
from simgpu.lab.importing.parts import Fabric, Found

KIND = "ibnetdiscover"
_HEAD = re.compile(r'^(Switch|Ca|Hca|Rt)\s+(\d+)\s+"([^"]+)"(?:\s*#\s*"([^"]*)")?')
_PORT = re.compile(r'^\[(\d+)\](?:\([0-9a-f]+\))?\s+"([^"]+)"\[(\d+)\](?:\([0-9a-f]+\))?(?:\s*#\s*"([^"]*)"(.*))?')
_RATE = re.compile(r"\b(\d+)x([A-Z]+)\b")
_GIGABITS = {"SDR": 2.5, "DDR": 5, "QDR": 10, "FDR10": 10, "FDR": 14, "EDR": 25, "HDR": 50, "NDR": 100, "XDR": 200}
"""Gb/s of one lane (InfiniBand Trade Association, roadmap)."""
_UNNAMED = re.compile(r"ConnectX|Mellanox Technologies|Aggregation Node")
"""Descriptions of adapters that nobody named after their host, and of the switches' own reduction units."""


@dataclass
class Box:
    """A switch or an adapter: the line of its heading, its description, peers by port with their rates in bits/s."""

    line: int
    kind: str
    name: str = ""
    ports: dict[int, tuple[str, int, float]] = field(default_factory=dict)


def is_fabric(text: str) -> bool:
    """True if a text has headings of switches or adapters as ibnetdiscover prints them."""
    return any(_HEAD.match(line) for line in text.splitlines()[:2000])


def read(file: Path, text: str) -> Found:
    """Hosts by their adapters, how many share a leaf switch, whether a host's adapters lead to different leaves."""
    boxes = _boxes(file, text)
    _both_ends(file, boxes)
    switches = {name: box for name, box in boxes.items() if box.kind == "Switch"}
    if not switches:
        first = next(iter(boxes.values()))
        raise InputError("has no switch; expected the output of ibnetdiscover as a whole", file=file, line=first.line)
    adapters, unnamed = _adapters(boxes, switches)
    if not adapters:
        raise InputError(f"names no host on its {len(switches)} switches", file=file)
    usual = Counter(len(ports) for ports in adapters.values()).most_common(1)[0][0]
    nodes = {host: ports for host, ports in adapters.items() if len(ports) == usual}
    notes = [f"{len(switches)} switches, {len(adapters)} hosts"]
    if len(nodes) < len(adapters):
        notes.append(f"{len(adapters) - len(nodes)} hosts with another number of adapters than {usual}, left out")
    if unnamed:
        notes.append(f"{unnamed} adapters bear no name of a host, left out")
    return Found(str(file), KIND, fabric=_fabric(nodes, switches, usual), notes=tuple(notes))


def _boxes(file: Path, text: str) -> dict[str, Box]:
    boxes: dict[str, Box] = {}
    box: Box | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if head := _HEAD.match(line):
            if head[3] in boxes:
                raise InputError(f"{shown(head[3])} is described twice", file=file, line=number)
            box = boxes[head[3]] = Box(number, head[1], head[4] or "")
        elif port := _PORT.match(line):
            if box is None:
                raise InputError("a port stands before any switch", file=file, line=number)
            rate = _RATE.search(port[5] or "")
            bits = int(rate[1]) * _GIGABITS.get(rate[2], 0.0) * 1e9 if rate else 0.0
            box.ports[int(port[1])] = (port[2], int(port[3]), bits)
            if port[4] and port[2] not in boxes:
                boxes.setdefault(f"?{port[2]}", Box(number, "told", port[4]))
    if not boxes:
        raise InputError("has no switch and no adapter", file=file)
    return boxes


def _both_ends(file: Path, boxes: Mapping[str, Box]) -> None:
    """Raise `InputError` for a link that its two ends tell differently."""
    for name, box in boxes.items():
        for port, (peer, at, _) in box.ports.items():
            back = boxes[peer].ports.get(at) if peer in boxes else None
            if back is not None and back[:2] != (name, port):
                told = f"{shown(name)}[{port}] leads to {shown(peer)}[{at}], which leads to {shown(back[0])}[{back[1]}]"
                raise InputError(f"{told}; expected both ends alike", file=file, line=box.line)


Ports = list[tuple[str, float]]
"""Leaf switch and rate (bits/s) of each adapter of a host."""


def _adapters(boxes: Mapping[str, Box], switches: Mapping[str, Box]) -> tuple[dict[str, Ports], int]:
    """Adapters by host, by what is told at the ports of switches; and how many bear no name."""
    found: dict[str, Ports] = defaultdict(list)
    unnamed = 0
    for leaf, box in switches.items():
        for peer, _, bits in box.ports.values():
            if peer in switches:
                continue
            known = boxes.get(peer) or boxes.get(f"?{peer}")
            name = (known.name if known else "") or peer
            if _UNNAMED.search(name):
                unnamed += "Aggregation" not in name
                continue
            found[name.rpartition(" ")[0] or name].append((leaf, bits))
    return dict(found), unnamed


def _fabric(nodes: Mapping[str, Ports], switches: Mapping[str, Box], usual: int) -> Fabric:
    """What the fullest leaf switch says: nodes below it, bandwidth below it over bandwidth above it."""
    below: dict[str, set[str]] = defaultdict(set)
    for host, ports in nodes.items():
        for leaf, _ in ports:
            below[leaf].add(host)
    fullest = max(below, key=lambda leaf: (len(below[leaf]), leaf))
    around = switches[fullest].ports.values()
    up = sum(bits or 1.0 for peer, _, bits in around if peer in switches)
    down = sum(bits or 1.0 for host in below[fullest] for leaf, bits in nodes[host] if leaf == fullest)
    spread = [len({leaf for leaf, _ in ports}) for ports in nodes.values()]
    rails = None if usual == 1 else sum(spread) / len(spread) > 1
    rates = Counter(bits for ports in nodes.values() for _, bits in ports if bits)
    speed = rates.most_common(1)[0][0] / 8 if rates else 0.0
    return Fabric(len(nodes), len(below[fullest]), down / up if up else 0.0, rails, speed, nics=usual)
