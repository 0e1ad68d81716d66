"""Plots of result rows: grouped bars over a label, lines over a number."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from typing import TYPE_CHECKING, Any

from simgpu.render.bars import Bars
from simgpu.render.columns import axis, cell, drawn_interval, is_share, title, unsure
from simgpu.render.knee import BEHIND, RANGE, knee_words, mark_knee, sure
from simgpu.render.series import (
    Row,
    Rows,
    line_look,
    members,
    numbers_of,
    series_name,
    series_of,
    that_fit,
    too_large,
    what_is_too_large,
)
from simgpu.render.style import INK, SLIDE, style
from simgpu.render.text import heading, legend_below, short_number, thousands, ticks_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simgpu.render.fields import PlotFields

TICK = 12.0
"""Size of numbers at axes, points."""


def rows_figure(rows: Rows, plot: PlotFields, words: str = "") -> Figure:
    """The bars or lines that a `plots` entry of an experiment file asks for, under the title `words`."""
    from matplotlib.figure import Figure

    across, down, width = sheet(len(plot.y))
    with style():
        figure = Figure(figsize=(width, 5.6), layout="constrained")
        known = {column: numbers_of(rows, column) for column in plot.y}
        room = 72 * (width / across - 1.1)
        drawn = Bars(known, plot, room) if plot.kind == "bar" else None
        figure.set_figheight(down * (5.6 if drawn is None else drawn.height) - 0.9 * (down - 1))
        axes = figure.subplots(down, across, squeeze=False, sharey="row" if drawn is not None and drawn.flat else False)
        for empty in axes.flat[len(plot.y) :]:
            empty.set_axis_off()
        axes = axes.flat[: len(plot.y)]
        for panel, column in zip(axes, plot.y, strict=True):
            if drawn is not None:
                drawn.draw(panel, column)
            else:
                _lines(panel, known[column], plot, column, room)
        named = {name: one for panel in axes for one, name in zip(*panel.get_legend_handles_labels(), strict=True)}
        if len(named) > 1 or (named and plot.marks) or not named.keys().isdisjoint((RANGE, BEHIND)):
            legend_below(figure, list(named.values()), list(named))
        heading(figure, words, _finding(rows, plot))
    return figure


def sheet(panels: int) -> tuple[int, int, float]:
    """The number of panels beside and below each other, and the width of the picture, inches: a slide at most."""
    across = min(panels, 2)
    return across, -(-panels // across), 10.5 if across == 1 else SLIDE


def heading_of(plot: PlotFields, settings: Sequence[str], what: str, subject: str = "") -> str:
    """Title of a plot: the one that the file gives it, else `subject`, the columns and the rows that are drawn.

    `subject` is what the experiment is about. Settings of the command line are added.
    """
    text = plot.title or ": ".join(part for part in (subject, what) if part)
    if plot.where and not plot.title:
        text += f" ({', '.join(str(series_name(key, value)) for key, value in plot.where.items())})"
    return text[:1].upper() + text[1:] + (f"  [changed: {', '.join(settings)}]" if settings else "")


def _finding(rows: Rows, plot: PlotFields) -> str:
    """A sentence on what the picture shows, from the last column's numbers in rows that fit, where some do."""
    column = plot.y[-1]
    known = sure(that_fit(numbers_of(rows, column)))
    if plot.kind == "line" and plot.series is None and (words := knee_words(rows, plot.x)):
        return words
    if not known:
        return ""
    if plot.kind == "bar":
        return _largest_gap(known, plot, column) or _range(known, [plot.x, plot.series], column)
    furthest = max(row[plot.x] for row in known)
    last = [row for row in known if row[plot.x] == furthest]
    at = f"{furthest:,.10g} GPUs" if plot.x == "gpus" else f"{title(plot.x)} {cell(plot.x, furthest)}"
    return f"{at}: {_range(last, [plot.series], column)}"


def _range(rows: Rows, names: Sequence[str | None], column: str) -> str:
    """Lowest and highest row of a column."""

    def described(row: Row) -> str:
        what = ", ".join(str(series_name(name, row.get(name))) for name in names if name)
        return cell(column, row[column]) + (f" ({what})" if what else "")

    low, high = min(rows, key=lambda row: row[column]), max(rows, key=lambda row: row[column])
    if low[column] == high[column]:
        return f"{title(column)} {described(low)}"
    return f"{title(column)} from {described(low)} to {described(high)}"


