"""`simgpu validate training`: rows become cases, and what is printed and written about them."""

import csv
import io
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import simgpu
from simgpu.catalog import Catalogue
from simgpu.cli import main
from simgpu.errors import InputError
from simgpu.lab.machines import largest_node, training_cluster
from simgpu.lab.validation.adapters import training_prediction
from simgpu.lab.validation.adapters.models import plan_text
from simgpu.lab.validation.adapters.nemo import _per_node, _recomputed
from simgpu.lab.validation.adapters.nemo_recipes import doubt_of
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.batches import Bench, Machine
from simgpu.lab.validation.command import PUBLISHED
from simgpu.lab.validation.pages.goals import TRAINING_GOALS
from simgpu.lab.validation.run import validate
from simgpu.lab.validation.sources import (
    known,
    lambda_training,
    llmfoundry_training,
    megatron_memory,
    megatron_training,
    torchtitan_training,
)
from simgpu.lab.validation.steps import by_origin, farthest, step_rows
from simgpu.lab.validation.tables import read_table
from simgpu.plan.parallelism import Plan

ROOT = Path(__file__).parents[1]
FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", ROOT.parent / "shared/measurements"))
measured = pytest.mark.skipif(not (FOLDER / "llmfoundry_training.csv").is_file(), reason=f"no measurements in {FOLDER}")

MPT = {
    "gpu": "a100-sxm-80gb", "model": "mpt-1b", "num_layers": 24, "d_model": 2048, "num_heads": 16, "ffn_size": 8192,
    "vocab_size": 50368, "seq_len": 2048, "num_gpus": 16, "gpus_per_node": 8, "micro_batch_size": 10,
    "global_batch_size": 320, "precision": "amp_bf16", "fsdp_mixed_precision": "DEFAULT",
    "sharding_strategy": "FULL_SHARD", "activation_checkpointing": "True", "activation_cpu_offload": "False",
    "step_time_s": 3.0, "interconnect": "1600 Gbps RoCE node-node",
}  # fmt: skip
MEGATRON = {
    "source": "korthikanti2022-table5", "gpu": "a100-sxm-80gb", "num_gpus": 64, "model": "gpt3-175b",
    "num_layers": 96, "hidden_size": 12288, "num_heads": 96, "num_kv_heads": "", "ffn_size": 49152,
    "vocab_size": 51200, "seq_len": 2048, "tp_size": 8, "pp_size": 8, "dp_size": 1, "cp_size": 1, "virtual_pp": 3,
    "micro_batch_size": 1, "global_batch_size": 64, "dtype": "float16", "activation_recompute": "selective",
    "sequence_parallel": "True", "sharding": "none", "step_time_s": 13.75, "model_flops_per_s_per_gpu": "",
}  # fmt: skip
TITAN = {
    "gpu": "h100-sxm-96gb-hbm2e-500w", "model": "llama3-405b", "num_layers": 126, "hidden_size": 16384,
    "num_heads": 128, "num_kv_heads": 8, "ffn_size": 53248, "vocab_size": 128256, "num_gpus": 512, "gpus_per_node": 8,
    "tp_size": 8, "pp_size": 8, "cp_size": 2, "local_batch_size": 8, "global_batch_size": 32, "seq_len": 65536,
    "torch_compile": "True", "float8": "rowwise", "async_tp": "True", "activation_checkpointing": "full",
    "pp_schedule": "Interleaved 1F1B", "step_time_s": 87.0, "memory_bytes_per_gpu": 8.1e10,
}  # fmt: skip


def text_of(*rows):
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


@pytest.fixture
def wanted(tmp_path):
    """What rows of a source ask for."""

    def read(source, translate, *rows):
        file = tmp_path / f"{source}.csv"
        file.write_text(text_of(*rows))
        table = read_table(source, file, known()[source].adapters[0].columns)
        return [list(translate(Reader(table, row))) for row in range(len(table))]

    return read


def stub(monkeypatch, factor=2.0):
    """Steps by 6 N tokens: what is tested here is everything around the simulation."""

    def simulated(machine, case):
        training_prediction.cluster_of(machine, case)
        flops = 6 * case.config.parameters * case.batch * case.tokens
        step = factor * flops / (machine.peak(case.dtype) * case.gpus)
        memory = {"memory_bytes_per_gpu": 41e9, "reserve_memory_bytes": 1e9}
        return {"step_s": step, "kernels_p10": 0.9 * step, "kernels_p90": 1.1 * step, **memory}

    monkeypatch.setattr(training_prediction, "_simulated", simulated)


