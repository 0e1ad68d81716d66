"""How far a power limit holds the clock of a GPU below its highest when its units are busy."""

from __future__ import annotations

from typing import NamedTuple

from simgpu.hardware.spec import GPUSpec

VOLTAGE_SHARE = 0.4
"""Share of the voltage that falls with the clock: V(x) = 0.6 + 0.4 x at x times the highest clock.

Chosen together with `OTHER_SHARE` for all GPUs at once, on the rates that A100, H100, L40S, B200 and RTX PRO 6000
sustain at their rated power and on some with a lower limit (B200 at 750 W, GB300 at 500 W; facebookexperimental/triton
pull requests 854, 2023, 3648; huggingface/gpu-fryer; Azure AI benchmarking guide; stas00/ml-engineering). With 0, 0.2
or 0.6 rates of other boards come out 1 to 5 points worse.
"""

OTHER_SHARE = 0.2
"""Share of the rated power that is not the multiprocessors': memory, links, leakage, regulators. It does not shrink
under a lower limit. See `VOLTAGE_SHARE`."""

USUAL_DEMAND = 1.5
"""Power of busy tensor cores at the highest clock over the rated power, where nobody gives the energy of a FLOP:
between an A100 (0.9) and an H100 (1.2) or L40S (2)."""


NARROW_ENERGY = {"fp8": 0.55, "fp4": 0.2}
"""Energy of a FLOP in fp8 and in fp4 over that in bf16, at the highest clock: those with which the law gives what
cuBLASLt sustains in loops on random data (fp8 without casts: H100 1,380 TFLOP/s, H200 1,333, GB200 2,755 to 2,820,
GB300 3,270 to 3,310; fp4 GB200 5,260 to 5,600; Azure AI benchmarking guide)."""


class Drawn(NamedTuple):
    """What a GPU draws over its rated power: `busy` tensor cores at the highest clock, and an `idle` board."""

    busy: float
    idle: float


def clock_under(limit: float, demand: float) -> float:
    """The clock of busy units under a power limit, over the highest clock: x, at most 1.

        0.2 + demand x (0.6 + 0.4 x)^2 = limit

    Dynamic power goes with clock x voltage^2 (A. Chandrakasan et al., "Low-power CMOS digital design", IEEE JSSC 27,
    1992), and the voltage with the clock down to a floor. So the clock goes with the power above `OTHER_SHARE` to an
    exponent between 0.55, near the highest clock, and 0.8, at a quarter of it.

    Parameters
    ----------
    limit : power limit over the rated power of the board; more than `OTHER_SHARE`
    demand : power of the busy units at the highest clock over the rated power
    """
    room = limit - OTHER_SHARE
    if demand <= room:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(50):
        clock = (low + high) / 2
        if demand * clock * (1 - VOLTAGE_SHARE * (1 - clock)) ** 2 <= room:
            low = clock
        else:
            high = clock
    return high


def highest_clock(gpu: GPUSpec) -> float:
    """The highest clock of a GPU, whole and without a cap, Hz; under a clock limit at least the rated boost clock."""
    compute = gpu.compute
    return max((compute.max_clock or compute.boost_clock).si, (compute.rated_clock or compute.boost_clock).si)


def tensor_demand(gpu: GPUSpec, energy_per_flop: float, compute_fraction: float) -> float:
    """Power of the busy tensor cores at the highest clock over the rated power of the board.

    Parameters
    ----------
    gpu : whole, or under a power cap or a clock limit, which do not change the answer
    energy_per_flop : J/FLOP of 16-bit products at the highest clock
    compute_fraction : of the peak, inside a full tile
    """
    peak = (gpu.power.rated_peak.si if gpu.power.rated_peak else gpu.half_peak.datasheet) * highest_clock(gpu)
    peak /= (gpu.compute.rated_clock or gpu.compute.boost_clock).si
    return energy_per_flop * compute_fraction * peak / (gpu.power.rated_tdp or gpu.power.tdp).si


def voltage(clock: float) -> float:
    """Voltage of the multiprocessors at `clock` times the highest clock, over that at the highest (`VOLTAGE_SHARE`)."""
    return 1 - VOLTAGE_SHARE * (1 - clock)


def held_clock(gpu: GPUSpec, demand: float) -> tuple[float, float]:
    """Clock of busy units, over the highest of the whole GPU: under its cap and clock limit, and without them.

    `demand` is their power at the highest clock over the rated power (`tensor_demand`).
    """
    rated = gpu.power.rated_tdp or gpu.power.tdp
    free = clock_under(1.0, demand)
    top = (gpu.compute.max_clock or gpu.compute.boost_clock).si / highest_clock(gpu)
    return min(clock_under(gpu.power.tdp.si / rated.si, demand), top), free
