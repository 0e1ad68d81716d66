"""What the blocks of a layer ask of its operators: which are needed again, which make gradients of weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from simgpu.model.operators import Communicate, Dim, GroupedMatmul, Matmul, Operator
from simgpu.model.transformer import is_weight_gradient
from simgpu.plan.program import Collective, Step

WEIGHT_GRADIENT = "_wgrad"


def last_needed(forward: Sequence[Operator]) -> int:
    """The number of operators that make all that backward of a layer needs.

    They end with the last product, whose output backward does not need, but for that of experts, which comes back to be
    weighed.
    """
    stop = max(i for i, op in enumerate(forward) if isinstance(op, (Matmul, GroupedMatmul)))
    while isinstance(forward[stop], (GroupedMatmul, Communicate)):
        stop += 1
    return stop


def outputs(op: Matmul) -> Iterator[Dim]:
    """Outputs of a product that frameworks without fused weights compute apart: query, key, value; gate, up."""
    for dim in op.n:
        halves = 2 if (len(op.n) > 1 and dim is not op.n[0]) or (op.name == "ffn_up" and dim.width == 2) else 1
        for _ in range(halves):
            yield Dim(dim.units, dim.width // halves, dim.axis)


def weights_of(op: Matmul | GroupedMatmul) -> tuple[Dim, Dim]:
    """Rows and columns of the gradient that a product makes; for experts, a row for each."""
    if isinstance(op, Matmul):
        return op.m, op.n[0] if len(op.n) == 1 else Dim(op.n_size, 1, op.n[0].axis)
    split, other = (op.n[0], op.k.size) if op.n[0].axis else (op.k, op.n_size)
    return op.experts, Dim(split.units, split.width * other, split.axis)


def in_16_bits(step: Step) -> Step:
    """A gather of tensor parallelism with two bytes an element where it had one."""
    gathers = isinstance(step, Collective) and step.kind == "all_gather" and step.group == "tp"
    return replace(step, size=2 * step.size) if gathers and isinstance(step, Collective) else step


def of_weights(op: Operator) -> bool:
    """True if `op` makes the gradient of weights, or brings it to its accumulator."""
    return is_weight_gradient(op) or f"{WEIGHT_GRADIENT}_" in op.name
