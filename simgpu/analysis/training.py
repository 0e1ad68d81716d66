"""Columns of a training step: where its time goes by class and by group, utilization, throughput, days."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from simgpu.analysis.breakdown import Breakdown
from simgpu.analysis.uncertainty import Part, Range, parts_of, range_of
from simgpu.analysis.utilisation import kernels_of, products
from simgpu.engine.timeline import length, outside, union
from simgpu.hardware.inherit import Calibration
from simgpu.model.graph import ModelGraph
from simgpu.model.operators import Attention
from simgpu.timing.kernels import Uncertainty
from simgpu.timing.uncertainty import RunSpread, WholeRun, run_spread
from simgpu.workload.execution import Activity, Execution, PeriodicExecution

RECOMPUTATION = "recomputation"
GROUPS = ("tp", "cp", "ep", "pp", "data", "offload")
"""Groups of communication as results name them; 'data' is what moves gradients and weights,
'offload' what a GPU exchanges with its host and its node's drives."""
_DATA = ("grad", "shard", "replica", "expert", "embedding")
DAY = 86_400.0


@dataclass(frozen=True)
class Anatomy:
    """Parts of a step on one rank, s. step = compute + exposed communication + launch gaps + bubble.

    `compute` by class and what of it is recomputation or optimizer; `communication` and `exposed` by group.
    """

    rank: int
    step: float
    classes: dict[str, float]
    recompute: float
    optimizer: float
    host: float
    communication: dict[str, float]
    exposed: dict[str, float]
    bubble: float
    parts: Sequence[Part]
    gaps: float = 0.0  # of `host`: what kernels wait for within layers

    @property
    def compute(self) -> float:
        """Seconds of all kernels."""
        return sum(self.classes.values())

    def as_breakdown(self) -> Breakdown:
        """The same step by compute, communication and idle time; launch gaps and bubbles count as idle."""
        moved, bare = sum(self.communication.values()), sum(self.exposed.values())
        return Breakdown(self.rank, self.step, self.compute, moved, bare, max(self.step - self.compute - bare, 0.0))


def anatomy(execution: Execution) -> Anatomy:
    """Parts of a step on the rank whose compute stream is busy longest (the first of them): it sets the pace."""
    rank = _busiest(execution)
    if isinstance(execution, PeriodicExecution):
        return _grown(execution, _known(execution.few, rank), _known(execution.more, rank), rank)
    return _known(execution, rank)


def _known(execution: Execution, rank: int) -> Anatomy:
    """Parts of a run, all of which was simulated, on one rank."""
    return execution.remembered(("anatomy", rank), lambda: _anatomy(execution, rank))


def _busiest(execution: Execution) -> int:
    """The first of the ranks whose compute stream is busy longest, but for rounding."""
    busy = [_busy(execution, r) for r in range(len(execution.streams))]
    return next(r for r, seconds in enumerate(busy) if seconds >= max(busy) * (1 - 1e-9))


def _grown(execution: PeriodicExecution, few: Anatomy, more: Anatomy, rank: int) -> Anatomy:
    """Parts of the whole step from those of two steps that differ by a period."""

    def all_of(name: str) -> dict[str, float]:
        less, known = getattr(few, name), getattr(more, name)
        return {key: max(execution.grown(less.get(key, 0.0), value), 0.0) for key, value in known.items()}

    def one(name: str) -> float:
        return max(execution.grown(getattr(few, name), getattr(more, name)), 0.0)

    return Anatomy(
        rank, execution.step, all_of("classes"), one("recompute"), one("optimizer"), one("host"),
        all_of("communication"), all_of("exposed"), one("bubble"), parts_of(execution, rank), one("gaps"),
    )  # fmt: skip


