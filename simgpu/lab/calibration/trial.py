"""A GPU with constants to try: predictions of rows with any values of its constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from simgpu.hardware.constants import KernelConstants
from simgpu.hardware.figure import Quantity
from simgpu.hardware.inherit import DEFAULT, Calibration, Given
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.validation.batches import DTYPES, Adapter, Batch, Bench, Machine
from simgpu.lab.validation.tables import Array, Rows, Table
from simgpu.memo import remembered
from simgpu.model.operators import BYTES

Path3 = tuple[str, str, str]
"""Class, library and name of a constant: ('gemm', 'default', 'wave_latency')."""


_SOURCE = "fitted"


@dataclass(frozen=True)
class Trial(Bench):
    """A bench on which the GPU has the constants of `calibration`."""

    calibration: Calibration = field(default_factory=lambda: Calibration({}))

    def constants(self, gpu: GPUSpec) -> Calibration:  # noqa: ARG002 - the bench's signature
        """The constants to try, for every GPU."""
        return self.calibration

    def with_constants(self, calibration: Calibration) -> Trial:
        """The same with other constants; the machines already put together are kept."""
        clusters = {key: replace(cluster, kernel=calibration) for key, cluster in self.clusters.items()}
        return replace(self, calibration=calibration, clusters=clusters)


@dataclass(frozen=True)
class Piece:
    """Rows of one table that one class of constants in one library predicts."""

    table: Table
    adapter: Adapter
    rows: Rows
    keys: np.ndarray  # of each row, the number that decides on its half

    def part(self, mask: np.ndarray) -> Piece:
        """The rows where `mask`."""
        return replace(self, rows=self.rows[mask], keys=self.keys[mask])

    @property
    def measured(self) -> Array:
        """Measured seconds of the rows."""
        return self.table.number(self.adapter.measured, self.rows)


def predict(piece: Piece, gpu: GPUSpec, bench: Bench) -> Array:
    """Seconds of the rows of a piece; NaN where the model gives none."""
    predicted = np.full(len(piece.rows), np.nan)
    order = np.argsort(piece.rows, kind="stable")
    for part in piece.adapter.parts(piece.table, piece.rows, Machine(gpu.name, gpu, bench)):
        if isinstance(part, Batch) and len(part.rows):
            seconds = np.broadcast_to(np.asarray(part.predict(), float), part.rows.shape)
            predicted[order[np.searchsorted(piece.rows, part.rows, sorter=order)]] = seconds
    return predicted


def library_behind(batch: Batch, machine: Machine) -> str:
    """The library whose constants a batch means, where it names none."""
    if batch.library != DEFAULT:
        return batch.library
    dtype = DTYPES.get(batch.dtype, "bf16")
    if batch.kind == "gemm":
        return machine.timer.matrix.libraries.chosen(dtype)
    if batch.kind == "attention":
        return machine.timer.attention.library()
    return f"cutlass-{dtype}" if batch.kind == "moe" and BYTES[dtype] < 2 else DEFAULT


def values_of(calibration: Calibration, gpu: GPUSpec, kind: str, library: str) -> Mapping[str, float]:
    """The constants that the model of a class uses, in SI units, derived clocks included."""
    if kind == "gemm":
        from simgpu.timing.timer import GPUTimer

        return GPUTimer(gpu, calibration).matrix.libraries.values(library)
    return calibration.group(kind, library)


def home_of(kind: str, library: str) -> str:
    """The library under which a constant is written: its own; for NCCL the default's, where its model looks."""
    return DEFAULT if kind == "collective" and library == "nccl" else library


def with_values(calibration: Calibration, values: Mapping[Path3, float]) -> Calibration:
    """The constants with some replaced by values of the GPU's own, in SI units."""
    given = dict(calibration.given)
    for path, value in values.items():
        given[path] = Given(
            Quantity(value=value, unit=unit_of(path), source="fit"), "fit", calibration.gpu, "calibrated"
        )
    return Calibration(given, calibration.gpu, calibration.architecture)


@remembered(1024)
def unit_of(path: Path3) -> str:
    """SI unit of a constant, by the schema; '' for a plain number."""
    one = {path[0]: {path[1]: {path[2]: {"value": 1, "unit": "SI"}}}}
    figure: Quantity = getattr(getattr(KernelConstants.model_validate(one), path[0])[path[1]], path[2])
    return figure.unit