def run(*options):
    return CliRunner().invoke(main, ["validate", "training", *map(str, options)])


# ---- rows --------------------------------------------------------------------------------------------


def test_a_mosaic_row_is_fsdp_over_all_gpus(wanted):
    half = MPT | {"fsdp_mixed_precision": "PURE", "sharding_strategy": "SHARD_GRAD_OP", "activation_checkpointing": ""}
    offloaded = MPT | {"activation_cpu_offload": "True"}
    plain, pure, refused = wanted("llmfoundry_training", llmfoundry_training.step, MPT,
                                  half | {"activation_checkpointing": "False"}, offloaded)  # fmt: skip
    (case,) = plain[0].cases
    assert case.plan == Plan(dp=16, zero=3, micro_batch=10, recompute="full")
    assert case.config.parameters == pytest.approx(1.3159e9, rel=1e-3) and case.config.max_tokens == 2048
    assert (case.batch, case.tokens, case.dtype, dict(case.numerics)["reduce"]) == (320, 2048, "bf16", "fp32")
    assert "25 GB/s" in case.network and plain[0].measured == 3.0
    other = pure[0].cases[0]
    assert (other.plan.zero, other.plan.recompute, dict(other.numerics)["reduce"]) == (2, "none", "bf16")
    assert refused == ["activations in the memory of the host are not simulated"]


def test_an_unstated_network_is_two_cases(wanted):
    ((one,),) = wanted("llmfoundry_training", llmfoundry_training.step, MPT | {"interconnect": "not stated in source"})
    assert [case.network.split()[1] for case in one.cases] == ["50", "25"] and "not stated" in one.caveat


def test_megatron_rows_follow_their_source(wanted):
    narayanan = MEGATRON | {
        "source": "narayanan2021-table1", "num_gpus": 1024, "num_layers": 60, "hidden_size": 10240, "num_heads": 80,
        "ffn_size": 40960, "pp_size": 4, "dp_size": 32, "virtual_pp": "", "micro_batch_size": "",
        "global_batch_size": 1792, "sequence_parallel": "", "activation_recompute": "full",
    }  # fmt: skip
    unknown = MEGATRON | {"source": "llama1-paper", "tp_size": "", "num_gpus": ""}
    (korthikanti,), (weak,), refused = wanted("megatron_training", megatron_training.step, MEGATRON, narayanan, unknown)
    plan = korthikanti.cases[0].plan
    assert (plan.tp, plan.pp, plan.vp, plan.recompute, plan.sequence_parallel) == (8, 8, 3, "selective", True)
    assert korthikanti.cases[0].framework == "megatron-2022" and not dict(korthikanti.cases[0].numerics)["flash"]
    plan = weak.cases[0].plan
    assert (plan.micro_batch, plan.vp, plan.overlap_gradients) == (2, 3, False)  # the published script
    assert refused == ["how the model was split is not stated"]


def test_strong_scaling_has_seconds_from_its_flops(wanted):
    row = MEGATRON | {
        "source": "megatron-readme-h100-strong", "gpu": "h100-sxm", "num_gpus": 2304, "vocab_size": 131072,
        "seq_len": 4096, "tp_size": "", "pp_size": "", "dp_size": "", "virtual_pp": "", "micro_batch_size": "",
        "global_batch_size": 1152, "dtype": "bfloat16", "step_time_s": "", "model_flops_per_s_per_gpu": 432.8e12,
    }  # fmt: skip
    odd = row | {"num_gpus": 100}
    (strong,), refused = wanted("megatron_training", megatron_training.step, row, odd)
    assert strong.measured == pytest.approx(5.259, rel=1e-3)  # the row of the weak scaling with the same rate
    assert {(case.plan.tp, case.plan.pp, case.plan.dp) for case in strong.cases} == {(8, 6, 48)}
    assert {case.plan.micro_batch for case in strong.cases} == {1} and strong.cases[0].plan.vp > 1
    assert not strong.cases[0].config.tied_embeddings and "not stated" in strong.caveat
    assert "does not divide" in refused[0]


def test_torchtitan_has_as_many_microbatches_as_stages_and_a_peak(wanted):
    ((step, peak),) = wanted("torchtitan_training", torchtitan_training.step, TITAN)
    case = step.cases[0]
    assert (case.plan.dp, case.plan.cp, case.plan.vp, case.plan.micro_batch) == (4, 2, 2, 1)
    assert case.plan.context == "all_gather" and case.plan.async_tp and case.plan.zero == 2
    assert (case.dtype, dict(case.numerics)["fp8_scaling"], step.dtype) == ("fp8", "rowwise", "fp8 rowwise")
    assert (peak.quantity, peak.part, peak.measured) == ("memory", "peak", 8.1e10)


