"""What a row of a table of training steps says: a model, a machine, a plan and numerics, and what was measured.

Nothing here is fitted. What a table leaves open is taken from the scripts of the same source where they are published;
where nothing says, a row becomes several cases, the most usual first, of which those count that fit the GPU's memory:
the prediction is their median, of a source that tuned its settings the fastest, and its interval covers all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.tables import Columns
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan

Numerics = tuple[tuple[str, Any], ...]
"""Fields of `Training` that a source sets, and their values."""


@dataclass(frozen=True)
class Case:
    """One step that can be simulated. `framework` is a name of `simgpu.workload.frameworks`."""

    config: TransformerConfig
    gpus: int
    per_node: int
    plan: Plan
    batch: int  # sequences of all data-parallel replicas
    tokens: int  # of a sequence
    dtype: str
    framework: str
    numerics: Numerics = ()  # other fields of `Training`
    link: str = ""  # what the table says of the links in a node
    network: str = ""  # and between nodes


@dataclass(frozen=True)
class MeasuredStep:
    """A row to predict: its cases, the most usual first, and what was measured.

    `quantity` is step_time (s) or memory (bytes of a GPU), `part` what of the memory: peak, states, activations, or
    relative (activations over those without recomputation and sequence parallelism, a fraction).
    """

    cases: tuple[Case, ...]
    measured: float
    quantity: str = "step_time"
    part: str = ""
    caveat: str = ""
    dtype: str = ""  # as the table spells it
    mapped: bool = False  # the source's software is none of the catalogue: its neighbour is predicted instead
    tuned: bool = False  # the source looked for its settings: the fastest case that fits is meant, not the median


Translate = Callable[[Reader], "Iterable[MeasuredStep | str]"]
"""What a row says: quantities to predict, or in words why there is no prediction."""

SHAPE = ("num_layers", "num_heads", "ffn_size", "seq_len")
DEGREES = ("tp_size", "pp_size", "dp_size", "cp_size", "virtual_pp", "micro_batch_size")
GRADES = ("activation_recompute", "sequence_parallel")
"""Columns of many tables: of the model's shape, of the plan's degrees, and of what it trades for memory."""


def columns(positive: tuple[str, ...], words: tuple[str, ...], optional: tuple[str, ...], *sparse: str) -> Columns:
    """Columns of a table of whole steps."""
    return Columns(positive=positive, words=("gpu", *words), optional=("suspicious", *optional), sparse=sparse)


# ---- numerics ----------------------------------------------------------------------------------------

MIXED: dict[str, Numerics] = {
    # torch FSDP keeps fp32 shards, casts them on the way to the all-gather, and reduces gradients in fp32 (DEFAULT)
    # or in the low precision (PURE): composer/trainer/mosaic_fsdp_utils.py, get_mixed_precision
    "DEFAULT": (("reduce", "fp32"), ("gradients", "fp32")),
    "PURE": (("reduce", "bf16"), ("gradients", "fp32")),
}
"""torch FSDP's mixed precision."""

NO_OPTIMIZER: Numerics = (("optimizer", "none"),)
"""Forward and backward passes alone."""

FP32: Numerics = (("weights", "fp32"), ("master_weights", False), ("gradients", "fp32"), ("reduce", "fp32"))
"""fp32 throughout."""


def pytorch(compiled: bool) -> str:
    """The framework of a plain PyTorch script."""
    return "pytorch-compiled" if compiled else "pytorch-eager"
