"""What a version of a training framework does with mixtures of experts where a plan says nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from simgpu.plan.experts import BALANCES
from simgpu.plan.parallelism import Plan


@dataclass(frozen=True)
class ExpertStack:
    """What a framework does with mixtures of experts unless a plan says otherwise.

    dispatcher, cuda_graphs, grouped, balance
        One of `DISPATCHERS`, `CUDA_GRAPHS`, `GROUPED`, `BALANCES`.
    permute_fusion, router_fusion
        Rows are permuted, and experts chosen, by fused kernels.
    expert_overlap
        The all-to-all runs beside the kernels of another microbatch.
    overlap_hidden
        Share of it that is then hidden.
    fp8_experts
        Experts multiply in fp8 where dense layers do.
    product_s
        Least time of the product of one expert, where each is a kernel of its own.
    flex_time
        Time of a flex dispatcher's transfer over that of NCCL's all-to-all of as many bytes.
    flex_latency_s
        Beside the bytes of a transfer between nodes: metadata, hand-over between NVLink and network.
    """

    dispatcher: str
    cuda_graphs: str
    grouped: str
    balance: str
    permute_fusion: bool
    router_fusion: bool
    expert_overlap: bool
    overlap_hidden: float
    fp8_experts: bool
    product_s: float
    flex_time: float
    flex_latency_s: float

    def under(self, plan: Plan) -> ExpertStack:
        """The settings of a plan, with those of the stack where it says nothing."""
        said = {one.name: getattr(plan, one.name, None) for one in fields(self)}
        return replace(self, **{name: value for name, value in said.items() if value is not None})

    def load(self, plan: Plan) -> float:
        """Rows of the busiest rank over the mean; what is above a capacity factor is dropped, what is below padded."""
        if plan.capacity_factor is not None:
            return plan.capacity_factor
        return BALANCES[self.balance] if plan.ep > 1 else 1.0

    def waits(self, plan: Plan) -> int:
        """How often the host waits for the GPU in forward of a layer, for the numbers of rows that it is to expect.

        NCCL needs split sizes on the host (Megatron-Core, token_dispatcher.py), DeepEP spins on a counter, HybridEP
        reads how many rows came. masked_select of an unfused permutation waits twice more. Nothing is waited for where
        every expert has room for so many rows and the rest is dropped, and within a graph of the whole iteration; with
        overlap kernels of the other microbatch are queued meanwhile.
        """
        if plan.capacity_factor is not None or self.expert_overlap or self.cuda_graphs in ("layer", "full"):
            return 0
        own = 2 if self.dispatcher == "allgather" else 1
        return own + (0 if self.permute_fusion else 2)
