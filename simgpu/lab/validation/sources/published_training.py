"""Training steps from papers and vendors' pages, with the whole plan in the columns. The table comes with simgpu.

Each row names its page; where a page gives FLOP/s, the seconds are computed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.models import gpt, llama
from simgpu.lab.validation.adapters.reader import Reader, degrees
from simgpu.lab.validation.adapters.training_steps import DEGREES, GRADES, SHAPE, Case, MeasuredStep, columns
from simgpu.lab.validation.batches import DTYPES
from simgpu.lab.validation.source import Source
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan

COLUMNS = replace(
    columns(
        (*SHAPE, "hidden_size", "vocab_size", "num_gpus", "global_batch_size", "step_time_s"),
        ("source", "model", "kind", "dtype", "framework", "gradients", "reduce"),
        (*GRADES, "overlap", "flash", "context", "order", "interconnect", "note", "citation"),
        *(*DEGREES, "num_kv_heads"),
    ),
    numbers=("zero",),
)

_KINDS: dict[str, Callable[[Reader], TransformerConfig]] = {
    "gpt": gpt,
    "gpt-untied": lambda row: gpt(row, tied=False),
    "llama": llama,
    "llama-tied": lambda row: llama(row, tied=True),
}


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """A table that states the whole plan in its columns."""
    kind, dtype = row.word("kind"), row.word("dtype")
    if kind not in _KINDS or dtype not in DTYPES:
        return [f"no meaning for kind '{kind}' and dtype '{dtype}'"]
    gpus, low = row.count("num_gpus"), DTYPES[dtype]
    plan = Plan(
        **degrees(row),
        vp=row.count("virtual_pp", 1),
        zero=row.count("zero"),
        micro_batch=row.count("micro_batch_size"),
        recompute=row.word("activation_recompute"),
        sequence_parallel=row.flag("sequence_parallel"),
        overlap_gradients=row.flag("overlap"),
        overlap_weights=row.flag("overlap"),
        context=row.word("context") or "ring",
        order=tuple(row.word("order").split()) or Plan().order,
    )
    numerics: list[tuple[str, Any]] = [("gradients", row.word("gradients")), ("reduce", row.word("reduce"))]
    if row.word("flash") == "False":
        numerics.append(("flash", False))
    case = Case(
        config=_KINDS[kind](row),
        gpus=gpus,
        per_node=min(8, gpus),
        plan=plan,
        batch=row.count("global_batch_size"),
        tokens=row.count("seq_len"),
        dtype=low,
        framework=row.word("framework"),
        numerics=tuple(numerics),
        network=row.word("interconnect"),
    )
    return [MeasuredStep((case,), row.number("step_time_s"), caveat=row.word("note"), dtype=dtype)]


SOURCE = Source("the column `citation` of each row", [training.adapter(COLUMNS, step)])
