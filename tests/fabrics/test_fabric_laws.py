"""Fabrics by their parameters: closed forms, conservation, a few nodes for all, collisions, broken parts."""

from collections import Counter
from statistics import mean

import numpy as np
import pytest

from simgpu import Catalogue, InputError, Plan, import_machine, load_cluster, simulate
from simgpu.hardware.layout import Layout, host_numbers, most_nodes, shortage
from simgpu.hardware.machine import machine_of
from simgpu.timing.collectives import calls, collective_time, model_of
from simgpu.timing.collectives.collisions import most_balls
from simgpu.timing.collectives.detours import least_time
from simgpu.timing.collectives.large import LargeCollective

TREES = {
    "rails": {},
    "rails, small leaves": {"nodes_per_leaf": 4, "oversubscription": 4},
    "rails in three tiers": {"radix": 32, "nodes_per_leaf": 2, "tiers": 3, "oversubscription": 2},
    "tree in three tiers": {"topology": "fat-tree", "radix": 16, "nodes_per_leaf": 1, "tiers": 3},
    "rails without a spine": {"topology": "rail-only", "nodes_per_leaf": 4},
    "rails, crossing over": {"pxn": True, "nodes_per_leaf": 4, "oversubscription": 3},
}
KINDS = ("all_reduce", "all_gather", "all_to_all", "send_recv", "broadcast")
SIZES = (1e3, 1e6, 1e9)


def fabric(name="dgx-h100-ib", **parameters):
    return load_cluster(name, **{f"cluster__fabric__{key}": value for key, value in parameters.items()})


def alone(folder, text, **figures):
    """A cluster of 16 nodes of one GPU, whose ports hold nobody back."""
    (folder / "clusters").mkdir(exist_ok=True)
    lines = ["name: mine", "title: mine", "node: dgx-spark", "nodes: 16", f"fabric: {{{text}}}"]
    made = [line if line != "nodes: 16" else "nodes: {value: 16, source: plan}" for line in lines]
    (folder / "clusters" / "mine.yaml").write_text("\n".join([*made, "sources: {plan: test}"]) + "\n")
    wide = dict.fromkeys(("node__nic__port__lanes", "node__nic__host_link__lanes"), 4000)
    memory = dict.fromkeys(("node__sockets__0__memory_bandwidth", "gpu__host_link__bandwidth"), "900 TB/s")
    return load_cluster("mine", Catalogue(folder), **wide, **memory, **figures)


@pytest.mark.parametrize("name", TREES)
def test_a_few_nodes_stand_for_all(name):
    cluster = fabric(**TREES[name])
    for kind in KINDS:
        whole = model_of(machine_of(cluster).topology(20), kind, range(160))
        few = LargeCollective(machine_of(cluster), kind, 20)
        for choice in whole.allowed():
            near = choice in (("tree", "ll"), ("tree", "ll128"))  # lanes of SMs, whose flows are not of one size
            times = [float(one.lead(choice, 1e6) + 1e6 * one.unit_time(choice)) for one in (few, whole)]
            assert times[0] == pytest.approx(times[1], rel=0.03 if near else 1e-9)
            assert few.unit_time(choice) == pytest.approx(whole.unit_time(choice), rel=0.08 if near else 1e-9)


@pytest.mark.parametrize("name", ["rails, halved", "rails without a spine", "tree in three tiers"])
def test_collisions_of_a_few_nodes_are_those_of_all(name):
    given = TREES.get(name, {"nodes_per_leaf": 4, "oversubscription": 2})
    cluster = fabric(**given, routing={"kind": "ecmp", "seed": 3, "queue_pairs": 2})
    slower = 0
    for kind in KINDS[:4]:
        whole = model_of(machine_of(cluster).topology(20), kind, range(160))
        few = LargeCollective(machine_of(cluster), kind, 20)
        for choice in whole.allowed():
            if choice != ("tree", "ll"):  # lanes of SMs, see above
                near = 0.08 if choice == ("tree", "ll128") else 1e-6
                assert few.unit_time(choice) == pytest.approx(whole.unit_time(choice), rel=near)
                slower += few.unit_time(choice) > 1.05 * few._evenly(choice)
    assert slower


