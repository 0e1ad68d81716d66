"""Each part of the memory of a training step in closed form, alone: what one choice adds, to the byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from memory_by_name import memory_of

from simgpu.model.config import TransformerConfig
from simgpu.plan.memory import COMMUNICATOR_BYTES, CONTEXT_BYTES, PAIR_BYTES, Memory
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.states import parameters_of

MODEL = TransformerConfig(
    name="small", layers=8, hidden=2048, heads=16, kv_heads=4, head_dim=128, ffn=8192, gated=True, vocab=1024,
    max_tokens=4096, tied_embeddings=False, rms_norm=True, rope=True, qkv_bias=False, bias=False, qk_norm=False,
)  # fmt: skip
"""Its vocabulary is so small that the loss is never the peak."""
TOKENS = 256


def memory(plan: Plan, numerics: Numerics | None = None, batch: int = 8, stage: int = 0) -> Memory:
    return memory_of(MODEL, plan, numerics or Numerics(), batch, TOKENS, stage)


@pytest.mark.parametrize("zero", [2, 3])
def test_gradients_of_a_layer_are_there_as_made_and_as_reduced_where_they_are_scattered(zero: int) -> None:
    """And half of the ends, embedding and head: the head's gradient waits for that of the embedding."""
    held = parameters_of(MODEL, Plan(dp=8), Numerics())
    for reduce, width in (("fp32", 4), ("bf16", 2)):
        numerics = Numerics(reduce=reduce)
        scattered, whole = (memory(Plan(dp=8, zero=stage), numerics).temporary for stage in (zero, 1))
        assert scattered - whole == pytest.approx(held.largest * (2 + width) + held.ends / 2 * 2, rel=1e-12)


@pytest.mark.parametrize(("context", "copies"), [("ring", 4), ("all_gather", 2 * 4)])
def test_a_rank_of_a_ring_holds_two_parts_of_keys_and_values_with_their_gradients(context: str, copies: int) -> None:
    found = memory(Plan(cp=4, context=context), batch=256)
    part = 256 * TOKENS / 4 * MODEL.kv_heads * 2 * MODEL.head_dim * 2
    assert found.event == "layer backward" and dict(found.ledger)["context"] == copies * part


def test_every_process_group_has_its_communicator_and_data_and_context_share_one() -> None:
    reserves = {
        Plan(): 0,
        Plan(dp=2): PAIR_BYTES,
        Plan(dp=2, cp=2): PAIR_BYTES + COMMUNICATOR_BYTES,
        Plan(tp=4, dp=8): 2 * COMMUNICATOR_BYTES,
        Plan(tp=2, pp=4): PAIR_BYTES + COMMUNICATOR_BYTES,
        Plan(dp=8, zero=3, shard=2): COMMUNICATOR_BYTES + PAIR_BYTES,
        Plan(dp=8, zero=3, shard=8): COMMUNICATOR_BYTES,
    }
    for plan, expected in reserves.items():
        assert memory(plan).reserve - CONTEXT_BYTES == expected, plan


def test_sharded_weights_are_gathered_for_the_ends_the_layer_at_work_and_the_next() -> None:
    held = parameters_of(MODEL, Plan(dp=8), Numerics())
    assert memory(Plan(dp=8, zero=3)).communication == pytest.approx(2 * (held.ends + 2 * held.largest), rel=1e-12)
    one = replace(MODEL, layers=1)
    found = memory_of(one, Plan(dp=8, zero=3), Numerics(), 8, TOKENS).communication
    assert found == pytest.approx(2 * (held.ends + held.largest), rel=1e-12)


@pytest.mark.parametrize(
    ("plan", "stage", "buffers"),
    [(Plan(pp=4, micro_batch=1), 0, 0), (Plan(pp=4, micro_batch=1), 1, 0), (Plan(pp=4, micro_batch=1), 3, 0),
     (Plan(pp=4, vp=2, micro_batch=1), 0, 2), (Plan(pp=4, vp=2, micro_batch=1), 3, 2)],
)  # fmt: skip
def test_stages_take_turns_with_one_microbatch_but_chunks_receive_beside_compute(
    plan: Plan, stage: int, buffers: int
) -> None:
    """In 1F1B what a stage received is the input that its first layer keeps, and the gradient that goes through it."""
    assert memory(plan, stage=stage).communication == buffers * TOKENS * MODEL.hidden * 2


def test_fp8_keeps_two_copies_of_each_matrix_beside_its_weights() -> None:
    held = parameters_of(MODEL, Plan(), Numerics())
    plain, fp8 = (memory(Plan(), Numerics(dtype=dtype)).weights for dtype in ("bf16", "fp8"))
    assert fp8 - plain == 2 * held.matrices


@pytest.mark.parametrize(("reduce", "width"), [("fp32", 4), ("bf16", 2)])
def test_stages_that_gather_once_hold_whole_gradients_as_they_are_reduced(reduce: str, width: int) -> None:
    numerics, plan = Numerics(reduce=reduce, gradients="fp32"), Plan(pp=2, dp=4, zero=2, micro_batch=1)
    held = parameters_of(MODEL, plan, numerics).total
    assert memory(plan, numerics).gradients == pytest.approx(held * (4 / 4 + width), rel=1e-12)
