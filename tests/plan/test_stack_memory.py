"""What Hugging Face layers and DeepSpeed keep: exact bytes of real layers, and measured peaks of 7B runs."""

from dataclasses import replace

import pytest
from memory_by_name import layer_activations, memory_of, memory_per_stage

from simgpu import Catalogue, Plan, Training
from simgpu.plan.memory import GIB
from simgpu.plan.numerics import Numerics
from simgpu.plan.states import parameters_of
from simgpu.workload.framework_files import framework as framework_named

CATALOGUE = Catalogue()
LLAMA = CATALOGUE.model("llama-2-7b")
SMALL = replace(
    CATALOGUE.model("llama-3-8b"), name="small", layers=1, hidden=512, heads=8, kv_heads=2, head_dim=64, ffn=1792
)
"""The layer whose saved tensors were counted: `torch.autograd.graph.saved_tensors_hooks` over LlamaDecoderLayer of
transformers 5.13.1 with torch 2.13 on a CPU, distinct storages without parameters."""
TOKENS = 256


def kept(model, recompute="none", **numerics):
    plan = Plan(recompute=recompute)
    return layer_activations(model, plan, Numerics(**numerics), 1, TOKENS, framework="hf-trainer")


def test_a_layer_in_16_bits_keeps_what_the_real_one_keeps():
    """8 n f + 16 n h + 4 n q + 4 n k + 4 n a + 8 n bytes."""
    assert kept(SMALL) == TOKENS * 25_128


def test_a_layer_under_autocast_keeps_what_the_real_one_keeps():
    """26 n h, and the 16-bit copies of the layer's matrices."""
    matrices = parameters_of(SMALL, Plan(), Numerics()).matrices
    assert kept(SMALL, weights="fp32", master=None) == TOKENS * 30_248 + 2 * matrices


def test_autocast_is_fp32_weights_and_products_of_16_bits():
    checkpoint = 2 * TOKENS * SMALL.hidden
    assert kept(SMALL, "full") == checkpoint
    assert kept(SMALL, "full", weights="fp32", master=None) == 2 * checkpoint
    assert kept(SMALL, "full", weights="fp32", master=None, dtype="tf32") == 2 * checkpoint  # all in 4 bytes
    matrices = parameters_of(SMALL, Plan(), Numerics()).matrices
    assert kept(SMALL, weights="fp32", master=None, dtype="tf32") < TOKENS * 2 * 30_248 < 2 * matrices * TOKENS


def test_a_cache_that_stays_is_kept_where_recomputation_would_drop_it():
    """4 L n k bytes; without recomputation attention keeps the same tensors."""
    model = replace(SMALL, layers=3)

    def activations(recompute, use_cache):
        run = Numerics(use_cache=use_cache)
        return memory_of(model, Plan(recompute=recompute), run, 64, TOKENS, framework="hf-trainer").activations

    kept_keys = 64 * 4 * 3 * TOKENS * model.kv_heads * model.head_dim
    assert activations("full", True) - activations("full", False) == kept_keys
    assert activations("none", True) == activations("none", False)


def peak(plan, batch, framework, **job):
    """GiB that PyTorch allocates on the fullest stage."""
    work = Training(batch=batch, tokens=4096, **job)
    numerics = work.numerics("fp16" if framework == "deepspeed" else "bf16", framework=framework_named(framework))
    return max(one.allocated for one in memory_per_stage(LLAMA, plan, numerics, batch, 4096, framework=framework)) / GIB


@pytest.mark.parametrize(("dp", "measured"), [(8, 38.67), (16, 33.96), (32, 31.61), (64, 30.43)])
def test_peak_of_7b_under_autocast(dp, measured):
    """dlrover pull request 825 (2023): Llama 2 7B, FSDP of fp32 weights, checkpoints put around layers by atorch."""
    plan = Plan(dp=dp, zero=3, micro_batch=4, recompute="full")
    assert peak(plan, 4 * dp, "hf-trainer", weights="fp32", use_cache=True) == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(
    ("plan", "measured"),
    [({"pp": 2, "dp": 4}, 39.07), ({"tp": 2, "dp": 4}, 37.73), ({"tp": 2, "pp": 2, "dp": 2}, 30.4)],
)
def test_peak_of_7b_in_deepspeed(plan, measured):
    """The same source: fp16, ZeRO-1, microbatches of 8 sequences."""
    full = Plan(zero=1, micro_batch=8, recompute="full", **plan)
    few, many = (peak(full, full.dp * 8 * m, "deepspeed", weights="fp16") for m in (2, 64))
    assert many == few == pytest.approx(measured, rel=0.1)


@pytest.mark.parametrize(("zero", "states"), [(0, 16), (1, 4 + 12 / 8), (2, 2 + 14 / 8), (3, 16 / 8)])
def test_states_of_deepspeed(zero, states):
    """Bytes a parameter of 8 replicas: weights 2, gradients 2 in their dtype, 12 of the optimizer."""
    numerics = Training(tokens=1).numerics("bf16", framework=framework_named("deepspeed"))
    found = memory_of(LLAMA, Plan(dp=8, zero=zero, micro_batch=1), numerics, 8, 1024, framework="deepspeed")
    assert found.weights + found.gradients + found.optimizer == pytest.approx(states * LLAMA.parameters)


def test_buckets_and_live_weights_of_deepspeed():
    """5e8 gradients of ZeRO-2 and 3 in a bucket, 1e9 gathered weights of ZeRO-3 live, of a model that has as many."""
    numerics = Training(tokens=1).numerics("bf16", framework=framework_named("deepspeed"))

    def of(zero, model=LLAMA):
        plan = Plan(dp=8, zero=zero, micro_batch=8, recompute="full")
        return memory_of(model, plan, numerics, 64, 1024, framework="deepspeed")

    assert (of(1).communication, of(2).communication) == (0, 0)
    assert of(3).communication == pytest.approx(2e9)
    small_loss = replace(LLAMA, vocab=1000)  # so that backward of a layer is the peak
    assert of(2, small_loss).temporary - of(1, small_loss).temporary == pytest.approx(1e9)
    few = replace(LLAMA, layers=2)
    assert of(3, few).communication == pytest.approx(2 * few.parameters)


def test_gradients_are_summed_as_the_framework_does_unless_said():
    job = Training(tokens=1)
    assert job.numerics("bf16").gradients == "fp32"
    assert job.numerics("bf16", framework=framework_named("deepspeed")).gradients == "bf16"
    assert (
        Training(tokens=1, gradients="fp32").numerics("bf16", framework=framework_named("deepspeed")).gradients
        == "fp32"
    )
