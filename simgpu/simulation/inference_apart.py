"""Decode with attention and experts on GPUs of their own: its row, and the memory of both sides."""

from __future__ import annotations

from typing import Any

from simgpu.analysis.inference import COLUMNS, column_of
from simgpu.errors import MisfitError
from simgpu.plan.serving_memory import ServingMemory, cache_bytes, fullest
from simgpu.workload.inference.apart import Apartness, memory_apart, step_apart
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.jobs import Apart, MixedStep


def apart_row(
    deployment: Deployment, job: MixedStep, asked: Apart, require_fit: bool
) -> tuple[Apartness, tuple[ServingMemory, ...], dict[str, Any]]:
    """The step, the memory of a GPU of each side, and the columns of both. Raises `InputError`, `MisfitError`."""
    done = step_apart(deployment, asked, job.decodes, job.context)
    capacity = deployment.cluster.gpu.memory.capacity.si
    memory = memory_apart(deployment, done, job.decodes, job.context)
    worst = fullest(memory)
    if require_fit and not worst.fits:
        side = ("attention", "expert")[memory.index(worst)]
        text = f"an {side} GPU needs {worst.total / 2**30:.1f} GiB, {worst.short_by / 2**30:.1f} GiB more than it may"
        raise MisfitError(f"{text} take; expected more {side} GPUs", key="plan")
    row = {
        "gpus": done.gpus, "expert_gpus": done.expert_gpus, "microbatches": done.microbatches,
        **_parts(done),
        "attention_side_s": done.attention, "expert_side_s": done.experts, "between_sides_s": done.transfer,
        "idle_share": max(0.0, 1 - done.busy / done.seconds),
        "total_tokens_per_s": job.decodes / done.seconds,
        "output_tokens_per_s_per_gpu": job.decodes / done.seconds / done.gpus,
        **_held(deployment, memory, job, capacity),
    }  # fmt: skip
    return done, memory, row


def _parts(done: Apartness) -> dict[str, float]:
    """Columns of a step: seconds in which a GPU runs kernels of a class, in the mean of both sides."""
    seconds = dict.fromkeys(COLUMNS, 0.0)
    for made, gpus in zip(done.step.stages, (done.attention_gpus, done.expert_gpus), strict=True):
        for block, count in made:
            for part in block.parts:
                seconds[column_of(part)] += part.exposed * count * gpus / done.gpus
    seconds["host_s"] = done.step.host
    kernels = sum(seconds[name] for name in ("gemm_s", "attention_s", "experts_s", "memory_bound_s"))
    spoken = sum(value for name, value in seconds.items() if name.startswith("exposed_"))
    return {
        "step_s": done.seconds, "compute_s": kernels, "exposed_communication_s": spoken,
        "idle_s": max(done.seconds - sum(seconds.values()), 0.0), **seconds,
        "host_sequences_s": done.step.each_sequence,
    }  # fmt: skip


def _held(deployment: Deployment, memory: tuple[ServingMemory, ...], job: MixedStep, capacity: float) -> dict[str, Any]:
    """Columns of the memory: of the fuller side, and what the caches of the attention side have room for."""
    worst, attends, plan = fullest(memory), memory[0], deployment.plan
    each = cache_bytes(deployment.served, job.context)
    room = max(attends.room + attends.kv_cache, 0.0)
    return {
        "weights_bytes_per_gpu": worst.weights, "memory_capacity_bytes": capacity,
        "weights_fit": all(one.weights <= one.budget for one in memory),
        "memory_bytes_per_gpu": worst.total, "memory_fits": worst.fits,
        "kv_cache_memory_bytes": worst.kv_cache, "activations_memory_bytes": worst.activations,
        "logits_memory_bytes": worst.logits, "graphs_memory_bytes": worst.graphs,
        "reserve_memory_bytes": worst.reserve, "host_memory_bytes": 0.0,
        "kv_bytes_per_token": each * plan.tp / job.context,
        "cache_tokens": int(room / each * job.context) if each else 0,
        "most_sequences": int(room / each) * plan.dp if each else 0,
        "smallest_gpus": 0,
        "longest_context": min(int(room / each * job.context), deployment.config.max_tokens or 10**12) if each else 0,
    }  # fmt: skip
