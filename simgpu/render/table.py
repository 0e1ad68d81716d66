"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from simgpu.render.columns import cell_of, columns_of, interval_of, title
from simgpu.terminal import plain

INTERVALS = "in brackets: 80 % interval (P10 to P90), from residuals of such operators against measurements"


def words(text: str) -> Text:
    """Text of a table: no markup, and nothing that a terminal obeys."""
    return Text(plain(text))


def print_table(
    rows: Sequence[Mapping[str, Any]], wanted: Sequence[str], heading: str, notes: Sequence[str], out: IO[str]
) -> None:
    """Print `rows` with the columns that are `wanted`, and the notes below."""
    columns = columns_of(rows, wanted)
    table = Table(
        title=words(heading) if heading else None,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for column in columns:
        numbers = all(isinstance(row.get(column), (int, float, type(None))) for row in rows)
        table.add_column(words(title(column)), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(words(cell_of(column, row)) for column in columns))
    console = _console(out)
    console.print(table)
    if any(interval_of(column, row) for column in columns for row in rows):
        console.print(INTERVALS, highlight=False, markup=False, soft_wrap=not console.is_terminal)
    print_notes(notes, out)


def print_notes(notes: Sequence[str], out: IO[str]) -> None:
    """What stands below a table."""
    console = _console(out)
    for note in notes:
        console.print(plain(note), highlight=False, markup=False, soft_wrap=not console.is_terminal)


def print_figures(heading: str, entries: Sequence[tuple[str, str, str]], out: IO[str]) -> None:
    """Print a specification: parameter, value, source."""
    table = Table(title=words(heading), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("parameter")
    table.add_column("value", justify="right")
    table.add_column("source", style="dim", overflow="fold")
    for entry in entries:
        table.add_row(*map(words, entry))
    _console(out).print(table)


def grid(
    heading: str, columns: Sequence[str], rows: Sequence[Sequence[str]], out: IO[str], right: Sequence[int] = ()
) -> None:
    """Print a table of words; the columns at `right` are numbers."""
    table = Table(title=words(heading), title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(words(column), justify="right" if i in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(words, row))
    _console(out).print(table)


class _PlainConsole(Console):
    """A console that leaves a closed pipe to the caller."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def _console(out: IO[str]) -> Console:
    """A console that is never narrower than a table needs when the output is not a terminal."""
    console = _PlainConsole(file=out)
    return console if console.is_terminal else _PlainConsole(file=out, width=200)
