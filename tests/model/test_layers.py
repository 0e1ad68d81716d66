"""Operators of layers: mixtures of experts, latent attention, encoders, unfused attention, and their gradients."""

from collections import Counter

import pytest

from simgpu import Catalogue
from simgpu.model.operators import Attention, Communicate, Dim, GroupedMatmul, Matmul, Pointwise, split_rows
from simgpu.model.transformer import (
    backward,
    embedding_operators,
    head_operators,
    is_weight_gradient,
    layer_operators,
    prefill_graph,
    training_graph,
)
from simgpu.timing.kernels import KernelModel

CATALOGUE = Catalogue()
MIXTURES = ["mixtral-8x7b", "mixtral-8x22b", "deepseek-v2-lite", "deepseek-v3"]
PRODUCTS = (Matmul, GroupedMatmul)


def layer(name, kind="moe", batch=2, tokens=512, **more):
    return layer_operators(CATALOGUE.model(name), kind, batch, tokens, "bf16", "fp32", **more)


def named(operators, name):
    (found,) = [op for op in operators if op.name == name]
    return found


def products(operators):
    return sum(op.flops for op in operators if isinstance(op, PRODUCTS))


# ---- work ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MIXTURES, "llama-3.1-405b", "mpt-7b", "gpt2-xl", "opt-1.3b"])
def test_training_costs_six_flops_per_active_weight_and_token_and_attention(name):
    config, tokens = CATALOGUE.model(name), 1024
    graph = training_graph(config, 2, tokens, "bf16", "fp32")
    tables = (config.vocab + config.position_rows) * config.hidden
    multiplied = config.active_parameters - tables + (config.vocab * config.hidden if config.tied_embeddings else 0)
    pairs = tokens * (tokens + 1) / 2
    attention = 3 * 2 * 2 * pairs * config.layers * config.heads * (config.head_dim + config.value_dim)
    assert graph.flops == pytest.approx(6 * multiplied * 2 * tokens + attention, rel=2e-3)


@pytest.mark.parametrize("name", CATALOGUE.names("models"))
def test_every_graph_has_a_segment_for_each_kind_of_layer_and_mirrors_it_backward(name):
    config = CATALOGUE.model(name)
    graph = training_graph(config, 1, 128, "bf16", "fp32")
    forward = [s for s in graph.segments if not s.name.endswith(" backward")]
    mirrored = [s for s in graph.segments if s.name.endswith(" backward")]
    assert [s.name for s in mirrored] == [f"{s.name} backward" for s in reversed(forward)]
    names = {"dense": "layer", "moe": "expert layer", "dense local": "window layer", "moe local": "expert window layer"}
    assert [(s.name, s.repeat) for s in forward[1:-1]] == [
        (names.get(k, f"{k} layer"), n) for k, n in config.layer_kinds()
    ]
    for segment in graph.segments:
        assert not [name for name, n in Counter(op.name for op in segment.operators).items() if n > 1]


@pytest.mark.parametrize(
    ("name", "kind", "flash"),
    [("llama-3-8b", "dense", False), ("bert-large", "dense", True), ("deepseek-v3", "dense", True)]
    + [(name, "moe", True) for name in MIXTURES],
)
def test_backward_costs_two_forwards_and_holds_no_weights(name, kind, flash):
    forward = layer(name, kind, flash=flash)
    gradients = backward(forward)
    assert products(gradients) == pytest.approx(2 * products(forward), rel=1e-12)
    assert sum(op.weights for op in gradients) == 0
    moved = [sum(op.size for op in ops if isinstance(op, Communicate)) for ops in (forward, gradients)]
    assert moved[0] == moved[1]


def test_weight_gradients_are_those_of_operators_with_weights():
    for forward in (layer("deepseek-v3"), layer("llama-3-8b", "dense", flash=False)):
        held = [op.name for op in forward if isinstance(op, PRODUCTS) and op.weights]
        found = [op.name for op in backward(forward) if is_weight_gradient(op)]
        assert sorted(found) == sorted(f"{name}_wgrad" for name in held)


def test_embedding_layers_and_head_make_the_training_graph():
    config = CATALOGUE.model("deepseek-v2-lite")
    graph = training_graph(config, 2, 128, "bf16", "fp32", routing="random")
    parts = [
        embedding_operators(config, 2, 128, "bf16"),
        *(layer("deepseek-v2-lite", kind, 2, 128, routing="random") for kind in ("dense", "moe")),
        head_operators(config, 2, 128, "bf16", "fp32"),
    ]
    assert [s.operators for s in graph.segments[:4]] == parts


