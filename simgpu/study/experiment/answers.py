"""The number that a scenario is asked for: which column."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.columns import COLUMNS_PAGE
from simgpu.errors import InputError, nearest, shown


def natural(row: Mapping[str, Any]) -> str:
    """The answer of a kind of job: time of the step; of a batch time per output token; of a server tokens/s/GPU."""
    if row["workload"] in ("serving", "traffic"):
        return "output_tokens_per_s_per_gpu"
    return "tpot_s" if row.get("tpot_s") else "step_s"


def checked_column(column: str, row: Mapping[str, Any], key: str) -> str:
    """The name `column`, if the row has a number above zero there. Raises `InputError` at `key`."""
    numbers = [name for name, value in row.items() if isinstance(value, (int, float)) and not isinstance(value, bool)]
    if column not in row:
        raise InputError(
            f"no column {shown(column)} in the rows{nearest(column, numbers, where=COLUMNS_PAGE)}", key=key
        )
    value = row[column]
    if column not in numbers:
        raise InputError(f"'{column}' is not a number ({shown(value)})", key=key)
    if not value > 0:
        raise InputError(f"'{column}' is {value:g} here; expected a column above zero", key=key)
    return column


def scaling(column: str) -> int | None:
    """The power of x by which a column changes when everything runs x times as fast.

    It is -1 for a time, 1 for a rate, None where it is not known.
    """
    if column.endswith(("_per_s", "_per_s_per_gpu", "_per_s_per_user")):
        return 1
    return -1 if column.endswith("_s") or column.startswith("usd_") else None
