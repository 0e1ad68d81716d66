"""Results of inference: a batch, a single step, a server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simgpu.simulation.result import SplitResult


@dataclass(frozen=True, repr=False, kw_only=True)
class InferenceResult(SplitResult):
    """What every job of inference has: the engine, where the time goes, memory by part, what else would fit."""

    runtime: str
    """How an engine runs the operators."""
    runtime_version: str
    """The versions of the engine that its constants stand for."""
    precision: str
    """How weights are stored and multiplied; 'weights converted' where the GPU lacks the type."""
    kv_cache: str
    """Data type of the cache."""
    total_tokens_per_s: float
    """Prompt and output tokens over the whole time, all GPUs (tokens/s)."""
    total_tokens_per_s_p10: float
    total_tokens_per_s_p90: float
    energy_j_per_request: float | None = None
    """Energy of all GPUs for a request (J)."""
    energy_j_per_request_p10: float | None = None
    energy_j_per_request_p90: float | None = None
    host_sequences_s: float
    """Part of host_s that grows with the sequences of a step: sampling and bookkeeping, in which the GPU works; the
    rest is a wait (s)."""
    copies_s: float
    """Weights out of host memory (s)."""
    kv_cache_memory_bytes: float
    """Part of the memory: keys and values (B)."""
    logits_memory_bytes: float
    """Part of the memory: logits (B)."""
    graphs_memory_bytes: float
    """Part of the memory: CUDA graphs (B)."""
    host_memory_bytes: float
    """Weights of a rank in host memory (B)."""
    kv_bytes_per_token: float
    """Bytes of the cache for a token of a sequence, on average over them, all ranks together (B)."""
    cache_tokens: int | None = None
    """Tokens that the cache of a replica holds, as engines print it ('GPU KV cache size')."""
    most_sequences: int
    """Sequences of prompt + output tokens that fit at once."""
    smallest_gpus: int
    """GPUs that hold one such sequence, split by tensors (llama.cpp: by layers); 0: not even 32."""
    longest_context: int
    """Tokens of a lone sequence that fit, at most what its configuration says (tokens)."""


@dataclass(frozen=True, repr=False, kw_only=True)
class BatchResult(InferenceResult):
    """A batch of sequences, from their prompts to their last tokens."""

    HEADLINE: ClassVar[tuple[str, ...]] = ("ttft_s", "tpot_s", "output_tokens_per_s")

    single_gpu_step_s: float | None = None
    """Time of the whole step on one GPU of the cluster (memory set aside) (s)."""
    single_gpu_step_s_p10: float | None = None
    single_gpu_step_s_p90: float | None = None
    ideal_step_s: float | None = None
    """Single_gpu_step_s / gpus (s)."""
    ideal_step_s_p10: float | None = None
    ideal_step_s_p90: float | None = None
    efficiency: float | None = None
    """Ideal_step_s / step_s (share)."""
    efficiency_p10: float | None = None
    efficiency_p90: float | None = None
    speedup: float | None = None
    """Single_gpu_step_s / step_s."""
    speedup_p10: float | None = None
    speedup_p90: float | None = None
    batch: int
    """Sequences of the batch, all replicas together; of a server those in the batch, the others queue (sequences)."""
    prompt: int
    """Tokens of a prompt (tokens)."""
    output: int
    """Output tokens of a sequence (tokens)."""
    cached: int
    """Tokens of a prompt that are in the cache already."""
    image_tokens: int | None = None
    """Tokens of a prompt that its images take by the rule of the model (tokens)."""
    vision_s: float | None = None
    """Time of the vision tower: for all prompts of a batch, of a server for one (s)."""
    ttft_s: float
    """Time to first token: of the last prompt of a batch; of a server the mean, with queueing (s)."""
    ttft_s_p10: float
    ttft_s_p90: float
    tpot_s: float
    """Time per output token after the first, as engines' benchmarks count: (end to end - TTFT) / (output - 1) (s)."""
    tpot_s_p10: float | None = None
    tpot_s_p90: float | None = None
    normalized_latency_s: float
    """End to end / output, the first token counted in (the vLLM paper's normalized latency) (s)."""
    normalized_latency_s_p10: float
    normalized_latency_s_p90: float
    prefill_s: float
    """Time of the prefill of all prompts (s)."""
    prefill_s_p10: float
    prefill_s_p90: float
    decode_s: float
    """Time from the first token to the last (s)."""
    decode_s_p10: float | None = None
    decode_s_p90: float | None = None
    prefill_tokens_per_s: float
    """Prompt tokens per second while prompts are worked on, all GPUs (tokens/s)."""
    prefill_tokens_per_s_p10: float
    prefill_tokens_per_s_p90: float
    output_tokens_per_s: float
    """Output tokens per second, all users: of a batch while it decodes, of a server on average (tokens/s)."""
    output_tokens_per_s_p10: float | None = None
    output_tokens_per_s_p90: float | None = None
    output_tokens_per_s_per_user: float
    """1 / tpot_s (tokens/s/user)."""
    output_tokens_per_s_per_user_p10: float | None = None
    output_tokens_per_s_per_user_p90: float | None = None
    output_tokens_per_s_per_gpu: float
    """Output tokens over the whole time, prefill included, per GPU (tokens/s/GPU)."""
    output_tokens_per_s_per_gpu_p10: float
    output_tokens_per_s_per_gpu_p90: float
    speed_of_light_tokens_per_s_per_user: float | None = None
    """Upper bound of output_tokens_per_s_per_user: kernels at datasheet peak and bandwidth, nothing else
    (tokens/s/user)."""
    tokens_per_cycle: float | None = None
    """Tokens that a draft and its verification yield on average (speculative decoding only)."""
    evaluated_steps: int
    """Different steps that were simulated; the others lie between them."""


