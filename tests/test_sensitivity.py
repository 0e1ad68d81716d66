"""Sensitivities obey the laws of scaling, find what a scenario hangs on, and say what they cannot."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.render.sensitivity import print_sensitivity
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment.running import load_experiment, run_case
from simgpu.study.whatif.inputs import inputs_of
from simgpu.study.whatif.runs import with_hardware
from simgpu.study.whatif.sensitivity import COLUMNS, Asked, parse_change, sensitivities

CATALOGUE = Catalogue()

MIXED = """\
scenario:
  cluster: dgx-h100-ib
  dtype: bf16
  plan: {tp: 8, dp: 2}
  model: llama-3.1-8b
  workload: {kind: prefill, batch: 2, tokens: 2048}
"""


def written(tmp_path, text, name="what.yaml"):
    file = tmp_path / name
    file.write_text(text)
    return file


def operators(*items, cluster="h100-sxm", tp=1):
    lines = "".join(f"      - {item}\n" for item in items)
    return (
        f"scenario:\n  cluster: {cluster}\n  dtype: bf16\n  plan: {{tp: {tp}}}\n  workload:\n    kind: operators\n"
        + (f"    operators:\n{lines}")
    )


def of(found):
    return {row["input"]: row for row in found.rows}


def only(file, **asked):
    (found,) = simgpu.sensitivity(file, catalogue=CATALOGUE, **asked)
    return found


# ---- laws --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "side", "kept"), [(1_750_000, "less", "more"), (1_620_000, "more", "less")])
def test_where_nccl_switches_there_is_a_jump_and_no_elasticity(tmp_path, size, side, kept):
    """Two H100: a tenth of NVLink's bandwidth decides between LL and Simple, which takes 38 % longer at these sizes."""
    found = only(written(tmp_path, operators(f"{{op: all_reduce, bytes: {size}}}", cluster="dgx-h100", tp=2)))
    row = of(found)["nvlink_bandwidth"]
    jump = row[f"value_{side}"] / row["value"]
    assert jump == pytest.approx(1 / 1.38 if side == "less" else 1.38, rel=0.02)
    assert "NCCL chooses differently" in row["remark"]
    assert "ring/ll" in row["remark"]
    assert "opposite of what one expects" in row["remark"]
    assert row[f"elasticity_{side}"] is None
    assert row["elasticity"] == row[f"elasticity_{kept}"]
    assert -1 <= row["elasticity"] <= 0
    assert row["gain"] < 0.1  # what the slower link seems to buy is none of its merits


def test_streaming_hangs_on_the_bandwidth_alone(tmp_path):
    found = only(written(tmp_path, operators("{op: pointwise, rows: 262144, width: 8192, reads: 1, writes: 1}")))
    rows = of(found)
    assert rows["hbm_bandwidth"]["elasticity"] == pytest.approx(-1, abs=0.01)
    assert rows["tensor_peak"]["elasticity"] == 0
    assert rows["hbm_capacity"]["elasticity"] == 0
    assert found.rows[0]["input"] == "hbm_bandwidth"
    assert rows["hbm_bandwidth"]["gain"] == pytest.approx(1 - 1 / 1.1, abs=0.002)


def test_a_large_product_hangs_on_the_peak(tmp_path):
    rows = of(only(written(tmp_path, operators("{op: matmul, m: 16384, n: 16384, k: 16384}"))))
    assert rows["tensor_peak"]["elasticity"] < -0.85
    assert abs(rows["hbm_bandwidth"]["elasticity"]) < 0.05


def test_a_tiny_message_hangs_on_latencies(tmp_path):
    text = operators("{op: all_reduce, bytes: 1 kB}", cluster="dgx-h100", tp=8)
    found = only(written(tmp_path, text))
    times = sum(row["elasticity"] for row in found.rows if row["dimension"] == "time")
    assert times == pytest.approx(1, abs=0.02)
    assert of(found)["nvlink_latency"]["better_side"] == "less"


