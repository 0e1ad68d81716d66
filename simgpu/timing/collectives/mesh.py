"""Rings through GPUs that are wired to each other pair by pair, not all pairs alike (DGX-1, boards of four GPUs).

NCCL searches rings that take every link as often as it can carry one (src/graph/search.cc). A link carries one ring in
each direction, so a set of undirected Hamiltonian cycles that share no link gives twice as many rings: on a DGX-1 with
V100 three cycles, six rings. Two GPUs without a link between them reach each other through a third of the same
communicator that has links to both, where there is one (PATH_NVB in src/graph/paths.cc).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from simgpu.hardware.topology import Route, Topology

EXACT = 4
"""So many cycles at most are packed by trying all ways; more are taken one by one, the least loaded first."""

WALKS = 256
"""Sets of GPUs of a node whose walks are remembered for a topology."""

Lanes = dict[tuple[int, int], int]
"""Links of each pair of GPUs, the smaller first."""


def wired(topology: Topology) -> bool:
    """True if the GPUs of a node are joined pair by pair as the node's file lists."""
    wiring = topology.cluster.node.nvlink
    return wiring is not None and wiring.topology == "mesh"


def way(topology: Topology, a: int, b: int, group: Sequence[int]) -> Route:
    """The route from GPU `a` to GPU `b` that NCCL takes in a communicator of `group`.

    It goes through a third GPU of a mesh where these two have no link and that one has links to both.
    """
    direct = topology.route(a, b)
    if direct.via not in ("pcie", "host") or not wired(topology):
        return direct
    names, graph = topology.gpus, topology.wires
    relays = [
        topology.edges(((names[a], names[c]), (names[c], names[b])))
        for c in group
        if graph.has_edge(names[a], names[c]) and graph.has_edge(names[c], names[b])
    ]
    return max(relays, key=topology.bandwidth, default=direct)


def mesh_rings(topology: Topology, local: Sequence[int]) -> list[list[int]]:
    """Rings over the GPUs of one node that use its links best; the given order where links alone make no ring."""
    if len(local) < 3:
        return [list(local)]
    lanes = _lanes(topology, local)
    cycles = [walk for walk in _walks(lanes, local[0], local) if _pair(walk[-1], walk[0]) in lanes]
    cycles = [walk for walk in cycles if walk[1] < walk[-1]]  # each cycle once, not both ways round
    found = _packed(cycles, lanes, local)
    return [ring for cycle in found for ring in (cycle, [cycle[0], *cycle[:0:-1]])] or [list(local)]


def mesh_walks(topology: Topology, local: Sequence[int], rails: int) -> list[list[int]]:
    """A walk over all GPUs of one node for each rail, from its first GPU; they load links as little as they can.

    Each ends on a rail of its own, so that the rings of several nodes share no adapter. Nodes of a cluster are alike,
    so that equal GPUs of each take the same walks.
    """
    per_node = topology.cluster.gpus_per_node
    first = local[0] - local[0] % per_node
    own = tuple(gpu - first for gpu in local)
    known = topology.memo.region("mesh walks", WALKS)
    if (own, rails) not in known:
        starts = [r * len(own) // rails for r in range(rails)]
        lanes = _lanes(topology, own)
        choices = [list(_walks(lanes, own[start], own)) for start in starts]
        rail = {gpu: i * rails // len(own) for i, gpu in enumerate(own)}
        tried = (_apart(choices, lanes, most, rail) for most in range(1, rails + 1))
        round_robin = [[*own[start:], *own[:start]] for start in starts]
        known[own, rails] = next((walks for walks in tried if walks is not None), round_robin)
    return [[first + gpu for gpu in walk] for walk in known[own, rails]]


def _apart(choices: list[list[list[int]]], lanes: Lanes, most: int, rail: Mapping[int, int]) -> list[list[int]] | None:
    """One walk of each list, at most `most` of them in each direction of a link and every end on another rail.

    None where there are none.
    """
    taken: Counter[tuple[int, int]] = Counter()
    chosen: list[list[int]] = []

    def place() -> bool:
        if len(chosen) == len(choices):
            return True
        ended = {rail[walk[-1]] for walk in chosen}
        for walk in choices[len(chosen)]:
            steps = list(pairwise(walk))
            if rail[walk[-1]] in ended or any(taken[step] >= most * lanes[_pair(*step)] for step in steps):
                continue
            taken.update(steps)
            chosen.append(walk)
            if place():
                return True
            chosen.pop()
            taken.subtract(steps)
        return False

    return chosen if place() else None


def _pair(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a < b else (b, a)


def _lanes(topology: Topology, local: Sequence[int]) -> Lanes:
    """The links among some GPUs of one node."""
    wiring = topology.cluster.node.nvlink
    assert wiring is not None
    per_node = topology.cluster.gpus_per_node
    by_index = {gpu % per_node: gpu for gpu in local}
    return {
        _pair(by_index[wire.gpus[0]], by_index[wire.gpus[1]]): int(wire.lanes.si)
        for wire in wiring.links
        if wire.gpus[0] in by_index and wire.gpus[1] in by_index
    }


def _walks(lanes: Lanes, first: int, local: Sequence[int]) -> Iterator[list[int]]:
    """Every walk over links from `first` that meets each GPU once."""
    near: dict[int, list[int]] = {gpu: [] for gpu in local}
    for a, b in sorted(lanes):
        near[a].append(b)
        near[b].append(a)

    def on(walk: list[int]) -> Iterator[list[int]]:
        if len(walk) == len(near):
            yield walk
            return
        for gpu in near[walk[-1]]:
            if gpu not in walk:
                yield from on([*walk, gpu])

    return on([first])


def _packed(cycles: list[list[int]], lanes: Lanes, local: Sequence[int]) -> list[list[int]]:
    """Select as many of the cycles as the links can carry, some more than once."""
    if not cycles:
        return []
    steps = [[_pair(a, b) for a, b in pairwise([*cycle, cycle[0]])] for cycle in cycles]
    most = min(sum(count for pair, count in lanes.items() if gpu in pair) for gpu in local) // 2
    left = Counter(lanes)
    if most <= EXACT:
        for wanted in range(most, 0, -1):
            found = _fitted(steps, left, wanted, 0)
            if found is not None:
                return [cycles[i] for i in found]
    chosen: list[int] = []
    while True:
        spare = [(min(left[pair] for pair in step), sum(left[pair] for pair in step)) for step in steps]
        i = max(range(len(steps)), key=spare.__getitem__)
        if spare[i][0] < 1:
            return [cycles[i] for i in chosen]
        left.subtract(steps[i])
        chosen.append(i)


def _fitted(
    steps: list[list[tuple[int, int]]], left: Counter[tuple[int, int]], wanted: int, start: int
) -> list[int] | None:
    """Positions of `wanted` cycles that fit into the links left, from `start` on; None where there are none."""
    if wanted == 0:
        return []
    for i in range(start, len(steps)):
        if all(left[pair] for pair in steps[i]):
            left.subtract(steps[i])
            rest = _fitted(steps, left, wanted - 1, i)
            left.update(steps[i])
            if rest is not None:
                return [i, *rest]
    return None
