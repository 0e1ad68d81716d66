"""One rank for many: the links and the flows of equal collectives that are alike, exactly.

Ranks of a pipeline stage run the same program. One of them can stand for all if the network treats all alike, which
is a question about the graph of flows and links. **Colour refinement** answers it: links begin with a colour for each
capacity; a flow has the colour of its collective, its size and the colours of its links; a link gets a new colour from
its old one and the colours of the flows on it, until no colour splits further. Links of one colour then carry as many
flows of each colour, and so progressive filling (`simgpu.engine.network`) gives flows of one colour the same rate,
whichever collectives are on their way. If the groups of every collective of a stage have flows of the same colours,
they start and end together, and so do the ranks: folding is exact. Otherwise every rank has to be simulated.

The colours are those of fractional isomorphism (M. Grohe, K. Kersting, M. Mladenov, E. Selman, "Dimension reduction
via colour refinement", ESA 2014).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

Way = tuple[tuple[Hashable, ...], float]
"""A flow: the links it crosses, and its bytes."""

Pattern = Sequence[Sequence[Way]]
"""Equal collectives that start together, each with its flows."""


@dataclass(frozen=True)
class Colours:
    """Colour of each link, how many links have it; whether all groups of each pattern are alike."""

    of: Mapping[Hashable, int]
    links: Mapping[int, int]
    alike: bool

    def folded(self, flows: Iterable[Way]) -> list[tuple[tuple[int, ...], float, tuple[float, ...]]]:
        """Flows `(colours, bytes, counts)` that stand for all of `flows`, which must be of whole patterns."""
        folded_flows: Counter[tuple[tuple[int, ...], float]] = Counter()
        for links, size in flows:
            folded_flows[tuple(self.of[link] for link in links), size] += 1
        result = []
        for (route, size), number in folded_flows.items():
            crossed = Counter(route)
            counts = tuple(number * times / self.links[colour] for colour, times in crossed.items())
            result.append((tuple(crossed), size, counts))
        return result


def colours(patterns: Sequence[Pattern], capacity: Mapping[Hashable, float]) -> Colours:
    """Colour the links of all `patterns` together; `capacity` of each, bytes/s."""
    links = {link: i for i, link in enumerate(capacity)}
    first: dict[float, int] = {}
    colour = [first.setdefault(rate, len(first)) for rate in capacity.values()]
    flows: list[tuple[int, float, tuple[int, ...]]] = []  # pattern, size, links
    member: list[tuple[int, int]] = []  # pattern and group of each flow
    for p, pattern in enumerate(patterns):
        for g, group in enumerate(pattern):
            for crossed, size in group:
                flows.append((p, size, tuple(links[link] for link in crossed)))
                member.append((p, g))
    count = (0, 0)
    of_flow: list[int] = []
    while True:
        names: dict[Hashable, int] = {}
        of_flow = [names.setdefault((p, size, *(colour[i] for i in on)), len(names)) for p, size, on in flows]
        if (len(set(colour)), len(names)) == count:
            break
        count = (len(set(colour)), len(names))
        seen: list[dict[int, int]] = [{} for _ in colour]
        for f, (_, _, on) in zip(of_flow, flows, strict=True):
            for i in on:
                seen[i][f] = seen[i].get(f, 0) + 1
        known: dict[Hashable, int] = {}
        colour = [
            known.setdefault((old, frozenset(on.items())), len(known)) for old, on in zip(colour, seen, strict=True)
        ]
    groups: dict[tuple[int, int], Counter[int]] = {}
    for place, f in zip(member, of_flow, strict=True):
        groups.setdefault(place, Counter())[f] += 1
    kinds: dict[int, Counter[int]] = {}
    alike = all(kinds.setdefault(p, have) == have for (p, _), have in groups.items())
    return Colours(dict(zip(capacity, colour, strict=True)), Counter(colour), alike)
