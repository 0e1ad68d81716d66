"""Operators under the roofs of their GPU: FLOP/s achieved over FLOPs for each byte moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from simgpu.render.style import COLOURS, INK, MARKERS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Point:
    """All runs of an operator: FLOPs, bytes, seconds."""

    name: str
    flop: float
    bytes: float
    seconds: float
    phase: str = ""  # prefill, decode ...


@dataclass(frozen=True)
class Roofs:
    """One panel: its title, the datasheet's peak (FLOP/s) and bandwidth (B/s), and what runs under them."""

    title: str
    peak: float
    bandwidth: float
    points: Sequence[Point]


NAMED = 6
"""Operators of a panel that are named: those that take longest."""
LEAST = 0.004
"""Of the time of a panel, that an operator must have to be drawn."""


def roofline_figure(panels: Sequence[Roofs], heading: str) -> Figure:
    """A panel for each row; areas of the marks are shares of the time."""
    from matplotlib.figure import Figure

    with style():
        figure = Figure(figsize=(6.6 * len(panels) + 0.6, 6.0), layout="constrained")
        axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
        phases = list(dict.fromkeys(point.phase for panel in panels for point in panel.points))
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel, phases)
        axes[0].set_ylabel("achieved TFLOP/s")
        handles, labels = [], []
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                if label not in labels:
                    handles.append(handle)
                    labels.append(label)
        figure.legend(handles, labels, loc="outside lower center", ncols=4)
        figure.suptitle(f"{heading}\n{_finding(panels)}", fontsize=13, x=0.01, ha="left")
    return figure


def _panel(axis: Axes, panel: Roofs, phases: Sequence[str]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    points = [point for point in panel.points if point.flop and point.bytes and point.seconds]
    total = sum(point.seconds for point in points)
    points = [point for point in points if point.seconds >= LEAST * total]
    low = min(point.flop / point.bytes for point in points) / 3
    high = max(max(point.flop / point.bytes for point in points) * 3, 4 * panel.peak / panel.bandwidth)
    ridge = panel.peak / panel.bandwidth
    roof = [(low, low * panel.bandwidth), (ridge, panel.peak), (high, panel.peak)]
    axis.plot([x for x, _ in roof], [y / 1e12 for _, y in roof], color=INK, lw=2, label="datasheet roof")
    longest = sorted(points, key=lambda point: -point.seconds)
    for point in longest:
        s = phases.index(point.phase)
        x, y = point.flop / point.bytes, point.flop / point.seconds / 1e12
        size = 18 + 900 * point.seconds / total
        axis.scatter([x], [y], s=size, color=COLOURS[s % 7], marker=MARKERS[s % 7], alpha=0.65, lw=0, zorder=3)
    for s, phase in enumerate(phases):
        if any(point.phase == phase for point in points):
            axis.scatter([], [], s=80, color=COLOURS[s % 7], marker=MARKERS[s % 7], label=phase or "operators")
    axis.set_xscale("log")
    axis.set_yscale("log")
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        direction.set_minor_formatter(NullFormatter())
    for x, y, text in _names(longest):
        axis.annotate(text, (x, y), (16, 4), textcoords="offset points", va="top", fontsize=9, color=INK, zorder=5)
    axis.set_xlim(low, high)
    axis.set_xlabel("FLOPs per byte moved")
    axis.set_title(panel.title, fontsize=12)


def _names(longest: Sequence[Point]) -> list[tuple[float, float, str]]:
    """Where names stand: those of operators close to each other together, at the one that takes longest."""
    found: list[tuple[float, float, list[str]]] = []
    for point in longest[:NAMED]:
        x, y = point.flop / point.bytes, point.flop / point.seconds / 1e12
        name = point.name.replace("_", " ")
        near = next((one for one in found if _apart(one[0], x) < 0.4 and _apart(one[1], y) < 0.5), None)
        if near is None:
            found.append((x, y, [name]))
        elif name not in near[2]:
            near[2].append(name)
    return [(x, y, "\n".join(names)) for x, y, names in found]


def _apart(one: float, other: float) -> float:
    """Distance on a logarithmic axis, in decades."""
    return abs(log10(one / other))


def _finding(panels: Sequence[Roofs]) -> str:
    """Which share of the time is left of the ridge."""
    words = []
    for panel in panels:
        ridge = panel.peak / panel.bandwidth
        known = [point for point in panel.points if point.bytes and point.seconds]
        left = sum(point.seconds for point in known if point.flop / point.bytes < ridge)
        words.append(f"{100 * left / sum(point.seconds for point in known):.0f} % ({panel.title})")
    return f"kernel time left of the ridge, bound by memory at best: {', '.join(words)}"
