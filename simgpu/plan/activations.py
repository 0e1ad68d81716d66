"""Tensors that the forward pass of a layer leaves behind for backward, in bytes on one rank.

Counted tensor by tensor from the operators of the layer, by what the gradient of each needs:

- a matrix multiplication with trained weights: its input. Multiplications of the same input share it;
- attention: queries, keys, values; if it is fused the output and one fp32 number per row (Dao et al., FlashAttention,
  2022, section 3.1), else the scores behind softmax, and with dropout their mask (one byte) and what it leaves of them;
- normalisation and activation: their inputs (gate and up projection both); dropout: its mask;
- experts: the rows that were sent to them, and their outputs, which are weighed;
- rotary positions, residual additions and copies: nothing.

With 2-byte elements, dropout and unfused attention this is s b h (10 + 24/t + 5 a s/(h t)) of a GPT layer, and
s b h/t (34 + 5 a s/h) with sequence parallelism (Korthikanti et al., Reducing Activation Recomputation in Large
Transformer Models, 2022, equations 2 and 4). Statistics of normalisations (8 bytes a row) are left out, as there.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from simgpu.model.operators import (
    BYTES,
    Attention,
    Communicate,
    Embedding,
    GroupedMatmul,
    Kernel,
    Matmul,
    Operator,
    Pointwise,
    split_rows,
)
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import EXPERT_AXIS, TENSOR_AXES, Plan

_NOT_SAVED = ("rope", "embedding")
"""Kinds of pointwise operators whose gradient needs nothing of forward."""


@dataclass(frozen=True)
class Stack:
    """What a training framework keeps in memory: the section `memory` of its file (`frameworks/NAME.yaml`).

    logit_bytes
        At the peak of the loss, per logit of a microbatch on a rank.
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
    live_weights
        With ZeRO-3, gathered weights that stay until so many are there (DeepSpeed, stage3_max_live_parameters); 0: the
        ends, the layer at work and the next.
    """

    logit_bytes: float
    dropout: bool
    saves_matmuls: bool
    keeps_unneeded: bool
    fused: bool
    regathers: bool
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


@dataclass(frozen=True)
class Saved:
    """Bytes of one layer and microbatch on one rank.

    `stored`: kept from forward to backward with the plan's recomputation; `whole`: without any; `input` of the layer;
    `working`: what backward of the layer makes and frees, recomputed tensors included; `wide`: whole rows of the hidden
    width, which tensor parallelism gathers or reduces.
    """

    stored: float
    whole: float
    input: float
    working: float
    wide: float


@dataclass(frozen=True)
class _Layer:
    """Operators of one layer, whole and one rank's part of each, and how the plan treats them."""

    operators: tuple[tuple[Kernel, Kernel], ...]
    plan: Plan
    numerics: Numerics
    stack: Stack

    @property
    def slices_rows(self) -> int:
        """In how many parts rows are cut that all ranks of a tensor-parallel group would hold."""
        return self.plan.tp if self.plan.sequence_parallel else 1

    @property
    def unit(self) -> float:
        """Bytes of an element of an activation."""
        return BYTES["bf16" if self.numerics.dtype == "fp8" else self.numerics.dtype]

    @property
    def autocast(self) -> bool:
        """Whether products of 16 bits cast fp32 weights and an fp32 residual stream."""
        return self.stack.steps_in_fp32 and self.numerics.casts_weights

    @property
    def stream_unit(self) -> float:
        """Bytes of an element of the residual stream."""
        return BYTES["fp32"] if self.autocast else self.unit

    @property
    def kept_unit(self) -> float:
        """Bytes of an element of what a matrix multiplication keeps."""
        return BYTES["fp8"] if self.stack.saves_fp8 and self.numerics.dtype == "fp8" else self.unit

    @property
    def width(self) -> int:
        """Of the rows between operators: that of the first normalisation."""
        return next(_width(op) for op, _ in self.operators if isinstance(op, Pointwise) and op.kind == "normalization")


