"""What streaming operators ask of a GPU: blocks, trips to memory, bytes and instructions, from their shapes.

Every function is pure, broadcasts over arrays of shapes and returns a `StreamWork` for
`simgpu.timing.vector.stream_time`. How a library writes its kernels comes in as constants: `block_threads`, the most
threads of a row's block; `vector_bytes`, what a thread loads at once; `on_chip_bytes`, the longest row that stays in
registers or shared memory between passes; `load_instructions`, what a thread issues for each load beside the arithmetic
(addresses, bounds, conversions). `width` is B of an element.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from simgpu.timing.constants import LaunchConstants
from simgpu.timing.parts import Array, ArrayLike
from simgpu.timing.vector import StreamWork

WARP = 32
FLAT_THREADS = 128
"""Threads of a block of an elementwise kernel: 4 warps (PyTorch, aten/src/ATen/native/cuda/thread_constants.h)."""

ARITHMETIC = {"copy": 1.0, "add": 2.0, "norm": 4.0, "exp": 8.0, "silu": 15.0, "gelu": 25.0, "rope": 70.0, "pow": 60.0}
"""Instructions of a thread for an element, beside its loads: counted from the formulas (a division or an exponential
in full precision takes about ten, the power function sixty), to a factor of two."""

SPECIAL = {"copy": 0.0, "add": 0.0, "norm": 0.0, "exp": 1.0, "silu": 2.0, "gelu": 1.0, "rope": 0.0, "pow": 2.0}
"""Results of the special function units for an element: exponentials, logarithms, reciprocals."""

CHAIN = {"silu": 230.0, "welford": 680.0}
"""Clocks of dependent arithmetic behind a load: x / (1 + exp(-x)); the running mean and variance of a layer norm, four
elements one after another with a division each. Fitted to single rows of Vidur's tables (A100, H100, A40)."""

FLAT_TRIPS = 1.0
"""Trips to memory of a thread of an elementwise kernel: its load; nothing waits for the store."""

STRIDED_TRIPS = {"norm": 4.4, "rope": 6.3}
"""The same, of each kernel of an unfused norm (a reduction among them) and rope: index arithmetic before each load.
Fitted to the smallest sizes of LLMServingSim's tables (H100, RTX 3090, RTX A6000)."""

SELECTED_AT_ONCE = 16
"""Rows up to which PyTorch gathers with a kernel that takes one index after another (`indexSelectSmallIndex`)."""
SELECT_TRIPS = 3
"""Trips to memory for one of these: the index, the row, the next."""


class RowKernel(NamedTuple):
    """What a kernel does with each row; `reads` and `writes` count tensors of the shape.

    The first pass reads all of them, later ones read one again, from L2 or DRAM unless the row stays on chip.
    """

    width: float  # B of an element that is read
    written_width: float  # B of an element that is written
    reads: float
    writes: float
    passes: float  # over a row
    arithmetic: float  # instructions of a thread for an element, in each pass
    special: float = 0.0  # results of the special function units for an element
    chain: float = 0.0  # clocks of dependent arithmetic behind each trip to memory


def row_work(rows: ArrayLike, cols: ArrayLike, kernel: RowKernel, launch: LaunchConstants) -> StreamWork:
    """A block for each row of `cols` elements, which is gone through in passes.

    A block has a power of two of threads, two loads for each if the row is long enough, up to `block_threads`; a pass
    takes ceil(cols / (threads x elements of a load)) trips, and a barrier with a reduction, as long as a trip, ends
    each pass.
    """
    rows, cols = np.asarray(rows, float), np.asarray(cols, float)
    width, passes = kernel.width, kernel.passes
    per_load = max(launch.vector_bytes / width, 1.0)
    threads = row_threads(cols / per_load / 2, launch.block_threads)
    held = cols * width <= launch.on_chip_bytes
    seen = np.where(held, 1.0, passes)
    tensor = rows * cols * width
    loads = kernel.reads + seen - 1.0
    return StreamWork(
        blocks=rows,
        threads=threads,
        steps=np.ceil(cols / (threads * per_load)) * seen + passes,
        read=tensor * kernel.reads,
        written=rows * cols * kernel.writes * kernel.written_width,
        reread=tensor * (seen - 1.0),
        row_bytes=cols * width,
        instructions=rows * cols * (kernel.arithmetic * passes + launch.load_instructions * loads / per_load),
        flops=rows * cols * 2.0 * passes,
        special=rows * (cols * kernel.special + 1.0),
        chain=kernel.chain,
    )


