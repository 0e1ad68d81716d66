"""What tests of collectives share: topologies of the catalogue, and runs of collectives on them."""

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import settings

import simgpu
from simgpu.engine import Phase, Simulator
from simgpu.hardware.machine import topology_of
from simgpu.timing.collectives import ideal_phases

repeatable = settings(derandomize=True, deadline=None, max_examples=150)

LAUNCH = 7e-6
SIZE = 256e6
CATALOGUE = simgpu.Catalogue()
NODES = CATALOGUE.names("nodes")
CLUSTERS = CATALOGUE.names("clusters")


@cache
def topology(name, nodes=1, **parameters):
    return topology_of(simgpu.load_cluster(name, CATALOGUE, **parameters), nodes)


def every_topology():
    """All nodes of the catalogue, and two nodes of each cluster."""
    return [
        pytest.param(topology(name, nodes), id=name) for nodes, names in ((1, NODES), (2, CLUSTERS)) for name in names
    ]


def run_together(hardware, *collectives):
    """Ends of collectives (lists of phases) that start together, each in a stream of its own."""
    sim = Simulator()
    links = {edge: sim.add_link(hardware.graph.edges[edge]["bandwidth"]) for edge in hardware.graph.edges}
    for number, phases in enumerate(collectives):
        in_numbers = [
            Phase(phase.latency, tuple(flow.numbered(links.__getitem__) for flow in phase.flows)) for phase in phases
        ]
        sim.transfer([sim.add_stream(f"collective {number}")], in_numbers)
    return sim.run().end


def seconds(hardware, kind, gpus, size=SIZE, launch=LAUNCH, algorithm="auto"):
    return run_together(hardware, ideal_phases(hardware, kind, gpus, size, launch, algorithm))[0]


def ring(hardware, gpus, size=SIZE):
    """An all-reduce without a launch."""
    return ideal_phases(hardware, "all_reduce", gpus, size, 0.0, "ring")


def alpha_and_bandwidth(hardware, gpus):
    """Slowest latency and narrowest link of the ways between neighbours, read off the graph."""
    edges = [hardware.route(a, b).edges for a, b in pairwise([*gpus, gpus[0]])]
    alpha = max(sum(hardware.graph.edges[edge]["latency"] for edge in way) for way in edges)
    return alpha, min(hardware.graph.edges[edge]["bandwidth"] for way in edges for edge in way)
