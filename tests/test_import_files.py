"""Readers of what machines print, one by one; bad files end in one line, and nothing is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.lab.importing import text
from simgpu.lab.importing.building import Options
from simgpu.lab.importing.command import import_machine
from simgpu.lab.importing.hosts import hosts_of
from simgpu.lab.importing.names import by_pci, by_print
from simgpu.lab.importing.reading import read

CATALOGUE = Catalogue()
DATA = Path(__file__).parent / "data" / "machines"
H100 = DATA / "topo-dgx-h100.txt"


@pytest.fixture
def put(tmp_path):
    def written(content, name="file.txt"):
        file = tmp_path / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return written


def imported(*files, **options):
    return import_machine([str(file) for file in files], Options(**options), CATALOGUE)


def fabric(file):
    return read(str(file), CATALOGUE).fabric


# ---- names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "name"),
    [
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA-H100-80GB-HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA A100-SXM4-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100-SXM-80GB", "a100-sxm-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-pcie-80gb"),
        ("Tesla V100-SXM2-32GB", "v100-sxm-32gb"),
        ("Tesla T4", "t4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx-6000-ada"),
        ("NVIDIA B200", "b200-sxm"),
        ("NVIDIA GB200", "gb200"),
        ("AMD Instinct MI300X", "mi300x"),
    ],
)
def test_printed_names_mean_gpus_of_the_catalogue(printed, name):
    assert by_print(printed, CATALOGUE) == [name]


def test_memory_decides_where_names_do_not():
    assert by_print("V100-SXM2", CATALOGUE) == ["v100-sxm-16gb", "v100-sxm-32gb"]
    assert by_print("V100-SXM2", CATALOGUE, 34e9) == ["v100-sxm-32gb"]
    assert by_print("Voodoo 5", CATALOGUE) == []
    assert by_pci("10de:2330") == "h100-sxm" and by_pci("10de:ffff") is None


# ---- lists of GPUs -----------------------------------------------------------------------------------------

LONG = """
==============NVSMI LOG==============

Driver Version                            : 550.54.15
Attached GPUs                             : 2
GPU 00000000:01:00.0
    Product Name                          : NVIDIA GeForce RTX 3090
    FB Memory Usage
        Total                             : 24576 MiB
        Used                              : 0 MiB
    BAR1 Memory Usage
        Total                             : 256 MiB
    GPU Power Readings
        Current Power Limit               : 250.00 W
        Default Power Limit               : 350.00 W
    Max Clocks
        SM                                : 2100 MHz
GPU 00000000:02:00.0
    Product Name                          : NVIDIA GeForce RTX 3090
    GPU Power Readings
        Current Power Limit               : 250.00 W
