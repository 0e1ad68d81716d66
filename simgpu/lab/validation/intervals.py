"""How good the error bars are: coverage, width and interval score.

They are told by class of rows and by how far the rows stand from what chose the constants.

A wide interval holds everything and says nothing, so coverage never stands alone. The interval score of a row is its
width plus ten times what lies outside, in log(measured / predicted) (Gneiting and Raftery, 2007, for 80 %): lower is
better. Sources count once, whatever rows they have: a thousand rows of one publisher are one draw of a machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from simgpu.lab.validation.left_out import left_out
from simgpu.lab.validation.run import Scored
from simgpu.lab.validation.sources import known
from simgpu.lab.validation.standing import STANDINGS
from simgpu.lab.validation.tables import Array
from simgpu.timing.distance import OF, class_of_run, student
from simgpu.timing.uncertainty import component_class

MEMORY, QUEUED, NETWORK = "memory", "ttft queue", "network"
TITLES = {
    "gemm": "matrix products",
    "attention_prefill": "attention of prompts",
    "attention_decode": "attention of decode",
    "moe": "experts",
    "collective": "collectives",
    "vector": "streaming kernels",
    "step_time": "training steps",
    "served": "served tokens and requests",
    "rate": "decode of one batch",
    "ttft": "first tokens under load",
    QUEUED: "first tokens of a saturated server",
    "prefill": "prompts alone",
    MEMORY: "memory",
    NETWORK: "networks of stages",
}
"""Classes of rows in words."""

OUTSIDE = 10.0
"""What a row outside pays for its distance: 2 / (1 - 0.8)."""
_FREEDOM = 6


@dataclass(frozen=True)
class Held:
    """Rows of one source in a class at one distance: log(measured / predicted), and both ends in the same logarithm."""

    of: str
    standing: str
    source: str
    residual: Array
    low: Array
    high: Array

    @property
    def inside(self) -> np.ndarray[Any, Any]:
        """Which rows lie within."""
        found: np.ndarray[Any, Any] = (self.low <= self.residual + 1e-12) & (self.residual <= self.high + 1e-12)
        return found

    @property
    def score(self) -> Array:
        """The interval score of each row."""
        beyond = np.maximum(self.low - self.residual, 0) + np.maximum(self.residual - self.high, 0)
        return self.high - self.low + OUTSIDE * beyond


def classes_of(part: Scored) -> np.ndarray[Any, Any]:
    """The class of each row of a batch, one of `TITLES`: of whole runs, an idle server's are those of one batch."""
    op, count = part.batch.op, len(part.measured)
    if op in OF:
        return np.asarray([QUEUED if detail.queue else class_of_run(op, detail.load) for detail in part.batch.details])
    return np.full(count, op if op in (MEMORY, NETWORK) else component_class(op))


def held_rows(scored: Iterable[Scored]) -> list[Held]:
    """Rows by class, distance and source. Of sources that chose constants, those that did not make the table."""
    found: dict[tuple[str, str, str], list[tuple[Array, Array, Array]]] = {}
    for part in scored:
        assert part.standing is not None
        counts = part.reserved if part.seen else np.ones(len(part.measured), bool)
        logs = [np.log(value / part.predicted) for value in (part.measured, part.low, part.high)]
        classes = classes_of(part)
        for of, standing in dict.fromkeys(zip(classes.tolist(), part.standing.tolist(), strict=True)):
            at = counts & (part.standing == standing) & (classes == of)
            if at.any():
                key = (of, standing, _source(part))
                found.setdefault(key, []).append((logs[0][at], logs[1][at], logs[2][at]))
    return [
        Held(*key, *(np.concatenate(column) for column in zip(*parts, strict=True))) for key, parts in found.items()
    ]


def _source(part: Scored) -> str:
    """Who measured: of tables of several papers or pages, the first of them."""
    return part.batch.details[0].origin if part.batch.details else part.source


