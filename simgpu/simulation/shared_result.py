"""The result of several models on one GPU: latency beside each other, what can be served, what limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simgpu.simulation.result import Result


@dataclass(frozen=True, repr=False, kw_only=True)
class SharedResult(Result):
    """Models that share a GPU, in a chain or apart.

    `memory.parts` are the bytes of each; of calls in turn its weights, and what the largest call needs beside them.
    """

    HEADLINE: ClassVar[tuple[str, ...]] = ("requests_per_s", "latency_99th_s", "slowdown")

    sharing: str
    """How models share the GPU: separate, in_turn, time_slicing, mps or mig."""
    resident_models: int
    """Models that are resident."""
    capacity_per_s: float | None = None
    """Requests per second of a chain above which queues grow without end (requests/s)."""
    capacity_per_s_p10: float | None = None
    capacity_per_s_p90: float | None = None
    offered_load: float | None = None
    """Requests that come over capacity_per_s (share)."""
    load_limit: str | None = None
    """What capacity_per_s is reached by: a model, GPU time, multiprocessors or memory bandwidth."""
    latency_50th_s: float | None = None
    """Time of a request through the chain, of models apart a call of the first, waits included: 50 % stay below (s)."""
    latency_50th_s_p10: float | None = None
    latency_50th_s_p90: float | None = None
    latency_99th_s: float | None = None
    """Time of a request through the chain, of models apart a call of the first, waits included: 99 % stay below (s)."""
    latency_99th_s_p10: float | None = None
    latency_99th_s_p90: float | None = None
    slowdown: float | None = None
    """Mean time of a request over that of the same calls alone on the whole GPU."""
    stages_50th: str | None = None
    """Median time of a call of each model, waits included."""
    stages_99th: str | None = None
    """Time of a call of each model that 99 % stay below, waits included."""
    requests_per_s: float
    """Requests per second, all GPUs (requests/s)."""
    requests_per_s_p10: float
    requests_per_s_p90: float
    energy_j_per_request: float | None = None
    """Energy of all GPUs for a request (J)."""
    energy_j_per_request_p10: float | None = None
    energy_j_per_request_p90: float | None = None
    memory_bytes_per_gpu: float
    """Peak memory of the rank that needs most: allocated memory, CUDA context and NCCL (B)."""
    memory_fits: bool
    """False where that does not fit the memory of the GPU: in training where memory_verdict is 'does not fit', with
    offload also by what lies in host memory and on drives, where the node's file tells their size; in inference where
    it is more than the engine's share."""
