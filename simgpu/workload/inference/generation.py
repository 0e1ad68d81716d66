"""A batch from its prompts to its last tokens: prefill in steps, then decode with a growing cache.

Decode is not simulated token by token: the cache grows evenly and the time of a step with it, so the tokens are cut
into `POINTS` runs of equal length and each is as long as its middle step times its tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from math import ceil

from simgpu.model.serving import Group
from simgpu.workload.inference.deployment import Deployment, StepTime
from simgpu.workload.inference.speculation import Speculation

POINTS = 8
"""Steps of decode that are evaluated, at most."""

CHUNKS = 16
"""Chunks of one prompt that are evaluated, at most: the others are as long as their neighbours."""


@dataclass(frozen=True)
class Run:
    """`count` equal steps one after another; `seconds` of each, and the `tokens` that it brings each sequence.

    `together` is how much of the batch the stages of a pipeline work on in that time, over what is in the step.
    """

    step: StepTime
    count: float
    seconds: float
    tokens: float = 0.0
    extra: StepTime | None = None  # of a draft model that takes turns with it
    together: float = 1.0


@dataclass(frozen=True)
class Generation:
    """The times of a batch, s."""

    prefill: tuple[Run, ...]
    prefill_s: float
    decode: tuple[Run, ...]
    batch: int
    prompt: int
    output: int

    @property
    def ttft(self) -> float:
        """Seconds from the start to the first token of the last prompt."""
        return self.prefill_s

    @cached_property
    def decode_s(self) -> float:
        """Seconds from the first token to the last."""
        return sum(run.seconds * run.count for run in self.decode)

    @property
    def total(self) -> float:
        """Seconds from the prompt to the last token."""
        return self.prefill_s + self.decode_s

    @property
    def tpot(self) -> float:
        """Seconds per output token after the first; 0 where there is only one."""
        return self.decode_s / (self.output - 1) if self.output > 1 else 0.0

    @property
    def evaluations(self) -> int:
        """Different steps that were simulated."""
        return len({run.step.groups for run in (*self.prefill, *self.decode)})


def generate(
    deployment: Deployment, batch: int, prompt: int, output: int, cached: int = 0, chunk: int | None = None,
    speculation: Speculation | None = None, look: StepTime | None = None,
) -> Generation:  # fmt: skip
    """`batch` prompts of `prompt` tokens, of which `cached` are in the cache already, answered by `output` tokens each.

    `chunk` limits the new tokens of a step (default: as the runtime does). Before the prefill a vision tower takes a
    step for each prompt, `look`.
    """
    steps = prefill_runs(deployment, batch, prompt, cached, chunk)
    seconds = pipelined(steps, deployment.runtime.queue)
    if speculation is not None:  # the draft reads the prompts too
        drafts = prefill_runs(speculation.drafter, batch, prompt, cached, chunk)
        seconds += pipelined(drafts)
        steps += drafts if deployment.plan.pp == 1 else ()
    if look is not None:
        steps = (Run(look, batch, look.seconds), *steps)
        seconds += batch * look.seconds
    return Generation(
        steps,
        seconds,
        decode_runs(deployment, batch, prompt, output, speculation),
        batch,
        prompt,
        output,
    )


def prefill_runs(
    deployment: Deployment, batch: int, prompt: int, cached: int = 0, chunk: int | None = None
) -> tuple[Run, ...]:
    """Steps of the prefill. Short prompts share a step, long ones are cut; equal steps are evaluated once."""
    limit = chunk or deployment.chunk
    new = prompt - cached
    if new <= limit:
        most, stages = max(limit // new, 1), min(deployment.plan.pp, batch)
        if ceil(batch / stages) <= most:  # a step for each stage, where there are prompts enough
            each, more = divmod(batch, stages)
            sizes = [(each + 1, more), (each, stages - more)]
        else:
            sizes = [(most, batch // most), (batch % most, 1)]
        found = []
        for count, times in sizes:
            if count and times:
                step = deployment.step(Group(count, new, prompt))
                found.append(Run(step, times, step.seconds))
        return tuple(found)
    starts = range(cached, prompt, limit)
    found = []
    for first, count in _parts(len(starts) - 1):
        start = cached + limit * first + limit * (count - 1) // 2  # the middle of those it stands for
        step = deployment.step(Group(1, limit, start + limit, 0))
        found.append(Run(step, batch * count, step.seconds))
    step = deployment.step(Group(1, prompt - starts[-1], prompt, 1))
    found.append(Run(step, batch, step.seconds))
    return _no_faster(deployment, tuple(found), batch, new, prompt)


def _parts(chunks: int) -> list[tuple[int, int]]:
    """(first, count) of the chunks that one evaluation stands for."""
    parts = min(CHUNKS - 1, chunks)
    ends = [chunks * i // parts for i in range(parts + 1)]
    return [(first, after - first) for first, after in pairwise(ends)]


def _no_faster(deployment: Deployment, runs: tuple[Run, ...], batch: int, new: int, prompt: int) -> tuple[Run, ...]:
    """Chunks of a prompt that take as long as the prompt at once, at least.

    Kernels are measured one by one, in which short ones are spared the throttling that long ones meet; the chunks of a
    prompt follow each other and are not. Attention that is not fused is left alone: it multiplies what its mask hides,
    of which chunks have less.
    """
    if deployment.runtime.style != "fused":
        return runs
    whole = sum(deployment.step(Group(1, new, prompt)).each) * batch
    total = sum(sum(run.step.each) * run.count for run in runs)
    if total >= whole:
        return runs
    slower = [replace(run, step=run.step.slowed(whole / total)) for run in runs]
    return tuple(replace(run, seconds=run.step.seconds) for run in slower)


MOST_IN_PIPELINE = 64
"""Equal steps of a pipeline that are followed one by one; later ones are as long as the last."""


def pipelined(runs: Sequence[Run], queue: float = 0.0) -> float:
    """Seconds of steps that follow each other through the stages of a pipeline.

    One host thread launches the kernels of all stages in their order. With `queue` a GPU takes so many in advance; then
    the thread waits for it, and the GPUs that it has not come to wait too.
    """
    if not runs:
        return 0.0
    stages = len(runs[0].step.stages)
    if stages == 1:
        return sum(run.seconds * run.count for run in runs)
    host, queues = 0.0, [_Queue(queue) for _ in range(stages)]
    for run in runs:
        shown, before = min(int(run.count), MOST_IN_PIPELINE), queues[-1].free
        for i in range(shown):
            at, before = host, queues[-1].free if i == shown - 1 else before
            for s, seconds in enumerate(run.step.each):
                arrived = at + (run.step.send if s else 0.0)
                busy = seconds + (run.step.host if s == 0 else 0.0)
                at, host = queues[s].run(host, arrived, busy, run.step.kernels[s])
        later = (run.count - shown) * (queues[-1].free - before)
        host += later
        for one in queues:
            one.later(later)
    return queues[-1].free


class _Queue:
    """Launches of one GPU: when the host could hand them over, and when they were done."""

    def __init__(self, size: float) -> None:
        self.size = size
        self.free = 0.0
        self.launched = 0.0
        self.done: list[tuple[float, float, float, float]] = []  # first launch, launches, start, end

    def run(self, host: float, arrived: float, seconds: float, kernels: float) -> tuple[float, float]:
        """(end, when the host has handed over the last) of some launches; they start when their input has arrived."""
        host = max(host, self._progress(self.launched + 1 - self.size))
        start = max(host, arrived, self.free)
        self.free = start + seconds
        self.done = [*self.done[-8:], (self.launched, kernels, start, self.free)]
        self.launched += kernels
        return self.free, max(host, self._progress(self.launched - self.size))

    def _progress(self, launch: float) -> float:
        """The time at which this many launches are done, s."""
        if not self.size or launch <= 0:
            return 0.0
        for first, count, start, end in self.done:
            if first < launch <= first + count:
                return start + (end - start) * (launch - first) / count
        return 0.0

    def later(self, seconds: float) -> None:
        """Everything so many seconds later."""
        self.free += seconds
        self.done = [(first, count, start + seconds, end + seconds) for first, count, start, end in self.done]


def decode_runs(
    deployment: Deployment, batch: int, prompt: int, output: int, speculation: Speculation | None = None
) -> tuple[Run, ...]:
    """Runs of decode steps, each with the context of its middle."""
    left = output - 1
    if left <= 0:
        return ()
    parts = min(POINTS, left)
    found = []
    for i in range(parts):
        first, last = left * i // parts, left * (i + 1) // parts
        context = prompt + 1 + (first + last + 1) // 2
        found.append(decode_run(deployment, batch, context, last - first, speculation))
    return tuple(found)


def decode_run(
    deployment: Deployment, batch: int, context: int, tokens: int, speculation: Speculation | None = None
) -> Run:
    """`tokens` more tokens for each sequence of a batch around one context."""
    if speculation is None:
        step, seconds = decode_seconds(deployment, batch, context)
        return Run(step, tokens, seconds, 1.0, together=batch / step.sequences)
    step, drafts = speculation.verify(deployment, batch, context), speculation.draft(batch, context)
    seconds = step.seconds + speculation.tokens * drafts.seconds
    return Run(step, tokens / speculation.expected, seconds, speculation.expected, drafts)


def decode_seconds(deployment: Deployment, batch: int, context: int) -> tuple[StepTime, float]:
    """(a step, seconds between the tokens of a sequence).

    A pipeline that overlaps works on a microbatch for each stage, in turn; one that does not passes the whole batch
    from stage to stage.
    """
    stages = deployment.plan.pp
    if stages == 1 or not deployment.runtime.overlaps_stages:
        step = deployment.decode(batch, context)
        return step, step.seconds
    micro = min(stages, batch)
    step = deployment.decode(ceil(batch / micro), context)
    return step, max(step.seconds, micro * step.slowest)
