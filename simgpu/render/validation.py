"""Output of a validation: its table, and plots of parity and of error by size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from simgpu.render.parity import diagonal
from simgpu.render.style import COLOURS, INK, MARKERS, SLIDE, style
from simgpu.render.text import heading
from simgpu.units import format_seconds

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Groups = Sequence[Mapping[str, Any]]
Points = Mapping[str, tuple[Any, Any, Any]]
"""Arrays of measured, predicted and roofline seconds of each GPU."""

SHARES = {
    "median_ape": "median",
    "mape": "mean",
    "p90_ape": "P90",
    "bias": "bias",
    "coverage80": "cover",
    "sol_median_ape": "roofline",
}
"""Columns of fractions, shown in percent, and their headings."""


def percent(value: float | None, signed: bool = False) -> str:
    """A fraction in percent, without a sign of percent."""
    return "" if value is None else f"{100 * value:{'+' if signed else ''}.1f}"


def print_scores(groups: Groups, title: str, out: IO[str]) -> None:
    """Print the scores of each group; errors in percent, the median error of the plain roofline beside them."""
    words = ("source", "gpu", "op", "dtype")
    cells = [
        [*(str(group[word]) for word in words), str(group["rows"])]
        + [percent(group[name], signed=name == "bias") for name in SHARES]
        + [str(group["regime"])]
        for group in groups
    ]
    _print(title, [*words, "rows", *(f"{name} %" for name in SHARES.values()), "constants"], cells, 4, out)


def print_between_nodes(rows: Sequence[Mapping[str, Any]], out: IO[str]) -> None:
    """Print the errors of collectives between nodes, of all and by size, operation, nodes and network."""
    shares = ("median_ape", "mape", "median_by_source", "bias", "coverage80")
    cells = [
        [row["by"], row["group"], f"{row['rows']:,}", str(row["sources"])]
        + [percent(row[name], signed=name == "bias") for name in shares]
        for row in rows
    ]
    names = ["by", "", "rows", "sources", "median %", "mean %", "by source %", "bias %", "cover %"]
    _print("Collectives between nodes, 1 KiB to 16 GiB", names, cells, 2, out)


def print_intervals(rows: Sequence[Mapping[str, Any]], outsider: Mapping[str, Any] | None, out: IO[str]) -> None:
    """Whether the intervals hold, and how wide they are, by class and distance; then what an outsider meets."""
    from simgpu.render.table import print_notes

    if not rows:
        return
    cells = [[row["class"], row["standing"], f"{row['rows']:,}", str(row["sources"]), *_held(row)] for row in rows]
    names = ["class", "distance", "rows", "sources", "inside %", "by source %", "P90 / P10", "interval score"]
    _print("80 % intervals, by class and by distance from what was measured", names, cells, 2, out)
    if outsider is not None:
        print_notes([outsider_words(outsider)], out)


def outsider_words(found: Mapping[str, Any]) -> str:
    """What rows of sources that no constant ever saw say of the intervals, in a sentence."""
    inside, by_source, width, score = _held(found)
    return (
        f"Sources that no constant ever saw: {inside} % of {found['rows']:,} rows of {found['sources']} lie "
        f"inside ({by_source} % where each source counts once), in intervals of P90 / P10 = {width}, interval score "
        f"{score}"
    )


def _held(row: Mapping[str, Any]) -> list[str]:
    """Shares inside in percent, width and score of a row of intervals."""
    shares = [f"{100 * row[name]:.0f}" for name in ("inside", "inside_by_source")]
    return [*shares, f"{row['width']:.2f}", f"{row['interval_score']:.2f}"]


def print_worst(rows: Sequence[Mapping[str, Any]], out: IO[str]) -> None:
    """Print the rows that are off most."""
    cells = [
        [
            f"{row['source']}:{row['line']}",
            *(row[word] for word in ("gpu", "op", "dtype")),
            *(format_seconds(row[time]) for time in ("measured_s", "predicted_s")),
            f"{row['factor']:.1f}x",
            row["what"],
        ]
        for row in rows
    ]
    _print("Worst rows", ["row", "gpu", "op", "dtype", "measured", "predicted", "off by", "what"], cells, 4, out)


def print_listed(title: str, rows: Sequence[Mapping[str, Any]], out: IO[str]) -> None:
    """Print rows that were not scored or are doubted: where, how many, why, on which lines of the file at first.

    Operators that share a reason share a line.
    """
    merged: dict[tuple[str, str, str], list[Mapping[str, Any]]] = {}
    for row in rows:
        merged.setdefault((row["source"], row["gpu"], row["reason"]), []).append(row)
    cells = [
        [
            source,
            gpu,
            ", ".join(row["op"] for row in members),
            str(sum(row["rows"] for row in members)),
            reason,
            _lines(members),
        ]
        for (source, gpu, reason), members in merged.items()
    ]
    if cells:
        _print(title, ["source", "gpu", "op", "rows", "reason", "lines"], cells, 3, out)


def _lines(members: Sequence[Mapping[str, Any]], most: int = 3) -> str:
    """The first line numbers of some rows: '2, 5, 9 ...'."""
    lines = sorted(line for row in members for line in row["lines"])
    more = " ..." if sum(row["rows"] for row in members) > most else ""
    return ", ".join(str(line) for line in lines[:most]) + more


def _print(title: str, columns: Sequence[str], cells: Sequence[Sequence[str]], left: int, out: IO[str]) -> None:
    """Print a table whose first `left` columns and those of words stand left, numbers right."""
    from simgpu.render.table import grid

    words = ("distance", "constants", "what", "reason", "lines", "plan", "80 % interval")
    numbers = [i for i, column in enumerate(columns) if i >= left and column not in words]
    grid(title, columns, cells, out, right=numbers)


def parity_figure(op: str, points: Points, scores: Mapping[str, Any]) -> Figure:
    """Predicted against measured seconds of one operator, a panel for each GPU."""
    import numpy as np

    with style():
        every = np.concatenate([column for series in points.values() for column in series[:2]])
        ends = [float(every.min()) / 1.5, float(every.max()) * 1.5]
        figure, panels = _panels(points, 3.9, 3.7)
        for i, (panel, (measured, predicted, _)) in enumerate(zip(panels, points.values(), strict=True)):
            shown = _thinned(len(measured), 4000)
            _dots(panel, measured[shown], predicted[shown], i)
            diagonal(panel, ends, (2.0, 0.5))
            panel.set_xscale("log")
            panel.set_yscale("log")
            _time_axis(panel.xaxis)
            _time_axis(panel.yaxis)
        figure.supylabel("predicted time", fontsize=12)
        about = "line: predicted = measured; dotted: twice too slow, twice too fast"
        heading(figure, _finding(op, scores), about)
    return figure


def error_figure(op: str, points: Points, scores: Mapping[str, Any]) -> Figure:
    """Predicted over measured by measured seconds, a panel for each GPU, with the plain roofline beside it."""
    import numpy as np

    with style():
        figure, panels = _panels(points, 4.3, 3.2)
        ticks = (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0)
        for i, (panel, (measured, predicted, roofline)) in enumerate(zip(panels, points.values(), strict=True)):
            ratio = np.clip(predicted / measured, ticks[0], ticks[-1])
            shown = _thinned(len(measured), 1500)
            _dots(panel, measured[shown], ratio[shown], i, small=True)
            at, middle, low, high = _binned(measured, ratio)
            colour = COLOURS[i % len(COLOURS)]
            panel.fill_between(at, low, high, color=colour, alpha=0.25, lw=0, label="middle 80 % of rows")
            panel.plot(at, middle, color=colour, marker=MARKERS[i % len(MARKERS)], ms=5, label="median")
            at, middle, _, _ = _binned(measured, np.clip(roofline / measured, ticks[0], ticks[-1]))
            panel.plot(at, middle, color=INK, lw=1.6, ls="--", label="median of the plain roofline")
            panel.axhline(1.0, color=INK, lw=1.2)
            panel.set_xscale("log")
            _time_axis(panel.xaxis)
            panel.set_yscale("log")
            panel.set_ylim(ticks[0] / 1.05, ticks[-1] * 1.05)
            panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
        figure.supylabel("predicted / measured", fontsize=12)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        about = "by size; rows off by more than 4x are drawn at the edge"
        heading(figure, _finding(op, scores), about)
    return figure


def _finding(op: str, scores: Mapping[str, Any]) -> str:
    """A sentence on what the picture shows."""
    words = {"gemm": "Matrix multiplication", "moe": "Mixture-of-experts layer"}
    name = words.get(op, op.replace("_", " ").capitalize())
    off = f"median error {percent(scores['median_ape'])} % (plain roofline {percent(scores['sol_median_ape'])} %)"
    return f"{name}: {off}\n90 % of rows within {percent(scores['p90_ape'])} %"


def _panels(points: Points, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A panel for each GPU, at most three in a row, with shared axes."""
    from matplotlib.figure import Figure

    columns = min(len(points), 3)
    rows = -(-len(points) // columns)
    size = (min(max(width * columns + 0.6, 8.6), SLIDE), height * rows + 1.3)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    panels = list(grid.flat)
    for panel in panels[len(points) :]:
        panel.remove()
    for panel, (gpu, series) in zip(panels, points.items(), strict=False):
        panel.set_title(f"{gpu} ({len(series[0]):,} rows)", fontsize=12)
    for panel in panels[max(len(points) - columns, 0) : len(points)]:
        panel.tick_params(labelbottom=True)
        panel.set_xlabel("measured time")
    return figure, panels[: len(points)]


def _thinned(count: int, most: int) -> Any:
    """Positions of at most `most` rows, spread evenly."""
    import numpy as np

    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(int))


