"""Reads a folder, predicts its rows, and keeps account of every row that it did not predict."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.validation.batches import FULL, Adapter, Batch, Bench, Machine, Part, Unpredicted
from simgpu.lab.validation.cells import Skipped
from simgpu.lab.validation.gpus import resolve
from simgpu.lab.validation.sources import NOT_PREDICTED, known
from simgpu.lab.validation.standing import ends_of, standing_of
from simgpu.lab.validation.tables import Array, Rows, Table, others_in, read_table, tables_in

NAMED = 10
"""Lines of a reason that are named at most."""
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
    seen: bool = True  # whether constants were chosen on this source
    standing: np.ndarray[Any, Any] | None = None  # how far each row is from what was measured (`standing.STANDINGS`)

    @property
    def ratio(self) -> Array:
        """Predicted over measured."""
        return self.predicted / self.measured

    @cached_property
    def reserved(self) -> np.ndarray:
        """Which rows test the intervals, not make them: half of them, by a hash of the GPU and the row's own cells."""
        table, cells = self.table, [*self.table.numbers, "gpu", "dtype", "op", "layer", "collective"]
        sums = [zlib.crc32(table.described(int(row), cells).encode()) for row in self.batch.rows]
        made: np.ndarray[Any, Any] = (np.asarray(sums, np.int64) >> 7) % 2 == 1
        return made


@dataclass(frozen=True)
class Listed:
    """Rows of a file that were not scored, or are doubted, and why."""

    source: str
    gpu: str
    op: str
    rows: int
    reason: str
    lines: tuple[int, ...] = ()  # of the file, at most `NAMED` of them


@dataclass
class Validation:
    """Everything one run of `simgpu validate` found.

    Each row of a table that was read is scored, not predicted or left out. `misfits` are rows that ran though memory is
    said not to suffice, predicted or not.
    """

    target: str
    folder: Path
    regime: str
    scored: list[Scored] = field(default_factory=list)
    not_predicted: list[Listed] = field(default_factory=list)
    left_out: list[Listed] = field(default_factory=list)
    misfits: list[Listed] = field(default_factory=list)
    not_read: list[tuple[str, str]] = field(default_factory=list)


def validate(
    target: str, folder: Path, catalogue: Catalogue, regime: str = FULL, without: str | None = None, parent: str = ""
) -> Validation:
    """Predict what a folder holds for `target` (one of `TARGETS`, or 'all').

    One of the targets can be left out (`without`). Constants are those that `regime` allows, or those of `parent`, an
    architecture. Raises `InputError`.
    """
    done = Validation(target, folder, regime)
    bench = Bench(catalogue, regime, parent)
    for name, file in tables_in(folder).items():
        source = known().get(name)
        if source is None:
            done.not_read.append((file.name, NOT_PREDICTED.get(name, "unknown file")))
            continue
        adapter = source.adapter(target)
        own = (adapter or source.adapters[0]).target
        if own == without:
            done.not_read.append((file.name, f"'validate {own}' is left out"))
        elif adapter is None:
            done.not_read.append((file.name, f"belongs to 'validate {own}'"))
        else:
            _table(done, read_table(name, file, adapter.columns), adapter, bench)
            for other in source.adapters[1:] if target == "all" else ():
                _other_kind(done, read_table(name, file, other.columns), other, bench)
    done.not_read += others_in(folder)
    if not done.scored and not done.not_predicted and not done.left_out and without is None:
        raise InputError(f"holds no table for 'validate {target}'", file=folder, key="data")
    return done


def validate_all(target: str, folder: Path, catalogue: Catalogue, regime: str = FULL) -> Validation:
    """Like `validate`, with the tables of folders inside the folder, one level down, whose names are their own.

    Further rows of a table of the folder are a validation of their own.
    """
    done = validate(target, folder, catalogue, regime)
    for inner in inner_folders(folder):
        if inner in twins(folder):
            continue
        try:
            more = validate(target, inner, catalogue, regime)
        except InputError as error:
            if "holds no table" not in error.problem:
                raise
            continue
        for name in ("scored", "not_predicted", "left_out", "misfits"):
            getattr(done, name).extend(getattr(more, name))
        done.not_read = [one for one in done.not_read if one[0] != f"{inner.name}/"]
        done.not_read += [(f"{inner.name}/{name}", reason) for name, reason in more.not_read]
    return done


def inner_folders(folder: Path) -> list[Path]:
    """Folders in a folder of tables that hold tables which simgpu knows."""
    inside = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    return [entry for entry in inside if any(name in known() for name in tables_in(entry))]


def twins(folder: Path) -> list[Path]:
    """Folders in a folder of tables that hold further rows of its tables."""
    names = set(tables_in(folder))
    return [inner for inner in inner_folders(folder) if names & set(tables_in(inner))]


