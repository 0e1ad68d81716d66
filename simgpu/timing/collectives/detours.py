"""Detours that adaptive routing takes through other groups of a dragonfly, for the flows of one collective.

Traffic from one group to one other has the links between the two alone, unless packets go by a third group, which
takes a link of both. A part x goes straight, the rest evenly by the others; the switches see queues and settle near
the x of the shortest time (UGAL: J. Kim, W. Dally, S. Scott, D. Abts, "Technology-driven, highly-scalable dragonfly
topology", ISCA 2008). With G groups, D[a, b] bytes from a to b, and the same rate c between every two groups,

    time = min over x of max over (a, b) of (x D[a, b] + (1 - x) (out[a] + in[b] - 2 D[a, b]) / (G - 2)) / c

One group that sends to one other so gets all of its links, G - 1 times the rate; where every group sends to the next,
G / 2 times: half of what even traffic gets.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

import numpy as np

from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.ideal import Edge, Transport
from simgpu.timing.parts import Array

WORTH = 1.001
"""Detours are taken where they save this factor: even traffic has no use for them."""


def least_time(demand: Array, groups: int) -> float:
    """Seconds times the rate between two groups, for bytes `demand` from each to each, of `groups` in all.

    >>> least_time(np.array([[0.0, 6.0], [0.0, 0.0]]), 4)  # one to one other of four: three links
    2.0
    """
    straight = float(demand.max())
    if groups < 3:
        return straight
    out, into = demand.sum(axis=1), demand.sum(axis=0)
    used = demand.shape[0]
    beside = (out[:, None] + into[None, :] - 2 * demand) / (groups - 2)
    apart = ~np.eye(used, dtype=bool)
    lines = np.stack([demand[apart], beside[apart]])
    if used < groups:  # links to groups that the job does not use
        idle = np.concatenate([out, into]) / (groups - 2)
        lines = np.concatenate([lines, np.stack([np.zeros(idle.size), idle])], axis=1)
    low, high = 0.0, 1.0
    for _ in range(100):
        third = (high - low) / 3
        at = [float((x * lines[0] + (1 - x) * lines[1]).max()) for x in (low + third, high - third)]
        low, high = (low, high - third) if at[0] <= at[1] else (low + third, high)
    return round(float((low * lines[0] + (1 - low) * lines[1]).max()), 12) if straight else 0.0


def detoured(
    topology: Topology, flows: Sequence[Transport], choice: tuple[str, str], members: tuple[int, ...]
) -> tuple[list[Transport], dict[Edge, float]]:
    """The flows, with a lane in place of every link between two groups where detours are worth it; the lanes' rates."""
    layout, kinds = topology.layout, topology.wires.nodes
    fabric = topology.cluster.spec.fabric
    if layout is None or fabric is None or layout.kind != "dragonfly" or fabric.routing.kind != "adaptive":
        return list(flows), {}
    load: Counter[Edge] = Counter()
    for flow in flows:
        for edge in flow.edges:
            if len(edge) == 2 and edge[0] in kinds and edge[1] in kinds and _between_groups(kinds, edge):
                load[edge] += flow.size * flow.times  # type: ignore[assignment]
    if not load:
        return list(flows), {}
    spines = sorted({vertex for edge in load for vertex in edge})
    place = {spine: i for i, spine in enumerate(spines)}
    demand = np.zeros((len(spines), len(spines)))
    for edge, carried in load.items():
        demand[place[edge[0]], place[edge[1]]] = carried
    groups = max(ceil(layout.nodes / (layout.per_leaf * layout.per_pod)), len(spines))
    least = least_time(demand, groups)
    if demand.max() < WORTH * least:
        return list(flows), {}
    rate = min(topology.wires.edges[edge]["bandwidth"] for edge in load)
    # named as the link, and by the collective: others do not share the detours
    lanes: dict[Edge, Edge] = {edge: (*edge, choice, members) for edge in load}
    rates = {lanes[edge]: carried / least * rate for edge, carried in load.items()}
    moved = [flow._replace(edges=tuple(lanes.get(edge, edge) for edge in flow.edges)) for flow in flows]
    return moved, rates


def _between_groups(kinds: Mapping[str, Mapping[str, Any]], edge: Edge) -> bool:
    """Whether a link joins two groups."""
    first, second = (str(kinds[end]["kind"]) for end in edge)
    return first == second == "spine"
