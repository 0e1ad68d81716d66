"""The adapter of a table of networks of stages: images, videos, audio, sequences through one, or steps of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.lab.machines import training_cluster
from simgpu.lab.validation.adapters.reader import Reader
from simgpu.lab.validation.batches import Adapter, Batch, Detail, Machine, Part, Unpredicted
from simgpu.lab.validation.tables import Columns, Rows, Table
from simgpu.plan.parallelism import Plan

NETWORK = "network"
"""What is measured: seconds of a batch through a network, or of a step of training it."""


ONE = Plan()


@dataclass(frozen=True)
class MeasuredNetwork:
    """A row: the network by its name or its id on Hugging Face, the job's keys, the plan, the seconds of a batch."""

    network: str
    job: tuple[tuple[str, Any], ...]
    dtype: str
    measured: float
    plan: Plan = ONE
    caveat: str = ""


@dataclass(frozen=True)
class PredictedNetwork:
    """Seconds, P10 and P90, and seconds at the datasheet peak."""

    seconds: float
    low: float
    high: float
    sol_s: float
    name: str
    stack: str


Translate = Callable[[Reader], "MeasuredNetwork | str"]
"""What a row says, or in words why there is no prediction."""


def adapter(columns: Columns, translate: Translate, measured: str = "latency_s") -> Adapter:
    """The adapter of a table with these columns, of which `translate` understands a row."""

    def parts(table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
        return _parts(translate, table, rows, machine)

    return Adapter("networks", columns, parts, measured)


def _parts(translate: Translate, table: Table, rows: Rows, machine: Machine) -> Iterator[Part]:
    scored: dict[tuple[str, str, str], list[tuple[int, MeasuredNetwork, PredictedNetwork]]] = {}
    refused: dict[str, list[int]] = {}
    for row in rows.tolist():
        try:
            asked = translate(Reader(table, row, machine))
            if isinstance(asked, str):
                refused.setdefault(asked, []).append(row)
                continue
            found = predict(machine, asked)
        except InputError as error:
            refused.setdefault(error.problem, []).append(row)
            continue
        scored.setdefault((asked.dtype, found.stack, asked.caveat), []).append((row, asked, found))
    for reason, at in refused.items():
        yield Unpredicted(NETWORK, np.asarray(at, np.intp), reason)
    for (dtype, stack, caveat), entries in scored.items():
        yield _batch(table, dtype, stack, caveat, entries)


def _batch(
    table: Table, dtype: str, stack: str, caveat: str, entries: list[tuple[int, MeasuredNetwork, PredictedNetwork]]
) -> Batch:
    values, sol_s = (np.asarray([getattr(one, name) for _, _, one in entries]) for name in ("seconds", "sol_s"))
    low, high = (np.asarray([getattr(one, end) for _, _, one in entries]) for end in ("low", "high"))
    return Batch(
        NETWORK,
        dtype,
        np.asarray([row for row, _, _ in entries], np.intp),
        lambda: values,
        lambda: sol_s,
        "gemm",
        shape=("batch", "height", "width", "frames", "num_gpus"),
        caveat=caveat,
        measured=np.asarray([asked.measured for _, asked, _ in entries]),
        ends=(low, high),
        details=tuple(
            Detail(table.source, one.name, asked.plan.world, _words(asked), stack, caveat) for _, asked, one in entries
        ),
    )


def _words(asked: MeasuredNetwork) -> str:
    plan, job = asked.plan, dict(asked.job)
    split = f"cp={plan.cp} {plan.context}" if plan.cp > 1 else f"dp={plan.dp}" if plan.dp > 1 else "one GPU"
    return f"{split} batch={job.get('batch', 1)}"


def predict(machine: Machine, asked: MeasuredNetwork) -> PredictedNetwork:
    """Simulates a row; rows that ask the same are simulated once. Raises `InputError`."""
    kept = machine.bench.steps
    key = (machine.gpu.name, replace(asked, measured=0.0))
    if key not in kept:
        try:
            kept[key] = _predict(machine, asked)
        except InputError as error:
            kept[key] = error
    found = kept[key]
    if isinstance(found, InputError):
        raise found
    made: PredictedNetwork = found
    return made


def _predict(machine: Machine, asked: MeasuredNetwork) -> PredictedNetwork:
    from simgpu.simulation.call import simulate

    job = {"kind": "network", **dict(asked.job)}
    pipeline = machine.bench.catalogue.network(asked.network)
    done = simulate(_cluster(machine, asked.plan.world), job, pipeline, asked.plan, dtype=asked.dtype)
    low, high = done.interval("step_s")
    return PredictedNetwork(
        done.step_s, low, high, done.mfu * done.step_s, pipeline.name, str(done.row.get("stack", ""))
    )


def _cluster(machine: Machine, gpus: int) -> Cluster:
    """GPUs of one node, with the constants that the regime of the validation allows."""
    bench, key = machine.bench, (machine.gpu.name, gpus, "network")
    if key not in bench.clusters:
        cluster = training_cluster(bench.catalogue, machine.gpu.name, gpus, gpus, "", "")
        bench.clusters[key] = replace(cluster, kernel=bench.constants(cluster.gpu))
    return bench.clusters[key]
