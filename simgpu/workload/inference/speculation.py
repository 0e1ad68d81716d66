"""Speculative decoding: a draft guesses some tokens, the model verifies them in one step."""

from __future__ import annotations

from dataclasses import dataclass, replace

from simgpu.model.serving import Group
from simgpu.workload.inference.deployment import Deployment, StepTime

MTP = "mtp"

ACCEPTED = {
    MTP: (0.86, 0.58, 0.29, 0.05, 0.05, 0.03),
    "": (0.82, 0.62, 0.45, 0.34, 0.24, 0.11, 0.11, 0.08),
}
"""Share of the drafts of which the guess at each place is accepted, where a job does not say: of a layer of the model
(multi-token prediction), and of a model trained as its draft. Means of accepted lengths of coding prompts on B300 in
vLLM by number of guesses (SemiAnalysisAI/InferenceX, golden acceptance lengths: DeepSeek-V4-Pro with MTP, with and
without thinking; EAGLE3 and DSpark drafts of Kimi-K2.5, Kimi-K3, MiniMax-M3, DeepSeek-V4-Pro), made to fall. Lengths of
a model that is left out are met within 3 % with a draft (one rate of the first guess: 10 %), 17 % with MTP, whose
lengths thinking moves by a fifth. Later guesses brought nothing. Drafts that were not trained for their model are
accepted less."""

BY_TASK = {
    "code": ACCEPTED[""],
    "chat": (0.74, 0.54, 0.41, 0.30, 0.22, 0.16, 0.12, 0.08, 0.05, 0.02),
    "mixed": (0.71, 0.50, 0.36, 0.26, 0.18, 0.13, 0.10, 0.07, 0.04, 0.02),
}
"""The same of a model trained as a draft, by task: code as above, chat of MT-Bench, mixed of SpecBench (chat,
translation, summaries, questions, mathematics, retrieval), of one EAGLE-3 draft (vllm-project/vllm #26498)."""


@dataclass(frozen=True)
class Speculation:
    """`tokens` guessed at a time.

    `acceptance` is the probability of each to be accepted if those before it are, or, by place, the share of drafts of
    which that guess is (what vLLM logs as per-position acceptance rate). `drafter` is a model of its own on the same
    GPUs. `waits`: the engine's host does not work ahead with such drafts.
    """

    tokens: int
    acceptance: float | tuple[float, ...]
    drafter: Deployment
    waits: bool = False

    @property
    def expected(self) -> float:
        """Tokens that a cycle brings: the accepted ones and the one the model adds.

        Leviathan et al., Fast Inference from Transformers via Speculative Decoding, 2023, equation 1, where all guesses
        have one probability.
        """
        if isinstance(self.acceptance, tuple):
            return 1.0 + sum(self.acceptance[: self.tokens])
        if self.acceptance >= 1:
            return self.tokens + 1.0
        return (1 - self.acceptance ** (self.tokens + 1)) / (1 - self.acceptance)

    def draft(self, batch: int, context: int) -> StepTime:
        """One token guessed for each sequence."""
        return self.drafter.decode(batch, context)

    def verify(self, target: Deployment, batch: int, context: int) -> StepTime:
        """All guesses through the model at once, with the token before them."""
        new = self.tokens + 1
        step = target.step(Group(batch, new, context + new, new))
        return replace(step, host=target.host(step, waits=True)) if self.waits else step