def test_all_rates_up_and_all_times_down_make_everything_faster_by_just_that(tmp_path):
    case = load_experiment(written(tmp_path, MIXED), (), CATALOGUE).cases[0]
    inputs = inputs_of(resolve_cluster(case.scenario, CATALOGUE, case.origins), "bf16", 16)
    figures = {}
    for one in inputs:
        if one.dimension != "other":
            figures |= one.scaled(1.1 if one.dimension == "rate" else 1 / 1.1)[1]
    base, fast = run_case(case, CATALOGUE), run_case(with_hardware(case, figures), CATALOGUE)
    assert fast.step_s == pytest.approx(base.step_s / 1.1, rel=1e-9)


@pytest.mark.parametrize("change", [0.01, 0.1])
def test_elasticities_add_up(tmp_path, change):
    found = only(written(tmp_path, MIXED), change=change)
    assert found.expected == -1
    assert found.total == pytest.approx(-1, abs=0.003 if change < 0.05 else 0.02)


@pytest.mark.slow
def test_a_rate_has_the_opposite_elasticities_of_its_time(tmp_path):
    time, rate = simgpu.sensitivity(written(tmp_path, MIXED), value=("step_s", "tokens_per_s"), catalogue=CATALOGUE)
    for name, row in of(time).items():
        assert of(rate)[name]["elasticity"] == pytest.approx(-row["elasticity"], abs=1e-9)
    assert rate.total == pytest.approx(-time.total)
    assert (time.expected, rate.expected) == (-1, 1)


# ---- inputs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["dgx-h100-ib", "rtx-4090-8x-ethernet", "gb200-nvl72-ib", "mi300x-8x", "l4", "apple-m1-7c"]
)
def test_inputs_are_found_are_disjoint_and_can_be_set(name):
    cluster = CATALOGUE.cluster(name)
    inputs = inputs_of(cluster, "bf16", cluster.gpu_count)
    seen: set[str] = set()
    for one in inputs:
        if not one.compound:
            assert not seen & set(one.figures), one
            seen |= set(one.figures)
    assert {"hbm_bandwidth", "hbm_capacity", "vector_peak", "sm_clock", "kernel_latency"} <= {
        one.name for one in inputs
    }
    assert any(one.name == "nic_bandwidth" for one in inputs) == (cluster.spec.fabric is not None)
    from simgpu.overrides import Override

    for one in inputs:
        if one.name == "power_limit":
            continue  # moves the clocks with it
        exact, figures = one.scaled(1.25)
        changed = CATALOGUE.cluster(name, [Override(key, value, "test") for key, value in figures.items()])
        again = {other.name: other for other in inputs_of(changed, "bf16", cluster.gpu_count)}[one.name]
        assert again.value == pytest.approx(one.value * exact), one.name
        assert again.figures == pytest.approx({key: float(text.split()[0]) for key, text in figures.items()}), one.name


def test_a_figure_that_the_scenario_sets_by_another_key_is_changed_all_the_same(tmp_path):
    text = operators("{op: matmul, m: 16384, n: 16384, k: 16384}") + "  hardware: {gpu.peak.bf16: 300 TFLOPS}\n"
    rows = of(only(written(tmp_path, text)))
    assert rows["tensor_peak"]["input_value"] == 300e12
    assert rows["tensor_peak"]["elasticity"] < -0.9


def test_counts_stay_whole_and_the_factor_says_so(tmp_path):
    row = of(only(written(tmp_path, operators("{op: matmul, m: 4096, n: 4096, k: 4096}"))))["sm_count"]
    assert (row["less"], row["more"]) == (119 / 132, 145 / 132)
    assert not row["summed"]


def test_more_power_helps_a_gpu_that_its_limit_holds_back_and_no_other(tmp_path):
    text = operators("{op: matmul, m: 8192, n: 8192, k: 8192}")
    held = of(only(written(tmp_path, text)))["power_limit"]
    assert held["value_less"] > held["value"] > held["value_more"]
    free = of(only(written(tmp_path, text.replace("h100-sxm", "h20-96gb")))).get("power_limit")
    assert free is None or free["value_more"] == free["value"]


def test_what_cannot_be_simulated_is_said_and_the_other_side_counts(tmp_path):
    text = operators("{op: matmul, m: 8192, n: 8192, k: 8192}").replace("h100-sxm", "h100-sxm@500W")
    row = of(only(written(tmp_path, text)))["power_limit"]
    assert row["value_less"] is None and "derived already" in row["remark"]


