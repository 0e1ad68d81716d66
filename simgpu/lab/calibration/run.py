"""Fit of a GPU's constants, one class after another, with scores on rows held back.

The classes come in the order in which they lean on each other: streams say what DRAM and L2 give, matrix products what
the clock under load is, attention and experts use both.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.derive import MARK, base_name
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.calibration import kinds
from simgpu.lab.calibration.checks import check
from simgpu.lab.calibration.fitting import ROUNDED, ROUNDED_SMALL_SAMPLE, choose, derivatives, fit, supported
from simgpu.lab.calibration.trial import (
    Path3,
    Piece,
    Trial,
    home_of,
    library_behind,
    predict,
    values_of,
    with_values,
)
from simgpu.lab.calibration.tunable import tunables
from simgpu.lab.validation.batches import FULL, Adapter, Batch, Bench, Machine
from simgpu.lab.validation.cells import Skipped
from simgpu.lab.validation.gpus import resolve
from simgpu.lab.validation.run import parts_of
from simgpu.lab.validation.tables import Array, Rows, Table

SMALL_SAMPLE = 12
"""Fewer rows of a class than this are all fitted; none can be held back."""
MOST_FITTED = 600
"""Rows of a class that are fitted at most; a few constants need no more."""
MOST_SCORED = 20_000
IMPROVEMENT = 0.99
"""Constants are written if they bring the mean |log error| of the rows that count below this part of what it was."""
SUSPECT_FACTOR = 3.0
"""Rows further than this factor from what was expected, in the median, are doubted."""
_ORDER = ("vector", "gemm", "attention", "moe", "collective")
_DIGITS = 4
CARRIED = {
    "memory_fraction": (("gemm", "memory_fraction"), ("attention", "memory_fraction"), ("moe", "memory_fraction")),
}
"""What streams say of a constant, and the constants of other classes that are moved by the same factor, until rows of
their own say more: they describe the same hardware."""


@dataclass(frozen=True)
class Errors:
    """Absolute relative errors |predicted / measured - 1| of some rows, as fractions."""

    median_ape: float
    mape: float
    p90_ape: float

    @staticmethod
    def of(predicted: Array, measured: Array) -> Errors:
        """The errors of predictions against measurements, in any unit."""
        off = np.abs(predicted / measured - 1)
        return Errors(float(np.median(off)), float(np.mean(off)), float(np.quantile(off, 0.9)))


@dataclass(frozen=True)
class Constant:
    """A constant that was moved. `before` and `after` in SI units; `level` gave the value before."""

    path: Path3
    before: float
    after: float
    level: str
    fitted: bool = True  # else carried over from streams


@dataclass(frozen=True)
class Group:
    """The calibration of one class in one library. Errors are those of held-out rows if there are any."""

    kind: str
    library: str
    ops: tuple[str, ...]
    dtypes: tuple[str, ...]
    rows: int
    fitted: int
    held_out: int
    before: Errors
    after: Errors
    constants: tuple[Constant, ...]
    helped: bool
    slower: float  # measured over predicted before, median of the rows scored


LeftOut = tuple[str, int, str]
"""A file, how many of its rows, and why they do not count."""


@dataclass
class Calibrated:
    """The outcome: groups, rows that were left out, and the constants to write."""

    gpu: GPUSpec
    files: list[Path]
    regime: str
    groups: list[Group] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    constants: Calibration = field(default_factory=lambda: Calibration({}))

    @property
    def moved(self) -> list[tuple[Constant, Group]]:
        """Every constant to be written, from where it was at first, with the group that moved it last."""
        constants: dict[Path3, tuple[Constant, Group]] = {}
        for group in self.groups:
            for one in group.constants:
                first = constants[one.path][0] if one.path in constants else one
                constants[one.path] = (replace(one, before=first.before, level=first.level), group)
        return list(constants.values())

    @property
    def doubts(self) -> list[str]:
        """Groups whose rows are far from what was expected of the GPU, in words."""
        sentences = []
        for group in self.groups:
            factor = max(group.slower, 1 / group.slower)
            if factor > SUSPECT_FACTOR:
                way = "longer" if group.slower > 1 else "shorter"
                where = group.kind + ("" if group.library == DEFAULT else f" {group.library}")
                sentences.append(
                    f"{where}: times are {factor:.1f} times {way} than expected of {self.gpu.name} in the median;"
                    " are they seconds, and of this GPU?"
                )
        return sentences


Progress = Callable[[str], None]


def calibrate(
    files: Sequence[Path],
    catalogue: Catalogue,
    name: str | None = None,
    what: Collection[str] = kinds.KINDS,
    regime: str = FULL,
    progress: Progress = lambda _: None,
) -> Calibrated:
    """Fit the constants of a GPU (`name`; else the one GPU of the files) to the rows of `files`.

    `regime` says where the constants start: the GPU's own (full), its family's, any GPU's (datasheet).
    """
    read = [(file, *kinds.read(file, what)) for file in files]
    tables = [pair for _, pairs, _, _ in read for pair in pairs]
    unwanted = [(str(file), rows) for file, _, _, rows in read]
    skipped = [(file, row) for file, _, rows, _ in read for row in rows]
    skipped += [(table.file, row) for table, _ in tables for row in table.skipped]
    if not tables:
        first = f"; line {skipped[0][1].line}: {skipped[0][1].problem}" if skipped else ""
        raise InputError(f"holds no rows of {', '.join(what)}{first}", file=files[0], key="--what")
    gpu = _gpu(tables, catalogue, name, _skipped(skipped))
    bench = Bench(catalogue, regime)
    trial = Trial(catalogue, regime, calibration=bench.constants(gpu))
    done = Calibrated(gpu, list(files), regime, constants=trial.calibration)
    done.left_out += _skipped(skipped)
    done.left_out += [(file, rows, "of kinds that were not asked for") for file, rows in unwanted if rows]
    pieces: dict[tuple[str, str], list[tuple[Piece, Batch]]] = {}
    for table, adapter in tables:
        rows = _rows_of_gpu(done, table, gpu.name, catalogue)
        if len(rows):
            _pieces(done, table, adapter, rows, gpu, trial, what, pieces)
    if not pieces:
        raise InputError(f"holds no row that can be used for '{gpu.name}': {_reasons(done.left_out)}", file=files[0])
    order = sorted(pieces, key=lambda key: (_ORDER.index(key[0]), key[1] != DEFAULT, key[1]))
    started = time.monotonic()
    for i, key in enumerate(order):
        if time.monotonic() - started > 2 or len(order) > 3:
            progress(f"fitting {key[0]} {'' if key[1] == DEFAULT else key[1] + ' '}({i + 1} of {len(order)})")
        done.groups.append(_group(done, key, pieces[key], trial))
        trial = trial.with_constants(done.constants)
    return done


# ---- reading -------------------------------------------------------------------------------------------


def _skipped(rows: Sequence[tuple[Path, Skipped]]) -> list[LeftOut]:
    """Rows with a cell that cannot be used; those of one column with the same fault stand together."""
    together: dict[tuple[Path, str, str], list[Skipped]] = {}
    for file, row in rows:
        together.setdefault((file, row.key, row.expected), []).append(row)
    return [
        (str(file), len(found), f"line {found[0].line}: {f'{key}: ' if key else ''}{found[0].problem}")
        for (file, key, _), found in together.items()
    ]


def _gpu(
    tables: Sequence[tuple[Table, Adapter]], catalogue: Catalogue, name: str | None, left_out: Sequence[LeftOut]
) -> GPUSpec:
    """The GPU to calibrate."""
    if name is None:
        named, unknown = _named(tables, catalogue)
        if not named and (unknown or left_out):
            raise InputError(f"holds no row that can be used: {_reasons(left_out) or unknown}", file=tables[0][0].file)
        if len(named) != 1:
            given = sorted(one for one, _ in named.values())
            shown = f": {', '.join(given[:6])}{' ...' if len(given) > 6 else ''}"
            raise InputError(f"the rows are of {len(given)} GPUs{shown if given else ''}; expected one", key="--gpu")
        name = next(iter(named))
        if name not in catalogue.names("gpus"):
            raise named[name][1].error(0, f"no datasheet of '{name}' in the catalogue; add gpus/{name}.yaml", "gpu")
    if MARK in name:
        raise InputError(f"constants belong to a whole GPU; expected '{base_name(name)}'", key="--gpu")
    spec = catalogue.spec("gpus", name)
    assert isinstance(spec, GPUSpec)
    return spec


def _named(tables: Sequence[tuple[Table, Adapter]], catalogue: Catalogue) -> tuple[dict[str, tuple[str, Table]], str]:
    """The GPUs of tables by their name in the catalogue (else in the table): how it is spelt, and where first.

    The second value is the error of the first name that nobody knows.
    """
    names: dict[str, tuple[str, Table]] = {}
    unknown = ""
    for table, _ in tables:
        for (name,), rows in table.split(np.arange(len(table), dtype=np.intp), "gpu"):
            try:
                names.setdefault(resolve(name, catalogue.names("gpus")) or name, (name, table))
            except InputError as error:
                unknown = unknown or f"line {int(table.lines[rows[0]])}: gpu: {error.problem}"
    return names, unknown


def _rows_of_gpu(done: Calibrated, table: Table, name: str, catalogue: Catalogue) -> Rows:
    """Rows of the GPU that nobody flagged; the others are counted."""
    names = catalogue.names("gpus")
    kept: list[Rows] = []
    others: Counter[str] = Counter()
    for (given,), rows in table.split(np.arange(len(table), dtype=np.intp), "gpu"):
        try:
            named = name if given == name else resolve(given, names)
        except InputError as error:
            reason = f"line {int(table.lines[rows[0]])}: gpu: {error.problem}"
            done.left_out.append((str(table.file), len(rows), reason))
            continue
        if named == name:
            kept.append(rows)
        else:
            others[given] += len(rows)
    done.left_out += [(str(table.file), count, f"of another GPU, {other}") for other, count in sorted(others.items())]
    rows = np.concatenate(kept) if kept else np.zeros(0, np.intp)
    flags = table.words.get("suspicious")
    if flags is not None and (flags[rows] != "").any():
        done.left_out.append((str(table.file), int((flags[rows] != "").sum()), "flagged as suspicious"))
        rows = rows[flags[rows] == ""]
    return np.sort(rows)


def _pieces(
    done: Calibrated,
    table: Table,
    adapter: Adapter,
    rows: Rows,
    gpu: GPUSpec,
    trial: Trial,
    what: Collection[str],
    pieces: dict[tuple[str, str], list[tuple[Piece, Batch]]],
) -> None:
    """Sort the rows of a table by the constants that predict them; those that nothing predicts are counted."""
    machine = Machine(gpu.name, gpu, trial)
    wanted = {kinds.CLASSES[one] for one in what}
    reasons: Counter[str] = Counter()
    for part in parts_of(table, adapter, machine, rows):
        if not isinstance(part, Batch):
            place = f"line {int(table.lines[part.rows[0]])}: {part.key}: " if part.key else ""
            reasons[place + part.reason] += len(part.rows)
        elif part.kind not in wanted:
            reasons["of kinds that were not asked for"] += len(part.rows)
        elif part.caveat:
            reasons[part.caveat] += len(part.rows)
        elif len(part.rows):
            try:
                good, wrong = check(table, adapter, part, machine)
            except InputError as refused:
                reasons[refused.problem] += len(part.rows)
                continue
            reasons.update(wrong)
            if not len(good):
                continue
            keys = np.asarray([_key(table, int(row), part.shape) for row in good], np.uint64)
            key = (part.kind, library_behind(part, machine))
            pieces.setdefault(key, []).append((Piece(table, adapter, good, keys), part))
    done.left_out += [(str(table.file), count, reason) for reason, count in sorted(reasons.items())]


def _key(table: Table, row: int, shape: Sequence[str]) -> int:
    """A number that decides on which half a row is: rows of one shape are always on one side."""
    text = " ".join([str(table.words[word][row]) for word in ("dtype",) if word in table.words])
    text += table.described(row, shape)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _reasons(left_out: Sequence[LeftOut]) -> str:
    said = (f"{rows:,} rows{':' if reason.startswith('line ') else ''} {reason}" for _, rows, reason in left_out[:4])
    return "; ".join(said) or "none of the kinds asked for"


# ---- fitting -------------------------------------------------------------------------------------------


def _group(done: Calibrated, key: tuple[str, str], parts: list[tuple[Piece, Batch]], trial: Trial) -> Group:
    """Fit the constants of one class in one library, and keep them if they help."""
    kind, library = key
    pieces = _merged([piece for piece, _ in parts])
    every = np.concatenate([piece.keys for piece in pieces])
    few = len(every) < SMALL_SAMPLE
    fitted = [piece.part(_first(piece.keys, every, few)) for piece in pieces]
    held = fitted if few else [piece.part(piece.keys % 2 == 1) for piece in pieces]
    gpu = done.gpu
    if not few and not (sum(len(p.rows) for p in held) and sum(len(p.rows) for p in fitted)):
        fitted, held, few = pieces, pieces, True  # all rows are of one shape
    constants = _fitted(fitted, gpu, trial, kind, library)
    after = with_values(trial.calibration, {one.path: one.after for one in constants})
    scored = [piece.part(np.arange(len(piece.rows)) < MOST_SCORED) for piece in held]
    measured = np.concatenate([piece.measured for piece in scored])
    ratios = [
        np.concatenate([predict(piece, gpu, trial.with_constants(tried)) for piece in scored]) / measured
        for tried in (trial.calibration, after)
    ]
    errors = [Errors.of(ratio, np.ones_like(ratio)) for ratio in ratios]
    logs = [np.abs(np.log(ratio)).mean() for ratio in ratios]
    helped = bool(constants) and bool(logs[1] < IMPROVEMENT * logs[0])
    if helped:
        done.constants = after
        if kind == "vector" and library == DEFAULT:
            carried = _carried(constants, trial.calibration)
            done.constants = with_values(after, {one.path: one.after for one in carried})
            constants += carried
    return Group(
        kind,
        library,
        tuple(dict.fromkeys(batch.op for _, batch in parts)),
        tuple(dict.fromkeys(batch.dtype for _, batch in parts if batch.dtype)),
        len(every),
        sum(len(piece.rows) for piece in fitted),
        0 if few else sum(len(piece.rows) for piece in scored),
        errors[0],
        errors[1] if helped else errors[0],
        tuple(constants) if helped else (),
        helped,
        float(1 / np.median(ratios[0])),
    )


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Pieces of one table as one, so that it is taken apart once in a prediction."""
    by: dict[int, list[Piece]] = {}
    for piece in pieces:
        by.setdefault(id(piece.table), []).append(piece)
    return [
        Piece(
            same[0].table,
            same[0].adapter,
            np.concatenate([piece.rows for piece in same]),
            np.concatenate([piece.keys for piece in same]),
        )
        for same in by.values()
    ]


