"""Weights that are gathered take as many bytes in traffic as in the buffers that receive them."""

from dataclasses import replace

import pytest
from memory_by_name import memory_of

from simgpu import Plan
from simgpu.plan.numerics import NF4_BITS, Numerics
from simgpu.plan.states import parameters_of


@pytest.mark.parametrize("weights", ["bf16", "fp32"])
@pytest.mark.parametrize("finetune", ["full", "lora", "qlora"])
@pytest.mark.parametrize("experts", [False, True])
def test_buffers_receive_what_travels(stage, experts, finetune, weights):
    """Of two layers, buffers hold all weights: the ends, the layer at work and the next. With weights gathered once for
    a microbatch (ZeRO-2 of FSDP) the step moves each once."""
    model = replace(stage.moe if experts else stage.dense, layers=2)
    numerics = Numerics(finetune=finetune, weights=weights, master=None, targets=("attention_out", "ffn_down"))
    run = stage.run("dgx-h100", Plan(dp=2, zero=2), 2, 256, model, "pytorch-eager", numerics=numerics)
    moved = sum(one.bytes for one in stage.labels(run) if one.name.startswith("gather"))

    sharded = Plan(dp=2, zero=3)
    found = memory_of(model, sharded, numerics, 2, 256, framework="megatron")  # no pools beside the gathered weights
    assert found.communication == pytest.approx(moved, rel=1e-12)
    assert found.weights == pytest.approx(moved / 2, rel=1e-12)


def test_packed_weights_are_those_of_matrices(stage):
    """4-bit fine-tuning packs the matrices of layers, and with them what is gathered; embedding and head stay wide."""
    plan = Plan(dp=2, zero=3)
    lora, qlora = (Numerics(finetune=finetune) for finetune in ("lora", "qlora"))
    wide, packed = (memory_of(stage.dense, plan, one, 2, 256, framework="pytorch-eager") for one in (lora, qlora))
    matrices = parameters_of(stage.dense, plan, qlora).matrices / stage.dense.layers
    least = 2 * matrices * (2 - NF4_BITS / 8)  # two layers at work; one more that is still arriving
    assert wide.communication - packed.communication >= least * (1 - 1e-12)
