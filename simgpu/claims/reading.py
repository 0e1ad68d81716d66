"""Reads files of claims: tables as they were printed become records of cells, conditions and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.claims.entry import (
    KNOWN_PRECISIONS,
    LABELS,
    METHODS,
    WORDS,
    Cell,
    Compared,
    Entry,
    EntryFields,
    Record,
)
from simgpu.claims.printed import Printed, printed
from simgpu.claims.quantities import COLUMNS, Quantity, quantity_of
from simgpu.documents import Document, Source, read_yaml
from simgpu.errors import InputError, nearest, shown
from simgpu.schema_errors import validate


def read_entries(file: Source, catalogue: Catalogue) -> list[Entry]:
    """The entries of a file: one, a list of them, or a list under `claims`. Raises `InputError`."""
    document = read_yaml(file, lists=True)
    data: Any = document.data
    base: tuple[Any, ...] = ()
    if isinstance(data, dict) and set(data) == {"claims"} and isinstance(data["claims"], list):
        data, base = data["claims"], ("claims",)
    if isinstance(data, dict):
        return [_entry(data, document, (), catalogue)]
    if not data:
        raise document.error("holds no claims; expected an entry with id, kind, source and rows")
    entries = [_entry(one, document, (*base, number), catalogue) for number, one in enumerate(data)]
    seen: set[str] = set()
    for entry in entries:
        if entry.fields.id in seen:
            raise entry.error(f"{shown(entry.fields.id)} is given twice", ("id",))
        seen.add(entry.fields.id)
    return entries


def entry_of(data: Mapping[str, Any], document: Document, catalogue: Catalogue) -> Entry:
    """An entry that a program holds."""
    return _entry(data, document, (), catalogue)


def _entry(data: Any, document: Document, path: tuple[Any, ...], catalogue: Catalogue) -> Entry:
    if not isinstance(data, dict):
        raise document.error(f"{shown(data)} is not an entry; expected a mapping with id, kind, source and rows", path)
    fields = validate(EntryFields, data, lambda where, problem: document.error(problem, (*path, *where)))
    reader = _Reader(fields, document, path, catalogue)
    records, compared = reader.read()
    if not records and not compared and not fields.rules:
        raise document.error("claims nothing; expected rows, values or rules", path)
    return Entry(fields, document, path, records, compared)


@dataclass
class _Reader:
    """Reads the rows of one entry."""

    fields: EntryFields
    document: Document
    path: tuple[Any, ...]
    catalogue: Catalogue

    def read(self) -> tuple[list[Record], list[Compared]]:
        words, inputs, cells = self._sorted(self.fields.inputs, ("inputs",))
        if cells:
            name = next(iter(cells))
            raise self._error("is a claim, not a condition; expected it in a row", cells[name].path)
        records: list[Record] = []
        compared: list[Compared] = []
        rows: list[tuple[Any, tuple[Any, ...]]] = [(row, ("rows", n)) for n, row in enumerate(self.fields.rows)]
        if self.fields.values:
            rows.append((self.fields.values, ("values",)))
        for number, (row, path) in enumerate(rows):
            if isinstance(row, dict):
                more, rest = self._ratio(number, row, path)
                records.append(self._mapping(number, rest, path, words, inputs))
                compared += more
            else:
                made, more = self._listed(number, row, path, words, inputs)
                records += made
                compared += more
        self._check_all(records)
        return records, compared

    def _error(self, problem: str, path: tuple[Any, ...]) -> InputError:
        return self.document.error(problem, (*self.path, *path))

    # ---- rows ----------------------------------------------------------------------------------------

    def _ratio(
        self, number: int, row: Mapping[str, Any], path: tuple[Any, ...]
    ) -> tuple[list[Compared], Mapping[str, Any]]:
        """The ratio that a row claims (`ratio: {of: ..., between: [A, B], is: 2.5}`), and the rest of the row."""
        given = row.get("ratio")
        if given is None:
            return [], row
        at = (*path, "ratio")
        if not isinstance(given, dict) or set(given) != {"of", "between", "is"}:
            raise self._error("expected of (a quantity), between (two names) and is (the ratio)", at)
        column = {"ratio": given["between"], "of": given["of"]}
        label = self._label(row)[0]
        return [self._compared(number, label, column, given["is"], at, None)], {
            k: v for k, v in row.items() if k != "ratio"
        }

    def _mapping(self, number: int, row: Mapping[str, Any], path: tuple[Any, ...], words: Any, inputs: Any) -> Record:
        label, rest = self._label(row)
        mine, given, cells = self._sorted(rest, path)
        return Record(number, label, {**words, **mine}, {**inputs, **given}, cells)

    def _listed(
        self, number: int, row: Sequence[Any], path: tuple[Any, ...], words: Any, inputs: Any
    ) -> tuple[list[Record], list[Compared]]:
        columns = self.fields.columns
        if not columns:
            raise self._error("a row that is a list needs columns", path)
        if len(row) != len(columns):
            raise self._error(f"has {len(row)} cells, expected {len(columns)}, one for each column", path)
        named = self._quantity_of_row(row, path)
        base: dict[str, Any] = {}
        groups: dict[Any, tuple[dict[str, Any], dict[str, tuple[Any, tuple[Any, ...]]]]] = {}
        special: list[tuple[int, Mapping[str, Any]]] = []
        for n, column in enumerate(columns):
            at = (*path, n)
            if isinstance(column, dict) and ("ratio" in column or "winner" in column):
                special.append((n, column))
            elif isinstance(column, dict):
                about = {key: value for key, value in column.items() if key != "is"}
                quantity = self._is(column, named, n)
                key = tuple((one, str(value)) for one, value in about.items() if one in WORDS or one == "gpus")
                found = groups.setdefault(key, (about, {}))
                found[0].update(about)
                found[1][quantity] = (row[n], at)
            elif column != "quantity" and column not in COLUMNS and column not in (*WORDS, *LABELS):
                of = named or self.fields.quantity
                if of is None:
                    raise self._error(self._no_column(column), ("columns", n))
                about = {"gpu": column} if self.catalogue.find("gpus", column) else {"cluster": column}
                groups.setdefault(tuple(about.items()), (about, {}))[1][of] = (row[n], at)
            elif column != "quantity":
                base[column] = (row[n], at)
        label, rest = self._label({key: value for key, (value, _) in base.items()})
        mine, given, cells = self._sorted(rest, path, {key: at for key, (_, at) in base.items()})
        label = label or (str(row[0]) if named else "")
        records = []
        if cells or not groups:
            records.append(Record(number, label, {**words, **mine}, {**inputs, **given}, cells))
        for about, printed_cells in groups.values():
            more, conditions, fixed = self._sorted(about, ("columns",))
            _, own_inputs, own = self._sorted(
                {key: value for key, (value, _) in printed_cells.items()},
                path,
                {key: at for key, (_, at) in printed_cells.items()},
            )
            about_it = {**inputs, **given, **conditions, **own_inputs}
            records.append(Record(number, label, {**words, **mine, **more}, about_it, own, {**cells, **fixed}))
        named = named or self.fields.quantity
        return records, [
            self._compared(number, label, one, row[n], (*path, n), named) for n, one in special if row[n] is not None
        ]

    def _quantity_of_row(self, row: Sequence[Any], path: tuple[Any, ...]) -> str | None:
        if "quantity" not in self.fields.columns:
            return None
        at = self.fields.columns.index("quantity")
        name = str(row[at])
        self._quantity(name, (*path, at))
        return name

    def _is(self, column: Mapping[str, Any], named: str | None, n: int) -> str:
        quantity = column.get("is", named or self.fields.quantity)
        if not isinstance(quantity, str):
            raise self._error("names no quantity; expected 'is: tokens_per_s' or another", ("columns", n))
        self._quantity(quantity, ("columns", n))
        return quantity

    def _no_column(self, column: str) -> str:
        known = [*COLUMNS, *WORDS, *LABELS, *self.catalogue.names("gpus")]
        return f"{shown(column)} is no quantity, word or GPU{nearest(column, known, 0)}"

    def _compared(
        self, number: int, label: str, column: Mapping[str, Any], cell: Any, path: tuple[Any, ...], named: str | None
    ) -> Compared:
        pair = column.get("ratio") or column.get("among")
        if not (isinstance(pair, list) and len(pair) == 2):
            raise self._error("expected the names of two columns, such as ratio: [h100-sxm, rtx-4090]", path)
        first, second = map(str, pair)
        of = column.get("of") or column.get("winner") or named
        quantity = self._quantity(str(of), path)[0].name if of else None
        better = str(column.get("better", "higher"))
        if "winner" not in column:
            figure = self._printed(cell, False, path)
            return Compared(number, label, quantity, first, second, figure, None, better, path)
        name, _, factor = str(cell).partition(" ")
        if name not in (first, second):
            raise self._error(f"{shown(name)} is no winner; expected {first} or {second}", path)
        return Compared(
            number, label, quantity, first, second, self._printed(factor or None, False, path), name, better, path
        )

    # ---- cells ---------------------------------------------------------------------------------------

    def _label(self, row: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        label = ", ".join(str(row[key]) for key in LABELS if row.get(key) is not None)
        return label[:120], {key: value for key, value in row.items() if key not in LABELS}

    def _sorted(
        self, given: Mapping[str, Any], path: tuple[Any, ...], places: Mapping[str, tuple[Any, ...]] | None = None
    ) -> tuple[dict[str, tuple[str, ...]], dict[str, tuple[Printed, ...]], dict[str, Cell]]:
        """Words, conditions and claims among the keys of a row."""
        words: dict[str, tuple[str, ...]] = {}
        inputs: dict[str, tuple[Printed, ...]] = {}
        cells: dict[str, Cell] = {}
        for key, value in given.items():
            at = (places or {}).get(key, (*path, key))
            if key in WORDS:
                options = value if isinstance(value, list) else [value]
                if value is not None:
                    words[key] = tuple(self._word(key, one, at) for one in options)
                continue
            quantity, scale = self._quantity(key, at)
            options = value if isinstance(value, list) else [value]
            setting = quantity.exact or quantity.role == "input"  # conditions are what was set
            figures = [self._printed(one, setting, at) for one in options]
            found = tuple(one.scaled(scale) for one in figures if one is not None)
            if quantity.role == "input" and found:
                inputs[quantity.name] = found
            elif isinstance(value, list):
                raise self._error(f"{shown(value)} is several values; expected one", at)
            elif found:
                cells[quantity.name] = Cell(quantity, found[0], key, at, scale)
        return words, inputs, cells

    def _word(self, key: str, value: Any, path: tuple[Any, ...]) -> str:
        text = str(value)
        known: Sequence[str] = ()
        if key == "gpu":
            self.catalogue.spec("gpus", text, blame=lambda _, problem: self._error(problem, path))
        elif key == "precision":
            known = KNOWN_PRECISIONS
        elif key == "method":
            known = METHODS
        elif key == "model" and not self._has_model(text):
            names = [*self.catalogue.names("models"), *self.catalogue.names("networks")]
            raise self._error(f"unknown model {shown(text)}{nearest(text, names, 0)}", path)
        if known and text not in known:
            raise self._error(f"unknown {key} {shown(text)}{nearest(text, known, 40)}", path)
        return text

    def _has_model(self, name: str) -> bool:
        return bool(self.catalogue.find("models", name) or self.catalogue.find("networks", name))

    def _quantity(self, name: str, path: tuple[Any, ...]) -> tuple[Quantity, float]:
        try:
            return quantity_of(name)
        except ValueError as problem:
            raise self._error(f"{shown(name)} {problem}", path) from None

    def _printed(self, cell: Any, exact: bool, path: tuple[Any, ...]) -> Printed | None:
        try:
            return printed(cell, exact)
        except ValueError as problem:
            raise self._error(f"{shown(cell)} {problem}", path) from None

    def _check_all(self, records: Sequence[Record]) -> None:
        for record in records:
            for name, cell in record.cells.items():
                if cell.figure.high < 0 or (cell.figure.value < 0 and name != "cut"):
                    raise self._error(f"{cell.figure.text} is negative", cell.path)


def files_of(given: Path) -> list[Path]:
    """The files of claims that a path names: itself, or every YAML file of a folder. Raises `InputError`."""
    if given.is_dir():
        found = sorted([*given.glob("*.yaml"), *given.glob("*.yml")])
        if not found:
            raise InputError("holds no files of claims (*.yaml)", file=given)
        return found
    return [given]
