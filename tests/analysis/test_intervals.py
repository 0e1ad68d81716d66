"""Intervals of sums and ratios: closed forms, and intervals that hold their points in everything that is printed."""

import re
from math import inf, sqrt
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu import Catalogue
from simgpu.analysis.breakdown import breakdown
from simgpu.analysis.uncertainty import Range, parts_of, range_of, range_of_ratio
from simgpu.columns import TABLE
from simgpu.render.columns import cell_of, interval_of
from simgpu.study.experiment.running import load_experiment, run_case
from simgpu.timing.kernels import NONE, Uncertainty

repeatable = settings(derandomize=True, deadline=None, max_examples=200)

CATALOGUE = Catalogue()
EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"

doubts = st.builds(
    Uncertainty, st.sampled_from(["gemm", "attention", "vector", "collective"]), st.floats(0.2, 1.0),
    st.floats(1.0, 3.0), st.floats(0.0, 1.0),
)  # fmt: skip
parts = st.lists(st.tuples(st.floats(1e-7, 1.0), doubts), min_size=1, max_size=8)


def alone(seconds, low, high, correlated=0.0, group="gemm"):
    return (seconds, Uncertainty(group, low, high, correlated))


# ---- sums --------------------------------------------------------------------------------------------------


@repeatable
@given(parts, st.floats(0, 1))
def test_a_sum_lies_in_its_interval_which_is_no_wider_than_all_parts_at_their_ends(parts, certain):
    found = range_of(parts, certain)
    total = sum(seconds for seconds, _ in parts) + certain
    ends = [sum(s * factor(d) for s, d in parts) + certain for factor in (lambda d: d.low, lambda d: d.high)]
    assert 0 <= found.p10 <= total * (1 + 1e-12)
    assert found.p90 >= total * (1 - 1e-12)
    assert ends[0] <= found.p10 * (1 + 1e-9) and found.p90 <= ends[1] * (1 + 1e-9)


@repeatable
@given(st.floats(1e-9, 1e3), doubts)
def test_of_one_part_the_interval_is_its_own(seconds, doubt):
    found = range_of([(seconds, doubt)])
    assert (found.p10, found.p90) == pytest.approx((seconds * doubt.low, seconds * doubt.high), rel=1e-9)


def test_a_ratio_is_highest_where_what_divides_is_lowest():
    """1 / [0.9, 1.3]: the ends trade places, and each keeps its own width."""
    certain, divisor = alone(1.0, 1.0, 1.0), alone(1.0, 0.9, 1.3)
    found = range_of_ratio([certain], [divisor])
    assert (found.p10, found.p90) == pytest.approx((1 / 1.3, 1.1))


def test_what_is_common_adds_up_and_what_is_independent_adds_in_squares():
    together = range_of([alone(1.0, 0.9, 1.2, 1.0)] * 4)
    apart = range_of([alone(1.0, 0.9, 1.2, 0.0)] * 4)
    half = range_of([alone(1.0, 0.9, 1.2, 0.25)] * 4)
    classes = range_of([alone(1.0, 0.9, 1.2, 1.0, group) for group in ("gemm", "vector", "attention", "collective")])
    assert (together.p10, together.p90) == pytest.approx((4 - 0.4, 4 + 0.8))
    assert (apart.p10, apart.p90) == pytest.approx((4 - 0.2, 4 + 0.4))
    assert (classes.p10, classes.p90) == pytest.approx((apart.p10, apart.p90)), "classes are independent"
    assert half.p90 == pytest.approx(4 + sqrt((4 * 0.2 * 0.5) ** 2 + 4 * 0.2**2 * 0.75))


@repeatable
@given(parts, st.floats(1e-3, 1e3))
def test_intervals_have_no_unit(parts, factor):
    plain, scaled = range_of(parts), range_of([(seconds * factor, doubt) for seconds, doubt in parts])
    assert (scaled.p10, scaled.p90) == pytest.approx((plain.p10 * factor, plain.p90 * factor), rel=1e-9)


def test_what_is_certain_has_no_width():
    assert range_of([(2.0, NONE), (3.0, NONE)], 1.0) == Range(6.0, 6.0)
    assert range_of([]) == Range(0.0, 0.0)
    mixed = range_of([(2.0, NONE), alone(1.0, 0.5, 2.0)], 3.0)
    assert (mixed.p10, mixed.p90) == pytest.approx((5.5, 7.0))


