"""How far the power limit holds a GPU's clock below boost when its tensor cores are busy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simgpu.timing.parts import Array


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


def clock_shape(sustained: float, burst_exponent: float) -> tuple[float, float]:
    """(clock_fraction, throttle) of a `TensorClock` for a GPU whose clocks nobody measured.

        clock_fraction = sustained ** burst_exponent (`sustained` itself from 1 on)
        throttle = clock_fraction / sustained - 1

    Parameters
    ----------
    sustained : clock of a long run over the boost clock (`simgpu.hardware.power.clock_under`)
    burst_exponent : 0 where a burst of a few ms runs at full clock, 1 where it is throttled at once
    """
    burst = sustained if sustained >= 1 else sustained**burst_exponent
    return burst, burst / sustained - 1