def test_131072_gpus_cost_what_a_few_nodes_do():
    cluster = load_cluster("h100-fat-tree-3", cluster__nodes=16384, cluster__fabric__radix=128)
    for kind in ("all_reduce", "all_to_all"):
        model = calls._model(cluster, kind, range(131072), "nccl", "bf16")
        assert len(model.topology.gpus) <= 128 and model.n == 131072
        assert model.times(2.0**30).seconds > 0


@pytest.mark.parametrize("name", ["rails", "rails, small leaves", "tree in three tiers"])
def test_switches_that_reduce_carry_each_part_once_whatever_the_nodes(name):
    cluster = fabric(**TREES[name], sharp=True)
    whole = model_of(machine_of(cluster).topology(20), "all_reduce", range(160))
    choice, load = ("collnet", "simple"), Counter()
    few = LargeCollective(machine_of(cluster), "all_reduce", 20)
    assert few.unit_time(choice) == pytest.approx(whole.unit_time(choice), rel=1e-9)
    assert few.lead(choice, 1e6) == pytest.approx(whole.lead(choice, 1e6), rel=1e-9)
    for route, share, times in whole.schedule("collnet").flows:
        load.update(dict.fromkeys(route.edges, share * times))
    kinds = whole.topology.graph.nodes
    for (a, b), carried in load.items():
        ends = {kinds[a]["kind"], kinds[b]["kind"]}
        if ends <= {"nic", "leaf"}:
            assert carried == pytest.approx(1 / 8)  # eight adapters share what a node sends
        elif ends == {"leaf", "spine"}:
            assert carried == pytest.approx(1 if "tree" in name else 1 / 8)  # a part for each rail that crosses
    short = model_of(machine_of(cluster).topology(2), "all_reduce", range(16))
    assert short.lead(choice, 8.0) == pytest.approx(whole.lead(choice, 8.0), rel=0.1)  # not by the number of nodes
    with pytest.raises(InputError, match="no 'collnet' algorithm"):
        collective_time(fabric(), "all_reduce", 16, [8.0], algorithm="collnet")


def rate_of(cluster, kind):
    """Bytes a second of the payload, whatever launch and hops take: of twice the bytes, what they take longer."""
    once, twice = collective_time(cluster, kind, 16, [1e9, 2e9], protocol="ideal").seconds
    return 1e9 / (twice - once)


@pytest.mark.parametrize(("dims", "links"), [([4, 4], 2), ([2, 4, 2], 3), ([16], 1)])
def test_rings_in_a_torus_take_what_the_closed_form_says(tmp_path, dims, links):
    cluster = alone(tmp_path, f"kind: torus, link: ethernet-200g, lanes: 1, dims: {dims}")
    rate = cluster.port(cluster.spec.fabric).bandwidth
    assert rate_of(cluster, "all_reduce") == pytest.approx(rate * links * 16 / 15, rel=1e-9)
    assert rate_of(cluster, "all_gather") == pytest.approx(2 * rate * links * 16 / 15, rel=1e-9)
    assert rate_of(cluster, "all_to_all") == pytest.approx(8 * rate / max(dims), rel=1e-9)


def test_direct_exchange_in_a_full_mesh_takes_what_the_closed_form_says(tmp_path):
    cluster = alone(tmp_path, "kind: full_mesh, link: ethernet-200g, lanes: 1")
    rate = cluster.port(cluster.spec.fabric).bandwidth
    for kind, rounds in (("all_reduce", 2), ("all_gather", 1), ("all_to_all", 1)):
        assert rate_of(cluster, kind) == pytest.approx(16 * rate / rounds, rel=1e-9)


SMALL = {
    "fat_tree": {"nodes_per_leaf": 4},
    "rail": {"nodes_per_leaf": 4},
    "rail_only": {"nodes_per_leaf": 4},
    "dragonfly": {"radix": 16, "nodes_per_leaf": 1},
}


