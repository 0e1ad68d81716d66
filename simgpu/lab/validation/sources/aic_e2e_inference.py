"""Load tests of served models, collected by AIConfigurator: SGLang, TensorRT-LLM and vLLM on H100.

How it was measured: mean time to the first token and mean time of a further one, at a fixed concurrency; dumps of
InferenceX (SemiAnalysis) and runs of NVIDIA. With mode `disagg`, prompts run on GPUs of their own.

Traps: the time to the first token holds the queue, up to minutes. Lengths of InferenceX's runs are drawn (see
`INFERENCEX`), of others it is not stated. The same ranks stand in two columns at times, which multiply to more GPUs
than ran: see `_plan`. Zero means unknown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from simgpu.errors import InputError
from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.adapters.inference_runs import E2E, TPOT, TTFT, Engine, MeasuredRun
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.workload.runtime_files import shipped

_SIDES = ("", "prefill_", "decode_")
_SPLITS = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")

COLUMNS = Columns(
    positive=("input_tokens", "output_tokens", "ttft_s", "tpot_s"),
    words=("gpu", "model", "framework"),
    optional=("suspicious", "version", "precision", "gemm_quant_mode", "moe_quant_mode", "mode", "data_source"),
    loose=(
        *("concurrency", "batch_size", "prefill_num_workers", "decode_num_workers"),
        *(f"{side}{name}" for side in _SIDES for name in _SPLITS),
    ),
)

_NARROW = {"fp8": "fp8", "fp8_block": "fp8-block", "nvfp4": "fp4", "int8_wo": "w8a16", "int4_wo": "int4", "": "bf16",
           "bfloat16": "bf16", "float16": "bf16", "mxfp4": "mxfp4", "w4a16_mxfp4": "mxfp4"}  # fmt: skip
_RUNTIMES = ("trtllm", "vllm", "sglang")

INFERENCEX = re.compile(r"(20\d\d-\d\d-\d\d\.csv|db-dump/)")
"""Dumps of InferenceX's database. Its scripts (SemiAnalysisAI/InferenceX, benchmarks/) send ten prompts a client whose
lengths are drawn evenly from 0.8 of the nominal ones to these (`--random-range-ratio 0.8`)."""

DRAWN = 0.9
"""Mean of the lengths over the nominal ones there."""

WAVES = 10
"""Prompts of each client there."""

FRONT, FRONT_TOKEN = 0.01, 4e-6
"""Seconds of a request, and of each token of its prompt, between that client and the engine, beside the runtime's T0:
HTTP, the tokeniser, a client in one Python process. Of four pairs the one with the least median error of the first
tokens of vLLM and TensorRT-LLM there (docs/inference.md)."""


def run(row: Reader) -> Iterable[MeasuredRun | str]:
    """Mean TTFT and TPOT of a load test at a fixed concurrency."""
    model = row.word("model")
    known = row.catalogue.published(model)
    if known is None:
        return [f"no model '{model}' in the catalogue"]
    framework = row.word("framework").lower()
    if framework not in _RUNTIMES:
        return [f"no runtime '{framework}'"]
    dumped = INFERENCEX.match(row.word("data_source")) is not None
    config = row.catalogue.model(known)
    precision = _precision(row, config, model)
    if precision is None:
        return [f"no precision '{row.word('gemm_quant_mode')}', '{row.word('moe_quant_mode')}'"]
    if row.word("mode") not in ("", "agg", "disagg"):
        return [f"no mode '{row.word('mode')}'; expected agg or disagg"]
    apart = row.word("mode") == "disagg"
    prompt, output = row.count("input_tokens"), row.count("output_tokens")
    if dumped and output > 1:
        prompt, output = round(prompt * DRAWN), max(round(output * DRAWN), 2)
    concurrency = row.count("concurrency", row.count("batch_size", 0))
    if not concurrency:
        return ["no concurrency stated"]
    if apart and not (row.has("prefill_num_workers") and row.has("decode_num_workers")):
        return ["how many engines take prompts and how many decode, and whether they speculate, is not stated"]
    # TensorRT-LLM's cache is what the checkpoint says: in 8 bits where ModelOpt made it, not where scales are of blocks
    kv = "fp8" if framework == "trtllm" and precision in ("fp8", "fp4") else ""
    if framework == "vllm" and dumped and known in CACHED_IN_FP8 and row.multiplies("fp4"):
        kv = "fp8"
    runtime = _runtime(framework, row.word("version"))
    base = Engine(config, Plan(), precision, runtime, "bf16", kv, network="InfiniBand 50 GB/s per GPU")
    if framework == "vllm" and dumped:
        base = replace(base, sequences=max(concurrency, SEQUENCES), experts=_experts(row, precision))
    engine = _placed(base, _plan(row, config, "decode_" if apart else ""))
    common = MeasuredRun(
        TTFT, engine, row.number("ttft_s"), concurrency, prompt, output, True, dtype=precision, drawn=dumped,
        waves=WAVES * dumped, front=(FRONT + FRONT_TOKEN * prompt) * dumped,
    )  # fmt: skip
    if apart:
        first = _placed(base, _plan(row, config, "prefill_"))
        counts = row.count("prefill_num_workers"), row.count("decode_num_workers")
        common = replace(common, apart=first, instances=counts)
    whole = row.number("ttft_s") + row.number("tpot_s") * (output - 1)
    if output == 1:  # no token after the first
        return [common]
    return [common, replace(common, op=TPOT, measured=row.number("tpot_s")), replace(common, op=E2E, measured=whole)]


CACHED_IN_FP8 = ("llama-3.1-70b", "gpt-oss-120b")
"""Models whose scripts for Blackwell ask vLLM for a cache in 8 bits (InferenceX, benchmarks/70b_fp8_b200_docker.sh,
70b_fp4_b200_docker.sh, single_node/gptoss_fp4_b200.sh). Those for Hopper ran with one in 16: 29 of 32 requests with
7,800 tokens found room in two H100 beside 70B in fp8."""


MARLIN = "marlin-mxfp4"
"""Experts of gpt-oss on Hopper in InferenceX's scripts for vLLM, which set VLLM_MXFP4_USE_MARLIN (benchmarks/
single_node/gptoss_fp4_h200.sh, gptoss_fp4_h100.sh); vLLM itself would take OpenAI's Triton kernels."""


