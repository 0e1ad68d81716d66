"""Attention over keys that an indexer picked: places for all of them, 64 heads at a time."""

import numpy as np
import pytest

from simgpu import load_timer
from simgpu.catalog import Catalogue
from simgpu.model.serving import Group, serving_layer
from simgpu.timing.kernels import KernelModel
from simgpu.timing.scan import picked_time

CATALOGUE = Catalogue()
SPARSE = CATALOGUE.model("deepseek-v3.2")
CLUSTERS = {name: KernelModel(CATALOGUE.cluster(name)) for name in ("h100-sxm", "b200-sxm")}
DEVICE = load_timer("h100-sxm").device


def picked(rows, heads, **more):
    return float(picked_time(rows, heads, 2048, 1088.0, DEVICE.peak("bf16"), DEVICE, 0.63, **more))


def test_a_wave_of_query_tokens_takes_what_flash_mla_takes():
    """60 us for each 132 tokens of 64 heads on an H100, whatever they see (glm5 kernels of SGLang)."""
    assert picked(132, 64) == pytest.approx(60e-6, rel=0.02)
    assert picked(4096, 64) == pytest.approx(32 * picked(1, 64))


@pytest.mark.parametrize("heads, blocks", [(1, 1), (64, 1), (65, 2), (128, 2)])
def test_heads_are_filled_up_to_64(heads, blocks):
    assert picked(132 * 4, heads) == pytest.approx(blocks * picked(132 * 4, 64))


def test_keys_of_few_tokens_are_split():
    assert picked(1, 64, split=True) == pytest.approx(picked(132, 64) / 132)
    assert picked(264, 64, split=True) == pytest.approx(picked(264, 64))


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