def test_inference_rows_of_a_training_table_are_listed(tmp_path):
    shape = {"num_layers": 12, "hidden_size": 768, "num_heads": 12, "ffn_size": 3072, "vocab_size": 30522}
    row = {
        "gpu": "h100-sxm", "model": "bert_base", "mode": "inference_prefill", **shape, "seq_len": 512,
        "global_batch": 8, "num_gpus": 1, "dp_size": 1, "tp_size": 1, "pp_size": 1, "num_microbatches": 1,
        "torch_compile": "False", "dtype": "float32", "latency_s": 0.1, "suspicious": "",
    }  # fmt: skip
    (tmp_path / "neusight_e2e.csv").write_text(text_of(row))
    done = validate("training", tmp_path, Catalogue())
    assert [entry.reason for entry in done.not_predicted] == [
        "forward alone: see validate inference"
    ] and not done.scored


# ---- machines and memory -----------------------------------------------------------------------------


def test_training_clusters_are_built_as_their_gpus_are_sold():
    catalogue = Catalogue()
    selene = training_cluster(catalogue, "a100-sxm-80gb", 64, 8, "", "InfiniBand HDR 25 GB/s per GPU")
    assert selene.gpu_count == 64 and selene.node.name == "dgx-a100" and selene.node.nic_count == 8
    roce = training_cluster(catalogue, "a100-sxm-40gb", 16, 8, "", "RoCE 25 GB/s per GPU")
    assert roce.gpu.name == "a100-sxm-40gb" and roce.node.nic.port.link == "ethernet-200g"
    slow = training_cluster(catalogue, "h100-sxm-96gb-hbm2e-500w", 16, 8, "", "RoCE 50 GB/s per GPU")
    assert slow.gpu.power.tdp.si == 500 and slow.node.nic.port.link == "ethernet-400g" and slow.node.nvlink


def test_memory_is_that_of_the_published_formulas(wanted):
    row = {
        "source": "korthikanti2022-fig7", "gpu": "a100-sxm-80gb", "model": "megatron-22b", "num_layers": 48,
        "hidden_size": 6144, "num_heads": 64, "ffn_size": 24576, "seq_len": 2048, "tp_size": 8, "pp_size": 1,
        "dp_size": 1, "virtual_pp": 1, "global_batch_size": 4, "micro_batch_size": 4,
        "activation_recompute": "selective", "sequence_parallel": "True", "param_and_optimizer_bytes": 48922361856,
        "activation_bytes": "", "relative_activation_memory": 0.16,
    }  # fmt: skip
    ((states, relative),) = wanted("megatron_memory", megatron_memory.memory, row)
    machine = Machine("a100-sxm-80gb", Catalogue().spec("gpus", "a100-sxm-80gb"), Bench(Catalogue()))
    assert training_prediction.predict(machine, states).value == pytest.approx(states.measured, rel=0.01)
    # 34/t over 10 + 24/t + 5 a s/(h t), all in s b h (Korthikanti et al. 2022, table 2)
    formula = (34 / 8) / (10 + 24 / 8 + 5 * 64 * 2048 / (6144 * 8))
    assert training_prediction.predict(machine, relative).value == pytest.approx(formula, rel=0.01)


def test_the_interval_covers_all_cases(wanted, monkeypatch):
    stub(monkeypatch)
    ((one,),) = wanted("llmfoundry_training", llmfoundry_training.step, MPT)
    case = one.cases[0]
    double = replace(one, cases=(case, replace(case, batch=2 * case.batch), replace(case, batch=4 * case.batch)))
    machine = Machine("a100-sxm-80gb", Catalogue().spec("gpus", "a100-sxm-80gb"), Bench(Catalogue()))
    single, several = training_prediction.predict(machine, one), training_prediction.predict(machine, double)
    assert several.value == pytest.approx(2 * single.value)
    assert several.low == pytest.approx(single.low) and several.high == pytest.approx(4 * single.high)


def test_a_row_that_nothing_allows_is_listed_with_the_reason(wanted, tmp_path):
    ((one,),) = wanted(
        "llmfoundry_training", llmfoundry_training.step, MPT | {"num_gpus": 24, "global_batch_size": 100}
    )
    machine = Machine("a100-sxm-80gb", Catalogue().spec("gpus", "a100-sxm-80gb"), Bench(Catalogue()))
    with pytest.raises(InputError, match="does not divide"):
        training_prediction.predict(machine, one)
    done = validate("training", tmp_path, Catalogue())
    assert "does not divide" in done.not_predicted[0].reason


