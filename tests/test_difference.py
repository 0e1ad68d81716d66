"""Two scenarios side by side: shares add up, order does not decide, errors in common cancel."""

from __future__ import annotations

import json
from math import log

import pytest
from click.testing import CliRunner

import simgpu
from simgpu.analysis.comparison import Term, Unsure, chance_above_one, contributions, ratio_range
from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.render.difference import verdict_text
from simgpu.study.experiment.running import load_experiment
from simgpu.study.experiment.selection import case_names, split_row
from simgpu.study.whatif.shapley import EXACT, needed, shares
from simgpu.timing.kernels import Uncertainty

CATALOGUE = Catalogue()

TRAINING = """\
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  workload: {kind: training, batch: 16, tokens: 2048}
  plan: {tp: 2, dp: 4, micro_batch: 1}
cases:
  - {labels: {run: as it is}}
  - {labels: {run: recomputed}, plan.recompute: full}
  - {labels: {run: other split}, plan: {tp: 4, dp: 2}}
  - {labels: {run: older}, cluster: dgx-a100, plan.recompute: full}
  - {labels: {run: larger}, workload.batch: 32}
"""


@pytest.fixture
def training(tmp_path):
    file = tmp_path / "runs.yaml"
    file.write_text(TRAINING)
    return file


def compared(a, b, **how):
    return simgpu.diff(a, b, catalogue=CATALOGUE, **how)


# ---- diff --------------------------------------------------------------------------------------------


def test_a_scenario_does_not_differ_from_itself(training):
    found = compared(f"{training}:1", f"{training}:as it is")
    assert list(found.inputs) == list(found.explained) == []
    assert all(row["difference_s"] == 0 for row in found.parts)
    assert (found.verdict.ratio, found.verdict.p10, found.verdict.p90) == (1, 1, 1)
    assert found.verdict.chance == 0.5 and not found.verdict.sure
    assert verdict_text(found.document()).startswith("No difference: ")


@pytest.mark.parametrize("row", ["recomputed", "other split", "older"])
def test_parts_and_shares_add_up_to_the_difference(training, row):
    found = compared(f"{training}:1", f"{training}:{row}")
    a, b = found.values
    *parts, whole = found.parts
    assert whole["part"] == "step_s" and whole["difference_s"] == pytest.approx(b - a)
    assert sum(part["difference_s"] for part in parts) == pytest.approx(b - a, abs=2e-5 * a)
    assert sum(one["explains"] for one in found.explained) == pytest.approx(b - a, rel=1e-9)
    assert sum(one["share"] for one in found.explained) == pytest.approx(1)


def test_swapping_the_two_swaps_every_sign_and_the_ratio(training):
    there, back = compared(f"{training}:1", f"{training}:4"), compared(f"{training}:4", f"{training}:1")
    assert not there.exact  # many physical inputs: one order and its reverse
    shares_there = {one["what"]: one["explains"] for one in there.explained}
    shares_back = {one["what"]: -one["explains"] for one in back.explained}
    assert shares_there == pytest.approx(shares_back, rel=1e-6, abs=1e-9)
    one, other = there.verdict, back.verdict
    assert (one.ratio, one.p10, one.p90) == pytest.approx((1 / other.ratio, 1 / other.p90, 1 / other.p10))
    assert one.chance == pytest.approx(1 - other.chance)
    assert one.sure and one.ratio < 1  # the newer machine without recomputation is faster for sure
    assert "A is" in verdict_text(there.document()) and "B is" in verdict_text(back.document())


def test_other_hardware_is_taken_apart_into_physical_inputs(training):
    found = compared(f"{training}:2", f"{training}:4")  # the same but for the cluster
    named = {one["what"]: one["explains"] for one in found.explained}
    assert {"Tensor peak", "HBM bandwidth", "NVLink bandwidth", "all other hardware"} <= set(named)
    assert named["Tensor peak"] > named["HBM bandwidth"] > 0
    shown = {row["title"]: (row["a"], row["b"]) for row in found.inputs if row["asked"]}
    assert shown["HBM bandwidth"] == (3.35e12, 2.039e12)
    assert shown["cluster"] == ("dgx-h100", "dgx-a100") and shown["GPU"] == ("h100-sxm", "a100-sxm-80gb")
    assert len(shown) < 20 < sum(not row["asked"] for row in found.inputs)


