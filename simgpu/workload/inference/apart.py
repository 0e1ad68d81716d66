"""Attention and experts on GPUs of their own: decode in micro-batches that pass from one side to the other and back.

Attention GPUs hold the caches and multiply by all weights but the experts'; expert GPUs see the tokens of all of them.
Micro-batches take turns, so that one side works while another is on its way (Zhu et al., MegaScale-Infer, 2025, section
4.1). With Ta, Te and Tc of a layer, for one micro-batch on each side and one way between them, m micro-batches take

    max(m max(Ta, Te, Tc), Ta + Te + 2 Tc)

in that layer. Between the sides tokens move as in an all-to-all over all of the GPUs, all of whose bytes cross.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil

from simgpu.errors import InputError, shown
from simgpu.model.config import is_moe
from simgpu.model.operators import BYTES, Communicate, ExpertLayer, Operator
from simgpu.model.serving import ExpertSplit, Group
from simgpu.plan.parallelism import Plan
from simgpu.plan.precision import bytes_of, is_boosted
from simgpu.plan.serving_memory import ServingMemory, fullest, memory_of_stage
from simgpu.timing.kernels import Uncertainty
from simgpu.workload.blocks import Block
from simgpu.workload.inference.deployment import Deployment, Groups, StepTime
from simgpu.workload.inference.jobs import Apart
from simgpu.workload.links import Call, Links

MOST_MICROBATCHES = 4
"""Micro-batches that are tried where their number is not said."""


@dataclass(frozen=True)
class Apartness:
    """A step of decode on two sides; seconds of a layer are those of one micro-batch.

    `layers` are (attention, experts, one way between them, count).
    """

    step: StepTime
    attention_gpus: int
    expert_gpus: int
    microbatches: int
    layers: tuple[tuple[float, float, float, int], ...]
    weights: tuple[float, float]  # bytes of a GPU of each side
    way: Uncertainty  # of what passes between them

    @cached_property
    def seconds(self) -> float:
        """Seconds of the step: a token for each sequence."""
        m = self.microbatches
        ends = sum(block.seconds * count for block, count in self.step.stages[0] if block.name in ("embedding", "head"))
        return sum(count * turn(a, e, c, m) for a, e, c, count in self.layers) + ends + self.step.host

    @property
    def attention(self) -> float:
        """Seconds in which an attention GPU works."""
        return self.step.each[0]

    @property
    def experts(self) -> float:
        """Seconds in which an expert GPU works."""
        return self.step.each[1]

    @property
    def transfer(self) -> float:
        """Seconds of one micro-batch on its ways, both directions of all layers."""
        return sum(2 * c * count for _, _, c, count in self.layers)

    @property
    def gpus(self) -> int:
        """GPUs of both sides."""
        return self.attention_gpus + self.expert_gpus

    @property
    def busy(self) -> float:
        """Seconds in which a GPU works, in the mean of both sides."""
        return (self.attention * self.attention_gpus + self.experts * self.expert_gpus) / self.gpus


def turn(attention: float, experts: float, way: float, microbatches: int) -> float:
    """Seconds of a layer for all micro-batches, which follow each other through both sides.

    >>> turn(2.0, 2.0, 1.0, 1), turn(2.0, 2.0, 1.0, 3)
    (6.0, 6.0)
    """
    return max(microbatches * max(attention, experts, way), attention + experts + 2 * way)


def step_apart(deployment: Deployment, asked: Apart, sequences: int, context: int) -> Apartness:
    """A token for each of `sequences` on both sides, at the split that was asked, or at the best one.

    The best split has the most tokens a second and GPU of those that fit. Raises `InputError`.
    """
    _check(deployment, asked, sequences)
    plan, cluster = deployment.plan, deployment.cluster
    held = deployment.config.experts + (plan.redundant_experts or 0)
    most = cluster.gpu_count - plan.world
    sizes = [asked.gpus] if asked.gpus else [n for n in range(1, most + 1) if held % n == 0]
    counts = [asked.microbatches] if asked.microbatches else list(range(1, MOST_MICROBATCHES + 1))
    made = [
        _step(deployment, n, m, ceil(sequences / plan.dp / m), context)
        for n in sizes for m in counts if plan.dp * m <= sequences
    ]  # fmt: skip
    fitting = [one for one in made if fullest(memory_apart(deployment, one, sequences, context)).fits]
    return min(fitting or made[-1:], key=lambda one: one.seconds * one.gpus)


def memory_apart(
    deployment: Deployment, done: Apartness, sequences: int, context: int
) -> tuple[ServingMemory, ServingMemory]:
    """Memory of a GPU that attends, and of one that holds experts and no cache."""
    capacity = deployment.cluster.gpu.memory.capacity.si
    whole = memory_of_stage(deployment.served, sequences, context, capacity, new=sequences)
    ours, theirs = done.weights
    return replace(whole, weights=ours), replace(whole, weights=theirs, kv_cache=0.0, logits=0.0, stage=1)


def _check(deployment: Deployment, asked: Apart, sequences: int) -> None:
    """Raise `InputError` for what cannot be split in this way."""
    plan, config = deployment.plan, deployment.config
    if config.experts == 1:
        raise InputError(f"'{config.name}' has no experts to take apart; leave it out", key="workload.apart")
    if deployment.runtime.style != "fused":
        problem = f"{shown(deployment.runtime.name)} has no such split; expected vllm, sglang or trtllm"
        raise InputError(problem, key="workload.runtime")
    for name in ("pp", "cp", "ep"):
        if getattr(plan, name) > 1:
            problem = f"{getattr(plan, name)}: the plan is of the attention alone where experts are apart; expected 1"
            raise InputError(problem, key=f"plan.{name}")
    left = deployment.cluster.gpu_count - plan.world
    if (asked.gpus or 1) > left:
        problem = f"{asked.gpus or 'some'} GPUs beside the {plan.world} of the plan are more than there are"
        raise InputError(f"{problem} ({deployment.cluster.gpu_count})", key="workload.apart.gpus")
    held = config.experts + (plan.redundant_experts or 0)
    gpus = asked.gpus or 1
    if held % gpus:
        near = min((n for n in range(1, held + 1) if held % n == 0), key=lambda n: abs(n - gpus))
        problem = f"{gpus} does not divide the {held} experts of '{config.name}' with their copies"
        raise InputError(f"{problem}; expected {near}", key="workload.apart.gpus")
    if plan.dp * (asked.microbatches or 1) > sequences:
        problem = f"{plan.dp} replicas with {asked.microbatches or 1} micro-batches are more than the"
        raise InputError(f"{problem} {sequences} sequences", key="workload.apart.microbatches")


def _step(deployment: Deployment, gpus: int, microbatches: int, batch: int, context: int) -> Apartness:
    """A step with so many expert GPUs; `batch` sequences of a micro-batch on each replica."""
    plan, config = deployment.plan, deployment.config
    groups, share = (Group(batch, 1, max(context, 2)),), (Group(ceil(batch * plan.dp / gpus), 1, 2),)
    split = ExpertSplit(gpus, 1, plan.dp, plan.redundant_experts)
    side, ranks = replace(deployment.fresh(), plan=Plan()), plan.world + gpus
    links = replace(deployment.fresh(), plan=Plan(dp=ranks, ep=ranks)).links
    ends = [(name, deployment.ends(name, groups)) for name in ("embedding", "head")]
    sides: tuple[list[tuple[Block, int]], list[tuple[Block, int]]] = ([], [])
    sides[0].extend((deployment.run(name, operators, groups), microbatches) for name, operators in ends)
    held = [sum(_held(deployment, operators, False, plan) for _, operators in ends), 0.0]
    layers = []
    for kind, more, count in _layers(deployment):
        near, far = _halves(deployment, kind, (groups, share), split)
        ours, theirs = deployment.run(kind, near, groups, more), side.run(f"{kind} experts", far, share, more)
        copies = min(config.experts_per_token, gpus) + bool(config.shared_width) if is_moe(kind) else 1
        way = _way(deployment, links, batch * copies)
        layers.append((ours.seconds, theirs.seconds, way.seconds, count))
        for one, block, operators, its in zip((0, 1), (ours, theirs), (near, far), (plan, Plan()), strict=True):
            sides[one].append((block, count * microbatches))
            held[one] += count * _held(deployment, operators, more, its)
    step = StepTime((Group(batch * microbatches, 1, groups[0].keys),), (tuple(sides[0]), tuple(sides[1])), 0.0, 0.0)
    host = deployment.host(step)
    step = replace(step, host=host, each_sequence=min(host, deployment.runtime.sequence_s * step.sequences))
    return Apartness(step, plan.world, gpus, microbatches, tuple(layers), (held[0], held[1]), way.uncertainty)


def _layers(deployment: Deployment) -> Iterator[tuple[str, bool, int]]:
    """Kinds of layers, whether they are stored in more bits, and how many there are of each."""
    config = deployment.config
    kinds = [kind for kind, count in config.layer_kinds() for _ in range(count)]
    boosted = [is_boosted(deployment.precision, layer, config.layers) for layer in range(config.layers)]
    for (kind, more), count in Counter(zip(kinds, boosted, strict=True)).items():
        yield kind, more, count


def _halves(
    deployment: Deployment, kind: str, groups: tuple[Groups, Groups], split: ExpertSplit
) -> tuple[tuple[Operator, ...], tuple[Operator, ...]]:
    """Operators of a layer on both sides: experts for all tokens, what each token visits for the share of a GPU."""
    every, share = (deployment.layer(kind, some, split) for some in groups)
    near = tuple(op for op in every if not isinstance(op, Communicate) and not _fed(op))
    routed = tuple(op for op in every if isinstance(op, ExpertLayer))
    return near, routed + tuple(op for op in share if _fed(op) and not isinstance(op, ExpertLayer))


def _fed(op: Operator) -> bool:
    """True for what is on the side of the experts: they, shared experts, the feed-forward of dense layers."""
    if isinstance(op, ExpertLayer) or op.name == "activation":
        return True
    return op.name.startswith(("shared_", "ffn_")) and not op.name.endswith("norm")


def _way(deployment: Deployment, links: Links, rows: int) -> Call:
    """So many rows of each replica on their way to the experts, or back.

    Ranks of a replica send a part each. Sides that do not share a node meet in its network.
    """
    plan, config = deployment.plan, deployment.config
    width = (config.latent_experts or config.hidden) * max(BYTES[deployment.dtype], 2.0)
    ranks, node = links.plan.world, deployment.cluster.gpus_per_node
    most = rows * width / plan.tp * max(1.0, plan.world / (ranks - plan.world))  # of a GPU of the smaller side
    within = node if ranks > node else 1
    return links.inner("all_to_all", "experts", most * ranks / (ranks - min(within, ranks - 1)))


def _held(deployment: Deployment, operators: Iterable[Operator], more: bool, plan: Plan) -> float:
    """Bytes of the weights of operators on a rank."""
    parts = (op.split(plan.ways) for op in operators if not isinstance(op, Communicate))
    precision, config = deployment.precision, deployment.config
    return sum(bytes_of(part, precision, config, deployment.dtype, more) for part in parts if part.weights)