@pytest.mark.parametrize("kind", SMALL)
def test_what_enters_a_switch_leaves_it(kind):
    topology = machine_of(fabric(topology=kind, **SMALL[kind])).topology(12)
    into, out = Counter(), Counter()
    for edges, share in calls.traffic(topology, "all_to_all", range(96), "direct"):
        for a, b in edges:
            into[b] += share
            out[a] += share
    for switch in (v for v in topology.graph if topology.graph.nodes[v]["kind"] in ("leaf", "spine", "core")):
        assert into[switch] == pytest.approx(out[switch], rel=1e-9)
    assert sum(into[gpu] for gpu in topology.gpus) >= 95 * (1 - 1e-9)


def test_a_non_blocking_fabric_is_as_good_as_another_and_oversubscription_costs_what_crosses():
    base = collective_time(fabric(), "all_to_all", 1024, [1e9]).seconds
    assert collective_time(load_cluster("h100-fat-tree"), "all_to_all", 1024, [1e9]).seconds == pytest.approx(base)
    four = load_cluster("h100-fat-tree", cluster__fabric__oversubscription=4, cluster__fabric__nodes_per_leaf=4)
    layout, n = Layout(four.spec, 8), 1024
    crossing = (n - 4 * 8) / n * 4 * 8  # parts of a leaf's GPUs that leave it
    rate = layout.uplinks * four.port(four.spec.fabric).bandwidth
    model = calls._model(four, "all_to_all", range(n), "nccl", "bf16")
    assert model.unit_time(("direct", "simple")) == pytest.approx(crossing / n * n / rate, rel=1e-9)


@pytest.mark.parametrize("groups", [3, 4, 9])
def test_detours_reach_what_the_closed_forms_say(groups):
    """One group to one other: all of its links; each to the next: half of them; even traffic goes straight."""
    one, ring = np.zeros((2, 2)), np.roll(np.eye(groups), 1, axis=1)
    one[0, 1] = 6.0
    assert least_time(one, groups) == pytest.approx(6 / (groups - 1), rel=1e-9)
    assert least_time(ring, groups) == pytest.approx(2 / groups if groups > 3 else 2 / 3, rel=1e-9)
    assert least_time(1 - np.eye(groups), groups) == pytest.approx(1, rel=1e-9)


def test_adaptive_routing_makes_a_dragonfly_no_slower_and_a_job_in_few_groups_faster():
    seconds = []
    for routing in ("ideal", {"kind": "adaptive", "efficiency": 1.0}):
        cluster = load_cluster("h100-dragonfly", cluster__nodes=512, cluster__fabric__routing=routing,
                               cluster__fabric__core_oversubscription=4)  # fmt: skip
        seconds.append([float(collective_time(cluster, "all_to_all", n, [1e9]).seconds[0]) for n in (128, 384)])
    assert seconds[0][0] == seconds[1][0]  # within a group
    assert seconds[1][1] < 0.5 * seconds[0][1]


def test_detours_are_the_same_folded(stage):
    more = {"cluster.nodes": 512, "cluster.fabric.core_oversubscription": 8,
            "cluster.placement": {"kind": "listed", "nodes": "node[0-3,32-35]"}}  # fmt: skip
    plan, adaptive = Plan(dp=64, zero=1), {"cluster.fabric.routing": "adaptive"}
    bent, straight = (stage.cluster("h100-dragonfly", **more, **routing) for routing in (adaptive, {}))
    steps = [stage.run(bent, plan, 64, folded=folded).step for folded in (1, 0)]
    assert steps[0] == pytest.approx(steps[1], rel=1e-9)
    assert steps[0] < 0.99 * stage.run(straight, plan, 64).step


