"""Predicts cases of training steps: builds the machine, simulates, and keeps what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from statistics import median
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.plan.memory import layer_activations, memory_per_stage
from simgpu.plan.numerics import Numerics
from simgpu.plan.states import parameters_of
from simgpu.study.boxes import training_cluster
from simgpu.study.validation.batches import Machine
from simgpu.study.validation.training_rows import Case, Wanted


@dataclass(frozen=True)
class Predicted:
    """Seconds or bytes, and the ends of the 80 % interval; `needed` bytes where a GPU is said not to have as many."""

    value: float
    low: float
    high: float
    needed: float = 0.0


def predict(machine: Machine, wanted: Wanted) -> Predicted:
    """The median of a row's cases, or the fastest; the interval covers theirs.

    Of several cases, those that no plan allows or that do not fit the memory are passed over. Raises `InputError` where
    none can be simulated.
    """
    if wanted.part == "relative":
        one, whole = (_memory(machine, case, "activations").value for case in wanted.cases)
        return _memory_interval(one / whole)
    quantity = _step if wanted.quantity == "step_time" else _memory
    cases = wanted.cases
    if len(cases) > 1:
        cases = tuple(case for case in cases if _fits(machine, case)) or cases
    found, refused = [], None
    for case in cases:
        try:
            found.append(quantity(machine, case, wanted.part))
        except InputError as error:
            refused = refused or error
    if not found:
        assert refused is not None
        raise refused
    value = (min if wanted.tuned else median)(one.value for one in found)
    needed = min(one.needed for one in found)  # zero if any of them fits
    return Predicted(value, min(one.low for one in found), max(one.high for one in found), needed)


def _fits(machine: Machine, case: Case) -> bool:
    """Whether the fullest stage of a case fits the GPU."""
    try:
        return _fullest(case, "total") <= machine.gpu.memory.capacity.si
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


def _step(machine: Machine, case: Case, _: str) -> Predicted:
    kept = machine.bench.steps
    key = (machine.gpu.name, case)
    if key not in kept:
        try:
            row = _simulated(machine, case)
        except InputError as error:
            kept[key] = error
        else:
            needed = 0.0 if row.get("memory_fits", True) else float(row["memory_bytes_per_gpu"])
            value, low, high = (float(row[name]) for name in ("step_s", "step_s_p10", "step_s_p90"))
            kept[key] = Predicted(value, low, high, needed)
    found = kept[key]
    if isinstance(found, InputError):
        raise found
    return found


def _simulated(machine: Machine, case: Case) -> Mapping[str, Any]:
    from simgpu.simulation import simulate
    from simgpu.workload.jobs import Training

    job = Training(batch=case.batch, tokens=case.tokens, **fields_of_training(case))
    cluster = cluster_of(machine, case)
    return simulate(cluster, job, case.config, case.plan, dtype=case.dtype, framework=case.framework).row


def fields_of_training(case: Case) -> dict[str, Any]:
    """Numerics of a case under the names that `Training` has for them."""
    given = dict(case.numerics)
    given.pop("sharded_master_only", None)
    if "master" in given:
        given["master_weights"] = given.pop("master") is not None
    return given


# ---- memory ------------------------------------------------------------------------------------------

MEMORY_LOW, MEMORY_HIGH = 0.95, 1.08
"""Peak memory over its count: fragments and workspaces that no count holds lie above, what an allocator frees early
below. Until residuals say more."""


def numerics_of(case: Case) -> Numerics:
    """Numerics of a case: weights in the data type of the products, bf16 where these are fp8."""
    weights = "bf16" if case.dtype in ("fp8", "tf32") else case.dtype
    given = {"dtype": case.dtype, "weights": weights, **dict(case.numerics)}
    return Numerics(**{key: value for key, value in given.items() if key in _NUMERICS})


_NUMERICS = {field.name for field in fields(Numerics)}


def _memory_interval(value: float) -> Predicted:
    return Predicted(value, value * MEMORY_LOW, value * MEMORY_HIGH)


def _memory(_: Machine, case: Case, part: str) -> Predicted:
    """Bytes of a GPU: `peak` of the fullest stage, as PyTorch counts it; states and activations of a stage without
    embedding and head, as Korthikanti et al. 2022 count them."""
    numerics = numerics_of(case)
    shape = (case.config, case.plan, numerics)
    if part == "peak":
        return _memory_interval(_fullest(case, "allocated"))
    if part == "states":
        each = numerics.weight_bytes + numerics.gradient_bytes + numerics.state_bytes
        return _memory_interval(each * parameters_of(*shape).layers)
    return _memory_interval(layer_activations(*shape, case.batch, case.tokens, framework=case.framework))


def _fullest(case: Case, what: str) -> float:
    """`total` or `allocated` bytes of the stage that needs most."""
    shape = (case.config, case.plan, numerics_of(case), case.batch, case.tokens)
    return max(getattr(stage, what) for stage in memory_per_stage(*shape, framework=case.framework))
