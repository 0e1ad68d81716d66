"""What a training framework keeps in memory: facts of its file, which the count of a step's memory reads."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from functools import cached_property
from operator import attrgetter

from simgpu.memo import remembered
from simgpu.plan.numerics import Numerics

LOSSES = ("plain", "compiled", "fused")
"""Kinds of the loss: as the framework writes it, its operations compiled together, or a kernel that makes the gradient
of the 16-bit logits in their place."""


@dataclass(frozen=True)
class Stack:
    """What a training framework keeps in memory: the section `memory` of its file (`frameworks/NAME.yaml`).

    logit_bytes, compiled_logit_bytes, fused_logit_bytes
        At the peak of the loss, per logit of a microbatch on a rank, by kind of the loss (`LOSSES`).
    loss
        The kind that runs where a job says nothing.
    saves_matmuls
        'selective' recomputation keeps the outputs of every other matrix multiplication and of attention (torchtitan,
        `_save_list` in parallelize_llama.py), else all but the inside of attention (Megatron-LM).
    keeps_unneeded
        Selective recomputation keeps outputs on its list that backward does not need (eager PyTorch, which caches what
        it is told to; a compiler sees the backward graph).
    regathers
        With sequence parallelism, the slice of a gathered input is kept and gathered again in backward (Korthikanti et
        al. 2022, section 4.2.2; Megatron-LM tensor_parallel/layers.py).
    fused
        Gates and grouped attention run in one kernel each, else what stands between their operations is kept as well.
    norm_statistics
        A norm keeps a number in fp32 for each row beside its input (LayerNorm: two).
    dummy_gradients
        Where weight gradients are summed inside their multiplication, autograd gets a dummy of each weight in its own
        dtype: of each distinct shape one that stays for good (Transformer Engine from 2.3 on, module/_common.py and
        get_dummy_wgrad; grouped products too).
    weighs_inside
        Rows of experts are weighed behind the activation, so that outputs of experts are not kept, and the router's
        tables are fp32 (Megatron-Core from 0.12 on, transformer/moe/experts.py).
    context_output
        Context parallelism by all-to-all keeps the output of attention besides the one that the projection keeps.
    workspace_bytes
        Workspaces of the multiplications, which stay: cuBLAS of PyTorch 32 MiB from Hopper on, Transformer Engine 32.
    late_gradients
        Gradients are freed by each update, so that there are none at the loss of a step of one microbatch
        (torch.optim.Optimizer.zero_grad, set_to_none).
    update_bytes
        Of the update, for each parameter and state of fp32 that a rank updates (lists of tensors of torch.optim.Adam,
        foreach: 4; fused kernels: 0).
    saves_fp8
        With fp8 multiplications, inputs are kept in fp8, and weights twice in fp8, as they are and transposed
        (Transformer Engine); otherwise in the dtype of the weights (torchao.float8 casts where it multiplies).
    stream_pools
        Buffers of other streams do not share memory with those of the compute stream (caching allocator of PyTorch;
        pytorch pull request 129721): FSDP's gathered and reduced buffers stand beside the peak of activations.
    stage_buffers
        Each microbatch has its own receive buffers, and stage outputs are kept until their backward
        (torch.distributed.pipelining stage.py); else outputs are freed once sent (Megatron-LM schedules.py,
        deallocate_output_tensor).
    sharded_copy
        ZeRO-3 keeps shards of the weights in their dtype beside those of the fp32 master (DeepSpeed, fp16 partitions
        beside fp32 ones); else the master's alone, cast on the way to the all-gather (PyTorch FSDP, MixedPrecision).
    bucket_copy
        DDP's buckets hold gradients a second time (gradient_as_bucket_view is off by default).
    steps_in_fp32
        RMSNorm is written out: it keeps an fp32 copy of its input, what it multiplies by its weights, and a number for
        each row; keys and values are not repeated. Where weights are fp32 and products are of 16 bits (torch.autocast),
        the residual stream is fp32 too, every product casts its input and its weights anew, and keeps both.
    reduce_bucket
        Elements of the bucket that ZeRO-2 and 3 reduce gradients in (DeepSpeed, reduce_bucket_size); 0: by layers.
    host_gradients
        With states in host memory, gradients that are sharded go there as backward makes them (DeepSpeed,
        async_accumulate_grad_in_cpu_via_gpu of stage_1_and_2.py, partition_grads of stage3.py).
    reserved
        What PyTorch's allocator holds of the GPU over what is allocated at the peak. Measured with expandable segments
        1.02 to 1.11, median 1.03 (nine pairs of the model cards of Megatron-Bridge), which torchtitan sets; without
        them 1.05 to 1.5: torchtune, Megatron-LM, DeepSpeed and Hugging Face leave them off. 1.10 is in between. Stacks
        that count pools of streams come out at what torchtitan reserves (47.4 of 47.65 GiB and 49.4 of 49.58 of pull
        requests 808 and 996), so that 1.10/1.03 is left where segments do not expand.
    reserved_spread
        Deviation of the logarithm of `reserved`, from the same reports.
    centre, spread
        Logarithm of measured over counted peaks of what PyTorch allocates: its mean and its deviation.
    live_weights
        With ZeRO-3, gathered weights that stay until so many are there (DeepSpeed, stage3_max_live_parameters); 0: the
        ends, the layer at work and the next.
    """

    logit_bytes: float
    compiled_logit_bytes: float
    fused_logit_bytes: float
    loss: str
    dropout: bool
    saves_matmuls: bool
    keeps_unneeded: bool
    fused: bool
    regathers: bool
    norm_statistics: bool
    dummy_gradients: bool
    weighs_inside: bool
    context_output: bool
    workspace_bytes: float
    late_gradients: bool
    update_bytes: float
    saves_fp8: bool
    stream_pools: bool
    stage_buffers: bool
    sharded_copy: bool
    bucket_copy: bool
    steps_in_fp32: bool
    reduce_bucket: float
    live_weights: float
    host_gradients: bool
    reserved: float
    reserved_spread: float
    centre: float
    spread: float

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(_values(self))

    @property
    def loss_bytes(self) -> float:
        """At the peak of the loss, per logit."""
        return {"plain": self.logit_bytes, "compiled": self.compiled_logit_bytes}.get(self.loss, self.fused_logit_bytes)

    def of(self, numerics: Numerics) -> Stack:
        """The stack with what a job says otherwise: the kind of its loss, dropout."""
        if numerics.loss in (None, self.loss) and numerics.dropout in (None, self.dropout):
            return self
        return _said(self, numerics.loss or self.loss, self.dropout if numerics.dropout is None else numerics.dropout)


_values = attrgetter(*(one.name for one in fields(Stack)))


@remembered(64)
def _said(stack: Stack, loss: str, dropout: bool) -> Stack:
    return replace(stack, loss=loss, dropout=dropout)
