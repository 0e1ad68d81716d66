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

    memory_fraction: Fraction | None = None  # of the memory bandwidth, large streams
    launch_overhead: Seconds | None = None  # of each kernel, by its time on the GPU
    host_overhead: Seconds | None = None  # between call and launch, where the host's clock times it
    host_tail: Seconds | None = None  # what the host still does after the launch, in the shade of the kernel
    memory_latency: Seconds | None = None  # a trip to DRAM with what a thread does around it
    l2_latency_fraction: Fraction | None = None  # of that, for a trip that ends in L2
    threads_per_sm: Number | None = None  # resident at a time
    lanes_per_sm: Number | None = None  # instructions of threads that an SM issues in a clock
    special_per_sm: Number | None = None  # results of the special function units in a clock
    l2_bytes_per_clock: Number | None = None  # that an SM moves to and from L2, reached
    l2_fraction: Number | None = None  # of L2 that holds data for reuse: half where it is two partitions
    l2_sharpness: Number | None = None  # how sharply hits end between kernels when tensors outgrow it
    reread_sharpness: Number | None = None  # the same for rows that a kernel reads again
    overlap: Number | None = None  # exponent of the smooth maximum of memory, latency and instructions
    block_threads: Number | None = None  # most threads of a block that handles a row
    normalization_threads: Number | None = None  # the same for normalisation
    rope_threads: Number | None = None  # the same for rotary positions
    vector_bytes: Number | None = None  # loaded by a thread at once
    on_chip_bytes: Bytes | None = None  # longest row kept in registers or shared memory between passes
    load_instructions: Number | None = None  # of a thread for each load, beside the arithmetic
    strided_instructions: Number | None = None  # of a thread for each element of a tensor with strides
    gather_instructions: Number | None = None  # of a thread to find the row of an element
    host_link_fraction: Fraction | None = None  # of the host link, pinned memory
    pageable_fraction: Fraction | None = None  # of the host link, pageable memory
    copy_overhead: Seconds | None = None  # of a copy between host and GPU


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
