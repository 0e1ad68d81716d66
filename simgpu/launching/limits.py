"""Limits of an engine that hold together: what it must be told so that it starts and serves as it was simulated."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from simgpu.errors import InputError
from simgpu.launching.asked import Asked
from simgpu.simulation.call import runtime_of
from simgpu.workload.runtimes import Runtime


@dataclass(frozen=True)
class Limits:
    """Limits of an engine.

    runtime
        The constants of its version.
    longest
        Tokens of the longest request (`--max-model-len`).
    sequences
        Requests of a replica at a time (`--max-num-seqs`).
    chunk
        New tokens of a step (`--max-num-batched-tokens`).
    memory_share
        Share of the memory that it takes.
    cache_tokens
        Tokens that its cache holds, as predicted.
    from_sequences, from_chunk, from_share, from_longest
        The key or the rule that each follows from.
    """

    runtime: Runtime
    longest: int
    sequences: int
    chunk: int
    memory_share: float
    cache_tokens: int
    from_sequences: str
    from_chunk: str
    from_share: str
    from_longest: str


def limits_of(asked: Asked) -> Limits:
    """The limits of an engine for a row. Raises `InputError` where no limits would let it start.

    A cache that holds less than the longest request stops vLLM at its start ("max seq len is larger than the maximum
    number of tokens that can be stored in KV cache"); so does a step that holds fewer tokens than sequences.
    """
    job, runtime = asked.job, runtime_of(asked.job, asked.catalogue)
    gpu = asked.cluster.gpu
    tokens = getattr(job, "longest", 0) if job.kind == "traffic" else job.prompt + job.output
    said = asked.take("workload.max_model_len")
    longest = int(said or tokens or asked.config.max_tokens or 0)
    roomy = longest if said else longest + max(16, longest // 16)  # texts of a test come out a few tokens longer
    chunk = int(asked.take("workload.chunk") or runtime.chunk(gpu))
    most = asked.take("workload.sequences")
    at_once = at_once_of(asked)
    usual = runtime.seats(gpu)
    sequences = int(most or (max(usual, at_once) if usual else max(at_once, 256)))
    if chunk < sequences:
        if asked.take("workload.chunk"):
            problem = f"{chunk} new tokens of a step are fewer than {sequences} sequences; engines refuse that"
            raise InputError(f"{problem}: expected {sequences} or more", key="workload.chunk")
        sequences = chunk
    cache = int(asked.row.get("cache_tokens") or 0)
    if cache and longest > cache:
        problem = f"the longest request has {longest:,} tokens, and the cache of a replica holds {cache:,}"
        raise InputError(f"{problem}; the engine would not start", key="workload.prompt")
    return Limits(
        runtime, max(longest, min(roomy, cache or roomy, asked.config.max_tokens or roomy)), sequences, chunk,
        float(asked.take("workload.memory_share") or runtime.memory_share), cache,
        "workload.sequences" if most else f"as {runtime.name} has it" if usual >= at_once else "requests at a time",
        "workload.chunk" if asked.job.chunk else f"as {runtime.name} has it",
        "workload.memory_share" if asked.job.memory_share else f"as {runtime.name} has it",
        "workload.max_model_len" if said else "workload.prompt + workload.output, and a sixteenth",
    )  # fmt: skip


def at_once_of(asked: Asked) -> int:
    """Requests of each replica that are on their way at a time, as far as the workload says it."""
    job = asked.job
    named = getattr(job, "batch", None) or getattr(job, "concurrency", None) or getattr(job, "clients", None) or 0
    return ceil(named / asked.plan.dp)