def test_memory_leaves_the_time_and_says_what_fits(tmp_path):
    text = """\
scenario:
  model: llama-3.1-8b
  cluster: h100-sxm
  workload: {kind: inference, batch: 8, prompt: 1024, output: 64}
"""
    found = only(written(tmp_path, text))
    assert found.column == "tpot_s"
    row = of(found)["hbm_capacity"]
    assert row["elasticity"] == 0
    assert "most_sequences" in row["remark"]
    assert "NIC bandwidth" not in {one["title"] for one in found.rows}
    assert found.doubts and sum(found.doubts.values()) == pytest.approx(1)
    more = only(written(tmp_path, text), value="most_sequences")
    assert of(more)["hbm_capacity"]["elasticity"] > 1  # weights take their part first


def test_one_machine_hangs_on_something_else_in_each_job():
    prefill, stream = simgpu.sensitivity("what_matters", case=(2, 3), catalogue=CATALOGUE)
    effects = [{name: abs(row["elasticity"]) for name, row in of(one).items()} for one in (prefill, stream)]
    assert effects[0]["tensor_peak"] > 5 * effects[0]["hbm_bandwidth"]
    assert effects[1]["hbm_bandwidth"] > 20 * effects[1]["tensor_peak"]
    assert effects[1]["kernel_latency"] > 10 * effects[0]["kernel_latency"]


# ---- cost --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_cost_is_proportional_to_its_price_and_goes_with_the_time(tmp_path):
    time, cost = simgpu.sensitivity(written(tmp_path, MIXED), value="step_s", price=2.5, catalogue=CATALOGUE)
    assert cost.column == "usd_per_step"
    assert cost.value == pytest.approx(2.5 / 3600 * 16 * time.value)
    assert of(cost)["price"]["elasticity"] == 1
    assert of(cost)["tensor_peak"]["elasticity"] == pytest.approx(of(time)["tensor_peak"]["elasticity"])
    assert "price" not in of(time)


def test_tokens_of_a_server_are_priced_by_the_million(tmp_path):
    text = """\
scenario:
  model: llama-3.1-8b
  cluster: h100-sxm
  workload: {kind: serving, concurrency: 16, prompt: 512, output: 128}
"""
    (cost,) = simgpu.sensitivity(written(tmp_path, text), price=3, catalogue=CATALOGUE)
    assert cost.value == pytest.approx(3 / 3600 / cost.base["output_tokens_per_s_per_gpu"] * 1e6)
    assert only(written(tmp_path, text)).column == "output_tokens_per_s_per_gpu"


# ---- asking ------------------------------------------------------------------------------------------


def test_changes_are_read_as_people_write_them():
    assert parse_change("10%") == parse_change("10 %") == parse_change(0.1) == pytest.approx(0.1)
    for wrong in ("x", "0%", "-5%", "901%", "nan", ""):
        with pytest.raises(InputError, match="--change"):
            parse_change(wrong)


@pytest.mark.parametrize("change", [0.3, 0.5, 1.0, 3.0])
def test_no_change_takes_all_of_an_input_away(change, tmp_path):
    """The less side of half and more is the inverse; headings say what each side is, and nothing cannot be asked."""
    text = "scenario: {model: llama-3.2-1b, cluster: h100-sxm, workload: {kind: prefill, tokens: 64}}"
    (one,) = simgpu.sensitivity(written(tmp_path, text), change=change, catalogue=CATALOGUE)
    rows = {row["input"]: row for row in one.rows}
    less, more = (rows["hbm_bandwidth"][side] for side in ("less", "more"))
    assert (less, more) == (pytest.approx(1 - change if change < 0.5 else 1 / (1 + change)), 1 + change)
    assert one.total == pytest.approx(-1, abs=0.15)
    out = io.StringIO()
    print_sensitivity(one.document(), out)
    assert f"{100 * (1 - less):.3g} % less" in out.getvalue() and f"{100 * change:g} % more" in out.getvalue()