# ---- mixtures of experts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MIXTURES)
def test_all_to_all_moves_a_copy_of_each_row_for_each_expert_it_visits(name):
    config = CATALOGUE.model(name)
    moved = [op for op in layer(name) if isinstance(op, Communicate)]
    assert [(op.name, op.kind, op.group) for op in moved] == [
        ("dispatch", "all_to_all", "ep"),
        ("combine", "all_to_all", "ep"),
    ]
    for op in moved:
        assert op.size == 2 * 512 * config.experts_per_token * config.hidden * 2
        assert op.split({"batch": 2}).size == op.size / 2
        assert split_rows(op.split({"batch": 2}), 4).size == op.size / 8


def test_a_collective_without_rows_is_not_split():
    op = Communicate("c", "all_reduce", 100.0)
    assert op.group == "tp"
    assert op.split({"batch": 4}) == op == split_rows(op, 4)


@pytest.mark.parametrize("ways", [{"batch": 8, "experts": 8}, {"batch": 8, "experts": 4, "expert_ffn": 2, "heads": 2}])
@pytest.mark.parametrize("name", MIXTURES)
def test_splitting_rows_experts_and_their_width_loses_no_work(name, ways):
    """Every rank of the data-parallel group runs its part: of the rows, or of the experts of all rows of its group."""
    for whole in (layer(name, batch=8), backward(layer(name, batch=8))):
        for op in whole:
            if isinstance(op, GroupedMatmul):
                part = op.split(ways)
                assert part.flops * 8 * ways.get("expert_ffn", 1) == op.flops
                assert part.weights * ways["experts"] * ways.get("expert_ffn", 1) == op.weights
                assert part.ranks == ways["experts"]
                assert op.ranks == 1


def test_experts_split_by_width_sum_and_gather_like_column_and_row_parallel_matrices():
    forward = layer("mixtral-8x7b")
    up, down = named(forward, "experts_up"), named(forward, "experts_down")
    ways = {"expert_ffn": 2}
    assert (up.slices_output(ways), up.sums_over(ways)) == (True, False)
    assert (down.slices_output(ways), down.sums_over(ways)) == (False, True)
    visits = 2 * 512 * 2
    assert up.input_bytes == down.output_bytes == visits * 4096 * 2
    gradients = backward(forward)
    assert named(gradients, "experts_up_dgrad").sums_over(ways)
    assert named(gradients, "experts_down_dgrad").slices_output(ways)
    assert not any(named(gradients, f"experts_{name}_wgrad").sums_over(ways) for name in ("up", "down"))
    activation = named(forward, "experts_activation")
    assert activation.elements == visits * 14336
    assert activation.split(ways).elements == visits * 14336 / 2


def test_one_expert_that_every_row_visits_is_a_dense_layer():
    rows, n, k = Dim(4, 256, "batch"), Dim(512, 1, "ffn"), Dim(256)
    dense = Matmul("m", rows, (n,), k, "bf16")
    single = GroupedMatmul("m", rows, 1, Dim(1, 1, "experts"), 1, (n,), k, "bf16")
    for key in ("flops", "bytes", "weights", "input_bytes", "output_bytes"):
        assert getattr(single, key) == getattr(dense, key)


def test_shared_experts_see_every_row():
    config = CATALOGUE.model("deepseek-v2-lite")
    up = named(layer("deepseek-v2-lite"), "shared_up")
    assert up.flops == 2 * 2 * 512 * config.hidden * 2 * (2 * 1408)
    assert not [op for op in layer("mixtral-8x7b") if op.name.startswith("shared")]


def test_an_uneven_routing_takes_longer_and_a_wider_group_less():
    kernels = KernelModel(CATALOGUE.cluster("dgx-h100"))
    ways = {"batch": 8, "experts": 8}
    times = [
        kernels.time(named(layer("deepseek-v3", batch=32, routing=routing), "experts_up").split(ways)).seconds
        for routing in ("balanced", "power_law_1.2")
    ]
    assert times[1] > 1.5 * times[0]
    few, many = (
        kernels.time(named(layer("deepseek-v3", batch=8), "experts_up").split({"batch": 8, "experts": ep})).seconds
        for ep in (2, 8)
    )
    assert many < few, "the same visits, and fewer weights to read"


@pytest.mark.parametrize("name", ["dgx-a100", "dgx-h100", "dgx-b200"])
def test_experts_never_beat_the_datasheet(name):
    kernels = KernelModel(CATALOGUE.cluster(name))
    forward = layer("mixtral-8x7b", tokens=2048)
    for op in (*forward, *backward(forward)):
        if isinstance(op, GroupedMatmul):
            time = kernels.time(op)
            assert time.operator == "moe"
            assert op.flops / kernels.peak("bf16") <= time.seconds < 3 * op.flops / kernels.peak("bf16")
            assert time.sol_s <= time.seconds
            assert time.uncertainty.low <= 1 <= time.uncertainty.high


