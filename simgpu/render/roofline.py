"""Operators under the roofs of their GPU: FLOP/s achieved over FLOPs for each byte moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from simgpu.render.plots import sheet
from simgpu.render.style import COLOURS, INK, MARKERS, style
from simgpu.render.text import heading as headline
from simgpu.render.text import legend_below, name_points, wrapped

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
"""Share of the time of a panel from which an operator is drawn."""


def roofline_figure(panels: Sequence[Roofs], heading: str) -> Figure:
    """A panel for each row; areas of the marks are shares of the time."""
    from matplotlib.figure import Figure

    with style():
        across, down, width = sheet(len(panels))
        figure = Figure(figsize=(width, 6.0 * down - 0.8 * (down - 1)), layout="constrained")
        every = list(figure.subplots(down, across, sharey=True, squeeze=False).flat)
        axes = every[: len(panels)]
        for empty in every[len(panels) :]:
            empty.set_axis_off()
        phases = list(dict.fromkeys(point.phase for panel in panels for point in panel.points))
        reached = [point.flop / point.seconds / 1e12 for panel in panels for point in _drawn(panel)[0]]
        top = max(panel.peak for panel in panels) / 1e12
        axes[0].set_yscale("log")
        axes[0].set_ylim(min([*reached, 0.1 * top]) / 2, 2.5 * top)
        for axis, panel in zip(axes, panels, strict=True):
            _panel(axis, panel, phases)
        for axis in axes[::across]:
            axis.set_ylabel("achieved TFLOP/s")
        handles, labels = [], []
        for axis in axes:
            for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
                if label not in labels:
                    handles.append(handle)
                    labels.append(label)
        legend_below(figure, handles, labels)
        headline(figure, heading, _finding(panels))
        for axis, panel in zip(axes, panels, strict=True):
            _write_names(axis, panel)
    return figure


def _panel(axis: Axes, panel: Roofs, phases: Sequence[str]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    points, total = _drawn(panel)
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
    for direction in (axis.xaxis, axis.yaxis):
        direction.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        direction.set_minor_formatter(NullFormatter())
    axis.set_xlim(low, high)
    axis.set_xlabel("FLOPs per byte moved")
    axis.set_title(wrapped(panel.title, 12, 6.0 * 72, 2), fontsize=12)


def _drawn(panel: Roofs) -> tuple[list[Point], float]:
    """Operators that take enough of the time to be seen, and the time of all, s."""
    points = [point for point in panel.points if point.flop and point.bytes and point.seconds]
    total = sum(point.seconds for point in points)
    return [point for point in points if point.seconds >= LEAST * total], total


def _write_names(axis: Axes, panel: Roofs) -> None:
    """Names of the operators that take longest, and of the longest of each phase, where they cover no mark."""
    points, _ = _drawn(panel)
    longest = sorted(points, key=lambda point: -point.seconds)
    first = {point.phase: point for point in reversed(longest)}
    wanted = longest[:NAMED] + [point for point in first.values() if point not in longest[:NAMED]]
    named = _names(wanted)
    ridge = panel.peak / panel.bandwidth
    roof = [ridge * 10 ** (n / 8) for n in range(-40, 25)]
    others = [(point.flop / point.bytes, point.flop / point.seconds / 1e12) for point in points]
    others += [(x, min(panel.peak, x * panel.bandwidth) / 1e12) for x in roof]
    name_points(axis, [(x, y) for x, y, _ in named], [text for _, _, text in named], others, size=10, away=13)


def _names(longest: Sequence[Point]) -> list[tuple[float, float, str]]:
    """Names with their places: operators close to each other share one, at the operator that takes longest."""
    groups: list[tuple[float, float, list[str]]] = []
    for point in longest:
        x, y = point.flop / point.bytes, point.flop / point.seconds / 1e12
        name = point.name.replace("_", " ")
        near = next((one for one in groups if _apart(one[0], x) < 0.4 and _apart(one[1], y) < 0.5), None)
        if near is None:
            groups.append((x, y, [name]))
        elif name not in near[2]:
            near[2].append(name)
    return [(x, y, "\n".join(names)) for x, y, names in groups]


def _apart(point: float, other: float) -> float:
    """Distance on a logarithmic axis, in decades."""
    return abs(log10(point / other))


def _finding(panels: Sequence[Roofs]) -> str:
    """A sentence on the share of the time that is spent left of the ridge."""
    words = []
    for panel in panels:
        ridge = panel.peak / panel.bandwidth
        known = [point for point in panel.points if point.bytes and point.seconds]
        left = sum(point.seconds for point in known if point.flop / point.bytes < ridge)
        words.append(f"{100 * left / sum(point.seconds for point in known):.0f} % ({panel.title})")
    return f"kernel time left of the ridge, bound by memory at best: {', '.join(words)}"
