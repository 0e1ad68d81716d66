"""Activations of layers that wait in host memory from forward to backward (`plan.offload_layers`).

What such a layer keeps goes down beside forward of the next and comes back beside backward of the one before, so that a
GPU holds two layers' at a time (NVIDIA/TransformerEngine, pytorch/cpu_offload.py; pytorch/torchtune,
training/_activation_offloading.py, max_fwd_stash_size). A copy that takes longer than a layer is waited for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property

from simgpu.plan.memory.walk import Microbatch, microbatch_of
from simgpu.plan.schedule import Task
from simgpu.workload.copies import FROM_HOST, TO_HOST
from simgpu.workload.links import OFFLOAD, Demand
from simgpu.workload.training.job import Job
from simgpu.workload.training.offload import Copy

Ids = Mapping[int, int]
"""An activity of each simulated rank of a stage."""

Copies = Callable[[int, str, Sequence[Copy], Sequence[Ids]], list[Ids]]
"""Submits copies of every rank of a stage, by their name, after some activities."""

AT_A_TIME = 2
"""Layers whose activations are on the GPU while they are copied."""


class Away:
    """Bytes of activations that wait in host memory, by stage, chunk and unit."""

    def __init__(self, job: Job, copy: Copies) -> None:
        """Prepare sizes; nothing is worked out where no layer is offloaded."""
        self.job, self.plan, self.copy = job, job.plan, copy
        self.left: dict[tuple[int, int, int], list[list[Ids]]] = {}  # of a chunk and microbatch: copies of each unit

    def of(self, stage: int, chunk: int) -> tuple[float, ...]:
        """Bytes of each unit of a chunk, 0 for those that stay; nothing where all do."""
        return self._sizes[stage][chunk] if self.plan.offload_layers else ()

    def room(self, task: Task, at: int) -> list[Ids]:
        """Copies out that forward of a unit waits for: those of the unit `AT_A_TIME` before it."""
        left = self.left.get((task.stage, task.chunk, task.microbatch), [])
        return left[at - AT_A_TIME] if at >= AT_A_TIME and left else []

    def put(self, task: Task, at: int, end: Ids) -> None:
        """Copy what forward of a unit kept to the host, if it is to wait there."""
        sizes = self.of(task.stage, task.chunk)
        if sizes:
            copies = [Copy(TO_HOST, sizes[at])] if sizes[at] else []
            left = self.left.setdefault((task.stage, task.chunk, task.microbatch), [])
            left.append(self.copy(task.stage, "activations", copies, [end]))

    def fetch(self, task: Task, at: int, after: Sequence[Ids]) -> list[Ids]:
        """Copy what forward of a unit kept from the host, where backward needs it first."""
        sizes = self.of(task.stage, task.chunk)
        if not sizes or not sizes[at] or task.kind == "W":
            return []
        gone = self.left[task.stage, task.chunk, task.microbatch][at]
        return self.copy(task.stage, "activations", [Copy(FROM_HOST, sizes[at])], [*after, *gone])

    def demands(self, stage: int) -> Iterator[Demand]:
        """The copies of a stage."""
        for sizes in self._sizes[stage] if self.plan.offload_layers else ():
            for size in dict.fromkeys(sizes):
                if size:
                    yield TO_HOST, OFFLOAD, stage, size
                    yield FROM_HOST, OFFLOAD, stage, size

    @cached_property
    def _microbatch(self) -> Microbatch:
        job = self.job
        stack, tokens = job.framework.memory.of(job.numerics), -(-job.tokens // self.plan.cp)
        return microbatch_of(job.config, self.plan.within_layer(), job.numerics, stack, job.micro_batch, tokens)

    @cached_property
    def _sizes(self) -> list[list[tuple[float, ...]]]:
        return [list(self._of_stage(stage)) for stage in range(self.plan.pp)]

    def _of_stage(self, stage: int) -> Iterator[tuple[float, ...]]:
        """Sizes of the units of each chunk: those of its layers, with the embedding before and the head behind them."""
        plan = self.plan
        for chunk, sizes in enumerate(self._microbatch.offloaded(plan, stage)):
            first = stage == 0 and chunk == 0
            last = stage == plan.last_stage and chunk == plan.vp - 1
            yield (*([0.0] if first else []), *sizes, *([0.0] if last else []))
