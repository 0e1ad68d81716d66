"""Every node of the catalogue: its GPUs reach each other on the ways that its file states, and jobs run on it."""

import dataclasses
import itertools
from collections import Counter

import pytest
import yaml
from sampling import sampled

import simgpu
from simgpu import Catalogue, InputError
from simgpu.hardware.figure import figures
from simgpu.hardware.machine import topology_of
from simgpu.hardware.spec import PCIeSwitch
from simgpu.timing.collectives import collective_time
from simgpu.timing.collectives.mesh import mesh_rings, way
from simgpu.timing.collectives.schedules import nodes_of, rings

CATALOGUE = Catalogue()
NODES = CATALOGUE.names("nodes")
SEVERAL = [name for name in NODES if CATALOGUE.cluster(name).gpus_per_node > 1]
MESHES = [name for name in NODES if (wiring := CATALOGUE.spec("nodes", name).nvlink) and wiring.topology == "mesh"]
FAR = {"switch": 1, "root": 2, "node": 3, "none": 0}


def places(node):
    """(socket, switch) of each GPU in order; None where it hangs on the root complex itself."""
    found, socket, switch = [], 0, 0
    for kind in node.sockets:
        for _ in range(kind.count):
            for entry in kind.devices:
                if not isinstance(entry, PCIeSwitch):
                    found += [(socket, None)] if entry == "gpu" else []
                    continue
                for _ in range(entry.count):
                    found += [(socket, switch)] * entry.devices.count("gpu")
                    switch += 1
            socket += 1
    return found


def joined(node, a, b):
    """Links of their own between two GPUs, as the file says."""
    wiring = node.nvlink
    if wiring is None:
        return False
    pairs = {frozenset(pair) for pair in (*wiring.pairs, *(wire.gpus for wire in wiring.links))}
    return frozenset((a, b)) in pairs or wiring.topology in ("nvswitch", "full-mesh")


@pytest.mark.parametrize("name", SEVERAL)
def test_gpus_reach_each_other_as_the_file_states(name):
    cluster = CATALOGUE.cluster(name)
    topology, node, place = topology_of(cluster), cluster.node, places(cluster.node)
    assert len(place) == len(topology.gpus)
    allowed = FAR[node.peer_to_peer_scope.value] if cluster.gpu.host_link.peer_to_peer.value else 0
    for a, b in itertools.permutations(range(min(len(place), 8)), 2):
        route = topology.route(a, b)
        distance = 3 if place[a][0] != place[b][0] else 1 if place[a][1] is not None and place[a] == place[b] else 2
        wanted = "gpu-link" if joined(node, a, b) else "pcie" if distance <= allowed else "host"
        assert route.via == wanted, (a, b)
        assert route.edges[0][0] == topology.gpus[a] and route.edges[-1][1] == topology.gpus[b]
        assert all(end == start for (_, end), (start, _) in itertools.pairwise(route.edges))
        assert any(".mem" in end for _, end in route.edges) == (wanted == "host")


@pytest.mark.parametrize("name", SEVERAL)
def test_an_all_reduce_is_slower_than_the_links_of_a_gpu(name):
    """Each GPU sends 2 (n - 1) / n of the payload, or half of that where the switch sums."""
    cluster = CATALOGUE.cluster(name)
    graph, gpu = topology_of(cluster).graph, topology_of(cluster).gpus[0]
    leaving = sum(edge["bandwidth"] for edge in graph[gpu].values())
    found = collective_time(cluster, "all_reduce", cluster.gpus_per_node, [2**30])
    most = leaving * (2 if found.algorithm[0] == "nvls" else 1)
    slowest = min(edge["bandwidth"] for *_, edge in graph.edges(data=True) if edge["kind"] != "network")
    assert 0.2 * slowest < found.busbw[0] < most


@pytest.mark.parametrize("name", sampled(NODES, 4))
def test_one_row_of_inference_and_of_training_runs(name):
    gpus = CATALOGUE.cluster(name).gpus_per_node
    dtype = "bf16" if any(peak.key.startswith("bf16") for peak in CATALOGUE.cluster(name).gpu.peak) else "fp16"
    scenario = {"model": "qwen2.5-1.5b", "cluster": name, "dtype": dtype}
    jobs = [
        {"plan.tp": min(gpus, 2), "workload": {"kind": "inference", "batch": 2, "prompt": 64, "output": 4}},
        {"plan.dp": gpus, "workload": {"kind": "training", "batch": gpus, "tokens": 256}},
    ]
    rows = simgpu.run_experiment(
        {"experiment": "boxes", "title": "One of each", "scenario": scenario, "cases": jobs}
    ).rows
    assert len(rows) == 2, "a row that cannot run is left out"
    assert 0 < rows[0]["tpot_s"] < 1 and rows[1]["tokens_per_s"] > 100


