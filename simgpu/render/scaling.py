"""Scaling: speed-up beside the ideal line, and efficiency, over the number of GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simgpu.columns import better
from simgpu.render.columns import interval_of, title
from simgpu.render.plots import number_axis
from simgpu.render.series import Row, Rows, line_look, members, numbers_of, series_name, series_of, too_large
from simgpu.render.series import what_is_too_large as too_large_words
from simgpu.render.style import INK, style
from simgpu.render.text import heading, legend_below, short_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

APART = 1.035
"""Neighbouring lines stand apart by this factor, so that their intervals can be told apart."""
PANEL = 5.9
"""Width of a panel, inches."""


@dataclass(frozen=True)
class Point:
    """A row of a line: x, its speed-up and efficiency (ideal: 1), each with P10 and P90, and whether it fits."""

    x: float
    speedup: tuple[float, float, float]
    efficiency: tuple[float, float, float]
    fits: bool


def scaling_points(rows: Rows, x: str, column: str | None, series: str | None) -> dict[Any, list[Point]]:
    """Points of each line, by the value of `series`.

    column
        The column that is compared with the row of the smallest `x` of its line: a time (less is better) or a rate. The
        ideal is in proportion to x; a rate for each GPU (`..._per_gpu`) stays equal. None: `speedup` and `efficiency`
        of the rows, which are relative to one GPU.

    P10 and P90 are those of the row; the row that it is compared with is taken as it is, so that the first of a line
    has none. An interval that begins below the ideal ends at the ideal.
    """
    lines: dict[Any, list[Point]] = {}
    for name in series_of(rows, series):
        some = numbers_of(members(rows, series, name), x, column or "efficiency", *([] if column else ["speedup"]))
        some = sorted(some, key=lambda row: row[x])
        if some:
            lines[name] = [_absolute(row, x) if column is None else _relative(row, some[0], x, column) for row in some]
    return lines


def _absolute(row: Row, x: str) -> Point:
    return Point(row[x], *_below_ideal(_ends("speedup", row), row[x]), not too_large(row))


def _relative(row: Row, first: Row, x: str, column: str) -> Point:
    value, low, high = _ends(column, row) if row is not first else (row[column],) * 3
    more = row[x] / first[x]
    if better(column) == "lower":
        speedup = tuple(first[column] / one for one in (value, high, low))
    elif column.endswith("_per_gpu"):
        speedup = tuple(one / first[column] * more for one in (value, low, high))
    else:
        speedup = tuple(one / first[column] for one in (value, low, high))
    return Point(row[x], *_below_ideal(speedup, more), not too_large(row))


def _below_ideal(
    speedup: Sequence[float], ideal: float
) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Speed-up and efficiency with their ends; a value below the ideal has an end at the ideal at most."""
    middle, less, most = speedup
    most = min(most, max(ideal, middle))
    return (middle, less, most), (middle / ideal, less / ideal, most / ideal)


def _ends(column: str, row: Row) -> tuple[float, float, float]:
    low, high = interval_of(column, row) or (row[column],) * 2
    return row[column], low, high


def scaling_figure(
    rows: Rows, x: str = "gpus", column: str | None = None, series: str | None = None, words: str = ""
) -> Figure:
    """Two panels, speed-up (log-log) and efficiency, with 80 % intervals; see `scaling_points`."""
    from matplotlib.figure import Figure

    lines = scaling_points(rows, x, column, series)
    xs = sorted({point.x for points in lines.values() for point in points})
    against = "one GPU" if column is None else f"the smallest {title(x)} of each line"
    with style():
        figure = Figure(figsize=(2 * PANEL + 0.7, 5.8), layout="constrained")
        left, right = figure.subplots(1, 2)
        for s, (name, points) in enumerate(lines.items()):
            label = series_name(series, name)
            _line(left, points, [point.speedup for point in points], 1.0, s, label)
            shift = APART ** (s - (len(lines) - 1) / 2)
            _line(right, points, [tuple(100 * one for one in p.efficiency) for p in points], shift, s, None)
        _misfits(left, right, rows, lines)
        _speed_axis(left, lines, column is None)
        right.axhline(100, color=INK, lw=1.2, ls="--")
        top = max([point.efficiency[2] for points in lines.values() for point in points], default=1.0)
        right.set_ylim(0, max(105.0, 106 * top))
        for panel in (left, right):
            number_axis(panel, x, xs, 72 * (PANEL - 0.8))
        left.set_ylabel("Speed-up")
        right.set_ylabel("Efficiency (%)")
        legend_below(figure, *left.get_legend_handles_labels())
        heading(figure, words, f"{_finding(lines, x, series)}; relative to {against}, bars: 80 % interval")
    return figure


