"""How sure a count of memory is: its interval, and the probability that a run fits.

A run needs A exp(g) + c bytes: A what PyTorch allocates at the peak, c the CUDA context and NCCL. The logarithm g is
normal around the framework's mean of measured over counted peaks, with its deviation (`Stack.centre`, `Stack.spread`);
mixtures of experts add that of their loads, and a run that must fit what the allocator's gaps take. Sums are taken as
normal with the mean and the variance of their parts.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, exp, log, sqrt

FITS, LIKELY, MISFITS = 0.95, 0.5, 0.05
"""Probabilities from which on a run fits, from which on a plan is proposed, and up to which a run does not fit."""

USABLE = 0.99
"""Share of a GPU's memory that programs get: 79.1 to 79.3 GiB of boards with 80 (H100, A100), 23.6 of 24 (RTX 3090 and
4090), by torch.cuda.get_device_properties and the percentages that TorchTitan prints."""

FIXED_BYTES = 0.06 * 2**30
"""Deviation of what does not grow with a model: workspaces, small tables, rounding (exact bytes of 102 functional tests
of Megatron-LM of 1 to 5 GiB, most within 0.1 GiB)."""

RESERVE_SPREAD = 0.3
"""Deviation of the CUDA context and NCCL's buffers over what is counted: contexts of 256 to 620 MiB, 0.5 to 1.6 GiB for
each communicator by version and channels (NVIDIA/nccl issue 964 and others)."""

LOADS_CENTRE, LOADS_SPREAD = 0.01, 0.03
"""Of the logarithm of the peak where routers choose experts freely, over balanced loads: in Megatron-LM's functional
tests last stages of Mixtral 8x7B and 8x22B keep 6 to 10 % more than balanced ones, a third of their peaks."""

ADAPTERS_SPREAD = {"lora": 0.05, "qlora": 0.12}
"""Further deviation where adapters are trained: peaks of LitGPT and torchtune lie within 10 % of the count; 4-bit
weights of bitsandbytes take up to twice their bits in LitGPT's table, for a reason that is not known."""

HELD_SHARE = 0.5
"""Of the gap between what an allocator holds and what is allocated, the share that a run needs: a full GPU gives back
cached blocks before it runs out of memory (PyTorch, CUDA semantics, memory management), but not its fragments."""

_DECILE = 1.2815515655446004
"""Deviations from the mean to the tenth and ninetieth percentile of a normal distribution."""


@dataclass(frozen=True)
class Need:
    """A normal distribution of bytes."""

    mean: float
    deviation: float

    @property
    def p10(self) -> float:
        """Bytes that one run in ten stays below."""
        return self.mean - _DECILE * self.deviation

    @property
    def p90(self) -> float:
        """Bytes that one run in ten exceeds."""
        return self.mean + _DECILE * self.deviation

    def below(self, capacity: float) -> float:
        """The probability that it is no more than so many bytes."""
        if self.deviation == 0:
            return float(self.mean <= capacity)
        return 0.5 * (1.0 + erf((capacity - self.mean) / (self.deviation * sqrt(2.0))))


def need(
    allocated: float, reserve: float, centre: float, spread: float, held: float = 1.0, held_spread: float = 0.0
) -> Need:
    """What a run needs whose count is `allocated` and `reserve`.

    `held`: what the allocator holds over what is allocated, with the deviation of its logarithm.
    """
    wide = sqrt(spread**2 + held_spread**2)
    mean = allocated * exp(centre + HELD_SHARE * log(held))
    deviation = sqrt((mean * wide) ** 2 + (RESERVE_SPREAD * reserve) ** 2 + FIXED_BYTES**2)
    return Need(mean + reserve, deviation)


def verdict(probability: float) -> str:
    """What a probability of fitting is called: fits, tight, does not fit."""
    if probability >= FITS:
        return "fits"
    return "does not fit" if probability <= MISFITS else "tight"
