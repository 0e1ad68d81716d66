"""A step of post-training of a language model: answers are generated, judged and trained on, or given."""

from __future__ import annotations

from math import ceil, sqrt
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from simgpu.errors import InputError, shown
from simgpu.plan.parallelism import Plan
from simgpu.schema_errors import TrueFalse
from simgpu.workload.answers import WIDEST, Answers, cut_share, with_cut, with_longest, with_spread
from simgpu.workload.fields import Size, Strict, positive
from simgpu.workload.inference.jobs import CacheType, RuntimeName, WholeShare
from simgpu.workload.model_jobs import Training
from simgpu.workload.server.jobs import Traffic
from simgpu.workload.server.session_keys import Sessions

Degree = Annotated[int, Field(strict=True, gt=0, le=10**6)]
Spread = Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)]
Algorithm = Literal["grpo", "dapo", "ppo", "distillation", "dpo", "sft"]

GIVEN = ("dpo", "sft")
"""Algorithms whose answers are given: nothing is generated."""

ASYNC_SEATS, ASYNC_CHUNK = 128, 2048
"""Sequences, and new tokens of a step, of vLLM's engine without a server: AsyncLLM.from_engine_args says a context that
the larger defaults of a GPU are not listed for, so that those of config/scheduler.py hold
(vllm-project/vllm, engine/arg_utils.py, `_set_default_max_num_seqs_and_batched_tokens_args`)."""

FEW_ENGINES = 8
"""Engines that are followed where all are in the same steady state; the others are like them."""


