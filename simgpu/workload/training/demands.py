"""Demands of a training step: all collectives and copies that will cross links between its blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simgpu.plan.parallelism import Plan
from simgpu.workload.links import Demand
from simgpu.workload.training.away import Away
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import Passes
from simgpu.workload.training.offload import Offload
from simgpu.workload.training.reductions import Reductions


def demands(
    job: Job,
    stages: Sequence[Sequence[Sequence[Passes]]],
    reductions: Reductions,
    offload: Offload,
    away: Away,
    activation_bytes: float,
    tied_bytes: float,
) -> Iterator[Demand]:
    """All demands of a step, stage by stage.

    `activation_bytes` are what a rank sends to the next stage, `tied_bytes` gradients of an embedding that two stages
    hold (0: none).
    """
    for stage, chunks in enumerate(stages):
        for units in chunks:
            yield from _of_chunk(job.plan, stage, units, reductions, offload)
        for call in reductions.momenta([unit for units in chunks for unit in units]):
            yield call.kind, call.group, stage, call.size
        yield from away.demands(stage)
        yield from _sends(job.plan, stage, activation_bytes)
    if tied_bytes:
        yield "all_reduce", "embedding", 0, tied_bytes


def _of_chunk(
    plan: Plan, stage: int, units: Sequence[Passes], reductions: Reductions, offload: Offload
) -> Iterator[Demand]:
    """Reductions, copies and gathers of the units of a chunk."""
    for bucket in reductions.buckets(units):
        held = [units[i] for i in bucket]
        for call in reductions.of(held):
            yield call.kind, call.group, stage, call.size
        yield from offload.demands(stage, held)
    for part in reductions.gathered_together(units) if plan.zero else ():
        for call in reductions.gathers(part):
            yield call.kind, call.group, stage, call.size


def _sends(plan: Plan, stage: int, size: float) -> Iterator[Demand]:
    """Transfers of activations of `size` bytes to the next stage, and of gradients back."""
    if plan.pp > 1:
        round_ = plan.vp > 1 and plan.last_stage > 0
        if stage < plan.pp - 1 or round_:
            yield "send_recv", "next", stage, size
        if stage > 0 or round_:
            yield "send_recv", "back", stage, size
