"""Sequences shorter than the row: padded, packed, ragged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import simgpu
from simgpu.errors import InputError
from simgpu.model.lengths import seen, weighted
from simgpu.model.operators import Attention, Dim
from simgpu.plan.parallelism import Plan

MODEL = replace(simgpu.load_model("llama-3.1-8b"), layers=4)


def ran(plan: Plan | None = None, model: Any = MODEL, batch: int = 16, tokens: int = 2048, **said: Any) -> Any:
    job = simgpu.Training(batch=batch, tokens=tokens, **said)
    return simgpu.simulate("dgx-h100", job, model, plan or Plan(micro_batch=1), framework="megatron")


@given(tokens=st.integers(64, 65536), share=st.floats(0.002, 1.5))
def test_pairs_of_attention_are_those_of_the_lengths(tokens: int, share: float) -> None:
    """Each of n tokens sees (E[L^2] / E[L] + 1) / 2 keys; whole sequences and a whole window round."""
    length = max(share * tokens, 2.0)
    part = seen(tokens, length)
    one = Attention("a", Dim(1), part.queries, part.keys, Dim(1), Dim(1), 64, "bf16", window=part.window)
    assert part.sequences * part.queries <= tokens < part.sequences * (part.queries + 1)
    assert one.pairs / part.queries == pytest.approx((length + 1) / 2, rel=0.02, abs=1.0)


def test_a_token_is_in_a_longer_sequence_than_the_mean() -> None:
    """Of lengths 100 and 300 a token is in one of 250 on average: 100/400 x 100 + 300/400 x 300."""
    mean, deviation = 200.0, 0.5
    assert weighted(mean, deviation) == pytest.approx(250.0)
    assert weighted(mean, 0.0) == mean


def test_padding_takes_the_time_and_does_none_of_the_work() -> None:
    full, padded = ran(), ran(mean_tokens=512)
    assert padded.step_s == full.step_s and padded.memory == full.memory
    assert padded.hfu == full.hfu
    assert padded.row["tokens_per_s"] == pytest.approx(full.row["tokens_per_s"] / 4)
    assert padded.samples_per_s == full.samples_per_s
    short = ran(tokens=512)
    assert padded.flop == short.flop and padded.mfu == pytest.approx(short.flop / full.flop * full.mfu)


def test_ragged_sequences_of_one_length_are_a_shorter_row() -> None:
    ragged, short = ran(mean_tokens=512, lengths="ragged"), ran(tokens=512)
    assert ragged.step_s == short.step_s and ragged.flop == short.flop
    assert ragged.row["memory_bytes_per_gpu"] == ran().row["memory_bytes_per_gpu"], "the longest comes alone"
    assert ragged.row["tokens_per_s"] == short.row["tokens_per_s"]


def test_packed_rows_compute_all_tokens_and_attend_within_sequences() -> None:
    full, packed, short = ran(), ran(mean_tokens=512, lengths="packed"), ran(batch=64, tokens=512)
    assert packed.flop == pytest.approx(short.flop)
    assert packed.step_s < full.step_s and packed.attention_s < full.attention_s
    assert packed.gemm_s == pytest.approx(full.gemm_s)
    assert packed.row["tokens_per_s"] * packed.step_s == pytest.approx(16 * 2048)
    assert packed.samples_per_s * packed.step_s == pytest.approx(64)
    whole = ran(mean_tokens=2048, lengths="packed")
    assert whole.step_s == full.step_s and whole.flop == full.flop


@pytest.mark.parametrize("lengths", ["packed", "ragged"])
def test_longer_sequences_among_them_cost_attention_alone(lengths: str) -> None:
    found = [ran(mean_tokens=512, lengths=lengths, length_deviation=deviation) for deviation in (0.0, 0.5, 1.0, 1.5)]
    times = [one.attention_s for one in found]
    flops = [one.flop for one in found]
    assert flops == sorted(flops) and times[0] < times[-1]
    assert [one.gemm_s for one in found] == pytest.approx([found[0].gemm_s] * 4)


@pytest.mark.parametrize(
    ("said", "key", "problem"),
    [
        ({"mean_tokens": 4096}, "mean_tokens", "more than the 2048 tokens of the longest"),
        ({"lengths": "packed"}, "lengths", "the mean length is missing"),
        ({"length_deviation": 0.5}, "length_deviation", "the mean length is missing"),
        ({"mean_tokens": 1024, "length_deviation": 1.1}, "length_deviation", "deviate by at most 1$"),
        ({"mean_tokens": 1024, "lengths": "ragged", "flash": False}, "lengths", "fused kernel"),
        ({"mean_tokens": 1024, "lengths": "packed", "plan": Plan(cp=2)}, "lengths", "not supported with plan.cp 2"),
    ],
)
def test_lengths_that_cannot_be_are_refused(said: dict[str, Any], key: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as error:
        ran(**said)
    assert error.value.key == f"workload.{key}"
