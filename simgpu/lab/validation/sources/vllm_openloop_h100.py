"""An open load on vLLM 0.15.1 with one to four H100, by the makers of inference-sim.

How it was measured: inference-perf sends requests at constant rates, stage after stage of 10 or 20 minutes, with
prompts that share system prefixes; means over the requests of a stage.

Traps: the prompts are some dozens (`system_prompts` x `users_per_system_prompt`), sent over and over, so that all full
blocks of a prompt but its last tokens are in the cache. The columns of time per output token count each twice, and
one token more than was asked for: it is the time from the first to the last token over the tokens asked for. The mean
of generated tokens counts text that was split again. Runs of which most requests failed are flagged.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.adapters.inference_runs import E2E, TPOT, TTFT, Engine, MeasuredRun
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

COLUMNS = Columns(
    positive=("tp", "output_tokens", "prompt_tokens_mean", "ttft_s_mean", "latency_s_mean"),
    words=("gpu", "model", "engine"),
    optional=("stage",),
    sparse=("rate_requests_per_s",),
    loose=("max_num_batched_tokens", "max_num_seqs", "sent", "system_prompts", "users_per_system_prompt"),
    renamed={"suspicious": "flag"},
)

BLOCK = 16
"""Tokens of a block of vLLM's cache (config/cache.py)."""

OFTEN = 10
"""Times that a prompt is sent, from which on the first one, which nobody had sent before, no longer counts."""


def run(row: Reader) -> Iterable[MeasuredRun | str]:
    """Mean TTFT, TPOT and time to the last token of a stage at one rate."""
    model = row.word("model")
    known = row.catalogue.published(model)
    if known is None:
        return [f"no model '{model}' in the catalogue"]
    engine, _, version = row.word("engine").partition(" ")
    if engine != "vllm":
        return [f"no engine '{engine}'; expected vllm"]
    if not row.has("rate_requests_per_s"):
        return ["a mean over stages of several rates, which stand in rows of their own"]
    prompt, output = round(row.number("prompt_tokens_mean")), row.count("output_tokens")
    seconds, first = row.number("latency_s_mean"), row.number("ttft_s_mean")
    config = row.catalogue.model(known)
    deployed = Engine(
        config, Plan(tp=row.count("tp")), "bf16", f"vllm@{version}", "bf16",
        chunk=row.count("max_num_batched_tokens", 0), sequences=row.count("max_num_seqs", 0),
    )  # fmt: skip
    distinct = row.number("system_prompts", 0.0) * row.number("users_per_system_prompt", 0.0)
    repeated = distinct > 0 and row.number("sent", 0.0) >= OFTEN * distinct
    cached = (prompt - 1) // BLOCK * BLOCK if repeated else 0
    common = MeasuredRun(
        TTFT, deployed, first, 1, prompt, output + 1, True, row.number("rate_requests_per_s"), cached, dtype="bf16"
    )
    return [
        common,
        replace(common, op=TPOT, measured=(seconds - first) / output),
        replace(common, op=E2E, measured=seconds),
    ]


SOURCE = Source(
    "https://github.com/inference-sim/training at ed5c1d2",
    [inference.adapter(COLUMNS, run, "latency_s_mean")],
    reasons=(
        Reason(
            "close to what the server can answer, where a step that is predicted 7 % too long makes the times of an"
            " open load a third too long",
            library="vllm",
            where=lambda n: n["slow"] > 1.25,
        ),
    ),
)
