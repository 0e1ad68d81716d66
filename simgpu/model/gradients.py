"""Backward operators: the gradients of a run of forward operators."""

from __future__ import annotations

from dataclasses import replace

from simgpu.model.operators import (
    Attention,
    Communicate,
    Convolution,
    Dim,
    Embedding,
    ExpertLayer,
    GroupedMatmul,
    Indexer,
    Matmul,
    Operator,
    Pointwise,
    Scan,
)

WEIGHT_GRADIENT = "_wgrad"
"""Endings of the names of operators that compute weight gradients: nothing in the backward pass waits for them."""


def backward(operators: tuple[Operator, ...]) -> tuple[Operator, ...]:
    """The gradients of `operators`, last first: of the inputs (dgrad), then of the weights (wgrad)."""
    return tuple(gradient for op in reversed(operators) for gradient in _gradients(op))


def is_weight_gradient(op: Operator) -> bool:
    """True if `op` computes the gradient of weights, which frozen weights do without and pipelines may put off."""
    return op.name.endswith(WEIGHT_GRADIENT)


def _gradients(op: Operator) -> tuple[Operator, ...]:
    match op:
        case ExpertLayer():
            raise TypeError("fused experts of inference engines have no gradients")
        case Matmul():
            return _of_matmul(op)
        case Convolution():
            return op.gradients()
        case GroupedMatmul():
            return _of_grouped(op)
        case Attention():
            return (replace(op, name=f"{op.name}_backward", passes=2.5, sinks=False),)
        case Scan():  # states of chunks are made again, then the gradients of each product
            return (replace(op, name=f"{op.name}_backward", passes=3.0),)
        case Indexer():
            return (replace(op, name=f"{op.name}_backward", passes=2.0),)
        case Pointwise():
            # reads the incoming gradient and the saved input, writes one gradient
            kind = "elementwise" if op.kind in ("softmax", "scores") else op.kind  # needs no further sums
            extra = replace(op, name=f"{op.name}_backward", kind=kind, reads=op.reads + 1, weights=0)
            return (replace(extra, flops_per_element=2 * op.flops_per_element),)
        case Communicate():
            return (replace(op, name=f"{op.name}_backward"),)
        case Embedding():
            return (Pointwise(f"{op.name}_backward", "embedding", op.rows, (Dim(op.width),), op.dtype, 2, 1),)


def _of_matmul(op: Matmul) -> tuple[Matmul, ...]:
    """dA[m, k] = dC[m, n] B^T contracts over the outputs, whose axis, if split, makes it a partial sum; dB = A^T dC."""
    names = ("_dgrad_a", "_dgrad_b") if op.over else ("_dgrad", WEIGHT_GRADIENT)
    plain = replace(op, weight=False, bias=False)
    return (
        replace(plain, name=op.name + names[0], n=(op.k,), k=_joined(op.n)),
        replace(plain, name=op.name + names[1], m=op.k, k=op.m),
    )


def _of_grouped(op: GroupedMatmul) -> tuple[GroupedMatmul, ...]:
    """Gradients of the inputs, summed over outputs, and of the weights, summed over the visits of each expert."""
    plain = replace(op, weight=False, bias=False)
    return (
        replace(plain, name=f"{op.name}_dgrad", n=(op.k,), k=_joined(op.n)),
        replace(plain, name=op.name + WEIGHT_GRADIENT, weight_gradient=True),
    )


def _joined(dims: tuple[Dim, ...]) -> Dim:
    """Outputs side by side as one dimension."""
    return dims[0] if len(dims) == 1 else Dim(sum(dim.size for dim in dims), 1, dims[0].axis)
