"""The model of NCCL: what it chooses, closed form against engine, bounds of links, and what measurements say."""

import csv
import os
import statistics
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu.engine import Phase, Simulator
from simgpu.hardware.machine import topology_of
from simgpu.timing.collectives import (
    ALGORITHMS,
    KINDS,
    CollectiveModel,
    bus_factor,
    collective_phases,
    collective_time,
)
from simgpu.timing.collectives.schedules import double_tree, tree

repeatable = settings(derandomize=True, deadline=None, max_examples=120)
FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[3] / "shared/measurements"))
NODES = ["dgx-a100", "dgx-h100", "dgx-b200", "mi300x-8x", "l40s-pcie-8x", "l4-pcie-4x", "rtx-3090-nvlink-8x"]
SIZES = 2.0 ** np.arange(3, 34)


@cache
def cluster(name, **parameters):
    return simgpu.load_cluster(name, **parameters)


def engine_time(where, *groups):
    """Ends of collectives that start together, each (kind, gpus, size, algorithm, protocol)."""
    nodes = max(max(group[1]) for group in groups) // where.gpus_per_node + 1
    topology = topology_of(where, nodes)
    sim, links = Simulator(), {}
    for number, (kind, gpus, size, algorithm, protocol) in enumerate(groups):
        phases = []
        for phase in collective_phases(topology, kind, list(gpus), size, algorithm, protocol):
            for flow in phase.flows:
                for edge in flow.edges:
                    if edge not in links:
                        own = edge in phase.channels
                        rate = phase.channels[edge] if own else topology.graph.edges[edge]["bandwidth"]
                        links[edge] = sim.add_link(rate)
            flows = tuple(flow.numbered(links.__getitem__) for flow in phase.flows)
            phases.append(Phase(phase.latency, flows))
        sim.transfer([sim.add_stream(str(number))], phases)
    return sim.run().end


# ---- closed form and engine --------------------------------------------------------------------------------


@repeatable
@given(
    st.sampled_from([*NODES, "dgx-h100-ib", "rtx-4090-8x-ethernet", "l40s-8x-ethernet"]),
    st.sampled_from(KINDS),
    st.sampled_from([2, 4, 8, 16]),
    st.sampled_from(["auto", "ring", "tree"]),
    st.sampled_from(["auto", "ll", "simple", "ideal"]),
    st.floats(1.0, 1e11),
)
def test_the_engine_takes_what_the_closed_form_says(name, kind, n, algorithm, protocol, size):
    where = cluster(name)
    n = min(n, where.gpu_count)
    if kind in ("all_to_all", "send_recv") or (algorithm == "tree" and kind != "all_reduce"):
        algorithm = "auto"
    expected = collective_time(where, kind, n, size, algorithm=algorithm, protocol=protocol).seconds
    assert engine_time(where, (kind, range(n), size, algorithm, protocol))[0] == pytest.approx(expected, rel=1e-9)


def test_sizes_at_once_are_sizes_one_by_one():
    where = cluster("dgx-h100")
    for kind in KINDS:
        at_once = collective_time(where, kind, 8, SIZES).seconds
        assert at_once.tolist() == [float(collective_time(where, kind, 8, size).seconds) for size in SIZES]


def test_a_simulated_step_takes_the_time_of_its_collectives():
    where = cluster("dgx-a100")
    operators = [{"op": "all_reduce", "bytes": 1e6}, {"op": "all_gather", "bytes": 1e8}]
    result = simgpu.simulate(where, simgpu.OperatorList(operators=operators), plan=simgpu.Plan(tp=4))
    each = [collective_time(where, kind, 4, size).seconds for kind, size in (("all_reduce", 1e6), ("all_gather", 1e8))]
    assert result.step_s == pytest.approx(sum(each), rel=1e-9)


# ---- laws --------------------------------------------------------------------------------------------------


