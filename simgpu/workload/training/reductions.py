"""Which gradients and weights travel together, over which group, how many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from simgpu.model.operators import BYTES
from simgpu.workload.training.layers import Layers, Passes

if TYPE_CHECKING:
    from simgpu.workload.training.job import Job

STREAM_OF = {"grad": "grad", "shard": "grad", "expert": "grad", "replica": "replica"}
"""Stream of each group: copies of shards are added up by a communicator of their own (PyTorch HSDP)."""


class Call(NamedTuple):
    """A collective between blocks; `size` in bytes as nccl-tests count it."""

    kind: str
    group: str
    size: float


class Reductions:
    """What moves of the units of a stage."""

    def __init__(self, job: Job, layers: Layers) -> None:
        self.job, self.plan, self.layers = job, job.plan, layers
        self._full = job.numerics.finetune == "full"

    def buckets(self, units: Sequence[Passes]) -> list[list[int]]:
        """Units whose gradients are reduced together, from the last to the first: each on its own where they are
        sharded, all where reductions wait for the end of backward."""
        backwards = list(reversed(range(len(units))))
        if self.layers.gathered and self.plan.shards > 1:
            return [[i] for i in backwards]
        if not self.plan.overlap_gradients:
            return [backwards]
        return list(self._cut(units, backwards, BYTES[self.job.numerics.reduce]))

    def gathered_together(self, units: Sequence[Passes]) -> list[Sequence[Passes]]:
        """Units whose updated weights are gathered together, in the order of forward."""
        if not self.plan.overlap_weights:
            return [units]
        found = self._cut(units, range(len(units)), BYTES[self.job.numerics.weights])
        return [[units[i] for i in part] for part in found]

    def _cut(self, units: Sequence[Passes], order: Iterable[int], width: float) -> Iterator[list[int]]:
        limit, part = self.job.framework.bucket_bytes, list[int]()
        for i in order:
            part.append(i)
            if sum(units[k].trained for k in part) * width >= limit:
                yield part
                part = []
        if part:
            yield part

    def of(self, units: Sequence[Passes]) -> Iterator[Call]:
        """Reduction of the gradients of some units, in order."""
        plan, width = self.plan, BYTES[self.job.numerics.reduce]
        experts = sum(unit.expert_weights for unit in units) if self._full else 0.0
        shared = (sum(unit.trained for unit in units) - experts) * width
        if plan.zero == 0:
            found = [Call("all_reduce", "grad", shared), Call("all_reduce", "expert", experts * width)]
        else:
            found = [Call("reduce_scatter", "shard", shared)]
            if plan.shards < plan.dp * plan.cp:
                found.append(Call("all_reduce", "replica", shared / plan.shards))
            found.append(Call("reduce_scatter", "expert", experts * width))
        return (call for call in found if call.size)

    def gathers(self, units: Sequence[Passes], sharded: bool) -> Iterator[Call]:
        """Gather of the weights of some units: all where they are `sharded`, else those that were updated."""
        whole = Passes.joined(units, trained=not sharded)
        width = self.job.numerics.weight_bytes if sharded else BYTES[self.job.numerics.weights]
        dense, experts = (whole.weights - whole.expert_weights) * width, whole.expert_weights * width
        found = (Call("all_gather", "shard", dense), Call("all_gather", "expert", experts))
        return (call for call in found if call.size)

    def unsplit_bytes(self, chunks: Sequence[Sequence[Passes]]) -> float:
        """Bytes of gradients that the ranks of a tensor group have parts of: norms and routers under sequence
        parallelism, where each works on its share of the tokens."""
        plan, config = self.plan, self.job.config
        if not (plan.sequence_parallel and plan.tp > 1 and self._full):
            return 0.0
        layers = sum(unit.name not in ("embedding", "head") for chunk in chunks for unit in chunk)
        norm = config.hidden * (1 if config.rms_norm else 2)
        routers = sum(unit.expert_weights > 0 for chunk in chunks for unit in chunk) * config.hidden * config.experts
        heads = sum(unit.name == "head" for chunk in chunks for unit in chunk)
        return ((2 * layers + heads) * norm + routers) * BYTES[self.job.numerics.gradients]
