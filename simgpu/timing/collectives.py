"""Collectives as sets of flows on the hardware graph.

A pipelined ring all-reduce over N ranks is N concurrent flows, one on each ring edge, each of 2(N-1)/N of the
payload, after 2(N-1) step latencies (Thakur, Rabenseifner, Gropp, "Optimization of collective communication
operations in MPICH", IJHPCA 19(1), 2005; Patarasuk and Yuan, JPDC 69(2), 2009). Where nothing is shared this
equals the alpha-beta closed form; where flows share a link, the engine slows them down. Nothing here knows the
name of an interconnect.

Payload sizes are those of nccl-tests: the buffer of a rank for all-reduce, the whole array for all-gather,
reduce-scatter and all-to-all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simgpu.hardware.topology import Route, Topology


@dataclass(frozen=True)
class CollectivePhase:
    """Flows `(route, bytes)` that start together after `latency` seconds."""

    latency: float
    flows: tuple[tuple[Route, float], ...]


ALGORITHMS = ("auto", "ring", "direct")
KINDS = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")


def collective_phases(
    topology: Topology, kind: str, gpus: Sequence[int], size: float, launch: float, algorithm: str = "auto"
) -> list[CollectivePhase]:
    """The phases of one collective over `gpus` (positions in the topology, in ring order).

    `launch` is the fixed time before the first byte, s. `auto` is the ring, or direct exchange where every pair
    of GPUs has a link of its own, so that a ring would leave most links idle. All-to-all is always direct.
    """
    if kind not in KINDS or algorithm not in ALGORITHMS:
        raise ValueError(f"unknown collective {kind!r} or algorithm {algorithm!r}")
    n = len(gpus)
    if n == 1 or size == 0:
        return []
    if algorithm == "auto":
        algorithm = "direct" if _all_joined(topology, gpus) else "ring"
    if kind == "all_to_all":
        return _direct(topology, gpus, size / n, steps=1, launch=launch)
    # all-reduce = reduce-scatter + all-gather: twice the steps, twice the bytes
    rounds = 2 if kind == "all_reduce" else 1
    if algorithm == "direct":
        return _direct(topology, gpus, size / n, steps=rounds, launch=launch)
    return _ring(topology, gpus, rounds * (n - 1) / n * size, steps=rounds * (n - 1), launch=launch)


def _all_joined(topology: Topology, gpus: Sequence[int]) -> bool:
    """Whether every two of the GPUs have a link of their own."""
    wiring = topology.cluster.node.nvlink
    one_node = len({gpu // topology.cluster.gpus_per_node for gpu in gpus}) == 1
    return wiring is not None and wiring.topology == "full-mesh" and one_node


def _ring(
    topology: Topology, gpus: Sequence[int], bytes_per_edge: float, steps: int, launch: float
) -> list[CollectivePhase]:
    """Each GPU sends to its successor; every step waits for the slowest edge."""
    rings = _rings(topology, gpus)
    flows = []
    slowest = 0.0
    for ring in rings:
        for a, b in zip(ring, [*ring[1:], ring[0]], strict=True):
            route = topology.route(a, b)
            slowest = max(slowest, route.latency)
            flows.append((route, bytes_per_edge / len(rings)))
    return [CollectivePhase(launch + steps * slowest, tuple(flows))]


def _rings(topology: Topology, gpus: Sequence[int]) -> list[list[int]]:
    """One ring within a node; across nodes one per NIC, so that every rail carries its share, as NCCL does.

    Ring r enters the first node at the first GPU of rail r and leaves at the one before; the next node is walked
    the other way round and so is entered on the rail where the first was left.
    """
    per_node = topology.cluster.gpus_per_node
    nodes: dict[int, list[int]] = {}
    for gpu in gpus:
        nodes.setdefault(gpu // per_node, []).append(gpu)
    members = len(next(iter(nodes.values())))
    nics = topology.cluster.node.nic_count
    if len(nodes) == 1 or members == 1 or nics == 1 or any(len(local) != members for local in nodes.values()):
        return [list(gpus)]
    rings = []
    count = min(nics, members)
    for r in range(count):
        first = r * members // count
        ring: list[int] = []
        for i, local in enumerate(nodes.values()):
            rotated = local[first:] + local[:first]
            ring += rotated if i % 2 == 0 else rotated[::-1]
        rings.append(ring)
    return rings


def _direct(
    topology: Topology, gpus: Sequence[int], bytes_per_pair: float, steps: int, launch: float
) -> list[CollectivePhase]:
    """Every GPU sends to every other at once, `steps` times."""
    routes = [topology.route(a, b) for a in gpus for b in gpus if a != b]
    latency = max(route.latency for route in routes)
    flows = tuple((route, bytes_per_pair) for route in routes)
    return [CollectivePhase((launch if step == 0 else 0.0) + latency, flows) for step in range(steps)]