def _anatomy(execution: Execution, rank: int) -> Anatomy:
    """Parts of a step on one rank."""
    parts = parts_of(execution, rank)
    classes: dict[str, float] = {}
    communication, inside = dict.fromkeys(GROUPS, 0.0), dict.fromkeys(GROUPS, 0.0)
    between = _between(execution, rank)
    host = 0.0
    for part in parts:
        one = part.activity
        if one.category == "compute":
            if one.kind == "host":
                host += part.seconds
                continue
            group = "optimizer" if one.segment == "optimizer" else part.uncertainty.group
            group = "attention" if group == "scan" else group  # what mixes tokens
            classes[group] = classes.get(group, 0.0) + part.seconds
        else:
            name = _group_of(one)
            communication[name] += part.seconds
            inside[name] += 0.0 if one in between else part.exposed
    outside_blocks = _outer(execution, rank)
    recompute = sum(
        p.seconds for p in parts if p.activity.segment == RECOMPUTATION and p.activity.category == "compute"
    )
    computed = sum(classes.values())
    step = execution.step
    idle = step - _busy(execution, rank)
    gaps = max(step - idle - computed - sum(inside.values()) - host, 0.0)  # code and launches that kernels wait for
    exposed = {name: inside[name] + outside_blocks[name] for name in GROUPS}
    return Anatomy(
        rank, step, classes, recompute, classes.get("optimizer", 0.0), host + gaps, communication, exposed,
        max(idle - sum(outside_blocks.values()), 0.0), parts, gaps,
    )  # fmt: skip


def _busy(execution: Execution, rank: int) -> float:
    if isinstance(execution, PeriodicExecution):
        return execution.grown(_busy(execution.few, rank), _busy(execution.more, rank))

    def run() -> float:
        timeline = execution.timeline
        held = timeline.of(execution.streams[rank]["compute"])
        return length(union((timeline.start[i], timeline.end[i]) for i in held))

    return execution.remembered(("busy", rank), run)


def _group_of(call: Activity) -> str:
    """The name in `GROUPS` that a collective counts for."""
    return "data" if call.group in _DATA else call.group


def _between(execution: Execution, rank: int) -> set[Activity]:
    """Collectives of a rank that run between blocks; all others are part of a block."""
    streams, timeline = execution.streams[rank], execution.timeline
    labels = (timeline.labels[i] for name, stream in streams.items() if name != "compute" for i in timeline.of(stream))
    return set({id(label): label for label in labels}.values())  # type: ignore[arg-type]


def _outer(execution: Execution, rank: int) -> dict[str, float]:
    """Communication between blocks while the rank computes nothing, s, by the names in `GROUPS`.

    A moment counts once: for data parallelism, else tensor parallelism, else pipeline stages, else offloading.
    """
    timeline, streams = execution.timeline, execution.streams[rank]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in GROUPS}
    for name, stream in streams.items():
        for i in timeline.of(stream) if name != "compute" else ():
            times[_group_of(timeline.labels[i])].append((timeline.start[i], timeline.end[i]))  # type: ignore[arg-type]
    taken = union((timeline.start[i], timeline.end[i]) for i in timeline.of(streams["compute"]))
    found = dict.fromkeys(GROUPS, 0.0)
    for group in ("data", "tp", "pp", "offload"):
        moments = union(times[group])
        found[group] = outside(moments, taken)
        taken = union([*taken, *moments])
    return found


