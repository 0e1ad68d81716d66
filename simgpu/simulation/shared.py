"""Several models on one GPU: calls simulated one by one, then requests that queue for them.

What a call takes of the GPU is simulated, not given: its time on the whole, on an eighth of the multiprocessors (where
its kernels fill them, so that multiprocessors x time is its work), and with half of the memory's bandwidth (what it
takes longer is the time that the memory needs). An A100 whose MIG slice 1g.10gb takes 3.9 times as long as the whole
bears this out: 14 of 108 multiprocessors x 3.9 are 0.51 of the GPU, and seven processes under MPS take 3.64 times as
long as one, 0.52 each (nebuly-ai/nos @4b77c671, demos/gpu-sharing-comparison).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any

from simgpu.analysis.power import Board, power_columns
from simgpu.analysis.utilisation import kernels_of
from simgpu.errors import InputError, MisfitError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.derive import sliced
from simgpu.hardware.shared_gpu import shared_gpu, slower_memory
from simgpu.plan.parallelism import Plan
from simgpu.simulation.memory_use import MemoryUse
from simgpu.simulation.result import Result
from simgpu.simulation.shared_result import SharedResult
from simgpu.timing.constants import StreamConstants
from simgpu.workload.shared.job import Part, Shared
from simgpu.workload.shared.queues import Followed, Model, follow, percentile
from simgpu.workload.shared.rates import BANDWIDTH, SMS, TIME, Call, loads

USUAL_LOAD = 0.7
"""Load of a chain whose rate nobody gives."""

SMALL = 1 / 8
"""Share of the multiprocessors that kernels are sure to fill."""

LARGEST = "the largest call"
"""Part of the memory that calls in turn use one after another."""

Simulate = Callable[..., Result]


@dataclass(frozen=True)
class Resident:
    """A model on its GPU: a call of one request and one of as many as it has slots, by what they take."""

    part: Part
    alone: float  # s of a call on the whole GPU with nobody beside it
    one: Call
    full: Call
    result: Result  # of the full call on its part of the GPU
    board: Board
    peak: float  # of its part of the GPU, over the whole's
    host: float  # s of a call beside what it takes of the GPU

    def call(self, running: int) -> Call:
        """A call while so many run as one batch; in between it grows evenly."""
        slots = self.part.slots
        if slots == 1 or running >= slots:
            return self.full
        if running <= 1:
            return self.one
        on = (running - 1) / (slots - 1)
        names = {*self.one.takes, *self.full.takes}
        takes = {name: self.one.takes.get(name, 0) * (1 - on) + self.full.takes.get(name, 0) * on for name in names}
        made = replace(self.full, seconds=self.one.seconds * (1 - on) + self.full.seconds * on, takes=takes)
        return replace(made, busy=self.one.busy * (1 - on) + self.full.busy * on)

    @property
    def each(self) -> Call:
        """A request's part of a full call."""
        return replace(self.full, seconds=self.full.seconds / self.part.slots)


def share(
    simulate: Simulate, asked: Callable[..., dict[str, Any]], cluster: Cluster, job: Shared, model: Any, plan: Plan,
    how: Any, catalogue: Any,
) -> SharedResult:  # fmt: skip
    """Simulate models that share a GPU. Raises `InputError` (key only)."""
    if model is not None:
        raise InputError("models that share a GPU are named in workload.parts; leave it out", key="model")
    _check(cluster, job, plan)
    residents = []
    for i, part in enumerate(job.parts):
        try:
            residents.append(_resident(simulate, cluster, job, part, how, catalogue))
        except InputError as error:
            inner = (error.key or "").removeprefix("workload.")
            named = {"": "model", "model": "model", "dtype": "dtype", "cluster": "profile"}
            key = named.get(inner, f"workload.{inner}")
            raise error if error.file else InputError(error.problem, key=f"workload.parts.{i}.{key}") from None
    gpus = len(residents) if job.sharing == "separate" else 1
    memory = _memory(residents, job, cluster)
    if how.require_fit and not memory.fits:
        raise MisfitError(f"needs {memory.words()}; fewer or smaller models would do", key="workload.parts")
    limits = _limits(residents, job)
    done, rates = _followed(residents, job, limits)
    row = {
        **asked(" + ".join(one.part.model for one in residents), job.kind, cluster, how.dtype, plan), "gpus": gpus,
        "sharing": job.sharing, "resident_models": len(residents),
        **_times(residents, job, done, limits, rates), **_work(residents, rates, gpus),
        **_sizes(residents, memory, job),
        "distance": residents[0].result.row["distance"],
    }  # fmt: skip
    board = Board.of(cluster)
    above = sum(
        rate * one.each.seconds * max(one.result.power_w_per_gpu - one.board.levels.waiting, 0.0)
        for rate, one in zip(rates, residents, strict=True)
    )
    watts = min(board.levels.waiting + above / gpus, board.levels.limit)
    return SharedResult.of({**row, **power_columns(row, watts, board)}, residents[0].result.execution, memory, board)


