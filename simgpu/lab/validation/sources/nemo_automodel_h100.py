"""Training throughput of NVIDIA's NeMo AutoModel on H100: FSDP2 with Transformer Engine, DeepEP between experts.

How it was measured: tokens per second and GPU, pre-training and LoRA, from a page of the repository; recomputation as
in each recipe's YAML, which the column `note` holds.

Traps: a measurement stands there up to three times, once for each stack that it can be held against; the row of
eager PyTorch counts, whose FSDP2 it is. Mixtures of experts are AutoModel's own models with Transformer Engine and
DeepEP, as a column of the page says, behind a gate that deals tokens evenly; dense ones are those of Hugging Face.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.reports import TRAINING_COLUMNS, case_of, degrees, named, step
from simgpu.lab.validation.adapters.training_steps import MIXED, MeasuredStep
from simgpu.lab.validation.source import Source

NETWORK = "InfiniBand NDR 50 GB/s per GPU"


def recipe(row: Reader) -> Iterable[MeasuredStep | str]:
    """FSDP2 over all ranks beside tensor and context parallelism."""
    if not row.word("framework").endswith("pytorch-eager"):
        return ["the same measurement as the row of eager PyTorch"]
    model = named(row, {})
    if model is None:
        return [f"no model '{row.word('model')}' in the catalogue"]
    recompute = "full" if "recompute full" in row.word("note") else "none"
    pp = row.count("pp")
    own = row.catalogue.model(model).experts > 1
    dealt = {"balance": "even"} if own else {}
    plan = degrees(row, zero=3 if pp == 1 else 2, recompute=recompute, context="all_gather", **dealt)
    numerics = MIXED["DEFAULT"]
    if row.word("row").startswith("lora"):
        numerics = (*numerics, ("finetune", "lora"))
    case = case_of(row, model, plan, "bf16", "automodel@0.5" if own else "pytorch-eager", numerics, NETWORK)
    return [step(row, case, row.word("note"), mapped=not own)]


SOURCE = Source(
    "https://github.com/NVIDIA-NeMo/Automodel at 36044ad: docs/performance-summary.mdx",
    [training.adapter(TRAINING_COLUMNS, recipe)],
    seen=False,
)
