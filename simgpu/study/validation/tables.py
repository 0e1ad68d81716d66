"""Reading tables of measurements: CSV, plain or gzipped, with the columns and units of the shared schema.

Whatever a stranger's table can have wrong ends in one `InputError` with file and line: columns missing or in another
unit, text where a number belongs, a time of zero or of hours, rows of another length.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.errors import InputError, nearest, shown
from simgpu.reading import read_bytes
from simgpu.study.cells import text_of

Array = np.ndarray[Any, np.dtype[np.float64]]
Rows = np.ndarray[Any, np.dtype[np.intp]]
"""Positions of rows in a table."""

MAX_BYTES = 100_000_000
"""Of a table, packed or unpacked; the largest of the public tables have 3 MB."""
MAX_ROWS = 200_000
MAX_COLUMNS = 1_000
MAX_LETTERS = 25_000_000
"""Of a column of words, each as wide as the widest."""
LONGEST = 1000.0
"""No kernel, collective or step of the public tables takes longer, s."""
SHORTEST = 1e-8
"""Nor shorter: less than 20 clock cycles, s."""
ENDINGS = (".csv", ".csv.gz")

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
        return [*self.positive, *self.numbers, *self.words, *self.sparse]


@dataclass(frozen=True)
class Table:
    """The rows of one file: columns of numbers (empty cells are NaN) and of words, and the line of each row."""

    source: str
    file: Path
    lines: Rows
    numbers: Mapping[str, Array]
    words: Mapping[str, np.ndarray[Any, np.dtype[np.str_]]]

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


def read_table(source: str, file: Path, columns: Columns) -> Table:
    """A table with the columns it must have, every cell checked."""
    lines, cells = read_cells(file)
    return table_of(source, file, lines, cells, columns)


def table_of(source: str, file: Path, lines: list[int], cells: list[list[str]], columns: Columns) -> Table:
    """The same for the cells of a file, or some rows of it; the first row is the header."""
    header = cells[0]
    _check_header(header, columns, file)
    body = cells[1:]
    place = {name: i for i, name in enumerate(header)}
    numbers: dict[str, Array] = {}
    for name in (*columns.positive, *columns.numbers, *columns.sparse, *columns.loose):
        if name in columns.loose and name not in place:
            continue
        texts = [row[place[name]] for row in body]
        numbers[name] = _numbers(texts, name, columns, file, lines[1:])
    named = {**{name: name for name in (*columns.words, *columns.optional)}, **columns.renamed}
    words = {}
    for name, old in named.items():
        cells_of = [row[place[old]] for row in body] if old in place else [""] * len(body)
        _check_width(cells_of, file, lines[1:], old)
        words[name] = np.asarray(cells_of, str)
    for name in columns.words:
        empty = np.flatnonzero(words[name] == "")
        if len(empty):
            raise InputError("is empty", file=file, line=lines[1 + int(empty[0])], key=name)
    return Table(source, file, np.asarray(lines[1:], np.intp), numbers, words)


def read_cells(file: Path) -> tuple[list[int], list[list[str]]]:
    """Lines and cells of a CSV file, header first."""
    lines: list[int] = []
    cells: list[list[str]] = []
    reader = csv.reader(_lines(file), strict=True)
    try:
        for row in reader:
            if len(lines) > MAX_ROWS or reader.line_num > 5 * MAX_ROWS:  # empty lines are no rows
                raise InputError(f"holds more than {MAX_ROWS:,} rows, expected a table of measurements", file=file)
            if len(row) > MAX_COLUMNS:
                problem = f"has {len(row):,} cells, expected at most {MAX_COLUMNS:,}"
                raise InputError(problem, file=file, line=reader.line_num)
            if row:
                lines.append(reader.line_num)
                cells.append([text_of(cell.strip()) for cell in row])
    except csv.Error as error:
        raise InputError(f"is not valid CSV ({error})", file=file, line=reader.line_num) from None
    if not cells:
        raise InputError("is empty, expected a header and rows", file=file, line=1)
    for line, row in zip(lines, cells, strict=True):
        if len(row) != len(cells[0]):
            raise InputError(f"has {len(row)} cells, expected {len(cells[0])} as the header", file=file, line=line)
    return lines, cells


def _lines(file: Path) -> Iterator[str]:
    """Lines of a file, unpacked if its name says so."""
    raw = read_bytes(file, MAX_BYTES, "a table")
    if file.name.endswith(".gz"):
        try:
            with gzip.GzipFile(fileobj=io.BytesIO(raw)) as stream:
                raw = stream.read(MAX_BYTES + 1)
        except (EOFError, OSError, zlib.error):
            raise InputError("is not a complete gzip file", file=file) from None
    if len(raw) > MAX_BYTES:
        raise InputError(f"unpacks to more than {MAX_BYTES:,} bytes, expected a table", file=file)
    try:
        raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"is not text (byte 0x{raw[error.start]:02x})", file=file, line=line) from None
    return io.TextIOWrapper(io.BytesIO(raw), "utf-8-sig", newline="")


def _check_width(texts: Sequence[str], file: Path, lines: Sequence[int], name: str) -> None:
    """Words of a column are kept side by side, each as wide as the widest: that one shall not take all memory."""
    widest = max(map(len, texts), default=0)
    if widest * len(texts) > MAX_LETTERS:
        row = next(row for row, text in enumerate(texts) if len(text) == widest)
        raise InputError(f"has {widest:,} letters, expected a short word", file=file, line=lines[row], key=name)


def _check_header(header: Sequence[str], columns: Columns, file: Path) -> None:
    """Every column that is needed, once."""
    for name in header:
        if header.count(name) > 1:
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


def _numbers(texts: Sequence[str], name: str, columns: Columns, file: Path, lines: Sequence[int]) -> Array:
    """Cells as numbers, with the bounds of their column."""
    sparse = name in columns.sparse or name in columns.loose
    try:
        values = np.asarray([float(text) if text or not sparse else math.nan for text in texts], float)
    except ValueError:
        for text, line in zip(texts, lines, strict=True):
            _check_number(text, sparse, file, line, name)
        raise
    above_zero = name in columns.positive or name in columns.sparse
    given = np.asarray([bool(text) for text in texts], bool) if sparse else np.ones(len(values), bool)
    time = name.endswith("_s") and not name.endswith("per_s")
    tests = [
        (~np.isfinite(values), "expected a finite number"),
        (
            values <= 0 if above_zero else values < 0,
            f"expected a number {'above zero' if above_zero else 'from zero on'}",
        ),
    ]
    if time and above_zero:
        tests += [
            (values > LONGEST, f"is longer than {LONGEST:g} s; expected seconds, is this another unit?"),
            (values < SHORTEST, f"is shorter than {SHORTEST:g} s; expected seconds, is this another unit?"),
        ]
    for wrong, problem in tests:
        at = np.flatnonzero(wrong & given)
        if len(at):
            row = int(at[0])
            raise InputError(f"{shown(texts[row])}: {problem}", file=file, line=lines[row], key=name)
    return values


def _check_number(text: str, sparse: bool, file: Path, line: int, name: str) -> None:
    try:
        float(text or ("1" if sparse else ""))
    except ValueError:
        problem = "is empty, expected a number" if not text else f"{shown(text)}: expected a number"
        raise InputError(problem, file=file, line=line, key=name) from None
