"""Whole steps as rows of a document: each row beside its measurement, errors by origin, the rows farthest off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from simgpu.lab.validation.reasons import reason
from simgpu.lab.validation.run import Scored, Validation
from simgpu.lab.validation.score import row_of

FARTHEST = 5
_SAME = ("source", "gpu", "op", "dtype", "part", "model", "gpus", "plan", "origin", "framework", "caveat")


def step_rows(done: Validation) -> list[dict[str, Any]]:
    """Rows of whole steps. Repeats of one measurement are one row: their median, and how many there are."""
    together: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for part in done.scored:
        for row in _rows(part) if part.batch.details else ():
            key = tuple(row[name] for name in _SAME)
            together.setdefault((*key, round(row["predicted"], 12)), []).append(row)
    found = []
    for members in together.values():
        measured = float(np.median([row["measured"] for row in members]))
        error = members[0]["predicted"] / measured - 1
        found.append({**members[0], "measured": measured, "error": error, "rows": len(members)})
    return found


def _rows(part: Scored) -> Iterator[dict[str, Any]]:
    batch = part.batch
    for i, detail in enumerate(batch.details):
        measured, predicted = float(part.measured[i]), float(part.predicted[i])
        yield {
            "source": part.source,
            "line": int(part.table.lines[int(batch.rows[i])]),
            "origin": detail.origin,
            "gpu": part.gpu,
            "op": batch.op,
            "dtype": batch.dtype,
            "part": batch.part,
            "model": detail.model,
            "gpus": detail.gpus,
            "plan": detail.plan,
            "framework": detail.framework,
            "measured": measured,
            "predicted": predicted,
            "error": predicted / measured - 1,
            "low": float(part.low[i]),
            "high": float(part.high[i]),
            "caveat": detail.caveat,
            "why": reason(row_of(part, i)),
            "rows": 1,
        }


def by_origin(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Errors by paper or page, GPU and quantity: median, mean, P90 and largest, bias, and coverage."""
    members: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in rows:
        what = f"{row['op']} {row['part']}".strip()
        members.setdefault((row["origin"], row["gpu"], what), []).append(row)
    return [
        {"origin": origin, "gpu": gpu, "op": what, **errors_of(group)} for (origin, gpu, what), group in members.items()
    ]


def errors_of(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Errors of some rows, as fractions."""
    error = np.asarray([row["error"] for row in rows])
    off = np.abs(error)
    return {
        "rows": len(rows),
        "median_ape": float(np.median(off)),
        "mape": float(off.mean()),
        "p90_ape": float(np.quantile(off, 0.9)),
        "max_ape": float(off.max()),
        "bias": float(np.exp(np.median(np.log1p(error))) - 1),
        "coverage80": float(np.mean([row["low"] <= row["measured"] <= row["high"] for row in rows])),
    }


def farthest(rows: Sequence[dict[str, Any]], count: int = FARTHEST) -> list[dict[str, Any]]:
    """The rows that are off by the largest factor."""
    return sorted(rows, key=lambda row: -abs(np.log1p(row["error"])))[:count]
