"""How far the power limit holds a GPU's clock below boost when its tensor cores are busy."""

from __future__ import annotations

NOT_CORES = 0.15
"""Share of the board power that is not the multiprocessors': memory, leakage, regulators. An estimate, as most boards
idle at 10 to 15 % of their limit (nvidia-smi)."""


def tensor_clock(
    tdp: float, peak: float, compute_fraction: float, energy_per_flop: float, burst_exponent: float
) -> tuple[float, float]:
    """(clock_fraction, throttle) of `simgpu.timing.gemm.gemm_time` for a GPU whose clocks nobody measured.

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
