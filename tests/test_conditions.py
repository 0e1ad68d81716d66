"""Conditions and axes of experiment files: what is read, what is refused, and which scenarios are left."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simgpu import Catalogue, InputError, load_cluster, run_experiment
from simgpu.settings import parse_settings
from simgpu.study.experiment import points
from simgpu.study.experiment.axes import axes_of, values_of
from simgpu.study.experiment.conditions import parse
from simgpu.study.experiment.loading import load, read

VALUES = {
    "tp": 4, "pp": 2, "dp": 8, "gpus": 64, "name": "a", "fits": True, "none": None, "share": 0.5,
    "gpu.memory.bandwidth": 3.35e12, "link.nvlink-4.latency": 1e-6,
}  # fmt: skip


@pytest.mark.parametrize(("text", "wanted"), [
    ("tp * pp * dp == gpus", True),
    ("tp * pp * dp < gpus", False),
    ("1 < tp <= 4 and not tp > 4", True),
    ("tp in [1, 2] or dp // 3 == 2", True),
    ("tp not in (1, 2, 4)", False),
    ("-tp + 2 ** 3 % 5 == -1", True),
    ("fits", True),
    ("fits == true and tp != 1", True),
    ("name == 'a' and name in ['a', 'b']", True),
    ("gpu.memory.bandwidth >= '3 TB/s'", True),
    ("gpu.memory.bandwidth == '3350 GB/s'", True),
    ("`link.nvlink-4.latency` < '900 ns'", False),
    ("max(tp, pp, dp) == 8 and log2(tp) == 2 and ceil(share) == 1", True),
    ("none == 1", False),
    ("fits == 1", False),
    ("tp == 1 or 1 / (tp - 4 + share) == 2", True),
])  # fmt: skip
def test_what_holds(text, wanted):
    assert parse(text, VALUES).holds(VALUES) is wanted


@pytest.mark.parametrize(("text", "problem"), [
    ("tpp == 4", "unknown name 'tpp'; did you mean 'tp'"),
    ("tp = 4", "'=' is written '=='"),
    ("tp", "is 4, neither true nor false"),
    ("tp % (tp - 4) == 0", "divides by zero where tp = 4"),
    ("none > 1", "'none' has no value here"),
    ("name < 3", "compares what has no order"),
    ("name * 9 == 1", "'name' is 'a', not a number"),
    ("9 ** 9 ** 9 > 1", "no finite value"),
    ("sqrt(-tp) == 1", "no finite value"),
    ("tp & pp", "expected 'and' or 'or'"),
    ("tp is 4", "expected '=='"),
    ("not tp", "neither true nor false"),
    ("open('x')", "not a function of conditions"),
    ("tp.__class__", "unknown name 'tp.__class__'"),
    ("(lambda: tp)() == 1", "not a function"),
    ("[x for x in tp]", "is not allowed in a condition"),
    ("tp if fits else pp", "is not allowed in a condition"),
    ("'a'.upper() == 'A'", "not a function"),
    ("(" * 300, "is not understood"),
    ("not " * 400 + "fits", "longer than"),
    ("", "is not a condition"),
    ("min(tp) == 1", "two or more"),
])  # fmt: skip
def test_what_is_refused_says_why(text, problem):
    with pytest.raises(InputError) as error:
        parse(text, VALUES).holds(VALUES)
    assert problem in str(error.value)


@given(st.text(alphabet="tp dp()[]*+-/%<>=!andort.0129'\"`,", max_size=30))
def test_any_text_is_a_condition_or_one_line(text):
    try:
        assert parse(text, VALUES).holds(VALUES) in (True, False)
    except InputError as error:
        assert "\n" not in str(error)


@given(st.integers(1, 64), st.integers(1, 64), st.integers(0, 20))
def test_arithmetic_is_that_of_python(tp, pp, dp):
    text = "(tp + 2) * pp - dp // tp % 3 >= pp ** 2 / tp"
    wanted = (tp + 2) * pp - dp // tp % 3 >= pp**2 / tp
    assert parse(text, ("tp", "pp", "dp")).holds({"tp": tp, "pp": pp, "dp": dp}) is wanted


# ---- axes --------------------------------------------------------------------------------------------


def blame(problem, place):
    return InputError(problem, key=".".join(map(str, place)))


@pytest.mark.parametrize(("given", "wanted"), [
    ([1, 2], [1, 2]),
    ({"range": [1, 7], "step": 2}, [1, 3, 5, 7]),
    ({"range": [1, 8], "step": 2}, [1, 3, 5, 7]),
    ({"range": [3, 1], "step": 1}, [3, 2, 1]),
    ({"range": [0.1, 0.5], "step": 0.1}, [0.1, 0.2, 0.3, 0.4, 0.5]),
    ({"range": [0, 1], "points": 5}, [0, 0.25, 0.5, 0.75, 1]),
    ({"log_range": [1, 64], "points": 7}, [1, 2, 4, 8, 16, 32, 64]),
    ({"log_range": [64, 4], "factor": 4}, [64, 16, 4]),
    ({"log_range": [1, 100], "points": 5}, [1, 3, 10, 32, 100]),
    ({"range": ["500 GB/s", "2 TB/s"], "points": 4}, ["500 GB/s", "1000 GB/s", "1500 GB/s", "2000 GB/s"]),
    ({"log_range": ["100 GB/s", "0.9 TB/s"], "points": 3}, ["100 GB/s", "300 GB/s", "900 GB/s"]),
])  # fmt: skip
def test_values_of_an_axis(given, wanted):
    found = values_of(given, ("vary", "x"), blame)
    assert found == wanted
    if isinstance(wanted[0], int) and not any(isinstance(value, float) for value in wanted):
        assert all(isinstance(value, int) for value in found), "whole numbers stay whole"


@given(st.integers(1, 1000), st.floats(1.1, 1000), st.integers(2, 40))
def test_a_log_range_has_equal_ratios_and_both_ends(first, ratio, count):
    first = float(first)
    found = values_of({"log_range": [first, first * ratio], "points": count}, ("x",), blame)
    assert len(found) == count
    assert math.isclose(found[0], first) and math.isclose(found[-1], first * ratio, rel_tol=1e-9)
    for a, b in pairwise(found):
        assert math.isclose(b / a, ratio ** (1 / (count - 1)), rel_tol=1e-6)


@pytest.mark.parametrize(("given", "problem"), [
    ("700 W", "'700 W' is not a list"),
    ([], "at least 1"),
    ({"range": [1, 4]}, "needs 'step' or 'points'"),
    ({"range": [1, 4], "step": 1, "points": 2}, "needs 'step' or 'points'"),
    ({"rnge": [1, 4], "step": 1}, "did you mean 'range'"),
    ({"range": [1], "points": 2}, "first and a last"),
    ({"range": [1, "4 GB"], "points": 2}, "expected no unit"),
    ({"range": ["1 GB", "4 s"], "points": 2}, "a unit such as GB"),
    ({"range": [1, 4], "step": 0}, "more than zero"),
    ({"range": [1, 10**9], "step": 1}, "at most 100,000"),
    ({"log_range": [0, 4], "points": 2}, "above zero"),
    ({"log_range": [1, 2], "points": 5}, "write an end with a point"),
    ({"log_range": [1, 4], "factor": 1}, "not 1"),
    ({"range": [1, 4], "points": 1}, "from 2"),
    ({"range": [1, "x"], "points": 2}, "not a number"),
    ({"range": [1, float("inf")], "points": 2}, "finite"),
])  # fmt: skip
def test_a_wrong_axis_says_why(given, problem):
    with pytest.raises(InputError) as error:
        values_of(given, ("vary", "x"), blame)
    assert problem in str(error.value)


def test_zipped_keys_need_as_many_values_and_one_axis_each():
    with pytest.raises(InputError, match="3 values beside the 2 of 'a'"):
        axes_of({}, [{"a": [1, 2], "b": [1, 2, 3]}], blame)
    with pytest.raises(InputError, match=r"zip\.0\.a: is varied already \(as vary\.a\)"):
        axes_of({"a": [1]}, [{"a": [1]}], blame)


# ---- experiment files --------------------------------------------------------------------------------

BASE = """\
scenario:
  cluster: dgx-h100-ib
  model: llama-2-7b
  workload: {kind: training, batch: 64, tokens: 64}
