"""A network of stages, from what a user asks to a row of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.analysis.uncertainty import Range, range_of
from simgpu.errors import InputError, MisfitError
from simgpu.hardware.cluster import Cluster
from simgpu.model.networks.pipeline import Pipeline
from simgpu.plan.parallelism import Plan
from simgpu.simulation.memory_use import MemoryUse
from simgpu.timing.kernels import KernelModel, Uncertainty
from simgpu.workload.execution import Execution
from simgpu.workload.links import Links
from simgpu.workload.networks.job import Network
from simgpu.workload.networks.passes import Asked, Pass, Runner, asked, check_machine, timeline
from simgpu.workload.networks.stacks import Stack, stack
from simgpu.workload.options import RunOptions

RESERVE = 0.7e9
"""Bytes of a CUDA context and of the libraries' workspaces (runtimes/eager@4.36.yaml, reserve)."""

CLASSES = {"gemm": "gemm_s", "attention": "attention_s"}
HOST = Uncertainty("host", 0.8, 1.7, 1.0)
"""Of host time of eager code: decode_ends of runtimes/eager@4.36.yaml."""


@dataclass(frozen=True)
class Ran:
    """A simulated network: its timeline, its memory, its row."""

    execution: Execution
    memory: MemoryUse
    row: dict[str, Any]


def run_network(cluster: Cluster, job: Network, pipeline: object, plan: Plan, how: RunOptions) -> Ran:
    """Simulate a network of stages. Raises `InputError` (key only) for what cannot be run."""
    if not isinstance(pipeline, Pipeline):
        name = getattr(pipeline, "name", "")
        given = f"'{name}' is a language model" if name else "this key is missing"
        raise InputError(f"{given}; a workload of kind 'network' needs a network of stages, such as sdxl", key="model")
    check_machine(plan, cluster, job, pipeline)
    what = asked(job, pipeline)
    training = job.mode == "training"
    used = stack(job.stack or (pipeline.fields.training_stack if training else pipeline.fields.stack))
    kernels = KernelModel(
        cluster, how.sustained(job), attention=_library(used, cluster), stream_slowdown=used.stream_slowdown,
        training=True,
    )  # fmt: skip
    links = Links(cluster, plan, kernels, how.algorithm, how.protocol)
    runner = Runner(job, what, pipeline, plan, used, kernels, links, how.dtype)
    passes = [runner.train()] if training else [runner.run(stage) for stage in pipeline.stages]
    execution = timeline(passes)
    memory = _memory(passes, cluster)
    if how.require_fit and not memory.fits:
        raise MisfitError(f"needs {memory.words()}; a smaller batch or size would do", key="workload.batch")
    row = _row(runner, passes, execution, memory)
    return Ran(execution, memory, row)


def _library(used: Stack, cluster: Cluster) -> str:
    known = cluster.kernel.libraries("attention")
    return used.attention if used.attention in known else ""


def _memory(passes: Sequence[Pass], cluster: Cluster) -> MemoryUse:
    """All weights stay on the GPU; activations are those of the stage that needs most."""
    weights = sum(one.weights for one in passes)
    activations = max(one.activations for one in passes)
    parts = {"weights": weights, "activations": activations, "reserve": RESERVE}
    if (held := passes[0].trained) is not None:
        parts |= {"gradients": held.gradients, "optimizer": held.optimizer}
    capacity, peak = cluster.gpu.memory.capacity.si, sum(parts.values())
    return MemoryUse(peak, parts, capacity, peak <= capacity)


