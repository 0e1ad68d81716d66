"""Checks that reject impossible rows: faster than the GPU, or in another unit."""

from __future__ import annotations

import numpy as np

from simgpu.lab.validation.batches import Adapter, Batch, Machine
from simgpu.lab.validation.run import FASTEST, SLOWEST, parts_of
from simgpu.lab.validation.tables import Rows, Table

ABOVE_PEAK = 3.0
"""A row this many times faster than datasheet peak and caches allow is refused."""
TOO_SLOW = 1e6
"""A row this many times slower than both model and roofline is refused."""
PORT = 64.0
"""Bytes that a multiprocessor takes from L2 in a clock, at most (the width of its port)."""


class _Cached(Machine):
    """The same GPU with DRAM as fast as its L2 could be: small operands stay there between repetitions."""

    @property
    def bandwidth(self) -> float:
        """Bandwidth of DRAM, as high as that of L2 could be, bytes/s."""
        device = self.timer.device
        return max(device.bandwidth, PORT * device.sm_count * device.clock)


def check(table: Table, adapter: Adapter, batch: Batch, machine: Machine) -> tuple[Rows, dict[str, int]]:
    """Rows of a batch that can be true and that the model gives a time for; the number of others by reason."""
    measured = table.number(adapter.measured, batch.rows)
    predicted = np.broadcast_to(np.asarray(batch.predict(), float), measured.shape)
    slowest = np.fmax(predicted, np.asarray(batch.roofline(), float))
    fastest = fastest_times(table, adapter, batch, machine) / ABOVE_PEAK
    good = np.isfinite(predicted) & (predicted > 0)
    counts = {"the model gives no time": int((~good).sum())}

    def refuse(wrong: np.ndarray, reason: str) -> None:
        if wrong.any():
            row = int(np.argmax(wrong))
            place = f"line {int(table.lines[batch.rows[row]])}: {adapter.measured}: "
            times = ABOVE_PEAK * fastest[row] / measured[row]
            text = reason.format(measured[row], times, machine.name) + "; expected seconds, is this another unit?"
            counts[place + text] = int(wrong.sum())

    fast = good & (measured < fastest)
    refuse(fast, "{0:,.3g} s is {1:,.0f} times faster than peak and caches of '{2}' allow")
    slow = good & (measured > TOO_SLOW * slowest)
    refuse(slow, "{0:,.3g} s is a million times slower than '{2}' should take")
    good &= ~fast & ~slow
    if good.any():
        typical = float(np.median((measured / slowest)[good]))
        if not FASTEST <= typical <= SLOWEST:
            way = f"{typical:,.0f} times slower" if typical > 1 else f"{1 / typical:,.0f} times faster"
            refuse(good, f"times are {way} than expected in the median")
            good[:] = False
    return batch.rows[good], {reason: count for reason, count in counts.items() if count}


def fastest_times(table: Table, adapter: Adapter, batch: Batch, machine: Machine) -> np.ndarray:
    """Seconds that no row can beat, at the rates of the datasheet and of L2."""
    cached = _Cached(machine.name, machine.gpu, machine.bench)
    seconds = np.zeros(len(batch.rows))
    for part in parts_of(table, adapter, cached, batch.rows):
        if isinstance(part, Batch):
            seconds[np.searchsorted(batch.rows, part.rows)] = np.broadcast_to(part.roofline(), part.rows.shape)
    return seconds
