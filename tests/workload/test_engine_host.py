"""The host and the links of an engine, and bounds on what a user is served."""

from dataclasses import replace

import pytest
from deployments import CATALOGUE, NODE, deployed
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Inference, InputError, MixedStep, Plan, load_timer, simulate
from simgpu.timing.attention_work import AttentionWork
from simgpu.workload.links import Links
from simgpu.workload.runtime_files import runtime

# ---- host and links of an engine ---------------------------------------------------------------------


@pytest.mark.parametrize("sequence_s", [0.0, 17e-6, 1e-3])
def test_a_host_that_works_ahead_costs_what_the_gpu_does_not_hide(sequence_s):
    def step(overlaps):
        run = replace(runtime("trtllm"), sequence_s=sequence_s, overlaps_host=overlaps)
        return replace(deployed(), runtime=run, _steps={}, _blocks={}).decode(64, 1000)

    ahead, behind = step(True), step(False)
    gpu, host = behind.slowest, 64 * sequence_s
    assert ahead.seconds == pytest.approx(runtime("trtllm").between_s + max(gpu, host))
    assert behind.seconds == pytest.approx(runtime("trtllm").between_s + gpu + host)


def test_a_pipeline_of_tensorrt_llm_does_not_work_ahead():
    plan = Plan(pp=2)
    run = replace(runtime("trtllm"), overlaps_host=False)
    one = deployed(plan=plan, engine="trtllm")
    assert one.decode(64, 1000).host == replace(one, runtime=run, _steps={}, _blocks={}).decode(64, 1000).host


def test_an_engine_leaves_large_all_reduces_to_nccl():
    def seconds(size, custom, limits=()):
        kernels = deployed().kernels
        return Links(NODE, Plan(tp=8), kernels, "auto", "auto", custom=custom, custom_limits=limits).inner(
            "all_reduce", "tp", size
        ).seconds  # fmt: skip

    own = runtime("trtllm").custom_limits
    limit = dict(own)[8]
    assert seconds(limit, True, own) == seconds(limit, True) < seconds(limit, False)
    assert seconds(2 * limit, True, own) == seconds(2 * limit, False) > seconds(2 * limit, True)


def test_tensorrt_llm_reads_a_narrow_cache_near_the_bandwidth():
    """At more than 75 % of the bandwidth, as measured: little more than half of the time of a cache of 16 bits."""
    timer = load_timer("h100-sxm")
    batch, keys, kv_heads, width = 256, 2000, 8, 128
    moved = 2 * batch * keys * kv_heads * width

    def seconds(kv):
        work = AttentionWork(batch, 1, keys, 32, kv_heads, width)
        times = timer.attention.decode(work, kv_dtype=kv, library="trtllm", warm=False)
        return float(times.seconds)

    narrow, wide = seconds("fp8"), seconds("bf16")
    assert moved / 3.35e12 < narrow < moved / (0.75 * 3.35e12)
    assert narrow < 0.7 * wide


@settings(max_examples=40, deadline=None)
@given(data=st.data())
@pytest.mark.slow
def test_no_user_is_served_faster_than_bandwidth_and_peak_allow(data):
    """Weights and caches pass the memory, and products take their FLOPs at the peak, whoever runs them how."""
    model = CATALOGUE.model(
        data.draw(st.sampled_from(["llama-3.1-8b", "deepseek-v2-lite", "mixtral-8x7b", "gpt-oss-20b"]))
    )
    cluster = CATALOGUE.cluster(
        data.draw(st.sampled_from(["l40s", "h100-sxm", "rtx-4090", "titan-rtx", "l4", "dgx-h100"]))
    )
    runtime = data.draw(st.sampled_from(["vllm", "sglang", "trtllm", "llama.cpp", "eager", "compiled"]))
    narrow = {"llama.cpp": ["q4_k_m", "fp16"], "eager": ["fp16"], "compiled": ["fp16"]}
    job = Inference(
        batch=data.draw(st.sampled_from([2, 8, 16, 64])), prompt=data.draw(st.sampled_from([16, 1000])),
        output=data.draw(st.sampled_from([2, 33])), runtime=runtime,
        precision=data.draw(st.sampled_from(narrow.get(runtime, ["fp16", "fp8", "int4"]))),
    )  # fmt: skip
    plan = (
        data.draw(st.sampled_from([Plan(tp=2), Plan(pp=2), Plan(dp=2), Plan(tp=8)]))
        if cluster.gpu_count > 1
        else Plan()
    )
    try:
        row = simulate(cluster, job, model, plan).row
    except InputError:
        return
    assert 0 < row["output_tokens_per_s_per_user"] <= row["speed_of_light_tokens_per_s_per_user"]


