"""Reads the cells of CSV files, plain or gzipped. A row that is no row of the file is skipped, and named."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from simgpu.errors import InputError
from simgpu.reading import read_bytes
from simgpu.render.data import text_of

MAX_BYTES = 100_000_000
"""Of a table, packed or unpacked; the largest of the public tables have 3 MB."""
MAX_ROWS = 200_000
MAX_COLUMNS = 1_000
MAX_ODD_LINES = 100
"""Lines that are not CSV: with more of them a file is no table."""
ENDINGS = (".csv", ".csv.gz")


@dataclass(frozen=True)
class Skipped:
    """A row that cannot be used: its line, the GPU it names, the column at fault, what is wrong, what was expected."""

    line: int
    key: str
    problem: str
    expected: str
    gpu: str = ""


@dataclass(frozen=True)
class Cells:
    """The cells of a CSV file: its header, its rows with the line of each, and the rows that are no rows of it."""

    header: list[str]
    lines: list[int]
    rows: list[list[str]]
    skipped: list[Skipped] = field(default_factory=list)

    def chosen(self, positions: Sequence[int]) -> Cells:
        """The rows at `positions`, without the skipped ones."""
        return Cells(self.header, [self.lines[i] for i in positions], [self.rows[i] for i in positions])


def read_cells(file: Path) -> Cells:
    """Header and rows of a CSV file. Rows that are no CSV, or have another length than the header, are skipped."""
    text, decoded = _text(file)
    found, skipped = _parsed(list(io.StringIO(text, newline="")), file)
    if not found:
        raise InputError("is empty, expected a header and rows", file=file, line=1)
    (line, header), *rows = found
    if not decoded and not _is_text(header):
        raise InputError(f"is not text ({_odd_byte(header)})", file=file, line=line)
    good: list[tuple[int, list[str]]] = []
    for line, row in rows:
        if len(row) != len(header):
            problem = f"has {len(row)} cells, expected {len(header)} as the header"
            skipped.append(Skipped(line, "", problem, "as many cells as the header"))
        elif not decoded and not _is_text(row):
            skipped.append(Skipped(line, "", f"is not text ({_odd_byte(row)})", "text"))
        else:
            good.append((line, row))
    return Cells(header, [line for line, _ in good], [row for _, row in good], skipped)


def _parsed(lines: list[str], file: Path) -> tuple[list[tuple[int, list[str]]], list[Skipped]]:
    """Rows with the line on which each ends.

    After a line that is not CSV (a quote that is never closed, say), reading goes on with the next one.
    """
    rows: list[tuple[int, list[str]]] = []
    skipped: list[Skipped] = []
    start = 0  # of the row that is read next
    while start < len(lines):
        first = start
        reader = csv.reader((lines[i] for i in range(first, len(lines))), strict=True)
        try:
            for row in reader:
                start = first + reader.line_num
                if len(rows) > MAX_ROWS or start > 5 * MAX_ROWS:  # empty lines are no rows
                    raise InputError(f"holds more than {MAX_ROWS:,} rows, expected a table of measurements", file=file)
                if len(row) > MAX_COLUMNS:
                    problem = f"has {len(row):,} cells, expected at most {MAX_COLUMNS:,}"
                    raise InputError(problem, file=file, line=start)
                if row:
                    rows.append((start, [text_of(cell.strip()) for cell in row]))
            break
        except csv.Error as error:
            problem = f"is not valid CSV ({error})"
            if not rows or len(skipped) >= MAX_ODD_LINES:
                raise InputError(problem, file=file, line=start + 1) from None
            start += 1
            skipped.append(Skipped(start, "", problem, "a row of CSV"))
    return rows, skipped


def _is_text(row: Sequence[str]) -> bool:
    return not any("\udc80" <= letter <= "\udcff" for cell in row for letter in cell)


def _odd_byte(row: Sequence[str]) -> str:
    """The first byte of a row that is no UTF-8, in words."""
    letter = next(letter for cell in row for letter in cell if "\udc80" <= letter <= "\udcff")
    return f"byte 0x{ord(letter) - 0xDC00:02x}"


def _text(file: Path) -> tuple[str, bool]:
    """Text of a file, unpacked if its name says so, and whether all of it is UTF-8: other bytes become surrogates."""
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
        return raw.decode("utf-8-sig"), True
    except UnicodeDecodeError:
        return raw.decode("utf-8-sig", errors="surrogateescape"), False
