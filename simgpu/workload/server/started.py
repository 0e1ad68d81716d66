"""How an engine is started for a job `traffic`: its rules, its steps, and what would not start."""

from __future__ import annotations

from math import exp, inf
from typing import Any

from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.plan.serving_memory import cache_bytes, cache_tokens
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.speculation import Speculation
from simgpu.workload.inference.vision import look, pictures_of
from simgpu.workload.server.jobs import MOST_REQUESTS, Traffic
from simgpu.workload.server.pieces import Pieces
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.slots import Loading
from simgpu.workload.server.steps import Steps, steps_of
from simgpu.workload.server.tier_rules import host_copy_s, levels_of


def steps_for(deployment: Deployment, job: Traffic, speculation: Speculation | None = None) -> Steps:
    """The steps of the engine of a job."""
    return steps_of(deployment, tuple(job.graph_sizes or ()), speculation)


def rules_of(deployment: Deployment, job: Traffic, speculation: Speculation | None = None) -> Rules:
    """The rules of the engine, where the job says nothing else. Raises `InputError` (key only)."""
    run, pieces = deployment.runtime, Pieces(deployment, (), speculation)
    block = job.block or run.block_tokens
    pictures = pictures_of(job, deployment.config)
    images = pictures.tokens if pictures else 0
    longest = job.longest + job.turns * images
    pool = job.cache_tokens
    if pool is None:
        capacity = deployment.cluster.gpu.memory.capacity.si
        pool = cache_tokens(deployment.served, deployment.plan.dp, max(longest, 2), capacity)
    if pool < block:
        raise InputError(
            f"the cache holds {pool:,} tokens; expected more memory, or fewer bytes of weights", key="plan"
        )
    if longest > pool // block * block:
        problem = f"requests of {longest:,} tokens are more than the {pool:,} tokens of the cache"
        raise InputError(problem, key="workload.prompt")
    if job.max_model_len is not None and job.max_model_len > pool // block * block:
        problem = f"{job.max_model_len:,} tokens are more than the {pool:,} that the cache holds; the engine does not"
        raise InputError(f"{problem} start: expected less, or more memory", key="workload.max_model_len")
    watermark = run.watermark if job.watermark is None else job.watermark
    if -(-longest // block) > pool // block - int(watermark * (pool // block)):
        problem = f"{watermark:g} of the cache stays free, and requests of {longest:,} tokens are more than the rest"
        raise InputError(f"{problem}: they would wait for ever", key="workload.watermark")
    keeps = run.prefix_cache if job.prefix_cache is None else job.prefix_cache
    return Rules(
        chunk=deployment.chunk,
        seats=deployment.seats or pool,
        blocks=pool // block,
        block=block,
        keeps=keeps,
        mixes=run.mixes,
        ahead=pieces.hides,
        watermark=watermark,
        reserve=run.reserved,
        reserve_floor=run.reserved_least,
        reserve_steps=run.reserved_steps,
        front_s=run.first_s if job.front_s is None else job.front_s,
        image_tokens=images,
        look_s=look(deployment, pictures).seconds if pictures else 0.0,
        policy=job.policy,
        preempts=job.preempts,
        brings=pieces.brings,
        queries=pieces.queries,
        **_swap(deployment, job),
        adapters=_loading(deployment, job),
        tiers=levels_of(deployment, job, steps_for(deployment, job, speculation)) if job.tiers else None,
    )


def _swap(deployment: Deployment, job: Traffic) -> dict[str, Any]:
    """Tokens that the host's memory takes in, and seconds of each on the way: by the host link of each GPU."""
    if not job.swap_bytes:
        return {}
    port = deployment.cluster.gpu.host_link
    rate = (
        port.bandwidth.si if port.bandwidth else deployment.cluster.links[port.link].lane_bandwidth.si * port.lanes.si
    )
    each = max(cache_bytes(deployment.served, 1024, stage) for stage in range(deployment.plan.pp)) / 1024
    return {"swap_tokens": int(job.swap_bytes / each), "swap_s": each / rate}


def _loading(deployment: Deployment, job: Traffic) -> Loading | None:
    """How adapters come to the GPUs: a copy for each half of each matrix of a layer, over the host link of each GPU."""
    adapters, asked = deployment.adapters, job.lora
    if adapters is None or asked is None:
        return None
    size = deployment.adapter_bytes(adapters.own)
    copies = 2 * deployment.adapter_matrices
    host_s = copies * host_copy_s(deployment, size / copies)
    read = asked.disk_latency + size * deployment.plan.world / deployment.plan.dp / (asked.disk or inf)
    return Loading(adapters.slots, min(asked.max_cpu_loras or adapters.count, adapters.count), host_s, read)


def check_traffic(deployment: Deployment, job: Traffic) -> None:
    """Raise `InputError` (key only) for a server that is not modelled request by request."""
    check_engine(deployment, job)
    plan, together, prompts = deployment.plan, deployment.experts.replicas, job.prefill_replicas
    if together > 1 and (prompts % together or plan.dp % together):
        problem = f"{prompts} of {plan.dp} replicas: {together} share experts and step together"
        raise InputError(f"{problem}; expected a multiple of {together}", key="workload.prefill_replicas")
    taken = {takes: sum(one.dp for one in job.pools or () if one.takes == takes) for takes in ("prompts", "decodes")}
    if (prompts and plan.dp - prompts + taken["decodes"] <= 0) or prompts > plan.dp:
        problem = f"{prompts} of {plan.dp} replicas leave none for decodes; expected fewer"
        raise InputError(problem, key="workload.prefill_replicas")
    if job.apart and not prompts + taken["prompts"]:
        problem = "no replica takes prompts; expected prefill_replicas of the scenario's own, or a pool that takes them"
        raise InputError(problem, key="workload.pools")
    if job.clients is not None and job.clients < plan.dp:
        raise InputError(f"{plan.dp} replicas are more than {job.clients} clients", key="plan.dp")
    _check_operators(deployment, job)


def check_engine(deployment: Deployment, job: Traffic) -> None:
    """Raise `InputError` (key only) for an engine, or one of a pool, that is not modelled request by request."""
    plan, run = deployment.plan, deployment.runtime
    if run.style != "fused":
        problem = f"{run.name} does not batch continuously; expected vllm, sglang or trtllm"
        raise InputError(problem, key="workload.runtime")
    together = deployment.experts.replicas
    if deployment.adapters is not None:
        _check_adapters(plan, job, together)
    if plan.pp > 1 and together > 1:
        problem = f"{plan.pp} stages of replicas that share experts are not followed request by request; expected 1"
        raise InputError(problem, key="plan.pp")
    if job.images is not None and (plan.pp > 1 or together > 1):
        problem = "images are not followed through stages, or through replicas that step together"
        raise InputError(f"{problem}; leave them out", key="workload.images")


LEAST = 1e-3
"""Share of the tries of a request between failures that end with an answer, below which a run is refused."""


def check_end(job: Traffic, steps: Steps) -> None:
    """Raise `InputError` (key only) for a run that would not end: too many requests, or none that is ever answered."""
    prompt, output = job.served().prompt, job.served().output
    alone = steps.mixed(0, 0, [(prompt, 0)]) + (output - 1) * steps.decode(1, prompt + output // 2)
    if job.clients is not None and job.requests is None and job.duration_s is not None:
        most = job.clients * job.duration_s / (alone + job.think_s)
        if most > MOST_REQUESTS:
            problem = f"{job.clients:,} clients may send {most:.3g} requests in {job.duration_s:g} s"
            raise InputError(f"{problem}; expected at most {MOST_REQUESTS:.0e}", key="workload.duration_s")
    failures = job.failures
    if failures is not None and exp(-alone / failures.every_s) < LEAST and failures.retries * job.expected > 1e6:
        problem = f"a request takes {alone:.3g} s alone, and an engine fails every {failures.every_s:g} s"
        raise InputError(f"{problem}: hardly any would be answered, in no time", key="workload.failures.every_s")


def _check_adapters(plan: Plan, job: Traffic, together: int) -> None:
    """Raise `InputError` (key only) for a server whose adapters are not followed."""
    held = (
        (plan.pp > 1, "stages of a pipeline"),
        (together > 1, "replicas that step together"),
        (job.apart, "prompts apart from decodes"),
        (bool(job.pools), "pools of other GPUs"),
        (job.speculative is not None, "drafts"),
        (job.warmups > 0, "warmups"),
    )
    for there, what in held:
        if there:
            problem = f"adapters are not followed with {what}; leave one of both out"
            raise InputError(problem, key="workload.lora")


def _check_operators(deployment: Deployment, job: Traffic) -> None:
    """Raise `InputError` (key only) for operators that contradict each other."""
    scaling, dp = job.scaling, deployment.plan.dp
    if scaling is not None:
        if scaling.least > dp:
            problem = f"{scaling.least} replicas at least are more than the {dp} of plan.dp, which are the most"
            raise InputError(problem, key="workload.scaling.least")
        if job.apart or deployment.experts.replicas > 1:
            problem = "replicas that belong together, as prompts and decodes apart or shared experts do, do not scale"
            raise InputError(f"{problem} one by one; leave it out", key="workload.scaling")
    if job.gateway is not None and job.apart:
        problem = "requests with prompts apart go to two replicas, of which a gateway counts one"
        raise InputError(f"{problem}; leave it out", key="workload.gateway")
    if job.prefill_replicas and any(one.takes == "all" for one in job.pools or ()):
        problem = "prompts are apart, and a pool takes all; expected takes: prompts or decodes of each pool"
        raise InputError(problem, key="workload.pools")
