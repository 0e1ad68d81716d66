"""Changes that make a plan fit the memory of a GPU: one at a time, the least costly first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

from simgpu.errors import InputError
from simgpu.model.config import TransformerConfig
from simgpu.plan.checks import check_fits_model
from simgpu.plan.memory import GIB, LIKELY, Memory, Room, memory_per_stage, peak
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.schedule import check
from simgpu.plan.stack import Stack

_MOST_STAGES = 64


@dataclass(frozen=True)
class Suggestion:
    """A change that makes a plan fit: its words, as in an experiment file; the plan; bytes of the fullest stage."""

    what: str
    plan: Plan
    total: float


@dataclass(frozen=True)
class _TrainingStep:
    """A training step, and the memory that it may use."""

    config: TransformerConfig
    plan: Plan
    numerics: Numerics
    stack: Stack
    batch: int
    tokens: int
    capacity: float
    room: Room | None = None

    def need(self, plan: Plan) -> Memory | None:
        """The fullest stage of another plan; None if it cannot split the model or the batch."""
        try:
            check_fits_model(plan, self.config, self.batch, self.tokens)
            sequences = self.batch // plan.dp
            size = plan.micro_batch or sequences
            if sequences % size:
                return None
            if plan.pp > 1:
                check(plan.pipeline, plan.pp, sequences // size, plan.vp)
            if plan.pp > max(self.plan.pp, sequences // size):  # no advice that leaves stages without work
                return None
            stages = memory_per_stage(
                self.config, plan, self.numerics, self.stack, self.batch, self.tokens, self.capacity, self.room
            )
        except InputError:
            return None
        return peak(stages)


def suggestions(
    config: TransformerConfig,
    plan: Plan,
    numerics: Numerics,
    stack: Stack,
    batch: int,
    tokens: int,
    capacity: float,
    gpus_per_node: int = 8,
    room: Room | None = None,
) -> list[Suggestion]:
    """Single changes after which every stage fits in `capacity` bytes: the least costly of each kind, ordered by cost.

    Where no single change is enough, pairs of them are tried, and the first three that fit are returned. GPUs stay as
    many where data parallelism can give some up; else the words say how many are needed.
    """
    step = _TrainingStep(config, plan, numerics, stack, batch, tokens, capacity, room)
    fitting: list[Suggestion] = []
    kinds: set[str] = set()
    changes = list(_changes(step, gpus_per_node))
    for change in changes:
        kind = next(iter(change))
        if kind not in kinds and (suggestion := _tried(step, change)):
            kinds.add(kind)
            fitting.append(suggestion)
    if fitting:
        return fitting
    for first, second in combinations(changes, 2):
        if next(iter(first)) != next(iter(second)) and (suggestion := _tried(step, {**first, **second})):
            fitting.append(suggestion)
            if len(fitting) == 3:
                break
    return fitting


def fit_text(fullest: Memory, helps: list[Suggestion]) -> str:
    """One line on a stage: what it needs, by how much that is too much if it does not fit, and what would help."""
    capacity = fullest.capacity or 0.0
    need = f"needs {fullest.total / GIB:.1f} GiB of {capacity / GIB:.1f} GiB on stage {fullest.stage}"
    if fullest.full and not fullest.short_by:
        needed, there = (
            (fullest.nvme, fullest.nvme_capacity) if fullest.full == "NVMe" else (fullest.host, fullest.host_capacity)
        )
        need = (
            f"fits the GPU, but offloads {needed / GIB:.1f} GiB a GPU to {fullest.full}, {(there or 0.0) / GIB:.1f} GiB"
        )
        need += " of which are there"
        return f"{need}; fits with {_listed(helps)}" if helps else need
    if fullest.fits:
        return need
    need += f" ({fullest.short_by / GIB:.1f} GiB too much)"
    if not helps:
        return f"{need}; no one or two changes of the plan make it fit"
    return f"{need}; fits with {_listed(helps)}"


def _listed(helps: list[Suggestion]) -> str:
    words = [one.what for one in helps]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])}, or {words[-1]}"


def _tried(step: _TrainingStep, change: Mapping[str, Any]) -> Suggestion | None:
    try:
        plan = replace(step.plan, **_on_same_gpus(step, change))
    except InputError:
        return None
    need = step.need(plan)
    if need is None or need.fit_probability < LIKELY:
        return None
    more = f" on {plan.world} GPUs" if plan.world > step.plan.world else ""
    words = " and ".join(f"{key}: {_word(value)}" for key, value in change.items())
    return Suggestion(words + more, plan, need.total)


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _changes(step: _TrainingStep, gpus_per_node: int) -> Iterator[dict[str, Any]]:
    """Changes in the order of what they cost in time, from nothing to much."""
    plan = step.plan
    if plan.tp > 1 and not plan.sequence_parallel:
        yield {"sequence_parallel": True}
    yield from ({"zero": zero} for zero in _zero_stages(plan) if zero < 3)
    if plan.recompute == "none":
        yield {"recompute": "selective"}
    yield from ({"micro_batch": size} for size in _smaller_microbatches(plan, step.batch))
    yield from ({"zero": zero} for zero in _zero_stages(plan) if zero == 3)
    if plan.recompute != "full" or plan.recompute_layers is not None:
        yield {"recompute": "full"}
    for key, most in (("tp", gpus_per_node), ("pp", _MOST_STAGES)):
        degree = 2 * getattr(plan, key)
        while degree <= most:
            yield {key: degree}
            degree *= 2
    yield from _offloads(step)


def _zero_stages(plan: Plan) -> Iterator[int]:
    """ZeRO stages above that of the plan which it can take: pipelines keep whole gradients and weights."""
    if plan.dp * plan.cp > 1:
        yield from (zero for zero in (1, 2, 3) if zero > plan.zero and (zero == 1 or plan.pp == 1))


def _smaller_microbatches(plan: Plan, batch: int) -> Iterator[int]:
    """Sizes of a microbatch below that of the plan which divide it, by halves."""
    sequences = plan.micro_batch or max(batch // plan.dp, 1)
    size = sequences // 2
    while size >= 1:
        if sequences % size == 0:
            yield size
        size //= 2


def _offloads(step: _TrainingStep) -> Iterator[dict[str, Any]]:
    """Changes that move optimizer states, then weights, off the GPU; to drives where the node has them."""
    plan = step.plan
    if plan.offload == "none" and step.numerics.state_bytes:
        yield {"offload": "optimizer"}
    if plan.zero == 3 and plan.pp == 1 and not plan.weights_away and step.numerics.state_bytes:
        yield {"offload": "parameters"}
    drives = step.room is not None and step.room.nvme is not None
    if drives and plan.offload != "none" and plan.offload_to != "nvme":
        yield {"offload_to": "nvme"}


def _on_same_gpus(step: _TrainingStep, change: Mapping[str, Any]) -> dict[str, Any]:
    """The change with as much less data parallelism as it needs more GPUs, and microbatches of the same size."""
    plan, full = step.plan, dict(change)
    if full.get("recompute") == "full":
        full["recompute_layers"] = None
    if full.get("pp", plan.pp) != plan.pp:
        full["stage_layers"] = None
    if full.get("tp", plan.tp) != plan.tp and plan.expert_tp == plan.tp > 1:
        full["expert_tp"] = full["tp"]
    factor = full.get("tp", plan.tp) * full.get("pp", plan.pp) // (plan.tp * plan.pp)
    if factor > 1:
        full.setdefault("micro_batch", plan.micro_batch or max(step.batch // plan.dp, 1))
        if plan.dp % factor == 0 and (plan.expert_ranks // factor) % plan.ep == 0:
            full["dp"] = plan.dp // factor
            shards = min(plan.shards, full["dp"] * plan.cp)
            full["shard"] = shards if plan.shard is not None else None
        if full.get("pp", plan.pp) > 1 and plan.pp == 1:  # as many microbatches as stages at least
            sequences = step.batch // full.get("dp", plan.dp)
            full["micro_batch"] = max(min(full["micro_batch"], sequences // full["pp"]), 1)
    return full
