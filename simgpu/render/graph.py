"""Places of devices in the picture of a hardware graph, and ways for cables around boxes that they do not end at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.style import INK, SLIDE
from simgpu.render.text import laid_out

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

Places = Mapping[str, tuple[float, float]]
Cable = tuple[str, str]

_HEIGHT = {
    "core": 7.4,
    "spine": 6.5,
    "leaf": 5.6,
    "nic": 4.1,  # above all else of its node: what leaves the node crosses nothing of it
    "memory": 3.3,
    "root": 2.5,
    "pcie-switch": 1.5,
    "gpu": 0.35,
    "nvswitch": -0.7,
}
_FILL = {
    "gpu": "#009E73",
    "nvswitch": "#56B4E9",
    "pcie-switch": "#E69F00",
    "root": "#CC79A7",
    "memory": "#BBBBBB",
    "nic": "#F0E442",
    "leaf": "#D55E00",
    "spine": "#0072B2",
    "core": "#004B75",
}
_BELOW = {
    "pcie-switch": ("gpu",),
    "root": ("gpu", "pcie-switch"),
    "nvswitch": ("gpu",),
    "leaf": ("nic",),
    "spine": ("leaf",),
    "core": ("spine",),
}
"""Kinds of devices over whose middle a kind of device stands."""
_BENDS = (0.0, *(sign * 0.06 * step for step in range(1, 13) for sign in (1, -1)))
"""Further bends that are tried until a cable crosses no box, the least first."""
_CLEAR = 2.0
"""Between a cable and a box that it does not end at, pixels."""


def canvas(graph: nx.DiGraph[str]) -> tuple[Figure, Axes, Places]:
    """An empty picture of the size of the graph, as wide as a slide at most, and the places of the vertices."""
    from matplotlib.figure import Figure

    places = _places(graph)
    across, heights = [x for x, _ in places.values()], [y for _, y in places.values()]
    width = max(across) - min(across)
    size = (min(max(10.0, 0.8 * width + 1), SLIDE), min(max(4.6, 0.95 * (max(heights) - min(heights)) + 1.6), 7.4))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.add_subplot()
    panel.axis("off")
    arcs = any(_round(places, a, b, data["kind"]) for a, b, data in graph.edges(data=True))
    panel.set_xlim(min(across) - 0.6, max(across) + 0.6)
    panel.set_ylim(min(heights) - 0.4 - (1.6 if arcs else 0.0), max(heights) + 0.4)  # arcs reach below the GPUs
    return figure, panel, places


def draw_boxes(panel: Axes, graph: nx.DiGraph[str], places: Places) -> dict[str, Text]:
    """Draw the vertices, by kind; those of several nodes with the name of their node."""
    nodes = {place["node"] for _, place in graph.nodes(data=True) if "node" in place}
    boxes = {}
    for name, (x, y) in places.items():
        kind = graph.nodes[name]["kind"]
        box = {"boxstyle": "round,pad=0.25", "facecolor": _FILL[kind], "edgecolor": INK, "linewidth": 0.8}
        look: dict[str, Any] = {"color": "white" if kind in ("core", "spine", "leaf", "gpu") else INK, "bbox": box}
        label = name if len(nodes) > 1 else name.split(".")[-1]
        boxes[name] = panel.text(x, y, label, ha="center", va="center", fontsize=9, zorder=3, **look)
    return boxes


def draw_cables(
    panel: Axes, graph: nx.DiGraph[str], places: Places, boxes: Mapping[str, Text],
    looks: Mapping[Cable, Mapping[str, Any]], apart: float = 0.0,
) -> None:  # fmt: skip
    """Draw lines between boxes, each with its look, past all other boxes.

    The picture must have its legend and its title. apart: how far the two directions of a cable bow away from each
    other; 0 where `looks` has one of them.
    """
    from matplotlib.patches import FancyArrowPatch

    laid_out(panel.figure)  # type: ignore[arg-type]
    frames = {name: text.get_bbox_patch().get_window_extent() for name, text in boxes.items()}  # type: ignore[union-attr]
    spots = {name: panel.transData.transform(place) for name, place in places.items()}
    bends: dict[Cable, float] = {}
    for (a, b), look in looks.items():
        low, high = min(a, b), max(a, b)
        if (low, high) not in bends:
            start = _round(places, low, high, graph.edges[a, b]["kind"])
            others = [frame for name, frame in frames.items() if name not in (a, b)]
            bends[low, high] = _free_bend(spots[low], spots[high], others, start, apart)
        bend = bends[low, high] * (1 if a == low else -1) + apart
        line = FancyArrowPatch(
            places[a], places[b], arrowstyle="-", shrinkA=0, shrinkB=0, connectionstyle=f"arc3,rad={bend}", **look
        )
        line.set_in_layout(False)
        panel.add_patch(line)


def _free_bend(begin: Any, end: Any, boxes: Sequence[Any], start: float, apart: float) -> float:
    """The bend nearest to `start` with which a cable crosses none of `boxes`; `start` where none is."""
    away = 1 if start >= 0 else -1
    for more in _BENDS:
        lines = [_line(begin, end, start + away * more + side) for side in dict.fromkeys((apart, -apart))]
        if not any(_crosses(line, box) for line in lines for box in boxes):
            return start + away * more
    return start


def _line(begin: Any, end: Any, bend: float) -> Any:
    """Points along a cable, as matplotlib's `arc3` draws it."""
    import numpy as np

    (xa, ya), (xb, yb) = begin, end
    middle = np.array([(xa + xb) / 2 + bend * (yb - ya), (ya + yb) / 2 - bend * (xb - xa)])
    t = np.linspace(0, 1, 65)[:, None]
    return (1 - t) ** 2 * np.array(begin) + 2 * t * (1 - t) * middle + t**2 * np.array(end)


