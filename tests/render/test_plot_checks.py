"""What an experiment file asks to be drawn and cannot be: one line with file and line, nothing written."""

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main

TEXT = """\
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  workload: {kind: prefill, batch: 1, tokens: 256}
cases:
  - {labels: {setup: one, claimed_step_s: 0.01}}
  - {labels: {setup: two, claimed_step_s: 0.01}, plan.tp: 2}
plots:
  - {PLOT}
"""

CASES = {
    "x of a kind that has none": ("kind: topology, x: tp, where: {tp: 2}", "plots.0.x", "is not supported"),
    "several rows": ("kind: topology", "plots.0.kind", "2 rows; a plot of kind topology draws one"),
    "several rows of a timeline": ("kind: timeline", "plots.0.kind", "2 rows"),
    "window after the step": ("kind: timeline, where: {tp: 2}, window: [5, 6]", "plots.0.window", "begins after"),
    "window backwards": ("kind: timeline, where: {tp: 2}, window: [2, 1]", "plots.0.window", "a later end"),
    "window of another kind": ("kind: bar, x: setup, y: [step_s], window: [0, 1]", "plots.0.window", "only steps and"),
    "ranks of another kind": ("kind: bar, x: setup, y: [step_s], ranks: 2", "plots.0.ranks", "only timeline"),
    "no ranks": ("kind: timeline, where: {tp: 2}, ranks: 0", "plots.0.ranks", "0 is not a whole number from 1 to 16"),
    "nothing that scales": ("kind: scaling, x: tp, y: [tp]", "plots.0.y.0", "neither a time nor a rate"),
    "text that scales": ("kind: scaling, x: setup", "plots.0.x", "not a number"),
    "two on one line": ("kind: scaling, x: dp, y: [step_s]", "plots.0.x", "several rows have dp = 1"),
    "two columns that scale": ("kind: scaling, y: [step_s, mfu]", "plots.0.y", "2 columns"),
    "not the number of GPUs": ("kind: scaling, x: step_s", "plots.0.x", "not the number of GPUs"),
    "front of one number": ("kind: pareto, x: step_s, y: []", "plots.0.y", "needs one"),
    "front without a direction": ("kind: pareto, x: step_s, y: [tp]", "plots.0", "{tp: lower}"),
    "direction of something else": ("kind: pareto, x: step_s, y: [mfu], better: {dp: lower}", "plots.0.better.dp",
                                    "neither x nor y"),
    "direction unknown": ("kind: pareto, x: step_s, y: [tp], better: {tp: best}", "plots.0.better.tp", "'best'"),
    "nothing chosen": ("kind: pareto, x: step_s, y: [mfu], chosen: {tp: 8}", "plots.0.chosen", "no rows have"),
    "two chosen": ("kind: pareto, x: step_s, y: [mfu], chosen: {dp: 1}", "plots.0.chosen", "2 rows have"),
    "chosen column": ("kind: pareto, x: step_s, y: [mfu], chosen: {tpp: 1}", "plots.0.chosen.tpp", "no column 'tpp'"),
    "chosen of another kind": ("kind: bar, x: setup, y: [step_s], chosen: {tp: 1}", "plots.0.chosen", "only pareto"),
    "parity without a figure": ("kind: parity, y: [mfu]", "plots.0.kind", "no column 'claimed_mfu'"),
    "parity with text": ("kind: parity, x: setup, y: [mfu]", "plots.0.x", "not a number"),
    "heatmap without a side": ("kind: heatmap, x: tp, y: [mfu]", "plots.0.series", "is missing"),
    "heatmap of equal rows": ("kind: heatmap, x: dp, series: pp, y: [mfu]", "plots.0.series", "no column 'pp'"),
    "label of another kind": ("kind: scaling, x: tp, y: [step_s], label: setup", "plots.0.label", "labels are of"),
    "marks of another kind": ("kind: line, x: tp, y: [mfu], marks: {mfu: tp}", "plots.0.marks", "only bar"),
    "no such rows": ("kind: heatmap, x: tp, series: setup, y: [mfu], where: {tp: 3}", "plots.0.where", "no row has"),
    "unknown kind": ("kind: piechart, x: tp", "plots.0.kind", "'piechart'"),
}  # fmt: skip

