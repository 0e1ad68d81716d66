"""Collectives: closed forms where nothing is shared, contention where links are, and the routes they run over."""

from collections import defaultdict
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu.engine import Phase, Simulator
from simgpu.hardware.machine import topology_of
from simgpu.plan.program import Collective, Program, ProgramSegment
from simgpu.timing.collectives import ideal_phases
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import execute

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


# ---- closed forms ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("name", ["dgx-a100", "dgx-h100", "dgx-b200"])
def test_ring_all_reduce_behind_a_switch_is_the_alpha_beta_closed_form(name, n):
    node = topology(name)
    alpha, bandwidth = alpha_and_bandwidth(node, range(n))
    expected = LAUNCH + 2 * (n - 1) * alpha + 2 * (n - 1) / n * SIZE / bandwidth
    assert seconds(node, "all_reduce", range(n)) == pytest.approx(expected, rel=1e-9)


def test_the_port_of_a_dgx_h100_gpu_is_what_its_files_say():
    """18 NVLink 4 links of 25 GB/s raw, less packet overhead, two hops from GPU to GPU: the B and alpha used above."""
    node = topology("dgx-h100")
    link = node.cluster.links["nvlink-4"]
    alpha, bandwidth = alpha_and_bandwidth(node, range(8))
    assert bandwidth == pytest.approx(450e9 * link.payload_fraction.si)
    assert alpha == pytest.approx(2 * link.latency.si)


@pytest.mark.parametrize("n", [2, 4, 8])
@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
def test_gather_and_scatter_are_half_an_all_reduce(kind, n):
    node = topology("dgx-h100")
    alpha, bandwidth = alpha_and_bandwidth(node, range(n))
    expected = LAUNCH + (n - 1) * alpha + (n - 1) / n * SIZE / bandwidth
    assert seconds(node, kind, range(n)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_all_to_all_loads_each_port_with_all_but_a_gpus_own_part(n):
    node = topology("dgx-h100")
    alpha, bandwidth = alpha_and_bandwidth(node, range(n))
    expected = LAUNCH + alpha + (n - 1) / n * SIZE / bandwidth
    assert seconds(node, "all_to_all", range(n)) == pytest.approx(expected, rel=1e-9)
    (phase,) = ideal_phases(node, "all_to_all", range(n), SIZE, LAUNCH)
    carried = defaultdict(float)
    for edges, size, count in phase.flows:
        for edge in edges:
            carried[edge] += size * count
    assert len(carried) == 2 * n  # one port in and one out for each GPU
    assert all(size == pytest.approx((n - 1) / n * SIZE) for size in carried.values())


@pytest.mark.parametrize("n", [2, 4, 8])
def test_direct_all_reduce_on_a_full_mesh_uses_every_link_twice(n):
    node = topology("mi300x-8x")
    link = node.graph.edges["n0.gpu0", "n0.gpu1"]
    expected = LAUNCH + 2 * link["latency"] + 2 * (SIZE / n) / link["bandwidth"]
    assert seconds(node, "all_reduce", range(n)) == pytest.approx(expected, rel=1e-9)
    assert seconds(node, "all_reduce", range(n), algorithm="direct") == seconds(node, "all_reduce", range(n))
    gathered = LAUNCH + link["latency"] + (SIZE / n) / link["bandwidth"]
    assert seconds(node, "all_gather", range(n)) == pytest.approx(gathered, rel=1e-9)


def test_on_a_full_mesh_a_ring_leaves_most_links_idle():
    """Of seven links of a GPU the ring uses one, so its bytes take seven times as long."""
    node = topology("mi300x-8x")
    link = node.graph.edges["n0.gpu0", "n0.gpu1"]
    by_ring = seconds(node, "all_reduce", range(8), launch=0.0, algorithm="ring") - 14 * link["latency"]
    direct = seconds(node, "all_reduce", range(8), launch=0.0, algorithm="direct") - 2 * link["latency"]
    assert by_ring == pytest.approx(7 * direct, rel=1e-9)


@pytest.mark.parametrize("n", [2, 4, 8])
def test_behind_a_switch_direct_exchange_moves_as_many_bytes_as_the_ring_in_two_steps(n):
    node = topology("dgx-h100")
    alpha, bandwidth = alpha_and_bandwidth(node, range(n))
    expected = LAUNCH + 2 * alpha + 2 * (n - 1) / n * SIZE / bandwidth
    assert seconds(node, "all_reduce", range(n), algorithm="direct") == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["rtx-3090-nvlink-2x", "h100-pcie-nvlink-2x", "l4-pcie-2x", "rtx-4090-pcie-2x"])
