"""Steps of Llama 3.3 70B in FP8 in vLLM 0.10.1 on H100, as NVIDIA Dynamo's planner ships them.

How it was measured: an idle engine gets one prompt, then as many requests as fill a share of its cache. Time to the
first token, and time between tokens, over two, four and eight GPUs.

Traps: how many tokens each request asks for is not stated, so that of several requests nobody knows how many prompts
come between two tokens. The share of the cache is of 224,133 tokens, whatever the GPUs.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.adapters.inference_runs import DECODE, TTFT, Engine, MeasuredRun
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(
    positive=("tp",),
    words=("gpu", "model", "framework", "framework_version", "kind"),
    sparse=("input_tokens", "context_tokens", "kv_usage", "ttft_s", "itl_s"),
)

MODELS = {"nvidia/Llama-3.3-70B-Instruct-FP8": "llama-3.3-70b"}
CACHE = 224133
"""Tokens that a share of the cache is of, as the files record it."""
ALONE = 1.5
"""Requests up to which the share of the cache is that of one."""
NEXT = 2  # tokens of a run whose first one, or the gap behind it, was timed


def run(row: Reader) -> Iterable[MeasuredRun | str]:
    """The first token of one prompt, or the gap between two tokens of a full engine."""
    model = MODELS.get(row.word("model"))
    if model is None:
        return [f"no model '{row.word('model')}' in the catalogue"]
    runtime = f"{row.word('framework')}@{row.word('framework_version')}"
    engine = Engine(row.catalogue.model(model), Plan(tp=row.count("tp")), "fp8", runtime, "bf16")
    if row.word("kind") == "prefill":
        return [MeasuredRun(TTFT, engine, row.number("ttft_s"), 1, row.count("input_tokens"), NEXT, True, dtype="fp8")]
    context = max(round(row.number("context_tokens")), NEXT)
    requests = row.number("kv_usage") * CACHE / context
    if requests > ALONE:
        return ["how often prompts come between the tokens of several requests is not stated"]
    return [MeasuredRun(DECODE, engine, row.number("itl_s"), 1, context, NEXT, dtype="fp8")]


SOURCE = Source(
    "https://pypi.org/project/ai-dynamo/1.0.2, Apache-2.0: dynamo/planner/utils/pre_swept_results",
    [inference.adapter(COLUMNS, run, "itl_s")],
    seen=False,
)