def test_figures_of_one_input_are_one_difference(training):
    faster = ["link.nvlink-4.lane_bandwidth=50 GB/s", "gpu.memory.bandwidth=4.8 TB/s"]
    found = compared(f"{training}:1", f"{training}:1", settings_b=faster)
    named = {one["what"]: one["explains"] for one in found.explained}
    assert set(named) == {"NVLink bandwidth", "HBM bandwidth"} and max(named.values()) < 0
    assert found.exact and {row["source_b"] for row in found.inputs if row["asked"]} == {"--set"}
    assert found.verdict.p90 / found.verdict.p10 < 1.05  # the same kernels: what they are off by is the same


def test_a_constant_set_by_hand_is_shown_and_explained_by_its_key(training):
    found = compared(f"{training}:1", f"{training}:1", settings_b=["gpu.kernel.gemm.default.compute_fraction=0.5"])
    assert [row["key"] for row in found.inputs if row["asked"]] == ["gpu.kernel.gemm.default.compute_fraction"]
    assert [one["what"] for one in found.explained] == ["gpu.kernel.gemm.default.compute_fraction"]
    assert found.verdict.ratio < 0.9


def test_degrees_of_the_plan_are_one_difference(training):
    found = compared(f"{training}:1", f"{training}:3")
    assert [one["what"] for one in found.explained] == ["TP, DP"]
    assert found.explained[0]["share"] == pytest.approx(1)


def test_what_cannot_be_changed_by_itself_is_changed_together(tmp_path):
    file = tmp_path / "boxes.yaml"
    file.write_text("""\
scenario: {model: llama-3.1-8b, workload: {kind: inference, batch: 1, prompt: 512, output: 32}}
cases:
  - {labels: {box: one GPU}, cluster: h100-sxm}
  - {labels: {box: eight GPUs}, cluster: dgx-h100, plan.tp: 8}
""")
    found = compared(f"{file}:1", f"{file}:2")
    assert [one["what"] for one in found.explained] == ["all other hardware + TP"]
    assert found.column == "tpot_s" and found.verdict.ratio > 1.3
    assert "A runs on 1 GPU, B on 8." in found.notes


def test_other_work_is_compared_by_its_rate(training):
    found = compared(f"{training}:1", f"{training}:5")
    assert found.column == "tokens_per_s_per_gpu"
    assert any("32,768 tokens, one of B 65,536" in note for note in found.notes)
    by_time = compared(f"{training}:1", f"{training}:5", value="step_s")
    assert by_time.verdict.ratio < 0.6 < 0.9 < found.verdict.ratio


def test_a_column_without_error_bars(training):
    found = compared(f"{training}:1", f"{training}:2", value="activations_memory_bytes")
    assert found.verdict.p10 is None and found.verdict.ratio > 1.05 and found.verdict.sure
    assert "has no error bars" in verdict_text(found.document())


def test_a_difference_that_nobody_could_measure_is_none(training):
    found = compared(f"{training}:1", f"{training}:1", settings_b=["gpu.memory.bandwidth=3.36 TB/s"])
    assert found.verdict.p10 > 1 and not found.verdict.sure
    assert "below run-to-run noise" in verdict_text(found.document())


@pytest.mark.parametrize("file", ["latency_throughput:1", "llama70b_tp:3", "tp2_scaling:2", "mig_7x:1"])
def test_every_kind_of_job_has_parts_that_add_up(file):
    found = compared(file, file, settings_b=["gpu.memory.bandwidth=0.4 TB/s"])
    *parts, whole = found.parts
    for side in ("a_s", "b_s"):
        assert sum(part[side] for part in parts) == pytest.approx(whole[side], rel=2e-5)
    assert whole["difference_s"] > 0 and len(parts) >= 2


