"""Plots of result rows: grouped bars over a label, lines over a number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import axis, cell, interval_of, is_share, title
from simgpu.render.style import COLOURS, INK, MARKERS, style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from simgpu.render.fields import PlotFields

Rows = Sequence[Mapping[str, Any]]


def rows_figure(rows: Rows, plot: PlotFields, settings: Sequence[str] = ()) -> Figure:
    """The figure that a `plots` entry of an experiment file asks for; `settings` changed the rows by hand."""
    from matplotlib.figure import Figure

    with style():
        panels = len(plot.y)
        figure = Figure(figsize=(10.5 if panels == 1 else 6.4 * panels + 1.0, 5.6), layout="constrained")
        for i, column in enumerate(plot.y):
            panel = figure.add_subplot(1, panels, i + 1)
            draw = _bars if plot.kind == "bar" else _lines
            draw(panel, [row for row in rows if row.get(column) is not None], plot, column)
        handles, labels = figure.axes[0].get_legend_handles_labels()
        if len(labels) > 1 or (labels and plot.marks):
            figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 3))
        heading = heading_of(plot, settings, ", ".join(title(column) for column in plot.y))
        figure.suptitle(f"{heading}\n{_finding(rows, plot)}", fontsize=13, x=0.01, ha="left")
    return figure


def heading_of(plot: PlotFields, settings: Sequence[str], otherwise: str) -> str:
    """Title of a plot, and what the command line changed."""
    return (plot.title or otherwise) + (f"  [changed: {', '.join(settings)}]" if settings else "")


def _finding(rows: Rows, plot: PlotFields) -> str:
    """What the picture shows, from the numbers of the last column themselves."""
    column = plot.y[-1]
    known = [row for row in rows if isinstance(row.get(column), (int, float))]
    if not known:
        return ""
    if plot.kind == "bar":
        return _largest_gap(known, plot, column) or _range(known, [plot.x, plot.series], column)
    furthest = max(row[plot.x] for row in known)
    last = [row for row in known if row[plot.x] == furthest]
    return f"{title(plot.x)} {furthest}: {_range(last, [plot.series], column)}"


def _range(rows: Rows, names: Sequence[str | None], column: str) -> str:
    """Lowest and highest row of a column."""

    def described(row: Mapping[str, Any]) -> str:
        return f"{cell(column, row[column])} ({', '.join(str(row.get(name)) for name in names if name)})"

    low, high = min(rows, key=lambda row: row[column]), max(rows, key=lambda row: row[column])
    return f"{title(column)} from {described(low)} to {described(high)}"


def _largest_gap(rows: Rows, plot: PlotFields, column: str) -> str:
    """Where two series differ most; '' unless there are two."""
    series = _series(rows, plot)
    if plot.series is None or len(series) != 2:
        return ""
    values: dict[Any, dict[Any, float]] = {}
    for row in rows:
        values.setdefault(row.get(plot.x), {})[row[plot.series]] = row[column]
    pairs = {group: found for group, found in values.items() if len(found) == 2}
    if not pairs:
        return ""
    group = max(pairs, key=lambda key: abs(pairs[key][series[0]] - pairs[key][series[1]]))
    both = " against ".join(f"{cell(column, pairs[group][name])} ({name})" for name in series)
    return f"largest gap in {title(column)}: {group}, {both}"


def _series(rows: Rows, plot: PlotFields) -> list[Any]:
    return list(dict.fromkeys(row.get(plot.series) for row in rows)) if plot.series else [None]


def _series_label(plot: PlotFields, name: Any) -> str | None:
    """Name of a series in the legend; a number says what it is."""
    if name is None or plot.series is None:
        return None
    return str(name) if isinstance(name, str) else f"{title(plot.series)} {name}"


def _members(rows: Rows, plot: PlotFields, series: Any) -> list[Mapping[str, Any]]:
    return [row for row in rows if plot.series is None or row.get(plot.series) == series]


def _mark_lines(members: Rows, mark: str | None, at: int, width: float) -> list[tuple[tuple[float, float], float]]:
    """Ends and height of what marks the bars of a group: one line where all have the same figure, else one for each."""
    marked = {i: row[mark] for i, row in enumerate(members) if mark and row.get(mark) is not None}
    if len(set(marked.values())) == 1:
        return [((at - 0.45, at + 0.45), next(iter(marked.values())))]
    middles = {i: at + (i - (len(members) - 1) / 2) * width for i in marked}
    return [((middles[i] - 0.46 * width, middles[i] + 0.46 * width), value) for i, value in marked.items()]


def _bars(panel: Axes, rows: Rows, plot: PlotFields, column: str) -> None:
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row.get(plot.x), []).append(row)
    series = _series(rows, plot)
    colours = {name: COLOURS[s % 7] for s, name in enumerate(series)}
    unnamed = set(series)
    width = 0.8 / max(map(len, groups.values()), default=1)
    label, scale = axis(column, [row[column] for row in rows])
    top_of_bars: list[tuple[float, float, str]] = []
    tallest = 1e-300
    for g, members in enumerate(groups.values()):
        members.sort(key=lambda row: series.index(row.get(plot.series) if plot.series else None))
        for i, row in enumerate(members):
            name = row.get(plot.series) if plot.series else None
            at = g + (i - (len(members) - 1) / 2) * width
            shown_as = _series_label(plot, name) if name in unnamed else None
            unnamed.discard(name)
            panel.bar(at, row[column] * scale, width * 0.92, color=colours[name], label=shown_as)
            ends = interval_of(column, row)
            if ends is not None:
                away = [[abs(row[column] - end) * scale] for end in ends]
                shifted = at + 0.41 * width  # beside the number, not through it
                panel.errorbar(shifted, row[column] * scale, away, color=INK, capsize=3, lw=1.3, zorder=4)
                tallest = max(tallest, ends[1] * scale)
            number_at = at if ends is None else at - 0.05 * width
            top_of_bars.append((number_at, row[column] * scale, cell(column, row[column])))
    mark = plot.marks.get(column)
    lines = [line for g, members in enumerate(groups.values()) for line in _mark_lines(members, mark, g, width)]
    for i, (ends, value) in enumerate(lines):
        named = title(str(mark)) if i == 0 else None
        panel.plot(ends, [value * scale] * 2, color=INK, ls="--", lw=1.6, label=named)
    crowded = len(groups) > 5
    names = [str(group) if crowded else str(group).replace(", ", "\n") for group in groups]
    panel.set_xticks(range(len(groups)), names, rotation=25 if crowded else 0, ha="right" if crowded else "center")
    panel.set_ylabel(label)
    panel.grid(axis="x", visible=False)
    top = max([row[column] * scale for row in rows] + [value * scale for _, value in lines] + [tallest])
    panel.set_ylim(0, 100 if is_share(column) and top <= 97 else 1.12 * top)
    marks = [row[mark] * scale for row in rows if mark and row.get(mark) is not None]
    for at, value, text in top_of_bars:  # inside the bar where it is tall enough, so that marks stay clear of it
        high = panel.get_ylim()[1]
        inside = value > 0.12 * high and len(top_of_bars) <= 10
        crossed = len(series) == 1 and inside and any(0 <= value - one < 0.1 * high for one in marks)
        panel.annotate(
            text,
            (at, 0.5 * value if crossed else value),
            (0, -7 if inside else 4),
            textcoords="offset points",
            ha="center",
            va="top" if inside else "bottom",
            color="white" if inside else INK,
            weight="bold" if inside else "normal",
            fontsize=11 if len(top_of_bars) <= 10 else 8,
        )


def _coincide(points: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> bool:
    """Whether two lines lie on each other in at least half of their points (within 2 % of the tallest)."""
    tall = max([y for _, y in [*points, *other]] + [1e-300])
    known = dict(other)
    close = [abs(y - known[x]) <= 0.02 * tall for x, y in points if x in known]
    return bool(close) and 2 * sum(close) >= len(close) + 1


def _tick(value: float) -> str:
    """A number on a logarithmic axis: 0.5, 200, 20k, 5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):g}{unit}"
    return f"{value:g}"