# ---- ratios ------------------------------------------------------------------------------------------------


@repeatable
@given(parts, parts, st.floats(0, 1))
def test_a_ratio_lies_in_its_interval(above, below, certain):
    found = range_of_ratio(above, below, certain)
    ratio = sum(s for s, _ in above) / (sum(s for s, _ in below) + certain)
    assert 0 <= found.p10 <= ratio * (1 + 1e-12)
    assert ratio * (1 - 1e-12) <= found.p90 < inf


def test_what_both_sums_have_in_common_cancels():
    one, two = [alone(1.0, 0.8, 1.3, 1.0)], [alone(0.5, 0.8, 1.3, 1.0)]
    assert range_of_ratio(one, two) == Range(pytest.approx(2.0), pytest.approx(2.0))
    other = [alone(0.5, 0.8, 1.3, 1.0, "collective")]
    apart = range_of_ratio(one, other)
    assert apart.p90 == pytest.approx(2 * (1 + sqrt(0.3**2 + 0.2**2)))
    assert apart.p10 == pytest.approx(2 / (1 + sqrt(0.2**2 + 0.3**2)))
    partly = range_of_ratio(one, [*two, *other])
    assert partly.p90 - partly.p10 < (apart.p90 - apart.p10) / 2


def test_a_ratio_of_nothing_is_nothing():
    assert range_of_ratio([], [alone(1.0, 0.5, 2.0)]) == Range(0.0, 0.0)


# ---- steps -------------------------------------------------------------------------------------------------


def rows():
    """All results of both experiments that come with simgpu, and a training step over two dimensions."""
    for name in ("tp2_scaling", "llama70b_tp"):
        for case in load_experiment(EXPERIMENTS / f"{name}.yaml", (), Catalogue()).cases:
            labels = "-".join(str(label) for label in case.labels.values())
            yield pytest.param(lambda case=case: run_case(case, CATALOGUE), id=f"{name}-{labels}")

    def train():
        work = simgpu.Training(batch=8, tokens=512)
        cluster, model = CATALOGUE.cluster("l40s-pcie-4x"), CATALOGUE.model("llama-2-7b")
        return simgpu.simulate(cluster, work, model, simgpu.Plan(tp=2, dp=2))

    yield pytest.param(train, id="training")


@pytest.mark.parametrize("run", list(rows()))
def test_every_row_holds_its_points_and_every_interval_is_of_a_column(run):
    result = run()
    row, execution = result.row, result.execution
    ends = {column.removesuffix("_p10") for column in row if column.endswith("_p10")}
    assert {column.removesuffix("_p90") for column in row if column.endswith("_p90")} == ends
    wanted = {"step_s", "compute_s", "communication_s", "exposed_communication_s", "efficiency", "speedup", "mfu"}
    assert wanted | {"single_gpu_step_s", "ideal_step_s", "flop_per_s_per_gpu"} <= ends
    for column in ends:
        low, value, high = row[f"{column}_p10"], row[column], row[f"{column}_p90"]
        assert 0 <= low <= value * (1 + 1e-9), column
        assert high >= value * (1 - 1e-9), column
        assert high < 20 * value or value == 0, column
    parts = parts_of(execution, breakdown(execution).rank)
    assert sum(part.exposed for part in parts) <= row["step_s"] * (1 + 1e-9)
    kernels = [part for part in parts if part.activity.category == "compute" and part.activity.kind != "host"]
    assert sum(part.seconds for part in kernels) == pytest.approx(row["compute_s"], rel=1e-9)
    busy = row["compute_s"] + row["exposed_communication_s"] + row["idle_s"]
    assert busy == pytest.approx(row["step_s"], rel=1e-9)
    assert row["idle_s"] == pytest.approx(row.get("host_s", 0.0) + row.get("bubble_s", 0.0), abs=1e-6 * row["step_s"])
    sure = all(part.uncertainty == NONE for part in parts)
    assert (row["step_s_p90"] - row["step_s_p10"] > 0.01 * row["step_s"]) != sure


