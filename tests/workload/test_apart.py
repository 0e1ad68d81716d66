"""Attention and experts apart: the closed form of turns, what is conserved, what cannot be split."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu import InputError
from simgpu.catalog import usual_catalogue
from simgpu.workload.inference.apart import turn

TIMES = st.floats(0, 10)


def step(plan=None, model="qwen3-30b-a3b", cluster="dgx-h100-ib", **changes):
    job = {"kind": "mixed", "decodes": 256, "context": 2048, "apart": {"gpus": 8, "microbatches": 2}, **changes}
    return simgpu.simulate(cluster, job, model, plan or {"dp": 8})


@settings(max_examples=50)
@given(attention=TIMES, experts=TIMES, way=TIMES, parts=st.integers(1, 8))
def test_a_turn_is_no_shorter_than_the_busiest_and_no_longer_than_one_after_another(attention, experts, way, parts):
    whole = turn(attention, experts, way, parts)
    assert whole >= parts * max(attention, experts, way)
    assert whole <= parts * (attention + experts + 2 * way) * (1 + 1e-12)
    assert turn(attention, experts, way, 1) == pytest.approx(attention + experts + 2 * way)


def test_both_sides_work_no_longer_than_the_step_and_idle_is_the_rest():
    row = step().row
    assert max(row["attention_side_s"], row["expert_side_s"]) <= row["step_s"]
    busy = (8 * row["attention_side_s"] + 8 * row["expert_side_s"]) / 16
    assert row["idle_share"] == pytest.approx(1 - busy / row["step_s"])
    assert row["gpus"] == 16
    assert row["output_tokens_per_s_per_gpu"] == pytest.approx(256 / row["step_s"] / 16)


def test_flops_are_those_of_the_same_tokens_together():
    apart = step(apart={"gpus": 8, "microbatches": 1})
    together = step(plan={"dp": 8, "ep": 8}, apart=None)
    assert apart.flop == pytest.approx(together.flop, rel=1e-6)


def test_weights_of_both_sides_are_those_of_the_model():
    experts, rest = (step(cluster="dgx-h100-ib", apart={"gpus": gpus}).weights_bytes_per_gpu for gpus in (1, 64))
    assert experts == pytest.approx(48 * 128 * 3 * 2048 * 768 * 2, rel=1e-9)
    assert rest + experts == pytest.approx(2 * usual_catalogue().model("qwen3-30b-a3b").parameters, rel=0.002)


def test_the_best_split_is_as_good_as_any_that_fits():
    best = step(apart={})
    for gpus in (4, 8, 16):
        for parts in (1, 2, 3):
            other = step(apart={"gpus": gpus, "microbatches": parts})
            assert not other.memory_fits or best.output_tokens_per_s_per_gpu >= other.output_tokens_per_s_per_gpu


@pytest.mark.parametrize(
    ("plan", "changes", "problem"),
    [
        ({"dp": 8}, {"apart": {"gpus": 7}}, "7 does not divide the 128 experts.*expected 8"),
        ({"dp": 8, "ep": 8}, {}, "plan.ep.*expected 1"),
        ({"dp": 8}, {"prefill": 512}, "prefill is 512; expected 0"),
        ({"dp": 8}, {"apart": {"gpus": 8, "microbatches": 64}}, "64 micro-batches are more than the 256"),
        ({"dp": 8}, {"apart": {"gpus": 0}}, "greater than 0"),
        ({"dp": 8}, {"apart": {"gpu": 8}}, "unknown key"),
        ({"dp": 8}, {"runtime": "eager"}, "has no such split; expected vllm"),
    ],
)
def test_what_cannot_be_split_is_one_line(plan, changes, problem):
    with pytest.raises(InputError, match=problem) as caught:
        step(plan, **changes)
    assert "\n" not in str(caught.value)


def test_a_dense_model_has_no_experts_to_take_apart():
    with pytest.raises(InputError, match="has no experts to take apart"):
        step(model="llama-3.1-8b")
