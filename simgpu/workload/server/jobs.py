"""The job `traffic`: requests that come to a server as they do, each followed to its last token."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from simgpu.errors import shown
from simgpu.schema_errors import TrueFalse
from simgpu.workload.fields import Size, Strict
from simgpu.workload.inference.jobs import Images, Serving
from simgpu.workload.server.managed import Managed
from simgpu.workload.server.session_keys import Sessions

Arrivals = Literal[
    "poisson", "gamma", "constant", "burst", "ramp", "stages", "profile", "day", "closed", "trace", "users"
]
RouterName = Literal[
    "round_robin", "random", "least_requests", "least_tokens", "prefix_aware", "power_of_two", "least_load"
]
Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Tokens = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Stage = tuple[Positive, Positive]
Point = tuple[Seconds, Seconds]
Ends = tuple[Size, Size]

MOST_REQUESTS = 10**8
"""Requests of a run at most: some hours of work."""


class Mixed(Strict):
    """Requests of one kind among others: a share of all, with lengths of its own."""

    share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
    prompt: Size
    output: Size
    prompt_deviation: Tokens = 0.0
    """Standard deviation of the tokens of a prompt; lengths are normal, and 1 at least."""
    output_deviation: Tokens = 0.0


class Traffic(Managed):
    """Requests that come to a server one by one; `plan.dp` replicas of an engine answer them.

    Exactly one of `rate`, `stages`, `profile`, `clients` and `trace` says how many come, but for a burst: all of that
    are there at the start.
    """

    kind: Literal["traffic"] = "traffic"
    arrivals: Arrivals | None = None
    """poisson (default), gamma (with `burstiness`), constant, ramp (from `rate` to `end_rate`), day (`rate` on average,
    with a swing over `day_s`), profile (rates that rise and fall between points), burst (all at once), stages, closed
    (`clients` that wait for their answers), trace."""
    rate: Positive | None = None
    """Requests/s."""
    burstiness: Positive = 1.0
    """Shape of gamma gaps: 1 is Poisson, less comes in bursts."""
    end_rate: Positive | None = None
    """Requests/s at the end of a ramp."""
    ramp: Literal["time", "requests", "factor"] = "time"
    """How a ramp rises: evenly over `duration_s`, or over `requests` of them by equal steps or equal factors from each
    to the next (`vllm bench serve --ramp-up-strategy` linear and exponential)."""
    scaled: TrueFalse = False
    """Gaps are stretched so that the last of `requests` comes at requests / rate, as `vllm bench serve` does."""
    swing: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.5
    """Of a day: its peak is 1 + swing times the mean, its night 1 - swing."""
    day_s: Positive = 86400.0
    """Length of a day, s."""
    stages: Annotated[list[Stage], Field(min_length=1, max_length=1000)] | None = None
    """Pairs of requests/s and seconds."""
    profile: Annotated[list[Point], Field(min_length=2, max_length=10_000)] | None = None
    """Pairs of a time (s) and requests/s, linear in between; it begins again after its last point."""
    clients: Size | None = None
    """Clients of which each sends the next request when it has its answer."""
    clients_start_s: Seconds = 0.0
    """Clients begin one after the other over so many seconds; 0: all at once, whose prompts wait for each other."""
    users: Size | None = None
    """Users of conversations who send `rate` turns/s together, each one every users / rate seconds, or as soon as it
    has its answer where that takes longer; a new one follows each that is through. They are at all stages of their
    conversations at the start (`aiperf --user-centric-rate`)."""
    think_s: Seconds = 0.0
    """Pause of such a client, and between the turns of a conversation, s."""
    max_concurrency: Size | None = None
    """Requests on their way at most; the others wait at the client."""
    trace: Annotated[str, Field(min_length=1)] | None = None
    """A file of arrivals and lengths: CSV of one's own (arrival_s, input_tokens, output_tokens), of Azure, BurstGPT or
    Vidur, or JSONL of Mooncake, Dynamo or LLMServingSim (`simgpu.workload.server.trace`)."""
    time_scale: Positive = 1.0
    """Times of a trace are so many times as long."""
    trace_start_s: Seconds = 0.0
    """Seconds of a trace, in its own time, that are left out."""
    trace_share: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 1.0
    """Share of its requests that are sent, each chosen by chance: a lower rate with the same bursts."""
    trace_block: Size = 512
    """Tokens of a prompt for which each of the `hash_ids` of a trace stands."""
    trace_deltas: TrueFalse = False
    """Rows of a session hold what is new: the prompt of a turn is that, behind all that was said before (Dynamo's
    `mooncake-delta`)."""
    trace_sessions: TrueFalse = False
    """Rows of a trace with `hash_ids` whose prompts go on where an earlier request and its answer end are sent after
    that answer, not before their own time: conversations and agents of Mooncake's traces as sessions."""
    spread_times: TrueFalse = False
    """Requests of a trace that come at one time are spread evenly until the next time in it."""
    lengths_file: Annotated[str, Field(min_length=1)] | None = None
    """A file like a trace whose lengths are taken in turn, from the start again after its end; its times are not."""
    resample: TrueFalse = False
    """Lengths are drawn from that file by chance, with replacement."""
    requests: Size | None = None
    """Requests of the run; default: those of `duration_s`, of the stages or the trace, else 1000."""
    duration_s: Positive | None = None
    """Requests are sent for so long, s."""
    prompt: Size | None = None
    """Tokens of a prompt beside its shared prefix, on average."""
    output: Size | None = None
    """Output tokens, on average."""
    lengths: Literal["fixed", "uniform", "normal", "lognormal", "sharegpt"] = "fixed"
    """How both scatter: uniform in mean x (1 - spread) to mean x (1 + spread), normal and lognormal with a standard
    deviation of spread x mean; sharegpt as that data set has them, scaled to both means."""
    spread: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] = 0.0
    output_spread: Annotated[float, Field(ge=0, le=10, allow_inf_nan=False)] | None = None
    """The spread of outputs; default: as of prompts."""
    prompt_range: Ends | None = None
    """Least and most tokens of a prompt: what is drawn beyond is set to the end; uniform lengths lie in between."""
    output_range: Ends | None = None
    """The same of an output."""
    mix: Annotated[list[Mixed], Field(min_length=1, max_length=1000)] | None = None
    """Kinds of requests with lengths of their own, in place of prompt, output and lengths (`aiperf --seq-dist`)."""
    distinct: Annotated[int, Field(strict=True, ge=1, le=10**6)] | None = None
    """Different prompts, sent in turn, as tools have them that make a data set first; default: no two are equal."""
    warmups: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    """Requests with the first prompt that a tool sends before the run, to one replica after the other: its blocks are
    in their caches (`vllm bench serve --num-warmups`, `sglang.bench_serving --warmup-requests`)."""
    prefix_tokens: Annotated[int, Field(strict=True, ge=0, le=10**9)] = 0
    """Tokens of a prefix that prompts share, such as a system prompt."""
    prefixes: Size = 1
    """Different prefixes, of equal popularity."""
    turns: Size = 1
    """Requests of a conversation, each behind all that was said before; `requests` then counts conversations."""
    session: Sessions | None = None
    """What a session has beside turns: a first message, tools, branches, hidden reasoning, pauses that scatter."""
    images: Images | None = None
    """Images of each prompt, for a model that sees: their tokens come beside those of the prompt, behind its prefix."""
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
    prefix_cache: TrueFalse | None = None
    """Whether blocks that are given back keep their contents; default: as the runtime."""
    front_s: Seconds | None = None
    """Seconds of a request outside the engine; default: as the runtime."""
    router: RouterName = "round_robin"
    """How requests are dealt to replicas."""
    prefill_replicas: Annotated[int, Field(strict=True, ge=0, le=10**6)] = 0
    """Of the replicas of the scenario's own GPUs, those that take prompts alone and pass them on to the others."""
    ttft_limit_s: Positive | None = None
    """Limit of the time to the first token for `slo_goodput`, s."""
    tpot_limit_s: Positive | None = None
    """Limit of the time of a token for `slo_goodput`, s."""
    e2e_limit_s: Positive | None = None
    """Limit of the time to the last token for `slo_goodput`, s."""
    seed: Annotated[int, Field(strict=True, ge=0, le=2**63)] = 0
    """Chooses arrivals, lengths and routes."""

    @property
    def apart(self) -> bool:
        """True if prompts and decodes are computed by replicas of their own."""
        return self.prefill_replicas > 0 or any(one.takes != "all" for one in self.pools or ())

    @property
    def process(self) -> str:
        """How requests come."""
        names = ("clients", "stages", "profile", "trace", "users")
        said = next((key for key in names if getattr(self, key)), "poisson")
        return self.arrivals or ("closed" if said == "clients" else said)

    @property
    def count(self) -> int | None:
        """Requests of the run at most; None: as many as come."""
        if self.requests is None and self.duration_s is None and not self.stages and not self.trace:
            return 1000
        return self.requests

    @property
    def expected(self) -> float:
        """Requests of the run, as far as the job says it: those asked for, else by the rates."""
        if self.count is not None:
            return float(self.count)
        if self.stages:
            return sum(rate * seconds for rate, seconds in self.stages)
        seconds = self.duration_s or 0.0
        if self.profile:
            areas = [(b - a) * (low + high) / 2 for (a, low), (b, high) in pairwise(self.profile)]
            return seconds / self.profile[-1][0] * sum(areas)
        return ((self.rate or 0.0) + (self.end_rate or self.rate or 0.0)) / 2 * seconds

    @property
    def longest(self) -> int:
        """Tokens of the longest request as far as the means say it; 0 for a trace without them."""
        most = max((one.prompt + one.output for one in self.mix or ()), default=0)
        if self.session is not None:
            return (
                self.prefix_tokens
                + self.session.context(self.turns, self.prompt or 0, self.output or 0)
                + (self.output or 0)
            )
        return self.prefix_tokens + self.turns * ((self.prompt or 0) + (self.output or 0) + most)

    def served(self) -> Serving:
        """A server with the same limits, under one client."""
        keys = (
            "runtime",
            "precision",
            "kv_cache",
            "routing",
            "offload",
            "memory_share",
            "chunk",
            "sequences",
            "images",
            "lora",
        )
        kept = {key: getattr(self, key) for key in keys}
        new, output = self.prompt or 1, min(self.output or 0, (self.output_range or (1, 10**12))[1])
        if self.mix:
            new = round(sum(one.share * one.prompt for one in self.mix))
            output = round(sum(one.share * one.output for one in self.mix))
        prompt = self.prefix_tokens + self.turns * new + (self.turns - 1) * output
        if self.session is not None:
            prompt = self.prefix_tokens + self.session.context(self.turns, new, output)
        return Serving(concurrency=1, prompt=max(prompt, 1), output=max(output, 2), **kept)

    @model_validator(mode="after")
    def _one_load(self) -> Traffic:
        said = [name for name in ("rate", "stages", "profile", "clients", "trace") if getattr(self, name) is not None]
        names = {"burst": None, "closed": "clients", "stages": "stages", "profile": "profile", "trace": "trace"}
        wanted = names.get(self.process, "rate")
        if wanted is not None and said != [wanted]:
            given = " and ".join(said) if said else "none"
            raise ValueError(f"expected {wanted} for arrivals {self.process}; given is {given}")
        if wanted is None and said:
            raise ValueError(f"{said[0]} says nothing of a burst, which comes at once; leave it out")
        if (self.process == "users") != (self.users is not None) or (self.users and self.turns < 2):
            raise ValueError("arrivals users are of users, a rate and at least 2 turns; expected these, and no others")
        if self.burstiness != 1.0 and self.process not in ("gamma", "ramp"):
            raise ValueError(f"burstiness {self.burstiness:g} is of arrivals gamma and ramp, not {self.process}")
        if self.process == "burst" and self.requests is None and self.duration_s is not None:
            raise ValueError("expected requests, not duration_s, for arrivals burst")
        if self.clients_start_s and self.process != "closed":
            raise ValueError(f"clients_start_s is of arrivals closed, not {self.process}")
        if self.scaled and (self.requests is None or self.process not in ("poisson", "gamma", "constant")):
            raise ValueError("scaled is of requests at a rate; expected requests, and arrivals poisson or gamma")
        _check_profile(self.profile or ())
        return self

    @model_validator(mode="after")
    def _ramp(self) -> Traffic:
        ramps = self.process == "ramp"
        if ramps != (self.end_rate is not None):
            raise ValueError("expected end_rate with arrivals ramp, and with no others")
        if not ramps and self.ramp != "time":
            raise ValueError(f"ramp {self.ramp} is of arrivals ramp, not {self.process}")
        if ramps and self.ramp == "time" and (self.duration_s is None or self.burstiness != 1.0):
            raise ValueError("expected duration_s, over which the ramp rises, and no burstiness")
        if ramps and self.ramp != "time" and self.requests is None:
            raise ValueError("expected requests, over which the ramp rises")
        return self

    @model_validator(mode="after")
    def _lengths(self) -> Traffic:
        listed = self.trace is not None or self.lengths_file is not None
        if self.mix:
            _check_mix(self)
        if self.trace_deltas and self.trace is None:
            raise ValueError("trace_deltas says how a trace is read; expected one")
        if not (listed or self.mix) and (self.prompt is None or self.output is None):
            raise ValueError("expected prompt and output, or a trace that has them")
        if self.trace is not None and self.lengths_file is not None:
            raise ValueError("a trace has lengths of its own; expected lengths_file or trace, not both")
        if self.resample and self.lengths_file is None:
            raise ValueError("resample draws lengths of lengths_file; expected that file")
        _check_spreads(self)
        for name in ("prompt", "output"):
            mean = None if self.lengths == "lognormal" else getattr(self, name)  # which may lie above where it is cut
            _check_range(name, getattr(self, f"{name}_range"), mean)
        if self.warmups and (self.turns > 1 or self.trace is not None):
            raise ValueError("warmups are of requests of one turn, whose first prompt they have; leave them out")
        if self.trace_sessions and (self.trace is None or self.trace_deltas):
            raise ValueError("trace_sessions says how rows of whole prompts are put together; expected a trace of them")
        if self.session is not None and (listed or self.mix or self.users or self.warmups):
            said = "a trace, a mix of kinds, users at a rate, or warmups"
            raise ValueError(f"session is of lengths that are drawn; leave it out with {said}")
        if self.turns > 1 and listed:
            raise ValueError("turns are of lengths that are drawn; leave trace and lengths_file out")
        return self

    @model_validator(mode="after")
    def _ends(self) -> Traffic:
        number = self.expected
        if number > MOST_REQUESTS:
            raise ValueError(f"{number:.3g} requests; expected at most {MOST_REQUESTS:.0e}")
        if number * self.retries > MOST_REQUESTS:
            again = f"{number:.3g} requests, each sent again up to {self.retries:,} times"
            raise ValueError(f"{again}; expected at most {MOST_REQUESTS:.0e} in all")
        return self


