"""Jobs of inference: one batch from prompts to last tokens, one step of an engine, a server at a steady load."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simgpu.workload.fields import Routing, Size, Strict

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
    precision: str | None = None
    """Of the draft; default: that of the model."""


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
    output: Annotated[int, Field(strict=True, ge=2, le=10**12)]
    prefix_hit: PartialShare = 0.0
    """Share of the prompt whose keys and values are in the cache already."""
    images: Images | None = None

    @model_validator(mode="after")
    def _one_load(self) -> Serving:
        if (self.concurrency is None) == (self.rate is None):
            said = "both are given" if self.rate is not None else "neither is given"
            raise ValueError(f"expected one of concurrency and rate; {said}")
        if self.waves is not None and (self.concurrency is None or self.lengths == "equal"):
            raise ValueError("waves are of clients (concurrency) whose lengths are drawn (lengths: drawn)")
        return self


InferenceJob = Inference | MixedStep | Serving
