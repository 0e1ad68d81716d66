"""Training throughput of llmq, a trainer in CUDA and C++, on RTX 4090 and H100.

How it was measured: tokens per second of whole steps, CUDA graphs, head and loss in chunks; pages of the repository.

Traps: it is no framework of the catalogue; Megatron's fused kernels are the nearest. What it recomputes beside whole
layers and keeps in host memory is not simulated; the column `note` names it.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.reports import TRAINING_COLUMNS, case_of, degrees, named, step
from simgpu.lab.validation.adapters.training_steps import MeasuredStep, Numerics
from simgpu.lab.validation.source import Source

PURE: Numerics = (("weights", "bf16"), ("master_weights", False), ("gradients", "bf16"), ("reduce", "bf16"))
"""16 bits throughout, rounded stochastically."""


def run(row: Reader) -> Iterable[MeasuredStep | str]:
    """A step of data parallelism with sharded states."""
    model = named(row, {"qwen2.5-0.5b": "qwen2.5-0.5b"})
    if model is None:
        return [f"no model '{row.word('model')}' in the catalogue"]
    low = row.word("precision").startswith("fp8")
    numerics = (*PURE, ("fp8_scaling", "tensorwise")) if low else PURE
    plan = degrees(row, zero=1 if row.count("dp") > 1 else 0)
    caveat = "a trainer of its own, predicted as Megatron's kernels; " + row.word("note").partition(";")[2].strip()
    case = case_of(row, model, plan, "fp8" if low else "bf16", "megatron", numerics, "")
    return [step(row, case, caveat, mapped=True)]


SOURCE = Source(
    "https://github.com/IST-DASLab/llmq at b77d969: README.md, benchmarks/*.md",
    [training.adapter(TRAINING_COLUMNS, run)],
    seen=False,
)