"""


def test_the_long_list_tells_names_limits_and_clocks(put):
    found = read(str(put(LONG)), CATALOGUE)
    assert [one.model for one in found.facts] == ["NVIDIA GeForce RTX 3090"] * 2
    first = found.facts[0]
    assert (first.memory, first.limit, first.most, first.clock) == (24576 * 2**20, 250, 350, 2.1e9)
    machine = imported(DATA / "topo-3090-bridge.txt", put(LONG, "q.txt"))
    assert machine.cluster.gpu.name == "rtx-3090@250W"


def test_slices_are_devices_without_links(put):
    listing = "GPU 0: NVIDIA A100-PCIE-40GB (UUID: GPU-1)\n" + "".join(
        f"  MIG 1g.5gb     Device  {i}: (UUID: MIG-{i})\n" for i in range(7)
    )
    machine = imported(put(listing))
    assert (machine.cluster.gpu.name, machine.cluster.gpus_per_node) == ("a100-pcie-40gb@1g.5gb", 7)


def test_names_alone_take_the_node_of_the_catalogue(put):
    listing = "".join(f"GPU {i}: NVIDIA H200 (UUID: GPU-{i})\n" for i in range(8))
    machine = imported(put(listing))
    assert machine.cluster.node.nvlink.topology == "nvswitch"
    assert any("taken as in dgx-h200" in note for note in machine.notes)
    with pytest.raises(InputError, match="3 x h200-sxm: how they are joined is not told"):
        imported(put("".join(listing.splitlines(True)[:3])))


# ---- fabrics -----------------------------------------------------------------------------------------------

TREE = """SwitchName=leaf[1-2] Nodes=n[01-16]
SwitchName=s0 Switches=leaf[1-2]
"""


def test_slurm_trees_tell_nodes_and_leaves(put):
    found = fabric(
        put("SwitchName=a Nodes=n[01-16]\nSwitchName=b Nodes=n[17-32,40]\nSwitchName=s Switches=a,b # top\n")
    )
    assert (found.nodes, found.nodes_per_leaf) == (33, 17)
    blocks = read(str(put("BlockName=b1 Nodes=n[1-8]\nBlockName=b2 Nodes=n[9-16]\nBlockSizes=8,16\n")), CATALOGUE)
    assert blocks.fabric.nodes == 16 and "blocks are no switches" in blocks.notes[0]
    machine = imported(
        put("SwitchName=a Nodes=n[01-16]\nSwitchName=b Nodes=n[17-32]\n"), H100, gpu="h100-sxm", name="c"
    )
    assert machine.cluster.gpu_count == 256 and machine.built.cluster["fabric"]["nodes_per_leaf"]["value"] == 16


def test_lists_of_hosts():
    assert hosts_of("a[08-10]b[1,3],c", Path("f"), 1) == ["a08b1", "a08b3", "a09b1", "a09b3", "a10b1", "a10b3", "c"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("SwitchName=a Switches=b\nSwitchName=b Switches=a\n", "file.txt:1: switches go round: a > b > a"),
        ("SwitchName=a Switches=a\n", "switches go round: a > a"),
        (
            "SwitchName=a Switches=leef1\nSwitchName=leaf1 Nodes=n1\n",
            "'leef1', which no line describes; did you mean 'leaf1'?",
        ),
        (TREE, "file.txt:1: node 'n01' is below two switches, leaf1 and leaf2"),
        ("SwitchName=a Nodes=n1\nSwitchName=a Nodes=n2\n", "file.txt:2: 'a' is described twice (line 1)"),
        ("SwitchName=a Nods=n1\n", "file.txt:1: nods: unknown key; did you mean 'nodes'?"),
        ("SwitchName=a Nodes=n[5-1]\n", "'5-1' is no range of hosts"),
        ("SwitchName=a Nodes=n[1-9999999]\n", "names more than 1,000,000 hosts"),
        ("SwitchName=a Nodes=n[1-1000]x[1-1000]y[1-9]\n", "names more than 1,000,000 hosts"),
        ("SwitchName=a Nodes=n[1-2\n", "has a bracket too many or too few"),
        ("SwitchName=a\n", "no switch has nodes"),
    ],
)
def test_bad_topologies_of_slurm(put, content, message):
    with pytest.raises(InputError) as caught:
        fabric(put(content))
    assert message in str(caught.value)


def leafed(hosts=4, up=2, rate="4xNDR"):
    """A leaf of hosts with two adapters each on two leaves, and a spine."""
    lines = []
    for leaf in (1, 2):
        lines += [f'Switch\t64 "S-{leaf}"\t\t# "leaf{leaf}" enhanced port 0 lid {leaf} lmc 0']
        lines += [f'[{i}]\t"H-{leaf}{i}"[1](0c)\t\t# "node{i} mlx5_{leaf}" lid 9 {rate}' for i in range(1, hosts + 1)]
        lines += [f'[{50 + i}]\t"S-9"[{10 * leaf + i}]\t\t# "spine" lid 3 {rate}' for i in range(up)]
    lines += ['Switch\t64 "S-9"\t\t# "spine" enhanced port 0 lid 3 lmc 0']
    lines += [
        f'[{10 * leaf + i}]\t"S-{leaf}"[{50 + i}]\t\t# "leaf{leaf}" lid 1 {rate}' for leaf in (1, 2) for i in range(up)
    ]
    return "\n".join(lines)


def test_infiniband_tells_hosts_rails_rates_and_oversubscription(put):
    found = fabric(put(leafed()))
    assert (found.nodes, found.nodes_per_leaf, found.nics, found.rails) == (4, 4, 2, True)
    assert (found.speed, found.oversubscription) == (50e9, 2.0)
    assert fabric(put(leafed(rate="2xHDR"))).speed == 12.5e9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (leafed().replace('"S-9"[10]', '"S-9"[11]', 1), "expected both ends alike"),
        ('Ca\t1 "H-1"\t\t# "host HCA-1"\n', "has no switch"),
        ('Switch\t8 "S"\nSwitch\t8 "S"\n', "file.txt:2: 'S' is described twice"),
        ('Switch\t8 "S"\n', "names no host on its 1 switches"),
    ],
)
def test_bad_fabrics_of_infiniband(put, content, message):
    with pytest.raises(InputError) as caught:
        fabric(put(content))
    assert message in str(caught.value)


def node_labels(i, **more):
    labels = {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3", "nvidia.com/gpu.count": "8",
              "network.topology.nvidia.com/leaf": f"leaf{i // 2}", "kubernetes.io/hostname": f"n{i}"}  # fmt: skip
    return {"kind": "Node", "metadata": {"name": f"n{i}", "labels": labels | more}}


def test_labels_of_kubernetes_tell_gpus_nodes_and_leaves(put):
    items = [node_labels(i) for i in range(4)] + [{"metadata": {"labels": {"kubernetes.io/os": "linux"}}}]
    machine = imported(put(json.dumps({"kind": "List", "items": items})), name="k")
    assert machine.cluster.gpu_count == 32
    assert machine.built.cluster["fabric"]["nodes_per_leaf"]["value"] == 2
    other = node_labels(9) | {}
    other["metadata"]["labels"]["nvidia.com/gpu.product"] = "NVIDIA-A10G"
    found = read(str(put(json.dumps({"items": [*items, other]}))), CATALOGUE)
    assert "others left out: 1 of NVIDIA-A10G" in found.notes[0]
    cloud = {"metadata": {"labels": {"node.kubernetes.io/instance-type": "p5.48xlarge", "kubernetes.io/os": "linux"}}}
    assert imported(put(json.dumps({"items": [cloud, cloud]})), name="k").cluster.node.nic.port.link == "efa-100g"


# ---- other simulators --------------------------------------------------------------------------------------

ASTRA = "topology: [ Switch, Switch ]\nnpus_count: [ 8, 4 ]\nbandwidth: [ 450.0, 50.0 ]\nlatency: [ 500.0, 2000.0 ]\n"
SIMAI = "22 8 2 4 40 H100\n" + " ".join(str(i) for i in range(16, 22)) + "\n"


def simai():
    links = [f"{g} {16 + g // 8} 2880Gbps 0.000025ms 0" for g in range(16)]
    links += [f"{g} {18 + g % 2} 400Gbps 0.0005ms 0" for g in range(16)]
    links += [f"{leaf} {20 + i} 400Gbps 0.0005ms 0" for leaf in (18, 19) for i in range(2) for _ in range(2)]
    return SIMAI + "\n".join(links) + "\n"


def test_a_topology_of_astra_sim(put):
    machine = imported(put(ASTRA, "net.yml"), gpu="h100-sxm", name="a")
    assert (machine.cluster.gpu_count, machine.cluster.node.nvlink.topology) == (32, "nvswitch")
    assert machine.cluster.port(machine.cluster.spec.fabric).latency == pytest.approx(2e-6)
    ring = imported(put("topology: [ Ring ]\nnpus_count: [ 4 ]\nbandwidth: [ 50 ]\nlatency: [ 500 ]\n"), gpu="h100-sxm")
    assert [one["lanes"]["value"] for one in ring.built.node["nvlink"]["links"]] == [9] * 4
    full = imported(put(ASTRA.replace("Switch, Switch", "FullyConnected, Switch")), gpu="mi300x", name="a")
    assert full.cluster.node.nvlink.topology == "full-mesh"


def test_a_topology_of_simai(put):
    machine = imported(put(simai()), gpu="h100-sxm", name="s")
    fabric_ = machine.built.cluster["fabric"]
    assert machine.cluster.gpu_count == 16 and machine.cluster.node.nvlink.topology == "nvswitch"
    assert fabric_["nodes_per_leaf"]["value"] == 2 and fabric_["topology"] == "rail-fat-tree"
    with pytest.raises(InputError, match="lists 39 links; expected 40; is it cut"):
        imported(put("\n".join(simai().splitlines()[:-1])), gpu="h100-sxm")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Switch, Switch", "Swich, Switch", "topology.0: unknown 'Swich'; did you mean 'Switch'?"),
        ("Switch, Switch", "Switch, Ring", "Ring between nodes; expected Switch"),
        ("[ 8, 4 ]", "[ 8 ]", "has 1 values for 2 dimensions"),
        ("[ 8, 4 ]", "[ 8, 0 ]", "npus_count.1: 0: expected a number from 1"),
        ("450.0", "-1", "bandwidth.0: -1: expected more than zero"),
    ],
)
def test_bad_topologies_of_astra_sim(put, old, new, message):
    with pytest.raises(InputError) as caught:
        imported(put(ASTRA.replace(old, new)), gpu="h100-sxm")
    assert message in str(caught.value)


# ---- bad files ---------------------------------------------------------------------------------------------

BOMB = """<?xml version="1.0"?>
<!DOCTYPE lolz [<!ENTITY lol "lol"><!ENTITY lol2 "&lol;&lol;&lol;">]>
<system version="1"><cpu numaid="0" affinity="&lol2;"/></system>"""
OUTSIDE = """<!DOCTYPE s [<!ENTITY x SYSTEM "file:///etc/passwd">]><system>&x;</system>"""
GPU = '<pci busid="0000:01:00.0" class="0x030200" vendor="0x10de" device="{}" link_width="16"/>'
MATRIX = "\tGPU0\tGPU1\tCPU Affinity\tNUMA Affinity\nGPU0\t X \tNV4\t0-3\t0\nGPU1\tNV4\t X \t0-3\t0\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("hello\nworld\n", "holds nothing that is known; expected the output of nvidia-smi topo -m"),
        (b"PK\x03\x04", "is an archive"),
        (BOMB, "defines entity 'lol'; expected XML without entities"),
        (OUTSIDE, "defines entity 'x'"),
        ("<system><cpu>", "is no XML"),
        ("<html><body/></html>", "holds nothing that is known"),
        ("<svg></svg>", "is XML of <svg>; expected <system>, <graphs>, <topology>"),
        ("<x>" * 200 + "</x>" * 200, "is nested deeper than 100 elements"),
        ("<system version='1'></system>", "shows no GPU: no GPU in it"),
        (
            f'<system><cpu numaid="0">{GPU.format("0xffff")}</cpu></system>',
            "PCI device 10de:ffff at 0000:01:00.0 is no GPU",
        ),
        ("<graphs></graphs>", "has no graph in it"),
        (MATRIX.replace("GPU1\tNV4", "GPU1\tSYS"), "file.txt:3: GPU0 to GPU1 says NV4 (line 2), GPU1 to GPU0 says SYS"),
        (MATRIX.replace(" X \tNV4", "NV4\t X "), "file.txt:2: GPU0 to GPU0 says NV4; expected X"),
        (MATRIX.replace("NV4", "NV9"), "shows 9 links between two GPUs; 'rtx-3090' has 4"),
        ("\n".join(MATRIX.splitlines()[1:]) + "\n", "file.txt:1: has rows of a matrix, but no header"),
        ("\tGPU0\tGPU1\tGPU2\nGPU0\t X \tNV4\tSYS\n", "is cut: rows of GPU1, GPU2 are missing"),
        ("name, power.limit [W]\n", "has a header and no rows"),
        ("name, power.limit [W]\nNVIDIA GeForce RTX 3090\n", "file.txt:2: 1 cells under 2 columns; is it cut?"),
        ('name, power.limit [W]\nNVIDIA GeForce RTX 3090, "350,00 W"\n', "'350,00 W' has a decimal comma"),
        ("GPU 0: A (UUID: 1)\nGPU 1: B (UUID: 2)\n", "lists GPUs of 2 kinds (A, B)"),
        ('{"items": [{"metadata": {"labels": {"kubernetes.io/os": "linux"}}}]', "is no JSON"),
        (
            '{"items": [{"metadata": {"labels": {"kubernetes.io/os": "linux"}}}]}',
            "no node has a label nvidia.com/gpu.product",
        ),
    ],
)
def test_bad_files_end_in_one_line_and_write_nothing(put, tmp_path, content, message):
    file = put(content)
    gpu = (
        []
        if "GPU 0: A" in str(content) or "10de" in str(content) or "kubernetes" in str(content)
        else ["--gpu", "rtx-3090"]
    )
    gpu = [] if "power.limit" in str(content) else gpu
    done = CliRunner().invoke(main, ["import", str(file), *gpu, "-o", str(tmp_path / "node.yaml")])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["file.txt"]


def test_dumps_have_a_limit(put, monkeypatch):
    monkeypatch.setattr(text, "MOST", 100)
    with pytest.raises(InputError, match="is larger than 100 bytes, expected a dump of a machine"):
        imported(H100, gpu="h100-sxm")
    monkeypatch.setattr(text, "ELEMENTS", 1)
    with pytest.raises(InputError, match="has more than 1 elements"):
        imported(put("<system><cpu/></system>"))


def test_colours_and_other_codings_do_not_matter(put):
    plain = MATRIX.replace("GPU0\t", "\x1b[4mGPU0\t", 1).replace("NUMA Affinity", "NUMA Affinity\x1b[0m", 1)
    assert imported(put(plain), gpu="rtx-3090").built.node["nvlink"]["topology"] == "bridge"
    wide = MATRIX.replace("\n", "\r\n").encode("utf-16")
    assert imported(put(wide), gpu="rtx-3090").built.node["nvlink"]["topology"] == "bridge"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.txt"], "nothing.txt: no such file; nor is it a machine that a cloud rents"),
        (["p5.48xlage"], "did you mean 'p5.48xlarge'?"),
        ([H100], "--gpu: which GPU it has is not in topo-dgx-h100.txt; with 18 links: "),
        ([H100, "--gpu", "h100"], "--gpu: unknown GPU 'h100'"),
        ([H100, "--gpu", "h100-sxm", "--network", "infinband-ndr"], "unknown network 'infinband-ndr'; did you mean"),
        ([H100, "--gpu", "h100-sxm", "-o", "node.txt"], "expected a file named .yaml"),
        ([H100, "--gpu", "h100-sxm", "-o", "my node.yaml"], "such as 'my-node.yaml'"),
        ([H100, "--gpu", "h100-sxm", "--dim", "batch=1"], "--dim: is of a network"),
        ([H100, DATA / "topo-3090-bridge.txt", "--gpu", "h100-sxm"], "shows 2 GPUs, "),
        (["p5.48xlarge", "--gpu", "h100-sxm"], "--gpu: is known of p5.48xlarge"),
        (["g6.48xlarge", "--nodes", "2"], "--nodes: g6.48xlarge has no adapter"),
    ],
)  # fmt: skip
def test_bad_calls(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["import", *map(str, arguments)])
    assert done.exit_code == 2 and done.stderr.count("\n") == 1, done.stderr
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_fault_is_said_and_written_as_built_where_asked(put):
    lines = H100.read_text().splitlines()
    sick = "\n".join(
        line if i == 0 else _without_links(line, 2, is_own=line.startswith("GPU2")) for i, line in enumerate(lines)
    )
    file = put(sick)
    with pytest.raises(InputError, match="GPU2 has lost all of its 18 links: a fault"):
        imported(file, gpu="h100-sxm")
    machine = imported(file, gpu="h100-sxm", as_built=True)
    assert machine.built.node["nvlink"] == {"topology": "nvswitch"}
    assert any("GPU2 has lost all of its 18 links" in note for note in machine.notes)


def _without_links(line, gpu, is_own):
    cells = line.split("\t")
    return "\t".join("SYS" if "NV" in cell and (is_own or i == gpu + 1) else cell for i, cell in enumerate(cells))


@pytest.mark.parametrize("name", sorted(CATALOGUE.instances))
def test_machines_of_clouds_are_nodes(name):
    cluster = CATALOGUE.cluster(name)
    entry = CATALOGUE.instances[name].instances[name]
    assert cluster.gpus_per_node == entry.gpus
    assert entry.source in CATALOGUE.instances[name].sources
    assert entry.nics is None or cluster.node.nic_count == entry.nics
