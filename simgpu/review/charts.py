"""Interactive pictures of rows: the data that plotly.js draws in the page, and the library itself.

plotly.js takes some HTML in names (bold, links); names of strangers are escaped, so that they stay text. Figures that
are not of rows (timelines, machines) have no interactive form: their drawn picture stands in the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from simgpu.render.columns import axis, cell, drawn_interval, title
from simgpu.render.fields import PlotFields, rows_of
from simgpu.render.series import members, numbers_of, series_name, series_of, too_large
from simgpu.render.style import COLOURS
from simgpu.review.subject import Row, Rows
from simgpu.terminal import plain

KINDS = ("bar", "line", "curve", "pareto")
"""Kinds of plots that have an interactive form."""
MARKS = ("circle", "square", "triangle-up", "diamond", "triangle-down", "cross", "star")
MISFIT = "x"
"""The mark of a row that does not fit the memory, as in drawn pictures."""
DASHES = ("solid", "dash", "dashdot", "dot")
MOST_POINTS = 20_000
PLOTLY = "plotly"


def library() -> str:
    """plotly.js, as the pip package `plotly` carries it; '' where that is not installed."""
    found = find_spec(PLOTLY)
    if found is None or not found.submodule_search_locations:
        return ""
    file = Path(next(iter(found.submodule_search_locations))) / "package_data" / "plotly.min.js"
    return file.read_text(encoding="utf-8") if file.is_file() else ""


def charts_of(rows: Rows, plot: PlotFields) -> list[dict[str, Any]]:
    """A chart (traces and layout) for each panel of a plot; none of a kind that has no interactive form."""
    if plot.kind not in KINDS:
        return []
    wanted = rows_of(rows, plot)
    made = [_chart(numbers_of(wanted, column), plot, column) for column in plot.y]
    return [one for one in made if one["data"] and sum(len(trace["y"]) for trace in one["data"]) <= MOST_POINTS]


def _chart(rows: Rows, plot: PlotFields, column: str) -> dict[str, Any]:
    """The chart of one column over x, a trace for each series."""
    words, scale = axis(column, [row[column] for row in rows])
    numbered = plot.kind != "bar" and len(numbers_of(rows, plot.x)) == len(rows)
    across, factor = axis(plot.x, [row[plot.x] for row in rows]) if numbered and rows else (title(plot.x), 1.0)
    traces = []
    for s, value in enumerate(series_of(rows, plot.series)):
        found = members(rows, plot.series, value)
        if plot.kind == "line" and numbered:
            found = sorted(found, key=lambda row: row[plot.x])
        places = [row[plot.x] * factor for row in found] if numbered else [shown(row.get(plot.x)) for row in found]
        traces.append(
            _trace(found, plot, column, (places, scale), s) | {"name": shown(series_name(plot.series, value))}
        )
    layout: dict[str, Any] = {
        "yaxis": {"title": {"text": shown(words)}, "rangemode": "tozero" if plot.kind == "bar" else "normal"},
        "xaxis": {"title": {"text": shown(across)}},
        "showlegend": len(traces) > 1,
    }
    if not numbered:
        layout["xaxis"]["type"] = "category"
    return {"data": traces, "layout": layout}


def _trace(rows: Rows, plot: PlotFields, column: str, scaled: tuple[Sequence[Any], float], s: int) -> dict[str, Any]:
    """Bars or points of a series with their intervals; `scaled` holds their places on x and the factor of y."""
    places, scale = scaled
    ends = [drawn_interval(column, row) for row in rows]
    trace: dict[str, Any] = {
        "x": list(places), "y": [row[column] * scale for row in rows],
        "text": [_hover(row, plot, column) for row in rows], "hovertemplate": "%{text}<extra></extra>",
    }  # fmt: skip
    if any(ends):
        trace["error_y"] = {
            "type": "data", "symmetric": False, "thickness": 1.2,
            "array": [(one[1] - row[column]) * scale if one else 0 for one, row in zip(ends, rows, strict=True)],
            "arrayminus": [(row[column] - one[0]) * scale if one else 0 for one, row in zip(ends, rows, strict=True)],
        }  # fmt: skip
    colour = COLOURS[s % 6]  # the seventh is black, which a dark page hides
    if plot.kind == "bar":
        pattern = ["x" if too_large(row) else ("", "/", "-", ".")[s // 6 % 4] for row in rows]
        return trace | {
            "type": "bar",
            "textposition": "none",
            "marker": {"color": colour, "pattern": {"shape": pattern}},
        }
    mode = "markers" if plot.kind == "pareto" else "lines+markers"
    look = {"color": colour, "symbol": [MISFIT if too_large(row) else MARKS[s % len(MARKS)] for row in rows], "size": 9}
    return trace | {
        "type": "scatter",
        "mode": mode,
        "marker": look,
        "line": {"color": colour, "dash": DASHES[s // 6 % 4]},
    }


def _hover(row: Row, plot: PlotFields, column: str) -> str:
    """What a point says: its names, its value, its interval."""
    names = [(one, row.get(one)) for one in (plot.label, plot.series, plot.x) if one and row.get(one) is not None]
    lines = [f"{shown(title(one))}: {shown(cell(one, value))}" for one, value in names]
    lines.append(f"<b>{shown(title(column))}: {shown(cell(column, row[column]))}</b>")
    if ends := drawn_interval(column, row):
        lines.append(f"80 %: {shown(cell(column, ends[0]))} to {shown(cell(column, ends[1]))}")
    lines += ["does not fit the memory"] if too_large(row) else []
    return "<br>".join(lines)


def shown(value: object) -> str:
    """A name as plotly.js shows it as it stands."""
    return escape(plain("" if value is None else str(value)), quote=False)


def tornado_chart(change: Mapping[str, Any]) -> dict[str, Any]:
    """The tornado of a sensitivity: for each input the relative change of the answer when it is less, and more."""
    rows = [row for row in change["rows"] if row.get("value_less") is not None or row.get("value_more") is not None]
    rows = list(reversed(rows[:12]))
    traces = []
    for s, side in enumerate(("less", "more")):
        ends = [row.get(f"value_{side}") for row in rows]
        moved = [None if end is None else 100 * (end / row["value"] - 1) for end, row in zip(ends, rows, strict=True)]
        traces.append(
            {
                "type": "bar", "orientation": "h", "name": f"{100 * change['change']:g} % {side}", "x": moved,
                "y": [shown(row.get("title") or row["input"]) for row in rows], "marker": {"color": COLOURS[s]},
                "hovertemplate": "%{y}: %{x:+.2f} %<extra>%{fullData.name}</extra>",
            }
        )  # fmt: skip
    layout = {
        "barmode": "overlay", "showlegend": True, "yaxis": {"automargin": True, "type": "category"},
        "xaxis": {"title": {"text": shown(f"change of {title(change['column'])} (%)")}},
    }  # fmt: skip
    return {"data": traces, "layout": layout}
