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
    ARCHITECTURE,
    EXPERTS,
    LIBRARY,
    NODES,
    NODES_LONG,
    OF,
    QUEUE,
    RATES,
    RELATIVE,
    SOFTWARE,
    SOURCE,
    STEPS,
    STRETCH,
    WITHIN,
    WORDS,
    class_of_run,
    component,
    in_words,
    reach,
    student,
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
_POOLED = frozenset({*CLASSES.values(), "vector"} - set(CLASSES))
"""Classes that are no operators themselves."""

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
    """Class of an operator in the table of components.

    It is that of `class_of`, but prefill and decode attention, and kinds of whole runs, are classes of their own.
    """
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
    """The residuals of an operator at its distance from what was measured.

    That is the nearest row of the table, wider by the components of the layers that it is far in. Of whole runs see
    `run_spread`.
    """
    near, mine = _nearest(op, stratum, architecture, regime, library)
    if class_of(op) == RUN:
        return near
    of, layers = component_class(op), layers_of(op, architecture, regime, library, nodes)
    low, high, systematic, independent = log(near.low), log(near.high), near.systematic, near.independent
    own, _ = _nearest(op, stratum, ANY, REGIMES[0], library)
    stretch, beyond = _stretch(of, library), component(of, ARCHITECTURE).reach
    shapes, medians = stretch * (1 - own.correlated) ** 0.5, own.correlated**0.5  # parts of its own ends
    new = tuple(
        sign * hypot(shapes * log(end), max(medians * abs(log(end)), beyond))
        for sign, end in ((-1, own.low), (1, own.high))
    )
    if ARCHITECTURE in layers:  # as unsure as other architectures were
        low, high = (min(low, new[0]), max(high, new[1])) if mine else new
        if library != DEFAULT:  # and no surer than with the constants of a relative
            relative, _ = _nearest(op, stratum, ANY, REGIMES[1], library)
            low, high = min(low, log(relative.low)), max(high, log(relative.high))
        systematic, independent = beyond / _Z90, stretch * log(own.high / own.low) / 2 / _Z90
    elif regime != REGIMES[0]:  # between GPUs whose own constants were measured, and a new architecture
        if not mine:
            low, high = max(low, new[0]), min(high, new[1])
        reached = component(of, RELATIVE).reach
        for row in _own(op, stratum, architecture, library):
            low = min(low, -hypot(log(row.low), reached))
            high = max(high, hypot(log(row.high), reached))
    if NODES in layers and stratum == STRATA[-1] and component(of, NODES_LONG).sd:
        layers = (layers - {NODES}) | {NODES_LONG}
    more = reach(of, (layers - {ARCHITECTURE}) | (set() if seen else {SOURCE}))
    alone = component(of, LIBRARY).reach if SOFTWARE in layers else 0.0
    ends = widened(exp(low), exp(high), hypot(more, alone))
    if ends == (near.low, near.high):
        return near
    common, own_part = hypot(systematic, more / _Z90), hypot(independent, alone / _Z90)
    return Residual(near.rows, near.groups, ends[0], 1.0, ends[1], common, own_part)


def _stretch(of: str, library: str) -> float:
    """By how much more kernels of a class spread about their median with the constants of another family.

    Between nodes it is the network that spreads them, whatever the GPUs: with any family's constants collectives of
    A100 spread by as much as with their own (to 3 %), and nowhere by more than the rows between nodes say.
    """
    return 1.0 if library.endswith(WORDS[NODES]) else max(component(of, STRETCH).sd, 1.0)


def _own(op: str, stratum: str, architecture: str, library: str) -> list[Residual]:
    """Rows of GPUs whose own constants of a library were measured: those of an architecture, and all."""
    table, found = _table(), []
    for where in (architecture, ANY):
        keys = [(op, library, where, REGIMES[0], length) for length in (stratum, ANY)]
        found += [table[key] for key in keys if key in table][:1]
    return found


def layers_of(op: str, architecture: str, regime: str, library: str, nodes: bool = False) -> frozenset[str]:
    """In what a kernel or collective is far from every row that was measured."""
    of = component_class(op)
    architectures, libraries = _measured()
    found = set()
    if regime != REGIMES[0] and (of, architecture) not in architectures:
        found.add(ARCHITECTURE)
    if library != DEFAULT and (of, library) not in libraries:
        found.add(SOFTWARE)
    return frozenset(found | {NODES} if nodes else found)


