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
from simgpu.model.config import TransformerConfig, is_moe
from simgpu.plan.parallelism import Plan
from simgpu.simulation.result import Result
from simgpu.timing.collectives import collective_time
from simgpu.workload.post_training import PostTraining

STATES_RATE = 4.3e9
"""Bytes/s at which a GPU's states go to the host and come back, all GPUs of a node at a time: copies of single tensors
to pageable memory, far below the link. NVIDIA-NeMo/RL pull request 1404 saves 12 s of Qwen3-30B-A3B on 16 training GPUs
(twice 22.9 GB of Adam's states) and 9 s of Qwen3-235B-A22B on 128 (twice 22.0 GB): 3.8 and 4.9 GB/s."""


TENSOR_S = 0.48e-3
"""Host time of each tensor that is handed to an engine on the same GPUs, one after another. NVIDIA-NeMo/RL pull request
3294: 6.1 s more for Qwen3-30B-A3B than for Nemotron 3 Nano, which has as many bytes in 12,800 tensors less. Left out:
DeepSeek-V3 35 s (pull request 638; 36.7 with this), Qwen3-235B-A22B 18.4 s (22.7), Qwen3.5-35B-A3B 11.9 s with mbridge
(ISEEKYAN/Megatron-LM pull request 85; 15.5). Others without buckets take over 1 ms (verl-project/verl issue 5311)."""

NOT_EXPERTS = 9
"""Tensors of a layer beside its experts, in a checkpoint: four of attention, two to four norms, the router or three of
its MLP."""


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


def tensors_of(model: TransformerConfig) -> int:
    """Tensors of a checkpoint of the model: each matrix of each expert is one."""
    experts = sum(count for kind, count in model.layer_kinds() if is_moe(kind)) * model.experts
    return NOT_EXPERTS * model.layers + experts * (3 if model.gated else 2)


def refit_s(plan: Plan, cluster: Cluster, model: TransformerConfig, job: PostTraining) -> float:
    """Seconds for weights in 16 bits: made into those of the engine while they cross the links.

    To GPUs of the engine's own they go packed; on shared GPUs the host hands over one tensor after another.
    """
    size = 2.0 * model.parameters
    ranks = min(plan.tp * plan.pp * max(1, plan.ep // plan.tp if plan.ep > plan.tp else 1), plan.world)
    if job.generation.gpus:
        ranks = min(plan.world + job.generation.gpus, cluster.gpu_count)
    links = size / cluster.gpu.memory.bandwidth.si * 2
    if ranks > 1:
        links = float(collective_time(cluster, "all_gather", range(ranks), [int(size)]).seconds[0])
    handed = 0.0 if job.generation.gpus else TENSOR_S * tensors_of(model)
    return max(links, size / job.refit_rate) + handed


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
