"""Words in pictures: how wide they are, lines that fit, headings, legends, names beside points that cover nothing."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from math import ceil
from typing import TYPE_CHECKING, Any

from simgpu.memo import remembered
from simgpu.render.style import INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEADING = 13.0
"""Size of a heading, points."""
LEGEND = 11.0
_SPREAD = 22
"""Letters over which a line may be shortened to end at a blank; beyond, words are cut."""


@contextmanager
def quiet() -> Iterator[None]:
    """A context without warnings about letters that the typeface lacks: nobody can act on them; boxes are drawn."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)
        yield


@remembered(8192)
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """Width of the longest line of `text`, points."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    face = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    with quiet():
        return max(
            (float(text_to_path.get_text_width_height_descent(line, face, False)[0]) for line in text.split("\n")),
            default=0.0,
        )


def wrapped(text: str, size: float, width: float, most: int | None = None) -> str:
    """`text` in lines of at most `width` points, broken at blanks and hyphens, else inside words.

    Lines after the first `most` become an ellipsis.
    """
    lines: list[str] = []
    for paragraph in text.split("\n"):
        rest = paragraph
        while width_of(rest, size) > width and len(rest) > 1:
            end = _fitting(rest, size, width)
            nice = max(rest.rfind(" ", 0, end + 1), rest.rfind("-", 0, end - 1) + 1)
            cut = nice if nice > max(0, end - _SPREAD) else end
            lines.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        lines.append(rest)
    if most is not None and len(lines) > most:
        lines = [*lines[: most - 1], lines[most - 1].rstrip(" .,;:") + " ..."]
    return "\n".join(lines)


def _fitting(text: str, size: float, width: float) -> int:
    """The number of letters of `text` that fit `width`, at least one."""
    low, high = 1, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if width_of(text[:middle], size) <= width else (low, middle - 1)
    return low


def heading(figure: Figure, *lines: str) -> None:
    """Write the title of a picture: what it is about, then what it shows; long lines go on in the next."""
    width = 72 * figure.get_figwidth() * 0.975
    text = "\n".join(wrapped(line, HEADING, width, 4) for line in lines if line)
    if text:
        figure.suptitle(text, fontsize=HEADING, x=0.01, ha="left", color=INK)


def legend_below(
    figure: Figure, handles: Sequence[Any], names: Sequence[str], size: float = LEGEND, caption: str = ""
) -> None:
    """Put a legend under all panels, in as few rows as the width allows.

    A picture with many rows of it grows. `caption` above it says what its entries are.
    """
    if not names:
        return
    width = 72 * figure.get_figwidth() - 24
    shown = [wrapped(name, size, width - 60, 3) for name in names]
    each = max(width_of(name, size) for name in shown) + 4.4 * size
    columns = max(1, min(len(shown), int(width // each)))
    rows = ceil(len(shown) / columns)
    columns = ceil(len(shown) / rows)
    rows += bool(caption)
    if rows > 2:
        figure.set_figheight(figure.get_figheight() + (rows - 2) * size * 1.5 / 72)
    look: dict[str, Any] = {"title": caption or None, "title_fontsize": size, "alignment": "left"}
    figure.legend(handles, shown, loc="outside lower center", ncols=columns, fontsize=size, **look)


def laid_out(figure: Figure) -> None:
    """Let a picture find its layout, so that places of its panels are known."""
    with quiet():
        figure.draw_without_rendering()


_AROUND = ((1, 1), (-1, 1), (1, -1), (-1, -1), (0, 1), (0, -1), (1, 0), (-1, 0))
"""Places of a name beside its point: right above it first."""


def name_points(
    panel: Axes, points: Sequence[tuple[float, float]], names: Sequence[str],
    others: Sequence[tuple[float, float]] = (), size: float = 9.0, away: float = 5.0, **look: Any,
) -> int:  # fmt: skip
    """Write `names` beside `points`, in order, each where it covers nothing; return how many were left out.

    A name covers no other name, no point and none of `others` (places in units of the axes). `away` is its distance
    from the point, in points of type. The picture must have its final size.
    """
    laid_out(panel.figure)  # type: ignore[arg-type]
    scale = panel.figure.dpi / 72
    spots = [tuple(panel.transData.transform(spot)) for spot in (*points, *others)]
    frame = panel.get_window_extent()
    taken: list[tuple[float, float, float, float]] = []
    missing = 0
    for (x, y), name in zip(spots, names, strict=False):
        lines = name.count("\n") + 1
        wide, high = width_of(name, size) * scale + 2, size * 1.25 * lines * scale
        for far in (1.0, 2.6):
            free = next(
                (
                    place
                    for place in _AROUND
                    if _free(box := _box(x, y, place, wide, high, far * away * scale), taken, spots, frame)
                ),
                None,
            )
            if free is not None:
                break
        else:
            missing += 1
            continue
        taken.append(box)
        where: dict[str, Any] = {
            "ha": ("right", "center", "left")[free[0] + 1],
            "va": ("top", "center", "bottom")[free[1] + 1],
        }
        offset = (free[0] * far * away, free[1] * far * away)
        spot = tuple(panel.transData.inverted().transform((x, y)))
        look |= {"textcoords": "offset points", "fontsize": size, "color": INK, "zorder": 6}
        panel.annotate(name, spot, offset, **where, **look)
    return missing


def _box(
    x: float, y: float, place: tuple[int, int], wide: float, high: float, away: float
) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a name beside a point, pixels."""
    left = x + (place[0] - 1) / 2 * wide + place[0] * away
    bottom = y + (place[1] - 1) / 2 * high + place[1] * away
    return left, bottom, left + wide, bottom + high


def _free(
    box: tuple[float, float, float, float], taken: Sequence[tuple[float, float, float, float]],
    spots: Sequence[tuple[float, ...]], frame: Any,
) -> bool:  # fmt: skip
    left, bottom, right, top = box
    if left < frame.x0 or right > frame.x1 or bottom < frame.y0 or top > frame.y1:
        return False
    if any(left < r and right > le and bottom < t and top > b for le, b, r, t in taken):
        return False
    return not any(left < x < right and bottom < y < top for x, y in spots)


def along(points: Sequence[tuple[float, float]], each: int = 16) -> list[tuple[float, float]]:
    """Places on the line through `points`, which names should not cover."""
    found = []
    for (xa, ya), (xb, yb) in pairwise(points):
        found += [(xa + (xb - xa) * i / each, ya + (yb - ya) * i / each) for i in range(1, each)]
    return found


def thousands(value: float, _: object = None) -> str:
    """A number at an axis: 0.5, 200, 20,000."""
    return f"{value:,.10g}"


def short_number(value: float, _: object = None) -> str:
    """A number on a logarithmic axis: 0.5, 200, 20k, 5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (1e3 if unit == 'k' else size):g}{unit}"
    return f"{value:g}"


def ticks_apart(places: Sequence[float], names: Sequence[str], size: float, points: float) -> list[int]:
    """True for each of `places` whose name can stand without touching another; the last always can.

    Places are shares of an axis `points` long, ascending.
    """
    kept: list[int] = []
    edge = float("inf")
    for i in reversed(range(len(places))):
        half = width_of(names[i], size) / 2 + 4
        if places[i] * points + half <= edge:
            kept.append(i)
            edge = places[i] * points - half
    return kept[::-1]
