"""Sharded programs: which collectives a split needs, how many bytes, and what stays the same."""

import pytest

from simgpu import Catalogue, Inference, InputError, OperatorList, Plan, Prefill, Training, simulate
from simgpu.model.operators import Attention
from simgpu.model.transformer import prefill_graph, training_graph
from simgpu.plan.program import Collective, shard
from simgpu.workload.framework_files import framework

CATALOGUE = Catalogue()
MODEL = CATALOGUE.model("llama-2-70b")
ROW_BYTES = 512 * MODEL.hidden * 2  # activations of 512 tokens in bf16


def collectives(program, group="tp"):
    return [(segment, step) for segment in program.segments for step in segment.steps
            if isinstance(step, Collective) and step.group == group]  # fmt: skip


def test_megatron_needs_two_all_reduces_a_layer_forward():
    program = shard(prefill_graph(MODEL, 1, 512, "bf16", "fp32"), Plan(tp=4))
    in_layer = [step for segment, step in collectives(program) if segment.name == "layer"]
    assert [(step.kind, step.name, step.size) for step in in_layer] == [
        ("all_reduce", "attention_out_sum", ROW_BYTES),
        ("all_reduce", "ffn_down_sum", ROW_BYTES),
    ]


def test_and_two_more_backward():
    program = shard(training_graph(MODEL, 1, 512, "bf16", "fp32"), Plan(tp=4))
    in_layer = [step for segment, step in collectives(program) if segment.name == "layer backward"]
    assert [(step.kind, step.name, step.size) for step in in_layer] == [
        ("all_reduce", "ffn_up_dgrad_sum", ROW_BYTES),
        ("all_reduce", "qkv_dgrad_sum", ROW_BYTES),
    ]


def test_sequence_parallelism_moves_the_same_bytes_as_gather_and_scatter():
    graph = prefill_graph(MODEL, 1, 512, "bf16", "fp32")
    program = shard(graph, Plan(tp=4, sequence_parallel=True))
    in_layer = [(step.kind, step.size) for segment, step in collectives(program) if segment.name == "layer"]
    assert in_layer == [("all_gather", ROW_BYTES), ("reduce_scatter", ROW_BYTES)] * 2
    norm = next(step for step in program.segments[1].steps if step.name == "attention_norm")
    assert norm.rows.size == 512 / 4, "what works on whole rows is split along the sequence"


def test_logits_are_gathered_at_the_end_of_a_prefill():
    program = shard(prefill_graph(MODEL, 3, 512, "bf16", "fp32"), Plan(tp=4))
    last = program.segments[-1].steps[-1]
    assert (last.kind, last.size) == ("all_gather", 3 * MODEL.vocab * 2)


def test_one_gpu_has_no_communication():
    for graph in (prefill_graph(MODEL, 1, 64, "bf16", "fp32"), training_graph(MODEL, 1, 64, "bf16", "fp32")):
        assert not list(shard(graph, Plan(), "bf16").collectives())
    result = simulate(CATALOGUE.cluster("dgx-h100"), Prefill(batch=1, tokens=64), MODEL)
    assert result.communication_s == result.exposed_communication_s == 0
    assert result.efficiency == 1
    assert result.step_s == pytest.approx(result.compute_s)


@pytest.mark.parametrize("tp", [1, 2, 4, 8])
def test_the_split_loses_no_work(tp):
    graph = training_graph(MODEL, 1, 256, "bf16", "fp32")
    program = shard(graph, Plan(tp=tp))
    split = sum(
        s.repeat * sum(step.flops for step in s.steps if getattr(step, "kind", "") in ("matmul", "attention"))
        for s in program.segments
    )
    whole = sum(
        s.repeat * sum(op.flops for op in s.operators if op.kind in ("matmul", "attention")) for s in graph.segments
    )
    assert split * tp == pytest.approx(whole, rel=1e-12)


def test_data_parallelism_is_one_all_reduce_of_the_gradients():
    graph = training_graph(CATALOGUE.model("llama-2-7b"), 8, 256, "bf16", "fp32")
    program = shard(graph, Plan(tp=2, dp=4), "bf16")
    (only,) = [step for _, step in collectives(program, "dp")]
    assert (only.kind, only.size) == ("all_reduce", program.weights * 2)
    norms = 4096 * (2 * 32 + 1)
    assert program.weights == pytest.approx((6_738_415_616 - norms) / 2 + norms, rel=1e-9)


def test_ranks_of_a_tensor_parallel_group_are_neighbours():
    plan = Plan(tp=4, dp=2)
    assert plan.group("tp", 5) == (4, 5, 6, 7)
    assert plan.group("dp", 5) == (1, 5)


def test_parts_of_a_step_add_up():
    cluster = CATALOGUE.cluster("dgx-h100-ib")
    result = simulate(
        cluster, Training(batch=4, tokens=512), CATALOGUE.model("llama-2-7b"), Plan(tp=4, dp=4, cuda_graphs="full")
    )
    parts = result.compute_s + result.exposed_communication_s + result.idle_s
    assert parts == pytest.approx(result.step_s, rel=1e-12)
    assert result.idle_s == pytest.approx(result.host_s + result.bubble_s, rel=1e-9)
    assert result.bubble_s < 1e-3 * result.step_s, "nobody waits for other stages: there are none"
    assert result.host_s == pytest.approx(framework("megatron").step_s, rel=0.01)
    assert result.ideal_step_s == pytest.approx(result.single_gpu_step_s / 16)
    assert result.tokens_per_s == pytest.approx(4 * 512 / result.step_s)


