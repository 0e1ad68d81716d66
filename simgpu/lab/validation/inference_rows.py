"""Rows of tables of whole inference runs as what is simulated: a model, a precision, a plan, a runtime, and a load.

Nothing here is fitted. What a table spells out differently from simgpu is translated in this file alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from simgpu.catalog import Catalogue
from simgpu.lab.validation.training_rows import TIED, Reader, bidirectional, gpt, llama
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.workload.runtime_files import runtime
from simgpu.workload.runtimes import SPLIT

DECODE, PREFILL, TTFT, TPOT, E2E = "decode", "prefill", "ttft", "tpot", "e2e"
OPERATIONS = (DECODE, PREFILL, TTFT, TPOT, E2E)
"""What is measured of whole runs."""


@dataclass(frozen=True)
class Engine:
    """A deployment of a row: names of the catalogue and of runtimes."""

    config: TransformerConfig
    plan: Plan
    precision: str
    runtime: str
    dtype: str
    kv_dtype: str = ""
    per_node: int = 8
    link: str = ""
    network: str = ""

    @property
    def caveat(self) -> str:
        """Runs whose errors are a class of their own."""
        return SPLIT if runtime(self.runtime).style == "ggml" and self.plan.pp > 1 else ""


@dataclass(frozen=True)
class Asked:
    """A quantity of a row: `op`, what was measured (s), the load: `batch` sequences of `prompt` and `output` tokens.

    `served` is a load test at a fixed concurrency, `apart` one whose prefill runs on other GPUs; else one batch.
    """

    op: str
    engine: Engine
    measured: float
    batch: int
    prompt: int
    output: int
    served: bool = False
    apart: Engine | None = None
    instances: tuple[int, int] = (1, 1)  # engines of prefill and of decode, where they are apart
    dtype: str = ""  # as the table spells it
    caveat: str = ""


Translate = Callable[[Reader, Catalogue], "Iterable[Asked | str]"]
"""What a row asks for: quantities to predict, or in words why there is no prediction."""


# ---- llama.cpp ---------------------------------------------------------------------------------------

_LLAMA = {f"llama{n}-{size}": f"llama-{n}-{size}" for n, size in (("3", "8b"), ("3", "70b"), ("2", "7b"), ("2", "13b"),
          ("2", "70b"))}  # fmt: skip


MAY_2024 = "llama.cpp@2024-05"
"""The version that the table was measured with."""


def llama_cpp(row: Reader, catalogue: Catalogue) -> Iterable[Asked | str]:
    """llama-bench: tg N is the decode of N tokens behind an empty cache, pp N a prompt of N tokens."""
    name, quant, phase = row.word("model"), row.word("quant"), row.word("phase")
    if name not in _LLAMA:
        return [f"no model '{name}' in the catalogue"]
    precision = {"F16": "fp16"}.get(quant, quant.lower())
    gpus, tokens = row.count("num_gpus"), row.count("num_tokens")
    config = catalogue.model(_LLAMA[name])
    engine = Engine(config, Plan(pp=gpus), precision, MAY_2024, "fp16", per_node=gpus, link="pcie")
    seconds = tokens / row.number("tokens_per_s")
    if phase not in (DECODE, PREFILL):
        return [f"no phase '{phase}'; expected decode or prefill"]
    if phase == DECODE:
        return [Asked(DECODE, engine, seconds, 1, 0, tokens + 1, dtype=quant)]
    return [Asked(PREFILL, engine, seconds, 1, tokens, 1, dtype=quant)]


# ---- load tests --------------------------------------------------------------------------------------

_NARROW = {"fp8": "fp8", "fp8_block": "fp8-block", "nvfp4": "fp4", "int8_wo": "w8a16", "int4_wo": "int4", "": "bf16",
           "bfloat16": "bf16", "float16": "bf16", "mxfp4": "mxfp4", "w4a16_mxfp4": "mxfp4"}  # fmt: skip
_RUNTIMES = {"trtllm": "trtllm", "vllm": "vllm", "sglang": "sglang"}


def load_test(row: Reader, catalogue: Catalogue) -> Iterable[Asked | str]:
    """Mean TTFT and TPOT of load tests at a fixed concurrency (ai-dynamo/aiconfigurator, silicon_sample)."""
    model = row.word("model")
    known = catalogue.published(model)
    if known is None:
        return [f"no model '{model}' in the catalogue"]
    framework = row.word("framework").lower()
    if framework not in _RUNTIMES:
        return [f"no runtime '{framework}'"]
    config = catalogue.model(known)
    precision = _precision(row, config, model)
    if precision is None:
        return [f"no precision '{row.word('gemm_quant_mode')}', '{row.word('moe_quant_mode')}'"]
    if row.word("mode") not in ("", "agg", "disagg"):
        return [f"no mode '{row.word('mode')}'; expected agg or disagg"]
    apart = row.word("mode") == "disagg"
    prompt, output = row.count("input_tokens"), row.count("output_tokens")
    concurrency = row.count("concurrency", row.count("batch_size", 0))
    if not concurrency:
        return ["no concurrency stated"]
    if apart and not (row.has("prefill_num_workers") and row.has("decode_num_workers")):
        return ["how many engines take prompts and how many decode, and whether they speculate, is not stated"]
    # TensorRT-LLM's cache is what the checkpoint says: in 8 bits where ModelOpt made it, not where scales are of blocks
    kv = "fp8" if framework == "trtllm" and precision in ("fp8", "fp4") else ""
    base = Engine(config, Plan(), precision, _RUNTIMES[framework], "bf16", kv, network="InfiniBand 50 GB/s per GPU")
    engine = _placed(base, _plan(row, config, "decode_" if apart else ""))
    common = Asked(TTFT, engine, row.number("ttft_s"), concurrency, prompt, output, True, dtype=precision)
    if apart:
        first = _placed(base, _plan(row, config, "prefill_"))
        counts = row.count("prefill_num_workers"), row.count("decode_num_workers")
        common = replace(common, apart=first, instances=counts)
    whole = row.number("ttft_s") + row.number("tpot_s") * (output - 1)
    if output == 1:  # no token after the first
        return [common]
    return [common, replace(common, op=TPOT, measured=row.number("tpot_s")), replace(common, op=E2E, measured=whole)]


def _precision(row: Reader, config: TransformerConfig, model: str) -> str | None:
    """The precision that two columns name: of the dense products and of the experts. gpt-oss is published in MXFP4, and
    DeepSeek's FP8 is in blocks, whatever a table calls them."""
    dense, experts = row.word("gemm_quant_mode"), row.word("moe_quant_mode")
    if config.sinks and "fp4" in (dense + experts + row.word("precision")):
        return "mxfp4"
    if config.sinks and config.experts > 1:
        return "mxfp4"
    if "fp8" in dense and (experts == "fp8_block" or config.kv_rank):
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
    names = ("tp_size", "pp_size", "attention_dp_size", "moe_tp_size", "moe_ep_size")
    tp, pp, dp, moe_tp, ep = (max(row.count(f"{side}{name}", 1), 1) for name in names)
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


