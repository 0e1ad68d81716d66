"""Memory of serving: weights at the sizes of published files, caches by formula, and what fits."""

from dataclasses import replace

import pytest

import simgpu
from simgpu import Catalogue, InputError, Plan
from simgpu.model.formats import FORMATS, format_of
from simgpu.plan.precision import PRECISIONS, is_gguf, more_bits, precision_of
from simgpu.plan.serving_fit import misfit_text, smallest, splits
from simgpu.plan.serving_memory import (
    Reserve,
    Served,
    cache_bytes,
    longest_context,
    most_sequences,
    serving_memory,
    stage_weights,
)

CATALOGUE = Catalogue()
GIB = 2.0**30


def weights(model, precision, plan=None, dtype="bf16"):
    config, plan = CATALOGUE.model(model), plan or Plan()
    return sum(stage_weights(config, plan, precision_of(precision), dtype, stage) for stage in range(plan.pp))


@pytest.mark.parametrize(
    ("model", "precision", "published"),
    [
        # sizes of bartowski's files on Hugging Face, bytes in GB
        ("llama-3.1-8b", "q4_k_m", 4.92e9),
        ("llama-3.1-8b", "q8_0", 8.54e9),
        ("llama-3.1-8b", "q6_k", 6.60e9),
        ("llama-3.1-70b", "q4_k_m", 42.52e9),
        # OpenAI, gpt-oss model card, section 2.1: 60.8 GiB and 12.8 GiB
        ("gpt-oss-120b", "mxfp4", 60.8 * GIB),
        ("gpt-oss-20b", "mxfp4", 12.8 * GIB),
        # hugging-quants/Meta-Llama-3.1-70B-Instruct-AWQ-INT4 and -8B-: sums of their safetensors
        ("llama-3.1-70b", "int4", 39.77e9),
        ("llama-3.1-8b", "int4", 5.74e9),
        ("deepseek-v3", "fp8-block", 673e9),  # 671 B weights in FP8, embedding and head in 16 bits
    ],
)
def test_weights_are_as_large_as_published_files(model, precision, published):
    assert weights(model, precision) == pytest.approx(published, rel=0.015)


def test_a_plain_precision_is_its_bytes_for_every_parameter():
    for model in ("llama-3.1-8b", "gemma-3-27b", "qwen3-30b-a3b", "deepseek-v2-lite", "gpt-oss-20b"):
        config = CATALOGUE.model(model)
        assert weights(model, "bf16") == pytest.approx(2 * config.parameters, rel=2e-3), model


def test_splits_share_the_weights_out():
    for plan in (Plan(tp=4), Plan(pp=4), Plan(tp=2, pp=2)):
        config = CATALOGUE.model("llama-3.1-8b")
        each = [stage_weights(config, plan, precision_of("bf16"), "bf16", stage) for stage in range(plan.pp)]
        assert sum(each) * plan.tp == pytest.approx(2 * config.parameters, rel=1e-3)
    ep = stage_weights(CATALOGUE.model("mixtral-8x7b"), Plan(tp=4, ep=4), precision_of("bf16"), "bf16")
    tp = stage_weights(CATALOGUE.model("mixtral-8x7b"), Plan(tp=4), precision_of("bf16"), "bf16")
    assert ep == pytest.approx(tp, rel=1e-9)


def served(model, precision="bf16", plan=None, **more):
    return Served(CATALOGUE.model(model), plan or Plan(), precision_of(precision), **more)


@pytest.mark.parametrize("model", ["llama-2-7b", "llama-3.1-70b", "qwen3-32b"])
@pytest.mark.parametrize(("kv", "width"), [("", 2), ("fp8", 1), ("fp32", 4)])
def test_the_cache_is_two_vectors_of_every_kv_head_for_each_token(model, kv, width):
    config = CATALOGUE.model(model)
    expected = 2 * config.layers * config.kv_heads * config.head_dim * width * 1000
    assert cache_bytes(served(model, kv_dtype=kv), 1000) == expected
    stages = sum(cache_bytes(served(model, kv_dtype=kv, plan=Plan(pp=2)), 1000, stage) for stage in range(2))
    assert stages == expected
    assert cache_bytes(served(model, kv_dtype=kv, plan=Plan(tp=4)), 1000) == expected / 4


