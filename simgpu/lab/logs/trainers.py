"""Lines in which trainers print a step: Megatron-LM and its kin, TorchTitan, DeepSpeed, Hugging Face, and others.

One entry of `TRAINERS` is one tool. Formats are those of the tools' own sources:

- Megatron-LM @d98e8a6, megatron/training/training.py (`training_log`); NeMo and Megatron-Bridge print its line, a line
  `Step Time : 5.1s GPU utilization: 700MODEL_TFLOP/s/GPU`, or Lightning's `train_step_timing in s`
- pytorch/torchtitan @b5bcd76, torchtitan/components/metrics.py
- DeepSpeed 0.16, deepspeed/utils/timer.py (`RunningAvgSamplesPerSec`) and Megatron-DeepSpeed's iteration line
- Hugging Face transformers 4.50, `speed_metrics` and tqdm
- MosaicML Composer 0.29, ConsoleLogger; nanoGPT train.py; llm.c train_gpt2.cu; modded-nanogpt
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_N = r"(-?[\d.,]+(?:[eE][+-]?\d+)?)"
MS, MIB, GIB, MB, GB = 1e-3, 2.0**20, 2.0**30, 1e6, 1e9


@dataclass(frozen=True)
class Field:
    """A number on the lines of a tool: the column that predicts it, and what one of its unit is in SI units.

    `inverse` is for rates: the column is their inverse.
    """

    column: str
    pattern: re.Pattern[str]
    unit: float = 1.0
    inverse: bool = False


@dataclass(frozen=True)
class Trainer:
    """The lines of a tool.

    A line that `step` matches is one step, its first group the number of it; `fields` are measured on that line or,
    where `around` is true, on those up to the next. `facts` stand anywhere. `loss` is where the loss stands.
    """

    name: str
    step: re.Pattern[str]
    fields: tuple[Field, ...]
    facts: Mapping[str, re.Pattern[str]]
    loss: re.Pattern[str] | None = None
    around: bool = False


def _field(column: str, pattern: str, unit: float = 1.0, inverse: bool = False) -> Field:
    return Field(column, re.compile(pattern), unit, inverse)


def _facts(**patterns: str) -> dict[str, re.Pattern[str]]:
    return {name: re.compile(pattern) for name, pattern in patterns.items()}


STEP, FLOPS, TOKENS = "step_s", "flop_per_s_per_gpu", "tokens_per_s_per_gpu"
ALLOCATED, RESERVED = "allocated_memory_bytes_per_gpu", "reserved_memory_bytes_per_gpu"

TRAINERS = (
    Trainer(
        "Megatron-LM",
        re.compile(r"iteration\s+(\d+)\s*/\s*\d+\s*\|.*elapsed time per iteration"),
        (
            _field(STEP, rf"elapsed time per iteration \(ms\):\s*{_N}", MS),
            _field(STEP, rf"elapsed time per iteration \(s\):\s*{_N}"),
            _field(FLOPS, rf"throughput per GPU \(TFLOP/s/GPU\):\s*{_N}", 1e12),
            _field(ALLOCATED, rf"max allocated:\s*{_N}", MIB),
            _field(RESERVED, rf"max reserved:\s*{_N}", MIB),
        ),
        _facts(
            batch=r"global batch size:\s*(\d+)", tokens=r"\bseq_length \.+ (\d+)", gpus=r"\bworld_size \.+ (\d+)",
            tp=r"\btensor_model_parallel_size \.+ (\d+)", pp=r"\bpipeline_model_parallel_size \.+ (\d+)",
            micro_batch=r"\bmicro_batch_size \.+ (\d+)",
        ),
        re.compile(r"lm loss:\s*(\S+)"),
        around=True,
    ),
    Trainer(
        "Megatron-Bridge",
        re.compile(r"()Step Time\s*:\s*[\d.,]+\s*s"),
        (
            _field(STEP, rf"Step Time\s*:\s*{_N}\s*s"),
            _field(FLOPS, rf"GPU utilization:\s*{_N}\s*MODEL_TFLOP/s/GPU", 1e12),
        ),
        _facts(batch=r"global[_ ]batch[_ ]size[:=]\s*(\d+)"),
        re.compile(r"lm loss:\s*(\S+)"),
    ),
    Trainer(
        "NeMo",
        re.compile(r"(?:iteration|global_step)[ =:]*(\d+).*train_step_timing in s"),
        (_field(STEP, rf"train_step_timing in s[:=]\s*{_N}"),),
        _facts(batch=r"global_batch_size[:=]\s*(\d+)"),
        re.compile(r"reduced_train_loss[:=]\s*(\S+)"),
    ),
    Trainer(
        "TorchTitan",
        re.compile(r"\bstep:\s*(\d+)\s+loss:.*\btps:"),
        (
            _field(TOKENS, rf"\btps:\s*{_N}"),
            _field(FLOPS, rf"\btflops:\s*{_N}", 1e12),
            _field(RESERVED, rf"\bmemory:\s*{_N}GiB", GIB),
        ),
        _facts(batch=r"global batch size (\d+)", tokens=r"sequence length (\d+)"),
        re.compile(r"\bloss:\s*(\S+)"),
    ),
    Trainer(
        "DeepSpeed",
        re.compile(r"global_step=(\d+).*CurrSamplesPerSec="),
        (
            _field("samples_per_s", rf"CurrSamplesPerSec={_N}"),
            _field(ALLOCATED, rf"MaxMemAllocated={_N}GB", GIB),
        ),
        {},
    ),
    Trainer(
        "DeepSpeed",
        re.compile(r"steps:\s*(\d+)\s+loss:.*iter time \(s\):"),
        (_field(STEP, rf"iter time \(s\):\s*{_N}"), _field("samples_per_s", rf"samples/sec:\s*{_N}")),
        {},
        re.compile(r"\bloss:\s*(\S+)"),
    ),
    Trainer(
        "Composer",
        re.compile(r"\[batch=(\d+)(?:/\d+)?\]"),
        (
            _field(STEP, rf"throughput/batches_per_sec:\s*{_N}", inverse=True),
            _field(TOKENS, rf"throughput/device/tokens_per_sec:\s*{_N}"),
            _field(RESERVED, rf"memory/peak_reserved_mem:\s*{_N}", GB),
        ),
        {},
        re.compile(r"loss/train/total:\s*(\S+)"),
        around=True,
    ),
    Trainer(
        "nanoGPT",
        re.compile(r"\biter (\d+): loss .*time [\d.,]+ms"),
        (_field(STEP, rf"time {_N}ms", MS),),
        {},
        re.compile(r"loss (\S+?),"),
    ),
    Trainer(
        "llm.c",
        re.compile(r"\bstep\s+(\d+)/\d+ \|.*\|\s*[\d.,]+ ms \|"),
        (_field(STEP, rf"\|\s*{_N} ms \|", MS), _field("tokens_per_s", rf"{_N} tok/s")),
        {},
        re.compile(r"loss (\S+)"),
    ),
    Trainer(
        "Hugging Face Trainer",
        re.compile(r"()'train_runtime':"),
        (
            _field(STEP, rf"'train_steps_per_second':\s*'?{_N}", inverse=True),
            _field("samples_per_s", rf"'train_samples_per_second':\s*'?{_N}"),
        ),
        _facts(
            batch=r"Total train batch size .*= ([\d,]+)", gpus=r"world[_ ]size[ =:]+(\d+)",
        ),
        re.compile(r"'train_loss':\s*'?([^,'}]+)"),
    ),
    Trainer(
        "tqdm",
        re.compile(r"\|\s*(\d+)/\d+ \[[\d:]+<[\d:?]+,\s*[\d.]+\s*(?:s/it|it/s)"),
        (_field(STEP, rf",\s*{_N}\s*s/it"), _field(STEP, rf",\s*{_N}\s*it/s", inverse=True)),
        {},
    ),
)  # fmt: skip
"""Tools in the order in which a line is tried; a progress bar counts where no tool's own lines stand."""