def _row(runner: Runner, passes: Sequence[Pass], execution: Execution, memory: MemoryUse) -> dict[str, Any]:
    job, what, pipeline, plan = runner.job, runner.what, runner.pipeline, runner.plan
    step, gpus = execution.step, plan.world
    flop = sum(one.flops for one in passes)
    times = _parts(passes)
    row = {
        "cp": plan.cp,
        "stack": runner.stack.name,
        "batch": job.batch,
        **_shape(what, pipeline),
        "step_s": step,
        "compute_s": sum(times[name] for name in ("convolution_s", "gemm_s", "attention_s", "memory_bound_s")),
        "exposed_communication_s": times["exposed_cp_s"] + times["exposed_data_s"],
        "idle_s": times["host_s"],
        **_rates(passes, job, what, pipeline, step),
        **{f"{role}_s": seconds for role, seconds in _roles(passes).items()},
        **times,
        "flop": flop,
        "flop_per_s_per_gpu": flop / step / gpus,
        "mfu": sum(one.ideal * one.count for one in passes) / gpus / step,
        "parameters": sum(one.graph.weights * one.stage.fields.copies for one in passes),
        "weights_bytes_per_gpu": memory.parts["weights"],
        "memory_capacity_bytes": memory.budget,
        "weights_fit": memory.parts["weights"] <= memory.budget,
        "memory_bytes_per_gpu": memory.peak,
        "memory_fits": memory.fits,
        **{f"{name}_memory_bytes": size for name, size in memory.parts.items() if name != "weights"},
    }
    return {**row, **_ends(passes, row, runner.stack)}


def _shape(what: Asked, pipeline: Pipeline) -> dict[str, Any]:
    fields = pipeline.fields
    shape: dict[str, Any] = {}
    if fields.unit in ("image", "video"):
        shape |= {"height": what.height, "width": what.width}
    if fields.unit == "video":
        shape["frames"] = what.frames
    if fields.steps:
        shape["denoising_steps"] = what.steps
    return shape


def _rates(passes: Sequence[Pass], job: Network, what: Asked, pipeline: Pipeline, step: float) -> dict[str, float]:
    """What comes out per second, by what the network makes."""
    unit, each = pipeline.fields.unit, job.batch / step
    rates = {"item_s": step / job.batch, "items_per_s": each}
    denoiser = sum(one.seconds for one in passes if one.stage.fields.role == "denoiser")
    if unit == "image":
        rates["images_per_s"] = each
    if denoiser and job.mode == "inference":
        rates["iterations_per_s"] = job.batch * what.steps / denoiser
    if unit == "audio":
        rates["audio_s_per_s"] = each * (job.seconds or pipeline.fields.window or 0.0)
    if unit == "text":
        rates |= {"embeddings_per_s": each, "tokens_per_s": each * what.tokens}
    return rates


def _roles(passes: Sequence[Pass]) -> dict[str, float]:
    found: dict[str, float] = {}
    for one in passes:
        if (role := one.stage.fields.role) != "network":
            found[role] = found.get(role, 0.0) + one.seconds
    return found


def _parts(passes: Sequence[Pass]) -> dict[str, float]:
    """Seconds by class; the host's is what no kernel and no collective fills."""
    names = ("convolution_s", "gemm_s", "attention_s", "memory_bound_s", "exposed_cp_s", "exposed_data_s", "host_s")
    seconds = dict.fromkeys(names, 0.0)
    for one in passes:
        for part, times in one.parts():
            activity = part.activity
            name = CLASSES.get(activity.uncertainty.group, "memory_bound_s")
            if activity.kind == "convolution":
                name = "convolution_s"
            if activity.category != "compute":
                name = "exposed_cp_s" if activity.group == "cp" else "exposed_data_s"
            seconds[name] += part.exposed * times
        seconds["host_s"] += max(one.seconds - one.busy, 0.0)
    return seconds


def _ends(passes: Sequence[Pass], row: dict[str, Any], used: Stack) -> dict[str, Any]:
    """P10 and P90 of the step and of its kernels: those of the kernels and the host, and what whole runs are off by."""
    every = [pair for one in passes for pair in one.parts() if pair[0].activity.category == "compute"]
    kernels = [(part.seconds * times, part.activity.uncertainty) for part, times in every]
    own = range_of(kernels)
    step = row["step_s"]
    whole = range_of([*kernels, (row["host_s"], HOST)], max(step - sum(s for s, _ in kernels) - row["host_s"], 0.0))
    low = min(whole.p10 / step, used.ends[0])
    high = max(whole.p90 / step, used.ends[1])
    least = sum(part.activity.time.floor * part.runs * times for part, times in every if part.activity.time is not None)
    found = Range(min(max(step * min(low, 1.0), least), step), step * max(high, 1.0))
    compute = row["compute_s"]
    return {
        "step_s_p10": found.p10, "step_s_p90": found.p90,
        "compute_s_p10": min(own.p10, compute), "compute_s_p90": max(own.p90, compute),
    }  # fmt: skip
