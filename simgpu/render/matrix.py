"""A number over two labels as a table of coloured cells, such as the GPUs that a model needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import TYPE_CHECKING, Any

from simgpu.render.columns import cell, title
from simgpu.render.style import INK, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTHING = "–"


def matrix_figure(
    rows: Sequence[Mapping[str, Any]], across: str, down: str, column: str, heading: str, note: str = ""
) -> Figure:
    """Cells of `column` with `across` and `down` as labels; darker is more, and a dash is none."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    tops = list(dict.fromkeys(str(row.get(across)) for row in rows))
    sides = list(dict.fromkeys(str(row.get(down)) for row in rows))
    values = {(str(row.get(across)), str(row.get(down))): row.get(column) for row in rows}
    known = [value for value in values.values() if isinstance(value, (int, float)) and value > 0]
    low, high = min(known, default=1), max(known, default=1)
    shades = colormaps["cividis_r"]
    with style():
        width = max(7.0, 2.9 + 0.92 * len(tops))
        figure = Figure(figsize=(width, 1.9 + 0.36 * len(sides)), layout="constrained")
        panel = figure.subplots()
        for i, top in enumerate(tops):
            for j, side in enumerate(sides):
                value = values.get((top, side))
                if not isinstance(value, (int, float)) or value <= 0:
                    panel.text(i, j, NOTHING, ha="center", va="center", color=INK, fontsize=11)
                    continue
                share = 0.0 if high == low else log2(value / low) / log2(high / low)
                colour = shades(0.05 + 0.75 * share)
                panel.add_patch(Rectangle((i - 0.48, j - 0.46), 0.96, 0.92, facecolor=colour, edgecolor="none"))
                dark = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] < 0.5
                text = cell(column, value)
                panel.text(i, j, text, ha="center", va="center", color="white" if dark else INK, fontsize=11)
        panel.set_xlim(-0.5, len(tops) - 0.5)
        panel.set_ylim(len(sides) - 0.5, -0.5)
        long = max(map(len, tops), default=0) > 7
        panel.set_xticks(range(len(tops)), tops, rotation=30 if long else 0, ha="right" if long else "center")
        panel.set_yticks(range(len(sides)), sides)
        panel.grid(visible=False)
        panel.tick_params(length=0)
        for spine in panel.spines.values():
            spine.set_visible(False)
        figure.suptitle(f"{heading}\n{note or title(column)}", fontsize=13, x=0.01, ha="left")
    return figure
