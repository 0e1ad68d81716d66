"""Inference, from what a user asks to a row of numbers: deployed, simulated, taken apart, with memory and intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from simgpu.analysis.comparison import ratio_range, unsure
from simgpu.analysis.inference import anatomy_of, floor_of, products_of
from simgpu.analysis.uncertainty import Range, range_of
from simgpu.errors import InputError, MisfitError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.derive import is_slice
from simgpu.model.config import TransformerConfig
from simgpu.model.serving import Group
from simgpu.plan.parallelism import Plan
from simgpu.plan.serving_fit import smallest
from simgpu.plan.serving_memory import (
    PARTS,
    ServingMemory,
    cache_bytes,
    cache_tokens,
    fullest,
    longest_context,
    most_sequences,
    serving_memory,
)
from simgpu.simulation.inference_apart import apart_row
from simgpu.timing.kernels import Uncertainty
from simgpu.timing.uncertainty import RunSpread, WholeRun, distance_of, run_spread
from simgpu.workload.execution import Execution
from simgpu.workload.inference.deploying import deploy, speculation_of
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.generation import Generation, Run, generate, prefill_runs
from simgpu.workload.inference.jobs import Apart, Inference, InferenceJob, MixedStep, Serving
from simgpu.workload.inference.open_load import serve_at_rate
from simgpu.workload.inference.serving import Load, serve
from simgpu.workload.inference.timeline import timeline_of
from simgpu.workload.inference.vision import Pictures, look, pictures_of
from simgpu.workload.options import RunOptions
from simgpu.workload.runtimes import Runtime


@dataclass(frozen=True)
class Inferred:
    """A simulated job of inference: its timeline, the memory of each pipeline stage, and its row."""

    execution: Execution
    memory: tuple[ServingMemory, ...]
    row: dict[str, Any]
    prompts: Execution | None = None  # of a server: the prefill of one prompt


def infer(
    cluster: Cluster, job: InferenceJob, model: TransformerConfig | None, plan: Plan, how: RunOptions, run: Runtime,
    draft: TransformerConfig | None = None,
) -> Inferred:  # fmt: skip
    """Simulate a job of inference in the runtime `run`. Raises `InputError` (key only) for what cannot be run."""
    pictures = pictures_of(job, model)
    if pictures is not None:
        key = "prefill" if isinstance(job, MixedStep) else "prompt"
        job = job.model_copy(update={key: getattr(job, key) + pictures.tokens})
    deployment = deploy(cluster, job, model, plan, run, how)
    if isinstance(job, MixedStep) and job.apart is not None:
        return _apart(deployment, job, job.apart, how.require_fit)
    if isinstance(job, MixedStep):
        return _mixed(deployment, job, how.require_fit, pictures)
    if isinstance(job, Inference):
        return _batch(deployment, job, draft, how.require_fit, pictures)
    return _served(deployment, job, how.require_fit, pictures)


# ---- one batch ---------------------------------------------------------------------------------------


def _batch(
    deployment: Deployment, job: Inference, draft: TransformerConfig | None, require_fit: bool,
    pictures: Pictures | None = None,
) -> Inferred:  # fmt: skip
    """A batch from its prompts to its last tokens."""
    plan = deployment.plan
    if job.batch < plan.dp:
        raise InputError(f"{plan.dp} replicas are more than the {job.batch} sequences of the batch", key="plan.dp")
    if plan.cp > 1 and job.prompt % (2 * plan.cp):
        problem = f"{plan.cp} ranks with two chunks each do not divide {job.prompt} tokens"
        raise InputError(problem, key="plan.cp")
    speculation = speculation_of(deployment, job.speculative, draft, job.prompt + job.output)
    if speculation is not None:
        deployment = replace(deployment, drafter=speculation.drafter.served)
    local, cached = ceil(job.batch / plan.dp), int(job.prompt * job.prefix_hit)
    memory = memory_of(deployment, job.batch, job.prompt + job.output, require_fit)
    seen = look(deployment, pictures) if pictures else None
    done = generate(deployment, local, job.prompt, job.output, cached, job.chunk, speculation, seen)
    execution = timeline_of(done.prefill, done.decode)
    tokens = job.batch * job.output
    row = {
        **asked(deployment, batch=job.batch, prompt=job.prompt, output=job.output, cached=cached),
        **times(done.total, [*done.prefill, *done.decode], deployment),
        **_per_token(done.ttft, done.tpot, done.total, job.output),
        "prefill_s": done.prefill_s,
        "decode_s": done.decode_s,
        "prefill_tokens_per_s": job.batch * (job.prompt - cached) / done.prefill_s,
        "output_tokens_per_s": job.batch * (job.output - 1) / done.decode_s if done.decode_s else 0.0,
        "evaluated_steps": done.evaluations,
        **_rates(deployment, tokens, job.batch * (job.prompt + job.output), done.total, done.tpot),
        **_bound(done),
        **_alone(deployment, job, done, execution, pictures),
        **held(deployment, memory, job.batch, job.prompt + job.output),
    }
    if pictures is not None and seen is not None:
        row |= {"image_tokens": pictures.tokens, "vision_s": local * seen.seconds}
    if speculation is not None:
        row["tokens_per_cycle"] = speculation.expected
    row |= _ends(deployment, row, [*done.prefill, *done.decode])
    return Inferred(execution, memory, row)


def _alone(
    deployment: Deployment, job: Inference, done: Generation, execution: Execution, pictures: Pictures | None = None
) -> dict[str, Any]:
    """Columns of the same batch on one GPU, without its memory limit, and speedup and efficiency, with P10 and P90.

    There are none with a draft model.
    """
    gpus = deployment.plan.world
    if gpus == 1:
        ends = _ends(deployment, {"step_s": done.total}, [*done.prefill, *done.decode])
        return _against_one(done.total, done.total, 1, ends, Range(1.0, 1.0))
    if job.speculative is not None:
        return {}
    one = replace(deployment, plan=Plan(), drafter=None).fresh().shared()
    seen = look(one, pictures) if pictures else None
    cached = int(job.prompt * job.prefix_hit)
    alone = generate(one, job.batch, job.prompt, job.output, cached, job.chunk, look=seen)
    ends = _ends(one, {"step_s": alone.total}, [*alone.prefill, *alone.decode])
    errors = [
        unsure(run, _named(of, seconds), "step_s", of.plan, of.cluster.kernel)
        for run, of, seconds in (
            (timeline_of(alone.prefill, alone.decode), one, alone.total),
            (execution, deployment, done.total),
        )
    ]
    return _against_one(alone.total, done.total, gpus, ends, ratio_range(errors[0], errors[1]))


def _named(deployment: Deployment, seconds: float) -> dict[str, Any]:
    """Columns of a run that its errors depend on, with its seconds."""
    return {
        "workload": "inference", "gpu": deployment.cluster.gpu.name, "runtime": deployment.runtime.name,
        "pp": deployment.plan.pp, "step_s": seconds,
    }  # fmt: skip


def _against_one(alone: float, total: float, gpus: int, ends: Mapping[str, float], ratio: Range) -> dict[str, float]:
    """Columns that compare `total` with the seconds of one GPU; `ratio` are the ends of their ratio over its value."""
    values = {"single_gpu_step_s": alone, "efficiency": alone / gpus / total, "speedup": alone / total}
    columns = values | {"ideal_step_s": alone / gpus}
    for end in ("p10", "p90"):
        columns[f"single_gpu_step_s_{end}"] = ends[f"step_s_{end}"]
        for name in ("efficiency", "speedup"):
            columns[f"{name}_{end}"] = values[name] * getattr(ratio, end)
    return columns


# ---- one step ----------------------------------------------------------------------------------------


def _mixed(deployment: Deployment, job: MixedStep, require_fit: bool, pictures: Pictures | None = None) -> Inferred:
    """One step with new tokens of a prompt and sequences that decode."""
    plan = deployment.plan
    if plan.cp > 1 and job.prefill and job.decodes:
        raise InputError(f"{plan.cp}: prompts and decodes cannot share a step of context parallelism", key="plan.cp")
    groups = [Group(1, job.prefill, job.past + job.prefill)] if job.prefill else []
    groups += [Group(ceil(job.decodes / plan.dp), 1, max(job.context, 2))] if job.decodes else []
    step = deployment.step(*groups)
    seen = look(deployment, pictures) if pictures else None
    runs = [Run(one, 1, one.seconds, 1.0) for one in (seen, step) if one]
    seconds = sum(one.seconds for one in runs)
    tokens = job.context if job.decodes else job.past + job.prefill
    sequences = job.decodes + bool(job.prefill)
    memory = memory_of(deployment, sequences, tokens, require_fit)
    row = {
        **asked(deployment, prefill=job.prefill, past=job.past, decodes=job.decodes, context=job.context),
        **times(seconds, runs, deployment),
        **held(deployment, memory, sequences, tokens),
    }
    row["total_tokens_per_s"] = (job.prefill * plan.dp + job.decodes) / seconds
    if job.decodes:
        row["output_tokens_per_s_per_gpu"] = job.decodes / seconds / plan.world
    if pictures is not None and seen is not None:
        row |= {"image_tokens": pictures.tokens, "vision_s": seen.seconds}
    row |= _ends(deployment, row, runs)
    return Inferred(timeline_of(runs, []), memory, row)


def _apart(deployment: Deployment, job: MixedStep, asked_for: Apart, require_fit: bool) -> Inferred:
    """One step of decodes whose experts are on GPUs of their own."""
    done, memory, columns = apart_row(deployment, job, asked_for, require_fit)
    runs = [Run(done.step, 1, done.seconds, 1.0)]
    given = asked(deployment, prefill=0, past=0, decodes=job.decodes, context=job.context)
    sides = zip(done.step.stages, (deployment.plan, Plan(dp=done.expert_gpus)), strict=True)
    alone = [(Run(replace(done.step, stages=(made,)), 1, done.seconds), plan) for made, plan in sides]
    made = [products_of([run], plan) for run, plan in alone]
    flop, each = sum(one.flops for one in made), 1 / done.seconds / done.gpus
    rates = {"flop": flop, "flop_per_s_per_gpu": flop * each, "mfu": sum(one.seconds for one in made) * each}
    row = {**given, **columns, **rates}
    row |= _ends(deployment, row, runs, beside=((done.transfer, done.way),))
    return Inferred(timeline_of(runs, []), memory, row)


# ---- a server ----------------------------------------------------------------------------------------


def _served(deployment: Deployment, job: Serving, require_fit: bool, pictures: Pictures | None = None) -> Inferred:
    """A server in its steady state, under clients or at a rate."""
    plan, cached = deployment.plan, int(job.prompt * job.prefix_hit)
    if job.concurrency is not None and job.concurrency < plan.dp:
        raise InputError(f"{plan.dp} replicas are more than {job.concurrency} requests", key="plan.dp")
    if plan.cp > 1:
        raise InputError(f"{plan.cp}: a server with context parallelism is not modelled; expected 1", key="plan.cp")
    memory = memory_of(deployment, plan.dp, job.prompt + job.output, require_fit)
    vision = look(deployment, pictures).seconds if pictures else 0.0
    if job.concurrency is not None:
        drawn, waves = job.lengths == "drawn", job.waves or 0
        load = Load(job.concurrency, job.prompt, job.output, cached, look=vision, drawn=drawn, waves=waves)
        done = serve(deployment, load)
    else:
        assert job.rate is not None
        done = serve_at_rate(deployment, job.rate, job.prompt, job.output, cached, vision)
    load = done.load
    whole = max(round(done.batch), 1)
    together = whole / sum(share * step.sequences for step, share in done.decode)
    runs = [Run(step, (load.output - 1) * share, done.tpot, 1.0, together=together) for step, share in done.decode]
    batch = whole * plan.dp
    memory = serving_memory(deployment.served, batch, load.prompt + load.output // 2, capacity_of(deployment))
    row = {
        **asked(deployment, batch=batch, concurrency=load.concurrency, prompt=load.prompt, output=load.output,
                 cached=load.cached),
        **times(done.total, runs, deployment, per=1.0 / max(load.output - 1, 1)),
        **_per_token(done.ttft, done.tpot, done.total, load.output),
        "requests_per_s": done.requests_per_s,
        "output_tokens_per_s": done.requests_per_s * load.output,
        "interference_s": done.interference_s,
        "saturated": done.saturated,
        **_rates(deployment, done.requests_per_s * load.output * done.total,
                 done.requests_per_s * (load.output + load.prompt) * done.total, done.total, done.tpot),
        **held(deployment, memory, batch, load.prompt + load.output),
    }  # fmt: skip
    if pictures is not None:
        row |= {"image_tokens": pictures.tokens, "vision_s": vision}
    row |= _ends(deployment, row, runs, load=job.concurrency != 1, queue=done.saturated)
    prompts = timeline_of(prefill_runs(deployment, 1, load.prompt, load.cached), [])
    return Inferred(timeline_of([], runs), memory, row, prompts)


# ---- columns -----------------------------------------------------------------------------------------


def asked(deployment: Deployment, **load: float) -> dict[str, Any]:
    """What was simulated."""
    plan = deployment.plan
    conversion = " (weights converted)" if deployment.precision.converted else ""
    return {
        "pp": plan.pp,
        "cp": plan.cp,
        "ep": plan.ep,
        "runtime": deployment.runtime.name,
        "runtime_version": deployment.runtime.version,
        "precision": deployment.precision.name + conversion,
        "kv_cache": deployment.kv_dtype or deployment.dtype,
        **load,
    }


def times(total: float, runs: Sequence[Run], deployment: Deployment, per: float = 1.0) -> dict[str, Any]:
    """Columns of the parts of `total`, s, with FLOPs and utilization.

    Seconds of `runs` are multiplied by `per`: 1 over the output tokens where `total` is the time of a server's token.
    """
    anatomy = anatomy_of(runs)
    parts = {name: value * per for name, value in anatomy.items()}
    known = sum(parts.values())
    done, gpus = products_of(runs, deployment.plan), deployment.plan.world
    seconds = total if per == 1.0 else sum(run.seconds * run.count for run in runs) * per
    kernels = ("gemm_s", "attention_s", "experts_s", "memory_bound_s")
    communication = sum(value for name, value in parts.items() if name.startswith("exposed_"))
    each = sum(run.step.each_sequence * run.count for run in runs) * per
    return {
        "step_s": total,
        "compute_s": sum(parts[name] for name in kernels),
        "exposed_communication_s": communication,
        "idle_s": max(seconds - known, 0.0),
        **parts,
        "host_sequences_s": each,
        "flop": done.flops * per,
        "flop_per_s_per_gpu": done.flops * per / seconds / gpus,
        "mfu": done.seconds * per / seconds / gpus,
    }


def _per_token(ttft: float, tpot: float, total: float, output: int) -> dict[str, float]:
    """Time to the first token, to each after it, and the whole over all tokens."""
    return {"ttft_s": ttft, "tpot_s": tpot, "normalized_latency_s": total / output}


def _rates(deployment: Deployment, output: float, total: float, seconds: float, tpot: float) -> dict[str, float]:
    """Tokens per second: output, of each user and GPU, and with the prompts."""
    return {
        "output_tokens_per_s_per_user": 1 / tpot if tpot else 0.0,
        "output_tokens_per_s_per_gpu": output / seconds / deployment.plan.world,
        "total_tokens_per_s": total / seconds,
    }


def _bound(done: Generation) -> dict[str, float]:
    """Tokens per second of a user, if kernels ran at the speed of light and there were nothing else."""
    if not done.decode:
        return {}
    least = sum(floor_of(run) * run.count for run in done.decode)
    return {"speed_of_light_tokens_per_s_per_user": (done.output - 1) / least}


def capacity_of(deployment: Deployment) -> float:
    """Bytes of the memory of a GPU."""
    return deployment.cluster.gpu.memory.capacity.si


def memory_of(deployment: Deployment, batch: int, tokens: int, require_fit: bool) -> tuple[ServingMemory, ...]:
    """Memory of a rank of every stage. Raises `MisfitError` where it does not fit and has to."""
    memory = serving_memory(deployment.served, batch, tokens, capacity_of(deployment))
    if require_fit and not fullest(memory).fits:
        from simgpu.plan.serving_fit import DEGREES, misfit_text

        most, join = deployment.cluster.gpu_count, 1 if is_slice(deployment.cluster.gpu) else DEGREES[-1]
        text = misfit_text(deployment.served, batch, tokens, capacity_of(deployment), most, join=join)
        raise MisfitError(text, key="plan")
    return memory


def held(deployment: Deployment, memory: Sequence[ServingMemory], batch: int, tokens: int) -> dict[str, Any]:
    """Columns of the memory of the fullest rank, and of what else would fit beside the weights."""
    worst, served, capacity = fullest(memory), deployment.served, capacity_of(deployment)
    sequences = most_sequences(served, tokens, capacity)
    engine = deployment.runtime.style == "fused"  # others take memory as a sequence grows
    pool = {"cache_tokens": cache_tokens(served, batch, tokens, capacity)} if engine else {}
    return {
        "weights_bytes_per_gpu": worst.weights,
        "memory_capacity_bytes": capacity,
        "weights_fit": worst.weights <= worst.budget,
        "memory_bytes_per_gpu": worst.total,
        "memory_fits": worst.fits,
        **{f"{part}_memory_bytes": getattr(worst, part) for part in PARTS if part != "weights"},
        "host_memory_bytes": worst.host,
        "kv_bytes_per_token": sum(cache_bytes(served, tokens, s) for s in range(served.plan.pp))
        * _copies(served.plan)
        / tokens,
        **pool,
        "most_sequences": sequences,
        "longest_context": longest_context(served, served.plan.dp, capacity),
        "smallest_gpus": smallest(replace(served, plan=Plan()), capacity, tokens).gpus or 0,
    }


def _copies(plan: Plan) -> int:
    """Ranks that hold parts of the cache of a sequence, all stages apart."""
    return plan.tp * plan.cp


# ---- intervals ---------------------------------------------------------------------------------------

_MEASURED_AS = {"ttft_s": ("ttft", "prefill"), "tpot_s": ("tpot", "decode"), "step_s": ("e2e", "decode")}


def _ends(
    deployment: Deployment, row: dict[str, Any], runs: Iterable[Run], load: bool = False, queue: bool = False,
    beside: Sequence[tuple[float, Uncertainty]] = (),
) -> dict[str, Any]:  # fmt: skip
    """P10 and P90 of the times of a row, s, by column, and how far the run is from measured ones, in words.

    They come from residuals of whole runs of this runtime, or from those of its kernels where these are wider; the
    farther a run is from those that were measured, the wider they are. `load` is that of a server, `queue` that its
    requests wait without bound, `beside` are parts that are in none of the runs.
    """
    kernels = kernel_ends(runs, beside)
    found: dict[str, Any] = {}
    layers: set[str] = set()
    for name, (served, alone) in _MEASURED_AS.items():
        value = row.get(name)
        if not value:
            continue
        op = alone if deployment.runtime.style != "fused" else served
        spread = run_spread_of(deployment, op, value, kernels, load, queue and name == "ttft_s")
        found[f"{name}_p10"], found[f"{name}_p90"] = value * spread.low, value * spread.high
        layers |= spread.layers
    found["distance"] = distance_of(deployment.cluster.kernel, layers, deployment.runtime.engine)
    return found


def run_spread_of(
    deployment: Deployment, op: str, seconds: float, kernels: Range, load: bool, queue: bool = False
) -> RunSpread:
    """How sure a time of a whole run is, whose kernels alone have the ends `kernels`."""
    run = deployment.runtime
    asked = WholeRun(
        library=run.library(deployment.plan.pp),
        architecture=deployment.cluster.kernel.architecture,
        regime=deployment.cluster.kernel.regime("gemm"),
        kernels=(kernels.p10, kernels.p90),
        ends=run.decode_ends if op == "decode" else (1.0, 1.0),
        version=run.measured,
        load=load,
        queue=queue,
        steps=deployment.cluster.kernel.steps(run.engine)[1],
        scatter=deployment.cluster.kernel.scatter(run.engine),
    )
    return run_spread(op, seconds, asked)


def kernel_ends(runs: Iterable[Run], beside: Sequence[tuple[float, Uncertainty]] = ()) -> Range:
    """P10 and P90 over the middle of the kernels and collectives of some steps, and of parts beside them."""
    parts, certain = list(beside), 0.0
    for run in runs:
        certain += run.step.host * run.count
        for made in run.step.stages:
            parts += [
                (part.exposed * times * run.count, part.activity.uncertainty)
                for block, times in made
                for part in block.parts
            ]
    total = sum(seconds for seconds, _ in parts) + certain
    if not total:
        return Range(1.0, 1.0)
    ends = range_of(parts, certain)
    return Range(ends.p10 / total, ends.p90 / total)
