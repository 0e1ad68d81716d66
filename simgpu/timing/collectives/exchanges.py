"""What all GPUs send to all others, as few flows: those of each GPU up to the switches where ways part, and back.

Behind a switch, and between nodes, flows are cut at the last switch that is the sender's and the first that is the
receiver's (the same one of a tree): all that a GPU sends over the same links is one entry, and so is all that it
receives. What goes on between such switches (groups of a dragonfly, routers of a torus or a mesh) is an entry for each
link. So there are a few for each GPU and link, not one for each pair.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from simgpu.hardware.layout import Layout
from simgpu.hardware.topology import Route, Topology
from simgpu.timing.collectives import mesh

Counted = Iterator[tuple[Route, float]]


class Reach(NamedTuple):
    """The ways from a leaf switch to others, as far as they are its own: to how many GPUs each, and one of those."""

    out: Counter[tuple[str, ...]]
    back: Counter[tuple[str, ...]]
    peer: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]


def exchanges(topology: Topology, nodes: Sequence[Sequence[int]], ways: list[Route]) -> Counted:
    """How the parts that every GPU sends to every other travel: (route, how many of them); `nodes` are its GPUs.

    `ways` are whole routes, one of each kind.
    """
    if len(nodes) == 1:
        for gpu in nodes[0]:
            yield from within(topology, gpu, nodes[0], ways)
        return
    below: dict[str, list[int]] = {}
    for local in nodes:
        for gpu in local:
            below.setdefault(topology.leaf(gpu), []).append(gpu)
    assert topology.layout is not None
    cross = topology.crosses_over
    reaches = {leaf: _reach(topology.layout, leaf, below, cross) for leaf in below}
    for local in nodes:
        for gpu in local:
            yield from within(topology, gpu, local, ways)
        for gpu in local:
            leaf = topology.leaf(gpu)
            yield from _outside(topology, gpu, local, below, reaches[leaf], ways)
        if cross:
            yield from _crossing(topology, local, below)
    yield from _core(topology, below, nodes)


def _reach(layout: Layout, leaf: str, below: Mapping[str, Sequence[int]], cross: bool) -> Reach:
    """The ways of a leaf switch; where data cross over in the node, those to switches of the same rail."""
    found = Reach(Counter(), Counter(), {})
    for other, gpus in below.items():
        if cross and layout.rail_of(other) != layout.rail_of(leaf):
            continue
        way, back = layout.way(leaf, other), layout.way(other, leaf)
        own, theirs = way.switches[: way.up + 1], back.switches[back.down :]
        found.out[own] += len(gpus)
        found.back[theirs] += len(gpus)
        found.peer[other] = own, theirs
    return found


def _outside(
    topology: Topology, gpu: int, local: Sequence[int], below: Mapping[str, Sequence[int]], reach: Reach,
    ways: list[Route],
) -> Counted:  # fmt: skip
    """What a GPU exchanges with those of other nodes; where data cross over, its part of what the node does."""
    out, back = reach.out.copy(), reach.back.copy()
    for other in local:
        if (own := reach.peer.get(topology.leaf(other))) is not None:
            out[own[0]] -= 1
            back[own[1]] -= 1
    times = 1.0
    if topology.crosses_over:  # all of the node send over the NIC, and those that share it a part each
        times = len(local) / sum(topology.leaf(other) == topology.leaf(gpu) for other in local)
    for leaf, (there, here) in reach.peer.items():
        if not (out[there] > 0 or back[here] > 0):
            continue
        peer = next((p for p in below[leaf] if not _beside(topology, p, gpu)), None)
        if peer is None:
            continue
        to, fro = topology.route(gpu, peer), topology.route(peer, gpu)
        if out[there] > 0:
            ways.append(to)
            up = next(i for i, (_, b) in enumerate(to.edges) if b == there[-1]) + 1
            yield topology.edges(to.edges[:up], to.via), out.pop(there) * times
        if back[here] > 0:
            down = next(i for i, (a, _) in enumerate(fro.edges) if a == here[0])
            yield topology.edges(fro.edges[down:], fro.via), back.pop(here) * times


def _beside(topology: Topology, a: int, b: int) -> bool:
    per_node = topology.cluster.gpus_per_node
    return a // per_node == b // per_node


def _crossing(topology: Topology, local: Sequence[int], below: Mapping[str, Sequence[int]]) -> Counted:
    """What the GPUs of a node hand each other over NVLink for other rails: out of each, and into it for its own."""
    layout = topology.layout
    assert layout is not None
    rails = {gpu: layout.rail_of(topology.leaf(gpu)) for gpu in local}
    far: Counter[int] = Counter()
    for leaf, gpus in below.items():
        far[layout.rail_of(leaf)] += len(gpus)
    far.subtract(rails.values())
    here = Counter(rails.values())
    everything = far.total()
    for gpu, rail in rails.items():
        name = topology.gpus[gpu]
        switch = topology.wires.nodes[name]["nvswitch"]
        if out := everything - far[rail]:
            yield topology.edges(((name, switch),)), float(out)
        if into := (len(local) - here[rail]) * far[rail] / here[rail]:
            yield topology.edges(((switch, name),)), into


def _core(topology: Topology, below: Mapping[str, Sequence[int]], nodes: Sequence[Sequence[int]]) -> Counted:
    """What crosses the links between the last switch of a sender and the first of a receiver, for each link."""
    layout = topology.layout
    assert layout is not None
    if layout.kind not in ("dragonfly", "torus", "full-mesh"):
        return
    inside = Counter((topology.leaf(a), topology.leaf(b)) for local in nodes for a in local for b in local)
    crossed: Counter[tuple[str, str]] = Counter()
    for leaf, senders in below.items():
        for other, receivers in below.items():
            if leaf == other:
                continue
            way = layout.way(leaf, other)
            pairs = len(senders) * len(receivers) - inside[leaf, other]
            for edge in pairwise(way.switches[way.up : way.down + 1]):
                crossed[edge] += pairs
    for edge, count in crossed.items():
        yield topology.edges((edge,), "network"), float(count)


def within(topology: Topology, gpu: int, local: Sequence[int], ways: list[Route]) -> Counted:
    """What a GPU exchanges with the others of its node."""
    others = [other for other in local if other != gpu]
    if not others:
        return
    switch = topology.wires.nodes[topology.gpus[gpu]].get("nvswitch")
    if switch is not None:
        name = topology.gpus[gpu]
        ways.append(topology.route(gpu, others[0]))
        yield topology.edges(((name, switch),)), float(len(others))
        yield topology.edges(((switch, name),)), float(len(others))
        return
    for other in others:
        route = mesh.way(topology, gpu, other, local)
        ways.append(route)
        yield route, 1.0