IN_BLOCKS = ("Qwen/Qwen3-235B-A22B-FP8", "MiniMaxAI/MiniMax-M2.5")
"""Checkpoints whose FP8 has a scale for each block of 128 x 128 (their config.json, weight_block_size; as DeepSeek's):
vllm-project/vllm issue 17619, NVIDIA Megatron Bridge documentation of MiniMax-M2."""


SEQUENCES = 256
"""max_num_seqs of InferenceX's scripts for vLLM, or the clients where they are more: as many as clients, 256 or 512."""


def _experts(row: Reader, precision: str) -> str:
    """The library of experts that scripts for vLLM choose there; empty: as the runtime has it."""
    return MARLIN if precision == "mxfp4" and not row.multiplies("fp4") else ""


def _runtime(framework: str, version: str) -> str:
    """The runtime of a version; the engine's own where none is stated, or it is older than all known."""
    try:
        return shipped().of(f"{framework}@{version}").name
    except InputError:
        return framework


def _precision(row: Reader, config: TransformerConfig, model: str) -> str | None:
    """The precision that two columns name: of the dense products and of the experts.

    gpt-oss is published in MXFP4, and some checkpoints in FP8 have scales of blocks (`IN_BLOCKS`), whatever a table
    calls them.
    """
    dense, experts = row.word("gemm_quant_mode"), row.word("moe_quant_mode")
    if config.sinks and "fp4" in (dense + experts + row.word("precision")):
        return "mxfp4"
    if config.sinks and config.experts > 1:
        return "mxfp4"
    if "fp8" in dense and (experts == "fp8_block" or config.kv_rank or model in IN_BLOCKS):
        return "fp8-block"
    return _NARROW.get(dense)


