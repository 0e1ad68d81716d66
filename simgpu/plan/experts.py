"""How a training stack runs mixtures of experts: what brings rows to their experts, which code runs as a CUDA graph.

Each of these is a key of a plan; what a plan leaves open is as the version of the framework does it
(`simgpu.plan.expert_stack`, section `experts` of its file).

Bytes of an all-to-all among R ranks, where each of m rows visits k experts (random routing). NCCL sends a row once for
each expert on another rank, k (R - 1)/R times. DeepEP and HybridEP send it once to each rank that holds one of its
experts, over NVLink, or once to each of N nodes, whose GPUs pass it on (deepseek-ai/DeepEP, README):

    ranks: R (1 - (1 - 1/R)^k) of R,   nodes: N (1 - (1 - 1/N)^k) of N
"""

from __future__ import annotations

from collections.abc import Mapping

DISPATCHERS = ("allgather", "alltoall", "deepep", "hybridep")
"""What brings rows to the ranks of their experts and back (Megatron-Core, moe_token_dispatcher_type and
moe_flex_dispatcher_backend)."""

FLEX = ("deepep", "hybridep")
"""Dispatchers that send a row once to a rank or node."""

CUDA_GRAPHS = ("none", "router", "parts", "layer", "full")
"""What runs as a CUDA graph: nothing; router and preprocessing; attention too; whole layers; the whole iteration
(Megatron-Bridge, cuda_graph_scope)."""

GROUPED = ("loop", "te", "fused")
"""Products of experts: a module for each expert; a library call for each inside one module (GroupedLinear of
Transformer Engine); kernels that take all of them with their activation."""

BALANCES: Mapping[str, float] = {"even": 1.0, "forced": 1.01, "aux_loss": 1.1, "early": 1.5, "none": 2.0}
"""Rows of the busiest rank over the mean, by what balances them. `even`: exactly. `forced`: logits replaced by noise,
as benchmarks do (Megatron-Core, moe_router_force_load_balancing; drawn: 1.004 to 1.014 for 4,096 to 16,384 rows a
rank). `aux_loss`: an auxiliary loss or bias after warm-up (hottest expert 1.04 to 1.23 by layer, shawntan/scattermoe
issue 10). `early`: the same in the first steps, or fine-tuning on other data (a guess between those). `none`: 1.3 to 4
(UltraEP, arXiv 2606.04101)."""

NAMED: Mapping[str, tuple[str, ...]] = {
    "dispatcher": DISPATCHERS,
    "cuda_graphs": CUDA_GRAPHS,
    "grouped": GROUPED,
    "balance": tuple(BALANCES),
}
"""Settings that are words, and what can stand there."""


SETTINGS = (
    *("dispatcher", "cuda_graphs", "permute_fusion", "router_fusion", "grouped", "capacity_factor", "expert_overlap"),
    "balance",
)
"""Keys of a plan that say how the stack runs experts, not how a step is split."""


def sent_once(places: int, visits: int) -> float:
    """The share of bytes that is left where a row goes once to each of `places` that hold one of its experts.

    It is of the bytes of one copy for each of `visits` experts.

    >>> round(sent_once(8, 8), 2), round(sent_once(2, 8), 2)
    (0.66, 0.25)
    """
    return places * (1 - (1 - 1 / places) ** visits) / visits