@pytest.mark.parametrize(
    "asked, problem",
    [
        ({"cases": ["12"]}, "row 12 is not there; expected 1 to 9"),
        ({"cases": ["nope"]}, "no row is called 'nope'"),
        ({"cases": ["TP8"]}, "matches rows 1, 2, 3, 4, 5; expected one"),
        ({}, "9 rows; say which"),
        ({"cases": ["1"], "values": ["stp_s"]}, "did you mean 'step_s'"),
        ({"cases": ["1"], "values": ["schedule"]}, "'schedule' is not a number"),
        ({"cases": ["1"], "values": ["exposed_cp_s"]}, "is 0 here"),
        ({"cases": ["1"], "price": -1.0}, "--price: -1 is out of range"),
    ],
)
def test_bad_requests_are_one_line(asked, problem):
    experiment = load_experiment(CATALOGUE.find("experiments", "gpt3_plans"), (), CATALOGUE)
    with pytest.raises(InputError) as caught:
        sensitivities(experiment, CATALOGUE, Asked(**asked))
    assert problem in str(caught.value)


def test_the_command_prints_tables_data_and_a_tornado(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = written(tmp_path, operators("{op: matmul, m: 4096, n: 4096, k: 4096}"))
    done = CliRunner().invoke(main, ["sensitivity", str(file)])
    assert done.exit_code == 0, done.output
    assert "10 % more: " in done.stdout and " % better" in done.stdout
    assert "Check: the listed inputs together explain" in done.stdout
    folder = tmp_path / "results/what"
    names = {"sensitivity.json", "sensitivity.csv", "tornado.png", "tornado.svg"}
    assert {one.name for one in folder.iterdir()} == names
    svg = (folder / "tornado.svg").read_text()
    assert "Tensor peak (bf16, 989.4 TFLOP/s)" in svg and "matters most" in svg
    document = json.loads((folder / "sensitivity.json").read_text())
    rows = list(csv.DictReader(io.StringIO((folder / "sensitivity.csv").read_text())))
    assert set(rows[0]) == set(COLUMNS) == set(document["sensitivities"][0]["rows"][0])
    again = CliRunner().invoke(
        main, ["sensitivity", str(file), "--format", "csv", "--no-plots", "-q", "--out", "other"]
    )
    assert again.stdout == (folder / "sensitivity.csv").read_text()
    assert {one.name for one in (tmp_path / "other").iterdir()} == {"sensitivity.json", "sensitivity.csv"}


def test_an_experiment_file_can_ask_for_a_tornado(tmp_path):
    text = operators("{op: matmul, m: 4096, n: 4096, k: 4096}")
    text += "cases:\n  - {labels: {box: one}}\n  - {labels: {box: two}, gpu.memory.bandwidth: 1 TB/s}\n"
    text += "plots:\n  - {kind: tornado, x: box, name: hangs, title: Two boxes}\n"
    file = written(tmp_path, text)
    done = CliRunner().invoke(main, ["run", str(file), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    svg = (tmp_path / "out/hangs.svg").read_text()
    assert ">one<" in svg and ">two<" in svg and "Two boxes" in svg and svg.count("matters most") == 2


@pytest.mark.parametrize(
    "plot, problem",
    [
        ("{kind: tornado, x: box, y: [step_s, mfu]}", "has one, or none for the answer of the job"),
        ("{kind: tornado, x: box, y: [step]}", "no column 'step'"),
        ("{kind: tornado, x: box, y: [idle_s]}", "not above zero in every row"),
        ("{kind: tornado, x: box, series: box}", "is not supported for a plot of kind tornado"),
        ("{kind: tornado, x: dtype}", "several rows have dtype"),
    ],
)
def test_tornado_plots_that_cannot_be_drawn(tmp_path, plot, problem):
    text = operators("{op: matmul, m: 512, n: 512, k: 512}")
    text += f"cases:\n  - {{labels: {{box: one}}}}\n  - {{labels: {{box: two}}}}\nplots:\n  - {plot}\n"
    try:  # what the file shows is refused, what its rows show leaves the plot out
        (error,) = simgpu.run_experiment(written(tmp_path, text), catalogue=CATALOGUE).undrawn.values()
    except InputError as refused:
        error = refused
    assert problem in str(error)


def test_the_keys_of_a_row_are_documented():
    text = (Path(__file__).parents[1] / "docs/what-if.md").read_text()
    section = text[text.index("## Rows of a sensitivity") :]
    assert re.findall(r"^\| `([a-z_]+)` \| (.+) \|$", section, flags=re.M) == list(COLUMNS.items())
