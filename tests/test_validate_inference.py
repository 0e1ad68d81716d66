"""`simgpu validate inference`: rows become deployments and loads; rows that cannot be used; all of the folder."""

# ruff: noqa: F811 - fixtures are imported, and are arguments too

import csv
import gzip

import pytest
from inference_tables import (
    APART,
    CEILINGS,
    FOLDER,
    FORWARD,
    LAYER,
    LLAMA,
    PUBLISHED_TABLES,
    SERVED,
    asked,  # noqa: F401 - fixtures
    folder,
    found,
    measured,
    run,
)
from measured import predicted, together

from simgpu.catalog import Catalogue
from simgpu.lab.validation import reasons
from simgpu.lab.validation.adapters.inference import TOO_FAST
from simgpu.lab.validation.adapters.inference_prediction import predict
from simgpu.lab.validation.adapters.inference_runs import DECODE, E2E, PREFILL, TPOT, TTFT
from simgpu.lab.validation.batches import Bench, Machine
from simgpu.lab.validation.pages.goals import INFERENCE_GOALS
from simgpu.lab.validation.pages.operators import FACTOR
from simgpu.lab.validation.run import validate
from simgpu.lab.validation.score import worst
from simgpu.lab.validation.sources import known
from simgpu.lab.validation.steps import errors_of, step_rows
from simgpu.plan.parallelism import Plan
from simgpu.workload.runtimes import SPLIT

pytestmark = together

# ---- rows --------------------------------------------------------------------------------------------


def test_a_row_of_llama_bench_is_one_sequence_behind_an_empty_cache(asked):
    pair = LLAMA | {"num_gpus": 2, "model": "llama3-70b", "quant": "F16", "phase": "prefill", "num_tokens": 1024}
    ((decode,), (prefill,), refused) = asked("llamacpp_inference", LLAMA, pair, LLAMA | {"model": "rwkv"})
    assert (decode.op, decode.batch, decode.prompt, decode.output, decode.served) == (DECODE, 1, 0, 513, False)
    assert decode.measured == pytest.approx(512 / 100.0) and decode.dtype == "Q4_K_M"
    engine = decode.engine
    assert (engine.config.name, engine.precision, engine.runtime) == ("llama-3-8b", "q4_k_m", "llama.cpp@2024-05")
    assert engine.plan == Plan() and engine.caveat == ""
    assert (prefill.op, prefill.prompt, prefill.output, prefill.measured) == (PREFILL, 1024, 1, 10.24)
    engine = prefill.engine
    assert (engine.config.name, engine.precision, engine.plan) == ("llama-3-70b", "fp16", Plan(pp=2))
    assert engine.per_node == 2 and engine.caveat == SPLIT  # all cards in one computer, layer by layer
    assert refused == ["no model 'rwkv' in the catalogue"]


def test_a_load_test_asks_for_three_times_of_one_deployment(asked):
    row, *others = asked("aic_e2e_inference", SERVED, *(SERVED | {"batch_size": 6, "concurrency": n} for n in (8, "")))
    assert [one.op for one in row] == [TTFT, TPOT, E2E]
    assert [one.measured for one in row] == pytest.approx([0.2, 0.02, 0.2 + 99 * 0.02])
    assert {(one.batch, one.prompt, one.output, one.served, one.apart) for one in row} == {(8, 1000, 100, True, None)}
    (engine,) = {one.engine for one in row}
    assert (engine.config.name, engine.plan, engine.precision) == ("qwen3-32b", Plan(tp=2), "bf16")
    assert (engine.runtime, engine.kv_dtype) == ("vllm@0.12", "")
    assert [other[0].batch for other in others] == [8, 6]  # a batch size stands for a concurrency that is not stated


