"""How long a checkpoint takes: bytes of the state over what the cluster's links and its storage carry."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.hardware.cluster import Cluster
from simgpu.operations.fields import CheckpointFields, RestartFields
from simgpu.operations.goodput import Saving

USUAL_STORAGE = 2e12
"""B/s of a large storage system: Tectonic of Llama 3 sustains 2 TB/s (arXiv:2407.21783, section 3.3.1)."""


@dataclass(frozen=True)
class Checkpoint:
    """Times of one save, s, and what sets them.

    bytes
        Of the whole state, written once.
    snapshot_s
        From GPUs to the memory of their hosts; `write_s` on to storage, `peer_s` to another node's memory.
    bound
        What sets the time to storage: host link, NICs, or storage.
    """

    bytes: float
    snapshot_s: float
    write_s: float
    peer_s: float
    read_s: float
    bound: str


def checkpoint(parameters: float, cluster: Cluster, gpus: int, fields: CheckpointFields) -> Checkpoint:
    """The times of a save of a model's state by all GPUs that hold a part of it, each part written once.

    Flows run at the rate of the narrowest link: the host link of a GPU, the NICs of a node, storage. All GPUs hold the
    same number of bytes, so that the fluid network of the engine gives each flow the same.
    """
    state = parameters * fields.bytes_per_parameter
    each, per_node = state / gpus, min(gpus, cluster.gpus_per_node)
    host = cluster.port(cluster.gpu.host_link).bandwidth
    nic = cluster.port(cluster.node.nic.port).bandwidth * cluster.node.nic_count if cluster.node.nic else host
    nodes = -(-gpus // cluster.gpus_per_node)
    storage = fields.storage if fields.storage is not None else min(USUAL_STORAGE, nic * nodes)
    times = {"host link": each / host, "NICs": each * per_node / nic, "storage": state / storage}
    bound = max(times, key=lambda name: times[name])
    return Checkpoint(
        state, times["host link"], times[bound], max(times["host link"], times["NICs"]), times[bound], bound
    )


def saving_of(saved: Checkpoint, fields: CheckpointFields, restart: RestartFields, contended: float = 0.0) -> Saving:
    """How a run saves and restarts: the stall of a save, the time until it is safe, and the restart in its parts.

    `contended` is the share of a step in which the network is what it waits for: copies that run beside it then take
    that share of their time from the step.
    """
    blocked = fields.save if fields.save is not None else saved.write_s
    load = restart.load if restart.load is not None else saved.read_s
    others = restart.seconds
    if fields.kind == "blocking":
        return Saving("blocking", blocked if fields.stall is None else fields.stall, 0.0, others + load)
    durable = saved.peer_s if fields.kind == "in_memory" else blocked
    stall = fields.stall if fields.stall is not None else saved.snapshot_s + contended * durable
    if fields.kind == "asynchronous":
        return Saving("asynchronous", stall, durable, others + load)
    near = restart.load if restart.load is not None else saved.peer_s
    return Saving(
        "in_memory", stall, durable, others + near, fields.group_failures, others + load, fields.storage_every
    )
