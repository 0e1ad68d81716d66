"""Tables for the terminal."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simgpu.render.columns import cell_of, columns_of, interval_of, title
from simgpu.render.layout import PROSE, Column, parts_of, total, wrapped
from simgpu.terminal import plain

INTERVALS = (
    "In brackets: 80 % interval. 8 of 10 measurements should fall in it, judging by past errors on such kernels."
)
PAPER = 200
"""Letters in a line of sentences where the output is no terminal; a row of numbers is never broken there."""


def print_table(
    rows: Sequence[Mapping[str, Any]], wanted: Sequence[str], heading: str, notes: Sequence[str], out: IO[str]
) -> None:
    """Print `rows` with the columns that are `wanted`, and the notes below."""
    columns = columns_of(rows, wanted)
    texts = []
    for column in columns:
        numbers = all(isinstance(row.get(column), (int, float, type(None))) for row in rows)
        texts.append(_column(title(column), [cell_of(column, row) for row in rows], numbers))
    _print(heading, texts, out)
    if any(interval_of(column, row) for column in columns for row in rows):
        print_notes([INTERVALS], out)
    print_notes(notes, out)


def print_notes(notes: Sequence[str], out: IO[str]) -> None:
    """Print notes below a table."""
    console, width = _console(out)
    for note in notes:
        _say(console, plain(note), width)


def print_figures(heading: str, entries: Sequence[tuple[str, str, str]], out: IO[str]) -> None:
    """Print a specification: parameter, value, source."""
    grid(heading, ("parameter", "value", "source"), entries, out, right=(1,), dim=(2,))


def grid(
    heading: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    out: IO[str],
    right: Iterable[int] = (),
    dim: Iterable[int] = (),
) -> None:
    """Print a table of words; the columns at `right` are numbers, those at `dim` stand back."""
    numbers = set(right)
    texts = [_column(name, [row[i] for row in rows], i in numbers) for i, name in enumerate(columns)]
    _print(heading, texts, out, [columns[i] for i in dim])


def print_names(entries: Sequence[tuple[str, str]], out: IO[str], indent: str = "") -> None:
    """Print names in one column, and behind each its meaning."""
    console, width = _console(out)
    names = max((len(name) for name, _ in entries), default=0)
    for name, what in entries:
        front = f"{indent}{plain(name):{names}}  "
        lines = wrapped(_one_line(what), max(20, width - len(front))) if width else (_one_line(what),)
        for i, line in enumerate(lines):
            _say(console, f"{' ' * len(front) if i else front}{line}".rstrip(), None)


def width_of(out: IO[str]) -> int | None:
    """Letters in a line of a terminal, or the value of COLUMNS; None where `out` has no width."""
    return _console(out)[1]


def _column(heading: str, cells: Sequence[str], right: bool) -> Column:
    """A column whose texts have no line ends and nothing that a terminal obeys."""
    return Column(_one_line(heading), tuple(map(_one_line, cells)), right)


def _one_line(text: str) -> str:
    return " ".join(plain(text).split("\n"))


def _print(heading: str, columns: Sequence[Column], out: IO[str], dim: Sequence[str] = ()) -> None:
    """Print a title and a table below it, in as many parts as the width needs."""
    console, width = _console(out)
    if heading:
        _say(console, plain(heading), width, "bold")
    for part in parts_of(columns, width) if width else [_on_paper(columns)]:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in part:
            style = "dim" if column.heading in dim else None
            table.add_column(Text(column.heading), "", justify="right" if column.right else "left", style=style,
                             no_wrap=True, vertical="top")  # fmt: skip
        for row in zip(*(column.cells for column in part), strict=True):
            table.add_row(*map(Text, row))
        _wide(out, total(part)).print(table)


def _on_paper(columns: Sequence[Column]) -> list[Column]:
    """`columns` for a file or a pipe: every row on one line, but for sentences."""
    paper = list(columns)
    for i in sorted(range(len(paper)), key=lambda n: -paper[n].width):
        over = total(paper) - PAPER
        if over > 0 and paper[i].width > PROSE:
            paper[i] = paper[i].within(max(PROSE, paper[i].width - over))
    return paper


def _say(console: Console, text: str, width: int | None, style: str | None = None) -> None:
    """Print a line of text, broken between words where it is wider than a terminal."""
    for line in wrapped(text, width) if width else text.split("\n"):
        console.print(line, style=style, highlight=False, markup=False, soft_wrap=True)


class _PlainConsole(Console):
    """A console that leaves a closed pipe to the caller."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _wide(out: IO[str], width: int) -> Console:
    """A console in which a text `width` wide fits; its layout for a terminal was decided before."""
    return _PlainConsole(file=out, width=width)


def _console(out: IO[str]) -> tuple[Console, int | None]:
    """A console, and the width that tables have to keep: that of a terminal, the value of COLUMNS, else none."""
    console = _PlainConsole(file=out)
    if console.is_terminal or os.environ.get("COLUMNS", "").isdigit():
        return console, max(20, console.width)
    return console, None
