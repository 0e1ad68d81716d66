"""MPT models by MosaicML's LLM Foundry: whole training steps under PyTorch's FSDP, on A100 and H100.

How it was measured: steady throughput of Composer with the optimizer; eager, Triton's flash attention.

Traps: with amp_bf16 and DEFAULT gradients are reduced in fp32, with PURE in bf16. The interconnect of the H100 is not
stated: two networks are covered.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.models import gpt
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_steps import MIXED, SHAPE, Case, MeasuredStep, columns
from simgpu.lab.validation.source import Source
from simgpu.plan.parallelism import Plan

COLUMNS = columns(
    (*SHAPE, "d_model", "vocab_size", "num_gpus", "micro_batch_size", "global_batch_size", "step_time_s"),
    ("model", "precision", "fsdp_mixed_precision", "sharding_strategy", "activation_checkpointing"),
    ("activation_cpu_offload", "interconnect"),
    "gpus_per_node",
)

_PRECISION = {"amp_bf16": "bf16", "bf16": "bf16", "amp_fp16": "fp16", "fp16": "fp16", "amp_fp8": "fp8"}
ZERO = {"FULL_SHARD": 3, "SHARD_GRAD_OP": 2, "NO_SHARD": 0}
_UNSTATED_NETWORK = "network between nodes not stated: 50 and 25 GB/s per GPU are both covered"


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """MPT under FSDP."""
    precision, mixed, sharding = (row.word(n) for n in ("precision", "fsdp_mixed_precision", "sharding_strategy"))
    if precision not in _PRECISION or mixed not in MIXED or sharding not in ZERO:
        return [f"no meaning for '{precision}', '{mixed}', '{sharding}'"]
    if row.flag("activation_cpu_offload"):
        return ["activations in the memory of the host are not simulated"]
    gpus, tokens = row.count("num_gpus"), row.count("seq_len")
    micro = row.count("micro_batch_size")
    plan = Plan(
        dp=gpus,
        zero=ZERO[sharding],
        micro_batch=micro,
        recompute="full" if row.flag("activation_checkpointing") else "none",
    )
    dtype = _PRECISION[precision]
    stated = "roce" in row.word("interconnect").lower()
    case = Case(
        config=gpt(row, hidden="d_model"),
        gpus=gpus,
        per_node=min(row.count("gpus_per_node", 8), gpus),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=tokens,
        dtype=dtype,
        framework="pytorch-2023",
        numerics=MIXED[mixed] + ((("fp8_scaling", "delayed"),) if dtype == "fp8" else ()),  # Transformer Engine
        network="RoCE 25 GB/s per GPU" if stated else "InfiniBand 50 GB/s per GPU",
    )
    cases: tuple[Case, ...] = (case,)
    caveat = ""
    if not stated and gpus > case.per_node:
        cases, caveat = (case, replace(case, network="RoCE 25 GB/s per GPU")), _UNSTATED_NETWORK
    return [MeasuredStep(cases, row.number("step_time_s"), caveat=caveat, dtype=precision)]


SOURCE = Source(
    "https://github.com/mosaicml/llm-foundry at 8c8dd48f7, Apache-2.0: scripts/train/benchmarking/README.md, "
    "scripts/train/yamls/pretrain/mpt-*.yaml",
    [training.adapter(COLUMNS, step)],
)
