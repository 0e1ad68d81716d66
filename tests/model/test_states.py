"""Layers that keep a state: weights, operators, memory, times."""

from dataclasses import replace

import pytest

from simgpu import Catalogue, InputError, load_timer
from simgpu.model.operators import Attention, Dim, Indexer, Scan
from simgpu.model.serving import Group, serving_layer
from simgpu.model.transformer import backward, layer_operators
from simgpu.plan.checks import check_serves
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import PRECISIONS
from simgpu.plan.serving_memory import Served, cache_bytes, state_bytes
from simgpu.timing.kernels import KernelModel

CATALOGUE = Catalogue()
HYBRIDS = ["qwen3.5-35b-a3b", "nemotron-3-nano-30b-a3b", "kimi-linear-48b-a3b", "jamba-v0.1"]


def served(name, **plan):
    return Served(CATALOGUE.model(name), Plan(**plan), PRECISIONS["bf16"])


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_state_does_not_grow_with_the_context(name):
    one = served(name)
    state = state_bytes(one)
    assert state > 0
    short, long = (cache_bytes(one, tokens) - state for tokens in (1024, 4096))
    assert long == pytest.approx(4 * short)
    assert sum(state_bytes(served(name, pp=3), stage) for stage in range(3)) == pytest.approx(state)


def test_states_of_gated_delta_nets_are_those_of_their_heads():
    """30 layers of 32 heads of 128 x 128 in fp32, and 3 inputs of 8,192 convolved channels in bf16."""
    assert state_bytes(served("qwen3.5-35b-a3b")) == 30 * (32 * 128 * 128 * 4 + 3 * 8192 * 2)
    assert state_bytes(served("qwen3.5-35b-a3b", tp=4)) == state_bytes(served("qwen3.5-35b-a3b")) / 4


def test_a_hybrid_keeps_less_of_a_long_context_than_its_relative():
    hybrid, whole = served("qwen3.5-35b-a3b"), served("qwen3-30b-a3b")
    assert cache_bytes(hybrid, 131072) < 0.25 * cache_bytes(whole, 131072)


def test_layers_hold_attention_or_a_scan():
    config = CATALOGUE.model("qwen3.5-35b-a3b")
    for kind, _ in config.layer_kinds():
        operators = layer_operators(config, kind, 1, 256, "bf16", "fp32")
        found = {type(op) for op in operators} & {Attention, Scan}
        assert found == ({Scan} if "state" in kind else {Attention})
        assert any(isinstance(op, Scan) for op in backward(operators)) == ("state" in kind)


def test_a_scan_works_in_proportion_to_tokens_and_heads():
    scan = Scan("s", "gated_delta", Dim(2), 1024, Dim(32, 1, "heads"), Dim(16, 1, "heads"), 128, 128, "bf16")
    assert scan.flops == 2 * 2 * 1024 * 32 * (64 * (3 * 128 + 2 * 128) + 3 * 128 * 128)
    assert scan.split({"heads": 4}).flops == scan.flops / 4
    step = Scan("s", "gated_delta", Dim(8), 1, Dim(32), Dim(16), 128, 128, "bf16", continued=True)
    assert step.bytes == pytest.approx(2 * 8 * 32 * 128 * 128 * 4, rel=0.02)  # the state is read and written


def test_times_of_scans_grow_with_work_and_follow_the_states():
    timer = load_timer("h100-sxm")

    def seconds(batch, tokens, heads=32):
        op = Scan("s", "gated_delta", Dim(batch), tokens, Dim(heads), Dim(16), 128, 128, "bf16", tokens == 1)
        return float(timer.scans.scan(op).seconds)

    for tokens in range(2, 40):
        assert seconds(8, tokens) <= seconds(8, tokens + 1) * 1.0001
    for less, more in (((1, 512), (1, 1024)), ((1, 1024), (2, 1024)), ((8, 1), (16, 1))):
        assert seconds(*less) <= seconds(*more)
    assert seconds(256, 1) == pytest.approx(2 * 4 * 128 * 128 * 32 * 256 / (0.89 * 3.35e12), rel=0.1)


def test_an_indexer_picks_keys_where_there_are_more_than_it_takes():
    config = CATALOGUE.model("deepseek-v3.2")
    short, long = (serving_layer(config, "moe", [Group(4, 1, keys)], "bf16", "fp32") for keys in (1024, 65536))
    assert not any(isinstance(op, Indexer) for op in short)
    (index,) = [op for op in long if isinstance(op, Indexer)]
    (attention,) = [op for op in long if isinstance(op, Attention)]
    assert (index.keys, attention.window) == (65536, 2048)
    assert attention.pairs == 2048
    shared = CATALOGUE.model("glm-5.2")
    kinds = [kind for kind, _ in shared.layer_kinds() if "index_heads=0" in kind]
    assert kinds
    assert not any(isinstance(op, Indexer) for op in layer_operators(shared, kinds[0], 1, 8192, "bf16", "fp32"))


def test_what_cannot_be_shared_is_refused_by_key():
    with pytest.raises(InputError, match="a state from chunk to chunk") as error:
        check_serves(Plan(cp=2), CATALOGUE.model("qwen3.5-35b-a3b"))
    assert error.value.key == "plan.cp"
    config = CATALOGUE.model("qwen3.5-35b-a3b")
    with pytest.raises(InputError, match="heads of the states"):
        check_serves(Plan(tp=4), replace(config, state=replace(config.state, heads=6)))


def test_chosen_keys_take_a_time_of_their_own_however_long_the_context():
    kernels = KernelModel(CATALOGUE.cluster("dgx-h200"))
    sparse, dense = CATALOGUE.model("deepseek-v3.2"), CATALOGUE.model("deepseek-v3")

    def seconds(config, keys):
        (op,) = [
            op for op in serving_layer(config, "moe", [Group(16, 1, keys)], "bf16", "fp32") if isinstance(op, Attention)
        ]
        return kernels.time(op).seconds

    assert seconds(sparse, 131072) == seconds(sparse, 16384) < 0.2 * seconds(dense, 131072)


def test_compressed_keys_are_few():
    """DeepSeek V4 Flash: a window of 128, behind it a key for 4 or 128 tokens, and keys of the indexer in 8 bits."""
    config = CATALOGUE.model("deepseek-v4-flash")
    ratios = [dict(layer.changes).get("compress", 0) for layer, count in config.runs for _ in range(count)]
    tokens = 65536
    window = 43 * 128 * 512
    entries = sum(tokens // ratio * (512 + (64 if ratio == 4 else 0)) for ratio in ratios if ratio)
    assert cache_bytes(served("deepseek-v4-flash"), tokens) == 2 * (window + entries)
    (op,) = [
        op
        for op in serving_layer(config, "moe compress=4 local", [Group(1, 1, tokens)], "bf16", "fp32")
        if isinstance(op, Attention)
    ]
    assert op.pairs == 128 + 512
