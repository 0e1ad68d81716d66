"""Fields of the `cost:` and `reliability:` sections of a scenario."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simgpu.errors import nearest, shown
from simgpu.operations.prices import KINDS, Date
from simgpu.operations.quantities import (
    DAY,
    YEAR,
    Amount,
    Bandwidth,
    Number,
    Rate,
    Share,
    Span,
    UsdPerKwh,
    UsdPerKwMonth,
    UsdPerYear,
    Utilisation,
    parsed,
)
from simgpu.schema_errors import TrueFalse


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


def _price(given: Any) -> Any:
    """'owned', a kind of rent, or USD of a GPU-hour."""
    if isinstance(given, str) and given.strip().replace("-", "_").lower() in KINDS:
        return given.strip().replace("-", "_").lower()
    if isinstance(given, str) and not any(letter.isdigit() for letter in given):
        hint = nearest(given, KINDS)
        more = "" if hint.endswith("?") else "; or USD of a GPU-hour, '2.5 USD/h'"
        raise ValueError(f"{shown(given)} is no kind of price{hint}{more}")
    value = parsed(given, {"USD/h": 1.0, "USD/hour": 1.0}, "2.5 USD/h", bare=True)
    if value <= 0:
        raise ValueError(f"{shown(given)} is out of range; expected above 0 USD/h")
    return value


def _power(given: Any) -> Any:
    if given is None or given in ("tdp", "typical"):
        return None if given == "typical" else given
    value = parsed(given, {"W": 1.0, "kW": 1e3}, "500 W")
    if value <= 0:
        raise ValueError(f"{shown(given)} is out of range; expected a power above 0, 'tdp' or 'typical'")
    return value


def _files(given: Any) -> Any:
    return [given] if isinstance(given, (str, int, float)) else given


class CostFields(_Strict):
    """How the GPUs of a scenario are had, and what that takes beside their price.

    price
        owned, on_demand, reserved_1y, reserved_3y, spot or marketplace; or USD of a GPU-hour, set by hand.
    vendor, region, date
        Which quote: without them the middle one of the newest half year; `date` is the latest that may be taken.
    prices
        Files of prices: names of `hardware/prices/`, or paths. Default: all of the catalogue.
    utilisation
        The share of the paid hours that are used: it divides the fixed part alone.
    against
        The rent that owning is compared with, for the break-even utilisation.
    preemptions, notice, preemption_restart
        How often the owner takes a node back, how long before that it says so, and how long it takes from there until
        the job goes on, with another machine; default: a restart as `reliability.restart` has it.
    """

    price: Annotated[str | float, BeforeValidator(_price)] = "on_demand"
    vendor: str | None = None
    region: str | None = None
    date: Date | None = None
    prices: Annotated[list[str], BeforeValidator(lambda given: [str(one) for one in _files(given) or []])] = []
    utilisation: Utilisation = 1.0
    against: Annotated[str | float, BeforeValidator(_price)] = "on_demand"
    life: Span = 5 * YEAR
    rate: Share = 0.08
    residual: Share = 0.1
    chips: Amount | None = None
    server: Amount | None = None
    network: Amount | None = None
    storage: Amount = ("share", 0.0)
    hosting: UsdPerKwMonth | None = None
    electricity: UsdPerKwh | None = None
    staff: UsdPerYear = 0.0
    software: UsdPerYear = 0.0
    spares: Share = 0.02
    power: Annotated[str | float | None, BeforeValidator(_power)] = None
    preemptions: Rate | None = None
    notice: Span = 0.0
    preemption_restart: Span | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_the_site(cls, given: Any) -> Any:
        if isinstance(given, Mapping) and "pue" in given:
            raise ValueError(f"pue {shown(given['pue'])} is the site's; expected it in its one place, power.pue")
        return given

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.life <= 0:
            raise ValueError("life is 0; expected a time above it, such as '5 years'")
        if self.price == "spot" and self.preemptions is None:
            raise ValueError("a spot price needs preemptions: how often the machine is taken away, such as '0.05/h'")
        if self.price == "owned" and self.preemptions:
            raise ValueError("preemptions are of rented machines; expected price: spot, or USD of a GPU-hour")
        for name in ("notice", "preemption_restart"):
            if name in self.model_fields_set and not self.preemptions:
                raise ValueError(f"{name} is of preemptions; expected how often they come too, such as '0.05/h'")
        if self.against == "owned":
            raise ValueError("against is 'owned'; expected a kind of rent or USD of a GPU-hour")
        return self


SOURCES = {
    "life": "servers are written off over five to six years (10-K of Amazon for 2024: five for a part of them)",
    "rate": "assumption: cost of capital, 8 % a year",
    "residual": "assumption: a tenth of the price after the life",
    "server": "B. Cottier et al., arXiv:2405.21015 and epoch.ai: server 15 to 22 % beside 23 to 32 % for chips",
    "network": "the price of a 400 Gb/s fabric in hardware/prices, of machines that have one",
    "storage": "none is counted where none is given",
    "staff": "none is counted where none is given",
    "software": "none is counted where none is given",
    "spares": "assumption: 2 % of the chips a year outside the warranty",
    "utilisation": "every paid hour is used, where none is given",
    "power": "what the kernels of the job are predicted to draw (docs/operations.md)",
}
"""Why a default of `CostFields` is what it is."""

SERVER_SHARE = 0.67
"""Price of the rest of a server over that of its chips: 15 to 22 % beside 23 to 32 % (see `SOURCES`)."""


class RestartFields(_Strict):
    """What a restart takes, part by part; what is not given follows from the cluster, or from what was published.

    detect
        Until somebody knows: a crash is seen at once, a hang after the watchdog of NCCL.
    diagnose, replace
        Finding the faulty node, and taking another from the spares or rescheduling.
    start
        Processes, communicators.
    load
        The checkpoint, read by all ranks; default: bytes over storage.
    warm_up
        Compilation, caches, the first step.
    """

    detect: Span = 60.0
    diagnose: Span = 60.0
    replace: Span = 60.0
    start: Span = 30.0
    load: Span | None = None
    warm_up: Span = 60.0

    @property
    def seconds(self) -> float:
        """All parts but the load, s, which the checkpoint sets."""
        return self.detect + self.diagnose + self.replace + self.start + self.warm_up


class CheckpointFields(_Strict):
    """How a run saves its state.

    kind
        blocking (training waits for storage), asynchronous (for a copy to host memory), in_memory (copies on peers).
    interval
        s of useful work between saves; default: the one that loses least.
    bytes_per_parameter
        Bytes of the state: master weights and two moments of Adam in fp32 are 12, with gradients or weights 14 to 16.
    storage
        Bandwidth of all storage together. Default: that of the nodes' links, and at most 2 TB/s.
    save, stall
        Times set by hand in place of those that follow from bytes.
    group_failures
        Of in-memory copies: the share of failures that take the copies too, and fall back to storage.
    storage_every
        Of in-memory copies: how many saves in memory are followed by one in storage.
    """

    kind: Literal["blocking", "asynchronous", "in_memory"] = "blocking"
    interval: Span | None = None
    bytes_per_parameter: Annotated[Number, Field(gt=0)] = 12.0
    storage: Bandwidth | None = None
    save: Span | None = None
    stall: Span | None = None
    group_failures: Share = 0.05
    storage_every: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 30


class StragglerFields(_Strict):
    """Ranks that are slower than others: jitter of each, and a share of GPUs that are slower by a factor."""

    jitter: Share = 0.0
    slow: Share = 0.0
    slowdown: Annotated[Number, Field(ge=1, le=100)] = 1.1


class ReliabilityFields(_Strict):
    """Failures of a training run, and what it does about them.

    rates
        A file of `hardware/reliability/`: failures by part.
    factor
        Multiplies them all: clusters differ by .6 to 1.7.
    ecc
        Without it uncorrected and corrected errors of memory become silent ones.
    planned
        Planned stops, 1/s for the whole job; default: as the file of rates says.
    spares
        Nodes held ready; `repair` is the mean time until a failed one is back.
    elastic
        Without a free spare the job goes on with fewer replicas until one is there, in place of waiting for it.
    lemons
        Variance over mean of failures by node: 1 is all alike, 2.6 was measured.
    shape
        Weibull shape of the gaps between failures: 1 is memoryless, 0.6 was measured.
    runs, seed
        How many runs are simulated, and the start of their random numbers; 0: the closed form alone.
    length
        The time that is simulated where the scenario does not say train_tokens.
    """

    rates: str = "llama3-405b"
    factor: Annotated[Number, Field(gt=0, le=1000)] = 1.0
    ecc: TrueFalse = True
    planned: Rate | None = None
    restart: RestartFields = RestartFields()
    checkpoint: CheckpointFields = CheckpointFields()
    spares: Annotated[int, Field(ge=0, le=1_000_000, strict=True)] | None = None
    repair: Span | None = None
    elastic: TrueFalse = False
    lemons: Annotated[Number, Field(ge=1, le=1000)] = 1.0
    shape: Annotated[Number, Field(ge=0.2, le=5)] = 1.0
    stragglers: StragglerFields = StragglerFields()
    detection_delay: Span = 3600.0
    runs: Annotated[int, Field(ge=0, le=1000, strict=True)] = 20
    seed: Annotated[int, Field(ge=0, le=2**32 - 1, strict=True)] = 0
    length: Annotated[Span, Field(gt=0)] = 30 * DAY
