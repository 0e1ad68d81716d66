"""The result of a step of post-training: its seconds by phase, and what of the GPUs' time is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from simgpu.simulation.result import Result


@dataclass(frozen=True, repr=False, kw_only=True)
class PostTrainingResult(Result):
    """A step of reinforcement learning: generation, log-probabilities, reward, training, new weights for the engine.

    Its timeline and its parts of the memory are those of one optimizer step.
    """

    HEADLINE: ClassVar[tuple[str, ...]] = ("step_s", "tokens_per_s", "idle_share")

    pp: int
    """Pipeline stages."""
    cp: int
    """Context-parallel ranks."""
    ep: int
    """Expert-parallel ranks, of dp x cp in training, of tp x dp in inference."""
    framework: str
    """How a stack runs the operators."""
    runtime: str
    """How an engine runs the operators."""
    generation_gpus: int
    """GPUs that generate: all of them in turn with the training, or GPUs of their own."""
    answers: int
    """Answers that are generated in a step."""
    cut_share: float
    """Share of the answers that is cut at the longest length (share)."""
    updates: int
    """Optimizer steps of a step."""
    staleness: int
    """Steps by which the weights that generate may be older than those that are trained."""
    rollout_s: float
    """Generation of all answers of a step (s)."""
    rollout_s_p10: float
    rollout_s_p90: float
    rollout_tail_s: float
    """The part of it in which less than a tenth of the answers (a hundredth with tools) are still on their
    way (s)."""
    logprob_s: float
    """Log-probabilities of the policy, computed again by the trainer (s)."""
    reference_s: float
    """Log-probabilities of the reference policy, its weights brought from the host and back (s)."""
    reward_s: float
    """The reward of the answers (s)."""
    training_s: float
    """All optimizer steps of a step, of PPO those of the critic too (s)."""
    training_s_p10: float
    training_s_p90: float
    refit_s: float
    """New weights on their way from the trainer to the engine (s)."""
    sleep_s: float
    """Where both share GPUs: states of the trainer to the host before the generation, and back (s)."""
    other_s: float
    """Between the phases: rows that are padded, shipped, judged by how much better than others they are (s)."""
    idle_share: float
    """Share of the GPUs' time in which they do not work (post-training, decodes whose experts are apart) (share)."""
    tokens_per_s: float
    """Tokens taken in per second, all GPUs; absent for a list of operators (tokens/s)."""
    tokens_per_s_p10: float
    tokens_per_s_p90: float
    tokens_per_s_per_gpu: float
    """Tokens_per_s / gpus (tokens/s/GPU)."""
    tokens_per_s_per_gpu_p10: float
    tokens_per_s_per_gpu_p90: float
    memory_bytes_per_gpu: float
    """Peak memory of the rank that needs most: allocated memory, CUDA context and NCCL (B)."""
    memory_fits: bool
    """False where that does not fit the memory of the GPU: in training where memory_verdict is 'does not fit', with
    offload also by what lies in host memory and on drives, where the node's file tells their size; in inference where
    it is more than the engine's share."""
