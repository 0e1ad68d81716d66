"""The `month:` section of a scenario: which hours its machine is used, how they are billed, what a start takes."""

from __future__ import annotations

import calendar
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simgpu.errors import nearest, shown
from simgpu.operations.fields import CostFields
from simgpu.operations.quantities import HOUR, SPANS, Bandwidth, Number, Rate, Span, parsed

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
BILLED = {"second": 1.0, "minute": 60.0, "hour": HOUR}
"""What a rent is rounded up to, s."""

USUAL_DAYS = 30
"""Days of a month that is not one of the calendar; it begins on a Monday."""

WEIGHTS = {"disk": 1.30e9, "network_disk": 0.335e9, "network_files": 9.0e9}
"""B/s at which an engine reads weights, by where they are (`SOURCES`)."""

SOURCES = {
    "provision": "between the 32 s (RTX 4090) to 52 s (H100 SXM) that 100,000 starts took at io.net in spring 2026, in "
    "the mean, and the 90 s that Jarvislabs prints",
    "image": "the image vllm/vllm-openai is about 12 GB (vllm-project/vllm issue 27154)",
    "image_rate": "images of 10 to 20 GB take 30 to 90 s to pull (io.net, spring 2026)",
    "weights": "disk: 21.82 GiB in 18 s (vllm-project/vllm issue 44881, RunPod); network_disk: Llama 3 8B from a GP3 "
    "volume in 47.99 s with the loader of vLLM, network_files: 620 GB of Kimi K2.5 at 9 GB/s over NFS with RDMA "
    "(run-ai/runai-model-streamer, its benchmarks and issue 135)",
    "compile": "torch.compile of Llama 3 8B in vLLM (vllm-project/vllm pull request 11005); 5 to 9 s from its cache",
    "graphs": "CUDA graphs of Llama 3 8B in vLLM (vllm-project/vllm pull request 11005; 17 s in issue 20264)",
    "billed": "by the second, as RunPod bills (docs.runpod.io); Lambda and Scaleway bill by the minute",
}
"""Why a default of the section is what it is."""


def _hours(given: Any) -> Any:
    """Hours, or 'run': the time of the run that the scenario describes."""
    if given in (None, "run"):
        return given
    value = parsed(given, {unit: seconds / HOUR for unit, seconds in SPANS.items()}, "160 h", bare=True)
    if value <= 0:
        raise ValueError(f"{shown(given)} is out of range; expected hours above 0, or 'run'")
    return value


def _days(given: Any) -> Any:
    """Days of the week: 'mon-fri', 'all', or a list of them."""
    if given is None:
        return None
    if given == "all":
        return list(WEEKDAYS)
    if isinstance(given, str) and given.count("-") == 1:
        first, last = (_weekday(part) for part in given.split("-"))
        return list(WEEKDAYS[first : last + 1] if first <= last else (*WEEKDAYS[first:], *WEEKDAYS[: last + 1]))
    found = given if isinstance(given, list) else [given]
    return [WEEKDAYS[_weekday(one)] for one in found]


def _weekday(given: Any) -> int:
    name = str(given).strip().lower()
    if name not in WEEKDAYS:
        raise ValueError(f"{shown(given)} is no day of the week{nearest(name, WEEKDAYS)}; or 'mon-fri', or 'all'")
    return WEEKDAYS.index(name)


def _clock(given: Any) -> Any:
    """A time of the day, h: '09:30'."""
    found = re.fullmatch(r"(\d{1,2}):(\d\d)", given.strip()) if isinstance(given, str) else None
    if found is None or int(found[1]) > 23 or int(found[2]) > 59:
        raise ValueError(f"{shown(given)} is not a time of the day; expected one in quotes, such as '09:00'")
    return int(found[1]) + int(found[2]) / 60


def _month(given: Any) -> Any:
    if given is None:
        return None
    found = re.fullmatch(r"(\d{4})-(\d\d)", str(given))
    if found is None or not 1 <= int(found[2]) <= 12 or not 1990 <= int(found[1]) <= 2100:
        raise ValueError(f"{shown(given)} is not a month; expected one such as 2026-11")
    return str(given)


