"""What was worked out is remembered within bounds, and never under the name of something else."""

from dataclasses import replace

import pytest

import simgpu
from simgpu.memo import SHARED, Memo, Region
from simgpu.timing import kernels as kernel_times
from simgpu.timing.kernels import KernelModel
from simgpu.workload import links
from simgpu.workload.inference import deployment
from simgpu.workload.training import layers

CATALOGUE = simgpu.Catalogue()
MODEL = replace(CATALOGUE.model("llama-3.1-8b"), layers=2, name="small")


def test_a_region_keeps_the_newest():
    region = Region(3)
    for n in range(10):
        region[n] = str(n)
        region[n] = str(n)
        assert len(region) <= 3
    assert list(region) == [7, 8, 9]
    assert region.known(9, lambda: pytest.fail("it is known")) == "9"
    assert region.known(1, lambda: "made") == "made" and list(region) == [8, 9, 1]


def test_regions_are_by_name():
    memo = Memo()
    memo.region("a", 1)["x"] = 1
    memo.region("a", 1)["y"] = 2
    memo.region("b", 5)
    assert memo.counts() == {"a": 1, "b": 0}
    memo.clear()
    assert memo.counts() == {"a": 0, "b": 0}


def test_every_memory_of_a_cluster_has_a_bound(monkeypatch):
    """Many different jobs on one cluster leave no more than the bounds, and change no answer."""
    monkeypatch.setattr(layers, "REMEMBERED", 6)
    monkeypatch.setattr(links, "REMEMBERED", 4)
    monkeypatch.setattr(links, "GROUPS", 2)
    monkeypatch.setattr(deployment, "REMEMBERED", 3)
    monkeypatch.setattr(deployment, "DEPLOYMENTS", 2)
    monkeypatch.setattr("simgpu.simulation.call.REMEMBERED", 2)
    monkeypatch.setattr("simgpu.simulation.training.REMEMBERED", 2)
    monkeypatch.setattr("simgpu.hardware.topology.TOPOLOGIES", 2)
    shared = CATALOGUE.cluster("dgx-h100-ib")
    cases = []
    for tokens in (128, 256, 384):
        for split in ({"tp": 2, "dp": 2}, {"tp": 4}, {"pp": 2, "dp": 4}, {"dp": 24}):
            plan = simgpu.Plan(**split, micro_batch=1)
            cases.append((simgpu.Training(batch=2 * plan.dp * plan.pp, tokens=tokens), plan))
        cases.append((simgpu.Prefill(tokens=tokens), simgpu.Plan(tp=2)))
        cases += [(simgpu.Inference(batch=4, prompt=tokens, output=8), simgpu.Plan(tp=tp)) for tp in (1, 2, 4)]
    first = [simgpu.simulate(shared, job, MODEL, plan).step_s for job, plan in cases]
    for name, region in shared.memo._regions.items():
        assert len(region) <= region.most <= 6, name
    again = [simgpu.simulate(shared, job, MODEL, plan).step_s for job, plan in reversed(cases)]
    assert again[::-1] == first
    fresh = [simgpu.simulate(CATALOGUE.cluster("dgx-h100-ib"), job, MODEL, plan).step_s for job, plan in cases[::5]]
    assert fresh == first[::5]


def test_times_of_kernels_have_a_bound(monkeypatch):
    monkeypatch.setattr(kernel_times, "KERNELS", 5)
    cluster = simgpu.load_cluster("h100-sxm", gpu__memory__bandwidth="3.21 TB/s")
    for tokens in range(100, 120):
        simgpu.simulate(cluster, simgpu.Prefill(tokens=tokens), MODEL)
    assert len(KernelModel(cluster)._known) <= 5


def test_figures_of_gpus_have_a_bound():
    """As a sensitivity asks: many GPUs that differ in a figure. Names of kernels stay apart."""
    names = {}
    for n in range(kernel_times.FIGURES + 5):
        cluster = simgpu.load_cluster("h100-sxm", gpu__memory__bandwidth=f"{3 + n / 1000} TB/s", catalogue=CATALOGUE)
        names[KernelModel(cluster).identity] = n
    assert len(names) == kernel_times.FIGURES + 5
    assert SHARED.counts()["kernels"] <= kernel_times.FIGURES
    same = [KernelModel(CATALOGUE.cluster("h100-sxm")).identity for _ in range(2)]
    assert same[0] == same[1] not in names
