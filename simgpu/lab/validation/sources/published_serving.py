"""Load tests from vendors' pages, as `aic_e2e_inference`. The table comes with simgpu; each row names its page."""

from __future__ import annotations

from dataclasses import replace

from simgpu.lab.validation.adapters import inference
from simgpu.lab.validation.source import Reason, Source
from simgpu.lab.validation.sources import aic_e2e_inference

COLUMNS = replace(aic_e2e_inference.COLUMNS, optional=(*aic_e2e_inference.COLUMNS.optional, "citation"))

SOURCE = Source(
    "the column `citation` of each row",
    [inference.adapter(COLUMNS, aic_e2e_inference.run)],
    reasons=(
        Reason(
            "first tokens of this server take 10 ms beside the prompt, those of the load tests behind the constant 91;"
            " and of many prompts that arrive at once it makes one step",
            "ttft",
            where=lambda n: n["slow"] > 1.25,
        ),
    ),
)