def training_row(
    execution: Execution, parts: Anatomy, graph: ModelGraph, gpus: int, batch: float,
    train_tokens: float | None, computed: float,
) -> dict[str, Any]:  # fmt: skip
    """Columns of a result that only training has.

    `graph` is the model's part of the step on one GPU, `batch` the sequences of all replicas, `train_tokens` the tokens
    of a whole run, for days and GPU-hours, `computed` the FLOPs of the step with those of padding.
    """
    step, kernels = execution.step, kernels_of(execution)
    peak = products(kernels).peak
    whole = _full_attention(graph)
    repeated = products((kernel, times) for kernel, times in kernels if kernel.segment == RECOMPUTATION)
    again = repeated.flops * gpus / len(execution.streams)
    moved, bare = sum(parts.communication.values()), sum(parts.exposed.values())
    row: dict[str, Any] = {
        "samples_per_s": batch / step,
        "tokens_per_s_per_gpu": graph.tokens / step / gpus,
        "mfu": graph.flops / step / gpus / peak,
        "hfu": (computed + again) / step / gpus / peak,
        "flop_full_attention": whole,
        "mfu_full_attention": whole / step / gpus / peak,
        **{f"{name}_s": parts.classes.get(group, 0.0) for name, group in CLASSES.items()},
        "recompute_s": parts.recompute,
        "optimizer_s": parts.optimizer,
        "host_s": parts.host,
        "host_exposed_s": parts.gaps,
        **{f"exposed_{name}_s": parts.exposed[name] for name in GROUPS},
        "bubble_s": parts.bubble,
        "bubble_fraction": parts.bubble / step,
        "overlap": max(0.0, 1 - bare / moved) if moved else 1.0,
    }
    if train_tokens is not None:
        seconds = train_tokens / (graph.tokens / step)
        row |= {"training_days": seconds / DAY, "gpu_hours": seconds / 3600 * gpus}
    return row


CLASSES = {"gemm": "gemm", "attention": "attention", "memory_bound": "vector", "experts": "moe"}
"""Classes of kernels: their names in results, and in `simgpu.timing`."""


def _full_attention(graph: ModelGraph) -> float:
    """FLOPs of a step with attention counted in full, masked half included (PaLM, MosaicML, Megatron 2022)."""
    segments = tuple(
        replace(
            s, operators=tuple(replace(op, causal=False) if isinstance(op, Attention) else op for op in s.operators)
        )
        for s in graph.segments
    )
    return replace(graph, segments=segments).flops


def shares(step: Anatomy) -> list[tuple[float, Uncertainty]]:
    """Seconds and uncertainty of the parts of a step; with those of the host, which are certain, they sum to it."""
    return [(seconds, part.uncertainty) for seconds, part in weighted(step)]


def weighted(step: Anatomy) -> list[tuple[float, Part]]:
    """Seconds of a step that each part stands for, with the part; with the host's, they sum to the step.

    While a rank waits, others do such work, so that its parts are scaled to fill the time.
    """
    kept = [p for p in step.parts if p.activity.kind != "host"]
    own = [p.seconds if p.activity.category == "compute" else p.exposed for p in kept]
    sums = sum(own)
    scale = max(step.step - step.host, 0.0) / sums if sums else 1.0
    return [(seconds * scale, part) for seconds, part in zip(own, kept, strict=True)]


def kernel_ends(found: Anatomy) -> Range:
    """P10 and P90 of the step, s, as far as its kernels and collectives go.

    It is as unsure as the parts of its slowest rank, for which bubbles wait too.
    """
    kernels = range_of(shares(found))
    return Range(found.host + kernels.p10, found.host + kernels.p90)


def spread_of(found: Anatomy, framework: str, kernel: Calibration, experts: bool) -> RunSpread:
    """How sure the time of a step is.

    Residuals of whole steps of its framework say so, or those of its kernels where they are wider, and how far it is
    from the steps that were measured.
    """
    ends = kernel_ends(found)
    factors = (min(ends.p10 / found.step, 1.0), max(ends.p90 / found.step, 1.0)) if found.step else (1.0, 1.0)
    run = WholeRun(
        library=framework, architecture=kernel.architecture, regime=kernel.regime("gemm"), kernels=factors,
        experts=experts, steps=kernel.steps(framework)[1], scatter=kernel.scatter(framework),
    )  # fmt: skip
    return run_spread("step_time", found.step, run)


def interval(found: Anatomy, spread: RunSpread) -> Range:
    """P10 and P90 of the step, s."""
    return Range(found.step * spread.low, found.step * spread.high)
