"""One optimizer step: tasks of the pipeline on every stage, gradients and weights between ranks, then the optimizer.

Collectives between blocks take multiprocessors from kernels (drag) and share links with each other. What they do not
share is links with collectives inside blocks (tensor, context, expert groups), whose times are part of the block. Where
both cross NVLink at the same time they would slow each other down by at most

    (share of the step in inner collectives) x (share in which the others run beside them)

of the step: 0.2 % for Llama 3 8B with TP 2 x DP 4 in a DGX H100, 1.2 % with its weights sharded, 3 % with CP 4 x
FSDP 2; nothing where tensor groups fill the node and the others leave through the NICs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property

from simgpu.engine import Phase, Simulator
from simgpu.model.operators import BYTES
from simgpu.plan.schedule import CUT, Task, depends_on, order, part_of, place_of
from simgpu.timing.kernels import KernelModel
from simgpu.workload.blocks import Block, BlockCounts, counted
from simgpu.workload.copies import TO_HOST, TO_NVME
from simgpu.workload.execution import Activity, Execution
from simgpu.workload.links import OFFLOAD, Demand, Links, Transfer
from simgpu.workload.steady import folded
from simgpu.workload.training.away import Away
from simgpu.workload.training.chunks import chunks_of, tied_table
from simgpu.workload.training.demands import demands
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import Layers, Passes
from simgpu.workload.training.muon import Matrices, joined
from simgpu.workload.training.offload import Copy, Offload
from simgpu.workload.training.reductions import STREAM_OF, Reductions
from simgpu.workload.training.update import norm_of, update_of

__all__ = ["Job", "run_step"]

Ids = Mapping[int, int]
"""An activity of each simulated rank of a stage."""


def run_step(job: Job, kernels: KernelModel, links: Links) -> Execution:
    """Simulate one step of `job`: where links are folded, very many microbatches by a few of them."""
    plan = job.plan
    each = job.micro_batch * plan.dp

    def run(microbatches: int) -> tuple[Execution, dict[Task, Ids]]:
        step = _Step(replace(job, batch=microbatches * each), kernels, links)
        return step.run(), step.ends

    couples = plan.pp > 1 and plan.pipeline != "gpipe"
    return folded(job.microbatches, plan.pp, plan.vp, couples, run, links.folded)


class _Step:
    def __init__(self, job: Job, kernels: KernelModel, links: Links) -> None:
        self.job, self.plan, self.links, self.kernels = job, job.plan, links, kernels
        self.layers = Layers(
            job.config, job.plan, job.numerics, job.framework, kernels, links, job.micro_batch, job.tokens,
            job.accumulate, job.routing, job.fp8, job.microbatches > 1,
        )  # fmt: skip
        self.sim = Simulator()
        links.use(self.sim)
        self.stages = chunks_of(job, self.layers)
        self.reductions = Reductions(job, self.layers)
        self.offload, self.away = Offload(job, self.reductions), Away(job, self._copy)
        links.prepare(self._demands())
        self.ranks = [links.ranks(s) for s in range(self.plan.pp)]
        self.streams = {r: {} for ranks in self.ranks for r in ranks}  # type: dict[int, dict[str, int]]
        for r, streams in self.streams.items():
            for name in STREAMS:
                streams[name] = self.sim.add_stream(f"rank {r}/{name}")
        self.joint = self.sim.add_stream("all ranks")
        self.blocks: dict[Activity, BlockCounts] = {}
        self._sums: dict[int, tuple[BlockCounts, float, float]] = {}  # of blocks: seconds and FLOPs
        self._whole: dict[tuple[str, int, int], BlockCounts] = {}  # the blocks of a chunk
        self._labels: dict[tuple[int, str], Activity] = {}
        self._alone: dict[int, BlockCounts] = {}
        self._kept: list[Transfer] = []  # those that have labels, by their identity
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
        self._tie_embeddings()
        for s in range(plan.pp):
            self._sum_norms(s)
        self._update()
        shown = [rank for s, ranks in enumerate(self.ranks) for rank in (self.links.shown(s) or ranks)]
        return Execution(self.sim.run(), [self.streams[rank] for rank in shown], self.blocks)

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
        return self._delay(task.stage, seconds, label, after)

    def _one(self, block: Block) -> BlockCounts:
        return self._alone.setdefault(id(block), ((block, 1),))

    def _all_of(self, task: Task, blocks: Sequence[Block]) -> BlockCounts:
        key = (task.kind, task.stage, task.chunk)
        if key not in self._whole:
            self._whole[key] = counted(blocks)
        return self._whole[key]

    def _delay(self, stage: int, seconds: float, label: Activity, after: Iterable[Ids]) -> Ids:
        waits = list(after)
        if len(self.ranks[stage]) == 1:  # most often
            (r,) = self.ranks[stage]
            wanted = [ids[r] for ids in waits if r in ids]
            return {r: self.sim.delay(self.streams[r]["compute"], seconds, wanted, label)}
        return {
            r: self.sim.delay(self.streams[r]["compute"], seconds, [ids[r] for ids in waits if r in ids], label)
            for r in self.ranks[stage]
        }

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
            before = (done[i - 2 : i - 1] if i > 1 else []) if self.plan.overlap_weights else self._computed(task.stage)
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
        begin, end = self._computed(task.stage), dict[int, int]()
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
            begin = [done[i + 1]] if i + 1 in done else self._computed(task.stage)
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

    def _transfer(
        self, stage: int, stream: str, name: str, group: str, kind: str, size: float, after: Sequence[Ids]
    ) -> list[Ids]:
        """A collective of all groups of a stage; nothing where they are single ranks."""
        done: dict[int, int] = {}
        for transfer in self.links.collective(kind, group, stage, size):
            waits = dict.fromkeys(ids[r] for ids in after for r in transfer.ranks)
            streams = [self.streams[r][stream] for r in transfer.ranks]
            number = self._submit(transfer, streams, name, group, kind, size, waits, transfer.ranks)
            done.update(dict.fromkeys(transfer.ranks, number))
        return [done] if done else []

    def _submit(
        self, transfer: Transfer, streams: Sequence[int], name: str, group: str, kind: str, size: float,
        after: Iterable[int], drags: Sequence[int],
    ) -> int:  # fmt: skip
        call = transfer.call
        label = self._labels.get((id(transfer), name))
        if label is None:
            label = self._labels[id(transfer), name] = Activity(
                name, "communication", kind, group, 0.0, size, "network", call.uncertainty, None, call.sol_s,
                call.chosen, group=group,
            )  # fmt: skip
            self._kept.append(transfer)
        drag = {self.streams[r]["compute"]: call.drag for r in drags} if call.drag else None
        return self.sim.transfer(streams, transfer.phases, after, label, drag)

    def _gather(self, stage: int, units: Sequence[Passes], after: Sequence[Ids]) -> list[Ids]:
        """All-gather of the weights of units that its ranks hold shards of."""
        waits: list[Ids] = []
        after = [*after, *self._copy(stage, "weights", self.offload.fetch(units), after)]
        if self.offload.weights and self.plan.shards == 1:
            return list(after)
        for call in self.reductions.gathers(units):
            name = "gather experts" if call.group == "expert" else "gather weights"
            waits += self._transfer(stage, "grad", name, call.group, call.kind, call.size, after)
        return waits

    def _copy(self, stage: int, what: str, copies: Sequence[Copy], after: Sequence[Ids]) -> list[Ids]:
        """Copies of every rank to or from its host, or the drives of its node."""
        waits: list[Ids] = []
        for copy in copies:
            out = copy.kind in (TO_HOST, TO_NVME)
            stream, name = ("to host", f"{what} out") if out else ("from host", f"{what} in")
            waits += self._transfer(stage, stream, name, OFFLOAD, copy.kind, copy.size, after)
        return waits

    def _reduce(self, stage: int, units: Sequence[Passes], after: Sequence[Ids], microbatch: int) -> None:
        """Reduction of gradients: all-reduce, or scattered to those who keep a part of them, in order.

        Where gradients live on the host, the copy of that part to the host follows.
        """
        done: list[Ids] = []
        for call in self.reductions.of(units):
            waits = [*after, *done] if call.group == "replica" else after
            done = self._transfer(
                stage, STREAM_OF[call.group], "reduce gradients", call.group, call.kind, call.size, waits
            )
            self.reduced[stage] += done
            if not self.plan.overlap_gradients:
                self.awaited.setdefault(stage, []).extend(done)
        self.reduced[stage] += self._copy(stage, "gradients", self.offload.put(units, microbatch), done or after)

    def _computed(self, stage: int) -> list[Ids]:
        """The activity that each rank of a stage computes last so far."""
        found = {r: n for r in self.ranks[stage] if (n := self.sim.last_in(self.streams[r]["compute"])) is not None}
        return [found] if found else []

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

    def _tie_embeddings(self) -> None:
        """Add up the gradients of a tied embedding on the first and the last stage.

        Megatron-LM, core/distributed/finalize_model_grads.py.
        """
        size, last = self._tied_bytes, self.plan.pp - 1
        if not size:
            return
        for transfer in self.links.collective("all_reduce", "embedding", 0, size):
            ends = (self.reduced[0], self.reduced[last])
            waits = [ids[r] for r, ids in zip(transfer.ranks, map(_joined, ends), strict=True) if r in ids]
            waits += [n for r in transfer.ranks if (n := self.sim.last_in(self.streams[r]["compute"])) is not None]
            streams = [self.streams[r]["grad"] for r in transfer.ranks]
            label = ("tied embedding", "embedding", "all_reduce", size)
            number = self._submit(transfer, streams, *label, waits, transfer.ranks)
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
        for r in self.ranks[stage]:
            waits = [ids[r] for ids in self.reduced[stage] if r in ids]
            waits += [n for n in (self.sim.last_in(self.streams[r]["compute"]),) if n is not None]
            transfer = Transfer((r,), (Phase(call.seconds),), call)
            streams = [self.streams[r]["grad"]]
            number = self._submit(transfer, streams, "norm gradients", "tp", "all_reduce", size, waits, (r,))
            self.reduced[stage].append({r: number})

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
            streams = [self.streams[source][forth], self.streams[target][into]]
            waits = (self.ends[task][source],)
            arrived[target] = self._submit(transfer, streams, "activations", "pp", "send_recv", size, waits, ())

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

    # ---- the optimizer -------------------------------------------------------------------------------

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
                    *self._transfer(stage, "grad", "gather momenta", call.group, call.kind, call.size, waits),
                ]
            if held not in made:
                made[held] = update_of(self.job, self.kernels, self.links, *held)
            for label, seconds in made[held]:
                waits = [self._delay(stage, seconds, label, waits)]

    def _clip(self, sums: Sequence[tuple[float, float]]) -> list[list[Ids]]:
        """Norms of the gradients of every stage, of which it holds `sums`; what the update of each has to wait for."""
        after = [list(ids) for ids in self.reduced]
        norm = {held: norm_of(self.job, self.kernels, *held) for held in dict.fromkeys(sums)}
        norms = [norm[held] for held in sums]
        if not any(norms):
            return after
        for stage, squares in enumerate(norms):
            for label, seconds in squares:
                after[stage] = [self._delay(stage, seconds, label, after[stage])]
        if self.plan.world == 1:
            return after
        met = self._meet(after)
        return [[dict.fromkeys(ranks, met)] for ranks in self.ranks]

    def _meet(self, after: Sequence[Sequence[Ids]]) -> int:
        """The exchange in which all ranks add up the squares of their norms: 4 bytes over the slowest group."""
        seconds = self.links.inner("all_reduce", "tp" if self.plan.tp > 1 else "grad", 4.0).seconds
        waits = dict.fromkeys(n for stage in after for ids in stage for n in ids.values())
        label = Activity("norm of gradients", "communication", "all_reduce", "grad", 0.0, 4.0, "network", group="grad")
        return self.sim.delay(self.joint, seconds, tuple(waits), label)


def _joined(ids: Iterable[Ids]) -> dict[int, int]:
    """The last activity of each rank."""
    return {rank: number for one in ids for rank, number in one.items()}


STREAMS = ("compute", "grad", "replica", "send", "receive", "send back", "receive back", "to host", "from host")


def _name(kind: str, task: Task) -> str:
    return f"{kind}{task.microbatch}" + (f".{task.chunk}" if task.chunk else "")
