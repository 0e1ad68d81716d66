"""A step of post-training: phases add up, more of anything takes no less, and what cannot be is one line."""

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

import simgpu
from simgpu import InputError
from simgpu.catalog import usual_catalogue
from simgpu.simulation.post_training_moves import TENSOR_S, tensors_of
from simgpu.workload.answers import cut_mean, cut_share, with_cut, with_spread

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
    parts = ("rollout_s", "logprob_s", "reference_s", "reward_s", "training_s", "refit_s", "sleep_s",
             "other_s")  # fmt: skip
    assert row["step_s"] == pytest.approx(sum(row[part] for part in parts), rel=1e-12)
    assert row["tokens_per_s"] == pytest.approx(32 * 192 / row["step_s"], rel=1e-12)
    assert 0 <= row["idle_share"] <= 1
    assert row["step_s_p10"] <= row["step_s"] <= row["step_s_p90"]
    assert row["updates"] == 2
    assert 0 < row["mfu"] < 1


def test_beside_each_other_the_slower_side_counts():
    apart = step(generation={"tp": 2, "gpus": 4}, staleness=1)
    row = apart.row
    trainer = row["logprob_s"] + row["reference_s"] + row["training_s"] + row["refit_s"] + row["other_s"]
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


AGENTS = {"tokens": 4096, "turns": 4, "tool_tokens": 100, "output_spread": 0.5}


def test_answers_that_wait_for_tools_take_turns_and_their_tools_time():
    """Four turns with no tool time write the same tokens in no less time; tools add at least their mean, thrice."""
    one, quick, slow = step(tokens=4096), step(**AGENTS), step(**AGENTS, tool_s=5.0)
    assert quick.rollout_s >= one.rollout_s * 0.9  # `output` is all that is written, turns or not
    assert slow.rollout_s >= 3 * 5.0 + quick.rollout_s * 0.5
    assert slow.training_s == quick.training_s
    row = quick.row
    assert row["tokens_per_s"] == pytest.approx(32 * (64 + 128 + 3 * 100) / row["step_s"], rel=1e-12)
    beside = step(**AGENTS, tool_s=5.0, generation={"tp": 2, "gpus": 4}, staleness=2)
    assert beside.rollout_s < slow.rollout_s  # engines work while others' tools do


def test_weights_that_were_just_trained_take_their_way():
    assert step(generation={"tp": 2, "gpus": 4}).refit_s > 0
    assert step().refit_s > 0


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"output_spread": None}, "output_spread"),
        ({"output_cut": 0.01}, "say the same"),
        ({"output_spread": None, "output_cut": 0.5}, "smaller share"),
        ({"output_spread": None, "output_longest": 500}, "output_cut where answers are cut"),
        ({"output_spread": (1.0, 0.5)}, "falls"),
        ({"teacher": "llama-3.2-1b"}, "distillation"),
        ({"algorithm": "distillation"}, "expected one with distillation"),
        ({"algorithm": "dpo", "group": 2}, "generation is of answers"),
        ({"algorithm": "dpo"}, "pairs"),
        ({"refit_rate": "90 GB"}, "refit_rate"),
        ({"generation": {"asynchronous": "yes"}}, "asynchronous.*is not true or false; did you mean true?"),
        ({"partial": "on"}, "partial.*is not true or false; did you mean true?"),
        ({"turns": 3}, "expected turns above 1 with tool_tokens"),
        ({"tool_s": 3.0}, "expected turns above 1 with tool_tokens"),
        ({"turns": 8, "tool_tokens": 100}, "700 of tools are more than the 512"),
        ({"turns": 2, "tool_tokens": 8, "output_spread": None, "output_cut": 0.01}, "expected output_spread"),
        ({"turns": 200, "tool_tokens": 1}, "less than a token in each"),
        ({"algorithm": "distillation", "teacher": "nosuch"}, "workload.teacher.*nosuch"),
        ({"algorithm": "distillation", "teacher": "llama-3.1-70b"}, "llama-3.1-70b needs 131"),
        ({"pools": [{"cluster": "dgx-a100"}]}, "of kind training"),
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


@settings(max_examples=40, deadline=None)
@drawn(mean=st.integers(50, 900), spread=st.floats(0.05, 3), limit=st.integers(1000, 4000))
def test_a_law_keeps_the_mean_of_its_cut_answers(mean, spread, limit):
    law = with_spread(mean, spread, limit)
    assert cut_mean(law, limit) == pytest.approx(mean, rel=1e-6)
    share = cut_share(law, limit)
    if share > 1e-6:
        again = with_cut(mean, share, limit)
        assert again.spread == pytest.approx(spread, rel=1e-3)


