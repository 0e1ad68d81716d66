"""Tensors that the forward pass of a layer leaves behind for backward, in bytes on one rank.

Counted tensor by tensor from the operators of the layer, by what the gradient of each needs:

- a matrix multiplication with trained weights: its input. Multiplications of the same input share it;
- attention: queries, keys, values; if it is fused the output and one fp32 number per row (Dao et al., FlashAttention,
  2022, section 3.1), else the scores behind softmax, and with dropout their mask (one byte) and what it leaves of them;
- normalisation and activation: their inputs (gate and up projection both); dropout: its mask;
- scans over a state: queries, keys, values, output, and the state before each chunk;
- experts: the rows that were sent to them, and their outputs where these are weighed (stacks that weigh behind the
  activation keep the weights instead);
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
    Indexer,
    Kernel,
    Matmul,
    Operator,
    Pointwise,
    Scan,
    split_rows,
)
from simgpu.plan.numerics import NARROW, Numerics
from simgpu.plan.parallelism import EXPERT_AXIS, TENSOR_AXES, Plan
from simgpu.plan.recompute import Recomputed, recomputed_by
from simgpu.plan.stack import Stack

_NOT_SAVED = ("rope", "embedding")
"""Kinds of pointwise operators whose gradient needs nothing of forward."""

_WORKS = ("elementwise", "scores")
"""Kinds of pointwise operators with more than a gradient of the residual stream at work."""


@dataclass(frozen=True)
class Saved:
    """Bytes of one layer and microbatch on one rank.

    `stored`: kept from forward to backward with the plan's recomputation; `whole`: without any; `input` of the layer;
    `working`: what the fullest moment of the layer's backward has beyond `stored`, with recomputed tensors and the
    gradients at work; `wide`: whole rows of the hidden width, which tensor parallelism gathers or reduces; `weights`:
    the distinct shapes of its weights, as elements, once for each expert.
    """

    stored: float
    whole: float
    input: float
    working: float
    wide: float
    weights: frozenset[tuple[int, int]] = frozenset()


Kept = tuple[str, float]
"""A tensor that an operator keeps: what it is to recomputation ('scores', 'norm_output' or ''), bytes."""


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
        return BYTES[self.numerics.wide]

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
        return self.numerics.narrow_bytes if self.stack.saves_fp8 and self.numerics.dtype in NARROW else self.unit

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
    kept = list(_tensors(layer))
    whole = sum(size for of_operator in kept for _, size in of_operator)
    again = recomputed_by(plan, stack.saves_matmuls)
    dropped = [[size if again.drops(op.name, what) else 0.0 for what, size in of_operator]
               for (op, _), of_operator in zip(kernels, kept, strict=True)]  # fmt: skip
    stored = whole - sum(map(sum, dropped))
    if again.whole_layer:
        listed = min(_listed(layer, wide), whole - entry) if plan.recompute == "selective" else 0.0
        stored = entry + listed
    moments = _moments(layer, again, kept, dropped)
    weights = frozenset(
        (part.k.size, part.n_size)
        for op, part in kernels
        if isinstance(part, (Matmul, GroupedMatmul)) and part.weight and op.name != "router"
    )
    return Saved(stored, whole, entry, max(moments - stored, 0.0) + entry, wide, weights)


def _part(op: Kernel, plan: Plan) -> Kernel:
    """The part of a rank. Whole experts get the rows that each rank of a tensor group sent, not all of the group's."""
    part = op.split(plan.ways)
    own = isinstance(op, GroupedMatmul) or (isinstance(op, Pointwise) and op.width[0].axis == EXPERT_AXIS)
    return split_rows(part, plan.tp) if own and plan.whole_experts else part


def _moments(layer: _Layer, again: Recomputed, kept: list[list[Kept]], dropped: list[list[float]]) -> float:
    """Bytes of the fullest moment of a layer's backward.

    They go from what the layer keeps to what its gradients take beside the gradient of the residual stream: what an
    operator has kept is freed behind its own backward.
    """
    most = below = 0.0
    module, rebuilt = "", 0.0
    for (op, part), tensors, without in zip(layer.operators, kept, dropped, strict=True):
        size, gone = sum(size for _, size in tensors), sum(without)
        if again.whole_layer:
            gone = 0.0
        here = again.module(op.name)
        if here != module:
            module, rebuilt = here, 0.0
        below += size - gone
        rebuilt += gone
        most = max(most, below + rebuilt + _at_work(layer, op, part))
    return most


