"""The job `traffic`: requests that come to a server as they do, each followed to its last token."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from simgpu.workload.fields import Size
from simgpu.workload.inference.jobs import Serving
from simgpu.workload.server.managed import Managed

Arrivals = Literal["poisson", "gamma", "constant", "burst", "ramp", "stages", "day", "closed", "trace"]
RouterName = Literal[
    "round_robin", "random", "least_requests", "least_tokens", "prefix_aware", "power_of_two", "least_load"
]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Stage = tuple[Positive, Positive]

MOST_REQUESTS = 10**8
"""Requests of a run at most: some hours of work."""


class Traffic(Managed):
    """Requests that come to a server one by one; `plan.dp` replicas of an engine answer them.

    Exactly one of `rate`, `stages`, `clients` and `trace` says how many come, but for a burst: all of that are there at
    the start.
    """

    kind: Literal["traffic"] = "traffic"
    arrivals: Arrivals | None = None
    """poisson (default), gamma (with `burstiness`), constant, ramp (from `rate` to `end_rate`), day (`rate` on average,
    with a swing over `day_s`), burst (all at once), stages, closed (`clients` that wait for their answers), trace."""
    rate: Positive | None = None
    """Requests/s."""
    burstiness: Positive = 1.0
    """Shape of gamma gaps: 1 is Poisson, less comes in bursts."""
    end_rate: Positive | None = None
    """Requests/s at the end of a ramp."""
    swing: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    """Of a day: its peak is 1 + swing times the mean, its night 1 - swing."""
    day_s: Positive = 86400.0
    """Length of a day, s."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=1000)] | None = None
    """Pairs of requests/s and seconds."""
    clients: Size | None = None
    """Clients of which each sends the next request when it has its answer."""
    think_s: Seconds = 0.0
    """Pause of such a client, and between the turns of a conversation, s."""
    max_concurrency: Size | None = None
    """Requests on their way at most; the others wait at the client."""
    trace: Annotated[str, Field(min_length=1)] | None = None
    """A CSV file of arrivals (s) and lengths: columns arrival_s, input_tokens and output_tokens, or
    TIMESTAMP, ContextTokens and GeneratedTokens (Azure)."""
    time_scale: Positive = 1.0
    """Times of a trace are so many times as long."""
    requests: Size | None = None
    """Requests of the run; default: those of `duration_s`, of the stages or the trace, else 1000."""
    duration_s: Positive | None = None
    """Requests are sent for so long, s."""
    prompt: Size | None = None
    """Tokens of a prompt beside its shared prefix, on average."""
    output: Size | None = None
    """Output tokens, on average."""
    lengths: Literal["fixed", "uniform", "lognormal"] = "fixed"
    """How both scatter: uniform in mean x (1 - spread) to mean x (1 + spread), lognormal with a standard deviation of
    spread x mean."""
    spread: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    prefix_tokens: Annotated[int, Field(strict=True, ge=0, le=10**9)] = 0
    """Tokens of a prefix that prompts share, such as a system prompt."""
    prefixes: Size = 1
    """Different prefixes, of equal popularity."""
    turns: Size = 1
    """Requests of a conversation, each behind all that was said before."""
    chunk: Size | None = None
    """New tokens of a step at most; default: as the runtime limits them."""
    sequences: Size | None = None
    """Requests that each replica works on at a time, at most; default: as the runtime."""
    block: Annotated[int, Field(strict=True, ge=1, le=1024)] | None = None
    """Tokens of a block of the cache; default: as the runtime."""
    cache_tokens: Size | None = None
    """Tokens that the cache of a replica holds; default: what the memory leaves."""
    watermark: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    """Share of the cache that stays free when a request is admitted; default: as the runtime."""
    prefix_cache: bool | None = None
    """Whether blocks that are given back keep their contents; default: as the runtime."""
    front_s: Seconds | None = None
    """Seconds of a request outside the engine; default: as the runtime."""
    router: RouterName = "round_robin"
    """How requests are dealt to replicas."""
    prefill_replicas: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    """Of the replicas, those that take prompts alone and pass them on to the others."""
    ttft_limit_s: Positive | None = None
    """Limit of the time to the first token for `slo_goodput`, s."""
    tpot_limit_s: Positive | None = None
    """Limit of the time of a token for `slo_goodput`, s."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63)] = 0
    """Chooses arrivals, lengths and routes."""

    @property
    def process(self) -> str:
        """How requests come."""
        given = "closed" if self.clients else "stages" if self.stages else "trace" if self.trace else "poisson"
        return self.arrivals or given

    @property
    def count(self) -> int | None:
        """Requests of the run at most; None: as many as come."""
        if self.requests is None and self.duration_s is None and not self.stages and not self.trace:
            return 1000
        return self.requests

    @property
    def longest(self) -> int:
        """Tokens of the longest request as far as the means say it; 0 for a trace without them."""
        return self.prefix_tokens + self.turns * (self.prompt or 0) + self.turns * (self.output or 0)

    def served(self) -> Serving:
        """A server with the same limits, under one client."""
        keys = ("runtime", "precision", "kv_cache", "routing", "offload", "memory_share", "chunk", "sequences")
        kept = {key: getattr(self, key) for key in keys}
        prompt = self.prefix_tokens + self.turns * (self.prompt or 1) + (self.turns - 1) * (self.output or 0)
        return Serving(concurrency=1, prompt=prompt, output=max(self.output or 2, 2), **kept)

    @model_validator(mode="after")
    def _one_load(self) -> Traffic:
        said = [name for name in ("rate", "stages", "clients", "trace") if getattr(self, name) is not None]
        wanted = {"burst": None, "closed": "clients", "stages": "stages", "trace": "trace"}.get(self.process, "rate")
        if wanted is not None and said != [wanted]:
            given = " and ".join(said) if said else "none"
            raise ValueError(f"expected {wanted} for arrivals {self.process}; given is {given}")
        if wanted is None and said:
            raise ValueError(f"{said[0]} says nothing of a burst, which comes at once; leave it out")
        if (self.process == "ramp") != (self.end_rate is not None):
            raise ValueError("expected end_rate with arrivals ramp, and with no others")
        if self.process == "ramp" and self.duration_s is None:
            raise ValueError("expected duration_s, over which the ramp rises")
        if self.burstiness != 1.0 and self.process != "gamma":
            raise ValueError(f"burstiness {self.burstiness:g} is of arrivals gamma, not {self.process}")
        if self.process in ("burst", "closed") and self.requests is None and self.duration_s is not None:
            raise ValueError(f"expected requests, not duration_s, for arrivals {self.process}")
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Traffic:
        if self.trace is None and (self.prompt is None or self.output is None):
            raise ValueError("expected prompt and output, or a trace that has them")
        if self.spread and self.lengths == "fixed":
            raise ValueError(f"spread {self.spread:g}: fixed lengths have none; expected lengths uniform or lognormal")
        if self.lengths == "uniform" and self.spread > 1:
            raise ValueError(f"spread {self.spread:g}: uniform lengths reach below zero; expected at most 1")
        if self.turns > 1 and (self.clients or self.trace):
            raise ValueError("turns are of arrivals at a rate; leave clients and trace out")
        if self.rate and (self.duration_s or 0) * self.rate > MOST_REQUESTS:
            raise ValueError(f"{self.rate * (self.duration_s or 0):.3g} requests; expected at most {MOST_REQUESTS:.0e}")
        if (self.requests or 0) > MOST_REQUESTS:
            raise ValueError(f"{self.requests} requests; expected at most {MOST_REQUESTS:.0e}")
        return self
