"""Exchange of a training step's units with host memory or drives: weights that live there, gradients.

Read from DeepSpeed 0.17 and PyTorch's FSDP 2:

- weights come before each pass, from which ranks gather them: a rank copies its shard. FSDP keeps shards of the fp32
  master and casts them on the GPU; DeepSpeed keeps 16-bit shards beside it;
- gradients of ZeRO-3 in DeepSpeed (partition_grads of stage3.py): each microbatch copies its shard to the sum in host
  memory and fetches that sum, which is added to on the GPU; the last also copies the result in fp32;
- of ZeRO-2 (copy_grads_in_partition of stage_1_and_2.py): as many sums, but the last microbatch copies fp32 alone;
- of FSDP (_fsdp_param_group.py, post_backward): each microbatch copies its shard in the dtype of the master; the
  processor adds them up.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from simgpu.model.operators import BYTES
from simgpu.plan.states import gradients_away
from simgpu.workload.copies import FROM_HOST, FROM_NVME, TO_HOST, drives
from simgpu.workload.links import OFFLOAD, Demand
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import Passes
from simgpu.workload.training.reductions import Reductions

FP32 = 4.0


@dataclass(frozen=True)
class Copy:
    """A copy of one rank: its direction, and bytes."""

    kind: str
    size: float


class Offload:
    """Copies of the units of a step."""

    def __init__(self, job: Job, reductions: Reductions) -> None:
        """Prepare the copies. Raises `InputError` (key only) for drives that the node does not have."""
        self.job, self.plan, self.reductions = job, job.plan, reductions
        self.stack = job.framework.memory
        self.weights = job.plan.weights_away
        full = job.numerics.optimizer != "none"
        self.gradients = job.plan.offload != "none" and full and gradients_away(job.plan, self.stack)
        if job.plan.states_on_nvme:
            drives(reductions.layers.links.cluster)

    @cached_property
    def _master(self) -> bool:
        """True if shards are those of the fp32 master alone."""
        numerics = self.job.numerics
        copied = self.stack.sharded_copy if numerics.sharded_copy is None else numerics.sharded_copy
        return numerics.finetune == "full" and numerics.master is not None and not copied

    def fetch(self, units: Sequence[Passes]) -> list[Copy]:
        """Copies that bring the weights of some units before a pass."""
        if not self.weights:
            return []
        joined = Passes.joined(units, trained=False)
        experts = joined.expert_weights
        stored = self.job.numerics.stored_bytes
        dense, sparse = stored(joined.weights - experts, joined.packed), stored(experts, experts)
        wider = FP32 / BYTES[self.job.numerics.weights] if self._master else 1.0
        size = (dense / self.plan.shards + sparse / self._copies) * wider
        return [Copy(FROM_NVME if self.plan.weights_on_nvme else FROM_HOST, size)] if size else []

    def put(self, units: Sequence[Passes], microbatch: int) -> list[Copy]:
        """Copies that take the gradients of some units after the backward pass of a microbatch."""
        if not self.gradients:
            return []
        full = self.job.numerics.finetune == "full"
        experts = sum(unit.expert_weights for unit in units) if full else 0.0
        mine = (sum(unit.trained for unit in units) - experts) / self.plan.shards + experts / self._copies
        last, first = microbatch == self.job.microbatches - 1, microbatch == 0
        width = BYTES[self.job.numerics.gradients]
        if not self.stack.host_gradients:
            sizes = {TO_HOST: BYTES[self.job.numerics.master or self.job.numerics.weights]}
        elif self.plan.zero == 3:
            sizes = {FROM_HOST: width, TO_HOST: width + (FP32 if last else 0.0)}
        else:
            sizes = {FROM_HOST: 0.0 if first else width, TO_HOST: FP32 if last else width}
        return [Copy(kind, mine * size) for kind, size in sizes.items() if mine * size]

    @property
    def _copies(self) -> int:
        """The number of ranks that share the experts of a rank."""
        return self.plan.expert_copies

    def demands(self, stage: int, units: Sequence[Passes]) -> list[Demand]:
        """The copies that these units may ask for."""
        microbatches = {0, 1, self.job.microbatches - 1} & set(range(self.job.microbatches))
        found = [*self.fetch(units), *(copy for n in sorted(microbatches) for copy in self.put(units, n))]
        return [(copy.kind, OFFLOAD, stage, copy.size) for copy in found]
