"""Scores of groups of rows: how far predictions are off, which way, and whether the intervals hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from simgpu.lab.validation.run import Scored, Validation
from simgpu.lab.validation.tables import Array

OPERATOR = "operator"
"""What 'validate inference' calls rows of single operators."""


@dataclass(frozen=True)
class Group:
    """Scores of the rows of one source, GPU, operator and data type.

    Errors are |predicted / measured - 1|, as fractions: `median_ape`, `mape` (mean), `p90_ape`. `bias` is
    exp(median(log(predicted / measured))) - 1: above zero where predictions are too slow. `coverage80` is the share of
    rows whose measured time lies within the 80 % interval. `sol_*` are errors of the plain datasheet roofline. `part`
    tells the operators of 'validate inference' apart, and the runtimes of its whole runs.
    """

    source: str
    gpu: str
    op: str
    dtype: str
    rows: int
    median_ape: float
    mape: float
    p90_ape: float
    bias: float
    coverage80: float
    sol_median_ape: float
    sol_mape: float
    regime: str
    architecture: str
    part: str = ""


@dataclass(frozen=True)
class Row:
    """One row for a list of the worst."""

    source: str
    line: int
    gpu: str
    op: str
    dtype: str
    what: str
    measured_s: float
    predicted_s: float
    factor: float  # how many times too slow or too fast
    library: str


def groups(done: Validation) -> list[Group]:
    """Scores by source, GPU, operator and data type."""
    members: dict[tuple[str, str, str, str, str], list[Scored]] = {}
    for part in done.scored:
        op, kind = part.batch.op, ""
        if done.target == "inference":
            op, kind = (op, part.batch.library) if part.batch.details else (OPERATOR, op)
        members.setdefault((part.source, part.gpu, op, part.batch.dtype, kind), []).append(part)
    return [
        Group(
            *key[:4], **scores(parts), regime=_joined(p.regime for p in parts), architecture=parts[0].architecture,
            part=key[4],
        )
        for key, parts in sorted(members.items())
        if sum(len(part.measured) for part in parts)
    ]  # fmt: skip


def scores(parts: Sequence[Scored], where: Callable[[Scored], Array] | None = None) -> dict[str, Any]:
    """Rows and errors of some batches; `where` says which rows of a batch count."""
    masks = [np.ones(len(part.measured), bool) if where is None else where(part) for part in parts]
    ratio = np.concatenate([part.ratio[mask] for part, mask in zip(parts, masks, strict=True)] or [np.zeros(0)])
    if not len(ratio):
        return {"rows": 0}
    sol = np.concatenate([(part.roofline / part.measured)[mask] for part, mask in zip(parts, masks, strict=True)])
    inside = np.concatenate(
        [((part.low <= part.measured) & (part.measured <= part.high))[m] for part, m in zip(parts, masks, strict=True)]
    )
    error = np.abs(ratio - 1)
    return {
        "rows": len(ratio),
        "median_ape": float(np.median(error)),
        "mape": float(np.mean(error)),
        "p90_ape": float(np.quantile(error, 0.9)),
        "bias": float(np.exp(np.median(np.log(ratio))) - 1),
        "coverage80": float(np.mean(inside)),
        "sol_median_ape": float(np.median(np.abs(sol - 1))),
        "sol_mape": float(np.mean(np.abs(sol - 1))),
    }


def worst(done: Validation, count: int | None = 10, factor: float = 1.0) -> list[Row]:
    """The rows that are off by the largest factor, the worst first; only those off by more than `factor`."""
    found: list[tuple[float, Scored, int]] = []
    for part in done.scored:
        if part.batch.op == "memory":
            continue  # bytes: listed with the whole steps
        off = np.abs(np.log(part.ratio))
        wanted = np.flatnonzero(off > np.log(factor)) if factor > 1 else np.argsort(-off, kind="stable")[:count]
        found += [(float(off[i]), part, int(i)) for i in wanted]
    found.sort(key=lambda entry: (-entry[0], entry[1].source, entry[2]))
    return [row_of(part, i) for _, part, i in found[:count]]


def row_of(part: Scored, i: int) -> Row:
    """One row of a batch."""
    row = int(part.batch.rows[i])
    ratio = float(part.ratio[i])
    return Row(
        part.source,
        int(part.table.lines[row]),
        part.gpu,
        part.batch.op,
        part.batch.dtype,
        part.table.described(row, part.batch.shape) + "".join(f" {d.plan}" for d in part.batch.details[i : i + 1]),
        float(part.measured[i]),
        float(part.predicted[i]),
        max(ratio, 1 / ratio),
        part.batch.library,
    )


def _joined(words: Iterable[str]) -> str:
    return "+".join(dict.fromkeys(words))
