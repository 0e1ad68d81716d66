"""Layout of a table in the width of a terminal: whole words always, no column lost.

A table that is too wide gets headings of several lines, then cells of several lines (broken at blanks, never between a
number and its unit). Where that is not enough, a table of few rows is turned on its side, one row a column, and another
is printed in parts, each of which begins with the columns that tell the rows apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len

from simgpu.memo import remembered

GAP = 3
"""Blanks between two columns."""
EDGES = 2
"""One blank on either side of a table."""
FEW_ROWS = 6
"""Rows up to which a table is turned on its side."""
PROSE = 40
"""A column wider than this holds sentences, which may take any number of lines."""
MOST_LINES = 2
"""Lines of a cell that is no prose."""
MOST_HEAD_LINES = 4
ADDRESS = 30
"""A word with a slash that is longer is an address or a path."""
_SAMPLE = 200
_NUMBER = re.compile(r"[+-]?[\d,.]*\d")


@dataclass(frozen=True)
class Column:
    """A column of texts; a line end in a text is one in the table."""

    heading: str
    cells: tuple[str, ...]
    right: bool = False

    @property
    def width(self) -> int:
        """Letters of its longest line."""
        return max((cell_len(line) for text in (self.heading, *self.cells) for line in text.split("\n")), default=0)

    def within(self, width: int, cells_too: bool = True) -> Column:
        """The column with lines broken at blanks to at most `width`, or to its longest word; else the heading alone.

        Of numbers with an interval all have it on the next line, or none.
        """
        cells = self.cells
        if not cells_too:
            width = max([width, *(cell_len(line) for cell in cells for line in cell.split("\n"))])
        if self.right and any(cell_len(cell) > width and _interval(cell) for cell in cells):
            cells = tuple(cell.replace(" (", "\n(") if _interval(cell) else cell for cell in cells)
        heading, *lines = ("\n".join(wrapped(text, width)) for text in (self.heading, *cells))
        return replace(self, heading=heading, cells=tuple(lines))


def _interval(cell: str) -> bool:
    """True if a cell is a number with its interval behind it: '1.38 ms (1.31-1.57)'."""
    return cell.count(" (") == 1 and cell.endswith(")") and cell[:1] in "+-0123456789"


@remembered(4096)
def words_of(text: str) -> tuple[str, ...]:
    """Parts of a line that stay together: a word; a number with its unit. An address may go on after a slash.

    >>> words_of("1.38 ms (1.31-1.57)")
    ('1.38 ms', '(1.31-1.57)')
    """
    words: list[str] = []
    for word in text.split():
        if words and _NUMBER.fullmatch(words[-1]) and not word.startswith("("):
            words[-1] += " " + word
        else:
            words.append(word)
    return tuple(words)


def _pieces(word: str) -> list[str]:
    """Parts of a word between which a line may break: after slashes and hyphens of an address or a path, else none."""
    if len(word) <= ADDRESS or "/" not in word:
        return [word]
    folders = re.findall(r"[^/]*/+|[^/]+", word)
    return [piece for one in folders for piece in (re.findall(r"[^-_]*[-_]|[^-_]+", one) if len(one) > 20 else [one])]


@remembered(16384)
def wrapped(text: str, width: int) -> tuple[str, ...]:
    """The lines of `text`, each at most `width` wide where its words are; no word is broken."""
    lines: list[str] = []
    for line in text.split("\n"):
        if cell_len(line) <= width:
            lines.append(line)
            continue
        blanks = line[: len(line) - len(line.lstrip())]
        now, deeper = "", blanks + "  " if blanks else ""
        for word in words_of(line):
            for i, piece in enumerate(_pieces(word)):
                longer = f"{now}{'' if i else ' '}{piece}" if now else blanks + piece
                if now and cell_len(longer) > width:
                    lines.append(now)
                    now = deeper + piece
                else:
                    now = longer
        lines.append(now)
    return tuple(lines)


def total(columns: Sequence[Column]) -> int:
    """Width of a table."""
    return sum(column.width for column in columns) + GAP * (len(columns) - 1) + EDGES


def parts_of(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """`columns` as one table or several, each within `width` as far as its words are."""
    if total(columns) <= width:
        return [list(columns)]
    prose = sum(column.width > PROSE for column in columns)
    narrow = narrowed(columns, width)
    if narrow and _calm(columns, narrow, MOST_LINES + bool(prose)):
        return [narrow]
    rows = len(columns[0].cells)
    turned = turned_round(columns)
    if prose > 1 and rows and not narrow:  # mostly sentences: a block for each row
        return [_narrowest([turned[0], replace(row, right=False)], width) for row in turned[1:]]
    if 0 < rows <= FEW_ROWS and len(columns) > 2:
        sideways = narrowed(turned, width)
        if sideways and _calm(turned, sideways):
            return [sideways]
    return _in_parts(columns, width)


def narrowed(columns: Sequence[Column], width: int, cells_too: bool = True) -> list[Column] | None:
    """`columns` with lines broken so that they are within `width`, in as few lines as possible; None where they cannot.

    Headings are broken first, cells too if `cells_too`. One column after another gets narrower by a word: the one that
    makes the table grow least.
    """
    known = list(columns)
    sample = [replace(column, cells=column.cells[:_SAMPLE]) for column in known]
    whole = [replace(column) for column in sample]
    now = list(whole)
    while (over := total(now) - width) > 0:
        heights = _heights(now)
        best: tuple[float, int, Column] | None = None
        for i, column in enumerate(whole):
            narrower = column.within(now[i].width - 1, cells_too)
            saved = now[i].width - narrower.width
            if saved <= 0:
                continue
            grown = _grown(now, i, narrower, heights)
            cost = grown / min(saved, over)
            if best is None or cost < best[0]:
                best = cost, i, narrower
        if best is None:
            return None
        now[best[1]] = best[2]
    fitted = [column.within(one.width, cells_too) for column, one in zip(known, now, strict=True)]
    return fitted if total(fitted) <= width else None


def turned_round(columns: Sequence[Column]) -> list[Column]:
    """Each row as a column, named by what stands in the first column."""
    first, *others = columns
    names = Column(first.heading, tuple(column.heading for column in others))
    rows = range(len(first.cells))
    return [names, *(Column(first.cells[i], tuple(column.cells[i] for column in others), True) for i in rows)]


def _calm(before: Sequence[Column], after: Sequence[Column], most: int = MOST_LINES) -> bool:
    """True if no heading and no cell has many lines, but for prose."""
    for wide, narrow in zip(before, after, strict=True):
        if narrow.heading.count("\n") >= MOST_HEAD_LINES:
            return False
        if wide.width <= PROSE and any(cell.count("\n") >= most for cell in narrow.cells):
            return False
    return True


def _lines(column: Column) -> list[int]:
    return [text.count("\n") + 1 for text in (column.heading, *column.cells)]


def _heights(columns: Sequence[Column]) -> list[list[int]]:
    """The number of lines of each row in each column, the heading first."""
    return [_lines(column) for column in columns]


def _grown(columns: Sequence[Column], at: int, narrower: Column, heights: Sequence[Sequence[int]]) -> int:
    """The number of lines by which a table grows when one column is replaced."""
    lines = _lines(narrower)
    grown = 0
    for row, mine in enumerate(lines):
        others = max((heights[i][row] for i in range(len(columns)) if i != at), default=1)
        grown += max(mine, others) - max(heights[at][row], others)
    return grown


def _in_parts(columns: Sequence[Column], width: int) -> list[list[Column]]:
    """Several tables one under another, each with the columns that tell the rows apart, or with the row's number.

    Cells of numbers stay on one line.
    """
    keys = _keys(columns, width)
    rest = list(columns[len(keys) :])
    if not keys:
        keys = [Column("row", tuple(str(n + 1) for n in range(len(columns[0].cells))), True)]
    parts: list[list[Column]] = []
    part: list[Column] = []
    for column in rest:
        if part and not narrowed([*keys, *part, column], width, cells_too=False):
            parts.append(part)
            part = []
        part.append(column)
    parts.append(part)
    return [_narrowest([*keys, *part], width) for part in parts if part]


def _narrowest(columns: Sequence[Column], width: int) -> list[Column]:
    found = narrowed(columns, width, cells_too=False) or narrowed(columns, width)
    return found or [column.within(1) for column in columns]


def _keys(columns: Sequence[Column], width: int) -> list[Column]:
    """The first columns, as far as they are needed to tell the rows apart and leave half of the width to others."""
    rows = len(columns[0].cells)
    for n in range(1, len(columns)):
        some = columns[:n]
        if len({tuple(column.cells[i] for column in some) for i in range(rows)}) == rows:
            small = narrowed(some, width // 2)
            return small if small and _calm(some, small) else []
    return []
