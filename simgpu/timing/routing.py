"""How many tokens each expert of a rank gets: balanced, random, or as unevenly as a power law."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np

from simgpu.memo import remembered
from simgpu.timing.parts import Array
from simgpu.timing.placing import busiest_placed, parted

DRAWS = 4
"""Orders of the experts that an uneven distribution is averaged over."""

MOST_EXPONENT = 10.0
"""Largest exponent of a power law; loads are close to even again long before."""


def rank_loads(tokens: int, topk: int, experts: int, ranks: int, distribution: str = "random") -> Array:
    """Tokens of each expert on the busiest of `ranks` ranks that share `experts` evenly, sorted downwards.

    Parameters
    ----------
    tokens : that enter the layer, over all ranks
    topk : experts that each token visits
    distribution : 'balanced' (every expert the same number, give or take one), 'random' (every token picks its experts
        independently and evenly), or 'power_law_A' (loads drawn from a power law of exponent A between one token and
        0.8 of them, as ai-dynamo/aiconfigurator's collectors do; A from 0, where all loads between are as likely,
        to 10; most uneven at 1.5 to 2, where the busiest of 256 experts gets some 75 times the mean), or 'popularity_A'
        (each expert has its own chance, drawn from a power law in which the most popular has `RANGE` times that of the
        least, whatever the number of tokens), or 'zipf_A' (chances as 1 / place^A, by popularity), or 'shares_S_S_...'
        (counted: the share of each expert, in any unit); behind a '+' the number of copies of popular experts, with
        which they are placed by their loads instead of by chance (`simgpu.timing.placing`)

    Returns
    -------
    array, shape (slots / ranks,), of as many slots as experts and copies
        Means, and so not whole numbers, of 'popularity'; else zeros at the end are experts without a token.

    Raises
    ------
    ValueError
        For another distribution, or an exponent out of range.
    """
    distribution, copies = parted(distribution)
    if distribution in EVEN and experts % ranks == 0:  # copies of experts that are all alike change nothing
        return (_balanced if distribution == "balanced" else _random)(tokens, topk, experts, ranks)
    if distribution in EVEN or distribution.startswith(("zipf_", "shares_")):
        chances = np.asarray(_popular(distribution, topk, experts))
        return (
            busiest_placed(tokens * chances, ranks, copies) if copies is not None else _busiest(tokens * chances, ranks)
        )
    kind, _, number = distribution.rpartition("_")
    if kind in ("power_law", POPULARITY):
        exponent = float(number)
        if not 0 <= exponent <= MOST_EXPONENT:
            raise ValueError(f"exponent {exponent:g} of a power law is not a number from 0 to {MOST_EXPONENT:g}")
        if kind == POPULARITY:
            loads = tokens * np.asarray(_chances(topk, experts, exponent))
            return busiest_placed(loads, ranks, copies) if copies is not None else _busiest(loads, ranks)
        loads = _power_law(tokens, topk, experts, exponent)
        return busiest_placed(loads, ranks, copies) if copies is not None else _busiest(loads, ranks)
    raise ValueError(f"unknown distribution {distribution!r}; expected {KNOWN}")


EVEN = ("balanced", "random")
"""Distributions in which no expert is more popular than another."""

KNOWN = "balanced, random, power_law_A, popularity_A, zipf_A or the share of each expert"
"""Distributions, in words."""


@remembered(1024)
def _popular(distribution: str, topk: int, experts: int) -> tuple[float, ...]:
    """The chance of each expert to be visited by a token, by Zipf's law or as counted. Raises `ValueError`."""
    kind, _, rest = distribution.partition("_")
    if distribution in EVEN:
        raw: Array = np.ones(experts)
    elif kind == "zipf":
        if not 0 <= (exponent := float(rest)) <= MOST_EXPONENT:
            raise ValueError(f"exponent {exponent:g} of Zipf's law is not a number from 0 to {MOST_EXPONENT:g}")
        raw = np.asarray((np.arange(experts) + 1.0) ** -exponent)
    else:
        raw = np.asarray([float(one) for one in rest.split("_")])
        if len(raw) != experts:
            raise ValueError(f"{len(raw)} shares are not those of {experts} experts")
    return _capped(raw, topk)