@repeatable
@given(
    st.sampled_from([*NODES, "dgx-h100-ib"]),
    st.sampled_from(KINDS),
    st.sampled_from([2, 4, 8]),
    st.sampled_from(["ring", "nvls", "tree", "direct"]),
    st.sampled_from(["ll", "ll128", "simple"]),
    st.floats(1.0, 1e11),
    st.floats(1.0, 100.0),
)
def test_more_bytes_take_no_less_time_with_one_algorithm_and_protocol(name, kind, n, algorithm, protocol, size, factor):
    try:
        small, large = collective_time(cluster(name), kind, min(n, cluster(name).gpu_count), [size, size * factor],
                                       algorithm=algorithm, protocol=protocol).seconds  # fmt: skip
    except simgpu.InputError:
        return
    assert 0 < small <= large * (1 + 1e-12)
    assert large <= factor * small * (1 + 1e-9)


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_ring_or_exchange_is_faster_than_the_port_of_a_gpu(name, kind):
    where = cluster(name)
    n = min(8, where.gpu_count)
    graph = topology_of(where, 1).graph
    for algorithm in ("ring", "direct", "auto"):
        try:
            times = collective_time(where, kind, n, SIZES, algorithm=algorithm, dtype="int8")
        except simgpu.InputError:
            continue
        port = sum(edge["bandwidth"] for _, _, edge in graph.out_edges("n0.gpu0", data=True))
        assert times.busbw.max() <= port * (1 + 1e-12)


@pytest.mark.parametrize(("name", "efficiency"), [("dgx-h100", 0.85), ("dgx-b200", 0.74)])
@pytest.mark.parametrize("n", [4, 8])
def test_in_switch_reduction_carries_one_and_a_part_of_the_payload_in_each_direction(name, efficiency, n):
    where = cluster(name)
    port = topology_of(where, 1).graph.edges["n0.gpu0", "n0.nvswitch"]["bandwidth"]
    times = collective_time(where, "all_reduce", n, SIZES, algorithm="nvls")
    assert times.algbw.max() < efficiency * port / (1 + 1 / n)
    assert times.algbw.max() > 0.85 * efficiency * port / (1 + 1 / n)


def test_integers_are_not_reduced_in_the_switch():
    assert collective_time(cluster("dgx-h100"), "all_reduce", 8, 1e9, dtype="bf16").algorithm == "nvls"
    assert collective_time(cluster("dgx-h100"), "all_reduce", 8, 1e9, dtype="int8").algorithm == "ring"
    with pytest.raises(simgpu.InputError):
        collective_time(cluster("dgx-h100"), "all_reduce", 8, 1e9, dtype="int8", algorithm="nvls")


def test_one_gpu_and_no_bytes_take_no_time():
    for kind in KINDS:
        assert collective_time(cluster("dgx-h100"), kind, 1, SIZES).seconds.max() == 0
        assert collective_time(cluster("dgx-h100"), kind, 8, 0.0).seconds == 0


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 13, 16])
def test_both_trees_reach_every_node_and_no_inner_node_is_inner_twice(n):
    inner = []
    for parents in double_tree(n):
        roots = set(range(n)) - set(parents)
        assert len(roots) == 1
        for node in parents:
            seen = set()
            while node in parents:
                assert node not in seen
                seen.add(node)
                node = parents[node]
            assert node in roots
        children = [sum(parent == node for parent in parents.values()) for node in range(n)]
        assert max(children) <= 2
        inner.append({node for node in range(n) if children[node]} - roots)
    if n % 2 == 0:
        assert not inner[0] & inner[1]


def test_trees_move_the_payload_up_and_down():
    where = cluster("dgx-h100-ib")
    plan = tree(topology_of(where, 4), list(range(32)))
    received = sum(flow.share * flow.times for flow in plan.flows)
    assert received == pytest.approx(2 * 31)  # every GPU but the root sends the payload once and receives it once


# ---- contention --------------------------------------------------------------------------------------------


def test_pairs_below_one_narrow_uplink_slow_each_other_down():
    where = cluster("l40s-pcie-8x", node__sockets__0__devices__0__switch__lanes=4)
    one = ("all_reduce", (0, 2), 1e9, "ring", "simple")
    other = ("all_reduce", (1, 3), 1e9, "ring", "simple")
    alone = engine_time(where, one)[0]
    assert engine_time(where, one, other)[0] == pytest.approx(2 * alone, rel=0.02)


