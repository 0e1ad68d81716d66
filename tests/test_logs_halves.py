"""Half of the rows of a public source teach about its other half: never worse than without, and intervals that hold.

As a program, `python tests/test_logs_halves.py` prints the errors of each source, with SIMGPU_MEASUREMENTS set.
"""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import fmean, median
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import yaml

from simgpu.catalog import Catalogue
from simgpu.hardware.figure import Quantity
from simgpu.hardware.inherit import REGIMES, STEP, Calibration, Given
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.logs.choosing import chosen, linear_of
from simgpu.lab.logs.factors import HOST_SPREAD, SLOWDOWN
from simgpu.lab.logs.fitting import FELT, LINK_SPREAD
from simgpu.lab.validation.run import Scored, validate
from simgpu.timing.distance import EXPERTS, NODES, SOURCE, WITHIN, class_of_run, component
from simgpu.timing.uncertainty import WholeRun, run_spread

FOLDER = Path(os.environ.get("SIMGPU_MEASUREMENTS", Path(__file__).parents[2] / "shared/measurements"))
SOURCES = {
    "MosaicML": "llmfoundry_training.csv",
    "TorchTitan": "torchtitan_training.csv",
    "Megatron-Bridge": "reports/megatron_bridge.csv",
    "SimuMax on B200": "reports/simumax_b200_training.csv",
    "llama.cpp": "llamacpp_inference.csv",
    "vLLM open load": "reports/vllm_openloop_h100.csv",
    "nccl-tests": "mlengineering_collectives.csv",
    "NCCL in one node": "aic_nccl.csv",
    "NCCL on B200": "blackwell/aic_nccl.csv.gz",
}
DELTA = 0.05
LARGE = 1 << 26
"""Bytes from which on a log of links is fitted (`observe` takes the largest size of each)."""
LINKS = "links"
FACTORS = {"step_time": (SLOWDOWN, "experts"), "alone": (SLOWDOWN, "arithmetic"), "served": (SLOWDOWN, "host", "front")}
"""Factors of a source by what its rows are of; links have one."""
LEFT_OUT = ("memory", "e2e")
HALVINGS = 10
"""Random halvings of each machine's jobs; each half teaches, and is asked, once."""


class Stretched(Catalogue):
    """The catalogue on a machine on which parts of every framework and engine take so many times as long."""

    def __init__(self, parts: Mapping[str, float], *folders: Path) -> None:
        super().__init__(*folders)
        self.parts = parts

    def kernel_constants(self, gpu: GPUSpec, without: Collection[str] = ()) -> Calibration:
        found = super().kernel_constants(gpu, without)
        return Learned({**found.given, **{(STEP, "", part): given(value) for part, value in self.parts.items()}},
                       found.gpu, found.architecture)  # fmt: skip


class Learned(Calibration):
    """Constants with factors of any stack."""

    def stretch(self, stack: str, part: str) -> float:
        return self.given[STEP, "", part].figure.si if (STEP, "", part) in self.given else 1.0


def given(value: float) -> Given:
    return Given(Quantity(value=value), "a test", "", REGIMES[0])


