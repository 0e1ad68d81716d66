"""Groups that are not alike: shares add up, by speed is never slower than alike, all wait for the last."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu import InputError
from simgpu.workload.training_pools import shared_by_speed

GROUPS = st.lists(st.tuples(st.integers(1, 6), st.floats(0, 2), st.floats(0.1, 3)), min_size=2, max_size=4)


@settings(max_examples=80, deadline=None)
@given(groups=GROUPS, times=st.integers(1, 12))
def test_shares_add_up_and_none_is_better(groups, times):
    parts, fixed, each = zip(*groups, strict=True)
    batch = times * sum(parts)
    found = shared_by_speed(batch, parts, fixed, each)
    assert sum(found) == batch
    assert all(share >= part and share % part == 0 for share, part in zip(found, parts, strict=True))

    def last(shares):
        return max(f + e * share for f, e, share in zip(fixed, each, shares, strict=True))

    alike = [times * part for part in parts]
    assert last(found) <= last(alike) * (1 + 1e-6)
    for i in range(len(parts)):  # moving a part of the last group elsewhere does not help
        for j in range(len(parts)):
            moved = list(found)
            moved[i] -= parts[i] * parts[j]
            moved[j] += parts[i] * parts[j]
            assert moved[i] < parts[i] or last(found) <= last(moved) * (1 + 1e-6)


def step(pools=None, batch=32, tokens=1024, **plan):
    job = {"kind": "training", "batch": batch, "tokens": tokens, "pools": pools}
    return simgpu.simulate("dgx-h100-ib", job, "llama-3.2-1b", {"dp": 8, "micro_batch": 1, "zero": 1, **plan})


A100 = {"cluster": "dgx-a100-ib", "dp": 8}


def test_by_speed_is_no_slower_than_alike_and_the_faster_takes_more():
    alike, fair = step([{**A100, "batch": 16}], tokens=8192), step([A100], tokens=8192)
    ours, theirs = map(int, fair.pool_batches.split(" + "))
    assert (alike.pool_batches, ours + theirs) == ("16 + 16", 32)
    assert ours > theirs
    assert fair.step_s <= alike.step_s
    assert fair.pool_waiting_share < alike.pool_waiting_share


def test_a_group_like_the_first_takes_half_and_waits_for_the_sums_alone():
    both, half = step([{"cluster": "dgx-h100-ib", "dp": 8}]), step(batch=16)
    assert both.pool_batches == "16 + 16"
    between = both.step_s - half.step_s
    assert between == pytest.approx(
        1.2358e9 * 4 / (8 * 50e9), rel=0.01
    )  # 2 (N - 1) / N of fp32 sums over eight adapters
    assert both.pool_waiting_share == pytest.approx(between / both.step_s, rel=1e-6)
    assert both.gpus == 16
    assert both.tokens_per_s == pytest.approx(32 * 1024 / both.step_s)
    assert both.flop == pytest.approx(2 * half.flop)


@pytest.mark.parametrize(
    ("pools", "batch", "problem"),
    [
        ([{"cluster": "dgx-a10"}], 32, "workload.pools.0.*dgx-a10"),
        ([{**A100, "tp": 3}], 32, "workload.pools.0.tp.*3 does not divide the 32 attention heads"),
        ([{**A100, "dp": 5}], 17, "17 sequences are not whole parts of 8, 5"),
        ([{**A100, "batch": 30}], 32, "fewer than the 8"),
        ([{**A100, "dp": 10**5}], 32, "workload.pools.0"),
        ([{**A100, "batch": 12}], 36, "12"),
        ([{**A100, "speed": 2}], 32, "unknown key"),
        ([], 32, "pools"),
    ],
)
def test_what_cannot_train_together_is_one_line(pools, batch, problem):
    with pytest.raises(InputError, match=problem) as caught:
        step(pools, batch)
    assert "\n" not in str(caught.value)


def test_adapters_and_reinforcement_learning_have_no_pools():
    job = {"kind": "training", "batch": 32, "tokens": 1024, "pools": [A100], "finetune": "lora"}
    with pytest.raises(InputError, match="pools train all weights"):
        simgpu.simulate("dgx-h100-ib", job, "llama-3.2-1b", {"dp": 8})
    rl = {"kind": "rl", "prompts": 8, "prompt": 8, "output": 8, "output_spread": 0, "tokens": 64, "pools": [A100]}
    with pytest.raises(InputError, match="of kind training"):
        simgpu.simulate("dgx-h100-ib", rl, "llama-3.2-1b", {"dp": 8})