def test_the_bound_is_that_of_all_decode_steps_with_the_experts_that_are_visited():
    cluster, model = CATALOGUE.cluster("h100-sxm"), CATALOGUE.model("deepseek-v2-lite")
    row = simulate(cluster, Inference(batch=16, prompt=100, output=9), model).row
    least, weights = 1 / row["speed_of_light_tokens_per_s_per_user"], row["weights_bytes_per_gpu"]
    assert 0.3 * weights < least * cluster.gpu.memory.bandwidth.si < 0.9 * weights  # 16 tokens visit some of 64 experts
    dense = simulate(cluster, Inference(batch=1, prompt=100, output=9), CATALOGUE.model("llama-3.1-8b")).row
    table = 128256 * 4096 * 2  # of which a token reads a row
    read = (dense["weights_bytes_per_gpu"] - table) / cluster.gpu.memory.bandwidth.si
    assert 1 / dense["speed_of_light_tokens_per_s_per_user"] == pytest.approx(read, rel=0.005)


def test_drafts_are_in_the_bound():
    job = {"batch": 1, "prompt": 500, "output": 101}
    speculative = {"draft": "mtp", "tokens": 3, "acceptance": 0.0}
    model = CATALOGUE.model("llama-3.1-8b")
    plain, guessed = (
        simulate(CATALOGUE.cluster("h100-sxm"), Inference(**job, **more), model).speed_of_light_tokens_per_s_per_user
        for more in ({}, {"speculative": speculative})
    )
    assert guessed < 0.95 * plain  # nothing is accepted, and every token pays three guesses


def test_generate_copies_its_cache_at_each_step():
    """torch.cat reads and writes the cache, repeat_kv writes it for each query head; a static cache does neither."""
    model, cluster = CATALOGUE.model("qwen2.5-7b"), CATALOGUE.cluster("a100-sxm-80gb")

    def row(runtime, context, **more):
        return simulate(cluster, MixedStep(decodes=1, context=context, runtime=runtime, **more), model).row

    cache = 28 * 30_000 * 4 * 256 * 2  # layers, tokens, KV heads, key and value, bytes
    copies = row("eager", 30_000)["memory_bound_s"] - row("eager", 64)["memory_bound_s"]
    assert (2 + 1 + 7) * cache < copies * cluster.gpu.memory.bandwidth.si < 5 * (2 + 1 + 7) * cache  # strided
    graphs = row("compiled", 30_000)
    assert graphs["host_s"] + graphs["idle_s"] < 0.1 * graphs["step_s"]
    assert graphs["memory_bound_s"] < 1.2 * row("compiled", 64)["memory_bound_s"]


def test_the_host_of_generate_decides_for_small_models():
    """Qwen's published decode of Qwen2.5 in transformers 4.46 on an A100: some 25 to 33 ms a token from 1.5B to 7B."""
    cluster = CATALOGUE.cluster("a100-sxm-80gb")
    for name, measured in (("qwen2.5-1.5b", 39.68), ("qwen2.5-3b", 30.8), ("qwen2.5-7b", 40.38)):
        model = CATALOGUE.model(name)
        done = simulate(cluster, Inference(batch=1, prompt=1, output=64, runtime="eager"), model)
        assert 1 / done.tpot_s == pytest.approx(measured, rel=0.1)
        assert done.tpot_s_p10 < 1 / measured < done.tpot_s_p90 and done.tpot_s_p90 > 1.3 * done.tpot_s
    long = simulate(
        cluster, Inference(batch=1, prompt=30720, output=2048, runtime="eager"), CATALOGUE.model("qwen2.5-32b")
    )
    assert long.memory_fits and long.logits_memory_bytes < 2e6
