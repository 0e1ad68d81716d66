"""Collectives at the same time: they slow each other down where they share links, and nowhere else."""

import pytest
from collective_runs import CATALOGUE, LAUNCH, SIZE, alpha_and_bandwidth, ring, run_together, seconds, topology

import simgpu
from simgpu.hardware.machine import topology_of
from simgpu.plan.program import Collective, Program, ProgramSegment
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import execute

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