@pytest.mark.parametrize(
    "a, b, how, problem",
    [
        ("tp2_scaling", "tp2_scaling:1", {}, "A: 'tp2_scaling' has 8 rows; say which"),
        ("tp2_scaling:1", "tp2_scaling:9", {}, "B: row 9 is not there; expected 1 to 8"),
        ("tp2_scaling:published", "tp2_scaling:1", {}, "A: 'published' matches rows 1, 3, 5, 7"),
        ("tp2_scaling:1", "gpt3_plans:1", {}, "A is operators and B is training"),
        ("tp2_scaling:1", "tp2_scaling:2", {"value": "stp_s"}, "did you mean 'step_s'"),
        ("tp2_scaling:1", "tp2_scaling:2", {"settings_b": ["gpu.memry=3"]}, "--set-b: gpu.memry"),
        ("tp3_scaling:1", "tp2_scaling:2", {}, "names like it: tp2_scaling"),
    ],
)
def test_bad_requests_are_one_line(a, b, how, problem):
    with pytest.raises(InputError) as caught:
        compared(a, b, **how)
    assert problem in str(caught.value)


@pytest.mark.slow
def test_the_command_prints_tables_or_one_document(training):
    done = CliRunner().invoke(main, ["diff", f"{training}:1", f"{training}:2"])
    assert done.exit_code == 0, done.output
    assert "plan.recompute   none   full" in done.stdout and "runs.yaml:8" in done.stdout
    assert "What explains step" in done.stdout and "beyond the error bars" in done.stdout
    document = json.loads(
        CliRunner().invoke(main, ["diff", "--format", "json", f"{training}:1", f"{training}:2"]).stdout
    )
    assert document["verdict"]["sure"] and document["value_a"] < document["value_b"]
    assert {"inputs", "parts", "explained", "notes"} <= set(document)
    every = CliRunner().invoke(main, ["diff", "--all", f"{training}:1", f"{training}:4"]).stdout
    assert "gpu.kernel." in every


def test_rows_are_named_by_labels_and_by_what_the_file_varies():
    assert (
        case_names(load_experiment(CATALOGUE.find("experiments", "latency_throughput"), (), CATALOGUE))[8]
        == "2 x TP 4, concurrency 16"
    )
    assert split_row("file.yaml:a: b") == ("file.yaml", "a: b")
    assert split_row("file.yaml") == ("file.yaml", None)


# ---- shares ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 3, EXACT, EXACT + 2])
def test_shares_add_up_and_ask_for_no_more_than_they_say(count):
    weights = [1.0, -2.0, 4.0, 0.5, 3.0, 7.0, -1.5][:count]
    allowed = {frozenset[int](), frozenset(range(count)), *needed(count)}

    def value(made):
        assert made in allowed
        return sum(weights[one] for one in made) + 0.1 * len(made) ** 2

    found = shares(count, value)
    assert sum(found.explains) == pytest.approx(sum(weights) + 0.1 * count**2)
    assert found.explains == pytest.approx([weight + 0.1 * count for weight in weights])  # all interact alike
    assert found.alone == pytest.approx([weight + 0.1 for weight in weights])
    assert found.exact == (count <= EXACT)


def test_an_interaction_is_shared_by_those_who_make_it():
    found = shares(3, lambda made: 6.0 if {0, 1} <= made else 0.0)
    assert found.explains == pytest.approx([3, 3, 0])
    assert found.alone == [0, 0, 0]


# ---- errors ------------------------------------------------------------------------------------------


def term(seconds, key="k", group="gemm", high=1.2, low=0.9, correlated=0.5):
    return Term(seconds, Uncertainty(group, low, high, correlated), key, group)


def test_equal_errors_cancel_and_strange_ones_do_not():
    same = ratio_range(Unsure(1.0, [term(1.0)]), Unsure(2.0, [term(2.0)]))
    assert (same.p10, same.p90) == (1, 1)
    related = ratio_range(Unsure(1.0, [term(1.0)]), Unsure(1.0, [term(1.0, key="other")]))
    strange = ratio_range(Unsure(1.0, [term(1.0)]), Unsure(1.0, [term(1.0, key="other", group="gemm elsewhere")]))
    assert 1 < related.p90 < strange.p90
    assert log(strange.p90) == pytest.approx(-log(strange.p10))  # two alike: either may be the slower one


