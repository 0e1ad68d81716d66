"""The exchange of rows of a served step with ranks that hold other experts, as the engine's dispatcher does it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.machine import machine_of
from simgpu.model.operators import BYTES, ExpertLayer
from simgpu.plan.experts import sent_once
from simgpu.plan.program import Collective, Step
from simgpu.timing.direct_exchange import COUNTS_S, SCALE_BYTES, Lanes, low_latency_time, normal_time

DEEPEP = "deepep"


def directly(steps: Sequence[Step], lanes: Lanes, decode: bool) -> tuple[Step, ...]:
    """The steps with dispatch and combination by DeepEP's kernels: those of low latency in steps of decode.

    Rows go out in the type of the experts' products with their scales, and come back in 16 bits. Kernels of low latency
    send one for each expert; of prompts a row goes once to each node and GPU that has one of its experts, after
    the host has waited for how many come.
    """
    layers = [step for step in steps if isinstance(step, ExpertLayer)]
    if not layers:
        return tuple(steps)
    visits = min(layers[0].topk, lanes.ranks)
    narrow = BYTES[layers[0].dtype]
    return tuple(_directly(step, lanes, decode, visits, narrow) for step in steps)


def _directly(step: Step, lanes: Lanes, decode: bool, visits: int, narrow: float) -> Step:
    if not isinstance(step, Collective) or step.group != "experts":
        return step
    share = (narrow + SCALE_BYTES) / BYTES["bf16"] if step.name == "dispatch" and narrow < BYTES["bf16"] else 1.0
    sent = step.size * share
    if decode:
        return replace(step, size=sent, pace=0.0, extra_s=low_latency_time(lanes, sent))
    gpus, nodes = (sent * sent_once(places, visits) for places in (lanes.ranks, -(-lanes.ranks // lanes.here)))
    waited = COUNTS_S if step.name == "dispatch" else 0.0
    return replace(step, size=sent, pace=0.0, extra_s=waited + normal_time(lanes, gpus, nodes))


def lanes_of(cluster: Cluster, ranks: Iterable[int]) -> Lanes:
    """Those of the first of some ranks, which stand on GPUs in order."""
    group, per_node = tuple(ranks), cluster.gpus_per_node
    first = group[0] % per_node
    here = [rank % per_node for rank in group if rank // per_node == group[0] // per_node]
    away = [per_node + rank % per_node for rank in group if rank // per_node != group[0] // per_node]
    topology = machine_of(cluster).topology(2 if away else 1)
    local, remote = (
        topology.bandwidth(topology.route(first, others[0])) if others else 0.0 for others in (here[1:], away)
    )
    return Lanes(len(group), len(here), local, remote)