# ---- meshes ------------------------------------------------------------------------------------------------


def lanes_of(cluster):
    """Links from one GPU to another, in each direction."""
    wires = cluster.node.nvlink.links
    return Counter({ends: wire.lanes.si for wire in wires for ends in (wire.gpus, wire.gpus[::-1])})


@pytest.mark.parametrize("name", MESHES)
def test_rings_of_a_mesh_take_each_link_once_at_most(name):
    cluster = CATALOGUE.cluster(name)
    lanes, topology = lanes_of(cluster), topology_of(cluster)
    for n in range(3, cluster.gpus_per_node + 1):
        for group in itertools.combinations(range(cluster.gpus_per_node), n):
            found = mesh_rings(topology, group)
            assert all(sorted(ring) == list(group) for ring in found)
            if len(found) > 1:
                steps = Counter(step for ring in found for step in itertools.pairwise([*ring, ring[0]]))
                assert steps <= lanes, group
                assert len(found) % 2 == 0, "a link carries a ring each way"


@pytest.mark.parametrize("name", [name for name in MESHES if CATALOGUE.spec("nodes", name).nic_count > 1])
@pytest.mark.parametrize("nodes", [2, 3])
def test_rings_over_nodes_of_meshes_share_no_adapter_and_no_link(name, nodes):
    cluster, fabric = CATALOGUE.cluster(name), CATALOGUE.cluster("dgx-1-v100-ib").spec.fabric
    links = cluster.links | {fabric.link: CATALOGUE.spec("links", fabric.link)}
    several = dataclasses.replace(cluster, spec=cluster.spec.model_copy(update={"fabric": fabric}), links=links)
    topology = topology_of(several, nodes)
    per_node, lanes = cluster.gpus_per_node, lanes_of(cluster)
    found = rings(topology, range(nodes * per_node))
    assert len(found) == cluster.node.nic_count
    steps = Counter(step for ring in found for step in itertools.pairwise([*ring, ring[0]]))
    for node in range(nodes):
        inside = Counter(
            {(a % per_node, b % per_node): n for (a, b), n in steps.items() if a // per_node == b // per_node == node}
        )
        assert inside <= lanes
    leave = [(a * cluster.node.nic_count // per_node) for a, b in steps if a // per_node != b // per_node]
    assert len(set(leave)) == len(leave) == nodes * cluster.node.nic_count
    assert len(nodes_of(topology, found[0])) == nodes


def test_a_hybrid_cube_mesh_is_that_of_the_dgx_1():
    """Six links to a GPU, two neighbours over one and two over two, three GPUs over none (DGX-1 whitepaper)."""
    cluster = CATALOGUE.cluster("dgx-1-v100")
    lanes = lanes_of(cluster)
    for gpu in range(8):
        assert sorted(lanes[gpu, other] for other in range(8) if other != gpu) == [0, 0, 0, 1, 1, 2, 2]
        assert {gpu // 4 == other // 4 for other in range(8) if lanes[gpu, other]} == {True, False}
    found = mesh_rings(topology_of(cluster), range(8))
    assert Counter(step for ring in found for step in itertools.pairwise([*ring, ring[0]])) == lanes
    busbw = collective_time(cluster, "all_reduce", 8, [4e9], algorithm="ring").busbw[0]
    assert 0.9 * 120e9 < busbw < 120e9, "six rings of 20 GB/s"
    half = collective_time(cluster, "all_reduce", 4, [4e9], algorithm="ring").busbw[0]
    assert half / busbw == pytest.approx(4 / 6, rel=0.05), "four rings inside a quad"


def test_gpus_without_a_link_go_through_one_of_the_same_group():
    topology = topology_of(CATALOGUE.cluster("dgx-1-v100"))
    for a, b in itertools.permutations(range(8), 2):
        route = way(topology, a, b, range(8))
        assert route.via == "gpu-link" and len(route.edges) <= 2
    assert way(topology, 0, 5, [0, 5]).via == "host"
    alone = collective_time(CATALOGUE.cluster("dgx-1-v100"), "send", [0, 5], [1e9]).seconds[0]
    assert alone > 1.5 * collective_time(CATALOGUE.cluster("dgx-1-v100"), "send", [0, 1], [1e9]).seconds[0]


def test_a_mesh_of_equal_links_is_as_fast_as_the_links_together():
    """Four GPUs with 3 k links each: rings use all of them, as behind a switch."""
    for name in ("gh200-4x", "hgx-h100-4x", "hgx-a100-4x", "v100-sxm-4x"):
        cluster = CATALOGUE.cluster(name)
        every = cluster.port(cluster.gpu.nvlink).bandwidth
        assert collective_time(cluster, "all_reduce", 4, [16e9], algorithm="ring").busbw[0] > 0.85 * every


def own_node(folder, **nvlink):
    """A catalogue with a node of four V100, wired as `nvlink` says."""
    data = yaml.safe_load((CATALOGUE.find("nodes", "v100-sxm-4x")).read_text())
    data["name"], data["nvlink"] = "mine", nvlink
    (folder / "nodes").mkdir()
    (folder / "nodes" / "mine.yaml").write_text(yaml.safe_dump(data))
    return Catalogue(folder)


def wires(*wired):
    return [{"gpus": [a, b], "lanes": {"value": n, "source": "topo"}} for a, b, n in wired]


@pytest.mark.parametrize(
    ("nvlink", "problem"),
    [
        ({"topology": "mesh"}, "links must be given for topology 'mesh'"),
        ({"topology": "nvswitch", "links": wires((0, 1, 2))}, "and only for it"),
        ({"topology": "mesh", "links": wires((0, 1, 2), (1, 0, 2))}, "two different GPUs once, not 1-0"),
        ({"topology": "mesh", "links": wires((2, 2, 2))}, "two different GPUs once, not 2-2"),
        ({"topology": "mesh", "links": wires((0, 4, 2))}, "from 0 to 3, not 0-4"),
        ({"topology": "mesh", "links": wires((0, 1, 4), (0, 2, 3))}, "wires 7 links to GPU 0; 'v100-sxm-32gb' has 6"),
    ],
)
def test_a_mesh_that_cannot_be_is_refused_with_the_reason(tmp_path, nvlink, problem):
    with pytest.raises(InputError, match=problem):
        own_node(tmp_path, **nvlink).cluster("mine")


@pytest.mark.parametrize("name", MESHES)
def test_links_are_set_by_the_names_that_show_prints(name):
    shown = [path for path, _ in figures(CATALOGUE.spec("nodes", name)) if path[:2] == ("nvlink", "links")]
    assert len(shown) == len(CATALOGUE.spec("nodes", name).nvlink.links)
    before = collective_time(CATALOGUE.cluster(name), "all_reduce", 2, [1e9]).busbw[0]
    fewer = simgpu.load_cluster(name, **{f"node.{'.'.join(shown[0])}": 1})
    assert fewer.node.nvlink.links[0].lanes.si == 1
    after = collective_time(fewer, "all_reduce", 2, [1e9]).busbw[0]
    assert (after < before) == (CATALOGUE.spec("nodes", name).nvlink.links[0].lanes.si > 1)


# ---- one memory, one GPU a node ---------------------------------------------------------------------------


def test_nodes_of_one_gpu_talk_to_each_other_where_nobody_says_how_many():
    two = CATALOGUE.cluster("dgx-spark-2x")
    assert (two.usual_ranks, CATALOGUE.cluster("dgx-h100-ib").usual_ranks) == (2, 8)
    found = simgpu.time_collective("dgx-spark-2x", "all_gather", [1e9])
    assert 0 < found.busbw[0] < 25e9, "one port of 200 Gb/s"


def test_a_unified_memory_is_one_memory():
    """What the processor's DRAM can do is what the GPU's can, and a copy within it takes twice the bytes."""
    cluster = CATALOGUE.cluster("dgx-spark")
    assert cluster.node.sockets[0].memory_bandwidth.si == cluster.gpu.memory.bandwidth.si
    assert cluster.gpu.host_link.bandwidth.si == cluster.gpu.memory.bandwidth.si / 2
