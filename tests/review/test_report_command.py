"""`simgpu report` as people type it, and `simgpu.report`."""

import json

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main

SMALL = """
title: Which split of a <b>small</b> model
scenario:
  model: llama-3.1-8b
  cluster: dgx-h100
  workload: {kind: training, batch: 8, tokens: 1024}
  plan: {zero: 1, micro_batch: 1, sequence_parallel: true}
cases:
  - {labels: {split: TP 8}, plan: {tp: 8}}
  - {labels: {split: TP 4}, plan: {tp: 4, dp: 2}}
table: [split, step_s, mfu, memory_fits]
"""


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.yaml").write_text(SMALL)
    return tmp_path


def run(*words):
    return CliRunner().invoke(main, ["report", *words])


@pytest.mark.slow
def test_a_page_is_written_with_what_stands_beside_it(small):
    done = run("small.yaml", "-o", "out/r.html", "--markdown", "--slide", "out/s.png")
    assert done.exit_code == 0, done.output
    assert sorted(file.name for file in (small / "out").iterdir()) == ["r.html", "r.md", "s.png"]
    html = (small / "out" / "r.html").read_text()
    rows = simgpu.run_experiment("small.yaml").rows
    for row in rows:
        assert f'data-value="{row["step_s"]!r}"' in html
    assert "80 % interval" in done.output and "&lt;b&gt;small&lt;/b&gt;" in html and "small.yaml:" in html
    assert "calibrated on this GPU" in html and "simgpu report small.yaml" in html and str(small) not in html


def test_a_finished_run_says_the_same_as_the_experiment(small):
    ran = CliRunner().invoke(main, ["run", "small.yaml", "-o", "ran", "--no-plots"])
    assert ran.exit_code == 0
    first = simgpu.report("small.yaml", value="step_s").answers
    assert [one.split(":")[1] for one in simgpu.report("ran/result.json").answers] == [
        one.split(":")[1] for one in first
    ]
    assert not (small / "review.html").exists()
    (of_file,), (of_rows,) = (simgpu.report(one, value="step_s").subjects for one in ("small.yaml", "ran/result.json"))
    assert {(one.key, one.value) for one in of_rows.inputs} == {(one.key, one.value) for one in of_file.inputs}
    assert any(one.key.startswith("gpu.kernel.") for one in of_rows.inputs)


def test_claims_and_a_store_go_on_the_page(small):
    swept = CliRunner().invoke(
        main, ["sweep", "small.yaml", "--store", "s.sqlite", "--no-plots", "-j", "1", "-o", "sw"]
    )
    assert swept.exit_code == 0, swept.output
    (small / "c.yaml").write_text(
        "id: c\nkind: memory\nsource: {article: a, section: s}\ntitle: t\nrows:\n"
        "  - {label: w, model: llama-2-13b, precision: fp16, gpu: l4, parameters_b: 13, weights_gb: '~26'}\n"
    )
    done = run("s.sqlite", "c.yaml")
    assert done.exit_code == 0, done.output
    assert "Of 1 printed figure:" in done.output and "80 % interval" in done.output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.yaml"], "nothing.yaml: no such file"),
        (["small.yaml", "-o", "r.txt"], "expected .html"),
        (["small.yaml", "--value", "stp_s"], "did you mean 'step_s'"),
        (["bad.json"], "bad.json:1: is not valid JSON"),
        (["empty.json"], "has no rows"),
        (["empty.json", "--set", "plan.tp=1"], "--set: changes an experiment"),
        (["empty.json", "--tornado"], "--tornado: varies the inputs"),
    ],
)
def test_what_cannot_be_reported_is_one_line(small, words, said):
    (small / "bad.json").write_text("{")
    (small / "empty.json").write_text(json.dumps({"rows": []}))
    done = run(*words)
    assert done.exit_code == 2 and said in done.output and len(done.output.strip().splitlines()) == 1
    assert not list(small.glob("*.html"))


@pytest.mark.slow
def test_a_search_a_recommendation_and_a_tornado_go_on_the_page(small):
    done = run("a100_or_4090")
    assert done.exit_code == 0 and "ranks first of 4" in done.output
    done = run("small.yaml", "--tornado")
    assert done.exit_code == 0 and "What would change the answer" in (small / "review.html").read_text()
    (small / "find.yaml").write_text(SMALL.partition("cases:")[0] + "search: {space: {tp: [4, 8]}}\n")
    done = run("find.yaml")
    assert done.exit_code == 0 and "ranks first" in done.output, done.output
