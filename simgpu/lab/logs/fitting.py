"""What logs of a machine say of it: a few factors with a physical meaning, by maximum a posteriori.

The likelihood of a measurement is the spread of runs of one machine about their median, the prior of a factor that
between machines (`simgpu.lab.logs.factors`). Both are normal in the logarithm, so a few Gauss-Newton steps reach the
mode, and the curvature there is the posterior. Which factors are kept, runs that were left out decide
(`simgpu.lab.logs.choosing`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import compress
from math import exp, log, sqrt
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.logs.choosing import FREEDOM, Linear, chosen, linear_of
from simgpu.lab.logs.factors import ALONE, SLOWDOWN, Factor, factors_of, op_of, overlay_of
from simgpu.lab.logs.observed import LINK, SERVER, TRAINING, Observed
from simgpu.lab.nccl_logs import DTYPES
from simgpu.overlay import Overlay, overrides_of
from simgpu.scenario import Origins, Scenario, resolve_cluster, run_scenario
from simgpu.timing.collectives import collective_time
from simgpu.timing.distance import WITHIN, class_of_run, component, student
from simgpu.workload.runtime_files import runtime

COLUMNS = {
    TRAINING: ("step_s", "tokens_per_s_per_gpu", "samples_per_s", "tokens_per_s"),
    SERVER: ("tpot_s", "itl_s", "output_tokens_per_s"),
    LINK: ("time_s",),
}
"""The quantity of a run that is fitted: the first of these that the log says."""
FIRST = ("ttft_50th_s", "ttft_s")
"""Of a server, what is fitted beside it: the first that the log says. Means hold the first requests of all, which find
no prefix in the cache and kernels that are not compiled."""
QUEUED = 3.0
"""Slope of a first token on kernels from which on it waits in a queue that no machine repeats."""
LINK_SPREAD = 0.05
"""Of collectives of one machine about their predictions (sd of the log): 131 rows of nccl-tests in one node, from
64 MiB, are off by 3.5 % on average."""
DELTA = 0.05
"""Step of a factor's logarithm for slopes."""
STEPS = 3
LOWEST, HIGHEST = 0.25, 4.0
"""Range of a measurement over its prediction that is believed."""
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
class Seen:
    """A measurement that is fitted: of which run, which column, and how far runs of one machine spread in it (sd)."""

    number: int
    column: str
    measured: float
    within: float


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
    """A measurement: measured over predicted before the fit, after it, and after one that left its run out."""

    run: Observed
    column: str
    before: float
    after: float
    left_out: float


@dataclass(frozen=True)
class Answer:
    """The answer.

    `alike` are pairs of factors that the logs cannot tell apart, `dropped` factors that would bring predictions of runs
    that are left out no nearer, `notes` measurements that were not fitted, and why.
    """

    machine: str
    stack: str
    factors: Sequence[Fitted]
    runs: Sequence[Held]
    alike: Sequence[tuple[str, str]]
    dropped: Sequence[Fitted] = ()
    notes: Sequence[str] = field(default=())
    jobs: int = 0
    scatter: float = 0.0

    def overlay(self, source: str) -> Overlay:
        """What was learned, as a file says it; a stack whose kernels are as predicted is one of known steps."""
        factors, values = [one.factor for one in self.factors], [one.value for one in self.factors]
        if self.jobs and all(one.link for one in factors):
            factors, values = [Factor("", self.stack, SLOWDOWN, 0.0), *factors], [1.0, *values]
        return overlay_of(self.machine, factors, values, max(self.jobs, 1), source, self.scatter)


def learn(given: Sequence[Given], catalogue: Catalogue) -> Answer:
    """Fit the factors of one machine and one framework or engine to runs of its logs.

    Raises `InputError` where the runs are of several machines or stacks, or a run is of another job than its case.
    """
    machine, stack = _one_machine(given, catalogue)
    first = given[0]
    cluster = resolve_cluster(first.scenario, catalogue, first.origins)
    factors = factors_of(_row(first, catalogue), first.scenario.workload.kind, stack, cluster.links)
    most = [1 / cluster.links[one.of].payload_fraction.si if one.link else HIGHEST for one in factors]
    nothing = overlay_of(machine, [], [], 1, "logs")
    seen, notes = _seen(given, [_row(one, catalogue, nothing) for one in given])

    def predicted(values: np.ndarray) -> np.ndarray:
        found = overlay_of(machine, factors, np.minimum(np.exp(values), most).tolist(), 1, "logs")
        rows = [_row(one, catalogue, found) for one in given]
        return np.array([log(rows[one.number][one.column]) for one in seen])

    measured = np.array([log(one.measured) for one in seen])
    start = predicted(np.zeros(len(factors)))
    slopes = np.column_stack([(predicted(DELTA * unit) - start) / DELTA for unit in np.eye(len(factors))])
    calm = np.array(
        [one.column not in FIRST or at < QUEUED for one, at in zip(seen, np.abs(slopes[:, 0]), strict=True)]
    )
    notes += [f"{_named(given, one)} waits in a queue, and is not fitted" for one in compress(seen, ~calm)]
    seen[:] = compress(seen, calm)
    measured, start, slopes = measured[calm], start[calm], slopes[calm]
    felt = np.abs(slopes).max(axis=0) > FELT
    if not felt.any():
        raise InputError("no factor of the machine moves these runs: are they of its kernels at all?", key="--of")
    priors = np.array([one.prior for one in factors])
    jobs = _jobs(given)
    of = np.array([jobs[one.number] for one in seen])
    within, columns = np.array([one.within for one in seen]), np.array([one.column for one in seen])
    linear = linear_of(slopes, measured - start, within, priors, of, columns)
    kept = chosen(linear, felt)
    steady = np.array([given[one.number].run.kind != LINK and one.column not in FIRST for one in seen])
    scatter = linear.scatter(kept, steady)
    linear = linear.as_spread(kept)
    every, _, whole = _mode(linear, felt, predicted, measured, start)
    mode, at, linear = _mode(linear, kept, predicted, measured, start)
    cover, at_felt, limits = whole.posterior(felt), np.flatnonzero(felt), np.log(most)
    told = [(kept[i], _fitted(factors[i], min(mode[i], limits[i]), every[i], cover[j, j]))
            for j, i in enumerate(at_felt)]  # fmt: skip
    fitted = [one for yes, one in told if yes]
    left = replace(linear, away=measured - at + linear.slopes @ mode)
    out = left.left_out(kept)
    signs = [-1.0 if "per_s" in one.column else 1.0 for one in seen]
    held = [Held(given[one.number].run, one.column, *(exp(sign * value) for value in values))
            for one, sign, values in zip(seen, signs, zip(measured - start, measured - at, out, strict=True),
                                         strict=True)]  # fmt: skip
    dropped = [one for yes, one in told if not yes]
    taught = {jobs[one.number] for one in seen if given[one.number].run.kind != LINK}
    alike = _alike([factors[i] for i in np.flatnonzero(kept)], cover[np.ix_(kept[felt], kept[felt])])
    return Answer(machine, stack, fitted, held, alike, dropped, notes, len(taught), scatter)


