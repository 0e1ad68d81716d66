"""Graphs of transformers: FLOPs, bytes and weights against closed forms."""

import pytest

from simgpu import Catalogue
from simgpu.model.operators import Attention, Dim, Matmul
from simgpu.model.transformer import prefill_graph, training_graph

CATALOGUE = Catalogue()


@pytest.mark.parametrize("name", CATALOGUE.names("models"))
def test_operators_hold_all_weights_of_the_model(name):
    config = CATALOGUE.model(name)
    for graph in (prefill_graph(config, 1, 128, "bf16", "fp32"), training_graph(config, 2, 128, "bf16", "fp32")):
        assert graph.weights == config.parameters


@pytest.mark.parametrize("name", ["llama-2-70b", "qwen3-32b", "gpt3-175b"])
def test_prefill_flops_are_two_per_weight_and_token_plus_attention(name):
    config = CATALOGUE.model(name)
    batch, tokens = 2, 512
    graph = prefill_graph(config, batch, tokens, "bf16", "fp32")
    layer_weights = sum(
        op.n_size * op.k.size for s in graph.segments for op in s.operators if isinstance(op, Matmul) and s.repeat > 1
    )
    attention = 4 * config.heads * config.head_dim * tokens * (tokens + 1) / 2
    expected = batch * config.layers * (2 * tokens * layer_weights + attention)
    expected += 2 * batch * config.hidden * config.vocab  # logits of the last tokens
    matrix = sum(
        s.repeat * op.flops for s in graph.segments for op in s.operators if isinstance(op, (Matmul, Attention))
    )
    assert matrix == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("name", ["llama-2-7b", "gpt3-175b"])
def test_backward_costs_two_forwards_in_matrix_multiplications(name):
    graph = training_graph(CATALOGUE.model(name), 1, 256, "bf16", "fp32")
    flops = {s.name: s.repeat * sum(op.flops for op in s.operators if isinstance(op, Matmul)) for s in graph.segments}
    assert flops["layer backward"] == pytest.approx(2 * flops["layer"], rel=1e-12)
    assert flops["head backward"] == pytest.approx(2 * flops["head"], rel=1e-12)


def test_training_flops_are_six_per_weight_and_token_without_attention():
    config = CATALOGUE.model("llama-2-7b")
    graph = training_graph(config, 4, 1024, "bf16", "fp32")
    matmuls = sum(s.repeat * op.flops for s in graph.segments for op in s.operators if isinstance(op, Matmul))
    without_embedding = config.parameters - config.vocab * config.hidden
    assert matmuls == pytest.approx(6 * without_embedding * 4 * 1024, rel=1e-3)


def test_grouped_queries_shrink_keys_and_values_only():
    grouped = CATALOGUE.model("llama-2-70b")
    assert (grouped.heads, grouped.kv_heads) == (64, 8)
    graph = prefill_graph(grouped, 1, 64, "bf16", "fp32")
    qkv = next(op for s in graph.segments for op in s.operators if op.name == "qkv")
    assert qkv.n_size == (64 + 2 * 8) * 128


def test_attention_bytes_and_flops():
    op = Attention("a", Dim(3), 10, 25, Dim(8), Dim(2), 64, "fp16")
    seen = sum(25 - 10 + i + 1 for i in range(10))  # keys each query sees
    assert op.flops == 4 * 64 * seen * 3 * 8
    assert op.bytes == 3 * 64 * 2 * (2 * 10 * 8 + 2 * 25 * 2)


def test_dims_split_into_whole_units_and_replicate_when_there_are_fewer():
    assert Dim(8, 128, "heads").split({"heads": 4}) == Dim(2, 128, "heads")
    assert Dim(2, 128, "heads").split({"heads": 8}).size == 128
    assert Dim(8, 128, "").split({"heads": 4}).size == 1024


@pytest.mark.parametrize("window", [0, 1, 5, 12, 25, 40])
@pytest.mark.parametrize(("queries", "keys"), [(25, 25), (10, 25), (1, 25)])
def test_a_sliding_window_limits_what_each_query_sees(queries, keys, window):
    op = Attention("a", Dim(1), queries, keys, Dim(1), Dim(1), 1, "fp16", window=window)
    seen = [keys - queries + i + 1 for i in range(queries)]
    assert op.pairs == sum(min(n, window or n) for n in seen)


def test_mistral_has_a_window_and_qwen_has_switched_its_off():
    assert CATALOGUE.model("mistral-7b").window == 4096
    assert CATALOGUE.model("qwen2.5-14b").window == 0


def test_model_flops_leave_out_what_flash_attention_recomputes():
    graph = training_graph(CATALOGUE.model("llama-2-7b"), 1, 4096, "bf16", "fp32")
    forward = sum(s.repeat * op.flops for s in graph.segments for op in s.operators if op.name == "attention")
    matmuls = sum(s.repeat * op.flops for s in graph.segments for op in s.operators if isinstance(op, Matmul))
    assert graph.flops == pytest.approx(matmuls + 3 * forward, rel=1e-12)
