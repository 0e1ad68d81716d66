"""The tiers of cache that a job `traffic` says, for its deployment: what fits, how fast, and which one pays.

A chunk crosses the host link of each GPU of a replica at a time, as one copy from pinned memory:

    seconds = copy_overhead + bytes of a GPU / rate of the link

(`simgpu.timing.copies`; that of a copy of its own, since the blocks of a cache are apart: vLLM blog, "Inside vLLM's
New KV Offloading Connector", January 2026).
"""

from __future__ import annotations

from math import inf

from simgpu.errors import InputError
from simgpu.plan.serving_memory import cache_bytes, state_bytes
from simgpu.units import format_seconds
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.managed import Tier
from simgpu.workload.server.steps import Steps
from simgpu.workload.server.tiers import Level, Levels


def levels_of(deployment: Deployment, job: Traffic, steps: Steps) -> Levels | None:
    """The tiers of a job, None where none is used. Raises `InputError` (key only)."""
    wanted = [one for one in job.tiers or () if one.size != 0]
    if not wanted:
        return None
    _check(deployment, job)
    chunk = job.tier_chunk
    each = cache_bytes(deployment.served, chunk)  # of a GPU
    size = each * deployment.plan.tp
    seconds = host_copy_s(deployment, each)
    tokens = max(job.prefix_tokens or job.served().prompt, chunk)
    computed = _prompt_s(steps, tokens, deployment.chunk)
    levels, notes = [], []
    for one in wanted:
        level = _level(one, size)
        if level.chunks < 1:
            problem = f"a chunk of {chunk} tokens takes {size:.3g} B, which is more than the {one.size:.3g} B of the"
            raise InputError(f"{problem} {one.kind}; expected a larger size", key="workload.tiers")
        loaded = level.latency + tokens / chunk * max(seconds, size / level.rate)
        if loaded < computed or one.always:
            levels.append(level)
        else:
            found = f"{format_seconds(loaded)} to load {tokens:,} tokens, {format_seconds(computed)} to compute them"
            notes.append(f"{one.kind} is not used ({found}; always: true uses it)")
    return Levels(tuple(levels), chunk, size, seconds, job.tier_write == "at_once", tuple(notes))


def _level(tier: Tier, size: float) -> Level:
    """A tier by chunks of so many bytes."""
    chunks = inf if tier.size is None else float(int(tier.size / size))
    return Level(tier.kind, chunks, tier.bandwidth or inf, tier.latency, tier.kind == "store")


def host_copy_s(deployment: Deployment, size: float) -> float:
    """Seconds of a copy of so many bytes from host memory to each of the GPUs of a node at a time."""
    cluster = deployment.cluster
    node, port = cluster.node, cluster.gpu.host_link
    rate = port.bandwidth.si if port.bandwidth else cluster.links[port.link].lane_bandwidth.si * port.lanes.si
    memory = sum(socket.memory_bandwidth.si * socket.count for socket in node.sockets)
    shared = memory / min(deployment.plan.world, cluster.gpus_per_node)
    copy = deployment.kernels.timer.vector.host_copy([size], link_bandwidth=rate, host_bandwidth=shared)
    return float(copy.seconds[0])


def _prompt_s(steps: Steps, tokens: int, chunk: int) -> float:
    """Seconds to compute a prompt alone."""
    return sum(steps.mixed(0, 0, [(min(chunk, tokens - past), past)]) for past in range(0, tokens, chunk))


def _check(deployment: Deployment, job: Traffic) -> None:
    """Raise `InputError` (key only) for a server whose tiers are not followed."""
    plan = deployment.plan
    keeps = deployment.runtime.prefix_cache if job.prefix_cache is None else job.prefix_cache
    held = (
        (plan.pp > 1, "stages of a pipeline"),
        (plan.cp > 1, "caches split over ranks"),
        (deployment.experts.replicas > 1, "replicas that step together"),
        (job.apart, "prompts apart from decodes"),
        (bool(job.pools), "pools of other GPUs"),
        (not keeps, "a server without prefix cache"),
        (state_bytes(deployment.served) > 0, "models that keep a state in place of a cache"),
        (job.warmups > 0, "warmups"),
    )
    for there, what in held:
        if there:
            raise InputError(
                f"tiers of cache are not followed with {what}; leave one of both out", key="workload.tiers"
            )