def predicted(file: Path, parts: Mapping[str, float]) -> dict[tuple[str, str, int], tuple[Scored, int]]:
    """All rows of a table on a machine whose parts take longer, or whose links carry less, by name and place."""
    with TemporaryDirectory() as folder:
        data, links = Path(folder, "data"), Path(folder, "catalogue", "links")
        data.mkdir()
        links.mkdir(parents=True)
        (data / file.name).symlink_to(file)
        own, carries = Catalogue(), parts.get(LINKS, 1.0)
        for name in own.names("links") if carries != 1 else ():
            document = yaml.safe_load(own.find("links", name).read_text())
            if isinstance(document.get("payload_fraction"), dict):
                document["payload_fraction"]["value"] *= carries
                (links / f"{name}.yaml").write_text(yaml.safe_dump(document))
        more = [links.parent] if carries != 1 else []
        scored = validate("all", data, Stretched({k: v for k, v in parts.items() if k != LINKS}, *more)).scored
    return {(one.gpu, one.batch.op, int(row)): (one, i) for one in scored if one.batch.op not in LEFT_OUT
            for i, row in enumerate(one.batch.rows)}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A row: the machine and the job it is of, log of measured over predicted, its slopes on the factors."""

    machine: tuple[str, str]
    job: str
    op: str
    away: float
    slopes: tuple[float, ...]
    seconds: float
    ends: tuple[float, float]
    within: float
    priors: tuple[float, ...]
    run: WholeRun | None = None

    def known(self, jobs: int, scatter: float) -> tuple[float, float]:
        """The ends of its interval about the prediction after so many jobs of the same machine."""
        if self.run is None or class_of_run(self.op, self.run.load) in ("prefill", "ttft"):
            return self.ends
        found = run_spread(self.op, self.seconds, replace(self.run, steps=jobs, scatter=scatter))
        return found.low, found.high


def rows_of(file: Path) -> Iterator[Row]:
    """The rows of a source with their slopes."""
    base = predicted(file, {})
    one = next(iter(base.values()))[0]
    links = one.batch.kind == "collective"
    kind = one.batch.op if one.batch.op == "step_time" else "served" if links or one.batch.details[0].load else "alone"
    names = (LINKS,) if links else FACTORS[kind]
    moved = [predicted(file, {name: 1 - DELTA if links else 1 + DELTA}) for name in names]
    step = np.log(1 - DELTA if links else 1 + DELTA)
    for key, (one, i) in base.items():
        if not all(key in other for other in moved):
            continue
        seconds, op = float(one.predicted[i]), one.batch.op
        slopes = [float(np.log(other[key][0].predicted[other[key][1]] / seconds) / step) for other in moved]
        told = (float(np.log(one.measured[i] / seconds)), tuple(slopes), seconds,
                (float(one.low[i] / seconds), float(one.high[i] / seconds)))  # fmt: skip
        if links:
            numbers = {name: cells[key[2]] for name, cells in one.table.numbers.items()}
            if numbers["message_bytes"] >= LARGE:
                far = numbers.get("num_nodes", 1) > 1 or numbers["num_gpus"] > 8
                layers = [SOURCE, NODES] if far else [SOURCE]
                prior = sum(component("collective", layer).sd ** 2 for layer in layers) ** 0.5
                machine = one.gpu, "between nodes" if far else "in a node"
                yield Row(machine, f"{op} {numbers['num_gpus']:g}", op, *told, LINK_SPREAD, (prior,))
            continue
        detail = one.batch.details[i]
        of = class_of_run(op, detail.load)
        run = WholeRun(library=detail.framework, architecture=one.architecture, load=detail.load, regime=one.regime,
                       experts=detail.experts, seen=one.seen, version=detail.version)  # fmt: skip
        priors = {SLOWDOWN: component(of if of != "ttft" else "served", SOURCE).sd, "host": HOST_SPREAD,
                  "front": HOST_SPREAD, "arithmetic": component("prefill", SOURCE).sd,
                  "experts": component(of, EXPERTS).sd}  # fmt: skip
        yield Row((one.gpu, detail.framework.partition("@")[0]), str(key[2]), op, *told, component(of, WITHIN).sd,
                  tuple(priors[name] for name in names), run)  # fmt: skip


@dataclass
class Halves:
    """Errors of rows before and after the other half was seen, how many lie inside, and what share of halves teach."""

    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)
    kept: list[bool] = field(default_factory=list)
    rows: int = 0


def halves(rows: Iterable[Row]) -> Halves:
    """Each half of the jobs of each machine, by turns, from what the other teaches."""
    found, draw = Halves(), Random(7)
    machines: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        machines[row.machine].append(row)
    for some in machines.values():
        jobs = sorted({row.job for row in some})
        if len(jobs) < 4:
            continue
        found.rows += len(some)
        for _ in range(HALVINGS):
            half = set(draw.sample(jobs, len(jobs) // 2))
            for side in (half, set(jobs) - half):
                _ask(found, [row for row in some if row.job in side], [row for row in some if row.job not in side])
    return found


def _ask(found: Halves, taught: Sequence[Row], asked: Sequence[Row]) -> None:
    mode, kept, scatter = taught_by(taught)
    found.kept.append(bool(kept.any()))
    for row in asked:
        left = row.away - float(np.dot(row.slopes, mode))
        found.before.append(abs(float(np.expm1(-row.away))))
        found.after.append(abs(float(np.expm1(-left))))
        found.inside.append(row.ends[0] <= np.exp(row.away) <= row.ends[1])
        low, high = row.known(len({one.job for one in taught}), scatter)
        found.held.append(low <= np.exp(left) <= high)


def taught_by(taught: Sequence[Row]) -> tuple[np.ndarray, np.ndarray, float]:
    """The mode of the factors after some rows as `simgpu observe` finds it, which are kept, and what is left."""
    jobs, columns = (np.array([getattr(row, name) for row in taught]) for name in ("job", "op"))
    within, slopes, away = (np.array([getattr(row, name) for row in taught]) for name in ("within", "slopes", "away"))
    runs = np.unique(jobs, return_inverse=True)[1]
    linear = linear_of(slopes, away, within, np.array(taught[0].priors), runs, columns)
    kept = chosen(linear, np.abs(linear.slopes).max(axis=0) > FELT)
    scatter = linear.scatter(kept, columns != "ttft")
    linear = linear.as_spread(kept)
    return linear.solved(kept, linear.away), kept, scatter


CHANCE = 0.002
"""By how much rows may come out farther off on average, by chance alone: 0.2 points of a relative error."""
QUICK = ("TorchTitan", "SimuMax on B200", "NCCL in one node", "nccl-tests")
"""Sources that take seconds; docs/logs.md has the others."""


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_half_of_a_source_teaches_about_the_other_half(name: str) -> None:
    file = FOLDER / SOURCES[name]
    if not file.is_file():
        pytest.skip("the measurements are not here")
    found = halves(rows_of(file))
    assert fmean(found.after) <= fmean(found.before) + CHANCE
    assert fmean(found.held) >= min(0.7, fmean(found.inside))


if __name__ == "__main__":
    for each, table in SOURCES.items():
        if len(sys.argv) > 1 and each not in sys.argv[1:]:
            continue
        done = halves(rows_of(FOLDER / table))
        errors = [f"{100 * median(one):.1f}/{100 * fmean(one):.1f}" for one in (done.before, done.after)]
        shares = [f"{100 * fmean(one):.0f} %" for one in (done.inside, done.held, done.kept)]
        print(each, done.rows, "rows", *errors, "inside", *shares[:2], "kept", shares[2], flush=True)
