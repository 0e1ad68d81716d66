"""A training step on groups of GPUs that are not alike: shares of the batch, who waits, gradients between the groups.

Each group is simulated with its share as a step of its own. Then gradients are summed over the groups: a ring over
them in which every GPU sends its part of the sums, 2 (N - 1) / N of the gradients in all, at the rate of the group
with the slowest adapters (Patarasuk and Yuan, 2009). That is counted as exposed, beside nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.analysis.power import power_columns
from simgpu.catalog import usual_catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES
from simgpu.plan.checks import check_fits_cluster
from simgpu.plan.parallelism import Plan
from simgpu.simulation.result import Result
from simgpu.simulation.step_result import TrainingResult
from simgpu.workload.inference.disaggregation import adapter_rate
from simgpu.workload.model_jobs import Training
from simgpu.workload.training_pools import TrainingPool, shared_by_speed

Simulate = Callable[..., Result]
"""`simgpu.simulation.call.simulate`, which is above this module."""


@dataclass(frozen=True)
class Group:
    """GPUs that are alike: their cluster, their plan, and the sequences that they take if they were told."""

    cluster: Cluster
    plan: Plan
    asked: int | None = None
    place: int | None = None  # among the pools; None: that of the plan

    @property
    def part(self) -> int:
        """Sequences that it takes at a time."""
        return self.plan.dp * (self.plan.micro_batch or 1)


@dataclass(frozen=True)
class Pooled:
    """A step on several groups: the result of each with its share, and the columns of all."""

    results: tuple[Result, ...]
    last: int  # the group that the others wait for
    row: dict[str, Any]


def trained_together(
    simulate: Simulate, cluster: Cluster, job: Training, model: TransformerConfig | None, plan: Plan, how: Any,
    catalogue: Any,
) -> TrainingResult:  # fmt: skip
    """The result of a step on the GPUs of the plan and those of the pools. Raises `InputError`."""
    done = pooled(simulate, cluster, job, model, plan, how, catalogue)
    last = done.results[done.last]
    return TrainingResult.of(done.row, last.execution, last.memory, last.board)


def pooled(
    simulate: Simulate, cluster: Cluster, job: Training, model: TransformerConfig | None, plan: Plan, how: Any,
    catalogue: Any,
) -> Pooled:  # fmt: skip
    """Simulate a step on the GPUs of the plan and those of the pools. Raises `InputError`."""
    if model is None:
        raise InputError("this key is missing; a workload of kind 'training' needs one", key="model")
    load = (catalogue or usual_catalogue()).cluster
    if job.finetune != "full":
        raise InputError(f"pools train all weights, not {job.finetune}; expected full", key="workload.finetune")
    groups = [Group(cluster, plan), *(_group(load, pool, plan, i) for i, pool in enumerate(job.pools or ()))]

    def run(group: Group, batch: int) -> Result:
        own = job.model_copy(update={"pools": None, "batch": batch, "train_tokens": None})
        try:
            return simulate(group.cluster, own, model, group.plan, how, catalogue=catalogue)
        except InputError as error:
            if group.place is None or not error.key:
                raise
            key = error.key.partition(".")[2] or error.key
            raise type(error)(error.problem, key=f"workload.pools.{group.place}.{key}") from None

    shares = _shares(job, groups, run)
    results = tuple(run(group, share) for group, share in zip(groups, shares, strict=True))
    between = _exchange(groups, model, job, how)
    return _joined(job, groups, shares, results, between)


def _group(load: Callable[[str], Cluster], pool: TrainingPool, plan: Plan, place: int) -> Group:
    """A pool with what it has of the plan. Raises `InputError` at its key."""
    try:
        cluster = load(pool.cluster)
        degrees = {name: getattr(pool, name) for name in ("dp", "tp", "pp", "cp", "ep")}
        kept = {
            name: value for name in ("micro_batch", "zero", "recompute") if (value := getattr(pool, name)) is not None
        }
        whole = {"sequence_parallel": plan.sequence_parallel and pool.tp > 1, "micro_batch": plan.micro_batch}
        own = Plan(**{"zero": plan.zero, "recompute": plan.recompute, **whole, **degrees, **kept})
        check_fits_cluster(own, cluster)
    except InputError as error:
        raise InputError(error.problem, key=f"workload.pools.{place}") from None
    return Group(cluster, own, pool.batch, place)


# ---- shares ------------------------------------------------------------------------------------------


def _shares(job: Training, groups: Sequence[Group], run: Callable[[Group, int], Result]) -> tuple[int, ...]:
    """Sequences of each group: those that were asked, the others by speed, or alike where that is no slower."""
    told = sum(group.asked or 0 for group in groups)
    free = [group for group in groups if group.asked is None]
    left = job.batch - told
    parts = [group.part for group in free]
    if left < sum(parts):
        problem = f"{job.batch} sequences, {told} of them given, are fewer than the {sum(parts)} that the other"
        raise InputError(f"{problem} groups take at a time", key="workload.batch")
    lines = [_line(group, left // len(free), run) for group in free]
    fair = shared_by_speed(left, parts, [one[0] for one in lines], [one[1] for one in lines])
    if fair is None:
        problem = (
            f"{left} sequences are not whole parts of {', '.join(map(str, parts))} (dp x micro_batch of the groups)"
        )
        raise InputError(problem, key="workload.batch")
    alike = tuple(left // len(free) for _ in free)
    if all(share % part == 0 for share, part in zip(alike, parts, strict=True)) and sum(alike) == left:
        fair = min((fair, alike), key=lambda shares: max(map(_seconds, map(run, free, shares))))
    rest = iter(fair)
    return tuple(next(rest) if group.asked is None else group.asked for group in groups)


def _seconds(result: Result) -> float:
    return float(result.row["step_s"])


def _line(group: Group, share: int, run: Callable[[Group, int], Result]) -> tuple[float, float]:
    """(seconds beside the sequences, seconds for each) of a group, from two batches around a share."""
    few = max(share // (2 * group.part), 1)
    counts = (few * group.part, 2 * few * group.part)
    less, more = (_seconds(run(group, count)) for count in counts)
    each = max(more - less, 0.0) / counts[0]
    return max(less - each * counts[0], 0.0), each


def _exchange(groups: Sequence[Group], model: TransformerConfig, job: Training, how: Any) -> float:
    """Seconds of the sums of gradients over the groups."""
    size = model.parameters * BYTES[job.numerics(how.dtype).reduce]
    slowest = min(adapter_rate(group.cluster) * group.plan.world for group in groups)
    count = len(groups)
    return float(2 * (count - 1) / count * size / slowest)


# ---- the whole ---------------------------------------------------------------------------------------

ASKED = (
    "cluster", "gpu", "tp", "pp", "vp", "cp", "ep", "zero", "recompute", "schedule", "micro_batch", "microbatches",
    "memory_capacity_bytes",
)  # fmt: skip
SUMS = ("flop", "flop_full_attention")
RATES = ("tokens_per_s", "samples_per_s")
SHARES = ("mfu", "hfu", "mfu_full_attention")


def _joined(
    job: Training, groups: Sequence[Group], shares: tuple[int, ...], results: tuple[Result, ...], between: float
) -> Pooled:
    """The columns of the group that is last, with those of all where they are of all."""
    rows = [result.row for result in results]
    last = max(range(len(rows)), key=lambda i: rows[i]["step_s"])
    mine, world = dict(rows[last]), [group.plan.world for group in groups]
    step, gpus = mine["step_s"] + between, sum(world)
    row = mine | {name: rows[0][name] for name in ASKED}
    row |= {"step_s": step, "gpus": gpus, "dp": sum(group.plan.dp for group in groups)}
    row |= {name: sum(one[name] for one in rows) for name in SUMS}
    row |= {name: sum(one[name] * one["step_s"] for one in rows) / step for name in RATES}
    at_work = [(one["step_s"] * count, one) for one, count in zip(rows, world, strict=True)]
    row |= {name: sum(one[name] * busy for busy, one in at_work) / step / gpus for name in SHARES}
    row["tokens_per_s_per_gpu"] = row["tokens_per_s"] / gpus
    row["flop_per_s_per_gpu"] = row["flop"] / step / gpus
    for name in ("exposed_data_s", "exposed_communication_s", "communication_s", "critical_communication_s"):
        row[name] = mine[name] + between
    row["bubble_fraction"] = mine["bubble_s"] / step
    row["pool_waiting_share"] = 1 - sum(busy for busy, _ in at_work) / step / gpus
    row["pool_batches"] = " + ".join(map(str, shares))
    whole = [one["single_gpu_step_s"] * job.batch / share for one, share in zip(rows, shares, strict=True)]
    row["single_gpu_step_s"] = whole[0]
    row["ideal_step_s"] = 1 / sum(count / alone for count, alone in zip(world, whole, strict=True))
    row["efficiency"], row["speedup"] = row["ideal_step_s"] / step, whole[0] / step
    row["memory_fits"] = all(one["memory_fits"] for one in rows)
    row["weights_fit"] = all(one["weights_fit"] for one in rows)
    if job.train_tokens:
        row["training_days"] = job.train_tokens / row["tokens_per_s"] / 86_400
        row["gpu_hours"] = row["training_days"] * 24 * gpus
    for name, value in mine.items():  # ends are as far from their value as those of the last group
        plain = name.removesuffix("_p10").removesuffix("_p90")
        if plain != name and mine.get(plain):
            row[name] = value * row[plain] / mine[plain]
    for name in ("training_days", "gpu_hours"):
        for end, other in (("p10", "p90"), ("p90", "p10")) if name in row else ():
            row[f"{name}_{end}"] = row[name] * row["tokens_per_s"] / row[f"tokens_per_s_{other}"]
    watts = sum(
        one["power_w_per_gpu"] * busy + result.board.levels.waiting * (step * count - busy)
        for (busy, one), result, count in zip(at_work, results, world, strict=True) if result.board
    )  # fmt: skip
    board = results[last].board
    return Pooled(results, last, {**row, **power_columns(row, watts / step / gpus, board)} if board else row)
