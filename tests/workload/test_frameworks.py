"""Frameworks: the kernels that operators become, and what runs beside what."""

from dataclasses import replace

import pytest

import simgpu
from simgpu import Catalogue, InputError, Plan, Training
from simgpu.model.operators import Attention, Dim, Matmul, Pointwise
from simgpu.model.transformer import backward, layer_operators
from simgpu.plan.numerics import Numerics
from simgpu.plan.program import Barrier, Collective, shard_operators
from simgpu.workload.framework_files import framework
from simgpu.workload.training.lowering import asynchronous, lower, overlapped

CATALOGUE = Catalogue()
GPT = CATALOGUE.model("gpt3-175b")
LLAMA = CATALOGUE.model("llama-3-8b")


def passes(operators, *names):
    """Reads and writes of the kernels of some operators."""
    return sum(op.reads + op.writes for op in operators if isinstance(op, Pointwise) and op.name.startswith(names))


def test_autocast_reads_and_writes_the_residual_stream_in_fp32():
    """In tensors of 16 bits: LlamaRMSNorm 3 + 2, 2 + 2, 2, 2 + 2, 2 + 2, and 2.5 casts of 2 + 1; LayerNorm 3 + 2, 2 + 2
    and one cast."""
    layer = layer_operators(LLAMA, "dense", 1, 2048, "bf16", "fp32")
    both = ("attention_norm", "ffn_norm")
    for name in ("hf-trainer", "deepspeed"):
        rms, plain = (lower(layer, framework(name), rms=rms, autocast=True) for rms in (True, False))
        assert passes(rms, *both) == 2 * 26.5
        assert passes(plain, *both) == 2 * 12
        back = [lower(backward(layer), framework(name), rms=True, autocast=cast) for cast in (True, False)]
        assert passes(back[0], *both) > passes(back[1], *both)
        assert sum(op.weights for op in rms) == sum(op.weights for op in layer)


@pytest.mark.parametrize("recompute", ["none", "full"])
def test_autocast_takes_longer_and_casts_each_weight(stage, recompute):
    plan = Plan(dp=2, zero=3, recompute=recompute)
    runs = {
        weights: stage.run("dgx-h100", plan, 2, style="hf-trainer", numerics=Numerics(weights=weights, master=None))
        for weights in ("bf16", "fp32")
    }
    assert runs["fp32"].step > runs["bf16"].step
    eager = stage.run("dgx-h100", plan, 2, style="pytorch-eager", numerics=Numerics(master=None))
    assert runs["bf16"].step == pytest.approx(eager.step)


def test_an_unknown_framework_is_named_with_its_neighbour():
    with pytest.raises(InputError, match="megatron"):
        framework("megatorn")


def test_megatron_of_2021_moves_what_korthikanti_counts():
    """22 m h bytes forward, 46 backward around a layer, 4 m f and 8 m f of the activation (fp16, no split)."""
    layer = layer_operators(GPT, "dense", 1, 2048, "fp16", "fp32", flash=False)
    forward, gradients = lower(layer, framework("megatron-2021")), lower(backward(layer), framework("megatron-2021"))
    assert 2 * passes(forward, "attention_norm", "ffn_norm") == pytest.approx(22, abs=0.5)
    assert 2 * passes(gradients, "attention_norm", "ffn_norm") == pytest.approx(46, rel=0.15)
    assert 2 * passes(forward, "activation") == 4
    assert 2 * passes(gradients, "activation") == pytest.approx(8)
    assert 2 * passes(forward, "attention_softmax") == 9
    assert 2 * passes(gradients, "attention_softmax") == 11


def test_eager_moves_more_than_compiled_and_rms_norm_most():
    layer = layer_operators(LLAMA, "dense", 1, 2048, "bf16", "fp32")
    eager, compiled = (lower(layer, framework(name), rms=True) for name in ("pytorch-eager", "pytorch-compiled"))
    plain = lower(layer, framework("pytorch-eager"))
    assert passes(eager, "attention_norm") > passes(plain, "attention_norm") > passes(compiled, "attention_norm")
    for lowered in (eager, compiled):
        assert sum(op.flops for op in lowered if isinstance(op, (Matmul, Attention))) == pytest.approx(
            sum(op.flops for op in layer if isinstance(op, (Matmul, Attention)))
        )
        assert sum(op.weights for op in lowered) == sum(op.weights for op in layer)


