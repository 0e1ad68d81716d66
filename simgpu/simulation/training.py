"""A training step, from what a user asks to a row of numbers: simulated, taken apart, with memory and intervals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from simgpu.analysis.critical import shares_of
from simgpu.analysis.training import Anatomy, anatomy, interval, shares, spread_of, training_row
from simgpu.analysis.uncertainty import Range, range_of, range_of_ratio
from simgpu.errors import InputError, MisfitError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.inherit import DEFAULT
from simgpu.hardware.machine import machine_of
from simgpu.memo import content, key_of
from simgpu.model.config import TransformerConfig
from simgpu.model.graph import ModelGraph
from simgpu.model.transformer import is_weight_gradient
from simgpu.plan.checks import check_simulated
from simgpu.plan.experts import SETTINGS
from simgpu.plan.memory import Memory, Room, memory_per_stage, peak
from simgpu.plan.numerics import scaling_of
from simgpu.plan.parallelism import Plan
from simgpu.timing.gemm_libraries import BLOCK_WISE, ROW_WISE
from simgpu.timing.kernels import NONE, KernelModel
from simgpu.timing.uncertainty import RunSpread, distance_of
from simgpu.workload.execution import Execution
from simgpu.workload.frameworks import Framework
from simgpu.workload.jobs import Training
from simgpu.workload.links import OFFLOAD, Links
from simgpu.workload.options import RunOptions
from simgpu.workload.training.step import Job, run_step

UNFOLDED_LIMIT = 4096
"""Largest number of ranks that may be simulated one by one."""

REMEMBERED = 32
"""Steps on one GPU that are remembered for each cluster."""


@dataclass(frozen=True)
class Trained:
    """A simulated step: its run, where the time goes, the memory of each pipeline stage, and its row."""

    execution: Execution
    anatomy: Anatomy
    memory: tuple[Memory, ...]
    row: dict[str, Any]


def train(
    cluster: Cluster, workload: Training, model: TransformerConfig | None, plan: Plan, how: RunOptions,
    framework: Framework,
) -> Trained:  # fmt: skip
    """Simulate one optimizer step. Raises `InputError` (key only) for what cannot be run."""
    config = workload.check(model, plan)
    check_simulated(plan)
    dtype = how.dtype
    numerics = workload.numerics(dtype, framework=framework)
    if plan.recompute_modules and framework.memory.saves_matmuls:
        problem = f"{framework.name} recomputes by operator; modules are of frameworks such as megatron"
        raise InputError(problem, key="plan.recompute_modules")
    scaling = workload.scaling(framework.fp8_scaling)
    kernels = kernels_of(framework, cluster, how.sustained(workload), scaling, plan.cp)
    _check_scaling(kernels, dtype, scaling)
    memory = tuple(
        memory_per_stage(
            config,
            plan,
            numerics,
            framework.memory,
            workload.batch,
            workload.fullest_tokens(plan),
            cluster.gpu.memory.capacity.si,
            Room.of(cluster),
        )
    )
    if how.require_fit:
        _check_fit(config, plan, workload, numerics, framework, memory, cluster)
    if not how.folded and plan.world > UNFOLDED_LIMIT:
        raise InputError(f"{plan.world} ranks are too many to be simulated one by one", key="plan")
    job = Job(
        config,
        plan,
        numerics,
        framework,
        workload.batch,
        workload.row_tokens,
        how.sums,
        workload.routing,
        scaling_of(dtype, scaling),
        workload.clip,
        workload.length,
    )
    execution = run_step(job, kernels, Links(cluster, plan, kernels, how.algorithm, how.protocol, how.folded))
    parts = anatomy(execution)
    alone = Plan(
        micro_batch=job.micro_batch, recompute=plan.recompute, offload=plan.offload, offload_to=plan.offload_to,
        zero=plan.zero if plan.offload != "none" else 0,
        recompute_layers=plan.recompute_layers and plan.recompute_layers * plan.pp,
        offload_layers=plan.offload_layers and plan.offload_layers * plan.pp, recompute_modules=plan.recompute_modules,
        **{key: getattr(plan, key) for key in SETTINGS},
    )  # fmt: skip
    single = parts if plan.world == 1 else _alone(replace(job, plan=alone), kernels, how)
    spread = spread_of(parts, framework.name, cluster.kernel, config.experts > 1)
    row = _row(workload, job, execution, parts, single, memory, cluster.gpus_per_node, spread)
    row["distance"] = distance_of(cluster.kernel, spread.layers, framework.name)
    return Trained(execution, parts, memory, row)


def _alone(job: Job, kernels: KernelModel, how: RunOptions) -> Anatomy:
    """Where the time goes in the same step on one GPU. It is the same for many plans, so that it is remembered."""
    known = machine_of(kernels.cluster).memo.region("single", REMEMBERED)
    key = (*key_of(job, framework=content(job.framework)), kernels.identity, how.algorithm, how.protocol)

    def run() -> Anatomy:
        links = Links(kernels.cluster, job.plan, kernels, how.algorithm, how.protocol)
        return anatomy(run_step(job, kernels, links))

    found: Anatomy = known.known(key, run)
    return found


def kernels_of(stack: Framework, cluster: Cluster, sustained: bool, fp8_scaling: str, cp: int = 1) -> KernelModel:
    """The kernel times of a training framework on a cluster, with `cp` context-parallel ranks."""
    library = {"rowwise": ROW_WISE, "block": BLOCK_WISE}.get(fp8_scaling, DEFAULT)
    return KernelModel(
        cluster, sustained, stack.attention or DEFAULT, library, stack.matmul_slowdown, stack.stream_slowdown,
        context_slowdown=stack.context_slowdown if cp > 1 else 1.0, training=True, stack=stack.name,
    )  # fmt: skip


def _check_scaling(kernels: KernelModel, dtype: str, scaling: str) -> None:
    """Raise `InputError` (key only) for scales of 32 values on a GPU whose products do not scale: it has no fp4."""
    if dtype != "fp8" or scaling != "mx":
        return
    try:
        kernels.peak("fp4")
    except InputError:
        problem = f"'mx': products of '{kernels.gpu.name}' take no scales of 32 values"
        raise InputError(
            f"{problem}; expected block, rowwise, tensorwise or delayed", key="workload.fp8_scaling"
        ) from None


def _check_fit(
    config: TransformerConfig, plan: Plan, workload: Training, numerics: Any, framework: Framework,
    memory: tuple[Memory, ...], cluster: Cluster,
) -> None:  # fmt: skip
    worst = peak(memory)
    if not worst.fits:
        from simgpu.plan.fit import fit_text, suggestions

        size, per_node = cluster.gpu.memory.capacity.si, cluster.gpus_per_node
        found = suggestions(
            config,
            plan,
            numerics,
            framework.memory,
            workload.batch,
            workload.fullest_tokens(plan),
            size,
            per_node,
            Room.of(cluster),
        )
        raise MisfitError(fit_text(worst, found), key="plan")


def _row(
    workload: Training, job: Job, execution: Execution, found: Anatomy, single: Anatomy, memory: tuple[Memory, ...],
    per_node: int,
    spread: RunSpread,
) -> dict[str, Any]:  # fmt: skip
    plan = job.plan
    graph = _trained_part(workload.graph(job.config, Plan(), job.numerics.dtype, job.accumulate), workload.finetune)
    step, parts, computed = execution.step, found.as_breakdown(), graph.flops
    if workload.padded:
        whole = workload.model_copy(update={"mean_tokens": None, "length_deviation": 0.0})
        computed = _trained_part(
            whole.graph(job.config, Plan(), job.numerics.dtype, job.accumulate), workload.finetune
        ).flops
    worst = peak(memory)
    times = {
        "step_s": step,
        "compute_s": parts.compute,
        "communication_s": parts.communication,
        "exposed_communication_s": parts.exposed_communication,
        "idle_s": parts.idle,
        "single_gpu_step_s": single.step,
        "ideal_step_s": single.step / plan.world,
        "efficiency": single.step / plan.world / step,
        "speedup": single.step / step,
        "tokens_per_s": graph.tokens / step,
        "flop": graph.flops,
        "flop_per_s_per_gpu": graph.flops / step / plan.world,
    }
    more = training_row(execution, found, graph, plan.world, workload.samples, workload.train_tokens, computed)
    times["mfu"] = more.pop("mfu")
    path = shares_of(execution)
    more["critical_compute_s"] = path["compute"] + path["optimizer"]
    more["critical_communication_s"] = path["communication"]
    moved = [p for p in found.parts if p.activity.category != "compute"]
    sizes = {
        "communication_bytes": sum(p.activity.bytes * p.runs for p in moved if p.activity.group != OFFLOAD),
        "weights_bytes_per_gpu": worst.weights,
        "memory_capacity_bytes": worst.capacity,
        "weights_fit": worst.weights <= (worst.capacity or 0),
        "memory_bytes_per_gpu": worst.total,
        "memory_fits": worst.fits,
        "memory_verdict": worst.verdict,
        "fit_probability": worst.fit_probability,
        "memory_event": worst.event,
        "allocated_memory_bytes_per_gpu": worst.allocated,
        "reserved_memory_bytes_per_gpu": worst.held,
        "nvidia_smi_memory_bytes_per_gpu": worst.shown,
        **{f"{name}_memory_bytes": getattr(worst, name) for name in MEMORY},
    }
    if plan.offload != "none" or plan.offload_layers:
        ranks = min(plan.world, per_node)
        sizes["host_memory_bytes_per_node"] = ranks * max(stage.host for stage in memory)
        sizes["nvme_memory_bytes_per_node"] = ranks * max(stage.nvme for stage in memory)
        sizes["offload_bytes"] = sum(p.activity.bytes * p.runs for p in moved if p.activity.group == OFFLOAD)
    sizes |= {
        "memory_bytes_per_gpu_p10": max(min(worst.likely.p10, worst.total), 0.0),
        "memory_bytes_per_gpu_p90": max(worst.likely.p90, worst.total),
    }
    return {**times, **more, **sizes, **_intervals(found, single, times, plan.world, spread)}


def _trained_part(graph: ModelGraph, finetune: str) -> ModelGraph:
    """The operators that count as FLOPs of the step: without gradients of frozen weights."""
    if finetune == "full":
        return graph
    kept = (replace(s, operators=tuple(op for op in s.operators if not is_weight_gradient(op))) for s in graph.segments)
    return replace(graph, segments=tuple(kept))


MEMORY = ("gradients", "optimizer", "activations", "communication", "temporary", "reserve")
"""Parts of the memory of the fullest rank, beside its weights."""


def _intervals(
    parts: Anatomy, single: Anatomy, times: dict[str, float], gpus: int, spread: RunSpread
) -> dict[str, float]:
    """P10 and P90 of the uncertain columns, from where the time goes and from the same step on one GPU."""
    kernels = [
        (p.seconds, p.uncertainty)
        for p in parts.parts
        if p.activity.category == "compute" and p.activity.kind != "host"
    ]
    calls = [p for p in parts.parts if p.activity.category != "compute"]
    whole = [*shares(single), (single.host, NONE)]
    one = range_of(whole)
    ratio = range_of_ratio(whole, shares(parts), parts.host) if gpus > 1 else Range(1.0, 1.0)
    ranges = {
        "step_s": interval(parts, spread),
        "compute_s": range_of(kernels),
        "communication_s": range_of([(p.seconds, p.uncertainty) for p in calls]),
        "exposed_communication_s": range_of([(p.exposed, p.uncertainty) for p in calls]),
        "single_gpu_step_s": one,
        "efficiency": Range(ratio.p10 / gpus, ratio.p90 / gpus),
        "speedup": ratio,
    }
    ends: dict[str, float] = {}
    for name, of in ranges.items():
        ends |= {f"{name}_p10": min(of.p10, times[name]), f"{name}_p90": max(of.p90, times[name])}
    return ends