def test_what_logs_print_of_the_longest_answers_is_met():
    by_longest = step(output_spread=None, output_longest=400)
    assert by_longest.cut_share < 0.03
    by_cut = step(output_spread=None, output_cut=0.05)
    assert by_cut.cut_share == pytest.approx(0.05, rel=1e-3)
    assert by_cut.rollout_s > step(output_spread=0.05).rollout_s


def test_a_spread_between_two_widens_the_interval_of_generation():
    between, known = step(output_spread=(0.1, 2.0)), step(output_spread=0.2**0.5)
    assert between.rollout_s == pytest.approx(known.rollout_s, rel=1e-9)
    assert between.rollout_s_p10 <= known.rollout_s_p10
    assert between.rollout_s_p90 >= known.rollout_s_p90


def test_weights_take_at_least_as_long_as_the_trainer_makes_them():
    one = step()
    handed = 9 * 16 * TENSOR_S
    assert step(refit_rate="1 GB/s").refit_s - handed == pytest.approx(2 * 1.2358e9 / 1e9, rel=0.01)
    assert step(refit_rate="900 GB/s").refit_s <= one.refit_s
    assert step(generation={"tp": 2, "logprobs": False}).rollout_s < one.rollout_s


def test_on_shared_gpus_each_tensor_takes_its_time_too():
    """A refit hands over the bytes of all weights, whatever the split; experts are many small tensors."""
    shared = step(refit_rate="1 GB/s")
    apart = step(generation={"tp": 2, "gpus": 4}, staleness=1, refit_rate="1 GB/s")
    assert shared.refit_s - apart.refit_s == pytest.approx(9 * 16 * TENSOR_S, rel=1e-9)
    wider = step(plan={"tp": 2, "dp": 2, "micro_batch": 1}, refit_rate="1 GB/s")
    assert wider.refit_s == pytest.approx(shared.refit_s, rel=1e-12)
    small, large = (usual_catalogue().model(name) for name in ("qwen3-30b-a3b", "deepseek-v3"))
    assert 18_432 < tensors_of(small) < 1.1 * 18_867  # the index of the checkpoint lists as many
    assert 44_544 < tensors_of(large) < 1.1 * 46_000


def test_an_engine_of_its_own_process_does_not_wait_for_log_probabilities():
    apart = {"tp": 2, "gpus": 4}
    bare = step(generation={**apart, "logprobs": False}, staleness=1)
    assert step(generation=apart, staleness=1).rollout_s == pytest.approx(bare.rollout_s, rel=1e-12)
    alone = step(generation={"tp": 2, "asynchronous": True, "sequences": 1024, "chunk": 8192})
    assert alone.rollout_s == pytest.approx(step(generation={"tp": 2, "logprobs": False, "chunk": 8192}).rollout_s)


def test_more_steps_on_their_way_keep_engines_fuller():
    apart = {"tp": 2, "gpus": 4}
    assert step(generation=apart, staleness=4).rollout_s < step(generation=apart, staleness=2).rollout_s


def test_given_answers_are_only_trained_on():
    given = {key: JOB[key] for key in ("kind", "prompts", "prompt", "output", "tokens", "batch")}
    pairs = simgpu.simulate("dgx-h100", {**given, "algorithm": "dpo", "group": 2}, "llama-3.2-1b", PLAN)
    assert pairs.rollout_s == pairs.refit_s == pairs.sleep_s == pairs.logprob_s == 0
    assert pairs.step_s == pytest.approx(pairs.training_s + pairs.reference_s, rel=1e-12)
    plain = {**given, "prompts": 16, "algorithm": "sft"}
    examples = simgpu.simulate("dgx-h100", plain, "llama-3.2-1b", PLAN)
    assert examples.step_s == pytest.approx(examples.training_s, rel=1e-12)
    assert examples.training_s == pytest.approx(pairs.training_s, rel=1e-12)


def test_a_larger_teacher_takes_longer():
    small, large = (
        step(algorithm="distillation", teacher=name).reference_s for name in ("llama-3.2-1b", "llama-3.2-3b")
    )
    assert 0 < small < large
    assert small == pytest.approx(step().reference_s, rel=1e-9)
