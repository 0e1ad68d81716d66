"""The rows that a calibration uses: of which GPU, sorted by the constants that predict them; the others are counted."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.derive import MARK, base_name
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.calibration import kinds
from simgpu.lab.calibration.checks import check
from simgpu.lab.calibration.outcome import Calibrated, LeftOut
from simgpu.lab.calibration.trial import Piece, Trial, library_behind
from simgpu.lab.validation.batches import Adapter, Batch, Machine
from simgpu.lab.validation.cells import Skipped
from simgpu.lab.validation.gpus import resolve
from simgpu.lab.validation.run import parts_of
from simgpu.lab.validation.tables import Rows, Table


def skipped_rows(rows: Sequence[tuple[Path, Skipped]]) -> list[LeftOut]:
    """Rows with a cell that cannot be used; those of one column with the same fault stand together."""
    together: dict[tuple[Path, str, str], list[Skipped]] = {}
    for file, row in rows:
        together.setdefault((file, row.key, row.expected), []).append(row)
    return [
        (str(file), len(found), f"line {found[0].line}: {f'{key}: ' if key else ''}{found[0].problem}")
        for (file, key, _), found in together.items()
    ]


def gpu_of(
    tables: Sequence[tuple[Table, Adapter]], catalogue: Catalogue, name: str | None, left_out: Sequence[LeftOut]
) -> GPUSpec:
    """The GPU to calibrate."""
    if name is None:
        named, unknown = _named(tables, catalogue)
        if not named and (unknown or left_out):
            problem = f"holds no row that can be used: {reasons_of(left_out) or unknown}"
            raise InputError(problem, file=tables[0][0].file)
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


def rows_of_gpu(done: Calibrated, table: Table, name: str, catalogue: Catalogue) -> Rows:
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


def sort_rows(
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


def reasons_of(left_out: Sequence[LeftOut]) -> str:
    """Reasons why rows do not count, in words: at most four of them."""
    reasons = (f"{rows:,} rows{':' if reason.startswith('line ') else ''} {reason}" for _, rows, reason in left_out[:4])
    return "; ".join(reasons) or "none of the kinds asked for"
