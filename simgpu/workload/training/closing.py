"""The end of a step: gradients of what several ranks hold, clipping, the optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from simgpu.engine import Phase
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import Activity
from simgpu.workload.links import Links, Transfer
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import Passes
from simgpu.workload.training.muon import Matrices, joined
from simgpu.workload.training.reductions import Reductions
from simgpu.workload.training.streams import Ids, Streams
from simgpu.workload.training.update import norm_of, update_of

Reduced = list[list[Ids]]
"""The reductions of the gradients of each stage."""

Stages = Sequence[Sequence[Sequence[Passes]]]
"""The units of each chunk of each stage."""


class Closing:
    """What follows the last backward of every stage.

    `tied_bytes` are gradients of an embedding that two stages hold.
    """

    def __init__(
        self, job: Job, kernels: KernelModel, links: Links, streams: Streams, stages: Stages, reductions: Reductions,
        tied_bytes: float,
    ) -> None:  # fmt: skip
        self.job, self.plan, self.kernels, self.links, self.streams = job, job.plan, kernels, links, streams
        self.stages, self.reductions, self.tied_bytes = stages, reductions, tied_bytes

    def run(self, reduced: Reduced) -> None:
        """Add up what is left of the gradients, `reduced` so far, clip them and update the weights."""
        self.reduced = reduced
        self._tie_embeddings()
        for s in range(self.plan.pp):
            self._sum_norms(s)
        self._update()

    def _tie_embeddings(self) -> None:
        """Add up the gradients of a tied embedding on the first and the last stage.

        Megatron-LM, core/distributed/finalize_model_grads.py.
        """
        size, last = self.tied_bytes, self.plan.pp - 1
        if not size:
            return
        for transfer in self.links.collective("all_reduce", "embedding", 0, size):
            ends = (self.reduced[0], self.reduced[last])
            waits = [ids[r] for r, ids in zip(transfer.ranks, map(_joined, ends), strict=True) if r in ids]
            waits += [n for r in transfer.ranks if (n := self.streams.last(r)) is not None]
            streams = [self.streams.of[r]["grad"] for r in transfer.ranks]
            label = ("tied embedding", "embedding", "all_reduce", size)
            number = self.streams.submit(transfer, streams, *label, waits, transfer.ranks)
            for stage, rank in zip((0, last), transfer.ranks, strict=True):
                self.reduced[stage].append({rank: number})

    def _sum_norms(self, stage: int) -> None:
        """Add up, over the tensor group, gradients that sequence parallelism leaves unsplit (norms, routers).

        All layers go together (Megatron-LM, the same file, _allreduce_layernorm_grads).
        """
        size = self.reductions.unsplit_bytes(self.stages[stage])
        if not size:
            return
        call = self.links.inner("all_reduce", "tp", size)
        for r in self.streams.ranks[stage]:
            waits = [ids[r] for ids in self.reduced[stage] if r in ids]
            waits += [n for n in (self.streams.last(r),) if n is not None]
            transfer = Transfer((r,), (Phase(call.seconds),), call)
            streams = [self.streams.of[r]["grad"]]
            number = self.streams.submit(transfer, streams, "norm gradients", "tp", "all_reduce", size, waits, (r,))
            self.reduced[stage].append({r: number})

    def _update(self) -> None:
        """Every stage clips its gradients and updates its weights: clipping needs the norm of all of them."""
        known = [[unit for chunk in chunks for unit in chunk] for chunks in self.stages]
        full = self.job.numerics.finetune == "full"  # experts have no adapters
        sums = [(sum(u.trained for u in units), sum(u.expert_weights for u in units if full)) for units in known]
        after = self._clip(sums)
        made: dict[tuple[float, float, Matrices], list[tuple[Activity, float]]] = {}
        for stage, units in enumerate(known):
            held = (*sums[stage], joined(unit.matrices for unit in units))
            waits = after[stage]
            for call in self.reductions.momenta(units):
                waits = [
                    *waits,
                    *self.streams.transfer(stage, "grad", "gather momenta", call.group, call.kind, call.size, waits),
                ]
            if held not in made:
                made[held] = update_of(self.job, self.kernels, self.links, *held)
            for label, seconds in made[held]:
                waits = [self.streams.delay(stage, seconds, label, waits)]

    def _clip(self, sums: Sequence[tuple[float, float]]) -> list[list[Ids]]:
        """Norms of the gradients of every stage, of which it holds `sums`; what the update of each has to wait for."""
        after = [list(ids) for ids in self.reduced]
        norm = {held: norm_of(self.job, self.kernels, *held) for held in dict.fromkeys(sums)}
        norms = [norm[held] for held in sums]
        if not any(norms):
            return after
        for stage, squares in enumerate(norms):
            for label, seconds in squares:
                after[stage] = [self.streams.delay(stage, seconds, label, after[stage])]
        if self.plan.world == 1:
            return after
        met = self._meet(after)
        return [[dict.fromkeys(ranks, met)] for ranks in self.streams.ranks]

    def _meet(self, after: Sequence[Sequence[Ids]]) -> int:
        """The exchange in which all ranks add up the squares of their norms: 4 bytes over the slowest group."""
        seconds = self.links.inner("all_reduce", "tp" if self.plan.tp > 1 else "grad", 4.0).seconds
        waits = dict.fromkeys(n for stage in after for ids in stage for n in ids.values())
        label = Activity("norm of gradients", "communication", "all_reduce", "grad", 0.0, 4.0, "network", group="grad")
        return self.streams.sim.delay(self.streams.joint, seconds, tuple(waits), label)


def _joined(ids: Iterable[Ids]) -> dict[int, int]:
    """The last activity of each rank."""
    return {rank: number for one in ids for rank, number in one.items()}
