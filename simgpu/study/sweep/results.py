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
from simgpu.study.sweep.store import Store, StoredPoint, store_file
from simgpu.tabular import Tabular, frame

PROVENANCE = ("experiment", "status", "reason", "key", "seconds", "host", "finished")
"""Columns that stand behind those of a result."""

MOST_ROWS = 50
"""Rows that a table shows unless told otherwise."""

ENDINGS = (".csv", ".parquet", ".json")


@dataclass(frozen=True)
class ResultsQuery:
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


def results(store: str | Path | None, query: ResultsQuery) -> Results:
    """Read results. Raises `InputError` for a store, an experiment, a condition or a column that cannot be used."""
    if query.status not in ("ok", "failed", "all"):
        raise InputError(f"{shown(query.status)} is not known; expected one of ok, failed, all", key="--status")
    with Store(store_file(store), create=False) as opened:
        _check_experiment(opened, query.experiment)
        rows = _rows(opened, query)
    if query.where is not None:
        rows = _filtered(rows, query.where)
    if query.sort is not None:
        rows = _sorted(rows, query.sort)
    return Results(rows[: query.limit] if query.limit is not None else rows)


def scenario(store: str | Path | None, key: str) -> dict[str, Any]:
    """Everything that is known of one scenario, by its key or the beginning of it."""
    with Store(store_file(store), create=False) as opened:
        matches = opened.scenario(key.strip().lower())
        if len(matches) != 1 or not key.strip():
            problem = "several scenarios begin with it; expected more of the key" if matches else "no such scenario"
            raise InputError(f"{shown(key)}: {problem}", file=opened.file)
        match = matches[0]
        contents = opened.contents(match["parts"].values())
        match["parts"] = {name: contents[digest] for name, digest in match["parts"].items()}
        match["members"] = opened.labels(match["key"])
    return {
        "scenario": match.pop("asked"),
        **{name: match.pop(name) for name in ("key", "status", "reason", "row")},
        **match,
    }


def experiments(store: str | Path | None) -> list[str]:
    """A line for each experiment of a store."""
    with Store(store_file(store), create=False) as opened:
        return [
            f"{row['experiment']}: {row['points']:,} scenarios, {row['ok']:,} ok, {row['failed']:,} failed"
            for row in opened.experiments()
        ]


def export(answer: Results, file: Path, columns: Sequence[str] = ()) -> Path:
    """Write results as the ending of `file` says. Raises `InputError`."""
    if file.suffix not in ENDINGS:
        raise InputError(f"{shown(str(file))} ends with none of {', '.join(ENDINGS)}", key="--export")
    rows = _of_columns(answer.rows, columns)
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


def show(answer: Results, query: ResultsQuery, columns: Sequence[str], style: str, out: IO[str]) -> None:
    """Print results; a table shows the first `MOST_ROWS` unless a limit was given."""
    if style != "table":
        write(_of_columns(answer.rows, columns), style, out)
        return
    from simgpu.render.table import print_notes, print_table

    _of_columns(answer.rows, columns)
    few = answer.rows if query.limit is not None else answer.rows[:MOST_ROWS]
    short = [{**row, "key": row["key"][:10]} for row in few]
    if not few:
        print_notes(["no rows"], out)
        return
    print_table(short, columns or _telling(short), "", [], out)
    if len(few) < len(answer.rows):
        print_notes([f"{len(answer.rows) - len(few):,} more rows; --limit N shows more, --export FILE.csv all"], out)


def show_scenario(scenario_data: Mapping[str, Any], out: IO[str]) -> None:
    """Print everything of one scenario as JSON."""
    print_json({**scenario_data, "parts": scenario_data["parts"]}, out)


def _check_experiment(store: Store, name: str | None) -> None:
    known = [row["experiment"] for row in store.experiments()]
    if name is not None and name not in known:
        raise InputError(f"no experiment {shown(name)} in the store{nearest(name, known)}", file=store.file)


def _rows(store: Store, query: ResultsQuery) -> list[dict[str, Any]]:
    """Rows with their provenance; a point that several sweeps share once."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    for one in store.members(experiment=query.experiment):
        if query.status in ("all", one.status):
            place = one.experiment, one.key, json.dumps(one.labels)
            rows.setdefault(place, {**one.whole_row, **_provenance(one)})
    return list(rows.values())


def _provenance(point: StoredPoint) -> dict[str, Any]:
    return {name: getattr(point, name) for name in PROVENANCE}


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(key for row in rows for key in row)


def _filtered(rows: Sequence[dict[str, Any]], where: str) -> list[dict[str, Any]]:
    """Rows for which a condition on their columns holds; one that lacks a column it asks for does not match."""
    try:
        condition = conditions.parse(where, _columns(rows) if rows else None)
        complete = [row for row in rows if all(row.get(name) is not None for name in condition.names)]
        return [row for row in complete if condition.holds(row)]
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
    columns = columns_of(plain, ()) if any(plain) else []
    several = len({row["experiment"] for row in rows}) > 1
    failed = any(row["status"] == "failed" for row in rows)
    known = _columns(plain)
    columns = [column for column in columns if column in known]
    return [*(["experiment"] if several else []), *columns, *(["reason"] if failed else []), "key"]


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
