"""A model as a short list of segments, each a run of operators that repeats: layers are built once."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.model.operators import Operator


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
        """FLOPs of the whole step: the work, however it is split."""
        return sum(s.repeat * sum(op.flops for op in s.operators) for s in self.segments)

    @property
    def weights(self) -> int:
        """Parameters that the operators hold."""
        return sum(s.repeat * sum(op.weights for op in s.operators) for s in self.segments)
