"""A step of post-training: phases add up, more of anything takes no less, and what cannot be is one line."""

import pytest

import simgpu
from simgpu import InputError

JOB = {
    "kind": "rl", "prompts": 8, "group": 4, "prompt": 64, "output": 128, "output_spread": 0.5, "tokens": 512,
    "batch": 16, "generation": {"tp": 2},
}  # fmt: skip
PLAN = {"dp": 4, "micro_batch": 1, "zero": 1}


def step(plan=PLAN, cluster="dgx-h100", **changes):
    return simgpu.simulate(cluster, {**JOB, **changes}, "llama-3.2-1b", plan)


def test_phases_that_follow_each_other_add_up():
    one = step()
    row = one.row
    parts = ("rollout_s", "logprob_s", "reference_s", "reward_s", "training_s", "refit_s", "sleep_s")
    assert row["step_s"] == pytest.approx(sum(row[part] for part in parts), rel=1e-12)
    assert row["tokens_per_s"] == pytest.approx(32 * 192 / row["step_s"], rel=1e-12)
    assert 0 <= row["idle_share"] <= 1
    assert row["step_s_p10"] <= row["step_s"] <= row["step_s_p90"]
    assert row["updates"] == 2
    assert 0 < row["mfu"] < 1


def test_beside_each_other_the_slower_side_counts():
    apart = step(generation={"tp": 2, "gpus": 4}, staleness=1)
    row = apart.row
    trainer = row["logprob_s"] + row["reference_s"] + row["training_s"] + row["refit_s"]
    assert row["gpus"] == 8
    assert row["sleep_s"] == 0
    assert row["step_s"] == pytest.approx(max(row["rollout_s"] + row["refit_s"], trainer), rel=1e-12)
    in_turn = step(generation={"tp": 2, "gpus": 4})
    assert in_turn.step_s > apart.step_s


def test_more_takes_no_less():
    one = step()
    assert step(group=8, batch=32).rollout_s >= one.rollout_s
    assert step(oversample=2.0).rollout_s >= one.rollout_s
    assert step(output_spread=1.5).rollout_s >= step(output_spread=0.0).rollout_s
    assert step(reward_s=3.0).step_s == pytest.approx(one.step_s + 3.0, rel=1e-9)
    assert step(partial=True).rollout_s <= one.rollout_s
    assert step(algorithm="ppo").training_s == pytest.approx(2 * one.training_s, rel=1e-12)
    assert step(algorithm="dapo").reference_s == 0
    assert step().rollout_s == one.rollout_s


def test_weights_that_were_just_trained_take_their_way():
    assert step(generation={"tp": 2, "gpus": 4}).refit_s > 0
    assert step().refit_s > 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"output_spread": None}, "output_spread"),
        ({"batch": 5}, "whole batches"),
        ({"output": 500}, "longest sequence"),
        ({"staleness": 1}, "GPUs of its own"),
        ({"generation": {"tp": 3}}, "whole engines"),
        ({"generation": {"tp": 2, "gpus": 8}}, "more than the 8"),
        ({"mean_tokens": 100}, "mean_tokens"),
        ({"generation": {"tp": 2, "runtim": "vllm"}}, "runtim"),
    ],
)
def test_what_cannot_be_is_one_line(changes, problem):
    with pytest.raises(InputError, match=problem) as caught:
        step(**changes)
    assert "\n" not in str(caught.value)


def test_an_engine_that_does_not_fit_beside_the_trainer_is_refused():
    job = {**JOB, "generation": {"tp": 1}}
    with pytest.raises(InputError, match="fit a GPU together"):
        simgpu.simulate("l40s-pcie-8x", job, "qwen3-14b", {"dp": 4, "micro_batch": 1, "zero": 1})