def _other_kind(done: Validation, table: Table, adapter: Adapter, bench: Bench) -> None:
    """Predict the rows of the other kind in a table that holds two, of which each reader names what is the other's."""
    left_out, listed = list(done.left_out), list(done.not_predicted)
    _table(done, table, adapter, bench)
    done.left_out = left_out
    done.not_predicted = [
        *(one for one in listed if one.source != table.source or "see validate" not in one.reason),
        *(one for one in done.not_predicted[len(listed) :] if one not in listed and "see validate" not in one.reason),
    ]


def _table(done: Validation, table: Table, adapter: Adapter, bench: Bench) -> None:
    """Predict the rows of a table, GPU by GPU."""
    done.not_predicted += _skipped(table)
    kept = _without_suspicious(done, table)
    names = bench.catalogue.names("gpus")
    for (name,), rows in table.split(kept, "gpu"):
        try:
            found = resolve(name, names)
        except InputError as error:
            reason = f"{table.place(rows[:1])}: gpu: {error.problem}"
            done.not_predicted.append(listed(table, name, "all", rows, reason))
            continue
        if found is None:
            reason = "GPU not stated" if name == "unknown" else f"no datasheet of '{name}' in the catalogue"
            done.not_predicted.append(listed(table, name, "all", rows, reason))
            continue
        spec = bench.catalogue.spec("gpus", found)
        assert isinstance(spec, GPUSpec)
        _machine(done, table, adapter, Machine(name, spec, bench), rows)


def listed(table: Table, gpu: str, op: str, rows: Sequence[int] | Rows, reason: str) -> Listed:
    """Rows of a table with the lines of the first of them."""
    lines = tuple(int(line) for line in table.lines[np.asarray(rows[:NAMED], np.intp)])
    return Listed(table.source, gpu, op, len(rows), reason, lines)


def _skipped(table: Table) -> list[Listed]:
    """Rows with a cell that cannot be used; those of one GPU and column with the same fault stand together."""
    together: dict[tuple[str, str, str], list[Skipped]] = {}
    for row in table.skipped:
        together.setdefault((row.gpu, row.key, row.expected), []).append(row)
    found = []
    for (gpu, key, _), rows in together.items():
        place = f"{table.file.name}:{rows[0].line}: " + (f"{key}: " if key else "")
        lines = tuple(row.line for row in rows[:NAMED])
        found.append(Listed(table.source, gpu, "all", len(rows), place + rows[0].problem, lines))
    return found


def _without_suspicious(done: Validation, table: Table) -> Rows:
    """Positions of the rows that nobody flagged; the others are counted by GPU and reason."""
    every = np.arange(len(table), dtype=np.intp)
    flags = table.words.get("suspicious")
    if flags is None:
        return every
    flagged = np.flatnonzero(flags != "")
    for (name, flag), rows in table.split(flagged, "gpu", "suspicious"):
        done.left_out.append(listed(table, name, "all", rows, f"suspicious: {flag}"))
    return np.flatnonzero(flags == "").astype(np.intp)


def _machine(done: Validation, table: Table, adapter: Adapter, machine: Machine, rows: Rows) -> None:
    """Predict rows of one GPU; each row is in exactly one part."""
    account, seen = _Account(table, adapter, machine), 0
    for part in parts_of(table, adapter, machine, rows):
        seen += 0 if part.again else len(part.rows)
        if isinstance(part, Unpredicted):
            account.refuse(part)
        else:
            account.score(part)
    if seen != len(rows):
        raise AssertionError(f"adapter of {table.source} accounts for {seen} of {len(rows)} rows")
    account.doubt()
    account.close(done)