@dataclass(frozen=True, repr=False, kw_only=True)
class MixedStepResult(InferenceResult):
    """One step of an engine, with new tokens of a prompt and sequences that get a token each."""

    HEADLINE: ClassVar[tuple[str, ...]] = ("step_s", "total_tokens_per_s", "mfu")

    prefill: int
    """New tokens of the prompt (mixed step only)."""
    past: int
    """Tokens of the prompt that are cached (mixed step only)."""
    decodes: int
    """Sequences that get a token (mixed step only)."""
    context: int
    """Tokens that each of them holds (mixed step only) (tokens)."""
    image_tokens: int | None = None
    """Tokens of a prompt that its images take by the rule of the model (tokens)."""
    vision_s: float | None = None
    """Time of the vision tower: for all prompts of a batch, of a server for one (s)."""
    output_tokens_per_s_per_gpu: float | None = None
    """Output tokens over the whole time, prefill included, per GPU (tokens/s/GPU)."""
    output_tokens_per_s_per_gpu_p10: float | None = None
    output_tokens_per_s_per_gpu_p90: float | None = None
    expert_gpus: int | None = None
    """GPUs of the experts, where they are apart from the attention."""
    microbatches: int | None = None
    """Of one replica in a step."""
    attention_side_s: float | None = None
    """Time in which an attention GPU works, in a step (s)."""
    expert_side_s: float | None = None
    """Time in which an expert GPU works, in a step (s)."""
    between_sides_s: float | None = None
    """Time of a micro-batch on its ways between both sides, in a step (s)."""
    idle_share: float | None = None
    """Share of the GPUs' time in which they do not work (post-training, decodes whose experts are apart) (share)."""


@dataclass(frozen=True, repr=False, kw_only=True)
class ServerResult(InferenceResult):
    """A server, in its steady state or request by request."""

    ttft_s: float
    """Time to first token: of the last prompt of a batch; of a server the mean, with queueing (s)."""
    ttft_s_p10: float
    ttft_s_p90: float
    tpot_s: float
    """Time per output token after the first, as engines' benchmarks count: (end to end - TTFT) / (output - 1) (s)."""
    tpot_s_p10: float
    tpot_s_p90: float
    interference_s: float
    """Part of a server's TPOT: time that prompts of other clients take (s)."""
    output_tokens_per_s: float
    """Output tokens per second, all users: of a batch while it decodes, of a server on average (tokens/s)."""
    output_tokens_per_s_p10: float
    output_tokens_per_s_p90: float
    output_tokens_per_s_per_user: float
    """1 / tpot_s (tokens/s/user)."""
    output_tokens_per_s_per_user_p10: float
    output_tokens_per_s_per_user_p90: float
    output_tokens_per_s_per_gpu: float
    """Output tokens over the whole time, prefill included, per GPU (tokens/s/GPU)."""
    output_tokens_per_s_per_gpu_p10: float
    output_tokens_per_s_per_gpu_p90: float
    requests_per_s: float
    """Requests per second, all GPUs (requests/s)."""
    requests_per_s_p10: float
    requests_per_s_p90: float


