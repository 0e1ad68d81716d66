"""What a network between nodes adds to collectives: posts, steps of rings, chunks, the plugin, and its table."""

import numpy as np
import pytest

import simgpu
from simgpu.hardware.machine import topology_of
from simgpu.lab.machines import network_cluster
from simgpu.lab.validation.sources.multinode_nccl import gigabits
from simgpu.timing.collectives import between, collective_time, model_of

CATALOGUE = simgpu.Catalogue()
SIZES = 2.0 ** np.arange(4, 35)


def loaded(name="dgx-h100-ib", **changed):
    return simgpu.load_cluster(name, CATALOGUE, **changed)


def test_a_post_is_paid_for_every_hop_of_the_tree_between_nodes():
    """Four nodes: two levels up and two down."""
    ways = {"algorithm": "tree", "protocol": "ll"}
    slow, fast = (loaded(**{"link__infiniband-ndr__post_latency": f"{post} us"}) for post in (13.3, 3.3))
    times = [collective_time(where, "all_reduce", 32, 8.0, **ways).seconds for where in (slow, fast)]
    assert float(times[0] - times[1]) == pytest.approx(4 * 10e-6, rel=1e-3)


def test_all_reduces_of_some_bytes_take_what_was_measured_over_four_networks():
    """IB NDR 4 x 8 H100 34.8 us, RoCE 2 x 8 H200 43.8, EFA v2 2 x 8 H100 66, IB HDR 2 x 1 A100 19.4 (nccl-tests)."""
    for name, gpus, measured in [
        ("dgx-h100-ib", 32, 34.8e-6),
        ("dgx-h200-ethernet", 16, 43.8e-6),
        ("p5-efa", 16, 66e-6),
        ("dgx-a100-ib", [0, 8], 19.4e-6),
    ]:
        assert float(collective_time(loaded(name), "all_reduce", gpus, 64.0).seconds) == pytest.approx(
            measured, rel=0.2
        )


@pytest.mark.parametrize("kind", ["all_gather", "reduce_scatter"])
def test_rings_keep_the_pace_of_the_proxies_in_nodes_too(kind):
    slow = loaded(**{"link__infiniband-ndr__step_latency": "20 us"})
    model = model_of(topology_of(slow, 4), kind, range(32))
    assert float(model.lead(("ring", "ll"), 8.0)) > 28 * 20e-6


@pytest.mark.parametrize("name", ["dgx-h100-ib", "dgx-a100-ib", "hgx-a100-4x-slingshot", "p5-efa", "gb200-nvl72-ib"])
@pytest.mark.parametrize(
    ("algorithm", "protocol"), [("tree", "ll"), ("tree", "simple"), ("ring", "simple"), ("nvls", "simple")]
)
def test_more_bytes_never_take_less_time_between_nodes(name, algorithm, protocol):
    where = loaded(name)
    try:
        times = collective_time(
            where, "all_reduce", 4 * where.gpus_per_node, SIZES, algorithm=algorithm, protocol=protocol
        )
    except simgpu.InputError:
        pytest.skip("not on these GPUs")
    assert (np.diff(times.seconds) >= 0).all()


def test_posts_queue_up_to_nearly_twice_their_time():
    waits = between.queued(SIZES)
    assert waits[0] == pytest.approx(1, abs=0.01) and waits[-1] == pytest.approx(1 + between.QUEUED, rel=1e-3)
    assert (np.diff(waits) >= 0).all()
    assert (between.queued(SIZES, ranks=64) <= waits).all()


@pytest.mark.parametrize("protocol", ["ll", "ll128", "simple"])
def test_chunks_are_no_more_than_the_payload_and_grow_with_it(protocol):
    flying = between.in_flight(protocol, SIZES, 16.0, 4, 8.0)
    assert (flying <= SIZES).all() and (np.diff(flying) >= 0).all()


def test_nccl_goes_by_the_latency_that_the_plugin_reports():
    """With the 75 us of EFA's plugin rings and Simple look longer, so that trees with LL128 last to larger messages."""
    sizes = 2.0 ** np.arange(10, 30)
    told = collective_time(loaded("p5-efa"), "all_reduce", 16, sizes)
    untold = collective_time(loaded("p5-efa", **{"link__efa-100g__plugin_latency": "0 us"}), "all_reduce", 16, sizes)
    assert (told.protocol == "simple").sum() < (untold.protocol == "simple").sum()


def test_ll128_needs_a_way_to_the_adapter_without_a_host_bridge():
    """NCCL's PATH_PXB: adapters on the root ports of a CPU are PATH_PHB; Grace's bridge is none of these."""
    for name, uses in [("dgx-h100-ib", True), ("hgx-a100-4x-slingshot", False), ("gb200-nvl72-ib", True)]:
        where = loaded(name)
        model = model_of(topology_of(where, 2), "all_gather", range(2 * where.gpus_per_node))
        assert (("ring", "ll128") in model.allowed()) is uses, name


def test_collectives_between_nodes_have_residuals_of_their_own():
    chosen = model_of(topology_of(loaded(), 2), "all_reduce", range(16)).chosen(1e6)
    assert (chosen.library, chosen.measured_as) == ("nccl", "nccl between nodes")
    assert model_of(topology_of(loaded(), 1), "all_reduce", range(8)).chosen(1e6).measured_as == "nccl"


def test_64_gpus_of_a_rack_of_72():
    half = loaded("gb200-nvl72-ib", node__sockets__0__count=32)
    assert (half.gpus_per_node, half.node.nic_count) == (64, 64)


@pytest.mark.parametrize(
    ("gpu", "per_node", "words", "rate", "link"),
    [
        ("h200-sxm", 8, "RoCE 400G BlueField-3", 400e9, "ethernet-400g"),
        ("h100-sxm", 8, "IB NDR ConnectX-7", 400e9, "infiniband-ndr"),
        ("h100-sxm", 8, "EFA v2 100G", 400e9, "efa-100g"),
        ("a100-sxm-40gb", 4, "Slingshot 11 (dragonfly)", 50e9, "slingshot-11"),
    ],
)
def test_a_measured_network_becomes_a_cluster_on_its_links(gpu, per_node, words, rate, link):
    cluster = network_cluster(CATALOGUE, gpu, 2, per_node, words, rate)
    assert cluster.node.nic.port.link == link
    port = cluster.port(cluster.node.nic.port)
    payload = cluster.links[link].payload_fraction.si
    assert port.bandwidth * cluster.node.nic_count == pytest.approx(rate * payload, rel=1e-9)


@pytest.mark.parametrize(
    ("nic", "expected"),
    [("ConnectX-7 NDR", 400), ("EFA v2 100G", 100), ("16 x 200G ConnectX-7", 200), ("", 400), ("HDR", 200)],
)
def test_rates_of_adapters_by_name(nic, expected):
    assert gigabits(nic) == expected