"""


@pytest.fixture
def plans(tmp_path):
    """(tp, pp, dp, ...) of the scenarios that a file leaves."""

    def left(text, *settings, keys=("tp", "pp", "dp")):
        file = tmp_path / "e.yaml"
        file.write_text(BASE + text)
        _, _, cases = load(file, parse_settings(settings), Catalogue())
        return [tuple(getattr(case.scenario.plan, key) for key in keys) for case in cases]

    return left


AXES = "vary: {plan.tp: [1, 2, 4, 8], plan.pp: [1, 2, 4], plan.dp: [1, 2, 4, 8]}\n"


def test_conditions_leave_out_what_does_not_hold(plans):
    every = [(tp, pp, dp) for tp in (1, 2, 4, 8) for pp in (1, 2, 4) for dp in (1, 2, 4, 8)]
    assert plans(AXES) == every
    assert plans(AXES + "where: [tp * pp * dp == 16, pp <= 2]\n") == [
        point for point in every if math.prod(point) == 16 and point[1] <= 2
    ]


def test_names_of_model_cluster_job_and_labels(plans):
    text = AXES + (
        "cases: [{labels: {box: a}}, {labels: {box: b}, cluster.nodes: 2}]\n"
        "where:\n  - world == gpus and box == 'b'\n  - layers % pp == 0 and tp <= gpus_per_node\n"
        "  - batch // dp == micro_batch and schedule == '1f1b'\n"
        "  - gpu.memory.capacity > '70 GB' and gpu == 'h100-sxm'\n"
    )
    assert plans(text) == [(1, 2, 8), (1, 4, 4), (2, 1, 8), (2, 2, 4), (2, 4, 2), (4, 1, 4), (4, 2, 2), (4, 4, 1),
                           (8, 1, 2), (8, 2, 1)]  # fmt: skip
    assert load_cluster("dgx-h100-ib", cluster__nodes=2).gpu_count == 16


def test_what_is_set_by_hand_takes_the_place_of_an_axis_and_conditions_see_it(plans):
    assert plans(AXES + "where: tp * pp * dp == 4\n", "plan.tp=2") == [(2, 1, 2), (2, 2, 1)]
    zipped = "zip: [{plan.tp: [1, 2], plan.dp: [8, 4]}]\n"
    assert plans(zipped, keys=("tp", "dp")) == [(1, 8), (2, 4)]
    assert plans(zipped, "plan.tp=4", keys=("tp", "dp")) == [(4, 8), (4, 4)]


def test_zipped_and_ranged_keys_are_columns_and_move_together(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text(
        BASE.replace("training", "prefill").replace("batch: 64, ", "")
        + "vary: {gpu.memory.bandwidth: {range: [1 TB/s, 3 TB/s], points: 2}}\n"
        + "zip: [{workload.tokens: [32, 64], workload.batch: [4, 2]}]\n"
    )
    rows = run_experiment(file).rows
    assert [(row["gpu.memory.bandwidth"], row["workload.tokens"], row["workload.batch"]) for row in rows] == [
        (1e12, 32, 4), (1e12, 64, 2), (3e12, 32, 4), (3e12, 64, 2),
    ]  # fmt: skip


@pytest.mark.parametrize(("text", "problem"), [
    ("where: [tpp == 4]\n", "e.yaml:6: where.0: unknown name 'tpp'; did you mean 'tp'"),
    ("where:\n  - tp > 0\n  - batch % (tp - 1) == 0\n", "e.yaml:8: where.1: 'batch % (tp - 1) == 0' divides by zero"),
    ("where: [tp > 100]\n", "e.yaml:6: where: none of 48 scenarios satisfies the conditions"),
    ("where: [gpu.memory.bandwith > 1]\n", "did you mean 'gpu.memory.bandwidth'"),
    ("where: [recompute_layers > 1]\n", "where.0: 'recompute_layers' has no value here"),
    ("where: {tp: 1}\n", "e.yaml:6: where"),
    ("zip: {plan.cp: [1]}\n", "e.yaml:6: zip"),
    ("zip: [{plan.tp: [1, 2]}]\n", "e.yaml:6: zip.0.plan.tp: is varied already"),
])  # fmt: skip
def test_a_wrong_condition_names_file_and_line(plans, text, problem):
    with pytest.raises(InputError) as error:
        plans(AXES + text)
    assert problem in str(error.value)


def test_a_cluster_that_is_not_there_is_told_at_its_own_place(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text(BASE.replace("dgx-h100-ib", "dgx-h100-ibb") + "where: [tp < gpus]\n")
    with pytest.raises(InputError, match=r"e\.yaml:2: cluster: unknown cluster"):
        run_experiment(file)


def test_billions_of_combinations_are_cut_before_they_multiply(tmp_path, monkeypatch):
    file = tmp_path / "e.yaml"
    axes = "".join(f"  plan.{key}: {{range: [1, 100], step: 1}}\n" for key in ("tp", "pp", "dp", "cp", "ep"))
    file.write_text(BASE + f"vary:\n{axes}where: [tp <= 2, tp * pp == 4, dp == pp, cp == 1, ep == 1]\n")
    loaded = read(file, (), Catalogue())
    assert len(list(loaded.points())) == 2
    assert loaded.walk._looks < 1000
    monkeypatch.setattr(points, "MAX_LOOKS", 5000)
    file.write_text(BASE + f"vary:\n{axes}where: [tp * pp * dp * cp * ep == 0]\n")
    with pytest.raises(InputError, match=r"e\.yaml:5: vary: more than 5,000 combinations"):
        load(file, (), Catalogue())
