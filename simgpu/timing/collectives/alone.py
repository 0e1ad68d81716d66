"""Flows of one collective that have the links to themselves."""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.engine import Phase, Simulator
from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.ideal import Edge, Transport

UNIT = 1e9
"""Payload of which the flows are timed."""


def makespan(topology: Topology, flows: Sequence[Transport], channels: dict[Edge, float]) -> float:
    """Seconds per byte of payload of flows that start together and have the links to themselves."""
    sim = Simulator()
    links: dict[Edge, int] = {}

    def number(edge: Edge) -> int:
        if edge not in links:
            links[edge] = sim.add_link(channels[edge] if edge in channels else topology.wires.edges[edge]["bandwidth"])
        return links[edge]

    numbered = [Transport(edges, share * UNIT, count).numbered(number) for edges, share, count in flows]
    sim.transfer([sim.add_stream("collective")], [Phase(0.0, tuple(numbered))])
    return sim.run().end[0] / UNIT
