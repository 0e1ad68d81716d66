"""The graph of wires against networkx: the same vertices, edges and shortest ways."""

import random

import networkx as nx
import pytest

from simgpu import load_cluster
from simgpu.hardware.machine import topology_of
from simgpu.hardware.wiring import Wiring


@pytest.mark.parametrize("seed", range(40))
def test_the_shortest_way_is_that_of_networkx(seed: int) -> None:
    """Of several shortest ways too, and where there is none."""
    draw = random.Random(seed)
    wires = Wiring()
    names = [f"v{i}" for i in range(draw.randint(2, 14))]
    for name in names:
        wires.add_node(name)
    for _ in range(draw.randint(1, 3 * len(names))):
        a, b = draw.choice(names), draw.choice(names)
        wires.add_edge(a, b, kind=draw.choice(["pcie", "pcie", "other"]))
    graph = wires.networkx()
    assert list(graph) == list(wires)
    assert {(a, b): held for a, b, held in graph.edges(data=True)} == dict(wires.edges)
    some = nx.subgraph_view(graph, filter_edge=lambda a, b: graph.edges[a, b]["kind"] == "pcie")
    for a in names:
        for b in names:
            found = wires.way(a, b, lambda edge: edge["kind"] == "pcie")
            try:
                assert found == nx.bidirectional_shortest_path(some, a, b)
            except nx.NetworkXNoPath:
                assert found is None


def test_an_edge_that_is_taken_away_is_on_no_way() -> None:
    wires = Wiring()
    wires.add_edge("a", "b", rate=1)
    wires.add_edge("a", "b", rate=2)
    assert wires["a"] == {"b": {"rate": 2}} and wires.has_edge("a", "b")
    wires.remove_edge("a", "b")
    assert wires.way("a", "b", lambda _: True) is None and not wires.has_edge("a", "b")


def test_the_graph_of_networkx_is_that_which_simulations_read() -> None:
    topology = topology_of(load_cluster("dgx-h100"))
    assert dict(topology.graph.nodes(data=True)) == topology.wires.nodes
    assert {(a, b): held for a, b, held in topology.graph.edges(data=True)} == dict(topology.wires.edges)
