"""What a user sees of training: experiments, tables of memory, pictures, traces, and bad plans in one line."""

import json
from itertools import pairwise
from pathlib import Path

import pytest
from click.testing import CliRunner

from simgpu import Catalogue, InputError
from simgpu.cli import main
from simgpu.plan.numerics import Numerics, adapter_targets
from simgpu.plan.parallelism import Plan
from simgpu.plan.states import parameters_of
from simgpu.render.fields import STEP_PARTS
from simgpu.render.memory import memory_figure
from simgpu.render.passes import panel_of
from simgpu.render.stack import stack_figure
from simgpu.study.experiment.running import load_experiment, run_experiment
from simgpu.study.report.memory import misfits, stages
from simgpu.timing import routing
from simgpu.workload import fields
from simgpu.workload.jobs import Training

ROOT = Path(__file__).parents[1]
CATALOGUE = Catalogue()
NEW = ("dp_scaling", "gpt3_plans", "llama405b_16k", "pipeline_schedules", "rtx4090_fallacy")

SMALL = """\
experiment: small
scenario:
  model: llama-2-7b
  cluster: dgx-h100
  workload: {kind: training, batch: 32, tokens: 2048}
  plan: {tp: 2, dp: 2}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_CATALOG", raising=False)


@pytest.fixture
def small(tmp_path):
    (tmp_path / "small.yaml").write_text(SMALL)
    return "small.yaml"


KEPT = {
    "dp_scaling": lambda case: case.scenario.plan.dp in (1, 8, 16),
    "gpt3_plans": lambda case: case.scenario.plan.pp in (8, 16) and case.scenario.plan.vp == 1,
    "llama405b_16k": lambda case: case.scenario.plan.dp == 64,
}
"""Of the large experiments the smallest or most telling cases."""


class Ran(dict):
    """Outcomes of experiments by name, each run when a test first asks for it."""

    def __missing__(self, name):
        experiment = load_experiment(ROOT / "experiments" / f"{name}.yaml", (), CATALOGUE)
        cases = [case for case in experiment.cases if KEPT.get(name, lambda case: True)(case)]
        self[name] = run_experiment(type(experiment)(name, experiment.document, experiment.fields, cases), CATALOGUE)
        return self[name]


@pytest.fixture(scope="module")
def ran():
    return Ran()


def run(*arguments):
    return CliRunner().invoke(main, ["run", *map(str, arguments), "--no-plots"])


# ---- experiments -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NEW)
def test_the_parts_of_every_step_add_up(ran, name):
    for row in ran[name].rows:
        assert sum(row[part] for part in STEP_PARTS) == pytest.approx(row["step_s"], rel=2e-3)
        assert row["step_s_p10"] <= row["step_s"] <= row["step_s_p90"]


@pytest.mark.parametrize("name", NEW)
def test_every_experiment_names_its_sources_and_draws(ran, name):
    fields = ran[name].experiment.fields
    assert len(fields.description) > 300
    assert fields.plots and all(plot.title for plot in fields.plots)


def test_slow_ports_stop_data_parallelism_at_the_node_and_fast_ones_do_not(ran):
    by = {(row["cluster"], row["gpus"]): row["efficiency"] for row in ran["dp_scaling"].rows}
    assert by["rtx-4090-8x-ethernet", 8] > 0.9
    assert by["rtx-4090-8x-ethernet", 16] < 0.75
    for cluster in ("dgx-h100-ib", "dgx-a100-ib"):
        assert by[cluster, 16] == pytest.approx(by[cluster, 8], abs=0.02)


def test_the_published_step_of_gpt3_is_near(ran):
    (row,) = [row for row in ran["gpt3_plans"].rows if row.get("claimed_step_s")]
    assert row["step_s"] == pytest.approx(row["claimed_step_s"], rel=0.15)
    assert row["training_days"] == pytest.approx(row["step_s"] * 300e9 / (1536 * 2048) / 86_400)


def test_the_published_rate_of_llama_405b_is_near(ran):
    for row in ran["llama405b_16k"].rows:
        assert row["flop_per_s_per_gpu"] == pytest.approx(row["claimed_flop_per_s_per_gpu"], rel=0.25)


def test_smaller_pieces_make_smaller_bubbles(ran):
    rows = {row["order"]: row for row in ran["pipeline_schedules"].rows}
    bubbles = [rows[name]["bubble_s"] for name in ("1F1B", "Interleaved 1F1B", "Zero bubble (ZB-H1)")]
    assert all(later < 0.7 * before for before, later in pairwise(bubbles))
    assert rows["GPipe"]["memory_bytes_per_gpu"] > rows["Interleaved 1F1B"]["memory_bytes_per_gpu"]
    assert rows["Interleaved 1F1B"]["memory_bytes_per_gpu"] > rows["1F1B"]["memory_bytes_per_gpu"]


def test_six_small_gpus_hold_seventy_billion_parameters_in_four_bits_only(ran):
    six = {row["job"]: row["memory_fits"] for row in ran["rtx4090_fallacy"].rows if row["gpus"] == 6}
    assert six == {"full, FSDP": False, "LoRA, FSDP": False, "QLoRA, FSDP": True}


# ---- memory ------------------------------------------------------------------------------------------


def test_a_plan_that_does_not_fit_says_by_how_much_and_what_would_help(small):
    result = run(small, "-q", "--set", "plan.micro_batch=1", "--set", "plan.tp=1")
    (line,) = [line for line in result.stdout.splitlines() if "too much" in line]
    assert line.startswith("DP 2: needs ") and "of 80.0 GiB on stage 0" in line and "; fits with " in line
    assert result.exit_code == 0, "only asked for it is an error"


def test_what_helps_helps(small):
    """The first suggestion of the line, taken: nothing is left to say."""
    asked = ["-q", "--set", "plan.micro_batch=1", "--set", "plan.tp=1"]
    key, value = run(small, *asked).stdout.partition("; fits with ")[2].partition(",")[0].split(": ")
    assert "too much" not in run(small, *asked, "--set", f"plan.{key}={value}").stdout
    assert run(small, "-q", "--require-fit", "--set", "plan.micro_batch=1").exit_code == 0


def test_require_fit_makes_it_an_error_in_one_line(small):
    result = run(small, "--require-fit")
    assert result.exit_code == 2 and result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("simgpu: small.yaml:6: plan: needs ") and "; fits with" in result.stderr


def test_memory_is_a_table_of_parts_with_a_line_for_each_different_stage(small):
    pipeline = ["--set", "plan.pp=4", "--set", "plan.tp=1", "--set", "plan.micro_batch=1"]
    text = run(small, "-q", "--memory", *pipeline).stdout
    for word in ("Memory of PP 4 DP 2", "weights", "optimizer", "activations", "stage 0", "stage 3", "free"):
        assert word in text
    assert "every GPU" in run(small, "-q", "--memory").stdout
    assert "Memory of" not in run(small, "-q").stdout


def test_json_holds_the_memory_of_every_stage(small):
    pipeline = ["--set", "plan.pp=4", "--set", "plan.tp=1", "--set", "plan.micro_batch=1"]
    found = json.loads(run(small, "--format", "json", "-q", *pipeline).stdout)
    (row,), (memory,) = found["rows"], found["memory"]
    assert [stage["stage"] for stage in memory] == [0, 1, 2, 3]
    assert max(stage["total"] for stage in memory) == row["memory_bytes_per_gpu"]
    for stage in memory:
        parts = ("weights", "gradients", "optimizer", "activations", "communication", "temporary", "reserve")
        assert sum(stage[part] for part in parts) == pytest.approx(stage["total"])
    assert json.loads(run("tp2_scaling", "--format", "json", "-q").stdout)["memory"] == [[]] * 8


def test_rows_that_fail_alike_share_a_line(ran):
    outcome = ran["rtx4090_fallacy"]
    lines = misfits(outcome, CATALOGUE)
    assert len({text for _, text in lines}) == len(lines)
    assert sum(not row["memory_fits"] for row in outcome.rows) == sum(1 + names.count("; ") for names, _ in lines)


# ---- pictures ----------------------------------------------------------------------------------------


def test_a_pipeline_picture_has_every_pass_once_and_none_at_the_same_time(ran):
    outcome = ran["pipeline_schedules"]
    for result in outcome.results:
        panel = panel_of(result.execution, result.row["pp"], "x")
        assert len(panel.stages) == 4
        assert panel.step == pytest.approx(result.step_s, rel=1e-9)
        for boxes in panel.stages:
            passes = [box for box in boxes if box.microbatch is not None]
            kinds = {"F", "B", "W"} if result.row["schedule"] == "zb-h1" else {"F", "B"}
            assert {box.kind for box in passes} == kinds
            assert len(passes) == len(kinds) * 8 * result.row["vp"]
            ordered = sorted((box for box in boxes if box.kind != "communication"), key=lambda box: box.start)
            assert all(a.end <= b.start + 1e-9 for a, b in pairwise(ordered))


def test_stacked_bars_show_the_whole_step(ran):
    rows = {row["order"]: row for row in ran["pipeline_schedules"].rows}
    (axes,) = stack_figure(rows, [], "x").axes
    ends = {round(patch.get_y()): max(0.0, patch.get_x() + patch.get_width()) for patch in axes.patches}
    for at, row in enumerate(rows.values()):
        assert ends[at] == pytest.approx(row["step_s"], rel=0.02)


def test_memory_bars_of_gpus_that_differ_have_marks_of_their_own(ran):
    results = ran["rtx4090_fallacy"].results
    bars = {
        str(n): max(stages(result.memory).values(), key=lambda one: one["total"]) for n, result in enumerate(results)
    }
    (axes,) = memory_figure(bars, "x").axes
    assert len(axes.lines) == len(bars)


def undrawn(file):
    """Why the only plot of a file cannot be drawn: refused before the rows run, or left out after it."""
    try:
        (error,) = run_experiment(load_experiment(file, (), CATALOGUE), CATALOGUE).undrawn.values()
    except InputError as refused:
        error = refused
    return str(error)


@pytest.mark.parametrize(
    ("plot", "words"),
    [
        ("{kind: pipeline, x: cluster, y: [step_s]}", "plots.0.y: is not supported for a plot of kind pipeline"),
        ("{kind: stack, x: cluster, y: [gemm_s, gemm_s]}", "plots.0.y: names a column twice"),
        ("{kind: stack, x: dp, y: [gpu]}", "plots.0.y.0: 'gpu' is not a number"),
        ("{kind: line, x: tp}", "plots.0.y: 0 columns"),
        ("{kind: memory, x: stages}", "plots.0.x: no column 'stages'"),
        ("{kind: memory, x: stage}", "plots.0.x: 'stage' needs a single row, here are 2"),
        ("{kind: memory, x: cluster}", "several rows have cluster = 'dgx-h100' here"),
    ],
)
def test_bad_plots_are_one_line(tmp_path, plot, words):
    file = tmp_path / "e.yaml"
    file.write_text(f"{SMALL}vary: {{plan.dp: [1, 2]}}\nplots:\n  - {plot}\n")
    error = undrawn(file)
    assert words in error and "e.yaml:9: " in error


def test_only_training_has_stages_to_draw(tmp_path):
    file = tmp_path / "e.yaml"
    file.write_text(SMALL.replace("kind: training", "kind: prefill") + "plots:\n  - {kind: pipeline, x: cluster}\n")
    assert "only training and inference have memory and stages" in undrawn(file)


def test_stages_of_a_single_row_are_bars(small, tmp_path):
    (tmp_path / small).write_text(SMALL + "plots:\n  - {kind: memory, x: stage, name: m}\n")
    arguments = ["--set", "plan.pp=2", "--set", "plan.tp=1", "--set", "plan.micro_batch=1"]
    result = CliRunner().invoke(main, ["run", small, "-q", "--out", "out", *arguments])
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "out/m.png").read_bytes().startswith(b"\x89PNG")


# ---- trace, explain, resolve ---------------------------------------------------------------------------


def test_a_trace_opens_the_first_microbatch_into_kernels(small, tmp_path):
    settings = ["--set", "plan.micro_batch=4"]
    assert CliRunner().invoke(main, ["trace", small, "-o", "t.json", *settings]).exit_code == 0
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    tracks = {event["args"]["name"]: event["tid"] for event in events if event["name"] == "thread_name"}
    kernels = [e for e in events if e["ph"] == "X" and e["tid"] == tracks["kernels of the first microbatch"]]
    outer = [e for e in events if e["ph"] == "X" and e["tid"] == tracks["compute"]]
    forward = next(event for event in outer if event["name"] == "F0")
    inside = [e for e in kernels if e["ts"] + e["dur"] <= forward["dur"] * (1 + 1e-9)]
    assert sum(event["name"] == "ffn_up" for event in inside) == 32, "one for each layer"
    ends = sorted((event["ts"], event["ts"] + event["dur"]) for event in kernels)
    assert all(a[1] <= b[0] + 1e-3 for a, b in pairwise(ends)), "kernels of a stream do not overlap"
    assert "tp collectives of the first microbatch" in tracks


def test_explain_takes_a_step_apart(small):
    result = CliRunner().invoke(main, ["explain", small, "--format", "json", "--set", "plan.micro_batch=4"])
    (found,) = json.loads(result.stdout)["scenarios"]
    rows = {(row["operator"], row["segment"]): row for row in found["operators"]}
    assert rows["ffn_up", "dense forward"]["runs"] == 32 * 4
    assert rows["optimizer", "optimizer"]["library"] == ""
    assert any(row["group"] == "tp" and row["library"] == "nccl" for row in found["operators"])
    assert sum(row["share"] for row in found["operators"]) <= 1 + 1e-6


def test_resolve_shows_what_is_kept_and_the_constants_of_the_framework(small):
    result = CliRunner().invoke(main, ["resolve", small, "--set", "workload.reduce=bf16"])
    (found,) = json.loads(result.stdout)["scenarios"]
    assert found["numerics.master"]["value"] == "fp32"
    assert found["numerics.reduce"] == {"value": "bf16", "source": "--set"}
    assert found["framework.launch_s"]["unit"] == "s"
    assert "B200" in found["framework.launch_s"]["source"]
    assert all("value" in entry and entry["source"] for entry in found.values())


# ---- bad plans -----------------------------------------------------------------------------------------

BAD = [
    (
        "plan.pp=5 plan.tp=1 plan.dp=1 plan.micro_batch=1",
        "plan.pp: 5 stages do not divide 32 layers; near by would be 4",
    ),
    ("plan.pp=4 plan.vp=3 plan.tp=1 plan.micro_batch=1", "plan.pp: pp 4 x vp 3 = 12 chunks do not divide 32 layers"),
    (
        "plan.pp=4 plan.tp=1 plan.micro_batch=8 plan.schedule=zb-h1",
        "plan.micro_batch: 2 microbatches are fewer than 4 stages; zb-h1 needs at least 4",
    ),
    ("plan.pp=2 plan.vp=2 plan.micro_batch=1 workload.batch=6", "workload.batch: 3 microbatches cannot be interleaved"),
    ("plan.micro_batch=3", "plan.micro_batch: 3 does not divide the 16 sequences of a replica"),
    ("plan.dp=3", "plan.dp: 3 does not divide the batch of 32 sequences"),
    ("plan.tp=5 plan.dp=1", "plan.tp: 5 does not divide the 32 attention heads"),
    ("plan.ep=2", "plan.ep: 2: 'llama-2-7b' has no experts"),
    ("plan.ep=3", "plan.ep: 3 does not divide dp x cp = 2"),
    ("model=mixtral-8x7b cluster=dgx-h100-ib plan.dp=16 plan.ep=16", "plan.ep: 16 is more than the 8 experts"),
    ("plan.shard=2", "plan.shard: 2 has no effect with plan.zero 0"),
    ("plan.zero=1 plan.shard=3", "plan.shard: 3 does not divide dp x cp = 2"),
    ("plan.cp=2 workload.tokens=2046", "plan.cp: 2 ranks with two chunks each do not divide 2046 tokens"),
    ("plan.cp=2 workload.flash=false", "workload.flash: attention without a fused kernel cannot be split"),
    ("plan.vp=2", "plan.vp: 2 virtual stages need a pipeline"),
    ("plan.pp=2 plan.vp=2 plan.schedule=gpipe plan.micro_batch=1", "plan.schedule: 'gpipe' has no virtual stages"),
    ("plan.pp=2 plan.schedule=interleaved plan.micro_batch=1", "plan.vp: 1 virtual stage cannot be interleaved"),
    ("plan.recompute_layers=2", "plan.recompute_layers: 2 layers are recomputed only with plan.recompute full"),
    ("plan.schedule=1f1", "plan.schedule: '1f1' is not known; did you mean '1f1b'?"),
    ("plan.recompute=ful", "plan.recompute: 'ful' is not known; did you mean 'full'?"),
    ("plan.context=al_gather", "plan.context: 'al_gather' is not known; did you mean 'all_gather'?"),
    ("plan.zerro=1", "plan.zerro: unknown key; did you mean 'zero'?"),
    ("framework=megatronn", "framework: unknown framework 'megatronn'; did you mean 'megatron'?"),
    ("workload.optimizer=adamw", "workload.optimizer: 'adamw' is not known; did you mean 'adam'?"),
    ("workload.finetune=qlor", "workload.finetune: 'qlor' is not known; did you mean 'qlora'?"),
    ("plan.order=[tp,dp]", "plan.order: ['tp', 'dp'] does not hold each of tp, cp, ep, dp, pp once"),
    ("plan.pp=8 plan.micro_batch=1", "plan: tp 2 x pp 8 x dp 2 = 32 ranks, but 'dgx-h100' has 8 GPUs"),
    ("plan.zero=4", "plan.zero: 4 is not a whole number from 0 to 3"),
    ("plan.tensor=2", "plan.tensor: unknown key; expected one of tp, dp, sequence_parallel, pp"),
    (
        "workload.finetune=lora workload.targets=[qkv,nosuch]",
        "workload.targets.1: 'nosuch' is not a matrix of 'llama-2-7b' that can have an adapter; expected some of qkv, "
        "attention_out, ffn_up, ffn_down",
    ),
    ("workload.finetune=lora workload.targets=[]", "workload.targets: the list is empty; expected some of qkv"),
    (
        "model=deepseek-v2-lite workload.finetune=lora workload.targets=[qkv]",
        "expected some of q, kv_down, kv_up, attention_out",
    ),
    (
        "model=mixtral-8x7b workload.finetune=lora workload.targets=[experts_up]",
        "workload.targets.0: 'experts_up' is not a matrix of 'mixtral-8x7b'",
    ),
    ("workload.rank=8", "workload.rank: 8 is not supported with finetune full; expected finetune lora or qlora"),
    ("workload.targets=[qkv]", "workload.targets: ['qkv'] is not supported with finetune full"),
    ("dtype=int8", "dtype: 'int8' is not supported for training; expected one of fp32, tf32, bf16, fp16, fp8, fp4"),
    ("dtype=fp64", "dtype: 'fp64' is not supported for training"),
    ("plan.pp=2 plan.schedule=zb-v", "plan.vp: 1: zb-v runs two chunks on each stage; expected plan.vp 2"),
    ("workload.fp8_scaling=rowwise", "workload.fp8_scaling: 'rowwise' needs dtype fp8, not bf16"),
    (
        "model=mixtral-8x7b workload.routing=skewed",
        "workload.routing: 'skewed' is not known; expected balanced, random, or zipf_A, power_law_A or popularity_A",
    ),
    (
        "model=mixtral-8x7b workload.routing=power_law_10.5",
        "workload.routing: 'power_law_10.5': the exponent is not a number from 0 to 10",
    ),
    ("workload.routing=random", "workload.routing: 'random': 'llama-2-7b' has no experts; expected balanced"),
    (
        "plan.offload=optimizer workload.optimizer=none",
        "plan.offload: 'optimizer': optimizer none has no states to offload",
    ),
    ("plan.recompute=full plan.recompute_layers=33", "plan.recompute_layers: 33 is more than the 32 layers of a stage"),
    (
        "plan.pp=2 plan.vp=2 plan.micro_batch=1 plan.recompute=full plan.recompute_layers=17",
        "plan.recompute_layers: 17 is more than the 16 layers of a stage",
    ),
    ("plan.async_tp=true", "plan.async_tp: splits the collectives of sequence parallelism; expected plan."),
    (
        "workload.kind=prefill plan.pp=2",
        "plan.pp: 2 is not supported for prefill; expected 1, or a workload of kind training, inference,",
    ),
    ("workload.kind=prefill plan.recompute=full", "plan.recompute: 'full' is not supported for prefill"),
    ("workload.kind=prefill workload.optimizer=adam", "workload.optimizer: unknown key"),
]


@pytest.mark.parametrize(("settings", "words"), BAD, ids=[settings for settings, _ in BAD])
def test_bad_plans_are_explained_in_one_line(small, settings, words):
    result = run(small, *(part for setting in settings.split() for part in ("--set", setting)))
    assert result.exit_code == 2, result.output
    assert result.stdout == "" and result.stderr.count("\n") == 1
    assert words in result.stderr
    assert result.stderr.startswith(("simgpu: --set: ", "simgpu: small.yaml:"))


GOOD = [
    "plan.async_tp=true plan.tp=1",  # sweeps over tp may pass through 1
    "plan.async_tp=true plan.sequence_parallel=true",
    "plan.recompute=full plan.recompute_layers=32",
    "workload.rank=16 workload.fp8_scaling=null workload.targets=null",
    "workload.finetune=lora workload.rank=8 workload.targets=[ffn_down]",
    "model=deepseek-v2-lite workload.finetune=lora",
    "model=mixtral-8x7b workload.routing=power_law_1",
    "model=mixtral-8x7b workload.routing=power_law_0",
    "dtype=fp8 workload.fp8_scaling=rowwise",
    "dtype=tf32",
    "plan.schedule=gpipe plan.context=all_gather",
]


@pytest.mark.parametrize("settings", GOOD)
def test_options_that_are_well_placed_are_taken(small, settings):
    given = ["plan.micro_batch=1", *settings.split()]
    assert run(small, "-q", *(part for one in given for part in ("--set", one))).exit_code == 0


@pytest.mark.parametrize("model", CATALOGUE.names("models"))
def test_adapters_go_on_attention_of_every_model_unless_told(model):
    config = CATALOGUE.model(model)
    workload = Training(tokens=1, finetune="lora")
    numerics = workload.numerics("bf16", config)
    assert {"attention_out", "state_out"} & set(numerics.targets) and len(numerics.targets) >= 2
    assert set(numerics.targets) <= set(adapter_targets(config))
    assert parameters_of(config, Plan(), workload.numerics("bf16")).adapters > 0


@pytest.mark.parametrize("model", ["deepseek-v3", "deepseek-v2-lite"])
def test_adapters_of_latent_attention_have_a_size_for_each_of_its_projections(model):
    config = CATALOGUE.model(model)
    names = Training(tokens=1, finetune="lora").numerics("bf16", config).targets
    alone = [parameters_of(config, Plan(), Numerics(finetune="lora", targets=(name,))).adapters for name in names]
    assert min(alone) > 0
    whole = parameters_of(config, Plan(), Training(tokens=1, finetune="lora").numerics("bf16"))
    assert sum(alone) == pytest.approx(whole.adapters)


def test_resolve_names_the_targets_that_the_model_has(small):
    settings = ["--set", "model=deepseek-v2-lite", "--set", "workload.finetune=lora"]
    result = CliRunner().invoke(main, ["resolve", small, *settings])
    (found,) = json.loads(result.stdout)["scenarios"]
    assert found["numerics.targets"]["value"] == ["q", "kv_down", "kv_up", "attention_out"]


def test_resolve_of_a_dtype_nobody_trains_in_is_one_line(small):
    result = CliRunner().invoke(main, ["resolve", small, "--set", "dtype=int8"])
    assert result.exit_code == 2 and result.stdout == ""
    assert (
        result.stderr.startswith("simgpu: --set: dtype: 'int8' is not supported for training")
        and result.stderr.count("\n") == 1
    )


def test_ranges_of_exponents_agree():
    """Files are read without numpy, so the limit stands twice."""
    assert fields.MOST_EXPONENT == routing.MOST_EXPONENT
