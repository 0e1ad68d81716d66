"""Lower bounds of the seconds of a step, without running it: with them a search skips most plans and is exact.

Kernels of a rank run one after another, so a stage takes at least the time of its blocks, after the first microbatch
has come through the stages before it and before the last has gone back through them. What runs beside them cannot make
them shorter. Communication between blocks is taken at the rate of all links of a GPU, or of all NICs of a node, with
nothing else on them and without latency; collectives of a stage run one after another.

With F and B the forward and backward seconds of a microbatch on a stage (F1, B1: of its first chunk), m microbatches,
h a hop between stages, r what gradients take at least after the backward pass that they follow:

    start of stage s     first gather + sum over stages before it of (F1 + h)
    end of its blocks    start + m (F + B)
    end at stage 0       end of blocks of s + sum over stages before it of (B1 + h)
    end of reductions    end of blocks - B1 + r

then norms, the meeting of all ranks, and the slowest update, as in a step. The block times are those of the simulation,
so the bound is below it by what only the simulation knows: waiting between stages, exposed transfers, multiprocessors
that collectives take from kernels. `tests/workload/test_bound.py` holds it against simulated steps.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import attrgetter
from typing import Any

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import topology_of
from simgpu.memo import Region, fields_of, key_of
from simgpu.model.operators import BYTES
from simgpu.plan.experts import SETTINGS
from simgpu.plan.parallelism import ORDER, Plan
from simgpu.plan.schedule import CUT
from simgpu.plan.states import parameters_of
from simgpu.timing.kernels import KernelModel
from simgpu.workload.links import EXACT, Links
from simgpu.workload.training.chunks import chunks_of, units_of
from simgpu.workload.training.job import Job
from simgpu.workload.training.layers import Layers, Passes
from simgpu.workload.training.muon import Matrices, joined
from simgpu.workload.training.reductions import STREAM_OF, Call, Reductions
from simgpu.workload.training.update import norm_of, update_of

REMEMBERED = 200_000
"""Parts of bounds that are remembered for a job."""

ROUNDING = 1e-12
"""Relative difference that rounding may make: sums are taken in another order than in the simulation."""


@dataclass(frozen=True)
class _Work:
    """Seconds of the work of stages, which does not depend on the number of replicas.

    Kept are the first stage and, of stages that hold equal units, the last, for which every bound is the highest.
    """

    stages: tuple[int, ...]
    before: tuple[float, ...]  # first chunks of the stages before it, forward
    behind: tuple[float, ...]  # the same, backward
    microbatch: tuple[float, ...]
    last: tuple[float, ...]  # what runs last: backward of the first chunk, weight gradients alone where it is cut


@dataclass(frozen=True)
class _Traffic:
    """Lower bounds of the seconds of collectives between blocks, for each stage."""

    ahead: tuple[float, ...]  # gathers before the first block of a stage
    after: tuple[float, ...]  # reductions that follow its last block
    stream: tuple[float, ...]  # all on the stream of the stage, in a step
    blocking: tuple[float, ...]  # those that nothing runs beside


@dataclass(frozen=True)
class Egress:
    """Bytes/s that leave a GPU over all of its links, and a node over all of its NICs (0 without)."""

    gpu: float
    node: float
    per_node: int

    @staticmethod
    def of(cluster: Cluster) -> Egress:
        """The egress of the GPUs and nodes of a cluster."""
        nodes = min(2, int(cluster.spec.nodes.si))
        wires = topology_of(cluster, nodes).wires
        gpu = max(
            sum(edge["bandwidth"] for edge in wires[name].values())
            for name in wires
            if wires.nodes[name]["kind"] == "gpu"
        )
        out = sum(
            edge["bandwidth"]
            for a, b, edge in wires.edges(data=True)
            if wires.nodes[a].get("node") == 0 and wires.nodes[b]["kind"] == "leaf"
        )
        return Egress(gpu, out, cluster.gpus_per_node)

    def seconds(self, kind: str, ranks: Sequence[int], groups: int, size: float) -> float:
        """A lower bound of the seconds of a collective of `ranks`; `groups` like it share the NICs of a node.

        Each GPU sends (n - 1)/n of the array, for an all-reduce at least once (in-switch reduction). Between N nodes,
        whatever is added up or copied inside first, each sends (N - 1)/N of it, for an all-reduce twice on average.
        """
        n = len(ranks)
        if n == 1 or not size:
            return 0.0
        nodes = len({rank // self.per_node for rank in ranks})
        inside = size * (n - 1) / n / self.gpu
        if nodes == 1 or not self.node:
            return inside
        twice = 2 if kind == "all_reduce" else 1
        return max(inside, twice * size * (nodes - 1) / nodes * groups / self.node)


@dataclass
class Bounds:
    """Lower bounds of steps of one model and batch on one cluster; what plans have in common is worked out once."""

    cluster: Cluster
    algorithm: str = "auto"
    protocol: str = "auto"
    _egress: Egress = field(init=False)
    _job: tuple[Any, ...] = field(init=False, default=())
    _known: Region[Hashable, Any] = field(init=False, default_factory=lambda: Region(REMEMBERED))

    def __post_init__(self) -> None:
        self._egress = Egress.of(self.cluster)

    def seconds(self, job: Job, kernels: KernelModel) -> float:
        """A lower bound of the seconds that `run_step` of this job returns."""
        plan, m = job.plan, job.microbatches
        if (rest := key_of(job, ("plan",))) != self._job:  # of another job nothing is known
            self._known.clear()
            self._job = rest
        layer = (
            plan.within_layer(), self._place(plan), plan.zero == 3, _gathers_each(job), plan.shards > 1,
            plan.pipeline in CUT, job.micro_batch,
        )  # fmt: skip
        layers = self._once(("layers", layer), lambda: self._layers(job, kernels))
        cut = _cut(plan)
        work = self._once(("work", layer, cut), lambda: self._work(job, layers, cut))
        hop = self._hop(job, layers, layer)
        ends = self._once(("ends", _ends_of(plan)), lambda: self._ends(job, kernels, layers))
        traffic = self._once(("traffic", _traffic_of(plan, m, _gathers_each(job))), lambda: self._traffic(job, layers))
        return _joined(plan, m, work, hop, traffic, ends) * (1 - ROUNDING)

    def floor(self, job: Job, kernels: KernelModel) -> float:
        """A lower bound that needs no blocks: the layers of the first stage at the speed of light, s.

        Each microbatch multiplies by each weight of theirs three times, with full recomputation to the end of a layer
        four times, and reads it as often. Experts are left out.
        """
        plan, numerics = job.plan, job.numerics
        held = parameters_of(job.config, plan, numerics)
        weights = held.matrices - held.experts
        again = plan.recompute == "full" and plan.recompute_layers is None and not job.framework.early_stop
        passes = 3 + again
        if numerics.finetune != "full":
            passes -= 1
        rows = job.micro_batch * job.tokens / plan.cp
        peak = kernels.peak(numerics.dtype, job.accumulate)
        read = BYTES[numerics.dtype] / kernels.gpu.memory.bandwidth.si
        if numerics.finetune == "qlora":
            read = 0.0
        return job.microbatches * passes * weights * max(2 * rows / peak, read)

    def _once(self, key: Hashable, make: Any) -> Any:
        return self._known.known(key, make)

    # ---- parts ---------------------------------------------------------------------------------------

    def _place(self, plan: Plan) -> tuple[Any, ...]:
        """A key that is equal for plans with the same groups around the first rank's, inside a layer."""
        if plan.order != ORDER:
            return plan.tp, plan.cp, plan.ep, plan.dp, plan.pp, plan.order
        per_node = self._egress.per_node
        nodes = -(-plan.tp * plan.cp * plan.ep // per_node)
        return plan.tp, plan.cp, plan.ep, min(plan.dp * plan.tp * plan.cp, nodes * per_node)

    def _layers(self, job: Job, kernels: KernelModel) -> Layers:
        links = Links(self.cluster, job.plan, kernels, self.algorithm, self.protocol)
        return Layers(
            job.config, job.plan, job.numerics, job.framework, kernels, links, job.micro_batch, job.tokens,
            job.accumulate, job.routing, job.fp8, job.microbatches > 1, job.length,
        )  # fmt: skip

    def _work(self, job: Job, layers: Layers, cut: Hashable) -> _Work:
        split = job.plan.pipeline in CUT
        counts = self._once(("counts", cut), lambda: _counts(job))
        units = {one: layers.unit(*one) for one in dict.fromkeys(one for _, whole in counts for one in whole)}
        forward = {one: unit.forward.seconds for one, unit in units.items()}
        backward = {one: (unit.input_grad if split else unit.backward).seconds for one, unit in units.items()}
        weight_grad = {one: unit.weight_grad.seconds if split else 0.0 for one, unit in units.items()}
        whole = {one: forward[one] + backward[one] + weight_grad[one] for one in units}
        before = (0.0, *accumulate(_sum(forward, chunk) for chunk, _ in counts))
        behind = (0.0, *accumulate(_sum(backward, chunk) for chunk, _ in counts))
        stages = {0, *{str(held): s for s, held in enumerate(counts)}.values()}
        last = weight_grad if split else backward
        return _Work(
            stages=tuple(sorted(stages)),
            before=tuple(before[s] for s in sorted(stages)),
            behind=tuple(behind[s] for s in sorted(stages)),
            microbatch=tuple(_sum(whole, counts[s][1]) for s in sorted(stages)),
            last=tuple(_sum(last, counts[s][0]) for s in sorted(stages)),
        )

    def _hop(self, job: Job, layers: Layers, key: Hashable) -> float:
        """Seconds to send activations from one stage to the next."""
        plan = job.plan
        if plan.pp == 1:
            return 0.0
        width = BYTES[job.numerics.wide]
        whole = job.micro_batch * job.tokens / plan.cp * job.config.hidden * width
        gather = 0.0
        if plan.tp > 1 and not plan.sequence_parallel:
            gather = self._once(("gather", key), lambda: layers.links.inner("all_gather", "tp", whole).seconds)
        return whole / plan.tp / self._egress.gpu + gather

    def _ends(self, job: Job, kernels: KernelModel, layers: Layers) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Seconds of each stage's norm, and of its update."""
        full = job.numerics.finetune == "full"
        remembered: dict[tuple[float, float, Matrices], tuple[float, float]] = {}
        ends = []
        for stage in chunks_of(job, layers):
            units = [unit for chunk in stage for unit in chunk]
            held = (
                sum(u.trained for u in units),
                sum(u.expert_weights for u in units if full),
                joined(unit.matrices for unit in units),
            )
            if held not in remembered:
                norm = sum(seconds for _, seconds in norm_of(job, kernels, *held[:2]))
                remembered[held] = norm, sum(seconds for _, seconds in update_of(job, kernels, layers.links, *held))
            ends.append(remembered[held])
        return tuple(norm for norm, _ in ends), tuple(update for _, update in ends)

    def _traffic(self, job: Job, layers: Layers) -> _Traffic:
        m = job.microbatches
        moves = Reductions(job, layers)
        kept: dict[tuple[Any, ...], tuple[float, float, float, float]] = {}
        rows = []
        for stage in chunks_of(job, layers):
            same = tuple(tuple(map(id, units)) for units in stage)
            if same not in kept:
                kept[same] = self._of_stage(job, moves, stage, m)
            rows.append(kept[same])
        return _Traffic(*(tuple(column) for column in zip(*rows, strict=True)))

    def _of_stage(
        self, job: Job, moves: Reductions, stage: Sequence[Sequence[Passes]], m: int
    ) -> tuple[float, float, float, float]:
        """Ahead, after, stream and blocking of a stage of `m` microbatches, each s; see `_Traffic`."""
        if moves.each:
            return self._each_microbatch(job.plan, moves, stage[0], m)
        return self._once_a_step(job.plan, moves, stage)

    def _each_microbatch(
        self, plan: Plan, moves: Reductions, units: Sequence[Passes], m: int
    ) -> tuple[float, float, float, float]:
        """`_of_stage` of the only stage, where weights are gathered for each of `m` microbatches."""
        reduces = plan.dp * plan.cp > 1
        reduced = list(moves.of(units)) if reduces else []
        weights = [list(moves.gathers([unit])) for unit in units]
        again = weights[:-1] if plan.zero == 3 else []
        scattered = m if plan.zero >= 2 else 1
        each = [self._calls(plan, calls) for calls in weights]
        gathered = m * (sum(each) + sum(each[: len(again)]))
        last = self._calls(plan, moves.of([units[0]])) if reduces else 0.0
        blocking, ahead = (0.0, each[0]) if plan.overlap_weights else (gathered, 0.0)
        if not plan.overlap_gradients:
            blocking += scattered * self._calls(plan, reduced) - last
        wires = self._calls(plan, reduced, True)
        moved = m * sum(self._calls(plan, calls, True) for calls in (*weights, *again)) + scattered * wires
        return ahead, last, moved, blocking

    def _once_a_step(
        self, plan: Plan, moves: Reductions, stage: Sequence[Sequence[Passes]]
    ) -> tuple[float, float, float, float]:
        """`_of_stage` of chunks whose weights are gathered, and whose gradients are reduced, once a step."""
        reduces = plan.dp * plan.cp > 1
        gathers = plan.zero > 0 and plan.shards > 1
        reduced = [list(moves.of(units)) if reduces else [] for units in stage]
        sums = [self._calls(plan, calls) for calls in reduced]
        whole = [list(moves.gathers(units)) if gathers else [] for units in stage]
        first = moves.gathers(moves.gathered_together(stage[0])[0]) if gathers and plan.overlap_weights else whole[0]
        ahead = self._calls(plan, first) if plan.overlap_weights else sum(self._calls(plan, calls) for calls in whole)
        wires = sum(self._calls(plan, calls, True) for calls in reduced)
        moved = wires + sum(self._calls(plan, calls, True) for calls in whole)
        return ahead, sums[0], moved, 0.0 if plan.overlap_gradients else sum(sums[1:])

    def _calls(self, plan: Plan, calls: Iterable[Call], together: bool = False) -> float:
        """Seconds of collectives on the stream of gradients and weights, one after another.

        With `together` they last until all groups of a node are done with theirs. Where one rank stands for all, groups
        that share NICs start together. Where each is simulated (or may be: up to `EXACT` ranks), they may drift apart,
        and one has the NICs to itself for a while.
        """
        shared = together or plan.world > EXACT
        return sum(self._call(plan, call, shared) for call in calls if STREAM_OF[call.group] == "grad")

    def _call(self, plan: Plan, call: Call, shared: bool) -> float:
        key = ("group", _groups_of(plan), call.group)
        ranks, groups = self._once(key, lambda: _placed(plan, call.group, self._egress.per_node))
        return self._egress.seconds(call.kind, ranks, groups if shared else 1, call.size)


# ---- keys: every field of a plan but those that are named -------------------------------------------

NO_CUT = (
    *("tp", "dp", "sequence_parallel", "cp", "ep", "schedule", "zero", "shard", "context", "micro_batch", "recompute"),
    *("overlap_gradients", "overlap_weights", "async_tp", "offload", "offload_to", "order", "recompute_modules"),
    *("expert_tp", *SETTINGS),
)
"""Fields that the layers of a stage do not depend on; of recomputation they know how many layers it is of."""

NO_ENDS = (
    *("sequence_parallel", "schedule", "context", "micro_batch", "recompute", "recompute_layers", "overlap_gradients"),
    *("overlap_weights", "async_tp", "order", "recompute_modules", *SETTINGS),
)
"""Fields that the norm of the gradients and the update do not depend on."""

NO_TRAFFIC = (
    *("sequence_parallel", "schedule", "context", "recompute", "recompute_layers", "async_tp", "offload", "offload_to"),
    *("recompute_modules", *SETTINGS),
)
"""Fields that collectives of gradients and weights do not depend on; of microbatches only their number matters, where
weights are gathered for each."""

NO_GROUPS = (
    *("sequence_parallel", "vp", "schedule", "zero", "context", "micro_batch", "recompute", "recompute_layers"),
    *("overlap_gradients", "overlap_weights", "async_tp", "offload", "offload_to", "recompute_modules"),
    *("stage_layers", *SETTINGS),
)
"""Fields that the ranks of a group do not depend on."""


_cut_fields = attrgetter(*fields_of(Plan, (*NO_CUT, "recompute_layers")))
_ends_fields = attrgetter(*fields_of(Plan, (*NO_ENDS, "shard")))
_traffic_fields = attrgetter(*fields_of(Plan, (*NO_TRAFFIC, "shard", "micro_batch")))
_groups_fields = attrgetter(*fields_of(Plan, (*NO_GROUPS, "shard")))


def _cut(plan: Plan) -> tuple[Hashable, ...]:
    return _cut_fields(plan), plan.last_stage, plan.recompute_layers if plan.recompute == "full" else None


def _ends_of(plan: Plan) -> tuple[Hashable, ...]:
    return _ends_fields(plan), plan.shards


def _traffic_of(plan: Plan, microbatches: int, each: bool) -> tuple[Hashable, ...]:
    return _traffic_fields(plan), plan.shards, microbatches if each else 0


def _groups_of(plan: Plan) -> tuple[Hashable, ...]:
    return _groups_fields(plan), plan.shards


Unit = tuple[str, bool]
"""Kind of a unit, and whether the plan's recomputation is for it."""


def _counts(job: Job) -> list[tuple[Counter[Unit], Counter[Unit]]]:
    """For each stage, the counted units of its first chunk and of all its chunks."""
    stages = units_of(job.config, job.plan)
    return [(Counter(stage[0]), Counter(unit for chunk in stage for unit in chunk)) for stage in stages]


def _sum(seconds: Mapping[Unit, float], counts: Mapping[Unit, int]) -> float:
    return sum(seconds[unit] * count for unit, count in counts.items())


def _gathers_each(job: Job) -> bool:
    """Whether weights are gathered for each microbatch; see `Layers.gathered`."""
    plan = job.plan
    return (plan.zero == 3 or (plan.zero == 2 and job.framework.gathers_each_microbatch)) and plan.pp == 1


def _placed(plan: Plan, group: str, per_node: int) -> tuple[tuple[int, ...], int]:
    """The ranks of the first group of a kind, and how many such groups its first node holds parts of."""
    ranks = plan.group(group, 0)
    here = range(min(per_node, plan.world // plan.pp if plan.order[-1] == "pp" else 1))
    return ranks, len({plan.group(group, rank)[0] for rank in here})


def _joined(
    plan: Plan, m: int, work: _Work, hop: float, traffic: _Traffic, ends: tuple[tuple[float, ...], tuple[float, ...]]
) -> float:
    """The bound from its parts."""
    norms, updates = ends
    split = plan.pipeline in CUT
    base = traffic.ahead[0]
    ready, back = [], 0.0
    for i, s in enumerate(work.stages):
        start = max(base + work.before[i] + s * hop, traffic.ahead[s])
        end = start + m * work.microbatch[i] + traffic.blocking[s]
        beside = work.last[i] if plan.overlap_gradients else 0.0
        reduced = max(end - beside + traffic.after[s], traffic.stream[s])
        ready.append(max(end, reduced))
        if not split:
            back = max(back, end + work.behind[i] + s * hop)
    ready[0] = max(ready[0], back)
    if any(norms) and plan.world > 1:
        return max(at + norms[s] for at, s in zip(ready, work.stages, strict=True)) + max(updates)
    return max(at + norms[s] + updates[s] for at, s in zip(ready, work.stages, strict=True))
