"""Frameworks: how a training stack runs the same operators. Kernels per operator, launches, overlap, memory.

A framework does not change what is computed; it changes how many kernels the memory-bound operators take and how
often each reads and writes its tensors, whether gradients are summed inside the multiplication that makes them, which
attention kernels run, how far the host keeps up, and what stays in memory. Traffic is counted from the sources of each
stack, tensor by tensor; only what cannot be counted is a constant.

A framework is a file of the catalogue (`frameworks/NAME.yaml`, see `simgpu.workload.framework_files`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from simgpu.plan.expert_stack import ExpertStack
from simgpu.plan.stack import Stack
from simgpu.workload.host_code import HostTimes

KINDS = ("elementwise", "normalization", "rope", "scores", "softmax")
"""Kinds of memory-bound kernels, each with a model of its own (`simgpu.timing.vector`)."""

ALWAYS = ("normalization", "activation", "gated", "rope", "softmax", "scores")
"""Operators that every framework has kernels for."""

OPERATORS = (*ALWAYS, "rms", "rms_autocast", "normalization_autocast", "heads", "clamped")
"""Memory-bound operators that a framework can have kernels for.

normalization, rms
    The residual addition and the norm behind it; RMSNorm where a framework runs it otherwise than LayerNorm.
rms_autocast, normalization_autocast
    The same where weights and residual stream are fp32 and products are of 16 bits (torch.autocast).
activation, gated
    The activation of the feed-forward, alone or with the product of gate and up projection.
clamped
    That of experts with biases and clamped gates, the addition of both biases included (gpt-oss); else as gated.
rope
    Rotary positions.
scores
    Scale, mask and softmax of the scores of attention that is not fused.
heads
    What brings queries, keys and values into the layout of attention and back.
softmax
    The loss: cross entropy over the logits.
"""


@dataclass(frozen=True)
class Traffic:
    """A kernel of an operator: tensors read and written, each of the operator's rows and width.

    `kind` is one of `KINDS`; `does` says in words what it is for.
    """

    kind: str
    reads: float
    writes: float
    does: str = field(default="", compare=False)


Kernels = tuple[Traffic, ...]
"""Kernels of one operator, in the order in which they run."""


@dataclass(frozen=True)
class Framework:
    """How a stack runs a training step.

    forward, backward
        Kernels of the memory-bound operators (`OPERATORS`), by the name of the operator.
    memory
        What stays in memory.
    experts
        What it does with mixtures of experts where a plan says nothing.
    host
        Host time of layers by block of code.
    launch_s
        Host time per kernel: a block takes no less than its kernels times this.
    step_s
        Host time once per step (optimizer loop, logging).
    fused_wgrad
        Weight gradients are added to the accumulator inside their multiplication.
    overlaps_tp
        Tensor-parallel collectives of backward run beside the weight gradients.
    early_stop
        Recomputation ends where its last saved tensor is made.
    gathers_each_microbatch
        With ZeRO-2 too, weights are gathered for each microbatch (FSDP).
    optimizer_passes
        Over parameters and states; 1: one fused kernel.
    bucket_bytes
        Gradients that travel together, where they are not taken layer by layer.
    flat_parameters
        FSDP of PyTorch before 2.4: gradients are joined, cast, divided, then reduced.
    matmul_slowdown
        Times of matrix multiplications over those of the present library.
    stream_slowdown
        Times of memory-bound kernels over those of their counted traffic.
    fp8_scaling
        Of products in fp8, unless the scenario says (`simgpu.plan.numerics.FP8_SCALING`).
    async_hidden
        Share of cut-up tensor-parallel collectives that hides beside products.
    context_slowdown
        Of attention in pieces that context parallelism makes, over one kernel.
    gradients_as_weights
        Gradients are summed in the dtype of the weights, unless the scenario says.
    host_update
        Times of an update in host memory over one pass of it over gradients and states.
    attention
        Library of the attention kernels (`simgpu.timing.attention_libraries`), or default: that of the GPU.
    sources
        Where each of these comes from, in words: 'launch_s', 'forward.rope', 'memory.reserved'.
    """

    name: str
    title: str
    forward: Mapping[str, Kernels]
    backward: Mapping[str, Kernels]
    memory: Stack
    experts: ExpertStack
    host: HostTimes
    launch_s: float
    step_s: float
    fused_wgrad: bool
    overlaps_tp: bool
    early_stop: bool
    gathers_each_microbatch: bool
    optimizer_passes: float
    bucket_bytes: float
    flat_parameters: bool
    matmul_slowdown: float
    stream_slowdown: float
    fp8_scaling: str
    async_hidden: float
    context_slowdown: float
    gradients_as_weights: bool
    host_update: float
    attention: str
    sources: Mapping[str, str] = field(default_factory=dict, compare=False)

    def __hash__(self) -> int:
        return hash(self.name)

    def values(self) -> dict[str, object]:
        """All values that decide a result, as plain data by the keys that `sources` has."""
        values: dict[str, object] = {}
        for key, value in vars(self).items():
            if key in ("forward", "backward"):
                for operator, kernels in value.items():
                    values[f"{key}.{operator}"] = [[one.kind, one.reads, one.writes] for one in kernels]
            elif key in ("memory", "experts", "host"):
                values |= {f"{key}.{one.name}": getattr(value, one.name) for one in fields(value)}
            elif key not in ("name", "title", "sources"):
                values[key] = value
        return values
