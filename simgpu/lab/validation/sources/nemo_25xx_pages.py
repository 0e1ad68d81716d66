"""Training throughput of NeMo 25.02 to 25.07 on B200 and GB200: dense models and mixtures of experts.

How it was measured: NVIDIA's own runs, tokens/s of a GPU, fp8 with current scaling.

Traps: the recipes were not read; dispatcher and balance are those of Megatron-Core with fused permutation.
"""

from simgpu.lab.validation.adapters import training
from simgpu.lab.validation.adapters.nemo import COLUMNS, step
from simgpu.lab.validation.source import Source

SOURCE = Source(
    "https://docs.nvidia.com/nemo-framework/user-guide, performance summary of 25.02, 25.04 and 25.07",
    [training.adapter(COLUMNS, step)],
    seen=False,
)
