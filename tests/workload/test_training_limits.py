"""Limits that a training step must meet: nothing to communicate, schedules of the papers, traffic, recomputation."""

from dataclasses import replace

import pytest
from memory_by_name import memory_of

from simgpu import Catalogue, Plan, Training, simulate
from simgpu.plan.numerics import Numerics
from simgpu.plan.states import parameters_of
from simgpu.timing.collectives.traffic import bus_factor
from simgpu.timing.kernels import NONE
from simgpu.workload.blocks import Block
from simgpu.workload.links import Call, Links
from simgpu.workload.training.layers import Layers, Passes

FORWARD, INPUTS, WEIGHTS = 1.0, 1.25, 0.75
FORWARD_ONLY = Numerics(optimizer="none")


class Free(Links):
    """Communication between blocks costs nothing."""

    def _all(self, *given):
        call = Call(0.0, NONE, 0.0, None, 0.0)
        return [replace(one, phases=(one.phases[0].__class__(0.0),), call=call) for one in super()._all(*given)]


@pytest.fixture
def equal(monkeypatch):
    """Layers of known length, nothing before or behind them."""

    def unit(self, kind, recompute=True):
        at = 0.0 if kind in ("embedding", "head") else 1.0
        made = (Block(kind, at * seconds, 1, ()) for seconds in (FORWARD, INPUTS + WEIGHTS, INPUTS, WEIGHTS))
        return Passes(kind, *made, 0.0, 0.0)

    monkeypatch.setattr(Layers, "unit", unit)


def all_parts(execution, rank=0):
    """Every kernel and collective of a rank with how often it runs."""
    for label in (span.label for span in execution.timeline.spans(execution.streams[rank].values())):
        if label in execution.blocks:
            for block, times in execution.blocks[label]:
                for part in block.parts:
                    yield part.activity, part.runs * times
        else:
            yield label, 1


def flops(execution):
    return sum(block.flops * times
               for span in execution.timeline.spans([execution.streams[0]["compute"]])
               for block, times in execution.blocks.get(span.label, ()))  # fmt: skip


# ---- nothing to communicate ---------------------------------------------------------------------------

PLANS = {
    "tp": Plan(tp=2, sequence_parallel=True), "cp": Plan(cp=2), "pp": Plan(pp=2, micro_batch=1), "dp": Plan(dp=2),
    "ep": Plan(ep=2, dp=2, zero=1),
}  # fmt: skip
GROUPS = {"tp": {"tp"}, "cp": {"cp", "grad"}, "pp": {"pp"}, "dp": {"grad"}, "ep": {"ep", "shard", "expert"}}


@pytest.mark.parametrize("axis", PLANS)
def test_a_degree_of_one_communicates_nothing(stage, axis):
    """Alone, each parallelism uses its own groups and no others; and none where all degrees are one."""
    model = stage.moe if axis == "ep" else stage.dense
    split = stage.run("dgx-h100", PLANS[axis], 4, model=model)
    used = {one.group for one, _ in all_parts(split) if one.category == "communication" and one.sol_s > 0}
    expected = GROUPS[axis] - ({"expert"} if axis == "ep" else set())  # two ranks share all experts: one holds each
    assert used == expected
    alone = stage.run("dgx-h100", Plan(), 4, model=model)
    assert not [one for one, _ in all_parts(alone) if one.category == "communication"]


# ---- schedules ----------------------------------------------------------------------------------------

BATCHES = [(2, 4), (4, 8), (8, 8), (4, 32)]
FEWER = [(2, 1), (8, 1), (4, 3)]
"""Fewer microbatches than stages."""


@pytest.mark.parametrize(("stages", "batches"), BATCHES + FEWER)
@pytest.mark.parametrize("schedule", ["gpipe", "1f1b"])
def test_bubble_of_gpipe_and_1f1b(stage, equal, schedule, stages, batches):
    """Huang et al. 2019; Narayanan et al. 2021, section 2.2.1: idle p - 1 of m + p - 1 microbatches."""
    plan = Plan(pp=stages, schedule=schedule, micro_batch=1)
    run = stage.run("dgx-h100", plan, batches, numerics=FORWARD_ONLY, links=Free)
    work = (FORWARD + INPUTS + WEIGHTS) * stage.dense.layers / stages * batches
    assert run.step == pytest.approx(work * (batches + stages - 1) / batches, rel=1e-12)
    assert 1 - work / run.step == pytest.approx((stages - 1) / (batches + stages - 1), rel=1e-9)


