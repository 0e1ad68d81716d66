"""Power of a run at a time that was measured: the work is as predicted, the seconds are others.

What a run takes longer than predicted is spread over its kernels and collectives by how unsure the time of each is;
in an engine whose GPU waits for the host it is waiting. A kernel that takes longer does the same work: it draws less
while it runs, and more energy in all. A run that is shorter than predicted is shorter in all of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.analysis.power import Board
from simgpu.analysis.uncertainty import Part

LEAST_WIDTH = 0.05
"""Of the interval of a part, as a share of its time, that it has at least."""


def seconds_of(parts: Sequence[Part], waiting: float, measured: float, host_bound: bool) -> tuple[list[float], float]:
    """Seconds of each part, and of waiting, so that they add up to `measured`."""
    known = sum(part.exposed for part in parts) + waiting
    if measured <= known:
        scale = measured / known if known else 0.0
        return [part.exposed * scale for part in parts], waiting * scale
    more = measured - known
    if host_bound or not parts:
        return [part.exposed for part in parts], waiting + more
    widths = [
        part.exposed * max(part.uncertainty.high - part.uncertainty.low, LEAST_WIDTH)
        if part.activity.kind != "host"
        else 0.0
        for part in parts
    ]
    whole = sum(widths)
    if not whole:
        return [part.exposed for part in parts], waiting + more
    return [part.exposed + more * width / whole for part, width in zip(parts, widths, strict=True)], waiting


def watts_at(parts: Sequence[Part], waiting: float, measured: float, host_bound: bool, board: Board) -> float:
    """Mean W of a run that took `measured` seconds, made of `parts` and of `waiting` seconds as predicted."""
    seconds, rest = seconds_of(parts, waiting, measured, host_bound)
    joules = board.levels.waiting * rest
    for part, taken in zip(parts, seconds, strict=True):
        if taken > 0:
            joules += taken * _watts(part, taken, board)
    return joules / measured


def _watts(part: Part, taken: float, board: Board) -> float:
    activity, time = part.activity, part.activity.time
    if activity.category != "compute" or activity.kind == "host" or time is None:
        return board.watts(activity, taken / max(part.runs, 1))
    nominal = part.exposed / time.seconds if time.seconds else 0.0  # runs, by the time of one
    peak_s = nominal * activity.flops / time.peak if time.peak else 0.0
    group = activity.uncertainty.group
    return board.levels.kernel(
        "gemm" if group == "given" and peak_s else group, taken, peak_s, nominal * activity.bytes
    )
