"""Half of the rows of a public source teach about its other half: never worse than without, and intervals that hold.

As a program, `python tests/test_logs_halves.py` prints the errors of each source, with SIMGPU_MEASUREMENTS set.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import yaml

from simgpu.catalog import Catalogue
from simgpu.hardware.figure import Quantity
from simgpu.hardware.inherit import REGIMES, STEP, Calibration, Given
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.logs.choosing import Linear, chosen
from simgpu.lab.validation.run import Scored, validate
from simgpu.timing.distance import SOURCE, WITHIN, class_of_run, component
from simgpu.timing.uncertainty import WholeRun, run_spread

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[2] / "shared/measurements"))
SOURCES = {
    "MosaicML": "llmfoundry_training.csv",
    "TorchTitan": "torchtitan_training.csv",
    "Megatron-Bridge": "reports/megatron_bridge.csv",
    "llama.cpp": "llamacpp_inference.csv",
    "nccl-tests": "mlengineering_collectives.csv",
    "NCCL in one node": "aic_nccl.csv",
}
DELTA = 0.05
LARGE = 1 << 26
"""Bytes from which on a log of links is fitted (`observe` takes the largest size of each)."""


class Stretched(Catalogue):
    """The catalogue on a machine on which kernels of every framework and engine take so many times as long."""

    def __init__(self, slowdown: float = 1.0, *folders: Path) -> None:
        super().__init__(*folders)
        self.slowdown = slowdown

    def kernel_constants(self, gpu: GPUSpec, without: Collection[str] = ()) -> Calibration:
        found = super().kernel_constants(gpu, without)
        own = _Every(self.slowdown)
        return _Learned(found.given, found.gpu, found.architecture, own)


@dataclass(frozen=True)
class _Every:
    slowdown: float


class _Learned(Calibration):
    """Constants with the slowdown of any stack."""

    def __init__(self, given: Any, gpu: str, architecture: str, own: _Every) -> None:
        super().__init__({**given, (STEP, "", "own"): _figure(own.slowdown)}, gpu, architecture)
        object.__setattr__(self, "own", own)

    def stretch(self, stack: str, part: str) -> float:
        return self.own.slowdown if stack and part == "slowdown" else 1.0  # type: ignore[attr-defined, no-any-return]


def _figure(value: float) -> Given:
    return Given(Quantity(value=value), "a test", "", REGIMES[0])


def predicted(file: Path, slowdown: float = 1.0, carries: float = 1.0) -> list[Scored]:
    """All rows of a table on a machine whose kernels take longer, or whose links carry less."""
    with TemporaryDirectory() as folder:
        data, links = Path(folder, "data"), Path(folder, "catalogue", "links")
        data.mkdir()
        links.mkdir(parents=True)
        (data / file.name).symlink_to(file)
        own = Catalogue()
        for name in own.names("links") if carries != 1 else ():
            document = yaml.safe_load(own.find("links", name).read_text())
            if isinstance(document.get("payload_fraction"), dict):
                document["payload_fraction"]["value"] *= carries
                (links / f"{name}.yaml").write_text(yaml.safe_dump(document))
        more = [links.parent] if carries != 1 else []
        return [one for one in validate("all", data, Stretched(slowdown, *more)).scored if one.batch.op != "memory"]


@dataclass(frozen=True)
class Row:
    """A row: what it is of, log of measured over predicted, its slope on the factor, its interval about that."""

    machine: tuple[str, str]
    op: str
    away: float
    slope: float
    ends: tuple[float, float]
    known: tuple[float, float]
    within: float
    prior: float


def rows_of(file: Path) -> Iterator[Row]:
    """The rows of a source with their slopes; `known` are ends after a few runs of the same machine."""
    base = predicted(file)
    links = all(one.batch.kind == "collective" for one in base)
    moved = predicted(file, carries=1 - DELTA) if links else predicted(file, slowdown=1 + DELTA)
    for one, other in zip(base, moved, strict=True):
        slopes = np.log(other.predicted / one.predicted) / np.log(1 - DELTA if links else 1 + DELTA)
        for i, slope in enumerate(slopes):
            seconds, op = float(one.predicted[i]), one.batch.op
            ends = float(one.low[i] / seconds), float(one.high[i] / seconds)
            if links:
                if one.table.numbers["message_bytes"][one.batch.rows[i]] < LARGE:
                    continue
                ranks = int(one.table.numbers["num_gpus"][one.batch.rows[i]])
                prior = component("collective", SOURCE).sd + component("collective", "library").sd
                yield Row((one.gpu, f"{op} {ranks}"), op, *_away(one, i), float(slope), ends, ends, 0.1, prior)
                continue
            detail = one.batch.details[i]
            of = class_of_run(op, detail.load)
            run = WholeRun(library=detail.framework, architecture=one.architecture, load=detail.load,
                           steps=1, experts=detail.experts, seen=one.seen)  # fmt: skip
            spread = run_spread(op, seconds, run)
            known = (max(spread.low, ends[0]), min(spread.high, ends[1])) if of != "prefill" else ends
            yield Row((one.gpu, detail.framework), op, *_away(one, i), float(slope), ends, known,
                      component(of, WITHIN).sd, component(of, SOURCE).sd)  # fmt: skip


def _away(one: Scored, i: int) -> tuple[float]:
    return (float(np.log(one.measured[i] / one.predicted[i])),)


@dataclass
class Halves:
    """Errors of rows before and after the other half was seen, and how many lie inside."""

    before: list[float]
    after: list[float]
    inside: list[bool]
    held: list[bool]


def halves(file: Path) -> Halves:
    """Each half of the rows of each machine, by turns, from what the other teaches."""
    found = Halves([], [], [], [])
    machines: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows_of(file):
        machines[row.machine].append(row)
    for rows in machines.values():
        if len(rows) < 4:
            continue
        for side in (0, 1):
            taught, asked = rows[side::2], rows[1 - side :: 2]
            linear = Linear(np.array([[row.slope] for row in taught]), np.array([row.away for row in taught]),
                            np.array([row.within for row in taught]), np.array([rows[0].prior]),
                            np.arange(len(taught)))  # fmt: skip
            mode = float(linear.solved(chosen(linear, np.array([True])), linear.away)[0])
            for row in asked:
                left = row.away - row.slope * mode
                found.before.append(abs(np.exp(-row.away) - 1))
                found.after.append(abs(np.exp(-left) - 1))
                found.inside.append(row.ends[0] <= np.exp(row.away) <= row.ends[1])
                found.held.append(row.known[0] <= np.exp(left) <= row.known[1])
    return found


QUICK = ("TorchTitan", "NCCL in one node")
"""Sources that take seconds; docs/logs.md has the others."""


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_half_of_a_source_teaches_about_the_other_half(name: str) -> None:
    file = FOLDER / SOURCES[name]
    if not file.is_file():
        pytest.skip("the measurements are not here")
    found = halves(file)
    assert fmean(found.after) <= fmean(found.before) + 1e-12
    assert fmean(found.held) >= min(0.7, fmean(found.inside))


if __name__ == "__main__":
    for each, table in SOURCES.items():
        done = halves(FOLDER / table)
        errors = [f"{100 * median(one):.1f}/{100 * fmean(one):.1f}" for one in (done.before, done.after)]
        shares = [f"{100 * fmean(one):.0f} %" for one in (done.inside, done.held)]
        print(each, len(done.before), "rows", *errors, "inside", *shares, flush=True)
