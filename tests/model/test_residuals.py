"""What passes between layers other than one residual stream, and blocks that several layers share."""

from dataclasses import replace

import pytest

from simgpu import Catalogue
from simgpu.model.residuals import blocks_seen
from simgpu.model.serving import Group, serving_head, serving_layer
from simgpu.model.transformer import layer_operators, prefill_graph, training_graph
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import PRECISIONS
from simgpu.plan.serving_memory import Served, cache_bytes, stage_weights, state_bytes

CATALOGUE = Catalogue()
NEW = ["gemma-3n-e4b", "kimi-k3", "longcat-flash", "rwkv7-1.5b", "zamba2-2.7b", "nemotron-super-49b"]


@pytest.mark.parametrize("name", NEW)
def test_operators_hold_the_weights_that_are_counted(name):
    config = CATALOGUE.model(name)
    assert prefill_graph(config, 1, 64, "bf16", "fp32").weights == config.parameters
    assert stage_weights(config, Plan(), PRECISIONS["bf16"], "bf16") == 2 * config.parameters


@pytest.mark.parametrize("name", NEW)
def test_training_takes_three_forwards_of_flops(name):
    """A tied or borrowed matrix has gradients of its own; a table that is looked up has none."""
    config = CATALOGUE.model(name)
    forward = sum(
        segment.repeat * sum(op.flops for op in segment.operators if hasattr(op, "n"))
        for segment in training_graph(config, 1, 64, "bf16", "fp32").segments
        if "backward" not in segment.name
    )
    total = training_graph(config, 1, 64, "bf16", "fp32").flops
    assert 2.9 * forward < total < 3.6 * forward


def of_kind(config, word):
    return [kind for kind, _ in config.layer_kinds() if word in kind]


def test_a_borrowed_block_multiplies_as_its_owner_and_holds_what_is_its_own():
    """Zamba 2: a block's later places hold an adapter and a projection; both compute the same."""
    config = CATALOGUE.model("zamba2-2.7b")
    lender = next(kind for kind in of_kind(config, "shared_block") if "borrowed" not in kind)
    borrower = of_kind(config, "borrowed_weights")[0]
    own, lent = (layer_operators(config, kind, 1, 64, "bf16", "fp32") for kind in (lender, borrower))
    assert [op.name for op in own] == [op.name for op in lent]
    assert sum(op.flops for op in own if hasattr(op, "n")) == sum(op.flops for op in lent if hasattr(op, "n"))
    h, ffn, rank = config.hidden, config.ffn, 128
    assert sum(op.weights for op in lent) == h * h + rank * (h + 2 * ffn)
    places = {word: sum(n for kind, n in config.layer_kinds() if word in kind) for word in ("shared_block", "borrowed")}
    assert places == {"shared_block": 9, "borrowed": 7}  # nine places, two blocks


def test_each_place_of_a_shared_block_keeps_keys_of_its_own():
    served = Served(CATALOGUE.model("zamba2-2.7b"), Plan(), PRECISIONS["bf16"])
    grows = cache_bytes(served, 2048) - cache_bytes(served, 1024)
    assert grows == 1024 * 9 * 2 * 5120 * 2
    assert state_bytes(served) == 54 * (80 * 64 * 64 * 4 + 3 * (5120 + 128) * 2)


def test_layers_that_borrow_keys_make_none_and_keep_none():
    """Gemma 3n E4B: 15 of 35 layers read the keys of an earlier one."""
    config = CATALOGUE.model("gemma-3n-e4b")
    assert sum(n for kind, n in config.layer_kinds() if "borrowed_kv" in kind) == 15
    served = Served(config, Plan(), PRECISIONS["bf16"])
    whole = cache_bytes(served, 4096) - cache_bytes(served, 2048)  # beyond the windows of 512
    assert whole == 2048 * 4 * 2 * 2 * 256 * 2  # 4 of the 7 layers without a window


def test_streams_that_are_predicted_are_read_and_written_and_not_multiplied():
    config = CATALOGUE.model("gemma-3n-e4b")
    one = replace(config, predicted_streams=0)
    kind = config.layer_kinds()[0][0]
    several, single = (layer_operators(c, kind, 1, 256, "bf16", "fp32") for c in (config, one))
    more = sum(op.bytes for op in several) - sum(op.bytes for op in single)
    assert more > 256 * 2048 * 2 * 2 * (4 + 4)  # predicted and corrected
    flops = [sum(op.flops for op in ops if hasattr(op, "n")) for ops in (several, single)]
    assert flops[0] < 1.001 * flops[1]


def test_attention_over_depth_reads_the_blocks_before():
    """Kimi K3: 93 layers in blocks of 12 are 8 sums, of which a layer sees 4 on average, and the end all."""
    config = CATALOGUE.model("kimi-k3")
    assert blocks_seen(config) == 4
    group = [Group(8, 1, 1024)]
    layer = serving_layer(config, "moe", group, "bf16", "fp32")
    reads = [op for op in layer if op.name.endswith("_depth")]
    assert [op.name for op in reads] == ["attention_depth", "ffn_depth"]
    assert reads[0].bytes == pytest.approx(8 * 7168 * 2 * (5 + 1), rel=0.5)
    assert any(op.name == "depth_head" for op in serving_head(config, group, "bf16", "fp32"))
    assert config.active_parameters == pytest.approx(104e9, rel=0.02)  # its card


def test_experts_that_do_nothing_take_their_share_of_the_visits():
    """LongCat-Flash (arXiv 2509.01322, section 2.1): 12 of 768 are chosen, of which 8 of the 512 that work."""
    config = CATALOGUE.model("longcat-flash")
    assert (config.experts, config.routed, config.experts_per_token) == (512, 768, 8)
    assert config.active_parameters == pytest.approx(27e9, rel=0.05)  # 18.6 to 31.3 billion, 27 on average
    router = next(op for op in layer_operators(config, "moe", 1, 64, "bf16", "fp32") if op.name == "router")
    assert sum(dim.size for dim in router.n) == 768


def test_a_model_without_attention_keeps_states_alone():
    served = Served(CATALOGUE.model("rwkv7-1.5b"), Plan(), PRECISIONS["bf16"])
    assert cache_bytes(served, 1024) == cache_bytes(served, 1 << 20) == 24 * 32 * 64 * 64 * 4
