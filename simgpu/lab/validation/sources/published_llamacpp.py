"""llama.cpp from pull requests and pages, as `llamacpp_inference`.

The table comes with simgpu; each row names its page.
"""

from __future__ import annotations

from dataclasses import replace

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.sources import llamacpp_inference

COLUMNS = replace(llamacpp_inference.COLUMNS, optional=(*llamacpp_inference.COLUMNS.optional, "citation"))

SOURCE = Source(
    "the column `citation` of each row",
    [inference.adapter(COLUMNS, llamacpp_inference.run, "tokens_per_s")],
    reasons=(
        Reason(
            "llama.cpp of August 2025: its kernels follow each other in CUDA graphs, those of May 2024 do not",
            "decode",
            where=lambda n: n["slow"] > 1.25,
        ),
    ),
)