def row_threads(wanted: ArrayLike, most: float) -> Array:
    """Threads of a block: the power of two at or above `wanted`, of at least a warp and at most `most`."""
    power = 2.0 ** np.ceil(np.log2(np.maximum(np.asarray(wanted, float), 1.0)))
    return np.asarray(np.clip(power, WARP, max(most, WARP)))


class FlatKernel(NamedTuple):
    """What kernels do with elements side by side, in sum over all tensors and `kernels`."""

    read_bytes: ArrayLike  # B of an element
    written_bytes: ArrayLike  # B of an element
    arithmetic: float  # instructions of a thread for an element
    special: float = 0.0  # results of the special function units for an element
    width: float = 2.0  # B that a thread takes as one element of a load
    kernels: float = 1.0  # launched one after another
    trips: float = FLAT_TRIPS  # to memory, of a thread of each kernel


def flat_work(elements: ArrayLike, kernel: FlatKernel, launch: LaunchConstants) -> StreamWork:
    """Elements side by side: a thread loads `vector_bytes` of each tensor at once."""
    elements, width, kernels = np.asarray(elements, float), kernel.width, kernel.kernels
    per_load = max(launch.vector_bytes / width, 1.0)
    moved = np.asarray(kernel.read_bytes, float) + np.asarray(kernel.written_bytes, float)
    return StreamWork(
        blocks=np.maximum(elements / (FLAT_THREADS * per_load), 1.0),
        threads=float(FLAT_THREADS),
        steps=kernel.trips * kernels,
        read=elements * kernel.read_bytes,
        written=elements * kernel.written_bytes,
        instructions=elements * (kernel.arithmetic + launch.load_instructions * moved / width / per_load),
        flops=elements * kernels,
        special=elements * kernel.special,
        kernels=kernels,
        flat=1.0,
    )


# ---- operators ---------------------------------------------------------------------------------------


def normalization_work(
    rows: ArrayLike, cols: ArrayLike, width: float, layer: bool, residual: bool, launch: LaunchConstants
) -> StreamWork:
    """RMSNorm (x w / sqrt(mean(x^2) + eps)), or with `layer` LayerNorm; one pass for the sums, one to write.

    `residual` adds another tensor first and writes the sum too: two reads, two writes.
    """
    tensors, chain = 2.0 if residual else 1.0, CHAIN["welford"] if layer else 0.0
    kernel = RowKernel(width, width, tensors, tensors, passes=2.0, arithmetic=ARITHMETIC["norm"], chain=chain)
    threads = min(launch.normalization_threads, launch.block_threads)
    return row_work(rows, cols, kernel, replace(launch, block_threads=threads))._replace(in_place=float(residual))


MOMENT_THREADS, MOMENT_UNROLL = 512, 4
"""Threads of a block of PyTorch's moments, and elements that a thread loads at a time
(aten/src/ATen/native/cuda/block_reduce.cuh, kCUDABlockReduceNumThreads; group_norm_kernel.cu)."""


def moments_work(rows: ArrayLike, cols: ArrayLike, width: float, launch: LaunchConstants) -> StreamWork:
    """Mean and variance of each row, by one block in one pass (RowwiseMomentsCUDAKernel): few rows fill few SMs."""
    kernel = RowKernel(width, width, 1.0, 0.0, passes=1.0, arithmetic=ARITHMETIC["norm"], chain=CHAIN["welford"])
    own = replace(launch, block_threads=MOMENT_THREADS, vector_bytes=MOMENT_UNROLL * width)
    return row_work(rows, cols, kernel, own)