def test_a_pair_is_the_closed_form_of_its_own_way(name):
    node = topology(name)
    alpha, bandwidth = alpha_and_bandwidth(node, range(2))
    expected = LAUNCH + 2 * alpha + SIZE / bandwidth
    assert seconds(node, "all_reduce", range(2)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("gpus", [(0, 1, 2, 3), (1, 2, 3, 0), (2, 3, 0, 1), (3, 0, 1, 2)])
def test_every_step_of_a_ring_waits_for_its_slowest_edge_wherever_it_starts(gpus):
    """Two bridged pairs: two edges of the ring are bridges, two go through host memory."""
    node = topology("a100-pcie-nvlink-4x")
    alpha, bandwidth = alpha_and_bandwidth(node, gpus)
    assert alpha == node.route(1, 2).latency > node.route(0, 1).latency
    expected = LAUNCH + 6 * alpha + 6 / 4 * SIZE / bandwidth
    assert seconds(node, "all_reduce", gpus) == pytest.approx(expected, rel=1e-9)


def test_the_links_of_a_full_mesh_share_the_port_of_the_gpu():
    """Seven links to seven neighbours are what the GPU file calls its port, no more."""
    node = topology("mi300x-8x")
    port = node.cluster.port(node.cluster.gpu.nvlink).bandwidth
    for gpu in node.gpus:
        links = [edge["bandwidth"] for _, _, edge in node.graph.out_edges(gpu, data=True) if edge["kind"] == "gpu-link"]
        assert len(links) == 7
        assert sum(links) == pytest.approx(port, rel=1e-12)


def test_a_ring_of_one_nic_across_nodes_is_the_closed_form_at_the_nic():
    cluster = topology("rtx-4090-8x-ethernet", 2)
    alpha, bandwidth = alpha_and_bandwidth(cluster, range(16))
    nic = cluster.graph.edges["n0.nic0", "leaf0"]["bandwidth"]
    expected = LAUNCH + 30 * alpha + 30 / 16 * SIZE / nic
    assert bandwidth == nic
    assert seconds(cluster, "all_reduce", range(16)) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
@pytest.mark.parametrize("algorithm", ["auto", "ring", "direct"])
def test_one_gpu_and_no_bytes_need_no_phases(kind, algorithm):
    for name in ("dgx-h100", "mi300x-8x", "l4-pcie-2x"):
        assert ideal_phases(topology(name), kind, [1], SIZE, LAUNCH, algorithm) == []
        assert ideal_phases(topology(name), kind, [0, 1], 0.0, LAUNCH, algorithm) == []


@repeatable
@given(
    st.sampled_from(
        [("dgx-h100", 1), ("mi300x-8x", 1), ("l40s-pcie-8x", 1), ("dgx-h100-ib", 2), ("l40s-8x-ethernet", 2)]
    ),
    st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]),
    st.sampled_from(["auto", "ring", "direct"]),
    st.sampled_from([2, 4, 8, 16]),
    st.floats(1.0, 1e12),
)
def test_every_gpu_sends_and_receives_its_share_whatever_the_algorithm(where, kind, algorithm, n, size):
    """(n-1)/n of the payload, twice for an all-reduce: no algorithm that is bandwidth-optimal moves more or less."""
    hardware = topology(*where)
    n = min(n, len(hardware.gpus))
    sent, received = defaultdict(float), defaultdict(float)
    for phase in ideal_phases(hardware, kind, range(n), size, LAUNCH, algorithm):
        for edges, part, count in phase.flows:
            sent[edges[0][0]] += part * count
            received[edges[-1][1]] += part * count
    share = (2 if kind == "all_reduce" else 1) * (n - 1) / n * size
    gpus = hardware.gpus[:n]  # between them, flows may be cut at switches
    assert {gpu: sent[gpu] for gpu in gpus} == pytest.approx(dict.fromkeys(gpus, share), rel=1e-9)
    assert {gpu: received[gpu] for gpu in gpus} == pytest.approx(dict.fromkeys(gpus, share), rel=1e-9)