# ---- latent attention ----------------------------------------------------------------------------------------


def test_latent_attention_has_wide_keys_and_narrow_values():
    op = named(layer("deepseek-v3"), "attention")
    assert (op.head_dim, op.v_dim) == (192, 128)
    assert op.flops == 2 * (192 + 128) * 2 * 128 * 512 * 513 / 2
    assert op.bytes == 2 * 2 * 128 * 512 * (192 + 128 + 192 + 128)
    assert Attention("a", Dim(1), 8, 8, Dim(1), Dim(1), 64, "bf16").v_dim == 64


def test_latents_are_made_whole_by_every_rank_and_expanded_by_head():
    found = {op.name: op for op in layer("deepseek-v3", "dense") if isinstance(op, Matmul)}
    ways = {"heads": 4}
    for name in ("q_down", "kv_down"):
        assert found[name].split(ways) == found[name]
    assert found["q_up"].split(ways).n_size == 128 * 192 / 4
    assert found["kv_up"].split(ways).n_size == 128 * (128 + 128) / 4
    assert found["attention_out"].sums_over(ways)
    assert found["attention_out"].k.size == 128 * 128
    assert "q" in {op.name for op in layer("deepseek-v2-lite", "dense")}, "no latent for queries in V2-Lite"


def test_wide_heads_are_timed_forward_and_backward():
    kernels = KernelModel(CATALOGUE.cluster("dgx-h100"))
    forward = named(layer("deepseek-v3", tokens=2048), "attention")
    (gradient,) = backward((forward,))
    first, second = (kernels.time(op).seconds for op in (forward, gradient))
    assert forward.flops / kernels.peak("bf16") < first < second


# ---- encoders and unfused attention --------------------------------------------------------------------------


def test_bert_sees_both_ways_and_normalises_behind():
    operators = layer("bert-large", "dense")
    assert named(operators, "attention").flops == 4 * 64 * 16 * 512 * 512 * 2
    assert [op.name for op in operators][-1] == "ffn_norm"
    graph = prefill_graph(CATALOGUE.model("bert-base"), 2, 128, "fp32", "fp32")
    logits = graph.segments[-1].operators[-1]
    assert (logits.name, logits.m.size) == ("lm_head", 2 * 128)
    assert logits.weights == 30522, "the table is the embedding's; the bias is not"


@pytest.mark.parametrize("name", ["gpt2-large", "llama-3-8b", "bert-base"])
def test_unfused_attention_writes_all_scores(name):
    config = CATALOGUE.model(name)
    fused, unfused = layer(name, "dense"), layer(name, "dense", flash=False)
    pairs = 2 * config.heads * 512 * 512
    scores, softmax, values = (named(unfused, key) for key in ("scores", "attention_softmax", "values"))
    assert scores.flops == values.flops == 2 * pairs * config.head_dim
    assert scores.output_bytes == values.input_bytes == softmax.bytes / 2 == 2 * pairs
    assert scores.weights == values.weights == 0
    shared = {op.name for op in fused} - {"attention"}
    assert {op.name for op in unfused} == shared | {"scores", "attention_softmax", "values"}


def test_unfused_attention_splits_by_heads_and_sequences():
    ways = {"heads": 8, "batch": 2}
    unfused = layer("llama-3-8b", "dense", flash=False)
    for name in ("scores", "attention_softmax", "values"):
        op = named(unfused, name)
        assert op.split(ways).flops == op.flops / 16
    scores = named(unfused, "scores")
    assert not scores.sums_over(ways)
    assert not scores.slices_output(ways)


def test_the_softmax_of_scores_is_one_of_keys_not_of_all_heads():
    kernels = KernelModel(CATALOGUE.cluster("dgx-h100"))
    rows = Dim(2, 512, "batch")
    softmax = Pointwise("s", "scores", rows, (Dim(16, 512, "heads"),), "bf16")
    same = Pointwise("s", "softmax", Dim(2 * 512 * 16), (Dim(512),), "bf16")
    assert kernels.time(softmax).seconds == kernels.time(same).seconds


# ---- rows ----------------------------------------------------------------------------------------------------


def test_rows_are_shared_over_ranks_wherever_they_stand():
    forward = layer("deepseek-v3")
    for op in (*forward, *backward(forward)):
        part = split_rows(op, 4)
        if isinstance(op, Attention):
            assert part == op
        elif isinstance(op, Communicate):
            assert part.size == op.size / 4
        else:
            assert part.flops == op.flops / 4