def unfused_norm_work(rows: ArrayLike, cols: ArrayLike, width: float, launch: LaunchConstants) -> StreamWork:
    """RMSNorm as eight kernels in fp32: convert, square, mean, add, rsqrt, scale, convert back, times weight.

    The transformers library writes it so (modeling_llama.py, LlamaRMSNorm). Bytes of an element: `width` + 4, 8, 4,
    8, 4 + `width`, 2 `width`; the mean and the two products by a broadcast factor run with strided indices.
    """
    kernel = FlatKernel(
        read_bytes=2 * width + 16.0,
        written_bytes=2 * width + 12.0,
        arithmetic=3 * launch.strided_instructions,
        width=4.0,
        kernels=8.0,
        trips=STRIDED_TRIPS["norm"],
    )
    return flat_work(np.asarray(rows, float) * np.asarray(cols, float), kernel, launch)


def softmax_work(
    rows: ArrayLike, cols: ArrayLike, width: float, written_width: float, launch: LaunchConstants
) -> StreamWork:
    """exp(x - max) / sum: three passes (largest, sum, result), one where the row stays on chip."""
    kernel = RowKernel(width, written_width, 1.0, 1.0, 3.0, ARITHMETIC["exp"], special=2 * SPECIAL["exp"])
    return row_work(rows, cols, kernel, launch)


def activation_work(
    rows: ArrayLike, cols: ArrayLike, width: float, gated: bool, function: str, launch: LaunchConstants
) -> StreamWork:
    """f(x) elementwise, or f(gate) up for a `gated` one, a block for each row of `cols` outputs."""
    arithmetic, special = ARITHMETIC[function], SPECIAL[function]
    if not gated:
        elements = np.asarray(rows, float) * np.asarray(cols, float)
        return flat_work(elements, FlatKernel(width, width, arithmetic, special, width), launch)
    kernel = RowKernel(width, width, 2.0, 1.0, 1.0, arithmetic, special, chain=CHAIN.get(function, 0.0))
    return row_work(rows, cols, kernel, launch)


def rope_work(
    tokens: ArrayLike, heads: ArrayLike, head_dim: ArrayLike, width: float, launch: LaunchConstants
) -> StreamWork:
    """Rotary positions in place over `heads` heads (queries and keys); a thread turns a pair at a time.

    A block for each token (vLLM csrc/pos_encoding_kernels.cu), with up to `rope_threads` threads.
    """
    pairs = replace(
        launch,
        block_threads=launch.rope_threads,
        vector_bytes=max(launch.vector_bytes, 2 * width),
        load_instructions=2 * launch.load_instructions,
    )
    kernel = RowKernel(width, width, reads=1.0, writes=1.0, passes=1.0, arithmetic=ARITHMETIC["rope"])
    elements = np.asarray(heads, float) * np.asarray(head_dim, float)
    return row_work(tokens, elements, kernel, pairs)._replace(in_place=1.0)


def unfused_rope_work(
    tokens: ArrayLike, heads: ArrayLike, head_dim: ArrayLike, width: float, launch: LaunchConstants
) -> StreamWork:
    """Rotary embedding as the transformers library writes it (apply_rotary_pos_emb): x cos + rotate_half(x) sin.

    It is five strided kernels for queries and five for keys (product, negation of a half, concatenation, product, sum),
    which move ten tensors.
    """
    elements = np.asarray(tokens, float) * np.asarray(heads, float) * np.asarray(head_dim, float)
    kernel = FlatKernel(
        read_bytes=5.5 * width,
        written_bytes=4.5 * width,
        arithmetic=4.5 * launch.strided_instructions,
        width=width,
        kernels=10.0,
        trips=STRIDED_TRIPS["rope"],
    )
    return flat_work(elements, kernel, launch)