@repeatable
@given(
    st.sampled_from(["dgx-h100", "mi300x-8x", "l40s-pcie-8x", "rtx-3090-nvlink-8x"]),
    st.sampled_from(["all_reduce", "all_gather", "reduce_scatter", "all_to_all"]),
    st.sampled_from([2, 4, 8]),
    st.floats(1.0, 1e11),
    st.floats(1.0, 10.0),
)
def test_more_bytes_never_take_less_time(name, kind, n, size, factor):
    node = topology(name)
    small, large = (seconds(node, kind, range(n), size * k) for k in (1.0, factor))
    assert LAUNCH < small <= large * (1 + 1e-12)
    assert large <= factor * small * (1 + 1e-12)


# ---- contention --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hardware", "gpus", "shared"),
    [
        pytest.param(
            topology("l4-pcie-4x", node__inter_socket__lanes=1),
            [(0, 2), (1, 3)],
            ("n0.root0", "n0.root1"),
            id="sockets",
        ),
        pytest.param(
            topology("l40s-pcie-8x", node__sockets__0__devices__0__switch__lanes=4),
            [(0, 2), (1, 3)],
            ("n0.pcie0", "n0.root0"),
            id="switch-uplink",
        ),
        pytest.param(topology("rtx-4090-8x-ethernet", 2), [(0, 8), (1, 9)], ("n0.nic0", "leaf0"), id="nic"),
        pytest.param(topology("dgx-h100"), [(0, 1), (0, 1)], ("n0.gpu0", "n0.nvswitch"), id="same-port"),
        pytest.param(
            topology("rtx-4090-8x-ethernet", 2), [(0, 8), (1, 9), (2, 10)], ("n0.nic0", "leaf0"), id="nic-thrice"
        ),
    ],
)
def test_rings_over_one_narrow_link_run_at_a_half_or_a_third_of_their_speed(hardware, gpus, shared):
    bandwidth = hardware.graph.edges[shared]["bandwidth"]
    for pair in gpus:
        assert hardware.bandwidth(hardware.route(*pair)) == bandwidth
        assert shared in hardware.route(*pair).edges
    latency = max(phase.latency for pair in gpus for phase in ring(hardware, pair))
    alone = [run_together(hardware, ring(hardware, pair))[0] - latency for pair in gpus]
    together = [end - latency for end in run_together(hardware, *(ring(hardware, pair) for pair in gpus))]
    assert alone == pytest.approx([SIZE / bandwidth] * len(gpus), rel=1e-9)
    assert together == pytest.approx([len(gpus) * seconds for seconds in alone], rel=1e-9)


def test_rings_that_share_a_link_wide_enough_for_both_do_not_slow_each_other_down():
    """Two GPUs at 27.1 GB/s fit through the 55.1 GB/s between the sockets; four do not."""
    node = topology("l4-pcie-8x")
    wide = node.graph.edges["n0.root0", "n0.root1"]["bandwidth"]
    narrow = node.graph.edges["n0.gpu0", "n0.root0"]["bandwidth"]
    assert 2 * narrow < wide < 4 * narrow
    rings = [ring(node, (gpu, gpu + 4)) for gpu in range(4)]
    latency = rings[0][0].latency
    assert run_together(node, *rings[:2]) == pytest.approx([latency + SIZE / narrow] * 2, rel=1e-9)
    assert run_together(node, *rings) == pytest.approx([latency + SIZE / (wide / 4)] * 4, rel=1e-9)