def summary(held: Sequence[Held]) -> dict[str, Any]:
    """Coverage, width and score of some rows: over all of them, and with each source counting once."""
    by_source: dict[str, list[Held]] = {}
    for one in held:
        by_source.setdefault(one.source, []).append(one)

    def mean(value: Callable[[Held], Array]) -> float:
        return float(
            np.mean([np.mean(np.concatenate([value(one) for one in members])) for members in by_source.values()])
        )

    every = np.concatenate([one.inside for one in held])
    return {
        "rows": len(every),
        "sources": len(by_source),
        "inside": float(np.mean(every)),
        "inside_by_source": mean(lambda one: one.inside),
        "width": float(np.exp(np.median(np.concatenate([one.high - one.low for one in held])))),
        "interval_score": mean(lambda one: one.score),
    }


def interval_rows(scored: Iterable[Scored]) -> list[dict[str, Any]]:
    """One row for each class and distance: rows, sources, share inside, width (P90 over P10) and interval score."""
    groups: dict[tuple[str, str], list[Held]] = {}
    for one in held_rows(scored):
        groups.setdefault((one.of, one.standing), []).append(one)
    order = sorted(groups, key=lambda key: (list(TITLES).index(key[0]), STANDINGS.index(key[1])))
    return [{"class": TITLES[of], "standing": standing, **summary(groups[of, standing])} for of, standing in order]


def outsider(scored: Sequence[Scored]) -> dict[str, Any] | None:
    """The same over all rows of times of sources that no constant ever saw: what an outsider meets.

    Of whole runs the intervals never saw the source either.
    """
    sources = known()
    strangers = [part for part in scored if not sources[part.source].seen and part.batch.op != MEMORY]
    held = held_rows([part for part in strangers if part.batch.op not in OF])
    if any(part.batch.op in OF for part in strangers):
        held += held_rows(part for part in left_out(scored) if not sources[part.source].seen)
    return summary(held) if held else None


# ---- reliability -------------------------------------------------------------------------------------

LEVELS = tuple(round(0.05 * i, 2) for i in range(1, 20))
"""Shares that an interval may promise."""


def reliability(held: Sequence[Held]) -> list[float]:
    """The share of rows inside the interval of each of `LEVELS`, each source counting once.

    Intervals of other levels than 80 % are those of Student's t with six degrees of freedom whose P10 and P90 are the
    ends.
    """
    normal = NormalDist()
    ends = [student(normal.inv_cdf((1 + level) / 2), _FREEDOM) for level in LEVELS]
    unit = student(normal.inv_cdf(0.9), _FREEDOM)
    by_source: dict[str, list[Array]] = {}
    for one in held:
        side = np.where(one.residual < 0, -one.low, one.high)
        by_source.setdefault(one.source, []).append(np.abs(one.residual) / np.maximum(side, 1e-12))
    away = [np.concatenate(parts) for parts in by_source.values()]
    return [float(np.mean([np.mean(part <= end / unit) for part in away])) for end in ends]


GROUPS = {
    "kernels": ("gemm", "attention_prefill", "attention_decode", "moe", "vector"),
    "collectives": ("collective",),
    "training steps": ("step_time",),
    "inference runs": tuple(dict.fromkeys(of for of in OF.values() if of != "step_time")),
}
"""Classes that share a line of the reliability diagram."""


def reliability_lines(scored: Iterable[Scored]) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Lines of a reliability diagram: by distance, and by class."""
    held = [one for one in held_rows(scored) if one.of != MEMORY]
    standings = {name: [one for one in held if one.standing == name] for name in STANDINGS}
    classes = {name: [one for one in held if one.of in members] for name, members in GROUPS.items()}
    by_standing, by_class = (
        {
            f"{name} ({sum(len(one.residual) for one in some):,} rows)": reliability(some)
            for name, some in groups.items()
            if some
        }
        for groups in (standings, classes)
    )
    return by_standing, by_class
