"""Answers as data: a document as JSON, and rows as CSV that a spreadsheet shows and does not run.

A spreadsheet takes text that begins with `=`, `+`, `-` or `@` for a formula, and runs it. Such text is written with an
apostrophe before it, and so is text that begins with an apostrophe itself; reading takes one off again. Numbers stay
numbers. The rule is that of OWASP, "CSV Injection", https://owasp.org/www-community/attacks/CSV_Injection.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from typing import IO, Any

from simgpu.terminal import plain

MARK = "'"
_MARKED = (*"=+-@\t\r\n", *"\uff1d\uff0b\uff0d\uff20", MARK)
"""Characters that a cell of text may not begin with; the last but one are wide forms that Excel treats alike."""


def cell_of(value: Any) -> Any:
    """A value as a cell: text that a spreadsheet would run begins with an apostrophe.

    >>> cell_of("=1+1"), cell_of(-3), cell_of("'tis")
    ("'=1+1", -3, "''tis")
    """
    return MARK + value if isinstance(value, str) and value.startswith(_MARKED) else value


def text_of(cell: str) -> str:
    """The text that `cell_of` wrote as `cell`.

    >>> text_of("'=1+1"), text_of("-3"), text_of("'tis")
    ('=1+1', '-3', "'tis")
    """
    return cell[1:] if cell.startswith(MARK) and cell[1:].startswith(_MARKED) else cell


def print_csv(rows: Sequence[Mapping[str, Any]], out: IO[str], columns: Sequence[str] = ()) -> None:
    """All columns of all rows, or `columns` where there are no rows; a value that a row lacks is an empty cell.

    On a terminal control characters are escaped; in a file they are what they are.
    """
    names = list(dict.fromkeys(key for row in rows for key in row)) or columns
    terminal = out.isatty()

    def shown(value: Any) -> Any:
        cell = cell_of(value)
        return plain(cell) if terminal and isinstance(cell, str) else cell

    writer = csv.writer(_Lines(out), lineterminator="\r\n")
    writer.writerow([shown(name) for name in names])
    writer.writerows([shown(row.get(name)) for name in names] for row in rows)


def print_json(document: Mapping[str, Any], out: IO[str]) -> None:
    """One JSON document."""
    long = [key for key in ("memory", "scenarios", "constants") if key in document]
    short = {key: value for key, value in document.items() if key not in long}
    text = json.dumps(short, indent=1, allow_nan=False)[:-2] if short else "{"
    for n, key in enumerate(long):  # thousands of numbers: one line for each row, in the order of the rows
        lines = ",\n  ".join(json.dumps(one, allow_nan=False) for one in document[key])
        text += f'{"," if short or n else ""}\n "{key}": [\n  {lines}\n ]'
    out.write(text + "\n}\n")


class _Lines:
    """Lines that end in a line feed alone; before Python 3.13 `csv` quotes only those ends of lines that it writes."""

    def __init__(self, out: IO[str]) -> None:
        self.out = out

    def write(self, line: str) -> None:
        self.out.write(line.removesuffix("\r\n") + "\n")
