"""simgpu explain: shares, bounds and fractions add up, every constant has a level and a source, bad input one line."""

import io
import json
import math
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu import Catalogue
from simgpu.analysis.breakdown import breakdown
from simgpu.cli import main
from simgpu.hardware.inherit import REGIMES
from simgpu.render.explain import print_explanations
from simgpu.study.experiment.running import load_experiment
from simgpu.study.report.explain import FIELDS, explain
from simgpu.timing.collectives import collective_time

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
BOUNDS = {"compute", "memory", "latency", "network", "measured"}

SERVING = """\
experiment: serving
scenario:
  model: llama-3-8b
  cluster: {cluster}
  dtype: {dtype}
  plan: {{tp: 2}}
  workload: {{kind: prefill, tokens: 512}}
"""

OPERATORS = """\
experiment: small
scenario:
  cluster: dgx-h100
  dtype: bf16
  workload:
    kind: operators
    repeat: 3
    operators:
      - {op: matmul, name: known, m: 512, n: 512, k: 512, time: 1 ms}
      - {op: matmul, name: predicted, m: 512, n: 512, k: 512}
      - {op: pointwise, name: norm, rows: 512, width: 4096}
"""


@cache
def explained(name):
    return explain(load_experiment(EXPERIMENTS / f"{name}.yaml", (), Catalogue()), Catalogue())


EVERY = [(name, i) for name, count in (("tp2_scaling", 8), ("llama70b_tp", 20)) for i in range(count)]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


# ---- what an explanation holds -----------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "i"), EVERY)
def test_operators_are_sorted_and_their_shares_are_parts_of_the_step(name, i):
    one = explained(name)[i]
    rows, row = one.operators, one.result.row
    times = [operator["time_s"] for operator in rows]
    assert times == sorted(times, reverse=True)
    shares = [operator["share"] for operator in rows]
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) <= 1 + 1e-9
    assert sum(shares) + row["idle_s"] / row["step_s"] >= 0.99, "nothing is left out"
    kernels = [operator for operator in rows if operator["bound"] != "network"]
    assert sum(operator["time_s"] for operator in kernels) == pytest.approx(row["compute_s"], rel=1e-9)
    hidden = sum(share for share, operator in zip(shares, rows, strict=True) if operator["bound"] == "network")
    assert hidden * row["step_s"] == pytest.approx(row["exposed_communication_s"], rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("name", "i"), EVERY)
def test_rows_have_the_documented_keys_and_consistent_numbers(name, i):
    for row in explained(name)[i].operators:
        assert tuple(row) == tuple(FIELDS)
        assert row["bound"] in BOUNDS
        assert row["time_s_p10"] <= row["time_s"] * (1 + 1e-9) and row["time_s_p90"] >= row["time_s"] * (1 - 1e-9)
        assert row["runs"] >= 1
        if row["flop"] and row["bytes"]:
            assert row["intensity"] == row["flop"] / row["bytes"]
        if row["bound"] == "measured":
            assert row["time_s_p10"] == row["time_s"] == row["time_s_p90"]
            assert (row["regime"], row["library"]) == ("", "")
            assert row["speed_of_light"] is None
        elif row["bound"] == "network":
            assert (row["flop"], row["library"]) == (0, "nccl")
            assert 0 < row["speed_of_light"] < 1.5
            if row["protocol"] == "ideal":
                assert (row["channels"], row["regime"]) == (0, "")
            else:
                assert row["algorithm"] in ("ring", "tree", "nvls", "direct") and row["channels"] >= 1
                assert row["protocol"] in ("ll", "ll128", "simple") and row["regime"] in REGIMES
        else:
            assert row["regime"] in REGIMES
            assert row["time_s_p90"] > row["time_s_p10"]
            assert row["speed_of_light"] > 0
        if row["bound"] != "network":
            assert (row["algorithm"], row["protocol"], row["channels"]) == (None, None, None)
        if row["kind"] in ("matmul", "attention") and row["bound"] != "measured":
            assert row["speed_of_light"] <= 1


