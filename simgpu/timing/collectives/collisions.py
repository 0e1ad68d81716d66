"""Flows of one collective that hash to the same link between a leaf switch and the stage above it (ECMP).

F flows over M equal links, each in q parts that are hashed by themselves (channels and queue pairs), put max/q flows on
the fullest link, where max is the largest of M counts of F q balls thrown into M bins. The slowest flow sets the time
of a collective, so that each of its flows goes no faster than one on the fullest link. Counts are drawn for both
directions of every leaf that flows cross. M. Raab, A. Steger, "Balls into bins: a simple and tight analysis", RANDOM
1998.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from simgpu.hardware.cluster_spec import Routing
from simgpu.hardware.topology import Route, Topology
from simgpu.timing.collectives.ideal import Edge

Alike = Counter[tuple[int, float]]
"""How many leaves, each direction by itself, have so many flows on links of such a rate."""

AT_ONCE = 64
"""Peers that a GPU exchanges data with at a time: one in each channel (MAXCHANNELS, NCCL src/include/device.h)."""

DRAWS = 32
"""Draws whose mean stands for the expectation."""

_TOO_MANY = 10**6
"""Balls beyond which collisions are below 1 %."""


def crossed(topology: Topology, route: Route) -> list[tuple[str, str]]:
    """The links of a route between a leaf switch and the stage above it, either way."""
    kinds = topology.wires.nodes
    return [
        edge
        for edge in route.edges
        if topology.wires.edges[edge]["kind"] == "network"
        and {kinds[edge[0]]["kind"], kinds[edge[1]]["kind"]} == {"leaf", "spine"}
    ]


def at_once(flows: Sequence[tuple[Route, float]]) -> list[float]:
    """How many of the flows of a GPU, to or from its peers, are on their way at a time: at most `AT_ONCE` in all."""
    ends = [lane_of(route, ("", ""), ()) for route, _ in flows]
    total: Counter[Edge] = Counter()
    for end, (_, count) in zip(ends, flows, strict=True):
        total[end] += count  # type: ignore[assignment]
    return [count * min(1.0, AT_ONCE / total[end]) for end, (_, count) in zip(ends, flows, strict=True)]


def share_of_a_flow(
    topology: Topology, flows: Iterable[tuple[Route, float]], links: int, parts: int, routing: Routing
) -> float:
    """Bytes/s that the slowest flow gets of its links; infinite where none crosses any.

    `flows` are routes with how many flows take them; `links` are those of a leaf upwards, `parts` of a flow.
    """
    on: Counter[tuple[str, str]] = Counter()
    for route, count in flows:
        for edge in crossed(topology, route):
            on[edge] += count  # type: ignore[assignment]
    alike: Alike = Counter()
    for edge, count in on.items():
        alike[max(round(count), 1), topology.wires.edges[edge]["bandwidth"] / links] += 1
    return slowest_share(alike, links, parts, routing)


def slowest_share(alike: Alike, links: int, parts: int, routing: Routing) -> float:
    """Bytes/s that the slowest flow gets: of leaves by the flows that cross their links and the rate of each link."""
    if not alike:
        return float("inf")
    seeds: Sequence[int] = range(DRAWS) if routing.seed is None else (routing.seed,)
    slowest = [max(_fullest(seed, *one, links, parts) for one in sorted(alike.items())) for seed in seeds]
    return len(slowest) / sum(slowest)


def _fullest(seed: int, of: tuple[int, float], leaves: int, links: int, parts: int) -> float:
    """Seconds per byte of a flow on the fullest link, of `leaves` with equally many flows and links of equal rate."""
    flows, rate = of
    return most_balls(seed, flows * parts, links, leaves) / parts / rate


def most_balls(seed: int, balls: int, bins: int, times: int = 1) -> float:
    """The most balls in one of `bins` bins, of `times` throws of so many balls.

    >>> most_balls(0, 10, 1)
    10.0
    """
    import numpy as np

    if bins == 1 or balls > _TOO_MANY:
        return balls / bins
    drawn = np.random.default_rng((seed, balls, bins)).multinomial(balls, [1 / bins] * bins, size=times)
    return float(drawn.max())


def lane_of(route: Route, choice: tuple[str, str], members: tuple[int, ...]) -> Edge:
    """The link that stands for collisions of what a GPU sends or receives: it has the GPU at the end of the route."""
    ends = route.edges[0][0], route.edges[-1][1]
    owner, way = (ends[0], "out") if "gpu" in ends[0] else (ends[1], "in")
    return owner, f"collisions {way}", choice, members
