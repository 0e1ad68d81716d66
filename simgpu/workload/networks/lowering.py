"""From the operators of a pass to the kernels that a stack runs, and to the calls that its host makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from simgpu.model.convolution import Convolution
from simgpu.model.operators import Attention, Dim, Matmul, Operator, Pointwise
from simgpu.workload.networks.stacks import EPILOGUES, NOTHING, Stack

LAYOUT = "_layout"
"""Ends the names of kernels that a library launches on the way: they cost the host nothing besides."""

KEEPS_APART = ("normalization", "moments", "softmax", "scores")
"""Kernels that reduce: what comes before is joined to them, they are not joined to what comes before."""


def lower(operators: Sequence[Operator], stack: Stack, tensor_cores: bool, tf32: bool) -> tuple[Operator, ...]:
    """The kernels of a pass on a GPU with `tensor_cores`, and with `tf32`."""
    found: list[Operator] = list(operators)
    if tf32 and stack.tf32_convolutions:
        found = [
            replace(op, dtype="tf32") if isinstance(op, Convolution) and op.dtype == "fp32" else op for op in found
        ]
    found = [replace(op, head_dim=stack.head(op.head_dim)) if isinstance(op, Attention) else op for op in found]
    if stack.autocast:
        found = [kernel for op in found for kernel in _cast(op)]
    if stack.fuses != NOTHING:
        found = list(_joined(found, stack.fuses == EPILOGUES))
    if tensor_cores and not stack.channels_last:
        found = [kernel for op in found for kernel in _converted(op)]
    return tuple(found)


def calls(kernels: Sequence[Operator]) -> int:
    """Calls that the host makes for kernels."""
    return sum(not kernel.name.endswith(LAYOUT) for kernel in kernels)


def _cast(op: Operator) -> Iterator[Operator]:
    """A product or convolution of 16 bits with the cast of its weights."""
    if isinstance(op, (Matmul, Convolution)) and op.weights and op.dtype in ("fp16", "bf16"):
        yield Pointwise(f"{op.name}_cast", "elementwise", Dim(op.weights), (Dim(1),), op.dtype, 2, 1)
    yield op


def _converted(op: Operator) -> Iterator[Operator]:
    """A convolution with the conversions of its input and of its output, where it multiplies on tensor cores."""
    if not isinstance(op, Convolution) or op.depthwise or op.dtype == "fp32":
        yield op
        return
    dtype = "fp32" if op.dtype == "tf32" else op.dtype
    taken = Dim(op.images.units, op.images.width * op.height * op.width, "batch")
    given = Dim(op.images.units, op.images.width * op.out[0] * op.out[1], "batch")
    yield Pointwise(f"input{LAYOUT}", "elementwise", taken, (Dim(op.channels),), dtype)
    yield op
    yield Pointwise(f"output{LAYOUT}", "elementwise", given, (Dim(op.filters),), dtype)


def _joined(operators: Sequence[Operator], epilogues: bool) -> Iterator[Operator]:
    """Runs of pointwise kernels as one; with `epilogues` also those behind products and convolutions.

    A joined kernel reads what the first reads and the further inputs of the others, and writes what the last writes.
    """
    held: Pointwise | None = None
    product = False
    for op in operators:
        if isinstance(op, Pointwise) and op.kind not in KEEPS_APART:
            if held is None:
                first = replace(op, reads=max(op.reads - 1, 0.0), writes=0.0) if epilogues and product else op
                held = first
            else:
                bigger = op if op.elements > held.elements else held
                held = replace(
                    bigger, reads=held.reads + max(op.reads - 1, 0.0), writes=max(op.writes, held.writes),
                    weights=held.weights + op.weights,
                )  # fmt: skip
            continue
        if held is not None and held.reads + held.writes:
            yield held
        held = None
        product = isinstance(op, (Matmul, Convolution, Attention))
        yield op
    if held is not None and held.reads + held.writes:
        yield held
