"""What an adapter makes of a table: batches of rows that one call of a model predicts, and rows that none does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.spec import ArchitectureSpec, GPUSpec
from simgpu.lab.validation.families import adopted_constants
from simgpu.lab.validation.tables import Array, Columns, Rows, Table
from simgpu.timing.timer import GPUTimer

KINDS = ("stream", "l2", "gemm", "attention", "moe", "nccl")
"""Kinds of rows of a table of kernels: words of its column `what`, and of `--what`."""

DTYPES = {
    "bfloat16": "bf16",
    "float16": "fp16",
    "float32": "fp32",
    "float64": "fp64",
    "tfloat32": "tf32",
    "fp8": "fp8",
    "fp8_block": "fp8",
    "float8_e4m3fn": "fp8",
    "nvfp4": "fp4",
    "int8": "int8",
    "float16-or-bfloat16": "fp16",  # as much work in either
}
"""Names of data types in tables, and those of the models."""

WIDTHS = {"bf16": 2.0, "fp16": 2.0, "fp32": 4.0, "fp64": 8.0, "tf32": 4.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5}
"""Bytes of an element."""

FULL, FAMILY, DATASHEET = "full", "family", "datasheet"
REGIMES = (FULL, FAMILY, DATASHEET)
"""Which constants a prediction may use: all, those of the architecture and of any GPU, those of any GPU alone."""


@dataclass(frozen=True)
class Bench:
    """Catalogue and regime of one validation."""

    catalogue: Catalogue
    regime: str = FULL
    parent: str = ""  # architecture whose constants all GPUs get instead of their own and their architecture's
    clusters: dict[tuple[Any, ...], Cluster] = field(default_factory=dict, compare=False)
    steps: dict[tuple[Any, ...], Any] = field(default_factory=dict, compare=False)  # what was simulated already

    def constants(self, gpu: GPUSpec) -> Calibration:
        """The constants that the regime allows."""
        if self.parent:
            return adopted_constants(self.catalogue, gpu, self.parent)
        without = {FULL: [], FAMILY: [gpu.name], DATASHEET: [gpu.name, *self._families(gpu)]}[self.regime]
        return self.catalogue.kernel_constants(gpu, without=without)

    def _families(self, gpu: GPUSpec) -> list[str]:
        """The architecture of a GPU and those above it, without the last, which is that of any GPU."""
        found: list[str] = []
        name: str | None = gpu.architecture
        while name is not None and name not in found:
            found.append(name)
            spec = self.catalogue.spec("architectures", name)
            assert isinstance(spec, ArchitectureSpec)
            name = spec.parent
        return found[:-1]


@dataclass(frozen=True)
class Machine:
    """The GPU of some rows: `name` as the table spells it."""

    name: str
    gpu: GPUSpec
    bench: Bench

    @cached_property
    def timer(self) -> GPUTimer:
        """The kernel models of the GPU, with the constants that the run allows."""
        return GPUTimer(self.gpu, self.bench.constants(self.gpu))

    @property
    def architecture(self) -> str:
        """Architecture of the GPU."""
        return self.gpu.architecture

    @property
    def bandwidth(self) -> float:
        """Datasheet memory bandwidth, B/s."""
        return self.gpu.memory.bandwidth.si

    def peak(self, dtype: str) -> float:
        """Datasheet peak of a data type as models name it, FLOP/s. Raises `InputError` where there is none."""
        return self.timer.peak(dtype)


@dataclass(frozen=True)
class Detail:
    """What a row of a whole step is, for a list of rows; `origin`: the paper or page."""

    origin: str
    model: str
    gpus: int
    plan: str
    framework: str
    caveat: str = ""
    needed: float = 0.0  # bytes, where the GPU is said not to have as many, though this ran
    experts: bool = False  # of training: a mixture of experts
    version: bool = True  # whether residuals are of this version of the engine, of this framework
    ends: tuple[float, float] = (1.0, 1.0)  # P10 and P90 over the prediction that the engine's file states
    load: bool = True  # of inference: a server under load, not one batch
    queue: bool = False  # of first tokens: they wait without bound, or for other GPUs
    layout: str = ""  # runs whose errors are a class of their own


@dataclass(frozen=True)
class Batch:
    """Rows of one operator and data type that one call predicts.

    `predict` returns seconds (or an object with `.seconds`), `roofline` the seconds of the plain datasheet roofline.
    `kind` and `library` name the constants behind it. `shape` are the columns that say what a row is.

    Whole steps bring their own `measured` values, in seconds or bytes, and `details` of each row; memory the `ends` of
    its intervals, times those that their `kernels` alone would have, both in units of what is predicted. `part` is what
    of a quantity they are; `again` marks further quantities of rows of another batch.
    """

    op: str
    dtype: str
    rows: Rows
    predict: Callable[[], Any]
    roofline: Callable[[], Array]
    kind: str
    library: str = DEFAULT
    shape: Sequence[str] = ()
    caveat: str = ""  # why errors are not the model's alone: what the table does not say, or how it was measured
    measured: Array | None = None
    ends: tuple[Array, Array] | None = None
    kernels: tuple[Array, Array] | None = None
    details: Sequence[Detail] = ()
    part: str = ""
    again: bool = False

    def kept(self, good: np.ndarray) -> Batch:
        """The same of the rows that are `good`."""
        return replace(
            self,
            rows=self.rows[good],
            measured=None if self.measured is None else self.measured[good],
            ends=None if self.ends is None else (self.ends[0][good], self.ends[1][good]),
            kernels=None if self.kernels is None else (self.kernels[0][good], self.kernels[1][good]),
            details=tuple(d for d, keep in zip(self.details, good.tolist(), strict=False) if keep),
        )


@dataclass(frozen=True)
class Unpredicted:
    """Rows without a prediction, and why."""

    op: str
    rows: Rows
    reason: str
    left_out: bool = False  # on purpose: not a measurement of what we predict
    again: bool = False  # a further quantity of rows that another part holds
    key: str = ""  # the column whose cell is at fault
    misfit: bool = False  # said not to fit the memory, though it ran


Part = Batch | Unpredicted
Adapt = Callable[[Table, Rows, Machine], Iterable[Part]]


@dataclass(frozen=True)
class Adapter:
    """How one table is read and predicted; `target` is the word after `simgpu validate` that reads it."""

    target: str
    columns: Columns
    parts: Adapt
    measured: str = "latency_s"


def unpredictable(machine: Machine, op: str, rows: Rows, dtype: str) -> Unpredicted | None:
    """Why rows of a data type cannot be predicted on this GPU, or None where they can."""
    if dtype not in DTYPES:
        return Unpredicted(op, rows, f"no model of data type '{dtype}'")
    try:
        machine.peak(DTYPES[dtype])
    except InputError as error:
        return Unpredicted(op, rows, str(error.problem))
    return None


def roofline(flops: Array, moved: Array, peak: float, bandwidth: float) -> Array:
    """max(FLOPs / peak, bytes / bandwidth), s: the plain datasheet roofline, no constants."""
    return np.maximum(flops / peak, moved / bandwidth)


def timed(model: Any, overhead: float | Array, *args: Any, **named: Any) -> Array:
    """Seconds of a model, with what the way of measuring adds."""
    return np.asarray(model(*args, **named).seconds, float) + overhead
