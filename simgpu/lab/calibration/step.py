"""Calibrating with one measured step: what a user's own machine makes of a framework's or an engine's kernels."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.inherit import CALIBRATE, STEP
from simgpu.hardware.spec import GPUSpec
from simgpu.lab.calibration.fragment import with_constants
from simgpu.render.files import written_whole
from simgpu.scenario import Origins, Scenario, resolve_cluster, run_scenario
from simgpu.timing.distance import ARCHITECTURE, EXPERTS, SOFTWARE, WORDS
from simgpu.timing.uncertainty import own_weight
from simgpu.units import format_si
from simgpu.version import __version__
from simgpu.workload.runtime_files import runtime

LEAST, MOST = 0.25, 4.0
"""Slowdowns of kernels between which a step is believed."""
TRIES, CLOSE = 4, 1e-4
"""Steps towards a slowdown at most, and how near to the measured time is near enough, relative."""
SHARE = 0.1
"""Least share of a step that is taken for kernels."""
QUANTITIES = {"training": ("step_s", "step_time"), "serving": ("tpot_s", "tpot"), "inference": ("step_s", "e2e")}
"""By kind of workload: the column that is measured, and what residuals call it."""


@dataclass(frozen=True)
class StepCalibration:
    """One measured step.

    `before` and `after` are the rows of its case; `slowdown` is that of the kernels of `stack` (a framework or an
    engine) on `gpu`, after `runs` measured steps; `text` is the GPU's file with it.
    """

    gpu: str
    stack: str
    column: str
    measured: float
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    slowdown: float
    runs: int
    text: str


def calibrate_step(
    scenario: Scenario, origins: Origins, catalogue: Catalogue, measured: float, name: str
) -> StepCalibration:
    """Move the kernels of a scenario's framework or engine on its GPU towards a measured time, s.

    It is that of a training step, of a server's token, of a batch. `name` says of which case, in the source. Raises
    `InputError` for other workloads, and for a time that no slowdown of kernels explains.
    """
    kind = scenario.workload.kind
    if kind not in QUANTITIES:
        raise InputError(f"a case of '{kind}' is no step; expected one of {', '.join(QUANTITIES)}", key="--step")
    column, op = QUANTITIES[kind]
    gpu = resolve_cluster(scenario, catalogue, origins).gpu.name
    if catalogue.find("gpus", gpu) is None:
        raise InputError(f"'{gpu}' has no file of its own; expected a cluster of whole GPUs", key="--step")
    before = run_scenario(scenario, catalogue, origins).row
    stack = before["framework"] if kind == "training" else runtime(before["runtime"]).engine
    start, runs = catalogue.kernel_constants(_spec(catalogue, gpu)).steps(stack)
    predicted, ratio = before[column], measured / before[column]
    if not LEAST < ratio < MOST:
        said = f"{format_si(predicted, 's')} is predicted, {format_si(measured, 's')} is {ratio:.3g} times that"
        raise InputError(f"{said}; expected {LEAST:g} to {MOST:g}: is it the same case, in seconds?", key="--measured")
    layers = [layer for layer in (ARCHITECTURE, SOFTWARE, EXPERTS) if WORDS[layer] in before["distance"]]
    goal = predicted * exp(own_weight(op, layers, kind == "serving", runs) * log(ratio))
    what = (
        f"{name}, {datetime.date.today().isoformat()}: {column} {measured:.4g} s measured, {predicted:.4g} s predicted"
    )
    slowdown, at = start, predicted
    for _ in range(TRIES):  # kernels are a part of the step: what is missing, all of them make up for
        share = max(before.get("compute_s", 0.0) / predicted, SHARE)
        slowdown = min(max(slowdown * (1 + (goal / at - 1) / share), LEAST), MOST)
        text = _text(catalogue, gpu, stack, slowdown, runs + 1, what)
        after = _run(scenario, origins, catalogue, gpu, text)
        at = after[column]
        if abs(goal / at - 1) < CLOSE:
            break
    return StepCalibration(gpu, stack, column, measured, before, after, slowdown, runs + 1, text)


def write(done: StepCalibration, folder: Path) -> Path:
    """Write the GPU's file into a folder for `--catalog`."""
    file = folder / "gpus" / f"{done.gpu}.yaml"
    with written_whole(file) as stream:
        stream.write(done.text)
    return file


def _spec(catalogue: Catalogue, gpu: str) -> GPUSpec:
    found = catalogue.spec("gpus", gpu)
    assert isinstance(found, GPUSpec)
    return found


def _text(catalogue: Catalogue, gpu: str, stack: str, slowdown: float, runs: int, what: str) -> str:
    """The GPU's file with a slowdown in it."""
    key = re.sub(r"[^a-z0-9]+", "_", f"step_{stack}".lower())
    figures = {"slowdown": {"value": float(f"{slowdown:.5g}"), "source": key}, "runs": {"value": runs, "source": key}}
    return with_constants(catalogue, gpu, {key: f"{what}; {CALIBRATE} {__version__}"}, {STEP: {stack: figures}})


def _run(scenario: Scenario, origins: Origins, catalogue: Catalogue, gpu: str, text: str) -> Mapping[str, Any]:
    """The row of the case with a file of its GPU."""
    with TemporaryDirectory() as folder:
        file = Path(folder, "gpus", f"{gpu}.yaml")
        file.parent.mkdir()
        file.write_text(text, encoding="utf-8")
        return run_scenario(scenario, Catalogue(folder, *catalogue.folders[:-1]), origins).row
