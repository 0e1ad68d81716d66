"""Constants after inheritance: a GPU's own, then its architecture's, then those of any GPU; and which is which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from typing import Any, ClassVar, Protocol, TypeVar

from simgpu.errors import InputError
from simgpu.hardware.constants import KernelConstants
from simgpu.hardware.figure import Quantity
from simgpu.memo import WORDS

DEFAULT = "default"
"""Name of the library whose constants are used where another library of the same class gives none."""

CLASSES = ("gemm", "attention", "vector", "moe", "scan", "collective", "power")
STEP = "step"
"""Where the file of a GPU keeps what whole steps of its user say, by framework or engine."""
REPLAY = "replay"
"""Where constants hold what `simgpu replay` read from a recorded step."""
SHARED = ("compute_fraction", "memory_fraction", "launch_overhead")
"""Constants of all classes of operators, which a class uses where it has none of its own."""


WHOSE = (*WORDS, "gpu", "level")
"""Fields of inherited constants that say where these come from. No time depends on them."""


class ReadConstants(Protocol):
    """A dataclass of the constants that one kernel model reads, of a class of operators (`simgpu.timing.constants`)."""

    operators: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]


C = TypeVar("C", bound=ReadConstants)


def filled(kind: type[C], values: Mapping[str, float], whose: str) -> C:
    """The dataclass `kind` with its fields from `values` (SI units); a field without a default must be among them.

    Raises `InputError` with the names that are missing; `whose` says of which GPU and library.
    """
    names = fields(kind)
    missing = [one.name for one in names if one.default is MISSING and one.name not in values]
    if missing:
        lacks = f"{whose} lacks {', '.join(missing)}; expected a value, of the GPU or of an architecture"
        raise InputError(lacks, key=f"kernel.{kind.operators}")
    return kind(**{one.name: values[one.name] for one in names if one.name in values})


@dataclass(frozen=True)
class Given:
    """One constant: its figure, its source in words, and the GPU or architecture that gives it (`level`)."""

    figure: Quantity
    source: str
    level: str
    regime: str  # calibrated (the GPU's own), inherited (its architecture's), datasheet (any GPU's)


@dataclass(frozen=True)
class Calibration:
    """The constants of one GPU. Keys of `given` are ('launch_overhead',) or ('gemm', 'default', 'wave_latency')."""

    given: Mapping[tuple[str, ...], Given]
    gpu: str = ""
    architecture: str = ""
    _groups: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict, repr=False, compare=False)
    _read: dict[tuple[type, str], Any] = field(default_factory=dict, repr=False, compare=False)
    _steps: dict[str, dict[str, float]] = field(default_factory=dict, repr=False, compare=False)
    _regimes: dict[tuple[str, str], str] = field(default_factory=dict, repr=False, compare=False)

    def __getattr__(self, name: str) -> Quantity:
        """A constant that stands above the classes, as a figure."""
        found = self.given.get((name,)) if name in SHARED else None
        if found is None:
            raise AttributeError(name)
        return found.figure

    def group(self, kind: str, library: str = DEFAULT) -> dict[str, float]:
        """Constants of a class of operators in a library, in SI units: its own, the default's, the shared ones."""
        found = self._groups.get((kind, library))
        if found is None:
            found = {name: one.figure.si for name, one in self.origins(kind, library).items()}
            self._groups[kind, library] = found
        return found

    def read(self, kind: type[C], library: str = DEFAULT) -> C:
        """The constants that one kernel model reads of a library. Raises `InputError` where one is missing."""
        found: C | None = self._read.get((kind, library))
        if found is None:
            whose = f"'{self.gpu}', library '{library}',"
            found = self._read[kind, library] = filled(kind, self.group(kind.operators, library), whose)
        return found

    def origins(self, kind: str, library: str = DEFAULT) -> dict[str, Given]:
        """Like `group`, with the source of each constant."""
        found = {path[0]: one for path, one in self.given.items() if len(path) == 1}
        for place in dict.fromkeys((DEFAULT, library)):
            found |= {path[2]: one for path, one in self.given.items() if path[:2] == (kind, place)}
        return found

    def libraries(self, kind: str) -> list[str]:
        """Libraries of a class of operators that the GPU or its architectures give constants for."""
        return list(dict.fromkeys(path[1] for path in self.given if len(path) == 3 and path[0] == kind))

    def steps(self, stack: str) -> tuple[float, int]:
        """(slowdown of kernels, measured steps behind it) of a framework or an engine, by its user's own steps."""
        return self.stretch(stack, "slowdown"), round(self._of_steps(stack).get("runs", 0))

    def scatter(self, stack: str) -> float:
        """What runs of a framework or engine that taught nothing were off by (sd of the log); 0: nobody knows."""
        return self._of_steps(stack).get("spread", 0.0)

    def stretch(self, stack: str, part: str) -> float:
        """How many times as long a part of a framework's or an engine's work takes on its user's machine.

        `part`: slowdown (of all kernels), experts, arithmetic, host or front.
        """
        return self._of_steps(stack).get(part, 1.0)

    def _of_steps(self, stack: str) -> dict[str, float]:
        found = self._steps.get(stack)
        if found is None:
            found = {path[2]: one.figure.si for path, one in self.given.items() if path[:2] == (STEP, stack)}
            self._steps[stack] = found
        return found

    def replayed(self, part: str) -> dict[str, float]:
        """How many times as long kernels, or collectives, took in a recorded step as predicted, by their names.

        `part`: kernel (by operator) or collective (by group).
        """
        return {path[2]: one.figure.si for path, one in self.given.items() if path[:2] == (REPLAY, part)}

    def with_replayed(self, factors: Mapping[tuple[str, str], float], source: str) -> Calibration:
        """The same constants and what a recorded step says beside them, by part and name."""
        told: dict[tuple[str, ...], Given] = {
            (REPLAY, part, name): Given(Quantity(value=value, source=source), source, self.gpu, REGIMES[0])
            for (part, name), value in factors.items()
        }
        return Calibration({**self.given, **told}, self.gpu, self.architecture)

    def regime(self, kind: str, library: str = DEFAULT) -> str:
        """How close the constants of a class are to this GPU: calibrated, inherited or datasheet.

        The closest level that gives the class anything decides.
        """
        found = self._regimes.get((kind, library))
        if found is None:
            own = [one.regime for path, one in self.given.items() if path[0] == kind and path[1] in (DEFAULT, library)]
            found = self._regimes[kind, library] = min(own, key=REGIMES.index, default="datasheet")
        return found

    def by_user(self, kind: str, library: str = DEFAULT) -> bool:
        """Whether constants of a class were fitted to the user's own measurements of this GPU."""
        return any(
            CALIBRATE in one.source
            for path, one in self.given.items()
            if path[0] == kind and path[1] in (DEFAULT, library) and one.regime == REGIMES[0]
        )


CALIBRATE = "simgpu calibrate"
"""Stands in the source of every constant that `simgpu calibrate` fitted."""

REGIMES = ("calibrated", "inherited", "datasheet")


Flat = Sequence[tuple[tuple[str, ...], Quantity]]
"""Constants of one file by path."""


def inherit(levels: Sequence[tuple[str, Flat, Mapping[str, str]]], architecture: str) -> Calibration:
    """Merge levels, nearest first: (name, constants, the file's sources). The first is the GPU, the last any GPU."""
    given: dict[tuple[str, ...], Given] = {}
    for i, (name, figures, sources) in enumerate(levels):
        regime = REGIMES[0] if i == 0 else REGIMES[2] if i == len(levels) - 1 else REGIMES[1]
        for path, figure in figures:
            if path not in given:
                source = figure.source or ""
                given[path] = Given(figure, sources.get(source, source), name, regime)
    return Calibration(given, levels[0][0], architecture)


def flat(value: KernelConstants | Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Quantity]]:
    """The constants of a file, each with its path."""
    if isinstance(value, Quantity):
        return [(path, value)]
    items = value.items() if isinstance(value, dict) else dict(value).items() if value is not None else ()
    return [found for name, item in items for found in flat(item, (*path, name))]