def test_rings_on_separate_gpus_behind_a_switch_do_not_slow_each_other_down():
    node = topology("dgx-h100")
    alone = run_together(node, ring(node, range(4)))[0]
    assert run_together(node, ring(node, range(4)), ring(node, range(4, 8))) == [alone, alone]


def test_a_ring_staged_through_host_memory_shares_it():
    """Four GPUs of a socket send at once; half of its DRAM bandwidth over four is less than their PCIe ports."""
    node = topology("l4-pcie-8x")
    alpha, port = alpha_and_bandwidth(node, range(8))
    dram = node.graph.edges["n0.root0", "n0.mem0"]["bandwidth"]
    assert dram / 4 < port
    expected = LAUNCH + 14 * alpha + 14 / 8 * SIZE / (dram / 4)
    assert seconds(node, "all_reduce", range(8)) == pytest.approx(expected, rel=1e-9)


def test_groups_of_a_plan_compete_when_they_run():
    """Data-parallel pairs (0, 2) and (1, 3) of tp 2 x dp 2 share the link between the sockets."""
    cluster = simgpu.load_cluster("l4-pcie-4x", CATALOGUE, node__inter_socket__lanes=1)
    hardware, kernels = topology_of(cluster), KernelModel(cluster)
    reduce = Collective("gradients", "all_reduce", "dp", SIZE)
    program = Program((ProgramSegment("gradients", (reduce,)),), 0)
    execution = execute(program, simgpu.Plan(tp=2, dp=2), cluster, kernels, protocol="ideal")
    launch = kernels.constants.launch_overhead.si
    alpha, bandwidth = alpha_and_bandwidth(hardware, (0, 2))
    assert bandwidth == hardware.graph.edges["n0.root0", "n0.root1"]["bandwidth"]
    assert execution.step == pytest.approx(launch + 2 * alpha + 2 * SIZE / bandwidth, rel=1e-9)


# ---- several nodes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["dgx-h100-ib", "dgx-a100-ib", "dgx-b200-ib", "dgx-h200-ib"])
def test_a_ring_over_two_nodes_runs_at_the_speed_of_all_their_nics_together(name):
    cluster = topology(name, 2)
    nics = cluster.cluster.node.nic_count
    nic = cluster.graph.edges["n0.nic0", "leaf0"]["bandwidth"]
    least = 30 / 16 * SIZE / (nics * nic)
    launch_and_steps = ring(cluster, range(16))[0].latency
    taken = run_together(cluster, ring(cluster, range(16)))[0] - launch_and_steps
    assert least * (1 - 1e-9) <= taken <= 1.25 * least
    one_nic = 30 / 16 * SIZE / nic
    assert taken < one_nic / (nics / 2)


@pytest.mark.parametrize("name", CLUSTERS)
def test_every_rail_carries_the_same_share_of_a_ring_over_all_gpus_of_two_nodes(name):
    cluster = topology(name, 2)
    n, nics = len(cluster.gpus), cluster.cluster.node.nic_count
    out, into = defaultdict(float), defaultdict(float)
    for phase in ring(cluster, range(n)):
        for edges, size, _ in phase.flows:
            for a, b in edges:
                if cluster.graph.edges[a, b]["kind"] == "network":
                    if ".nic" in a:
                        out[a] += size
                    if ".nic" in b:
                        into[b] += size
    each = {f"n{node}.nic{i}": 2 * (n - 1) / n * SIZE / nics for node in range(2) for i in range(nics)}
    assert out == pytest.approx(each, rel=1e-9)
    assert into == pytest.approx(each, rel=1e-9)


def test_the_rings_of_two_nodes_stay_on_their_rails():
    """In a rail-optimised fabric nothing of a ring over two nodes needs the spine."""
    cluster = topology("dgx-h100-ib", 2)
    crossed = {vertex for phase in ring(cluster, range(16)) for flow in phase.flows for e in flow.edges for vertex in e}
    assert "spine" in cluster.graph
    assert "spine" not in crossed