def _check(cluster: Cluster, job: Shared, plan: Plan) -> None:
    if plan.world != 1:
        raise InputError("models that share a GPU have no plan of their own; leave it out", key="plan")
    if job.sharing != "mig":
        return
    gpu = cluster.gpu
    profiles = {one.name: one for one in gpu.mig_profiles}
    chosen = [profiles[part.profile.lower()] for part in job.parts if part.profile and part.profile.lower() in profiles]
    for what in ("compute_slices", "memory_slices"):
        there = max((getattr(one, what) for one in gpu.mig_profiles), default=0)
        taken = sum(getattr(one, what) for one in chosen)
        if chosen and taken > there:
            words = what.replace("_", " ")
            raise InputError(f"the slices take {taken} {words} of the {there} of '{gpu.name}'", key="workload.parts")


# ---- calls -------------------------------------------------------------------------------------------


def _resident(
    simulate: Simulate, cluster: Cluster, job: Shared, part: Part, how: Any, catalogue: Any
) -> Resident:  # fmt: skip
    options = replace(how, dtype=part.dtype or how.dtype, require_fit=False)
    place = _place(cluster, job, part)

    def run(on: Cluster, calls: int = 1) -> Result:
        batch = part.workload.model_copy(update={"batch": part.workload.batch * calls})
        return simulate(on, batch, part.model, None, options, catalogue=catalogue)

    def call(calls: int) -> tuple[Call, Result]:
        done = run(place, calls)
        seconds = done.step_s
        if job.sharing == "time_slicing":  # its turn goes on while its host works
            return Call(seconds + part.host, {TIME: 1.0}), done
        if job.sharing != "mps":
            return Call(seconds, {}), done
        whole = done if place is cluster else run(cluster, calls)
        slow = run(replace(cluster, gpu=slower_memory(cluster.gpu, 0.5)), calls)
        few = replace(cluster, gpu=shared_gpu(cluster.gpu, SMALL, _port(cluster)))
        small = run(few, calls)
        held, used = (of.gpu.compute.sm_count.si / cluster.gpu.compute.sm_count.si for of in (few, place))
        takes = {
            SMS: min(held * (small.step_s - _host(small)), used * (done.step_s - _host(done))) / seconds,
            BANDWIDTH: min(max(slow.step_s - whole.step_s, 0.0) / seconds, 1.0),
        }
        kernels, busy = _kernels(done)
        return Call(seconds, takes, kernels, busy, part.share), done

    one, first = call(1)
    full, last = (one, first) if part.slots == 1 else call(part.slots)
    alone = first.step_s if place is cluster else run(cluster).step_s
    peak = place.gpu.half_peak.datasheet / cluster.gpu.half_peak.datasheet
    host = 0.0 if job.sharing == "time_slicing" else part.host
    return Resident(part, alone + part.host, one, full, last, Board.of(place), peak, host)


def _place(cluster: Cluster, job: Shared, part: Part) -> Cluster:
    """The machine that a model sees."""
    if job.sharing == "mps":
        gpu = shared_gpu(cluster.gpu, part.share, _port(cluster))
        return cluster if gpu is cluster.gpu else replace(cluster, gpu=gpu)
    if job.sharing == "mig":
        assert part.profile is not None
        try:
            gpu = sliced(cluster.gpu, part.profile)
        except InputError as error:
            raise InputError(error.problem, key="cluster") from None
        return replace(cluster, gpu=gpu, node=cluster.node.model_copy(update={"nvlink": None}))
    return cluster


def _kernels(done: Result) -> tuple[float, float]:
    """Kernels of a call, and their seconds together."""
    found = [(kernel.time.seconds if kernel.time else 0.0, times) for kernel, times in kernels_of(done.execution)]
    return sum(times for _, times in found), sum(seconds * times for seconds, times in found)


def _port(cluster: Cluster) -> float:
    """Bytes that one multiprocessor takes in a clock."""
    return cluster.kernel.read(StreamConstants, "default").sm_bytes_per_clock


def _host(done: Result) -> float:
    """Seconds of a call in which the GPU waits for its host."""
    return min(float(done.row.get("host_s", done.row["idle_s"])), done.step_s)


# ---- requests ----------------------------------------------------------------------------------------


def _limits(residents: Sequence[Resident], job: Shared) -> dict[str, float]:
    """Requests a second of a chain that each resource and each model can serve, by name."""
    found = {one.part.name: _most(one, [other for other in residents if other is not one]) for one in residents}
    used = loads(job.sharing, [one.each for one in residents], [1.0] * len(residents))
    return found | {name: 1.0 / load for name, load in used.items() if load > 0}


def _most(one: Resident, others: Sequence[Resident]) -> float:
    """Requests a second of a chain that a model serves: calls that wait for kernels of others, the longer the more run.

    At a rate r the others run r x seconds of the time: r x (call + r x waits) is 1.
    """
    call = (one.full.seconds + one.host) / one.part.slots
    waits = sum(one.full.waits([other.full]) * other.each.seconds for other in others) / one.part.slots
    return (sqrt(call**2 + 4 * waits) - call) / (2 * waits) if waits else 1 / call


