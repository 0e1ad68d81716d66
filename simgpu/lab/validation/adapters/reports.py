"""Adapters of tables of public reports: one row is one whole run, as its publisher printed it.

All of these tables have the same columns: the GPU, GPUs and nodes, the model, the degrees of a plan, microbatch and
batch, the length, the framework with its version, and one measured figure with its unit. What a publisher calls
models, precisions and GPUs is translated by the module of its table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_steps import Case, MeasuredStep, Numerics
from simgpu.lab.validation.tables import Columns
from simgpu.plan.parallelism import Plan

_WORDS = ("gpu", "model", "precision", "framework", "unit")
_OPTIONAL = ("source", "row", "note", "suspicious")

TRAINING_COLUMNS = Columns(
    positive=("nodes", "gpus", "tp", "pp", "cp", "ep", "vp", "dp", "mbs", "gbs", "seq", "measured"),
    words=_WORDS,
    optional=_OPTIONAL,
)
"""Columns of a report of training steps."""

INFERENCE_COLUMNS = Columns(
    positive=("gpus", "tp", "pp", "mbs"), sparse=("measured",), words=_WORDS, optional=("seq", *_OPTIONAL)
)
"""Columns of a report of inference runs; `seq` is prompt/output."""

TOKENS_PER_S, TOKENS_PER_S_GPU = "tokens/s", "tokens/s/GPU"
"""Units of throughput."""

DISTRIBUTED_OPTIMIZER: Numerics = (("gradients", "fp32"), ("reduce", "bf16"))
"""Gradients summed in 32 bits and reduced in 16, as NVIDIA's recipes have it (grad_reduce_in_fp32: false)."""


def throughput(row: Reader, batch: int, tokens: int, gpus: int) -> float:
    """Seconds of a step by its printed tokens per second. Raises `InputError` for another unit."""
    unit = row.word("unit")
    if unit not in (TOKENS_PER_S, TOKENS_PER_S_GPU):
        raise row.error(f"'{unit}': expected {TOKENS_PER_S} or {TOKENS_PER_S_GPU}", "unit")
    rate = row.number("measured") * (gpus if unit == TOKENS_PER_S_GPU else 1)
    return batch * tokens / rate


def degrees(row: Reader, **more: Any) -> Plan:
    """The plan that the columns say, and `more` of it.

    Replicas are counted before experts and context are carved out of them, as publishers do. Where columns do not
    multiply to the GPUs, what is left is data parallelism.
    """
    tp, pp, cp = (row.count(name) for name in ("tp", "pp", "cp"))
    return Plan(
        tp=tp, pp=pp, cp=cp, dp=max(row.count("gpus") // (tp * pp * cp), 1), ep=row.count("ep"), vp=row.count("vp"),
        micro_batch=row.count("mbs"), sequence_parallel=tp > 1, **more,
    )  # fmt: skip


def step(row: Reader, case: Case, caveat: str = "", mapped: bool = False) -> MeasuredStep:
    """A training step with the time that the printed throughput makes.

    `mapped`: the publisher's software is none of the catalogue, its neighbour is predicted.
    """
    seconds = throughput(row, case.batch, case.tokens, case.gpus)
    return MeasuredStep((case,), seconds, caveat=caveat, dtype=row.word("precision"), mapped=mapped)


def case_of(row: Reader, model: str, plan: Plan, dtype: str, framework: str, numerics: Numerics, network: str) -> Case:
    """A training step of a model of the catalogue on the GPUs, batch and sequence of a row."""
    gpus = row.count("gpus")
    return Case(
        config=row.catalogue.model(model),
        gpus=gpus,
        per_node=max(gpus // row.count("nodes"), 1),
        plan=plan,
        batch=row.count("gbs"),
        tokens=row.count("seq"),
        dtype=dtype,
        framework=framework,
        numerics=numerics,
        network=network,
    )


def named(row: Reader, names: Mapping[str, str]) -> str | None:
    """The catalogue's name of a row's model; None where it has none."""
    given = row.word("model")
    found = names.get(given, given.lower().replace("_", "-"))
    return found if found in row.catalogue.names("models") else None
