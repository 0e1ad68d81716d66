"""Loads of links: bytes are conserved, nothing is faster than its link, and small cases come out by hand."""

import pytest

import simgpu
from simgpu.analysis.loads import calls_of, link_loads
from simgpu.errors import InputError


def made(cluster, job, model, plan, nodes=2, **how):
    box = simgpu.load_cluster(cluster)
    result = simgpu.simulate(box, job, simgpu.load_model(model), plan, **how)
    return result, link_loads(result.execution, plan, box, nodes)


def leaving(loads, kinds=("gpu",)):
    """Bytes that leave all GPUs, and those that reach them."""
    graph = loads.topology.graph
    out = sum(moved for (a, _), moved in loads.bytes.items() if graph.nodes[a]["kind"] in kinds)
    into = sum(moved for (_, b), moved in loads.bytes.items() if graph.nodes[b]["kind"] in kinds)
    return out, into


def ring(n):
    return 2 * (n - 1) / n


@pytest.mark.parametrize("cluster", ["dgx-h100", "rtx-4090-pcie-8x", "rtx-3090-nvlink-8x"])
def test_what_leaves_the_gpus_is_what_the_all_reduces_of_prefill_send(cluster):
    plan = simgpu.Plan(tp=4)
    result, loads = made(cluster, simgpu.Prefill(batch=1, tokens=512), "llama-2-7b", plan, algorithm="ring")
    gathered = [c for c in calls_of(result.execution, plan) if c.kind == "all_gather"]  # of the logits, once
    reduced = result.communication_bytes - sum(c.size for c in gathered)
    expected = 4 * ring(4) * reduced + sum(3 * c.size for c in gathered)
    assert leaving(loads) == pytest.approx((expected, expected))


@pytest.mark.parametrize("cluster", ["dgx-h100-ib", "rtx-4090-8x-ethernet"])
def test_gradients_of_sixteen_replicas_cross_one_ring(cluster):
    job = simgpu.Training(batch=16, tokens=512, reduce="bf16", gradients="bf16")
    _result, loads = made(cluster, job, "mpt-125m", simgpu.Plan(dp=16), algorithm="ring")
    config = simgpu.load_model("mpt-125m")
    expected = 16 * ring(16) * 2 * config.parameters  # two bytes each
    assert leaving(loads) == pytest.approx((expected, expected), rel=1e-3)
    nics = [edge for edge in loads.bytes if "nic" in edge[0] and "leaf" in edge[1]]
    assert sum(loads.bytes[edge] for edge in nics) == pytest.approx(2 * ring(16) * 2 * config.parameters, rel=1e-3)


def test_stages_send_activations_forth_and_their_gradients_back():
    job = simgpu.Training(batch=8, tokens=256)
    _result, loads = made("dgx-h100", job, "llama-2-7b", simgpu.Plan(pp=2, micro_batch=1))
    each = 8 * 256 * simgpu.load_model("llama-2-7b").hidden * 2
    switch = "n0.nvswitch"
    moved = [loads.bytes[edge] for edge in (("n0.gpu0", switch), (switch, "n0.gpu1"), ("n0.gpu1", switch))]
    assert moved == pytest.approx([each] * 3)
    assert "n0.gpu2" not in {a for a, _ in loads.bytes}


def test_parts_of_a_tensor_group_are_put_together_on_arrival():
    job = simgpu.Training(batch=4, tokens=256)
    model = simgpu.load_model("llama-2-7b")
    plan = simgpu.Plan(tp=2, pp=2, micro_batch=1)
    result, _loads = made("dgx-h100", job, "llama-2-7b", plan)
    sends = {call: times for call, times in calls_of(result.execution, plan).items() if call.to is not None}
    assert {(call.stage, call.to): times for call, times in sends.items()} == {(0, 1): 4, (1, 0): 4}
    assert {call.size for call in sends} == {256 * model.hidden * 2 / 2}
    gathers = [call for call in calls_of(result.execution, plan) if call.kind == "all_gather" and not call.algorithm]
    assert {(call.stage, call.size) for call in gathers} == {(1, 256 * model.hidden * 2), (0, 256 * model.hidden * 2)}


PLANS = {
    "everything": (simgpu.Plan(tp=4, pp=2, dp=4, vp=2, micro_batch=1, sequence_parallel=True, zero=1), {}),
    "sharded weights": (simgpu.Plan(dp=16, zero=3), {"framework": "pytorch-compiled"}),
    "hybrid shards": (simgpu.Plan(dp=16, zero=3, shard=8), {"framework": "pytorch-compiled"}),
    "long contexts": (simgpu.Plan(cp=4, dp=2, tp=2), {}),
    "ring of two contexts": (simgpu.Plan(cp=2, dp=2, tp=2, context="ring"), {}),
}


@pytest.mark.parametrize("cluster", ["dgx-h100-ib", "l40s-8x-ethernet"])
@pytest.mark.parametrize("name", PLANS)
def test_bytes_are_conserved_and_no_link_carries_more_than_it_can(cluster, name):
    plan, how = PLANS[name]
    _result, loads = made(cluster, simgpu.Training(batch=32, tokens=1024), "llama-2-7b", plan, **how)
    out, into = leaving(loads)
    assert out == pytest.approx(into) and out > 0
    graph = loads.topology.graph
    for vertex in graph:  # switches, NICs and roots pass on what they get; an in-network sum would not
        if graph.nodes[vertex]["kind"] in ("nic", "leaf", "spine", "root", "pcie-switch", "memory"):
            gets = sum(loads.bytes.get(edge, 0.0) for edge in graph.in_edges(vertex))
            gives = sum(loads.bytes.get(edge, 0.0) for edge in graph.out_edges(vertex))
            assert gets == pytest.approx(gives), vertex
    assert 0 < max(loads.busy(edge) for edge in loads.bytes) < 1


def test_the_first_nodes_of_a_large_plan_carry_what_they_do_when_all_are_drawn():
    job = simgpu.Training(batch=64, tokens=512)
    plan = simgpu.Plan(tp=2, pp=2, dp=8, micro_batch=1, sequence_parallel=True, zero=1)
    _, some = made("rtx-4090-8x-ethernet", job, "mpt-125m", plan, nodes=1)
    _, every = made("rtx-4090-8x-ethernet", job, "mpt-125m", plan, nodes=4)
    near = [edge for edge in every.bytes if edge[0].startswith("n0.") or edge[1].startswith("n0.")]
    assert near and all(some.bytes[edge] == pytest.approx(every.bytes[edge]) for edge in near)


def test_served_batches_have_loads_unless_they_are_pipelines():
    job = simgpu.Inference(batch=4, prompt=256, output=16, runtime="vllm")
    result, loads = made("dgx-h100", job, "llama-3.1-8b", simgpu.Plan(tp=2))
    assert leaving(loads)[0] == pytest.approx(leaving(loads)[1]) and loads.step == pytest.approx(
        result.step_s, rel=0.05
    )
    with pytest.raises(InputError, match="2 pipeline stages"):
        made("dgx-h100", job, "llama-3.1-8b", simgpu.Plan(pp=2))


def test_one_gpu_loads_nothing():
    _, loads = made("dgx-h100", simgpu.Prefill(batch=1, tokens=64), "llama-2-7b", simgpu.Plan())
    assert loads.bytes == {}
