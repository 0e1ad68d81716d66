"""What logs of a machine say of it: a few factors with a physical meaning, by maximum a posteriori.

The factors are how many times as long kernels of a framework or an engine take, and what share of its rated payload
each kind of link carries. The prior of a factor is the spread between machines (`simgpu/timing/components.csv`), the
likelihood of a run the spread of runs of one machine about their median. Both are normal in the logarithm, so a few
Gauss-Newton steps reach the mode, and the curvature there is the posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.logs.observed import LINK, SERVER, TRAINING, Observed
from simgpu.lab.nccl_logs import DTYPES
from simgpu.overlay import Learned, Overlay, overrides_of
from simgpu.scenario import Origins, Scenario, resolve_cluster, run_scenario
from simgpu.timing.collectives import collective_time
from simgpu.timing.distance import (
    ARCHITECTURE,
    EXPERTS,
    SOFTWARE,
    SOURCE,
    WITHIN,
    WORDS,
    class_of_run,
    component,
)
from simgpu.workload.runtime_files import runtime

COLUMNS = {
    TRAINING: ("step_s", "tokens_per_s_per_gpu", "samples_per_s", "tokens_per_s"),
    SERVER: ("tpot_s", "itl_s", "output_tokens_per_s"),
    LINK: ("time_s",),
}
"""The quantity of a run that is fitted: the first of these that the log says."""
OPS = {TRAINING: "step_time", SERVER: "tpot"}
DELTA = 0.05
"""Step of a factor's logarithm for slopes."""
STEPS = 3
LOWEST, HIGHEST = 0.25, 4.0
"""Range of a measurement over its prediction that is believed."""
BELOW = 1 - 1e-6
"""Of a link's factor, so that no rounding makes it carry more than it is rated for."""
FELT = 0.02
"""Least slope of any run that makes a factor one that logs speak of."""
ALIKE = 0.9
"""Correlation of two factors in the posterior from which they cannot be told apart."""
_Z80 = 1.2815515655446004


@dataclass(frozen=True)
class Given:
    """A run of a log and the case that it is of."""

    run: Observed
    scenario: Scenario
    origins: Origins


@dataclass(frozen=True)
class Factor:
    """A factor: what it is on in words, of which stack or link, and its prior's standard deviation (of the log)."""

    name: str
    of: str
    link: bool
    prior: float


@dataclass(frozen=True)
class Fitted:
    """A factor after the fit.

    `low` and `high` are the ends of its 80 % interval; `told` is the share of the prior's variance that the logs took.
    """

    factor: Factor
    value: float
    low: float
    high: float
    told: float


@dataclass(frozen=True)
class Held:
    """A run: measured over predicted before the fit, after it, and after one that left this run out."""

    run: Observed
    column: str
    before: float
    after: float
    left_out: float


@dataclass(frozen=True)
class Answer:
    """The answer. `alike` are pairs of factors that the logs cannot tell apart."""

    machine: str
    stack: str
    factors: Sequence[Fitted]
    runs: Sequence[Held]
    alike: Sequence[tuple[str, str]]