def _too_large(row: Mapping[str, Any]) -> bool:
    """Whether the memory of a row does not fit; of prefill the weights alone are known."""
    return row.get("memory_fits", row.get("weights_fit", True)) is False


def _what_is_too_large(rows: Rows) -> str:
    return "does not fit" if any("memory_fits" in row for row in rows) else "weights do not fit"


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
            label=_series_label(plot, name),
            color=COLOURS[s % 7],
            marker=MARKERS[s % 7],
            ls=(s, (2, 2.5)) if hidden else ("-", "--", "-.", ":")[s // 7 % 4],
            ms=7 + 3 * sum(_coincide(points, other) for other in drawn),
            mfc="none" if hidden else COLOURS[s % 7],
        )
        ranges = [(row[plot.x], *(interval_of(column, row) or (row[column],) * 2)) for row in members]
        if any(low < high for _, low, high in ranges):
            xs_, low, high = (list(values) for values in zip(*ranges, strict=True))
            band = ([y * scale for y in low], [y * scale for y in high])
            panel.fill_between(xs_, *band, color=COLOURS[s % 7], alpha=0.15, lw=0, zorder=1)
        drawn.append(points)
    misfits = [(row[plot.x], row[column] * scale) for row in rows if _too_large(row)]
    if misfits:
        at, heights = [x for x, _ in misfits], [y for _, y in misfits]
        panel.plot(at, heights, ls="", marker="x", color=INK, ms=12, mew=1.6, label=_what_is_too_large(rows), zorder=5)
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
        panel.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _tick(y)))
    else:
        panel.set_ylim(bottom=0)
    panel.set_xlabel({"tp": "Tensor-parallel GPUs", "dp": "Data-parallel GPUs"}.get(plot.x, axis(plot.x, xs)[0]))
    panel.set_ylabel(label)
