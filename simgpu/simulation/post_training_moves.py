"""What moves between a trainer and the engine that generates for it: states, weights, and how long that takes.

Weights become the engine's in two steps that overlap: the trainer makes each tensor of the engine out of its own (a
gather over the ranks of a copy, a slice, a packed buffer), and hands it over, over CUDA IPC where both share GPUs, over
the network where they do not (NVIDIA-NeMo/RL, nemo_rl/models/policy, generation/vllm; verl, sharding managers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.plan.parallelism import Plan
from simgpu.simulation.result import Result
from simgpu.timing.collectives import collective_time
from simgpu.workload.post_training import PostTraining

STATES_RATE = 4.3e9
"""Bytes/s at which a GPU's states go to the host and come back, all GPUs of a node at a time: copies of single tensors
to pageable memory, far below the link. NVIDIA-NeMo/RL pull request 1404 saves 12 s of Qwen3-30B-A3B on 16 training GPUs
(twice 22.9 GB of Adam's states) and 9 s of Qwen3-235B-A22B on 128 (twice 22.0 GB): 3.8 and 4.9 GB/s."""


def host_rate(cluster: Cluster) -> float:
    """Bytes a second between a GPU and its host, one way, as the link allows."""
    port = cluster.gpu.host_link
    return port.bandwidth.si if port.bandwidth else cluster.links[port.link].lane_bandwidth.si * port.lanes.si


def sleep_s(trained: Mapping[str, Any], served: Mapping[str, Any], host: float) -> float:
    """Seconds in which a GPU is cleared for the engine and again for the trainer.

    Weights and optimizer states of the trainer go and come; gradients are dropped. The engine's weights wait in pinned
    memory (vLLM, sleep level 1).
    """
    states = trained["optimizer_memory_bytes"] + trained["weights_bytes_per_gpu"]
    return float(2 * states / min(STATES_RATE, host) + 2 * served["weights_bytes_per_gpu"] / host)


def refit_s(plan: Plan, cluster: Cluster, size: float, job: PostTraining) -> float:
    """Seconds for weights of so many bytes: made into those of the engine while they cross the links."""
    ranks = min(plan.tp * plan.pp * max(1, plan.ep // plan.tp if plan.ep > plan.tp else 1), plan.world)
    if job.generation.gpus:
        ranks = min(plan.world + job.generation.gpus, cluster.gpu_count)
    links = size / cluster.gpu.memory.bandwidth.si * 2
    if ranks > 1:
        links = float(collective_time(cluster, "all_gather", range(ranks), [int(size)]).seconds[0])
    return max(links, size / job.refit_rate)


def check_refit(trained: Result, served: Result, apart: bool) -> None:
    """Raise `InputError` where weights of both do not fit one GPU, as they must when the engine gets new ones."""
    if apart:
        return
    held = trained.row["weights_bytes_per_gpu"] + served.row["weights_bytes_per_gpu"]
    if held > trained.row["memory_capacity_bytes"]:
        problem = (
            f"the engine's weights ({served.row['weights_bytes_per_gpu'] / 2**30:.1f} GiB) and the trainer's do not"
        )
        problem += f" fit a GPU together ({held / 2**30:.1f} GiB), as they must when the engine gets new ones"
        raise InputError(f"{problem}; expected a larger tp, or GPUs of its own", key="workload.generation.tp")
