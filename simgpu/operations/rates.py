"""Failure rates by part, counted on clusters that somebody described: files of `hardware/reliability/`.

Kinds of errors stand apart. A corrected error costs nothing; of the uncorrected ones row remapping absorbs most; others
interrupt the job; a silent one is found late, and takes the work since then with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal, Self
from weakref import WeakKeyDictionary

from pydantic import BaseModel, ConfigDict, Field, model_validator

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.operations.quantities import DAY, YEAR, Share, Span
from simgpu.schema_errors import TrueFalse, validate

Count = Annotated[int, Field(ge=0, le=10**9, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Cause(_Strict):
    """How often a cause stopped a job: `count` times on all pieces of a `part` over the days of the file.

    memory
        An error of GPU memory, which depends on ECC.
    replaced
        The node is taken out and repaired; without it the job starts again on the same machines.
    group
        It takes a whole group of nodes at once, copies of a checkpoint in its memory too.
    """

    cause: Annotated[str, Field(min_length=1)]
    part: Literal["gpu", "node"]
    count: Count
    memory: TrueFalse = False
    replaced: TrueFalse = False
    group: TrueFalse = False
    source: str


class Repair(_Strict):
    """How long a failed node is away: mean and 90th percentile."""

    mean: Span
    p90: Span | None = None
    source: str


class RatesFile(_Strict):
    """A file of rates: interruptions by cause, silent errors, and errors of memory that interrupt nothing."""

    name: str
    title: str
    gpus: Annotated[int, Field(gt=0, strict=True)]
    gpus_per_node: Annotated[int, Field(gt=0, strict=True)] = 8
    days: Annotated[float, Field(gt=0)]
    sources: dict[str, Annotated[str, Field(min_length=1)]]
    planned: Count = 0
    planned_source: str | None = None
    interrupting: Annotated[list[Cause], Field(min_length=1)]
    silent: list[Cause] = []
    uncorrected_per_gpu_year: Annotated[float, Field(ge=0)] | None = None
    absorbed_share: Share | None = None
    uncorrected_source: str | None = None
    repair: Repair

    @model_validator(mode="after")
    def _sourced(self) -> Self:
        named = [one.source for one in (*self.interrupting, *self.silent)] + [self.repair.source]
        named += [one for one in (self.planned_source, self.uncorrected_source) if one]
        for name in named:
            if name not in self.sources:
                raise ValueError(f"{shown(name)} is not one of the file's sources{nearest(name, self.sources)}")
        return self

    @property
    def gpu_seconds(self) -> float:
        """The time that was watched, GPU x s."""
        return self.gpus * self.days * DAY


def rates_of(catalogue: Catalogue, name: str) -> RatesFile:
    """A file of rates of the catalogue by name, or by its path. Raises `InputError`."""
    file = catalogue.find("reliability", name) or (Path(name) if name.endswith((".yaml", ".yml")) else None)
    if file is None:
        hint = nearest(name, catalogue.names("reliability"))
        raise InputError(f"unknown file of failure rates {shown(name)}{hint}", key="reliability.rates")
    known = _READ.setdefault(catalogue, {})
    if file not in known:
        document = catalogue.document(file)
        known[file] = validate(RatesFile, document.data, lambda path, problem: document.error(problem, path))
    return known[file]


_READ: WeakKeyDictionary[Catalogue, dict[Path, RatesFile]] = WeakKeyDictionary()
"""The files of rates that a catalogue has read."""

NO_ECC_FACTOR = 1.0
"""Memory errors without ECC over those with it, as far as anybody counted: the same cells fail."""


@dataclass(frozen=True)
class JobRates:
    """Events of a job, 1/s: by cause, and what becomes of them.

    causes
        Interruptions by cause, silent errors not among them.
    silent
        Errors that nobody sees until later.
    planned
        Stops on purpose, 1/s of the whole job.
    absorbed
        Uncorrectable errors of memory that row remapping takes in: they interrupt nothing.
    replaced
        The part of the interruptions after which a node is away.
    group
        The part of them that takes several nodes at once.
    """

    causes: Mapping[str, float]
    silent: float
    planned: float
    absorbed: float
    replaced: float
    group: float

    @property
    def unplanned(self) -> float:
        """Interruptions that nobody planned, found silent errors among them, 1/s."""
        return sum(self.causes.values()) + self.silent

    @property
    def all(self) -> float:
        """Every stop of the job, 1/s."""
        return self.unplanned + self.planned

    @property
    def mttf(self) -> float:
        """Mean time to an interruption that nobody planned, s; infinite without failures."""
        return 1.0 / self.unplanned if self.unplanned else inf


def job_rates(
    rates: RatesFile, gpus: int, gpus_per_node: int, factor: float = 1.0, ecc: bool = True,
    planned: float | None = None,
) -> JobRates:  # fmt: skip
    """Rates of a job on `gpus` GPUs: parts in series, as a synchronous job stops with the first that fails.

        L = sum over parts of n_i rate_i + planned,   M = 1 / L

    Causes of a node go with the number of nodes, those of a GPU with the number of GPUs. Without ECC nobody sees an
    error of memory: those that ECC would have reported are silent, the absorbed ones too.
    """
    gpu_s = rates.gpu_seconds
    nodes, watched = max(gpus / gpus_per_node, 1.0), gpu_s / rates.gpus_per_node

    def rate(cause: Cause) -> float:
        return factor * cause.count * (gpus / gpu_s if cause.part == "gpu" else nodes / watched)

    seen = [cause for cause in rates.interrupting if ecc or not cause.memory]
    hidden = [cause for cause in rates.interrupting if not ecc and cause.memory]
    absorbed = (rates.uncorrected_per_gpu_year or 0.0) * (rates.absorbed_share or 0.0) / YEAR * gpus * factor
    silent = sum(map(rate, [*rates.silent, *hidden])) + (0.0 if ecc else absorbed * NO_ECC_FACTOR)
    usual = rates.planned / (rates.days * DAY) * gpus / rates.gpus
    return JobRates(
        {cause.cause: rate(cause) for cause in seen},
        silent,
        usual if planned is None else planned,
        absorbed if ecc else 0.0,
        sum(rate(cause) for cause in seen if cause.replaced) + sum(map(rate, rates.silent)),
        sum(rate(cause) for cause in seen if cause.group),
    )
