"""Finished rows that go on the table: the result.json of a run, the store of a sweep, published claims."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from simgpu.catalog import Catalogue
from simgpu.claims.finding import VERDICTS
from simgpu.documents import read_text, read_yaml
from simgpu.errors import InputError, shown
from simgpu.render.columns import columns_of
from simgpu.review.given import given_of
from simgpu.review.pictures import own_picture
from simgpu.review.subject import (
    DISTANCE,
    Picture,
    Subject,
    alike,
    answer_column,
    answer_of,
    best,
    command_line,
    distances_of,
    row_words,
)

if TYPE_CHECKING:
    from simgpu.claims.check import Claims

MOST_BYTES = 200_000_000
"""Bytes of a result.json that are read."""
MOST_PICTURE_BYTES = 5_000_000
MOST_PICTURES = 20


def of_run(file: Path, value: str | None) -> Subject:
    """The result.json of a run or a sweep, with the pictures (SVG) that lie beside it."""
    data = _document(file)
    rows: list[Any] = data.get("rows", [])
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError("has no rows; expected the result.json of simgpu run", file=file, key="rows")
    columns = _columns(rows)
    column = answer_column(rows, (), value)
    chosen = best(rows, column)[0] if column and (value or alike(rows)) else None
    notes = [str(note) for note in data.get("notes", [])]
    scenarios = data.get("scenarios") or []
    inputs = given_of(_resolved(data, chosen or 0)) if len(scenarios) == len(rows) else []
    lie = sorted(file.parent.glob("*.svg"))[:MOST_PICTURES]
    beside = [Picture(one.stem, one.stem, svg=read_text(one, MOST_PICTURE_BYTES)) for one in lie]
    name = str(data.get("experiment") or data.get("search") or file.stem)
    return Subject(
        name=name, question=str(data.get("title") or name), description=f"Rows of {file}.", columns=columns, rows=rows,
        answer=answer_of(rows, columns, column, chosen), column=column, chosen=chosen,
        pictures=beside or own_picture(rows, columns, column), inputs=inputs,
        about=row_words(rows, columns, chosen or 0) if len(rows) > 1 else "",
        distances=[note for note in notes if note.startswith(DISTANCE)] or distances_of(rows),
        notes=[note for note in notes if not note.startswith(DISTANCE)],
        commands=[f"simgpu run {shlex.quote(name)}", command_line("report", file, (), value=value)],
    )  # fmt: skip


def _resolved(data: Mapping[str, Any], number: int) -> dict[str, Any]:
    """Every input of a row: its own, and the constants that it shares with others."""
    shared = [one["inputs"] for one in data.get("constants", []) if number in one["rows"]]
    return {key: one for inputs in (data["scenarios"][number], *shared) for key, one in inputs.items()}


def _document(file: Path) -> dict[str, Any]:
    try:
        data = json.loads(read_text(file, MOST_BYTES))
    except json.JSONDecodeError as error:
        raise InputError(f"is not valid JSON ({error.msg})", file=file, line=error.lineno) from None
    except RecursionError:
        raise InputError("is not valid JSON (nested too deeply)", file=file) from None
    if not isinstance(data, dict):
        raise InputError(f"{shown(data)} is not the result.json of simgpu run", file=file)
    return data


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Columns of rows whose experiment is not at hand."""
    return [one for one in columns_of(rows, ()) if any(one in row for row in rows)] or list(
        dict.fromkeys(key for row in rows for key in row)
    )


def of_store(file: Path, value: str | None) -> Subject:
    """The rows that sweeps stored."""
    from simgpu.study.sweep.results import PROVENANCE, ResultsQuery, experiments, results

    rows = [{k: v for k, v in row.items() if k not in PROVENANCE[1:]} for row in results(file, ResultsQuery()).rows]
    if not rows:
        raise InputError("holds no rows that ran; expected those of a sweep", file=file)
    plain = [{key: value for key, value in row.items() if key != "experiment"} for row in rows]
    several = len({row["experiment"] for row in rows}) > 1
    columns = [*(["experiment"] if several else []), *_columns(plain)]
    column = answer_column(rows, (), value)
    chosen = best(rows, column)[0] if column and (value or alike(rows)) else None
    return Subject(
        name=file.stem, question=f"Rows of the store {file.name}", description=" ".join(experiments(file)),
        columns=columns, rows=rows, answer=answer_of(rows, columns, column, chosen), column=column, chosen=chosen,
        pictures=own_picture(rows, columns, column), distances=distances_of(rows),
        commands=[f"simgpu results --store {shlex.quote(str(file))}", command_line("report", file, (), value=value)],
    )  # fmt: skip


def holds_claims(file: Path) -> bool:
    """True of a folder, or a file whose first keys are those of published claims."""
    if file.is_dir():
        return any(file.glob("*.yaml"))
    if file.suffix not in (".yaml", ".yml") or not file.is_file():
        return False
    data: Any = read_yaml(file, lists=True).data
    first = data[0] if isinstance(data, list) and data else data
    return isinstance(first, dict) and {"id", "kind"} <= first.keys()


def _verdicts(done: Claims) -> str:
    """How many printed figures have each verdict, in one sentence."""
    counts = Counter(finding.verdict for entry in done.entries for finding in entry.findings)
    said = ", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS if counts[verdict])
    return f"Of {counts.total():,} printed figure{'s' if counts.total() != 1 else ''}: {said}."


def of_claims(file: Path, catalogue: Catalogue, progress: Callable[[int, int], None] | None) -> Subject:
    """Published claims, each held against physics."""
    from simgpu.claims.check import check

    done = check([file], catalogue, progress)
    rows = list(done.rows)
    columns = [
        one for one in ("entry", "row", "subject", "quantity", "claimed", "verdict", "reason")
        if any(row.get(one) for row in rows)
    ]  # fmt: skip
    return Subject(
        name=file.stem, question=f"Does what {file.name} prints hold?", description="", columns=columns, rows=rows,
        answer=_verdicts(done), notes=[f"{one.entry}: {one.comment}" for one in done.entries if one.comment],
        commands=[command_line("claims", file, ()), command_line("report", file, ())],
    )  # fmt: skip
