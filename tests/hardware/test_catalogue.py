"""The catalogue that comes with simgpu: complete, consistent, and sourced."""

import itertools

import pytest

from simgpu import Catalogue
from simgpu.catalog import KINDS
from simgpu.hardware.figure import figures
from simgpu.hardware.machine import topology_of
from simgpu.reading import built_in_folder

CATALOGUE = Catalogue()

GPUS = [
    "h100-sxm", "h100-pcie", "h200-sxm", "a100-sxm-80gb", "a100-pcie-80gb", "rtx-4090", "rtx-3090", "rtx-5090", "l4",
    "l40s", "t4", "a40", "v100-sxm-32gb", "b200-sxm", "gb200", "rtx-pro-6000-server", "mi300x",
]  # fmt: skip
NODES = [
    "dgx-h100", "dgx-a100", "dgx-h200", "dgx-b200", "rtx-3090-nvlink-2x", "a100-pcie-nvlink-2x", "gb200-nvl72",
    *(f"{gpu}-pcie-{n}x" for gpu in ("rtx-4090", "l4", "l40s") for n in (2, 4, 8)),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in CATALOGUE.names(kind)])
def test_every_file_loads_and_every_figure_has_a_source(kind, name):
    spec = CATALOGUE.spec(kind, name)
    assert spec.title
    for path, figure in figures(spec):
        assert len(spec.sources[figure.source]) > 10, path


@pytest.mark.parametrize("name", GPUS)
def test_the_gpus_people_ask_for_are_there(name):
    assert CATALOGUE.find("gpus", name)


@pytest.mark.parametrize("name", NODES)
def test_nodes_have_the_gpus_their_names_say(name):
    cluster = CATALOGUE.cluster(name)
    wanted = {"gb200-nvl72": 72}.get(name, int(name.split("-")[-1][:-1]) if name.endswith("x") else 8)
    assert cluster.gpus_per_node == wanted
    assert len(topology_of(cluster).gpus) == wanted


@pytest.mark.parametrize("name", CATALOGUE.names("gpus"))
def test_peaks_agree_with_each_other(name):
    peaks = {(p.dtype, p.accumulate, p.engine): p.si for p in CATALOGUE.spec("gpus", name).peak}
    assert len(peaks) == len(CATALOGUE.spec("gpus", name).peak), "a peak is given twice"
    if ("bf16", "fp32", "tensor") in peaks and name not in ("mi100", "gaudi3"):  # one has half, the other four times
        assert peaks["bf16", "fp32", "tensor"] == pytest.approx(peaks["fp16", "fp32", "tensor"], rel=0.01)
    narrower = [("tf32", "fp32"), ("bf16", "fp32"), ("fp8", "fp32")]
    known = [peaks[d, a, "tensor"] for d, a in narrower if (d, a, "tensor") in peaks]
    assert known == sorted(known), "a narrower dtype is slower"
    for (dtype, accumulate, engine), value in peaks.items():
        wide = peaks.get((dtype, "fp32", engine)) if engine == "tensor" else None
        assert accumulate != "fp16" or wide is None or wide <= value, "wider accumulation is faster"


def test_definitions_of_the_design_hold():
    h100 = CATALOGUE.spec("gpus", "h100-sxm")
    assert h100.memory.capacity.si == 85_899_345_920
    cluster = CATALOGUE.cluster("dgx-h100")
    link = cluster.links["nvlink-4"]
    assert cluster.gpu.nvlink.lanes.si * link.lane_bandwidth.si == 450e9, "900 GB/s on the datasheet is both directions"
    assert CATALOGUE.cluster("dgx-h100-ib").links["infiniband-ndr"].lane_bandwidth.si == 50e9
    bridge = CATALOGUE.cluster("rtx-3090-nvlink-2x")
    assert bridge.gpu.nvlink.lanes.si * bridge.links["nvlink-3-ga102"].lane_bandwidth.si == pytest.approx(56.25e9)


@pytest.mark.parametrize("name", CATALOGUE.names("gpus"))
def test_constants_inherit_down_to_generic(name):
    constants = CATALOGUE.kernel_constants(CATALOGUE.spec("gpus", name))
    assert {("compute_fraction",), ("memory_fraction",), ("launch_overhead",)} <= set(constants.given)
    assert 0 < constants.compute_fraction.si <= 1
    assert all(len(one.source) > 10 for one in constants.given.values())


@pytest.mark.parametrize("name", CATALOGUE.names("models"))
def test_parameter_counts_are_the_published_ones(name):
    published = CATALOGUE.model_source(name).published_parameters
    near = {"grok-1": 0.006}.get(name, 0.005)  # its 314B leave out the table of tokens
    assert CATALOGUE.model(name).parameters == pytest.approx(published, rel=near)


def test_every_model_says_where_it_was_read():
    described = {name for name in CATALOGUE.names("models") if CATALOGUE.model_source(name).source}
    assert described == set(CATALOGUE.names("models"))
    assert len(described) >= 18


def test_the_builtin_folder_is_the_checkout_here():
    assert (built_in_folder() / "hardware" / "gpus").is_dir()


def test_clusters_join_their_nodes():
    for name in CATALOGUE.names("clusters"):
        topology = topology_of(CATALOGUE.cluster(name), 2)
        per_node = CATALOGUE.cluster(name).gpus_per_node
        for a, b in itertools.product((0, per_node - 1), (per_node, 2 * per_node - 1)):
            route = topology.route(a, b)
            assert route.via == "network"
            assert any("leaf" in end for _, end in route.edges)


def test_a_rail_needs_no_spine_and_another_rail_does():
    topology = topology_of(CATALOGUE.cluster("dgx-h100-ib"), 2)
    assert not any("spine" in end for _, end in topology.route(0, 8).edges)
    assert any("spine" in end for _, end in topology.route(0, 9).edges)


def test_plain_ethernet_stages_consumer_cards_through_host_memory_at_both_ends():
    topology = topology_of(CATALOGUE.cluster("rtx-4090-8x-ethernet"), 2)
    route = topology.route(0, 8)
    assert {end for _, end in route.edges if ".mem" in end} == {"n0.mem0", "n1.mem0"}
