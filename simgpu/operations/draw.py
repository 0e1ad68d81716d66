"""Power that a GPU draws in a job, as cost needs it: what its kernels draw, with its part of the node.

`power_of` is the one place that cost asks. A row without a prediction (a replica that is planned, not simulated) takes
the median share of the rated power that was measured in such jobs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.operations.power.site import node_base
from simgpu.timing.levels import levels_of

PREDICTED = "predicted power of its kernels (power_w_per_gpu)"
SOURCE = "median share of the rated power, ML.ENERGY v2 and v3 (H100, B200, A100), by job and batch"

DECODE_SHARES = ((16, 0.65), (128, 0.73), (float("inf"), 0.83))
"""Median board power over rated power of H100s that decode, by sequences in the batch at most (ML.ENERGY v3, vLLM)."""

BUSY_SHARE = 0.95
"""The same of prompts, images and training: 0.93 to 0.97 (images and video on one H100 or A100)."""


@dataclass(frozen=True)
class Draw:
    """Power of one GPU with its part of the node, W: busy and idle, and what is booked for it at most."""

    watts: float
    idle_watts: float
    booked_watts: float
    source: str


def power_of(row: Mapping[str, Any], cluster: Cluster, how: str | float | None = None) -> Draw:
    """The power of a GPU in a job, its part of the node with it.

    `how` is None for the power of the row, 'tdp' for the rated power, or W of the GPU itself. Raises `InputError` for W
    that it never draws.
    """
    tdp = cluster.gpu.power.tdp.si
    node = node_base(cluster) / cluster.gpus_per_node
    idle = levels_of(cluster.gpu, cluster.kernel).idle
    if how == "tdp":
        gpu, source = tdp, "rated power"
    elif how is not None:
        gpu, source = float(how), "given by hand"
        if not idle <= gpu <= tdp:
            problem = f"{gpu:g} W is out of range; expected {idle:g} W ({cluster.gpu.name} without work) to {tdp:g} W"
            raise InputError(problem, key="cost.power")
    elif row.get("power_w_per_gpu"):
        gpu, source = float(row["power_w_per_gpu"]), PREDICTED
    else:
        gpu, source = tdp * _share(row), SOURCE
    return Draw(gpu + node, idle + node, tdp + node, source)


def _share(row: Mapping[str, Any]) -> float:
    """The share of the rated power that such a job draws."""
    if row.get("workload") not in ("inference", "serving", "traffic", "mixed"):
        return BUSY_SHARE
    batch = row.get("batch") or row.get("running") or 1
    per_replica = batch / max(row.get("dp") or 1, 1)
    return next(share for most, share in DECODE_SHARES if per_replica <= most)
