"""How far the power limit holds a GPU's clock below boost when its tensor cores are busy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgpu.timing.parts import Array

NOT_CORES = 0.15
"""Share of the board power that is not the multiprocessors': memory, leakage, regulators. An estimate, as most boards
idle at 10 to 15 % of their limit (nvidia-smi)."""


@dataclass(frozen=True)
class TensorClock:
    """The clock of kernels that keep the tensor cores busy.

        clock(T) = boost clock_fraction / (1 + throttle T / (T + throttle_time))        in a short burst
        clock    = boost clock_fraction / (1 + throttle)                                in a sustained run

    T is what a kernel takes at its peak: power follows what is multiplied and how long.

    Parameters
    ----------
    clock_fraction : of the boost clock, at the start of a burst
    throttle : by how much a long kernel lengthens the clock period further
    throttle_time : s at which half of that is reached
    sustained_throttle : the part of `throttle` that every kernel of a sustained run has: what the power limit takes.
        The rest, of libraries whose large shapes are slow, sets in with the length of a kernel
    """

    clock_fraction: float
    throttle: float
    throttle_time: float
    sustained_throttle: float = np.inf

    def under_load(self, boost: float, ideal: Array | float, sustained: bool) -> Array:
        """Hz of kernels that take `ideal` seconds at their peak, on a GPU whose boost clock is `boost` Hz."""
        slower = self.throttle * ideal / (ideal + self.throttle_time)
        if sustained:
            slower = np.maximum(slower, min(self.throttle, self.sustained_throttle))
        return np.asarray(boost * self.clock_fraction / (1 + slower))


def tensor_clock(
    tdp: float, peak: float, compute_fraction: float, energy_per_flop: float, burst_exponent: float
) -> tuple[float, float]:
    """(clock_fraction, throttle) of a `TensorClock` for a GPU whose clocks nobody measured.

        sustained = min(1, sqrt(0.85 tdp / (energy_per_flop compute_fraction peak)))
        clock_fraction = sustained ** burst_exponent,   throttle = clock_fraction / sustained - 1

    The square root: dynamic power goes with clock x voltage^2, and voltage with the clock to a power below one over
    the range that boards use. Fitted energies agree between boards of one chip and different limits (A40 and RTX A6000,
    both 2.5 pJ/FLOP), and that of the L40S predicts an unthrottled RTX 4090, as measured.

    Parameters
    ----------
    tdp : W
    peak : FLOP/s, dense, 16-bit inputs and fp32 sums, at the boost clock
    compute_fraction : of the peak, inside a full tile
    energy_per_flop : J/FLOP at the boost clock
    burst_exponent : 0 where a burst of a few ms runs at full clock, 1 where it is throttled at once
    """
    sustained = min(1.0, (tdp * (1 - NOT_CORES) / (energy_per_flop * compute_fraction * peak)) ** 0.5)
    burst = sustained**burst_exponent
    return burst, burst / sustained - 1
