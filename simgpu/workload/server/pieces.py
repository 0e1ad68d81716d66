"""What the steps of an engine are made of, as its deployment says: attention, experts, head, and all the rest.

With a draft, a step of decodes is a cycle: some guesses of the draft, and one step that verifies them. With CUDA graphs
of some sizes, a step of decodes runs at the next size, and above the largest its kernels are launched one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace

from simgpu.model.serving import Group
from simgpu.workload.inference.deployment import Deployment, StepTime
from simgpu.workload.inference.speculation import Speculation

SHORT = 32
"""Tokens of a short prompt, and the least of a rank where ranks split prompts (`plan.cp`)."""


class Pieces:
    """Seconds of the parts of a deployment's steps; `sizes` are those of its CUDA graphs, none if every size is one."""

    def __init__(
        self, deployment: Deployment, sizes: Sequence[int] = (), speculation: Speculation | None = None
    ) -> None:
        if deployment.adapters is not None:  # their kernels go by how many are there
            deployment = replace(deployment.fresh(), adapted=False)
        self.deployment, self.sizes, self.speculation = deployment, sorted(sizes), speculation
        self.guesses = speculation.tokens if speculation else 0
        self.queries = self.guesses + 1
        self.brings = speculation.expected if speculation else 1.0
        run, stages = deployment.runtime, deployment.plan.pp
        self.step_s, self.sequence_s, self.prompt_s = run.step_s, run.sequence_s, run.prompt_s
        if stages > 1:
            self.step_s += run.hop_s * stages
        self.between_s = run.between_s
        self.hides = run.overlaps_host and stages == 1 and not (speculation and speculation.waits)
        self._bare = deployment
        if self.sizes:
            self._bare = replace(deployment.fresh(), runtime=replace(run, graphs=False))

    # ---- steps of decodes ----------------------------------------------------------------------------

    def decodes(self, n: int) -> float:
        """All but attention of a step of n decodes."""
        place = bisect_left(self.sizes, n)
        engine, rows = self.deployment, n
        if self.sizes:
            engine, rows = (engine, self.sizes[place]) if place < len(self.sizes) else (self._bare, n)
        return _rest(engine.step(self._verified(rows, 2))) + self.drafts(n)

    def decode_attention(self, n: int, context: int) -> float:
        """Attention of n decodes."""
        seconds = _attention(self.deployment.step(self._verified(n, context)))
        if self.speculation is not None:
            seconds += self.guesses * _attention(self.speculation.draft(n, max(context, 2)))
        return seconds

    def drafts(self, n: int) -> float:
        """All but attention of the guesses for n sequences."""
        return self.guesses * _rest(self.speculation.draft(n, 2)) if self.speculation is not None else 0.0

    def _verified(self, n: int, context: int) -> Group:
        if self.guesses:
            return Group(n, self.queries, max(context, 2) + self.queries, self.queries)
        return Group(n, 1, max(context, 2))

    # ---- steps with prompts --------------------------------------------------------------------------

    def layers(self, tokens: int) -> float:
        """All but attention, experts over replicas, and head, of so many tokens."""
        group = self._prompt(tokens, 0)
        seconds = self._without_head(self.deployment, group) - self.experts(tokens)
        if self.speculation is not None:
            seconds += self._without_head(self.speculation.drafter, group)
        return seconds

    def experts(self, tokens: int) -> float:
        """Experts that replicas share, of so many tokens of each; 0 where they share none."""
        if self.deployment.experts.replicas == 1:
            return 0.0
        return _of_group(self.deployment.step(self._prompt(tokens, 0)), "moe")

    def head(self, rows: int) -> float:
        """The head of so many rows."""
        cp = self.deployment.plan.cp
        return _head(
            self.deployment.step(Group(rows, SHORT * cp, SHORT * cp))
        )  # short prompts, of which each has a row of logits

    def prompt_attention(self, new: int, past: int) -> float:
        """Attention of a chunk of a prompt."""
        seconds = _attention(self.deployment.step(self._prompt(new, past)))
        if self.speculation is not None:
            seconds += _attention(self.speculation.drafter.step(self._prompt(new, past)))
        return seconds

    def adapters(self, tokens: int, distinct: int) -> float:
        """Kernels of so many different adapters beside the matrices, with so many tokens."""
        return self.deployment.adapters_s(tokens, distinct)

    def slowest(self) -> float:
        """Share of a step through all stages of a pipeline that its slowest stage takes."""
        step = self.deployment.decode(32, 1024)
        return step.slowest / _seconds(step)

    def _prompt(self, new: int, past: int) -> Group:
        """A chunk of a prompt; ranks that split its tokens have two equal parts of it each, of some length."""
        cp = self.deployment.plan.cp
        if cp > 1:
            new = max(-(-new // (2 * cp)) * 2 * cp, SHORT * cp)
        return Group(1, new, past + new)

    def _without_head(self, engine: Deployment, group: Group) -> float:
        step = engine.step(group)
        return _rest(step) - _head(step)


def _seconds(step: StepTime) -> float:
    """Seconds of the GPUs, through all stages."""
    return sum(step.each) + step.send * (len(step.stages) - 1)


def _rest(step: StepTime) -> float:
    return _seconds(step) - _attention(step)


def _attention(step: StepTime) -> float:
    return _of_group(step, "attention")


def _of_group(step: StepTime, group: str) -> float:
    """Seconds of a step in kernels of a group."""
    return sum(
        part.exposed * count
        for stage in step.stages
        for block, count in stage
        for part in block.parts
        if part.activity.category == "compute" and part.activity.uncertainty.group == group
    )


def _head(step: StepTime) -> float:
    """Seconds of a step in the head."""
    return sum(block.seconds * count for stage in step.stages for block, count in stage if block.name == "head")
