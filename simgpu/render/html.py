"""Tables as notebooks show them: HTML in which every text is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from simgpu.render.columns import cell_of, columns_of, title

MOST_ROWS = 50
"""Rows that a notebook shows."""


def table_html(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str] = ()) -> str:
    """Rows with the columns that are `wanted` (default: as on a terminal); a single row stands upright."""
    columns = [one for one in columns_of(rows, wanted) if any(one in row for row in rows)] if rows else []
    if not columns:
        columns = list(dict.fromkeys(key for row in rows for key in row))
    names = {column: escape(title(column)) for column in columns}
    if len(rows) == 1:
        lines = [f"<tr><th>{names[column]}</th>{_cell(column, rows[0])}</tr>" for column in columns]
        return f"<table>{''.join(lines)}</table>"
    head = "".join(f"<th>{name}</th>" for name in names.values())
    body = "".join(f"<tr>{''.join(_cell(column, row) for column in columns)}</tr>" for row in rows[:MOST_ROWS])
    more = f"<p>{len(rows) - MOST_ROWS:,} more rows</p>" if len(rows) > MOST_ROWS else ""
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def _cell(column: str, row: Mapping[str, Any]) -> str:
    number = isinstance(row.get(column), (int, float)) and not isinstance(row.get(column), bool)
    side = ' style="text-align: right"' if number else ""
    return f"<td{side}>{escape(cell_of(column, row))}</td>"