def test_precisions_and_the_cache_follow_model_and_framework(asked):
    cases = {
        ("Qwen/Qwen3-32B", "vllm", "fp8", ""): ("fp8", ""),
        ("Qwen/Qwen3-32B", "TRTLLM", "fp8", ""): ("fp8", "fp8"),
        ("Qwen/Qwen3-32B", "trtllm", "", ""): ("bf16", ""),
        ("Qwen/Qwen3-32B", "sglang", "int4_wo", ""): ("int4", ""),
        ("Qwen/Qwen3-32B", "vllm", "int8_wo", ""): ("w8a16", ""),
        ("deepseek-ai/DeepSeek-V3", "sglang", "fp8", "fp8"): ("fp8-block", ""),  # published in blocks
        ("Qwen/Qwen3-235B-A22B-FP8", "trtllm", "fp8_block", "fp8_block"): ("fp8-block", ""),  # as its checkpoint says
        ("openai/gpt-oss-120b", "vllm", "nvfp4", "nvfp4"): ("mxfp4", ""),  # published so, whatever the table says
        ("openai/gpt-oss-120b", "trtllm", "fp8", "fp8"): ("mxfp4", ""),
    }
    names = ("model", "framework", "gemm_quant_mode", "moe_quant_mode")
    rows = [SERVED | dict(zip(names, key, strict=True)) for key in cases]
    engines = [one[0].engine for one in asked("aic_e2e_inference", *rows)]
    assert [(engine.precision, engine.kv_dtype) for engine in engines] == list(cases.values())


def test_experts_are_spread_over_no_more_gpus_than_ran(asked):
    moe = SERVED | {"model": "Qwen/Qwen3-235B-A22B-FP8", "gemm_quant_mode": "fp8", "tp_size": 4, "moe_ep_size": 4}
    again = moe | {"attention_dp_size": 4, "moe_ep_size": 16}
    ranks = moe | {"tp_size": 2, "attention_dp_size": 4, "moe_ep_size": 8}
    dense = SERVED | {"attention_dp_size": 2, "pp_size": 2, "moe_ep_size": 4}
    plans = [one[0].engine.plan for one in asked("aic_e2e_inference", moe, again, ranks, dense)]
    assert plans == [Plan(tp=4, ep=4), Plan(tp=4, ep=4), Plan(tp=2, dp=4, ep=8), Plan(tp=2, dp=2, pp=2)]


def test_prefill_apart_has_two_engines_and_their_numbers(asked):
    moe = APART | {"model": "Qwen/Qwen3-235B-A22B-FP8", "decode_attention_dp_size": 2, "decode_moe_ep_size": 8}
    (row, other) = asked("aic_e2e_inference", SERVED | APART, SERVED | moe)
    assert {(one.engine.plan, one.apart.plan, one.instances) for one in row} == {(Plan(tp=4), Plan(tp=2), (2, 1))}
    assert (other[0].engine.plan, other[0].apart.plan) == (Plan(tp=4, dp=2, ep=8), Plan(tp=2))


def test_load_tests_that_cannot_be_predicted_say_why(asked):
    changes = {
        "no model 'nobody/knows-this' in the catalogue": {"model": "nobody/knows-this"},
        "no runtime 'tgi'": {"framework": "tgi"},
        "no precision 'fp3', ''": {"gemm_quant_mode": "fp3"},
        "no concurrency stated": {"concurrency": ""},
    }
    refused = asked("aic_e2e_inference", *(SERVED | change for change in changes.values()))
    assert refused == [[words] for words in changes]
    apart = asked("aic_e2e_inference", SERVED | {"mode": "disagg"}, SERVED | APART | {"prefill_num_workers": ""})
    assert all("how many engines take prompts" in words for (words,) in apart)


