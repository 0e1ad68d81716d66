"""The lower bound of a training step holds for every plan, and is close enough to decide most of them."""

from __future__ import annotations

import random
from dataclasses import fields, replace
from statistics import median

import pytest
from memory_by_name import fullest, memory_per_stage
from sampling import sampled
from scenarios import fresh
from training_scenarios import BASE, PAIRS, Scenario, cluster

import simgpu
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.plan.memory import peak
from simgpu.plan.parallelism import Plan
from simgpu.simulation.training import kernels_of
from simgpu.timing.kernels import KernelModel
from simgpu.workload.framework_files import framework
from simgpu.workload.links import Links
from simgpu.workload.training.bound import Bounds
from simgpu.workload.training.step import Job, run_step

CASES = [
    ("llama-3.1-8b", "dgx-h100-ib", 4, 64, 4096, "pytorch-compiled"),
    ("mixtral-8x7b", "dgx-h100-ib", 8, 128, 4096, "megatron"),
    ("llama-3.1-8b", "l40s-8x-ethernet", 2, 32, 4096, "megatron"),
    pytest.param("gpt3-175b", "dgx-a100-ib", 128, 512, 2048, "megatron-2022", marks=pytest.mark.slow),
]
PLANS = 20
CHOICES = {
    "vp": [1, 1, 2, 3], "ep": [1, 1, 2, 8], "zero": [0, 1, 1, 2, 3], "micro_batch": [1, 1, 2, 4],
    "recompute": ["none", "selective", "full"], "sequence_parallel": [True, False],
    "overlap_gradients": [True, True, False], "overlap_weights": [True, True, False],
    "offload": ["none", "none", "optimizer", "parameters"], "async_tp": [False, False, True],
    "context": ["ring", "all_gather"],
    "schedule": [None, None, "gpipe", "zb-h1", "zb-v", "dualpipe-v"],
}  # fmt: skip


def drawn(draw: random.Random, gpus: int) -> Plan:
    """A plan over all GPUs that nothing but luck chose."""
    while True:
        tp, pp, cp = draw.choice([1, 2, 4, 8, 16]), draw.choice([1, 1, 2, 4, 8]), draw.choice([1, 1, 2, 4])
        if gpus % (tp * pp * cp) == 0:
            rest = {key: draw.choice(values) for key, values in CHOICES.items()}
            try:
                return Plan(
                    tp=tp, pp=pp, cp=cp, dp=gpus // (tp * pp * cp), **{**rest, "vp": rest["vp"] if pp > 1 else 1}
                )
            except InputError:
                continue


@pytest.mark.parametrize(("model", "cluster", "nodes", "batch", "tokens", "stack"), sampled(CASES, 3, first=1))
def test_no_step_is_faster_than_its_bound(
    model: str, cluster: str, nodes: int, batch: int, tokens: int, stack: str
) -> None:
    config, box = simgpu.load_model(model), simgpu.load_cluster(cluster, cluster__nodes=nodes)
    asked, how, bounds = simgpu.Training(batch=batch, tokens=tokens), framework(stack), Bounds(box)
    draw, ratios = random.Random(6), []
    while len(ratios) < PLANS:
        plan = drawn(draw, box.gpu_count)
        try:
            asked.check(config, plan)
        except InputError:
            continue
        job = Job(config, plan, asked.numerics("bf16"), how, batch, tokens, "fp32")
        if job.microbatches * plan.pp * plan.vp > 1500:
            continue
        kernels = kernels_of(how, box, True, "tensorwise", plan.cp)
        step = run_step(job, kernels, Links(box, plan, kernels, "auto", "auto")).step
        ratios.append(bounds.seconds(job, kernels) / step)
        assert bounds.floor(job, kernels) <= bounds.seconds(job, kernels), plan
        assert ratios[-1] <= 1 + 1e-9, plan
    assert median(ratios) > 0.9


def test_it_is_the_step_where_nothing_waits() -> None:
    config, box, how = simgpu.load_model("llama-3.1-8b"), simgpu.load_cluster("dgx-h100"), framework("megatron")
    asked = simgpu.Training(batch=8, tokens=2048)
    for plan in (Plan(micro_batch=1), Plan(tp=8, micro_batch=2)):
        job = Job(config, plan, asked.numerics("bf16"), how, 8, 2048, "fp32")
        kernels = kernels_of(how, box, True, "tensorwise")
        step = run_step(job, kernels, Links(box, plan, kernels, "auto", "auto")).step
        assert Bounds(box).seconds(job, kernels) == pytest.approx(step, rel=1e-3)


