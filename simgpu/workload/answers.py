"""How long the answers of reinforcement learning are: lognormal, cut at a limit, as much of it as a log tells.

Logs of trainers print the mean of the answers after they were cut, and either the share that was cut (`clip_ratio` of
verl, `truncation rate` of NeMo RL) or the longest one. With the limit these fix the two numbers of the law:

    mean cut at L = exp(m + s^2 / 2) N((ln L - m) / s - s) + L (1 - N((ln L - m) / s))
    share cut = 1 - N((ln L - m) / s)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import erf, exp, log, sqrt

WIDEST = 10.0
"""The largest spread that is looked for."""

ROUNDS = 60
"""Halvings of an interval: beyond what a float can tell apart."""


@dataclass(frozen=True)
class Answers:
    """A lognormal law before the cut: its mean (tokens), and its standard deviation over that."""

    mean: float
    spread: float


def share_below(level: float) -> float:
    """The share of a normal distribution below so many standard deviations.

    >>> share_below(0.0)
    0.5
    """
    return 0.5 * (1 + erf(level / sqrt(2)))


def level_of(share: float) -> float:
    """The standard deviations below which a share of a normal distribution lies."""
    return _solve(share_below, share, -9.0, 9.0)


def cut_mean(law: Answers, limit: float) -> float:
    """The mean of a law whose values above a limit are set to it."""
    if not law.spread:
        return min(law.mean, limit)
    wide = sqrt(log(1 + law.spread**2))
    level = (log(limit) - log(law.mean)) / wide + wide / 2
    return law.mean * share_below(level - wide) + limit * (1 - share_below(level))


def cut_share(law: Answers, limit: float) -> float:
    """The share of a law above a limit."""
    if not law.spread:
        return float(law.mean > limit)
    wide = sqrt(log(1 + law.spread**2))
    return 1 - share_below((log(limit) - log(law.mean)) / wide + wide / 2)


def with_spread(mean: float, spread: float, limit: int) -> Answers:
    """The law of a spread whose mean after the cut is `mean`.

    >>> round(with_spread(3000, 0.6, 3896).mean)
    3784
    """
    if not spread or mean >= limit:
        return Answers(min(mean, float(limit)), 0.0)
    top = log(limit) + log(1 + spread**2) + 40.0
    found = _solve(lambda x: cut_mean(Answers(exp(x), spread), limit), mean, log(mean) - 1, top)
    return Answers(exp(found), spread)


def with_cut(mean: float, share: float, limit: int) -> Answers:
    """The law whose mean after the cut is `mean`, and of which a share is cut.

    The share of a law with that mean rises with its spread.
    """
    return _by_spread(mean, limit, share, lambda law: cut_share(law, limit))


def with_longest(mean: float, longest: float, count: int, limit: int) -> Answers:
    """The law whose mean after the cut is `mean`, and of which the longest of `count` has so many tokens.

    The median of the longest of `count` is where a share of 2^(-1 / count) lies below.
    """
    level = level_of(0.5 ** (1 / count))

    def most(law: Answers) -> float:
        wide = sqrt(log(1 + law.spread**2))
        return law.mean * exp(wide * level - wide * wide / 2)

    return _by_spread(mean, limit, longest, most)


def _by_spread(mean: float, limit: int, wanted: float, value: Callable[[Answers], float]) -> Answers:
    """The law of that mean after the cut for which a value, which rises with the spread, is as wanted."""
    if mean >= limit:
        return Answers(float(limit), 0.0)
    found = _solve(lambda spread: value(with_spread(mean, spread, limit)), wanted, 1e-4, WIDEST)
    return with_spread(mean, found, limit)


def _solve(value: Callable[[float], float], wanted: float, low: float, high: float) -> float:
    """Where a rising function of a number has a value, by halving."""
    for _ in range(ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if value(middle) < wanted else (low, middle)
    return (low + high) / 2