def test_a_forward_of_neusight_is_eager_fp32_with_the_activation_of_its_family(asked):
    bert, opt = FORWARD | {"model": "bert_large"}, FORWARD | {"model": "opt_13", "torch_compile": "True"}
    refused = [FORWARD | change for change in ({"mode": "training"}, {"model": "switchxl4"}, {"num_gpus": 4})]
    rows = asked("neusight_e2e", FORWARD, bert, opt, *refused)
    (plain, encoder, compiled) = (row[0] for row in rows[:3])
    assert (plain.op, plain.batch, plain.prompt, plain.output, plain.measured) == (PREFILL, 4, 512, 1, 0.02)
    one = plain.engine
    assert (one.plan, one.precision, one.dtype, one.runtime) == (Plan(), "fp32", "fp32", "eager")
    assert (one.config.activation, one.config.causal, one.config.layers) == ("gelu_new", True, 4)
    assert (encoder.engine.config.activation, encoder.engine.config.causal) == ("gelu", False)
    assert (compiled.engine.config.activation, compiled.engine.runtime) == ("relu", "compiled")
    assert ["backward" in rows[3][0], "experts" in rows[4][0], "several GPUs" in rows[5][0]] == [True] * 3


# ---- predictions -------------------------------------------------------------------------------------


def machine_of(gpu):
    return Machine(gpu, Catalogue().spec("gpus", gpu), Bench(Catalogue()))


def test_a_request_takes_its_first_token_and_then_the_others(asked):
    (row,) = asked("aic_e2e_inference", SERVED)
    ttft, tpot, whole = (predict(machine_of("h100-sxm"), one) for one in row)
    assert whole.seconds == pytest.approx(ttft.seconds + 99 * tpot.seconds)
    assert all(0 < one.sol_s < one.seconds for one in (ttft, tpot, whole))


@pytest.mark.parametrize(("share", "kept"), [(0.85, False), (0.95, True)])
def test_runs_measured_faster_than_the_datasheet_allows_are_left_out(asked, tmp_path, share, kept):
    ((one,),) = asked("llamacpp_inference", LLAMA)
    rate = 512 / (share * predict(machine_of("rtx-4090"), one).sol_s)
    document = found(folder(tmp_path, llamacpp_inference=[LLAMA | {"tokens_per_s": rate}, LLAMA]))
    assert sum(group["rows"] for group in document["groups"]) == 1 + kept
    left_out = [(entry["rows"], entry["reason"]) for entry in document["left_out"]]
    assert left_out == ([] if kept else [(1, TOO_FAST)])


def test_rows_without_a_prediction_are_counted_once_with_the_reason(tmp_path):
    big = SERVED | {"model": "deepseek-ai/DeepSeek-V3", "gemm_quant_mode": "fp8", "tp_size": 1, "tpot_s": 0.2}
    served, benched = [big, big, SERVED | {"model": "nobody/knows-this"}], [LLAMA | {"quant": "Q9_Z"}, LLAMA]
    document = found(folder(tmp_path, aic_e2e_inference=served, llamacpp_inference=benched))
    listed = {entry["reason"][:17]: entry["rows"] for entry in document["not_predicted"]}
    assert listed == {"weights and the c": 2, "no model 'nobody/": 1, "unknown precision": 1}
    assert [group["rows"] for group in document["groups"]] == [1] and not document["left_out"]


def test_the_details_of_a_run_say_its_plan_load_and_all_of_its_gpus(tmp_path):
    rows = [SERVED | {"weather": "rain"}, SERVED | APART]  # a column that nobody knows does not matter
    together, apart = (row for row in found(folder(tmp_path, aic_e2e_inference=rows))["steps"] if row["op"] == TPOT)
    assert [together[name] for name in ("model", "gpus", "framework")] == ["qwen3-32b", 2, "vllm 0.12"]
    assert together["plan"] == "tp2 8 x 1,000+100 bf16"
    assert apart["gpus"] == 2 * 2 + 4 and apart["plan"].endswith("prefill-apart")


BAD = [
    ("llamacpp_inference", {k: v for k, v in LLAMA.items() if k != "tokens_per_s"}, "'tokens_per_s' is missing"),
    ("aic_e2e_inference", {k.replace("ttft_s", "ttft_ms"): v for k, v in SERVED.items()}, "another unit"),
    ("llamacpp_inferences", LLAMA, "did you mean 'llamacpp_inference'?"),
]


