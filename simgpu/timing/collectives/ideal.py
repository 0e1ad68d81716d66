"""Collectives at the plain rates and latencies of links: no protocols, no channels, no choice that NCCL makes.

A ring is n concurrent flows, one on each of its edges, each of (n-1)/n of the payload (twice that for an
all-reduce), after as many step latencies. Where nothing is shared the result is the alpha-beta closed form;
contention comes from the flows that share links. P. Patarasuk and X. Yuan, "Bandwidth optimal all-reduce
algorithms for clusters of workstations", JPDC 69(2), 2009; R. Thakur, R. Rabenseifner, W. Gropp, "Optimization
of collective communication operations in MPICH", IJHPCA 19(1), 2005.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.schedules import (
    Schedule,
    all_joined,
    direct,
    has_switch,
    nvls,
    ring,
    shift,
    tree,
)
from simgpu.timing.collectives.traffic import SEND

Edge = tuple[Any, ...]


class Transport(NamedTuple):
    """Equal flows over the same edges: `size` bytes each, `times` of them."""

    edges: tuple[Edge, ...]
    size: float
    times: float = 1.0

    def numbered(self, number: Callable[[Edge], int]) -> tuple[tuple[int, ...], float, tuple[float, ...]]:
        """The flows for the engine, by its numbers of links."""
        return tuple(map(number, self.edges)), self.size, (self.times,) * len(self.edges)


@dataclass(frozen=True)
class CollectivePhase:
    """Flows that start together after `latency` seconds.

    Edges are those of the topology graph, and of `channels`: what the channels of a GPU can pass on, bytes/s, which is
    a link that only this collective uses.
    """

    latency: float
    flows: tuple[Transport, ...]
    channels: Mapping[Edge, float] = field(default_factory=dict)


def ideal_phases(
    topology: Topology, kind: str, gpus: Sequence[int], size: float, launch: float, algorithm: str = "auto"
) -> list[CollectivePhase]:
    """The phases of one collective over `gpus` (positions in the topology, in ring order).

    `launch` is the fixed time before the first byte, s. `auto` is the ring, or direct exchange where every pair
    of GPUs has a link of its own, so that a ring would leave most links idle. All-to-all is always direct.
    """
    if len(gpus) == 1 or size == 0:
        return []
    if algorithm == "auto":
        algorithm = "direct" if all_joined(topology, gpus) else "ring"
    if kind == "all_to_all" or (algorithm == "direct" and kind in ("all_reduce", "all_gather", "reduce_scatter")):
        return _rounds(direct(topology, kind, gpus), size, launch)
    if algorithm == "nvls" and has_switch(topology, gpus):
        return [_phase(nvls(topology, kind, gpus), size, launch)]
    if algorithm == "tree":
        return [_phase(tree(topology, gpus), size, launch)]
    plan = shift(topology, kind, gpus) if kind in ("send_recv", SEND) else ring(topology, kind, gpus)
    slowest = max(flow.route.latency for flow in plan.flows)
    steps = sum(count for _, count in plan.hops)
    return [CollectivePhase(launch + steps * slowest, _transports(plan, size))]


def _phase(plan: Schedule, size: float, launch: float) -> CollectivePhase:
    latency = sum(route.latency * count for route, count in plan.hops)
    return CollectivePhase(launch + latency, _transports(plan, size))


def _rounds(plan: Schedule, size: float, launch: float) -> list[CollectivePhase]:
    """Every GPU sends to every other at once, once or twice."""
    ((slowest, count),) = plan.hops
    rounds = round(count)
    flows = _transports(plan, size / rounds)
    return [CollectivePhase((launch if step == 0 else 0.0) + slowest.latency, flows) for step in range(rounds)]


def _transports(plan: Schedule, size: float) -> tuple[Transport, ...]:
    return tuple(Transport(route.edges, share * size, count) for route, share, count in plan.flows)
