"""Keys of a job `traffic` that say how its server is run: who comes first, who is turned away, what fails or scales."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from simgpu.schema_errors import TrueFalse
from simgpu.workload.fields import Size, Strict, positive
from simgpu.workload.inference.jobs import Deployed, Speculative

Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Count = Annotated[int, Field(strict=True, ge=0, le=10**6)]


class Scaling(Strict):
    """Replicas that are started and stopped with the load, as Kubernetes' HorizontalPodAutoscaler does it.

    Every `every_s` seconds as many replicas are wanted as it takes for `target` requests on each (running and
    waiting), unless that is within `tolerance` of what there is; at most twice as many as there are, or four. A replica
    takes `start_s` seconds to start. Of what was wanted in the last `settle_s` seconds the most is kept. One that is
    stopped ends its requests first. Defaults: Kubernetes, pkg/controller/podautoscaler/config/v1alpha1/defaults.go;
    KEDA leaves these decisions to the HorizontalPodAutoscaler, and to itself only those from and to no replica.
    """

    target: Positive
    """Requests of a replica, running and waiting."""
    least: Size = 1
    """Replicas at least, and at the start; at most there are those of the plan."""
    every_s: Positive = 15.0
    """Seconds from one decision to the next (HorizontalPodAutoscalerSyncPeriod: 15 s)."""
    start_s: Seconds = 120.0
    """Seconds from the decision to the first request: node, image, weights, warm-up. No default of a system: minutes
    are usual for large models."""
    settle_s: Seconds = 300.0
    """Seconds for which a larger number is kept (HorizontalPodAutoscalerDownscaleStabilizationWindow: 5 min)."""
    tolerance: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.1
    """Relative deviation from the target that changes nothing (HorizontalPodAutoscalerTolerance: 0.1)."""


class Gateway(Strict):
    """A queue in front of the router, from which a replica that has room takes the next request."""

    per_replica: Size
    """Requests of a replica at a time, at most (Ray Serve's max_ongoing_requests)."""
    max_queue: Count | None = None
    """Requests that wait at the gateway at most; more are turned away (Ray Serve's max_queued_requests)."""
    timeout_s: Positive | None = None
    """Seconds after which a request that waits there has timed out."""


class Failures(Strict):
    """Engines that fail and come back: their requests are lost, and their caches empty."""

    every_s: Positive
    """Mean time between failures of an engine, s; times are exponential."""
    repair_s: Positive = 300.0
    """Seconds from a failure until the engine takes requests again."""
    retries: Count = 3
    """Times that the router sends a lost request to another engine; after that it has failed."""


class Pool(Strict):
    """More replicas of the same model, on other GPUs or with another plan."""

    cluster: Annotated[str, Field(min_length=1)]
    """A cluster or node of the catalogue."""
    dp: Size = 1
    """Replicas."""
    tp: Size = 1
    pp: Size = 1
    cp: Size = 1
    ep: Size = 1
    precision: str | None = None
    """Default: that of the job."""
    takes: Literal["all", "prompts", "decodes"] = "all"
    """What they take: any request, behind the same router; prompts alone, which they pass on; or decodes alone."""


class Tier(Strict):
    """A tier of cache behind the prefix cache of the GPUs."""

    kind: Literal["host", "ssd", "store"]
    """Memory of the host and disks of each replica, or a store that all replicas share."""
    size: Annotated[float, positive("B", zero=True)] | None = None
    """Bytes that it holds, of each replica or of the store; default of a store: all there is. 0: there is no tier."""
    bandwidth: Annotated[float, positive("B/s")] | None = None
    """Bytes/s that it reads, shared by all loads from it; default of the host: the host link is the limit."""
    latency: Annotated[float, positive("s", zero=True)] = 0.0
    """Seconds until a load begins."""
    always: TrueFalse = False
    """Use it even where it takes longer than to compute."""

    @model_validator(mode="after")
    def _known(self) -> Tier:
        if self.size is None and self.kind != "store":
            raise ValueError(f"expected size, the bytes that the {self.kind} of a replica holds")
        if self.bandwidth is None and self.kind != "host":
            raise ValueError(f"expected bandwidth, the bytes/s that the {self.kind} reads")
        return self


class ServiceClass(Strict):
    """Requests of one class, with limits of its own."""

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    """Of all requests."""
    ttft_limit_s: Positive | None = None
    """Limit of its time to the first token, s; default: that of the job."""
    tpot_limit_s: Positive | None = None
    """Limit of its time of a token, s; default: that of the job."""
    e2e_limit_s: Positive | None = None
    """Limit of its time to the last token, s; default: that of the job."""


def _class_of(given: object) -> object:
    """A number alone is the share of a class."""
    return {"share": given} if isinstance(given, (int, float)) and not isinstance(given, bool) else given


class Managed(Deployed):
    """What `Traffic` says of how its server is run."""

    policy: Literal["fcfs", "priority"] = "fcfs"
    """Who is admitted first, and who loses its place last: those that came first, or those of the first class
    (vLLM's --scheduling-policy)."""
    preempts: TrueFalse = False
    """With policy priority: a request that finds no place takes that of one of a later class, which is computed again
    (SGLang's --enable-priority-scheduling); with `max_queue` it takes its place in the queue, too."""
    classes: (
        Annotated[list[Annotated[ServiceClass, BeforeValidator(_class_of)]], Field(min_length=1, max_length=100)] | None
    ) = None
    """Classes of the requests, the most urgent first: the share of each, or a mapping with limits of its own; shares
    add up to 1."""
    max_model_len: Size | None = None
    """Tokens of prompt and output: longer requests are turned away, and a cache that does not hold one is refused."""
    max_queue: Count | None = None
    """Requests that wait at a replica at most; more are turned away (SGLang's --max-queued-requests)."""
    timeout_s: Positive | None = None
    """Seconds after which a client gives a request up."""
    patience_s: Positive | None = None
    """Mean time after which a user leaves, s; times are exponential."""
    retries: Count = 0
    """Times that a client sends a request again which was turned away or timed out."""
    retry_s: Seconds = 1.0
    """Pause before that, s."""
    gateway: Gateway | None = None
    """Requests wait in front of the router, not at a replica, beyond so many of each; default: they do not."""
    scaling: Scaling | None = None
    failures: Failures | None = None
    pools: Annotated[list[Pool], Field(min_length=1, max_length=100)] | None = None
    """Pools of other GPUs behind the same router, beside the replicas of the scenario's own cluster and plan."""
    speculative: Speculative | None = None
    """Tokens that a draft guesses; each cycle brings as many as are accepted on average."""
    graph_sizes: Annotated[list[Size], Field(min_length=1, max_length=4096)] | None = None
    """Sequences of steps that were captured as CUDA graphs (cuda_graph_sizes, cuda-graph-bs): a step of decodes runs
    at the next of them, and above the largest its kernels are launched one by one; default: every size is one."""
    swap_bytes: Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)] = 0.0
    """Host memory of a GPU to which the cache of a request goes that loses its place (vLLM V0's swap_space); what
    finds no room there is computed again, as by default."""

    tiers: Annotated[list[Tier], Field(min_length=1, max_length=3)] | None = None
    """Tiers of cache behind the prefix cache, the nearest first."""
    tier_chunk: Annotated[int, Field(strict=True, ge=1, le=65536)] = 256
    """Tokens of a chunk of a tier, which is copied at once (LMCache, LMCACHE_CHUNK_SIZE; vLLM's own: a block)."""
    tier_write: Literal["at_once", "on_eviction"] = "at_once"
    """When chunks are written to tiers: to all when they are computed (LMCache, SGLang's write_through), or to the
    next one where the one before takes their room (SGLang's write_back)."""

    @property
    def gives_up(self) -> bool:
        """True if requests may end before they are answered."""
        return self.timeout_s is not None or self.patience_s is not None

    @property
    def times_out(self) -> bool:
        """True if requests may time out."""
        return self.timeout_s is not None or (self.gateway is not None and self.gateway.timeout_s is not None)

    @property
    def turns_away(self) -> bool:
        """True if requests may be turned away."""
        queue = self.gateway is not None and self.gateway.max_queue is not None
        return queue or self.max_queue is not None or self.max_model_len is not None

    @model_validator(mode="after")
    def _classes(self) -> Managed:
        total = sum(one.share for one in self.classes or ())
        if self.classes is not None and abs(total - 1) > 1e-6:
            raise ValueError(f"classes add up to {total:g}; expected shares that add up to 1")
        if self.policy == "priority" and self.classes is None:
            raise ValueError("expected classes, the shares of requests by urgency, with policy priority")
        if self.preempts and self.policy != "priority":
            raise ValueError("preempts is of urgent requests that take the places of others; expected policy priority")
        kinds = [one.kind for one in self.tiers or ()]
        if kinds != sorted(set(kinds), key=("host", "ssd", "store").index):
            raise ValueError(f"tiers are {', '.join(kinds)}; expected each once, in the order host, ssd, store")
        if not self.tiers and (self.tier_chunk != 256 or self.tier_write != "at_once"):
            raise ValueError("tier_chunk and tier_write say how tiers are used; expected tiers")
        if self.pools and (self.speculative or self.scaling):
            raise ValueError("pools of other GPUs have neither drafts nor scaling; leave one of them out")
        takes = {one.takes == "all" for one in self.pools or ()}
        if len(takes) > 1:
            raise ValueError(
                "some pools take all and some prompts or decodes; expected the same of all: all, or either"
            )
        return self
