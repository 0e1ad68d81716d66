"""Rows by series: their names, how each is drawn, and which of them do not fit the memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simgpu.render.columns import title
from simgpu.render.style import COLOURS, MARKERS

Row = Mapping[str, Any]
Rows = Sequence[Row]

_DASHES = ("-", "--", "-.", ":")
_HATCHES = ("", "..", "xx", "oo")


def series_of(rows: Rows, column: str | None) -> list[Any]:
    """Values of the column that tells lines apart, in the order of the rows; [None] where there is none."""
    return list(dict.fromkeys(row.get(column) for row in rows)) if column else [None]


def series_name(column: str | None, value: Any) -> str | None:
    """Name of a series in the legend; a number says what it is."""
    if value is None or column is None:
        return None
    return str(value) if isinstance(value, str) else f"{title(column)} {value}"


def members(rows: Rows, column: str | None, value: Any) -> list[Row]:
    """The rows of a series."""
    return [row for row in rows if column is None or row.get(column) == value]


def line_look(s: int) -> dict[str, Any]:
    """Colour, marker and dashes of the s-th line: after the seventh the dashes change."""
    return {
        "color": COLOURS[s % 7],
        "marker": MARKERS[(s + s // 7) % 7],
        "ls": _DASHES[s // 7 % 4],
    }


def bar_look(s: int) -> dict[str, Any]:
    """Colour of the s-th bar; after the seventh a pattern is added."""
    return {"color": COLOURS[s % 7], "hatch": _HATCHES[s // 7 % 4], "edgecolor": "white", "linewidth": 0.0}


def too_large(row: Row) -> bool:
    """True if the memory of a row does not fit; of prefill the weights alone are known."""
    return row.get("memory_fits", row.get("weights_fit", True)) is False


def saturated(row: Row) -> bool:
    """True if requests of a server queue for a place in its batch, or come faster than it answers."""
    return row.get("saturated") is True or row.get("stationary") == "no"


def worth_choosing(rows: Rows) -> list[Row]:
    """Rows that fit and are not saturated; where all that fit are saturated, those that fit."""
    fitting = [row for row in rows if not too_large(row)]
    return [row for row in fitting if not saturated(row)] or fitting


def what_is_too_large(rows: Rows) -> str:
    """The legend's text for rows that do not fit."""
    return "does not fit" if any("memory_fits" in row for row in rows) else "weights do not fit"


def that_fit(rows: Rows) -> list[Row]:
    """Rows whose memory fits, or all where none does: the rows that a title speaks of."""
    return [row for row in rows if not too_large(row)] or list(rows)


def numbers_of(rows: Rows, *columns: str) -> list[Row]:
    """Rows that hold numbers in all of these columns."""
    return [
        row
        for row in rows
        if all(isinstance(row.get(one), (int, float)) and not isinstance(row.get(one), bool) for one in columns)
    ]