@pytest.mark.parametrize(("name", "i"), EVERY)
def test_every_constant_has_a_unit_a_level_and_a_source(name, i):
    one = explained(name)[i]
    gpu = one.result.row["gpu"]
    assert len({constant["constant"] for constant in one.constants}) == len(one.constants)
    for constant in one.constants:
        assert set(constant) == {"constant", "value", "unit", "level", "regime", "source"}
        assert constant["regime"] in REGIMES
        assert (constant["level"] == gpu) == (constant["regime"] == "calibrated")
        assert (constant["level"] == "generic") == (constant["regime"] == "datasheet")
        assert len(constant["source"]) > 10 and math.isfinite(constant["value"])
    names = {constant["constant"] for constant in one.constants}
    timed = [row for row in one.operators if row["bound"] not in ("network", "measured")]
    chosen = [row for row in one.operators if row["bound"] == "network" and row["protocol"] != "ideal"]
    assert bool(names) == bool(timed or chosen)
    assert any(name.startswith("collective.") for name in names) == bool(chosen)
    if timed:
        assert {"gemm.default.compute_fraction", "gemm.default.k_step_clocks"} <= names


def test_constants_that_others_stand_in_for_are_not_named():
    h100, l4 = (
        {constant["constant"] for constant in explain(load_experiment(text, (), Catalogue()), Catalogue())[0].constants}
        for text in (written("dgx-h100"), written("l4-pcie-2x"))
    )
    assert "gemm.default.energy_per_flop" in h100 and "gemm.default.l2_bytes_per_flop" not in h100
    assert "gemm.default.energy_per_flop" in l4 and "gemm.default.clock_fraction" not in l4
    assert any(name.startswith("attention.") for name in h100) and "vector.default.memory_latency" in h100


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    written.folder = tmp_path


def written(cluster, dtype="bf16"):
    path = written.folder / f"{cluster}-{dtype}.yaml"
    path.write_text(SERVING.format(cluster=cluster, dtype=dtype))
    return path


def test_collectives_are_explained_with_their_choice_and_its_constants():
    (one,) = explain(load_experiment(written("dgx-h100"), (), Catalogue()), Catalogue())
    rows = [row for row in one.operators if row["bound"] == "network"]
    cluster = Catalogue().cluster("dgx-h100")
    for row in rows:
        times = collective_time(cluster, row["kind"], 2, row["bytes"] / row["runs"])
        assert (row["algorithm"], row["protocol"]) == (str(times.algorithm), str(times.protocol))
        assert (row["channels"], row["regime"]) == (int(times.channels), "inherited")
    used = {constant["constant"]: constant for constant in one.constants}
    assert used["collective.nccl.link_fraction"]["level"] == "hopper"
    assert used["collective.nccl.channels"]["level"] == "generic"
    assert not any("pair_" in name or "custom" in name or "nvls_latency" in name for name in used)


def test_ideal_links_are_named_and_have_no_constants(elsewhere):
    path = written("dgx-h100")
    path.write_text(path.read_text() + "  protocol: ideal\n")
    (one,) = explain(load_experiment(path, (), Catalogue()), Catalogue())
    rows = [row for row in one.operators if row["bound"] == "network"]
    assert rows and all((row["protocol"], row["channels"], row["regime"]) == ("ideal", 0, "") for row in rows)
    assert not any(constant["constant"].startswith("collective.") for constant in one.constants)
    assert "nccl, ideal links" in run(path).stdout


def test_what_scenarios_share_is_printed_once(elsewhere):
    path = written("dgx-h100")
    path.write_text(path.read_text() + "vary: {cluster: [dgx-h100, dgx-a100]}\n")
    answer = run(path)
    assert answer.exit_code == 0, answer.output
    assert answer.stdout.count("% of ideal: ") == answer.stdout.count("Constants used") == 1
    assert answer.stdout.count("l2_memory_ratio") == 1, "the same for both"
    assert answer.stdout.count("planned_ll_bandwidth") == 2, "one for each architecture"
    assert "only in" in answer.stdout
    assert "only in" not in run(written("dgx-h100")).stdout
    assert "nccl ring ll, 24 channels, architecture" in answer.stdout or "nccl ring simple, 24" in answer.stdout


