"""Which factors of a machine its logs can carry: those that bring runs which are left out nearer."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simgpu.lab.logs.choosing import CHANCE, JUDGES, Linear, chosen, linear_of


def model(away: list[float], slopes: list[list[float]]) -> Linear:
    """One measurement a run; two factors."""
    count = len(away)
    return Linear(np.array(slopes), np.array(away), np.full(count, 0.1), np.array([0.1, 0.5]), np.arange(count))


def off(linear: Linear, kept: np.ndarray) -> float:
    return float(np.sum(linear.left_out(kept) ** 2))


aways = st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=6)
slope = st.floats(0.0, 1.5)


@given(aways, st.data())
def test_no_factor_is_kept_that_takes_runs_that_are_left_out_farther_off(away: list[float], data) -> None:
    slopes = data.draw(st.lists(st.tuples(slope, slope).map(list), min_size=len(away), max_size=len(away)))
    linear = model(away, slopes)
    kept = chosen(linear, np.array([True, True]))
    for i in np.flatnonzero(kept):
        fewer = kept.copy()
        fewer[i] = False
        assert off(linear, kept) <= off(linear, fewer) + CHANCE * 0.1**2 + 1e-12
    if len(away) >= JUDGES:
        assert off(linear, kept) <= off(linear, np.array([False, False])) + CHANCE * 0.1**2 + 1e-12


@given(aways, st.integers(2, 5))
def test_a_job_that_ran_often_counts_once(away: list[float], often: int) -> None:
    slopes, columns = np.ones((len(away), 1)), np.array(["step_s"] * len(away))
    runs, kept = np.arange(len(away)), np.array([True])
    alone = linear_of(slopes, np.array(away), np.full(len(away), 0.1), np.array([0.2]), runs, columns)
    many = linear_of(
        *(np.repeat(one, often, axis=0) for one in (slopes, np.array(away), np.full(len(away), 0.1))),
        np.array([0.2]), np.repeat(runs, often), np.repeat(columns, often),
    )  # fmt: skip
    for one, other in ((alone, many), (alone.as_spread(kept), many.as_spread(kept))):
        assert np.allclose(one.solved(kept, one.away), other.solved(kept, other.away), atol=1e-9)
        assert np.allclose(one.posterior(kept), other.posterior(kept))
    every = [np.ones(len(one.away), bool) for one in (alone, many)]
    assert np.isclose(alone.scatter(kept, every[0]), many.scatter(kept, every[1]))
    assert chosen(alone, kept).tolist() == chosen(many, kept).tolist()


@given(st.lists(st.floats(0.02, 0.4), min_size=6, max_size=8))
def test_what_moves_left_out_jobs_to_and_fro_is_not_kept(away: list[float]) -> None:
    """As many jobs are too slow as are too fast, by as much: no factor of all of them helps."""
    both = [sign * one for one in away for sign in (1, -1)]
    assert not chosen(model(both, [[1.0, 0.0]] * len(both)), np.array([True, False])).any()


def test_a_front_end_that_explains_runs_is_kept_and_one_that_explains_one_is_not() -> None:
    slopes = [[1.0, 0.1], [1.0, 0.5], [1.0, 0.1], [1.0, 0.5]]
    felt = np.array([True, True])
    assert chosen(model([0.05, 0.25, 0.05, 0.25], slopes), felt).tolist() == [True, True]
    assert chosen(model([0.1, 0.4, 0.1, -0.2], slopes), felt).tolist()[1] is False
    alone = Linear(np.ones((1, 2)), np.ones(1), np.ones(1), np.ones(2), np.zeros(1))
    assert chosen(alone, felt).tolist() == [True, True]
