"""Layers of pipeline stages: each layer once, in order, and where they do not divide as the sources say."""

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.plan.stages import layer_ranges, spread_layers

repeatable = settings(derandomize=True, deadline=None, max_examples=200)


@pytest.mark.parametrize(
    ("layers", "stages", "sizes"),
    [(8, 4, [2, 2, 2, 2]), (9, 4, [2, 2, 3, 2]), (10, 4, [2, 3, 3, 2]), (11, 4, [3, 3, 3, 2]), (5, 2, [3, 2]),
     (3, 1, [3]), (61, 8, [7, 7, 8, 8, 8, 8, 8, 7])],
)  # fmt: skip
def test_layers_left_over_go_to_the_stages_before_the_last(layers, stages, sizes):
    """vLLM, distributed/utils.py, get_pp_indices: `for i in range(2, remaining + 2): partitions[-i] += 1`."""
    assert [len(part) for part in spread_layers(layers, stages)] == sizes


@repeatable
@given(st.integers(1, 200), st.integers(1, 64))
def test_spread_layers_are_each_of_one_stage_and_no_stage_has_two_more_than_another(layers, stages):
    assume(stages <= layers)
    found = spread_layers(layers, stages)
    assert [layer for part in found for layer in part] == list(range(layers))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    with pytest.raises(InputError):
        spread_layers(stages - 1, stages)


@repeatable
@given(st.integers(1, 130), st.sampled_from([1, 2, 3, 4, 8, 16]), st.sampled_from([1, 2, 3]))
def test_chunks_go_round_the_stages_and_only_the_ends_have_fewer(layers, pp, vp):
    assume(vp == 1 or pp > 1)
    try:
        found = layer_ranges(layers, Plan(pp=pp, vp=vp))
    except InputError:
        assume(False)
    chunks = [found[stage][chunk] for chunk in range(vp) for stage in range(pp)]
    assert [layer for part in chunks for layer in part] == list(range(layers))
    sizes = [len(part) for part in chunks]
    assert all(size == max(sizes) for size in sizes[1:-1])
    assert all(max(sizes) - size <= 1 for size in sizes)
