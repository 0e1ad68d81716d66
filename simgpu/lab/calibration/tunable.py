"""Constants that rows may move: by class, the most telling first, and how far each usually strays.

`spread` is the standard deviation of the logarithm of a constant between GPUs of one family, rounded generously: the
prior of the fit. Constants that the data say nothing about stay where they were.
"""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Tunable:
    """A constant in the logarithm of (value + floor), so that one that is zero can move."""

    name: str
    spread: float
    floor: float = 0.0
    most: float = math.inf
    least: float = 0.0

    def encode(self, value: float) -> float:
        """The logarithm of (value + floor)."""
        return math.log(max(value + self.floor, 1e-30))

    def decode(self, position: float) -> float:
        """The value at a logarithm."""
        return min(max(math.exp(min(position, 60.0)) - self.floor, self.least), self.most)


def _fraction(name: str, spread: float = 0.08) -> Tunable:
    return Tunable(name, spread, most=1.0)


_SHARED_GEMM = (
    Tunable("launch_overhead", 0.4),
    _fraction("memory_fraction"),
    Tunable("l2_bytes_per_clock", 0.7),
    Tunable("k_step_clocks", 0.5),
    Tunable("throttle", 0.7, floor=0.1),
    Tunable("resident_bytes_per_clock", 0.4),
    Tunable("resident_fraction", 0.3),
    Tunable("wave_latency", 0.5),
    Tunable("split_latency", 0.4),
    Tunable("tile_latency", 0.5),
)

GEMM = (_SHARED_GEMM[0], _SHARED_GEMM[1], Tunable("clock_fraction", 0.2, most=1.3), *_SHARED_GEMM[2:])
"""Products whose clock is the GPU's own: what its multipliers reach and its clock come as one figure."""

LIBRARY_GEMM = (
    _SHARED_GEMM[0],
    _SHARED_GEMM[1],
    _fraction("compute_fraction", 0.2),
    *_SHARED_GEMM[2:],
    Tunable("quantise_overhead", 0.4),
    Tunable("quantise_bytes", 0.3),
    Tunable("quantise_row", 0.5),
    Tunable("quantise_step", 0.5),
)
"""Products in a named library, on the clock of the GPU."""

VECTOR = (
    _fraction("memory_fraction", 0.15),
    Tunable("l2_bytes_per_clock", 0.5),
    Tunable("launch_overhead", 0.4),
    Tunable("memory_latency", 0.4),
    Tunable("l2_fraction", 0.3, most=2.0),
)

ATTENTION = (
    Tunable("overhead", 0.4),
    Tunable("decode_overhead", 0.4),
    _fraction("compute_fraction", 0.2),
    _fraction("memory_fraction"),
    Tunable("block_latency", 0.5),
    Tunable("wave_latency", 0.5),
    Tunable("decode_slowdown", 0.4),
    Tunable("softmax_clocks", 0.4),
    Tunable("tail", 0.5, floor=0.1),
    Tunable("split_latency", 0.5),
    Tunable("decode_split_latency", 0.5),
    Tunable("resident_bytes_per_clock", 0.4),
    Tunable("resident_fraction", 0.3),
    _fraction("narrow_fraction", 0.2),
    _fraction("lone_block", 0.3),
)

MOE = (
    Tunable("fixed_time", 0.4),
    _fraction("memory_fraction"),
    _fraction("compute_fraction", 0.2),
    Tunable("permute_passes", 0.5),
    Tunable("l2_bytes_per_clock", 0.6),
    Tunable("k_step_clocks", 0.5),
    Tunable("wave_latency", 0.6),
    Tunable("resident_bytes_per_clock", 0.4),
)

COLLECTIVE = (
    Tunable("launch_latency", 0.4),
    _fraction("link_fraction"),
    Tunable("simple_latency", 0.5),
    Tunable("ll_pass", 0.7),
    Tunable("ll128_latency", 0.5),
    Tunable("simple_step", 0.5),
    Tunable("ll_fraction", 0.4),
    Tunable("ll128_fraction", 0.4),
    Tunable("nvls_latency", 0.4),
    _fraction("nvls_fraction"),
    Tunable("pair_latency", 0.5),
    Tunable("pair_peer_latency", 0.5),
    Tunable("pair_step", 0.5),
    _fraction("pair_fraction", 0.2),
)

CUSTOM = (
    Tunable("custom_latency", 0.4),
    _fraction("one_shot_fraction", 0.2),
    _fraction("two_shot_fraction", 0.2),
    Tunable("custom_barrier", 0.4),
    Tunable("custom_step", 0.5),
)


def tunables(kind: str, library: str) -> tuple[Tunable, ...]:
    """The constants of a class that rows of a library may move."""
    if kind == "gemm":
        return GEMM if library == "default" else LIBRARY_GEMM
    if kind == "collective":
        return CUSTOM if library == "custom" else COLLECTIVE
    return {"vector": VECTOR, "attention": ATTENTION, "moe": MOE}[kind]
