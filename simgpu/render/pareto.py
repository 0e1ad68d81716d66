"""Trade-offs between two numbers: all rows, the Pareto front, and the row that is chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.analysis.pareto import front, knee
from simgpu.columns import better as known_direction
from simgpu.render.columns import axis, cell, drawn_interval, title
from simgpu.render.series import (
    Row,
    Rows,
    line_look,
    members,
    numbers_of,
    saturated,
    series_name,
    series_of,
    too_large,
    what_is_too_large,
    worth_choosing,
)
from simgpu.render.style import INK, style
from simgpu.render.text import along, legend_below, name_points, short_number, thousands, wrapped
from simgpu.render.text import heading as headline

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["directions", "front", "knee", "pareto_figure"]

Scales = tuple[tuple[str, float], tuple[str, float]]
"""The columns of x and y, and what brings each into the unit of its axis."""

CHOSEN = "#F0E442"
"""Yellow of the same palette, which no series has; with a dark edge."""
KNEE = "knee of the front: nearest to the best of both"
WIDE = 12.0
"""From this ratio of largest to smallest on an axis is logarithmic."""


def directions(x: str, y: str, better: Mapping[str, str] | None = None) -> dict[str, str]:
    """The direction that is better of both columns: as `better` says, else as the column is, else higher."""
    return {name: (better or {}).get(name) or known_direction(name) or "higher" for name in (x, y)}


def pareto_figure(
    rows: Rows, x: str, y: str, chosen: int | None = None, label: str | None = None, heading: str = "",
    better: Mapping[str, str] | None = None, series: str | None = None,
) -> Figure:  # fmt: skip
    """Column `y` over column `x` of rows: those that no other beats joined, one of them marked, all others faint.

    chosen
        Number of the row to mark; None: the knee of the front.
    label
        Column whose value stands beside the rows of the front.
    better
        Of x and y: 'lower' or 'higher'; what is left out follows from the column.
    series
        Column that tells colours apart.

    Rows that do not fit the memory are crosses and never on the front. Saturated servers are hollow, and on the front
    only where all are saturated. With several series each has its own front too, so that the weaker is seen.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    wanted = directions(x, y, better)
    shown = numbers_of(rows, x, y)
    fitting = worth_choosing(shown)
    among = front(fitting, x, y, wanted)
    marked = rows[chosen] if chosen is not None else None
    if marked is None and (at_knee := knee(fitting, x, y, wanted, among)) is not None:
        marked = fitting[at_knee]
    best = [fitting[i] for i in among]
    own = {name: _own_front(members(fitting, series, name), x, y, wanted) for name in series_of(shown, series)}
    led = [row for some in own.values() for row in some]
    x_label, x_scale = axis(x, [row[x] for row in shown])
    y_label, y_scale = axis(y, [row[y] for row in shown])
    scales = ((x, x_scale), (y, y_scale))
    with style():
        figure = Figure(figsize=(10.5, 6.6), layout="constrained")
        panel = figure.subplots()
        _all(panel, shown, best, own, scales, series, wanted[x])
        points = [(row[x] * x_scale, row[y] * y_scale) for row in best]
        if len(points) > 1:
            edge: dict[str, Any] = {"color": INK, "lw": 7.0, "alpha": 0.13, "solid_capstyle": "butt", "zorder": 1}
            panel.plot(*zip(*_stairs(points, wanted[x]), strict=True), **edge, label="front: no row is better in both")
        if marked is not None and marked.get(x) is not None and marked.get(y) is not None:
            place = ([marked[x] * x_scale], [marked[y] * y_scale])
            named = "chosen" if chosen is not None else KNEE
            star: dict[str, Any] = {"marker": "*", "ls": "none", "color": CHOSEN, "mec": INK}
            panel.plot(*place, **star, ms=26, mew=1.4, zorder=3.5)
            panel.plot([], [], **star, ms=14, label=named)
        for side, (column, scale) in zip("xy", scales, strict=True):
            ends = [end for row in led for end in drawn_interval(column, row) or ()]
            _scaled(panel, side, [value * scale for value in (*(row[column] for row in shown), *ends)])
        panel.set_xlabel(f"{x_label}, {wanted[x]} is better")
        panel.set_ylabel(f"{y_label}, {wanted[y]} is better")
        handles, names = panel.get_legend_handles_labels()
        if label is not None and (note := beside_points(label, led)):
            handles, names = [*handles, Line2D([], [], ls="none")], [*names, note]
        legend_below(figure, handles, names)
        headline(figure, heading, _finding(marked, x, y, label, series))
        edges = [_stairs([(row[x] * x_scale, row[y] * y_scale) for row in some], wanted[x]) for some in own.values()]
        _names(panel, led, marked, [point for one in edges for point in along(one)], shown, scales, label)
    return figure


def _own_front(rows: Rows, x: str, y: str, wanted: Mapping[str, str]) -> list[Row]:
    return [rows[i] for i in front(rows, x, y, wanted)]


def beside_points(label: str, rows: Rows) -> str:
    """The legend's words for numbers beside points; '' for labels that are words themselves."""
    numbers = any(isinstance(row.get(label), (int, float)) for row in rows)
    name = axis(label, [1.0])[0]
    return f"numbers at points: {name[0].lower()}{name[1:]}" if numbers else ""


