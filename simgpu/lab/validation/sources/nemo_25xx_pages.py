"""Training throughput of NeMo 25.02 to 25.07 on B200 and GB200: dense models and mixtures of experts in FP8.

How it was measured: tokens per second and GPU, from the stored pages of NVIDIA's documentation.

Traps: as `megatron_bridge`; two rows have batch and microbatch swapped on the page.
"""

from __future__ import annotations

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.reports import TRAINING_COLUMNS
from simgpu.lab.validation.source import Source
from simgpu.lab.validation.sources.megatron_bridge import recipe

SOURCE = Source(
    "https://docs.nvidia.com/nemo-framework: performance summary 25.02, 25.04, 25.07",
    [training.adapter(TRAINING_COLUMNS, recipe)],
    seen=False,
)
