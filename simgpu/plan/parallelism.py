"""How a step is split over GPUs, and which splits a model and a cluster allow."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.errors import InputError, shown
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig

TENSOR_AXES = ("heads", "ffn", "vocab")
"""Axes that tensor parallelism splits (Shoeybi et al., Megatron-LM, 2019, section 3)."""


@dataclass(frozen=True)
class Plan:
    """Degrees of parallelism. World = tp x dp; ranks of a tensor-parallel group are neighbours."""

    tp: int = 1
    dp: int = 1
    sequence_parallel: bool = False

    def __post_init__(self) -> None:
        for key in ("tp", "dp"):
            degree = getattr(self, key)
            if not isinstance(degree, int) or degree < 1:
                raise InputError(f"{shown(degree)} is not a positive whole number", key=f"plan.{key}")

    @property
    def world(self) -> int:
        return self.tp * self.dp

    @property
    def ways(self) -> dict[str, int]:
        """In how many parts each named axis is split."""
        return {**dict.fromkeys(TENSOR_AXES, self.tp), "batch": self.dp, "tp": self.tp}

    def group(self, kind: str, rank: int) -> tuple[int, ...]:
        """Ranks of the 'tp' or 'dp' group of `rank`, in order."""
        if kind == "tp":
            first = rank // self.tp * self.tp
            return tuple(range(first, first + self.tp))
        return tuple(range(rank % self.tp, self.world, self.tp))


def check_fits_cluster(plan: Plan, cluster: Cluster) -> None:
    """Raise `InputError` (key only) if the plan has more ranks than the cluster has GPUs."""
    if plan.world > cluster.gpu_count:
        degrees = f"tp {plan.tp} x dp {plan.dp} = {plan.world} ranks"
        raise InputError(f"{degrees}, but '{cluster.name}' has {cluster.gpu_count} GPUs", key="plan")


def check_fits_model(plan: Plan, config: TransformerConfig, batch: int, tokens: int) -> None:
    """Raise `InputError` (key only) if the plan cannot split the model."""
    tp = plan.tp
    if config.heads % tp or not _splits_kv(config, tp):
        good = ", ".join(str(n) for n in range(1, 129) if config.heads % n == 0 and _splits_kv(config, n))
        heads = f"the {config.heads} attention heads"
        if config.heads % tp == 0:
            heads = f"the {config.kv_heads} key-value heads, nor is it a multiple of them,"
        raise InputError(f"{tp} does not divide {heads} of '{config.name}'; expected one of {good}", key="plan.tp")
    if config.ffn % tp:
        raise InputError(f"{tp} does not divide the feed-forward width {config.ffn}", key="plan.tp")
    if batch % plan.dp:
        raise InputError(f"{plan.dp} does not divide the batch of {batch} sequences", key="plan.dp")
    if plan.sequence_parallel and tokens % tp:
        raise InputError(f"sequence parallelism over {tp} ranks does not divide {tokens} tokens", key="workload.tokens")


def _splits_kv(config: TransformerConfig, tp: int) -> bool:
    return config.kv_heads % tp == 0 or tp % config.kv_heads == 0
