"""Spare nodes: how many are away at a time, and how many must be held ready."""

from __future__ import annotations

from math import exp, expm1, inf, lgamma, log, log1p


def nodes_away(failures: float, repair: float, length: float = inf) -> float:
    """The mean number of nodes in repair: failures of all nodes, 1/s, times the mean repair, s (Little's law).

    It is that of a Poisson distribution whatever the law of the repairs (M/G/infinity). Over a run of `length` s that
    starts with none away it is less, m (1 - (1 - e^(-T/r)) r/T) with exponential repairs.
    """
    if length == inf or not repair:
        return failures * repair
    lives = length / repair
    return failures * repair * (1.0 + expm1(-lives) / lives)


def spares_for(mean: float, share: float = 0.99) -> int:
    """The fewest spares that are enough for a `share` of the time: the quantile of a Poisson distribution."""
    if mean <= 0:
        return 0
    count, reached = 0, exp(-mean)
    while reached < share:
        count += 1
        reached += exp(count * log(mean) - mean - lgamma(count + 1.0))
    return count


def elastic_share(nodes: int, missing: int, nodes_of_replica: int = 1) -> float:
    """The share of the work that is left where a job shrinks by whole replicas instead of waiting."""
    lost = -(-missing // nodes_of_replica) * nodes_of_replica
    return max(nodes - lost, 0) / nodes


def waiting_share(mean: float, spares: int) -> float:
    """The share of the time in which a job waits for a node: more are away than there are spares.

    A job that waits has no failures, so that this is Erlang's loss formula with spares + 1 servers, which holds for
    every law of the repairs; `mean` nodes would be away if it never waited (A. K. Erlang, "Solution of some problems in
    the theory of probabilities of significance in automatic telephone exchanges", 1917).
    """
    lost = 1.0
    for k in range(1, spares + 2):
        lost = mean * lost / (k + mean * lost)
    return lost


def expected_share(mean: float, spares: int, nodes: int, nodes_of_replica: int = 1) -> float:
    """The mean of `elastic_share` where `mean` nodes are away on average, as a Poisson distribution."""
    if mean <= 0:
        return 1.0
    most = int(mean + 12.0 * mean**0.5 + 12.0)
    chances = ((k, exp(k * log(mean) - mean - lgamma(k + 1.0))) for k in range(most + 1))
    return sum(chance * elastic_share(nodes, max(k - spares, 0), nodes_of_replica) for k, chance in chances)


def replicas_for(needed: int, availability: float, target: float, most: int = 100_000) -> int:
    """The fewest replicas of which `needed` are up with a probability of `target`: up ~ Binomial(n, availability).

    Returns 0 where not even `most` are enough.
    """
    if needed <= 0 or availability >= 1.0:
        return needed
    n = needed
    while n <= most:
        if _at_most_down(n, n - needed, 1.0 - availability) >= target:
            return n
        n += 1
    return 0


def _at_most_down(replicas: int, most: int, down: float) -> float:
    """The probability that at most `most` of `replicas` are down, each with a probability of `down`."""
    whole, logs = lgamma(replicas + 1.0), (log(down), log1p(-down))
    return sum(
        exp(whole - lgamma(k + 1.0) - lgamma(replicas - k + 1.0) + k * logs[0] + (replicas - k) * logs[1])
        for k in range(most + 1)
    )


def worst_share(spread: float, part: float) -> float:
    """The share of failures on the worst `part` of nodes whose own rates vary as a gamma distribution.

    `spread` is the variance of the rates over the square of their mean. Lemons: of 400 nodes 5 % had 24 % of the
    faults.
    """
    from scipy.special import gammaincc, gammainccinv  # type: ignore[import-untyped]

    if spread <= 0:
        return part
    shape = 1.0 / spread
    return float(gammaincc(shape + 1.0, gammainccinv(shape, part)))
