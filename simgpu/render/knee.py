"""Where a server begins to fall behind its load: rows that are stationary, rows that are not, and those between.

A row `unsure` lies on both sides of saturation within its interval: its range is the answer, and no number in it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from simgpu.render.columns import cell, drawn_interval, title, unsure
from simgpu.render.series import Row, Rows
from simgpu.render.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes

RANGE = "range only: saturated within the interval"
BEHIND = "falls behind: requests come faster than they are answered"
KNEE = "knee"


def falls_behind(row: Row) -> bool:
    """True if requests come faster than a server answers them."""
    return row.get("stationary") == "no"


def sure(rows: Rows) -> Rows:
    """Rows that have a number: all but those that saturation runs through."""
    return [row for row in rows if not unsure(row)]


def knee_of(rows: Rows, x: str) -> tuple[float, float] | None:
    """The last x up to which all rows are stationary, and the first from which on none is; None without both."""
    known = sorted((row[x], row.get("stationary")) for row in rows if row.get("stationary") in ("yes", "no", "unsure"))
    steady = [at for at, how in known if how == "yes"]
    behind = [at for at, how in known if how == "no"]
    if not steady or not behind or max(steady) > min(behind):
        return None
    return max(steady), min(behind)


def knee_words(rows: Rows, x: str) -> str:
    """A sentence on where the knee lies; '' where there is none."""
    found = knee_of(rows, x)
    if found is None:
        return ""
    return f"keeps up to {title(x)} {cell(x, found[0])}, falls behind from {cell(x, found[1])} on"


def mark_knee(panel: Axes, rows: Rows, x: str, column: str, scale: float, colour: str) -> None:
    """Mark the knee, the ranges of rows that have no number, and rows that fall behind."""
    for row in rows:
        ends = drawn_interval(column, row)
        if unsure(row) and ends is not None:
            panel.plot(
                [row[x]] * 2, [end * scale for end in ends], color=colour, lw=5, alpha=0.35, label=RANGE, zorder=3
            )
    behind = [(row[x], row[column] * scale) for row in rows if falls_behind(row)]
    if behind:
        look: dict[str, Any] = {"ls": "", "marker": "o", "mfc": "white", "mec": colour, "ms": 8, "mew": 1.6}
        panel.plot(*zip(*behind, strict=True), **look, label=BEHIND, zorder=5)
    found = knee_of(rows, x)
    if found is not None:
        panel.axvspan(*found, color=INK, alpha=0.08, lw=0, zorder=0, label=KNEE)
