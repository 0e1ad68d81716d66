"""A directed graph of what is wired to what: named vertices and edges with attributes, and the shortest way.

It answers to the names that networkx gives to the same things, as far as simulations need them, so that a run does
without the import of networkx; `Wiring.networkx` makes the graph of networkx, in which everything else can be asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import networkx as nx

Edge = tuple[str, str]
Attributes = dict[str, Any]


class Edges(dict[Edge, Attributes]):
    """Attributes of each edge, in the order in which edges were added."""

    def __call__(self, data: bool = True) -> Iterator[tuple[str, str, Attributes]]:
        """(from, to, attributes) of every edge."""
        assert data
        return ((a, b, held) for (a, b), held in self.items())


class Wiring:
    """A directed graph.

    >>> wires = Wiring()
    >>> for a, b in (("gpu0", "switch"), ("switch", "gpu1"), ("gpu0", "nic")):
    ...     wires.add_edge(a, b, kind="pcie")
    >>> wires.way("gpu0", "gpu1", lambda edge: edge["kind"] == "pcie")
    ['gpu0', 'switch', 'gpu1']
    >>> wires.way("nic", "gpu1", lambda edge: True) is None
    True
    """

    def __init__(self) -> None:
        self.graph: Attributes = {}
        """Attributes of the whole."""
        self.nodes: dict[str, Attributes] = {}
        """Attributes of each vertex."""
        self.edges = Edges()
        self._out: dict[str, dict[str, Attributes]] = {}
        self._into: dict[str, dict[str, Attributes]] = {}

    def add_node(self, name: str, **attributes: Any) -> None:
        """Add a vertex, or attributes to one that is there."""
        if name not in self.nodes:
            self.nodes[name], self._out[name], self._into[name] = {}, {}, {}
        self.nodes[name].update(attributes)

    def add_edge(self, a: str, b: str, **attributes: Any) -> None:
        """Add an edge from `a` to `b`, or attributes to one that is there."""
        self.add_node(a)
        self.add_node(b)
        held = self.edges.setdefault((a, b), {})
        held.update(attributes)
        self._out[a][b] = self._into[b][a] = held

    def remove_edge(self, a: str, b: str) -> None:
        """Take an edge away. Raises `KeyError` where there is none."""
        del self.edges[a, b], self._out[a][b], self._into[b][a]

    def __contains__(self, name: object) -> bool:
        return name in self.nodes

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)

    def __getitem__(self, name: str) -> dict[str, Attributes]:
        """The vertices that edges of `name` lead to, with the attributes of these edges."""
        return self._out[name]

    def has_edge(self, a: str, b: str) -> bool:
        """True if there is an edge from `a` to `b`."""
        return (a, b) in self.edges

    def way(self, a: str, b: str, over: Callable[[Attributes], bool]) -> list[str] | None:
        """The vertices of a shortest way over edges that `over` accepts; None where there is none.

        Of several shortest ways it is the one that networkx' `bidirectional_shortest_path` finds: searched from both
        ends, the smaller front first, edges in the order in which they were added.
        """
        if a == b:
            return [a]
        before: dict[str, str | None] = {a: None}
        after: dict[str, str | None] = {b: None}
        here, there = [a], [b]
        while here and there:
            if len(here) <= len(there):
                met, here = _spread(here, self._out, before, after, over)
            else:
                met, there = _spread(there, self._into, after, before, over)
            if met is not None:
                return [*reversed(_trail(before[met], before)), met, *_trail(after[met], after)]
        return None

    def networkx(self) -> nx.DiGraph[str]:
        """The same as a graph of networkx."""
        import networkx as nx

        graph: nx.DiGraph[str] = nx.DiGraph(**self.graph)
        graph.add_nodes_from(self.nodes.items())
        graph.add_edges_from((a, b, held) for (a, b), held in self.edges.items())
        return graph


def _spread(
    front: list[str], edges: dict[str, dict[str, Attributes]], mine: dict[str, str | None],
    others: dict[str, str | None], over: Callable[[Attributes], bool],
) -> tuple[str | None, list[str]]:  # fmt: skip
    """Search one step further: where the two searches met, and the new front."""
    found = []
    for vertex in front:
        for beside, held in edges[vertex].items():
            if not over(held):
                continue
            if beside not in mine:
                mine[beside] = vertex
                found.append(beside)
            if beside in others:
                return beside, found
    return None, found


def _trail(vertex: str | None, came: dict[str, str | None]) -> list[str]:
    """The vertices from `vertex` to where its search began."""
    trail = []
    while vertex is not None:
        trail.append(vertex)
        vertex = came[vertex]
    return trail


def steps(path: list[str]) -> list[Edge]:
    """The edges along a path."""
    return list(pairwise(path))
