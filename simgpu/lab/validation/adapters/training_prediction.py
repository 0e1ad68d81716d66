"""Predicts cases of training steps: builds the machine, simulates, and keeps what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import TYPE_CHECKING, Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.machines import training_cluster
from simgpu.lab.validation.adapters.training_steps import Case, MeasuredStep
from simgpu.lab.validation.batches import Machine
from simgpu.plan.memory import LIKELY, Memory, layer_activations, memory_per_stage, peak
from simgpu.plan.memory.verdict import need
from simgpu.plan.states import parameters_of
from simgpu.workload.framework_files import framework

if TYPE_CHECKING:
    from simgpu.workload.jobs import Training


@dataclass(frozen=True)
class PredictedStep:
    """Seconds or bytes of a step, and the ends of an 80 % interval.

    The interval is that of the bytes, or the one that the kernels of a step alone would have. `needed` is how many
    bytes a step takes where a GPU is said not to have as many.
    """

    value: float
    low: float
    high: float
    needed: float = 0.0


def predict(machine: Machine, step: MeasuredStep) -> PredictedStep:
    """The median of a row's cases, or the fastest; the interval covers theirs.

    Of several cases, those that no plan allows or that do not fit the memory are passed over. Raises `InputError` where
    none can be simulated.
    """
    if step.part == "relative":
        one, whole = (_memory(case, "activations").value for case in step.cases)
        return _memory_interval(one / whole)
    cases = step.cases
    if len(cases) > 1:
        cases = tuple(case for case in cases if _fits(machine, case)) or cases
    found, refused = [], None
    for case in cases:
        try:
            found.append(_step(machine, case) if step.quantity == "step_time" else _memory(case, step.part))
        except InputError as error:
            refused = refused or error
    if not found:
        assert refused is not None
        raise refused
    value = (min if step.tuned else median)(one.value for one in found)
    needed = min(one.needed for one in found)  # zero if any of them fits
    return PredictedStep(value, min(one.low for one in found), max(one.high for one in found), needed)


def _fits(machine: Machine, case: Case) -> bool:
    """Whether the fullest stage of a case fits the GPU."""
    try:
        return _fullest(case, machine.gpu.memory.capacity.si).fit_probability >= LIKELY
    except InputError:
        return False


def cluster_of(machine: Machine, case: Case) -> Cluster:
    """The machine of a case, with the constants that the regime of the validation allows."""
    bench = machine.bench
    key = (machine.gpu.name, case.gpus, case.per_node, case.link, case.network, "training")
    if key not in bench.clusters:
        cluster = training_cluster(bench.catalogue, machine.gpu.name, case.gpus, case.per_node, case.link, case.network)
        bench.clusters[key] = replace(cluster, kernel=bench.constants(cluster.gpu))
    return bench.clusters[key]


def _step(machine: Machine, case: Case) -> PredictedStep:
    row = _row(machine, case)
    needed = 0.0 if row.get("memory_fits", True) else float(row["memory_bytes_per_gpu"])
    low, high = (float(row[name]) for name in _KERNELS)
    return PredictedStep(float(row["step_s"]), low, high, needed)


def _row(machine: Machine, case: Case) -> Mapping[str, Any]:
    """What a simulated case says of its time and of its memory; cases that rows share are simulated once."""
    kept = machine.bench.steps
    key = (machine.gpu.name, case)
    if key not in kept:
        try:
            row = _simulated(machine, case)
        except InputError as error:
            kept[key] = error
        else:
            kept[key] = {name: row[name] for name in _ANSWERS if name in row}
    found = kept[key]
    if isinstance(found, InputError):
        raise found
    typed: Mapping[str, Any] = found
    return typed


_KERNELS = ("kernels_p10", "kernels_p90")
_ANSWERS = ("step_s", *_KERNELS, "memory_bytes_per_gpu", "reserve_memory_bytes", "memory_fits")


def _simulated(machine: Machine, case: Case) -> Mapping[str, Any]:
    from simgpu.analysis.training import anatomy, kernel_ends
    from simgpu.simulation.call import simulate

    cluster = cluster_of(machine, case)
    done = simulate(
        cluster, job_of(case), case.config, case.plan, dtype=case.dtype, framework=framework(case.framework)
    )
    ends = kernel_ends(anatomy(done.execution))
    return {**done.row, "kernels_p10": ends.p10, "kernels_p90": ends.p90}


def job_of(case: Case) -> Training:
    """The job of a case, as a user would ask for it."""
    from simgpu.workload.jobs import Training

    return Training(batch=case.batch, tokens=case.tokens, **dict(case.numerics))


# ---- memory ------------------------------------------------------------------------------------------

MEMORY_LOW, MEMORY_HIGH = 0.95, 1.08
"""States and activations of a layer over their count, as papers state them."""


def _memory_interval(value: float) -> PredictedStep:
    return PredictedStep(value, value * MEMORY_LOW, value * MEMORY_HIGH)


def _memory(case: Case, part: str) -> PredictedStep:
    """Bytes of a GPU: `peak` of the fullest stage, or states or activations of a stage without embedding and head.

    The peak is counted as PyTorch does, which leaves out what CUDA and NCCL take. States and activations are counted as
    Korthikanti et al. 2022 do.
    """
    if part == "peak":
        worst = _fullest(case)
        found = need(worst.total - worst.reserve, 0.0, worst.centre, worst.spread)
        return PredictedStep(worst.total - worst.reserve, found.p10, found.p90)
    stack = framework(case.framework)
    numerics = job_of(case).numerics(case.dtype, framework=stack)
    shape = (case.config, case.plan, numerics)
    if part == "states":
        each = numerics.weight_bytes + numerics.gradient_bytes + numerics.state_bytes
        return _memory_interval(each * parameters_of(*shape).layers)
    return _memory_interval(layer_activations(*shape, stack.memory, case.batch, case.tokens))


def _fullest(case: Case, capacity: float | None = None) -> Memory:
    """The stage that needs most."""
    stack = framework(case.framework)
    numerics = job_of(case).numerics(case.dtype, framework=stack)
    shape = (case.config, case.plan, numerics, stack.memory, case.batch, case.tokens)
    return peak(memory_per_stage(*shape, capacity))
