"""Two numbers that pull in different directions: all rows, the front that none beats, and the row that is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.analysis.pareto import front, knee
from simgpu.columns import better as known_direction
from simgpu.render.columns import axis, cell, drawn_interval, title
from simgpu.render.series import (
    Rows,
    line_look,
    numbers_of,
    saturated,
    series_name,
    series_of,
    too_large,
    what_is_too_large,
    worth_choosing,
)
from simgpu.render.style import INK, style
from simgpu.render.text import along, heading, legend_below, name_points, short_number, thousands, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["directions", "front", "knee", "pareto_figure"]

CHOSEN = "#F0E442"
"""Yellow of the same palette, which no series has; with a dark edge."""
WIDE = 12.0
"""From this ratio of largest to smallest on an axis is logarithmic."""


def directions(x: str, y: str, better: Mapping[str, str] | None = None) -> dict[str, str]:
    """Which way is better of both columns: as `better` says, else as the column is, else higher."""
    return {name: (better or {}).get(name) or known_direction(name) or "higher" for name in (x, y)}


def pareto_figure(
    rows: Rows, x: str, y: str, chosen: int | None = None, label: str | None = None, heading: str = "",
    better: Mapping[str, str] | None = None, series: str | None = None,
) -> Figure:  # fmt: skip
    """Column `y` over column `x` of rows: all faint, those that no other beats joined, one of them marked.

    chosen
        Number of the row to mark; None: the knee of the front.
    label
        Column whose value stands beside the rows of the front.
    better
        Of x and y: 'lower' or 'higher'; what is left out follows from the column.
    series
        Column that tells colours apart.

    Rows that do not fit the memory are crosses and never on the front. Saturated servers are hollow, and on the front
    only where all are saturated.
    """
    from matplotlib.figure import Figure

    wanted = directions(x, y, better)
    shown = numbers_of(rows, x, y)
    fitting = worth_choosing(shown)
    among = front(fitting, x, y, wanted)
    marked = rows[chosen] if chosen is not None else None
    if marked is None and (found := knee(fitting, x, y, wanted, among)) is not None:
        marked = fitting[found]
    best = [fitting[i] for i in among]
    x_label, x_scale = axis(x, [row[x] for row in shown])
    y_label, y_scale = axis(y, [row[y] for row in shown])
    with style():
        figure = Figure(figsize=(10.5, 6.4), layout="constrained")
        panel = figure.subplots()
        _all(panel, shown, best, x, y, x_scale, y_scale, series)
        points = [(row[x] * x_scale, row[y] * y_scale) for row in best]
        steps = _stairs(points, wanted[x])
        if len(points) > 1:
            panel.plot(*zip(*steps, strict=True), color=INK, lw=1.8, zorder=3, label="front: none is better in both")
        if marked is not None and marked.get(x) is not None and marked.get(y) is not None:
            place = ([marked[x] * x_scale], [marked[y] * y_scale])
            named = "chosen" if chosen is not None else "knee of the front"
            panel.plot(*place, "*", ms=22, color=CHOSEN, mec=INK, mew=1.4, zorder=5, label=named)
        for side, values in (("x", [row[x] * x_scale for row in shown]), ("y", [row[y] * y_scale for row in shown])):
            _scaled(panel, side, values)
        panel.set_xlabel(f"{x_label}, {wanted[x]} is better")
        panel.set_ylabel(f"{y_label}, {wanted[y]} is better")
        legend_below(figure, *panel.get_legend_handles_labels())
        _heading(figure, heading, shown, fitting, best, marked, x, y, label, series)
        _names(panel, best, marked, points, shown, x, y, x_scale, y_scale, label)
    return figure


def _all(
    panel: Axes, shown: Rows, best: Rows, x: str, y: str, x_scale: float, y_scale: float, series: str | None
) -> None:
    """Every row: faint if another beats it, in full colour with its intervals if none does, crossed if it does not
    fit."""
    on = {id(row) for row in best}
    for s, name in enumerate(series_of(shown, series)):
        some = [row for row in shown if series is None or row.get(series) == name]
        look = line_look(s) | {"ls": "none"}
        for front_ones in (False, True):
            points = [
                (row[x] * x_scale, row[y] * y_scale)
                for row in some
                if (id(row) in on) == front_ones and not too_large(row) and (front_ones or not saturated(row))
            ]
            if points:
                look |= {"ms": 9, "zorder": 4} if front_ones else {"ms": 6, "alpha": 0.35, "zorder": 2, "mew": 0}
                panel.plot(*zip(*points, strict=True), **(look if not front_ones else look | {"alpha": 1.0}))
        if name is not None:
            panel.plot([], [], **(line_look(s) | {"ls": "none", "ms": 9}), label=series_name(series, name))
    waiting = [(row[x] * x_scale, row[y] * y_scale) for row in shown if saturated(row) and not too_large(row)]
    if waiting:
        hollow: dict[str, Any] = {
            "marker": "o",
            "ls": "none",
            "color": "#7A7A7A",
            "mfc": "none",
            "ms": 7,
            "mew": 1.2,
            "zorder": 2,
        }
        panel.plot(*zip(*waiting, strict=True), **hollow, label="saturated: requests queue")
    misfits = [(row[x] * x_scale, row[y] * y_scale) for row in shown if too_large(row)]
    if misfits:
        look = {"marker": "x", "ls": "none", "color": "#9A9A9A", "ms": 7, "mew": 1.4, "zorder": 2}
        panel.plot(*zip(*misfits, strict=True), **look, label=what_is_too_large(shown))
    for row in best:
        for column, scale, side in ((x, x_scale, "x"), (y, y_scale, "y")):
            ends = drawn_interval(column, row)
            if ends is not None:
                away: dict[str, Any] = {f"{side}err": [[abs(row[column] - end) * scale] for end in ends]}
                look = {"color": INK, "lw": 1.0, "alpha": 0.45, "fmt": "none", "zorder": 3}
                panel.errorbar(row[x] * x_scale, row[y] * y_scale, **away, **look)


def _stairs(points: Sequence[tuple[float, float]], x_better: str) -> list[tuple[float, float]]:
    """The edge of what is reached: between two rows of the front there is nothing but what one of them beats."""
    steps: list[tuple[float, float]] = []
    for n, (px, py) in enumerate(points):
        if n:
            before = points[n - 1]
            steps.append((px, before[1]) if x_better == "lower" else (before[0], py))
        steps.append((px, py))
    return steps


def _scaled(panel: Axes, side: str, values: Sequence[float]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = min(values, default=0.0), max(values, default=1.0)
    line = panel.xaxis if side == "x" else panel.yaxis
    if low > 0 and high / low > WIDE:
        (panel.set_xscale if side == "x" else panel.set_yscale)("log")
        line.set_major_locator(LogLocator(subs=(1, 2, 5)))
        line.set_major_formatter(FuncFormatter(short_number))
        line.set_minor_formatter(NullFormatter())
        (panel.set_xlim if side == "x" else panel.set_ylim)(low / 1.25, high * 1.35)
        return
    line.set_major_formatter(FuncFormatter(thousands))
    room = 0.12 * (high - low or abs(high) or 1.0)
    bottom = 0.0 if 0 <= low < 0.45 * high else low - room
    (panel.set_xlim if side == "x" else panel.set_ylim)(bottom, high + room)


def _heading(
    figure: Figure,
    words: str,
    shown: Rows,
    fitting: Rows,
    best: Rows,
    marked: Any,
    x: str,
    y: str,
    label: str | None,
    series: str | None,
) -> None:
    unfit = sum(map(too_large, shown))
    waiting, beaten = sum(map(saturated, shown)), len(fitting) - len(best)
    about = f"{len(best)} of {len(shown)} rows on the front, {beaten} beaten"
    if waiting:
        about += f", {waiting} saturated"
    if unfit:
        about += f", {unfit} {'does' if unfit == 1 else 'do'} not fit"
    finding = ""
    if marked is not None:
        words_of = [series_name(column, marked.get(column)) for column in (series, label) if column]
        name = ", ".join(word for word in dict.fromkeys(words_of) if word)
        finding = f"{name}{': ' if name else ''}{cell(x, marked[x])} {title(x)}, {cell(y, marked[y])} {title(y)}"
    heading(figure, words, "; ".join(part for part in (finding, about) if part))


def _names(
    panel: Axes, best: Rows, marked: Any, points: Sequence[tuple[float, float]], shown: Rows, x: str, y: str,
    x_scale: float, y_scale: float, label: str | None,
) -> None:  # fmt: skip
    """Names of the front's rows, the chosen one first; those that find no place are left out."""
    if label is None:
        return
    order = sorted(range(len(best)), key=lambda i: best[i] is not marked)
    named = [best[i] for i in order]
    if marked is not None and not any(row is marked for row in named) and marked.get(x) is not None:
        named = [marked, *named]
    texts = [wrapped(str(row.get(label)), 10, 150, 2) for row in named]
    others = [(row[x] * x_scale, row[y] * y_scale) for row in shown]
    places = [(row[x] * x_scale, row[y] * y_scale) for row in named]
    name_points(panel, places, texts, [*others, *along(points)], size=10, away=8)
