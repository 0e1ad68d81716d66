"""Limits that inference must meet: nothing beats memory, cutting up gains nothing, what is free costs nothing."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import pytest
from deployments import CATALOGUE, NODE, deployed

from simgpu import Inference, InputError, MixedStep, Plan, load_timer, simulate
from simgpu.model.serving import Group
from simgpu.plan.serving_memory import serving_memory
from simgpu.timing.kernels import NONE
from simgpu.workload.inference.generation import Run, decode_runs, generate, pipelined, prefill_runs
from simgpu.workload.links import Call, Links
from simgpu.workload.runtime_files import bare_forward, runtime, shipped

# ---- bounds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gpu", ["l4", "rtx-4090", "a100-sxm-80gb", "h100-sxm", "b200-sxm", "mi300x"])
@pytest.mark.parametrize(
    ("model", "precision", "engine"),
    [
        ("llama-3.1-8b", "bf16", "vllm"),
        ("llama-3.1-8b", "int4", "vllm"),
        ("llama-3.1-8b", "q4_k_m", "llama.cpp"),
        ("qwen3-30b-a3b", "bf16", "sglang"),
        ("gemma-3-4b", "bf16", "trtllm"),
    ],
)
def test_decode_never_beats_the_bytes_it_reads(gpu, model, precision, engine):
    cluster = CATALOGUE.cluster(gpu)
    dtype = "fp16" if engine == "llama.cpp" else "bf16"
    job = Inference(
        batch=1, prompt=1024, output=64, runtime=engine, precision=None if precision == "bf16" else precision
    )
    row = simulate(cluster, job, CATALOGUE.model(model), dtype=dtype).row
    config, bandwidth = CATALOGUE.model(model), cluster.gpu.memory.bandwidth.si
    share = config.active_parameters / config.parameters
    table = config.vocab * config.hidden * 2.0  # one row of it is read
    read = (row["weights_bytes_per_gpu"] - (0 if config.tied_embeddings else table)) * share
    read += row["kv_bytes_per_token"] * min(1024, config.window or 1024)
    assert row["output_tokens_per_s_per_user"] < bandwidth / read
    assert row["output_tokens_per_s_per_user"] < row["speed_of_light_tokens_per_s_per_user"]


def test_prefill_never_beats_the_peak():
    for precision, dtype in ((None, "bf16"), ("fp8", "fp8")):
        job = Inference(batch=8, prompt=2048, output=1, precision=precision)
        row = simulate(NODE, job, CATALOGUE.model("llama-3.1-8b")).row
        assert row["flop"] / row["step_s"] < load_timer("h100-sxm").peak(dtype)


# ---- splits ------------------------------------------------------------------------------------------


class Free(Links):
    """Communication costs nothing."""

    def _time(self, kind, groups, size):
        return Call(0.0, NONE, 0.0, None, 0.0)


def free(deployment):
    deployment.__dict__["links"] = Free(
        deployment.cluster, deployment.plan, deployment.kernels, "auto", "auto", custom=False
    )
    return deployment


def test_one_rank_is_one_gpu_and_free_links_do_not_make_it_slower():
    alone = deployed().decode(1, 1000).seconds
    assert free(deployed()).decode(1, 1000).seconds == alone
    for plan in (Plan(tp=2), Plan(tp=8)):
        split = free(deployed(plan=plan)).decode(1, 1000).seconds
        assert alone / plan.tp < split < alone
        assert split < deployed(plan=plan).decode(1, 1000).seconds


def test_parts_of_a_pipeline_add_up_to_the_whole():
    whole, cut = deployed().decode(4, 1000), free(deployed(plan=Plan(pp=4))).decode(4, 1000)
    assert len(cut.each) == 4
    assert sum(cut.each) == pytest.approx(sum(whole.each), rel=1e-6)
    assert cut.slowest > whole.seconds / 4


def test_microbatches_keep_stages_busy_and_llama_cpp_does_not():
    busy = generate(deployed(plan=Plan(pp=4)), 8, 128, 64)
    assert busy.tpot < 2 * deployed().decode(8, 160).seconds
    idle = generate(deployed(plan=Plan(pp=4), engine="llama.cpp", dtype="fp16"), 1, 128, 64)
    alone = generate(deployed(engine="llama.cpp", dtype="fp16"), 1, 128, 64)
    assert idle.tpot > alone.tpot  # one GPU after the other, and the hops between them


def test_replicas_serve_their_own_share():
    model = CATALOGUE.model("llama-3.1-8b")
    one = simulate(NODE, Inference(batch=4, prompt=256, output=64), model).row
    two = simulate(NODE, Inference(batch=8, prompt=256, output=64), model, Plan(dp=2)).row
    assert two["step_s"] == pytest.approx(one["step_s"])
    assert two["output_tokens_per_s"] == pytest.approx(2 * one["output_tokens_per_s"])
    assert two["output_tokens_per_s_per_gpu"] == pytest.approx(one["output_tokens_per_s_per_gpu"])
    assert two["gpus"] == 2


def test_context_parallel_ranks_share_prompts_and_caches():
    long = 65536
    alone, split = (generate(deployed(plan=plan), 1, long, 2) for plan in (Plan(), Plan(cp=4, context="all_gather")))
    assert alone.ttft / 5 < split.ttft < alone.ttft / 2
    assert split.tpot < alone.tpot


def test_experts_spread_over_replicas_exchange_tokens():
    plan = Plan(tp=1, dp=8, ep=8)
    step = deployed("qwen3-30b-a3b", plan=plan).decode(16, 512)
    names = {part.activity.name for made in step.stages for block, _ in made for part in block.parts}
    kinds = {part.activity.kind for made in step.stages for block, _ in made for part in block.parts}
    assert "all_to_all" in kinds, names


def test_distinct_experts_grow_with_the_batch_until_all_are_touched():
    def read(batch):
        step = deployed("qwen3-30b-a3b").decode(batch, 100)
        return sum(
            part.activity.bytes * part.runs
            for made in step.stages
            for block, _ in made
            for part in block.parts
            if part.activity.name == "experts"
        )

    sizes = [read(batch) for batch in (1, 4, 16, 64, 512)]
    assert sizes == sorted(sizes)
    assert sizes[1] < 3.95 * sizes[0] and sizes[0] < sizes[-1] / 10
    assert sizes[-1] < 1.3 * sizes[-2]


# ---- batches, chunks, contexts -----------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_chunks_of_a_prompt_are_no_faster_than_the_prompt_whole(engine):
    for prompt in (2048, 8192, 30_000):
        whole = pipelined(prefill_runs(deployed(engine=engine), 1, prompt, chunk=prompt))
        for chunk in (256, 500, 2048, 8191):
            cut = pipelined(prefill_runs(deployed(engine=engine), 1, prompt, chunk=chunk))
            assert cut >= whole * (1 - 1e-9)


def test_chunks_save_scores_that_a_mask_hides_where_attention_is_not_fused():
    def seconds(chunk):
        return pipelined(prefill_runs(deployed(engine="llama.cpp", dtype="fp16"), 1, 8192, chunk=chunk))

    assert seconds(2048) < seconds(8192) < 2 * seconds(2048)


def test_long_prompts_in_few_evaluations_are_as_long_as_in_all():
    one = deployed()
    few = prefill_runs(one, 1, 100_000, chunk=1000)
    assert len(few) <= 16 and sum(run.count for run in few) == 100
    exact = sum(one.step(Group(1, 1000, start + 1000)).seconds for start in range(0, 100_000, 1000))
    assert pipelined(few) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "gemma-3-4b", "deepseek-v2-lite"])
def test_decode_in_a_handful_of_steps_is_decode_token_by_token(model):
    one = deployed(model)
    runs = decode_runs(one, 4, 100, 1001)
    assert len(runs) == 8 and sum(run.count for run in runs) == 1000
    exact = sum(one.decode(4, 100 + 1 + i).seconds for i in range(1, 1001, 7)) * 7
    assert sum(run.seconds * run.count for run in runs) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize(
    ("model", "cluster", "plan"),
    [
        ("llama-3.1-8b", "h100-sxm", Plan()),
        ("llama-3.1-70b", "dgx-a100", Plan(tp=8)),
        ("mixtral-8x7b", "dgx-h100", Plan(tp=2)),
    ],
)
def test_throughput_is_monotone_in_the_batch(model, cluster, plan):
    rates = []
    for batch in (1, 2, 3, 4, 8, 16, 24, 32, 64, 100, 128, 200, 256):
        row = simulate(
            CATALOGUE.cluster(cluster), Inference(batch=batch, prompt=512, output=128), CATALOGUE.model(model), plan
        ).row
        if not row["memory_fits"]:
            break
        rates.append(row["output_tokens_per_s"])
    assert len(rates) > 6
    assert rates == sorted(rates)


def test_later_tokens_take_longer_and_a_window_ends_that():
    grown = deployed().decode(16, 100_000).seconds - deployed().decode(16, 1000).seconds
    assert grown > 0
    local = deployed("mistral-7b")  # 4,096 keys in all layers
    assert local.decode(16, 30_000).seconds == pytest.approx(local.decode(16, 4096).seconds, rel=1e-3)


def test_what_is_in_the_cache_is_not_worked_on_again():
    cold, warm = (pipelined(prefill_runs(deployed(), 1, 8000, cached)) for cached in (0, 6000))
    assert cold / 6 < warm < cold / 2
    assert pipelined(prefill_runs(deployed(), 1, 8000, 7999)) < cold / 10


def test_a_chunk_beside_decodes_costs_less_than_both_apart():
    chunk, decodes = Group(1, 512, 1024), Group(32, 1, 1024)
    one = deployed()
    together = one.step(chunk, decodes).seconds
    assert max(one.step(chunk).seconds, one.step(decodes).seconds) < together
    assert together < one.step(chunk).seconds + one.step(decodes).seconds
    row = simulate(
        NODE, MixedStep(prefill=512, past=512, decodes=32, context=1024), CATALOGUE.model("llama-3.1-8b")
    ).row
    assert row["step_s"] == pytest.approx(together)


# ---- precisions --------------------------------------------------------------------------------------


def test_narrow_weights_are_faster_in_decode_and_converted_ones_slower_in_prefill():
    plain, four, eight = (deployed(precision=name) for name in ("bf16", "int4", "fp8"))
    assert four.decode(1, 500).seconds < eight.decode(1, 500).seconds < plain.decode(1, 500).seconds
    prompt = Group(1, 8192, 8192)
    assert four.step(prompt).seconds > 0.98 * plain.step(prompt).seconds
    assert eight.step(prompt).seconds < 0.85 * plain.step(prompt).seconds


def test_a_narrow_cache_is_read_faster():
    plain, narrow = deployed(), deployed(kv_dtype="fp8")
    saved = plain.decode(64, 16_000).seconds - narrow.decode(64, 16_000).seconds
    cache = 64 * 16_000 * 131_072
    assert 0.2 < saved / (cache / 2 / NODE.gpu.memory.bandwidth.si) < 1.6


def test_fp8_on_a_gpu_without_it_converts_weights_or_is_refused():
    ampere, model = CATALOGUE.cluster("a100-sxm-80gb"), CATALOGUE.model("llama-3.1-8b")
    row = simulate(ampere, Inference(prompt=512, output=8, precision="fp8"), model).row
    assert row["precision"] == "fp8 (weights converted)"
    with pytest.raises(InputError, match="no fp8 units, and trtllm does not convert such weights; expected bf16, int4"):
        simulate(ampere, Inference(prompt=512, output=8, precision="fp8", runtime="trtllm"), model)


# ---- runtimes ----------------------------------------------------------------------------------------


def test_runtimes_say_what_they_stand_for():
    for one in shipped().every():
        assert one.title and len(one.version) > 2 and all(len(source) > 20 for source in one.sources.values())


def test_host_time_and_launches_make_eager_slower_than_graphs():
    eager, graphs = deployed(engine="eager"), deployed(engine="vllm")
    assert eager.decode(1, 500).seconds > 1.5 * graphs.decode(1, 500).seconds
    graphs = deployed(engine="vllm@0.12")
    bare = replace(runtime("vllm@0.12"), step_s=0.0, sequence_s=0.0)
    free_host = replace(graphs, runtime=bare, _steps={}, _blocks={})
    assert graphs.decode(8, 500).seconds - free_host.decode(8, 500).seconds == pytest.approx(0.6e-3 + 8 * 40e-6)


# ---- memory over the host link -----------------------------------------------------------------------


def test_offloaded_weights_cost_their_way_over_the_host_link():
    model, cluster = CATALOGUE.model("llama-3.1-8b"), CATALOGUE.cluster("rtx-4090")
    rates = []
    for share in (0.0, 0.25, 0.5, 0.75):
        row = simulate(cluster, Inference(prompt=128, output=32, offload=share), model).row
        rates.append(row["output_tokens_per_s_per_user"])
        assert row["copies_s"] >= row["host_memory_bytes"] * 32 / 32e9  # PCIe 4 x16
    assert rates == sorted(rates, reverse=True)
    assert rates[1] < rates[0] / 2


# ---- launches ----------------------------------------------------------------------------------------


def prompts(count, kernels, seconds=1.0, stages=4):
    """Equal microbatches of a prompt in a pipeline."""
    step = SimpleNamespace(
        stages=[()] * stages, each=(seconds,) * stages, send=0.0, host=0.0, kernels=(kernels,) * stages
    )
    return [Run(step, count, seconds * stages)]


@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_launches_that_wait_for_a_gpu_keep_the_others_waiting(count):
    ideal = 4 + count - 1
    assert pipelined(prompts(count, 800)) == pytest.approx(ideal)
    assert pipelined(prompts(count, 800), queue=1e6) == pytest.approx(ideal)
    # half of a stage's launches fit: the next prompt starts when the last GPU is half through with the one before
    assert pipelined(prompts(count, 800), queue=400) == pytest.approx(4 + 3.5 * (count - 1))
    assert pipelined(prompts(count, 800), queue=1) == pytest.approx(4 * count, rel=1e-3)
    times = [pipelined(prompts(count, 800), queue=size) for size in (1, 200, 400, 700, 850, 1200, 2000, 5000)]
    assert times == sorted(times, reverse=True)


def test_many_layers_to_a_gpu_take_turns_in_llama_cpp_and_few_overlap():
    def gain(model):
        one = deployed(model, plan=Plan(pp=4), precision="q4_k_m", engine="llama.cpp@2024-05", dtype="fp16")
        runs = prefill_runs(one, 1, 4096)
        return sum(run.seconds * run.count for run in runs) / pipelined(runs, one.runtime.queue)

    assert gain("llama-3-70b") < 1.4  # 20 layers of 49 kernels on each GPU
    assert gain("llama-3-8b") > 2.0  # 8 layers


# ---- found by review ---------------------------------------------------------------------------------


def test_old_gpus_multiply_prompts_in_fp32_where_fp16_is_slow():
    model = CATALOGUE.model("llama-3.1-8b")
    job = Inference(prompt=512, output=8, runtime="llama.cpp", precision="q4_k_m")
    row = simulate(CATALOGUE.cluster("gtx-1080-ti"), job, model).row
    assert 0.5 < row["ttft_s"] < 5  # 8 TFLOPs over 11 TFLOP/s
    assert simulate(CATALOGUE.cluster("mi300x"), job, model).row["ttft_s"] < 1


def test_a_draft_is_held_and_reads_the_prompt():
    model, draft = CATALOGUE.model("llama-3.1-8b"), CATALOGUE.model("llama-3.2-1b")
    plain = simulate(NODE, Inference(prompt=2048, output=64), model).row
    job = Inference(prompt=2048, output=64, speculative={"draft": "llama-3.2-1b", "tokens": 3, "acceptance": 0.7})
    guessed = simulate(NODE, job, model, draft=draft).row
    more = guessed["weights_bytes_per_gpu"] - plain["weights_bytes_per_gpu"]
    assert more == pytest.approx(2 * draft.parameters, rel=1e-3)
    assert guessed["most_sequences"] < plain["most_sequences"]
    assert plain["ttft_s"] < guessed["ttft_s"] < 1.5 * plain["ttft_s"]
    with pytest.raises(InputError, match="the model itself is needed"):
        simulate(NODE, job, model)
    deep = CATALOGUE.model("deepseek-v3")
    mtp = Inference(prompt=64, output=8, precision="fp8-block", speculative={"draft": "mtp", "acceptance": 0.8})
    bare = Inference(prompt=64, output=8, precision="fp8-block")
    with_mtp, without = (simulate(NODE, one, deep, Plan(tp=8)).row["weights_bytes_per_gpu"] for one in (mtp, bare))
    assert 1e9 < 8 * (with_mtp - without) < 15e9  # one layer of 61, no second embedding


def test_chunks_scores_and_logits_are_in_the_memory():
    model = CATALOGUE.model("llama-3.1-8b")

    def held(part, cluster=NODE, **job):
        return simulate(cluster, Inference(**{"prompt": 8000, "output": 2, **job}), model).row[part]

    assert held("activations_memory_bytes", chunk=512) < held("activations_memory_bytes", chunk=8000) / 8
    scores = held("activations_memory_bytes", runtime="llama.cpp@2024-05", precision="q4_k_m")
    assert 32 * 512 * 8000 * 4 < scores < 1.5 * 32 * 512 * 8000 * 4
    assert held("logits_memory_bytes", runtime="eager") == pytest.approx(128256 * 6, rel=0.01)  # generate() keeps one
    forward = deployed(cluster=NODE, engine="eager")
    forward.runtime = bare_forward("eager")
    assert serving_memory(forward.served, 1, 8000, 80e9)[0].logits == pytest.approx(8000 * 128256 * 6, rel=0.01)


def test_pipelines_of_experts_over_replicas_can_be_traced(tmp_path):
    from simgpu import save_trace

    job = Inference(batch=7, prompt=500, output=10, precision="fp8")
    result = simulate(NODE, job, CATALOGUE.model("qwen3-235b-a22b"), Plan(tp=4, dp=2, ep=8))
    assert save_trace(result, tmp_path / "trace.json").stat().st_size > 1000


@pytest.mark.parametrize("model", ["gpt-oss-120b", "qwen3-235b-a22b", "deepseek-v3"])
def test_throughput_of_mixtures_has_no_step_where_visits_pass_the_number_of_experts(model):
    one = deployed(model, plan=Plan(tp=8))
    rates = [batch / one.decode(batch, 1000).seconds for batch in (1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 33, 34, 48, 64)]
    assert all(later > 0.98 * earlier for earlier, later in pairwise(rates))
