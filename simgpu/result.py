"""What comes back from a simulation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from simgpu.engine import Timeline
from simgpu.workload.execution import Execution

UNCERTAIN = (
    *("step_s", "compute_s", "communication_s", "exposed_communication_s", "single_gpu_step_s", "ideal_step_s"),
    *("efficiency", "speedup", "tokens_per_s", "flop_per_s_per_gpu", "mfu"),
)
"""Columns that have an interval: `NAME_p10` and `NAME_p90` beside them."""

COLUMNS: dict[str, str] = {
    "model": "model of the catalogue, or 'operators' for a list of operators",
    "workload": "kind of job: prefill, training, operators",
    "cluster": "cluster or node",
    "gpu": "GPU of the cluster",
    "dtype": "data type of weights and activations",
    "tp": "tensor-parallel ranks",
    "dp": "data-parallel ranks",
    "sequence_parallel": "sequence parallelism beside tensor parallelism",
    "gpus": "GPUs used, tp x dp",
    "step_s": "time of the step, s",
    "compute_s": "time the compute stream of the last rank to finish is busy, s",
    "communication_s": "time its communication streams are busy, s",
    "exposed_communication_s": "the part of it during which no kernel runs, s",
    "idle_s": "time with neither, s",
    "single_gpu_step_s": "time of the whole step on one GPU of the cluster (memory set aside), s",
    "ideal_step_s": "single_gpu_step_s / gpus, s",
    "efficiency": "ideal_step_s / step_s",
    "speedup": "single_gpu_step_s / step_s",
    "tokens_per_s": "tokens taken in per second, all GPUs; absent for a list of operators",
    "flop": "FLOPs of the step, all GPUs (matrix multiplications 2mnk, attention by the causal half)",
    "flop_per_s_per_gpu": "flop / step_s / gpus",
    "mfu": "flop_per_s_per_gpu / dense tensor peak of the dtype",
    "communication_bytes": "bytes one GPU's collectives are called with (payload as nccl-tests count it)",
    "weights_bytes_per_gpu": "bytes of the weights a GPU holds",
    "memory_capacity_bytes": "memory of the GPU",
    "weights_fit": "whether the weights alone fit into it",
}
COLUMNS |= {
    f"{name}_{end}": f"{name}: {share} % of measurements would lie below, by residuals of such operators"
    for name in UNCERTAIN
    for end, share in (("p10", 10), ("p90", 90))
}
"""Keys of a result row and what they mean. SI units stand in the names. These names are a contract."""


@dataclass(frozen=True)
class Result:
    """One simulated scenario: the numbers (`row`), the timeline, and where every input came from (`resolved`).

    Every key of the row can be read as an attribute: `result.step_s`.
    """

    row: Mapping[str, Any]
    execution: Execution
    inputs: Callable[[], Mapping[str, Mapping[str, Any]]] = dict

    @cached_property
    def resolved(self) -> Mapping[str, Mapping[str, Any]]:
        """Every input, defaults and catalogue figures included: {key: {value, unit, source}}, SI."""
        return self.inputs()

    @property
    def timeline(self) -> Timeline:
        return self.execution.timeline

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self.row[name]
        except KeyError:
            raise AttributeError(f"a result has no '{name}'; it has {', '.join(self.row)}") from None


@dataclass(frozen=True)
class Move:
    """One step of a walk: what was changed, the compared value before and after, and the step's row after."""

    what: str
    before: float
    after: float
    step_before: float
    step_after: float


@dataclass(frozen=True)
class Walk:
    """From one row to another. `match` holds the labels both share."""

    match: Mapping[str, Any]
    value: str
    start: float
    end: float
    moves: Sequence[Move]
