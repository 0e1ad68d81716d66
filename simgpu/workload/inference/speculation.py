"""Speculative decoding: a draft guesses some tokens, the model verifies them in one step."""

from __future__ import annotations

from dataclasses import dataclass

from simgpu.model.serving import Group
from simgpu.workload.inference.deployment import Deployment, StepTime


@dataclass(frozen=True)
class Speculation:
    """`tokens` guessed at a time, each accepted with probability `acceptance` if those before it are.

    `drafter` is a model of its own on the same GPUs.
    """

    tokens: int
    acceptance: float
    drafter: Deployment

    @property
    def expected(self) -> float:
        """Tokens that a cycle brings: the accepted ones and the one the model adds (Leviathan et al., Fast Inference
        from Transformers via Speculative Decoding, 2023, equation 1)."""
        if self.acceptance >= 1:
            return self.tokens + 1.0
        return (1 - self.acceptance ** (self.tokens + 1)) / (1 - self.acceptance)

    def draft(self, target: Deployment, batch: int, context: int) -> StepTime:
        """One token guessed for each sequence."""
        return self.drafter.decode(batch, context)

    def verify(self, target: Deployment, batch: int, context: int) -> StepTime:
        """All guesses through the model at once, with the token before them."""
        new = self.tokens + 1
        return target.step(Group(batch, new, context + new, new))
