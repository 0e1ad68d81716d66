"""Failures in turn and jobs on one fabric: alike ones once, the worst first; alone nobody is slowed."""

from dataclasses import replace

import pytest

from simgpu import Catalogue, Plan, load_cluster
from simgpu.study.search.ranked import open_experiment
from simgpu.study.whatif.failures import SHOWN, failures, what_breaks, why_faster
from simgpu.study.whatif.sharing import Running, share, simulate_together

STUDY = {
    "scenario": {
        "model": "mpt-125m", "cluster": "h100-fat-tree", "workload": {"kind": "training", "batch": 128, "tokens": 1024},
        "plan": {"dp": 128, "micro_batch": 1},
        "hardware": {"cluster.nodes": 32, "cluster.fabric.oversubscription": 8, "cluster.fabric.nodes_per_leaf": 4},
    },
    "cases": [
        {"labels": {"job": "even"}, "hardware": {"cluster.placement": list(range(0, 32, 2))}},
        {"labels": {"job": "odd"}, "hardware": {"cluster.placement": list(range(1, 32, 2))}},
    ],
}  # fmt: skip
EDGE = ("leaf0", "spine")


def job(name, busy, edge=EDGE):
    return Running(name, 8, frozenset(), 1.0, busy, {edge: busy * 10.0}, {edge: 10.0})


@pytest.mark.parametrize("busy", [0.1, 0.4, 0.8])
def test_jobs_that_share_nothing_take_what_they_take_alone(busy):
    apart = [job("a", busy), job("b", busy, ("leaf1", "spine"))]
    assert simulate_together(apart, draws=2) == pytest.approx([1.0, 1.0], rel=1e-9)


def test_two_jobs_on_a_full_link_lose_about_the_product_of_their_shares_and_never_more_than_they_send():
    for busy in (0.2, 0.5):
        together = simulate_together([job("a", busy), job("b", busy)])
        assert all(1.0 <= step <= 1 + busy + 1e-9 for step in together)
    full = simulate_together([job("a", 1.0), job("b", 1.0)], draws=2)
    assert full == pytest.approx([2.0, 2.0], rel=0.1)


def test_jobs_of_a_file_share_links_where_their_nodes_alternate():
    catalogue = Catalogue()
    done = share(open_experiment(STUDY, (), catalogue), catalogue)
    assert [row["job"] for row in done.rows] == ["even", "odd"]
    assert all(row["shared_links"] > 0 and row["slowdown"] >= 1 for row in done.rows)
    packed = {**STUDY, "cases": [
        {"labels": {"job": name}, "hardware": {"cluster.placement": list(range(first, first + 16))}}
        for name, first in (("first", 0), ("last", 16))
    ]}  # fmt: skip
    apart = share(open_experiment(packed, (), catalogue), catalogue)
    assert all(row["shared_links"] == 0 and row["slowdown"] == pytest.approx(1) for row in apart.rows)


def test_alike_failures_are_one_row_and_count_every_part():
    cluster, plan = load_cluster("dgx-h100-ib"), Plan(tp=8, pp=4, dp=16)
    found = failures(cluster, plan)
    for what, each in (("NIC lost", 8), ("GPU at 80%", 8), ("leaf switch lost", 0)):
        alike = sum(one.alike for one in found if one.what == what)
        assert alike == (64 * each if each else 2 * 8)
    assert len(found) < 40


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (("tree/ll128", "24 channels"), "NCCL chooses another algorithm (all_reduce of 4 MB ring/ll128 -> tree/ll128)"),
        (("ring/ll128", "16 channels"), "NCCL takes other numbers of channels"),
        (("ring/ll128", "24 channels"), "read it as no loss"),
    ],
)
def test_a_step_that_a_failure_makes_faster_says_why(after, words):
    key = ("all_reduce", "dp", 4e6)
    before = {key: ("ring/ll128", "24 channels")}
    assert words in why_faster(0.97, before, {key: after})
    assert why_faster(1.0, before, {key: after}) == why_faster(1 - SHOWN / 2, before, {key: after}) == ""


def test_the_worst_failure_comes_first():
    catalogue = Catalogue()
    done = what_breaks(open_experiment(STUDY, (), catalogue), 1, catalogue)
    slowdowns = [row["slowdown"] for row in done.rows]
    assert slowdowns == sorted(slowdowns, reverse=True) and slowdowns[0] > 1.1
    assert min(slowdowns) > 0.95  # NCCL chooses by its estimates: a slower link can make it choose better
    assert all(bool(row["note"]) == (row["slowdown"] <= 1 - SHOWN) for row in done.rows)
    assert replace(done, rows=[]).document()["rows"] == []
