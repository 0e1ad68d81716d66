"""Constants that each kernel model reads, one class for a model, as plain numbers in SI units.

What a constant is and its unit stand beside the field of the same name in `simgpu.hardware.constants`, which is what a
file may hold. The two are held against each other when this module is loaded: a constant that no file can give, or that
no model reads, is an error then. A constant that no file gives is one when a model first needs it
(`simgpu.hardware.inherit.Calibration.read`), unless it has a default here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from simgpu.hardware.constants import (
    AttentionFigures,
    ExpertFigures,
    GemmFigures,
    PowerFigures,
    ScanFigures,
    StreamFigures,
)

# ---- matrix multiplications ----------------------------------------------------------------------------


@dataclass(frozen=True)
class GemmConstants:
    """Tiled matrix multiplication (`simgpu.timing.gemm.gemm_time`).

    Defaults are those of a library that picks the fastest of all tiles: one of 256 x 128 sums in fp32 fills half of the
    registers.
    """

    operators: ClassVar[str] = "gemm"
    compute_fraction: float
    memory_fraction: float
    launch_overhead: float  # s
    l2_bytes_per_clock: float
    k_step_clocks: float
    wave_latency: float  # s
    split_latency: float  # s
    resident_fraction: float
    resident_bytes_per_clock: float
    tile_latency: float = 0.0  # s
    rows_covered: float = 0.0
    smallest_columns: float = 32.0
    largest_tile: float = 256.0 * 128.0
    largest_split: float = 32.0
    convert_per_clock: float = math.inf


@dataclass(frozen=True)
class QuantiseConstants:
    """The kernel that quantises activations before they are multiplied (`simgpu.timing.quantise.quantise_time`)."""

    operators: ClassVar[str] = "gemm"
    quantise_bytes: float  # B per activation
    quantise_overhead: float  # s
    memory_fraction: float
    cast_overhead: float | None = None  # s; None: as `quantise_overhead`
    quantise_row: float = 0.0  # s
    quantise_step: float = 0.0  # s


@dataclass(frozen=True)
class PowerConstants:
    """How far the power limit holds the clock under tensor load, where nobody measured it (`simgpu.timing.power`)."""

    operators: ClassVar[str] = "gemm"
    compute_fraction: float
    energy_per_flop: float  # J/FLOP
    burst_exponent: float
    training_slowdown: float


@dataclass(frozen=True)
class GemvConstants:
    """Products of a few rows in llama.cpp (`simgpu.timing.gemv.gemv_time`)."""

    operators: ClassVar[str] = "gemm"
    memory_fraction: float
    launch_overhead: float  # s
    vector_bytes_per_clock: float
    vector_weights_per_clock: float
    vector_exponent: float


@dataclass(frozen=True)
class MmqConstants:
    """Products of many rows by weights in blocks in llama.cpp (`simgpu.timing.gemv.mmq_time`)."""

    operators: ClassVar[str] = "gemm"
    memory_fraction: float
    launch_overhead: float  # s
    integer_flops_per_clock: float


@dataclass(frozen=True)
class ExpertConstants:
    """Mixture-of-experts layers (`simgpu.timing.moe`); what `moe` does not give is as in `gemm`."""

    operators: ClassVar[str] = "moe"
    compute_fraction: float
    memory_fraction: float
    launch_overhead: float  # s
    l2_bytes_per_clock: float
    k_step_clocks: float
    wave_latency: float  # s
    resident_fraction: float
    resident_bytes_per_clock: float
    fixed_time: float  # s
    visit_time: float  # s
    permute_passes: float
    token_passes: float = 1.0
    remote_passes: float = 0.0
    expert_time: float = 0.0  # s
    convert_per_clock: float = math.inf
    most_rows: float = math.inf


# ---- attention -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PrefillConstants:
    """Fused attention of prompts and training steps (`simgpu.timing.attention.prefill_time`)."""

    operators: ClassVar[str] = "attention"
    compute_fraction: float
    narrow_fraction: float
    wide_fraction: float
    backward_fraction: float
    softmax_clocks: float
    clock_exponent: float
    memory_fraction: float
    resident_fraction: float
    resident_bytes_per_clock: float
    tile_rows: float
    wide_tile_rows: float
    tile_keys: float
    packed: float
    block_latency: float  # s
    largest_split: float
    split_latency: float  # s
    tail: float
    sorted_work: float
    lone_block: float
    outside_window: float
    overlap_exponent: float
    overhead: float  # s
    cast_overhead: float  # s
    uneven_overhead: float  # s


@dataclass(frozen=True)
class DecodeConstants:
    """Fused attention of decode steps (`simgpu.timing.attention_decode.decode_time`)."""

    operators: ClassVar[str] = "attention"
    compute_fraction: float
    narrow_fraction: float
    wide_fraction: float
    softmax_clocks: float
    clock_exponent: float
    decode_memory_fraction: float
    resident_fraction: float
    resident_bytes_per_clock: float
    block_bytes_per_clock: float
    decode_tile_rows: float
    decode_largest_rows: float
    decode_slowdown: float
    small_group: float
    small_group_fraction: float
    wave_latency: float  # s
    narrow_slowdown: float
    planned_keys: float
    decode_split_latency: float  # s
    decode_overlap_exponent: float
    decode_overhead: float  # s
    decode_cast_overhead: float  # s
    decode_wide_overhead: float  # s
    uneven_overhead: float  # s


@dataclass(frozen=True)
class UnfusedConstants:
    """Attention of llama.cpp without a fused kernel (`simgpu.timing.attention_unfused.unfused_time`)."""

    operators: ClassVar[str] = "attention"
    decode_memory_fraction: float
    launch_overhead: float  # s
    cache_bandwidth: float  # B/s


# ---- scans over a state --------------------------------------------------------------------------------


@dataclass(frozen=True)
class ScanConstants:
    """Scans over a state, and the indexer of sparse attention (`simgpu.timing.scan`)."""

    operators: ClassVar[str] = "scan"
    compute_fraction: float
    memory_fraction: float
    launch_overhead: float  # s
    chunk_latency: float  # s
    step_memory_fraction: float
    step_overhead: float  # s
    step_bytes_per_clock: float
    index_fraction: float
    index_memory_fraction: float
    choice_latency: float  # s
    choice_key_time: float  # s


@dataclass(frozen=True)
class PickedConstants:
    """Attention over keys that an indexer picked (`simgpu.timing.picked`)."""

    operators: ClassVar[str] = "scan"
    step_overhead: float  # s
    picked_fraction: float = 1.0
    picked_few_fraction: float = math.inf
    picked_heads: float = 64.0
    picked_cast_per_clock: float = 0.0
    gathered_fraction: float = 0.0
    gathered_products: float = 1.0


# ---- kernels that stream -------------------------------------------------------------------------------


@dataclass(frozen=True)
class StreamConstants:
    """Memory, latencies and issue rates of streaming kernels (`simgpu.timing.vector.stream_time`)."""

    operators: ClassVar[str] = "vector"
    memory_fraction: float
    launch_overhead: float  # s
    host_overhead: float  # s
    host_tail: float  # s
    memory_latency: float  # s
    l2_latency_fraction: float
    threads_per_sm: float
    lanes_per_sm: float
    special_per_sm: float
    l2_bytes_per_clock: float
    sm_bytes_per_clock: float
    l2_memory_ratio: float
    l2_fraction: float
    l2_sharpness: float
    reread_sharpness: float
    overlap: float
    flat_overlap: float


@dataclass(frozen=True)
class LaunchConstants:
    """How a library writes and launches its streaming kernels (`simgpu.timing.vector_work`)."""

    operators: ClassVar[str] = "vector"
    block_threads: float
    normalization_threads: float
    rope_threads: float
    vector_bytes: float  # B
    on_chip_bytes: float  # B
    load_instructions: float
    strided_instructions: float
    gather_instructions: float


@dataclass(frozen=True)
class HostCopyConstants:
    """Copies between host and GPU (`simgpu.timing.copies.host_copy_time`)."""

    operators: ClassVar[str] = "vector"
    host_link_fraction: float
    pageable_fraction: float
    copy_overhead: float  # s


# ---- power -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LevelConstants:
    """Power of a board by what it does, shares of its rated power (`simgpu.timing.power.Levels`)."""

    operators: ClassVar[str] = "power"
    idle: float
    waiting: float
    product: float
    attention: float
    experts: float
    streaming: float
    communication: float
    memory: float
    padding: float


# ---- against what files may hold -----------------------------------------------------------------------

CLOCKS = ("clock_fraction", "throttle", "throttle_time")
"""Read by `simgpu.timing.power.TensorClock`, which follows from `PowerConstants` where a GPU does not give them."""

STAND_INS = ("l2_bytes_per_flop",)
"""Asked for `l2_bytes_per_clock` where an architecture does not give that (`simgpu.timing.gemm_libraries`)."""

READ: dict[type[Any], tuple[type[Any], ...]] = {
    GemmFigures: (GemmConstants, QuantiseConstants, PowerConstants, GemvConstants, MmqConstants),
    AttentionFigures: (PrefillConstants, DecodeConstants, UnfusedConstants),
    StreamFigures: (StreamConstants, LaunchConstants, HostCopyConstants),
    ExpertFigures: (ExpertConstants,),
    ScanFigures: (ScanConstants, PickedConstants),
    PowerFigures: (LevelConstants,),
}
"""What a file may hold for a class of operators, and what reads it."""


def check_names() -> None:
    """Raise `TypeError` where a model reads what no file can give, or a file can give what no model reads."""
    further = {GemmFigures: {*CLOCKS, *STAND_INS}}
    for held, kinds in READ.items():
        known = set(held.model_fields)
        taken = {one.name for kind in kinds for one in fields(kind)} | further.get(held, set())
        of_gemm = set(GemmFigures.model_fields) if held is ExpertFigures else set()
        for unread in sorted(known - taken):
            raise TypeError(f"no kernel model reads {unread} of {held.__name__}")
        for unknown in sorted(taken - known - of_gemm):
            raise TypeError(f"no file can give {unknown}: {held.__name__} has no such field")


check_names()
