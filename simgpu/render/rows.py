"""Pictures that need nothing but rows.

They are what a `plots` entry asks for, of an experiment or of any table with its columns.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from simgpu.render.columns import title
from simgpu.render.fields import rows_of
from simgpu.render.plots import heading_of, rows_figure
from simgpu.render.series import Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from simgpu.render.fields import PlotFields

Draw = Callable[[Rows, "PlotFields", str], "Figure"]


def figure_of_rows(rows: Rows, plot: PlotFields, settings: Sequence[str] = (), subject: str = "") -> Figure:
    """The picture of a plot whose kind is one of `ROW_KINDS`.

    `settings` changed the rows by hand, `subject` is what they are about: the title of the experiment.
    """
    return _DRAW[plot.kind](rows_of(rows, plot), plot, heading_of(plot, settings, _what(plot), subject))


def _what(plot: PlotFields) -> str:
    """Words for the columns that are drawn, for a plot to which the file gives no title."""
    columns = [title(column) for column in plot.y]
    if plot.kind in ("curve", "pareto"):
        return f"{columns[0]} over {title(plot.x)}"
    if plot.kind in ("matrix", "heatmap"):
        return f"{columns[0]} by {title(plot.x)} and {title(plot.series or '')}"
    if plot.kind == "scaling":
        return f"{columns[0] if columns else 'speed-up and efficiency'} over {title(plot.x)}"
    if plot.kind == "parity":
        return f"{columns[0]}, predicted against published"
    if plot.kind in ("cost", "breakeven") and not columns:
        return "what it costs" if plot.kind == "cost" else "owned against rented"
    if plot.kind == "stack" and not columns:
        return "parts of the step"
    return " and ".join([", ".join(columns[:-1]), columns[-1]] if len(columns) > 1 else columns)


def bar_name(row: Mapping[str, object], plot: PlotFields) -> str:
    """The name of a bar or panel: its value of x, and of the series."""
    return ", ".join(str(row.get(key)) for key in (plot.x, plot.series) if key)


def _curve(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.curve import curve_figure

    return curve_figure(rows, plot, words)


def _matrix(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.matrix import matrix_figure

    return matrix_figure(rows, plot.x, plot.series or "", plot.y[0], words)


def _heatmap(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.matrix import heatmap_figure

    return heatmap_figure(rows, plot.x, plot.series or "", plot.y[0], words, plot.better.get(plot.y[0]))


def _stack(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.stack import stack_figure

    return stack_figure({bar_name(row, plot): row for row in rows}, plot.y, words)


def _scaling(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.scaling import scaling_figure

    return scaling_figure(rows, plot.x, plot.y[0] if plot.y else None, plot.series, words)


def _pareto(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.pareto import pareto_figure

    wanted = [i for i, row in enumerate(rows) if all(row.get(key) == value for key, value in plot.chosen.items())]
    chosen = wanted[0] if plot.chosen and wanted else None
    return pareto_figure(rows, plot.x, plot.y[0], chosen, plot.label, words, plot.better, plot.series)


def _parity(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.parity import parity_figure

    return parity_figure(rows, plot.x, plot.y[0], plot.series, plot.label, words)


def _cost(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.cost import cost_figure

    return cost_figure({bar_name(row, plot): row for row in rows}, plot.y[0] if plot.y else None, words)


def _breakeven(rows: Rows, plot: PlotFields, words: str) -> Figure:
    from simgpu.render.cost import breakeven_figure

    return breakeven_figure({bar_name(row, plot): row for row in rows}, plot.y[0] if plot.y else None, words)


_DRAW: dict[str, Draw] = {
    "bar": rows_figure,
    "line": rows_figure,
    "curve": _curve,
    "matrix": _matrix,
    "heatmap": _heatmap,
    "stack": _stack,
    "scaling": _scaling,
    "pareto": _pareto,
    "parity": _parity,
    "cost": _cost,
    "breakeven": _breakeven,
}
"""The function that draws each kind."""

ROW_KINDS = tuple(_DRAW)
"""Kinds of plots that need nothing but rows."""
