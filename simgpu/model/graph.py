"""A model as a short list of segments, each a run of operators that repeats: layers are built once."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.model.operators import Attention, Convolution, GroupedMatmul, Indexer, Matmul, Operator, Scan


@dataclass(frozen=True)
class Segment:
    """Operators in order of execution, `repeat` times over."""

    name: str
    operators: tuple[Operator, ...]
    repeat: int = 1


@dataclass(frozen=True)
class ModelGraph:
    """What one step computes, unsplit. `tokens` is how many tokens it takes in (0 where that has no meaning)."""

    name: str
    segments: tuple[Segment, ...]
    tokens: int = 0

    @property
    def flops(self) -> float:
        """Model FLOPs of the step, however it is split: products, convolutions, attention, no recomputation."""
        return sum(s.repeat * sum(_model_flops(op) for op in s.operators) for s in self.segments)

    @property
    def weights(self) -> int:
        """Parameters that the operators hold."""
        return sum(s.repeat * sum(op.weights for op in s.operators) for s in self.segments)


def _model_flops(op: Operator) -> float:
    if isinstance(op, (Attention, Scan, Indexer)):
        return op.model_flops
    return op.flops if isinstance(op, (Matmul, GroupedMatmul, Convolution)) else 0.0
