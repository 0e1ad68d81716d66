"""From operators to the kernels of a framework: the same mathematics in more or fewer passes over memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from simgpu.model.operators import BYTES, Attention, Dim, GroupedMatmul, Matmul, Operator, Pointwise
from simgpu.plan.numerics import NARROW, NVFP4, SCALES
from simgpu.plan.program import Barrier, Collective, Step
from simgpu.workload.frameworks import Framework, Kernels, Traffic

_BACKWARD = "_backward"

FIRST_THE_LARGEST = ("tensorwise", NVFP4)
"""Scaling for which a tensor is read once for its largest value before it is cast."""

AMAX, CAST = "_amax", "_cast"
"""Ends of names of kernels that look for the largest value of a tensor, and of those that cast it."""

AROUND = ("_zero", "_scale")
"""Ends of names of the small kernels around the search for the largest value of a tensor: it is set to zero before, and
a scale is made of it (Transformer Engine, common/recipe/current_scaling.cu: cudaMemsetAsync in launch_amax_kernel, and
compute_scale_from_amax_kernel, one thread). NVFP4 makes the scale as it casts."""


def lower(
    operators: Iterable[Operator], framework: Framework, fp8: str | None = None, rms: bool = False,
    autocast: bool = False, clamped: bool = False,
) -> tuple[Operator, ...]:  # fmt: skip
    """The kernels that `framework` runs for `operators`.

    `fp8` names the scaling of products in fp8 or fp4, `rms` tells that normalisation is RMSNorm, `autocast` that
    weights and residual stream are fp32, `clamped` that experts have biases and clamped gates.
    """
    kernels: list[Operator] = []
    for op in operators:
        match op:
            case Pointwise():
                kernels += _pointwise(op, framework, _norm_in(framework, rms, autocast), clamped)
            case Attention():
                kernels += _attention(op, framework)
            case Matmul() if fp8 and op.dtype in NARROW:
                kernels += (_narrow_once if framework.memory.saves_fp8 else _narrow)(op, fp8)
            case GroupedMatmul() if fp8 and op.dtype in NARROW:
                kernels += _narrow_experts(op, fp8)
            case _:
                kernels.append(op)
    return tuple(kernels)


def _norm_in(framework: Framework, rms: bool, autocast: bool) -> str:
    """The kind of normalisation that a framework has kernels for."""
    kind = "rms" if rms and "rms" in framework.forward else "normalization"
    return f"{kind}_autocast" if autocast else kind


def _pointwise(op: Pointwise, framework: Framework, norm: str, clamped: bool) -> Iterator[Operator]:
    gradient = op.name.endswith(_BACKWARD)
    kernels = _kernels(op, framework, gradient, norm, clamped)
    if kernels is None:
        yield op
        return
    for i, kernel in enumerate(kernels):
        name = op.name if i == 0 else f"{op.name}_{i + 1}"
        share = op.flops_per_element / len(kernels)
        weights = op.weights if i == 0 else 0
        # the collective over a split vocabulary goes with the first kernel
        kept = op.kind if i == 0 and op.kind == "softmax" else kernel.kind
        yield replace(
            op, name=name, kind=kept, reads=kernel.reads, writes=kernel.writes, flops_per_element=share, weights=weights
        )


def _kernels(op: Pointwise, framework: Framework, gradient: bool, norm: str, clamped: bool) -> Kernels | None:
    known = framework.backward if gradient else framework.forward
    base = op.name.removesuffix(_BACKWARD)
    if op.kind == "normalization":
        if op.writes < 2:  # no residual comes along
            return (Traffic("elementwise", 3, 1),) if gradient else None
        return known[norm]
    if base == "experts_activation" and clamped:
        return known.get("clamped")
    if base == "activation":
        gated = op.reads - (1 if gradient else 0) > 1
        return known["gated" if gated else "activation"]
    if base == "loss":
        return known["softmax"]
    if base == "attention_softmax":
        return known["scores"]
    return known["rope"] if op.kind == "rope" else None


def _attention(op: Attention, framework: Framework) -> Iterator[Operator]:
    """The kernels beside attention that bring queries, keys and values into its layout and back."""
    known = framework.forward if op.passes == 1 else framework.backward
    rows = Dim(op.batch.units, op.queries, op.batch.axis)
    width = (
        Dim(op.heads.units, op.head_dim, op.heads.axis),
        Dim(op.kv_heads.units, op.head_dim + op.v_dim, op.heads.axis),
    )
    moves = [
        Pointwise(f"{op.name}_layout", one.kind, rows, width, op.dtype, one.reads, one.writes)
        for one in known.get("heads", ())
    ]
    yield from moves if op.passes == 1 else ()
    yield op
    yield from moves if op.passes > 1 else ()


def _narrow(op: Matmul, scaling: str) -> Iterator[Operator]:
    """The second operand of a narrow product is quantised too: its largest value found, then cast (torchao float8).

    The first is quantised by the model of the library. Row-wise scaling, blocks of 128 and of 32 (MXFP8) find the
    maximum as they cast, delayed scaling (Transformer Engine) uses that of the step before.
    """
    rows = op.k
    width = op.n[0] if len(op.n) == 1 else Dim(op.n_size, 1, op.n[0].axis)
    reads = 2 if scaling in FIRST_THE_LARGEST else 1
    writes = (BYTES[op.dtype] + SCALES[op.dtype]) / BYTES["bf16"]
    yield Pointwise(f"{op.name}{CAST}", "elementwise", rows, (width,), "bf16", reads, writes)
    yield op


def _narrow_once(op: Matmul, scaling: str) -> Iterator[Operator]:
    """A narrow product of a stack that keeps what it has cast, weights for a step and inputs for backward.

    A tensor is quantised once for both products that take it, as rows and as columns in one kernel (Transformer Engine,
    pytorch/module/linear.py: inputs before forward, gradients of outputs before the input gradient, weights with the
    first microbatch, which is left out). The cast itself is in the model of the library, three times for two tensors in
    two layouts; what is left is the search for the largest value of each.
    """
    if scaling in FIRST_THE_LARGEST and not op.name.endswith("_wgrad"):
        width = Dim(op.k.units, op.k.width * op.products, op.k.axis)
        yield from _searched(Pointwise(f"{op.name}{AMAX}", "elementwise", op.m, (width,), "bf16", 1, 0), scaling)
    yield op


def _searched(search: Pointwise, scaling: str) -> Iterator[Pointwise]:
    """The search for the largest value of a tensor, between the small kernels that it needs."""
    base = search.name.removesuffix(AMAX)
    zero, scale = (Pointwise(base + end, "elementwise", Dim(1), (Dim(1),), "fp32", 1, 1) for end in AROUND)
    yield zero
    yield search
    yield from (scale,) if scaling != NVFP4 else ()


def _narrow_experts(op: GroupedMatmul, scaling: str) -> Iterator[Operator]:
    """A product of experts in fp8, behind the cast of its rows.

    Rows are quantised for it and for the gradient of the weights: read once, behind the search for the largest value
    where a tensor has one scale, and written in both layouts (Transformer Engine, GroupedLinear). Those of the gradient
    of weights were quantised before; weights once a step, which is left out. So is it with NVFP4, whose scales have one
    of the tensor above them.
    """
    if not op.weight_gradient:
        width = (Dim(op.k.units, op.k.width * op.topk, op.k.axis),)
        if scaling in FIRST_THE_LARGEST:
            yield from _searched(Pointwise(f"{op.name}{AMAX}", "elementwise", op.rows, width, "bf16", 1, 0), scaling)
        writes = 2 * (BYTES[op.dtype] + SCALES[op.dtype]) / BYTES["bf16"]
        yield Pointwise(f"{op.name}{CAST}", "elementwise", op.rows, width, "bf16", 1, writes)
    yield op


def overlapped(steps: Sequence[Step]) -> tuple[Step, ...]:
    """Backward steps with tensor-parallel collectives beside the products that do not need them (Megatron-LM).

    The sum of an input gradient runs beside the weight gradient that follows; the gather of a saved input runs beside
    the input gradient before it (core/tensor_parallel/layers.py, LinearWithGradAccumulationAndAsyncCommunication).
    """
    reordered: list[Step] = list(steps)
    i = 0
    while i < len(reordered):
        step = reordered[i]
        if isinstance(step, Matmul) and step.name.endswith("_dgrad"):
            i = _overlap_one(reordered, i)
        i += 1
    return tuple(reordered)


def _overlap_one(steps: list[Step], at: int) -> int:
    """Rearrange what follows the input gradient at `at`; returns where it ends."""
    base = steps[at].name.removesuffix("_dgrad")  # type: ignore[union-attr]
    end = at + 1
    total = gather = None
    while end < len(steps) and isinstance(step := steps[end], Collective) and step.group == "tp":
        if step.name == f"{base}_dgrad_sum":
            total = step
        elif step.name == f"{base}_wgrad_input":
            gather = step
        end += 1
    if end >= len(steps) or getattr(steps[end], "name", "") != f"{base}_wgrad" or total is None:
        return at
    product, weights = steps[at], steps[end]
    before: list[Step] = [] if gather is None else [replace(gather, background=True)]
    after = [] if gather is None else [Barrier("tp")]
    new = [*before, product, *after, replace(total, background=True), weights, Barrier("tp")]
    steps[at : end + 1] = new
    return at + len(new) - 1


def asynchronous(steps: Sequence[Step], ranks: int, hidden: float) -> tuple[Step, ...]:
    """Tensor-parallel collectives cut into as many parts as there are ranks and run beside their products.

    A gather's parts are multiplied as they come, a product's parts sent as they are made; one part stays exposed, and
    of the others all but the share `hidden`, which a stack reaches
    (PyTorch async TP: torch/distributed/_symmetric_memory, fused_all_gather_matmul and fused_matmul_reduce_scatter).
    """
    reordered: list[Step] = []
    i = 0
    while i < len(steps):
        step, after = steps[i], steps[i + 1] if i + 1 < len(steps) else None
        gather = isinstance(step, Collective) and step.kind == "all_gather" and step.group == "tp"
        scatter = isinstance(after, Collective) and after.kind == "reduce_scatter" and after.group == "tp"
        if gather and isinstance(after, Matmul):
            reordered += _beside(step, after, ranks, hidden, first=True)  # type: ignore[arg-type]
            i += 2
        elif isinstance(step, Matmul) and scatter:
            reordered += _beside(after, step, ranks, hidden, first=False)  # type: ignore[arg-type]
            i += 2
        else:
            reordered.append(step)
            i += 1
    return tuple(reordered)


def _beside(collective: Collective, product: Matmul, ranks: int, hidden: float, first: bool) -> list[Step]:
    beside = collective.size * (1 - 1 / ranks) * hidden
    rest = replace(collective, size=beside, background=True)
    exposed = replace(collective, size=collective.size - beside)
    together: list[Step] = [rest, product, Barrier(collective.group)]
    return [exposed, *together] if first else [*together, exposed]
