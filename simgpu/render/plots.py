"""Plots of result rows: grouped bars over a label, lines over a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, cell, is_share, title
from simgpu.render.style import COLOURS, INK, MARKERS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simgpu.render.fields import PlotFields

Rows = Sequence[Mapping[str, Any]]


def rows_figure(rows: Rows, plot: PlotFields) -> Figure:
    """The figure that a `plots` entry of an experiment file asks for."""
    from matplotlib.figure import Figure

    with style():
        panels = len(plot.y)
        figure = Figure(figsize=(10.5 if panels == 1 else 6.4 * panels + 1.0, 5.6), layout="constrained")
        for i, column in enumerate(plot.y):
            panel = figure.add_subplot(1, panels, i + 1)
            draw = _bars if plot.kind == "bar" else _lines
            draw(panel, [row for row in rows if row.get(column) is not None], plot, column)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if len(labels) > 1:
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3))
        heading = plot.title or ", ".join(title(column) for column in plot.y)
        figure.suptitle(f"{heading}\n{_finding(rows, plot)}", fontsize=13, x=0.01, ha="left")
    return figure


def _finding(rows: Rows, plot: PlotFields) -> str:
    """What the picture shows, from the numbers themselves: best and worst row of the last column."""
    column = plot.y[-1]
    known = [row for row in rows if isinstance(row.get(column), (int, float))]
    if plot.kind == "line" and known:
        furthest = max(row[plot.x] for row in known)
        known = [row for row in known if row[plot.x] == furthest]
    if not known:
        return ""
    low, high = min(known, key=lambda row: row[column]), max(known, key=lambda row: row[column])
    name = f"{title(plot.x)} {known[0][plot.x]}: " if plot.kind == "line" else ""

    def described(row: Mapping[str, Any]) -> str:
        keys = ([plot.series] if plot.series else []) if plot.kind == "line" else [plot.x, plot.series]
        return f"{cell(column, row[column])} ({', '.join(str(row.get(key)) for key in keys if key)})"

    return f"{name}{title(column)} from {described(low)} to {described(high)}"


def _series(rows: Rows, plot: PlotFields) -> list[Any]:
    return list(dict.fromkeys(row.get(plot.series) for row in rows)) if plot.series else [None]


def _members(rows: Rows, plot: PlotFields, series: Any) -> list[Mapping[str, Any]]:
    return [row for row in rows if plot.series is None or row.get(plot.series) == series]


def _bars(panel: Axes, rows: Rows, plot: PlotFields, column: str) -> None:
    groups = list(dict.fromkeys(row.get(plot.x) for row in rows))
    series = _series(rows, plot)
    width = 0.8 / len(series)
    label, scale = axis(column, [row[column] for row in rows])
    top_of_bars: list[tuple[float, float, str]] = []
    for s, name in enumerate(series):
        for row in _members(rows, plot, name):
            at = groups.index(row.get(plot.x)) + (s - (len(series) - 1) / 2) * width
            first = row is _members(rows, plot, name)[0]
            value = row[column] * scale
            panel.bar(at, value, width * 0.92, color=COLOURS[s % 7], label=str(name) if first and name else None)
            top_of_bars.append((at, value, cell(column, row[column])))
    mark = plot.marks.get(column)
    if mark:
        claimed = {row.get(plot.x): row[mark] for row in rows if row.get(mark) is not None}
        for i, (group, value) in enumerate(claimed.items()):
            at = groups.index(group)
            ends = (at - 0.45, at + 0.45)
            panel.plot(ends, [value * scale] * 2, color=INK, ls="--", lw=1.6, label=title(mark) if i == 0 else None)
    panel.set_xticks(range(len(groups)), [str(group).replace(", ", "\n") for group in groups])
    panel.set_ylabel(label)
    panel.grid(axis="x", visible=False)
    top = max([row[column] * scale for row in rows] + [1e-300])
    panel.set_ylim(0, 100 if is_share(column) and top <= 97 else 1.12 * top)
    for at, value, text in top_of_bars:  # inside the bar where it is tall enough, so that marks stay clear of it
        inside = value > 0.12 * panel.get_ylim()[1]
        panel.annotate(
            text,
            (at, value),
            (0, -7 if inside else 4),
            textcoords="offset points",
            ha="center",
            va="top" if inside else "bottom",
            color="white" if inside else INK,
            weight="bold" if inside else "normal",
            fontsize=11,
        )


def _coincide(points: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> bool:
    """Whether two lines lie on each other in at least half of their points (within 2 % of the tallest)."""
    tall = max([y for _, y in [*points, *other]] + [1e-300])
    known = dict(other)
    close = [abs(y - known[x]) <= 0.02 * tall for x, y in points if x in known]
    return bool(close) and 2 * sum(close) >= len(close) + 1


def _lines(panel: Axes, rows: Rows, plot: PlotFields, column: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator

    label, scale = axis(column, [row[column] for row in rows])
    xs = sorted({row[plot.x] for row in rows})
    drawn: list[list[tuple[float, float]]] = []
    for s, name in enumerate(_series(rows, plot)):
        members = sorted(_members(rows, plot, name), key=lambda row: row[plot.x])
        points = [(row[plot.x], row[column] * scale) for row in members]
        hidden = any(_coincide(points, other) for other in drawn)  # then the line below must shine through
        panel.plot(
            [x for x, _ in points],
            [y for _, y in points],
            label=str(name) if name is not None else None,
            color=COLOURS[s % 7],
            marker=MARKERS[s % 7],
            ls=(s, (2, 2.5)) if hidden else "-",
            ms=7 + 3 * sum(_coincide(points, other) for other in drawn),
            mfc="none" if hidden else COLOURS[s % 7],
        )
        drawn.append(points)
    if len(xs) > 1 and xs[0] > 0 and xs[-1] / xs[0] >= 4:
        panel.set_xscale("log", base=2)
    panel.set_xticks(xs, [str(x) for x in xs])
    panel.minorticks_off()
    values = [row[column] for row in rows]
    if is_share(column):
        panel.set_ylim(0, 105 if max(values, default=0) * scale > 95 else 100)
    elif min(values, default=0) > 0 and max(values) / min(values) > 20:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    else:
        panel.set_ylim(bottom=0)
    panel.set_xlabel({"tp": "Tensor-parallel GPUs", "dp": "Data-parallel GPUs"}.get(plot.x, axis(plot.x, xs)[0]))
    panel.set_ylabel(label)