def distance_of(constants: Calibration, layers: Iterable[str], stack: str = "") -> str:
    """How far a result stands from measurements, in words.

    It goes by the constants of its GPU, the layers it is far in, and steps that its user measured in the framework or
    engine `stack`.
    """
    steps = constants.steps(stack)[1]
    regime = constants.regime("gemm")
    new = ARCHITECTURE in layers_of("gemm", constants.architecture, regime, DEFAULT)
    words = in_words(regime, layers, constants.by_user("gemm"), new)
    return f"{words}; {steps} step{'s' if steps > 1 else ''} {STEPS}" if steps else words


# ---- whole runs --------------------------------------------------------------------------------------

TOGETHER = 0.45
"""Share of the variance that whole runs of one engine on one GPU have in common: correlation of the residuals of pairs
of published load tests that differ by their plan alone."""


@dataclass(frozen=True)
class RunSpread:
    """Factors from the time of a whole run to its P10 and P90.

    With them go the layers in which it is far from measured ones, and the share of the variance which runs of one
    engine on one GPU have in common.
    """

    low: float
    high: float
    layers: frozenset[str]
    correlated: float = TOGETHER


@dataclass(frozen=True, kw_only=True)
class WholeRun:
    """A whole run, by what decides how far it is from measured ones.

    `library` is its engine or framework, `regime` that of the constants of its GPU's products. `kernels` are the ends
    of its kernels and collectives over the whole, `ends` those that its engine's file states of measured runs: none is
    narrower than these. `version`: residuals are of this version of the engine. `experts`: a mixture of experts, of
    training. `seen`: runs of this very machine chose the constants. `load`: of a server, whose queues no other machine
    has; else of one batch, or of an idle server's only request. `queue`: its first tokens wait without bound. `steps`
    that the user measured on this machine in this software: what all its steps are off by is then known, as far as one
    step speaks for the next (`own_weight`). First tokens they say nothing of. `scatter` is
    what such runs were off by that had taught nothing (sd of the log), where there are enough to say.
    """

    library: str
    architecture: str
    regime: str = REGIMES[0]
    kernels: tuple[float, float] = (1.0, 1.0)
    ends: tuple[float, float] = (1.0, 1.0)
    version: bool = True
    experts: bool = False
    seen: bool = False
    load: bool = True
    queue: bool = False
    steps: int = 0
    scatter: float = 0.0


def run_spread(op: str, seconds: float, run: WholeRun) -> RunSpread:
    """How sure the time of a whole run is: 'step_time' of training, 'tpot', 'ttft', 'e2e', 'decode', 'prefill'."""
    of, between, library, architecture = OF[op], class_of_run(op, run.load), run.library, run.architecture
    ends, kernels = run.ends, run.kernels
    architectures, libraries = _measured()
    layers = set()
    if (of, architecture) not in architectures:
        layers.add(ARCHITECTURE)
    elif run.regime != REGIMES[0]:
        layers.add(RELATIVE)
    stated = ends != (1.0, 1.0)
    if not run.version or ((of, library) not in libraries and not stated):
        layers.add(SOFTWARE)
    if run.experts and (of, f"{library} {EXPERTS}") not in libraries:
        layers.add(EXPERTS)
    elif run.experts:
        library = f"{library} {EXPERTS}"
    if run.queue and component(of, QUEUE).sd:
        layers.add(QUEUE)
    low, high = _base(op, seconds, library, architecture, run.load, ends)
    away = reach(between, layers if run.seen else {*layers, SOURCE})
    if run.steps and of in STEADY:
        within = component(between, WITHIN).reach
        if run.scatter:
            far = run.scatter * student(_Z90, component(between, WITHIN).freedom + run.steps)
            return RunSpread(exp(-far), exp(far), frozenset(layers))
        away = within * (away**2 / (within**2 + run.steps * away**2)) ** 0.5 if within else 0.0
        return RunSpread(*widened(low, high, away), frozenset(layers))
    if ARCHITECTURE in layers:  # what residuals say of other GPUs holds none of these kernels' error
        low, high = exp(-hypot(log(low), log(kernels[0]))), exp(hypot(log(high), log(kernels[1])))
    if of not in HOLD_KERNELS or not run.seen or layers - {RELATIVE}:
        low, high = min(low, kernels[0]), max(high, kernels[1])
    low, high = widened(low, high, away)
    return RunSpread(low, high, frozenset(layers))


