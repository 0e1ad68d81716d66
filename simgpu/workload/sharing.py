"""Collectives that share links: how long they take together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from simgpu.engine import Phase, Simulator
from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.ideal import CollectivePhase, Edge


def together(topology: Topology, all_phases: Sequence[Sequence[CollectivePhase]]) -> float:
    """Seconds until equal collectives that start together are all done."""
    sim = Simulator()
    numbers: dict[Edge, int] = {}

    def link(edge: Edge, channels: Mapping[Edge, float]) -> int:
        if edge not in numbers:
            numbers[edge] = sim.add_link(
                channels[edge] if edge in channels else topology.graph.edges[edge]["bandwidth"]
            )
        return numbers[edge]

    for i, phases in enumerate(all_phases):
        run = [
            Phase(p.latency, tuple(flow.numbered(partial(link, channels=p.channels)) for flow in p.flows))
            for p in phases
        ]
        sim.transfer([sim.add_stream(str(i))], run)
    return sim.run().makespan
