"""Memory of training with Megatron-LM: bytes of one GPU, fp16, by Korthikanti et al. 2022, figures 1 and 7.

Traps: computed and profiled by the paper, not timed. States and activations are those of a stage without embedding and
head; figure 7 gives activations over those without recomputation and sequence parallelism.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.models import gpt
from simgpu.lab.validation.adapters.reader import Reader, degrees
from simgpu.lab.validation.adapters.training_steps import DEGREES, GRADES, SHAPE, Case, MeasuredStep, columns
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.sources.megatron_training import HALF, SELENE
from simgpu.plan.parallelism import Plan

COLUMNS = columns(
    (*SHAPE, "hidden_size", "global_batch_size"),
    ("source", "model"),
    GRADES,
    *(name for name in DEGREES if name != "cp_size"),
    *("param_and_optimizer_bytes", "activation_bytes", "relative_activation_memory"),
)

VOCABULARY = 51200
"""Of these models in the same paper."""


def memory(row: Reader) -> Iterable[MeasuredStep | str]:
    """Bytes of one GPU, fp16."""
    plan = Plan(
        **degrees(row),
        vp=row.count("virtual_pp", 1),
        micro_batch=row.count("micro_batch_size"),
        recompute=row.word("activation_recompute"),
        sequence_parallel=row.flag("sequence_parallel"),
    )
    case = Case(
        config=gpt(row, vocabulary=VOCABULARY),
        gpus=plan.world,
        per_node=min(8, plan.world),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=row.count("seq_len"),
        dtype="fp16",
        framework="megatron-2022",
        numerics=HALF,
        network=SELENE,
    )
    found = []
    for column, part in (("param_and_optimizer_bytes", "states"), ("activation_bytes", "activations")):
        if row.has(column):
            found.append(MeasuredStep((case,), row.number(column), "memory", part, dtype="float16"))
    if row.has("relative_activation_memory"):
        whole = replace(case, plan=replace(plan, recompute="none", sequence_parallel=False))
        measured = row.number("relative_activation_memory")
        found.append(MeasuredStep((case, whole), measured, "memory", "relative", dtype="float16"))
    return found or ["no bytes stated"]


SOURCE = Source(
    "https://arxiv.org/abs/2205.05198, retyped with https://github.com/calculon-ai/calculon at caa4b11f8, Apache-2.0: "
    "calculon/llm/validation.py, validation/seqsel",
    [training.adapter(COLUMNS, memory)],
)
