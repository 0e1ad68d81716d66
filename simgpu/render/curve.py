"""Curves of one number over another, such as throughput of a GPU over speed for a user, each point with its label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, cell, drawn_interval, title
from simgpu.render.pareto import beside_points, label_text
from simgpu.render.series import (
    Rows,
    line_look,
    members,
    series_name,
    series_of,
    too_large,
    what_is_too_large,
)
from simgpu.render.style import INK, style
from simgpu.render.text import along, heading, legend_below, name_points, thousands

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simgpu.render.fields import PlotFields


def curve_figure(rows: Rows, plot: PlotFields, words: str) -> Figure:
    """Points (x, y) of rows with both above zero, joined within a series; the upper-right frontier is marked."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    column = plot.y[0]
    shown = [row for row in rows if row.get(plot.x) and row.get(column)]
    x_label, x_scale = axis(plot.x, [row[plot.x] for row in shown])
    y_label, y_scale = axis(column, [row[column] for row in shown])
    lines: list[list[tuple[float, float]]] = []
    with style():
        figure = Figure(figsize=(10.5, 6.4), layout="constrained")
        panel = figure.subplots()
        best = _frontier([row for row in shown if not too_large(row)] or shown, plot.x, column)
        for s, name in enumerate(series_of(shown, plot.series)):
            some = members(shown, plot.series, name)
            points = [(row[plot.x] * x_scale, row[column] * y_scale) for row in some]
            look = line_look(s)
            panel.plot(*zip(*points, strict=True), label=series_name(plot.series, name), zorder=3, **look)
            _bars(panel, some, plot, x_scale, y_scale, look["color"])
            lines.append(points)
        front = sorted((row[plot.x] * x_scale, row[column] * y_scale) for row in best)
        panel.plot(
            *zip(*front, strict=True), color=INK, lw=7, alpha=0.13, zorder=1, label="front: no row is better in both"
        )
        misfits = [(row[plot.x] * x_scale, row[column] * y_scale) for row in shown if too_large(row)]
        if misfits:
            cross: dict[str, Any] = {"ls": "", "marker": "x", "color": INK, "ms": 12, "mew": 1.6, "zorder": 5}
            panel.plot(*zip(*misfits, strict=True), **cross, label=what_is_too_large(shown))
        panel.set_xlabel(x_label)
        panel.set_ylabel(y_label)
        panel.set_xlim(left=0)
        panel.set_ylim(bottom=0)
        if plot.label is not None and (note := beside_points(plot.label, shown)):
            panel.plot([], [], ls="none", label=note)
        for line in (panel.xaxis, panel.yaxis):
            line.set_major_formatter(FuncFormatter(thousands))
        legend_below(figure, *panel.get_legend_handles_labels())
        heading(figure, words, _finding(best, plot, column))
        if plot.label is not None:
            names = [
                label_text(row.get(plot.label))
                for name in series_of(shown, plot.series)
                for row in members(shown, plot.series, name)
            ]
            name_points(
                panel,
                [point for line in lines for point in line],
                names,
                [p for line in lines for p in along(line)],
                size=9,
            )
    return figure


def _bars(panel: Axes, rows: Rows, plot: PlotFields, x_scale: float, y_scale: float, colour: str) -> None:
    """Draw intervals of both numbers, faint."""
    for row in rows:
        x, y = row[plot.x], row[plot.y[0]]
        for of, side in ((plot.x, "x"), (plot.y[0], "y")):
            ends = drawn_interval(of, row)
            if ends is not None:
                scale = x_scale if side == "x" else y_scale
                away = {f"{side}err": [[(row[of] - ends[0]) * scale], [(ends[1] - row[of]) * scale]]}
                look: dict[str, Any] = {"color": colour, "alpha": 0.35, "lw": 1.2, "zorder": 2, **away}
                panel.errorbar(x * x_scale, y * y_scale, **look)


def _frontier(rows: Rows, x: str, y: str) -> list[Mapping[str, Any]]:
    """Rows that no other beats in both numbers."""
    return [row for row in rows if not any(other[x] > row[x] and other[y] > row[y] for other in rows)]


def _finding(best: Rows, plot: PlotFields, column: str) -> str:
    """A sentence on the two ends of the frontier."""
    ends = max(best, key=lambda row: row[column]), max(best, key=lambda row: row[plot.x])
    words = []
    for row in dict.fromkeys(map(id, ends)):
        best_end = next(end for end in ends if id(end) == row)
        named = [str(series_name(plot.series, best_end.get(plot.series)))] if plot.series else []
        named += [f"{title(plot.label)} {best_end.get(plot.label)}"] if plot.label else []
        what = f" ({', '.join(named)})" if named else ""
        both = ((name, cell(name, best_end[name])) for name in (column, plot.x))
        words.append(" at ".join(f"{text} {title(name)}" for name, text in both) + what)
    return f"from {words[0]} to {words[1]}" if len(words) > 1 else f"best of all: {words[0]}"