@pytest.mark.parametrize(("stages", "batches", "chunks"), [(2, 4, 2), (4, 8, 2), (2, 8, 4)])
def test_bubble_of_the_interleaved_schedule(stage, equal, stages, batches, chunks):
    """Narayanan et al. 2021, section 2.2.2: the bubble is v times smaller."""
    plan = Plan(pp=stages, vp=chunks, micro_batch=1)
    run = stage.run("dgx-h100", plan, batches, numerics=FORWARD_ONLY, links=Free)
    one = (FORWARD + INPUTS + WEIGHTS) * stage.dense.layers / stages
    assert run.step == pytest.approx(one * batches + one * (stages - 1) / chunks, rel=1e-12)


@pytest.mark.parametrize(("stages", "batches"), [(2, 4), (4, 8), (8, 16)])
def test_bubble_of_zb_h1(stage, equal, stages, batches, monkeypatch):
    """Qi et al. 2023, table 2: (p - 1)(F + B - W), where 1F1B has (p - 1)(F + B + W)."""
    run = stage.run("dgx-h100", Plan(pp=stages, schedule="zb-h1", micro_batch=1), batches, numerics=FORWARD_ONLY,
                    links=Free)  # fmt: skip
    layers = stage.dense.layers / stages
    work = (FORWARD + INPUTS + WEIGHTS) * layers * batches
    assert run.step == pytest.approx(work + (stages - 1) * (FORWARD + INPUTS - WEIGHTS) * layers, rel=1e-12)


def test_more_microbatches_take_as_much_more_compute(stage, equal):
    runs = [stage.run("dgx-h100", Plan(micro_batch=1), n, numerics=FORWARD_ONLY).step for n in (4, 8)]
    assert runs[1] == pytest.approx(2 * runs[0], rel=1e-12)


def test_gradient_accumulation_doubles_the_work(stage):
    few, many = (stage.run("dgx-h100", Plan(dp=2, micro_batch=1), n) for n in (4, 8))
    assert flops(many) == pytest.approx(2 * flops(few), rel=1e-12)
    sent = [sum(one.bytes * n for one, n in all_parts(run) if one.group == "grad") for run in (few, many)]
    assert sent[0] == sent[1] > 0


# ---- traffic ------------------------------------------------------------------------------------------


def wire(execution, ranks, groups=("grad", "shard", "replica")):
    """Bytes that a rank sends of gradients and weights."""
    return sum(one.bytes * bus_factor(one.kind, ranks) * n for one, n in all_parts(execution) if one.group in groups)


@pytest.mark.parametrize("style", ["pytorch-eager", "megatron"])
@pytest.mark.parametrize("ranks", [2, 8, 16])
def test_traffic_of_zero(stage, ranks, style):
    """Rajbhandari et al. 2020, section 7: stages 1 and 2 send what plain data parallelism does, stage 3 1.5 times it.

    What the last unit needs in backward is still there from forward (PyTorch FSDP, torchtitan), which saves a third of
    its part.
    """
    numerics = Numerics(reduce="bf16", gradients="bf16")
    sent = []
    for zero in (0, 1, 2, 3):
        plan = Plan(dp=ranks, zero=zero, micro_batch=1)
        run = stage.run("dgx-h100-ib", plan, ranks, style=style, numerics=numerics)
        sent.append(wire(run, ranks))
    config = stage.dense
    head = config.vocab * config.hidden + config.hidden
    once = (ranks - 1) / ranks * config.parameters * 2
    assert sent[0] == pytest.approx(2 * once, rel=1e-9)
    assert sent[1] == pytest.approx(sent[0], rel=1e-9)
    assert sent[2] == pytest.approx(sent[0], rel=1e-9)
    assert sent[3] == pytest.approx(1.5 * sent[0] - (ranks - 1) / ranks * head * 2, rel=1e-9)


def gathered(execution, *groups):
    """Bytes of weights that a rank has after gathers, every time."""
    return sum(one.bytes * n for one, n in all_parts(execution) if one.kind == "all_gather" and one.group in groups)