def embedding_work(rows: ArrayLike, cols: ArrayLike, width: float, launch: LaunchConstants) -> StreamWork:
    """Rows gathered by index. `gather_instructions` finds an element's row (64-bit divisions in PyTorch before 2.6).

    Up to 16 rows are taken one after another, each waiting for its index.
    """
    rows = np.asarray(rows, float)
    kernel = FlatKernel(width, width, arithmetic=launch.gather_instructions, width=width)
    work = flat_work(rows * np.asarray(cols, float), kernel, replace(launch, load_instructions=0.0))
    serial = np.where(rows <= SELECTED_AT_ONCE, SELECT_TRIPS * rows, 2.0)
    return work._replace(steps=np.maximum(work.steps, serial))


def quantise_work(
    rows: ArrayLike, cols: ArrayLike, width: float, written_width: float, group: float, launch: LaunchConstants
) -> StreamWork:
    """Largest magnitude of a row (or of each `group` elements of it), then scaled and rounded; a scale of 4 B each."""
    rows, cols = np.asarray(rows, float), np.asarray(cols, float)
    length = np.minimum(cols, group) if group else cols
    kernel = RowKernel(width, written_width, reads=1.0, writes=1.0, passes=2.0, arithmetic=ARITHMETIC["norm"])
    work = row_work(rows * cols / length, length, kernel, launch)
    return work._replace(written=work.written + 4.0 * rows * cols / length)


def sampling_work(rows: ArrayLike, vocab: ArrayLike, width: float, sort: bool, launch: LaunchConstants) -> StreamWork:
    """The next token of each row of logits: conversion to fp32, then the largest.

    With `sort` (top-k, top-p) there are also a radix sort of four digits (a histogram, a read and a write of value and
    index each), softmax and running sum.

    The small kernels around it are `SAMPLING_KERNELS` without bytes.
    """
    read, written = (width + 4.0, 4.0) if not sort else (width + 4.0 + 4 * 12.0 + 16.0, 4.0 + 4 * 8.0 + 8.0)
    arithmetic = ARITHMETIC["exp"] * (8.0 if sort else 1.0)
    kernel = FlatKernel(read, written, arithmetic, width=4.0, kernels=8.0 if sort else 2.0)
    return flat_work(np.asarray(rows, float) * np.asarray(vocab, float), kernel, launch)


SAMPLING_KERNELS = 9.0
"""Launches of a sampler besides those that pass over the logits: temperatures, second stage of the argmax, gathers,
casts (vLLM v1/sample/sampler.py)."""

STATES = {"adam": 2, "momentum": 1, "sgd": 0}
"""Tensors of state that an optimizer keeps beside the parameters."""


class ParameterBytes(NamedTuple):
    """B of each tensor that an optimizer keeps of a parameter."""

    weights: float
    gradients: float
    states: float  # each of them
    master: float  # 0: no master copy


def optimizer_work(parameters: ArrayLike, kind: str, held: ParameterBytes, launch: LaunchConstants) -> StreamWork:
    """One step: reads gradients, states and master copies, writes states and masters, and weights where they differ.

    Bytes of a parameter: gradient + 2 (states + master) + weight (read too where there is no master copy).
    """
    states = STATES[kind] * held.states
    kernel = FlatKernel(
        read_bytes=held.gradients + states + (held.master or held.weights),
        written_bytes=states + held.master + held.weights,
        arithmetic=20.0 if states else 4.0,
        special=2.0 if kind == "adam" else 0.0,
        width=4.0,
    )
    return flat_work(parameters, kernel, launch)._replace(in_place=1.0)


def reduction_work(rows: ArrayLike, cols: ArrayLike, width: float, launch: LaunchConstants) -> StreamWork:
    """Sums (or largest) of rows of `cols` elements; long rows are cut over blocks and summed by the last one."""
    rows, cols = np.asarray(rows, float), np.asarray(cols, float)
    kernel = FlatKernel(width, 0.0, arithmetic=ARITHMETIC["add"], width=width)
    return flat_work(rows * cols, kernel, launch)._replace(written=rows * width, steps=4.0)
