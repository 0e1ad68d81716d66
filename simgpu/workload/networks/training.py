"""A step of training one stage by data parallelism: forward, backward, gradients between replicas, the update.

Gradients are reduced in buckets behind the kernels of the backward pass, as DistributedDataParallel does it. In 16 bits
weights, gradients and the optimizer's states are kept in fp32 and cast for the kernels (automatic mixed precision).
With adapters (LoRA) the weights are frozen in 16 bits, no gradient of them is computed, and what is kept in fp32 is the
adapters alone (huggingface/diffusers, examples/text_to_image/train_text_to_image_lora.py).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from simgpu.errors import InputError, shown
from simgpu.model.gradients import backward, is_weight_gradient
from simgpu.model.graph import ModelGraph, Segment
from simgpu.model.networks.pipeline import Pipeline, Stage
from simgpu.model.operators import BYTES, Dim, Matmul, Operator, Pointwise
from simgpu.plan.program import Barrier, Collective, Step

BUCKET = 25 * 2**20
"""Bytes of a bucket of gradients (torch.nn.parallel.DistributedDataParallel, bucket_cap_mb)."""

UPDATES = {"sgd": (2.0, 1.0, 0), "momentum": (3.0, 2.0, 1), "adam": (4.0, 3.0, 2)}
"""Tensors of fp32 that an optimizer reads and writes for each parameter, and states that it keeps."""

WIDE = BYTES["fp32"]


@dataclass(frozen=True)
class TrainedBytes:
    """Bytes of a rank beside the activations that it saves."""

    weights: float
    gradients: float
    optimizer: float


def trained_stage(pipeline: Pipeline) -> Stage:
    """The stage that a step trains: the denoiser, or the only one. Raises `InputError` (key only)."""
    stages = [one for one in pipeline.stages if one.fields.role in ("denoiser", "network")]
    if len(stages) != 1 or stages[0].fields.count == "tokens":
        problem = (
            f"{shown('training')} is not supported for '{pipeline.name}', which has no denoiser or network of one stage"
        )
        raise InputError(problem, key="workload.mode")
    return stages[0]


ADAPTED = ("attn1_qkv", "attn1_out", "attn2_q", "attn2_kv", "attn2_out")
"""Products of a U-Net's transformers that have adapters: to_q, to_k, to_v and to_out.0 of both attentions."""

ADAPTER = "_adapter"
"""Stands in the names of what adapters add."""


def adapted(graph: ModelGraph, rank: int) -> ModelGraph:
    """A graph with adapters: down to `rank`, up again, the sum. Raises `InputError` where it has no such product."""
    segments = [replace(s, operators=tuple(one for op in s.operators for one in _adapted(op, rank)))
                for s in graph.segments]  # fmt: skip
    if all(ADAPTER not in op.name for s in segments for op in s.operators):
        problem = f"'lora': '{graph.name}' has no attention of a U-Net, whose projections have adapters; expected full"
        raise InputError(problem, key="workload.finetune")
    return ModelGraph(graph.name, tuple(segments))


def _adapted(op: Operator, rank: int) -> Iterator[Operator]:
    yield op
    if isinstance(op, Matmul) and op.name in ADAPTED:
        down = replace(op, name=f"{op.name}{ADAPTER}_down", n=(Dim(rank),), bias=False)
        yield down
        yield replace(op, name=f"{op.name}{ADAPTER}_up", k=Dim(rank), bias=False)
        yield Pointwise(f"{op.name}{ADAPTER}_add", "elementwise", op.m, op.n, op.dtype, 2, 1)


def adapters(graph: ModelGraph) -> int:
    """Parameters of the adapters of a graph."""
    return sum(s.repeat * op.weights for s in graph.segments for op in s.operators if ADAPTER in op.name)


def learned(kernels: Sequence[Operator], frozen: bool) -> tuple[Operator, ...]:
    """Kernels of a backward pass; without the gradients of weights that are `frozen`."""
    return tuple(op for op in kernels if not frozen or ADAPTER in op.name or not is_weight_gradient(op))


def trained_graph(graph: ModelGraph, frozen: bool = False) -> ModelGraph:
    """Forward and backward of a graph; with `frozen` weights their gradients are left out."""
    back = tuple(Segment(s.name, learned(backward(s.operators), frozen), s.repeat) for s in reversed(graph.segments))
    return ModelGraph(graph.name, (*graph.segments, *back))


def bytes_of(parameters: int, dtype: str, optimizer: str, frozen: int = 0) -> TrainedBytes:
    """Bytes of weights (with copies of 16 bits, and the `frozen` ones in those alone), gradients and states."""
    copies = BYTES[dtype] if dtype in ("fp16", "bf16") else 0.0
    held = parameters * (WIDE + copies) + frozen * (copies or WIDE)
    return TrainedBytes(held, parameters * WIDE, parameters * WIDE * UPDATES[optimizer][2])


def update(parameters: int, dtype: str, optimizer: str) -> Iterator[Pointwise]:
    """Kernels besides forward and backward: casts of gradients of 16 bits, and the optimizer's."""
    rows, one = Dim(parameters), (Dim(1),)
    if dtype in ("fp16", "bf16"):
        yield Pointwise("cast_gradients", "elementwise", rows, one, dtype, 1, 2)
    if dtype == "fp16":
        yield Pointwise("unscale", "elementwise", rows, one, "fp32", 1, 1)
    reads, writes, _ = UPDATES[optimizer]
    yield Pointwise("optimizer", "elementwise", rows, one, "fp32", reads, writes)


def reduced(kernels: Sequence[Operator], steps: Sequence[Sequence[Step]], replicas: int) -> Iterator[Step]:
    """The steps of a backward pass with a reduction behind each bucket of gradients, and a wait for them at the end."""
    held = 0.0
    for kernel, own in zip(kernels, steps, strict=True):
        yield from own
        if replicas > 1 and is_weight_gradient(kernel):
            held += _weights(kernel) * WIDE
            if held >= BUCKET:
                yield _bucket(held)
                held = 0.0
    if replicas > 1:
        if held:
            yield _bucket(held)
        yield Barrier("dp")


def _weights(kernel: Operator) -> int:
    """Parameters whose gradient a kernel computes."""
    if isinstance(kernel, Matmul):
        return kernel.m.size * kernel.n_size
    taps = getattr(kernel, "taps", 0)
    return int(taps * getattr(kernel, "filters", 0))


def _bucket(size: float) -> Collective:
    return Collective("gradients", "all_reduce", "dp", size, background=True)
