"""`simgpu calibrate --step`: one measured step moves the prediction towards it and narrows the interval of its like."""

import json

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

import simgpu
from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.timing.distance import OF, SOFTWARE
from simgpu.timing.uncertainty import STEADY, WholeRun, own_weight, run_spread

TEXT = """
experiment: mine
scenario:
  model: llama-3.2-1b
  cluster: h100-sxm
cases:
  - {workload: {kind: training, batch: 1, tokens: 512}}
  - {workload: {kind: serving, concurrency: 4, prompt: 64, output: 16}}
  - {workload: {kind: prefill, tokens: 64}}
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "mine.yaml").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def calibrate(*words, catalog=()):
    return CliRunner().invoke(main, [*catalog, "calibrate", *words])


@pytest.mark.parametrize(("case", "column"), [(1, "step_s"), (2, "tpot_s")])
def test_a_measured_step_moves_the_prediction_and_narrows_it(folder, case, column):
    before = simgpu.run_experiment("mine.yaml").results[case - 1].row
    measured = 1.3 * before[column]
    asked = ["--step", "mine.yaml", "--case", str(case), "--measured", f"{1e3 * measured:.6f} ms"]
    done = calibrate(*asked, "-o", "own", "--format", "json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert said["gpu"] == "h100-sxm" and said["steps"] == 1 and said["slowdown"] > 1
    after = simgpu.run_experiment("mine.yaml", catalogue=Catalogue("own")).results[case - 1].row
    assert before[column] < after[column] <= measured * (1 + 1e-6)
    assert after[column] == pytest.approx(said["predictions"][1]["value"], rel=1e-6)
    widths = [row[f"{column}_p90"] / row[f"{column}_p10"] for row in (before, after)]
    assert widths[1] < widths[0]
    assert after["distance"].endswith("; 1 step measured on this machine")
    again = calibrate(*asked, "-o", "own", "--format", "json", catalog=["--catalog", "own"])
    twice = json.loads(again.stdout)
    assert twice["steps"] == 2 and after[column] < twice["predictions"][1]["value"] <= measured * (1 + 1e-6)


def test_a_step_as_predicted_moves_nothing(folder):
    row = simgpu.run_experiment("mine.yaml").results[0].row
    done = calibrate("--step", "mine.yaml", "--measured", f"{row['step_s']:.9f} s", "--format", "json")
    assert json.loads(done.stdout)["slowdown"] == pytest.approx(1, abs=1e-4)
    assert "P90 / P10" in calibrate("--step", "mine.yaml", "--measured", "20 ms").stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--step", "mine.yaml"], "--measured: is not given; expected the time of the step, such as '1.23 s'"),
        (["--step", "mine.yaml", "--measured", "12"], "--measured: '12': expected a time with its unit"),
        (["--step", "mine.yaml", "--measured", "-1 s"], "expected a time with its unit"),
        (["--step", "mine.yaml", "--measured", "3 h"], "is it the same case, in seconds?"),
        (["--step", "mine.yaml", "--case", "9", "--measured", "1 s"], "--case: 9: the experiment has 3"),
        (["--step", "mine.yaml", "--case", "3", "--measured", "1 s"], "a case of 'prefill' is no step"),
        (["rows.csv", "--step", "mine.yaml"], "--step: is given a file of rows too"),
        (["--measured", "1 s"], "--measured: is of a step; expected --step EXPERIMENT with it"),
        ([], "no file of rows is given"),
    ],
)
def test_slips_are_one_line(folder, words, said):
    done = calibrate(*words)
    assert done.exit_code == 2 and said in done.stderr and done.stderr.count("\n") == 1, done.output


@settings(derandomize=True, deadline=None, max_examples=60)
@given(op=st.sampled_from(sorted(op for op, of in OF.items() if of in STEADY)), steps=st.integers(1, 9))
def test_each_step_makes_the_next_say_less_and_none_widens(op, steps):
    assert 0 < own_weight(op, {SOFTWARE}, True, steps) < own_weight(op, {SOFTWARE}, True, steps - 1) < 1
    asked = {"library": "megatron", "architecture": "hopper", "kernels": (0.8, 1.2)}
    few, more = (run_spread(op, 0.5, WholeRun(**asked, steps=count)) for count in (steps - 1, steps))
    assert few.low <= more.low <= 1 <= more.high <= few.high