def test_kv_heads_are_copied_where_there_are_more_ranks():
    config = CATALOGUE.model("llama-3.1-8b")
    assert cache_bytes(served("llama-3.1-8b", plan=Plan(tp=16)), 1) == 2 * 32 * 1 * config.head_dim * 2
    assert cache_bytes(served("llama-3.1-8b", plan=Plan(cp=4)), 1000) == 2 * 32 * 8 * config.head_dim * 2 * 1000 / 4


def test_a_latent_is_small_and_whole_on_every_rank():
    config = CATALOGUE.model("deepseek-v3")
    one = config.layers * (512 + 64) * 2 * 100
    assert cache_bytes(served("deepseek-v3"), 100) == one == cache_bytes(served("deepseek-v3", plan=Plan(tp=8)), 100)


def test_windows_stop_growing():
    config = CATALOGUE.model("gemma-3-27b")
    per_layer = 2 * config.kv_heads * config.head_dim * 2
    whole = sum(count for kind, count in config.layer_kinds() if "local" not in kind)
    assert cache_bytes(served("gemma-3-27b"), 1024) == config.layers * per_layer * 1024
    grown = cache_bytes(served("gemma-3-27b"), 10_240) - cache_bytes(served("gemma-3-27b"), 1024)
    assert grown == whole * per_layer * 9216
    assert 0 < whole < config.layers


def test_memory_adds_up_and_grows_with_the_batch():
    one = served("llama-3.1-8b", reserve=Reserve(0.9, 1e9, 5e8))
    (small,), (large,) = (serving_memory(one, batch, 4096, 80 * GIB) for batch in (1, 8))
    assert large.kv_cache == 8 * small.kv_cache
    assert small.total == sum(
        (small.weights, small.kv_cache, small.activations, small.logits, small.graphs, small.reserve)
    )
    assert small.budget == pytest.approx(0.9 * 80 * GIB)
    assert small.fits and small.short_by == 0


def test_most_sequences_and_the_longest_context_are_the_last_that_fit():
    one = served("llama-3.1-8b", reserve=Reserve(0.9, 1e9, 5e8))
    capacity = 24 * GIB

    def fits(batch, tokens):
        return all(memory.fits for memory in serving_memory(one, batch, tokens, capacity))

    most, longest = most_sequences(one, 4096, capacity), longest_context(one, 1, capacity)
    assert fits(most, 4096) and not fits(most + 1, 4096)
    assert fits(1, longest) and not fits(1, longest + 1)
    assert longest_context(one, 1, 8 * GIB) == 0 == most_sequences(one, 4096, 8 * GIB)
    assert longest_context(one, 1, 1000 * GIB) == one.config.max_tokens


def test_offloaded_weights_are_on_the_host():
    (gpu,) = serving_memory(served("llama-3.1-70b", offloaded=0.5), 1, 100, 80 * GIB)
    (whole,) = serving_memory(served("llama-3.1-70b"), 1, 100, 80 * GIB)
    assert gpu.weights + gpu.host == pytest.approx(whole.weights)
    assert 0.4 < gpu.host / whole.weights < 0.5  # embedding and head stay


def test_a_plan_that_does_not_fit_says_by_how_much_and_what_does():
    text = misfit_text(served("llama-3.1-70b"), 4, 4096, 80 * GIB, 8, [("big", 288 * GIB), ("bigger", 400 * GIB)])
    assert text.startswith("needs 139.2 GiB of 72.0 GiB (67.2 GiB too much); fits with tp: 2, ")
    assert "precision: int4" in text and "a GPU such as big" in text
    found = smallest(served("llama-3.1-70b"), 80 * GIB, 4096, 4)
    assert found.gpus == 2 and found.split == "tp: 2"
    assert all(m.fits for m in serving_memory(found.served, found.sequences, 4096, 80 * GIB))
    assert not all(m.fits for m in serving_memory(found.served, found.sequences + 1, 4096, 80 * GIB))
    assert smallest(served("llama-3.1-70b"), 80 * GIB, 4096, 64).gpus == 4
    alone = misfit_text(served("llama-3.1-70b"), 1, 4096, 10 * GIB, 1, join=1)
    assert "nothing of this kind holds it" in alone
    assert misfit_text(served("llama-3.1-8b"), 1, 4096, 80 * GIB, 1).startswith("needs 1")