def _first(keys: np.ndarray, every: np.ndarray, few: bool) -> np.ndarray:
    """A mask of the rows that are fitted.

    It takes all of a few, else the even ones, the lowest keys of them if there are many.
    """
    if few:
        return np.ones(len(keys), bool)
    even = np.sort(every[every % 2 == 0])
    mask: np.ndarray[Any, Any] = (
        (keys % 2 == 0) & (keys <= even[min(len(even), MOST_FITTED) - 1]) if len(even) else keys % 2 == 0
    )
    return mask


def _fitted(pieces: Sequence[Piece], gpu: GPUSpec, trial: Trial, kind: str, library: str) -> list[Constant]:
    """The constants that the rows support, moved to where they fit best."""
    now = values_of(trial.calibration, gpu, kind, library)
    may = [one for one in tunables(kind, library) if one.name in now]
    home = home_of(kind, library)
    start = np.asarray([one.encode(now[one.name]) for one in may])
    spreads = np.asarray([one.spread for one in may])
    measured = np.log(np.concatenate([piece.measured for piece in pieces]))

    def residuals(x: Array) -> Array:
        values = {
            (kind, home, one.name): one.decode(at) for one, at, old in zip(may, x, start, strict=True) if at != old
        }
        bench = trial.with_constants(with_values(trial.calibration, values))
        return np.asarray(np.log(np.concatenate([predict(piece, gpu, bench) for piece in pieces])) - measured)

    chosen = choose(derivatives(residuals, start, residuals(start)), spreads, supported(len(measured)))
    best = fit(residuals, start, spreads, chosen, ROUNDED_SMALL_SAMPLE if len(measured) < SMALL_SAMPLE else ROUNDED)
    given = trial.calibration.origins(kind, library)
    return [
        Constant(
            (kind, home, may[p].name),
            now[may[p].name],
            _rounded(may[p].decode(best[p])),
            given[may[p].name].level if may[p].name in given else "derived",
        )
        for p in chosen
        if abs(best[p] - start[p]) > 1e-3
    ]


