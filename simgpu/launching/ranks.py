"""How the processes of a training job are started: torchrun on every node, or a batch script of Slurm."""

from __future__ import annotations

from collections.abc import Sequence

from simgpu.launching.asked import Asked
from simgpu.plan.parallelism import ORDER


def torchrun(asked: Asked) -> str:
    """`torchrun` for all ranks: alone on one node, with a meeting point on several."""
    if asked.nodes == 1:
        return f"torchrun --standalone --nproc-per-node {asked.per_node}"
    return (
        f"torchrun --nnodes {asked.nodes} --nproc-per-node {asked.per_node} --node-rank $NODE_RANK "
        "--rdzv-backend c10d --rdzv-endpoint $MASTER_ADDR:29500"
    )


def environment(asked: Asked) -> list[str]:
    """Variables of NCCL that the row depends on, each with its reason; none where its defaults do the same.

    NCCL chooses algorithm and protocol by itself. A row that fixes them was predicted with that choice.
    """
    scenario, lines = asked.scenario, []
    algorithms = {"ring": "Ring", "tree": "Tree", "nvls": "NVLS", "collnet": "CollnetChain"}
    if scenario.algorithm in algorithms:
        lines.append(f"export NCCL_ALGO={algorithms[scenario.algorithm]}  # algorithm: {scenario.algorithm}")
    if scenario.algorithm == "collnet":
        lines.append("export NCCL_COLLNET_ENABLE=1  # switches reduce, by the plugin of SHARP")
    protocols = {"ll": "LL", "ll128": "LL128", "simple": "Simple"}
    if scenario.protocol in protocols:
        lines.append(f"export NCCL_PROTO={protocols[scenario.protocol]}  # protocol: {scenario.protocol}")
    return lines


def slurm(asked: Asked, command: str, more: Sequence[str] = ()) -> str:
    """A batch script: one task a node, which starts torchrun; nodes in the order of Slurm's block distribution.

    Ranks fill a node before the next, so that the innermost groups of `plan.order` lie within a node.
    """
    order = ", ".join(asked.plan.order)
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={asked.name}",
        f"#SBATCH --nodes={asked.nodes}",
        "#SBATCH --ntasks-per-node=1",
        f"#SBATCH --gpus-per-node={asked.per_node}",
        "#SBATCH --distribution=block",
        "#SBATCH --exclusive",
        "set -euo pipefail",
        f"# ranks: {asked.per_node} a node, node by node; groups from the inside out: {order}",
        'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
        *more,
    ]
    if asked.nodes == 1:
        lines.append(f"srun bash -c '{command}'")
    else:
        lines.append(f"srun bash -c 'NODE_RANK=$SLURM_NODEID {command}'")
    return "\n".join(lines) + "\n"


def placed(asked: Asked) -> str:
    """What a framework with an order of its own cannot place as the row says; empty where it can."""
    order = tuple(asked.take("plan.order"))
    degrees = {axis: getattr(asked.plan, axis) for axis in ORDER}
    mine = [axis for axis in order if degrees[axis] > 1]
    usual = [axis for axis in ORDER if degrees[axis] > 1]
    return "" if mine == usual else ", ".join(order)
