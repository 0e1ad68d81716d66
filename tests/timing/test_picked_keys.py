"""Attention over keys that an indexer picked: places for all of them, 64 or 128 heads at a time, or a gather."""

from dataclasses import replace

import numpy as np
import pytest

from simgpu import load_timer
from simgpu.catalog import Catalogue
from simgpu.model.dims import Dim
from simgpu.model.operators import Attention
from simgpu.model.serving import Group, serving_layer
from simgpu.model.state_operators import Indexer
from simgpu.timing.attention_work import AttentionWork
from simgpu.timing.constants import PickedConstants
from simgpu.timing.kernels import KernelModel
from simgpu.timing.picked import LIBRARIES, PickedWork, picked_time

CATALOGUE = Catalogue()
SPARSE = CATALOGUE.model("deepseek-v3.2")
ALWAYS = replace(SPARSE, index_always=True)
NAMES = ("h100-sxm", "b200-sxm")
CLUSTERS = {name: KernelModel(CATALOGUE.cluster(name)) for name in NAMES}
TIMERS = {name: load_timer(name) for name in NAMES}
DEVICE = TIMERS["h100-sxm"].device


def picked(rows, heads, group=64, **more):
    work = PickedWork(rows, heads, 2048, 1088.0, DEVICE.peak("bf16"))
    constants = PickedConstants(3.7e-6, picked_fraction=0.63, picked_heads=group, picked_cast_per_clock=9.2)
    return float(picked_time(work, DEVICE, constants, **more))


def sparse_attention(rows, heads=16, queries=64, keys=8192, kv_dtype=""):
    return Attention(
        "attention", Dim(rows), queries, keys, Dim(heads), Dim(1), 576, "bf16", window=2048, v_head_dim=512,
        kv_dtype=kv_dtype, cache_width=576, picked=True,
    )  # fmt: skip


def prompt(name, library, **more):
    return float(TIMERS[name].picked.prompt(sparse_attention(32, **more), library).seconds)


def test_a_wave_of_query_tokens_takes_what_flash_mla_takes():
    """60 us for each 132 tokens of 64 heads on an H100, whatever they see (glm5 kernels of SGLang)."""
    assert picked(132, 64) == pytest.approx(60e-6, rel=0.02)
    assert picked(4096, 64) == pytest.approx(32 * picked(1, 64))


@pytest.mark.parametrize("heads, blocks", [(1, 1), (64, 1), (65, 2), (128, 2)])
def test_heads_are_filled_up_to_64(heads, blocks):
    assert picked(132 * 4, heads) == pytest.approx(blocks * picked(132 * 4, 64))
    assert picked(132 * 4, heads, group=128) == pytest.approx(2 * picked(132 * 4, 64))


def test_keys_of_few_tokens_are_split():
    assert picked(1, 64, split=True) == pytest.approx(picked(132, 64) / 132)
    assert picked(264, 64, split=True) == pytest.approx(picked(264, 64))


def test_two_blocks_of_a_token_share_the_keys_that_they_widen():
    one, two = (picked(1320, heads, cast=512) - picked(1320, heads) for heads in (64, 128))
    assert one == pytest.approx(two)
    assert 2 * 128 * 2048 * 1088 * 1320 / picked(1320, 128, cast=512) == pytest.approx(410e12, rel=0.15)  # FlashMLA


def test_engines_differ_where_their_kernels_do():
    """165 us a wave in the build of TensorRT-LLM, and as long for one decode; keys are gathered on Blackwell."""
    timer = TIMERS["h100-sxm"].picked
    nothing = TIMERS["h100-sxm"].attention.decode
    assert prompt("h100-sxm", "trtllm") / prompt("h100-sxm", "flashmla") == pytest.approx(0.63 / 0.235, rel=0.02)
    streamed = nothing(AttentionWork(1, 1, 2048, 16, 1, 576, 512))
    decode = sparse_attention(1, queries=1, keys=2048)
    assert float(timer.few(decode, streamed, "trtllm").seconds) == pytest.approx(165e-6, rel=0.06)
    assert float(timer.few(decode, streamed).seconds) < 40e-6
    half = prompt("b200-sxm", "trtllm", keys=512) / prompt("b200-sxm", "trtllm", keys=1024)
    assert half == pytest.approx(0.5, abs=0.1)
    assert prompt("b200-sxm", "flashmla", heads=64, keys=512) == prompt("b200-sxm", "flashmla", heads=64, keys=8192)


@pytest.mark.parametrize("library", ["default", *LIBRARIES])
@pytest.mark.parametrize("name", NAMES)
def test_wider_caches_and_more_heads_never_take_less_on_blackwell_nor_narrow_ones_on_hopper(name, library):
    heads = [prompt(name, library, heads=count) for count in (8, 16, 32, 64, 128)]
    if library != "flashmla":  # which changes its kernel with the heads
        assert np.all(np.diff(heads) >= 0)
    wide, narrow = (prompt(name, library, kv_dtype=kind) for kind in ("bf16", "fp8"))
    assert narrow >= wide if name == "h100-sxm" else narrow <= wide


def attention_seconds(name, count, queries, keys):
    layer = serving_layer(SPARSE, SPARSE.layer_kinds()[0][0], (Group(count, queries, keys),), "bf16", "fp32", "")
    return sum(float(CLUSTERS[name].time(op).seconds) for op in layer if op.kind in ("attention", "indexer"))


@pytest.mark.parametrize("name", CLUSTERS)
def test_more_queries_and_more_keys_never_take_less(name):
    for count in (1, 16, 132):
        queries = [attention_seconds(name, count, q, 30_000) for q in (1, 4, 16, 17, 64, 1000)]
        assert np.all(np.diff(queries) >= -1e-12), queries
    keys = [attention_seconds(name, 4, 512, k) for k in (512, 1024, 2048, 2049, 4096, 60_000)]
    assert np.all(np.diff(keys) >= -1e-12), keys
    decodes = [attention_seconds(name, 256, 1, k) for k in (100, 2048, 2049, 60_000)]
    assert np.all(np.diff(decodes) >= -1e-12), decodes


def test_prompts_over_picked_keys_multiply_in_the_latent_space():
    kinds = {}
    for keys in (2048, 4096):
        layer = serving_layer(SPARSE, SPARSE.layer_kinds()[0][0], (Group(1, 1024, keys),), "bf16", "fp32", "")
        kinds[keys] = {op.name for op in layer}
    assert "kv_up" in kinds[2048] and "q_absorb" not in kinds[2048]
    assert "kv_up" not in kinds[4096] and "q_absorb" in kinds[4096]


def test_engines_without_dense_attention_pick_keys_of_short_prompts():
    kind = SPARSE.layer_kinds()[0][0]
    names = {op.name for op in serving_layer(ALWAYS, kind, (Group(1, 1024, 1024),), "bf16", "fp32", "")}
    assert {"index", "q_absorb"} <= names
    assert "kv_up" not in names


def test_a_choice_of_keys_costs_more_where_there_is_one():
    """Top-k of 2,048: 1.3 us and 0.21 ns for each key of a query token (glm5 kernels), nothing of 2,048 keys."""

    def seconds(keys):
        op = Indexer("index", Dim(1320), 1, keys, 64, 128, 2048)
        return float(TIMERS["h100-sxm"].scans.indexer(op).seconds)

    assert seconds(2049) - seconds(2048) == pytest.approx(10 * (1.3e-6 + 2049 * 0.21e-9), rel=0.1)