@dataclass(frozen=True, repr=False, kw_only=True)
class ServingResult(ServerResult):
    """A server under so many requests at a time, in its steady state."""

    HEADLINE: ClassVar[tuple[str, ...]] = ("ttft_s", "tpot_s", "output_tokens_per_s", "requests_per_s")

    batch: int
    """Sequences of the batch, all replicas together; of a server those in the batch, the others queue (sequences)."""
    concurrency: int
    """Requests at a time (clients)."""
    prompt: int
    """Tokens of a prompt (tokens)."""
    output: int
    """Output tokens of a sequence (tokens)."""
    cached: int
    """Tokens of a prompt that are in the cache already."""
    image_tokens: int | None = None
    """Tokens of a prompt that its images take by the rule of the model (tokens)."""
    vision_s: float | None = None
    """Time of the vision tower: for all prompts of a batch, of a server for one (s)."""
    normalized_latency_s: float
    """End to end / output, the first token counted in (the vLLM paper's normalized latency) (s)."""
    normalized_latency_s_p10: float
    normalized_latency_s_p90: float
    saturated: bool
    """Whether requests queue for room in the cache."""


@dataclass(frozen=True, repr=False, kw_only=True)
class TrafficResult(ServerResult):
    """A server under requests that are followed one by one."""

    HEADLINE: ClassVar[tuple[str, ...]] = ("ttft_s", "ttft_99th_s", "tpot_s", "tpot_99th_s", "requests_per_s")

    served: Any = None
    """What the server did, request by request (`simgpu.workload.server.answer.Served`)."""

    prompt: float
    """Tokens of a prompt (tokens)."""
    output: float
    """Output tokens of a sequence (tokens)."""
    image_tokens: int | None = None
    """Tokens of a prompt that its images take by the rule of the model (tokens)."""
    vision_s: float | None = None
    """Time of the vision tower: for all prompts of a batch, of a server for one (s)."""
    itl_s: float
    """Mean gap between two tokens of a request, over all tokens (traffic only) (s)."""
    itl_s_p10: float
    itl_s_p90: float
    ttft_50th_s: float
    """Time to the first token: 50 % of requests stay below (traffic only) (s)."""
    ttft_50th_s_p10: float
    ttft_50th_s_p90: float
    ttft_90th_s: float
    """Time to the first token: 90 % of requests stay below (traffic only) (s)."""
    ttft_90th_s_p10: float
    ttft_90th_s_p90: float
    ttft_95th_s: float
    """Time to the first token: 95 % of requests stay below (traffic only) (s)."""
    ttft_95th_s_p10: float
    ttft_95th_s_p90: float
    ttft_99th_s: float
    """Time to the first token: 99 % of requests stay below (traffic only) (s)."""
    ttft_99th_s_p10: float
    ttft_99th_s_p90: float
    tpot_50th_s: float
    """Time per output token after the first: 50 % of requests stay below (traffic only) (s)."""
    tpot_50th_s_p10: float
    tpot_50th_s_p90: float
    tpot_90th_s: float
    """Time per output token after the first: 90 % of requests stay below (traffic only) (s)."""
    tpot_90th_s_p10: float
    tpot_90th_s_p90: float
    tpot_95th_s: float
    """Time per output token after the first: 95 % of requests stay below (traffic only) (s)."""
    tpot_95th_s_p10: float
    tpot_95th_s_p90: float
    tpot_99th_s: float
    """Time per output token after the first: 99 % of requests stay below (traffic only) (s)."""
    tpot_99th_s_p10: float
    tpot_99th_s_p90: float
    itl_50th_s: float
    """Gap between two tokens of a request: 50 % of tokens stay below (traffic only) (s)."""
    itl_50th_s_p10: float
    itl_50th_s_p90: float
    itl_90th_s: float
    """Gap between two tokens of a request: 90 % of tokens stay below (traffic only) (s)."""
    itl_90th_s_p10: float
    itl_90th_s_p90: float
    itl_95th_s: float
    """Gap between two tokens of a request: 95 % of tokens stay below (traffic only) (s)."""
    itl_95th_s_p10: float
    itl_95th_s_p90: float
    itl_99th_s: float
    """Gap between two tokens of a request: 99 % of tokens stay below (traffic only) (s)."""
    itl_99th_s_p10: float
    itl_99th_s_p90: float
    e2e_50th_s: float
    """Time from sending a request to its last token: 50 % of requests stay below (traffic only) (s)."""
    e2e_50th_s_p10: float
    e2e_50th_s_p90: float
    e2e_90th_s: float
    """Time from sending a request to its last token: 90 % of requests stay below (traffic only) (s)."""
    e2e_90th_s_p10: float
    e2e_90th_s_p90: float
    e2e_95th_s: float
    """Time from sending a request to its last token: 95 % of requests stay below (traffic only) (s)."""
    e2e_95th_s_p10: float
    e2e_95th_s_p90: float
    e2e_99th_s: float
    """Time from sending a request to its last token: 99 % of requests stay below (traffic only) (s)."""
    e2e_99th_s_p10: float
    e2e_99th_s_p90: float
    slo_goodput: float
    """Requests per second that meet the limits of the job (traffic only) (requests/s)."""
    slo_goodput_p10: float
    slo_goodput_p90: float
    queue_s: float
    """Mean time from the arrival of a request at the engine to its first step (traffic only) (s)."""
    queue_s_p10: float
    queue_s_p90: float
    own_prompt_s: float
    """Mean time from the first step of a request to its first token (traffic only) (s)."""
    own_prompt_s_p10: float
    own_prompt_s_p90: float
    arrival_rate: float
    """Requests that are sent per second (traffic only) (requests/s)."""
    requests_served: int
    """Requests that were sent and answered (traffic only)."""
    duration_s: float
    """Time from the start to the last token of all (traffic only) (s)."""
    waiting: float
    """Requests without a place in the batch, on average over time, all replicas together (traffic only)
    (requests)."""
    running: float
    """Requests with a place in the batch, on average over time, all replicas together (traffic only) (requests)."""
    cache_use: float
    """Blocks of the cache that requests hold, on average over time (traffic only) (share)."""
    most_cache_use: float
    """The same of a replica at its fullest (traffic only) (share)."""
    hit_rate: float
    """Share of the prompt tokens that the cache had already (traffic only) (share)."""
    preemptions: int
    """Times that a request lost its place and was computed again (traffic only)."""
    busy: float
    """Share of the time in which a replica runs a step (traffic only) (share)."""
    stationary: str
    """Yes, no (requests come faster than they are answered), unsure where the ends of the interval disagree, or
    varies where arrivals do (traffic only)."""
    urgent_ttft_99th_s: float | None = None
    """Ttft_99th_s of the first of several classes (traffic only) (s)."""
    urgent_ttft_99th_s_p10: float | None = None
    urgent_ttft_99th_s_p90: float | None = None
    urgent_within: float | None = None
    """Share of the requests of the first of several classes that were answered within its limits (traffic only)
    (share)."""
    urgent_within_p10: float | None = None
    urgent_within_p90: float | None = None
    last_ttft_99th_s: float | None = None
    """Ttft_99th_s of the last of several classes (traffic only) (s)."""
    last_ttft_99th_s_p10: float | None = None
    last_ttft_99th_s_p90: float | None = None
    last_within: float | None = None
    """Share of the requests of the last of several classes that were answered within its limits (traffic only)
    (share)."""
    last_within_p10: float | None = None
    last_within_p90: float | None = None
    turned_away: int | None = None
    """Requests that the server did not take: its queue was full, or they were too long (traffic only)."""
    timed_out: int | None = None
    """Requests that their clients gave up (traffic only)."""
    cancelled: int | None = None
    """Requests whose users left (traffic only)."""
    failed: int | None = None
    """Requests lost with engines that failed more often than they are retried (traffic only)."""
    client_retries: int | None = None
    """Times that clients sent a request again (traffic only)."""
    engine_failures: int | None = None
    """Times that an engine failed (traffic only)."""
    available: float | None = None
    """Share of the time in which a replica has not failed (traffic only) (share)."""
    mean_replicas: float | None = None
    """Replicas that serve, start or end their last requests, on average over time (traffic only)."""
    most_replicas: int | None = None
    """The same at its most (traffic only)."""
    dummy_share: float | None = None
    """Of ranks that step together, the share of steps without a token of their own (traffic only) (share)."""
    gateway_s: float | None = None
    """Mean wait at the gateway in front of the router (traffic only) (s)."""
    transfer_s: float | None = None
    """Mean time of a cache on its way from the engine of its prompt to that of its decodes (traffic only) (s)."""
    tier_hit_rate: float | None = None
    """Share of the prompt tokens that came from tiers of cache behind the GPU, part of hit_rate (traffic only)
    (share)."""
    host_hit_rate: float | None = None
    """The same from the memory of the host (traffic only) (share)."""
    ssd_hit_rate: float | None = None
    """The same from disks (traffic only) (share)."""
    store_hit_rate: float | None = None
    """The same from the store that replicas share (traffic only) (share)."""
    load_s: float | None = None
    """Mean time of a load from tiers of cache, from the place of a request until its tokens are there (traffic
    only) (s)."""
    loaded_bytes: float | None = None
    """Bytes loaded from tiers of cache (traffic only) (B)."""
    written_bytes: float | None = None
    """Bytes written to tiers of cache (traffic only) (B)."""
    computed_ttft_s: float | None = None
    """Mean TTFT of requests that no cache had tokens of (traffic only) (s)."""
    gpu_ttft_s: float | None = None
    """Mean TTFT of requests whose cached tokens all lay on the GPU (traffic only) (s)."""
    host_ttft_s: float | None = None
    """Mean TTFT of requests the farthest of whose cached tokens lay in the memory of the host (traffic only) (s)."""
    ssd_ttft_s: float | None = None
    """The same on disks (traffic only) (s)."""
    store_ttft_s: float | None = None
    """The same in the store that replicas share (traffic only) (s)."""
    tiers_unused: str | None = None
    """Tiers of cache that are not used because it takes longer to load from them than to compute (traffic only)."""
    session_s: float | None = None
    """Mean time from the first request of a session to its last token, pauses included (traffic only) (s)."""
    session_s_p10: float | None = None
    session_s_p90: float | None = None
    session_50th_s: float | None = None
    """Time from the first request of a session to its last token: 50 % of sessions stay below (traffic
    only) (s)."""
    session_50th_s_p10: float | None = None
    session_50th_s_p90: float | None = None
    session_99th_s: float | None = None
    """Time from the first request of a session to its last token: 99 % of sessions stay below (traffic
    only) (s)."""
    session_99th_s_p10: float | None = None
    session_99th_s_p90: float | None = None
    session_server_s: float | None = None
    """Mean time of the requests of a session, summed, without pauses (traffic only) (s)."""
    session_server_s_p10: float | None = None
    session_server_s_p90: float | None = None
    sessions_per_s: float | None = None
    """Sessions that end per second, all GPUs (traffic only) (1/s)."""
    sessions_per_s_p10: float | None = None
    sessions_per_s_p90: float | None = None
    answer_s: float | None = None
    """Mean time from sending a request of a session to its first token that is not hidden reasoning (traffic
    only) (s)."""
    answer_s_p10: float | None = None
    answer_s_p90: float | None = None
    sessions_ended: int | None = None
    """Sessions all of whose requests were answered (traffic only)."""
    sessions_unfinished: int | None = None
    """Sessions of which a request was not answered (traffic only)."""
    first_hit_rate: float | None = None
    """Hit_rate of the first requests of sessions (traffic only) (share)."""
    later_hit_rate: float | None = None
    """Hit_rate of all further requests of sessions (traffic only) (share)."""
    adapters_per_step: float | None = None
    """Different adapters of a step, on average over time (traffic only)."""
    adapter_hit_rate: float | None = None
    """Share of the requests whose adapter was on the GPUs when they joined (traffic only) (share)."""
    adapter_load_s: float | None = None
    """Mean time of a load of an adapter, from the host's memory or from disks too (traffic only) (s)."""
    adapter_load_share: float | None = None
    """Share of the time of steps in which the engine waits for adapters (traffic only) (share)."""
    steady_ttft_s: float | None = None
    """Ttft_s by the closed form of kind serving under the same load, where it has one (traffic only) (s)."""
    steady_tpot_s: float | None = None
    """Tpot_s by the closed form of kind serving under the same load, where it has one (traffic only) (s)."""

    def followed(self, served: Any) -> TrafficResult:
        """The result with what the server did."""
        vars(self)["served"] = served
        return self
