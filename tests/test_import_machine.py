"""Machines as they describe themselves become the machines that they are; laws of what is written and read again."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import networkx as nx
import pytest
from click.testing import CliRunner

import simgpu
from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.hardware.machine import topology_of
from simgpu.lab.importing import drawing
from simgpu.lab.importing.building import Options
from simgpu.lab.importing.command import import_machine

CATALOGUE = Catalogue()
DATA = Path(__file__).parent / "data" / "machines"
BESIDE = (parent / "shared" / "samples" for parent in Path(__file__).parents[2:4])
SAMPLES = next((folder for folder in BESIDE if folder.is_dir()), Path("nowhere"))


def imported(*files, **options):
    return import_machine([str(file) for file in files], Options(**options), CATALOGUE)


def shape(machine):
    """Devices by socket: what shares a switch in brackets."""
    said = []
    for socket in machine.built.node["sockets"]:
        parts = []
        for entry in socket["devices"]:
            if isinstance(entry, str):
                parts.append(entry[0])
            else:
                parts += ["[" + "".join(one[0] for one in entry["devices"]) + "]"] * entry["count"]
        said.append("".join(parts))
    return " | ".join(said)


def edges(cluster):
    graph = topology_of(cluster, 1).graph
    return {
        (a, b): (round(data["bandwidth"]), round(1e12 * data["latency"]), data["link"], data["kind"])
        for a, b, data in graph.edges(data=True)
    }


# ---- published outputs -------------------------------------------------------------------------------------

MACHINES = {
    "topo-dgx-1-v100.txt": ("v100-sxm-32gb", "mesh", "[ggn][ggn] | [ggn][ggn]"),
    "topo-p3-8xlarge.txt": ("v100-sxm-16gb", "mesh", "gggg"),
    "topo-dgx-a100.txt": ("a100-sxm-80gb", "nvswitch", "[ggnn][ggnn] | [ggnn][ggnn]"),
    "topo-pxb-pix.txt": ("a40", None, "[gggg]nn | [gggg]"),
    "topo-4090-8x.txt": ("rtx-4090", None, "gggg | gggg"),
    "topo-3090-bridge.txt": ("rtx-3090", "bridge", "gg"),
    "topo-a100-pcie-pairs.txt": ("a100-pcie-80gb", "bridge", "gg | gg"),
    "topo-dgx-h100.txt": ("h100-sxm", "nvswitch", "[gn][gn][gn][gn] | [gn][gn][gn][gn]"),
    "topo-hgx-ansi.txt": ("h100-sxm", "nvswitch", "[gn][gn][gn][gn] | [gn][gn][gn][gn]"),
    "topo-h100-vm-glued.txt": ("h100-sxm", "nvswitch", "[ggggnnnn] | [ggggnnnn]"),
    "topo-hgx-b300.txt": ("b300-sxm", "nvswitch", "[gn][gn][gn][gn] | [gn][gn][gn][gn]"),
    "topo-gb200-tray.txt": ("gb200", "nvswitch", "gg | gg"),
    "topo-reflowed.txt": ("l40s", None, "g[gg]g | g[gg]g"),
    "topo-h100-mirrored-cut.txt": ("h100-sxm", "nvswitch", "[gn][gn][gn][gn] | [gn][gn][gn][gn]"),
    "nccl-azure-nd-h100-v5.xml": ("h100-sxm", "nvswitch", "[gn][gn][gn][gn] | [gn][gn][gn][gn]"),
    "nccl-aws-p4d.xml": (None, "nvswitch", "[ggn][ggn] | [ggn][ggn]"),
    "nccl-oci-a100.xml": ("a100-sxm-40gb", "nvswitch", "[ggnn][ggnn] | [ggnn][ggnn]"),
    "nccl-mi300x-8x.xml": (None, "full-mesh", "[gn][gn][gn][gn] | [gn][gn][gn][gn]"),
    "nccl-mi100-hives.xml": (None, "mesh", "[ggn][ggn] | [ggn][ggn]"),
}
NAMED = {"nccl-aws-p4d.xml": "a100-sxm-40gb", "nccl-mi300x-8x.xml": "mi300x", "nccl-mi100-hives.xml": "mi100"}
NETWORK = {"topo-pxb-pix.txt": "infiniband-hdr"}


@pytest.mark.parametrize("name", MACHINES)
def test_a_published_output_is_the_machine_that_it_is(name):
    gpu, wiring, tree = MACHINES[name]
    machine = imported(DATA / name, gpu=gpu, network=NETWORK.get(name))
    assert (machine.built.node.get("nvlink") or {}).get("topology") == wiring
    assert shape(machine) == tree
    assert machine.cluster.gpu.name == (gpu or NAMED[name])


def test_the_cube_mesh_of_a_dgx_1_is_that_of_the_catalogue():
    machine = imported(DATA / "topo-dgx-1-v100.txt", gpu="v100-sxm-32gb")
    wires = {tuple(one["gpus"]): one["lanes"]["value"] for one in machine.built.node["nvlink"]["links"]}
    assert wires == {wire.gpus: wire.lanes.si for wire in CATALOGUE.cluster("dgx-1-v100").node.nvlink.links}


def test_adapters_take_the_order_of_their_gpus():
    """Rails of this machine run backwards: GPU0 is at NIC8; NIC0 is the front end."""
    machine = imported(DATA / "topo-h100-mirrored-cut.txt", gpu="h100-sxm")
    rails = [one.name for place in machine.built.joined.places for one in place.devices if one.kind == "nic"]
    assert rails == [f"NIC{i}" for i in range(8, 0, -1)]
    assert any("NIC0 beside no GPU" in note for note in machine.notes)


def test_what_a_dump_says_of_adapters_and_ports_counts():
    node = imported(DATA / "nccl-mi300x-8x.xml").built.node
    assert node["nic"]["port"]["link"] == "infiniband-ndr" and node["nic"]["port"]["lanes"]["value"] == 1
    assert node["sockets"][0]["devices"][0]["switch"]["link"] == "pcie-5"
    assert imported(DATA / "nccl-aws-p4d.xml").built.node["nic"]["port"]["link"] == "efa-100g"
    assert imported(DATA / "nccl-mi100-hives.xml").built.node["nic"]["port"]["link"] == "infiniband-hdr"


# ---- laws --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CATALOGUE.names("nodes"))
def test_a_node_of_the_catalogue_comes_back_from_its_own_matrix(tmp_path, name):
    cluster = CATALOGUE.cluster(name)
    file = tmp_path / "topo.txt"
    file.write_text(drawing.matrix_text(cluster))
    again = edges(imported(file, gpu=cluster.gpu.name).cluster)
    own = edges(cluster)
    if name == "v100-sxm-4x":  # links hide the switch that all four share, and no adapter tells of it
        own, again = ({pair: one for pair, one in all_.items() if one[3] == "gpu-link"} for all_ in (own, again))
    assert own == again


def permuted(text, order):
    """A matrix with its columns and rows in another order; names stay with their devices."""
    lines = [line.split("\t") for line in text.splitlines()]
    rows = [[lines[1 + i][0], *(lines[1 + i][1 + j] for j in order), *lines[1 + i][1 + len(order) :]] for i in order]
    head = ["", *(lines[0][1 + j] for j in order), *lines[0][1 + len(order) :]]
    return "\n".join("\t".join(row) for row in [head, *rows])


@pytest.mark.parametrize("name", ["dgx-1-v100", "dgx-a100", "l40s-pcie-8x", "a100-pcie-nvlink-8x", "mi300x-8x"])
def test_a_matrix_in_another_order_is_the_same_machine(tmp_path, name):
    cluster = CATALOGUE.cluster(name)
    text = drawing.matrix_text(cluster, legend=False)
    count = cluster.node.gpu_count + cluster.node.nic_count
    straight, other = tmp_path / "a.txt", tmp_path / "b.txt"
    straight.write_text(text)
    order = list(range(count))
    Random(name).shuffle(order)
    other.write_text(permuted(text, order))
    assert edges(imported(straight, gpu=cluster.gpu.name).cluster) == edges(
        imported(other, gpu=cluster.gpu.name).cluster
    )


@pytest.mark.parametrize("name", ["dgx-1-v100", "l40s-pcie-8x", "a100-pcie-nvlink-8x"])
def test_gpus_numbered_otherwise_are_the_same_machine(tmp_path, name):
    """A driver that counts GPUs in another order has a graph that is the same but for names."""
    cluster = CATALOGUE.cluster(name)
    text = drawing.matrix_text(cluster, legend=False)
    gpus = cluster.node.gpu_count
    order = list(range(gpus))
    Random(name).shuffle(order)
    renamed = re.sub(r"GPU(\d+)", lambda found: f"GPU{order[int(found[1])]}", text)
    (tmp_path / "topo.txt").write_text(renamed)
    again = imported(tmp_path / "topo.txt", gpu=cluster.gpu.name).cluster

    def alike(one, other):
        return one["link"] == other["link"] and abs(one["bandwidth"] - other["bandwidth"]) < 1

    graphs = (topology_of(one, 1).graph for one in (cluster, again))
    assert nx.is_isomorphic(*graphs, node_match=lambda a, b: a["kind"] == b["kind"], edge_match=alike)


# ---- the command -------------------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


QUERY = "name, memory.total [MiB], clocks.max.sm [MHz], power.limit [W]\n" + 8 * (
    "NVIDIA H100 80GB HBM3, 81559 MiB, 1980 MHz, 500.00 W\n"
)


def test_a_node_is_written_that_every_command_runs_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("gpus.csv").write_text(QUERY)
    done = run("import", DATA / "topo-dgx-h100.txt", "gpus.csv", "-o", "mine.yaml", "--plot-format", "svg")
    assert done.exit_code == 0, done.stderr
    assert "all on NVSwitch, 18 x nvlink-4 each" in done.stdout
    assert "power limit 500 W of 700 W" in done.stdout
    assert Path("mine.svg").read_text().startswith("<?xml")
    assert "gpus.csv (nvidia-smi --query-gpu), read 20" in Path("mine.yaml").read_text()
    cluster = CATALOGUE.cluster("mine.yaml")
    assert (cluster.gpu.name, cluster.gpus_per_node) == ("h100-sxm@500W", 8)
    table = run("nccl-tests", "mine.yaml", "-b", "1G", "-e", "1G", "--format", "json")
    assert json.loads(table.stdout)["rows"][0]["algorithm"] == "nvls"
    assert "mine.yaml" in run("show", "mine.yaml").stdout


def test_a_cluster_names_the_node_beside_it(tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    out = tmp_path / "deep" / "two.yaml"
    done = run("import", "p5.48xlarge", "--nodes", 2, "-o", out, "--no-plots")
    assert done.exit_code == 0, done.stderr
    monkeypatch.chdir("/")
    cluster = CATALOGUE.cluster(str(out))
    assert (cluster.gpu_count, cluster.node.nic.port.link) == (16, "efa-100g")
    assert sorted(path.name for path in out.parent.iterdir()) == ["two-node.yaml", "two.yaml"]


def test_data_for_programs(tmp_path):
    document = json.loads(run("import", DATA / "nccl-mi300x-8x.xml", "--format", "json").stdout)
    assert document["node"]["gpu"] == "mi300x" and document["cluster"] is None
    rows = run("import", DATA / "nccl-mi300x-8x.xml", "--format", "csv").stdout.splitlines()
    assert rows[0] == "from,to,kind,link,bandwidth"
    assert sum(",gpu-link," in row for row in rows) == 56


def test_in_python(tmp_path):
    machine = simgpu.import_machine(DATA / "topo-dgx-a100.txt", gpu="a100-sxm-80gb")
    assert machine.cluster.gpu_count == 8
    assert [file.name for file in machine.save(tmp_path / "a.yaml")] == ["a.yaml"]
    assert simgpu.load_cluster(str(tmp_path / "a.yaml")).node.nic_count == 8
    with pytest.raises(
        InputError, match=r"which GPU it has is not in topo-dgx-a100\.txt; with 12 links: a100-pcie-40gb"
    ):
        simgpu.import_machine(DATA / "topo-dgx-a100.txt")


# ---- all samples -------------------------------------------------------------------------------------------

REFUSED = {
    "32-p5-48xlarge-no-nic.txt": "is cut: rows of GPU3",
    "33-b200-7of8-nvlink.txt": "no header",
    "34-dgx2-16x-nv6-cut.txt": "is cut: rows of GPU5",
    "35-nvl72-emulated-link-down.txt": "GPU2 has 16 of its 18 links",
    "07-dgx1-topo-mp.txt": "no file shows the links",
    "20-a800-8x-nv8.txt": "shows 8 links between all GPUs; 'a100-sxm-80gb' has 12",
    "09-savio-8x-pxb-pix.txt": "expected --network LINK",
}
GPUS = {
    "01": "v100-sxm-32gb", "03": "v100-sxm-32gb", "04": "v100-sxm-16gb", "05": "v100-sxm-16gb", "06": "a100-sxm-80gb",
    "07": "v100-sxm-32gb", "08": "v100-pcie-32gb", "09": "rtx-2080-ti", "10": "rtx-4090", "11": "rtx-4090",
    "14": "rtx-3090", "15": "rtx-a6000", "16": "a100-pcie-80gb", "20": "a100-sxm-80gb", "21": "h800-sxm",
    "25": "b300-sxm", "26": "gb200", "27": "gb200", "29": "l40s", "35": "gb200",
}  # fmt: skip


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples here")
def test_all_samples_are_read_or_refused_with_their_reason():
    for file in sorted(SAMPLES.glob("nvidia-smi-topo/*.txt")):
        gpu = GPUS.get(file.name[:2], "h100-sxm")
        if file.name in REFUSED:
            with pytest.raises(InputError, match=re.escape(REFUSED[file.name])):
                imported(file, gpu=gpu)
        else:
            assert imported(file, gpu=gpu).cluster.gpus_per_node in (2, 3, 4, 8)


OTHERS = {
    "lstopo-xml/01-nvidia-dgx2.xml": (16, None),
    "lstopo-xml/02-dgx-spark-gb10.xml": "lists no PCI devices",
    "lstopo-xml/04-xeon-normalio.xml": "GPUs of 3 kinds",
    "nccl-graph-xml/05-azure-ncv4-graph.xml": (4, "a100-pcie-80gb"),
    "nccl-topo-xml/07-aws-p4de.xml": (8, None),
    "nccl-topo-xml/08-aws-g5-48xl.xml": "9 PCI devices have no class",
    "nccl-topo-xml/17-rccl-topo-8p-940vm.xml": (8, None),
    "nvidia-smi-L/01-mig-7x1g.txt": (7, None),
    "ibnetdiscover/03-topograph-bad.txt": "has no switch",
}


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples here")
@pytest.mark.parametrize("name", OTHERS)
def test_other_samples_are_the_machine_that_they_are(name):
    expected = OTHERS[name]
    if isinstance(expected, str):
        with pytest.raises(InputError, match=expected):
            imported(SAMPLES / name)
    else:
        assert imported(SAMPLES / name, gpu=expected[1]).cluster.gpus_per_node == expected[0]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no samples here")
def test_a_fabric_and_a_node_are_a_cluster():
    topo = SAMPLES / "nvidia-smi-topo" / "22-h100-8x-12nic-pxb.txt"
    machine = imported(SAMPLES / "ibnetdiscover" / "02-topograph-example.txt", topo, gpu="h100-sxm")
    assert machine.cluster.gpu_count == 109 * 8
    machine = imported(SAMPLES / "slurm-topology" / "03-slurm-test4.conf", topo, gpu="h100-sxm")
    assert machine.cluster.gpu_count == 400 * 8