def test_only_the_part_that_differs_makes_a_ratio_unsure():
    shared, own = term(0.9), term(0.1, key="own", group="attention")
    found = ratio_range(Unsure(1.0, [shared, own]), Unsure(0.9, [shared]))
    assert found.p90 - 1 < 0.05


def test_the_error_of_whole_runs_counts_where_it_is_wider():
    wide = term(1.0, key="run a", group="runs", high=1.5, low=0.6)
    other = term(1.0, key="run b", group="runs elsewhere", high=1.5, low=0.6)
    kernels = [term(1.0)]
    found = ratio_range(Unsure(1.0, kernels, wide, adds=False), Unsure(1.0, kernels, other, adds=False))
    assert found.p90 > 1.5
    assert Unsure(1.0, kernels, wide, adds=False).runs_decide
    assert not Unsure(1.0, kernels, None, adds=False).runs_decide


def test_contributions_are_shares_of_the_squared_width():
    found = contributions(Unsure(3.0, [term(2.0), term(1.0, key="a", group="attention")]))
    assert list(found) == ["gemm", "attention"]
    assert found["gemm"] == pytest.approx(0.8) and sum(found.values()) == pytest.approx(1)


def test_the_chance_follows_the_interval():
    assert chance_above_one(1.2, 1.0, 1.4) == pytest.approx(0.9)
    assert chance_above_one(1 / 1.2, 1 / 1.4, 1.0) == pytest.approx(0.1)
    assert chance_above_one(1.0, 0.9, 1.1) == 0.5
    assert chance_above_one(1.1, 1.1, 1.1) == 1.0


# ---- inputs by name, factors, and changes that move nothing ------------------------------------------

NIC = """\
experiment: nic
scenario:
  model: llama-3.2-1b
  cluster: dgx-h100-ib
  workload: {kind: training, batch: 32, tokens: 2048}
  plan: {dp: 16, micro_batch: 1, zero: 1}
"""


def test_an_input_goes_by_the_name_of_the_tables_and_takes_a_factor_or_a_quantity(tmp_path):
    file = tmp_path / "nic.yaml"
    file.write_text(NIC)
    by_name = compared(file, file, settings_b=["NIC bandwidth=2x"])
    by_key = compared(file, file, settings_b=["link.infiniband-ndr.lane_bandwidth=2x"])
    by_value = compared(file, file, settings_b=["nic_bandwidth=100 GB/s"])
    assert by_name.verdict == by_key.verdict == by_value.verdict
    assert by_name.verdict.ratio > 1


@pytest.mark.parametrize(
    "setting, told",
    [
        ("NIC bandwith=2x", "did you mean 'NIC bandwidth'"),
        ("NIC bandwidth=7 TFLOPS", "neither a factor, such as 2x, nor a quantity in B/s"),
        ("NIC bandwidth=0x", "above 0"),
        ("node.nic.port.bandwidth=2x", "there is no figure to multiply"),
        ("gpu.host_link.link=2x", "there is no figure to multiply"),
    ],
)
def test_a_wrong_name_or_factor_is_one_line(tmp_path, setting, told):
    file = tmp_path / "nic.yaml"
    file.write_text(NIC)
    with pytest.raises(InputError, match=told) as refused:
        compared(file, file, settings_b=[setting])
    assert str(refused.value).startswith("--set-b: ")


def test_a_change_that_moves_nothing_says_what_limits_instead(tmp_path):
    file = tmp_path / "nic.yaml"
    file.write_text(NIC)
    port = compared(file, file, settings_b=["node.nic.port.bandwidth=100 GB/s"])
    assert port.verdict.ratio == 1
    (note,) = [note for note in port.notes if "NIC bandwidth" in note]
    assert "link.infiniband-ndr.lane_bandwidth still limits" in note and "--set-b 'NIC bandwidth=2x'" in note
    capacity = compared(file, file, settings_b=["gpu.memory.capacity=2x"])
    assert any("gpu.memory.capacity limits nothing here; what does: " in note for note in capacity.notes)
    same = compared(file, file)
    assert not any("limits" in note for note in same.notes)