def saved(operators: Sequence[Operator], plan: Plan, numerics: Numerics, stack: Stack) -> Saved:
    """What one layer keeps of one microbatch. `operators`: forward operators, unsplit."""
    kernels = tuple((op, _part(op, plan)) for op in operators if not isinstance(op, Communicate))
    layer = _Layer(kernels, plan, numerics, stack)
    norm = next(part for _, part in kernels if isinstance(part, Pointwise) and part.kind == "normalization")
    wide = norm.elements * layer.stream_unit
    entry = wide / layer.slices_rows
    tensors = list(_tensors(layer))
    whole = sum(size for _, size in tensors)
    core = sum(size for inside, size in tensors if inside)
    if plan.recompute == "none":
        stored = whole
    elif plan.recompute == "full":
        stored = entry
    elif stack.saves_matmuls:
        stored = entry + min(_listed(layer, wide), whole - entry)
    else:
        stored = whole - core
    again = 0.0 if plan.recompute == "none" else whole - stored
    return Saved(stored, whole, entry, max(again, 0.0) + _flow(layer), wide)


def _part(op: Kernel, plan: Plan) -> Kernel:
    """The part of a rank. Whole experts get the rows that each rank of a tensor group sent, not all of the group's."""
    part = op.split(plan.ways)
    own = isinstance(op, GroupedMatmul) or (isinstance(op, Pointwise) and op.width[0].axis == EXPERT_AXIS)
    return split_rows(part, plan.tp) if own and plan.whole_experts else part


def _tensors(layer: _Layer) -> Iterator[tuple[bool, float]]:
    """Saved tensors: whether they are inside attention (what Megatron's selective recomputation drops), bytes."""
    seen: set[tuple[int, int]] = set()
    before: Kernel | None = None
    for op, part in layer.operators:
        if isinstance(op, Matmul) and isinstance(part, Matmul):
            yield from _of_matmul(layer, op, part, before, seen)
        elif isinstance(part, GroupedMatmul):
            if layer.numerics.finetune == "full":
                yield False, part.visits * part.k.size * layer.kept_unit
        elif isinstance(part, Attention):
            yield False, _attention_bytes(part, layer.unit, layer.stack.fused or layer.stack.steps_in_fp32)
        elif isinstance(op, Pointwise) and isinstance(part, Pointwise):
            if part.kind == "normalization" and _width(op) == layer.width:
                seen.clear()
            yield from _of_pointwise(layer, op, part)
        before = op


def _attention_bytes(part: Attention, unit: float, fused: bool) -> float:
    """Of fused attention: queries, keys, values, output, and a number for each row and head. Where operations are not
    fused, keys and values are written once for every query head (`repeat_kv` of llama's model.py and of torchtitan)."""
    values = part.v_head_dim or part.head_dim
    queries = part.queries * part.heads.size * (part.head_dim + values)
    keys = part.keys * (part.kv_heads if fused else part.heads).size * (part.head_dim + values)
    return part.batch.size * ((queries + keys) * unit + part.queries * part.heads.size * BYTES["fp32"])


def _width(op: Pointwise) -> int:
    return sum(dim.size for dim in op.width)


def _of_matmul(
    layer: _Layer, op: Matmul, part: Matmul, before: Kernel | None, seen: set[tuple[int, int]]
) -> Iterator[tuple[bool, float]]:
    numerics, unit = layer.numerics, layer.unit
    if op.over:  # both operands are activations: scores of queries and keys, then with values
        scores = _makes_scores(before)
        second = part.products * part.k.size * part.n_size
        first = part.products * part.m.size * part.k.size
        yield False, second * unit
        if not scores:
            yield False, first * unit
        elif layer.stack.dropout:  # what dropout leaves of the scores, which stand behind softmax for themselves
            yield True, first * unit * layer.plan.cp
        return
    if _drops_out(op) and layer.stack.dropout:
        yield False, part.m.size * part.n_size / layer.slices_rows  # a byte for each element of the mask
    if layer.autocast and op.weight:
        yield False, part.weights * unit
    trained = numerics.finetune == "full" or op.name in numerics.targets
    if not trained or not (op.weight or op.name == "lm_head"):  # a tied head has its weights elsewhere
        return
    if numerics.finetune != "full":
        yield False, part.m.size * numerics.rank * unit
    key = (op.m.size, op.k.size)
    whole_rows = op.k.axis not in TENSOR_AXES
    if layer.autocast and whole_rows:  # behind a norm, whose fp32 result is cast for each product
        yield False, len(_separate(part)) * part.batch * part.m.size * part.k.size * unit
        return
    if isinstance(before, Attention) or (whole_rows and key in seen):
        return  # kept as the output of attention, or as the input of another multiplication
    seen.add(key)
    slices = layer.slices_rows if whole_rows and layer.stack.regathers else 1
    yield False, part.batch * part.m.size * part.k.size * layer.kept_unit / slices


