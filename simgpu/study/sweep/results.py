"""`simgpu results`: rows of a store, filtered, sorted, exported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from simgpu.columns import COLUMNS_PAGE
from simgpu.errors import InputError, nearest, shown
from simgpu.render.columns import columns_of
from simgpu.render.data import print_csv, print_json
from simgpu.render.files import written_whole
from simgpu.study.experiment import conditions
from simgpu.study.sweep.store import Kept, Store, store_file
from simgpu.tabular import Tabular, frame

PROVENANCE = ("experiment", "status", "reason", "key", "seconds", "host", "finished")
"""Columns that stand behind those of a result."""

MOST_ROWS = 50
"""Rows that a table shows unless told otherwise."""

ENDINGS = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class Asked:
    """A query of results: of an experiment, with a status ('ok', 'failed', 'all'), that meet a condition, in order."""

    experiment: str | None = None
    where: str | None = None
    status: str = "ok"
    sort: str | None = None
    limit: int | None = None


@dataclass(frozen=True, repr=False)
class Results(Tabular):
    """Rows of a store: labels, varied values, the columns of a result, and where each comes from."""

    rows: Sequence[dict[str, Any]]

    def __len__(self) -> int:
        return len(self.rows)


def results(store: str | Path | None, asked: Asked) -> Results:
    """Read results. Raises `InputError` for a store, an experiment, a condition or a column that cannot be used."""
    if asked.status not in ("ok", "failed", "all"):
        raise InputError(f"{shown(asked.status)} is not known; expected one of ok, failed, all", key="--status")
    with Store(store_file(store), create=False) as opened:
        _check_experiment(opened, asked.experiment)
        rows = _rows(opened, asked)
    if asked.where is not None:
        rows = _filtered(rows, asked.where)
    if asked.sort is not None:
        rows = _sorted(rows, asked.sort)
    return Results(rows[: asked.limit] if asked.limit is not None else rows)


def scenario(store: str | Path | None, key: str) -> dict[str, Any]:
    """Everything that is known of one scenario, by its key or the beginning of it."""
    with Store(store_file(store), create=False) as opened:
        found = opened.scenario(key.strip().lower())
        if len(found) != 1 or not key.strip():
            problem = "several scenarios begin with it; expected more of the key" if found else "no such scenario"
            raise InputError(f"{shown(key)}: {problem}", file=opened.file)
        one = found[0]
        contents = opened.contents(one["parts"].values())
        one["parts"] = {name: contents[digest] for name, digest in one["parts"].items()}
        one["members"] = opened.labels(one["key"])
    return {"scenario": one.pop("asked"), **{name: one.pop(name) for name in ("key", "status", "reason", "row")}, **one}


def experiments(store: str | Path | None) -> list[str]:
    """A line for each experiment of a store."""
    with Store(store_file(store), create=False) as opened:
        return [
            f"{row['experiment']}: {row['points']:,} scenarios, {row['ok']:,} ok, {row['failed']:,} failed"
            for row in opened.experiments()
        ]


def export(found: Results, file: Path, columns: Sequence[str] = ()) -> Path:
    """Write results as the ending of `file` says. Raises `InputError`."""
    if file.suffix not in ENDINGS:
        raise InputError(f"{shown(str(file))} ends with none of {', '.join(ENDINGS)}", key="--export")
    rows = _of_columns(found.rows, columns)
    if file.suffix == ".parquet":
        _write_parquet(rows, file)
        return file
    with written_whole(file) as stream:
        write(rows, file.suffix[1:], stream)
    return file


def write(rows: Sequence[Mapping[str, Any]], style: str, out: IO[str]) -> None:
    """Print rows as 'csv', or as 'json': one document, a row on each line."""
    if style == "csv":
        print_csv(rows, out)
    else:
        lines = ",\n ".join(json.dumps(row, allow_nan=False) for row in rows)
        out.write(f"[\n {lines}\n]\n" if rows else "[]\n")


def show(found: Results, asked: Asked, columns: Sequence[str], style: str, out: IO[str]) -> None:
    """Print results; a table shows the first `MOST_ROWS` unless a limit was given."""
    if style != "table":
        write(_of_columns(found.rows, columns), style, out)
        return
    from simgpu.render.table import print_notes, print_table

    _of_columns(found.rows, columns)
    few = found.rows if asked.limit is not None else found.rows[:MOST_ROWS]
    short = [{**row, "key": row["key"][:10]} for row in few]
    if not few:
        print_notes(["no rows"], out)
        return
    print_table(short, columns or _telling(short), "", [], out)
    if len(few) < len(found.rows):
        print_notes([f"{len(found.rows) - len(few):,} more rows; --limit N shows more, --export FILE.csv all"], out)


def show_scenario(one: Mapping[str, Any], out: IO[str]) -> None:
    """Print everything of one scenario as JSON."""
    print_json({**one, "parts": one["parts"]}, out)


def _check_experiment(store: Store, name: str | None) -> None:
    known = [row["experiment"] for row in store.experiments()]
    if name is not None and name not in known:
        raise InputError(f"no experiment {shown(name)} in the store{nearest(name, known)}", file=store.file)


def _rows(store: Store, asked: Asked) -> list[dict[str, Any]]:
    """Rows with their provenance; a point that several sweeps share once."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in store.members(experiment=asked.experiment):
        if asked.status in ("all", one.status):
            place = one.experiment, one.key, json.dumps(one.labels)
            found.setdefault(place, {**one.whole_row, **_provenance(one)})
    return list(found.values())


