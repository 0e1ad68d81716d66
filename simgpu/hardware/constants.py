"""Constants of kernels and collectives: what of a datasheet good libraries reach, and what they add to it.

They are given under `kernel` in the files of GPUs and architectures and inherit GPU <- architecture <- its parent.
Constants that belong to a library of kernels stand under its name: `attention: {fa3: {...}}`; what a library does
not give, `default` of the same class gives. Every constant has a unit and a source, as every figure.
"""

from pydantic import Field

from simgpu.hardware.figure import Bytes, Fraction, Number, Seconds, Spec


class GemmConstants(Spec):
    """Tiled matrix multiplication, see `simgpu.timing.gemm.gemm_time`."""

    compute_fraction: Fraction | None = None  # of the dense peak, inside a full tile
    memory_fraction: Fraction | None = None  # of the memory bandwidth
    launch_overhead: Seconds | None = None  # fixed time of a kernel, back to back in a stream or graph


class AttentionConstants(Spec):
    """Fused attention, see `simgpu.timing.attention`."""


class VectorConstants(Spec):
    """Normalisation, softmax, elementwise and other memory-bound kernels, see `simgpu.timing.vector`."""


class MoeConstants(Spec):
    """Grouped matrix multiplications of experts, see `simgpu.timing.moe`."""


class CollectiveConstants(Spec):
    """What a GPU brings to a collective, see `simgpu.timing.collectives`."""


class KernelConstants(Spec):
    """All constants of a GPU or an architecture, by class of operator and by library."""

    compute_fraction: Fraction | None = None  # of the dense peak, large matrix multiplications
    memory_fraction: Fraction | None = None  # of the memory bandwidth, large streams
    launch_overhead: Seconds | None = None  # fixed time of a kernel, back to back in a stream or graph
    gemm: dict[str, GemmConstants] = Field(default={})
    attention: dict[str, AttentionConstants] = Field(default={})
    vector: dict[str, VectorConstants] = Field(default={})
    moe: dict[str, MoeConstants] = Field(default={})
    collective: dict[str, CollectiveConstants] = Field(default={})


__all__ = [
    "AttentionConstants",
    "Bytes",
    "CollectiveConstants",
    "GemmConstants",
    "KernelConstants",
    "MoeConstants",
    "Number",
    "VectorConstants",
]