def test_given_times_over_an_ideal_ring_are_certain():
    case = next(case for case in load_experiment(EXPERIMENTS / "tp2_scaling.yaml", (), Catalogue()).cases)
    row = run_case(case, CATALOGUE).row
    for column in ("step_s", "efficiency", "communication_s", "mfu"):
        assert row[f"{column}_p10"] == pytest.approx(row[column], rel=1e-12)
        assert row[f"{column}_p90"] == pytest.approx(row[column], rel=1e-12)
        assert interval_of(column, row) is None


def test_equal_kernels_are_one_part_with_all_their_runs():
    work = simgpu.OperatorList(operators=[{"op": "matmul", "m": 512, "n": 512, "k": 512}], repeat=7)
    result = simgpu.simulate(CATALOGUE.cluster("dgx-h100"), work)
    (part,) = parts_of(result.execution, 0)
    assert (part.runs, part.seconds) == (7, pytest.approx(result.step_s, rel=1e-12))
    relative = result.row["step_s_p90"] / result.step_s
    assert relative == pytest.approx(part.uncertainty.high, rel=1e-9), "the same shape is off the same way each time"


# ---- cells -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("column", "row", "text"),
    [
        ("step_s", {"step_s": 1.298e-3, "step_s_p10": 1.22e-3, "step_s_p90": 1.46e-3}, "1.298 ms (1.22-1.46)"),
        ("step_s", {"step_s": 0.5e-3, "step_s_p10": 0.45e-3, "step_s_p90": 1.46e-3}, "500 us (450-1,460)"),
        ("efficiency", {"efficiency": 0.637, "efficiency_p10": 0.61, "efficiency_p90": 0.65}, "63.7 % (61-65)"),
        ("step_s", {"step_s": 1.00049e-3, "step_s_p10": 0.9985e-3, "step_s_p90": 1.0155e-3}, "1 ms (0.999-1.02)"),
        (
            "training_days",
            {f"training_days{end}": days for end, days in (("", 3.0449), ("_p10", 2.995), ("_p90", 3.1))},
            "3.04 d (3-3.1)",
        ),
        ("step_s", {"step_s": 1e-3, "step_s_p10": 1e-3, "step_s_p90": 1e-3}, "1 ms"),
        ("step_s", {"step_s": 1e-3}, "1 ms"),
        ("exposed_communication_s", {f"exposed_communication_s{end}": 0.0 for end in ("", "_p10", "_p90")}, "0 s"),
        ("step_s", {"step_s": None, "step_s_p10": 1.0, "step_s_p90": 2.0}, ""),
        ("gpu", {"gpu": "h100-sxm", "gpu_p10": 1.0, "gpu_p90": 2.0}, "h100-sxm"),
    ],
)
def test_cells_show_the_interval_in_the_unit_of_the_value(column, row, text):
    assert cell_of(column, row) == text


@repeatable
@given(
    st.sampled_from([name for name, known in TABLE.items() if known.unit]),
    st.integers(-9, 15),
    st.floats(1.0, 9.999),
    st.floats(0.3, 1.0),
    st.floats(1.0, 3.0),
)
def test_both_ends_are_those_of_the_row_and_not_scaled_by_a_rounded_value(column, power, digits, below, above):
    value = digits * 10.0**power
    row = {column: value, f"{column}_p10": below * value, f"{column}_p90": above * value}
    text, _, ends = cell_of(column, row).partition(" (")
    if not ends:
        assert interval_of(column, row) is None
        return
    number = float(text.split()[0].replace(",", ""))
    if abs(number) < 10:  # few digits: too rough to tell its unit from another
        return
    rough = number / value  # off by the digits that were cut; what a unit is worth is a whole number of another
    units = [10.0**n for n in range(-18, 19)] + [1 / 60, 1 / 3600, 1 / 86400] + [2.0**-n for n in range(10, 60, 10)]
    scale = min(units, key=lambda one: abs(one / rough - 1))
    for shown, end in zip(re.split(r"(?<!e)-", ends.rstrip(")")), (below, above), strict=True):
        exact, printed = end * value * scale, float(shown.replace(",", ""))
        assert printed == pytest.approx(exact, rel=6e-3), "three digits of its own value"
        assert printed <= number if end <= 1 else printed >= number, "the value stands in its interval"


def test_numbers_above_a_thousand_keep_their_interval():
    row = {"tokens_per_s": 12345.0, "tokens_per_s_p10": 11000.0, "tokens_per_s_p90": 13000.0}
    assert cell_of("tokens_per_s", row) == "12,345 (11,000-13,000)"
