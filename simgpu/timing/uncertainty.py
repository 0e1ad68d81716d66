"""How sure a predicted time is: intervals from residuals against measurements.

`residuals.csv` beside this module holds, by operator, library, architecture, regime and length of the kernel, how
measured times lay about predicted ones. It is made by `simgpu validate all --data DIR --write-residuals FILE` from
half of the rows (chosen by a hash); the other half tests the coverage.

Regimes say how far the constants of a prediction come from: `calibrated` (measured on the GPU itself), `inherited`
(from its architecture), `datasheet` (from any GPU). Residuals of the latter two are those of predictions that pass
over the constants of the GPU, or of its whole architecture.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.hardware.inherit import DEFAULT, REGIMES
from simgpu.memo import remembered
from simgpu.timing.parts import Array, ArrayLike

TABLE = Path(__file__).with_name("residuals.csv")
ANY = "any"
STRATA = ("short", "medium", "long")
BOUNDS = (20e-6, 200e-6)
"""Predicted seconds that part the strata: below 20 us latencies decide, above 200 us rates do."""

_CENTRES = np.log([8e-6, 63e-6, 600e-6])
"""Where a stratum's residuals hold, log s; between them factors go evenly with the logarithm of the time."""

CLASSES = {
    "attention_prefill": "attention",
    "attention_decode": "attention",
    "attention_mixed": "attention",
    "attention": "attention",
    "matmul": "gemm",
    "gemm": "gemm",
    "convolution": "gemm",
    "moe": "moe",
    "all_reduce": "collective",
    "all_gather": "collective",
    "reduce_scatter": "collective",
    "all_to_all": "collective",
    "broadcast": "collective",
    "send_recv": "collective",
    "reduce": "collective",
    "decode": "run",
    "prefill": "run",
    "tpot": "run",
    "ttft": "run",
    "e2e": "run",
}
"""Class of an operator: errors of one class go together. Operators that are not named here are `vector`; whole
inference runs are `run`, by the name of their runtime as library."""

SURE = 0.8
"""Share of measurements that an interval is to hold."""
_Z90 = 1.2815515655446004  # 90 % quantile of the normal distribution


@dataclass(frozen=True)
class Residual:
    """One row of the table: quantiles of measured over predicted time, and what of their spread is systematic.

    `systematic` and `independent` are standard deviations of the logarithm: of the medians of groups (GPU, library,
    source of data), and within a group. `widening` stretches the quantiles for a GPU that none of the groups is.
    """

    rows: int
    groups: int
    p10: float
    p50: float
    p90: float
    systematic: float
    independent: float
    widening: float = 1.0

    @property
    def low(self) -> float:
        """Lower end of the interval over the predicted time; never above it."""
        return float(min(self.p10**self.widening, 1.0))

    @property
    def high(self) -> float:
        """Upper end of the interval over the predicted time; never below it."""
        return float(max(self.p90**self.widening, 1.0))

    @property
    def correlated(self) -> float:
        """Share of the variance that all kernels of the class have in common."""
        total = self.systematic**2 + self.independent**2
        return self.systematic**2 / total if total else 0.0


UNKNOWN = Residual(0, 0, 0.5, 1.0, 2.0, 0.4, 0.4)
"""Of a class that nobody measured: a factor of two either way."""

UNSEEN_ARCHITECTURE = 1.5
"""By how much the interval of a whole run is stretched, in logarithms, on a GPU whose constants come from farther away
than those of any GPU that such runs were measured on: an estimate, until runs on two architectures are known."""

VERSION = {"decode": 0.119, "prefill": 0.114, "tpot": 0.119, "e2e": 0.119, "ttft": 0.36}
"""Standard deviation of log(measured / predicted) that whole runs have in common where they are of another engine, or
of another version of one, than those of the residuals: from medians of groups (publisher, GPU, engine, model) whose
engine or version chose no constant, less what publisher and GPU explain. docs/inference.md says what lay between
versions."""