def _balanced(tokens: int, topk: int, experts: int, ranks: int) -> Array:
    """Token i visits experts i, i + stride, i + 2 stride ...; fewer tokens than the stride are spread over it.

    Where `topk` does not divide the experts, visits go round all of them.
    """
    if experts % topk:
        full, rest = divmod(tokens * topk, experts)
        spread = full + (np.arange(experts) * rest % experts < rest)
        return np.sort(spread[: experts // ranks])[::-1].astype(float)
    stride = experts // topk
    full, rest = divmod(tokens, stride)
    extra = np.zeros(stride)
    if rest:
        extra[(np.arange(rest) if full else np.arange(rest) * stride // rest)] = 1
    loads = np.resize(full + extra, experts)[: experts // ranks]
    return np.sort(loads)[::-1].astype(float)


COUNTED = 20
"""Tokens of an expert up to which their number is binomial; more are close to normal."""


def _random(tokens: int, topk: int, experts: int, ranks: int) -> Array:
    """Quantiles of the binomial number of tokens that visit one expert (close to normal or Poisson)."""
    here, chance = experts // ranks, topk / experts
    mean, spread = tokens * chance, (tokens * chance * (1 - chance)) ** 0.5
    if spread == 0:  # every token visits every expert
        return np.full(here, mean)
    if mean > COUNTED:
        normal = NormalDist(mean, spread)
        loads = np.maximum([normal.inv_cdf((i + 0.5) / here) for i in range(here)], 0.0)
        found = np.asarray(np.sort(np.round(loads))[::-1], dtype=float)
        if mean > COUNTED * 1.25:
            return found
        made: Array = np.maximum(found, _random(int(COUNTED / chance), topk, experts, ranks))
        return made
    counts = np.arange(min(tokens, 80) + 1, dtype=float)
    odds = chance / (1 - min(chance, 0.999))
    steps = np.log(np.maximum(tokens - counts[:-1], 1) / counts[1:] * odds)
    logs = np.concatenate([[0.0], np.cumsum(steps)])
    likely = np.exp(logs - logs.max())
    below = np.cumsum(likely) / likely.sum()
    loads = np.searchsorted(below, (np.arange(here) + 0.5) / here)
    return np.asarray(np.sort(loads)[::-1], dtype=float)


POPULARITY = "popularity"

RANGE = (0.01, 2.0)
"""Ends of the power law of few tokens in ai-dynamo/aiconfigurator's collectors; of `popularity` for any number."""


def _drawn(experts: int, exponent: float, least: float, most: float) -> Array:
    """Loads at even quantiles u of a density x^-A between a (`least`) and b (`most`), A the `exponent`.

    They are (a^p + u (b^p - a^p))^(1/p) with p = 1 - A, or a (b/a)^u for A = 1.
    """
    most = max(most, least * 1.001)
    power, span = 1 - exponent, math.log(most / least)
    u = (np.arange(experts) + 0.5) / experts
    return np.asarray(least * np.exp(u * span if power == 0 else np.log1p(u * math.expm1(power * span)) / power))


@remembered(1024)
def _chances(topk: int, experts: int, exponent: float) -> tuple[float, ...]:
    """The chance of each expert to be visited by a token, as popular as the law has it; `topk` in sum, none above 1."""
    return _capped(_drawn(experts, exponent, *RANGE), topk)


def _capped(raw: Array, topk: int) -> tuple[float, ...]:
    """Chances in proportion to `raw`, none above 1; `topk` in sum, or as many as have any."""
    sure = np.zeros(len(raw), bool)  # that every token visits
    while True:
        left = topk - sure.sum()
        found = np.where(sure, 1.0, raw * left / max(raw[~sure].sum(), 1e-300))
        if not (found > 1 + 1e-12).any():
            return tuple(found.tolist())
        sure |= found > 1


def _power_law(tokens: int, topk: int, experts: int, exponent: float) -> Array:
    """Loads of all experts at even quantiles of the power law, in whole tokens."""
    raw = _drawn(experts, exponent, *((1.0, tokens * 0.8) if tokens * topk > experts else RANGE))
    wanted = raw / raw.sum() * tokens * topk
    loads = np.round(wanted)
    missing = round(tokens * topk - float(loads.sum()))
    order = np.argsort(-loads, kind="stable")
    if missing > 0:
        loads += np.bincount(order[np.arange(missing) % experts], minlength=experts)
    elif missing < 0:
        busy = order[loads[order] > 0]
        taken = np.bincount(busy[np.arange(-missing) % len(busy)], minlength=experts)
        loads = np.maximum(loads - taken, 0)
    return _seated(loads, tokens)


def _busiest(loads: Array, ranks: int) -> Array:
    """Loads of the busiest of `ranks` ranks that the experts are dealt to at random, of each deal; sorted downwards."""
    experts = len(loads)
    if ranks == 1:
        return np.sort(loads)[::-1]
    dealt = loads[_orders(experts)].reshape(DRAWS, ranks, experts // ranks)
    busiest = dealt.sum(axis=2).argmax(axis=1)
    picked = dealt[np.arange(DRAWS), busiest]
    return np.asarray(np.sort(picked, axis=1)[:, ::-1])


def _seated(loads: Array, tokens: int) -> Array:
    """`loads` with what is above `tokens` spread evenly over the other experts: a token visits an expert once."""
    seated = np.minimum(loads, tokens)
    while (left := round(float(loads.sum() - seated.sum()))) > 0:
        free = np.flatnonzero(seated < tokens)
        each, rest = divmod(left, len(free))
        seated[free] = np.minimum(seated[free] + each + (np.arange(len(free)) < rest), tokens)
    return seated


@remembered(128)
def _orders(experts: int) -> Array:
    """`DRAWS` orders of the experts, always the same."""
    random = np.random.default_rng(20)
    return np.stack([random.permutation(experts) for _ in range(DRAWS)])


class RankLoad(NamedTuple):
    """The loads of a rank's experts, as far as they decide its time."""

    blocks: tuple[float, ...]  # tiles of rows, for each height in TILE_ROWS
    active: float  # experts with at least one token
    visits: float  # (token, expert) pairs


RAGGED = 0.25
"""Of a tile that each expert's load takes up beyond its tokens where loads scatter: between none and the half of loads
that scatter over whole tiles. Chosen on served runs of Qwen3-235B in fp8, which see it most."""

TILE_ROWS = (16, 32, 64, 128)
"""Heights of tiles that grouped multiplications choose from."""


@remembered(100_000)
def rank_load(
    tokens: int, topk: int, experts: int, ranks: int, distribution: str = "random", whole: bool = True
) -> RankLoad:
    """`rank_loads` in the numbers that a grouped multiplication needs, averaged over draws.

    Where loads are means, an expert has a token as often as one of the `tokens` visits it. `whole`: every load fills
    whole tiles, as where it is known to the token; else loads scatter around what they are, and so do tiles (`RAGGED`).
    """
    if distribution.startswith("power_law"):
        return _trend(tokens, topk, experts, ranks, distribution, whole)
    return _load(tokens, topk, experts, ranks, distribution, whole)


def _trend(tokens: int, topk: int, experts: int, ranks: int, distribution: str, whole: bool) -> RankLoad:
    """Loads of a power law, smooth in the number of tokens.

    Its few draws and its rounding would make single numbers of tokens stand out. So loads are never less than those of
    fewer tokens, and are interpolated linearly between 1, 2, 3, 4, 6, 8, 12 and so on tokens.
    """
    sizes = [1]
    while sizes[-1] < tokens:
        last = sizes[-1]
        sizes.append(last + 1 if last < 4 else last * 3 // 2 if last & (last - 1) == 0 else last * 4 // 3)
    found = [_flat_load(size, topk, experts, ranks, distribution, whole) for size in sizes]
    grown = np.maximum.accumulate(found)
    *blocks, active, visits = (float(np.interp(tokens, sizes, column)) for column in grown.T)
    return RankLoad(tuple(blocks), active, visits)


@remembered(10_000)
def _flat_load(*arguments: Any) -> tuple[float, ...]:
    """`_load` as plain numbers: blocks, active experts and visits."""
    load = _load(*arguments)
    return (*load.blocks, load.active, load.visits)


def _load(tokens: int, topk: int, experts: int, ranks: int, distribution: str, whole: bool) -> RankLoad:
    loads = np.atleast_2d(rank_loads(tokens, topk, experts, ranks, distribution))
    draws = len(loads)
    if not loads.any():  # quantiles of few tokens: the busiest rank has one
        loads[:, 0] = 1
    active = np.asarray(loads > 0, dtype=float)
    if distribution.startswith((POPULARITY, "zipf_", "shares_")):
        active = 1 - (1 - np.minimum(loads / tokens, 1)) ** tokens
    if whole:
        tiles = [np.where(loads <= rows, active, np.ceil(loads / rows)) for rows in TILE_ROWS]
    else:
        tiles = [np.maximum(active, loads / rows + active * RAGGED) for rows in TILE_ROWS]
    blocks = tuple(float(each.sum()) / draws for each in tiles)
    return RankLoad(blocks, float(active.sum()) / draws, float(loads.sum()) / draws)
