"""Topology files of other simulators: ASTRA-sim's analytical backend (YAML) and SimAI (text).

ASTRA-sim: lists of `topology` (Ring, FullyConnected, Switch), `npus_count`, `bandwidth` (GB/s) and `latency` (ns), a
value for each dimension, the innermost first (astra-sim/astra-network-analytical, input/*.yml). SimAI: `nodes
gpus_per_server nvswitches switches links gpu_type`, the numbers of switches, then a link a line: `source target 400Gbps
0.0005ms errors` (aliyun/SimAI, astra-sim-alibabacloud/inputs/topo/gen_Topo_Template.py).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from simgpu.documents import Document, read_yaml
from simgpu.errors import InputError, nearest, shown
from simgpu.lab.importing.parts import Device, Fabric, Found, Group, Links, Place

ASTRA, SIMAI = "ASTRA-sim topology", "SimAI topology"
SHAPES = ("Ring", "FullyConnected", "Switch")
MOST = 1_000_000
"""Most accelerators, and most links, of a file."""
_HEAD = re.compile(r"^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([A-Za-z]\w*)\s*$")
_LINK = re.compile(r"^\s*(\d+)\s+(\d+)\s+([\d.]+)\s*Gbps\s+([\d.eE+-]+)\s*(ms|us|ns)\s+[\d.]+\s*$")
_SECONDS = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}


def is_astra(text: str) -> bool:
    """True for a network file of ASTRA-sim."""
    return "npus_count" in text[:10_000] and "topology" in text[:10_000]


def is_simai(text: str) -> bool:
    """True for a topology of SimAI: six words, of which the last names a GPU, above numbers and links."""
    lines = text.splitlines()
    return len(lines) > 2 and bool(_HEAD.match(lines[0])) and bool(_LINK.match(lines[2]))


# ---- ASTRA-sim -------------------------------------------------------------------------------------------


def read_astra(file: Path) -> Found:
    """A node from the first dimension, a fabric from the second."""
    document = read_yaml(file)
    shapes = _list(document, "topology")
    counts = [_whole(document, value, i) for i, value in enumerate(_list(document, "npus_count"))]
    rates = [_number(document, "bandwidth", value, i) for i, value in enumerate(_list(document, "bandwidth"))]
    delays = [_number(document, "latency", value, i) for i, value in enumerate(_list(document, "latency"))]
    for key, values in (("npus_count", counts), ("bandwidth", rates), ("latency", delays)):
        if len(values) != len(shapes):
            raise document.error(f"has {len(values)} values for {len(shapes)} dimensions", (key,))
    for i, shape in enumerate(shapes):
        if shape not in SHAPES:
            raise document.error(f"unknown {shown(shape)}{nearest(shape, SHAPES)}", ("topology", i))
    if len(shapes) > 2:
        raise document.error(
            "has more than two dimensions; simgpu has nodes and one fabric between them", ("topology",)
        )
    if len(shapes) == 2 and shapes[1] != "Switch":
        raise document.error(f"{shapes[1]} between nodes; expected Switch", ("topology", 1))
    names = [f"NPU{i}" for i in range(counts[0])]
    links = _astra_links(shapes[0], names)
    groups = tuple(Group((Device("gpu", name),), shared=False) for name in names)
    fabric = None
    if len(shapes) == 2:
        groups = tuple(
            Group((Device("gpu", name), Device("nic", f"{name}.nic", speed=rates[1] * 1e9))) for name in names
        )
        fabric = Fabric(counts[1], counts[1], 1.0, rails=True, speed=rates[1] * 1e9, latency=delays[1] * 1e-9)
    inside = f"{shapes[0]} of {counts[0]} at {rates[0]:g} GB/s and {delays[0]:g} ns inside"
    notes = (f"{inside}: the links are those of the GPU that is named", "hosts are not in it")
    return Found(str(file), ASTRA, (Place((), "", groups),), links, fabric=fabric, gpus=counts[0], notes=notes)


def _astra_links(shape: str, names: Sequence[str]) -> Links:
    """Pairs with a link; how many links each has follows from the GPU (0: all, in equal parts)."""
    n = len(names)
    if shape == "Switch":
        return Links({(a, b): 0 for i, a in enumerate(names) for b in names[i + 1 :]}, switched=True)
    if shape == "FullyConnected":
        return Links({(a, b): 0 for i, a in enumerate(names) for b in names[i + 1 :]})
    ring = {(names[min(i, (i + 1) % n)], names[max(i, (i + 1) % n)]): 0 for i in range(n)} if n > 1 else {}
    return Links(ring)


def _list(document: Document, key: str) -> list[Any]:
    values = document.data.get(key)
    if not isinstance(values, list) or not values:
        raise document.error(f"expected a list with a value for each dimension, such as {key}: [...]", (key,))
    return values


def _whole(document: Document, value: Any, at: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST:
        raise document.error(f"{shown(value)}: expected a number from 1 to {MOST:,}", ("npus_count", at))
    return value


def _number(document: Document, key: str, value: Any, at: int) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1e9:
        raise document.error(f"{shown(value)}: expected more than zero", (key, at))
    return float(value)


# ---- SimAI -----------------------------------------------------------------------------------------------


def read_simai(file: Path, text: str) -> Found:
    """Servers of GPUs on NVSwitches, and the leaf switches that they are linked to."""
    lines = text.splitlines()
    head = _HEAD.match(lines[0])
    assert head is not None
    total, per_server, nv, switches, listed = (int(head[i]) for i in range(1, 6))
    gpus = total - nv - switches
    if not 0 < gpus <= MOST or per_server < 1 or gpus % per_server:
        raise InputError(f"{gpus} GPUs do not divide into servers of {per_server}", file=file, line=1)
    numbers = [int(word) for word in lines[1].split() if word.isdigit()]
    if len(numbers) != nv + switches:
        raise InputError(f"names {len(numbers)} switches; expected {nv + switches}", file=file, line=2)
    leaves, up, own, network, delay = _links(file, lines, gpus, set(numbers[:nv]), per_server)
    told = sum(bool(line.strip()) for line in lines[2:])
    if told != listed:
        raise InputError(f"lists {told} links; expected {listed}; is it cut?", file=file, line=len(lines))
    names = [f"GPU{i}" for i in range(per_server)]
    pairs = {(a, b): 0 for i, a in enumerate(names) for b in names[i + 1 :]} if nv else {}
    devices = tuple(
        Group((Device("gpu", name), Device("nic", f"{name}.nic", speed=network))) if network else
        Group((Device("gpu", name),), shared=False) for name in names
    )  # fmt: skip
    servers = gpus // per_server
    most = max((len(one) for one in leaves.values()), default=0)
    fullest = max(leaves, key=lambda leaf: len(leaves[leaf]), default=-1)
    ratio = most * network * 8 / up[fullest] if up.get(fullest) else 0.0
    rails = sum(1 for one in leaves.values() if 0 in one) > 1
    fabric = Fabric(servers, most, ratio, rails, network, delay) if servers > 1 else None
    notes = (f"links inside have {own / 8e9:g} GB/s: those of the GPU that is named count", "hosts are not in it")
    return Found(str(file), SIMAI, (Place((), "", devices),), Links(pairs, switched=nv > 0), fabric=fabric,
                 model=head[6], gpus=per_server, notes=notes)  # fmt: skip


def _links(
    file: Path, lines: Sequence[str], gpus: int, nv: set[int], per_server: int
) -> tuple[dict[int, set[int]], dict[int, float], float, float, float]:
    """Servers by leaf switch, bits/s above each, and the rates of a GPU's links (bits/s inside, bytes/s outside, s)."""
    leaves: dict[int, set[int]] = defaultdict(set)
    up: dict[int, float] = defaultdict(float)
    own = network = delay = 0.0
    for number, line in enumerate(lines[2:], 3):
        if not line.strip():
            continue
        link = _LINK.match(line)
        if link is None:
            raise InputError(f"{shown(line)} is no link (source target 400Gbps 0.0005ms 0)", file=file, line=number)
        a, b = sorted((int(link[1]), int(link[2])))
        bits = float(link[3]) * 1e9
        if a < gpus and b in nv:
            own = bits
        elif a < gpus:
            leaves[b].add(a // per_server)
            network, delay = bits / 8, float(link[4]) * _SECONDS[link[5]]
        elif a in leaves or b in leaves:
            up[a if a in leaves else b] += bits
    return dict(leaves), dict(up), own, network, delay
