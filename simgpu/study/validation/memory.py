"""Measured and published memory of training steps beside the prediction.

Two tables. `megatron_memory`: Fig. 1 of Korthikanti et al. 2022, per layer formulas that count no embedding and no
head: parameters with optimizer states, and activations of the first stage. `torchtitan_training`: the highest
'reserved' of PyTorch's caching allocator over all ranks, without CUDA context and NCCL.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simgpu.errors import InputError, shown
from simgpu.model.config import TransformerConfig
from simgpu.plan.memory import layer_activations, memory_per_stage, peak
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.states import parameters_of

MEGATRON = Numerics(dtype="fp16", weights="fp16", flash=False)
"""Mixed precision of Megatron-LM: fp16 weights, fp32 gradients, master weights and Adam states: 18 bytes."""

TORCHTITAN = Numerics(sharded_master_only=True)
"""FSDP2 with mixed precision: sharded fp32 parameters and Adam states, gathered in bf16, reduced in fp32."""


@dataclass(frozen=True)
class MemoryRow:
    """One figure: where it stands, what it is, and both values in bytes."""

    source: str
    line: int
    gpu: str
    dtype: str
    what: str
    part: str  # 'states', 'activations' or 'peak'
    measured: float
    predicted: float
    note: str = ""

    @property
    def error(self) -> float:
        """Relative, positive where too much is predicted."""
        return self.predicted / self.measured - 1


def rows_of_memory(folder: Path) -> list[MemoryRow]:
    """Every figure of the tables that are in `folder`."""
    found: list[MemoryRow] = []
    for name, rows_of in (("megatron_memory", megatron_rows), ("torchtitan_training", torchtitan_rows)):
        file = folder / f"{name}.csv"
        if file.is_file():
            with file.open(newline="", encoding="utf-8") as lines:
                for line, row in enumerate(csv.DictReader(lines), 2):
                    try:
                        found += rows_of(name, line, row)
                    except (KeyError, ValueError) as problem:
                        what = shown(str(problem.args[0])) if problem.args else "a cell"
                        raise InputError(f"{what} is missing or not a number", file=file, line=line) from None
    return found


def megatron_rows(source: str, line: int, row: Mapping[str, str]) -> list[MemoryRow]:
    """Two figures of a row of Fig. 1. An inner stage has neither embedding nor head, as the paper's formula."""
    config = shape_of(row)
    tp, pp, vp = (int(row[key]) for key in ("tp_size", "pp_size", "virtual_pp"))
    plan = Plan(
        tp=tp,
        pp=pp,
        vp=vp,
        sequence_parallel=row["sequence_parallel"] == "True",
        micro_batch=int(row["micro_batch_size"]),
        recompute=row["activation_recompute"],
    )
    batch, tokens = int(row["global_batch_size"]), int(row["seq_len"])
    parameters = parameters_of(config, plan, MEGATRON).layers
    bytes_each = MEGATRON.weight_bytes + MEGATRON.gradient_bytes + MEGATRON.state_bytes
    states = bytes_each * parameters
    activations = layer_activations(config, plan, MEGATRON, batch, tokens, framework="megatron-2022")
    what = f"{row['model']} tp {tp} pp {pp} vp {vp} recompute {plan.recompute}{' SP' if plan.sequence_parallel else ''}"
    return [
        MemoryRow(source, line, row["gpu"], "fp16", what, part, float(row[column]), predicted)
        for part, column, predicted in (
            ("states", "param_and_optimizer_bytes", states),
            ("activations", "activation_bytes", activations),
        )
    ]


def torchtitan_rows(source: str, line: int, row: Mapping[str, str]) -> list[MemoryRow]:
    """The peak of a run, where it is given."""
    if not row["memory_bytes_per_gpu"]:
        return []
    config, plan = shape_of(row), torchtitan_plan(row)
    fp8, compiled = row["float8"] not in ("", "False"), row["torch_compile"] == "True"
    numerics = Numerics(dtype="fp8", sharded_master_only=True) if fp8 else TORCHTITAN
    framework = "pytorch-compiled" if compiled else "pytorch-eager"
    stages = memory_per_stage(
        config, plan, numerics, int(row["global_batch_size"]), int(row["seq_len"]), framework=framework
    )
    most = peak(stages)
    degrees = " ".join(f"{name} {getattr(plan, name)}" for name in ("dp", "tp", "cp", "pp") if getattr(plan, name) > 1)
    what = f"{row['model']} {degrees} batch {row['local_batch_size']} x {row['seq_len']} recompute {plan.recompute}"
    note = f"{'compiled' if compiled else 'eager'}, {'fp8' if fp8 else 'bf16'}, stage {most.stage}"
    measured = float(row["memory_bytes_per_gpu"])
    return [
        MemoryRow(source, line, row["gpu"], numerics.dtype, what, "peak", measured, most.allocated, note),
    ]


def torchtitan_plan(row: Mapping[str, str]) -> Plan:
    """The plan of a row: FSDP over the data-parallel ranks and those of context parallelism; with pipeline stages as
    many microbatches as stages, keys and values gathered for context parallelism (defaults of torchtitan)."""
    dp, tp, pp, cp = (int(row[f"{name}_size"]) for name in ("fsdp", "tp", "pp", "cp"))
    local = int(row["local_batch_size"])
    schedule = row["pp_schedule"].lower()
    interleaved = "interleaved" in schedule and pp > 1
    return Plan(
        tp=tp,
        dp=dp,
        sequence_parallel=tp > 1,
        pp=pp,
        vp=2 if interleaved else 1,
        cp=cp,
        context="all_gather",
        schedule="interleaved" if interleaved else "1f1b" if pp > 1 else None,
        zero=3,
        micro_batch=max(local // pp, 1),
        recompute={"full": "full", "none": "none", "": "none"}.get(row["activation_checkpointing"], "selective"),
        async_tp=row["async_tp"] == "True",
    )


def shape_of(row: Mapping[str, str]) -> TransformerConfig:
    """The model of a row: a GPT where it says no number of key-value heads, else like Llama 3."""
    hidden, heads = int(row["hidden_size"]), int(row["num_heads"])
    llama = bool(row.get("num_kv_heads"))
    return TransformerConfig(
        name=row["model"],
        layers=int(row["num_layers"]),
        hidden=hidden,
        heads=heads,
        kv_heads=int(row["num_kv_heads"]) if llama else heads,
        head_dim=hidden // heads,
        ffn=int(row["ffn_size"]),
        gated=llama,
        vocab=int(row.get("vocab_size") or 51200),
        max_tokens=int(row["seq_len"]),
        tied_embeddings=not llama,
        rms_norm=llama,
        rope=llama,
        qkv_bias=not llama,
        bias=not llama,
        qk_norm=False,
    )


def mean_error(rows: Sequence[MemoryRow]) -> float:
    """Mean absolute relative error."""
    return sum(abs(row.error) for row in rows) / len(rows)
