"""How far rows of measurements stand from what chose the constants, and the intervals of their predictions there."""

from __future__ import annotations

from typing import Any

import numpy as np

from simgpu.hardware.inherit import REGIMES
from simgpu.lab.validation.batches import Batch, Detail
from simgpu.lab.validation.tables import Array
from simgpu.timing.distance import ARCHITECTURE, EXPERTS, SOFTWARE
from simgpu.timing.uncertainty import RunSpread, WholeRun, interval, layers_of, run_spread

STANDINGS = ("calibrated", "same architecture", "new machine", "new software", "new architecture")
"""How far a row is: constants of this GPU, or of its architecture, chosen on rows of this source; a source that chose
none; software, or experts in it, without rows; an architecture without rows of the class. The farthest counts."""

_CALIBRATED, _SAME, MACHINE, _SOFTWARE, _ARCHITECTURE = STANDINGS


def library_of(batch: Batch) -> str:
    """The library under which the table of residuals knows a batch; machines that are not wholly described apart."""
    return f"{batch.library} {batch.caveat}".strip()


def run_library(batch: Batch, detail: Detail) -> str:
    """The library under which it knows a whole run: its engine, or its framework."""
    return f"{batch.library} {detail.layout}".strip() if detail.layout or batch.op != "step_time" else detail.framework


def ends_of(batch: Batch, predicted: Array, architecture: str, regime: str, seen: bool) -> tuple[Array, Array]:
    """P10 and P90 of each row, in units of what is predicted."""
    if batch.ends is not None:
        return batch.ends
    if batch.kernels is None:
        library = library_of(batch)
        low, high = interval(batch.op, predicted, architecture=architecture, regime=regime, library=library, seen=seen)
        return predicted * low, predicted * high
    found = [_run(batch, i, float(predicted[i]), architecture, regime, seen) for i in range(len(predicted))]
    low, high = (np.asarray([getattr(one, end) for one in found]) for end in ("low", "high"))
    return predicted * low, predicted * high


def _run(batch: Batch, i: int, seconds: float, architecture: str, regime: str, seen: bool) -> RunSpread:
    detail = batch.details[i]
    assert batch.kernels is not None
    ends = (min(float(batch.kernels[0][i]) / seconds, 1.0), max(float(batch.kernels[1][i]) / seconds, 1.0))
    run = WholeRun(
        library=run_library(batch, detail), architecture=architecture, regime=regime, kernels=ends, ends=detail.ends,
        version=detail.version, experts=detail.experts, seen=seen, load=detail.load, queue=detail.queue,
    )  # fmt: skip
    return run_spread(batch.op, seconds, run)


def standing_of(batch: Batch, architecture: str, regime: str, seen: bool) -> np.ndarray[Any, Any]:
    """How far each row of a batch is, one of `STANDINGS`."""
    usual = _CALIBRATED if regime == REGIMES[0] else _SAME
    near = usual if seen else MACHINE
    if batch.kernels is not None:
        one = [_run(batch, i, 1.0, architecture, regime, seen).layers for i in range(len(batch.rows))]
    elif batch.ends is not None:  # bytes of memory, which no constant of a GPU decides
        one = [frozenset()] * len(batch.rows)
    else:
        one = [layers_of(batch.op, architecture, regime, library_of(batch))] * len(batch.rows)
    words = [
        _ARCHITECTURE if ARCHITECTURE in layers else _SOFTWARE if layers & {SOFTWARE, EXPERTS} else near
        for layers in one
    ]
    return np.asarray(words, "U32")
