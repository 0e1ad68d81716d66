"""What a user sees of inference: experiments, what fits, explanations, intervals, and bad input in one line."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

import simgpu
from simgpu import Catalogue, Inference, InputError, MixedStep, Plan, Serving, simulate
from simgpu.cli import main
from simgpu.columns import COLUMNS, UNCERTAIN
from simgpu.study.experiment.running import load_experiment, run_experiment
from simgpu.study.report.capacity import COLUMNS as FIT_COLUMNS
from simgpu.study.report.memory import misfits
from simgpu.study.report.rows import build, write

ROOT = Path(__file__).parents[1]
CATALOGUE = Catalogue()
LONG = ("decode_throughput", "latency_throughput", "single_stream")
NEW = (
    *(pytest.param(name, marks=pytest.mark.slow) for name in LONG), "mig_7x", "roofline_llama8b", "rtx4090_inference",
    "what_fits",
)  # fmt: skip

CHAT = """\
experiment: chat
scenario:
  model: llama-3.1-8b
  cluster: dgx-h100
  workload: {kind: inference, batch: 4, prompt: 512, output: 64}
  plan: {tp: 2}
"""


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SIMGPU_CATALOG", raising=False)


@pytest.fixture
def chat(tmp_path):
    (tmp_path / "chat.yaml").write_text(CHAT)
    return "chat.yaml"


def cli(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


# ---- experiments -------------------------------------------------------------------------------------


class Ran(dict):
    """Outcomes of experiments by name, each run when a test first asks for it."""

    def __missing__(self, name):
        file = ROOT / "experiments" / f"{name}.yaml"
        self[name] = run_experiment(load_experiment(file, (), CATALOGUE), CATALOGUE)
        return self[name]


@pytest.fixture(scope="module")
def ran():
    return Ran()


@pytest.mark.parametrize("name", NEW)
def test_experiments_have_sane_rows_and_pictures(ran, name, tmp_path):
    outcome = ran[name]
    for row in outcome.rows:
        assert row["step_s"] > 0 and 0 < row["mfu"] < 1
        parts = sum(row[key] for key in ("compute_s", "exposed_communication_s", "host_s", "copies_s", "idle_s"))
        whole = row["step_s"] if row["workload"] != "serving" else row["tpot_s"]
        if row["pp"] == 1:  # stages work on different prompts at the same time
            assert parts == pytest.approx(whole, rel=0.02), row
        for column in UNCERTAIN:
            if f"{column}_p10" in row and row.get(column):
                assert row[f"{column}_p10"] <= row[column] <= row[f"{column}_p90"], column
    written = write(outcome, build(outcome, CATALOGUE), tmp_path, formats=["png"])
    pictures = [path for what, path in written if what == "plot"]
    assert len(pictures) == len(outcome.experiment.fields.plots) and all(p.stat().st_size > 10_000 for p in pictures)
    with (tmp_path / "trace.json").open() as trace:  # up to 100 MB; test_trace reads what is in one
        assert trace.read(20).startswith('{"traceEvents":[{')


def by(outcome, **labels):
    (row,) = [row for row in outcome.rows if all(row[key] == value for key, value in labels.items())]
    return row


def test_six_gaming_cards_take_turns(ran):
    def speed(job, machine):
        return by(ran["rtx4090_inference"], job=job, machine=machine)["output_tokens_per_s_per_user"]

    assert speed("vLLM, FP8", "6 x RTX 4090") < 0.3 * speed("vLLM, FP8", "2 x H100")
    assert speed("llama.cpp, Q4_K_M", "6 x RTX 4090") < 0.8 * speed("llama.cpp, Q4_K_M", "2 x H100")
    assert not by(ran["rtx4090_inference"], job="vLLM, bf16", machine="6 x RTX 4090")["memory_fits"]


def test_a_slice_is_an_eighth_and_holds_a_model_in_four_bits(ran):
    rows = {row["setup"]: row for row in ran["mig_7x"].rows}
    assert [rows[f"slice 1g.10gb, {name}"]["memory_fits"] for name in ("bf16", "FP8", "INT4")] == [False, True, True]
    ratio = rows["whole H100, bf16"]["tpot_s"] / rows["slice 1g.10gb, bf16"]["tpot_s"]
    assert 1 / 8 < ratio < 1 / 4
    assert not any("tp:" in text for _, text in misfits(ran["mig_7x"], CATALOGUE))  # slices reach no other


@pytest.mark.slow
def test_single_streams_stay_below_the_bound(ran):
    for row in ran["single_stream"].rows:
        assert row["output_tokens_per_s_per_user"] < row["speed_of_light_tokens_per_s_per_user"]


@pytest.mark.slow
def test_wider_replicas_are_faster_for_a_user_and_do_less_for_all(ran):
    few = {row["replicas"]: row for row in ran["latency_throughput"].rows if row["concurrency"] == 8}
    many = {row["replicas"]: row for row in ran["latency_throughput"].rows if row["concurrency"] == 512}
    assert few["1 x TP 8"]["tpot_s"] < few["2 x TP 4"]["tpot_s"] < few["4 x TP 2"]["tpot_s"]
    order = [many[name]["output_tokens_per_s_per_gpu"] for name in ("1 x TP 8", "2 x TP 4", "4 x TP 2")]
    assert order == sorted(order)


# ---- one run -----------------------------------------------------------------------------------------


def test_keys_of_rows_are_documented(chat):
    for change in ("workload.batch=2", "workload={kind: mixed, prefill: 64, decodes: 8}",
                   "workload={kind: serving, concurrency: 8, prompt: 256, output: 64}"):  # fmt: skip
        result = cli("run", chat, "--set", change, "--format", "json", "--no-plots", "-q")
        assert result.exit_code == 0, result.output
        (row,) = json.loads(result.stdout)["rows"]
        assert set(row) <= set(COLUMNS)


def test_tokens_times_and_rates_agree(chat):
    row = simulate(
        CATALOGUE.cluster("dgx-h100"), Inference(batch=4, prompt=512, output=64), CATALOGUE.model("llama-3.1-8b")
    ).row
    assert row["step_s"] == pytest.approx(row["ttft_s"] + 63 * row["tpot_s"])
    assert row["prefill_s"] + row["decode_s"] == pytest.approx(row["step_s"])
    assert row["output_tokens_per_s"] == pytest.approx(4 * row["output_tokens_per_s_per_user"])
    assert row["evaluated_steps"] <= 12


def test_the_timeline_is_as_long_as_the_row_says():
    model = CATALOGUE.model("llama-3.1-8b")
    for plan in (Plan(), Plan(tp=2), Plan(pp=2)):
        result = simulate(CATALOGUE.cluster("dgx-h100"), Inference(batch=4, prompt=512, output=64), model, plan)
        assert result.execution.step == pytest.approx(result.step_s, rel=0.02)


def test_one_gpu_is_its_own_ideal_and_more_are_less_efficient():
    model = CATALOGUE.model("llama-3.1-8b")
    job = Inference(batch=4, prompt=512, output=64)
    one, four = (simulate(CATALOGUE.cluster("dgx-h100"), job, model, Plan(tp=n)) for n in (1, 4))
    assert one.efficiency == 1.0 and one.speedup == 1.0
    assert 0.2 < four.efficiency < 0.9 and four.speedup == pytest.approx(4 * four.efficiency)


@pytest.mark.parametrize("name", ["gemma-3-27b", "gpt-oss-120b", "deepseek-v3", "qwen3-235b-a22b", "mixtral-8x22b",
                                  "llama-4-scout", "phi-4-14b", "mistral-7b", "minimax-m2", "kimi-k2"])  # fmt: skip
def test_every_family_is_served(name):
    config = CATALOGUE.model(name)
    plan = Plan(tp=8) if config.parameters > 5e10 and config.heads % 8 == 0 else Plan()
    for runtime in ("vllm", "sglang", "trtllm"):
        row = simulate(
            CATALOGUE.cluster("dgx-h200"), Inference(prompt=300, output=40, runtime=runtime), config, plan
        ).row
        assert 0.5e-3 < row["tpot_s"] < 0.2 and row["ttft_s"] > row["tpot_s"] / 2


def test_a_lone_gpu_is_a_cluster_and_a_hugging_face_name_a_model(chat):
    result = cli("run", chat, "--set", "cluster=l40s", "--set", "plan.tp=1", "--no-plots", "-q",
                 "--set", "model=meta-llama/Llama-3.1-8B-Instruct", "--format", "json")  # fmt: skip
    assert result.exit_code == 0, result.output
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["cluster"], row["model"]) == ("l40s", "llama-3.1-8b")


def test_memory_is_told_by_part(chat):
    result = cli("run", chat, "--memory", "--no-plots", "-q")
    assert result.exit_code == 0 and "kv cache" in result.stdout and "weights" in result.stdout
    assert "TPOT" in result.stdout and "tokens/s/user" in result.stdout


def test_explain_tells_prefill_from_decode_and_names_constants(chat):
    result = cli("explain", chat, "--set", "plan.pp=2", "--format", "json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)["scenarios"]
    segments = {row["segment"].split(",")[0] for row in found["operators"]}
    assert segments == {"prefill", "decode"}
    assert sum(row["share"] for row in found["operators"]) == pytest.approx(1.0, rel=0.05)
    assert {"custom", "fa3"} <= {row["library"] for row in found["operators"]}
    assert any(one["constant"] == "collective.custom.custom_latency" for one in found["constants"])
    assert all(one["source"] for one in found["constants"])
    assert "decode, dense" in cli("explain", chat).stdout


def test_resolve_shows_the_runtime_and_the_precision(chat):
    (found,) = json.loads(cli("resolve", chat, "--set", "workload.precision=fp8").stdout)["scenarios"]
    assert found["runtime.step_s"]["unit"] == "s" and "vLLM" in found["runtime.step_s"]["source"]
    assert found["precision.weights"]["value"] == "fp8" and found["clocks"]["value"] == "burst"
    assert found["serving.chunk"]["value"] == 8192
    assert all("value" in entry and entry["source"] for entry in found.values())


def test_require_fit_is_an_error_with_the_way_out(chat):
    result = cli("run", chat, "--set", "model=llama-3.1-70b", "--set", "plan.tp=1", "--require-fit")
    assert result.exit_code == 2 and "Traceback" not in result.output
    assert "needs 13" in result.output and "too much); fits with tp: 4" in result.output
    assert not Path("results").exists()


# ---- fit ---------------------------------------------------------------------------------------------


def test_fit_prints_the_matrix_of_a_model():
    result = cli("fit", "llama-3.3-70b")
    assert result.exit_code == 0, result.output
    assert "llama-3.3-70b for one user at 8,192 tokens" in result.stdout
    for word in ("bf16", "fp8", "int4", "q4_k_m", "h100-sxm", "smallest alone", "fewest GPUs needed"):
        assert word in result.stdout


def test_fit_rows_hold_what_was_asked():
    found = simgpu.fit("llama-3.1-8b", "llama-3.1-70b", gpu=("h100-sxm", "l4"), precision="bf16", users=4)
    assert [(row["model"], row["gpu"]) for row in found.rows] == [
        (model, gpu) for model in ("llama-3.1-8b", "llama-3.1-70b") for gpu in ("h100-sxm", "l4")
    ]
    for row in found.rows:
        assert set(row) == set(FIT_COLUMNS)
        assert row["fits_one"] == (row["short_by_bytes"] == 0) == (row["smallest_gpus"] == 1)
        assert row["most_users"] >= 4 and row["longest_context"] >= 8192
        assert bool(row["helps"]) != row["fits_one"]
    small, _, large, _ = found.rows
    assert small["weights_bytes"] == pytest.approx(16.06e9, rel=1e-3)
    assert large["smallest_gpus"] == 4 and large["split"] == "tp: 4"


def test_fit_agrees_with_a_run():
    found = simgpu.fit("qwen3-32b", gpu="l40s", precision="int4", context=4096, users=3).rows[0]
    row = simulate(
        CATALOGUE.cluster("l40s"), Inference(batch=3, prompt=4000, output=96, precision="int4"),
        CATALOGUE.model("qwen3-32b"),
    ).row  # fmt: skip
    assert row["memory_bytes_per_gpu"] == pytest.approx(found["needed_bytes"])
    assert row["most_sequences"] == found["most_users"]


def test_fit_knows_slices_checkpoints_and_layer_splits():
    slice_ = simgpu.fit("llama-3.1-8b", gpu="h100-sxm@1g.10gb", precision=("bf16", "int4")).rows
    assert [row["smallest_gpus"] for row in slice_] == [0, 1]
    assert simgpu.fit("gpt-oss-120b", gpu="h100-sxm").rows[0]["precision"] == "mxfp4"
    layers = simgpu.fit("llama-3.1-70b", gpu="rtx-3090", precision="q4_k_m").rows[0]
    assert layers["runtime"] == "llama.cpp" and layers["split"] == "pp: 2"


def test_fit_takes_activations_that_the_gpu_has_and_advice_that_the_runtime_has():
    old = simgpu.fit("llama-3.1-8b", gpu=("t4", "apple-m2-ultra-76c"), precision=("int4-g32", "q4_k_m")).rows
    assert [row["fits_one"] for row in old] == [True] * 4
    eager = simgpu.fit("llama-3.3-70b", gpu="h100-sxm", runtime="eager").rows
    assert [row["precision"] for row in eager] == ["bf16", "int4"] and "fp8" not in eager[0]["helps"]
    layers = simgpu.fit("llama-3.3-70b", gpu="l4", runtime="llama.cpp", precision="fp16").rows[0]
    assert layers["split"] == "pp: 7"
    assert len(simgpu.fit("llama-3.1-8b", "llama-3.1-8b", gpu="l4", precision="bf16").rows) == 1
    window = simgpu.fit("gemma-3-27b", gpu="h100-sxm", precision="bf16", context=8192).rows[0]
    assert window["kv_bytes_per_token"] < 0.3 * 2 * 62 * 16 * 128 * 2
    assert simgpu.fit("bert-large", gpu="l4", precision="bf16").rows[0]["kv_bytes_per_token"] == 0


def test_fit_writes_data_and_a_picture(tmp_path):
    result = cli("fit", "llama-3.1-8b", "qwen3-32b", "--out", tmp_path / "out", "--format", "csv")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0].startswith("model,precision,gpu,")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"fit.json", "fit.csv", "fit.png", "fit.svg"}
    assert len(json.loads((tmp_path / "out/fit.json").read_text())["rows"]) == 2 * 4 * 8


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nosuch"], "unknown model 'nosuch'"),
        (["llama-3.1-8b", "--gpu", "h100-sx"], "--gpu: unknown GPU 'h100-sx'; did you mean 'h100-sxm'?"),
        (["llama-3.1-8b", "--precision", "q4km"], "--precision: unknown precision 'q4km'; did you mean 'q4_k_m'?"),
        (["gpt2", "--context", "2000"], "--context: 2,000 tokens is more than the 1,024 learned positions of 'gpt2'"),
        (["llama-3.1-8b", "--users", "0"], "--users: 0: expected 1 or more"),
        (["llama-3.1-8b", "--context", "0"], "--context: 0: expected 1 or more"),
        (["llama-3.1-8b", "--runtime", "eager", "--precision", "fp8"], "--precision: 'fp8' is not in eager; expected"),
        (["llama-3.1-8b", "--runtime", "vllm", "--precision", "q4_k_m"], "--precision: 'q4_k_m' is a GGUF type"),
        (["llama-3.1-8b", "--runtime", "trtllm", "--precision", "fp8", "--gpu", "a100-sxm-80gb"],
         "--precision: 'fp8': 'a100-sxm-80gb' has no fp8 units, and trtllm does not convert such weights"),
    ],
)  # fmt: skip
def test_fit_explains_bad_input_in_one_line(words, message, tmp_path):
    result = cli("fit", *words, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert message in result.output and len(result.output.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


# ---- bad input ---------------------------------------------------------------------------------------

BAD = [
    ("workload.batch=0", "workload.batch: 0: input should be greater than 0"),
    ("workload.prompt=0", "workload.prompt: 0: input should be greater than 0"),
    ("model=gpt2 plan.tp=1 workload.prompt=1024", "workload.output: a context of 1,088 tokens is more than the 1,024"),
    ("model=gpt2 plan.tp=1 workload.prompt=2000",
     "workload.prompt: 2,000 tokens is more than the 1,024 learned positions of 'gpt2'"),
    ("workload.precision=fp9", "workload.precision: unknown precision 'fp9'; expected one of bf16, fp16"),
    ("workload.precision=int4-g7", "workload.precision: 'int4-g7': groups have 8 to 4096 weights"),
    ("workload.precision=q4_k_m", "workload.precision: 'q4_k_m' is a GGUF type; expected workload.runtime llama.cpp"),
    ("workload.runtime=vlm", "workload.runtime: unknown runtime 'vlm'; did you mean 'vllm'?"),
    ("workload.runtime=eager workload.precision=fp8", "workload.precision: 'fp8' is not in eager; expected"),
    ("workload.runtime=trtllm workload.precision=fp8 cluster=dgx-a100", "has no fp8 units, and trtllm does not"),
    ("workload.kv_cache=int4", "workload.kv_cache: 'int4' is not known; expected one of"),
    ("workload.routing=random", "workload.routing: 'random': 'llama-3.1-8b' has no experts; leave it out"),
    ("workload.prefix_hit=1.0", "workload.prefix_hit: 1.0: input should be less than 1"),
    ("workload.offload=2", "workload.offload: 2"),
    ("workload.chunk=0", "workload.chunk: 0: input should be greater than 0"),
    ("workload.chunks=2", "workload.chunks: unknown key; did you mean 'chunk'?"),
    ("plan.tp=3", "plan.tp: 3 does not divide the 32 attention heads of 'llama-3.1-8b'; expected one of 1, 2, 4, 8"),
    ("plan.dp=8 plan.tp=1", "plan.dp: 8 replicas are more than the 4 sequences of the batch"),
    ("plan.ep=2", "plan.ep: 2: 'llama-3.1-8b' has no experts; expected 1"),
    ("plan.zero=1", "plan.zero: 1 is supported for training only"),
    ("plan.dispatcher=hybridep", "'hybridep' is supported for training only; expected alltoall or deepep"),
    ("plan.dispatcher=deepep", "no rows travel where ranks of one replica share the experts; expected plan.ep above"),
    ("plan.cp=4 plan.tp=1 workload.prompt=1001", "plan.cp: 4 ranks with two chunks each do not divide 1001 tokens"),
    ("plan.pp=64 plan.tp=1", "plan: tp 1 x pp 64 x dp 1 = 64 ranks, but 'dgx-h100' has 8 GPUs"),
    ("dtype=int8 workload.precision=fp8", "dtype: 'int8' is the type of activations beside workload.precision"),
    ("dtype=fp64", "dtype: 'fp64' is not served in"),
    ("model=bert-large workload.prompt=64", "workload.output: 'bert-large' sees both ways and generates nothing"),
    ("workload.speculative={draft: llama-3.1-70b, acceptance: 0.8}",
     "workload.speculative.draft: 'llama-3.1-70b' (70.6B) is not smaller than 'llama-3.1-8b' (8.03B)"),
    ("workload.speculative={draft: llama-2-7b, acceptance: 0.8}", "guesses must be its tokens"),
    ("workload.speculative={draft: nosuch, acceptance: 0.8}", "workload.speculative.draft: unknown model 'nosuch'"),
    ("workload.speculative={draft: llama-3.2-1b, acceptance: 1.2}", "workload.speculative.acceptance: 1.2"),
    ("workload.speculative={draft: llama-3.2-1b, acceptance: 0.5, tokens: 0}", "workload.speculative.tokens: 0"),
    ("workload={kind: mixed, past: 50, decodes: 2}", "workload.past: 50: cached tokens of a prompt of which none"),
    ("workload={kind: serving, concurrency: 2, prompt: 8, output: 1}", "workload.output: 1: input should be greater"),
    ("workload.offload=0.5 cluster=apple-m2-ultra-76c plan.tp=1 dtype=fp16", "workload.offload: 0.5: 'apple-m2-"),
    ("workload.speculative={draft: mtp, acceptance: 0.8, precision: fp8}", "workload.speculative.precision: 'fp8'"),
    ("workload.speculative={draft: llama-3.2-1b, acceptance: 0.8, precision: q4_k_m}",
     "workload.speculative.precision: 'q4_k_m' is a GGUF type"),
    ("workload={kind: mixed}", "workload.prefill: 0, and no decodes either; a step needs some tokens"),
    ("workload={kind: serving, concurrency: 0, prompt: 5, output: 5}", "workload.concurrency: 0"),
    ("workload={kind: serving, concurrency: 4, prompt: 8, output: 8} plan.cp=2", "a server with context parallelism"),
    ("cluster=h200", "unknown cluster, node or GPU 'h200'"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "message"), BAD)
def test_bad_input_is_explained_in_one_line(chat, settings, message):
    words, depth = [""], 0
    for char in settings:  # blanks inside braces do not separate
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == " " and not depth:
            words.append("")
        else:
            words[-1] += char
    result = cli("run", chat, "-q", *(part for word in words for part in ("--set", word)))
    assert result.exit_code == 2, result.output
    assert message in result.output, result.output
    assert len(result.output.strip().splitlines()) == 1 and not Path("results").exists()


def test_bad_jobs_in_python_are_explained_too():
    cluster = CATALOGUE.cluster("h100-sxm")
    with pytest.raises(InputError, match=r"^batch: 0"):
        Inference(batch=0, prompt=1, output=1)
    with pytest.raises(InputError, match="needs one"):
        simulate(cluster, Serving(concurrency=1, prompt=8, output=8))
    with pytest.raises(InputError, match=r"model takes part|smaller|context"):
        simulate(cluster, MixedStep(decodes=4, context=2_000), CATALOGUE.model("gpt2"))