# ---- what it says ------------------------------------------------------------------------------------


def test_the_document_has_groups_rows_and_origins(tmp_path, monkeypatch):
    stub(monkeypatch)
    (tmp_path / "llmfoundry_training.csv").write_text(text_of(MPT, MPT | {"step_time_s": 5.0}))
    result = run("--data", tmp_path, "--format", "json", "-q", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    (group,) = document["groups"]
    assert (group["op"], group["dtype"], group["rows"]) == ("step_time", "amp_bf16", 2)
    (row,) = document["steps"]  # a repeat of the same run: the median, counted twice
    assert row["rows"] == 2 and row["measured"] == 4.0 and row["plan"].startswith("dp16 zero3 mb10 recompute-full")
    assert document["origins"][0]["mape"] == pytest.approx(abs(row["error"]))
    assert (tmp_path / "out/training_parity.png").stat().st_size > 5000


def test_the_table_prints_every_row(tmp_path, monkeypatch):
    stub(monkeypatch)
    monkeypatch.setenv("COLUMNS", "250")
    (tmp_path / "llmfoundry_training.csv").write_text(text_of(MPT, MPT | {"num_gpus": 8, "global_batch_size": 160}))
    printed = run("--data", tmp_path, "-q").stdout
    assert printed.count("mpt-1b") >= 4 and "Predicted and measured, row by row" in printed and "Farthest" in printed


def test_rows_are_in_the_order_of_their_factor():
    rows = [{"error": error} for error in (0.1, -0.6, 0.5, -0.05)]
    assert [row["error"] for row in farthest(rows, 2)] == [-0.6, 0.5]


def test_plans_in_words():
    assert plan_text(Plan()) == ""
    assert (
        plan_text(Plan(tp=8, pp=4, vp=2, zero=1, micro_batch=2, sequence_parallel=True)) == "tp8 pp4 vp2 zero1 sp mb2"
    )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"micro_batch_size": 2.5}, "llmfoundry_training.csv:3: micro_batch_size: expected a whole number"),
        ({"num_layers": ""}, "llmfoundry_training.csv:3: num_layers: is empty, expected a number"),
        ({"gpu": "h900"}, "llmfoundry_training.csv:3: gpu: unknown GPU 'h900'"),
        ({"gpu": "tpu-v5e"}, "no datasheet of 'tpu-v5e' in the catalogue"),
        ({"step_time_s": "-3"}, "llmfoundry_training.csv:3: step_time_s: '-3': expected a number above zero"),
    ],
)
def test_a_bad_row_is_listed_and_the_others_are_predicted(tmp_path, monkeypatch, change, words):
    stub(monkeypatch)
    (tmp_path / "llmfoundry_training.csv").write_text(text_of(MPT, MPT | change, MPT))
    result = run("--data", tmp_path, "--format", "json", "-q")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    ((reason, lines, rows),) = [(e["reason"], e["lines"], e["rows"]) for e in document["not_predicted"]]
    assert reason.startswith(words) and lines == [3] and rows == 1
    assert [group["rows"] for group in document["groups"]] == [2]


def test_steps_that_ran_and_are_said_not_to_fit_are_counted_and_named(tmp_path):
    large = MPT | {"micro_batch_size": 64, "global_batch_size": 1024, "activation_checkpointing": "False"}
    (tmp_path / "llmfoundry_training.csv").write_text(text_of(MPT, large))
    document = json.loads(run("--data", tmp_path, "--format", "json", "-q").stdout)
    (entry,) = document["said_not_to_fit"]
    assert entry["lines"] == [3] and re.match(r"said to need \d+ GB; the GPU has \d+", entry["reason"])
    assert sum(group["rows"] for group in document["groups"]) == 2  # predicted all the same


@pytest.mark.parametrize(
    ("gpu", "dtype"), [("gh200-96gb", "tf32"), ("a100-sxm-80gb", "tf32"), ("v100-sxm-32gb", "fp32")]
)
def test_fp32_of_frameworks_is_tf32_where_the_gpu_multiplies_it(tmp_path, gpu, dtype):
    row = {"gpu": gpu, "num_gpus": 1, "task": "bert_base_squad", "precision": "fp32", "throughput_items_per_s": 100,
           "global_batch": 8}  # fmt: skip
    (tmp_path / "lambda_training.csv").write_text(text_of(row))
    table = read_table("lambda_training", tmp_path / "lambda_training.csv", lambda_training.COLUMNS)
    machine = Machine(gpu, Catalogue().spec("gpus", gpu), Bench(Catalogue()))
    (one,) = lambda_training.step(Reader(table, 0, machine))
    assert one.cases[0].dtype == dtype