@pytest.mark.parametrize("stack", ["megatron", "pytorch-compiled"])
@pytest.mark.parametrize("zero", sampled([2, 3], 2))
def test_groups_that_drift_apart_have_the_nic_to_themselves(stack: str, zero: int) -> None:
    """Eight groups of a node share its one NIC; nothing overlaps, so that each waits for its own collectives only."""
    box, how = simgpu.load_cluster("rtx-4090-8x-ethernet", cluster__nodes=2), framework(stack)
    plan = Plan(
        tp=8, dp=2, sequence_parallel=True, zero=zero, micro_batch=1, overlap_gradients=False, overlap_weights=False
    )
    for model in ("mpt-1b", "llama-3.2-1b"):
        numerics = simgpu.Training(batch=64, tokens=1536).numerics("bf16")
        job = Job(simgpu.load_model(model), plan, numerics, how, 64, 1536, "fp32")
        kernels = kernels_of(how, box, True, "tensorwise")
        step = run_step(job, kernels, Links(box, plan, kernels, "auto", "auto")).step
        assert Bounds(box).seconds(job, kernels) <= step


@pytest.mark.slow
def test_known_parts_do_not_leak_from_one_plan_to_another() -> None:
    """One `Bounds` for many plans gives what a fresh one gives for each."""
    config, box, how = simgpu.load_model("mixtral-8x7b"), simgpu.load_cluster("dgx-h100-ib", cluster__nodes=4), None
    how, shared = framework("megatron"), Bounds(box)
    asked, draw, seen = simgpu.Training(batch=64, tokens=2048), random.Random(1), 0
    while seen < 60:
        plan = drawn(draw, box.gpu_count)
        try:
            asked.check(config, plan)
        except InputError:
            continue
        job = Job(config, plan, asked.numerics("bf16"), how, 64, 2048, "fp32")
        kernels = kernels_of(how, box, True, "tensorwise", plan.cp)
        alone = fresh(box)
        own = kernels_of(how, alone, True, "tensorwise", plan.cp)
        assert shared.seconds(job, kernels) == pytest.approx(Bounds(alone).seconds(job, own), rel=1e-12), plan
        seen += 1


@pytest.mark.parametrize(
    "field",
    sorted(({one.name for one in fields(Plan)} - {"redundant_experts"}) | {"batch", "tokens", "clip", "reduce"}),
)
def test_two_steps_that_differ_in_a_field_share_no_bound(field: str) -> None:
    """Fields of a plan, all of them; of the rest of a job, which makes another job, some."""
    given, value = PAIRS[field]
    first = BASE
    for key, changed in given.items():
        first = first.but(key, changed)
    both = (first, first.but(field, value))
    box, found = cluster(first.cluster), []
    for order in (both, both[::-1]):
        shared = Bounds(box)
        found.append([shared.seconds(*_bounded(scenario, box)) for scenario in order])
    boxes = [fresh(box) for _ in both]
    alone = [Bounds(one).seconds(*_bounded(scenario, one)) for scenario, one in zip(both, boxes, strict=True)]
    assert found[0] == found[1][::-1] == alone


def _bounded(scenario: Scenario, box: Cluster) -> tuple[Job, KernelModel]:
    """What a bound is asked of."""
    job, how, plan = scenario.job, framework("megatron"), scenario.plan
    work = Job(
        scenario.config, plan, job.numerics("bf16"), how, job.batch, job.tokens, "fp32", job.routing, None, job.clip
    )
    return work, kernels_of(how, box, True, "tensorwise", plan.cp)


@pytest.mark.parametrize("model", ["gpt3-175b", "mixtral-8x7b", "deepseek-v3", "gemma-3-27b"])
def test_the_fullest_stage_is_found_without_the_others(model: str) -> None:
    config, draw, seen = simgpu.load_model(model), random.Random(3), 0
    asked = simgpu.Training(batch=256, tokens=2048)
    while seen < 40:
        plan = drawn(draw, 128)
        try:
            asked.check(config, plan)
        except InputError:
            plan = replace(plan, vp=1, schedule=None, ep=1, tp=min(plan.tp, 8))
            try:
                asked.check(config, plan)
            except InputError:
                continue
        given = (config, plan, asked.numerics("bf16"), 256, 2048, 80e9)
        assert fullest(*given).total == peak(memory_per_stage(*given)).total, plan
        seen += 1
