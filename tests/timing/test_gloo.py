"""Gloo: closed forms over one interface a node, and never faster than NCCL on the same links but for tiny messages."""

from math import ceil, log2

import numpy as np
import pytest

import simgpu
from simgpu.errors import InputError
from simgpu.hardware.machine import topology_of
from simgpu.settings import hardware_overrides
from simgpu.timing.collectives import KINDS, collective_phases, collective_time
from simgpu.timing.collectives.gloo import MESSAGE, PROCESS_RATE

SIZES = 2.0 ** np.arange(16, 31, 2)


@pytest.mark.parametrize("name", ["dgx-h100-ib", "p5-efa", "l40s-8x-ethernet", "gh200-4x-ib", "dgx-h100"])
@pytest.mark.parametrize("kind", KINDS)
def test_gloo_is_never_faster_than_nccl(name, kind):
    cluster = simgpu.load_cluster(name)
    gpus = min(cluster.gpu_count, 2 * cluster.gpus_per_node)
    nccl = collective_time(cluster, kind, gpus, SIZES).seconds
    assert (collective_time(cluster, kind, gpus, SIZES, library="gloo").seconds > nccl).all()


@pytest.mark.parametrize("n", [2, 5, 8])
def test_all_reduces_are_their_closed_forms_with_copies_before_and_after(n):
    cluster = simgpu.load_cluster("dgx-h100-ib")
    gpus = [8 * node for node in range(n)]  # one a node: copies share no link
    topology = topology_of(cluster, n)
    to_host = min(topology.wires.edges[edge]["bandwidth"] for edge in topology.to_host(0))
    fixed = 2 * cluster.kernel.launch_overhead.si + 2 * SIZES / to_host
    share = 2 * (n - 1) / n * SIZES / PROCESS_RATE
    ring = collective_time(cluster, "all_reduce", gpus, SIZES, library="gloo").seconds
    assert ring == pytest.approx(fixed + 2 * (n - 1) * MESSAGE + share, rel=1e-9)
    tree = collective_time(cluster, "broadcast", gpus, SIZES, library="gloo").seconds
    assert tree == pytest.approx(fixed + ceil(log2(n)) * (MESSAGE + SIZES / PROCESS_RATE), rel=1e-9)
    if n != 5:
        halving = collective_time(cluster, "all_reduce", gpus, SIZES, algorithm="halving_doubling", library="gloo")
        assert halving.seconds == pytest.approx(fixed + 2 * log2(n) * MESSAGE + share, rel=1e-9)


def test_an_interface_slower_than_a_process_is_the_limit_and_is_shared_by_all_ranks_of_a_node():
    slow = hardware_overrides(["cluster.fabric.link=ethernet-25g"])
    cluster = simgpu.Catalogue().cluster("l40s-8x-ethernet", slow)
    rate = topology_of(cluster, 2).bandwidth(topology_of(cluster, 2).route(0, 8))
    fixed, whole = (
        float(collective_time(cluster, "all_to_all", 16, size, library="gloo").seconds) for size in (1e6, 1e9)
    )
    copies = 2 * 4e9 / 24e9  # no more than this where some GPUs share a link to the host
    assert 0 < whole - fixed - (1e9 - 1e6) * 8 * 8 / 16 / rate < copies
    assert 8 * 8 / 16 / rate > 15 / 16 / PROCESS_RATE


def test_the_engine_runs_what_the_closed_form_says():
    cluster = simgpu.load_cluster("dgx-h100-ib")
    phases = collective_phases(topology_of(cluster, 2), "all_reduce", range(16), 1e9, library="gloo")
    sent = [sum(flow.size * flow.times for flow in phase.flows) for phase in phases]
    assert sent == pytest.approx([16e9, 2 * 15 * 1e9, 16e9], rel=1e-9)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"algorithm": "tree"}, "tree"),
        ({"algorithm": "halving_doublin"}, "halving_doubling"),
        ({"algorithm": "halving_doubling", "gpus": 6}, "2, 4, 8"),
        ({"protocol": "ll"}, "TCP only"),
        ({"kind": "all_to_all", "gpus": 512}, "512"),
    ],
)
def test_what_gloo_has_not_is_refused_in_one_line(how, words):
    cluster = simgpu.load_cluster("dgx-h100-ib")
    given = {"kind": "all_reduce", "gpus": 8, **how}
    with pytest.raises(InputError, match=words):
        collective_time(cluster, given.pop("kind"), given.pop("gpus"), [1e6], library="gloo", **given)
