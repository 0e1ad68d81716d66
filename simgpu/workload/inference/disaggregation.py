"""Prefill and decode on GPUs of their own: prompts pass from one side to the other with their caches."""

from __future__ import annotations

from simgpu.hardware.cluster import Cluster
from simgpu.plan.serving_memory import cache_bytes
from simgpu.workload.inference.deployment import Deployment
from simgpu.workload.inference.generation import decode_seconds, pipelined, prefill_runs
from simgpu.workload.inference.serving import Load, Serving, room_for

TRANSFER_FRACTION = 0.5
"""Of the rate of a network adapter that a transfer of caches reaches: an estimate of this project (layer by layer, in
blocks of the cache)."""


def serve_apart(prefill: Deployment, decode: Deployment, load: Load, prefills: int = 1, decodes: int = 1) -> Serving:
    """The steady state of `prefills` engines that take prompts and `decodes` engines that answer them.

    Decodes see no prompts: TPOT is that of their step. Prompts queue where the prefill side is the slower one: by
    Little's law the requests that are not decoding wait there.
    """
    each = load.concurrency / decodes / decode.plan.dp
    batch = min(each, max(room_for(decode, load), 1.0))
    step, decode_s = decode_seconds(decode, max(round(batch), 1), load.prompt + load.output // 2)
    alone = pipelined(prefill_runs(prefill, 1, load.prompt, load.cached), prefill.runtime.queue)
    moved = sum(cache_bytes(decode.served, load.prompt, stage) for stage in range(decode.plan.pp))
    transfer = moved / (TRANSFER_FRACTION * network_rate(decode))
    answer = decode_s * (load.output - 1)
    busy = prefills * prefill.plan.dp / alone  # prompts/s that the prefill side takes
    first = prefill.runtime.first_s + alone + transfer
    cycle = max(load.concurrency / busy, first + answer)
    waiting = each - batch
    ttft = cycle - answer + waiting / batch * cycle
    rate = load.concurrency / (ttft + answer)
    return Serving(load, batch, waiting, ttft, decode_s, ((step, 1.0),), decode_s, 0.0, rate)


def network_rate(deployment: Deployment) -> float:
    """Bytes/s that a GPU sends to another node: its share of the adapters, of the host link where there are none."""
    return adapter_rate(deployment.cluster)


def adapter_rate(cluster: Cluster) -> float:
    """Bytes/s of a GPU's share of its node's network adapters; of the host link where there are none."""
    nic, count = cluster.node.nic, cluster.node.nic_count
    if nic is None or not count:
        port = cluster.gpu.host_link
        return cluster.links[port.link].lane_bandwidth.si * port.lanes.si
    return cluster.links[nic.port.link].lane_bandwidth.si * nic.port.lanes.si * count / cluster.gpus_per_node
