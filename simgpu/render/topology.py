"""The hardware graph as a picture and as a tree of text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from simgpu.hardware.topology import Topology
from simgpu.render.graph import canvas, draw_boxes, draw_cables
from simgpu.render.style import COLOURS, style
from simgpu.render.text import heading as headline
from simgpu.render.text import legend_below
from simgpu.units import format_si

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

_LAYERS = ("core", "spine", "leaf", "nic", "memory", "root", "pcie-switch", "gpu", "nvswitch")
_EDGES = {
    "gpu-link": COLOURS[2],
    "pcie": COLOURS[5],
    "host": "#999999",
    "inter-socket": COLOURS[3],
    "network": COLOURS[1],
}
MAX_NODES, MAX_SOCKETS = 2, 4
CAPTION = "Links, with the payload that each carries in one direction"


def topology_figure(topology: Topology, heading: str) -> Figure:
    """Vertices in layers (network on top, then memory, root complexes, switches, GPUs), edges by kind."""
    from matplotlib.lines import Line2D

    graph, heading = drawn_graph(topology, heading)
    with style():
        figure, panel, places = canvas(graph)
        boxes = draw_boxes(panel, graph, places)
        rates: dict[tuple[str, str], list[str]] = {}
        looks: dict[tuple[str, str], dict[str, Any]] = {}
        for a, b, data in graph.edges(data=True):
            if a > b:
                continue  # the other direction of the same cable
            looks[a, b] = {"color": _EDGES[data["kind"]], "lw": 2.0, "zorder": 1}
            known = rates.setdefault((data["kind"], data["link"]), [])
            rate = f"{data['bandwidth'] / 1e9:.4g}"
            known += [] if rate in known else [rate]
        handles = [Line2D([], [], color=_EDGES[kind], lw=2.5) for kind, _ in rates]
        names = [f"{link}: {', '.join(known)} GB/s" for (_, link), known in rates.items()]
        legend_below(figure, handles, names, caption=CAPTION)
        headline(figure, heading)
        draw_cables(panel, graph, places, boxes, looks)
    return figure


def drawn_graph(topology: Topology, heading: str) -> tuple[nx.DiGraph[str], str]:
    """The part of the graph that a picture can hold: the first nodes, the first sockets of each, their devices."""
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

    switches = ("leaf", "spine", "core", "pcie-switch")
    devices = {v for v in graph if kept(v) and graph.nodes[v]["kind"] not in switches}
    shared = {v for v in graph if kept(v) and not devices.isdisjoint(graph[v])}
    for kind in ("spine", "core"):  # those above what is drawn, and a few that are joined with them
        above = [v for v in graph if graph.nodes[v]["kind"] == kind and not shared.isdisjoint(graph[v])]
        beside = [v for v in graph if graph.nodes[v]["kind"] == kind and not set(above).isdisjoint(graph[v])]
        shared.update(above, beside[:MAX_NODES])
    drawn = graph.__class__()
    drawn.add_nodes_from((v, place) for v, place in graph.nodes(data=True) if v in devices or v in shared)
    drawn.add_edges_from((a, b, data) for a, b, data in graph.edges(data=True) if a in drawn and b in drawn)
    gpus = sum(drawn.nodes[name]["kind"] == "gpu" for name in drawn)
    return drawn, f"{heading}  (drawn: {gpus} of {len(topology.gpus)} GPUs)"


def topology_tree(topology: Topology) -> list[str]:
    """The graph as text for the terminal: a line for each vertex, with those it reaches, and at what rate."""
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


def _natural(name: str) -> tuple[Any, ...]:
    return tuple(int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name))
