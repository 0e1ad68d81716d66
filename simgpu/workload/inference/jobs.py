"""Jobs of inference: one batch from prompts to last tokens, one step of an engine, a server at a steady load."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from simgpu.errors import shown
from simgpu.workload.fields import MOST_EXPONENT, Routing, Size, Strict, positive

RuntimeName = Annotated[str, Field(min_length=1)]
"""An engine, or one of its versions, of the catalogue that a job runs with: `vllm`, `vllm@0.14`, `llama.cpp@b6327`,
`llama.cpp@2024-05`."""
CacheType = Literal["fp32", "fp16", "bf16", "fp8", "int8"]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
WholeShare = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
PartialShare = Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)]


class Speculative(Strict):
    """Speculative decoding: a draft guesses `tokens` at a time, which are accepted as `acceptance` says.

    `draft` is a smaller model of the catalogue, or 'mtp': a layer of the model itself with its head, as DeepSeek-V3 has
    for multi-token prediction; whether others have been trained with one is not asked.
    """

    draft: Annotated[str, Field(min_length=1)]
    tokens: Annotated[int, Field(strict=True, gt=0, le=15)] = 4
    acceptance: Share | Annotated[list[Share], Field(min_length=1, max_length=15)] | None = None
    """Probability of a guess to be accepted if those before it are; or a list, by place, of the share of drafts of
    which that guess is accepted (as vLLM logs it); default: as measured of drafts of that kind
    (`simgpu.workload.inference.speculation.ACCEPTED`)."""
    task: Literal["code", "chat", "mixed"] | None = None
    """What is asked for, which moves the default of `acceptance`: code, chat, or a mixture; default: code."""
    precision: str | None = None
    """Of the draft; default: that of the model."""

    @model_validator(mode="after")
    def _of_a_task(self) -> Speculative:
        if self.task is not None and self.acceptance is not None:
            raise ValueError("task moves the default of acceptance, and that is given; leave one of them out")
        if self.draft == "mtp" and self.task not in (None, "code"):
            raise ValueError(f"task {self.task} is known of drafts alone, not of mtp; expected acceptance by place")
        return self


def popularity_name(given: object) -> str:
    """'uniform', or 'zipf_A' with A from 0 to 10."""
    text = given[:100] if isinstance(given, str) else shown(given)
    if text == "uniform" or (re.fullmatch(r"zipf_\d+(\.\d+)?", text) and float(text[5:]) <= MOST_EXPONENT):
        return text
    raise ValueError(f"{shown(given)} is not known; expected uniform, or zipf_A with A from 0 to {MOST_EXPONENT:g}")


class Lora(Strict):
    """Adapters of low rank, of which each request names one."""

    adapters: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1
    """Different adapters."""
    rank: Annotated[int, Field(strict=True, ge=0, le=4096)] = 16
    """Rank of each; 0: there are no adapters."""
    max_rank: Annotated[int, Field(strict=True, gt=0, le=4096)] | None = None
    """Rank of the slots on the GPUs, at which kernels run (vLLM's max_lora_rank); default: as the adapters."""
    max_loras: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1
    """Slots on the GPUs, and so different adapters of a step at most (vLLM's max_loras, whose default is 1; SGLang's
    max_loras_per_batch)."""
    popularity: Annotated[str, BeforeValidator(popularity_name)] = "uniform"
    """How often each is named: uniform, or zipf_A, as its place to the power of -A."""
    targets: Annotated[list[str], Field(min_length=1, max_length=20)] | None = None
    """Matrices that have adapters, by their names in `simgpu explain`; default: those of attention and of dense
    feed-forward layers. Routed experts have none."""
    max_cpu_loras: Annotated[int, Field(strict=True, gt=0, le=100_000)] | None = None
    """Adapters that the host's memory holds, of kind traffic (vLLM's max_cpu_loras); default: all."""
    disk: Annotated[float, positive("B/s")] | None = None
    """Bytes/s at which the others are read from disks, of kind traffic."""
    disk_latency: Annotated[float, positive("s", zero=True)] = 0.0
    """Seconds until such a read begins."""

    @property
    def exponent(self) -> float:
        """The power of a popularity."""
        return float(self.popularity[5:]) if self.popularity != "uniform" else 0.0

    @model_validator(mode="after")
    def _holds(self) -> Lora:
        if self.max_rank is not None and self.rank > self.max_rank:
            problem = f"adapters of rank {self.rank} are larger than their slots of max_rank {self.max_rank}"
            raise ValueError(f"{problem}; expected max_rank {self.rank} or more")
        if self.max_cpu_loras is not None and self.max_cpu_loras < self.max_loras:
            problem = f"max_cpu_loras {self.max_cpu_loras} is fewer than max_loras {self.max_loras}"
            raise ValueError(f"{problem}: each adapter on the GPUs is in the host's memory too; expected as many")
        left_out = self.max_cpu_loras is not None and self.max_cpu_loras < self.adapters
        if left_out and self.disk is None:
            problem = f"{self.adapters - (self.max_cpu_loras or 0)} of {self.adapters} adapters are on disks"
            raise ValueError(f"{problem}; expected disk, the bytes/s that these read")
        if not left_out and (self.disk is not None or self.disk_latency):
            raise ValueError("all adapters are in the host's memory; expected max_cpu_loras with disk, or neither")
        return self


class Deployed(Strict):
    """What all jobs of inference say of how a model is deployed."""

    runtime: RuntimeName = "vllm"
    """An engine, and after an '@' its version; default: the version that stands for it (`simgpu list runtimes`)."""
    precision: str | None = None
    """How weights are stored and multiplied (`simgpu.plan.precision`); default: that of the checkpoint where
    its file says one and the runtime reads such files, else the scenario's dtype."""
    kv_cache: CacheType | None = None
    """Type of the cache; default: that which the checkpoint is made for, else that of the activations."""
    routing: Routing | None = None
    """How tokens choose experts; default: popularity_3 for mixtures of experts."""
    offload: PartialShare = 0.0
    """Share of the layers' weights that stays in host memory and crosses the host link each step."""
    memory_share: WholeShare | None = None
    """Share of the memory that the engine may take, as its own option means it (`simgpu.workload.runtimes`): vLLM's
    gpu_memory_utilization, SGLang's mem-fraction-static, TensorRT-LLM's free_gpu_memory_fraction; default: as the
    runtime."""
    lora: Lora | None = None
    """Adapters of low rank that requests name."""
    sequences: Size | None = None
    """Requests that each replica works on at a time, at most (max_num_seqs, max-running-requests, max_batch_size); an
    engine that tries its largest step at its start sets memory aside for them; default: as the runtime."""


class Images(Strict):
    """Images of each prompt, for a model that sees. They take tokens by its own rule, beside those of `prompt`."""

    count: Annotated[int, Field(strict=True, gt=0, le=100_000)] = 1
    height: Annotated[int, Field(strict=True, gt=0, le=65_536)]
    """Pixels."""
    width: Annotated[int, Field(strict=True, gt=0, le=65_536)]


class Inference(Deployed):
    """One batch: `batch` prompts of `prompt` tokens are prefilled together, then each gets `output` tokens."""

    kind: Literal["inference"] = "inference"
    batch: Size = 1
    prompt: Size
    output: Size
    chunk: Size | None = None
    """New tokens of a step at most; default: as the runtime limits them."""
    prefix_hit: PartialShare = 0.0
    """Share of the prompt whose keys and values are in the cache already."""
    images: Images | None = None
    speculative: Speculative | None = None


class Apart(Strict):
    """Experts, and what else feeds forward, on GPUs of their own beside those of the plan, which then attend alone."""

    gpus: Size | None = None
    """GPUs of the experts; default: the number with the most tokens a second and GPU."""
    microbatches: Annotated[int, Field(strict=True, gt=0, le=64)] | None = None
    """Parts of the batch that take turns on both sides; default: the best of one to four."""


class MixedStep(Deployed):
    """One step of an engine: a chunk of a prompt together with sequences that get a token each.

    The chunk is `prefill` tokens behind `past` cached ones; the sequences are `decodes`, at `context` tokens.
    """

    kind: Literal["mixed"] = "mixed"
    prefill: Annotated[int, Field(strict=True, ge=0, le=10**9)] = 0
    past: Annotated[int, Field(strict=True, ge=0, le=10**9)] = 0
    decodes: Annotated[int, Field(strict=True, ge=0, le=10**9)] = 0
    context: Size = 1024
    images: Images | None = None
    """Images of the prompt that this step begins: their tokens come beside those of `prefill`."""
    apart: Apart | None = None
    """Attention and experts on GPUs of their own (decodes alone)."""

    @model_validator(mode="after")
    def _decodes_apart(self) -> MixedStep:
        if self.apart is not None and (self.prefill or not self.decodes):
            raise ValueError(f"apart splits steps of decodes alone, and prefill is {self.prefill}; expected 0")
        return self


class Serving(Deployed):
    """A server at a steady load.

    Either `concurrency` clients each send the next request when they have their answer, or requests come at a `rate`.
    """

    kind: Literal["serving"] = "serving"
    concurrency: Size | None = None
    """Clients, each of which sends its next request when it has its answer."""
    rate: Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)] | None = None
    """Requests/s that come whatever the server does, in place of `concurrency`."""
    lengths: Literal["equal", "drawn"] = "equal"
    """Whether all requests are as long, so that clients stay together, or lengths are drawn, of which `prompt` and
    `output` are the means."""
    waves: Annotated[int, Field(strict=True, gt=0, le=10**9)] | None = None
    """Requests that each client of a test sends, the first of which come all at once, where lengths are drawn; default:
    so many that the first ones do not matter."""
    chunk: Size | None = None
    """New tokens of a step at most (vLLM's max_num_batched_tokens, SGLang's chunked-prefill-size, TensorRT-LLM's
    max_num_tokens); default: as the runtime limits them."""
    prompt: Size
    """Tokens of a prompt."""
    output: Annotated[int, Field(strict=True, ge=2, le=10**12)]
    """Tokens of an answer."""
    prefix_hit: PartialShare = 0.0
    """Share of the prompt whose keys and values are in the cache already."""
    images: Images | None = None
    """Pictures in each prompt, for models that take them."""

    @model_validator(mode="after")
    def _one_load(self) -> Serving:
        if (self.concurrency is None) == (self.rate is None):
            said = "both are given" if self.rate is not None else "neither is given"
            raise ValueError(f"expected one of concurrency and rate; {said}")
        if self.waves is not None and (self.concurrency is None or self.lengths == "equal"):
            raise ValueError("waves are of clients (concurrency) whose lengths are drawn (lengths: drawn)")
        return self


InferenceJob = Inference | MixedStep | Serving
