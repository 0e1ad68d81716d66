"""`--set` of a key that a file varies leaves one value of it; columns that it takes away are left out, and said."""

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.cli import main
from simgpu.errors import InputError

BASE = {
    "model": "llama-3.2-1b",
    "cluster": "dgx-h100",
    "workload": {"kind": "inference", "batch": 1, "prompt": 64, "output": 8},
}


def run(*settings, **said):
    return simgpu.run_experiment({"experiment": "x", "scenario": BASE, **said}, *settings)


@pytest.mark.parametrize(
    ("vary", "setting", "column", "value"),
    [
        ({"workload.batch": [1, 2, 4]}, "workload.batch=3", "workload.batch", 3),
        ({"plan.tp": [1, 2]}, "plan.tp=4", "tp", 4),
        ({"gpu.memory.bandwidth": ["2 TB/s", "3 TB/s"]}, "gpu.memory.bandwidth=1 TB/s", "gpu.memory.bandwidth", 1e12),
        ({"cluster": ["dgx-h100", "dgx-a100"]}, "cluster=l4", "cluster", "l4"),
    ],
)
def test_a_varied_key_that_is_set_has_one_value_and_keeps_its_column(vary, setting, column, value):
    rows = run(setting, vary=vary, table=[column, "step_s"]).rows
    assert [row[column] for row in rows] == [value]


def test_keys_beside_it_still_vary():
    rows = run("plan.tp=2", vary={"plan.tp": [1, 2, 4], "workload.batch": [1, 2]}).rows
    assert [(row["tp"], row["batch"]) for row in rows] == [(2, 1), (2, 2)]
    zipped = run("plan.tp=2", zip=[{"plan.tp": [1, 8], "workload.batch": [8, 1]}], table=["tp", "workload.batch"]).rows
    assert [(row["tp"], row["workload.batch"]) for row in zipped] == [(2, 8), (2, 1)]


def test_a_mapping_in_place_of_a_varied_key_is_one_clear_line():
    with pytest.raises(InputError, match=r"--set: workload: holds 'workload.batch', which .* varies; expected a value"):
        run("workload={kind: prefill, batch: 2, tokens: 8}", vary={"workload.batch": [1, 2]})


COST = """\
experiment: x
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: inference, batch: 1, prompt: 64, output: 8}
  cost: {price: owned, utilisation: 0.6}
table: [batch, usd_per_gpu_hour, break_even_utilisation]
"""


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_columns_that_a_setting_takes_away_are_left_out_and_named(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(COST)
    runner = CliRunner()
    before = runner.invoke(main, [command, "x.yaml"])
    assert before.exit_code == 0 and "break-even" in before.stdout
    after = runner.invoke(main, [command, "x.yaml", "--price", "on_demand"])
    assert after.exit_code == 0, after.output
    assert "break-even" not in after.stdout
    assert "No row has break_even_utilisation now" in " ".join(after.stdout.split())


def test_a_column_that_the_files_own_rows_lack_is_an_error():
    with pytest.raises(InputError, match="no column 'break_even_utilisation' in the rows"):
        run(table=["break_even_utilisation"])


PLOTTED = """\
experiment: x
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100
  workload: {kind: prefill, batch: 1, tokens: 64}
vary:
  plan.tp: [1, 2]
plots:
  - {kind: bar, x: tp, y: [step_s], name: two, where: {tp: 2}}
  - {kind: bar, x: tp, y: [step_s], name: all}
"""


@pytest.mark.parametrize("command", ["run", "sweep"])
def test_a_plot_of_rows_that_a_setting_takes_away_is_no_fault(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yaml").write_text(PLOTTED)
    done = CliRunner().invoke(main, [command, "x.yaml", "--set", "plan.tp=4", "-o", "out", "--plot-format", "png"])
    assert done.exit_code == 0, done.output
    assert "x.yaml:9: plots.0.where: no row has {'tp': 2}" in " ".join(done.output.split())
    assert [file.name for file in (tmp_path / "out").glob("*.png")] == ["all.png"]


@pytest.mark.parametrize("words", [["lint", "hardware/links"], ["lint", "h100-sxm"], ["lint", "nvlink-4"]])
def test_parts_of_the_catalogue_are_named_from_any_folder(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0 and "0 doubts" in done.output


def test_a_file_of_ones_own_goes_before_the_catalogues(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    catalogue = simgpu.Catalogue()
    assert catalogue.place("experiments/claims").is_absolute()
    (tmp_path / "experiments/claims").mkdir(parents=True)
    assert str(catalogue.place("experiments/claims")) == "experiments/claims"
    assert str(catalogue.place("no/such")) == "no/such"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("workload.prompt.mean=5", "workload.prompt is 64, which has no keys such as 'mean'"),
        ("plan.tp.x.y=1", "plan.tp is 1, which has no keys such as 'x'"),
        ("model.layers=4", "model is 'llama-3.2-1b', which has no keys such as 'layers'"),
    ],
)
def test_a_key_below_a_plain_value_says_what_stands_there(setting, said):
    with pytest.raises(InputError, match=said):
        run(setting, vary={"plan.tp": [1]})
