"""Steps of Llama 2 70B on DGX A100 and DGX H100, by Splitwise: a batch of prompts, and a token of each of them.

How it was measured: a batch of requests of one prompt length in vLLM of late 2023, over two, four and eight GPUs; five
repeats of each (P. Patel et al., Splitwise, ISCA 2024; `data/perf_model.csv` of its simulator).

Traps: the version is inferred from the date. Power-capped boards do not say their cap.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.adapters.inference_runs import DECODE, PREFILL, Engine, MeasuredRun
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(
    positive=("tp", "prompt_tokens", "batch", "output_tokens", "prompt_s", "token_s"), words=("gpu", "model")
)

MODELS = {"llama2-70b": "llama-2-70b"}
RUNTIME = "vllm@0.2"


def run(row: Reader) -> Iterable[MeasuredRun | str]:
    """Seconds of the prompts of a batch, and of its tokens after the first."""
    model = MODELS.get(row.word("model"))
    if model is None:
        return [f"no model '{row.word('model')}' in the catalogue"]
    engine = Engine(row.catalogue.model(model), Plan(tp=row.count("tp")), "bf16", RUNTIME, "bf16")
    load = row.count("batch"), row.count("prompt_tokens"), row.count("output_tokens")
    prompts = MeasuredRun(PREFILL, engine, row.number("prompt_s"), *load, dtype="bf16")
    return [prompts, replace(prompts, op=DECODE, measured=row.number("token_s") * (load[2] - 1))]


SOURCE = Source(
    "https://github.com/Mutinifni/splitwise-sim at 8f99e7dc9b40: data/perf_model.csv",
    [inference.adapter(COLUMNS, run, "token_s")],
    seen=False,
)