def test_data_parallel_replicas_share_the_batch():
    cluster = CATALOGUE.cluster("dgx-h100")
    alone = simulate(cluster, Prefill(batch=1, tokens=512), MODEL)
    four = simulate(cluster, Prefill(batch=4, tokens=512), MODEL, Plan(dp=4))
    assert four.step_s == pytest.approx(alone.step_s, rel=1e-12), "prefill replicas do not talk to each other"


@pytest.mark.parametrize(
    ("plan", "batch", "tokens", "message"),
    [
        (Plan(tp=3), 1, 64, "3 does not divide the 64 attention heads"),
        (Plan(tp=8, dp=2), 1, 64, "16 ranks, but 'dgx-h100' has 8 GPUs"),
        (Plan(dp=2), 3, 64, "2 does not divide the batch of 3"),
        (Plan(tp=8, sequence_parallel=True), 1, 65, "does not divide 65 tokens"),
    ],
)
def test_impossible_plans_are_explained(plan, batch, tokens, message):
    with pytest.raises(InputError, match=message):
        simulate(CATALOGUE.cluster("dgx-h100"), Prefill(batch=batch, tokens=tokens), MODEL, plan)


@pytest.mark.parametrize("degrees", [{"tp": 0}, {"dp": -1}, {"tp": 1.5}])
def test_degrees_are_positive_whole_numbers(degrees):
    with pytest.raises(InputError, match="positive whole number"):
        Plan(**degrees)


def test_a_list_brings_its_own_collectives():
    job = OperatorList(operators=[{"op": "matmul", "m": 64, "n": 64, "k": 64, "split": "k"}])
    result = simulate(CATALOGUE.cluster("dgx-h100"), job, plan=Plan(tp=2))
    assert result.communication_s == 0


def test_a_measured_time_replaces_the_kernel_model_and_splits_by_flops():
    job = OperatorList(operators=[{"op": "matmul", "m": 64, "n": 64, "k": 64, "split": "k", "time": "3.5 ms"}])
    assert simulate(CATALOGUE.cluster("dgx-h100"), job).step_s == 3.5e-3
    assert simulate(CATALOGUE.cluster("dgx-h100"), job, plan=Plan(tp=2)).step_s == pytest.approx(1.75e-3)


def test_the_loss_sums_over_the_vocabulary_forward_only():
    program = shard(training_graph(MODEL, 1, 512, "bf16", "fp32"), Plan(tp=4))
    assert [step.name for _, step in collectives(program) if step.name.startswith("loss")] == ["loss_sum"]


def test_the_gradient_of_a_split_embedding_gathers_the_rows_of_all_ranks():
    graph = training_graph(MODEL, 1, 512, "bf16", "fp32")
    program = shard(graph, Plan(tp=4, sequence_parallel=True))
    gather, kernel = program.segments[-1].steps
    assert (gather.kind, gather.size) == ("all_gather", ROW_BYTES)
    assert kernel.rows.size == 512


@pytest.mark.parametrize(("dtype", "accumulate"), [("fp64", None), ("fp16", "fp16"), ("fp8", "fp32")])
def test_attention_accumulates_like_everything_else(dtype, accumulate):
    job = Prefill(batch=1, tokens=64)
    assert simulate(CATALOGUE.cluster("dgx-h100"), job, MODEL, dtype=dtype, accumulate=accumulate).step_s > 0


def test_heads_change_place_with_the_sequence_and_no_work_is_lost():
    """Ulysses: queries, keys and values of a rank's tokens go out, the output comes back; in backward the gradients.
    Each rank works on whole sequences with its share of the heads."""
    tokens, n = 4096, 4
    graph = training_graph(MODEL, 1, tokens, "bf16", "fp32")
    program, whole = (shard(graph, Plan(cp=cp, context="all_to_all")) for cp in (n, 1))
    d, q, kv = MODEL.head_dim, MODEL.heads, MODEL.kv_heads
    entry, output = tokens / n * (q + 2 * kv) * d * 2, tokens / n * q * d * 2
    moved = [one.size for _, one in collectives(program, "cp")]
    assert moved == [entry, output, output, entry]

    def work(of):
        return sum(
            segment.repeat * step.flops for segment in of.segments for step in segment.steps
            if isinstance(step, Attention)
        )  # fmt: skip

    assert work(program) == work(whole) / n
    with pytest.raises(InputError, match="all_to_all over 3 ranks does not divide the 64 heads of a rank"):
        simulate("dgx-h100", Training(batch=1, tokens=3072), MODEL, Plan(cp=3, context="all_to_all"))
    with pytest.raises(InputError, match="all_to_all is supported for training only"):
        simulate("dgx-h100", Inference(prompt=64, output=2), MODEL, Plan(cp=2, context="all_to_all"))