def test_narrow_types_are_explained_with_their_own_library():
    (one,) = explain(load_experiment(written("dgx-h100", "fp8"), (), Catalogue()), Catalogue())
    libraries = {row["library"] for row in one.operators if row["kind"] == "matmul"}
    assert libraries == {"fp8-scaled-mm"}
    assert any(constant["constant"] == "gemm.fp8-scaled-mm.quantise_bytes" for constant in one.constants)


def test_the_rank_explained_is_the_one_that_the_step_waits_for():
    one = explained("llama70b_tp")[3]
    assert breakdown(one.result.execution).compute == pytest.approx(one.result.row["compute_s"])


# ---- the command -------------------------------------------------------------------------------------------


def test_json_has_the_rows_and_their_constants(elsewhere):
    (elsewhere / "small.yaml").write_text(OPERATORS)
    answer = run("small.yaml", "--format", "json")
    assert answer.exit_code == 0, answer.output
    (scenario,) = json.loads(answer.stdout)["scenarios"]
    assert set(scenario) == {"scenario", "row", "operators", "constants", "notes"}
    known, predicted, norm = (
        next(row for row in scenario["operators"] if row["operator"] == name) for name in ("known", "predicted", "norm")
    )
    assert all(set(row) == set(FIELDS) for row in (known, predicted, norm))
    assert [known[key] for key in ("time_s", "time_s_p10", "time_s_p90")] == pytest.approx([3e-3] * 3, rel=1e-12)
    assert (known["bound"], known["runs"], known["flop"]) == ("measured", 3, 3 * 2 * 512**3)
    assert predicted["time_s_p10"] < predicted["time_s"] < predicted["time_s_p90"]
    assert (predicted["library"], predicted["regime"], norm["bound"]) == ("default", "calibrated", "latency")
    assert scenario["row"]["step_s"] == pytest.approx(sum(row["time_s"] for row in scenario["operators"]), rel=1e-9)
    assert {one["constant"].split(".")[0] for one in scenario["constants"]} == {"gemm", "vector"}
    assert known["speed_of_light"] is None and 0 < predicted["speed_of_light"] < 1


def test_the_table_shows_what_takes_longest_and_counts_the_rest(elsewhere):
    answer = run(EXPERIMENTS / "llama70b_tp.yaml", "--set", "plan.tp=4", "--top", "2")
    assert answer.exit_code == 0, answer.output
    first = answer.stdout.split("Constants used")[0]
    assert "operator" in first and "% of ideal" in first and "80 % interval" in first
    assert "H100 SXM" in first and " more " in first
    assert "hopper" in answer.stdout and "generic" in answer.stdout and "aiconfigurator" in answer.stdout


def test_a_table_of_nothing_to_hide_has_no_rest():
    one = explained("tp2_scaling")[0]
    out = io.StringIO()
    print_explanations([(one.name, one.result.row, one.operators, one.constants, one.notes)], 20, out)
    assert " more " not in out.getvalue()
    assert "Constants used" not in out.getvalue(), "times were given"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("missing.yaml", None, "no such file"),
        ("broken.yaml", "experiment: [", "broken.yaml:"),
        ("empty.yaml", "", "empty.yaml"),
        ("typo.yaml", OPERATORS.replace("dgx-h100", "dgx-h10"), "typo.yaml:3"),
        ("dtype.yaml", OPERATORS.replace("dtype: bf16", "dtype: fp4"), "fp4"),
        ("size.yaml", OPERATORS.replace("m: 512", "m: -512"), "size.yaml:"),
    ],
)
def test_bad_files_are_refused_in_one_line(elsewhere, name, text, says):
    if text is not None:
        (elsewhere / name).write_text(text)
    answer = run(name)
    assert answer.exit_code == 2
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("simgpu: ") and says in line


@pytest.mark.parametrize("arguments", [["--top", "0"], ["--format", "yaml"], ["--set", "plan.tq=2"]])
def test_bad_options_are_refused(elsewhere, arguments):
    assert run(EXPERIMENTS / "tp2_scaling.yaml", *arguments).exit_code == 2
