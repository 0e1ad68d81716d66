"""Reads a folder, predicts its rows, and keeps account of every row that it did not predict."""

from __future__ import annotations

import zlib
from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec
from simgpu.study.validation.batches import FULL, Adapter, Batch, Bench, Machine
from simgpu.study.validation.gpus import resolve
from simgpu.study.validation.sources import ADAPTERS, ALSO, ELSEWHERE, TRAINING
from simgpu.study.validation.tables import Array, Rows, Table, read_table, tables_in
from simgpu.timing.uncertainty import interval

FASTEST, SLOWEST = 1 / 30, 300.0
"""Measured over roofline time, median of the rows of a GPU in a table: outside, the column has another unit."""


@dataclass(frozen=True)
class Scored:
    """Rows of one batch with their predictions, s. `low` and `high` bound the 80 % interval."""

    source: str
    gpu: str
    architecture: str
    regime: str  # calibrated, inherited or datasheet: how far the constants come from
    batch: Batch
    table: Table
    measured: Array
    predicted: Array
    roofline: Array
    low: Array
    high: Array

    @property
    def ratio(self) -> Array:
        """Predicted over measured."""
        return self.predicted / self.measured

    @cached_property
    def reserved(self) -> np.ndarray:
        """Which rows test the intervals, not make them: half of them, by a hash of the GPU and the row's own cells."""
        table, cells = self.table, [*self.table.numbers, "gpu", "dtype", "op", "layer", "collective"]
        sums = [zlib.crc32(table.described(int(row), cells).encode()) for row in self.batch.rows]
        return (np.asarray(sums, np.int64) >> 7) % 2 == 1


@dataclass(frozen=True)
class Listed:
    """Rows that were not scored, and why."""

    source: str
    gpu: str
    op: str
    rows: int
    reason: str


@dataclass
class Validation:
    """Everything one run of `simgpu validate` found."""

    target: str
    folder: Path
    regime: str
    scored: list[Scored] = field(default_factory=list)
    not_predicted: list[Listed] = field(default_factory=list)
    left_out: list[Listed] = field(default_factory=list)
    not_read: list[tuple[str, str]] = field(default_factory=list)


def validate(
    target: str, folder: Path, catalogue: Catalogue, regime: str = FULL, without: str | None = None
) -> Validation:
    """Predict what a folder holds for `target` (one of `TARGETS`, or 'all'), `without` one of them.

    Raises `InputError`.
    """
    done = Validation(target, folder, regime)
    bench = Bench(catalogue, regime)
    for source, file in tables_in(folder).items():
        adapter = (ALSO if target == "inference" and source in ALSO else ADAPTERS).get(source)
        if adapter is None:
            done.not_read.append((file.name, ELSEWHERE.get(source, "unknown file")))
        elif adapter.target == without:
            done.not_read.append((file.name, f"'validate {adapter.target}' is left out"))
        elif target not in ("all", adapter.target):
            done.not_read.append((file.name, f"belongs to 'validate {adapter.target}'"))
        else:
            _table(done, read_table(source, file, adapter.columns), adapter, bench)
            if target == "all" and source in TRAINING and source in ALSO:
                _other_kind(done, read_table(source, file, adapter.columns), ALSO[source], bench)
    if not done.scored and not done.not_predicted and not done.left_out and without is None:
        raise InputError(f"holds no table for 'validate {target}'", file=folder, key="data")
    return done


def _other_kind(done: Validation, table: Table, adapter: Adapter, bench: Bench) -> None:
    """Predict the rows of the other kind in a table that holds two, of which each reader names what is the other's."""
    left_out = list(done.left_out)
    _table(done, table, adapter, bench)
    done.left_out = left_out
    done.not_predicted = [
        one for one in done.not_predicted if one.source != table.source or "see validate" not in one.reason
    ]


def _table(done: Validation, table: Table, adapter: Adapter, bench: Bench) -> None:
    """Predict the rows of a table, GPU by GPU."""
    kept = _without_suspicious(done, table)
    names = bench.catalogue.names("gpus")
    known: list[tuple[str, GPUSpec, Rows]] = []
    for (name,), rows in table.split(kept, "gpu"):
        try:
            found = resolve(name, names)
        except InputError as error:
            raise table.error(int(rows[0]), error.problem, "gpu") from None
        if found is None:
            reason = "GPU not stated" if name == "unknown" else f"no datasheet of '{name}' in the catalogue"
            done.not_predicted.append(Listed(table.source, name, "all", len(rows), reason))
            continue
        spec = bench.catalogue.spec("gpus", found)
        assert isinstance(spec, GPUSpec)
        known.append((name, spec, rows))
    for name, spec, rows in known:
        _machine(done, table, adapter, Machine(name, spec, bench), rows)