@pytest.mark.parametrize("style", ["pytorch-eager", "megatron"])
@pytest.mark.parametrize("finetune", ["full", "lora", "qlora"])
def test_sharded_weights_travel_whole_and_stand_whole_in_pipelines(stage, style, finetune):
    """ZeRO-3: forward and backward of each microbatch gather all weights, frozen ones too, but the last unit's in
    backward; the stages of a pipeline gather once, and hold what they gathered beside their shard."""
    numerics, config = Numerics(finetune=finetune, rank=8, targets=("attention_out",)), stage.dense
    whole = memory_of(config, Plan(), numerics, 1, 1024, framework=style).weights
    head = 2 * (config.vocab * config.hidden + config.hidden)
    for n in (1, 3):
        plan = Plan(dp=8, zero=3, micro_batch=1)
        run = stage.run("dgx-h100", plan, 8 * n, style=style, numerics=numerics)
        assert gathered(run, "shard") == pytest.approx(n * (2 * whole - head), rel=1e-9)
    kept = memory_of(config, plan, numerics, 8, 1024, framework=style).weights
    shards = 0 if style == "pytorch-eager" and finetune == "full" else 1  # PyTorch casts those of the master copy
    assert kept == pytest.approx(shards * whole / 8, rel=1e-9)
    plan = Plan(pp=2, dp=4, zero=3, micro_batch=1)
    run = stage.run("dgx-h100", plan, 16, style=style, numerics=numerics)
    first = memory_of(config, replace(plan, zero=0), numerics, 16, 1024, framework=style).weights
    assert gathered(run, "shard") == pytest.approx(first, rel=1e-9)
    held = memory_of(config, plan, numerics, 16, 1024, framework=style).weights
    assert held == pytest.approx(first * (1 + shards / 4), rel=1e-9)