def _weights(given: Any) -> Any:
    if isinstance(given, str) and not any(letter.isdigit() for letter in given):
        if given not in WEIGHTS:
            raise ValueError(f"{shown(given)} holds no weights{nearest(given, WEIGHTS)}; or a rate, such as '2 GB/s'")
        return f"{WEIGHTS[given] / 1e9:g} GB/s"
    return given


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class StartUpFields(_Strict):
    """What a start takes, part by part, s or what it follows from.

    provision, image, image_rate
        Until a rented instance is there, and its container; an owned machine has both.
    weights
        Where a server reads them from: disk, network_disk, network_files, or a rate.
    compile, graphs
        Of a server: torch.compile and CUDA graphs.
    launch
        Of a training run: processes, communicators, the first step; default as `reliability.restart`.
    """

    provision: Span = 60.0
    image: Annotated[Number, Field(ge=0)] = 12.0
    """GB"""
    image_rate: Bandwidth = 0.25e9
    weights: Annotated[Bandwidth, BeforeValidator(_weights)] = WEIGHTS["disk"]
    compile: Span = 19.4
    graphs: Span = 15.0
    launch: Span | None = None


class UseFields(_Strict):
    """Hours of one use of one machine.

    use
        development, training or serving: what is started.
    hours, session
        Hours a month ('run': those of the scenario's training run), in sessions of so many hours; default: one.
    tokens
        Output tokens a month instead, at the rate of the scenario's server.
    days, a_day, start
        Or by the calendar: these days of the week, so many hours from a time of the day on.
    on, gpus, price, billed
        Another machine than the scenario's, how it is had (default: on demand) and billed: second, minute, hour.
    preemptions
        Of a machine that is rented spot.
    """

    use: Literal["development", "training", "serving"] = "development"
    hours: Annotated[float | Literal["run"] | None, BeforeValidator(_hours)] = None
    session: Annotated[float | None, BeforeValidator(_hours)] = None
    tokens: Annotated[float, Field(gt=0)] | None = None
    days: Annotated[list[str] | None, BeforeValidator(_days)] = None
    a_day: Annotated[float | None, BeforeValidator(_hours)] = None
    start: Annotated[float, BeforeValidator(_clock)] = 0.0
    on: Annotated[str, Field(min_length=1)] | None = None
    gpus: Annotated[int, Field(gt=0, le=1_000_000, strict=True)] | None = None
    price: str | float | None = None
    billed: Literal["second", "minute", "hour"] = "second"
    preemptions: Rate | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        ways = [name for name in ("hours", "tokens", "days") if getattr(self, name) is not None]
        if len(ways) != 1:
            said = " and ".join(ways) if ways else "none"
            raise ValueError(f"expected one of hours, tokens, and days with a_day; {said} given")
        if (self.days is None) != (self.a_day is None):
            raise ValueError("days and a_day go together: expected both, such as days: mon-fri with a_day: 8 h")
        if self.a_day is not None and self.start + self.a_day > 24:
            raise ValueError(f"a_day of {self.a_day:g} h from {self.start:g} h on passes midnight; expected at most 24")
        if self.session is not None and self.hours is None and self.tokens is None:
            raise ValueError("session is of hours; with days a session is a_day")
        if self.price is not None:
            self.cost(CostFields())
        return self

    def cost(self, known: CostFields) -> CostFields:
        """How the machine of this use is had: as the scenario's cost says, but for what is said here."""
        if self.price is None and self.on is None:
            return known
        said = {name: value for name, value in known.model_dump(exclude_unset=True).items() if name in _SITE}
        more = {"preemptions": f"{self.preemptions}/s"} if self.preemptions else {}
        return CostFields.model_validate({**said, "price": self.price or "on_demand", **more})


_SITE = ("date", "prices", "life", "rate", "residual", "hosting", "electricity", "spares", "utilisation")
"""What of a scenario's cost holds for every machine."""


class MonthFields(UseFields):
    """The use of the scenario's machine in a month, and what `also` is used.

    of
        A month of the calendar; default: 30 days that begin on a Monday.
    """

    of: Annotated[str | None, BeforeValidator(_month)] = None
    start_up: StartUpFields = StartUpFields()
    also: list[UseFields] = []

    @property
    def weekdays(self) -> list[int]:
        """The day of the week of each day of the month, 0 on Mondays."""
        if self.of is None:
            return [day % 7 for day in range(USUAL_DAYS)]
        first, count = calendar.monthrange(*map(int, self.of.split("-")))
        return [(first + day) % 7 for day in range(count)]
