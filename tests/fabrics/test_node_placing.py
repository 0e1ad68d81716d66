"""The search for a placement: it stays among the nodes that are free, and no placement is worse than as given."""

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue, Plan, load_cluster
from simgpu.cli import main
from simgpu.hardware.layout import host_numbers
from simgpu.study.search.ranked import open_experiment
from simgpu.study.whatif.placing import Ground, finalists, host_list, place

CLUSTER = load_cluster(
    "h100-fat-tree", cluster__nodes=32, cluster__fabric__oversubscription=8, cluster__fabric__nodes_per_leaf=4
)
STUDY = {
    "scenario": {
        "model": "mpt-125m", "cluster": "h100-fat-tree", "workload": {"kind": "training", "batch": 64, "tokens": 1024},
        "plan": {"dp": 64, "micro_batch": 1},
        "hardware": {"cluster.nodes": 32, "cluster.fabric.oversubscription": 8, "cluster.fabric.nodes_per_leaf": 4,
                     "cluster.placement": {"kind": "spread"}},
    },
}  # fmt: skip
places = st.lists(st.integers(0, 500), min_size=1, max_size=60, unique=True)


@given(places)
def test_places_read_back_as_they_were_listed(found):
    assert host_numbers(host_list(found)) == found


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 31), min_size=8, max_size=32, unique=True), st.sampled_from([1, 2, 4]))
def test_every_placement_is_of_free_nodes_and_none_is_given_twice(free, pp):
    ground = Ground(CLUSTER, Plan(tp=8, pp=pp, dp=8 // pp), 8, free)
    found = finalists(ground, 10)
    assert len(found) <= 10 and len({one for _, one in found}) == len(found)
    for name, one in found:
        assert len(set(one)) == 8 and (name == "as given" or set(one) <= set(free))
    if len(found) > 2:
        named = [ground.crossings(one) for name, one in found if name not in ("as given", "found")]
        assert all(ground.crossings(one)[0] <= min(named)[0] for name, one in found if name == "found")


def test_a_ring_in_whole_leaves_leaves_each_once():
    """Eight nodes on two leaves of four: two edges of the ring, one out of each; scattered, all eight."""
    ground = Ground(CLUSTER, Plan(tp=8, dp=8), 8, range(32))
    assert ground.crossings(range(8)) == (1, 2)
    assert ground.crossings([4 * i for i in range(8)]) == (1, 8)
    assert ground.crossings([0, 4, 1, 5, 2, 6, 3, 7]) == (4, 8)


def test_the_best_comes_first_and_buys_what_it_says():
    catalogue = Catalogue()
    done = place(open_experiment(STUDY, (), catalogue), 1, "", 4, catalogue)
    steps = [row["step_s"] for row in done.rows]
    assert steps == sorted(steps) and done.given == max(steps)
    found = done.document()
    assert found["gain"] == pytest.approx(done.given / steps[0] - 1) and found["gain"] > 0
    assert len(host_numbers(found["nodes"])) == 8


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["tp2_scaling"], "is no training step"),
        (["placement", "--case", "99"], "--case: 99"),
        (["placement", "--free", "node[0-7]"], "--free: names 8 nodes; the job has 64"),
        (["placement", "--free", "node[0-700]"], "--free: node 128 is not among its 128 nodes"),
        (["placement", "--free", "node[3-"], "names no nodes"),
        (["placement", "--free", ""], "--free: names no nodes; expected such as 'node[0-3,8]', or no --free for all"),
    ],
)
def test_what_cannot_be_placed_is_one_line(arguments, problem):
    done = CliRunner().invoke(main, ["place", *arguments])
    assert done.exit_code == 2 and problem in done.output and done.output.strip().count("\n") == 0