def test_splits_divide_the_model():
    assert [plan.tp for plan in splits(CATALOGUE.model("llama-3.1-70b"))] == [1, 2, 4, 8, 16, 32]
    assert [plan.tp for plan in splits(CATALOGUE.model("phi-4-14b"))] == [1, 2, 5, 10][:2]  # 40 heads, 10 KV heads
    assert [plan.pp for plan in splits(CATALOGUE.model("llama-3.1-8b"), 3, by_layers=True)] == [1, 2, 3]


def test_precisions_are_formats_that_exist():
    for name, one in PRECISIONS.items():
        assert one.name == name and (len(one.source) > 20 or one.source == "plain")
        for form in (one.weights, one.head, one.embedding, *one.special.values(), *one.boosted.values()):
            assert not form or form in FORMATS
        assert is_gguf(one) == (name[0] == "q")


@pytest.mark.parametrize(
    ("name", "bits"), [("q4_k", 4.5), ("q6_k", 6.5625), ("q8_0", 8.5), ("int4", 4.15625), ("mxfp4", 4.25)]
)
def test_formats_count_scales(name, bits):
    assert format_of(name).bits == pytest.approx(bits)
    assert format_of(f"{name}+{name}").bits == pytest.approx(bits)


def test_groups_of_four_bit_weights_can_be_chosen():
    assert format_of(precision_of("int4-g32").weights).bits == pytest.approx(4 + 20 / 32)
    assert weights("llama-3.1-8b", "int4-g32") > weights("llama-3.1-8b", "int4")
    for name in ("int4-g0", "int4-gx", "int5"):
        with pytest.raises(InputError):
            precision_of(name)


def test_half_of_the_layers_get_more_bits():
    assert sum(more_bits(layer, 32) for layer in range(32)) == 16  # llama-quant.cpp of a model of 32 layers
    assert replace(PRECISIONS["q4_k_m"], boosted={}).stored("v", more=True) == "q4_k"


# ---- the share of memory that an engine takes, and the cache that it leaves ----------------------------------------

EIGHT = "llama-3.1-8b"


def row_of(engine, share=None, **more):
    asked = {"kind": "inference", "batch": 8, "prompt": 512, "output": 64, "runtime": engine, **more}
    if share is not None:
        asked["memory_share"] = share
    return simgpu.simulate("h100-sxm", asked, EIGHT).row


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_a_larger_share_of_memory_holds_more(engine):
    rows = [row_of(engine, share) for share in (0.3, 0.6, 0.9)]
    for column in ("cache_tokens", "most_sequences"):
        found = [row[column] for row in rows]
        assert found == sorted(set(found)), column
    assert [row["step_s"] for row in rows] == [rows[0]["step_s"]] * 3
    for row in rows:  # both say how much fits, and the logits of more sequences take a little
        assert row["memory_fits"]
        assert 0.97 * row["cache_tokens"] <= row["most_sequences"] * 576 <= row["cache_tokens"]


def test_a_share_means_what_the_option_of_the_engine_means():
    """Bytes of cache that a share adds: of the memory, of what the context leaves, of what all else leaves."""
    capacity, token = 80 * GIB, row_of("vllm")["kv_bytes_per_token"]
    more = {
        engine: (row_of(engine, 0.8)["cache_tokens"] - row_of(engine, 0.7)["cache_tokens"]) * token
        for engine in ("vllm", "sglang", "trtllm")
    }
    assert more["vllm"] == pytest.approx(0.1 * (capacity - 0.6 * GIB), rel=1e-3)  # less what the driver keeps
    assert more["sglang"] == pytest.approx(0.1 * (capacity - 512 * 2**20), rel=1e-3)
    row = row_of("trtllm", 1.0)
    assert more["trtllm"] == pytest.approx(0.1 * row["cache_tokens"] * token, rel=1e-3)
    assert more["trtllm"] < 0.1 * (capacity - row["weights_bytes_per_gpu"])