def _provenance(one: Kept) -> dict[str, Any]:
    return {name: getattr(one, name) for name in PROVENANCE}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(key for row in rows for key in row)


def _filtered(rows: Sequence[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """Rows for which a condition on their columns holds; one that lacks a column it asks for does not match."""
    try:
        condition = conditions.parse(where, _columns(rows) if rows else None)
        asked = [row for row in rows if all(row.get(name) is not None for name in condition.names)]
        return [row for row in asked if condition.holds(row)]
    except InputError as error:
        raise InputError(error.problem, key="--where") from None


def _sorted(rows: Sequence[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    """Sort rows by a column ('-COLUMN' descending); rows that lack it come last."""
    column, down = sort.removeprefix("-"), sort.startswith("-")
    _known(rows, [column], "--sort")
    have = [row for row in rows if row.get(column) is not None]
    words = any(isinstance(row[column], str) for row in have)
    have.sort(key=lambda row: str(row[column]) if words else row[column], reverse=down)
    return have + [row for row in rows if row.get(column) is None]


def _of_columns(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[Mapping[str, Any]]:
    if not columns:
        return list(rows)
    _known(rows, columns, "--columns")
    return [{column: row.get(column) for column in columns} for row in rows]


def _known(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], option: str) -> None:
    known = _columns(rows)
    for column in columns:
        if rows and column not in known:
            hint = nearest(column, known, where=COLUMNS_PAGE)
            raise InputError(f"no column {shown(column)} in the rows{hint}", key=option)


def _telling(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns of a table when none are named."""
    plain = [{key: value for key, value in row.items() if key not in PROVENANCE} for row in rows]
    found = columns_of(plain, ()) if any(plain) else []
    several = len({row["experiment"] for row in rows}) > 1
    failed = any(row["status"] == "failed" for row in rows)
    known = _columns(plain)
    found = [column for column in found if column in known]
    return [*(["experiment"] if several else []), *found, *(["reason"] if failed else []), "key"]


def _write_parquet(rows: Sequence[Mapping[str, Any]], file: Path) -> None:
    """Write Parquet by way of pandas; a column that mixes kinds of values becomes text."""
    table = frame(rows)
    try:
        import pyarrow  # type: ignore[import-untyped]  # noqa: F401
    except ImportError:
        raise InputError("needs pyarrow: pip install 'simgpu[tables]'", key="--export") from None
    for column in table.columns:
        kinds = {type(value) for value in table[column] if value is not None and value == value}
        if (len(kinds) > 1 and not kinds <= {int, float}) or kinds & {list, dict}:
            table[column] = [None if value is None or value != value else str(value) for value in table[column]]
    with written_whole(file, binary=True) as stream:
        table.to_parquet(stream, index=False)
