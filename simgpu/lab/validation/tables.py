"""Reads tables of measurements: CSV, plain or gzipped, with the columns and units that each must have.

A file that is not the table at all (columns missing or in another unit, not CSV) is refused with one `InputError`. A
row that cannot be used (text where a number belongs, a time of zero or of hours, another length) is skipped:
`Table.skipped` names its line, its column and what was expected.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.errors import InputError, nearest, shown
from simgpu.lab.validation.cells import ENDINGS, Cells, Skipped, read_cells
from simgpu.timing.checks import LARGEST

Array = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[np.intp]]
"""Positions of rows in a table."""

MAX_LETTERS = 25_000_000
"""Of a column of words, each as wide as the widest."""
LONGEST = 10_000.0
"""No kernel, collective, step or batch of videos of the public tables takes longer, s."""
SHORTEST = 1e-8
"""Nor shorter: less than 20 clock cycles, s."""
MOST_COUNTED = 100_000
"""No machine of the public tables has more GPUs, no model more layers, no plan a wider degree."""

_COUNTED = re.compile(
    r"num_(gpus|nodes|layers|microbatches|workers)$|gpus_per_node$|virtual_pp$|(tp|pp|dp|cp|ep)_size$"
)
_UNIT = re.compile(r"_(s|ms|us|ns|sec|seconds|bytes|kib|mib|gib|kb|mb|gb|bits)$")


@dataclass(frozen=True)
class Columns:
    """What a table must have, by what its cells hold."""

    positive: Sequence[str] = ()  # numbers above zero: sizes, counts, times
    numbers: Sequence[str] = ()  # numbers from zero on
    words: Sequence[str] = ()
    optional: Sequence[str] = ()  # words that may be missing: the column, or the cell
    sparse: Sequence[str] = ()  # positive numbers that a row may lack
    loose: Sequence[str] = ()  # numbers from zero on that a row, or the table, may lack
    renamed: Mapping[str, str] = field(default_factory=dict)  # word columns by the name they get here: optional too

    @property
    def required(self) -> list[str]:
        """Columns that a file must have."""
        return [*self.positive, *self.numbers, *self.words, *self.sparse]


@dataclass(frozen=True)
class Table:
    """The rows of one file: columns of numbers (empty cells are NaN) and of words, and the line of each row.

    Rows that were skipped stand beside them.
    """

    source: str
    file: Path
    lines: Rows
    numbers: Mapping[str, Array]
    words: Mapping[str, np.ndarray[Any, np.dtype[np.str_]]]
    skipped: Sequence[Skipped] = ()

    def __len__(self) -> int:
        return len(self.lines)

    def number(self, name: str, rows: Rows) -> Array:
        """A column of numbers at `rows`."""
        return self.numbers[name][rows]

    def word(self, name: str, rows: Rows) -> np.ndarray[Any, np.dtype[np.str_]]:
        """A column of words at `rows`."""
        return self.words[name][rows]

    def split(self, rows: Rows, *names: str) -> Iterator[tuple[tuple[str, ...], Rows]]:
        """`rows` in groups of equal words in the columns `names`, in the order of their values."""
        groups: dict[tuple[str, ...], list[int]] = {}
        columns = [self.words[name][rows].tolist() for name in names]
        for row, *values in zip(rows.tolist(), *columns, strict=True):
            groups.setdefault(tuple(values), []).append(row)
        for key in sorted(groups):
            yield key, np.asarray(groups[key], np.intp)

    def error(self, row: int, problem: str, key: str | None = None) -> InputError:
        """An error about a row."""
        return InputError(problem, file=self.file, line=int(self.lines[row]), key=key)

    def place(self, rows: Sequence[int] | Rows) -> str:
        """File and line of the first of some rows."""
        return f"{self.file.name}:{int(self.lines[int(rows[0])])}"

    def described(self, row: int, columns: Sequence[str]) -> str:
        """`name=value` of some columns, as the file has them, for a list of rows."""
        parts = []
        for name in columns:
            if name in self.numbers and not math.isnan(self.numbers[name][row]):
                parts.append(f"{name}={self.numbers[name][row]:.10g}")
            elif name in self.words and self.words[name][row]:
                parts.append(f"{name}={self.words[name][row]}")
        return " ".join(parts)


def tables_in(folder: Path) -> dict[str, Path]:
    """Tables of a folder by name without ending. Raises `InputError` where there is no such folder."""
    if not folder.exists():
        raise InputError("no such folder", file=folder, key="data")
    if not folder.is_dir():
        raise InputError("is a file, expected a folder of CSV files", file=folder, key="data")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        ending = next((ending for ending in ENDINGS if file.name.endswith(ending)), None)
        if ending is None or not file.is_file():
            continue
        name = file.name.removesuffix(ending)
        if name in found:
            raise InputError(f"stands beside '{found[name].name}'; expected one of them", file=file)
        found[name] = file
    return found


def others_in(folder: Path) -> list[tuple[str, str]]:
    """What else lies in a folder of tables, and why it is not read."""
    found = []
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            found.append((f"{entry.name}/", "a folder by itself: give it as --data"))
        elif not entry.is_file() or not entry.name.endswith(ENDINGS):
            found.append((entry.name, f"not a table ({', '.join(ENDINGS)})"))
    return found


Problem = tuple[int, str, str, str]
"""A cell that cannot be used: row, column, what is wrong, what was expected."""


def read_table(source: str, file: Path, columns: Columns) -> Table:
    """A table with the columns it must have, every cell checked. Raises `InputError` for what is not the table."""
    return table_of(source, file, read_cells(file), columns)


def table_of(source: str, file: Path, cells: Cells, columns: Columns) -> Table:
    """The same for the cells of a file, or some rows of it."""
    _check_header(cells.header, columns, file)
    names = {name: name for name in (*columns.words, *columns.optional)} | dict(columns.renamed)
    words = {name: _texts(cells, old) or [""] * len(cells.rows) for name, old in names.items()}
    numbers: dict[str, Array] = {}
    problems: list[Problem] = []
    for name in (*columns.positive, *columns.numbers, *columns.sparse, *columns.loose):
        texts = _texts(cells, name)
        if texts is not None:  # what may be missing, since the header has the others
            numbers[name], found = _numbers(texts, name, columns)
            problems += [(row, name, *problem) for row, problem in found.items()]
    wrong: dict[int, Skipped] = {}  # the first problem of each row
    for row, name, problem, expected in (*problems, *_of_words(words, columns)):
        wrong.setdefault(row, Skipped(cells.lines[row], name, problem, expected))
    gpus = words.get("gpu", [""] * len(cells.rows))
    skipped = [*cells.skipped, *(replace(problem, gpu=gpus[row]) for row, problem in wrong.items())]
    kept = np.asarray([row for row in range(len(cells.rows)) if row not in wrong], np.intp)
    return Table(
        source,
        file,
        np.asarray(cells.lines, np.intp)[kept],
        {name: values[kept] for name, values in numbers.items()},
        {name: np.asarray([values[row] for row in kept], str) for name, values in words.items()},
        sorted(skipped, key=lambda row: row.line),
    )


def _texts(cells: Cells, name: str) -> list[str] | None:
    """The cells of a column; None where the file has no such column."""
    if name not in cells.header:
        return None
    place = cells.header.index(name)
    return [row[place] for row in cells.rows]


def _of_words(words: Mapping[str, Sequence[str]], columns: Columns) -> Iterator[Problem]:
    """Words that are missing, and those that are too long: a column is kept side by side, as wide as its widest."""
    for name in columns.words:
        for row, text in enumerate(words[name]):
            if not text:
                yield row, name, "is empty", "a word"
    for name, texts in words.items():
        longest = MAX_LETTERS // max(len(texts), 1)
        for row, text in enumerate(texts):
            if len(text) > longest:
                yield row, name, f"has {len(text):,} letters, expected a short word", "a short word"


def _check_header(header: Sequence[str], columns: Columns, file: Path) -> None:
    """Every column that is needed, once."""
    for name, count in Counter(header).items():
        if count > 1:
            raise InputError(f"column {shown(name)} stands there twice", file=file, line=1)
    for name in columns.required:
        if name in header:
            continue
        stem = _UNIT.sub("", name)
        other = next((given for given in header if stem != name and _UNIT.sub("", given.lower()) == stem), None)
        if other is not None:
            unit = {"s": "seconds", "bytes": "bytes"}.get(name[len(stem) + 1 :], name[len(stem) + 1 :])
            problem = f"column '{other}' has another unit; expected '{name}', in {unit}"
            raise InputError(problem, file=file, line=1, key=other)
        near = nearest(name, header)
        found = near if "did you mean" in near else f"; found: {', '.join(header[:20])}"
        raise InputError(f"column '{name}' is missing{found}", file=file, line=1, key=name)


def _numbers(texts: Sequence[str], name: str, columns: Columns) -> tuple[Array, dict[int, tuple[str, str]]]:
    """Cells as numbers, and for each that is outside the bounds of its column the problem and what was expected."""
    sparse = name in columns.sparse or name in columns.loose
    above_zero = name in columns.positive or name in columns.sparse
    time = name.endswith("_s") and not name.endswith("per_s")
    problems: dict[int, tuple[str, str]] = {}
    values = _floats(texts)
    empty = np.asarray([not text for text in texts], bool)
    for row in np.flatnonzero(empty).tolist() if not sparse else ():
        problems[row] = ("is empty, expected a number", "a number")
    bound = f"expected a number {'above zero' if above_zero else 'from zero on'}"
    words = np.zeros(len(texts), bool)
    for row in np.flatnonzero(np.isnan(values) & ~empty).tolist():
        words[row] = _float(texts[row]) is None
    tests = [
        (words, "expected a number"),
        (~np.isfinite(values), "expected a finite number"),
        (values > LARGEST, f"expected at most {LARGEST:g}"),
        (values <= 0 if above_zero else values < 0, bound),
    ]
    if time and above_zero:
        tests += [
            (values > LONGEST, f"is longer than {LONGEST:g} s; expected seconds, is this another unit?"),
            (values < SHORTEST, f"is shorter than {SHORTEST:g} s; expected seconds, is this another unit?"),
        ]
    if _COUNTED.search(name):
        tests.append((values != np.floor(values), "expected a whole number"))
        tests.append((values > MOST_COUNTED, f"expected at most {MOST_COUNTED:,}"))
    for wrong, expected in tests:
        for row in np.flatnonzero(wrong & ~empty).tolist():
            problems.setdefault(row, (f"{shown(texts[row])}: {expected}", expected))
    return values, problems


def _floats(texts: Sequence[str]) -> Array:
    """Cells as numbers; NaN where they are none."""
    try:
        return np.asarray([float(text) if text else math.nan for text in texts], float)
    except ValueError:
        found = (_float(text) for text in texts)
        return np.asarray([math.nan if value is None else value for value in found], float)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
