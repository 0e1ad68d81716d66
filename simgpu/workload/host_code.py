"""Seconds that a host needs to launch a layer: by block of code, not by kernel.

Python, autograd and modules of a library take 40 to 50 us for each kernel that they launch, where a launch itself takes
9; so constants belong to blocks of code. They are seconds of forward and backward of one layer and microbatch on the
reference, an x86 server of a DGX; `cpu_slowdown` of a node's sockets says how much longer its processor takes.

A host only launches: it runs ahead of the GPU, and what it gained in one pass it spends in the next. So in the passes
of a layer, one after another and microbatch by microbatch, a GPU waits for

    max(H - G - lead, 0),   lead = max(lead + G - H, 0)

where H is the host's time of a pass and G its kernels with exposed transfers. CUDA's queue of 1,024 launches is a lead
of about ten layers. Where rows go to experts of other ranks there is no lead to speak of: the host waits for the GPU,
for numbers of rows, and every exchange waits for the slowest host of its group. Such a pass takes about the longer of
both,

    (H^4 + G^4)^(1/4) + w x (waits for the GPU)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig, is_moe
from simgpu.plan.expert_stack import ExpertStack
from simgpu.plan.experts import FLEX

SHARPNESS = 4.0
"""Exponent of the smooth maximum; 1.5 to 8 fit published steps alike."""

LATENT = 85 / 60
"""Launches of latent attention over those of a plain block, counted in Megatron-Core."""


@dataclass(frozen=True)
class HostTimes:
    """Host time of a layer by block of code, s; 0 for `attention_s`: only launches of kernels are counted.

    attention_s, dense_s
        Attention with norms and residuals; a dense feed-forward, or shared experts.
    router_s
        Router and preprocessing, fused.
    exchange_s, flex_s
        Permutation and dispatch with NCCL; with DeepEP or HybridEP.
    experts_s, expert_s, expert_loop_s, expert_fused_s
        Experts, and each expert of the rank: in one module (te), in a module of its own (loop), of fused kernels.
    graph_s
        Replay of the graphs of a layer.
    wait_s
        A wait for the GPU: what the queue needs to fill again.
    unfused_router, unfused_permutation
        Times of the router, and of all, where those kernels are not fused.
    overlapped
        Times of all where two microbatches are interleaved.
    forward
        Share of it in forward.
    slowdown
        Times of all, of a version over that for which the others are.
    """

    attention_s: float
    dense_s: float
    router_s: float
    exchange_s: float
    flex_s: float
    experts_s: float
    expert_s: float
    expert_loop_s: float
    expert_fused_s: float
    graph_s: float
    wait_s: float
    unfused_router: float
    unfused_permutation: float
    overlapped: float
    forward: float
    slowdown: float

    def layer(self, config: TransformerConfig, kind: str, experts: ExpertStack, here: int) -> float:
        """Seconds of forward and backward of a kind of layer with `here` experts on a rank, on the reference."""
        if not self.attention_s or experts.cuda_graphs == "full":
            return 0.0
        graphs = experts.cuda_graphs
        total = self.graph_s if graphs != "none" else 0.0
        if graphs in ("none", "router"):
            total += self.attention_s * (LATENT if config.kv_rank else 1)
        if graphs == "layer":
            return total * self.slowdown
        if not is_moe(kind):
            return (total + self.dense_s) * self.slowdown
        if graphs == "none":
            total += self.router_s * (1 if experts.router_fusion else self.unfused_router)
        total += self.flex_s if experts.dispatcher in FLEX else self.exchange_s
        each = {"te": self.expert_s, "loop": self.expert_loop_s, "fused": self.expert_fused_s}[experts.grouped]
        total += self.experts_s + here * each + (self.dense_s if config.shared_experts else 0)
        total *= 1 if experts.permute_fusion else self.unfused_permutation
        total *= self.overlapped if experts.expert_overlap else 1
        return total * self.slowdown


def cpu_slowdown(cluster: Cluster) -> float:
    """Times of code on a node's slowest processor over those on the reference; 1 where the node does not say."""
    given = [socket.cpu_slowdown for socket in cluster.node.sockets]
    return max((figure.si for figure in given if figure is not None), default=1.0)


def launched(host: Sequence[float], gpu: Sequence[float], again: bool) -> tuple[float, ...]:
    """Seconds of passes that follow each other on a GPU, with what it waits for a host that may run ahead.

    `again`: the same passes came before, with another microbatch.

    >>> launched((3.0, 3.0), (2.0, 5.0), again=True)
    (2.0, 5.0)
    >>> launched((3.0, 3.0), (2.0, 5.0), again=False)
    (3.0, 5.0)
    """
    lead = 0.0
    seconds: list[float] = []
    for _ in range(2 if again else 1):
        seconds = []
        for code, kernels in zip(host, gpu, strict=True):
            lead += kernels - code
            seconds.append(kernels + max(-lead, 0.0))
            lead = max(lead, 0.0)
    return tuple(seconds)


def together(host: float, gpu: float) -> float:
    """Seconds of a pass whose host cannot run ahead: a smooth maximum of both.

    >>> together(1.0, 0.0), round(together(1.0, 1.0), 2)
    (1.0, 1.19)
    """
    longer = max(host, gpu)
    if not longer or not min(host, gpu):
        return longer
    both: float = longer * (1 + (min(host, gpu) / longer) ** SHARPNESS) ** (1 / SHARPNESS)
    return both