def _plan(row: Reader, config: TransformerConfig, side: str) -> Plan:
    """Degrees of one side. `attention_dp_size` ranks take turns with whole requests.

    The same ranks stand in two columns at times, and the table multiplies them to more GPUs than ran:
    `moe_tp_size` = `moe_ep_size` = w in a width of w x w are w GPUs (DeepSeek-V3 of TensorRT-LLM on H200: 64 with 8 x 8
    takes the times of 8 with 8 x 1 to 0.5 %; gpt-oss: 16 with 4 x 4 those of 4 with 1 x 4), and `attention_dp_size` =
    `tp_size` = w are one group of w. A tensor width that the heads do not divide into is that of attention data
    parallelism, if the experts are spread over as many ranks.
    """
    tp, pp, dp, moe_tp, ep = (max(row.count(f"{side}{name}", 1), 1) for name in _SPLITS)
    if config.experts == 1:
        return Plan(tp=tp, pp=pp, dp=dp)
    if moe_tp == ep > 1 and tp * dp == ep * ep:
        tp, dp = (ep, 1) if tp > 1 else (1, ep)
    if not side and dp > 1 and dp == tp:  # attention_dp 4 in a group of 4: the same runs as TP 4 (see the page)
        dp = 1
    if config.heads % tp and ep == tp and dp == 1:
        tp, dp = 1, tp
    ep = min(ep, tp * dp)
    while (tp * dp) % ep or (ep > tp and ep % tp) or (ep <= tp and tp % ep):
        ep -= 1
    return Plan(tp=tp, pp=pp, dp=dp, ep=ep)


def _placed(engine: Engine, plan: Plan) -> Engine:
    """An engine on the ranks of a plan."""
    return replace(engine, plan=plan, config=_in_slots(engine.config, plan.ep))


def _in_slots(config: TransformerConfig, ep: int) -> TransformerConfig:
    """The model with its experts in as many slots as divide over the ranks: some experts are held twice.

    TensorRT-LLM, examples/wide_ep: `num_slots` is a multiple of the expert-parallel size, 288 over 36 ranks for the 256
    experts of DeepSeek; SGLang and vLLM have redundant experts (EPLB) to the same end.
    """
    return config if config.experts % ep == 0 else replace(config, experts=-(-config.experts // ep) * ep)


SOURCE = Source(
    "https://github.com/ai-dynamo/aiconfigurator at 095f58a51c4c, Apache-2.0: silicon_sample.csv",
    [inference.adapter(COLUMNS, run)],
    gpus=("h100-sxm",),
    reasons=(
        Reason(
            "prefill apart: seconds to tens of seconds to the first token at any load, which are not those of a prompt",
            "ttft",
            where=lambda n: n["slow"] < 0.8 and "decode_num_workers" in n,
        ),
        Reason(
            "the weights fill the GPU: how many requests the cache holds, and so the queue, hangs on a few hundred MB",
            library="sglang",
            where=lambda n: n["slow"] < 0.8 and n["tp_size"] == 1,
        ),
        Reason(
            "22 s to the first token, then 5 ms for each: the engine probably held back most of the 512 clients, of"
            " which the table says nothing",
            library="vllm",
            where=lambda n: n["concurrency"] >= 512 and (n["slow"] > 1.25 or n["slow"] < 0.1),
        ),
        Reason(
            "the cache holds about as many requests as there are clients: whether one of them waits for a whole answer"
            " hangs on a few hundred MB",
            "ttft",
            library="vllm",
            where=lambda n: n["slow"] < 0.8 and n["concurrency"] >= 16,
        ),
        Reason(
            "which requests arrive together, and whether the first ones count, is not in the table: TensorRT-LLM's"
            " first token takes from 0.2 to 2 s at loads that are alike",
            "ttft",
            library="trtllm",
            where=lambda n: n["slow"] < 0.8,
        ),
        Reason(
            "saturated: the queue hangs on the lengths of the outputs, which such tools draw below those they state",
            "ttft",
            where=lambda n: n["slow"] > 1.25,
        ),
    ),
)
