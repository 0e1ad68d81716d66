"""Fit of a GPU's constants, one class after another, with scores on rows held back.

The classes come in the order in which they lean on each other: streams say what DRAM and L2 give, matrix products what
the clock under load is, attention and experts use both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.calibration import kinds
from simgpu.lab.calibration.fitting import ROUNDED, ROUNDED_SMALL_SAMPLE, choose, derivatives, fit, supported
from simgpu.lab.calibration.outcome import Calibrated, Constant, Errors, Group
from simgpu.lab.calibration.rows import gpu_of, reasons_of, rows_of_gpu, skipped_rows, sort_rows
from simgpu.lab.calibration.trial import Piece, Trial, home_of, predict, values_of, with_values
from simgpu.lab.calibration.tunable import tunables
from simgpu.lab.validation.batches import FULL, Batch, Bench
from simgpu.lab.validation.tables import Array

SMALL_SAMPLE = 12
"""Fewer rows of a class than this are all fitted; none can be held back."""
MOST_FITTED = 600
"""Rows of a class that are fitted at most; a few constants need no more."""
MOST_SCORED = 20_000
IMPROVEMENT = 0.99
"""Constants are written if they bring the mean |log error| of the rows that count below this part of what it was."""
_ORDER = ("vector", "gemm", "attention", "moe", "collective")
_DIGITS = 4
CARRIED = {
    "memory_fraction": (("gemm", "memory_fraction"), ("attention", "memory_fraction"), ("moe", "memory_fraction")),
}
"""A constant that streams determine, and those of other classes that are moved by the same factor, until rows of
their own say more: they describe the same hardware."""

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
    read = [(file, *kinds.read(file, what, name)) for file in files]
    tables = [pair for _, pairs, _, _ in read for pair in pairs]
    unwanted = [(str(file), rows) for file, _, _, rows in read]
    skipped = [(file, row) for file, _, rows, _ in read for row in rows]
    skipped += [(table.file, row) for table, _ in tables for row in table.skipped]
    if not tables:
        first = f"; line {skipped[0][1].line}: {skipped[0][1].problem}" if skipped else ""
        raise InputError(f"holds no rows of {', '.join(what)}{first}", file=files[0], key="--what")
    gpu = gpu_of(tables, catalogue, name, skipped_rows(skipped))
    bench = Bench(catalogue, regime)
    trial = Trial(catalogue, regime, calibration=bench.constants(gpu))
    done = Calibrated(gpu, list(files), regime, constants=trial.calibration)
    done.left_out += skipped_rows(skipped)
    done.left_out += [(file, rows, "of kinds that were not asked for") for file, rows in unwanted if rows]
    pieces: dict[tuple[str, str], list[tuple[Piece, Batch]]] = {}
    for table, adapter in tables:
        rows = rows_of_gpu(done, table, gpu.name, catalogue)
        if len(rows):
            sort_rows(done, table, adapter, rows, gpu, trial, what, pieces)
    if not pieces:
        raise InputError(f"holds no row that can be used for '{gpu.name}': {reasons_of(done.left_out)}", file=files[0])
    order = sorted(pieces, key=lambda key: (_ORDER.index(key[0]), key[1] != DEFAULT, key[1]))
    started = time.monotonic()
    for i, key in enumerate(order):
        if time.monotonic() - started > 2 or len(order) > 3:
            progress(f"fitting {key[0]} {'' if key[1] == DEFAULT else key[1] + ' '}({i + 1} of {len(order)})")
        done.groups.append(_group(done, key, pieces[key], trial))
        trial = trial.with_constants(done.constants)
    return done


def _group(done: Calibrated, key: tuple[str, str], parts: list[tuple[Piece, Batch]], trial: Trial) -> Group:
    """Fit the constants of one class in one library, and keep them if they help."""
    kind, library = key
    pieces = _merged([piece for piece, _ in parts])
    fitted, held = _halves(pieces)
    constants = _fitted(fitted, done.gpu, trial, kind, library)
    after = with_values(trial.calibration, {one.path: one.after for one in constants})
    scored = [piece.part(np.arange(len(piece.rows)) < MOST_SCORED) for piece in held or fitted]
    ratios = [_ratios(scored, done.gpu, trial.with_constants(tried)) for tried in (trial.calibration, after)]
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
        _count(pieces),
        _count(fitted),
        _count(scored) if held else 0,
        errors[0],
        errors[1] if helped else errors[0],
        tuple(constants) if helped else (),
        helped,
        float(1 / np.median(ratios[0])),
    )


def _halves(pieces: Sequence[Piece]) -> tuple[Sequence[Piece], Sequence[Piece]]:
    """The rows that are fitted, and those that are held back: none of a few rows, or where all are of one shape."""
    keys = np.concatenate([piece.keys for piece in pieces])
    if len(keys) < SMALL_SAMPLE:
        return [piece.part(np.ones(len(piece.keys), bool)) for piece in pieces], []
    fitted = [piece.part(_first(piece.keys, keys)) for piece in pieces]
    held = [piece.part(piece.keys % 2 == 1) for piece in pieces]
    return (fitted, held) if _count(fitted) and _count(held) else (pieces, [])


def _count(pieces: Sequence[Piece]) -> int:
    return sum(len(piece.rows) for piece in pieces)


def _ratios(pieces: Sequence[Piece], gpu: GPUSpec, trial: Trial) -> Array:
    """Predicted over measured times of the rows of all pieces."""
    predicted = np.concatenate([predict(piece, gpu, trial) for piece in pieces])
    return np.asarray(predicted / np.concatenate([piece.measured for piece in pieces]))


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


def _first(keys: np.ndarray, every: np.ndarray) -> np.ndarray:
    """A mask of the even ones of `keys`, as far as they are among the `MOST_FITTED` lowest even ones of `every`."""
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
