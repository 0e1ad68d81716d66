"""A row that cannot run is named with its reason; the others answer, and the exit code tells."""

import json
import re
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

import simgpu
from simgpu.cli import main
from simgpu.errors import InputError

TEXT = """\
experiment: some
scenario: {model: llama-3.1-8b, cluster: dgx-h100, workload: {kind: prefill, tokens: 256}}
cases:
  - {labels: {run: good}}
  - {labels: {run: odd}, plan.tp: 3}
  - {labels: {run: other}, plan.tp: 2}
  - {labels: {run: large}, plan.tp: 16}
table: [run, tp, step_s]
plots: [{kind: bar, x: run, y: [step_s], name: bars}]
"""
TEXT_AS_MAPPING = yaml.safe_load(TEXT)


def run(*arguments):
    return CliRunner().invoke(main, [str(one) for one in arguments])


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "some.yaml").write_text(TEXT)
    return "some.yaml"


def test_rows_that_work_are_printed_and_the_others_named(file):
    said = run("run", file)
    assert said.exit_code == 2
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith((" good", " other", " odd", " large"))] == [
        "good",
        "other",
    ]
    assert any(line.startswith("row 2 (odd) cannot run: some.yaml:5: plan.tp: 3 does not divide") for line in lines)
    assert any(line.startswith("row 4 (large) cannot run: ") for line in lines)
    assert said.stderr.splitlines()[-1].startswith(
        "simgpu: 2 of 4 rows left out; row 2 (odd) cannot run: some.yaml:5: "
    )
    assert [row["run"] for row in json.loads(Path("results/some/result.json").read_text())["rows"]] == ["good", "other"]


@pytest.mark.parametrize("command", [("trace", "-o", "t.json"), ("resolve",), ("explain",), ("run", "--format", "csv")])
def test_every_command_of_an_experiment_answers_for_the_rows_that_work(file, command):
    said = run(command[0], file, *command[1:])
    assert said.exit_code == 2
    assert "simgpu: 2 of 4 rows left out; row 2 (odd)" in said.stderr.splitlines()[-1]
    assert said.stdout or command[0] == "trace"


def test_a_broken_node_under_many_rows_is_told_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder, text in (("nodes", "name: broken\ntitle: a node\ngpu: h100-sxn\n"),):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "broken.yaml").write_text(text)
    vary = "vary: {cluster: [dgx-h100, broken], workload.tokens: [64, 128, 256]}\n"
    (tmp_path / "some.yaml").write_text(TEXT.split("cases:")[0] + vary)
    said = run("--catalog", tmp_path, "run", "some.yaml", "--no-plots")
    lines = [line for line in said.stdout.splitlines() if "cannot run" in line]
    assert said.exit_code == 2 and len(lines) == 1 and lines[0].startswith("3 of rows 4 to 6 cannot run: ")
    assert "broken.yaml" in lines[0]


def test_from_python_the_rows_that_cannot_run_stand_apart():
    outcome = simgpu.run_experiment(TEXT_AS_MAPPING)
    assert [row["run"] for row in outcome.rows] == ["good", "other"]
    assert [(one.number, one.name) for one in outcome.refused] == [(2, "odd"), (4, "large")]
    assert len(outcome.experiment.cases) == len(outcome.results) == 2
    assert len(simgpu.explain(TEXT_AS_MAPPING)) == 2


def test_where_no_row_can_run_nothing_is_written(file, tmp_path):
    said = run("run", file, "--set", "plan.tp=3")
    assert said.exit_code == 2 and said.stdout == "" and len(said.stderr.splitlines()) == 1
    assert not (tmp_path / "results").exists()
    with pytest.raises(InputError):
        simgpu.run_experiment(TEXT_AS_MAPPING, "plan.tp=3")


def test_a_comparison_with_a_row_that_cannot_run_says_why(file, tmp_path):
    compare = "compare: {value: step_s, between: run, start: good, end: odd, match: [cluster]}\n"
    (tmp_path / "some.yaml").write_text(TEXT + compare)
    said = run("run", file)
    assert said.exit_code == 2 and len(said.stderr.splitlines()) == 1
    assert said.stderr.startswith("simgpu: some.yaml:5: plan.tp: 3 does not divide")


def test_gpus_that_a_plan_leaves_idle_because_it_does_not_say_dp_are_told(tmp_path):
    asked = {
        "scenario": {
            "model": "llama-3.2-1b",
            "cluster": "dgx-h100",
            "workload": {"kind": "training", "batch": 8, "tokens": 512},
            "plan": {"tp": 2},
        },
    }
    file = tmp_path / "idle.yaml"

    def notes(plan):
        file.write_text(yaml.safe_dump({"scenario": asked["scenario"] | {"plan": plan}}))
        return run("run", file, "--no-plots", "--out", tmp_path / "out").output

    told = "dgx-h100: 2 of 8 GPUs are used; plan.dp is not given and so 1 (up to 4 fit)"
    assert told in notes({"tp": 2})
    assert "are used" not in notes({"tp": 2, "dp": 1}) and "are used" not in notes({"tp": 8})


def test_a_pipeline_without_microbatches_says_why_it_waits(tmp_path):
    def notes(plan):
        scenario = {
            "model": "llama-3.2-1b",
            "cluster": "dgx-h100",
            "workload": {"kind": "training", "batch": 8, "tokens": 512},
            "plan": {"dp": 1, "pp": 4, **plan},
        }
        file = tmp_path / "lone.yaml"
        file.write_text(yaml.safe_dump({"scenario": scenario}))
        return run("run", file, "--no-plots", "--out", tmp_path / "out").output

    assert re.search(r"1 microbatch for 4 stages, \d\d % bubble: plan.micro_batch is not given", notes({}))
    assert "for 4 stages" not in notes({"micro_batch": 8}) and "for 4 stages" not in notes({"micro_batch": 1})
