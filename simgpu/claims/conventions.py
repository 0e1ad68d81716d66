"""Factors between conventions that people mix up, and which of them can apply to a quantity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

NEAR = 0.06
"""How near (relative) a ratio must come to a factor."""


@dataclass(frozen=True)
class Convention:
    """A factor, what it is when the claim is too large by it, and the dimensions to which it can apply."""

    factor: float
    words: str
    dimensions: tuple[str, ...] = ()  # all


_BYTES = ("bytes", "rate", "bandwidth", "money_token", "token_rate", "per_s")
CONVENTIONS: Sequence[Convention] = (
    Convention(1000, "a thousand: k, M and G, or per thousand and per million, mixed up"),
    Convention(1e6, "a million: units mixed up"),
    Convention(10, "ten: a digit or a decimal point slipped"),
    Convention(100, "a hundred: percent and fractions mixed up, or two digits slipped"),
    Convention(8, "eight: bits taken for bytes", ("bytes", "rate", "transfer")),
    Convention(2, "two: both directions added", ("rate", "transfer")),
    Convention(2, "two: with 2:4 sparsity", ("flops",)),
    Convention(2, "two: sums in fp16 instead of fp32", ("flops",)),
    Convention(2, "two: a multiply-add counted once or twice", ("flops",)),
    Convention(4, "four: tensor cores of a multiprocessor counted once or each", ("flops",)),
    Convention(4, "four: 16-bit and 4-bit weights mixed up", ("bytes", "token_rate")),
    Convention(2, "two: keys and values, or 16-bit and 8-bit values, counted once", ("bytes",)),
    Convention(2, "two", ("time", "token_rate", "money_rate", "share", "image_rate", "number", "power", "money_token",
                          "money", "flop_per_byte", "flops_per_watt", "count")),
    Convention(3, "three: years or parts counted once or each", ("money_token", "money")),
    Convention(12, "twelve: months and years mixed up", ("money_rate", "money", "time", "per_byte_time")),
    Convention(24, "twenty-four: hours and days mixed up", ("money_rate", "money", "time")),
    Convention(7, "seven: days and weeks mixed up", ("money_rate", "money", "time")),
    Convention(60, "sixty: minutes and hours, or seconds and minutes, mixed up", ("time", "image_rate")),
    Convention(3600, "3,600: seconds and hours mixed up", ("time", "money_token", "money_rate")),
    Convention(2.0**30 / 1e9, "1.074: GiB and GB mixed up", ("bytes", "transfer")),
    Convention(1.024, "1.024: KiB and kB mixed up", ("bytes",)),
    Convention(1.024**2, "1.049: MiB and MB mixed up", ("bytes", "transfer")),
)  # fmt: skip
_NARROW = 0.012
"""How near a ratio must come to the factors of binary prefixes; else every 7 % slip were one."""


def explained(ratio: float, dimension: str) -> str:
    """Which conventions, two at most, make up the ratio claimed / computed; '' for none.

    >>> explained(1000.0, "money_token")
    'a thousand: k, M and G, or per thousand and per million, mixed up'
    """
    if not 0 < ratio < float("inf"):
        return ""
    size = max(ratio, 1 / ratio)
    known = [one for one in CONVENTIONS if not one.dimensions or dimension in one.dimensions]
    single = [one for one in known if _near(size, one.factor)]
    if single:
        return min(single, key=lambda one: (round(abs(size / one.factor - 1), 2), known.index(one))).words
    large = [one for one in known if one.factor > 1.5]
    pairs = [pair for pair in combinations(large, 2) if _near(size, pair[0].factor * pair[1].factor)]
    if not pairs:
        return ""
    first, second = min(
        pairs, key=lambda pair: (abs(size / (pair[0].factor * pair[1].factor) - 1) > 0.02, known.index(pair[0]))
    )
    return f"{first.words}; and {second.words}"


def _near(size: float, factor: float) -> bool:
    return abs(size / factor - 1) <= (NEAR if factor > 1.5 else _NARROW)
