"""The hardware graph as a picture and as a tree of text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from simgpu.hardware.topology import Topology
from simgpu.render.style import COLOURS, INK, style
from simgpu.render.text import heading as headline
from simgpu.render.text import legend_below
from simgpu.units import format_si

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LAYERS = ("spine", "leaf", "nic", "memory", "root", "pcie-switch", "gpu", "nvswitch")
_HEIGHT = {
    "spine": 5.6,
    "leaf": 4.7,
    "nic": 1.15,
    "memory": 3.2,
    "root": 2.5,
    "pcie-switch": 1.85,
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
}
_EDGES = {
    "gpu-link": COLOURS[2],
    "pcie": COLOURS[5],
    "host": "#999999",
    "inter-socket": COLOURS[3],
    "network": COLOURS[1],
}
MAX_NODES, MAX_SOCKETS = 2, 4
SLIDE = 13.3
"""Width of a slide of 16 : 9, inches: what is drawn wider is read smaller."""

Places = Mapping[str, tuple[float, float]]


def topology_figure(topology: Topology, heading: str) -> Figure:
    """Vertices in layers (network on top, then memory, root complexes, switches, GPUs), edges by kind."""
    from matplotlib.lines import Line2D

    graph, heading = drawn_graph(topology, heading)
    with style():
        figure, panel, places = canvas(graph)
        seen: dict[tuple[str, str], list[str]] = {}
        for a, b, data in graph.edges(data=True):
            if a > b:
                continue  # the other direction of the same cable
            kind = data["kind"]
            arrow = {"arrowstyle": "-", "color": _EDGES[kind], "lw": 2.0, "shrinkA": 0, "shrinkB": 0}
            arrow["connectionstyle"] = f"arc3,rad={bend(places, a, b, kind)}"
            panel.annotate("", places[b], places[a], arrowprops=arrow, zorder=1)
            rates = seen.setdefault((kind, data["link"]), [])
            rate = f"{data['bandwidth'] / 1e9:.4g}"
            rates += [] if rate in rates else [rate]
        draw_boxes(panel, graph, places)
        handles = [Line2D([], [], color=_EDGES[kind], lw=2.5) for kind, _ in seen]
        names = [f"{link}: {', '.join(rates)} GB/s each way" for (_, link), rates in seen.items()]
        legend_below(figure, handles, names)
        headline(figure, heading)
    return figure


def canvas(graph: nx.DiGraph) -> tuple[Figure, Axes, Places]:
    """An empty picture of the size of the graph, as wide as a slide at most, and the places of the vertices."""
    from matplotlib.figure import Figure

    places = _places(graph)
    width = max(x for x, _ in places.values()) - min(x for x, _ in places.values())
    heights = [y for _, y in places.values()]
    size = (min(max(10.0, 0.8 * width + 1), SLIDE), min(max(4.6, 0.95 * (max(heights) - min(heights)) + 1.6), 7.4))
    figure = Figure(figsize=size, layout="constrained")
    panel = figure.add_subplot()
    panel.axis("off")
    arcs = any(bend(places, a, b, data["kind"]) for a, b, data in graph.edges(data=True))
    panel.set_xlim(min(x for x, _ in places.values()) - 0.6, max(x for x, _ in places.values()) + 0.6)
    panel.set_ylim(min(heights) - 0.4 - (1.6 if arcs else 0.0), max(heights) + 0.4)  # arcs reach below the GPUs
    return figure, panel, places


def bend(places: Places, a: str, b: str, kind: str) -> float:
    """How far a cable between two GPUs goes round those in between; 0 for all others."""
    (xa, ya), (xb, yb) = places[a], places[b]
    return min(0.35, 1.3 / abs(xa - xb)) if kind == "gpu-link" and ya == yb and abs(xa - xb) > 1.01 else 0.0


def draw_boxes(panel: Axes, graph: nx.DiGraph, places: Places) -> None:
    """The vertices, by kind; GPUs of several nodes with the node's name."""
    nodes = {place["node"] for _, place in graph.nodes(data=True) if "node" in place}
    for name, (x, y) in places.items():
        kind = graph.nodes[name]["kind"]
        label = name if len(nodes) > 1 and kind == "gpu" else name.split(".")[-1]
        box = {"boxstyle": "round,pad=0.25", "facecolor": _FILL[kind], "edgecolor": INK, "linewidth": 0.8}
        ink = "white" if kind in ("spine", "leaf", "gpu") else INK
        panel.text(x, y, label, ha="center", va="center", fontsize=9, color=ink, bbox=box, zorder=3)