def _dots(panel: Axes, x: Any, y: Any, i: int, small: bool = False) -> None:
    many = len(x) > 100
    size = (2.5 if small else 3.5) if many else 6
    marker = MARKERS[i % len(MARKERS)]
    alpha = (0.2 if small else 0.35) if many else 0.8
    colour = COLOURS[i % len(COLOURS)]
    panel.plot(x, y, ls="none", marker=marker, ms=size, mew=0, alpha=alpha, color=colour, rasterized=True)


def _binned(x: Any, y: Any, bins: int = 12) -> tuple[list[float], ...]:
    """Middle of bin, median, P10 and P90 of `y` in logarithmic bins of `x` that hold 5 rows or more."""
    import numpy as np

    size = np.log10(x)
    edges = np.linspace(size.min(), size.max() + 1e-9, bins + 1)
    where = np.digitize(size, edges) - 1
    binned: tuple[list[float], ...] = ([], [], [], [])
    for b in range(bins):
        members = y[where == b]
        if len(members) >= min(5, len(y)):
            values = (10 ** ((edges[b] + edges[b + 1]) / 2), *np.quantile(members, [0.5, 0.1, 0.9]))
            for column, value in zip(binned, values, strict=True):
                column.append(float(value))
    return binned


def _time_axis(axis: Any) -> None:
    """A logarithmic axis of time, with units at the ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    near = high < 30 * low  # powers of ten alone would be one tick or none
    axis.set_major_locator(LogLocator(subs=(1, 2, 5)) if near else LogLocator(base=10, numticks=5))
    axis.set_major_formatter(FuncFormatter(lambda seconds, _: format_seconds(seconds)))
    axis.set_minor_formatter(NullFormatter())