def _jobs(given: Sequence[Given]) -> list[int]:
    """Which job each run is of: runs of one case at one load are one, as are logs of one collective on as many GPUs."""
    found: list[object] = []
    for one in given:
        facts = one.run.facts
        link = one.run.kind == LINK
        found.append((facts.get("collective"), facts.get("gpus")) if link else (one.scenario, _column(one)))
    return [found.index(one) for one in found]


def _named(given: Sequence[Given], one: Seen) -> str:
    return f"{one.column} of {given[one.number].run.file.name}"


# ---- what is fitted --------------------------------------------------------------------------------------


def _seen(given: Sequence[Given], rows: Sequence[Mapping[str, Any]]) -> tuple[list[Seen], list[str]]:
    """The measurements that are fitted. A first token far from its prediction waited in a queue, and is named."""
    seen, notes = [], []
    for number, (one, row) in enumerate(zip(given, rows, strict=True)):
        kind = one.scenario.workload.kind
        column, op = _column(one), op_of(kind)
        value = _value(one.run, column)
        if not LOWEST < value / row[column] < HIGHEST:
            raise InputError(
                f"{column} is {value / row[column]:.3g} times what is predicted; expected {LOWEST:g} to {HIGHEST:g}:"
                " is it a log of this case?",
                file=one.run.file,
            )
        within = LINK_SPREAD if one.run.kind == LINK else component(class_of_run(op, kind != ALONE), WITHIN).sd or 0.1
        seen.append(Seen(number, column, value, within))
        serves = one.run.kind == SERVER and kind != TRAINING
        first = next((name for name in FIRST if serves and one.run.of(name) and row.get(name)), "")
        if not first:
            continue
        early = Seen(number, first, _value(one.run, first), component("ttft", WITHIN).sd)
        ratio = early.measured / row[first]
        if LOWEST < ratio < HIGHEST:
            seen.append(early)
        else:
            notes.append(f"{_named(given, early)} is {ratio:.3g} times what is predicted, and not fitted")
    return seen, notes


def _one_machine(given: Sequence[Given], catalogue: Catalogue) -> tuple[str, str]:
    """The machine and the stack of all runs."""
    found = {(one.scenario.cluster, _stack(_row(one, catalogue), one)): one for one in given}
    if len(found) > 1:
        said = "; ".join(f"{stack} on {machine}" for machine, stack in found)
        last = list(found.values())[-1]
        raise InputError(f"the logs are of several: {said}; expected one at a time", file=last.run.file)
    return next(iter(found))


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


def _mode(
    linear: Linear,
    kept: np.ndarray,
    predicted: Callable[[np.ndarray], np.ndarray],
    measured: np.ndarray,
    start: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, Linear]:
    """The mode of the logarithms of all factors, what is predicted there, and the model about it.

    Factors that are not kept are 0. Slopes are those at the mode: a host three times as slow is felt where it was not.
    """
    mode, at = np.zeros(len(kept)), start
    if not kept.any():
        return mode, at, linear
    for step in range(STEPS):
        mode = linear.solved(kept, measured - at + linear.slopes @ mode)
        at = predicted(mode)
        if step == 0:
            slopes = np.column_stack([(predicted(mode + DELTA * unit) - at) / DELTA for unit in np.eye(len(kept))])
            linear = replace(linear, slopes=slopes)
    return mode, at, linear


def _fitted(factor: Factor, value: float, middle: float, variance: float) -> Fitted:
    """A factor with its value, and the interval about its `middle` in a fit of all: dropped ones may be at work."""
    reach = student(_Z80, FREEDOM) * sqrt(variance)
    low, high = min(value, middle - reach), max(value, middle + reach)
    return Fitted(factor, exp(value), exp(low), exp(high), 1 - variance / factor.prior**2)


def _alike(factors: Sequence[Factor], cover: np.ndarray) -> list[tuple[str, str]]:
    """Pairs that the logs cannot tell apart."""
    spread = np.sqrt(np.diag(cover))
    together = cover / np.outer(spread, spread)
    return [
        (factors[i].name, factors[j].name) for i in range(len(factors)) for j in range(i) if abs(together[i, j]) > ALIKE
    ]