_T90 = 1.440
"""90 % quantile of Student's t with six degrees of freedom: a handful of groups is behind each of these."""


def of_version(op: str, low: float, high: float) -> tuple[float, float]:
    """The interval [low, high] of whole runs, as factors of the time, of a version that no residuals are of."""
    beside = _T90 * VERSION[op]
    return math.exp(-math.hypot(math.log(low), beside)), math.exp(math.hypot(math.log(high), beside))


Key = tuple[str, str, str, str, str]  # operator or class, library, architecture, regime, stratum


@dataclass(frozen=True)
class Spread:
    """Arrays over kernels: factors from the predicted time to its P10 and P90, and the correlated share of variance."""

    low: Array
    high: Array
    correlated: Array


def class_of(op: str) -> str:
    """Class of an operator: gemm, attention, moe, collective or vector."""
    return CLASSES.get(op, "vector")


def interval(
    op: str,
    seconds: ArrayLike,
    *,
    architecture: str = ANY,
    regime: str = "datasheet",
    library: str = DEFAULT,
) -> tuple[Array, Array]:
    """(low, high): [seconds low, seconds high] holds 80 % of measurements. Arrays of the shape of `seconds`."""
    found = spread(op, seconds, architecture=architecture, regime=regime, library=library)
    return found.low, found.high


def spread(
    op: str,
    seconds: ArrayLike,
    *,
    architecture: str = ANY,
    regime: str = "datasheet",
    library: str = DEFAULT,
) -> Spread:
    """Like `interval`, with the share of the variance that is common within a class."""
    rows = [residual(op, stratum, architecture, regime, library) for stratum in STRATA]
    at = np.log(np.maximum(np.asarray(seconds, float), 1e-9))
    low, high = (
        np.exp(np.interp(at, _CENTRES, np.log(ends))) for ends in zip(*((r.low, r.high) for r in rows), strict=True)
    )
    return Spread(low, high, np.asarray(np.interp(at, _CENTRES, [row.correlated for row in rows])))


@remembered(4096)
def residual(op: str, stratum: str, architecture: str, regime: str, library: str) -> Residual:
    """The row of the table that is nearest to what is asked.

    Tried in this order: the operator in the library on the architecture, in the library anywhere, in any library, then
    its class; each for the stratum and then for all lengths; then the same for the next wider regime. A narrower
    regime is taken last, and `UNKNOWN` where nothing is known. Of whole runs, one kind of which says little of another,
    the class is tried after all else.
    """
    table = _table()
    at = REGIMES.index(regime)
    levels = (*REGIMES[at:], *reversed(REGIMES[:at]))
    run, pooled = class_of(op) == "run", (class_of(op), ANY, ANY)
    places = [(op, library, architecture), (op, library, ANY), (op, ANY, architecture), (op, ANY, ANY)]
    for level, (name, lib, arch) in [
        *((level, place) for level in levels for place in (places if run else [*places, pooled])),
        *((level, pooled) for level in levels),
    ]:
        for length in (stratum, ANY):
            found = table.get((name, lib, arch, level, length))
            if found is not None and run and REGIMES.index(level) < at:
                return replace(found, widening=found.widening * UNSEEN_ARCHITECTURE)
            if found is not None:
                return found
    return UNKNOWN


@remembered(1)
def _table() -> dict[Key, Residual]:
    if not TABLE.is_file():
        return {}
    with TABLE.open(encoding="utf-8", newline="") as stream:
        return read(csv.DictReader(line for line in stream if not line.startswith("#")))


def read(rows: Any) -> dict[Key, Residual]:
    """Rows of a table by key."""
    return {
        (row["op"], row["library"], row["architecture"], row["regime"], row["stratum"]): Residual(
            int(row["rows"]),
            int(row["groups"]),
            *(float(row[name]) for name in ("p10", "p50", "p90", "systematic", "independent", "widening")),
        )
        for row in rows
    }
