"""What streaming operators ask of a GPU: blocks, trips to memory, bytes and instructions, from their shapes.

Every function is pure, broadcasts over arrays of shapes and returns a `StreamWork` for
`simgpu.timing.vector.stream_time`. How a library writes its kernels comes in as figures: `block_threads`, the most
threads of a row's block; `vector_bytes`, what a thread loads at once; `on_chip_bytes`, the longest row that stays in
registers or shared memory between passes; `load_instructions`, what a thread issues for each load beside the arithmetic
(addresses, bounds, conversions). `width` is the bytes of an element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

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


def row_work(
    rows: ArrayLike,
    cols: ArrayLike,
    *,
    width: float,
    reads: float,
    writes: float,
    passes: float,
    arithmetic: float,
    block_threads: float,
    vector_bytes: float,
    on_chip_bytes: float,
    load_instructions: float,
    special: float = 0.0,
    chain: float = 0.0,
    written_width: float | None = None,
    kernels: float = 1.0,
) -> StreamWork:
    """A block for each row of `cols` elements, which is gone through `passes` times.

    `reads` and `writes` count tensors of the shape. The first pass reads all of them, later ones read one again, from
    L2 or DRAM unless the row stays on chip. A block has a power of two of threads, two loads for each if the row is
    long enough, up to `block_threads`; a pass takes ceil(cols / (threads x elements of a load)) trips, and a barrier
    with a reduction, as long as a trip, ends each pass.
    """
    rows, cols = np.asarray(rows, float), np.asarray(cols, float)
    per_load = max(vector_bytes / width, 1.0)
    threads = row_threads(cols / per_load / 2, block_threads)
    held = cols * width <= on_chip_bytes
    seen = np.where(held, 1.0, passes)
    tensor = rows * cols * width
    loads = reads + seen - 1.0
    return StreamWork(
        blocks=rows,
        threads=threads,
        steps=np.ceil(cols / (threads * per_load)) * seen + passes,
        read=tensor * reads,
        written=rows * cols * writes * (width if written_width is None else written_width),
        reread=tensor * (seen - 1.0),
        row_bytes=cols * width,
        instructions=rows * cols * (arithmetic * passes + load_instructions * loads / per_load),
        flops=rows * cols * 2.0 * passes,
        special=rows * (cols * special + 1.0),
        chain=chain,
        kernels=kernels,
    )


def row_threads(wanted: ArrayLike, most: float) -> Array:
    """Threads of a block: the power of two at or above `wanted`, of at least a warp and at most `most`."""
    power = 2.0 ** np.ceil(np.log2(np.maximum(np.asarray(wanted, float), 1.0)))
    return np.asarray(np.clip(power, WARP, max(most, WARP)))


def flat_work(
    elements: ArrayLike,
    *,
    read_bytes: ArrayLike,
    written_bytes: ArrayLike,
    arithmetic: float,
    vector_bytes: float,
    load_instructions: float,
    special: float = 0.0,
    width: float = 2.0,
    kernels: float = 1.0,
    trips: float | None = None,
    **_: Any,
) -> StreamWork:
    """Elements side by side, `read_bytes` and `written_bytes` of memory for each over all tensors and `kernels`.

    A thread loads `vector_bytes` of each tensor at once, and its trips are a load and a store for each kernel.
    """
    elements = np.asarray(elements, float)
    per_load = max(vector_bytes / width, 1.0)
    moved = np.asarray(read_bytes, float) + np.asarray(written_bytes, float)
    return StreamWork(
        blocks=np.maximum(elements / (FLAT_THREADS * per_load), 1.0),
        threads=float(FLAT_THREADS),
        steps=(FLAT_TRIPS if trips is None else trips) * kernels,
        read=elements * read_bytes,
        written=elements * written_bytes,
        instructions=elements * (arithmetic + load_instructions * moved / width / per_load),
        flops=elements * kernels,
        special=elements * special,
        kernels=kernels,
        flat=1.0,
    )


# ---- operators ---------------------------------------------------------------------------------------


def normalization_work(
    rows: ArrayLike, cols: ArrayLike, *, width: float, layer: bool, residual: bool,
    normalization_threads: float, block_threads: float, vector_bytes: float, on_chip_bytes: float,
    load_instructions: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """RMSNorm (x w / sqrt(mean(x^2) + eps)), or with `layer` LayerNorm; one pass for the sums, one to write.

    `residual` adds another tensor first and writes the sum too: two reads, two writes.
    """
    tensors = 2.0 if residual else 1.0
    work = row_work(
        rows, cols, width=width, reads=tensors, writes=tensors, passes=2.0, arithmetic=ARITHMETIC["norm"],
        chain=CHAIN["welford"] if layer else 0.0, block_threads=min(normalization_threads, block_threads),
        vector_bytes=vector_bytes, on_chip_bytes=on_chip_bytes, load_instructions=load_instructions,
    )  # fmt: skip
    return work._replace(in_place=float(residual))


def unfused_norm_work(
    rows: ArrayLike, cols: ArrayLike, *, width: float, strided_instructions: float, load_instructions: float,
    vector_bytes: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """RMSNorm as eight kernels in fp32: convert, square, mean, add, rsqrt, scale, convert back, times weight.

    The transformers library writes it so (modeling_llama.py, LlamaRMSNorm). Bytes of an element: `width` + 4, 8, 4,
    8, 4 + `width`, 2 `width`; the mean and the two products by a broadcast factor run with strided indices.
    """
    elements = np.asarray(rows, float) * np.asarray(cols, float)
    return flat_work(
        elements, read_bytes=2 * width + 16.0, written_bytes=2 * width + 12.0, width=4.0, kernels=8.0,
        trips=STRIDED_TRIPS["norm"], arithmetic=3 * strided_instructions,
        vector_bytes=vector_bytes, load_instructions=load_instructions,
    )  # fmt: skip


def softmax_work(
    rows: ArrayLike, cols: ArrayLike, *, width: float, written_width: float, block_threads: float, vector_bytes: float,
    on_chip_bytes: float, load_instructions: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """exp(x - max) / sum: three passes (largest, sum, result), one where the row stays on chip."""
    return row_work(
        rows, cols, width=width, written_width=written_width, reads=1.0, writes=1.0, passes=3.0,
        arithmetic=ARITHMETIC["exp"], special=2 * SPECIAL["exp"], block_threads=block_threads,
        vector_bytes=vector_bytes, on_chip_bytes=on_chip_bytes, load_instructions=load_instructions,
    )  # fmt: skip


def activation_work(
    rows: ArrayLike, cols: ArrayLike, *, width: float, gated: bool, function: str, block_threads: float,
    vector_bytes: float, on_chip_bytes: float, load_instructions: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """f(x) elementwise, or f(gate) up for a `gated` one, a block for each row of `cols` outputs."""
    shape = {"width": width, "vector_bytes": vector_bytes, "load_instructions": load_instructions}
    if not gated:
        elements = np.asarray(rows, float) * np.asarray(cols, float)
        return flat_work(
            elements, read_bytes=width, written_bytes=width, arithmetic=ARITHMETIC[function], special=SPECIAL[function],
            **shape,
        )  # fmt: skip
    return row_work(
        rows, cols, reads=2.0, writes=1.0, passes=1.0, arithmetic=ARITHMETIC[function], special=SPECIAL[function],
        chain=CHAIN.get(function, 0.0), block_threads=block_threads, on_chip_bytes=on_chip_bytes, **shape,
    )  # fmt: skip


def rope_work(
    tokens: ArrayLike, heads: ArrayLike, head_dim: ArrayLike, *, width: float, rope_threads: float,
    vector_bytes: float, on_chip_bytes: float, load_instructions: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """Rotary positions in place over `heads` heads (queries and keys); a thread turns a pair at a time.

    A block for each token (vLLM csrc/pos_encoding_kernels.cu), with up to `rope_threads` threads.
    """
    work = row_work(
        tokens, np.asarray(heads, float) * np.asarray(head_dim, float), width=width, reads=1.0, writes=1.0, passes=1.0,
        arithmetic=ARITHMETIC["rope"], block_threads=rope_threads, vector_bytes=max(vector_bytes, 2 * width),
        on_chip_bytes=on_chip_bytes, load_instructions=2 * load_instructions,
    )  # fmt: skip
    return work._replace(in_place=1.0)


def unfused_rope_work(
    tokens: ArrayLike, heads: ArrayLike, head_dim: ArrayLike, *, width: float, strided_instructions: float,
    load_instructions: float, vector_bytes: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """x cos + rotate_half(x) sin as five strided kernels for queries and five for keys (product, negation of a half,
    concatenation, product, sum), as the transformers library writes it (apply_rotary_pos_emb): ten tensors moved."""
    elements = np.asarray(tokens, float) * np.asarray(heads, float) * np.asarray(head_dim, float)
    return flat_work(
        elements, read_bytes=5.5 * width, written_bytes=4.5 * width, width=width, kernels=10.0,
        trips=STRIDED_TRIPS["rope"], arithmetic=4.5 * strided_instructions,
        vector_bytes=vector_bytes, load_instructions=load_instructions,
    )  # fmt: skip


def embedding_work(
    rows: ArrayLike, cols: ArrayLike, *, width: float, gather_instructions: float, vector_bytes: float, **_: Any
) -> StreamWork:
    """Rows gathered by index. `gather_instructions` finds an element's row (64-bit divisions in PyTorch before 2.6).

    Up to 16 rows are taken one after another, each waiting for its index.
    """
    rows = np.asarray(rows, float)
    work = flat_work(
        rows * np.asarray(cols, float), read_bytes=width, written_bytes=width, width=width, special=0.0,
        arithmetic=gather_instructions, vector_bytes=vector_bytes, load_instructions=0.0,
    )  # fmt: skip
    serial = np.where(rows <= SELECTED_AT_ONCE, SELECT_TRIPS * rows, 2.0)
    return work._replace(steps=np.maximum(work.steps, serial))


def quantise_work(
    rows: ArrayLike, cols: ArrayLike, *, width: float, written_width: float, group: float, block_threads: float,
    vector_bytes: float, on_chip_bytes: float, load_instructions: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """Largest magnitude of a row (or of each `group` elements of it), then scaled and rounded; a scale of 4 B each."""
    rows, cols = np.asarray(rows, float), np.asarray(cols, float)
    length = np.minimum(cols, group) if group else cols
    work = row_work(
        rows * cols / length, length, width=width, written_width=written_width, reads=1.0, writes=1.0, passes=2.0,
        arithmetic=ARITHMETIC["norm"], block_threads=block_threads, vector_bytes=vector_bytes,
        on_chip_bytes=on_chip_bytes, load_instructions=load_instructions,
    )  # fmt: skip
    return work._replace(written=work.written + 4.0 * rows * cols / length)


def sampling_work(
    rows: ArrayLike, vocab: ArrayLike, *, width: float, sort: bool, vector_bytes: float, load_instructions: float,
    **_: Any,
) -> StreamWork:  # fmt: skip
    """The next token of each row of logits: conversion to fp32, then the largest; with `sort` (top-k, top-p) a radix
    sort of four digits (a histogram, a read and a write of value and index each), softmax and running sum.

    The small kernels around it are `SAMPLING_KERNELS` without bytes.
    """
    elements = np.asarray(rows, float) * np.asarray(vocab, float)
    read, written = (width + 4.0, 4.0) if not sort else (width + 4.0 + 4 * 12.0 + 16.0, 4.0 + 4 * 8.0 + 8.0)
    return flat_work(
        elements, read_bytes=read, written_bytes=written, width=4.0, kernels=8.0 if sort else 2.0,
        arithmetic=ARITHMETIC["exp"] * (8.0 if sort else 1.0), vector_bytes=vector_bytes,
        load_instructions=load_instructions,
    )  # fmt: skip


SAMPLING_KERNELS = 9.0
"""Launches of a sampler besides those that pass over the logits: temperatures, second stage of the argmax, gathers,
casts (vLLM v1/sample/sampler.py)."""

STATES = {"adam": 2, "momentum": 1, "sgd": 0}
"""Tensors of state that an optimizer keeps beside the parameters."""


def optimizer_work(
    parameters: ArrayLike, *, kind: str, weight_bytes: float, gradient_bytes: float, state_bytes: float,
    master_bytes: float, vector_bytes: float, load_instructions: float, **_: Any,
) -> StreamWork:  # fmt: skip
    """One step: reads gradients, states and master copies, writes states and masters, and weights where they differ.

    Bytes of a parameter: gradient + 2 (states state_bytes + master) + weight (read too where there is no master copy).
    """
    states = STATES[kind] * state_bytes
    read = gradient_bytes + states + (master_bytes or weight_bytes)
    work = flat_work(
        parameters, read_bytes=read, written_bytes=states + master_bytes + weight_bytes, width=4.0,
        arithmetic=20.0 if states else 4.0, special=2.0 if kind == "adam" else 0.0, vector_bytes=vector_bytes,
        load_instructions=load_instructions,
    )  # fmt: skip
    return work._replace(in_place=1.0)


def reduction_work(
    rows: ArrayLike, cols: ArrayLike, *, width: float, vector_bytes: float, load_instructions: float, **_: Any
) -> StreamWork:
    """Sums (or largest) of rows of `cols` elements; long rows are cut over blocks and summed by the last one."""
    rows, cols = np.asarray(rows, float), np.asarray(cols, float)
    work = flat_work(
        rows * cols, read_bytes=width, written_bytes=0.0, width=width, arithmetic=ARITHMETIC["add"],
        vector_bytes=vector_bytes, load_instructions=load_instructions,
    )  # fmt: skip
    return work._replace(written=rows * width, steps=4.0)
