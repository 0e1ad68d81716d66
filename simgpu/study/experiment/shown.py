"""Columns of an experiment's table: the chosen ones, and in front of them varied keys that they do not show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simgpu.columns import COLUMNS, better
from simgpu.render.columns import columns_of
from simgpu.study.experiment.fields import ExperimentFields
from simgpu.study.experiment.loading import column_of

Rows = Sequence[Mapping[str, Any]]


def shown_columns(fields: ExperimentFields, rows: Rows) -> list[str]:
    """Columns of the table that some row has: rows that differ in a label or in what the file varies never look alike.

    A label or a varied key is added only where the settings that are shown do not tell its rows apart: `gpu` does for
    the clusters of a file with one of each.
    """
    shown = [column for column in columns_of(rows, fields.table) if any(column in row for row in rows)]
    labels = [name for case in fields.cases for name in case.get("labels") or () if not name.startswith("claimed_")]
    varied = [*fields.vary, *(key for group in fields.zip for key in group)]
    known = [name for name in shown if _is_setting(name, rows)]
    front: list[str] = []
    for column in [*labels, *map(column_of, varied)]:
        together = [*known, *front]
        if not _has(column, shown) and _kinds([*together, column], rows) > _kinds(together, rows):
            front.append(column)
    return [*front, *shown]


def left_out(fields: ExperimentFields, rows: Rows) -> list[str]:
    """Columns of the file's table that no row has, as after `--set`: they are not shown."""
    return [column for column in fields.table if not any(column in row for row in rows)]


def _has(column: str, shown: Sequence[str]) -> bool:
    """True if a table has a column, or the same under a shorter name: `batch` for `workload.batch`."""
    return column in shown or column.rpartition(".")[2] in shown


def _is_setting(column: str, rows: Rows) -> bool:
    """True if a column is an input: a label, a varied key, a name or count of the scenario."""
    if column not in COLUMNS:
        return not column.startswith("claimed_")
    return better(column) is None and not any(isinstance(row.get(column), (bool, float)) for row in rows)


def _kinds(columns: Sequence[str], rows: Rows) -> int:
    """The number of different rows that these columns show."""
    return len({tuple(repr(row.get(column)) for column in columns) for row in rows})