def _largest_gap(rows: Rows, plot: PlotFields, column: str) -> str:
    """Text that names where two series differ most; '' unless there are two."""
    series = series_of(rows, plot.series)
    if plot.series is None or len(series) != 2:
        return ""
    values: dict[Any, dict[Any, float]] = {}
    for row in rows:
        values.setdefault(row.get(plot.x), {})[row[plot.series]] = row[column]
    pairs = {group: found for group, found in values.items() if len(found) == 2}
    if not pairs:
        return ""
    group = max(pairs, key=lambda key: abs(pairs[key][series[0]] - pairs[key][series[1]]))
    one, other = (pairs[group][name] for name in series)
    if abs(one - other) <= 5e-3 * max(abs(one), abs(other)):
        return ""
    both = " against ".join(f"{cell(column, pairs[group][name])} ({series_name(plot.series, name)})" for name in series)
    return f"largest gap in {title(column)}: {series_name(plot.x, group)}, {both}"


def _coincide(points: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> bool:
    """True if two lines lie on each other in at least half of their points (within 2 % of the tallest)."""
    tall = max([y for _, y in [*points, *other]] + [1e-300])
    known = dict(other)
    close = [abs(y - known[x]) <= 0.02 * tall for x, y in points if x in known]
    return bool(close) and 2 * sum(close) >= len(close) + 1


def _lines(panel: Axes, rows: Rows, plot: PlotFields, column: str, room: float) -> None:
    """A line for each series with its 80 % interval as a band; `room` is the width of the panel, points."""
    label, scale = axis(column, [row[column] for row in rows])
    drawn: list[list[tuple[float, float]]] = []
    for s, name in enumerate(series_of(rows, plot.series)):
        every = sorted(members(rows, plot.series, name), key=lambda row: row[plot.x])
        mark_knee(panel, every, plot.x, column, scale, line_look(s)["color"])
        some = sure(every)
        if not some:
            continue
        points = [(row[plot.x], row[column] * scale) for row in some]
        line = [(row[plot.x], nan if unsure(row) else row[column] * scale) for row in every]
        hidden = any(_coincide(points, other) for other in drawn)  # then the line below must shine through
        look = line_look(s)
        look |= {"ls": (s, (2, 2.5)), "mfc": "none"} if hidden else {}
        size = 7 + 3 * sum(_coincide(points, other) for other in drawn)
        panel.plot(*zip(*line, strict=True), label=series_name(plot.series, name), ms=size, **look)
        ranges = [(row[plot.x], *_ends(column, row)) for row in every]
        if any(low < high for _, low, high in ranges):
            at, low, high = (list(values) for values in zip(*ranges, strict=True))
            band = ([y * scale for y in low], [y * scale for y in high])
            panel.fill_between(at, *band, color=look["color"], alpha=0.15, lw=0, zorder=1)
        drawn.append(points)
    misfits = [(row[plot.x], row[column] * scale) for row in rows if too_large(row)]
    if misfits:
        look = {"ls": "", "marker": "x", "color": INK, "ms": 12, "mew": 1.6, "label": what_is_too_large(rows)}
        panel.plot(*zip(*misfits, strict=True), zorder=5, **look)
    number_axis(panel, plot.x, sorted({row[plot.x] for row in rows}), room)
    _value_axis(panel, rows, column, scale)
    panel.set_ylabel(label)


def _ends(column: str, row: Row) -> tuple[float, float]:
    """The interval of a value for a band, which ends where there is no value but a range."""
    if unsure(row):
        return nan, nan
    return drawn_interval(column, row) or (row[column],) * 2


def number_axis(panel: Axes, column: str, xs: Sequence[float], room: float) -> None:
    """Set the horizontal axis for simulated numbers: a tick at each, logarithmic over two octaves and more."""
    from math import log2

    name, scale = axis(column, xs)
    panel.set_xlabel({"tp": "Tensor-parallel GPUs", "dp": "Data-parallel GPUs"}.get(column, name))
    wide = len(xs) > 1 and xs[0] > 0 and xs[-1] / xs[0] >= 4
    if wide:
        panel.set_xscale("log", base=2)
    ends = [log2(x) if wide else x for x in xs]
    reach = (ends[-1] - ends[0]) or 1.0
    names = [thousands(x * scale) for x in xs]
    kept = ticks_apart([(end - ends[0]) / reach for end in ends], names, TICK, 0.9 * room)
    panel.set_xticks([xs[i] for i in kept], [names[i] for i in kept])
    panel.minorticks_off()


def _value_axis(panel: Axes, rows: Rows, column: str, scale: float) -> None:
    """Set the scale of the value axis: shares to 100 %, wide ranges logarithmic, all else from nought."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    values = [row[column] for row in rows]
    if is_share(column):
        panel.set_ylim(0, max(105.0 if max(values, default=0) * scale > 95 else 100.0, *panel.get_ylim()))
    elif min(values, default=0) > 0 and max(values) / min(values) > 20:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(FuncFormatter(short_number))
        panel.yaxis.set_minor_formatter(NullFormatter())
    else:
        panel.set_ylim(bottom=0)
        panel.yaxis.set_major_formatter(FuncFormatter(thousands))
