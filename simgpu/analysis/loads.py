"""Bytes that cross each link of the cluster in one step, and how busy that keeps it.

Counted are the payload bytes of all collectives and sends between GPUs of a finished step: every call that its
timeline and its blocks hold, as often as it ran, over every group of ranks that makes it, along the routes and in the
shares of the algorithm it ran as. Rank r sits on GPU r, node by node. Left out are flags and packet headers (bandwidths
of links are those of payload), the four bytes of the norm of gradients, and what a GPU exchanges with its own host
(offloaded states and weights).

Training and inference are simulated with one rank for all that are alike; here each rank stands for itself, so that
links carry what the groups on them send. Bytes are conserved: what leaves all GPUs is what the collectives send.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import machine_of
from simgpu.hardware.topology import Topology
from simgpu.plan.parallelism import Plan
from simgpu.timing.collectives.calls import model_of, traffic
from simgpu.workload.classes import Surroundings
from simgpu.workload.execution import Activity, Execution, PeriodicExecution

Ranks = tuple[int, ...]
Edge = tuple[str, str]

INFERENCE = ("prefill", "decode")
"""Kinds of spans of inference, whose timelines do not hold what pipeline stages send each other."""


@dataclass(frozen=True)
class Call:
    """A collective that every group of a kind makes in a pipeline stage.

    `size` is its payload, bytes, as nccl-tests count it; algorithm '' is what NCCL would choose. `to` is the stage
    that a send goes to.
    """

    kind: str
    group: str
    stage: int
    size: float
    algorithm: str
    to: int | None = None


@dataclass(frozen=True)
class LinkLoads:
    """Payload bytes over each directed link of a topology during a step of `step` seconds.

    The links of the first `nodes` nodes carry all that they do in the step; of other links only what they exchange with
    these nodes is counted.
    """

    topology: Topology
    step: float
    nodes: int
    bytes: Mapping[Edge, float]

    def busy(self, edge: Edge) -> float:
        """The fraction of the step in which a link is busy: bytes over what it could carry, 0 to 1."""
        return float(self.bytes.get(edge, 0.0) / (self.step * self.topology.wires.edges[edge]["bandwidth"]))


def link_loads(execution: Execution, plan: Plan, cluster: Cluster, nodes: int = 2) -> LinkLoads:
    """Loads of the links of the first `nodes` nodes that a plan uses, and of the switches above them.

    Raises `InputError` (key only) for pipelines of inference.
    """
    used = -(-plan.world // cluster.gpus_per_node)
    wanted = min(nodes, used)
    surroundings = Surroundings(cluster, plan, lambda rank: plan.coordinates(rank)["pp"])
    around = min(-(-wanted // surroundings.per_leaf) * surroundings.per_leaf, used)  # all below the same leaf switches
    near = range(min(around * cluster.gpus_per_node, plan.world))
    calls = {call: times for call, times in calls_of(execution, plan).items() if call.size > 0}
    flows = [(call, times, groups) for call, times in calls.items() if (groups := _groups(plan, call, near))]
    ranks = {rank for _, _, groups in flows for group in groups for rank in group}
    number = surroundings.numbered({*range(around), *(rank // cluster.gpus_per_node for rank in ranks)})
    topology = machine_of(cluster).topology(max(number.values()) + 1, ())
    place = {r: number[r // cluster.gpus_per_node] * cluster.gpus_per_node + r % cluster.gpus_per_node for r in ranks}
    total: dict[Edge, float] = {}
    for call, times, groups in flows:
        for group in groups:
            for edges, share in _shares(topology, call, [place[rank] for rank in group]):
                for edge in edges:
                    total[edge] = total.get(edge, 0.0) + share * call.size * times
    return LinkLoads(topology, execution.step, wanted, total)


def fabric_loads(execution: Execution, plan: Plan, cluster: Cluster) -> LinkLoads:
    """Bytes of a step over the links of the network alone, of all nodes at their places in the fabric."""
    per_node = cluster.gpus_per_node
    used = -(-plan.world // per_node)
    topology = machine_of(cluster).topology(used)
    total: dict[Edge, float] = {}
    for call, times in calls_of(execution, plan).items():
        if call.size <= 0:
            continue
        for group in _groups(plan, call, range(plan.world)):
            if len({rank // per_node for rank in group}) == 1:
                continue
            for edges, share in _shares(topology, call, list(group)):
                for edge in edges:
                    if topology.wires.edges[edge]["kind"] == "network":
                        total[edge] = total.get(edge, 0.0) + share * call.size * times
    return LinkLoads(topology, execution.step, used, total)


def _shares(topology: Topology, call: Call, gpus: list[int]) -> list[tuple[tuple[Edge, ...], float]]:
    """Edges that one call crosses, with payload bytes for each byte of its size."""
    if call.to is not None:
        return [(topology.route(*gpus).edges, 1.0)]
    algorithm = call.algorithm or model_of(topology, call.kind, gpus).chosen(call.size).algorithm
    return traffic(topology, call.kind, gpus, algorithm)


def calls_of(execution: Execution, plan: Plan) -> dict[Call, float]:
    """Every different call that each group of a stage makes in a step, and how often."""
    if isinstance(execution, PeriodicExecution):
        few, more = calls_of(execution.few, plan), calls_of(execution.more, plan)
        return {call: execution.grown(few.get(call, 0.0), times) for call, times in more.items()}
    counts: defaultdict[Call, float] = defaultdict(float)
    ranks = max(len(execution.streams) // plan.pp, 1)  # that are simulated of each stage
    stages = execution.streams[::ranks][: plan.pp]
    stage_of = {number: stage for stage, streams in enumerate(stages) for number in streams.values()}
    for stage, streams in enumerate(stages):
        for name, number in streams.items():
            for call, times in _calls_on(execution, plan, stage, name, number, stage_of):
                counts[call] += times
    return dict(counts)


def _calls_on(
    execution: Execution, plan: Plan, stage: int, name: str, number: int, stage_of: Mapping[int, int]
) -> Iterator[tuple[Call, float]]:
    """Calls of the activities on one stream of a stage, given by its name and number, and how often each runs."""
    timeline = execution.timeline
    for activity in timeline.of(number):
        label = timeline.labels[activity]
        if not isinstance(label, Activity):
            continue
        if label.category == "compute":
            yield from _inside(execution, label, stage, plan)
        elif name.startswith("send") and label.group == "pp":
            others = (stream for stream in timeline.streams_of[activity] if stream in stage_of and stream != number)
            yield from ((call, 1.0) for call in _sent(label, stage, stage_of[next(others)], plan))
        elif not name.startswith("receive") and label.chosen is not None:
            if label.group == "embedding" and stage != 0:
                continue  # the first and the last stage make this call together: it is counted on the first
            yield Call(label.kind, label.group or name, stage, label.bytes, label.chosen.algorithm), 1.0


def _inside(execution: Execution, label: Activity, stage: int, plan: Plan) -> Iterator[tuple[Call, float]]:
    """Collectives in the blocks that a span stands for."""
    if plan.pp > 1 and label.kind in INFERENCE:
        problem = f"loads of links are not supported for inference with {plan.pp} pipeline stages; expected 1"
        raise InputError(problem, key="plan.pp")
    for block, times in execution.blocks.get(label, ()):
        for part in block.parts:
            one = part.activity
            if one.category == "communication" and one.chosen is not None:
                yield Call(one.kind, one.group, stage, one.bytes, one.chosen.algorithm), part.runs * times


def _sent(label: Activity, stage: int, to: int, plan: Plan) -> Iterator[Call]:
    """Activations to another stage; without sequence parallelism its tensor groups then put their parts together."""
    yield Call("send_recv", "pp", stage, label.bytes, "direct", to)
    if plan.tp > 1 and not plan.sequence_parallel:
        yield Call("all_gather", "tp", to, label.bytes * plan.tp, "")


def _groups(plan: Plan, call: Call, near: range) -> list[Ranks]:
    """The groups that make a call and have a member among the ranks `near`, each once."""
    return list(dict.fromkeys(group for rank in near if (group := _group_of(plan, call, rank))))


def _group_of(plan: Plan, call: Call, rank: int) -> Ranks:
    """The group in which a rank makes a call; empty where the rank's pipeline stage takes no part in it."""
    place = plan.coordinates(rank)
    if call.to is not None:
        stages: tuple[int, ...] = (call.stage, call.to)
    elif call.group == "embedding":
        stages = (0, plan.pp - 1)
    else:
        return plan.group(call.group, rank) if place["pp"] == call.stage else ()
    return tuple(plan.rank(**{**place, "pp": stage}) for stage in stages) if place["pp"] in stages else ()
