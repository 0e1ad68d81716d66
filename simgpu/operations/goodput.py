"""Training goodput: the share of a run's time that is useful work, with failures, saves and restarts.

Closed forms of J. T. Daly, "A higher order estimate of the optimum checkpoint interval for restart dumps", Future
Generation Computer Systems 22 (2006), and J. W. Young, "A first order approximation to the optimum checkpoint
interval", CACM 17 (1974). Times are in s; failures are memoryless, with a mean of `mttf` between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, expm1, inf, log1p, sqrt
from typing import Literal

Kind = Literal["blocking", "asynchronous", "in_memory"]


def exact_goodput(interval: float, save: float, restart: float, mttf: float) -> float:
    """Goodput of saves that block, failures in saves and restarts among them (Daly 2006, eq. 20).

        tau / (M e^(R/M) (e^((tau + w) / M) - 1))

    `interval` is tau, the useful work between saves; `save` w; `restart` R; `mttf` M.
    """
    if interval <= 0:
        return 0.0 if save > 0 else (exp(-restart / mttf) if mttf < inf else 1.0)
    if mttf == inf:
        return interval / (interval + save)
    spent = (interval + save) / mttf
    if spent > 700 or restart / mttf > 700:
        return 0.0
    return interval / (mttf * exp(restart / mttf) * expm1(spent))


def first_order_goodput(interval: float, save: float, restart: float, mttf: float) -> float:
    """Goodput to first order, as the RSC clusters are described: (1 - (R + tau/2) / M) / (1 + w / tau)."""
    return max((1.0 - (restart + interval / 2.0) / mttf) / (1.0 + save / interval), 0.0)


def asynchronous_goodput(interval: float, stall: float, persist: float, restart: float, mttf: float) -> float:
    """Goodput of saves that block for `stall` and are durable `persist` after that.

    A failure loses the work since the last durable save: it started (tau + s) / 2 + p ago on average. To first order it
    is (1 - (R + (tau + s)/2 + p) / M) / (1 + s / tau); here with the failures of restarts and saves, as
    `exact_goodput` at a blocking time of s, whose lost work is longer by p:

        tau / (M e^((R + p)/M) (e^((tau + s) / M) - 1))

    which agrees with it to first order, and stays positive.
    """
    return exact_goodput(interval, stall, restart + persist, mttf)


def young_interval(save: float, mttf: float) -> float:
    """The optimum to first order: sqrt(2 w M)."""
    return sqrt(2.0 * save * mttf)


def daly_interval(save: float, mttf: float) -> float:
    """The optimum of Daly: sqrt(2 w M) - w, and M where w is twice M or more."""
    return young_interval(save, mttf) - save if save < 2.0 * mttf else mttf


def optimum_interval(save: float, mttf: float) -> float:
    """The useful work between saves that loses least: the root u = tau/M of (1 - u) e^(u + w/M) = 1.

    Newton's method on ln(1 - u) + u + w/M = 0 from sqrt(2 w / M): Lambert's W loses its digits at the branch point.
    """
    if save <= 0.0:
        return 0.0
    if mttf == inf:
        return inf
    w = save / mttf
    if w > 30.0:  # 1 - u is below what a float can hold
        return mttf
    u = min(sqrt(2.0 * w), 1.0 - exp(-1.0 - w))
    for _ in range(100):
        wrong = log1p(-u) + u + w
        step = wrong * (1.0 - u) / u  # minus the derivative, 1 / (1 - u) - 1 = u / (1 - u)
        after = u + step
        after = after if 0.0 < after < 1.0 else (u + (1.0 if step > 0 else 0.0)) / 2.0
        if abs(after - u) <= 1e-15 * u:
            break
        u = after
    return u * mttf


@dataclass(frozen=True)
class Saving:
    """How state is saved: s that training stops for a save, s after which it is safe, and how a run restarts.

    fallback, fallback_restart
        Of copies in memory: the share of failures that take the copies too; these restart from storage, and lose the
        work of `storage_every` intervals, on average half of it.
    """

    kind: Kind
    stall: float
    persist: float
    restart: float
    fallback: float = 0.0
    fallback_restart: float = 0.0
    storage_every: int = 1

    def goodput(self, interval: float, mttf: float) -> float:
        """Training goodput at an interval; mixed over failures that find their copies and those that do not."""
        near = asynchronous_goodput(interval, self.stall, self.persist, self.restart, mttf)
        if not self.fallback or mttf == inf:
            return near
        far = self.fallback_restart + interval * (self.storage_every - 1) / 2.0
        mean = self.persist + (1.0 - self.fallback) * self.restart + self.fallback * far
        return exact_goodput(interval, self.stall, mean, mttf)

    def optimum(self, mttf: float, least: float = 0.0) -> float:
        """The interval of most goodput, at least `least` (a step) and, of asynchronous saves, what one takes."""
        if self.fallback and self.storage_every > 1 and mttf < inf:
            # the work lost to a fallback grows with the interval too: q (k - 1) / 2 of it more than tau / 2
            found = optimum_interval(self.stall, mttf) / sqrt(1.0 + self.fallback * (self.storage_every - 1))
        else:
            found = optimum_interval(self.stall, mttf)
        return max(found, least, self.persist)


def straggler_slowdown(ranks: int, jitter: float = 0.0, slow: float = 0.0, slowdown: float = 1.0) -> float:
    """How much longer a synchronous step takes than one rank's: it waits for the slowest of `ranks`.

    `jitter` is the standard deviation of a rank's time over its mean, of which the largest of N is sqrt(2 ln N) away; a
    share `slow` of GPUs is slower by `slowdown`, and 1 - (1 - f)^N of placements have one. It multiplies the step and
    stands beside goodput, not in it.
    """
    from math import log

    hit = -expm1(ranks * log1p(-slow)) if slow < 1.0 else 1.0
    return (1.0 + jitter * sqrt(2.0 * log(ranks) if ranks > 1 else 0.0)) * (1.0 + hit * (slowdown - 1.0))
