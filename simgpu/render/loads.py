"""The hardware graph with the load of every link as colour: how busy a step keeps it, in each direction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simgpu.analysis.loads import Edge, LinkLoads
from simgpu.render.graph import canvas, draw_boxes, draw_cables
from simgpu.render.style import FAINT, style
from simgpu.render.text import heading, legend_below
from simgpu.render.topology import CAPTION, drawn_graph
from simgpu.units import format_si

if TYPE_CHECKING:
    import networkx as nx
    from matplotlib.figure import Figure

_SCALE = ("#E9E2D0", "#E69F00", "#D55E00", "#5A1500")
"""From idle to busy: ever darker, so that it reads without colours too."""
_TOPS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 80.0, 100.0)
"""Ends of the scale of colours, percent."""
_BOW = 0.05
"""Distance by which the two directions of a cable bow away from each other."""


def loads_figure(loads: LinkLoads, words: str) -> Figure:
    """Each cable as two lines, one for each direction, coloured by the share of its bandwidth that a step uses."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    graph, _ = drawn_graph(loads.topology, "")
    graph = graph.subgraph([v for v in graph if graph.nodes[v].get("node", 0) < loads.nodes])
    busy = {(a, b): 100 * loads.busy((a, b)) for a, b in graph.edges}
    most = max(busy.values(), default=0.0)
    top = next((end for end in _TOPS if most <= end), most)
    shades, norm = LinearSegmentedColormap.from_list("load", _SCALE), Normalize(0, top)
    with style():
        figure, panel, places = canvas(graph)
        boxes = draw_boxes(panel, graph, places)
        bar = figure.colorbar(ScalarMappable(norm, shades), ax=panel, shrink=0.75, aspect=22, pad=0.01)
        bar.set_label("Bandwidth used over the step (%),\neach direction by itself")
        bar.outline.set_visible(False)
        _legend(figure, graph, busy)
        heading(figure, words, _finding(loads, busy))
        looks: dict[Edge, dict[str, Any]] = {}
        for edge, share in sorted(busy.items(), key=lambda one: one[1]):
            wide = 1.4 if graph.edges[edge]["kind"] == "gpu-link" and _mesh(graph) else 3.0
            looks[edge] = {"color": shades(norm(share)), "lw": wide} if share > 0 else {"color": FAINT, "lw": 1.0}
            looks[edge]["zorder"] = 1 + share / 1000
        draw_cables(panel, graph, places, boxes, looks, _BOW)
    return figure


def _mesh(graph: nx.DiGraph[str]) -> bool:
    """True if cables go from GPU to GPU, round those in between: many, side by side."""
    kinds = graph.nodes(data="kind")
    return any(kinds[a] == kinds[b] == "gpu" for a, b in graph.edges)


def _legend(figure: Figure, graph: nx.DiGraph[str], busy: dict[Edge, float]) -> None:
    """A legend with the rates of each kind of link, and the loads of those that carry anything."""
    from matplotlib.lines import Line2D

    kinds: dict[str, list[Edge]] = {}
    for edge in busy:
        kinds.setdefault(graph.edges[edge]["link"], []).append(edge)
    names = [f"{link}: {_summary(graph, edges, busy)}" for link, edges in kinds.items()]
    legend_below(
        figure,
        [Line2D([], [], ls="none") for _ in names],
        names,
        size=10,
        caption=f"{CAPTION}, and the share of it that the step uses",
    )


def _summary(graph: nx.DiGraph[str], edges: list[Edge], busy: dict[Edge, float]) -> str:
    rates = sorted({graph.edges[edge]["bandwidth"] for edge in edges})
    text = f"{', '.join(f'{rate / 1e9:.4g}' for rate in rates)} GB/s, "
    loads = sorted(busy[edge] for edge in edges if busy[edge] > 0)
    if not loads:
        return text + "idle"
    low, high = f"{loads[0]:.2g}", f"{loads[-1]:.2g}"
    return text + (f"{high} %" if low == high else f"{low} to {high} %")


def _finding(loads: LinkLoads, busy: dict[Edge, float]) -> str:
    """A sentence on the busiest link and what it carries."""
    if not busy or not max(busy.values()):
        return "nothing crosses a link: one GPU, or groups of one"
    a, b = max(busy, key=lambda edge: busy[edge])
    alike = sum(share >= 0.999 * busy[a, b] for share in busy.values())
    data, moved = loads.topology.graph.edges[a, b], format_si(loads.bytes[a, b], "B")
    others = f" (and {alike - 1} like it)" if alike > 1 else ""
    step = format_si(loads.step, "s")
    return f"busiest: {' to '.join(_words((a, b)))}{others}, {busy[a, b]:.2g} % of {data['link']}: {moved} in {step}"


def _words(edge: Edge) -> Iterator[str]:
    """Names for people: 'NIC 0 of node 0'."""
    kinds = {"gpu": "GPU", "nic": "NIC", "mem": "memory", "root": "root", "pcie": "PCIe switch", "leaf": "leaf"}
    for vertex in edge:
        node, _, device = vertex.rpartition(".")
        stem = device.rstrip("0123456789")
        number = device[len(stem) :]
        name = f"{kinds.get(stem, {'nvswitch': 'NVSwitch'}.get(stem, stem))} {number}".strip()
        yield f"{name} of node {node[1:]}" if node else name
