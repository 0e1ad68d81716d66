"""BERT fine-tuning on SQuAD by Lambda: throughput of NVIDIA's DeepLearningExamples on one to eight GPUs.

How it was measured: whole steps by torch's DDP, fp32 (TF32 where the GPU has it) and AMP.

Traps: the other tasks of the table are no transformers of this project's kind. Runs of BERT base on 8 GPUs are too
short, and flagged. Batch sizes are missing from some rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.models import bidirectional
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.training_steps import FP32, Case, MeasuredStep, columns
from simgpu.lab.validation.source import Reason, Source
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan

COLUMNS = columns(
    ("num_gpus", "throughput_items_per_s"), ("task", "precision"), ("interconnect", "suite"), "global_batch"
)

BERT = {"bert_base_squad": (12, 768, 12, 3072), "bert_large_squad": (24, 1024, 16, 4096)}
"""Layers, hidden size, heads and feed-forward width (Devlin et al. 2019)."""
SQUAD_TOKENS = 384
"""NVIDIA/DeepLearningExamples, PyTorch/LanguageModeling/BERT/scripts/run_squad.sh: --max_seq_length=384."""


def step(row: Reader) -> Iterable[MeasuredStep | str]:
    """Fine-tuning BERT on SQuAD."""
    task, gpus = row.word("task"), row.count("num_gpus")
    if task not in BERT:
        return ["no transformer of this project's kind (convolutions, recurrent layers, encoder-decoders, tables)"]
    if not row.has("global_batch"):
        return ["batch size not stated"]
    layers, hidden, heads, ffn = BERT[task]
    decoder = TransformerConfig(
        task, layers, hidden, heads, heads, hidden // heads, ffn, False, 2, 512, True, False, False, True, True, False
    )
    config = bidirectional(decoder)
    batch = row.count("global_batch")
    mixed = row.word("precision").startswith("amp")
    dtype = "fp16" if mixed else ("tf32" if row.multiplies("tf32") else "fp32")
    numerics = (("gradients", "fp16"), ("reduce", "fp16")) if mixed else FP32
    case = Case(
        config=config,
        gpus=gpus,
        per_node=gpus,
        plan=Plan(dp=gpus, micro_batch=batch // gpus),
        batch=batch,
        tokens=SQUAD_TOKENS,
        dtype=dtype,
        framework="pytorch-eager",
        numerics=(*numerics, ("flash", False)),
        link=row.word("interconnect") if "not stated" not in row.word("interconnect") else "pcie",
    )
    measured = batch / row.number("throughput_items_per_s")
    return [MeasuredStep((case,), measured, caveat="embeddings' optimizer step left out", dtype=row.word("precision"))]


SOURCE = Source(
    "https://github.com/lambdal/deeplearning-benchmark at aa5addb6a, no licence (facts only): pytorch/*.csv",
    [training.adapter(COLUMNS, step)],
    reasons=(
        Reason(
            "does not scale: up to 2.4 times the step of one GPU in spite of NVSwitch, which no link explains",
            gpu="a100-sxm-80gb",
            where=lambda n: n["num_gpus"] > 1 and n["slow"] < 0.9,
        ),
    ),
)
