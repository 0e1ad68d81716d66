"""Training throughput of Megatron-Bridge by container, 25.09 to 26.08: dense models and mixtures of experts.

How it was measured: NVIDIA's own runs of its recipes, tokens/s of a GPU, forced to balance their experts.

Traps: one configuration moves by 5.6 % at the median from release to release, by up to 77 %. Modules that
are recomputed stand in notes alone. Hybrids with Mamba layers are not predicted.
"""

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.nemo import COLUMNS, step
from simgpu.lab.validation.source import Source

SOURCE = Source(
    "https://github.com/NVIDIA-NeMo/Megatron-Bridge at 067f987, Apache-2.0: docs/performance-summary.md, its archive",
    [training.adapter(COLUMNS, step)],
)
