"""The outcome of a calibration: errors before and after, constants that moved, rows that were left out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from simgpu.hardware.inherit import DEFAULT, Calibration
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.calibration.trial import Path3
from simgpu.lab.validation.tables import Array

SUSPECT_FACTOR = 3.0
"""Rows further than this factor from what was expected, in the median, are doubted."""


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
