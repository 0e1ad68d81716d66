"""Power of a run at a time that was measured: the work is as predicted, the seconds are others.

A run that takes longer than predicted has longer kernels and collectives, all by one factor; in an engine whose GPU
waits for the host it waits longer. A kernel that takes longer does the same work: it draws less while it runs, and more
energy in all. Where experts are spread over ranks, half of what is not predicted counts as waiting for the slowest of
them: of 0, 0.3, 0.5, 0.6 and 1 these fit boards of one and of eight GPUs together. A run that is shorter is shorter in
all of its parts.
"""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.analysis.power import Board
from simgpu.analysis.uncertainty import Part

UNEVEN = 0.5
"""Share of the time that nobody predicted in which ranks with experts wait for the slowest."""


def seconds_of(parts: Sequence[Part], waiting: float, measured: float, waits: float) -> tuple[list[float], float]:
    """Seconds of each part, and of waiting, so that they add up to `measured`.

    `waits` is the share of what the run takes longer than predicted that is waiting.
    """
    busy = sum(part.exposed for part in parts)
    known = busy + waiting
    if measured <= known or not busy:
        scale = measured / known if known else 0.0
        return [part.exposed * scale for part in parts], measured - busy * scale
    more = measured - known
    scale = 1 + (1 - waits) * more / busy
    return [part.exposed * scale for part in parts], waiting + waits * more


def watts_at(parts: Sequence[Part], waiting: float, measured: float, waits: float, board: Board) -> float:
    """Mean W of a run that took `measured` seconds, made of `parts` and of `waiting` seconds as predicted."""
    seconds, rest = seconds_of(parts, waiting, measured, waits)
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