def test_gpus_of_one_socket_share_what_host_memory_gives():
    """Eight L4 stage through two memories; four of a socket get less each than two do."""
    narrow = cluster("l4-pcie-8x", node__sockets__0__memory_bandwidth="60 GB/s")
    rates = [float(collective_time(narrow, "all_gather", n, 1e9).busbw) for n in (2, 4)]
    assert rates[1] < 0.8 * rates[0]


def test_staging_through_host_memory_costs_more_than_peer_to_peer():
    direct = cluster("l4-pcie-2x", node__peer_to_peer_scope="node")
    staged = cluster("l4-pcie-2x", gpu__host_link__peer_to_peer=False)
    assert (collective_time(direct, "all_reduce", 2, SIZES).seconds
            <= collective_time(staged, "all_reduce", 2, SIZES).seconds).all()  # fmt: skip


# ---- choices -----------------------------------------------------------------------------------------------


def test_protocols_follow_one_another_as_messages_grow():
    times = collective_time(cluster("dgx-a100"), "all_reduce", 8, SIZES)
    order = list(dict.fromkeys(times.protocol.tolist()))
    assert order == ["ll", "ll128", "simple"]
    pcie = collective_time(cluster("l40s-pcie-8x"), "all_reduce", 8, SIZES)
    assert list(dict.fromkeys(pcie.protocol.tolist())) == ["ll", "simple"], "LL128 needs NVLink"
    assert (np.diff(pcie.channels) >= 0).all() or pcie.channels.max() <= 4


def test_one_h100_node_reduces_in_the_switch_from_five_gpus_on():
    """As measured with 8 GB on eight H200: rings with four GPUs, NVLS with five to eight."""
    for n in range(4, 9):
        chosen = collective_time(cluster("dgx-h200"), "all_reduce", n, 8 * 2.0**30).algorithm
        assert chosen == ("ring" if n == 4 else "nvls")


def test_many_nodes_take_trees_for_small_messages_and_rings_for_their_gathers():
    where = cluster("dgx-a100-ib")
    assert collective_time(where, "all_reduce", 128, 1e5).algorithm == "tree"
    assert collective_time(where, "all_gather", 128, 1e5).algorithm == "ring"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_forced_algorithm_is_taken_or_refused(algorithm):
    where, gpus = cluster("dgx-h100"), 8
    if algorithm == "collnet":  # between nodes, where switches reduce
        where, gpus = simgpu.load_cluster("dgx-h100-ib", cluster__fabric__sharp=True), 16
    try:
        times = collective_time(where, "all_reduce", gpus, SIZES, algorithm=algorithm)
    except simgpu.InputError:
        pytest.fail(f"{algorithm} must be possible on a DGX H100")
    if algorithm != "auto":
        assert set(times.algorithm.tolist()) == {algorithm}


def test_what_does_not_exist_is_refused():
    where = cluster("l40s-pcie-8x")
    for bad in ({"algorithm": "nvls"}, {"protocol": "ll128"}, {"algorithm": "star"}, {"library": "mpi"}):
        with pytest.raises(simgpu.InputError):
            collective_time(where, "all_reduce", 8, 1e6, **bad)
    with pytest.raises(simgpu.InputError, match="9 GPUs"):
        collective_time(where, "all_reduce", 9, 1e6)


def test_kernels_of_serving_frameworks_beat_nccl_where_messages_are_small():
    for name in ("dgx-a100", "dgx-h100"):
        small = 2.0 ** np.arange(8, 20)
        own = collective_time(cluster(name), "all_reduce", 8, small, library="custom").seconds
        assert (own < collective_time(cluster(name), "all_reduce", 8, small).seconds).all()
        large = collective_time(cluster(name), "all_reduce", 8, 1e9, library="custom")
        assert large.seconds == collective_time(cluster(name), "all_reduce", 8, 1e9).seconds


