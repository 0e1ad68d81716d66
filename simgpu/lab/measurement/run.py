"""Measuring of the rows that a file lacks: the median of some samples of every operation, a row at a time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simgpu.lab.measurement.backend import Backend, Device, MeasurementError, Operation
from simgpu.lab.measurement.table import MeasuredFile

REPEATS = 9
NOISY = 0.2
"""Range of the middle half of the samples over their median, above which a row is counted as noisy."""


@dataclass
class Outcome:
    """The counts of operations by outcome."""

    measured: int = 0
    known: int = 0  # already in the file
    noisy: int = 0
    failed: list[tuple[Operation, str]] = field(default_factory=list)


Progress = Callable[[int, Operation], None]


def measure(
    operations: Sequence[Operation],
    backend: Backend,
    file: MeasuredFile,
    device: Device,
    progress: Progress = lambda _done, _operation: None,
    repeats: int = REPEATS,
) -> Outcome:
    """Measure the operations that `file` lacks and append them. An interruption leaves what was done."""
    outcome = Outcome()
    for i, operation in enumerate(operations):
        if operation in file:
            outcome.known += 1
            continue
        progress(i, operation)
        try:
            samples = [backend.run(operation) for _ in range(repeats)]
            check(samples)
        except MeasurementError as error:
            outcome.failed.append((operation, str(error)))
            continue
        middle, spread = statistics.median(samples), spread_of(samples)
        outcome.noisy += spread > NOISY
        file.add(
            operation,
            {
                "latency_s": f"{middle:.6g}",
                "repeats": str(len(samples)),
                "spread": f"{spread:.3f}",
                "device": device.name,
                "tool": device.tool,
            },
        )
        outcome.measured += 1
    return outcome


def check(samples: Sequence[float]) -> None:
    """Raise unless times are above zero and finite: a clock that failed is no measurement."""
    for sample in samples:
        if not 0 < sample < float("inf"):
            raise MeasurementError(f"the clock gave {sample} s")


def spread_of(samples: Sequence[float]) -> float:
    """Range of the middle half of the samples over their median."""
    if len(samples) < 2:
        return 0.0
    low, middle, high = statistics.quantiles(samples, n=4, method="inclusive")
    return (high - low) / middle