def _all(
    panel: Axes, shown: Rows, best: Rows, own: Mapping[Any, Rows], scales: Scales, series: str | None,
    x_better: str,
) -> None:  # fmt: skip
    """Draw every row: in full colour with its intervals if no other of its series beats it, else faint.

    A row that does not fit is crossed.
    """
    (x, x_scale), (y, y_scale) = scales
    on = {id(row) for row in best}
    for s, (name, leading) in enumerate(own.items()):
        look = line_look(s) | {"ls": "none"}
        leads = {id(row) for row in leading}
        faint = [
            (row[x] * x_scale, row[y] * y_scale)
            for row in members(shown, series, name)
            if id(row) not in leads and not too_large(row) and not saturated(row)
        ]
        if faint:
            panel.plot(*zip(*faint, strict=True), **(look | {"ms": 6, "alpha": 0.35, "zorder": 2, "mew": 0}))
        points = [(row[x] * x_scale, row[y] * y_scale) for row in leading]
        if len(points) > 1:
            stairs = {"color": look["color"], "lw": 1.3, "zorder": 2.5}
            panel.plot(*zip(*_stairs(points, x_better), strict=True), **stairs)
        for row, point in zip(leading, points, strict=True):
            size = 9 if id(row) in on else 7
            panel.plot(*([one] for one in point), **(look | {"ms": size, "zorder": 4, "mec": "white", "mew": 0.8}))
        _bars(panel, leading, scales, look["color"])
        if name is not None:
            panel.plot([], [], **(line_look(s) | {"ls": "-", "lw": 1.3, "ms": 9}), label=series_name(series, name))
    waiting = [(row[x] * x_scale, row[y] * y_scale) for row in shown if saturated(row) and not too_large(row)]
    if waiting:
        hollow: dict[str, Any] = {"marker": "o", "ls": "none", "color": "#7A7A7A", "mfc": "none", "ms": 7, "mew": 1.2}
        panel.plot(*zip(*waiting, strict=True), **hollow, zorder=2, label="saturated: requests queue")
    misfits = [(row[x] * x_scale, row[y] * y_scale) for row in shown if too_large(row)]
    if misfits:
        look = {"marker": "x", "ls": "none", "color": "#9A9A9A", "ms": 7, "mew": 1.4, "zorder": 2}
        panel.plot(*zip(*misfits, strict=True), **look, label=what_is_too_large(shown))


def _bars(panel: Axes, rows: Rows, scales: Scales, colour: str) -> None:
    """Draw intervals of both numbers, with ends that are seen where a front runs along them."""
    (x, x_scale), (y, y_scale) = scales
    for row in rows:
        for side, (column, scale) in zip("xy", scales, strict=True):
            ends = drawn_interval(column, row)
            if ends is not None:
                away: dict[str, Any] = {f"{side}err": [[abs(row[column] - end) * scale] for end in ends]}
                look: dict[str, Any] = {
                    "color": colour,
                    "lw": 1.6,
                    "alpha": 0.6,
                    "capsize": 3.5,
                    "fmt": "none",
                    "zorder": 3,
                }
                panel.errorbar(row[x] * x_scale, row[y] * y_scale, **away, **look)


def _stairs(points: Sequence[tuple[float, float]], x_better: str) -> list[tuple[float, float]]:
    """The edge of the reached area: between two rows of the front, any other point is beaten by one of them."""
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


def _finding(marked: Row | None, x: str, y: str, label: str | None, series: str | None) -> str:
    """A sentence on the marked row."""
    if marked is None:
        return ""
    words = [series_name(column, marked.get(column)) for column in (series, label) if column]
    name = ", ".join(word for word in dict.fromkeys(words) if word)
    return f"{name}{': ' if name else ''}{_said(x, marked)}, {_said(y, marked)}"


def _said(column: str, row: Row) -> str:
    """A value with the name of its column: 'step 16.6 s', '141 tokens/s/GPU'."""
    name, text = title(column), cell(column, row[column])
    return f"{text} {name}" if "/s" in name else f"{name} {text}"


def _names(
    panel: Axes, led: Rows, marked: Any, edges: Sequence[tuple[float, float]], shown: Rows,
    scales: Scales, label: str | None,
) -> None:  # fmt: skip
    """Write names of the rows of fronts, the marked one first, equal ones at one place once.

    Names that find no place beside points, fronts and intervals are left out.
    """
    if label is None:
        return
    (x, x_scale), (y, y_scale) = scales
    named = sorted(led, key=lambda row: row is not marked)
    if marked is not None and not any(row is marked for row in named) and marked.get(x) is not None:
        named = [marked, *named]
    texts = {(row[x] * x_scale, row[y] * y_scale, label_text(row.get(label))): None for row in named}
    others = [(row[x] * x_scale, row[y] * y_scale) for row in shown] + list(edges)
    for row in led:  # the ends of intervals are no place for a name
        at = (row[x] * x_scale, row[y] * y_scale)
        for n, (column, scale) in enumerate(scales):
            for end in drawn_interval(column, row) or ():
                spots = [at[n] + (end * scale - at[n]) * part for part in (0.35, 0.7, 1.0)]
                others += [(spot, at[1]) if n == 0 else (at[0], spot) for spot in spots]
    words = [wrapped(text, 9.5, 120, 3) for *_, text in texts]
    name_points(panel, [(px, py) for px, py, _ in texts], words, others, size=9.5, away=8)


def label_text(value: Any) -> str:
    """A label beside a point: a number as it is read, else its words."""
    return thousands(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else str(value)
