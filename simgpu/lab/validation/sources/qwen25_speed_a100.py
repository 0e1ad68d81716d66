"""Speed of Qwen2.5 on A100: one sequence in vLLM 0.6.3 and in transformers, by prompt, as its authors publish it.

How it was measured: 2,048 new tokens behind a prompt, batch of one; tokens per second of the whole.

Traps: the host's constants of vLLM 0.6 and of eager transformers were chosen on rows of this page, so that it is no
stranger to either. transformers spreads layers over GPUs, vLLM splits tensors.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.adapters.inference_runs import DECODE, E2E, Engine, MeasuredRun
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.reports import INFERENCE_COLUMNS, TOKENS_PER_S, named
from simgpu.lab.validation.source import Source
from simgpu.plan.parallelism import Plan

WITHOUT_SERVER = ("eager", "compiled")
"""Runtimes whose runs are those of a batch: their prompts, under a tenth of the whole, count as tokens."""
PRECISIONS = {
    "BF16": "bf16",
    "GPTQ-Int4": "int4",
    "GPTQ-Int8": "w8a16",
    "AWQ": "int4",
    "bf16": "bf16",
    "w8a16": "w8a16",
}


def run(row: Reader) -> Iterable[MeasuredRun | str]:
    """Seconds of one sequence: its prompt, then its tokens."""
    model = named(row, {})
    if model is None:
        return [f"no model '{row.word('model')}' in the catalogue"]
    words = row.word("framework")
    return speed(row, model, "vllm@0.6" if words.startswith("vLLM") else "eager")


def speed(row: Reader, model: str, runtime: str) -> list[MeasuredRun | str]:
    """Seconds of a prompt and its tokens by the tokens per second of a row, whose `seq` is prompt/output."""
    if not row.has("measured"):
        return ["did not run"]
    precision = PRECISIONS.get(row.word("precision"))
    if precision is None or row.word("unit") != TOKENS_PER_S:
        return [f"no meaning for precision '{row.word('precision')}' and unit '{row.word('unit')}'"]
    prompt, _, output = row.word("seq").partition("/")
    if not (prompt.isdigit() and output.isdigit()):
        return [f"no meaning for seq '{row.word('seq')}'"]
    engine = Engine(
        row.catalogue.model(model), Plan(tp=row.count("tp"), pp=row.count("pp")), precision, runtime, "bf16",
        link="nvswitch", generates=True,
    )  # fmt: skip
    seconds = int(output) / row.number("measured")
    load = row.count("mbs"), int(prompt), int(output)
    op = DECODE if runtime in WITHOUT_SERVER else E2E
    return [MeasuredRun(op, engine, seconds, *load, dtype=row.word("precision"), caveat=row.word("note"))]


SOURCE = Source(
    "https://github.com/QwenLM/Qwen2.5 at 010c37c: docs/source/benchmark/speed_benchmark.rst",
    [inference.adapter(INFERENCE_COLUMNS, run)],
)