@pytest.mark.parametrize("pp", [1, 2])
def test_experts_are_gathered_over_the_ranks_that_hold_them_too(stage, pp):
    plan = Plan(pp=pp, dp=8 // pp, ep=2, zero=3, micro_batch=1)
    run = stage.run("dgx-h100", plan, 16, model=stage.moe)
    experts = parameters_of(stage.moe, plan, Numerics()).experts
    times = 2 * 16 // plan.dp if pp == 1 else 1
    assert gathered(run, "expert") == pytest.approx(times * experts * 2, rel=1e-9)


def test_adapters_of_a_mixture_of_experts_are_updated_alone(stage):
    numerics = Numerics(finetune="lora", rank=8, targets=("attention_out",))
    runs = [
        stage.run("dgx-h100", Plan(dp=4, ep=4, zero=zero), 4, model=stage.moe, numerics=numerics) for zero in (0, 1)
    ]
    whole, shard = (sum(one.bytes for one in stage.labels(run) if one.name == "optimizer") for run in runs)
    assert shard == pytest.approx(whole / 4) and shard > 0


def test_hybrid_shards_send_a_shard_of_gradients_between_copies(stage):
    numerics = Numerics(reduce="bf16", gradients="bf16")
    plan = Plan(dp=16, zero=3, shard=8, micro_batch=1)
    run = stage.run("dgx-h100-ib", plan, 16, style="pytorch-eager", numerics=numerics)
    copies = sum(one.bytes * n for one, n in all_parts(run) if one.group == "replica")
    assert copies == pytest.approx(stage.dense.parameters * 2 / 8, rel=1e-9)


@pytest.mark.parametrize(("ranks", "sequence_parallel"), [(2, False), (4, False), (4, True)])
def test_bytes_of_the_all_to_all(stage, ranks, sequence_parallel):
    """Each token goes to k experts and back, forward and backward (Fedus et al. 2021; Megatron-Core MoE), and its
    probabilities with it, of 4 bytes."""
    tp = 2 if sequence_parallel else 1
    plan = Plan(tp=tp, dp=ranks, ep=ranks, micro_batch=1, sequence_parallel=sequence_parallel, balance="even")
    config = stage.moe
    run = stage.run("dgx-h100", plan, ranks, model=config)
    calls = [(one.bytes, n) for one, n in all_parts(run) if one.kind == "all_to_all"]
    size = 1024 / tp * config.experts_per_token * config.hidden * 2
    small = 4 * 1024 / tp * config.experts_per_token
    assert {round(each) for each, _ in calls} == {round(size), round(small)}
    assert sum(n for each, n in calls if round(each) == round(size)) == 4 * config.layers
    assert sum(n for each, n in calls if round(each) == round(small)) == 2 * config.layers


def test_activations_between_stages(stage):
    """Narayanan et al. 2021, section 4.1: b s h elements, a t-th of them from each rank of a tensor group."""
    for plan in (Plan(pp=2, micro_batch=2), Plan(pp=2, tp=4, micro_batch=2), Plan(pp=2, cp=2, micro_batch=2)):
        run = stage.run("dgx-h100", plan, 4)
        sizes = {one.bytes for one in stage.labels(run) if one.group == "pp"}
        assert sizes == {2 * 1024 * stage.dense.hidden * 2 / plan.tp / plan.cp}
    run = stage.run("dgx-h100", Plan(pp=2, micro_batch=1), 2, numerics=Numerics(dtype="fp32", weights="fp32"))
    assert {one.bytes for one in stage.labels(run) if one.group == "pp"} == {1024 * stage.dense.hidden * 4}


def test_norms_are_summed_over_the_tensor_group_under_sequence_parallelism(stage):
    plain, split = (stage.run("dgx-h100", Plan(tp=2, sequence_parallel=flag), 1) for flag in (False, True))
    sums = [one for one in stage.labels(split) if one.name == "norm gradients"]
    assert [one.bytes for one in sums] == [(2 * stage.dense.layers + 1) * stage.dense.hidden * 4]
    assert not [one for one in stage.labels(plain) if one.name == "norm gradients"]


def test_ring_attention_sends_keys_and_values_round(stage):
    """Liu et al. 2023: n - 1 blocks of keys and values forward; backward all n, with their gradients."""
    n, config = 4, stage.dense
    run = stage.run("dgx-h100", Plan(cp=n, micro_batch=1), 1)
    sent = sum(one.bytes * times for one, times in all_parts(run) if one.group == "cp")
    block = 1024 / n * config.kv_heads * config.head_dim * 2 * 2
    assert sent == pytest.approx(config.layers * block * (n - 1 + 2 * n), rel=1e-12)


# ---- recomputation, fine-tuning -----------------------------------------------------------------------


def test_full_recomputation_adds_exactly_one_forward_of_the_layers(stage):
    plan = Plan(micro_batch=1, cuda_graphs="full")  # of passes that wait for the host too the longer counts
    none, full = (stage.run("dgx-h100", replace(plan, recompute=how), 2) for how in ("none", "full"))
    layers = 0.0
    seconds = 0.0
    for span in none.timeline.spans([none.streams[0]["compute"]]):
        for block, times in none.blocks.get(span.label, ()):
            if span.label.kind == "forward" and block.name not in ("embedding forward", "head forward"):
                layers += block.flops * times
                seconds += block.seconds * times
    assert layers > 0
    assert flops(full) - flops(none) == pytest.approx(layers, rel=1e-9)
    assert full.step - none.step == pytest.approx(seconds, rel=1e-9)


def test_selective_recomputation_runs_attention_again(stage):
    none, some, full = (
        stage.run("dgx-h100", Plan(micro_batch=1, recompute=how), 1) for how in ("none", "selective", "full")
    )
    attention = sum(
        one.flops * n for one, n in all_parts(none) if one.kind == "attention" and "backward" not in one.name
    )
    assert flops(some) - flops(none) == pytest.approx(attention, rel=1e-9)
    assert none.step < some.step < full.step


def test_recomputing_some_layers_is_in_between(stage):
    steps = [
        stage.run("dgx-h100", Plan(micro_batch=1, recompute="full", recompute_layers=n), 1).step for n in (2, 4, 8)
    ]
    assert steps[1] - steps[0] == pytest.approx((steps[2] - steps[1]) / 2, rel=1e-9)


def test_adapters_alone_have_gradients(stage):
    """LoRA sends the gradients of its adapters, r (k + n) of each adapted matrix, and no others."""
    numerics = Numerics(finetune="lora", rank=8, targets=("attention_out",))
    run = stage.run("dgx-h100", Plan(dp=2, micro_batch=1), 2, numerics=numerics)
    sent = sum(one.bytes * n for one, n in all_parts(run) if one.group == "grad")
    config = stage.dense
    assert sent == 8 * 2 * config.hidden * 4 * config.layers
    assert not [one for one, _ in all_parts(run) if one.name.endswith("_wgrad") and "_lora_" not in one.name]


@pytest.mark.parametrize("style", ["megatron", "pytorch-compiled"])
def test_full_recomputation_repeats_the_experts(style):
    """Three products for each weight become four; what a router weighs must be made again, early stop or not."""
    plan = Plan(dp=8, ep=8, zero=1, recompute="full", micro_batch=1)
    catalogue = Catalogue()
    cluster, model = catalogue.cluster("dgx-h100"), catalogue.model("mixtral-8x7b")
    run = simulate(cluster, Training(batch=8, tokens=2048), model, plan, framework=style)
    assert run.hfu / run.mfu == pytest.approx(4 / 3, rel=5e-3)


def test_gradients_of_experts_are_accumulated_too(stage):
    """Megatron adds to fp32 sums in the product: 8 bytes for each weight instead of 2 (Megatron-Core, fused wgrad)."""
    plan = Plan(tp=2, dp=2, ep=2, sequence_parallel=True, micro_batch=1)
    run = stage.run("dgx-h100", plan, 2, model=stage.moe)
    moved = sum(
        one.bytes * n for one, n in all_parts(run) if one.name.endswith("_accumulate") and "experts" in one.name
    )
    assert moved == pytest.approx(parameters_of(stage.moe, plan, Numerics()).experts * (8 - 2), rel=1e-9)