def learn(given: Sequence[Given], catalogue: Catalogue) -> Answer:
    """Fit the factors of one machine and one framework or engine to runs of its logs.

    Raises `InputError` where the runs are of several machines or stacks, or a run is of another job than its case.
    """
    machine, stack = _one_machine(given, catalogue)
    columns = [_column(one) for one in given]
    measured = np.array([log(_value(one.run, column)) for one, column in zip(given, columns, strict=True)])
    first = given[0]
    cluster = resolve_cluster(first.scenario, catalogue, first.origins)
    factors = _factors(first, catalogue, stack, cluster.links)

    most = [1 / cluster.links[one.of].payload_fraction.si if one.link else HIGHEST for one in factors]

    def predicted(values: np.ndarray) -> np.ndarray:
        found = overlay_of(machine, factors, np.minimum(np.exp(values), most).tolist(), 1, "logs")
        rows = [_row(one, catalogue, found) for one in given]
        return np.array([log(row[column]) for row, column in zip(rows, columns, strict=True)])

    start = predicted(np.zeros(len(factors)))
    for one, column, away in zip(given, columns, measured - start, strict=True):
        if not log(LOWEST) < away < log(HIGHEST):
            raise InputError(
                f"{column} is {exp(away):.3g} times what is predicted; expected {LOWEST:g} to {HIGHEST:g}:"
                " is it a log of this case?",
                file=one.run.file,
            )
    signs = np.array([-1.0 if "per_s" in column else 1.0 for column in columns])
    within = component(class_of_run(_op(given[0]), _op(given[0]) == "tpot"), WITHIN).sd or 0.1
    kept, mode, slopes, at = _mode(factors, predicted, measured, start, within)
    cover = _posterior(kept, slopes, within)
    rated = dict(zip((one.name for one in factors), most, strict=True))
    fitted = [_fitted(one, min(mode[i], log(rated[one.name])), cover[i, i]) for i, one in enumerate(kept)]
    linear = measured - at + slopes @ mode  # what is left at the mode, as a linear model has it from the start
    out = [_without(i, kept, slopes, linear, within) for i in range(len(given))]
    held = [
        Held(one.run, column, *(exp(sign * value) for value in values))
        for one, column, sign, values in zip(
            given, columns, signs, zip(measured - start, measured - at, out, strict=True), strict=True
        )
    ]
    return Answer(machine, stack, fitted, held, _alike(kept, cover))


# ---- what is fitted --------------------------------------------------------------------------------------


def _one_machine(given: Sequence[Given], catalogue: Catalogue) -> tuple[str, str]:
    """The machine and the stack of all runs."""
    found = {(one.scenario.cluster, _stack(_row(one, catalogue), one)): one for one in given}
    if len(found) > 1:
        said = "; ".join(f"{stack} on {machine}" for machine, stack in found)
        last = list(found.values())[-1]
        raise InputError(f"the logs are of several: {said}; expected one at a time", file=last.run.file)
    return next(iter(found))


def _op(one: Given) -> str:
    return OPS.get(one.scenario.workload.kind, "tpot")


def _stack(row: Mapping[str, Any], one: Given) -> str:
    if one.scenario.workload.kind == TRAINING:
        return str(row["framework"])
    if not row.get("runtime"):
        wrong = f"a case of '{one.scenario.workload.kind}' runs in no framework and no engine"
        raise InputError(f"{wrong}; expected one of training or serving", key="--of")
    return runtime(row["runtime"]).engine


def _column(one: Given) -> str:
    """The fitted quantity of a run."""
    names = COLUMNS.get(one.run.kind, ("output_tokens_per_s", "prefill_tokens_per_s"))
    for name in names:
        if one.run.of(name):
            return name
    raise InputError(f"says none of {', '.join(names)}, which can be fitted", file=one.run.file)


def _value(run: Observed, column: str) -> float:
    found = run.of(column)
    assert found is not None
    return found.value


def _row(one: Given, catalogue: Catalogue, overlay: Overlay | None = None) -> Mapping[str, Any]:
    """The row of a case on a machine of which an overlay says more."""
    if overlay is None:
        return run_scenario(one.scenario, catalogue, one.origins).row
    own = [one.origins.override(key, value) for key, value in one.scenario.hardware.items()]
    cluster = catalogue.cluster(one.scenario.cluster, [*overrides_of(overlay), *own])
    if one.run.kind == LINK:
        return _collective(one.run, cluster)
    return run_scenario(one.scenario, catalogue, one.origins, cluster).row


def _collective(run: Observed, cluster: Cluster) -> Mapping[str, Any]:
    """The time of the collective of a log of nccl-tests on a machine."""
    kind, ranks = run.facts.get("collective"), run.facts.get("gpus")
    if not kind or not ranks:
        raise InputError("says no collective or no ranks; expected a whole log of nccl-tests", file=run.file)
    if ranks > cluster.gpu_count:
        raise InputError(f"is of {ranks} ranks, {cluster.name} has {cluster.gpu_count} GPUs", file=run.file)
    dtype = DTYPES[str(run.facts["dtype"])]
    found = collective_time(cluster, kind, ranks, [max(int(run.facts["bytes"]), 1)], dtype)
    return {"time_s": float(found.seconds[0])}


