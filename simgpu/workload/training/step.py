"""One optimizer step: tasks of the pipeline on every stage, gradients and weights between ranks, then the optimizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from simgpu.engine import Simulator
from simgpu.model.config import TransformerConfig
from simgpu.model.operators import BYTES
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.plan.schedule import Task, depends_on, order
from simgpu.plan.stages import layer_ranges
from simgpu.timing.kernels import KernelModel
from simgpu.workload.execution import Activity, Execution
from simgpu.workload.frameworks import Framework
from simgpu.workload.training.blocks import Block
from simgpu.workload.training.layers import Layers, Passes
from simgpu.workload.training.links import Links, Transfer
from simgpu.workload.training.update import update_of

Ids = Mapping[int, int]
"""An activity of each simulated rank of a stage."""

Made = tuple[tuple[Block, int], ...]
"""Blocks that an activity stands for, and how often."""


@dataclass
class Job:
    """Everything that a training step needs to know."""

    config: TransformerConfig
    plan: Plan
    numerics: Numerics
    framework: Framework
    batch: int
    tokens: int
    accumulate: str
    routing: str = "balanced"
    fp8: str | None = None
    clip: bool = True

    @property
    def micro_batch(self) -> int:
        return self.plan.micro_batch or self.batch // self.plan.dp

    @property
    def microbatches(self) -> int:
        """Of one replica."""
        return self.batch // self.plan.dp // self.micro_batch


def run_step(job: Job, kernels: KernelModel, links: Links) -> Execution:
    """Simulate one step of `job`."""
    return _Step(job, kernels, links).run()


class _Step:
    def __init__(self, job: Job, kernels: KernelModel, links: Links) -> None:
        self.job, self.plan, self.links, self.kernels = job, job.plan, links, kernels
        self.layers = Layers(
            job.config, job.plan, job.numerics, job.framework, kernels, links, job.micro_batch, job.tokens,
            job.accumulate, job.routing, job.fp8,
        )  # fmt: skip
        self.sim = Simulator()
        links.use(self.sim)
        self.stages = self._stages()
        self.ranks = [links.ranks(s) for s in range(self.plan.pp)]
        self.streams = {r: {} for ranks in self.ranks for r in ranks}  # type: dict[int, dict[str, int]]
        for r, streams in self.streams.items():
            for name in STREAMS:
                streams[name] = self.sim.add_stream(f"rank {r}/{name}")
        self.blocks: dict[Activity, Made] = {}
        self.ends: dict[Task, Ids] = {}  # the last activity of a task
        self.sent: dict[Task, dict[int, int]] = {}  # what brings a task its input
        self.reduced: list[list[Ids]] = [[] for _ in range(self.plan.pp)]

    def run(self) -> Execution:
        plan, job = self.plan, self.job
        self.ready = [self._weights_before(s) for s in range(plan.pp)]
        for task in order(plan.pipeline, plan.pp, job.microbatches, plan.vp):
            if task.kind == "F":
                self.ends[task] = self._forward(task)
            else:
                self.ends[task] = self._backward(task)
            self._send(task)
        for s in range(plan.pp):
            self._update(s)
        return Execution(self.sim.run(), list(self.streams.values()), self.blocks)

    # ---- what stages hold ----------------------------------------------------------------------------

    def _stages(self) -> list[list[list[Passes]]]:
        """Units (embedding, layers, head) of each chunk of each stage."""
        config, plan = self.job.config, self.plan
        kinds = [kind for kind, count in config.layer_kinds() for _ in range(count)]
        ranges = layer_ranges(config.layers, plan)
        made: dict[tuple[str, bool], Passes] = {}

        def unit(kind: str, again: bool) -> Passes:
            if (kind, again) not in made:
                made[kind, again] = self.layers.unit(kind, again)
            return made[kind, again]

        stages = []
        for s in range(plan.pp):
            left = plan.recompute_layers if plan.recompute == "full" and plan.recompute_layers else config.layers
            stage = []
            for c in range(plan.vp):
                units = [unit("embedding", False)] if s == 0 and c == 0 else []
                for layer in ranges[s][c]:
                    units.append(unit(kinds[layer], left > 0))
                    left -= 1
                if s == plan.pp - 1 and c == plan.vp - 1:
                    units.append(unit("head", False))
                stage.append(units)
            stages.append(stage)
        return stages

    # ---- compute -------------------------------------------------------------------------------------

    def _inputs(self, task: Task) -> list[Ids]:
        """What a task waits for: activations or gradients of a neighbour; weights gathered before the step."""
        found: list[Ids] = []
        if task in self.sent:
            found.append(self.sent[task])
        else:
            source = depends_on(task, self.plan.pp, self.plan.vp)
            if source is not None:
                found.append(self.ends[source])
        if task.kind == "F" and task.microbatch == 0:
            found += self.ready[task.stage].get(task.chunk, [])
        return found

    def _pass(self, task: Task, name: str, kind: str, made: Made, after: Iterable[Ids]) -> Ids:
        """Blocks one after another, on every rank of the stage."""
        seconds = sum(block.seconds * times for block, times in made)
        flops = sum(block.flops * times for block, times in made)
        label = Activity(name, "compute", kind, kind, flops, task=(task.microbatch, task.chunk))
        self.blocks.setdefault(label, made)
        return self._delay(task.stage, seconds, label, after)

    def _delay(self, stage: int, seconds: float, label: Activity, after: Iterable[Ids]) -> Ids:
        waits = list(after)
        return {
            r: self.sim.delay(self.streams[r]["compute"], seconds, tuple(ids[r] for ids in waits), label)
            for r in self.ranks[stage]
        }

    def _forward(self, task: Task) -> Ids:
        units, after = self.stages[task.stage][task.chunk], self._inputs(task)
        name = _name("F", task)
        if not self._sharded:
            return self._pass(task, name, "forward", _counted([unit.forward for unit in units]), after)
        done: list[Ids] = []
        for i, unit in enumerate(units):
            weights = self._gather(task.stage, unit, done[i - 2 : i - 1] if i > 1 else [])
            wait = [*(after if i == 0 else ()), *weights]
            done.append(self._pass(task, f"{name}.{i}", "forward", ((unit.forward, 1),), wait))
        return done[-1]

    def _backward(self, task: Task) -> Ids:
        units, after = self.stages[task.stage][task.chunk], self._inputs(task)
        split = self.plan.pipeline == "zb-h1"
        if task.kind == "W":
            blocks = [unit.later for unit in units]
        else:
            blocks = [unit.inputs if split else unit.backward for unit in units]
        kind = "weight gradients" if task.kind == "W" else "backward"
        reduces = task.kind == ("W" if split else "B") and self._reduces(task.microbatch)
        if self._sharded:
            return self._backward_sharded(task, units, blocks, after)
        if not reduces or not self.plan.overlap_gradients:
            end = self._pass(task, _name(task.kind, task), kind, _counted(blocks[::-1]), after)
            if reduces:
                self._reduce(task.stage, units, [end])
            return end
        made: list[Block] = []
        bucket: list[Passes] = []
        width, limit = BYTES[self.job.numerics.reduce], self.job.framework.bucket_bytes
        end = {}
        for i in reversed(range(len(units))):
            made.append(blocks[i])
            bucket.append(units[i])
            if i == 0 or sum(unit.trained for unit in bucket) * width >= limit:
                end = self._pass(task, f"{_name(task.kind, task)}.{i}", kind, _counted(made), after)
                self._reduce(task.stage, bucket, [end])
                made, bucket, after = [], [], []
        return end

    def _backward_sharded(self, task: Task, units: Sequence[Passes], blocks: Sequence[Block], after: list[Ids]) -> Ids:
        """Backward of sharded weights: the next unit's are gathered beside each, its gradients scattered after it.

        Two units' weights are in memory at a time; those of the last are still there from forward (PyTorch FSDP).
        """
        gathered: dict[int, list[Ids]] = {len(units) - 1: []}
        done: dict[int, Ids] = {}
        for i in reversed(range(len(units))):
            if self.plan.zero == 3 and i > 0:
                gathered[i - 1] = self._gather(task.stage, units[i - 1], [done[i + 1]] if i + 1 in done else [])
            wait = [*(after if not done else ()), *gathered.get(i, [])]
            done[i] = self._pass(task, f"{_name('B', task)}.{i}", "backward", ((blocks[i], 1),), wait)
            if self._reduces(task.microbatch):
                self._reduce(task.stage, [units[i]], [done[i]])
        return done[0]

    # ---- communication -------------------------------------------------------------------------------

    @property
    def _sharded(self) -> bool:
        return self.layers.gathered and self.plan.shards > 1

    def _reduces(self, microbatch: int) -> bool:
        """Whether gradients travel after this microbatch: after the last, after each where they are sharded."""
        last = microbatch == self.job.microbatches - 1
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
        label = Activity(
            name, "communication", kind, group, 0.0, size, "network", call.doubt, None, call.light, call.chosen,
            group=group,
        )  # fmt: skip
        drag = {self.streams[r]["compute"]: call.drag for r in drags} if call.drag else None
        return self.sim.transfer(streams, transfer.phases, after, label, drag)

    def _gather(self, stage: int, unit: Passes, after: Sequence[Ids]) -> list[Ids]:
        """All-gather of the weights of a unit that its ranks hold shards of."""
        width = self.job.numerics.weight_bytes
        found = self._transfer(
            stage, "grad", "gather weights", "shard", "all_gather", (unit.weights - unit.expert_weights) * width, after
        )
        if unit.expert_weights:
            size = unit.expert_weights * width
            found += self._transfer(stage, "grad", "gather experts", "expert", "all_gather", size, after)
        return found

    def _reduce(self, stage: int, units: Sequence[Passes], after: Sequence[Ids]) -> None:
        """Reduction of gradients: all-reduce, or scattered to those who keep a part of them."""
        width = BYTES[self.job.numerics.reduce]
        shared = sum(unit.expert_weights for unit in units) if self.job.numerics.finetune == "full" else 0.0
        size = sum(unit.trained for unit in units) - shared
        parts = [("grad", "shard", "replica", size), ("expert", "expert", "", shared)]
        for whole, shard, replica, count in parts:
            if not count:
                continue
            if self.plan.zero == 0:
                self.reduced[stage] += self._transfer(
                    stage, "grad", "reduce gradients", whole, "all_reduce", count * width, after
                )
                continue
            done = self._transfer(stage, "grad", "reduce gradients", shard, "reduce_scatter", count * width, after)
            if replica and self.plan.shards < self.plan.dp * self.plan.cp:
                part = count * width / self.plan.shards
                done = (
                    self._transfer(stage, "grad", "reduce gradients", replica, "all_reduce", part, done or after)
                    or done
                )
            self.reduced[stage] += done

    def _weights_before(self, stage: int) -> dict[int, list[Ids]]:
        """Updated weights of sharded optimizers, gathered at the start of a step: chunk by chunk beside forward, or
        all before it. In the steady state this is the end of the step before."""
        if self.plan.zero == 0 or self._sharded or self.plan.shards == 1:
            return {}
        found: dict[int, list[Ids]] = {}
        for c, units in enumerate(self.stages[stage]):
            whole = Passes.joined(units, trained=True)
            found[c] = self._gather(stage, whole, []) if whole.weights else []
        if not self.plan.overlap_weights:
            everything = [ids for chunk in found.values() for ids in chunk]
            found = dict.fromkeys(found, everything)
        return found

    def _send(self, task: Task) -> None:
        """Activations to the next stage, or their gradients back."""
        plan = self.plan
        if plan.pp == 1 or task.kind == "W":
            return
        step = 1 if task.kind == "F" else -1
        part = task.chunk * plan.pp + task.stage + step
        if not 0 <= part < plan.pp * plan.vp:
            return
        other = Task(task.kind, part % plan.pp, part // plan.pp, task.microbatch)
        size, gather = self._activations
        forth, into = ("send", "receive") if task.kind == "F" else ("send back", "receive back")
        arrived = self.sent.setdefault(other, {})
        for transfer in self.links.between(task.stage, other.stage, size, gather):
            source, target = transfer.ranks
            streams = [self.streams[source][forth], self.streams[target][into]]
            waits = (self.ends[task][source],)
            arrived[target] = self._submit(transfer, streams, "activations", "pp", "send_recv", size, waits, ())

    @property
    def _activations(self) -> tuple[float, float]:
        """Bytes that a rank sends to the next stage, and seconds to put the parts of a tensor group together.

        Every rank of a tensor group sends its part; without sequence parallelism they are gathered on arrival
        (Narayanan et al. 2021, section 4.1).
        """
        job, plan = self.job, self.plan
        whole = job.micro_batch * job.tokens / plan.cp * job.config.hidden * 2.0
        if plan.tp == 1:
            return whole, 0.0
        gather = 0.0 if plan.sequence_parallel else self.links.inner("all_gather", "tp", whole).seconds
        return whole / plan.tp, gather

    # ---- the optimizer -------------------------------------------------------------------------------

    def _update(self, stage: int) -> None:
        units = [unit for chunk in self.stages[stage] for unit in chunk]
        update = update_of(self.job, self.kernels, self.links, sum(u.trained for u in units),
                           sum(u.expert_weights for u in units))  # fmt: skip
        after = list(self.reduced[stage])
        for label, seconds in update:
            after = [self._delay(stage, seconds, label, after)]


STREAMS = ("compute", "grad", "send", "receive", "send back", "receive back")


def _counted(blocks: Iterable[Block]) -> Made:
    """Equal neighbours together."""
    found: list[tuple[Block, int]] = []
    for block in blocks:
        if found and found[-1][0] is block:
            found[-1] = (block, found[-1][1] + 1)
        else:
            found.append((block, 1))
    return tuple(found)


def _name(kind: str, task: Task) -> str:
    return f"{kind}{task.microbatch}" + (f".{task.chunk}" if task.chunk else "")