def _without_suspicious(done: Validation, table: Table) -> Rows:
    """Positions of the rows that nobody flagged; the others are counted by GPU and reason."""
    every = np.arange(len(table), dtype=np.intp)
    flags = table.words.get("suspicious")
    if flags is None:
        return every
    flagged = np.flatnonzero(flags != "")
    for (name, flag), rows in table.split(flagged, "gpu", "suspicious"):
        done.left_out.append(Listed(table.source, name, "all", len(rows), f"suspicious: {flag}"))
    return np.flatnonzero(flags == "").astype(np.intp)


def _machine(done: Validation, table: Table, adapter: Adapter, machine: Machine, rows: Rows) -> None:
    """Predict rows of one GPU; each row is in exactly one part."""
    seen = 0
    listed: Counter[tuple[str, str, bool]] = Counter()
    scored: list[Scored] = []
    for part in adapter.parts(table, rows, machine):
        seen += 0 if part.again else len(part.rows)
        if isinstance(part, Batch):
            try:
                found = _scored(table, adapter, machine, part)
            except InputError as error:  # the model itself says what it lacks
                listed[part.op, error.problem, False] += len(part.rows)
                continue
            scored.append(found)
            if len(found.measured) < len(part.rows):
                listed[part.op, "the model gives no time", False] += len(part.rows) - len(found.measured)
        else:
            listed[part.op, part.reason, part.left_out] += len(part.rows)
    if seen != len(rows):
        raise AssertionError(f"adapter of {table.source} accounts for {seen} of {len(rows)} rows")
    _check_unit(table, adapter, scored)
    done.scored += scored
    for (op, reason, left_out), count in sorted(listed.items()):
        where = done.left_out if left_out else done.not_predicted
        where.append(Listed(table.source, machine.name, op, count, reason))


def _scored(table: Table, adapter: Adapter, machine: Machine, batch: Batch) -> Scored:
    predicted = np.broadcast_to(np.asarray(batch.predict(), float), batch.rows.shape)
    baseline = np.broadcast_to(np.asarray(batch.roofline(), float), batch.rows.shape)
    good = np.isfinite(predicted) & (predicted > 0)
    batch, predicted, baseline = batch.kept(good), predicted[good], baseline[good]
    regime = machine.timer.constants.regime(batch.kind, batch.library)
    measured = table.number(adapter.measured, batch.rows) if batch.measured is None else batch.measured
    if batch.ends is None:
        low, high = interval(
            batch.op, predicted, architecture=machine.architecture, regime=regime, library=library_of(batch)
        )
        low, high = predicted * low, predicted * high
    else:
        low, high = batch.ends
    return Scored(
        table.source,
        machine.name,
        machine.architecture,
        regime,
        batch,
        table,
        measured,
        predicted,
        baseline,
        low,
        high,
    )


def library_of(batch: Batch) -> str:
    """The library under which the table of residuals knows a batch; machines that are not wholly described apart."""
    return f"{batch.library} {batch.caveat}".strip()


def _check_unit(table: Table, adapter: Adapter, scored: list[Scored]) -> None:
    """Times a thousand times off in the median are in another unit."""
    if not scored:
        return
    scored = [part for part in scored if part.batch.op != "memory"]  # bytes
    if not scored:
        return
    ratio = np.concatenate([part.measured / np.maximum(part.predicted, part.roofline) for part in scored])
    typical = float(np.median(ratio))
    if FASTEST <= typical <= SLOWEST:
        return
    row = int(scored[0].batch.rows[0])
    unit = min(
        (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)), key=lambda u: abs(np.log(typical / u[1]))
    )
    guess = f"; are these {unit[0]}?" if typical > 1 else ""
    said = f"{typical:,.0f} times slower" if typical > 1 else f"{1 / typical:,.0f} times faster"
    raise table.error(row, f"times are {said} than any model in the median, expected seconds{guess}", adapter.measured)