def _of_pointwise(layer: _Layer, op: Pointwise, part: Pointwise) -> Iterator[tuple[bool, float]]:
    if part.kind in _NOT_SAVED or part.flops_per_element == 0:
        return
    size = part.elements * layer.unit
    if part.kind == "scores":
        yield True, size * layer.plan.cp
        if layer.stack.dropout:
            yield True, part.elements * layer.plan.cp
        return
    if part.kind == "elementwise":
        # an unfused gate keeps the activated gate too, to multiply its gradient by
        extra = 1 if op.reads == 2 and not layer.stack.fused else 0
        yield False, (op.reads + extra) * size
        return
    if part.kind == "normalization" and layer.stack.steps_in_fp32:
        size = _of_norm(layer, op, part)
    sliced = any(dim.is_split(layer.plan.tensor_ways) for dim in op.width)
    yield False, size / (1 if sliced else layer.slices_rows)


def _of_norm(layer: _Layer, op: Pointwise, part: Pointwise) -> float:
    """Bytes that a norm keeps whose steps run in fp32. LayerNorm is one kernel, which keeps its input."""
    entry = layer.stream_unit if _width(op) == layer.width else layer.unit
    if op.weights > _width(op):  # it adds a bias too
        return part.elements * entry
    return part.elements * (BYTES["fp32"] + entry) + part.elements / _width(op) * BYTES["fp32"]


def _listed(layer: _Layer, wide: float) -> float:
    """Outputs that selective recomputation keeps by its list: every other multiplication, attention, reduced sums."""
    outputs: list[float] = []
    found = 0.0
    for op, part in layer.operators:
        if isinstance(part, Attention):
            rows = part.batch.size * part.queries * part.heads.size
            found += rows * ((part.v_head_dim or part.head_dim) * layer.unit + BYTES["fp32"])
        elif isinstance(part, Matmul) and isinstance(op, Matmul) and not op.over:
            sizes = [part.m.size * width * layer.unit for width in _separate(part)]
            outputs += sizes
            if op.sums_over(layer.plan.tensor_ways) and layer.slices_rows > 1:
                found += wide / layer.slices_rows
    last = len(outputs) if layer.stack.keeps_unneeded else len(outputs) - 1
    return found + sum(outputs[:last:2])


def _separate(part: Matmul) -> list[int]:
    """Widths of the multiplications that the model's code does one by one: queries, keys and values, gate and up."""
    if len(part.n) == 2:
        q, kv = part.n
        return [q.size, kv.size // 2, kv.size // 2]
    return [part.n_size // 2] * 2 if part.n[0].width == 2 else [part.n_size]


def _flow(layer: _Layer) -> float:
    """Gradients of activations that stand in memory at once while backward goes through the widest operator."""
    most = 0.0
    for op, part in layer.operators:
        if isinstance(part, Pointwise) and isinstance(op, Pointwise) and part.kind in ("elementwise", "scores"):
            most = max(most, (op.reads + 1) * part.elements * layer.unit)
        elif isinstance(part, Matmul) and not part.over:
            most = max(most, part.batch * part.m.size * (part.k.size + part.n_size) * layer.unit)
        elif isinstance(part, GroupedMatmul):
            most = max(most, part.visits * (part.k.size + part.n_size) * layer.unit)
    return most


def _drops_out(op: Matmul) -> bool:
    """Whether dropout follows: behind the projections that end attention and feed-forward."""
    return op.weight and op.k.axis in TENSOR_AXES and all(dim.axis == "" for dim in op.n)


def _makes_scores(op: Kernel | None) -> bool:
    return isinstance(op, Pointwise) and op.kind == "scores"


def embedding_mask(operators: Sequence[Operator], plan: Plan, stack: Stack) -> float:
    """Bytes that the embedding keeps of a microbatch: the mask of its dropout, where there is one."""
    if not stack.dropout:
        return 0.0
    parts = [op.split(plan.ways) for op in operators if isinstance(op, Embedding)]
    rows = sum(part.rows.size * part.width for part in parts)
    return rows / (plan.tp if plan.sequence_parallel else 1)


def saved_by_head(operators: Sequence[Operator], plan: Plan, numerics: Numerics, stack: Stack) -> float:
    """Bytes that the head keeps of a microbatch: inputs of the final norm and of the logits, but not of the loss."""
    kernels = tuple(
        (op, op.split(plan.ways)) for op in operators if not isinstance(op, Communicate) and op.name != "loss"
    )
    return sum(size for _, size in _tensors(_Layer(kernels, plan, numerics, stack)))
