"""A number over two axes as coloured cells: a table of labels, or a heatmap of what was varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log2
from typing import TYPE_CHECKING, Any

from simgpu.columns import better
from simgpu.render.columns import axis, cell, title
from simgpu.render.series import saturated, too_large, what_is_too_large, worth_choosing
from simgpu.render.style import INK, readable_on, style
from simgpu.render.text import heading as headline
from simgpu.render.text import legend_below, thousands, width_of, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure

Cells = Mapping[tuple[Any, Any], Mapping[str, Any]]

NOTHING = "–"
SIZE = 11.0
"""Size of text in cells, points."""
LEAST_CELL, HIGH_CELL = 0.92, 0.36
"""Width at least and height of a cell, inches."""
_SAYS_WHAT_FITS = ("smallest_gpus", "most_sequences", "longest_context")
"""Columns that answer what fits where: their rows are of a GPU that need not."""
WIDE = 20.0
"""From this ratio of largest to smallest the colours of a heatmap are logarithmic."""
_PALE, _DARK = 0.05, 0.75
"""Part of the scale of colours that is used: its first, and how much of it."""


def matrix_figure(
    rows: Sequence[Mapping[str, Any]], across: str, down: str, column: str, heading: str, note: str = ""
) -> Figure:
    """Cells of `column` with `across` and `down` as labels; darker is more (logarithmic), and a dash is none.

    Cells that do not fit the memory are hatched, unless the column itself says how much fits. Where labels are numbers,
    the axis says of what.
    """
    from matplotlib.figure import Figure

    tops = list(dict.fromkeys(row.get(across) for row in rows))
    sides = list(dict.fromkeys(row.get(down) for row in rows))
    hatched = column not in _SAYS_WHAT_FITS
    cells = {(row.get(across), row.get(down)): row for row in rows}
    known = [value for row in rows if (value := _number(row, column)) is not None and value > 0]
    low, high = min(known, default=1), max(known, default=1)
    names, wide, side_names = _names(tops, sides, [cell(column, value) for value in known])
    with style():
        side = max(width_of(name, 12) for name in side_names) / 72
        high = max(HIGH_CELL, 0.21 * max(name.count("\n") + 1 for name in side_names))
        figure = Figure(figsize=(max(7.0, side + 0.5 + wide * len(tops)), 2.7 + high * len(sides)))
        figure.set_layout_engine("constrained")
        panel = figure.subplots()
        for i, top in enumerate(tops):
            for j, name in enumerate(sides):
                row = cells.get((top, name), {})
                value = _number(row, column)
                if value is None or value <= 0:
                    if hatched and too_large(row):
                        _hatched(panel, i, j, INK)
                    panel.text(i, j, NOTHING, ha="center", va="center", color=INK, fontsize=SIZE)
                    continue
                share = 0.0 if high == low else log2(value / low) / log2(high / low)
                _cell(panel, i, j, share, cell(column, value), hatched and too_large(row))
        _frame(panel, names, side_names)
        if _numbers(tops):
            panel.set_xlabel(axis(across, [1.0])[0])
        if _numbers(sides):
            panel.set_ylabel(axis(down, [1.0])[0])
        _legend(figure, cells, len(tops) * len(sides), column, False, hatched, True)
        headline(figure, heading, note or _range(column, known))
    return figure


def heatmap_figure(
    rows: Sequence[Mapping[str, Any]], across: str, down: str, column: str, heading: str, direction: str | None = None
) -> Figure:
    """Cells of `column` over two axes with a bar of colours: numbers ascend, the best cell that fits is framed.

    direction: 'lower' or 'higher' is better; None: as the column is, else nothing is framed. Cells that do not fit the
    memory are hatched; where there is no row or no number, an empty cell has a dash. A saturated server is not the
    best.
    """
    from matplotlib.figure import Figure

    tops, sides = (_ordered([row.get(name) for row in rows]) for name in (across, down))
    if _numbers(sides):
        sides = sides[::-1]  # numbers ascend from the corner
    cells = {(row.get(across), row.get(down)): row for row in rows}
    known = [value for row in rows if (value := _number(row, column)) is not None]
    wanted = direction or better(column)
    best = _best(cells, column, wanted)
    low, high = min(known, default=0.0), max(known, default=1.0)
    shade = _shades(low, high)
    names, wide, side_names = _names(
        [cell(across, top) for top in tops], [cell(down, name) for name in sides], [cell(column, v) for v in known]
    )
    with style():
        side = max(width_of(name, 12) for name in side_names) / 72
        size = max(8.0, side + 2.2 + wide * len(tops)), max(4.2, 2.7 + HIGH_CELL * 1.25 * len(sides))
        figure = Figure(figsize=size, layout="constrained")
        panel = figure.subplots()
        for i, top in enumerate(tops):
            for j, name in enumerate(sides):
                row = cells.get((top, name), {})
                value = _number(row, column)
                if value is None:
                    if too_large(row):
                        _hatched(panel, i, j, INK)
                    _written(panel, i, j, NOTHING, INK, False)
                    continue
                share = float(shade(value)) if high > low else 0.0
                _cell(panel, i, j, share, cell(column, value), hatched=too_large(row))
        if best is not None:
            _framed(panel, tops.index(best[0]), sides.index(best[1]))
        _frame(panel, names, side_names)
        panel.set_xlabel(axis(across, [1.0])[0])
        panel.set_ylabel(axis(down, [1.0])[0])
        _bar_of_colours(figure, panel, column, shade)
        _legend(figure, cells, len(tops) * len(sides), column, best is not None)
        headline(figure, heading, _finding(cells, across, down, column, wanted, best))
    return figure


def _numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, (int, float)) for value in values)


def _shades(low: float, high: float) -> Normalize:
    """The position of each number on the colour scale, from 0 to 1."""
    from matplotlib.colors import LogNorm, Normalize

    if low > 0 and high / low > WIDE:
        return LogNorm(low, high)
    return Normalize(low, high if high > low else low + 1)


def _range(column: str, known: Sequence[float]) -> str:
    """Least and greatest of the known values."""
    if not known:
        return f"{title(column)}: none anywhere"
    return f"{title(column)} from {cell(column, min(known))} to {cell(column, max(known))}"


def _number(row: Mapping[str, Any], column: str) -> float | None:
    value = row.get(column)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _ordered(values: Sequence[Any]) -> list[Any]:
    """Each value once: numbers ascending, words in the order of the rows."""
    found = list(dict.fromkeys(values))
    return sorted(found) if all(isinstance(value, (int, float)) for value in found) else found


def _names(tops: Sequence[Any], sides: Sequence[Any], texts: Sequence[str]) -> tuple[list[str], float, list[str]]:
    """Names above and beside the cells in lines, and the width of a cell in inches, so that all can be read."""
    words = [word for top in map(str, tops) for word in top.replace("-", "- ").split()]
    widest = max([width_of(word, 12) for word in words] + [width_of(text, SIZE) for text in texts], default=0.0)
    long = max((width_of(str(top), 12) for top in tops), default=0.0) / 3
    wide = max(LEAST_CELL, (max(widest, long) + 14) / 72)
    above = [wrapped(str(top), 12, wide * 72 - 8, 4) for top in tops]
    return above, wide, [wrapped(str(side), 12, 260, 2) for side in sides]


def _colour(share: float) -> tuple[float, ...]:
    from matplotlib import colormaps

    return tuple(colormaps["cividis_r"](_PALE + _DARK * share))


def _cell(panel: Axes, i: int, j: int, share: float, text: str, hatched: bool = False) -> None:
    from matplotlib.patches import Rectangle

    colour = _colour(share)
    panel.add_patch(Rectangle((i - 0.48, j - 0.46), 0.96, 0.92, facecolor=colour, edgecolor="none"))
    if hatched:
        _hatched(panel, i, j, readable_on(colour))
    _written(panel, i, j, text, readable_on(colour), hatched, colour)


def _hatched(panel: Axes, i: int, j: int, ink: str) -> None:
    from matplotlib.patches import Rectangle

    look: dict[str, Any] = {"facecolor": "none", "edgecolor": ink, "hatch": "////", "linewidth": 0, "alpha": 0.6}
    panel.add_patch(Rectangle((i - 0.48, j - 0.46), 0.96, 0.92, **look))


def _written(panel: Axes, i: int, j: int, text: str, ink: str, boxed: bool, fill: Any = "white") -> None:
    box = {"boxstyle": "square,pad=0.15", "facecolor": fill, "edgecolor": "none"} if boxed else None
    panel.text(i, j, text, ha="center", va="center_baseline", color=ink, fontsize=SIZE, bbox=box)


def _framed(panel: Axes, i: int, j: int) -> None:
    from matplotlib.patches import Rectangle

    panel.add_patch(Rectangle((i - 0.48, j - 0.46), 0.96, 0.92, facecolor="none", edgecolor="#D55E00", lw=3.5))


def _frame(panel: Axes, names: Sequence[str], sides: Sequence[str]) -> None:
    panel.set_xlim(-0.5, len(names) - 0.5)
    panel.set_ylim(len(sides) - 0.5, -0.5)
    panel.set_xticks(range(len(names)), names)
    panel.set_yticks(range(len(sides)), sides)
    panel.grid(visible=False)
    panel.tick_params(length=0)
    for spine in panel.spines.values():
        spine.set_visible(False)


def _bar_of_colours(figure: Figure, panel: Axes, column: str, shade: Normalize) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, LogNorm
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = shade.vmin or 0.0, shade.vmax or 0.0
    label, scale = axis(column, [low, high])
    shades = ListedColormap([_colour(n / 255) for n in range(256)])
    bar = figure.colorbar(ScalarMappable(type(shade)(low * scale, high * scale), shades), ax=panel, pad=0.02, aspect=18)
    if isinstance(shade, LogNorm):
        bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.ax.yaxis.set_major_formatter(FuncFormatter(thousands))
    bar.set_label(label)
    bar.outline.set_visible(False)


def _legend(
    figure: Figure, cells: Cells, places: int, column: str, best: bool, hatched: bool = True, zero: bool = False
) -> None:
    from matplotlib.patches import Patch

    handles = []
    if best:
        handles.append(Patch(facecolor="none", edgecolor="#D55E00", lw=3, label="best"))
    rows = list(cells.values())
    if hatched and any(too_large(row) for row in rows):
        words = what_is_too_large(rows)
        handles.append(Patch(facecolor="#E8E0B8", edgecolor="#8A8A8A", hatch="////", lw=0, label=words))
    why = {
        "no such row": len(rows) < places,
        "no result": any(_number(row, column) is None and not (hatched and too_large(row)) for row in rows),
        "none": zero and any(_number(row, column) == 0 for row in rows),
    }
    if any(why.values()):
        words = " or ".join(word for word, there in why.items() if there)
        handles.append(Patch(facecolor="white", edgecolor="#8A8A8A", lw=0.8, label=f"{NOTHING} {words}"))
    legend_below(figure, handles, [str(one.get_label()) for one in handles])


def _best(cells: Cells, column: str, direction: str | None) -> tuple[Any, Any] | None:
    """The position of the best number among the cells worth choosing."""
    known = {place: row for place, row in cells.items() if _number(row, column) is not None}
    among = {id(row) for row in worth_choosing(list(known.values()))}
    fit = {place: row for place, row in known.items() if id(row) in among}
    if not fit or direction is None:
        return None
    return (max if direction == "higher" else min)(fit, key=lambda place: fit[place][column])


def _finding(
    cells: Cells, across: str, down: str, column: str, direction: str | None, best: tuple[Any, Any] | None
) -> str:
    known = [row[column] for row in cells.values() if _number(row, column) is not None]
    if not known:
        return f"{title(column)}: no row has a result"
    if best is None:
        return f"{title(column)} from {cell(column, min(known))} to {cell(column, max(known))}"
    place = f"{title(across)} {cell(across, best[0])}, {title(down)} {cell(down, best[1])}"
    which = "highest" if direction == "higher" else "lowest"
    queue = " (saturated: requests queue)" if saturated(cells[best]) else ""
    fits = " that fits" if any(too_large(row) for row in cells.values()) else ""
    return f"{which} {title(column)}{fits}{queue}: {cell(column, cells[best][column])} at {place}"