@pytest.mark.parametrize(("source", "row", "words"), BAD)
def test_bad_tables_are_one_line(tmp_path, source, row, words):
    result = run("--data", folder(tmp_path, **{source: [row]}))
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1 and not result.stdout


@pytest.mark.parametrize(
    ("source", "row", "words"),
    [
        (
            "llamacpp_inference",
            LLAMA | {"num_gpus": 1.5},
            "llamacpp_inference.csv:3: num_gpus: '1.5': expected a whole",
        ),
        ("llamacpp_inference", LLAMA | {"gpu": "rtx-nonsense"}, "llamacpp_inference.csv:3: gpu: unknown GPU"),
        ("aic_e2e_inference", SERVED | {"tpot_s": "fast"}, "aic_e2e_inference.csv:3: tpot_s: 'fast'"),
        ("neusight_e2e", FORWARD | {"num_layers": "", "mode": "training"}, "neusight_e2e.csv:3: num_layers: is empty"),
    ],
)
def test_a_bad_row_is_listed_and_the_others_are_predicted(tmp_path, source, row, words):
    good = {"llamacpp_inference": LLAMA, "aic_e2e_inference": SERVED, "neusight_e2e": FORWARD}[source]
    document = found(folder(tmp_path, **{source: [good, row]}))
    (listed,) = document["not_predicted"]
    assert listed["reason"].startswith(words) and listed["rows"] == 1 and listed["lines"] == [3]
    assert {row["line"] for row in document["steps"]} == {2}


def test_a_row_of_prefill_apart_that_is_far_off_has_no_reason_by_a_column_that_it_lacks(tmp_path):
    """Its columns are prefill_tp_size and decode_tp_size; tp_size is empty."""
    row = SERVED | APART | {"framework": "sglang", "tpot_s": 2.0, "ttft_s": 9.0}
    document = found(folder(tmp_path, aic_e2e_inference=[row]))
    assert {row["op"]: bool(row["why"]) for row in document["steps"]} == {TTFT: True, TPOT: False, E2E: False}


def test_rows_that_ran_and_are_said_not_to_fit_are_counted_and_named(tmp_path):
    big = SERVED | {"model": "deepseek-ai/DeepSeek-V3", "gemm_quant_mode": "fp8", "tp_size": 1}
    place = folder(tmp_path, aic_e2e_inference=[SERVED, big, big])
    (entry,) = found(place)["said_not_to_fit"]
    assert (entry["rows"], entry["lines"]) == (2, [3, 4]) and "do not fit" in entry["reason"]
    assert "Ran, but said not to fit the memory: 2 rows" in run("--data", place, "-q").stdout