def drawn_graph(topology: Topology, heading: str) -> tuple[nx.DiGraph, str]:
    """What of the graph a picture can hold: the first nodes, and the first sockets of each with what hangs below."""
    graph = topology.graph
    roots = [v for v in graph if graph.nodes[v]["kind"] == "root" and graph.nodes[v]["node"] == 0]
    if topology.nodes <= MAX_NODES and len(roots) <= MAX_SOCKETS:
        return graph, heading

    def kept(vertex: str) -> bool:
        place = graph.nodes[vertex]
        if place.get("node", 0) >= MAX_NODES:
            return False
        memory = place.get("memory", vertex)  # devices know the memory of their socket
        socket = re.fullmatch(r"n\d+\.(?:mem|root)(\d+)", memory)
        return socket is None or int(socket[1]) < MAX_SOCKETS

    devices = {v for v in graph if kept(v) and graph.nodes[v]["kind"] not in ("leaf", "spine", "pcie-switch")}
    shared = {v for v in graph if kept(v) and (graph.nodes[v]["kind"] == "spine" or not devices.isdisjoint(graph[v]))}
    drawn = graph.__class__()
    drawn.add_nodes_from((v, place) for v, place in graph.nodes(data=True) if v in devices or v in shared)
    drawn.add_edges_from((a, b, data) for a, b, data in graph.edges(data=True) if a in drawn and b in drawn)
    gpus = sum(kind == "gpu" for _, kind in drawn.nodes(data="kind"))
    return drawn, f"{heading}  (drawn: {gpus} of {len(topology.gpus)} GPUs)"


def _places(graph: nx.DiGraph) -> dict[str, tuple[float, float]]:
    """Positions: devices side by side in their order, everything above them centred over what it holds."""
    places: dict[str, tuple[float, float]] = {}
    first = 0.0
    for node in dict.fromkeys(place["node"] for _, place in graph.nodes(data=True) if "node" in place):
        gpu, nic = first - 1.0, first - 1.0  # where the last of each stands
        for name in graph.nodes:
            kind = graph.nodes[name]["kind"]
            if graph.nodes[name].get("node") != node or kind not in ("gpu", "nic"):
                continue
            if kind == "gpu":
                gpu += 1.0
            else:  # between the GPUs, a little higher
                nic = max(gpu + 0.5, nic + 1.0)
            places[name] = (gpu if kind == "gpu" else nic, _HEIGHT[kind])
        first = max(gpu, nic) + 1.5
    for kind in ("pcie-switch", "root", "memory", "nvswitch", "leaf", "spine"):
        for name in [v for v in graph.nodes if graph.nodes[v]["kind"] == kind]:
            below = [places[v][0] for v in graph.successors(name) if v in places and _is_below(graph, v, kind)]
            x = sum(below) / len(below) if below else 0.0
            places[name] = (x + (0.7 if kind == "memory" else 0.0), _HEIGHT[kind])
    for kind in ("leaf", "spine"):
        _spread([v for v in graph.nodes if graph.nodes[v]["kind"] == kind], places)
    return places


def _is_below(graph: nx.DiGraph, vertex: str, kind: str) -> bool:
    below = {
        "pcie-switch": ("gpu", "nic"),
        "root": ("gpu", "nic", "pcie-switch"),
        "memory": ("root",),
        "nvswitch": ("gpu",),
        "leaf": ("nic",),
        "spine": ("leaf",),
    }
    return graph.nodes[vertex]["kind"] in below[kind]


def _spread(names: list[str], places: dict[str, tuple[float, float]]) -> None:
    """Keep boxes of one layer apart."""
    names.sort(key=lambda name: places[name][0])
    centre = sum(places[name][0] for name in names) / len(names) if names else 0.0
    for i, name in enumerate(names):
        places[name] = (centre + (i - (len(names) - 1) / 2) * 1.6, places[name][1])


def topology_tree(topology: Topology) -> list[str]:
    """Each vertex with what it reaches, and at what rate: one line each, for the terminal."""
    graph = topology.graph
    lines = []
    for name in sorted(graph.nodes, key=lambda v: (_LAYERS.index(graph.nodes[v]["kind"]), _natural(v))):
        groups: dict[str, list[str]] = {}
        for other, data in graph[name].items():
            rate = f"{format_si(data['bandwidth'], 'B/s')}, {format_si(data['latency'], 's')}, {data['link']}"
            groups.setdefault(rate, []).append(other)
        for rate, others in groups.items():
            lines.append(f"{name:14} -> {_shortened(others)}  ({rate})")
    return lines


def _shortened(names: Iterable[str]) -> str:
    listed = sorted(names, key=_natural)
    return ", ".join(listed) if len(listed) <= 8 else f"{listed[0]} ... {listed[-1]} ({len(listed)})"


def _natural(name: str) -> tuple:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
