"""A step of reinforcement learning on a language model: answers are generated, judged, and trained on."""

from __future__ import annotations

from math import ceil
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simgpu.errors import InputError
from simgpu.plan.parallelism import Plan
from simgpu.workload.fields import Size, Strict
from simgpu.workload.inference.jobs import CacheType, RuntimeName, WholeShare
from simgpu.workload.model_jobs import Training
from simgpu.workload.server.jobs import Traffic

Degree = Annotated[int, Field(strict=True, gt=0, le=10**6)]


class Generation(Strict):
    """The engine that generates: how it runs, how it is split, and on which GPUs."""

    runtime: RuntimeName = "vllm"
    tp: Degree = 1
    pp: Degree = 1
    ep: Degree = 1
    gpus: Annotated[int, Field(strict=True, ge=0, le=10**7)] = 0
    """GPUs of its own; 0: it shares those of the trainer, and the two take turns."""
    precision: str | None = None
    kv_cache: CacheType | None = None
    memory_share: WholeShare | None = None
    sequences: Size | None = None
    chunk: Size | None = None

    def plan(self, gpus: int) -> Plan:
        """Its plan on so many GPUs. Raises `InputError`."""
        each = self.tp * self.pp
        if gpus % each:
            problem = f"{gpus} GPUs are not whole engines of tp {self.tp} x pp {self.pp}"
            raise InputError(problem, key="workload.generation.gpus" if self.gpus else "workload.generation.tp")
        return Plan(tp=self.tp, pp=self.pp, ep=self.ep, dp=gpus // each)


class PostTraining(Training):
    """One step of GRPO, DAPO or PPO: `prompts` x `group` answers, then optimizer steps on `batch` of them each.

    `tokens` is the longest sequence, prompt and answer together; longer answers are cut there.
    """

    kind: Literal["rl"] = "rl"  # type: ignore[assignment]
    algorithm: Literal["grpo", "dapo", "ppo"] = "grpo"
    """PPO trains a critic as large as the policy beside it; DAPO has no reference policy."""
    prompts: Size
    group: Size = 1
    """Answers to each prompt."""
    prompt: Size
    """Mean tokens of a prompt."""
    output: Size
    """Mean tokens of an answer."""
    output_spread: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    """Standard deviation of the answers' tokens over their mean, lognormal; the longest of them decides when the
    generation ends, so that there is no default."""
    generation: Generation = Generation()
    oversample: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = 1.0
    """Answers that are generated over those that are trained on (dynamic sampling of DAPO)."""
    partial: bool = False
    """The longest answers go on in the next step, so that no engine waits for them."""
    staleness: Annotated[int, Field(strict=True, ge=0, le=64)] = 0
    """Steps by which the weights that generate may be older than those that are trained; 0: on policy."""
    reference: bool | None = None
    """Log-probabilities of a reference policy are computed; default: not with DAPO."""
    policy_logprobs: bool = True
    """Log-probabilities of the answers are computed again by the trainer, whose kernels differ from the engine's."""
    reward_s: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = 0.0
    """Seconds of the reward of a step, after its answers: a function, a judge, tests."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63)] = 0

    @model_validator(mode="after")
    def _whole(self) -> PostTraining:
        if self.output_spread is None:
            raise ValueError(
                "output_spread is missing: the longest answer decides when the generation ends; expected the standard "
                "deviation of their tokens over the mean (0: all alike)"
            )
        if self.prompt + self.output > self.tokens:
            problem = f"prompt {self.prompt} + output {self.output} are more than the {self.tokens} of tokens"
            raise ValueError(f"{problem}, the longest sequence")
        if (self.prompts * self.group) % self.batch:
            problem = f"{self.prompts} prompts x {self.group} answers are not whole batches of {self.batch}"
            raise ValueError(f"{problem}; expected a divisor of {self.prompts * self.group}")
        if self.mean_tokens is not None:
            raise ValueError("mean_tokens follows from prompt and output; leave it out")
        return self

    @property
    def answers(self) -> int:
        """Answers that are generated in a step."""
        return ceil(self.prompts * self.group * self.oversample)

    @property
    def updates(self) -> int:
        """Optimizer steps of a step."""
        return self.prompts * self.group // self.batch

    @property
    def has_reference(self) -> bool:
        """True if a reference policy is asked."""
        return self.algorithm != "dapo" if self.reference is None else self.reference

    @property
    def mean(self) -> int:
        """Mean tokens of a sequence."""
        return self.prompt + self.output

    def trained(self, plan: Plan) -> Training:
        """The optimizer step on one batch: rows packed with sequences, as trainers of post-training do.

        With context parallelism, in whose rings packed rows are not modelled, rows are of the mean length.
        """
        keys = {name: getattr(self, name) for name in Training.model_fields if name in self.model_fields_set}
        keys = {name: value for name, value in keys.items() if name not in ("kind", "batch", "tokens", "lengths")}
        each = plan.dp * (plan.micro_batch or 1)
        if plan.cp > 1:
            chunks = 2 * plan.cp * plan.tp
            return Training(batch=self.batch, tokens=ceil(self.mean / chunks) * chunks, **keys)
        rows = max(each, ceil(self.batch * self.mean / self.tokens / each) * each)
        filled = min(self.tokens, self.mean)
        if filled == self.tokens:
            return Training(batch=rows, tokens=self.tokens, **keys)
        return Training(batch=rows, tokens=self.tokens, mean_tokens=filled, lengths="packed", **keys)

    def rollout(self) -> Traffic:
        """The answers of a step, all sent at once; with partial or stale ones, as a stream that does not end."""
        made: dict[str, Any] = {
            name: value
            for name in ("runtime", "precision", "kv_cache", "memory_share", "sequences", "chunk")
            if (value := getattr(self.generation, name)) is not None
        }
        answers = self.answers
        steady = self.partial or self.staleness > 1
        load = {"clients": answers, "requests": 2 * answers} if steady else {"arrivals": "burst", "requests": answers}
        return Traffic(
            **made, **load, prompt=self.prompt, output=self.output, lengths="lognormal", spread=0.0,
            output_spread=self.output_spread, output_range=(1, self.tokens - self.prompt), distinct=self.prompts,
            seed=self.seed,
        )  # fmt: skip
