"""More work never takes less time: kernels and steps of inference as context, batch and prompt grow."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simgpu import Catalogue, Inference, InputError, MixedStep, Plan, simulate
from simgpu.model.operators import Attention, Dim, Matmul
from simgpu.timing.attention_work import AttentionWork, LatentWork
from simgpu.timing.kernels import KernelModel
from simgpu.timing.routing import rank_load
from simgpu.timing.timer import GPUTimer
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.inference.generation import pipelined, prefill_runs

CATALOGUE = Catalogue()
AROUND = [2**i + d for i in range(8, 18) for d in (-1, 0, 1)]
KEYS = np.unique([*range(2, 1500, 7), *(64 * i + d for i in range(1, 120) for d in (0, 1)), *AROUND])
BATCHES = np.unique([*range(1, 280), *AROUND[:12]])
HEADS = [(32, 8, 128), (32, 32, 128), (8, 1, 256), (40, 8, 80), (4, 1, 64)]
LIBRARIES = {
    "a100-sxm-80gb": "fa3-sm80",
    "h100-sxm": "fa3",
    "l40s": "flashinfer",
    "b200-sxm": "trtllm-mha",
    "t4": "fa2",
}
ROUNDING = 1 - 1e-9


def rises(seconds):
    return (seconds[1:] >= seconds[:-1] * ROUNDING).all()


@pytest.mark.parametrize("gpu", LIBRARIES)
@pytest.mark.parametrize("cache", ["fp16", "fp8"])
def test_decode_attention_never_gets_faster_with_context_or_batch(gpu, cache):
    cluster = CATALOGUE.cluster(gpu)
    timer = GPUTimer(cluster.gpu, cluster.kernel)
    some = {"dtype": "fp16", "kv_dtype": cache, "library": LIBRARIES[gpu], "warm": False}
    for heads, kv_heads, width in HEADS:
        for other in (1, 5, 16, 64):
            assert rises(timer.attention.decode(AttentionWork(other, 1, KEYS, heads, kv_heads, width), **some).seconds)
            context = {1: 2, 5: 448, 16: 600, 64: 9000}[other]
            assert rises(
                timer.attention.decode(AttentionWork(BATCHES, 1, context, heads, kv_heads, width), **some).seconds
            )
    for heads in (16, 128):
        assert rises(timer.attention.latent_decode(LatentWork(4, 1, KEYS, heads), **some).seconds)
        assert rises(timer.attention.latent_decode(LatentWork(BATCHES, 1, 600, heads), **some).seconds)


PROMPTS = np.asarray([1, 63, 64, 127, 128, 500, 1023, 1024, 2688, 5888, 10880, 14464])


@pytest.mark.parametrize("gpu", [*LIBRARIES, "rtx-4000-ada", "h100-nvl"])
@pytest.mark.parametrize("window", [0, 128, 1024])
def test_prefill_attention_never_gets_faster_with_prompt_batch_or_cache(gpu, window):
    cluster = CATALOGUE.cluster(gpu)
    timer = GPUTimer(cluster.gpu, cluster.kernel)
    for library in (LIBRARIES.get(gpu, "trtllm"), "trtllm"):
        some = {"dtype": "fp16", "library": library, "warm": False}
        for heads, kv_heads, width in HEADS:
            for past in (0, 1, 100, 3000):

                def at(batch, new, past, heads=heads, kv_heads=kv_heads, width=width, some=some):
                    return timer.attention.prefill(
                        AttentionWork(batch, new, new + past, heads, kv_heads, width, window=window),
                        **some,
                    ).seconds

                one = at(3, PROMPTS, past)
                assert (at(3, PROMPTS + 1, past) >= one * ROUNDING).all()
                assert (at(4, PROMPTS, past) >= one * ROUNDING).all()
                assert (at(3, PROMPTS, past + 1) >= one * ROUNDING).all()
                assert rises(at(BATCHES, 2688, past))


@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "h100-sxm", "rtx-4090", "b200-sxm", "mi300x"])
def test_attention_never_gets_faster_where_its_kernel_changes(gpu):
    """Decodes and prompts have kernels of their own; a few queries over a cache run in those for decodes."""
    kernels = KernelModel(CATALOGUE.cluster(gpu), sustained=False)
    for batch, past, window in ((1, 0, 0), (1, 1, 0), (1, 30_000, 0), (40, 700, 0), (3, 4000, 128)):
        queries = [attention(batch, n, n + past, window) for n in range(1, 40)]
        assert rises(np.asarray([kernels.time(op).seconds for op in queries])), (batch, past)
        for n in (1, 7, 16, 17, 200):
            keys = [attention(batch, n, n + past + more, window) for more in range(4)]
            assert rises(np.asarray([kernels.time(op).seconds for op in keys])), (batch, past, n)


def attention(batch, queries, keys, window):
    return Attention("attention", Dim(batch), queries, keys, Dim(32), Dim(8), 128, "fp16", True, window=window)


@pytest.mark.parametrize("gpu", ["a100-sxm-80gb", "l4", "rtx-3090", "h100-sxm", "apple-m2-ultra-76c"])
@pytest.mark.parametrize("stored", ["", "q4_k", "q8_0"])
def test_a_product_never_gets_faster_where_its_kernel_changes(gpu, stored):
    kernels = KernelModel(CATALOGUE.cluster(gpu), sustained=False, vectors=8)
    for n, k in ((4096, 4096), (1024, 8192), (32_000, 2048)):
        made = [Matmul("product", Dim(m), (Dim(n),), Dim(k), "fp16", "fp16", stored=stored) for m in range(1, 80)]
        assert rises(np.asarray([kernels.time(op).seconds for op in made]))


@pytest.mark.parametrize("stages", [2, 4])
def test_prompts_are_spread_evenly_over_the_microbatches_of_a_pipeline(stages):
    job = Inference(batch=1, prompt=8, output=2, precision="bf16")
    model = replace(CATALOGUE.model("llama-3.2-1b"), layers=4)
    found = deploy(CATALOGUE.cluster("dgx-h100"), job, model, Plan(pp=stages), CATALOGUE.runtime(job.runtime))
    times = []
    for batch in range(1, 30):
        runs = prefill_runs(found, batch, 16)
        counts = [run.step.groups[0].count for run in runs for _ in range(int(run.count))]
        assert sum(counts) == batch and len(counts) == min(stages, batch)
        assert max(counts) - min(counts) <= 1
        times.append(pipelined(runs))
    assert rises(np.asarray(times))


@pytest.mark.parametrize(("topk", "experts"), [(2, 8), (8, 128), (6, 64), (8, 256), (1, 16)])
def test_more_tokens_touch_no_fewer_experts(topk, experts):
    for routing in ("popularity_1.2", "random", "balanced"):
        for ranks in (1, 4):
            loads = [rank_load(n, topk, experts, ranks, routing) for n in range(1, 300, 2)]
            for less, more in pairwise(loads):
                assert less.active <= more.active + 1e-9 and less.visits <= more.visits + 1e-9
                assert all(a <= b + 1e-9 for a, b in zip(less.blocks, more.blocks, strict=True))


def test_experts_of_popular_routing_get_every_visit():
    for tokens, topk, experts in ((1, 8, 128), (7, 2, 8), (300, 6, 64)):
        load = rank_load(tokens, topk, experts, 1, "popularity_1.2")
        assert load.visits == pytest.approx(tokens * topk)
        assert topk <= load.active + 1e-9 <= experts + 1e-9
        assert load.active <= rank_load(tokens, topk, experts, 1, "random").active + 1  # it is more uneven


RUNTIMES = {
    "vllm": ["bf16", "fp8", "int4"], "sglang": ["fp16", "w8a16"], "trtllm": ["bf16", "fp8"],
    "llama.cpp": ["q4_k_m", "fp16"], "eager": ["fp16"], "compiled": ["bf16"],
}  # fmt: skip
SIZES = [
    1,
    2,
    3,
    4,
    7,
    8,
    9,
    15,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    127,
    128,
    129,
    255,
    256,
    257,
    448,
    449,
    512,
    513,
    1024,
    4000,
]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
@pytest.mark.slow
def test_a_step_never_gets_shorter_with_more_of_anything(data):
    runtime = data.draw(st.sampled_from(sorted(RUNTIMES)))
    model = CATALOGUE.model(
        data.draw(st.sampled_from(["llama-3.1-8b", "deepseek-v2-lite", "mixtral-8x7b", "gpt-oss-20b"]))
    )
    cluster = CATALOGUE.cluster(
        data.draw(st.sampled_from(["a100-sxm-80gb", "h100-sxm", "l40s", "rtx-4090", "b200-sxm", "mi300x", "a10"]))
    )
    precision = data.draw(st.sampled_from(RUNTIMES[runtime]))
    key = data.draw(st.sampled_from(["context", "decodes", "prefill", "past"]))
    beside = {
        "context": {"decodes": data.draw(st.sampled_from([1, 4, 40]))}, "decodes": {"context": 700},
        "prefill": {}, "past": {"prefill": 300},
    }[key]  # fmt: skip
    at = data.draw(st.integers(0, len(SIZES) - 3))
    times = []
    for size in SIZES[at : at + 3]:
        job = MixedStep(runtime=runtime, precision=precision, **beside, **{key: size})
        try:
            times.append(simulate(cluster, job, model).step_s)
        except InputError:
            return  # the GPU lacks the type, or the runtime does not serve it
    assert rises(np.asarray(times)), times