def test_widths_that_hold_the_same_ranks_twice_are_those_ranks(asked):
    """tp, attention dp, moe tp, moe ep as the table has them; the plan that ran."""
    deepseek = SERVED | {"model": "deepseek-ai/DeepSeek-V3", "gemm_quant_mode": "fp8"}
    widths = {
        (64, 1, 8, 8): Plan(tp=8, ep=8),
        (1, 64, 8, 8): Plan(dp=8, ep=8),
        (8, 1, 8, 1): Plan(tp=8),
        (8, 1, 1, 8): Plan(tp=8, ep=8),
        (1, 8, 1, 8): Plan(dp=8, ep=8),
        (36, 1, 1, 36): Plan(dp=36, ep=36),  # 36 does not divide the 128 heads
    }
    names = ("tp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    rows = asked("aic_e2e_inference", *(deepseek | dict(zip(names, key, strict=True)) for key in widths))
    assert [row[0].engine.plan for row in rows] == list(widths.values())
    slots = [row[0].engine.config.experts for row in rows]
    assert slots == [256] * 5 + [288]  # a multiple of 36: 32 experts are held twice
    assert predict(machine_of("gb200"), rows[-1][1]).seconds > 0  # 36 of the 72 behind one NVSwitch


@pytest.mark.parametrize(
    ("published", "name"),
    [
        ("nvidia/Llama-3.1-8B-Instruct-NVFP4", "llama-3.1-8b"),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", "deepseek-r1"),
        ("RedHatAI/Qwen3-32B-quantized.w4a16", "qwen3-32b"),
        ("amd/Llama-3.3-70B-Instruct-MXFP4-Preview", "llama-3.3-70b"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "qwen2.5-7b"),
        ("somebody/Llama-3.1-8B-Instruct", None),  # another owner may have trained it further
        ("nvidia/Nobody-Knows-This-NVFP4", None),
    ],
)
def test_quantised_weights_are_those_of_their_model(published, name):
    assert Catalogue().published(published) == name


def test_norms_of_heads_are_rms_norms_of_their_width(tmp_path):
    qwen = LAYER | {"model": "Qwen3-32B", "layer": "qk_norm", "num_tokens": 4096, "latency_s": 5e-5}
    whole = LAYER | {"model": "Qwen3-32B", "layer": "layernorm", "num_tokens": 4096, "latency_s": 1e-4}
    done = validate("kernels", folder(tmp_path, llmservingsim_ops=[qwen, whole]), Catalogue())
    assert not done.not_predicted
    norm, heads = (float(part.predicted[0]) for part in done.scored)
    assert all(part.batch.op == "normalization" for part in done.scored)
    assert heads > norm / 2
    # 72 heads of 128 read and written, against 5,120 read twice and written twice with the residual
    norm, heads = (float(part.roofline[0]) for part in done.scored)
    assert heads / norm == pytest.approx(72 * 128 * 2 / (5120 * 4), rel=1e-3)


# ---- the shared measurements -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole():
    """One validation of the whole folder."""
    return predicted("inference")


@measured
@pytest.mark.slow
def test_every_row_of_the_folder_is_accounted_for(whole):
    sources = {part.source for part in whole.scored}
    here = {name for name in known() if any(FOLDER.glob(f"{name}.csv*"))}  # others lie in folders of their own
    assert sources == {name for name in here if known()[name].adapter("inference")} - PUBLISHED_TABLES
    for source in sources:
        file = next(iter(FOLDER.glob(f"{source}.csv*")))
        with gzip.open(file, "rt") if file.suffix == ".gz" else file.open() as stream:
            rows = sum(1 for _ in csv.DictReader(stream))
        counted = sum(len(part.measured) for part in whole.scored if part.source == source and not part.batch.again)
        counted += sum(entry.rows for entry in (*whole.not_predicted, *whole.left_out) if entry.source == source)
        assert counted == rows, source
    assert all(entry.reason and entry.rows > 0 for entry in (*whole.not_predicted, *whole.left_out))
    served = [sum(len(part.measured) for part in whole.scored if part.batch.op == op) for op in (TTFT, TPOT, E2E)]
    assert served[0] >= served[1] == served[2] > 0  # of an idle server its first tokens alone


@measured
@pytest.mark.slow
def test_runs_of_the_folder_are_no_farther_off_than_they_were(whole):
    rows = step_rows(whole)
    reached = {goal.title: errors_of([row for row in rows if goal.takes(row)]) for goal in INFERENCE_GOALS}
    assert set(reached) == set(CEILINGS)
    for title, (median, mean) in CEILINGS.items():
        got = reached[title]
        assert 100 * got["median_ape"] <= median and 100 * got["mape"] <= mean, (title, got)
    assert errors_of([row for row in rows if row["op"] == TTFT])["coverage80"] >= 0.75


@measured
@pytest.mark.slow
def test_runs_far_off_are_explained_by_name(whole):
    rows = worst(whole, None, FACTOR)
    assert rows
    unexplained = [row for row in rows if not reasons.reason(row)]
    assert not unexplained, unexplained[:5]
