"""One optimizer step: tasks of the pipeline on every stage, gradients and weights between ranks, then the optimizer.

Collectives between blocks take multiprocessors from kernels (drag) and share links with each other. What they do not
share is links with collectives inside blocks (tensor, context, expert groups), whose times are part of the block. Where
both cross NVLink at the same time they would slow each other down by at most

    (share of the step in inner collectives) x (share in which the others run beside them)

of the step: 0.2 % for Llama 3 8B with TP 2 x DP 4 in a DGX H100, 1.2 % with its weights sharded, 3 % with CP 4 x
FSDP 2; nothing where tensor groups fill the node and the others leave through the NICs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from simgpu.engine import Simulator
from simgpu.memo import SHARED, Region, content, key_of
from simgpu.model.operators import BYTES
from simgpu.plan.schedule import CUT, Task, depends_on, order, part_of, place_of
from simgpu.timing.kernels import KernelModel
from simgpu.workload.blocks import Block, BlockCounts, counted
from simgpu.workload.copies import TO_HOST, TO_NVME
from simgpu.workload.execution import Activity, Execution
from simgpu.workload.links import OFFLOAD, Demand, Links
from simgpu.workload.steady import Run, folded
from simgpu.workload.training.away import Away
from simgpu.workload.training.chunks import chunks_of, tied_table
from simgpu.workload.training.closing import Closing
from simgpu.workload.training.demands import demands
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import Layers, Passes
from simgpu.workload.training.offload import Copy, Offload
from simgpu.workload.training.reductions import STREAM_OF, Reductions
from simgpu.workload.training.streams import Ids, Streams

__all__ = ["Job", "run_step"]


REMEMBERED = 60_000
"""Activities of all runs together that are remembered, some 300 bytes each."""


def run_step(job: Job, kernels: KernelModel, links: Links) -> Execution:
    """Simulate one step of `job`: where links are folded, many microbatches by a few of them.

    The runs of a few are remembered: another batch, or another question, asks for the same.
    """
    plan = job.plan
    each = job.micro_batch * plan.dp

    known: Region[Any, Run] = SHARED.region("steps", REMEMBERED, Run.size)
    where = (type(links), *key_of(links, ("cluster", "plan", "kernels")), links.machine.identity, kernels.identity)

    def run(microbatches: int) -> Run:
        part = replace(job, batch=microbatches * each)
        key = (*key_of(part, framework=content(job.framework)), where)
        found = known.get(key)
        if found is None:
            step = _Step(part, kernels, links)
            found = Run(step.run(), step.ends, microbatches, plan.pipeline)
            if found.size() <= REMEMBERED // 2:
                known[key] = found
        return found

    couples = plan.pp > 1 and plan.pipeline != "gpipe"
    return folded(job.microbatches, plan.pp, plan.vp, couples, run, links.folded)


class _Step:
    def __init__(self, job: Job, kernels: KernelModel, links: Links) -> None:
        self.job, self.plan, self.links, self.kernels = job, job.plan, links, kernels
        self.layers = Layers(
            job.config, job.plan, job.numerics, job.framework, kernels, links, job.micro_batch, job.tokens,
            job.accumulate, job.routing, job.fp8, job.microbatches > 1, job.length,
        )  # fmt: skip
        self.sim = Simulator()
        links.use(self.sim)
        self.stages = chunks_of(job, self.layers)
        self.reductions = Reductions(job, self.layers)
        self.offload, self.away = Offload(job, self.reductions), Away(job, self._copy)
        links.prepare(self._demands())
        self.streams = Streams(self.sim, links, self.plan.pp)
        self.blocks: dict[Activity, BlockCounts] = {}
        self._sums: dict[int, tuple[BlockCounts, float, float]] = {}  # of blocks: seconds and FLOPs
        self._whole: dict[tuple[str, int, int], BlockCounts] = {}  # the blocks of a chunk
        self._alone: dict[int, BlockCounts] = {}
        self.ends: dict[Task, Ids] = {}  # the last activity of a task
        self.sent: dict[Task, dict[int, int]] = {}  # what brings a task its input
        self.reduced: list[list[Ids]] = [[] for _ in range(self.plan.pp)]
        self.awaited: dict[int, list[Ids]] = {}  # reductions of a stage that its next block waits for

    def run(self) -> Execution:
        plan, job = self.plan, self.job
        self.ready = [self._weights_before(s) for s in range(plan.pp)]
        for task in order(plan.pipeline, plan.pp, job.microbatches, plan.vp):
            if task.kind == "F":
                self.ends[task] = self._forward(task)
            else:
                self.ends[task] = self._backward(task)
            self._send(task)
        closing = Closing(job, self.kernels, self.links, self.streams, self.stages, self.reductions, self._tied_bytes)
        closing.run(self.reduced)
        shown = [rank for s, ranks in enumerate(self.streams.ranks) for rank in (self.links.shown(s) or ranks)]
        return Execution(self.sim.run(), [self.streams.of[rank] for rank in shown], self.blocks)

    def _demands(self) -> Iterator[Demand]:
        """All collectives and copies that will cross links between blocks; worked out only if links ask for them."""
        size, _ = self._activations
        yield from demands(self.job, self.stages, self.reductions, self.offload, self.away, size, self._tied_bytes)

    @property
    def _tied_bytes(self) -> float:
        """Bytes of gradients of a tied embedding that two stages hold."""
        full = self.job.numerics.finetune == "full"
        return tied_table(self.job) * BYTES[self.job.numerics.gradients] if full else 0.0

    # ---- compute -------------------------------------------------------------------------------------

    def _inputs(self, task: Task) -> list[Ids]:
        """Activities that a task waits for: a neighbour's activations or gradients; reductions that nothing hides."""
        activities = self.awaited.pop(task.stage, [])
        if task in self.sent:
            activities.append(self.sent[task])
        else:
            source = depends_on(task, self.plan.pp, self.plan.vp, self.plan.pipeline)
            if source is not None:
                activities.append(self.ends[source])
        return activities

    def _pass(self, task: Task, name: str, kind: str, blocks: BlockCounts, after: Iterable[Ids]) -> Ids:
        """Blocks one after another, on every rank of the stage."""
        known = self._sums.get(id(blocks))
        if known is None:
            seconds = sum(block.seconds * times for block, times in blocks)
            known = self._sums[id(blocks)] = (blocks, seconds, sum(block.flops * times for block, times in blocks))
        _, seconds, flops = known
        label = Activity(name, "compute", kind, kind, flops, task=(task.microbatch, task.chunk))
        self.blocks.setdefault(label, blocks)
        return self.streams.delay(task.stage, seconds, label, after)

    def _one(self, block: Block) -> BlockCounts:
        return self._alone.setdefault(id(block), ((block, 1),))

    def _all_of(self, task: Task, blocks: Sequence[Block]) -> BlockCounts:
        key = (task.kind, task.stage, task.chunk)
        if key not in self._whole:
            self._whole[key] = counted(blocks)
        return self._whole[key]

    def _forward(self, task: Task) -> Ids:
        units, after = self.stages[task.stage][task.chunk], self._inputs(task)
        name = _name("F", task)
        if self.reductions.each:
            return self._forward_sharded(task, units, after)
        ready = self.ready[task.stage].get(task.chunk, ()) if task.microbatch == 0 else ()
        if self.away.of(task.stage, task.chunk):
            return self._forward_apart(task, ready or [(units, [])], after)
        if not ready:
            return self._pass(task, name, "forward", self._all_of(task, [unit.forward for unit in units]), after)
        end: Ids = {}
        for i, (part, weights) in enumerate(ready):
            blocks = counted([unit.forward for unit in part])
            end = self._pass(task, f"{name}.{i}", "forward", blocks, [*(after if i == 0 else ()), *weights])
        return end

    def _forward_apart(self, task: Task, ready: Sequence[tuple[Sequence[Passes], list[Ids]]], after: list[Ids]) -> Ids:
        """Units one by one, each with its weights; activations of some go to the host."""
        end: Ids = {}
        at = 0
        for units, weights in ready:
            for i, unit in enumerate(units):
                waits = [*(after if at == 0 else ()), *(weights if i == 0 else ()), *self.away.room(task, at)]
                end = self._pass(task, f"{_name('F', task)}.{at}", "forward", self._one(unit.forward), waits)
                self.away.put(task, at, end)
                at += 1
        return end

    def _forward_sharded(self, task: Task, units: Sequence[Passes], after: list[Ids]) -> Ids:
        done: list[Ids] = []
        for i, unit in enumerate(units):
            before = done[i - 2 : i - 1] if i > 1 else []
            if not self.plan.overlap_weights:
                before = self.streams.computed(task.stage)
            weights = self._gather(task.stage, [unit], before)
            wait = [*(after if i == 0 else ()), *weights, *self.away.room(task, i)]
            done.append(self._pass(task, f"{_name('F', task)}.{i}", "forward", self._one(unit.forward), wait))
            self.away.put(task, i, done[-1])
        return done[-1]

    def _backward(self, task: Task) -> Ids:
        units, after = self.stages[task.stage][task.chunk], self._inputs(task)
        split = self.plan.pipeline in CUT
        if task.kind == "W":
            blocks = [unit.weight_grad for unit in units]
        else:
            blocks = [unit.input_grad if split else unit.backward for unit in units]
        kind = "weight gradients" if task.kind == "W" else "backward"
        reduces = task.kind == ("W" if split else "B") and self._reduces(task.microbatch)
        if self.reductions.each:
            return self._backward_sharded(task, units, blocks, after, kind, reduces)
        if self.away.of(task.stage, task.chunk) and task.kind == "B":
            return self._backward_apart(task, units, blocks, after, kind, reduces)
        if not reduces or not self.plan.overlap_gradients:
            end = self._pass(task, _name(task.kind, task), kind, self._all_of(task, blocks[::-1]), after)
            if reduces:
                self._reduce(task.stage, units, [end], task.microbatch)
            return end
        for bucket in self.reductions.buckets(units):
            counted_blocks = counted([blocks[i] for i in bucket])
            end = self._pass(task, f"{_name(task.kind, task)}.{bucket[-1]}", kind, counted_blocks, after)
            self._reduce(task.stage, [units[i] for i in bucket], [end], task.microbatch)
            after = []
        return end

    def _backward_apart(
        self, task: Task, units: Sequence[Passes], blocks: Sequence[Block], after: list[Ids], kind: str, reduces: bool
    ) -> Ids:
        """Units one by one: activations of the next come back from the host beside backward of each."""
        begin, end = self.streams.computed(task.stage), dict[int, int]()
        back = {len(units) - 1: self.away.fetch(task, len(units) - 1, begin)}
        for bucket in self.reductions.buckets(units):
            for i in bucket:
                if i:
                    back[i - 1] = self.away.fetch(task, i - 1, begin)
                waits = [*after, *back[i]]
                end = {**self._pass(task, f"{_name(task.kind, task)}.{i}", kind, self._one(blocks[i]), waits)}
                begin, after = [end], []
            if reduces:
                self._reduce(task.stage, [units[i] for i in bucket], [end], task.microbatch)
        return end

    def _backward_sharded(
        self, task: Task, units: Sequence[Passes], blocks: Sequence[Block], after: list[Ids], kind: str, reduces: bool
    ) -> Ids:
        """Backward of sharded weights: the next unit's are gathered beside each, its gradients scattered after it.

        Two units' weights are in memory at a time; those of the last are still there from forward (PyTorch FSDP).
        Without overlap nothing is computed beside either.
        """
        gathered: dict[int, list[Ids]] = {len(units) - 1: []}
        done: dict[int, Ids] = {}
        back: dict[int, list[Ids]] = {}
        gathers, ahead = self.plan.zero == 3 and task.kind == "B", int(self.plan.overlap_weights)
        for i in reversed(range(len(units))):
            at = i - ahead  # the unit whose weights come now
            if gathers and 0 <= at < len(units) - 1:
                gathered[at] = self._gather(task.stage, [units[at]], [done[i + 1]] if i + 1 in done else [])
            wait = [*(after if not done else self.awaited.pop(task.stage, [])), *gathered.get(i, [])]
            begin = [done[i + 1]] if i + 1 in done else self.streams.computed(task.stage)
            for k in (i, i - 1):
                if k >= 0 and k not in back:
                    back[k] = self.away.fetch(task, k, begin)
            wait += back[i]
            done[i] = self._pass(task, f"{_name(task.kind, task)}.{i}", kind, self._one(blocks[i]), wait)
            if reduces:
                self._reduce(task.stage, [units[i]], [done[i]], task.microbatch)
        return done[0]

    # ---- communication -------------------------------------------------------------------------------

    def _reduces(self, microbatch: int) -> bool:
        """True if gradients travel after this microbatch: after the last, after each where they are sharded."""
        last = microbatch == self.job.microbatches - 1
        if self.offload.gradients and (last or (self.plan.zero >= 2 and self.plan.pp == 1)):
            return True
        return self.plan.dp * self.plan.cp > 1 and (last or (self.plan.zero >= 2 and self.plan.pp == 1))

    def _gather(self, stage: int, units: Sequence[Passes], after: Sequence[Ids]) -> list[Ids]:
        """All-gather of the weights of units that its ranks hold shards of."""
        waits: list[Ids] = []
        after = [*after, *self._copy(stage, "weights", self.offload.fetch(units), after)]
        if self.offload.weights and self.plan.shards == 1:
            return list(after)
        for call in self.reductions.gathers(units):
            name = "gather experts" if call.group == "expert" else "gather weights"
            waits += self.streams.transfer(stage, "grad", name, call.group, call.kind, call.size, after)
        return waits

    def _copy(self, stage: int, what: str, copies: Sequence[Copy], after: Sequence[Ids]) -> list[Ids]:
        """Copies of every rank to or from its host, or the drives of its node."""
        waits: list[Ids] = []
        for copy in copies:
            out = copy.kind in (TO_HOST, TO_NVME)
            stream, name = ("to host", f"{what} out") if out else ("from host", f"{what} in")
            waits += self.streams.transfer(stage, stream, name, OFFLOAD, copy.kind, copy.size, after)
        return waits

    def _reduce(self, stage: int, units: Sequence[Passes], after: Sequence[Ids], microbatch: int) -> None:
        """Reduction of gradients: all-reduce, or scattered to those who keep a part of them, in order.

        Where gradients live on the host, the copy of that part to the host follows.
        """
        done: list[Ids] = []
        for call in self.reductions.of(units):
            waits = [*after, *done] if call.group == "replica" else after
            done = self.streams.transfer(
                stage, STREAM_OF[call.group], "reduce gradients", call.group, call.kind, call.size, waits
            )
            self.reduced[stage] += done
            if not self.plan.overlap_gradients:
                self.awaited.setdefault(stage, []).extend(done)
        self.reduced[stage] += self._copy(stage, "gradients", self.offload.put(units, microbatch), done or after)

    def _weights_before(self, stage: int) -> dict[int, list[tuple[Sequence[Passes], list[Ids]]]]:
        """Weights gathered at the start of a step, bucket by bucket beside forward or all before it.

        They are those that sharded optimizers updated (in the steady state this is the end of the step before); with
        ZeRO-3 in pipelines all.
        """
        if self.plan.zero == 0 or self.reductions.each or self.plan.shards == 1:
            return {}
        gathered: dict[int, list[tuple[Sequence[Passes], list[Ids]]]] = {}
        for c, units in enumerate(self.stages[stage]):
            gathered[c] = [(part, self._gather(stage, part, [])) for part in self.reductions.gathered_together(units)]
        if not self.plan.overlap_weights:
            everything = [ids for parts in gathered.values() for _, weights in parts for ids in weights]
            return {c: [(units, everything)] for c, units in enumerate(self.stages[stage])}
        return gathered

    def _send(self, task: Task) -> None:
        """Activations to the next stage, or their gradients back."""
        plan = self.plan
        if plan.pp == 1 or task.kind == "W":
            return
        step = 1 if task.kind == "F" else -1
        part = part_of(task.stage, task.chunk, plan.pp, plan.pipeline) + step
        if not 0 <= part < plan.pp * plan.vp:
            return
        other = Task(task.kind, *place_of(part, plan.pp, plan.pipeline), task.microbatch)
        if other.stage == task.stage:
            return
        size, gather = self._activations
        forth, into = ("send", "receive") if task.kind == "F" else ("send back", "receive back")
        arrived = self.sent.setdefault(other, {})
        for transfer in self.links.between(task.stage, other.stage, size, gather):
            source, target = transfer.ranks
            streams = [self.streams.of[source][forth], self.streams.of[target][into]]
            waits = (self.ends[task][source],)
            arrived[target] = self.streams.submit(transfer, streams, "activations", "pp", "send_recv", size, waits, ())

    @cached_property
    def _activations(self) -> tuple[float, float]:
        """Bytes that a rank sends to the next stage, and seconds to put the parts of a tensor group together.

        Every rank of a tensor group sends its part; without sequence parallelism they are gathered on arrival
        (Narayanan et al. 2021, section 4.1).
        """
        job, plan = self.job, self.plan
        whole = job.micro_batch * job.tokens / plan.cp * job.config.hidden * BYTES[job.numerics.wide]
        if plan.tp == 1:
            return whole, 0.0
        gather = 0.0 if plan.sequence_parallel else self.links.inner("all_gather", "tp", whole).seconds
        return whole / plan.tp, gather


def _name(kind: str, task: Task) -> str:
    return f"{kind}{task.microbatch}" + (f".{task.chunk}" if task.chunk else "")