HOLD_KERNELS = ("step_time",)
"""Classes of whole runs whose residuals in the same software, on machines that chose the constants or their relatives,
hold what kernels are off by: no end is widened to theirs there. Left out in turn, 83 % of training steps lie inside so
(80 % by source), in place of 87 (94), at an interval score of 0.22 in place of 0.31."""

STEADY = ("step_time", "served", RATES)
"""Classes of whole runs of which one step says how far the next is off: not of queues."""


def own_weight(op: str, layers: Iterable[str], load: bool, steps: int) -> float:
    """Share of what a measured step is off by, that a prediction moves by, when `steps` moved it before.

    That is the variance between machines that is left, over that with the spread of steps of one machine.
    """
    of = class_of_run(op, load)
    between, within = reach(of, {*layers, SOURCE}) ** 2, component(of, WITHIN).reach ** 2
    left = between * within / (within + steps * between) if within else 0.0
    return left / (left + within) if left else 0.0


def _base(
    op: str, seconds: float, library: str, architecture: str, load: bool, stated: tuple[float, float]
) -> tuple[float, float]:
    """Ends of whole runs of an engine on GPUs and in versions that were measured.

    Of an engine that nobody measured: those of all engines, or what one publisher's rows spread by, whichever is wider.
    """
    of = OF[op]
    within = component(class_of_run(op, load), WITHIN).reach
    low, high = exp(-within), exp(within)
    if class_of_run(op, load) == "prefill" != of:  # an idle server: rows of the table wait in queues
        return low, high
    known = (of, library) in _measured()[1]
    if known or stated == (1.0, 1.0):
        found = spread(op, seconds, architecture=architecture, regime=REGIMES[0], library=library, seen=True)
        both = float(found.low), float(found.high)
        low, high = both if known else (min(low, both[0]), max(high, both[1]))
    else:
        low, high = stated
    return min(low, stated[0]), max(high, stated[1])


# ---- the table ---------------------------------------------------------------------------------------


def _nearest(op: str, stratum: str, architecture: str, regime: str, library: str) -> tuple[Residual, bool]:
    """The row of the table that is nearest to what is asked, and whether it is of that architecture.

    Tried in this order: the operator in the library on the architecture, in the library anywhere, its class in the
    library (a gather between nodes is like a sum there, not like a gather in a node), the operator in any library, then
    its class; each for the stratum and then for all lengths; then the same for the next wider regime. A narrower
    regime is taken last, and `UNKNOWN` where nothing is known. Of whole runs, one kind of which says little of another,
    the class is tried after all else.
    """
    table = _table()
    at = REGIMES.index(regime)
    levels = (*REGIMES[at:], *reversed(REGIMES[:at]))
    run, pooled = class_of(op) == RUN, (class_of(op), ANY, ANY)
    kind = [] if run or library == ANY else [(class_of(op), library, arch) for arch in (architecture, ANY)]
    places = [(op, library, architecture), (op, library, ANY), *kind, (op, ANY, architecture), (op, ANY, ANY)]
    for level, (name, lib, arch) in [
        *((level, place) for level in levels for place in (places if run else [*places, pooled])),
        *((level, pooled) for level in levels),
    ]:
        for length in (stratum, ANY):
            found = table.get((name, lib, arch, level, length))
            if found is not None:
                return found, arch == architecture != ANY
    return UNKNOWN, False


@remembered(1)
def _measured() -> tuple[frozenset[tuple[str, str]], frozenset[tuple[str, str]]]:
    """What the table has rows of: (class of components, architecture) and (class of components, library).

    Of whole runs, one GPU and precision of one publisher do not make an architecture known: they are one look. Nor do
    rows of a whole class, whose operators have too few.
    """
    table = _table()
    return (
        frozenset(
            (component_class(op), arch)
            for (op, _, arch, _, _), row in table.items()
            if arch != ANY and op not in _POOLED and (class_of(op) != RUN or row.groups > 1)
        ),
        frozenset(
            (component_class(op), library) for op, library, _, _, _ in table if library != ANY and op not in _POOLED
        ),
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
