"""Output of `simgpu fit`: a table of precisions by GPUs, every figure where rows are few, and the matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import IO, TYPE_CHECKING, Any

from simgpu.render.matrix import matrix_figure
from simgpu.render.table import grid, print_notes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_LISTED = 8
"""Rows of a model up to which every figure of each is printed."""

GIB = 2.0**30
Rows = Sequence[Mapping[str, Any]]


def print_fits(rows: Rows, notes: Sequence[str], out: IO[str]) -> None:
    """Print rows of `simgpu.study.report.capacity.COLUMNS`, and the notes."""
    cells = False
    for _, of_model in groupby(rows, key=lambda row: row["model"]):
        some = list(of_model)
        if len(some) <= MOST_LISTED:
            _print_figures(some, out)
        else:
            _print_matrix(some, out)
            cells = True
    first = rows[0]
    who = f"each of {first['users']:,} users" if first["users"] > 1 else "one user"
    legend = f'Each cell: fewest GPUs needed for {who} (most users those GPUs can hold). "none": more than 32.'
    print_notes([*([legend] if cells else []), *notes], out)


def _print_matrix(rows: Rows, out: IO[str]) -> None:
    gpus = list(dict.fromkeys(row["gpu"] for row in rows))
    lines = []
    for _, of_precision in groupby(rows, key=lambda row: row["precision"]):
        some = {row["gpu"]: row for row in of_precision}
        alone = [row["gpu"] for row in sorted(some.values(), key=_memory) if row["fits_one"]]
        lines.append([*_what(next(iter(some.values()))), alone[0] if alone else "none"])
        lines[-1] += [_cell(some[gpu]) if gpu in some else "" for gpu in gpus]
    columns = ["precision", "runtime", "weights", "cache/token", "smallest alone", *gpus]
    grid(_heading(rows[0]), columns, lines, out, [2, 3, *range(5, 5 + len(gpus))])


def _print_figures(rows: Rows, out: IO[str]) -> None:
    columns = ["precision", "runtime", "weights", "cache/token", "GPU", "needs", "of", "fewest GPUs"]
    columns += ["users there", "longest context there"]
    lines = []
    for row in rows:
        known = row["smallest_gpus"]
        fewest = f"{known} ({row['split']})" if known > 1 else str(known or "none")
        sizes = [f"{row[name] / GIB:,.1f} GiB" for name in ("needed_bytes", "usable_bytes")]
        held = [f"{row[name]:,}" if known else "" for name in ("most_users", "longest_context")]
        lines.append([*_what(row), row["gpu"], *sizes, fewest, *held])
    grid(_heading(rows[0]), columns, lines, out, (2, 3, 5, 6, 7, 8, 9))
    print_notes([f"{row['precision']} on one {row['gpu']}: {row['helps']}" for row in rows if row["helps"]], out)


def _what(row: Mapping[str, Any]) -> list[str]:
    weights, token = f"{row['weights_bytes'] / 1e9:,.1f} GB", f"{row['kv_bytes_per_token'] / 1e3:,.1f} kB"
    return [row["precision"], row["runtime"], weights, token]


def _memory(row: Mapping[str, Any]) -> float:
    return float(row["gpu_memory_bytes"])


def _heading(row: Mapping[str, Any]) -> str:
    return f"{row['model']} for {_users(row)} at {row['context']:,} tokens"


def _users(row: Mapping[str, Any]) -> str:
    return f"{row['users']:,} users" if row["users"] > 1 else "one user"


def _cell(row: Mapping[str, Any]) -> str:
    return f"{row['smallest_gpus']} ({row['most_users']:,})" if row["smallest_gpus"] else "none"


def fit_figure(rows: Rows) -> Figure:
    """The matrix of models and precisions over GPUs: how many of each hold one."""
    several = len({row["model"] for row in rows}) > 1
    named = [{**row, "what": f"{row['model']}, {row['precision']}" if several else row["precision"]} for row in rows]
    contexts = sorted({row["context"] for row in rows})
    tokens = f"{contexts[0]:,}" if len(contexts) == 1 else f"{contexts[0]:,} to {contexts[-1]:,}"
    what = "a model" if several else rows[0]["model"]
    heading = f"GPUs that hold {what} for {_users(rows[0])} at {tokens} tokens"
    return matrix_figure(named, "gpu", "what", "smallest_gpus", heading, "fewest GPUs of a kind; a dash: more than 32")
