"""llama.cpp on one and more GPUs, batch 1, by XiongjieDai: Llama 3 in Q4_K_M and F16, decode and prompts.

How it was measured: llama-bench of May 2024. Several GPUs share the layers, as a pipeline.

Traps: F16 prompts on A100, L40S and RTX 5000 Ada are 5 to 10 times too slow, and flagged. The hosts join their GPUs by
PCIe.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.adapters.inference_runs import DECODE, PREFILL, Engine, MeasuredRun
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(
    positive=("num_gpus", "num_tokens", "tokens_per_s"),
    words=("gpu", "model", "quant", "phase"),
    optional=("suspicious",),
)

MODELS = {f"llama{n}-{size}": f"llama-{n}-{size}" for n, size in (("3", "8b"), ("3", "70b"), ("2", "7b"), ("2", "13b"),
          ("2", "70b"))}  # fmt: skip
"""Models of the table by their names in the catalogue."""

MAY_2024 = "llama.cpp@2024-05"
"""The version that the table was measured with."""


def run(row: Reader) -> Iterable[MeasuredRun | str]:
    """llama-bench: tg N is the decode of N tokens behind an empty cache, pp N a prompt of N tokens."""
    name, quant, phase = row.word("model"), row.word("quant"), row.word("phase")
    if name not in MODELS:
        return [f"no model '{name}' in the catalogue"]
    precision = {"F16": "fp16"}.get(quant, quant.lower())
    gpus, tokens = row.count("num_gpus"), row.count("num_tokens")
    config = row.catalogue.model(MODELS[name])
    engine = Engine(config, Plan(pp=gpus), precision, MAY_2024, "fp16", per_node=gpus, link="pcie")
    seconds = tokens / row.number("tokens_per_s")
    if phase not in (DECODE, PREFILL):
        return [f"no phase '{phase}'; expected decode or prefill"]
    if phase == DECODE:
        return [MeasuredRun(DECODE, engine, seconds, 1, 0, tokens + 1, dtype=quant)]
    return [MeasuredRun(PREFILL, engine, seconds, 1, tokens, 1, dtype=quant)]


SOURCE = Source(
    "https://github.com/XiongjieDai/GPU-Benchmarks-on-LLM-Inference at aa72e0ec8, no licence (facts only): README.md",
    [inference.adapter(COLUMNS, run, "tokens_per_s")],
)
