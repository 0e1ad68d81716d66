"""The memory that a job needs: the peak of its fullest rank by part, and the budget that it must fit into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from simgpu.plan import memory as training
from simgpu.plan import serving_memory as serving
from simgpu.plan.memory import Memory
from simgpu.plan.serving_memory import ServingMemory


@dataclass(frozen=True)
class MemoryUse(Sequence[Memory | ServingMemory]):
    """Bytes on the GPU of the rank that needs most.

    As a sequence it holds the memory of a rank of each pipeline stage. Of a prefill or a list of operators only the
    weights are known, and no stage.

    peak
        Bytes at the fullest moment.
    parts
        The same by part: weights, activations, ... `docs/results.md` names them.
    budget
        Bytes that the job may use: the memory of the GPU; in inference the share of it that the engine takes.
    fits
        Whether the peak is within the budget, and what is offloaded within host memory and drives.
    stages
        The memory of a rank of each pipeline stage.
    """

    peak: float
    parts: Mapping[str, float]
    budget: float
    fits: bool
    stages: tuple[Memory | ServingMemory, ...] = ()

    @classmethod
    def of_training(cls, stages: Sequence[Memory]) -> MemoryUse:
        """The memory of a training step, from that of its pipeline stages."""
        worst = training.peak(stages)
        parts = {name: getattr(worst, name) for name in training.PARTS}
        budget = worst.capacity if worst.capacity is not None else float("inf")
        return cls(worst.total, parts, budget, worst.fits, tuple(stages))

    @classmethod
    def of_inference(cls, stages: Sequence[ServingMemory]) -> MemoryUse:
        """The memory of a job of inference, from that of its pipeline stages."""
        worst = serving.fullest(stages)
        parts = {name: getattr(worst, name) for name in serving.PARTS}
        return cls(worst.total, parts, worst.budget, worst.fits, tuple(stages))

    @classmethod
    def of_weights(cls, weights: float, budget: float) -> MemoryUse:
        """The memory of a job of which only the weights are known."""
        return cls(weights, {"weights": weights}, budget, weights <= budget)

    @property
    def short_by(self) -> float:
        """Bytes of the peak over the budget; 0 where it is within."""
        return max(self.peak - self.budget, 0.0)

    def words(self) -> str:
        """Peak and budget in words, such as '61.2 of 80.0 GiB'."""
        fits = "" if self.fits else ", does not fit"
        return f"{self.peak / 2**30:.1f} of {self.budget / 2**30:.1f} GiB{fits}"

    def __repr__(self) -> str:
        return (
            f"MemoryUse({self.words()}; {', '.join(f'{name} {size / 2**30:.1f}' for name, size in self.parts.items())})"
        )

    def __iter__(self) -> Iterator[Memory | ServingMemory]:
        return iter(self.stages)

    def __len__(self) -> int:
        return len(self.stages)

    @overload
    def __getitem__(self, index: int) -> Memory | ServingMemory: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Memory | ServingMemory, ...]: ...
    def __getitem__(self, index: int | slice) -> Memory | ServingMemory | tuple[Memory | ServingMemory, ...]:
        return self.stages[index]
