"""Routes that collectives run over."""

from itertools import pairwise

import pytest
from collective_runs import CLUSTERS, every_topology, topology

# ---- routes ------------------------------------------------------------------------------------------------


def pairs(hardware):
    n = len(hardware.gpus)
    return [(a, b) for a in range(n) for b in range(n) if a != b]


@pytest.mark.parametrize("hardware", every_topology())
def test_the_edges_of_every_route_exist_join_up_and_use_no_third_gpu(hardware):
    graph = hardware.graph
    for a, b in pairs(hardware):
        route = hardware.route(a, b)
        assert (route.edges[0][0], route.edges[-1][1]) == (hardware.gpus[a], hardware.gpus[b])
        assert all(first[1] == second[0] for first, second in pairwise(route.edges))
        assert all(graph.has_edge(*edge) for edge in route.edges)
        assert len(set(route.edges)) == len(route.edges)  # the engine refuses a route that uses a link twice
        between = [edge[1] for edge in route.edges[:-1]]
        passed = sum(graph.nodes[vertex]["kind"] == "gpu" for vertex in between)
        assert passed <= hardware.crosses_over  # over the GPU beside it that is on the other's rail
        assert route.latency == pytest.approx(sum(graph.edges[edge]["latency"] for edge in route.edges), rel=1e-12)


@pytest.mark.parametrize("hardware", every_topology())
def test_a_pair_of_a_node_goes_through_host_memory_exactly_when_it_lacks_links_and_peer_to_peer(hardware):
    graph = hardware.graph
    driver = hardware.cluster.gpu.host_link.peer_to_peer.value
    reach = ("none", "switch", "root", "node").index(hardware.cluster.node.peer_to_peer_scope.value)
    for a, b in pairs(hardware):
        source, target = (graph.nodes[hardware.gpus[gpu]] for gpu in (a, b))
        if source["node"] != target["node"]:
            continue
        route = hardware.route(a, b)
        kinds = [graph.edges[edge]["kind"] for edge in route.edges]
        through_memory = any(graph.nodes[vertex]["kind"] == "memory" for edge in route.edges for vertex in edge)
        if "gpu-link" in kinds:
            assert set(kinds) == {"gpu-link"}
            assert route.via == "gpu-link"
            continue
        assert not graph.has_edge(hardware.gpus[a], hardware.gpus[b])
        assert "nvswitch" not in source
        (above_source,) = (v for v in graph[hardware.gpus[a]] if graph.nodes[v]["kind"] in ("pcie-switch", "root"))
        one_switch = (
            graph.has_edge(above_source, hardware.gpus[b]) and graph.nodes[above_source]["kind"] == "pcie-switch"
        )
        distance = 1 if one_switch else 2 if source["memory"] == target["memory"] else 3
        assert through_memory == (not driver or distance > reach)
        assert through_memory == (route.via == "host")
        if source["memory"] != target["memory"]:
            assert kinds.count("inter-socket") == 1
        else:
            assert "inter-socket" not in kinds


@pytest.mark.parametrize("hardware", [pytest.param(topology(name, 2), id=name) for name in CLUSTERS])
def test_a_pair_of_two_nodes_goes_through_the_nics_of_both_and_staged_where_there_is_no_rdma(hardware):
    cluster, graph = hardware.cluster, hardware.graph
    direct = cluster.node.nic.gpudirect_rdma.value and cluster.gpu.host_link.peer_to_peer.value
    for a, b in pairs(hardware):
        source, target = (graph.nodes[hardware.gpus[gpu]] for gpu in (a, b))
        if source["node"] == target["node"]:
            continue
        route = hardware.route(a, b)
        vertices = [route.edges[0][0], *(edge[1] for edge in route.edges)]
        nics = [graph.nodes[vertex]["node"] for vertex in vertices if graph.nodes[vertex]["kind"] == "nic"]
        assert nics == [source["node"], target["node"]]
        staged = [vertex for vertex in vertices if graph.nodes[vertex]["kind"] == "memory"]
        assert staged == ([] if direct else [source["memory"], target["memory"]])
        assert route.via == "network"


def test_peer_to_peer_between_sockets_skips_the_memory_when_the_platform_allows_it():
    staged = topology("l4-pcie-4x").route(0, 2)
    direct = topology("l4-pcie-4x", node__peer_to_peer_scope="node").route(0, 2)
    assert ("n0.root0", "n0.mem0") in staged.edges
    assert direct.edges == (("n0.gpu0", "n0.root0"), ("n0.root0", "n0.root1"), ("n0.root1", "n0.gpu2"))
    assert (staged.via, direct.via) == ("host", "pcie")


def test_a_driver_without_peer_to_peer_stages_even_below_one_switch():
    direct = topology("l40s-pcie-8x").route(0, 1)
    staged = topology("l40s-pcie-8x", gpu__host_link__peer_to_peer=False).route(0, 1)
    assert direct.edges == (("n0.gpu0", "n0.pcie0"), ("n0.pcie0", "n0.gpu1"))
    assert ("n0.root0", "n0.mem0") in staged.edges