@pytest.mark.parametrize("name", CLUSTERS)
def test_each_ring_over_two_nodes_visits_every_gpu_once(name):
    cluster = topology(name, 2)
    n = len(cluster.gpus)
    (phase,) = ring(cluster, range(n))
    assert len(phase.flows) % n == 0
    for first in range(0, len(phase.flows), n):
        steps = [(flow.edges[0][0], flow.edges[-1][1]) for flow in phase.flows[first : first + n]]
        follows = dict(steps)
        at, visited = cluster.gpus[0], []
        for _ in range(n):
            visited.append(at)
            at = follows[at]
        assert at == cluster.gpus[0]
        assert sorted(visited) == sorted(cluster.gpus)


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
        assert all(graph.nodes[vertex]["kind"] != "gpu" for vertex in between)
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


# ---- through the front door --------------------------------------------------------------------------------


@cache
def cluster(name):
    return CATALOGUE.cluster(name)


matmuls = st.builds(
    lambda m, n, k, split: {"op": "matmul", "m": 2 * m, "n": 2 * n, "k": 2 * k, "split": split},
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.integers(1, 4096),
    st.sampled_from(["m", "n", "k", "none"]),
)
all_reduces = st.builds(lambda size: {"op": "all_reduce", "bytes": size}, st.floats(1.0, 1e10))


@repeatable
@given(
    st.sampled_from(NODES),
    st.sampled_from([1, 2]),
    matmuls,
    st.lists(st.one_of(matmuls, all_reduces), max_size=6),
    st.integers(1, 3),
)
def test_a_step_never_beats_the_datasheet_or_the_narrowest_link(name, tp, first, others, repeat):
    where, operators = cluster(name), [first, *others]
    tp = min(tp, where.gpu_count)
    result = simgpu.simulate(
        where, simgpu.OperatorList(operators=operators, repeat=repeat), plan=simgpu.Plan(tp=tp), dtype="fp16"
    )
    peak, memory = KernelModel(where).peak("fp16"), where.gpu.memory.bandwidth.si
    kernels = collectives = 0.0
    for op in operators:
        if op["op"] == "matmul":
            m, n, k = (op[axis] // (tp if op["split"] == axis else 1) for axis in "mnk")
            kernels += repeat * max(2 * m * n * k / peak, 2 * (m * k + k * n + m * n) / memory)
        elif tp > 1:
            narrowest = min(topology(name).bandwidth(topology(name).route(a, b)) for a, b in ((0, 1), (1, 0)))
            collectives += repeat * op["bytes"] * 2 * (tp - 1) / tp / narrowest
    # all of a list follows one another
    assert result.step_s >= (kernels + collectives) * (1 - 1e-9)
    assert result.compute_s >= kernels * (1 - 1e-9)
    assert result.communication_s >= collectives * (1 - 1e-9)
    assert result.exposed_communication_s == pytest.approx(result.communication_s, rel=1e-9)
    if tp == 1:
        assert result.communication_s == 0
        assert result.communication_bytes == 0
        assert result.step_s == pytest.approx(result.compute_s, rel=1e-9)


def test_a_list_of_collectives_alone_takes_the_time_of_the_collectives():
    where = cluster("dgx-h100")
    operators = [{"op": "all_reduce", "bytes": SIZE}, {"op": "all_gather", "bytes": SIZE}]
    result = simgpu.simulate(
        where, simgpu.OperatorList(operators=operators, repeat=2), plan=simgpu.Plan(tp=8), protocol="ideal"
    )
    launch = KernelModel(where).constants.launch_overhead.si
    each = [seconds(topology("dgx-h100"), kind, range(8), launch=launch) for kind in ("all_reduce", "all_gather")]
    assert result.step_s == pytest.approx(2 * sum(each), rel=1e-9)
    assert result.communication_bytes == 4 * SIZE


def test_a_list_of_collectives_alone_on_one_gpu_takes_no_time_or_is_refused():
    """With tp 1 nothing is left of it: an answer of zero seconds or an `InputError`, never a crash."""
    workload = simgpu.OperatorList(operators=[{"op": "all_reduce", "bytes": SIZE}])
    try:
        result = simgpu.simulate(cluster("dgx-h100"), workload)
    except simgpu.InputError:
        return
    assert result.step_s == 0