def test_collectives_of_backward_run_beside_the_products_that_do_not_need_them():
    plan = Plan(tp=8, sequence_parallel=True)
    steps = shard_operators(backward(layer_operators(GPT, "dense", 1, 2048, "bf16", "fp32")), plan)
    moved = overlapped(steps)
    calls = [step for step in moved if isinstance(step, Collective)]
    assert sorted((c.kind, c.size) for c in calls) == sorted(
        (c.kind, c.size) for c in steps if isinstance(c, Collective)
    )
    hidden = [call.name for call in calls if call.background]
    assert hidden == ["ffn_up_wgrad_input", "ffn_up_dgrad_sum", "qkv_wgrad_input", "qkv_dgrad_sum"]
    for i, step in enumerate(moved):
        if isinstance(step, Collective) and step.background:
            assert isinstance(moved[i + 1], Matmul) and any(isinstance(s, Barrier) for s in moved[i + 1 : i + 4])


def test_cut_up_collectives_hide_a_share_and_lose_no_byte():
    plan = Plan(tp=8, sequence_parallel=True)
    steps = shard_operators(layer_operators(GPT, "dense", 1, 2048, "bf16", "fp32"), plan)
    for share in (0.0, 0.5, 1.0):
        cut = asynchronous(steps, 8, share)
        whole = sum(s.size for s in steps if isinstance(s, Collective))
        beside = sum(s.size for s in cut if isinstance(s, Collective) and s.background)
        assert sum(s.size for s in cut if isinstance(s, Collective)) == pytest.approx(whole)
        assert beside == pytest.approx(whole * share * 7 / 8)


def test_products_in_fp8_bring_casts_and_leave_the_head_alone():
    cluster = simgpu.load_cluster("dgx-h100")
    job = Training(batch=1, tokens=4096)
    wide, narrow = (simgpu.simulate(cluster, job, LLAMA, Plan(), dtype=d) for d in ("bf16", "fp8"))
    assert narrow.gemm_s < wide.gemm_s
    assert narrow.memory_bound_s > wide.memory_bound_s
    assert narrow.attention_s == pytest.approx(wide.attention_s)
    row = simgpu.simulate(cluster, replace_scaling(job, "rowwise"), LLAMA, Plan(), dtype="fp8")
    assert row.gemm_s > narrow.gemm_s, "products with a scale for each row are slower"


def replace_scaling(job, scaling):
    return job.model_copy(update={"fp8_scaling": scaling})


def test_full_recomputation_repeats_the_layer_up_to_what_is_saved_last():
    cluster = simgpu.load_cluster("dgx-h100")
    flop = {}
    for name in ("megatron", "pytorch-compiled"):
        for how in ("none", "full"):
            run = simgpu.simulate(cluster, Training(batch=1, tokens=4096), LLAMA, Plan(recompute=how), framework=name)
            flop[name, how] = run.hfu / run.mfu
    assert flop["megatron", "none"] == flop["pytorch-compiled", "none"] == pytest.approx(1)
    assert flop["megatron", "full"] > flop["pytorch-compiled", "full"] > 1.2, "PyTorch stops before the last product"


def test_an_operator_without_a_framework_kernel_stays_as_it_is():
    odd = Pointwise("routing", "softmax", Dim(4, 8, "batch"), (Dim(16),), "bf16", 1, 1)
    assert lower((odd,), framework("pytorch-eager")) == (odd,)
    assert lower((replace(odd, name="loss"),), framework("pytorch-eager")) != (odd,)


@pytest.mark.parametrize("version", ["", "@25.09", "@25.11", "@26.02", "@26.04", "@26.06"])
def test_a_container_of_nemo_is_the_megatron_bridge_in_it(version: str) -> None:
    one, other = framework(f"nemo{version}"), framework(f"megatron-bridge{version}")
    assert one.values() == other.values()
    assert one.name.replace("nemo", "megatron-bridge") == other.name


def test_recipes_change_what_their_defaults_say_and_nothing_else() -> None:
    def changed(name: str, base: str) -> set[str]:
        one, other = framework(name).values(), framework(base).values()
        return {key for key in one | other if one.get(key) != other.get(key)}

    assert changed("torchtitan-compiled", "pytorch-compiled") == {"memory.loss"}
    titan = changed("torchtitan", "pytorch-eager")
    assert titan == {"forward.rms", "backward.rms", "optimizer_passes", "memory.update_bytes"}
    automodel = changed("automodel", "pytorch-eager")
    assert {"attention", "experts.dispatcher", "forward.rope"} <= automodel
    assert not {"launch_s", "stream_slowdown", "matmul_slowdown"} & automodel, (
        "fitted to other stacks, taken as they are"
    )


def test_a_recipe_with_fewer_passes_is_no_slower() -> None:
    model = replace(simgpu.load_model("llama-3.1-8b"), layers=4)
    job = simgpu.Training(batch=8, tokens=4096)

    def step(name: str) -> float:
        return simgpu.simulate("dgx-h100", job, model, simgpu.Plan(dp=8, zero=3), framework=name).step_s

    assert step("torchtitan-compiled") <= step("torchtitan") < step("pytorch-eager")
    assert step("automodel") < step("pytorch-eager")
