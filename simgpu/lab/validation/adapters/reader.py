"""Reads one row of a table of whole steps or runs, cell by cell."""

from __future__ import annotations

import math
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.lab.validation.batches import DTYPES, Machine
from simgpu.lab.validation.tables import Table


class Reader:
    """Cells of one row, and what its machine can do."""

    def __init__(self, table: Table, row: int, machine: Machine | None = None) -> None:
        self._table, self._row, self._machine = table, row, machine

    @property
    def catalogue(self) -> Catalogue:
        """The catalogue that its machine is of."""
        assert self._machine is not None
        return self._machine.bench.catalogue

    @property
    def gpu(self) -> str:
        """The catalogue's name of the GPU of its machine."""
        assert self._machine is not None
        return self._machine.gpu.name

    def error(self, problem: str, key: str) -> InputError:
        """An error about a cell of this row."""
        return self._table.error(self._row, problem, key)

    def multiplies(self, dtype: str) -> bool:
        """Whether the GPU has matrix units for a data type."""
        try:
            return self._machine is not None and self._machine.peak(dtype) > 0
        except InputError:
            return False

    def number(self, name: str, default: float | None = None) -> float:
        """A number; `default` where the cell is empty or the column is missing."""
        value = float(self._table.numbers[name][self._row]) if name in self._table.numbers else math.nan
        return value if not math.isnan(value) or default is None else default

    def count(self, name: str, default: int | None = None) -> int:
        """A whole number; `default` where the cell is empty or the column is missing."""
        value = self.number(name, default)
        if not math.isfinite(value) or value != int(value):
            raise self._table.error(self._row, "expected a whole number", name)
        return int(value)

    def has(self, name: str) -> bool:
        """True if the cell holds a number."""
        return name in self._table.numbers and not math.isnan(self._table.numbers[name][self._row])

    def word(self, name: str) -> str:
        """The word of a cell; empty where the column is missing."""
        return str(self._table.words[name][self._row]) if name in self._table.words else ""

    def dtype(self, name: str = "dtype") -> str:
        """A data type as models name it."""
        given = self.word(name)
        if given not in DTYPES:
            raise self._table.error(self._row, f"no model of data type {shown(given)}{nearest(given, DTYPES)}", name)
        return DTYPES[given]

    def flag(self, name: str) -> bool:
        """True if the cell says 'True'."""
        return self.word(name) == "True"


def degrees(row: Reader) -> dict[str, Any]:
    """Degrees of parallelism by column; one where nothing is said."""
    return {name: row.count(f"{name}_size", 1) for name in ("tp", "pp", "dp", "cp")}
