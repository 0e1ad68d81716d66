"""The inputs of a training step."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.model.config import TransformerConfig
from simgpu.plan.numerics import Numerics
from simgpu.plan.parallelism import Plan
from simgpu.workload.frameworks import Framework


@dataclass
class Job:
    """All inputs of a training step."""

    config: TransformerConfig
    plan: Plan
    numerics: Numerics
    framework: Framework
    batch: int
    tokens: int
    accumulate: str
    routing: str = "balanced"
    fp8: str | None = None
    clip: bool = True
    length: float = 0.0
    """Of the sequence that a token is in, on average, where rows hold others than their own length; 0: whole rows."""

    @property
    def micro_batch(self) -> int:
        """Sequences of a microbatch."""
        return self.plan.micro_batch or self.batch // self.plan.dp

    @property
    def microbatches(self) -> int:
        """The number of microbatches of one replica in a step."""
        return self.batch // self.plan.dp // self.micro_batch