def _factors(first: Given, catalogue: Catalogue, stack: str, links: Mapping[str, Any]) -> list[Factor]:
    """The factors of a machine, each with the spread between machines as its prior."""
    row = _row(first, catalogue)
    op = _op(first)
    layers = [SOURCE, *(layer for layer in (ARCHITECTURE, SOFTWARE, EXPERTS) if WORDS[layer] in str(row["distance"]))]
    of = class_of_run(op, op == "tpot")
    kernels = sqrt(sum(component(of, layer).sd ** 2 for layer in layers))
    carried = component("collective", SOURCE).sd + component("collective", "library").sd
    made = [Factor(f"kernels of {stack}", stack, False, kernels)]
    return made + [Factor(f"payload of {name}", name, True, carried) for name in links]


def overlay_of(machine: str, factors: Sequence[Factor], values: Sequence[float], runs: int, source: str) -> Overlay:
    """What factors with these values (not logarithms) say of a machine, as a file says it."""
    by_kind: dict[bool, dict[str, float]] = {True: {}, False: {}}
    for factor, value in zip(factors, values, strict=True):
        by_kind[factor.link][factor.of] = float(f"{value * BELOW:.7g}" if factor.link else f"{value:.5g}")
    stacks = {name: Learned(slowdown=value, runs=runs) for name, value in by_kind[False].items()}
    return Overlay(machine=machine, source=source, stacks=stacks, links=by_kind[True])


def _mode(
    factors: list[Factor],
    predicted: Callable[[np.ndarray], np.ndarray],
    measured: np.ndarray,
    start: np.ndarray,
    within: float,
) -> tuple[list[Factor], np.ndarray, np.ndarray, np.ndarray]:
    """Factors that the runs feel, the mode of their logarithms, the slopes of the runs, and what is predicted there."""
    slopes = np.column_stack([(predicted(DELTA * unit) - start) / DELTA for unit in np.eye(len(factors))])
    felt = np.abs(slopes).max(axis=0) > FELT
    if not felt.any():
        raise InputError("no factor of the machine moves these runs: are they of its kernels at all?", key="--of")
    kept = [one for one, yes in zip(factors, felt, strict=True) if yes]
    slopes = slopes[:, felt]
    mode = np.zeros(len(kept))
    at = start
    for _ in range(STEPS):
        mode = _solved(kept, slopes, measured - at + slopes @ mode, within)
        whole = np.zeros(len(factors))
        whole[felt] = mode
        at = predicted(whole)
    return kept, mode, slopes, at


def _solved(factors: Sequence[Factor], slopes: np.ndarray, away: np.ndarray, within: float) -> np.ndarray:
    """The mode of a linear model."""
    return np.asarray(_posterior(factors, slopes, within) @ slopes.T @ away / within**2)


def _posterior(factors: Sequence[Factor], slopes: np.ndarray, within: float) -> np.ndarray:
    """Covariance of the posterior."""
    prior = np.diag([1 / one.prior**2 for one in factors])
    return np.asarray(np.linalg.inv(slopes.T @ slopes / within**2 + prior))


def _without(i: int, factors: Sequence[Factor], slopes: np.ndarray, away: np.ndarray, within: float) -> float:
    """What run `i` is off by after a fit to the others."""
    others = np.arange(len(away)) != i
    return float(away[i] - slopes[i] @ _solved(factors, slopes[others], away[others], within))


def _fitted(factor: Factor, value: float, variance: float) -> Fitted:
    reach = _Z80 * sqrt(variance)
    return Fitted(factor, exp(value), exp(value - reach), exp(value + reach), 1 - variance / factor.prior**2)


def _alike(factors: Sequence[Factor], cover: np.ndarray) -> list[tuple[str, str]]:
    """Pairs that the logs cannot tell apart."""
    spread = np.sqrt(np.diag(cover))
    together = cover / np.outer(spread, spread)
    return [
        (factors[i].name, factors[j].name) for i in range(len(factors)) for j in range(i) if abs(together[i, j]) > ALIKE
    ]
