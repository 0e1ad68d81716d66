"""Decode of Llama under torch.compile with CUDA graphs (gpt-fast), on A100 held at 330 W, one to eight GPUs.

How it was measured: tokens per second of one sequence, 200 new tokens behind a prompt of five; the repository's page.

Traps: eight GPUs there are a hybrid mesh of NVLink without switches, taken as a DGX. The interval of decode in this
runtime was chosen on these rows.
"""

from __future__ import annotations

from collections.abc import Iterable

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.adapters.inference_runs import MeasuredRun
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.adapters.reports import INFERENCE_COLUMNS, named
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.sources.qwen25_speed_a100 import speed


def run(row: Reader) -> Iterable[MeasuredRun | str]:
    """Decode of one sequence."""
    model = named(row, {})
    if model is None:
        return [f"no model '{row.word('model')}' in the catalogue"]
    return speed(row, model, "compiled")


SOURCE = Source(
    "https://github.com/pytorch-labs/gpt-fast at 32971d3: README.md",
    [inference.adapter(INFERENCE_COLUMNS, run)],
)
