"""Where the switches of a fabric stand: which leaf is above which NIC, and the way from one leaf to another.

Stages of a tree that offer equal ways are one switch, as `simgpu.hardware.topology` has it: `spine` of two tiers,
`spine0`, `spine1`, ... of the pods of three with `core` above them, of the rails of `rail-only`, of the groups of a
dragonfly. So what a fabric costs grows with the leaves that a job uses, not with the switches that a radix asks for.

A switch of radix k with oversubscription r has k r/(1+r) ports down and k/(1+r) up. Two tiers have k leaves and k^2/2
ports for r = 1, three k^3/4: M. Al-Fares, A. Loukissas, A. Vahdat, "A scalable, commodity data center network
architecture", SIGCOMM 2008. Dragonfly+: groups of k/2 leaves and k/2 spines with k/2 global links each, at most
(k/2)^2 + 1 of them: A. Shpiner et al., "Dragonfly+: low cost topology for scaling datacenters", HiPINEB 2017.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import combinations
from math import ceil, prod
from typing import NamedTuple

from simgpu.errors import InputError
from simgpu.hardware.cluster_spec import TREES, ClusterSpec, FabricSpec

EFFICIENCY = 0.95
"""Part of their rate that links between switches give with packets spread adaptively (NVIDIA on xAI's Colossus,
https://nvidianews.nvidia.com/news/spectrum-x-ethernet-networking-xai-colossus: 95 %)."""

LARGEST = 4096
"""Radix up to which one that suffices is looked for."""


class Way(NamedTuple):
    """Switches from one leaf to another. Up to `up` they are those of the sender, from `down` on of the receiver."""

    switches: tuple[str, ...]
    up: int
    down: int


class Layout:
    """The switches of a cluster's fabric; `nics` are those of a node. Positions are places of nodes, from 0."""

    def __init__(self, spec: ClusterSpec, nics: int) -> None:
        assert spec.fabric is not None
        self.spec, self.fabric, self.nics = spec, spec.fabric, nics
        self.nodes = int(spec.nodes.si)
        self.kind = self.fabric.topology
        self.tree = self.kind in TREES
        self.rails = nics if self.kind in ("rail-fat-tree", "rail-only") else 1
        self.per_leaf = _per_leaf(self.fabric, nics, self.rails) if self.tree else 1
        self.uplinks = self.per_leaf * nics / self.rails / self.fabric.oversubscription.si
        """Ports of a leaf upwards, in ports of a NIC."""
        self.per_pod = _per_pod(self.fabric, self.rails)
        """Groups of leaves of a pod, or of a group of a dragonfly; 0: all are in one."""

    def group(self, position: int) -> int:
        """The group of leaves that the NICs of a node hang below."""
        return position // self.per_leaf

    def pod(self, group: int) -> int:
        """The pod of a group of leaves."""
        return group // self.per_pod if self.per_pod else 0

    def leaf(self, position: int, nic: int) -> str:
        """The leaf switch of a NIC."""
        return f"leaf{self.group(position) * self.rails + nic % self.rails}"

    def rail_of(self, leaf: str) -> int:
        """The rail of a leaf switch, 0 where there are none."""
        return _number(leaf) % self.rails

    def way(self, a: str, b: str) -> Way:
        """Switches from leaf `a` to leaf `b`."""
        if a == b:
            return Way((a,), 0, 0)
        if not self.tree:
            path = self._along(_number(a), _number(b)) if self.kind == "torus" else [_number(a), _number(b)]
            return Way(tuple(f"leaf{i}" for i in path), 0, len(path) - 1)
        above, below = self._above(a), self._above(b)
        if above == below:
            return Way((a, above, b), 1, 1)
        if self.kind == "dragonfly":
            return Way((a, above, below, b), 1, 2)
        if self.kind == "rail-only":
            raise InputError(
                f"no way from rail {self.rail_of(a)} to rail {self.rail_of(b)} of '{self.spec.name}': its GPUs have no "
                "NVSwitch to cross over",
                key="cluster.fabric.topology",
            )
        return Way((a, above, "core", below, b), 2, 2)

    def _above(self, leaf: str) -> str:
        if self.kind == "rail-only":
            return f"spine{self.rail_of(leaf)}"
        return f"spine{self.pod(_number(leaf) // self.rails)}" if self.per_pod else "spine"

    def cables(self, leaves: Iterable[str]) -> Iterator[tuple[str, str, float]]:
        """Cables between the switches above some leaves: both ends, and the rate in ports of the fabric."""
        used = sorted(set(leaves), key=_number)
        if self.kind == "torus":
            yield from self._of_torus()
        elif not self.tree:
            yield from ((a, b, 1.0) for a, b in combinations(used, 2))
        elif len(used) > 1:
            yield from ((leaf, self._above(leaf), self.uplinks) for leaf in used)
            yield from self._upper(list(dict.fromkeys(self._above(leaf) for leaf in used)))

    def _upper(self, spines: list[str]) -> Iterator[tuple[str, str, float]]:
        if len(spines) == 1 or self.kind == "rail-only":
            return
        core = self.fabric.core_oversubscription
        less = core.si if core is not None else 1.0
        if self.kind == "dragonfly":
            groups = ceil(self.nodes / (self.per_leaf * self.per_pod))
            each = _global_links(self.fabric) / max(groups - 1, 1)
            yield from ((a, b, each) for a, b in combinations(spines, 2))
            return
        yield from ((spine, "core", self.per_pod * self.rails * self.uplinks / less) for spine in spines)

    # ---- torus -----------------------------------------------------------------------------------------

    def _along(self, a: int, b: int) -> list[int]:
        """Routers from `a` to `b`: dimension by dimension, the shorter way round; of two equal ones by parity of `a`.

        So both directions of a ring with an even number of routers carry the same where all send to all.
        """
        path, stride, at = [a], 1, a
        for size in self.fabric.dims:
            here, there = at // stride % size, b // stride % size
            ahead = (there - here) % size
            forward = ahead < size - ahead or (2 * ahead == size and here % 2 == 0)
            for _ in range(ahead if forward else size - ahead):
                nearer = (here + (1 if forward else -1)) % size
                at += (nearer - here) * stride
                here = nearer
                path.append(at)
            stride *= size
        return path

    def _of_torus(self) -> Iterator[tuple[str, str, float]]:
        stride = 1
        for size in self.fabric.dims:
            for i in range(prod(self.fabric.dims)):
                here = i // stride % size
                if size > 1 and not (size == 2 and here):
                    other = i + ((here + 1) % size - here) * stride
                    yield f"leaf{i}", f"leaf{other}", 2.0 if size == 2 else 1.0
            stride *= size

    # ---- placement -------------------------------------------------------------------------------------

    def positions(self, count: int) -> tuple[int, ...]:
        """Places of the first `count` nodes of a job. Raises `InputError` for places that the cluster has not."""
        placement, every = self.spec.placement, range(max(self.nodes, count))
        if placement.kind == "packed":
            return tuple(range(count))
        if placement.kind == "spread":
            dealt = sorted(every, key=lambda position: (position % self.per_leaf, position))
        elif placement.kind == "random":
            import numpy as np

            dealt = [int(i) for i in np.random.default_rng(placement.seed).permutation(len(every))]
        else:
            dealt = host_numbers(placement.nodes) if isinstance(placement.nodes, str) else list(placement.nodes)
            check_listed(dealt, self.nodes)
            known = set(dealt)
            dealt += [i for i in every if i not in known]
        return tuple(dealt[:count])


def check_listed(numbers: list[int], nodes: int) -> None:
    """Raise `InputError` for places of a list that a cluster has not, or has once."""
    wrong = next((i for i in numbers if i >= nodes), None)
    if wrong is not None:
        raise InputError(f"node {wrong} is not among its {nodes:,} nodes (0 to {nodes - 1})", key="placement.nodes")
    twice = next((i for i in numbers if numbers.count(i) > 1), None) if len(set(numbers)) < len(numbers) else None
    if twice is not None:
        raise InputError(f"node {twice} is given twice", key="placement.nodes")


def host_numbers(text: str) -> list[int]:
    """Numbers of hosts as Slurm lists them, in its order.

    >>> host_numbers("node[0-2,8],node11")
    [0, 1, 2, 8, 11]
    """
    found: list[int] = []
    parts = re.split(r",(?![^\[]*\])", re.sub(r"\s+", "", text))
    for part in parts:
        match = re.fullmatch(r"[A-Za-z_.-]*(?:\[([\d,-]+)\]|(\d+)(?:-(\d+))?)", part)
        spans = re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", match[1] or "0") if match else None
        if match is None or spans is None:
            raise InputError(f"'{part}' names no nodes; expected such as 'node[0-3,8]'", key="placement.nodes")
        listed = match[1].split(",") if match[1] else [f"{match[2]}-{match[3]}" if match[3] else match[2]]
        for span in listed:
            first, _, last = span.partition("-")
            low, high = int(first), int(last or first)
            if high < low or high - low > 2**20:
                raise InputError(f"'{span}' is no span of nodes; expected such as '0-3'", key="placement.nodes")
            found += range(low, high + 1)
    return found


def _number(leaf: str) -> int:
    return int(leaf.removeprefix("leaf"))


def _split(radix: int, ratio: float) -> tuple[int, int]:
    """Ports of a switch down and up."""
    down = int(radix * ratio / (1 + ratio) + 1e-9)
    return down, radix - down


def _per_leaf(fabric: FabricSpec, nics: int, rails: int) -> int:
    """Nodes below each leaf."""
    if fabric.nodes_per_leaf is not None:
        return int(fabric.nodes_per_leaf.si)
    assert fabric.radix is not None
    return max(_split(fabric.radix, fabric.oversubscription.si)[0] * rails // nics, 1)


def _per_pod(fabric: FabricSpec, rails: int) -> int:
    if fabric.radix is None:
        return 0
    if fabric.topology == "dragonfly":
        return max(fabric.radix // 2, 1)
    if fabric.tiers == 2:
        return 0
    core = fabric.core_oversubscription
    return max(_split(fabric.radix, core.si if core is not None else 1.0)[0] // rails, 1)


def _global_links(fabric: FabricSpec) -> float:
    assert fabric.radix is not None
    core = fabric.core_oversubscription
    spines = _split(fabric.radix, fabric.oversubscription.si)[1]
    return spines * (fabric.radix // 2) / (core.si if core is not None else 1.0)


def most_nodes(fabric: FabricSpec, nics: int) -> float:
    """The most nodes that a fabric can join; infinite where nothing says."""
    if fabric.topology == "torus":
        return prod(fabric.dims)
    if fabric.radix is None:
        return float("inf")
    rails = nics if fabric.topology in ("rail-fat-tree", "rail-only") else 1
    per_leaf, k = _per_leaf(fabric, nics, rails), fabric.radix
    down, up = _split(k, fabric.oversubscription.si)
    if per_leaf * nics > down * rails or up < 1:
        return 0
    if fabric.topology == "rail-only":
        return k * per_leaf
    if fabric.topology == "dragonfly":
        return (int(_global_links(fabric)) + 1) * _per_pod(fabric, rails) * per_leaf
    if fabric.tiers == 2:
        return k // rails * per_leaf
    core = fabric.core_oversubscription
    pods = _split(k, core.si if core is not None else 1.0)[0] // rails
    return k * pods * per_leaf


def shortage(spec: ClusterSpec, nics: int) -> str:
    """One line where a fabric cannot join the nodes of a cluster, with what would; else ''."""
    fabric, nodes = spec.fabric, int(spec.nodes.si)
    assert fabric is not None
    most = most_nodes(fabric, nics)
    if nodes <= most:
        return ""
    if fabric.topology == "torus":
        dims = " x ".join(map(str, fabric.dims))
        return f"a torus of {dims} joins {most:,.0f} nodes, not {nodes:,}; expected larger dims"
    tiers = f" in {fabric.tiers} tiers" if fabric.topology in ("fat-tree", "rail-fat-tree") else ""
    said = f"radix {fabric.radix}{tiers} joins {most:,.0f} nodes of {nics} NICs, not {nodes:,}"
    enough = next((k for k in range(2, LARGEST + 1) if _with(fabric, nics, radix=k) >= nodes), None)
    would = [f"radix {enough}"] if enough is not None else []
    if fabric.tiers == 2 and tiers and _with(fabric, nics, tiers=3) >= nodes:
        would.append("3 tiers")
    return f"{said}; expected {' or '.join(would) or 'fewer nodes'}"


def _with(fabric: FabricSpec, nics: int, **changes: int) -> float:
    return most_nodes(fabric.model_copy(update=changes), nics)
