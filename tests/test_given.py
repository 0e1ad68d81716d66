"""Programs give experiments as mappings or as text, and draw what comes back."""

import re
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

import simgpu
from simgpu.documents import as_text, read_yaml

TEXT = """\
title: Prefill
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: prefill, batch: 1, tokens: 512}
vary:
  plan.tp: [1, 2]
plots:
  - {kind: line, name: scaling, x: tp, y: [step_s]}
  - {kind: timeline, where: {tp: 2}}
"""
MAPPING = {
    "title": "Prefill",
    "scenario": {
        "model": "llama-3.2-1b",
        "cluster": "dgx-h100",
        "workload": {"kind": "prefill", "batch": 1, "tokens": 512},
    },
    "vary": {"plan.tp": (1, 2)},
    "plots": [
        {"kind": "line", "name": "scaling", "x": "tp", "y": ["step_s"]},
        {"kind": "timeline", "where": {"tp": 2}},
    ],
}
TRAINING = {
    "model": "llama-3.2-1b",
    "cluster": "dgx-h100",
    "workload": {"kind": "training", "batch": 8, "tokens": 512},
    "plan": {"pp": 2, "micro_batch": 1},
}


@pytest.fixture
def file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "given.yaml").write_text(TEXT)
    return tmp_path / "given.yaml"


# ---- experiments -------------------------------------------------------------------------------------


def test_a_file_its_text_and_its_mapping_are_one_experiment(file):
    of_file, of_text, of_mapping = (simgpu.run_experiment(one, "workload.batch=2") for one in (file, TEXT, MAPPING))
    assert of_file.rows == of_text.rows == of_mapping.rows
    assert [row["tp"] for row in of_file.rows] == [1, 2]
    assert of_text.results[0].resolved["model"]["source"] == "<experiment>:3"
    assert of_mapping.results[0].resolved["model"]["source"] == "<experiment>"
    assert list(file.parent.iterdir()) == [file]  # nothing is written


def test_they_share_what_a_store_keeps(file):
    store = file.parent / "store.sqlite"
    assert simgpu.sweep(file, store=store, jobs=1).ran == 2
    assert simgpu.sweep(TEXT, store=store, jobs=1).ran == 0
    again = simgpu.sweep({**MAPPING, "experiment": "mine"}, store=store, jobs=1)
    assert (again.ran, len(again.rows)) == (0, 2)
    assert len(simgpu.results(store, experiment="mine").rows) == 2


@pytest.mark.slow
def test_every_study_takes_them(file):
    by_file = simgpu.sensitivity(file, case=2)
    assert simgpu.sensitivity(MAPPING, case=2)[0].rows == by_file[0].rows
    assert simgpu.diff((MAPPING, 1), (TEXT, 2)).verdict == simgpu.diff(f"{file}:1", f"{file}:2").verdict
    assert simgpu.diff(MAPPING, MAPPING, "plan.tp=1", settings_b=["workload.batch=2"]).verdict.ratio != 1
    assert [one.name for one in simgpu.explain(MAPPING)] == [one.name for one in simgpu.explain(TEXT)]
    asked = {"scenario": {**TRAINING, "plan": {}}, "search": {"gpus": 4, "space": {"tp": [1, 2], "dp": "all"}}}
    found = simgpu.search(asked, store=file.parent / "store.sqlite", jobs=1)
    assert found.name == "experiment" and len(found.rows) == 3
    assert len(simgpu.results(file.parent / "store.sqlite", experiment="experiment").rows) == 3


def test_numbers_of_numpy_are_numbers():
    axis = {"gpu.host_link.lanes": np.linspace(8, 16, 3), "workload.tokens": np.array([256, 512])}
    rows = simgpu.run_experiment({**MAPPING, "vary": axis, "plots": []}).rows
    assert [row["gpu.host_link.lanes"] for row in rows] == [8, 8, 12, 12, 16, 16]
    assert {type(row["workload.tokens"]) for row in rows} == {int}


@pytest.mark.parametrize(
    "given, told",
    [
        ({"scenari": {}}, "<experiment>: scenari: unknown key; did you mean 'scenario'?"),
        ({"scenario": {**MAPPING["scenario"], "model": "lama"}}, "<experiment>: model: unknown"),
        ({"scenario": {**MAPPING["scenario"], "plan": {"tp": 3}}}, "<experiment>: plan.tp: 3 does not divide"),
        ({"scenario": {"plan": {"tp": object()}}}, "<experiment>: scenario.plan.tp: <object object"),
        ({"vary": {"plan.tp": {1, 2}}}, "<experiment>: vary.plan.tp: {1, 2} is of type set; expected text, numbers"),
        ({}, "<experiment>: "),
        ("scenario:\n  modell: x\n", "<experiment>:2: modell: unknown key; did you mean 'model'?"),
        ("scenario: [\n", "<experiment>:2: is not valid YAML"),
        ("\n", "<experiment>:1: expected a mapping"),
        ("title: \0\n", "<experiment>"),
        ("title: \ud800\n", "<experiment>"),
    ],
)
def test_mistakes_name_the_experiment_and_the_key(given, told):
    with pytest.raises(simgpu.InputError) as caught:
        simgpu.run_experiment(given)
    assert str(caught.value).startswith(told)


