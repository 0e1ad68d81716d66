"""Collectives: closed forms where nothing is shared, and rings over several nodes."""

from collections import defaultdict
from functools import cache

import pytest
from collective_runs import (
    CATALOGUE,
    CLUSTERS,
    LAUNCH,
    NODES,
    SIZE,
    alpha_and_bandwidth,
    repeatable,
    ring,
    run_together,
    seconds,
    topology,
)
from hypothesis import given
from hypothesis import strategies as st

import simgpu
from simgpu.timing.collectives import ideal_phases
from simgpu.timing.kernels import KernelModel

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