def _carried(constants: Sequence[Constant], before: Calibration) -> list[Constant]:
    """Constants of other classes that move by the same factor, unless the GPU has figures of its own for them."""
    carried = []
    for constant in constants:
        for kind, name in CARRIED.get(constant.path[2], ()):
            for path, given in before.given.items():
                inherited = given.level != before.gpu
                if inherited and path in ((name,), *((kind, lib, name) for lib in before.libraries(kind))):
                    home = (kind, DEFAULT, name) if len(path) == 1 else (path[0], path[1], path[2])
                    if len(path) == 1 and home in before.given:
                        continue
                    value = min(_rounded(given.figure.si * constant.after / constant.before), 1.0)
                    carried.append(Constant(home, given.figure.si, value, given.level, fitted=False))
    return carried


def _rounded(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")


def as_dict(done: Calibrated) -> Mapping[str, Any]:
    """The outcome as plain data."""
    return {
        "gpu": done.gpu.name,
        "files": [str(file) for file in done.files],
        "regime": done.regime,
        "groups": [
            {
                "class": group.kind,
                "library": group.library,
                "ops": list(group.ops),
                "dtypes": list(group.dtypes),
                "rows": group.rows,
                "fitted": group.fitted,
                "held_out": group.held_out,
                "before": vars(group.before),
                "after": vars(group.after),
                "helped": group.helped,
            }
            for group in done.groups
        ],
        "constants": [
            {
                "path": ".".join(one.path),
                "before": one.before,
                "after": one.after,
                "before_from": one.level,
                "fitted": one.fitted,
            }
            for one, _ in done.moved
        ],
        "left_out": [{"file": file, "rows": rows, "reason": reason} for file, rows, reason in done.left_out],
    }