def _crosses(line: Any, box: Any) -> bool:
    x, y = line[:, 0], line[:, 1]
    inside = (x > box.x0 - _CLEAR) & (x < box.x1 + _CLEAR) & (y > box.y0 - _CLEAR) & (y < box.y1 + _CLEAR)
    return bool(inside.any())


def _round(places: Places, a: str, b: str, kind: str) -> float:
    """The distance by which a cable between two GPUs goes round those in between; 0 for all others."""
    (xa, ya), (xb, yb) = places[a], places[b]
    return min(0.35, 1.3 / abs(xa - xb)) if kind == "gpu-link" and ya == yb and abs(xa - xb) > 1.01 else 0.0


def _places(graph: nx.DiGraph[str]) -> dict[str, tuple[float, float]]:
    """Places of all vertices: GPUs side by side in order, devices of a node centred over what they hold.

    NICs of a node stand above all of them, the network on top.
    """
    across: dict[str, float] = {}
    first = 0.0
    for node in dict.fromkeys(place["node"] for _, place in graph.nodes(data=True) if "node" in place):
        inside = [name for name, place in graph.nodes(data=True) if place.get("node") == node]
        _place_node(graph, inside, first, across)
        first = max(across[name] for name in inside) + 1.5
    for kind in ("leaf", "spine", "core"):
        names = _of(graph, graph.nodes, kind)
        _centred(graph, names, kind, across)
        _spread(names, across)
    return {name: (across[name], _HEIGHT[graph.nodes[name]["kind"]]) for name in graph.nodes}


def _place_node(graph: nx.DiGraph[str], inside: Sequence[str], first: float, across: dict[str, float]) -> None:
    """Places along the picture of the devices of one node, which begins at `first`."""
    for i, name in enumerate(_of(graph, inside, "gpu")):
        across[name] = first + i
    for kind in ("pcie-switch", "root", "nvswitch"):
        _centred(graph, _of(graph, inside, kind), kind, across)
    siblings: dict[str, list[str]] = {}
    for nic in _of(graph, inside, "nic"):
        holder = next(name for name in graph.successors(nic) if graph.nodes[name]["kind"] in ("pcie-switch", "root"))
        siblings.setdefault(holder, []).append(nic)
    edge = float("-inf")
    for holder, nics in sorted(siblings.items(), key=lambda one: across[one[0]]):
        for i, nic in enumerate(nics):
            across[nic] = edge = max(across[holder] + i - (len(nics) - 1) / 2, edge + 1.0)
    left = 0.95 if any(graph.nodes[holder]["kind"] == "root" for holder in siblings) else 0.0
    for memory in _of(graph, inside, "memory"):  # above its root, unless cables of NICs go up there
        (root,) = _of(graph, graph.successors(memory), "root")
        across[memory] = across[root] - left


def _of(graph: nx.DiGraph[str], names: Iterable[str], kind: str) -> list[str]:
    return [name for name in names if graph.nodes[name]["kind"] == kind]


def _centred(graph: nx.DiGraph[str], names: Sequence[str], kind: str, across: dict[str, float]) -> None:
    """Places of devices, each over the middle of those below it; one with nothing below stands right of all others."""
    for name in names:
        below = [across[other] for other in graph.successors(name) if graph.nodes[other]["kind"] in _BELOW[kind]]
        across[name] = sum(below) / len(below) if below else max(across.values(), default=-1.0) + 1.0


def _spread(names: list[str], across: dict[str, float]) -> None:
    """Keep boxes of one layer apart."""
    names.sort(key=lambda name: across[name])
    centre = sum(across[name] for name in names) / len(names) if names else 0.0
    for i, name in enumerate(names):
        across[name] = centre + (i - (len(names) - 1) / 2) * 1.6