LOGS = [  # lines of logs at the start of vLLM: tokens that its cache holds
    ("vllm@0.10.1", "qwen2.5-7b", "a100-sxm-80gb", 1, 0.5, 2048, 256, 464_848),
    ("vllm@0.10.1", "qwen2.5-7b", "dgx-a100", 2, 0.25, 2048, 256, 450_192),
    ("vllm@0.9.2", "qwen3-8b", "a100-sxm-40gb", 1, 0.9, 2048, 256, 136_080),
    ("vllm@0.15.1", "llama-2-7b", "h100-sxm", 1, 0.9, 2048, 128, 119_408),
    ("vllm@0.19.0", EIGHT, "rtx-4090", 1, 0.9, 2048, 256, 41_408),
]


@pytest.mark.parametrize(("engine", "model", "cluster", "tp", "share", "chunk", "sequences", "tokens"), LOGS)
def test_tokens_of_cache_are_those_of_logs_within_two_percent(
    engine, model, cluster, tp, share, chunk, sequences, tokens
):
    asked = {"kind": "serving", "concurrency": 1, "prompt": 128, "output": 16, "runtime": engine,
             "memory_share": share, "chunk": chunk, "sequences": sequences}  # fmt: skip
    row = simgpu.simulate(cluster, asked, model, {"tp": tp}).row
    assert row["cache_tokens"] == pytest.approx(tokens, rel=0.02)


def test_the_trial_run_of_the_sampler_takes_from_the_cache():
    def tokens(sequences, engine):
        asked = {"kind": "serving", "concurrency": 1, "prompt": 128, "output": 16, "sequences": sequences}
        return simgpu.simulate("h100-sxm", asked | {"runtime": engine}, EIGHT).row["cache_tokens"]

    less = tokens(256, "vllm") - tokens(1024, "vllm")
    assert less * 131_072 == pytest.approx(768 * 128_256 * 39, rel=1e-3)
    assert tokens(1024, "vllm@0.21") > tokens(1024, "vllm")


def test_fewer_sequences_at_a_time_are_what_helps_an_engine_that_tries_them():
    """67.7 GiB of weights leave 3.8 of what vLLM takes of an H100, the sort of 1,024 rows of logits needs 4.8
    (vllm-project/vllm issue 15617)."""

    def fits(require_fit=False, **more):
        asked = {"kind": "inference", "prompt": 1024, "output": 128, "precision": "fp8", **more}
        return simgpu.simulate("h100-sxm", asked, "llama-3.3-70b", require_fit=require_fit)

    with pytest.raises(simgpu.InputError, match=r"fits with sequences: 512, memory_share: 0\.95, "):
        fits(require_fit=True)
    assert fits(sequences=512).row["memory_fits"] and not fits(sequences=1024).row["memory_fits"]
    assert fits(memory_share=0.95).row["memory_fits"]
    with pytest.raises(simgpu.InputError, match="2 at a time are fewer than the 4"):
        fits(sequences=2, batch=4)


def test_the_share_of_a_runtime_is_the_default_of_the_key():
    for engine in ("vllm", "trtllm"):
        assert dict(row_of(engine)) == dict(row_of(engine, 0.9))
    assert "cache_tokens" not in row_of("llama.cpp") and not row_of("llama.cpp", 0.1)["memory_fits"]


def test_a_share_too_small_for_the_weights_leaves_no_cache():
    for engine in ("vllm", "sglang"):
        row = row_of(engine, 0.1)
        assert (row["cache_tokens"], row["most_sequences"], row["memory_fits"]) == (0, 0, False)


@pytest.mark.parametrize("share", [0, 1.01, -0.5, "much", float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(simgpu.InputError, match="memory_share"):
        row_of("vllm", share)


def test_the_cache_of_a_replica_is_that_of_its_fullest_stage_and_an_encoder_has_none():
    asked = {"kind": "serving", "concurrency": 8, "prompt": 512, "output": 64}
    one, two, tp = (simgpu.simulate("dgx-h100", asked, EIGHT, plan).row for plan in ({}, {"dp": 2}, {"tp": 2}))
    assert two["cache_tokens"] == pytest.approx(one["cache_tokens"], rel=0.02)  # of each, beside its communicators
    assert tp["cache_tokens"] > 2 * one["cache_tokens"]
    asked = {"kind": "inference", "batch": 8, "prompt": 128, "output": 1}
    assert simgpu.simulate("h100-sxm", asked, "bert-large").row["cache_tokens"] == 0
