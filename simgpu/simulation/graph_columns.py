"""Columns of the row of a prefill or a list of operators: times, rates, sizes, their intervals, how far from data."""

from __future__ import annotations

from typing import Any

from simgpu.analysis.breakdown import Breakdown
from simgpu.analysis.uncertainty import Range, parts_of, range_of, range_of_ratio
from simgpu.analysis.utilisation import kernels_of, products
from simgpu.hardware.cluster import Cluster
from simgpu.model.graph import ModelGraph
from simgpu.model.operators import BYTES
from simgpu.plan.program import Program
from simgpu.timing.uncertainty import distance_of, layers_of
from simgpu.workload.execution import Execution


def intervals_of(
    execution: Execution, rank: int, single: Execution, row: dict[str, Any], gpus: int
) -> dict[str, float]:
    """P10 and P90 of the uncertain columns of a row."""
    parts, alone = parts_of(execution, rank), parts_of(single, 0)
    kernels = [(part.seconds, part.uncertainty) for part in parts if part.activity.category == "compute"]
    calls = [part for part in parts if part.activity.category != "compute"]
    step = kernels + [(part.exposed, part.uncertainty) for part in calls]
    whole = [(part.exposed, part.uncertainty) for part in alone]
    other = max(row["step_s"] - sum(seconds for seconds, _ in step), 0.0)
    one = range_of(whole)
    ratio = range_of_ratio(whole, step, other) if execution is not single else Range(1.0, 1.0)
    ranges = {
        "step_s": range_of(step, other),
        "compute_s": range_of(kernels),
        "communication_s": range_of([(part.seconds, part.uncertainty) for part in calls]),
        "exposed_communication_s": range_of([(part.exposed, part.uncertainty) for part in calls]),
        "single_gpu_step_s": one,
        "efficiency": Range(ratio.p10 / gpus, ratio.p90 / gpus),
        "speedup": ratio,
    }
    return {f"{name}_{end}": getattr(of, end) for name, of in ranges.items() for end in ("p10", "p90")}


COUNTS = 0.1
"""Share of the time of the kernels and collectives from which on what is far from measurements is said of a result."""


def distance_over(execution: Execution, rank: int, cluster: Cluster) -> str:
    """How far the kernels and collectives of a list of operators are from what was measured, in words."""
    constants, seconds, total = cluster.kernel, dict[str, float](), 0.0
    for part in parts_of(execution, rank):
        time, chosen = part.activity.time, part.activity.chosen
        if time is not None and time.operator:
            layers = layers_of(time.operator, constants.architecture, time.regime, time.library)
        elif chosen is not None:
            regime = constants.regime("collective", chosen.library)
            layers = layers_of(part.activity.kind, constants.architecture, regime, chosen.library)
        else:
            continue
        total += part.seconds
        for layer in layers:
            seconds[layer] = seconds.get(layer, 0.0) + part.seconds
    return distance_of(constants, {name for name, share in seconds.items() if share > COUNTS * total}) if total else ""


def times_of(parts: Breakdown, alone: float, gpus: int) -> dict[str, Any]:
    """Parts of the step, and how it compares with one GPU that takes `alone` seconds."""
    ideal = alone / gpus
    return {
        "step_s": parts.step,
        "compute_s": parts.compute,
        "communication_s": parts.communication,
        "exposed_communication_s": parts.exposed_communication,
        "idle_s": parts.idle,
        "single_gpu_step_s": alone,
        "ideal_step_s": ideal,
        "efficiency": ideal / parts.step,
        "speedup": alone / parts.step,
    }


def rates_of(graph: ModelGraph, execution: Execution, gpus: int) -> dict[str, Any]:
    """Tokens and FLOPs per second, and utilization."""
    achieved, peak = graph.flops / execution.step / gpus, products(kernels_of(execution)).peak
    tokens = {"tokens_per_s": graph.tokens / execution.step} if graph.tokens else {}
    return {
        **tokens, "flop": graph.flops, "flop_per_s_per_gpu": achieved, "mfu": achieved / peak if peak else 0.0,
    }  # fmt: skip


def sizes_of(program: Program, dtype: str, cluster: Cluster) -> dict[str, Any]:
    """Bytes that a GPU communicates, and those of its weights."""
    weights, capacity = program.weights * BYTES[dtype], cluster.gpu.memory.capacity.si
    return {
        "communication_bytes": sum(times * collective.size for collective, times in program.collectives()),
        "weights_bytes_per_gpu": weights,
        "memory_capacity_bytes": capacity,
        "weights_fit": weights <= capacity,
    }
