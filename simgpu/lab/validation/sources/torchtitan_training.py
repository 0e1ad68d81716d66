"""Llama 3.1 by TorchTitan: whole training steps and peak memory, with FSDP2, TP, PP, CP, float8 and async TP.

How it was measured: the repository's benchmark pages, runs of 2024 and 2025 with other versions of PyTorch.

Traps: the GPU is no standard H100 SXM: 96 GB of HBM2e and a limit of 500 W. `local_batch_size` is that of a
data-parallel rank.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.models import llama
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_steps import MIXED, SHAPE, Case, MeasuredStep, columns, pytorch
from simgpu.lab.validation.source import Reason, Source
from simgpu.plan.parallelism import Plan

COLUMNS = columns(
    (
        *(*SHAPE, "hidden_size", "num_kv_heads", "vocab_size", "num_gpus", "local_batch_size"),
        *("global_batch_size", "step_time_s"),
    ),
    ("model", "torch_compile"),
    ("float8", "async_tp", "activation_checkpointing", "pp_schedule", "interconnect"),
    *("gpus_per_node", "tp_size", "pp_size", "cp_size", "memory_bytes_per_gpu"),
)


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """FSDP2 over dp x cp, which keeps weights gathered between microbatches of a pipeline.

    As many microbatches as stages; keys and values all-gathered in context parallelism (defaults of the repository).
    """
    split: dict[str, Any] = {name: row.count(f"{name}_size", 1) for name in ("tp", "pp", "cp")}
    gpus, local = row.count("num_gpus"), row.count("local_batch_size")
    scaling, checkpointing = row.word("float8"), row.word("activation_checkpointing")
    interleaved = "interleaved" in row.word("pp_schedule").lower()
    dp = gpus // math.prod(split.values())
    plan = Plan(
        **split,
        dp=dp,
        vp=2 if interleaved else 1,
        zero=3 if split["pp"] == 1 else 2,
        micro_batch=max(local // split["pp"], 1),
        recompute=checkpointing.partition("-")[0] or "none",
        sequence_parallel=split["tp"] > 1,
        async_tp=row.flag("async_tp"),
        context="all_gather",
    )
    numerics = MIXED["DEFAULT"] + ((("fp8_scaling", scaling),) if scaling else ())
    case = Case(
        config=llama(row),
        gpus=gpus,
        per_node=min(row.count("gpus_per_node", 8), gpus),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=row.count("seq_len"),
        dtype="fp8" if scaling else "bf16",
        framework=pytorch(row.flag("torch_compile")),
        numerics=numerics,
        network="RoCE 50 GB/s per GPU",
    )
    caveat = "selective by operator: half of the matrix products" if checkpointing.startswith("selective") else ""
    dtype = f"fp8 {scaling}" if scaling else "bf16"
    time = MeasuredStep((case,), row.number("step_time_s"), caveat=caveat, dtype=dtype)
    if not row.has("memory_bytes_per_gpu"):
        return [time]
    return [time, replace(time, measured=row.number("memory_bytes_per_gpu"), quantity="memory", part="peak")]


SOURCE = Source(
    "https://github.com/pytorch/torchtitan at b5bcd76c6, BSD-3: benchmarks/*.md",
    [training.adapter(COLUMNS, step)],
    reasons=(
        Reason(
            "context parallelism over GPUs of one node: slower than attention over as many keys on one GPU,"
            " unexplained",
            where=lambda n: n["slow"] < 0.9 and n["seq_len"] >= 65536,
        ),
    ),
)
