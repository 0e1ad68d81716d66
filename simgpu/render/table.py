"""Tables for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from rich import box
from rich.console import Console
from rich.table import Table

from simgpu.render.columns import cell, columns_of, title


def print_table(
    rows: Sequence[Mapping[str, Any]], wanted: Sequence[str], heading: str, notes: Sequence[str], out: IO[str]
) -> None:
    """Print `rows` with the columns that are `wanted`, and the notes below."""
    columns = columns_of(rows, wanted)
    table = Table(title=heading or None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        numbers = all(isinstance(row.get(column), (int, float, type(None))) for row in rows)
        table.add_column(title(column), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(cell(column, row.get(column)) for column in columns))
    console = _console(out)
    console.print(table)
    for note in notes:
        console.print(note, highlight=False, markup=False, soft_wrap=not console.is_terminal)


def print_figures(heading: str, entries: Sequence[tuple[str, str, str]], out: IO[str]) -> None:
    """Print a specification: parameter, value, source."""
    table = Table(title=heading, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("parameter")
    table.add_column("value", justify="right")
    table.add_column("source", style="dim", overflow="fold")
    for entry in entries:
        table.add_row(*entry)
    _console(out).print(table)


def _console(out: IO[str]) -> Console:
    """A console that is never narrower than a table needs when the output is not a terminal."""
    console = Console(file=out)
    return console if console.is_terminal else Console(file=out, width=200)