def _tensors(layer: _Layer) -> Iterator[list[Kept]]:
    """Tensors that each operator keeps, in order."""
    seen: set[tuple[int, int]] = set()
    before: Kernel | None = None
    for op, part in layer.operators:
        found: list[Kept] = []
        if isinstance(op, Matmul) and isinstance(part, Matmul):
            found = list(_of_matmul(layer, op, part, before, seen))
        elif isinstance(op, GroupedMatmul) and isinstance(part, GroupedMatmul):
            if layer.numerics.finetune == "full":
                what = "activated" if op.k.axis == EXPERT_AXIS else ""
                found = [(what, part.visits * part.k.size * layer.kept_unit)]
        elif isinstance(part, Attention):
            found = _of_attention(layer, part)
        elif isinstance(part, Scan):
            found = _of_scan(layer, part)
        elif isinstance(op, Pointwise) and isinstance(part, Pointwise):
            if part.kind == "normalization" and _width(op) == layer.width:
                seen.clear()
            found = list(_of_pointwise(layer, op, part, before))
        yield found
        before = op


def _of_attention(layer: _Layer, part: Attention) -> list[Kept]:
    """What fused attention keeps: queries, keys, values, output, and a number for each row and head.

    Where operations are not fused, keys and values are written once for every query head (`repeat_kv` of llama's
    model.py and of torchtitan).
    """
    stack, rows = layer.stack, part.batch.size * part.queries * part.heads.size
    fused = stack.fused or stack.steps_in_fp32
    kv_heads = (part.kv_heads if fused else part.heads).size
    projected = rows * part.head_dim + part.batch.size * part.keys * kv_heads * (part.head_dim + part.v_dim)
    outputs = 2 if layer.plan.cp > 1 and layer.plan.context == "all_to_all" and stack.context_output else 1
    return [("projected", projected * layer.unit), ("", rows * (outputs * part.v_dim * layer.unit + BYTES["fp32"]))]


def _of_scan(layer: _Layer, part: Scan) -> list[Kept]:
    """Of a scan: what it reads, its output, and a state for each chunk, in the type of activations.

    See fla-org's flash-linear-attention, chunk_gated_delta_rule: `h` is saved or made again.
    """
    rows = part.batch.size * part.tokens
    wide = 2 * part.key_heads.size * part.key_dim + 2 * part.heads.size * part.value_dim
    states = part.batch.size * part.chunks * part.heads.size * part.key_dim * part.value_dim
    return [("projected", rows * wide * layer.unit), ("", states * layer.unit)]


def _width(op: Pointwise) -> int:
    return sum(dim.size for dim in op.width)


def _of_matmul(
    layer: _Layer, op: Matmul, part: Matmul, before: Kernel | None, seen: set[tuple[int, int]]
) -> Iterator[Kept]:
    numerics, unit = layer.numerics, layer.unit
    if op.over:  # both operands are activations: scores of queries and keys, then with values
        scores = _makes_scores(before)
        second = part.products * part.k.size * part.n_size
        first = part.products * part.m.size * part.k.size
        yield "projected", second * unit
        if not scores:
            yield "projected", first * unit
        elif layer.stack.dropout:  # what dropout leaves of the scores, which stand behind softmax for themselves
            yield "scores", first * unit * layer.plan.cp
        return
    if _ends_branch(op) and layer.stack.dropout:
        yield "", part.m.size * part.n_size / layer.slices_rows  # a byte for each element of the mask
    if layer.autocast and op.weight:
        yield "", part.weights * unit
    trained = numerics.finetune == "full" or op.name in numerics.targets
    if not trained or not (op.weight or op.name == "lm_head"):  # a tied head has its weights elsewhere
        return
    if numerics.finetune != "full":
        yield "", part.m.size * numerics.rank * unit
    key = (op.m.size, op.k.size)
    whole_rows = op.k.axis not in TENSOR_AXES
    behind_norm = "norm_output" if whole_rows and op.k.size == layer.width else ""
    if layer.autocast and whole_rows:  # behind a norm, whose fp32 result is cast for each product
        yield behind_norm, len(_separate(part)) * part.batch * part.m.size * part.k.size * unit
        return
    if isinstance(before, (Attention, Scan)) or (whole_rows and key in seen):
        return  # kept as the output of attention, or as the input of another multiplication
    seen.add(key)
    slices = layer.slices_rows if whole_rows and layer.stack.regathers else 1
    yield behind_norm, part.batch * part.m.size * part.k.size * layer.kept_unit / slices


