"""Grouped bars over a label: upright where names and numbers have room, else lying."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, cell, cell_of, drawn_interval, is_share, title, unsure
from simgpu.render.knee import BEHIND, RANGE, falls_behind
from simgpu.render.series import Row, Rows, bar_look, series_name, series_of, too_large, what_is_too_large
from simgpu.render.style import INK
from simgpu.render.text import thousands, width_of, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from simgpu.render.fields import PlotFields

NAME, NUMBER = 12.0, 10.0
"""Sizes of names at the axis and of numbers at bars, points."""
LINES = 3
"""Lines that the name of a group may take below upright bars."""
FULL = 0.8
"""Share of the room of a group that its bars take."""
PANEL_POINTS = 255.0
"""Height of an upright panel, about."""
SIDE_NAME = 230.0
"""Width of names beside lying bars, points."""


@dataclass(frozen=True)
class _Bar:
    """One bar: place along the axis of names, width, row, series."""

    at: float
    width: float
    row: Row
    series: int


class Bars:
    """Bars of some columns of rows, a panel for each. `room`: width of a panel, points."""

    def __init__(self, rows: Mapping[str, Rows], plot: PlotFields, room: float) -> None:
        self.plot, self.rows, self.room = plot, rows, room
        every = {id(row): row for some in rows.values() for row in some}.values()
        self.groups = list(dict.fromkeys(row.get(plot.x) for row in every))
        self.series = series_of(list(every), plot.series)
        sizes = [sum(row.get(plot.x) == group for row in every) for group in self.groups]
        self.most = max(sizes, default=1)
        self.count = sum(sizes)
        self._named: set[str] = set()
        self.names = self._upright()
        self.flat = self.names is None
        if self.names is None:
            self.names = [wrapped(str(group), NAME, SIDE_NAME, 2) for group in self.groups]

    @property
    def height(self) -> float:
        """The height of the picture, in inches."""
        if not self.flat:
            return 5.6
        each = max(0.24 * self.most + 0.12, 0.21 * max(name.count("\n") + 1 for name in self.names or [""]) + 0.1)
        return max(4.2, 1.9 + each * len(self.groups))

    def _upright(self) -> list[str] | None:
        """Names below upright bars, in lines; None where they, or the numbers above the bars, have no room."""
        group = self.room / max(len(self.groups), 1)
        names = []
        for one in map(str, self.groups):
            parts = one.replace(", ", "\n")
            name = parts if width_of(parts, NAME) <= group - 8 else wrapped(one, NAME, group - 8)
            longest = max((width_of(word, NAME) for word in one.replace("-", "- ").split()), default=0.0)
            if name.count("\n") >= LINES or longest > group - 8:
                return None
            names.append(name)
        numbers = [cell(c, row[c]) for c, rows in self.rows.items() for row in rows]
        widest = max((width_of(number, NUMBER) for number in numbers), default=0.0)
        return names if widest <= group * FULL / self.most * 1.02 else None

    def draw(self, panel: Axes, column: str) -> None:
        """All bars of a column, with intervals, marks and numbers."""
        rows = self.rows[column]
        label, scale = axis(column, [row[column] for row in rows])
        bars, marks = self._bars(rows), self._marks(rows, column)
        for bar in bars:
            self._bar(panel, bar, column, scale)
        for i, (ends, value) in enumerate(marks):
            look: dict[str, Any] = {"color": INK, "ls": "--", "lw": 1.6, "zorder": 5}
            at = [value * scale] * 2
            named = title(self.plot.marks[column]) if i == 0 else None
            panel.plot(*((at, ends) if self.flat else (ends, at)), label=named, **look)
        reach = [row[column] for row in rows] + [value for _, value in marks]
        reach += [end for row in rows for end in drawn_interval(column, row) or ()]
        top, low = max(reach, default=1.0) * scale, min(0.0, *reach, 0.0) * scale
        high = 100.0 if is_share(column) and top <= (88 if self.flat else 97) else (top or 1.0) * 1.12
        if self.flat:
            high = max(high, top * (1 + 1.25 * self._widest(rows, column) / self.room))
        self._axes(panel, label, low * 1.1, high)
        size = NUMBER if self.count > 10 else 11.0
        room = self.room * 0.92 * FULL / self.most / (len(self.groups) + 0.2)
        widest = max((width_of(_text(column, bar.row), size, "bold") for bar in bars), default=0.0)
        fits = widest <= room * (0.76 if any(drawn_interval(column, bar.row) for bar in bars) else 0.9)
        for bar in bars:
            near = [value * scale for (low_end, high_end), value in marks if low_end <= bar.at <= high_end]
            self._number(panel, bar, column, scale, near, high, size, fits)

    def _widest(self, rows: Rows, column: str) -> float:
        return max((width_of(_text(column, row), NUMBER) + 8 for row in rows), default=0.0)

    def _bars(self, rows: Rows) -> list[_Bar]:
        bars = []
        for g, group in enumerate(self.groups):
            some = [row for row in rows if row.get(self.plot.x) == group]
            of = [self.series.index(row.get(self.plot.series) if self.plot.series else None) for row in some]
            width = FULL / self.most
            for i, (s, row) in enumerate(sorted(zip(of, some, strict=True), key=lambda one: one[0])):
                bars.append(_Bar(g + (i - (len(some) - 1) / 2) * width, width, row, s))
        return bars

    def _marks(self, rows: Rows, column: str) -> list[tuple[tuple[float, float], float]]:
        """Ends and height of the marks of a group's bars: one line where all have the same figure, else one each."""
        mark = self.plot.marks.get(column)
        marks: list[tuple[tuple[float, float], float]] = []
        for g, group in enumerate(self.groups):
            bars = [bar for bar in self._bars(rows) if bar.row.get(self.plot.x) == group]
            marked = [(bar, bar.row[mark]) for bar in bars if mark and bar.row.get(mark) is not None]
            if len({value for _, value in marked}) == 1:
                marks.append(((g - 0.45, g + 0.45), marked[0][1]))
            else:
                marks += [((bar.at - 0.46 * bar.width, bar.at + 0.46 * bar.width), value) for bar, value in marked]
        return marks

    def _bar(self, panel: Axes, bar: _Bar, column: str, scale: float) -> None:
        value, look = bar.row[column] * scale, bar_look(bar.series)
        if too_large(bar.row):
            look |= {"hatch": "////", "alpha": 0.55}
            self._once(panel, what_is_too_large([bar.row]), {"color": "#9A9A9A", "hatch": "////", "edgecolor": "white"})
        elif falls_behind(bar.row):
            look |= {"hatch": "\\\\", "alpha": 0.55}
            self._once(panel, BEHIND, {"color": "#9A9A9A", "hatch": "\\\\", "edgecolor": "white"})
        name = series_name(self.plot.series, self.series[bar.series])
        if name is not None:
            self._once(panel, name, bar_look(bar.series))
        draw = panel.barh if self.flat else panel.bar
        ends = drawn_interval(column, bar.row)
        if unsure(bar.row) and ends is not None:
            look |= {"alpha": 0.45, "left" if self.flat else "bottom": ends[0] * scale}
            draw(bar.at, (ends[1] - ends[0]) * scale, 0.92 * bar.width, **look)
            self._once(panel, RANGE, bar_look(bar.series) | {"alpha": 0.45})
            return
        draw(bar.at, value, 0.92 * bar.width, **look)
        if ends is None:
            return
        away = [[abs(bar.row[column] - end) * scale] for end in ends]
        look = {"color": INK, "capsize": 3, "lw": 1.3, "zorder": 4, "fmt": "none"}
        if self.flat:
            panel.errorbar(value, bar.at, xerr=away, **look)
        else:  # beside the number, not through it
            panel.errorbar(bar.at + 0.38 * bar.width, value, yerr=away, **look)

    def _once(self, panel: Axes, name: str, look: dict[str, Any]) -> None:
        """An entry of the legend, for the first bar of its kind."""
        if name not in self._named:
            self._named.add(name)
            (panel.barh if self.flat else panel.bar)([0], [0], label=name, **look)

    def _axes(self, panel: Axes, label: str, low: float, high: float) -> None:
        from matplotlib.ticker import FuncFormatter

        places, ends = range(len(self.groups)), (-0.6, len(self.groups) - 0.4)
        if self.flat:
            panel.set_yticks(places, self.names, fontsize=NAME)
            panel.set_ylim(*reversed(ends))
            panel.set_xlim(low, high)
            panel.set_xlabel(label)
            panel.xaxis.set_major_formatter(FuncFormatter(thousands))
        else:
            panel.set_xticks(places, self.names, fontsize=NAME)
            panel.set_xlim(*ends)
            panel.set_ylim(low, high)
            panel.set_ylabel(label)
            panel.yaxis.set_major_formatter(FuncFormatter(thousands))
        if all(isinstance(group, (int, float)) for group in self.groups):  # numbers say what they are
            (panel.set_ylabel if self.flat else panel.set_xlabel)(axis(self.plot.x, [1.0])[0])
        panel.grid(axis="y" if self.flat else "x", visible=False)
        panel.tick_params(axis="y" if self.flat else "x", length=0)

    def _number(
        self, panel: Axes, bar: _Bar, column: str, scale: float, marks: Sequence[float], high: float, size: float,
        fits: bool,
    ) -> None:  # fmt: skip
        """Write the value of a bar.

        It stands inside the bar where all are narrow enough and the bar is tall enough, else beyond its interval and
        its mark.
        """
        value, text = bar.row[column] * scale, _text(column, bar.row)
        ends = drawn_interval(column, bar.row)
        fits = fits and not unsure(bar.row)
        end = max(value, ends[1] * scale if ends else value)
        look: dict[str, Any] = {"textcoords": "offset points", "fontsize": size, "zorder": 6, "color": INK}
        if self.flat:
            end = max(end, *_within(marks, end, end + 0.02 * high), end)
            panel.annotate(text, (end, bar.at), (5, 0), va="center", bbox=_BEHIND, **look)
            return
        point = high / PANEL_POINTS
        if fits and value > 2.6 * size * point:
            crossed = _within(marks, value - (8 + 1.2 * size) * point, value - 4 * point)
            look |= {"weight": "bold", "color": INK if too_large(bar.row) or falls_behind(bar.row) else "white"}
            at = bar.at - (0.06 * bar.width if ends else 0.0)
            panel.annotate(text, (at, 0.55 * value if crossed else value), (0, -6), ha="center", va="top", **look)
            return
        for mark in sorted(marks):
            if end - point <= mark <= end + (6 + 1.2 * size) * point:
                end = mark
        panel.annotate(text, (bar.at, end), (0, 4), ha="center", va="bottom", **look)


_BEHIND = {"boxstyle": "square,pad=0.1", "facecolor": "white", "edgecolor": "none"}


def _text(column: str, row: Row) -> str:
    """The value of a bar, or the range of one that has no value."""
    return cell_of(column, row) if unsure(row) else cell(column, row[column])


def _within(values: Sequence[float], low: float, high: float) -> list[float]:
    return [value for value in values if low <= value <= high]
