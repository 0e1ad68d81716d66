"""Times kernels of one GPU: looks up its figures and constants and calls the model of the class.

The models (`simgpu.timing.gemm`, `attention`, `vector`, `moe` ...) are pure functions over numpy arrays that take
every figure by name; this class is the only place that knows where the figures come from.
"""

from __future__ import annotations

from simgpu.timing.attention_timer import AttentionTimer
from simgpu.timing.expert_timer import ExpertTimer
from simgpu.timing.vector_timer import VectorTimer


class GPUTimer(AttentionTimer, ExpertTimer, VectorTimer):
    """Kernel times of a GPU with its constants. All methods broadcast over arrays of shapes."""