def _of_pointwise(layer: _Layer, op: Pointwise, part: Pointwise, before: Kernel | None) -> Iterator[Kept]:
    if part.kind in _NOT_SAVED or part.flops_per_element == 0:
        return
    size = part.elements * layer.unit
    if part.kind == "scores":
        yield "scores", size * layer.plan.cp
        if layer.stack.dropout:
            yield "scores", part.elements * layer.plan.cp
        return
    if part.kind == "elementwise":
        if isinstance(before, GroupedMatmul) and layer.stack.weighs_inside:
            if not _sliced(op):
                return  # rows come back weighed, so that their sum needs nothing
            yield "", 2 * BYTES["fp32"] * part.elements / sum(dim.units for dim in part.width)
        # an unfused gate keeps the activated gate too, to multiply its gradient by
        extra = 1 if op.reads == 2 and not layer.stack.fused else 0
        yield "", (op.reads + extra) * size
        return
    statistics = 0.0
    if part.kind == "normalization" and layer.stack.steps_in_fp32:
        size = _of_norm(layer, op, part)
    elif part.kind == "normalization" and layer.stack.norm_statistics:
        statistics = (2 if op.weights > _width(op) else 1) * part.elements / _width(part) * BYTES["fp32"]
    elif part.kind == "softmax" and layer.stack.weighs_inside:  # scores, their exponentials, what is chosen of them
        size = 3 * part.elements * BYTES["fp32"]
    yield "", (size + statistics) / (1 if _sliced(op) else layer.slices_rows)


def _sliced(op: Pointwise) -> bool:
    """Whether tensor parallelism splits the width of an operator, by name of its axis."""
    return any(dim.axis in (*TENSOR_AXES, EXPERT_AXIS) for dim in op.width)


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


def _at_work(layer: _Layer, op: Kernel, part: Kernel) -> float:
    """Bytes that the backward of an operator has at once beside what is kept and the gradient of the residual stream.

    These are the gradients of its output and input, and rows that tensor parallelism gathers for it.
    """
    unit = layer.unit
    if isinstance(op, Matmul) and isinstance(part, Matmul):
        m, n, k = part.m.size, part.n_size, part.k.size
        if op.over:
            return part.products * (m * n + m * k + k * n) * unit
        output, entry = part.batch * m * n * unit, part.batch * m * k * unit
        if layer.slices_rows == 1:  # the gradient of what ends a branch is that of the residual stream
            return entry if _ends_branch(op) else output + entry
        if op.k.axis in TENSOR_AXES:  # whose gradient is gathered
            return output + entry
        if any(dim.axis in TENSOR_AXES for dim in op.n):
            return output + entry * (1 + layer.stack.regathers + 1 / layer.slices_rows)
        return (output + entry) / layer.slices_rows
    if isinstance(part, GroupedMatmul):
        return part.visits * (part.k.size + part.n_size) * unit
    if isinstance(part, Attention):
        wide = part.queries * part.heads.size + part.keys * part.kv_heads.size
        return part.batch.size * wide * (part.head_dim + part.v_dim) * unit
    if isinstance(part, Scan):
        return sum(size for _, size in _of_scan(layer, part))
    if isinstance(part, Indexer):
        return part.batch.size * part.pairs * BYTES["fp32"]
    if isinstance(op, Pointwise) and isinstance(part, Pointwise) and part.kind in _WORKS:
        slices = 1 if part.kind == "scores" or _sliced(op) else layer.slices_rows
        return (op.reads + 1) * part.elements * unit / slices
    return 0.0


def _ends_branch(op: Matmul) -> bool:
    """Whether an operator is a projection that ends attention or feed-forward: dropout follows, then the residual."""
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
    return sum(size for kept in _tensors(_Layer(kernels, plan, numerics, stack)) for _, size in kept)