# ---- NeuSight ----------------------------------------------------------------------------------------

_ACTIVATIONS = {"gpt": "gelu_new", "ber": "gelu", "opt": "relu"}
"""Of the families in the table (transformers' config classes)."""


def neusight(row: Reader, catalogue: Catalogue) -> Iterable[Asked | str]:
    """sitar-lab/NeuSight: one forward of Hugging Face models, eager, fp32 on vector units."""
    if row.word("mode") != "inference_prefill":
        return ["with a backward pass: see validate training"]
    model = row.word("model")
    if model.startswith("switch"):
        return ["an encoder-decoder of experts is not simulated"]
    config = gpt(row)
    if model.startswith("bert"):
        encoder = bidirectional(config)
        assert encoder is not None
        config = encoder
    config = replace(config, activation=_ACTIVATIONS.get(model[:3], ""))
    if row.count("num_gpus") > 1:
        return ["a forward over several GPUs is not described"]
    runtime = "compiled" if row.flag("torch_compile") else "eager"
    engine = Engine(config, Plan(), "fp32", runtime, "fp32", per_node=1)
    batch, tokens = row.count("global_batch"), row.count("seq_len")
    return [Asked(PREFILL, engine, row.number("latency_s"), batch, tokens, 1, dtype="fp32")]


def ml_engineering(row: Reader, catalogue: Catalogue) -> Iterable[Asked | str]:
    """stas00/ml-engineering: one forward of Llama 3 in transformers, eager or compiled."""
    if row.word("workload") != "forward":
        return ["with a backward pass: see validate training"]
    mode, dtype = row.word("mode"), row.dtype()
    config = llama(row, tied=row.count("hidden_size") <= TIED)
    engine = Engine(config, Plan(), dtype, "compiled" if "compile" in mode else "eager", dtype, per_node=1)
    if "reduce-overhead" in mode or "max-autotune" in mode:
        return ["CUDA graphs of torch.compile are no runtime of this project"]
    batch, tokens = row.count("batch_size"), row.count("seq_len")
    return [Asked(PREFILL, engine, row.number("latency_s"), batch, tokens, 1, dtype=row.word("dtype"))]
