"""The CSV file of measured rows: each is on disk before the next begins, and none is measured twice."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from simgpu.errors import InputError
from simgpu.lab.measurement.backend import Operation
from simgpu.lab.validation.cells import MAX_BYTES, read_cells
from simgpu.reading import kind_of, read_bytes
from simgpu.render.data import cell_of

SHAPE = (
    *("regime", "op", "bytes", "dtype", "m", "n", "k", "rotation"),
    *("batch_size", "q_len", "past_kv_len", "num_heads", "num_kv_heads", "head_dim", "v_head_dim", "window_size"),
    *("attn_dtype", "kv_cache_dtype", "framework", "kernel_source", "collective", "num_gpus", "message_bytes"),
)
COLUMNS = ("what", "gpu", *SHAPE, "latency_s", "repeats", "spread", "device", "tool")
"""`spread` is the range of the middle half of the repeats over their median."""


class MeasuredFile:
    """A CSV file that grows by whole rows. A row cut short, by a power cut say, is dropped when it is opened."""

    def __init__(self, file: Path, gpu: str) -> None:
        self.file, self.gpu = file, gpu
        self.keys: set[tuple[tuple[str, str], ...]] = set()
        try:
            if file.exists() and not file.is_file():
                problem = f"is {kind_of(file.stat().st_mode)}, expected a file: rows in it are not measured again"
                raise InputError(problem, file=file)
            if file.exists() and file.stat().st_size:
                self._open()
            else:
                file.parent.mkdir(parents=True, exist_ok=True)
                self._append(COLUMNS)
        except OSError as error:
            raise InputError(f"cannot be written ({error.strerror or error})", file=file) from None

    def _open(self) -> None:
        """Read which rows are there."""
        raw = read_bytes(self.file, MAX_BYTES, "a table")
        whole = raw.rfind(b"\n") + 1
        if not whole:
            raise InputError("is not a file of simgpu measure (its header is cut off)", file=self.file, line=1)
        if raw[:whole].partition(b"\n")[0].strip() != ",".join(COLUMNS).encode():
            problem = "has other columns than simgpu measure writes; give another file with --out"
            raise InputError(problem, file=self.file, line=1)
        if whole < len(raw):
            os.truncate(self.file, whole)
        cells = read_cells(self.file)
        for bad in cells.skipped[:1]:
            raise InputError(bad.problem, file=self.file, line=bad.line)
        gpu = COLUMNS.index("gpu")
        for line, row in zip(cells.lines, cells.rows, strict=True):
            if row[gpu] != self.gpu:
                problem = f"holds rows of '{row[gpu]}', this is '{self.gpu}'; give another file with --out"
                raise InputError(problem, file=self.file, line=line, key="gpu")
            given = dict(zip(COLUMNS, row, strict=True))
            shape = sorted((name, given[name]) for name in SHAPE if given[name])
            self.keys.add((("what", given["what"]), *shape))

    def __contains__(self, operation: Operation) -> bool:
        return operation.key in self.keys

    def add(self, operation: Operation, measured: Mapping[str, str]) -> None:
        """Append a row and see it to the disk."""
        row = {"what": operation.what, "gpu": self.gpu, **operation.columns, **measured}
        self._append([str(row.get(name, "")) for name in COLUMNS])
        self.keys.add(operation.key)

    def _append(self, cells: list[str] | tuple[str, ...]) -> None:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([cell_of(cell) for cell in cells])
        with self.file.open("ab") as stream:
            stream.write(line.getvalue().encode())
            stream.flush()
            os.fsync(stream.fileno())
