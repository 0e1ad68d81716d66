"""Steps of Llama on one B200 and of GPT-2 on two TITAN RTX, from the book Machine Learning Engineering.

How it was measured: transformers, eager or under torch.compile; forwards, forwards and backwards, and whole steps with
AdamW. Forwards belong to `validate inference`, the others to `validate training`. The rows of two TITAN RTX, with and
without NVLink, come from the performance pages of transformers: 200 steps of torch's DDP.

Traps: the length of GPT-2's sequences is its block size, 1024, which those pages do not state.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import inference, training
from simgpu.lab.validation.adapters.inference_runs import PREFILL, Engine, MeasuredRun
from simgpu.lab.validation.adapters.models import gpt, llama
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_steps import (
    FP32,
    NO_OPTIMIZER,
    SHAPE,
    Case,
    MeasuredStep,
    Numerics,
    columns,
    pytorch,
)
from simgpu.lab.validation.source import Reason, Source
from simgpu.plan.parallelism import Plan

COLUMNS = columns(
    (*SHAPE, "hidden_size", "num_kv_heads", "vocab_size", "batch_size", "num_gpus", "latency_s"),
    ("model", "dtype", "workload", "gradient_checkpointing", "mode"),
    ("link",),
)

PURE_BF16: Numerics = (
    ("weights", "bf16"),
    ("master_weights", False),
    ("gradients", "bf16"),
    ("reduce", "bf16"),
    ("states", "bf16"),
)
TIED = 3072
"""Llama 3 models up to this hidden size tie their embeddings, larger ones do not (their config.json)."""


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """Llama on one B200; GPT-2 by torch's DDP on two GPUs."""
    workload, mode, gpus = row.word("workload"), row.word("mode"), row.count("num_gpus")
    if workload == "forward":
        return ["forward alone: see validate inference"]
    if mode == "DataParallel":
        return ["one process that copies the model to every GPU each step is not simulated"]
    optimizer = () if workload.endswith("adamw") else NO_OPTIMIZER
    dtype = row.dtype()
    micro = row.count("batch_size")
    graphs = "reduce-overhead" in mode or "max-autotune" in mode
    plan = Plan(
        dp=gpus, micro_batch=micro, recompute="full" if row.flag("gradient_checkpointing") else "none",
        cuda_graphs="full" if graphs else None,
    )  # fmt: skip
    learned = row.count("num_kv_heads") == row.count("num_heads")
    case = Case(
        config=gpt(row) if learned else llama(row, tied=row.count("hidden_size") <= TIED),
        gpus=gpus,
        per_node=gpus,
        plan=plan,
        batch=micro * gpus,
        tokens=row.count("seq_len"),
        dtype=dtype,
        framework=pytorch("compile" in mode),
        numerics=(*optimizer, *(PURE_BF16 if dtype == "bf16" else (*FP32, ("flash", False)))),
        link=_bridged(row.word("link")),
    )
    caveat = f"taken for a graph of the whole iteration ({mode})" if graphs else ""
    return [MeasuredStep((case,), row.number("latency_s"), caveat=caveat, dtype=row.word("dtype"))]


def _bridged(link: str) -> str:
    return "pcie" if "PCIe" in link else ("nvlink-bridge pair" if "NVLink" in link else "")


def forward(row: Reader) -> Iterable[MeasuredRun | str]:
    """One forward of Llama 3, eager or compiled."""
    if row.word("workload") != "forward":
        return ["with a backward pass: see validate training"]
    mode, dtype = row.word("mode"), row.dtype()
    config = llama(row, tied=row.count("hidden_size") <= TIED)
    engine = Engine(config, Plan(), dtype, "compiled" if "compile" in mode else "eager", dtype, per_node=1)
    if "reduce-overhead" in mode or "max-autotune" in mode:
        return ["CUDA graphs of torch.compile are no runtime of this project"]
    batch, tokens = row.count("batch_size"), row.count("seq_len")
    return [MeasuredRun(PREFILL, engine, row.number("latency_s"), batch, tokens, 1, dtype=row.word("dtype"))]


SOURCE = Source(
    "https://github.com/stas00/ml-engineering at 744d01e18, CC-BY-SA-4.0: training/performance/README.md; "
    "https://github.com/huggingface/transformers, Apache-2.0: performance pages of the documentation",
    [training.adapter(COLUMNS, step), inference.adapter(COLUMNS, forward)],
    reasons=(
        Reason(
            "512 tokens a step: the host launches kernels more slowly than the GPU runs them",
            "step_time",
            where=lambda n: n["slow"] < 1 and n["seq_len"] <= 512,
        ),
        Reason(
            "the host's time of a step is that of a loop with logging; this was a bare one",
            "step_time",
            where=lambda n: n["slow"] > 1 and n["seq_len"] <= 512,
        ),
    ),
)