class Generation(Strict):
    """The engine that generates: how it runs, how it is split, and on which GPUs."""

    runtime: RuntimeName = "vllm@0.12"
    """Trainers start vLLM under Ray and without a process of its own (NVIDIA-NeMo/RL, vllm_worker.py:
    `distributed_executor_backend` ray, VLLM_ENABLE_V1_MULTIPROCESSING 0), where a step is not scheduled beside the one
    before: as vLLM 0.12 does."""
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
    logprobs: TrueFalse = True
    """The engine returns the log-probability of each token, as trainers ask for; Python handles each on the host."""
    asynchronous: TrueFalse | None = None
    """The engine is a process of its own that takes requests one by one (`async_engine` of NeMo RL, `async` rollout of
    verl); default: where answers are partial or stale, which need one. Its loop does not wait for log-probabilities."""

    def plan(self, gpus: int) -> Plan:
        """Its plan on so many GPUs. Raises `InputError`."""
        each = self.tp * self.pp
        if gpus % each:
            problem = f"{gpus} GPUs are not whole engines of tp {self.tp} x pp {self.pp}"
            raise InputError(problem, key="workload.generation.gpus" if self.gpus else "workload.generation.tp")
        return Plan(tp=self.tp, pp=self.pp, ep=self.ep, dp=gpus // each)


class PostTraining(Training):
    """One step of GRPO, DAPO or PPO: `prompts` x `group` answers, then optimizer steps on `batch` of them each.

    `tokens` is the longest sequence, prompt and answer together; longer answers are cut there. With distillation a
    teacher says what each token should have been. With dpo and sft answers are given: pairs, of which one is preferred,
    beside a reference; or examples.
    """

    kind: Literal["rl"] = "rl"  # type: ignore[assignment]
    algorithm: Algorithm = "grpo"
    """PPO trains a critic as large as the policy beside it; DAPO has no reference policy, distillation a teacher."""
    teacher: Annotated[str, Field(min_length=1)] | None = None
    """Of distillation: the model that is learned from; it takes turns on the trainer's GPUs, under the same plan."""
    prompts: Size
    group: Size = 1
    """Answers to each prompt."""
    prompt: Size
    """Mean tokens of a prompt."""
    output: Size
    """Mean tokens of an answer."""
    output_spread: Spread | tuple[Spread, Spread] | None = None
    """Standard deviation of the answers' tokens over their mean, lognormal; the longest of them decides when the
    generation ends, so that there is no default. Two numbers: it lies between them, and so does the interval."""
    output_cut: Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)] | None = None
    """In its place: the share of the answers that is cut at the limit (`clip_ratio` in logs of verl)."""
    output_longest: Size | None = None
    """In its place: tokens of the longest answer of a step (`response_length/max`)."""
    turns: Annotated[int, Field(strict=True, ge=1, le=10_000)] = 1
    """Times that the model writes in an answer, each behind all that was said; `output` is all that it writes. Between
    them a tool answers. More than one takes an engine that is a process of its own."""
    tool_tokens: Size | None = None
    """Tokens of the result of a tool, on average; trained sequences hold them, too."""
    tool_s: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = 0.0
    """Seconds that a tool takes, on average; exponential."""
    generation: Generation = Generation()
    oversample: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = 1.0
    """Answers that are generated over those that are trained on (dynamic sampling of DAPO)."""
    partial: TrueFalse = False
    """The longest answers go on in the next step, so that no engine waits for them."""
    staleness: Annotated[int, Field(strict=True, ge=0, le=64)] = 0
    """Steps by which the weights that generate may be older than those that are trained; 0: on policy."""
    reference: TrueFalse | None = None
    """Log-probabilities of a reference policy are computed; default: not with DAPO."""
    policy_logprobs: TrueFalse = True
    """Log-probabilities of the answers are computed again by the trainer, whose kernels differ from the engine's."""
    reward_s: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = 0.0
    """Seconds of the reward of a step, after its answers: a function, a judge, tests."""
    refit_rate: Annotated[float, positive("B/s")] = 90e9
    """Bytes/s at which the trainer makes the engine's tensors out of its own, beside what links allow. Packed and
    overlapped with their broadcast 470 GB take 5.5 s and 1,342 GB 14 s (NVIDIA-NeMo/RL pull request 1379, H100), before
    that 13 and 34 s, tensor by tensor in other trainers 2 to 6 GB/s (verl-project/verl issue 7060)."""
    other_s: Annotated[float, Field(ge=0, le=10**6, allow_inf_nan=False)] = 4.0
    """Seconds of a step between its phases, in which one process samples, pads and ships rows and makes advantages
    (NVIDIA-NeMo/RL pull request 1052: 4.0 s of four such phases in a step of 67 s)."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63)] = 0

    @model_validator(mode="after")
    def _whole(self) -> PostTraining:
        self._check_answers()
        self._check_algorithm()
        if self.mean > self.tokens:
            told = f" + {self.told} of tools" if self.told else ""
            problem = f"prompt {self.prompt} + output {self.output}{told} are more than the {self.tokens} of tokens"
            raise ValueError(f"{problem}, the longest sequence")
        if (self.prompts * self.group) % self.batch:
            problem = f"{self.prompts} prompts x {self.group} answers are not whole batches of {self.batch}"
            raise ValueError(f"{problem}; expected a divisor of {self.prompts * self.group}")
        if self.pools is not None:
            raise ValueError("pools of GPUs that are not alike are of kind training; leave them out")
        if self.mean_tokens is not None:
            raise ValueError("mean_tokens follows from prompt and output; leave it out")
        return self

    def _check_answers(self) -> None:
        """Raise `ValueError` where nothing, or more than one thing, says how long the longest answers are."""
        names = ("output_spread", "output_cut", "output_longest")
        said = [name for name in names if getattr(self, name) is not None]
        if not said and self.generates:
            raise ValueError(
                "output_spread is missing: the longest answer decides when the generation ends; expected the standard "
                "deviation of their tokens over the mean (0: all alike), output_cut or output_longest"
            )
        if len(said) > 1:
            raise ValueError(f"{' and '.join(said)} say the same of the answers; expected one of them")
        if isinstance(self.output_spread, tuple) and self.output_spread[0] > self.output_spread[1]:
            raise ValueError(f"output_spread {list(self.output_spread)} falls; expected [least, most]")
        if (self.turns > 1) != (self.tool_tokens is not None) or (self.turns == 1 and self.tool_s):
            raise ValueError("turns, tool_tokens and tool_s are of answers that wait for tools; expected turns above 1 "
                             "with tool_tokens, or none of them")  # fmt: skip
        if self.turns > 1 and self.generates and self.output_spread is None:
            raise ValueError("output_cut and output_longest are of answers without tools; expected output_spread")
        if self.turns > self.output:
            raise ValueError(f"output {self.output} is less than a token in each of {self.turns} turns")
        limit, longest = self.limit, self.output_longest
        if longest is not None and not self.output <= longest < limit:
            problem = f"output_longest {longest} does not lie between output {self.output} and the limit of {limit}"
            raise ValueError(f"{problem}; expected output_cut where answers are cut")
        if self.output_cut is not None and self.output <= self.output_cut * limit:
            problem = f"output_cut {self.output_cut:g} of {limit} tokens alone is more than output {self.output}"
            raise ValueError(f"{problem}, the mean of all; expected a smaller share")

    def _check_algorithm(self) -> None:
        """Raise `ValueError` for keys that contradict the algorithm."""
        if (self.algorithm == "distillation") != (self.teacher is not None):
            problem = f"teacher {shown(self.teacher)} does not go with algorithm {self.algorithm}"
            raise ValueError(f"{problem}; expected one with distillation, and none without")
        if self.algorithm == "dpo" and self.group != 2:
            raise ValueError(f"group {self.group}: dpo learns from pairs of answers; expected 2")
        if self.generates:
            return
        for name in ("turns", "generation", "oversample", "partial", "staleness", "reward_s"):
            if name in self.model_fields_set:
                raise ValueError(f"{name} is of answers that are generated, which {self.algorithm} has not")

    @property
    def generates(self) -> bool:
        """True where answers are generated, not given."""
        return self.algorithm not in GIVEN

    @property
    def asynchronous(self) -> bool:
        """True if the engine is a process of its own, as it must be where answers are partial or stale."""
        own = self.generation.asynchronous
        return self.partial or self.staleness > 0 or self.turns > 1 if own is None else own

    @property
    def told(self) -> int:
        """Tokens that tools add to a sequence, on average."""
        return (self.turns - 1) * (self.tool_tokens or 0)

    @property
    def limit(self) -> int:
        """Tokens that a model may write in a sequence."""
        return self.tokens - self.prompt - self.told

    @property
    def steady(self) -> bool:
        """True where engines never run dry: answers of several steps are on their way."""
        return self.partial or self.staleness > 1

    def lengths_law(self, end: int = 0) -> Answers:
        """How long answers are before they are cut; of a spread between two, the lower (-1) or the upper end (1)."""
        limit = self.limit
        if self.output_cut is not None:
            return with_cut(self.output, self.output_cut, limit)
        if self.output_longest is not None:
            return with_longest(self.output, self.output_longest, self.answers, limit)
        spread = self.output_spread
        if isinstance(spread, tuple):
            low, high = spread
            spread = (low, sqrt(low * high) or (low + high) / 2, high)[end + 1]
        return with_spread(self.output, spread or 0.0, limit)

    @property
    def cut_share(self) -> float:
        """The share of the answers that is cut at the limit."""
        return cut_share(self.lengths_law(), self.limit)

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
        return self.algorithm in ("grpo", "ppo", "dpo") if self.reference is None else self.reference

    @property
    def computes_logprobs(self) -> bool:
        """True if the trainer computes log-probabilities of the policy before it trains."""
        return self.policy_logprobs and self.generates

    @property
    def mean(self) -> int:
        """Mean tokens of a sequence."""
        return self.prompt + self.output + self.told

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

    def rollout(self, end: int = 0) -> Traffic:
        """The answers of a step, all sent at once; with partial or stale ones, as a stream that does not end.

        Answers of `staleness` steps are then on their way at a time. `end` is that of `lengths_law`.
        """
        made: dict[str, Any] = {
            name: value
            for name in ("runtime", "precision", "kv_cache", "memory_share", "sequences", "chunk")
            if (value := getattr(self.generation, name)) is not None
        }
        if self.asynchronous and self.generation.runtime.partition("@")[0] == "vllm":
            made = {"sequences": ASYNC_SEATS, "chunk": ASYNC_CHUNK, **made}
        law, limit, requests = self.lengths_law(end), self.limit, self.answers
        load: dict[str, Any] = {"arrivals": "burst", "requests": requests}
        if self.steady:
            clients = requests * max(self.staleness, 1)
            load = {"clients": clients, "requests": clients + requests}
        output, spread = max(round(law.mean / self.turns), 1), law.spread * sqrt(self.turns)
        if self.turns == 1:
            load["distinct"] = self.prompts
        else:  # turns are drawn one by one, so that their sum scatters as `output_spread` says
            load["session"] = Sessions(
                tools=self.turns - 1, tool_tokens=self.tool_tokens, tool_s=self.tool_s, pauses="exponential"
            )
        return Traffic(
            **made, **load, prompt=self.prompt, output=output, lengths="lognormal", spread=0.0,
            output_spread=min(spread, WIDEST), output_range=(1, limit), seed=self.seed,
        )  # fmt: skip