def _line(
    panel: Axes, points: Sequence[Point], values: Sequence[tuple[float, ...]], shift: float, s: int, label: str | None
) -> None:
    at, look = [point.x * shift for point in points], line_look(s)
    away = [[one[0] - one[1] for one in values], [one[2] - one[0] for one in values]]
    panel.plot(at, [one[0] for one in values], label=label, zorder=3, **look)
    if any(low > 0 or high > 0 for low, high in zip(*away, strict=True)):
        shown = [[max(one, 0.0) for one in side] for side in away]
        panel.errorbar(at, [one[0] for one in values], shown, fmt="none", ecolor=look["color"], capsize=3, lw=1.3)


def _misfits(left: Axes, right: Axes, rows: Rows, lines: Mapping[Any, Sequence[Point]]) -> None:
    """Draw crosses on rows that do not fit the memory."""
    crosses = [
        (point, APART ** (s - (len(lines) - 1) / 2))
        for s, points in enumerate(lines.values())
        for point in points
        if not point.fits
    ]
    if crosses:
        look: dict[str, Any] = {"ls": "", "marker": "x", "color": INK, "ms": 12, "mew": 1.6, "zorder": 5}
        left.plot([p.x for p, _ in crosses], [p.speedup[0] for p, _ in crosses], **look, label=too_large_words(rows))
        right.plot([p.x * shift for p, shift in crosses], [100 * p.efficiency[0] for p, _ in crosses], **look)


def _speed_axis(panel: Axes, lines: Mapping[Any, Sequence[Point]], from_one: bool) -> None:
    """Set log-log axes and draw the ideal from the smallest x to the largest."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    firsts = {points[0].x for points in lines.values()}
    last = max(point.x for points in lines.values() for point in points)
    for first in sorted(firsts) if not from_one else [min(firsts)]:
        ends = [first, last]
        ideal = ends if from_one else [1.0, last / first]
        named = "ideal" if first == min(firsts) else None
        panel.plot(ends, ideal, color=INK, lw=1.4, ls="--", label=named, zorder=2)
    panel.set_yscale("log", base=2)
    panel.yaxis.set_major_locator(LogLocator(base=2, numticks=8))
    panel.yaxis.set_major_formatter(FuncFormatter(short_number))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.minorticks_off()


def _finding(lines: Mapping[Any, Sequence[Point]], x: str, series: str | None) -> str:
    """A sentence on the efficiency at the largest x, of the best and the worst line among rows that fit (if any do)."""
    every = [(point, name) for name, points in lines.items() for point in points]
    some = [one for one in every if one[0].fits] or every
    furthest = max(point.x for point, _ in some)
    last = sorted(((p.efficiency[0], name) for p, name in some if p.x == furthest), key=lambda one: -one[0])
    words = [f"{100 * share:.0f} % efficient{_of(series, name)}" for share, name in (last[0], *last[1:][-1:])]
    at = f"{furthest:,.10g} {title(x)}" if x == "gpus" else f"{title(x)} {furthest:,.10g}"
    return f"{at}: {', '.join([words[0], *(word.replace(' efficient', '') for word in words[1:])])}"


def _of(series: str | None, name: Any) -> str:
    named = series_name(series, name)
    return f" ({named})" if named else ""