@pytest.mark.parametrize(("flows", "links", "expected"), [(16, 16, 3.1), (64, 64, 3.9), (64, 16, 2.0), (256, 32, 1.8)])
def test_collisions_are_those_of_balls_in_bins(flows, links, expected):
    drawn = mean(most_balls(seed, flows, links) for seed in range(400)) * links / flows
    assert drawn == pytest.approx(expected, rel=0.04)  # means of independent hashes


def test_hashed_flows_cost_what_the_fullest_link_has_and_more_queue_pairs_less():
    scattered = {"cluster__placement__kind": "random"}
    seconds = []
    for routing in ("ideal", 16, 4, 1):
        more = {"kind": routing} if routing == "ideal" else {"kind": "ecmp", "queue_pairs": routing, "seed": 1}
        given = {f"cluster__fabric__routing__{key}": value for key, value in more.items()}
        cluster = load_cluster("dgx-h100-ib", **scattered, **given)
        seconds.append(float(collective_time(cluster, "send_recv", 512, [1e9]).seconds[0]))
    assert seconds == sorted(seconds) and seconds[3] > 2 * seconds[0]


def test_where_nodes_stand_changes_nothing_but_what_crosses():
    packed = load_cluster("h100-fat-tree", cluster__nodes=32)
    place = {"kind": "listed", "nodes": "node[0-31]"}
    listed = load_cluster("h100-fat-tree", cluster__nodes=32, cluster__placement=place)
    assert collective_time(listed, "all_reduce", 256, SIZES).seconds == pytest.approx(
        collective_time(packed, "all_reduce", 256, SIZES).seconds, rel=1e-12
    )
    for kind in ("packed", "spread", "random"):
        cluster = load_cluster("h100-fat-tree", cluster__placement__kind=kind)
        assert sorted(Layout(cluster.spec, 8).positions(128)) == list(range(128))


def test_a_lost_nic_takes_a_rail_from_rings_and_half_of_a_port_from_pairs():
    whole, lost = load_cluster("dgx-h100-ib"), load_cluster("dgx-h100-ib", cluster__degraded=[{"node": 3, "nic": 2}])
    unit = [
        {
            choice: calls._model(cluster, kind, range(64), "nccl", "bf16").unit_time(choice)
            for kind, choice in (("all_reduce", ("ring", "simple")), ("all_to_all", ("direct", "simple")))
        }
        for cluster in (whole, lost)
    ]
    assert unit[1]["ring", "simple"] == pytest.approx(8 / 7 * unit[0]["ring", "simple"], rel=1e-9)
    assert unit[1]["direct", "simple"] == pytest.approx(2 * unit[0]["direct", "simple"], rel=1e-9)


ON = {
    "tree": {"topology": "fat-tree", "nodes_per_leaf": 4, "oversubscription": 4},
    "tree in three tiers": {"topology": "fat-tree", "radix": 16, "nodes_per_leaf": 1, "tiers": 3},
    "rails only": {"topology": "rail-only", "nodes_per_leaf": 4},
    "dragonfly": {"topology": "dragonfly", "radix": 16, "nodes_per_leaf": 1, "core_oversubscription": 4},
    "hashed": {"nodes_per_leaf": 4, "oversubscription": 2, "routing": {"kind": "ecmp", "seed": 2}},
    "reducing": {"nodes_per_leaf": 4, "sharp": True},
}


@pytest.mark.parametrize("plan", [Plan(dp=64, zero=1), Plan(tp=8, pp=2, dp=4, sequence_parallel=True)])
@pytest.mark.parametrize("name", ON)
def test_folded_steps_are_those_of_every_rank_on_every_fabric(stage, name, plan):
    cluster = stage.cluster("dgx-h100-ib", **{f"cluster.fabric.{key}": value for key, value in ON[name].items()})
    steps = [stage.run(cluster, plan, 64, folded=folded).step for folded in (1, 0)]
    assert steps[0] == pytest.approx(steps[1], rel=1e-9)


