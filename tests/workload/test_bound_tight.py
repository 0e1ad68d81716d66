"""The lower bound of a search on synthetic clusters, where it is known how far below the step it may be.

Kernels that run at the speed of light, on a GPU whose collectives cost nothing, leave the floor of a step only what it
leaves out: attention, what streams, the ends. And no collective is faster than its bytes over all links of a GPU.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

import simgpu
from simgpu.engine import Simulator
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import Kernel
from simgpu.plan.parallelism import Plan
from simgpu.timing.collectives import collective_time
from simgpu.timing.kernels import KernelModel, KernelTime
from simgpu.workload.framework_files import framework
from simgpu.workload.links import Links
from simgpu.workload.training.bound import Bounds, Egress
from simgpu.workload.training.job import Job
from simgpu.workload.training.step import run_step

WIDE = replace(
    simgpu.load_model("llama-3.1-70b"), layers=8, heads=128, kv_heads=16, hidden=16384, ffn=53248, vocab=2048
)
"""Layers in which matrices are nearly all there is."""
EXPERTS = replace(simgpu.load_model("mixtral-8x7b"), layers=4, vocab=2048)


class Light(KernelModel):
    """Kernels at datasheet peak or bandwidth, without latencies."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster, sustained=False)
        self._known = {}

    def _time(self, op: Kernel) -> KernelTime:
        light = self._speed_of_light(op)[0]
        return KernelTime(light, light, 0.0, 0.0, "compute", sol_s=light)


def floor_and_step(model: TransformerConfig, plan: Plan, batch: int = 8, **asked: object) -> tuple[float, float]:
    """Seconds: the floor and the bound of a step, and the step."""
    cluster, tokens = simgpu.load_cluster("dgx-h100"), 2048
    job = simgpu.Training(batch=batch, tokens=tokens, **asked)  # type: ignore[arg-type]
    kernels, stack = Light(cluster), framework("megatron")
    stack = replace(stack, launch_s=0.0, step_s=0.0)
    work = Job(model, plan, job.numerics("bf16", model), stack, batch, tokens, "fp32")
    step = run_step(work, kernels, Links(cluster, plan, kernels, "auto", "auto")).step
    floor, bound = Bounds(cluster).floor(work, kernels), Bounds(cluster).seconds(work, kernels)
    assert floor <= bound <= step * (1 + 1e-9)
    return floor, step


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_the_floor_is_nearly_the_step_where_kernels_run_at_the_speed_of_light(recompute: str) -> None:
    floor, step = floor_and_step(WIDE, Plan(micro_batch=8, recompute=recompute), optimizer="none")
    assert 0.9 < floor / step < 1


def test_frozen_weights_are_multiplied_by_once_less() -> None:
    floor, step = floor_and_step(WIDE, Plan(micro_batch=8), optimizer="none", finetune="lora", rank=1, targets=("qkv",))
    assert 0.9 < floor / step < 1


def test_ranks_of_a_context_have_their_share_of_the_tokens() -> None:
    floor, step = floor_and_step(WIDE, Plan(cp=2, micro_batch=8), batch=32, optimizer="none")
    assert 0.6 < floor / step < 1


def test_tokens_meet_few_experts() -> None:
    floor, step = floor_and_step(EXPERTS, Plan(micro_batch=8), optimizer="none")
    assert 0.01 < floor / step < 1


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
@pytest.mark.parametrize("ranks", [2, 3, 4, 8])
def test_no_collective_in_a_node_is_faster_than_its_bytes_over_all_links_of_a_gpu(kind: str, ranks: int) -> None:
    cluster, size = simgpu.load_cluster("dgx-h100"), 1e9
    bound = Egress.of(cluster).seconds(kind, range(ranks), 1, size)
    seconds = float(collective_time(cluster, kind, ranks, size, protocol="ideal").seconds)
    assert seconds * (0.4 if kind == "all_reduce" else 0.8) < bound <= seconds  # a ring reduces with twice the bytes


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter"])
@pytest.mark.parametrize("nodes", [2, 4])
def test_groups_that_share_the_adapters_of_their_nodes_are_no_faster_than_those(kind: str, nodes: int) -> None:
    """Eight groups, each with one rank of every node: what leaves a node goes through its adapters, all of them."""
    cluster, size = simgpu.load_cluster("dgx-h100-ib", cluster__nodes=nodes), 1e9
    plan, kernels = Plan(tp=8, dp=nodes), KernelModel(cluster)
    links, sim = Links(cluster, plan, kernels, "ring", "ideal", folded=False), Simulator()
    links.use(sim)
    for transfer in links.collective(kind, "grad", 0, size):
        sim.transfer([sim.add_stream(str(rank)) for rank in transfer.ranks], transfer.phases)
    seconds = sim.run().makespan
    bound = Egress.of(cluster).seconds(kind, plan.group("grad", 0), 8, size)
    assert 0.9 * seconds < bound <= seconds * (1 + 1e-9)


def test_channels_take_half_of_the_multiprocessors_at_most() -> None:
    """NCCL would leave kernels nothing of a GPU that has fewer multiprocessors than it opens channels."""
    plan = Plan(dp=8)
    drags = []
    for count in (132, 8):
        cluster = simgpu.load_cluster("dgx-h100", gpu__compute__sm_count=count)
        links = Links(cluster, plan, KernelModel(cluster), "ring", "simple")
        links.use(Simulator())
        drags.append(links.collective("all_reduce", "grad", 0, 1e9)[0].call.drag)
    assert 0 < drags[0] < 0.5 == drags[1]
