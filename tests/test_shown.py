"""What varies is always a column of the table: no two rows that differ in what was asked look alike."""

import io

import pytest

import simgpu
from simgpu.study.experiment.fields import ExperimentFields
from simgpu.study.experiment.shown import shown_columns
from simgpu.study.report.rows import build, print_report

BASE = {
    "model": "llama-3.2-1b",
    "cluster": "dgx-h100",
    "workload": {"kind": "training", "batch": 8, "tokens": 128},
    "plan": {"dp": 2},
}


def columns(rows, **said):
    return shown_columns(ExperimentFields(**said), rows)


@pytest.mark.parametrize("table", [[], ["step_s"], ["mfu", "step_s"], ["micro_batch", "step_s"]])
@pytest.mark.parametrize(
    "said",
    [
        {"vary": {"plan.micro_batch": [1, 2], "plan.recompute": ["none", "full"]}},
        {"vary": {"workload.tokens": [64, 128], "gpu.memory.bandwidth": ["2 TB/s", "3 TB/s"]}},
        {"zip": [{"plan.micro_batch": [1, 2], "plan.recompute": ["none", "full"]}]},
        {"cases": [{"labels": {"run": "a"}}, {"labels": {"run": "b"}, "plan.recompute": "full"}]},
        {"cases": [{"labels": {"run": "a"}}, {"labels": {"run": "b"}}], "vary": {"plan.zero": [0, 1]}},
    ],
)
def test_rows_that_were_asked_for_differently_look_different(table, said):
    """By what was asked alone: numbers that came out are left out of the comparison."""
    outcome = simgpu.run_experiment({"experiment": "x", "scenario": BASE, "table": table, **said})
    shown = shown_columns(outcome.experiment.fields, outcome.rows)
    assert shown[len(shown) - len(table) :] == table
    assert len(shown) == len(set(shown))
    asked = [name for name in shown if not name.endswith("_s") and name not in ("mfu", "bubble_fraction")]
    told = [tuple(str(row.get(name)) for name in asked if "bytes" not in name) for row in outcome.rows]
    assert len(set(told)) == len(told), asked
    out = io.StringIO()
    print_report(outcome, build(outcome, outcome.catalogue), out)
    assert out.getvalue().count("\n") > len(told)


def test_a_column_is_added_in_front_and_only_where_it_tells_rows_apart():
    rows = [{"tp": tp, "recompute": how, "step_s": 1.0} for tp in (1, 2) for how in ("none", "full")]
    vary = {"plan.tp": [1, 2], "plan.recompute": ["none", "full"]}
    assert columns(rows, vary=vary, table=["step_s"]) == ["tp", "recompute", "step_s"]
    assert columns(rows, vary=vary, table=["tp", "step_s"]) == ["recompute", "tp", "step_s"]
    assert columns(rows, vary=vary, table=["step_s", "recompute", "tp"]) == ["step_s", "recompute", "tp"]
    assert columns(rows[::2], vary=vary, table=["step_s"]) == ["tp", "step_s"]  # conditions left one value of the other


def test_what_says_the_same_under_another_name_is_not_added():
    rows = [
        {"cluster": name, "gpu": name[:4], "workload.batch": n, "batch": n}
        for name in ("h100-x", "a100-x")
        for n in (1, 2)
    ]
    vary = {"cluster": ["h100-x", "a100-x"], "workload.batch": [1, 2]}
    assert columns(rows, vary=vary, table=["gpu", "batch"]) == ["gpu", "batch"]
    assert columns(rows, vary=vary, table=["batch"]) == ["cluster", "batch"]
    same = [{**row, "gpu": "h100"} for row in rows]
    assert columns(same, vary=vary, table=["gpu", "batch"]) == ["cluster", "gpu", "batch"]


def test_claims_and_results_tell_no_rows_apart():
    rows = [{"run": n, "claimed_step_s": float(n), "memory_fits": n == 1, "step_s": float(n)} for n in (1, 2)]
    cases = [{"labels": {"claimed_step_s": float(n), "run": n}} for n in (1, 2)]
    assert columns(rows, cases=cases, table=["claimed_step_s", "memory_fits", "step_s"])[0] == "run"