ONLY_ROWS_TELL = {
    "several rows", "several rows of a timeline", "window after the step", "nothing that scales", "text that scales",
    "two on one line", "not the number of GPUs", "nothing chosen", "two chosen", "parity without a figure",
    "parity with text", "heatmap of equal rows", "no such rows",
}  # fmt: skip
"""The others are told before a row runs."""


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_be_drawn_is_said_in_one_line(name, tmp_path, monkeypatch):
    plot, key, words = CASES[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text(TEXT.replace("PLOT", plot))
    result = CliRunner().invoke(main, ["run", "e.yaml", "--quiet"])
    assert result.exit_code == 2, result.output
    assert result.stderr.startswith(f"simgpu: e.yaml:9: {key}: ") and words in result.stderr, result.stderr
    assert result.stderr.count("\n") == 1
    if name in ONLY_ROWS_TELL:
        written = {file.name for file in (tmp_path / "results/e").iterdir()}
        assert written == {"result.json", "rows.csv", "trace.json"} and "llama" in result.stdout
    else:
        assert not (tmp_path / "results").exists() and result.stdout == ""


def test_what_cannot_be_drawn_is_told_before_a_row_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("simgpu.study.experiment.running.run_scenario", lambda *_: pytest.fail("ran a row"))
    for plot in (
        "kind: bar, x: setup, y: [step]",
        "kind: bar, x: cluste, y: [step_s]",
        "kind: heatmap, x: tp, y: [mfu]",
    ):
        (tmp_path / "e.yaml").write_text(TEXT.replace("PLOT", plot))
        for command in ("run", "sweep"):
            result = CliRunner().invoke(main, [command, "e.yaml"])
            assert result.exit_code == 2 and result.stderr.startswith("simgpu: e.yaml:9: plots.0."), result.output


def test_the_other_plots_are_drawn(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    three = TEXT.replace("{PLOT}", "{kind: bar, x: setup, y: [mfu], name: good}")
    three += "  - {kind: line, x: setup, y: [mfu], name: odd}\n  - {kind: bar, x: setup, y: [step_s], name: fine}\n"
    (tmp_path / "e.yaml").write_text(three)
    for command in ("run", "sweep"):
        result = CliRunner().invoke(main, [command, "e.yaml", "--out", command])
        assert result.exit_code == 2 and "simgpu: e.yaml:10: plots.1.x: 'setup' is not a number" in result.stderr
        assert {file.stem for file in (tmp_path / command).glob("*.png")} == {"good", "fine"}
    outcome = simgpu.run_experiment("e.yaml")
    assert set(simgpu.figures(outcome)) == {"good", "fine"} and list(outcome.undrawn) == [1]


GOOD = "kind: topology, name: links, where: {tp: 2}"


def test_the_file_and_the_command_choose_the_formats(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text("formats: [pdf]\n" + TEXT.replace("PLOT", GOOD))

    def written(*options):
        result = CliRunner().invoke(main, ["run", "e.yaml", "--out", "r", *options])
        assert result.exit_code == 0, result.output
        return {file.name: file.read_bytes()[:5] for file in (tmp_path / "r").glob("links.*")}

    assert written() == {"links.pdf": b"%PDF-"}
    assert set(written("--plot-format", "png", "--plot-format", "svg")) == {"links.pdf", "links.png", "links.svg"}
    refused = CliRunner().invoke(main, ["run", "e.yaml", "--no-plots", "--plot-format", "png"])
    assert refused.exit_code == 2 and "--no-plots" in refused.stderr


def test_an_unknown_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "e.yaml").write_text("formats: [jpg]\n" + TEXT.replace("PLOT", GOOD))
    result = CliRunner().invoke(main, ["run", "e.yaml"])
    assert (
        result.exit_code == 2
        and "e.yaml:1: formats.0: 'jpg' is not known; expected one of pdf, png, svg" in result.stderr
    )