# ---- measurements ------------------------------------------------------------------------------------------

measured = pytest.mark.skipif(not (FOLDER / "aic_nccl.csv").is_file(), reason=f"no measurements in {FOLDER}")


@measured
@pytest.mark.parametrize(
    ("gpu", "name", "limit"),
    [("a100-sxm-80gb", "dgx-a100", 0.07), ("h100-sxm", "dgx-h100", 0.07), ("l40s", "l40s-pcie-2x", 0.11)],
)
def test_mean_error_over_all_sizes_and_kinds(gpu, name, limit):
    errors = []
    with (FOLDER / "aic_nccl.csv").open() as rows:
        for row in csv.DictReader(rows):
            if row["gpu"] == gpu and not row["suspicious"]:
                kind = {"alltoall": "all_to_all"}.get(row["collective"], row["collective"])
                dtype = "int8" if row["dtype"] == "int8" else "fp16"
                guess = collective_time(cluster(name), kind, int(row["num_gpus"]), float(row["message_bytes"]), dtype)
                errors.append(abs(float(guess.seconds) / float(row["latency_s"]) - 1))
    assert len(errors) > 100
    assert statistics.mean(errors) < limit


@measured
def test_gpus_of_which_no_collective_was_fitted():
    """H200 and B200, 8 GB over 4 to 8 GPUs: the constants of H100 and NCCL's own figures for Blackwell."""
    errors = []
    with (FOLDER / "mlengineering_collectives.csv").open() as rows:
        for row in csv.DictReader(rows):
            name = {"h200-sxm": "dgx-h200", "b200-sxm": "dgx-b200"}.get(row["gpu"])
            if name and row["num_nodes"] == "1" and row["nccl_algo"]:
                algorithm = row["nccl_algo"].lower()
                n, size = int(row["num_gpus"]), float(row["message_bytes"])
                guess = collective_time(cluster(name), row["collective"], n, size, algorithm=algorithm)
                errors.append(abs(float(guess.seconds) / float(row["latency_s"]) - 1))
    assert len(errors) > 20
    assert statistics.mean(errors) < 0.06
    assert max(errors) < 0.12


def test_bus_factors_are_those_of_nccl_tests():
    assert [bus_factor(kind, 8) for kind in KINDS] == [14 / 8, 7 / 8, 7 / 8, 7 / 8, 1, 1, 1]


# ---- constants that a time hangs on ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind", "algorithm", "protocol"),
    [
        ("dgx-h100", "all_reduce", "ring", "ll"),
        ("dgx-h100", "all_reduce", "tree", "ll128"),
        ("dgx-h100", "all_gather", "ring", "simple"),
        ("dgx-h100", "all_reduce", "nvls", "simple"),
        ("dgx-h100", "all_to_all", "direct", "simple"),
        ("dgx-h100", "send_recv", "direct", "simple"),
        ("mi300x-8x", "all_reduce", "direct", "simple"),
        ("l40s-pcie-8x", "reduce_scatter", "ring", "simple"),
        ("l40s-pcie-8x", "all_to_all", "direct", "simple"),
    ],
)
def test_the_constants_named_are_those_that_the_time_hangs_on(name, kind, algorithm, protocol):
    """A constant that is not named can be anything; those of the protocol move the time at some size."""
    topology = topology_of(cluster(name), 1)

    def seconds(**changed):
        model = CollectiveModel(topology, kind, range(8))
        model.constants = model.constants | changed
        return model.times(SIZES, algorithm, protocol).seconds

    model = CollectiveModel(topology, kind, range(8))
    expected, used = seconds(), set(model.used((algorithm, protocol)))
    assert used <= set(model.constants)
    moves = {
        one
        for one, value in model.constants.items()
        for factor in (0.3, 3)
        if not np.allclose(seconds(**{one: value * factor}), expected, rtol=1e-9, atol=0)
    }
    assert moves <= used
    choosing = {one for one in used if one.startswith("planned_") or "channel" in one or one == "nvls_speed"}
    assert used - choosing - {"nvls_efficiency"} <= moves