def _followed(
    residents: Sequence[Resident], job: Shared, limits: Mapping[str, float]
) -> tuple[Followed | None, list[float]]:
    """Requests as they were followed, None above what can be served; and requests a second of each model."""
    chain = job.order == "chain"
    rate = (job.rate or USUAL_LOAD * min(limits.values())) if chain else None
    if rate is not None and rate >= min(limits.values()):
        return None, [min(limits.values())] * len(residents)
    models = [Model(one.call, one.part.slots, None if chain else one.part.rate, one.host) for one in residents]
    done = follow(models, job.sharing, rate, job.requests, job.seed)
    if rate is not None:
        return done, [rate] * len(residents)
    return done, [len(times) / done.seconds if done.seconds else 0.0 for times in done.parts]


def _times(
    residents: Sequence[Resident], job: Shared, done: Followed | None, limits: Mapping[str, float],
    rates: Sequence[float],
) -> dict[str, Any]:  # fmt: skip
    """Latency without and with others, and what limits."""
    of = residents if job.order == "chain" else residents[:1]
    step = sum(one.one.seconds + one.host for one in of)
    spread = {
        end: step + sum(one.one.seconds * (one.result.row[f"step_s_{end}"] / one.result.step_s - 1) for one in of)
        for end in ("p10", "p90")
    }
    row: dict[str, Any] = {"step_s": step, "step_s_p10": spread["p10"], "step_s_p90": spread["p90"]}
    row["requests_per_s"] = rates[0] if job.order == "chain" else sum(rates)
    if job.order == "chain":
        limit = min(limits, key=lambda name: limits[name])
        wanted = job.rate or USUAL_LOAD * limits[limit]
        row |= {"capacity_per_s": limits[limit], "offered_load": wanted / limits[limit], "load_limit": limit}
    if done is None:
        return row
    alone = sum(one.alone for one in of)
    mean = sum(done.whole) / len(done.whole) if done.whole else 0.0
    row |= {
        "latency_50th_s": percentile(done.whole, 0.5), "latency_99th_s": percentile(done.whole, 0.99),
        "slowdown": mean / alone,
    }  # fmt: skip
    for column, share_of in (("stages_50th", 0.5), ("stages_99th", 0.99)):
        times = [percentile(seconds, share_of) for seconds in done.parts]
        row[column] = ", ".join(f"{one.part.name} {_said(s)}" for one, s in zip(residents, times, strict=True))
    return row


def _said(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"


def _work(residents: Sequence[Resident], rates: Sequence[float], gpus: int) -> dict[str, float]:
    """FLOPs of a request, and what the GPUs do of them."""
    flop = sum(one.result.row["flop"] / one.part.slots for one in residents)
    each = [rate * one.each.seconds for rate, one in zip(rates, residents, strict=True)]
    done = sum(rate * one.result.row["flop"] / one.part.slots for rate, one in zip(rates, residents, strict=True))
    return {
        "compute_s": sum(one.result.row["compute_s"] / one.part.slots for one in residents),
        "exposed_communication_s": 0.0,
        "idle_s": sum(_host(one.result) / one.part.slots for one in residents),
        "flop": flop, "flop_per_s_per_gpu": done / gpus,
        "mfu": sum(busy * one.result.row["mfu"] * one.peak for busy, one in zip(each, residents, strict=True)) / gpus,
    }  # fmt: skip


def _memory(residents: Sequence[Resident], job: Shared, cluster: Cluster) -> MemoryUse:
    """Of the GPU that holds most: all models, or with separate GPUs and slices the fullest.

    One process that serves calls in turn has one context, and the tensors of one call at a time.
    """
    sizes = {one.part.name: float(one.result.row["memory_bytes_per_gpu"]) for one in residents}
    whole = float(cluster.gpu.memory.capacity.si)
    if job.sharing == "in_turn":
        weights = {one.part.name: float(one.result.row["weights_bytes_per_gpu"]) for one in residents}
        sizes = weights | {LARGEST: max(sizes[name] - weights[name] for name in weights)}
    if job.sharing not in ("separate", "mig"):
        peak = sum(sizes.values())
        return MemoryUse(peak, sizes, whole, peak <= whole)
    rooms = [float(one.result.row["memory_capacity_bytes"]) for one in residents]
    worst = max(range(len(residents)), key=lambda i: list(sizes.values())[i] / rooms[i])
    fits = all(size <= room for size, room in zip(sizes.values(), rooms, strict=True))
    return MemoryUse(list(sizes.values())[worst], sizes, rooms[worst], fits)


def _sizes(residents: Sequence[Resident], memory: MemoryUse, job: Shared) -> dict[str, Any]:
    weights = [float(one.result.row["weights_bytes_per_gpu"]) for one in residents]
    held = max(weights) if job.sharing in ("separate", "mig") else sum(weights)
    return {
        "weights_bytes_per_gpu": held, "memory_capacity_bytes": memory.budget, "weights_fit": held <= memory.budget,
        "memory_bytes_per_gpu": memory.peak, "memory_fits": memory.fits,
    }  # fmt: skip
