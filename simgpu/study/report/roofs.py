"""Operators of a finished run under the roofs of the GPU."""

from __future__ import annotations

from collections.abc import Iterator

from simgpu.analysis.uncertainty import parts_of
from simgpu.render.roofline import Point, Roofs
from simgpu.simulation.result import Result
from simgpu.units import to_si
from simgpu.workload.execution import Activity


def roofs_of(result: Result, title: str) -> Roofs:
    """Operators by name and phase, under the peak and bandwidth of the datasheet.

    The peak is that of the fastest type that products run in (of the vector units where there are none).
    """
    operators: dict[tuple[str, str], list[float]] = {}
    peak = 0.0
    for phase, activity, runs, seconds in _parts(result):
        if activity.category != "compute" or not activity.flops:
            continue
        peak = max(peak, activity.time.peak if activity.time else 0.0)
        name = "attention" if activity.name.startswith("attention_decode") else activity.name
        sums = operators.setdefault((name, phase), [0.0, 0.0, 0.0])
        for i, value in enumerate((activity.flops * runs, activity.bytes * runs, seconds)):
            sums[i] += value
    points = [Point(name, flop, moved, seconds, phase) for (name, phase), (flop, moved, seconds) in operators.items()]
    bandwidth, vector = (result.resolved[f"gpu.{key}"] for key in ("memory.bandwidth", "peak.fp32-fp32-vector"))
    peak = peak or to_si(vector["value"], vector["unit"], "FLOP/s")
    return Roofs(title, peak, to_si(bandwidth["value"], bandwidth["unit"], "B/s"), points)


def _parts(result: Result) -> Iterator[tuple[str, Activity, float, float]]:
    """(phase, operator, runs, seconds) of all activities on one rank of each stage."""
    blocks = result.execution.blocks
    if not blocks:
        for one in parts_of(result.execution, 0):
            yield result.row["workload"], one.activity, one.runs, one.seconds
        return
    for label, made in blocks.items():
        for block, times in made:
            for part in block.parts:
                yield label.kind, part.activity, part.runs * times, part.seconds * times
