"""A batch, a step or a load as a timeline: what each pipeline stage does, run by run.

Runs of equal steps are one span each, made of as many of their blocks; of prompts that follow each other through a
pipeline the first `SHOWN` are spans of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.engine import Simulator
from simgpu.workload.blocks import BlockCounts
from simgpu.workload.execution import SEQUENCES, Activity, Execution
from simgpu.workload.inference.generation import Run

SHOWN = 32


def timeline_of(prefill: Sequence[Run], decode: Sequence[Run]) -> Execution:
    """The timeline of some steps of prompts and then of decodes, on one rank for each stage."""
    return _Timeline(prefill or decode).run(prefill, decode)


class _Timeline:
    def __init__(self, runs: Sequence[Run]) -> None:
        self.sim = Simulator()
        self.stages = len(runs[0].step.stages)
        self.streams = [{"compute": self.sim.add_stream(f"rank {s}/compute")} for s in range(self.stages)]
        self.blocks: dict[Activity, BlockCounts] = {}
        self.last: int | None = None  # what the next run waits for

    def run(self, prefill: Sequence[Run], decode: Sequence[Run]) -> Execution:
        for run in prefill:
            self._prompts(run)
        done = 0.0
        for run in decode:
            self._tokens(run, done)
            done += run.count * run.tokens
        return Execution(self.sim.run(), self.streams, self.blocks)

    def _prompts(self, run: Run) -> None:
        count = int(run.count)
        apart = min(count, SHOWN) if self.stages > 1 else 1
        for i in range(apart):
            times = count - apart + 1 if i == apart - 1 else 1
            before: int | None = None
            for stage in range(self.stages):
                name = f"prefill of {sum(g.tokens for g in run.step.groups):,} tokens"
                before = self._span(run, stage, name, "prefill", times, before, run.step.each[stage])
        self.last = before

    def _tokens(self, run: Run, done: float) -> None:
        """Decode passes from stage to stage for each token; here each stage has its share of a run at once."""
        first, last = int(done) + 2, int(done + run.count * run.tokens) + 1
        name = f"decode of tokens {first:,} to {last:,}"
        before = self.last
        share = (run.seconds - run.step.host) / max(sum(run.step.each), 1e-300)
        for stage in range(self.stages):
            seconds = run.step.each[stage] * (share if self.stages > 1 else 1.0)
            before = self._span(run, stage, name, "decode", run.count, before, seconds)
        self.last = before

    def _span(
        self, run: Run, stage: int, name: str, kind: str, times: float, before: int | None, seconds: float
    ) -> int:
        stream, after = self.streams[stage]["compute"], [] if before is None else [before]
        label = Activity(name, "compute", kind, kind, task=(len(self.blocks), stage))
        self.blocks[label] = tuple((block, max(round(count * times), 1)) for block, count in run.step.stages[stage])
        done = self.sim.delay(stream, seconds * times, after, label)
        if stage == 0:
            each = run.step.each_sequence
            for what, part in (("host", run.step.host - each), (SEQUENCES, each)):
                if part > 0:
                    done = self.sim.delay(stream, part * times, [], Activity(what, "compute", "host", kind))
        return done
