"""Slurm's `topology.conf`: switches with their nodes (topology/tree), or blocks of nodes (topology/block)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simgpu.errors import InputError, nearest, shown
from simgpu.lab.importing.hosts import hosts_of
from simgpu.lab.importing.parts import Fabric, Found

KIND = "Slurm topology.conf"
_PAIR = re.compile(r"(\w+)\s*=\s*(\S+)")
_KEYS = ("switchname", "switches", "nodes", "linkspeed", "blockname", "blocksizes")


@dataclass(frozen=True)
class Switch:
    """A line of the file."""

    line: int
    switches: tuple[str, ...]
    nodes: tuple[str, ...]


def is_topology(text: str) -> bool:
    """True if a text has lines of such a file."""
    return re.search(r"^\s*(SwitchName|BlockName)\s*=", text, re.MULTILINE | re.IGNORECASE) is not None


def read(file: Path, text: str) -> Found:
    """The number of nodes, and how many share a leaf switch.

    Raises `InputError` for switches in a circle, switches that no line describes, or nodes below two of them.
    """
    switches: dict[str, Switch] = {}
    blocks: dict[str, Switch] = {}
    for number, line in enumerate(text.replace("\\\n", " ").splitlines(), 1):
        pairs = {key.lower(): value for key, value in _PAIR.findall(line.partition("#")[0])}
        if not pairs:
            continue
        for key in pairs:
            if key not in _KEYS:
                raise InputError(f"unknown key{nearest(key, _KEYS)}", file=file, line=number, key=key)
        name = pairs.get("switchname") or pairs.get("blockname")
        if name is None:
            if "blocksizes" in pairs:
                continue
            raise InputError("has no SwitchName and no BlockName", file=file, line=number)
        entry = Switch(number, *(tuple(hosts_of(pairs.get(key, ""), file, number)) for key in ("switches", "nodes")))
        into = switches if "switchname" in pairs else blocks
        for one in hosts_of(name, file, number):
            if one in into:
                raise InputError(f"{shown(one)} is described twice (line {into[one].line})", file=file, line=number)
            into[one] = entry
    if blocks and not switches:
        return _of_blocks(file, blocks)
    return _of_switches(file, switches)


def _of_blocks(file: Path, blocks: Mapping[str, Switch]) -> Found:
    _once(blocks, file, "blocks")
    sizes = sorted({len(one.nodes) for one in blocks.values()})
    nodes = sum(len(one.nodes) for one in blocks.values())
    said = f"{len(blocks)} blocks of {' to '.join(map(str, sizes))} nodes, such as racks of one NVLink domain"
    return Found(str(file), KIND, fabric=Fabric(nodes), notes=(f"{said}: blocks are no switches",))


def _of_switches(file: Path, switches: Mapping[str, Switch]) -> Found:
    for name, one in switches.items():
        for child in one.switches:
            if child not in switches:
                raise InputError(f"{name} has switch {shown(child)}, which no line describes"
                                 f"{nearest(child, switches)}", file=file, line=one.line)  # fmt: skip
    _no_circle(file, switches)
    leaves = {name: one for name, one in switches.items() if one.nodes}
    if not leaves:
        raise InputError("no switch has nodes; expected lines such as SwitchName=leaf1 Nodes=node[01-16]", file=file)
    _once(leaves, file, "switches")
    nodes = sum(len(one.nodes) for one in leaves.values())
    most = max(len(one.nodes) for one in leaves.values())
    tiers = _height(next(iter(set(switches) - {c for one in switches.values() for c in one.switches})), switches)
    said = f"{len(leaves)} leaf switches, {tiers} tiers; how fast links are, and how many lead up, it does not say"
    return Found(str(file), KIND, fabric=Fabric(nodes, most), notes=(said,))


def _once(groups: Mapping[str, Switch], file: Path, what: str) -> None:
    seen: dict[str, str] = {}
    for name, one in groups.items():
        for node in one.nodes:
            if seen.setdefault(node, name) != name:
                raise InputError(f"node {shown(node)} is below two {what}, {seen[node]} and {name}",
                                 file=file, line=one.line)  # fmt: skip


def _no_circle(file: Path, switches: Mapping[str, Switch]) -> None:
    """Raise `InputError` for a switch that is below itself. Without recursion: chains may be long."""
    done: set[str] = set()
    for start in switches:
        path: list[str] = []
        ahead = [(start, False)]
        while ahead:
            name, left = ahead.pop()
            if left:
                path.pop()
                done.add(name)
            elif name in path:
                circle = " > ".join([*path[path.index(name) :], name])
                raise InputError(f"switches go round: {circle}", file=file, line=switches[name].line)
            elif name not in done:
                path.append(name)
                ahead.append((name, True))
                ahead += [(child, False) for child in switches[name].switches]


def _height(top: str, switches: Mapping[str, Switch]) -> int:
    """Tiers of switches from one down, along its first child."""
    height, name = 1, top
    while switches[name].switches:
        height, name = height + 1, switches[name].switches[0]
    return height