# ---- figures that come with simgpu -------------------------------------------------------------------


@pytest.mark.slow
def test_published_steps_are_within_bounds():
    """Bounds lie a little above what was reached when this was written."""
    rows = step_rows(validate("training", PUBLISHED, Catalogue()))
    assert {row["op"] for row in rows} == {"step_time", "memory"} and len(rows) > 30
    errors = {(entry["origin"], entry["op"]): entry for entry in by_origin(rows)}
    assert errors["Korthikanti et al. 2022, table 5", "step_time"]["mape"] < 0.035
    assert errors["Korthikanti et al. 2022, figure 1", "memory activations"]["max_ape"] < 0.02
    assert errors["Korthikanti et al. 2022, figure 1", "memory states"]["max_ape"] < 0.01
    assert np.median([abs(row["error"]) for row in rows if row["op"] == "step_time"]) < 0.15


def test_every_training_goal_has_a_title_and_a_bound():
    assert all(goal.title and any(bound for bound in goal.errors) for goal in TRAINING_GOALS)


@measured
def test_every_row_of_the_folder_is_accounted_for(monkeypatch):
    stub(monkeypatch)
    done = validate("training", FOLDER, Catalogue())
    for source in {part.source for part in done.scored} - {"lambda_training"}:
        with (FOLDER / f"{source}.csv").open() as stream:
            rows = sum(1 for _ in csv.DictReader(stream))
        counted = sum(len(part.measured) for part in done.scored if part.source == source and not part.batch.again)
        counted += sum(entry.rows for entry in (*done.not_predicted, *done.left_out) if entry.source == source)
        assert counted == rows, source
    for goal in TRAINING_GOALS:
        members = [row for row in step_rows(done) if goal.takes(row)]
        assert members or "figure 7" in goal.title, goal.title


def test_peaks_are_those_that_a_user_is_told(wanted):
    """Memory of a row is that of `simulate`, less what CUDA and NCCL take, which PyTorch does not count."""
    ((_, peak),) = wanted("torchtitan_training", torchtitan_training.step, TITAN)
    machine = Machine("h100-sxm", Catalogue().spec("gpus", "h100-sxm"), Bench(Catalogue()))
    (case,) = peak.cases
    told = training_prediction._simulated(machine, case)
    found = training_prediction.predict(machine, peak).value
    assert found == told["memory_bytes_per_gpu"] - told["reserve_memory_bytes"]


@pytest.mark.parametrize("gpu", ["h100-sxm", "b300-sxm", "gb200", "gb300"])
def test_runs_take_the_gpus_of_nodes_that_the_catalogue_has(gpu):
    """At most a node, all nodes alike; of the 72 of a rack 64 where that divides a run, as NVIDIA's recipes do."""
    node = largest_node(Catalogue(), gpu)
    for gpus in (1, 4, 8, 64, 72, 128, 256):
        assert _per_node(node, gpus) == (min(gpus, 8) if node == 8 else {128: 64, 256: 64}.get(gpus, gpus))


@pytest.mark.parametrize(
    ("note", "model", "modules"),
    [
        ("recompute of mla_up_proj/moe_act not expressible; MXFP8", "deepseek-v3", ("mla_up_proj", "moe_act")),
        ("range over 3 releases; recompute of layernorm, moe_act not expressible; ", "gpt-oss-120b", ("layernorm",)),
        ("token dropping not modelled", "qwen3-30b-a3b", None),
    ],
)
def test_modules_that_a_note_says_are_recomputed_are(note, model, modules):
    found = _recomputed(note, simgpu.load_model(model))
    assert found.get("recompute_modules") == modules and ("recompute" in found) == bool(modules)


def test_a_row_says_where_its_recipe_differs_from_its_table() -> None:
    """Only of the container, the GPU and the model of that recipe, and only where the two differ."""
    run = ("gpt-oss-120b", "B200", "25.11")
    assert doubt_of(*run, {"ep": 8}) == "the table says ep 8, the recipe ep 64"
    assert doubt_of(*run, {"ep": 64}) == ""
    assert doubt_of("gpt-oss-120b", "B200", "26.04", {"ep": 8}) == ""
    assert doubt_of("gpt-oss-120b", "H100", "25.11", {"ep": 8}) == ""
