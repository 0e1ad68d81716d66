"""Groups of gradients and weights that travel together: over which ranks, how many bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from simgpu.model.operators import BYTES
from simgpu.workload.training.layers import ENDS, Layers, Passes
from simgpu.workload.training.muon import gathers, joined

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
    """The gradients and weights of a stage's units that move between ranks.

    each
        Whether weights are gathered unit by unit for each microbatch, and gradients scattered after each.
    whole
        Whether gathers move all weights, frozen ones too; else those that the optimizer updated.
    """

    def __init__(self, job: Job, layers: Layers) -> None:
        self.job, self.plan, self.layers = job, job.plan, layers
        self._full = job.numerics.finetune == "full"
        self.each = layers.gathered and (job.plan.shards > 1 or job.plan.weights_away)
        self.whole = self.each or job.plan.zero == 3

    def buckets(self, units: Sequence[Passes]) -> list[list[int]]:
        """Units whose gradients are reduced together, from the last to the first.

        Each unit is on its own where gradients are sharded; all are together where reductions wait for the end of
        backward.
        """
        backwards = list(reversed(range(len(units))))
        if self.each:
            return [[i] for i in backwards]
        if not self.plan.overlap_gradients:
            return [backwards]
        sizes = [unit.trained * BYTES[self.job.numerics.reduce] for unit in units]
        return list(self._cut(sizes, backwards))

    def gathered_together(self, units: Sequence[Passes]) -> list[Sequence[Passes]]:
        """Units whose weights are gathered together, in the order of forward."""
        if self.each:
            return [[unit] for unit in units]
        if not self.plan.overlap_weights:
            return [units]
        width = BYTES[self.job.numerics.weights]
        sizes = [(unit.weights if self.whole else unit.trained) * width for unit in units]
        return [[units[i] for i in part] for part in self._cut(sizes, range(len(units)))]

    def _cut(self, sizes: Sequence[float], order: Iterable[int]) -> Iterator[list[int]]:
        limit, part = self.job.framework.bucket_bytes, list[int]()
        for i in order:
            part.append(i)
            if sum(sizes[k] for k in part) >= limit:
                yield part
                part = []
        if part:
            yield part

    def of(self, units: Sequence[Passes]) -> Iterator[Call]:
        """The reduction of the gradients of some units, in order."""
        plan, width = self.plan, BYTES[self.job.numerics.reduce]
        experts = sum(unit.expert_weights for unit in units) if self._full else 0.0
        shared = (sum(unit.trained for unit in units) - experts) * width
        if plan.zero == 0:
            calls = [Call("all_reduce", "grad", shared), Call("all_reduce", "expert", experts * width)]
        else:
            calls = [Call("reduce_scatter", "shard", shared)]
            if plan.shards < plan.dp * plan.cp:
                calls.append(Call("all_reduce", "replica", shared / plan.shards))
            calls.append(Call("reduce_scatter", "expert", experts * width))
        return (call for call in calls if call.size)

    def gathers(self, units: Sequence[Passes]) -> Iterator[Call]:
        """Gathers of the weights of some units: all where they are sharded, else those that were updated."""
        joined = Passes.joined(units, trained=not self.whole)
        stored, experts = self.job.numerics.stored_bytes, joined.expert_weights
        dense = stored(joined.weights - experts, joined.packed)
        experts = stored(experts, experts if self.whole else 0)
        calls = (Call("all_gather", "shard", dense), Call("all_gather", "expert", experts))
        return (call for call in calls if call.size)

    def momenta(self, units: Sequence[Passes]) -> Iterator[Call]:
        """Gathers of whole matrices' momenta before the update of the units of a stage (Muon)."""
        for group, size in gathers(self.plan, joined(unit.matrices for unit in units)):
            yield Call("all_gather", group, size)

    def unsplit_bytes(self, chunks: Sequence[Sequence[Passes]]) -> float:
        """Bytes of gradients of which every rank of a tensor group has a part.

        These are norms and routers under sequence parallelism, where each rank works on its share of the tokens.
        """
        plan, config = self.plan, self.job.config
        if not (plan.sequence_parallel and plan.tp > 1 and self._full):
            return 0.0
        layers = sum(unit.name not in ENDS for chunk in chunks for unit in chunk)
        norm = config.hidden * (1 if config.rms_norm else 2)
        routers = sum(unit.expert_weights > 0 for chunk in chunks for unit in chunk) * config.hidden * config.experts
        heads = sum(unit.name == "head" for chunk in chunks for unit in chunk)
        heads += 3 * config.trained_mtp if heads else 0  # norms around the layer of such a module
        return ((2 * layers + heads) * norm + routers) * BYTES[self.job.numerics.gradients]