def _check_profile(points: Sequence[Point]) -> None:
    """Raise `ValueError` for a profile whose times do not rise from 0, or that has no requests."""
    times = [time for time, _ in points]
    if points and (times[0] or any(later <= time for time, later in pairwise(times))):
        raise ValueError(
            f"profile: times {shown(times)} do not rise from 0; expected [[0, rate], [seconds, rate], ...]"
        )
    if points and not any(rate for _, rate in points):
        raise ValueError("profile: all rates are 0; expected one above it")


def _check_mix(job: Traffic) -> None:
    """Raise `ValueError` for a mix of lengths whose shares do not add up, or beside other lengths."""
    assert job.mix is not None
    total = sum(one.share for one in job.mix)
    if abs(total - 1) > 1e-6:
        raise ValueError(f"mix: shares add up to {total:g}; expected 1")
    given = [name for name in ("prompt", "output", "trace", "lengths_file") if getattr(job, name) is not None]
    given += ["lengths"] if job.lengths != "fixed" else []
    if given:
        raise ValueError(f"mix has lengths of its own; leave {given[0]} out")


def _check_spreads(job: Traffic) -> None:
    """Raise `ValueError` for a spread that lengths cannot have, and for lengths that scatter without a word of how."""
    said = {"spread", "output_spread", "prompt_range", "output_range"} & job.model_fields_set
    if job.lengths in ("uniform", "normal", "lognormal") and not said:
        problem = f"lengths {job.lengths} have no tail without a spread: all would be equal"
        raise ValueError(f"{problem}; expected spread, such as 0.8, or lengths fixed")
    for name, spread in {"spread": job.spread, "output_spread": job.output_spread or 0.0}.items():
        if spread and job.lengths == "sharegpt":
            raise ValueError(f"{name} {spread:g}: lengths of sharegpt scatter as the data set's; leave it out")
        if spread and job.lengths == "fixed":
            raise ValueError(f"{name} {spread:g}: fixed lengths have none; expected lengths uniform or lognormal")
        if job.lengths == "uniform" and spread > 1:
            raise ValueError(f"{name} {spread:g}: uniform lengths reach below zero; expected at most 1")


def _check_range(name: str, ends: Ends | None, mean: int | None) -> None:
    """Raise `ValueError` for a range that is empty, or that does not hold the mean."""
    if ends is None:
        return
    if not ends[0] <= (mean or ends[0]) <= ends[1]:
        problem = f"{name}_range {list(ends)} does not hold {name} {mean}" if mean else f"{name}_range {list(ends)}"
        raise ValueError(f"{problem}; expected [least, most] tokens about it")
