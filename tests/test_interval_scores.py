"""How error bars are judged: coverage, width and score by source, reliability, and components from planted errors."""

from types import SimpleNamespace

import numpy as np
import pytest

from simgpu.lab.validation import components, intervals
from simgpu.lab.validation.batches import Detail
from simgpu.lab.validation.intervals import LEVELS, Held, reliability, summary
from simgpu.render.reliability import reliability_figure
from simgpu.timing.distance import EXPERTS, SOFTWARE, SOURCE, WITHIN


def held(source, residual, end=0.2):
    values = np.asarray(residual, float)
    return Held("gemm", "calibrated", source, values, np.full(len(values), -end), np.full(len(values), end))


def test_each_source_counts_once_and_what_is_outside_is_paid_for():
    """A thousand rows of a friend do not outweigh one stranger."""
    found = summary([held("friend", [0.0] * 1000), held("stranger", [0.5])])
    assert found["inside"] == pytest.approx(1000 / 1001) and found["inside_by_source"] == 0.5
    assert found["width"] == pytest.approx(np.exp(0.4)) and found["sources"] == 2
    assert found["interval_score"] == pytest.approx((0.4 + 0.4 + 10 * 0.3) / 2)


def test_a_wider_interval_does_not_win_by_width_alone():
    rows = np.random.default_rng(0).normal(0, 0.1, 4000)
    scores = {end: summary([held("a", rows, end)])["interval_score"] for end in (0.04, 0.128, 0.5)}
    assert scores[0.128] == min(scores.values())


def test_intervals_of_students_t_are_reliable_for_draws_of_it():
    random = np.random.default_rng(1)
    draws = 0.1 * random.standard_t(6, 40_000)
    shares = reliability([held("a", draws, 0.144)])
    assert np.abs(np.subtract(shares, LEVELS)).max() < 0.03
    figure = reliability_figure(LEVELS, {"by distance": {"calibrated (40,000 rows)": shares}})
    assert "hold 80 % to 80 %" in figure.get_suptitle() and len(figure.axes) == 1


def batch_of(source, off, spread, rows=30, seen=True, version=True, seed=0, experts=False):
    """Training steps of one publisher, all of which are off alike, and about that each for itself."""
    residuals = off + spread * np.random.default_rng(seed).normal(size=rows)
    details = [Detail(source, "model", 8, "", "megatron", version=version, experts=experts)] * rows
    return SimpleNamespace(
        source=source, architecture="hopper", regime="calibrated", seen=seen,
        measured=np.exp(residuals), predicted=np.ones(rows),
        batch=SimpleNamespace(op="step_time", library="default", caveat="", details=details),
    )  # fmt: skip


def test_components_find_what_was_planted():
    """Publishers that chose constants lie at zero, others 0.3 about it: that is their component, and no other."""
    friends = [batch_of(f"friend {i}", 0.0, 0.05, seed=i) for i in range(6)]
    random = np.random.default_rng(5)
    strangers = [
        batch_of(f"stranger {i}", off, 0.05, seen=False, seed=i) for i, off in enumerate(random.normal(0, 0.3, 30))
    ]
    found = components._runs("step_time", [*friends, *strangers])
    assert 0.2 < found[SOURCE][0] < 0.4 and found[SOURCE][1] == 30
    assert found[SOFTWARE] == (pytest.approx(0.12 * 1.5**0.5, rel=0.1), 0), (
        "nothing said of it: what was believed before"
    )
    assert found[WITHIN][0] == pytest.approx(0.05, rel=0.1)


def test_what_is_new_is_told_from_rows_that_are_known():
    parts = [batch_of("friend", 0.0, 0.05), batch_of("stranger", 0.1, 0.05, seen=False, version=False)]
    layers = {group.publisher: group.layers for group in components.run_groups("step_time", parts)}
    assert layers == {"friend": frozenset(), "stranger": {SOURCE, SOFTWARE}}


def test_a_source_that_chose_constants_later_counts_with_its_first_predictions():
    """Fitting to a stranger makes it a friend, but the next stranger is as far as this one was."""
    friend, stranger = batch_of("friend", 0.0, 0.05), batch_of("page", 0.4, 0.05, seen=False)
    look = components.Look("0.1", "page", "step_time", "", 30, 0.4, 0.05, 1, "note")
    before = components._runs("step_time", [friend, stranger], [look])[SOURCE]
    fitted = components._runs("step_time", [friend, batch_of("page", 0.0, 0.05)], [look])[SOURCE]
    forgotten = components._runs("step_time", [friend, batch_of("page", 0.0, 0.05)])[SOURCE]
    assert fitted[0] == pytest.approx(before[0], rel=0.1) and forgotten[0] < before[0]


def test_a_first_look_at_what_a_model_learned_since_is_outgrown_by_four_publishers():
    """Until then the look bounds the component from below, as it does for any other."""
    friends = [batch_of(f"friend {i}", 0.0, 0.05, seed=i) for i in range(3)]
    look = components.Look("0.1", "strangers", "step_time", EXPERTS, 100, 0.0, 0.9, 7, "note")

    def found(publishers):
        pages = [batch_of(f"page {i}", 0.1, 0.05, seen=False, seed=i, experts=True) for i in range(publishers)]
        return components.run_components([*friends, *pages], [look])["step_time", EXPERTS]

    assert found(3)[0] == pytest.approx(components.LEVEL * 0.9)
    assert found(4)[0] < 0.3 and found(4)[2] == 4


def test_the_ledger_of_first_looks_can_be_read():
    looks = components.first_looks()
    assert {look.version for look in looks} >= {"0.1"} and all(look.note and look.source for look in looks)
    assert all(abs(look.median) < 1 and look.spread > 0 for look in looks)


def test_every_class_of_rows_has_a_title():
    assert set(components.KERNELS) < set(intervals.TITLES) and "memory" in intervals.TITLES