def test_a_mapping_that_holds_itself_is_an_error():
    endless: dict = {}
    endless["scenario"] = endless
    with pytest.raises(simgpu.InputError, match="nested more than 40 levels deep"):
        simgpu.run_experiment(endless)


def test_text_has_the_limits_of_files():
    with pytest.raises(simgpu.InputError, match="is larger than 1,000,000 letters"):
        simgpu.run_experiment("title: " + "x" * 1_000_001 + "\n")


def test_any_plain_mapping_survives():
    data = {"a": [1, 2.5, True, None, "yes", "1e3", "2020-01-01", "", " x", "ä\n: #"], "b": {"c": 1e-7, "d": {}}}
    assert read_yaml(as_text(data)).data == data


def test_a_mapping_with_rows_needs_one_named():
    with pytest.raises(simgpu.InputError, match=r"'experiment' has 2 rows; say which: \(experiment, row\)"):
        simgpu.diff(MAPPING, MAPPING)
    with pytest.raises(simgpu.InputError, match="row 3 is not there"):
        simgpu.diff((MAPPING, 3), (MAPPING, 1))


def test_the_python_of_the_docs_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parents[1] / "docs/experiments.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.S)
    exec(compile(code, "experiments.md", "exec"), {})
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")
    ratio = float(capsys.readouterr().out.splitlines()[1])
    assert 2 < ratio < 8  # eight GPUs against one


# ---- figures -----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_figures_of_what_studies_find(file):
    store = file.parent / "store.sqlite"
    assert list(simgpu.figures(simgpu.run_experiment(MAPPING))) == ["scaling", "plot2"]
    assert list(simgpu.figures(simgpu.sweep(MAPPING, store=store, jobs=1))) == [
        "scaling"
    ]  # the other needs a whole run
    found = simgpu.sensitivity(MAPPING, case="all")
    assert list(simgpu.figures(found)) == ["tornado-1", "tornado-2"]
    assert list(simgpu.figures(found[0])) == ["tornado"]
    asked = {"scenario": {**TRAINING, "plan": {}}, "search": {"gpus": 4, "space": {"tp": [1, 2], "dp": "all"}}}
    drawn = simgpu.figures(simgpu.search(asked, store=store, jobs=1))
    assert list(drawn) == ["best"]  # all plans need the same tenth of the memory: no front
    assert all(isinstance(figure, Figure) and figure.axes for figure in drawn.values())
    assert list(simgpu.figures(simgpu.fit("llama-3.1-8b", gpu="l4"))) == ["fit"]


@pytest.mark.slow
def test_figures_of_one_simulation():
    prefill = simgpu.run_experiment(MAPPING).results[0]
    assert list(simgpu.figures(prefill)) == ["timeline"]
    training = simgpu.run_experiment({"scenario": TRAINING}).results[0]
    drawn = simgpu.figures(training)
    assert list(drawn) == ["timeline", "memory", "step", "pipeline"]
    assert [text.get_text() for text in drawn["step"].axes[0].get_yticklabels()] == ["PP2"]


@pytest.mark.parametrize("other", [3, [], ["x"], "llama70b_tp", None])
def test_what_has_no_figures_is_an_error(other):
    with pytest.raises(simgpu.InputError, match="has no figures; expected a result of"):
        simgpu.figures(other)


def test_a_window_of_a_timeline():
    result = simgpu.run_experiment(MAPPING).results[1]
    figure = simgpu.plot_timeline(result, window=(0.0, result.step_s / 2))
    assert figure.axes[0].get_xlim()[1] == pytest.approx(result.step_s / 2 * 1e3)
    for wrong in ((1, 0), (-1, 1), (0, float("nan"))):
        with pytest.raises(simgpu.InputError, match="not a start and a later end"):
            simgpu.plot_timeline(result, window=wrong)


def test_the_critical_path_is_of_the_step():
    step = simgpu.run_experiment({"scenario": TRAINING}).results[0]
    path = step.critical_path
    assert path[0].start == 0
    assert path[-1].start + path[-1].seconds == pytest.approx(step.step_s)
    assert sum(link.seconds for link in path) == pytest.approx(step.step_s)
    assert {link.activity.kind for link in path} >= {"forward", "backward", "optimizer"}
