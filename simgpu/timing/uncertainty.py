"""How sure a predicted time is: intervals from residuals against measurements, wider where nobody measured.

`residuals.csv` beside this module holds, by operator, library, architecture, regime and length of the kernel, how
measured times lay about predicted ones. It is made by `simgpu validate all --data DIR --write-residuals FILE` from
half of the rows (chosen by a hash); the other half tests the coverage.

Regimes say how far the constants of a prediction come from: `calibrated` (measured on the GPU itself), `inherited`
(from its architecture), `datasheet` (from any GPU). Residuals of the latter two are those of predictions that pass
over the constants of the GPU, or of its whole architecture.

Such residuals say how well predictions do on what chose the constants. What lies beyond it, an architecture of which
no kernel of the class was measured, a library, an engine, a machine of which there is no row, adds its component
(`simgpu.timing.distance`).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, hypot, log
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.hardware.inherit import DEFAULT, REGIMES, Calibration
from simgpu.memo import remembered
from simgpu.timing.distance import (
    ALONE,
    ARCHITECTURE,
    EXPERTS,
    LIBRARY,
    NODES,
    OF,
    SOFTWARE,
    SOURCE,
    STRETCH,
    WITHIN,
    component,
    in_words,
    reach,
    widened,
)
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
    "scan": "scan",
    "indexer": "scan",
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
    "step_time": "run",
}
"""Class of an operator: errors of one class go together. Operators that are not named here are `vector`; whole runs are
`run`, by the name of their engine or framework as library."""

RUN = "run"
_PARTS = {"attention": "attention_prefill", "attention_mixed": "attention_prefill"}
_SPLIT = ("attention_prefill", "attention_decode")

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


def component_class(op: str) -> str:
    """Class of an operator in the table of components: as `class_of`, but prefill and decode attention, and kinds of
    whole runs, are classes of their own."""
    if op in OF:
        return OF[op]
    op = _PARTS.get(op, op)
    return op if op in _SPLIT else class_of(op)


def interval(
    op: str,
    seconds: ArrayLike,
    *,
    architecture: str = ANY,
    regime: str = "datasheet",
    library: str = DEFAULT,
    seen: bool = False,
) -> tuple[Array, Array]:
    """(low, high): [seconds low, seconds high] holds 80 % of measurements. Arrays of the shape of `seconds`."""
    found = spread(op, seconds, architecture=architecture, regime=regime, library=library, seen=seen)
    return found.low, found.high


def spread(
    op: str,
    seconds: ArrayLike,
    *,
    architecture: str = ANY,
    regime: str = "datasheet",
    library: str = DEFAULT,
    seen: bool = False,
    nodes: bool = False,
) -> Spread:
    """Like `interval`, with the share of the variance that is common within a class.

    `seen` says that the machine itself chose the constants: of a source of measurements, or where a user calibrated;
    else what lies between machines adds to the width. `nodes` is for collectives that leave their node.
    """
    rows = [residual(op, stratum, architecture, regime, library, seen, nodes) for stratum in STRATA]
    at = np.log(np.maximum(np.asarray(seconds, float), 1e-9))
    low, high = (
        np.exp(np.interp(at, _CENTRES, np.log(ends))) for ends in zip(*((r.low, r.high) for r in rows), strict=True)
    )
    return Spread(low, high, np.asarray(np.interp(at, _CENTRES, [row.correlated for row in rows])))


@remembered(4096)
def residual(
    op: str, stratum: str, architecture: str, regime: str, library: str, seen: bool = True, nodes: bool = False
) -> Residual:
    """The residuals of an operator at its distance from what was measured: the nearest row of the table, wider by the
    components of the layers that it is far in. Of whole runs see `run_spread`."""
    near = _nearest(op, stratum, architecture, regime, library)
    if class_of(op) == RUN:
        return near
    of, layers = component_class(op), layers_of(op, architecture, regime, library, nodes)
    low, high, systematic, independent = log(near.low), log(near.high), near.systematic, near.independent
    if ARCHITECTURE in layers:
        own = _nearest(op, stratum, ANY, REGIMES[0], library)
        stretch, beyond = max(component(of, STRETCH).sd, 1.0), component(of, ARCHITECTURE).reach
        low, high = -hypot(stretch * log(own.low), beyond), hypot(stretch * log(own.high), beyond)
        systematic, independent = beyond / _Z90, stretch * log(own.high / own.low) / 2 / _Z90
    more = reach(of, (layers - {ARCHITECTURE}) | (set() if seen else {SOURCE}))
    alone = component(of, LIBRARY).reach if SOFTWARE in layers else 0.0
    if not (ARCHITECTURE in layers or more):
        return near
    ends = widened(exp(low), exp(high), hypot(more, alone))
    common, own_part = hypot(systematic, more / _Z90), hypot(independent, alone / _Z90)
    return Residual(near.rows, near.groups, ends[0], 1.0, ends[1], common, own_part)


def layers_of(op: str, architecture: str, regime: str, library: str, nodes: bool = False) -> frozenset[str]:
    """In what a kernel or collective is far from every row that was measured.

    A new architecture brings libraries of its own, which is part of what it was found to be off by.
    """
    of = component_class(op)
    architectures, libraries = _measured()
    found = set()
    if regime != REGIMES[0] and (of, architecture) not in architectures:
        found.add(ARCHITECTURE)
    elif library != DEFAULT and (of, library) not in libraries:
        found.add(SOFTWARE)
    return frozenset(found | {NODES} if nodes else found)


def distance_of(constants: Calibration, layers: Iterable[str]) -> str:
    """How far a result stands from measurements, in words: by the constants of its GPU and the layers it is far in."""
    regime = constants.regime("gemm")
    new = ARCHITECTURE in layers_of("gemm", constants.architecture, regime, DEFAULT)
    return in_words(regime, layers, constants.by_user("gemm"), new)


# ---- whole runs --------------------------------------------------------------------------------------

TOGETHER = 0.45
"""Share of the variance that whole runs of one engine on one GPU have in common: correlation of the residuals of pairs
of published load tests that differ by their plan alone."""


@dataclass(frozen=True)
class RunSpread:
    """Factors from the time of a whole run to its P10 and P90, the layers in which it is far from measured ones, and
    the share of the variance which runs of one engine on one GPU have in common."""

    low: float
    high: float
    layers: frozenset[str]
    correlated: float = TOGETHER


def run_spread(
    op: str,
    seconds: float,
    *,
    library: str,
    architecture: str,
    kernels: tuple[float, float] = (1.0, 1.0),
    ends: tuple[float, float] = (1.0, 1.0),
    version: bool = True,
    experts: bool = False,
    seen: bool = False,
    load: bool = True,
) -> RunSpread:
    """How sure the time of a whole run is: 'step_time' of training, 'tpot', 'ttft', 'e2e', 'decode', 'prefill'.

    `library` is its engine or framework. `kernels` are the ends of its kernels and collectives over the whole, `ends`
    those that its engine's file states of measured runs: none is narrower than these. `version`: residuals are of this
    version of the engine. `experts`: a mixture of experts, of training. `seen`: runs of this very machine chose the
    constants. `load`: of a server, whose queues no other machine has; else of one batch.
    """
    of = OF[op]
    between = of if load else ALONE.get(of, of)
    architectures, libraries = _measured()
    layers = set()
    if (of, architecture) not in architectures:
        layers.add(ARCHITECTURE)
    stated = ends != (1.0, 1.0)
    if not version or ((of, library) not in libraries and not stated):
        layers.add(SOFTWARE)
    if experts and (of, f"{library} {EXPERTS}") not in libraries:
        layers.add(EXPERTS)
    elif experts:
        library = f"{library} {EXPERTS}"
    if (of, library) in libraries:
        found = spread(op, seconds, architecture=architecture, regime=REGIMES[0], library=library, seen=True)
        low, high = float(found.low), float(found.high)
    elif stated:
        low, high = ends
    else:
        within = component(between, WITHIN).reach
        low, high = exp(-within), exp(within)
    low, high = min(low, ends[0]), max(high, ends[1])
    if ARCHITECTURE in layers:  # what residuals say of other GPUs holds none of these kernels' error
        low, high = exp(-hypot(log(low), log(kernels[0]))), exp(hypot(log(high), log(kernels[1])))
    low, high = min(low, kernels[0]), max(high, kernels[1])
    low, high = widened(low, high, reach(between, layers if seen else {*layers, SOURCE}))
    return RunSpread(low, high, frozenset(layers))


# ---- the table ---------------------------------------------------------------------------------------


def _nearest(op: str, stratum: str, architecture: str, regime: str, library: str) -> Residual:
    """The row of the table that is nearest to what is asked.

    Tried in this order: the operator in the library on the architecture, in the library anywhere, in any library, then
    its class; each for the stratum and then for all lengths; then the same for the next wider regime. A narrower
    regime is taken last, and `UNKNOWN` where nothing is known. Of whole runs, one kind of which says little of another,
    the class is tried after all else.
    """
    table = _table()
    at = REGIMES.index(regime)
    levels = (*REGIMES[at:], *reversed(REGIMES[:at]))
    run, pooled = class_of(op) == RUN, (class_of(op), ANY, ANY)
    places = [(op, library, architecture), (op, library, ANY), (op, ANY, architecture), (op, ANY, ANY)]
    for level, (name, lib, arch) in [
        *((level, place) for level in levels for place in (places if run else [*places, pooled])),
        *((level, pooled) for level in levels),
    ]:
        for length in (stratum, ANY):
            found = table.get((name, lib, arch, level, length))
            if found is not None:
                return found
    return UNKNOWN


@remembered(1)
def _measured() -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """What the table has rows of: (class of components, architecture) and (class of components, library).

    Of whole runs, one GPU and precision of one publisher do not make an architecture known: they are one look.
    """
    table = _table()
    return (
        frozenset(
            (component_class(op), arch)
            for (op, _, arch, _, _), row in table.items()
            if arch != ANY and (class_of(op) != RUN or row.groups > 1)
        ),
        frozenset((component_class(op), library) for op, library, _, _, _ in table if library != ANY),
    )


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
