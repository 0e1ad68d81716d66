"""Links that collectives share: their names and capacities, and how long collectives take together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat

from simgpu.engine import Phase, Simulator
from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.ideal import CollectivePhase, Edge


def link_of(topology: Topology, edge: Edge, channels: Mapping[Edge, float]) -> tuple[object, float]:
    """A link by name, and its capacity, bytes/s. Lanes of the same GPU differ from one kind to another."""
    if edge in channels:
        return (edge, channels[edge]), channels[edge]
    return edge, topology.wires.edges[edge]["bandwidth"]


def ways_of(topology: Topology, phase: CollectivePhase) -> Iterator[tuple[tuple[object, ...], float]]:
    """The flows of a phase, each by the names of its links and its bytes."""
    for edges, size, count in phase.flows:
        way = tuple(link_of(topology, edge, phase.channels)[0] for edge in edges), size
        yield from repeat(way, round(count))


def capacities_of(topology: Topology, phase: Iterable[CollectivePhase]) -> dict[object, float]:
    """Capacities of all links that the groups of a phase use, bytes/s, by the links' names."""
    return dict(link_of(topology, e, one.channels) for one in phase for flow in one.flows for e in flow.edges)


def together(topology: Topology, all_phases: Sequence[Sequence[CollectivePhase]]) -> float:
    """Seconds until equal collectives that start together are all done."""
    sim = Simulator()
    numbers: dict[Edge, int] = {}

    def link(edge: Edge, channels: Mapping[Edge, float]) -> int:
        if edge not in numbers:
            numbers[edge] = sim.add_link(link_of(topology, edge, channels)[1])
        return numbers[edge]

    for i, phases in enumerate(all_phases):
        run = [
            Phase(p.latency, tuple(flow.numbered(partial(link, channels=p.channels)) for flow in p.flows))
            for p in phases
        ]
        sim.transfer([sim.add_stream(str(i))], run)
    return sim.run().makespan