@dataclass
class _Account:
    """What becomes of the rows of one GPU in a table: which are scored, which are refused and why.

    `refused` is by operation, key, reason and whether the rows are left out on purpose. `misfits` are rows that ran
    though memory is said not to suffice, by operation and reason; where there is none, the bytes of the rows say it.
    """

    table: Table
    adapter: Adapter
    machine: Machine
    scored: list[Scored] = field(default_factory=list)
    refused: dict[tuple[str, str, str, bool], list[int]] = field(default_factory=dict)
    misfits: dict[tuple[str, str], list[tuple[int, float]]] = field(default_factory=dict)

    def _refuse(self, op: str, reason: str, at: list[int], key: str = "", left_out: bool = False) -> None:
        self.refused.setdefault((op, key, reason, left_out), []).extend(at)

    def refuse(self, part: Unpredicted) -> None:
        """Rows that the adapter does not predict."""
        at = part.rows.tolist()
        self._refuse(part.op, part.reason, at, part.key, part.left_out)
        if part.misfit:
            self.misfits.setdefault((part.op, part.reason), []).extend((row, 0.0) for row in at)

    def score(self, part: Batch) -> None:
        """Rows that the adapter predicts, but for those to which the model gives no time."""
        at = part.rows.tolist()
        for row, detail in zip(at, part.details, strict=False):
            if detail.needed:
                self.misfits.setdefault((part.op, ""), []).append((row, detail.needed))
        try:
            found = _scored(self.table, self.adapter, self.machine, part)
        except InputError as error:  # the model itself says what it lacks
            self._refuse(part.op, error.problem, at)
            return
        self.scored.append(found)
        missing = sorted({*at} - {*found.batch.rows.tolist()})
        if missing:
            self._refuse(part.op, "the model gives no time", missing)

    def doubt(self) -> None:
        """Refuse all scored rows if their times are in another unit."""
        unit = _other_unit(self.table, self.adapter, self.scored)
        if unit:
            for part in self.scored:
                if not part.batch.again:
                    self._refuse(part.batch.op, unit, part.batch.rows.tolist())
            self.scored = []

    def close(self, done: Validation) -> None:
        """Add the rows to those of the whole run."""
        table, gpu = self.table, self.machine.name
        done.scored += self.scored
        for (op, key, reason, left_out), at in sorted(self.refused.items()):
            reason = f"{table.place(at[:1])}: {key}: {reason}" if key else reason
            (done.left_out if left_out else done.not_predicted).append(listed(table, gpu, op, at, reason))
        for (op, reason), pairs in sorted(self.misfits.items()):
            reason = reason or _too_large([needed for _, needed in pairs], self.machine)
            done.misfits.append(listed(table, gpu, op, [row for row, _ in pairs], reason))


def _too_large(needed: list[float], machine: Machine) -> str:
    """How many bytes rows are said to need, in words."""
    ends = dict.fromkeys(f"{1e-9 * end:.0f}" for end in (min(needed), max(needed)))
    return f"said to need {' to '.join(ends)} GB; the GPU has {1e-9 * machine.gpu.memory.capacity.si:.0f}"


def parts_of(table: Table, adapter: Adapter, machine: Machine, rows: Rows) -> list[Part]:
    """What an adapter makes of rows. A row that it refuses is unpredicted alone and does not take the others along."""
    try:
        return list(adapter.parts(table, rows, machine))
    except InputError as error:
        if len(rows) == 1:
            return [Unpredicted("all", rows, error.problem, key=error.key or "")]
    middle = len(rows) // 2
    return [part for half in (rows[:middle], rows[middle:]) for part in parts_of(table, adapter, machine, half)]


def _scored(table: Table, adapter: Adapter, machine: Machine, batch: Batch) -> Scored:
    with np.errstate(all="ignore"):  # sizes that no number holds give no time
        predicted = np.broadcast_to(np.asarray(batch.predict(), float), batch.rows.shape)
        baseline = np.broadcast_to(np.asarray(batch.roofline(), float), batch.rows.shape)
    good = np.isfinite(predicted) & (predicted > 0)
    batch, predicted, baseline = batch.kept(good), predicted[good], baseline[good]
    regime = machine.timer.constants.regime(batch.kind, batch.library)
    measured = table.number(adapter.measured, batch.rows) if batch.measured is None else batch.measured
    seen = machine.bench.parent == "" and known()[table.source].chose_constants(machine.name)
    low, high = ends_of(batch, predicted, machine.architecture, regime, seen)
    standing = standing_of(batch, machine.architecture, regime, seen)
    return Scored(
        table.source, machine.name, machine.architecture, regime, batch, table, measured, predicted, baseline, low,
        high, seen, standing,
    )  # fmt: skip


def _other_unit(table: Table, adapter: Adapter, scored: list[Scored]) -> str:
    """What shows that the times of a GPU's rows are not in seconds: a thousand times off in the median; or ''."""
    scored = [part for part in scored if part.batch.op != "memory" and len(part.measured)]  # memory: bytes
    if not scored:
        return ""
    ratio = np.concatenate([part.measured / np.maximum(part.predicted, part.roofline) for part in scored])
    typical = float(np.median(ratio))
    if FASTEST <= typical <= SLOWEST:
        return ""
    unit = min(
        (("milliseconds", 1e3), ("microseconds", 1e6), ("nanoseconds", 1e9)), key=lambda u: abs(np.log(typical / u[1]))
    )
    guess = f"; are these {unit[0]}?" if typical > 1 else ""
    said = f"{typical:,.0f} times slower" if typical > 1 else f"{1 / typical:,.0f} times faster"
    place = f"{table.place(scored[0].batch.rows[:1])}: {adapter.measured}"
    return f"{place}: times are {said} than any model in the median, expected seconds{guess}"
