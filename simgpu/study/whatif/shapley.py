"""Shares of several changes in a difference, so that the order in which they are made does not decide.

A change that is made first may do something else than the same change made last. With few changes every order is
averaged (Shapley's value: the mean of what a change adds over all orders); with many, one order and its reverse, which
still gives the same shares, with other signs, when the ends are swapped. Shares always add up to the whole difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

EXACT = 5
"""Changes up to which all orders are averaged: 2 ** 5 values."""

Value = Callable[[frozenset[int]], float]
"""The value after some changes, by their positions."""


@dataclass(frozen=True)
class Shares:
    """The effect that each change explains, and its effect alone, made first. `exact`: averaged over all orders."""

    explains: Sequence[float]
    alone: Sequence[float]
    exact: bool


def shares(count: int, value: Value) -> Shares:
    """Shares of the changes in value(all) - value(none); there are `count` changes."""
    none = frozenset[int]()
    exact = count <= EXACT
    effects = [_over_all(one, count, value) for one in range(count)] if exact else _both_ways(count, value)
    alone = [value(frozenset([one])) - value(none) for one in range(count)]
    return Shares(effects, alone, exact)


def needed(count: int) -> list[frozenset[int]]:
    """Sets of changes whose values `shares` asks for, those of one order and its reverse first."""
    orders = (range(count), range(count - 1, -1, -1))
    subsets = [frozenset(list(order)[:size]) for order in orders for size in range(1, count)]
    if count <= EXACT:
        subsets += [frozenset(some) for size in range(1, count) for some in combinations(range(count), size)]
    return list(dict.fromkeys([*subsets, *(frozenset([one]) for one in range(count))]))


def _over_all(change: int, count: int, value: Value) -> float:
    """The average effect of a change over all orders (Shapley's value).

    It is the sum over sets S without the change of (value(S + change) - value(S)) / (count * C(count - 1, |S|)).
    """
    others = [other for other in range(count) if other != change]
    total = 0.0
    for size in range(count):
        for chosen in combinations(others, size):
            before = frozenset(chosen)
            total += (value(before | {change}) - value(before)) / (count * comb(count - 1, size))
    return total


def _both_ways(count: int, value: Value) -> list[float]:
    found = []
    for one in range(count):
        before, after = frozenset(range(one)), frozenset(range(one + 1, count))
        found.append((value(before | {one}) - value(before) + value(after | {one}) - value(after)) / 2)
    return found