FAULTS = ({"node": 0, "nic": 0}, {"node": 5, "nic": 3, "rate": 0.5}, {"node": 2, "gpu": 3, "rate": 0.8},
          {"node": 1, "nvlink": 0, "rate": 0.5}, {"leaf": 2}, {"spines": 3}, {"leaf": 0, "rate": 0.5})  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("plan", [Plan(dp=64, zero=1), Plan(tp=8, pp=2, dp=4, sequence_parallel=True)])
def test_a_fault_never_makes_a_step_shorter_and_folding_keeps_it(stage, fault, plan):
    small = {"cluster.fabric.nodes_per_leaf": 4}
    whole = stage.cluster("dgx-h100-ib", **small)
    broken = stage.cluster("dgx-h100-ib", **small, **{"cluster.degraded": [fault]})
    steps = [stage.run(whole, plan, 64).step, *(stage.run(broken, plan, 64, folded=which).step for which in (1, 0))]
    assert steps[1] == pytest.approx(steps[2], rel=1e-9)
    assert steps[1] >= steps[0] * (1 - 1e-9)


def test_a_slow_gpu_is_a_straggler_of_all():
    work = {"kind": "training", "batch": 8, "tokens": 1024}
    steps = [
        simulate(load_cluster("dgx-h100-ib", cluster__degraded=faults), work, "mpt-760m", Plan(dp=8)).row["step_s"]
        for faults in ([], [{"node": 0, "gpu": 5, "rate": 0.5}])
    ]
    assert 1.5 * steps[0] < steps[1] <= 2 * steps[0]


def test_a_radix_that_does_not_suffice_names_one_that_does():
    spec = load_cluster("h100-fat-tree").spec
    few = spec.model_copy(update={"fabric": spec.fabric.model_copy(update={"radix": 16})})
    problem = shortage(few, 8)
    assert "128 nodes" in problem or "not 128" in problem
    enough = int(problem.split("radix ")[-1].split(" ")[0])
    assert most_nodes(spec.fabric.model_copy(update={"radix": enough}), 8) >= 128
    assert most_nodes(spec.fabric.model_copy(update={"radix": enough - 1}), 8) < 128


@pytest.mark.parametrize(("radix", "tiers", "hosts"), [(64, 2, 2048), (128, 2, 8192), (64, 3, 65536)])
def test_fat_trees_reach_the_hosts_of_the_formula(radix, tiers, hosts):
    spec = load_cluster("h100-fat-tree").spec
    fabric = spec.fabric.model_copy(update={"radix": radix, "tiers": tiers})
    assert 8 * most_nodes(fabric, 8) == hosts == (radix**2 / 2 if tiers == 2 else radix**3 / 4)


def test_hosts_as_slurm_writes_them():
    assert host_numbers("gpu[001-003,010],gpu4,7-8") == [1, 2, 3, 10, 4, 7, 8]


@pytest.mark.parametrize(("shape", "algorithm", "steps"), [("Ring", "ring", 14), ("FullyConnected", "direct", 2)])
def test_cases_of_astra_sim_take_its_formulas(tmp_path, shape, algorithm, steps):
    """Ring on a ring: 2 (n - 1) hops, 2 (n - 1) / n of the payload both ways; direct on all pairs: 2 hops, 2 / n."""
    file = tmp_path / "network.yml"
    file.write_text(f"topology: [ {shape} ]\nnpus_count: [ 8 ]\nbandwidth: [ 50.0 ]\nlatency: [ 500.0 ]\n")
    cluster = import_machine(file, gpu="h100-sxm").cluster
    way = machine_of(cluster).topology(1).route(0, 1)
    (edge,) = way.edges
    rate = machine_of(cluster).topology(1).graph.edges[edge]["bandwidth"]
    crossing = steps / 8 / 2 if algorithm == "ring" else 2 / 8
    sizes = np.array([1e3, 1e6, 1e9])
    seconds = collective_time(cluster, "all_reduce", 8, sizes, algorithm=algorithm, protocol="ideal").seconds
    launch = cluster.kernel.launch_overhead.si
    assert seconds == pytest.approx(launch + steps * way.latency + crossing * sizes / rate, rel=1e-9)
