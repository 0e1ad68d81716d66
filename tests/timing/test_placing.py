"""Experts placed by their loads: nothing is lost, more copies never make the busiest rank busier, even loads stay."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu import InputError
from simgpu.timing.placing import busiest_placed
from simgpu.timing.routing import rank_load, rank_loads

LOADS = st.lists(st.floats(0, 1000), min_size=8, max_size=64).map(lambda loads: [*loads, *[1.0] * (-len(loads) % 4)])


@settings(max_examples=60, deadline=None)
@given(loads=LOADS, more=st.integers(0, 6))
def test_more_copies_never_make_the_busiest_rank_busier(loads, more):
    sums = [busiest_placed(loads, 4, 4 * copies).sum() for copies in range(more + 1)]
    assert all(later <= sooner * (1 + 1e-9) for sooner, later in pairwise(sums))
    assert sums[-1] >= sum(loads) / 4 * (1 - 1e-9)
    room = (len(loads) + 4 * more) // 4
    assert len(busiest_placed(loads, 4, 4 * more)) == room


@settings(max_examples=40, deadline=None)
@given(tokens=st.integers(1, 5000), copies=st.integers(1, 8))
def test_even_loads_are_what_they_were(tokens, copies):
    for routing in ("balanced", "random"):
        assert rank_load(tokens, 8, 64, 8, f"{routing}+{8 * copies}") == rank_load(tokens, 8, 64, 8, routing)


def test_a_law_of_zipf_without_slope_is_even_and_a_list_is_what_it_says():
    even = rank_loads(1000, 8, 64, 8, "zipf_0")
    assert np.allclose(even, 125.0)
    steep = rank_loads(1000, 2, 4, 1, "shares_4_2_1_1")
    assert np.allclose(steep, [1000, 500, 250, 250])  # a token visits an expert once
    assert rank_loads(1000, 8, 64, 8, "zipf_0.8").sum(axis=-1).mean() > 1000


def test_copies_even_out_a_deployment_at_the_price_of_their_memory():
    job = {"kind": "inference", "batch": 2048, "prompt": 512, "output": 16, "routing": "zipf_0.8"}
    plan = {"dp": 16, "ep": 16}
    by_chance, placed = (
        simgpu.simulate("dgx-h100-ib", job, "qwen3-30b-a3b", {**plan, **more})
        for more in ({}, {"redundant_experts": 32})
    )
    assert placed.tpot_s < by_chance.tpot_s
    assert placed.ttft_s < by_chance.ttft_s
    expert = 48 * 3 * 2048 * 768 * 2
    assert placed.weights_bytes_per_gpu - by_chance.weights_bytes_per_gpu == pytest.approx(2 * expert, rel=1e-9)


def experts_s(routing, copies=None):
    job = {"kind": "inference", "batch": 64, "prompt": 2048, "output": 1, "routing": routing}
    plan = {"dp": 8, "ep": 8} | ({} if copies is None else {"redundant_experts": copies})
    return simgpu.simulate("dgx-h100", job, "qwen3-30b-a3b", plan).experts_s


def test_copies_never_slow_prompts_down_and_even_loads_are_the_floor():
    even = experts_s("balanced")
    times = [experts_s("zipf_0.8"), *(experts_s("zipf_0.8", copies) for copies in (0, 8, 16, 32))]
    assert all(later <= sooner * 1.005 for sooner, later in pairwise(times))  # a copy's weights are read, too
    assert times[-1] >= even * (1 - 1e-9)
    assert times[0] > 1.1 * even
    assert experts_s("zipf_0") == pytest.approx(even, rel=1e-3)
    assert experts_s([1] * 128) == pytest.approx(even, rel=1e-3)
    assert experts_s("balanced", 16) == pytest.approx(even, rel=1e-9)


@pytest.mark.parametrize(
    ("plan", "routing", "problem"),
    [
        ({"dp": 16, "ep": 16, "redundant_experts": 3}, "zipf_1", "expected 16, or 16 more"),
        ({"redundant_experts": 8}, "zipf_1", "expected plan.ep above 1"),
        ({"dp": 16, "ep": 16}, [1, 2, 3], "3 loads are not those of 128"),
        ({"dp": 16, "ep": 16}, [1, -2], "numbers from 0 on"),
        ({"dp": 16, "ep": 16}, "zipf_11", "exponent"),
        ({"dp": 16, "ep": 16}, "zipff", "zipf_A"),
    ],
)
def test_what_cannot_be_placed_is_one_line(plan, routing, problem):
    job = {"kind": "inference", "batch": 16, "prompt": 64, "output": 8, "routing": routing}
    with pytest.raises(InputError, match=problem) as caught:
        simgpu.simulate("dgx-h100-ib", job, "qwen3-30b-a3b", plan)
    assert "\n" not in str(caught.value)
