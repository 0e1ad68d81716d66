"""Curves of one number over another, such as throughput of a GPU over speed for a user, each point with its label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, cell, interval_of, title
from simgpu.render.style import COLOURS, INK, MARKERS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simgpu.render.fields import PlotFields

Rows = Sequence[Mapping[str, Any]]


def curve_figure(rows: Rows, plot: PlotFields, heading: str) -> Figure:
    """Points (x, y) of rows with both above zero, joined within a series; those on no other's lower left are marked."""
    from matplotlib.figure import Figure

    column = plot.y[0]
    shown = [row for row in rows if row.get(plot.x) and row.get(column)]
    x_label, x_scale = axis(plot.x, [row[plot.x] for row in shown])
    y_label, y_scale = axis(column, [row[column] for row in shown])
    with style():
        figure = Figure(figsize=(10.5, 6.4), layout="constrained")
        panel = figure.subplots()
        names = list(dict.fromkeys(row.get(plot.series) for row in shown)) if plot.series else [None]
        best = _frontier(shown, plot.x, column)
        for s, name in enumerate(names):
            members = [row for row in shown if plot.series is None or row.get(plot.series) == name]
            colour = COLOURS[s % 7]
            points = [(row[plot.x] * x_scale, row[column] * y_scale) for row in members]
            label = (
                None if name is None else str(name) if isinstance(name, str) else f"{title(str(plot.series))} {name}"
            )
            panel.plot(*zip(*points, strict=True), color=colour, marker=MARKERS[s % 7], label=label, zorder=3)
            _bars(panel, members, plot, x_scale, y_scale, colour)
            _labels(panel, members, plot, points)
        front = sorted((row[plot.x] * x_scale, row[column] * y_scale) for row in best)
        panel.plot(*zip(*front, strict=True), color=INK, lw=6, alpha=0.12, zorder=1, label="best of all")
        panel.set_xlabel(x_label)
        panel.set_ylabel(y_label)
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        panel.legend(loc="best")
        figure.suptitle(f"{heading}\n{_finding(best, plot, column)}", fontsize=13, x=0.01, ha="left")
    return figure


def _bars(panel: Axes, rows: Rows, plot: PlotFields, x_scale: float, y_scale: float, colour: str) -> None:
    """Intervals of both numbers, faint."""
    for row in rows:
        x, y = row[plot.x], row[plot.y[0]]
        for of, along in ((plot.x, "x"), (plot.y[0], "y")):
            ends = interval_of(of, row)
            if ends is not None:
                scale = x_scale if along == "x" else y_scale
                away = {f"{along}err": [[(row[of] - ends[0]) * scale], [(ends[1] - row[of]) * scale]]}
                look: dict[str, Any] = {"color": colour, "alpha": 0.25, "lw": 1.0, "zorder": 2, **away}
                panel.errorbar(x * x_scale, y * y_scale, **look)


def _labels(panel: Axes, rows: Rows, plot: PlotFields, points: Sequence[tuple[float, float]]) -> None:
    if plot.label is None:
        return
    for row, point in zip(rows, points, strict=True):
        panel.annotate(
            str(row.get(plot.label)), point, (5, 5), textcoords="offset points", fontsize=8, color=INK, zorder=4
        )


def _frontier(rows: Rows, x: str, y: str) -> list[Mapping[str, Any]]:
    """Rows that no other beats in both numbers."""
    return [row for row in rows if not any(other[x] > row[x] and other[y] > row[y] for other in rows)]


def _finding(best: Rows, plot: PlotFields, column: str) -> str:
    """The two ends of the frontier."""
    ends = max(best, key=lambda row: row[column]), max(best, key=lambda row: row[plot.x])
    words = []
    for row in ends:
        named = [str(row.get(plot.series))] if plot.series else []
        named += [str(row.get(plot.label))] if plot.label else []
        words.append(f"{cell(column, row[column])} at {cell(plot.x, row[plot.x])} ({', '.join(named)})")
    return f"{title(column)} at {title(plot.x)}: from {words[0]} to {words[1]}"
