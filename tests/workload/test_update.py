"""The end of a step, what is tied, and prompts on GPUs of their own: closed forms."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

import simgpu
from simgpu.engine import Simulator
from simgpu.hardware.cluster import Cluster
from simgpu.model.operators import BYTES
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import precision_of
from simgpu.plan.serving_memory import cache_bytes
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import Activity
from simgpu.workload.framework_files import framework
from simgpu.workload.inference import disaggregation
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.disaggregation import TRANSFER_FRACTION, serve_apart
from simgpu.workload.inference.generation import pipelined, prefill_runs
from simgpu.workload.inference.serving import Load
from simgpu.workload.inference.speculation import Speculation
from simgpu.workload.links import Links
from simgpu.workload.runtime_files import runtime
from simgpu.workload.training.chunks import tied_table
from simgpu.workload.training.job import Job
from simgpu.workload.training.update import norm_of, update_of

MODEL = simgpu.load_model("llama-3.1-8b")
TRAINED, EXPERTS = 1.2e9, 2e8
"""Parameters of a rank, and those of them in experts."""


def updates(plan: Plan, cluster: Cluster | None = None, **asked: Any) -> dict[str, tuple[Activity, float]]:
    """What a rank runs after its gradients are there, by name: activity and seconds."""
    cluster, job = cluster or simgpu.load_cluster("dgx-h100"), simgpu.Training(batch=8, tokens=128, **asked)
    kernels = KernelModel(cluster)
    work = Job(MODEL, plan, job.numerics("bf16"), framework("megatron"), 8, 128, "fp32")
    links = Links(cluster, plan, kernels, "auto", "auto")
    found = [*norm_of(work, kernels, TRAINED, EXPERTS), *update_of(work, kernels, links, TRAINED, EXPERTS)]
    return {one.name: (one, seconds) for one, seconds in found}


@pytest.mark.parametrize(
    ("plan", "dense", "experts"),
    [(Plan(dp=8), 1, 1), (Plan(dp=8, zero=1), 8, 8), (Plan(dp=8, zero=1, shard=2), 2, 8), (Plan(dp=8, ep=4, zero=1),
    8, 2)],
)  # fmt: skip
def test_a_rank_updates_its_share(plan: Plan, dense: int, experts: int) -> None:
    """Adam with master weights in fp32: 12 bytes of states read and written, 4 of gradients read. Ranks that share a
    copy share its update; experts have a copy on as many ranks as hold the same ones."""
    mine = (TRAINED - EXPERTS) / dense + EXPERTS / experts
    assert updates(plan)["optimizer"][0].bytes == pytest.approx(mine * (2 * 12 + 4))


def test_a_norm_reads_what_clipping_reads_and_writes() -> None:
    found = updates(Plan())
    assert found["gradient norm"][1] < found["clip gradients"][1] < 2.2 * found["gradient norm"][1]


def test_offloaded_states_send_gradients_down_and_weights_up() -> None:
    """The two ways of the host link follow each other where the memory of the host is fast."""
    cluster = simgpu.load_cluster("dgx-h100")
    sockets = [
        one.model_copy(update={"memory_bandwidth": one.memory_bandwidth.model_copy(update={"value": 1e12})})
        for one in cluster.node.sockets
    ]
    fast = replace(cluster, node=cluster.node.model_copy(update={"sockets": sockets}))
    port = cluster.port(cluster.gpu.host_link)
    assert updates(Plan(offload="optimizer"), fast)["optimizer"][1] == pytest.approx(TRAINED * (4 + 2) / port.bandwidth)


@pytest.mark.parametrize(("tied", "pp", "tp", "expected"), [(True, 1, 1, 0.0), (False, 2, 1, 0.0), (True, 2, 2, 0.5)])
def test_a_tied_table_is_a_second_one_on_another_stage_alone(tied: bool, pp: int, tp: int, expected: float) -> None:
    config = replace(MODEL, tied_embeddings=tied)
    numerics = simgpu.Training(batch=8, tokens=128).numerics("bf16")
    work = Job(config, Plan(tp=tp, pp=pp, micro_batch=1), numerics, framework("megatron"), 8, 128, "fp32")
    assert tied_table(work) == expected * MODEL.vocab * MODEL.hidden


def test_only_copies_of_a_shard_are_summed_between_them() -> None:
    """Eight ranks, two of which share a copy: each sums half of the gradients with its three likes."""
    cluster, plan = simgpu.load_cluster("dgx-h100"), Plan(dp=8, zero=2, shard=2, micro_batch=1)
    job = simgpu.Training(batch=8, tokens=128)
    result = simgpu.simulate(cluster, job, replace(MODEL, layers=2), plan, framework="pytorch-compiled")
    moved: dict[str, float] = {}
    for span in result.timeline.spans([result.execution.streams[0][name] for name in ("grad", "replica")]):
        assert isinstance(span.label, Activity)
        moved[span.label.group, span.label.kind] = moved.get((span.label.group, span.label.kind), 0) + span.label.bytes
    assert moved["replica", "all_reduce"] == pytest.approx(moved["shard", "reduce_scatter"] / 2)


# ---- inference -----------------------------------------------------------------------------------------------


def deployed(**more: Any) -> Deployment:
    return Deployment(MODEL, simgpu.load_cluster("dgx-h100"), Plan(), precision_of("bf16"), runtime("vllm"), **more)


def test_caches_cross_the_network_before_the_second_token(monkeypatch: pytest.MonkeyPatch) -> None:
    one, load, found = deployed(), Load(1, 4000, 50), []
    for rate in (1e9, 1e30):
        monkeypatch.setattr(disaggregation, "network_rate", lambda _, rate=rate: rate)
        found.append(serve_apart(one, one, load).ttft)
    assert found[0] - found[1] == pytest.approx(cache_bytes(one.served, 4000, 0) / (TRANSFER_FRACTION * 1e9), rel=1e-6)


@pytest.mark.parametrize("prefills", [1, 2])
def test_answers_come_no_faster_than_prompts_are_read(prefills: int) -> None:
    one, load = deployed(), Load(256, 4000, 8)
    alone = pipelined(prefill_runs(one, 1, 4000), one.runtime.queue)
    done = serve_apart(one, one, load, prefills, 8)
    assert 0.5 * prefills / alone < done.requests_per_s <= prefills / alone * (1 + 1e-9)


def test_a_verification_takes_all_guesses_and_the_token_before_them() -> None:
    one = deployed()
    (group,) = Speculation(4, 0.8, one).verify(one, 3, 100).groups
    assert (group.count, group.queries, group.keys, group.logits) == (3, 5, 105, 5)


def test_the_width_of_gradients_on_the_wire_is_that_of_the_reduction() -> None:
    """All-reduces of a step carry each parameter once, in that type."""
    cluster = simgpu.load_cluster("dgx-h100")
    for reduce in ("fp32", "bf16"):
        job = simgpu.Training(batch=8, tokens=128, reduce=reduce)
        done = simgpu.simulate(cluster, job, replace(MODEL, layers=2), Plan(dp=8, micro_batch=1))
        stream = [done.execution.streams[0]["grad"]]
        moved = sum(span.label.bytes for span in done.timeline.spans(stream))
        assert moved == pytest.approx(replace(MODEL, layers=2).parameters * BYTES[reduce])


def test_a_rank_that_ends_last_is_the_one_that_is_taken_apart() -> None:
    from simgpu.analysis.breakdown import breakdown
    from simgpu.workload.execution import Execution

    sim = Simulator()
    streams = [{"compute": sim.add_stream(f"{rank}/compute")} for rank in range(3)]
    for rank, seconds in enumerate((1.0, 3.0, 2.0)):
        sim.delay(streams[rank]["compute"], seconds, (), Activity("k", "compute", "matmul", "s"))
    found = breakdown(Execution(sim.run(), streams))
    assert (found.rank, found.step, found.compute, found.idle) == (1, 3.0, 3.0, 0.0)
