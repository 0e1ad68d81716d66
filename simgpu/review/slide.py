"""One slide: question, answer, one picture, the first rows of the table."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from simgpu.render.columns import cell_of, title
from simgpu.render.files import save
from simgpu.render.style import FAINT, INK, SLIDE, style
from simgpu.render.text import quiet, width_of, wrapped
from simgpu.review.subject import Subject

MOST_ROWS, MOST_COLUMNS = 5, 7
HEIGHT = SLIDE * 9 / 16
MARGIN = 0.6
"""Inches at each side."""
WIDTH = 72 * (SLIDE - 2 * MARGIN)
"""Points that a line may have."""


def slide(one: Subject, file: Path) -> None:
    """Write the slide of a study as PNG, SVG or PDF, by the ending of `file`. Raises `InputError`."""
    save(slide_figure(one), file)


def slide_figure(one: Subject) -> Any:
    """The slide as a figure of 16 : 9."""
    from matplotlib.figure import Figure

    with style(), quiet():
        figure = Figure(figsize=(SLIDE, HEIGHT))
        left, top = MARGIN / SLIDE, 1 - 0.4 / HEIGHT
        asked = wrapped(one.question, 21, WIDTH, 2)
        figure.text(left, top, asked, size=21, weight="bold", va="top", color=INK)
        top -= (len(asked.split("\n")) * 0.36 + 0.15) / HEIGHT
        said = wrapped(one.answer, 14, WIDTH, 4)
        figure.text(left, top, said, size=14, va="top", color=INK)
        top -= (len(said.split("\n")) * 0.25 + 0.2) / HEIGHT
        rows = _rows(one)
        bottom = 0.25 / HEIGHT
        if rows:
            bottom = (len(rows) * 0.27 + 0.35) / HEIGHT
            _table(figure, rows, (left, 0.3 / HEIGHT, 1 - 2 * left, len(rows) * 0.27 / HEIGHT))
        _plot(figure, one, (left, bottom + 0.1 / HEIGHT, 1 - 2 * left, max(0.1, top - bottom - 0.15 / HEIGHT)))
        figure.text(left, 0.08 / HEIGHT, "simgpu; in brackets: 80 % interval", size=9, color="#555555")
    return figure


def _rows(one: Subject) -> list[list[str]]:
    """The heading and the first rows, that of the answer first; as many columns as there is room for."""
    order = sorted(range(len(one.rows)), key=lambda n: n != one.chosen)[:MOST_ROWS]
    told = [column for column in one.columns if any(one.rows[n].get(column) is not None for n in order)]
    told.sort(key=lambda column: column == "why")
    if one.column in told[MOST_COLUMNS:]:
        told = [*told[: MOST_COLUMNS - 1], str(one.column)]
    columns = told[:MOST_COLUMNS]
    room = WIDTH / max(1, len(columns)) - 8
    body = [[title(column) for column in columns]]
    body += [[cell_of(column, one.rows[n]) for column in columns] for n in order]
    return [[wrapped(cell, 10, room, 1) if width_of(cell, 10) > 1.4 * room else cell for cell in line] for line in body]


def _table(figure: Any, rows: list[list[str]], place: tuple[float, float, float, float]) -> None:
    """The rows below the picture, their columns as wide as their words."""
    widths = [max(width_of(row[c], 10) for row in rows) + 14 for c in range(len(rows[0]))]
    size = 10 * min(1.0, WIDTH / sum(widths))
    scale = 1 / max(WIDTH, sum(widths))
    x, y, width, height = place
    step = height / len(rows)
    for r, row in enumerate(rows):
        at = x
        for c, words in enumerate(row):
            figure.text(at, y + height - (r + 0.5) * step, words, size=size, va="center", color=INK,
                        weight="bold" if r == 0 else "normal")  # fmt: skip
            at += widths[c] * scale * width
    from matplotlib.lines import Line2D

    under = y + height - step
    figure.add_artist(Line2D([x, x + width], [under, under], color=FAINT, linewidth=1))


def _plot(figure: Any, one: Subject, place: tuple[float, float, float, float]) -> None:
    """The first picture of the study, as large as fits."""
    from matplotlib.image import imread

    picture = next((picture.figure for picture in one.pictures if picture.figure is not None), None)
    if picture is None:
        return
    written = io.BytesIO()
    picture.savefig(written, format="png", dpi=200)
    written.seek(0)
    panel = figure.add_axes(place)
    panel.imshow(imread(written), interpolation="lanczos", aspect="equal")
    panel.set_axis_off()
