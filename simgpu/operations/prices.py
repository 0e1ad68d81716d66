"""Prices: dated quotes with vendor, kind, region and source, from files of `hardware/prices/`.

A price without a date is refused: what a GPU costs changes by a factor of four in two years. Of several quotes the one
in the middle of the newest half year is taken, and results name it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from weakref import WeakKeyDictionary

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from simgpu.catalog import Catalogue
from simgpu.documents import read_yaml
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.derive import MARK
from simgpu.operations.quantities import CURRENCIES
from simgpu.schema_errors import validate

RENTS = ("on_demand", "reserved_1y", "reserved_3y", "spot", "marketplace")
"""Kinds of rent, USD of a GPU-hour."""

KINDS = ("owned", *RENTS)
"""Ways to have a GPU: buy it, or rent it."""

UNITS = {
    "purchase": "USD", "monthly": "USD/kW/month", "energy": "USD/kWh", **dict.fromkeys(RENTS, "USD/h"),
}  # fmt: skip
"""The unit of each kind of price."""

WINDOW_DAYS = 183
"""Quotes this much older than the newest one still count beside it."""

Kind = Literal["purchase", "on_demand", "reserved_1y", "reserved_3y", "spot", "marketplace", "monthly", "energy"]

_DATE = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?")


def date_of(given: Any) -> str:
    """A date as text: '2025', '2025-03' or '2025-03-17'. Raises `ValueError` for anything else."""
    text = given.isoformat()[:10] if isinstance(given, datetime.date) else str(given)
    found = _DATE.fullmatch(text)
    try:
        if found is None or not 1990 <= int(found[1]) <= 2100:
            raise ValueError
        datetime.date(int(found[1]), int(found[2] or 1), int(found[3] or 1))
    except ValueError:
        raise ValueError(f"{shown(given)} is not a date; expected one such as 2025-03-17, 2025-03 or 2025") from None
    return text


def first_day(date: str) -> datetime.date:
    """The first day that a date may stand for."""
    year, month, day = (*map(int, date.split("-")), 1, 1)[:3]
    return datetime.date(year, month, day)


def last_day(date: str) -> datetime.date:
    """The last day that a date may stand for."""
    first = first_day(date)
    if date.count("-") == 2:
        return first
    after = first.replace(year=first.year + 1) if "-" not in date else (first + datetime.timedelta(31)).replace(day=1)
    return after - datetime.timedelta(1)


def _usd(given: Any) -> Any:
    if given != "USD":
        known = str(given).upper() in CURRENCIES
        more = "; convert at the rate of the quote's day" if known else ""
        raise ValueError(f"{shown(given)}: all prices are in USD, and currencies are not mixed{more}")
    return given


Date = Annotated[str, BeforeValidator(date_of)]
Currency = Annotated[Literal["USD"], BeforeValidator(_usd)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Quote(_Strict):
    """One price, as a vendor asked for it on a day.

    of
        A GPU or node of the catalogue, or what stands beside them: hosting, electricity, network, storage, server.
    kind
        purchase (USD, of a GPU, or of a whole node), on_demand, reserved_1y, reserved_3y, spot, marketplace (USD/h of a
        GPU), monthly (USD/kW/month), energy (USD/kWh).
    """

    of: Annotated[str, Field(min_length=1)]
    kind: Kind
    vendor: Annotated[str, Field(min_length=1)]
    region: Annotated[str, Field(min_length=1)]
    date: Date
    value: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    unit: str
    currency: Currency = "USD"
    source: Annotated[str, Field(min_length=1)]

    @model_validator(mode="after")
    def _in_its_unit(self) -> Self:
        wanted = UNITS[self.kind]
        if self.unit != wanted:
            _usd(self.unit.partition("/")[0])
            raise ValueError(f"unit {shown(self.unit)} does not fit a price of kind {self.kind}; expected {wanted}")
        return self

    @property
    def words(self) -> str:
        """The price in words: what, how much, whose, when."""
        kind = "" if self.kind in ("monthly", "energy") else f", {self.kind.replace('_', ' ')}"
        return f"{self.of} {self.value:,g} {self.unit}{kind}, {self.vendor}, {self.date}"


class PriceFile(_Strict):
    """A file of prices: quotes, and the sources that they name."""

    name: str
    title: str
    currency: Currency
    sources: dict[str, Annotated[str, Field(min_length=1)]]
    prices: Annotated[list[Quote], Field(min_length=1)]


@dataclass(frozen=True)
class Known:
    """A quote with the file that it stands in and its source in words, and how many it was chosen from."""

    quote: Quote
    file: str
    source: str
    among: int = 1
    least: float = 0.0
    most: float = 0.0

    @property
    def value(self) -> float:
        """The price itself, in the unit of its kind."""
        return self.quote.value

    @property
    def words(self) -> str:
        """The price as a result names it."""
        several = f" (middle of {self.among}, {self.least:,g} to {self.most:,g})" if self.among > 1 else ""
        return self.quote.words + several


@dataclass(frozen=True)
class Wanted:
    """Which price of a thing: its kind, and, where given, vendor, region and the latest date."""

    kind: str
    vendor: str | None = None
    region: str | None = None
    date: str | None = None


class PriceBook:
    """The prices of some files."""

    def __init__(self, known: Sequence[Known]) -> None:
        self.known = known

    def find(self, of: str, wanted: Wanted) -> Known | None:
        """The price of a thing: of the quotes of the newest half year the one in the middle; None without any."""
        until = last_day(wanted.date) if wanted.date else datetime.date.max
        found = [
            one
            for one in self.known
            if (one.quote.of, one.quote.kind) == (of, wanted.kind)
            and first_day(one.quote.date) <= until
            and wanted.vendor in (None, one.quote.vendor)
            and wanted.region in (None, one.quote.region)
        ]
        if not found:
            return None
        newest = max(first_day(one.quote.date) for one in found)
        recent = [one for one in found if (newest - first_day(one.quote.date)).days <= WINDOW_DAYS]
        recent.sort(key=lambda one: (one.value, one.quote.vendor))
        middle = recent[(len(recent) - 1) // 2]
        return Known(middle.quote, middle.file, middle.source, len(recent), recent[0].value, recent[-1].value)

    def of(self, gpu: str, wanted: Wanted, key: str) -> Known:
        """The price of a GPU. Raises `InputError` at `key` with what there is instead."""
        found = self.find(gpu, wanted)
        if found is None:
            problem, what = self._why(gpu, wanted)
            raise InputError(problem, key=f"cost.{what}" if what else key)
        return found

    def listing(self) -> list[tuple[str, str]]:
        """Things that have a price, and of each kind of price the one that is taken, in words."""
        found = []
        for of in sorted({one.quote.of for one in self.known}):
            kinds = {one.quote.kind for one in self.known if one.quote.of == of}
            quotes = (self.find(of, Wanted(kind)) for kind in UNITS if kind in kinds)
            found.append((of, "; ".join(one.words.removeprefix(f"{of} ") for one in quotes if one is not None)))
        return found

    def _why(self, of: str, wanted: Wanted) -> tuple[str, str]:
        """Why there is no such price, with what there is, and the key that asks for too much ('': the kind itself)."""
        same = [one.quote for one in self.known if one.quote.of == of]
        kinds = sorted({one.kind for one in same})
        if wanted.kind not in kinds:
            kind = wanted.kind.replace("_", " ")
            some = f"; there are {', '.join(kinds)}" if kinds else nearest(of, {one.quote.of for one in self.known})
            return (
                f"no price ({kind}) of '{of}'{some}; add one with its date to a file of prices, or give cost.price",
                "",
            )
        vendors = sorted({one.vendor for one in same if one.kind == wanted.kind})
        if wanted.vendor is not None and wanted.vendor not in vendors:
            return f"no price of '{of}' by {shown(wanted.vendor)}{nearest(wanted.vendor, vendors)}", "vendor"
        regions = sorted({one.region for one in same if one.kind == wanted.kind})
        if wanted.region is not None and wanted.region not in regions:
            return f"no price of '{of}' in {shown(wanted.region)}{nearest(wanted.region, regions)}", "region"
        dates = sorted(one.date for one in same if one.kind == wanted.kind)
        return f"no price of '{of}' up to {wanted.date}; the first is of {dates[0]}", "date"


def read_prices(file: Path) -> list[Known]:
    """The quotes of a file, checked. Raises `InputError` with file and line."""
    document = read_yaml(file)
    made = validate(PriceFile, document.data, lambda path, problem: document.error(problem, path))
    for n, quote in enumerate(made.prices):
        if quote.source not in made.sources:
            hint = nearest(quote.source, made.sources)
            raise document.error(
                f"{shown(quote.source)} is not one of the file's sources{hint}", ("prices", n, "source")
            )
    return [Known(quote, made.name, made.sources[quote.source]) for quote in made.prices]


def price_book(catalogue: Catalogue, files: Sequence[str] = ()) -> PriceBook:
    """The prices of the catalogue, or of the `files` that are named: names of `hardware/prices/`, or paths.

    Raises `InputError`.
    """
    known = _BOOKS.setdefault(catalogue, {})
    quotes: list[Known] = []
    for name in files or catalogue.names("prices"):
        file = catalogue.find("prices", name) or (Path(name) if name.endswith((".yaml", ".yml")) else None)
        if file is None:
            hint = nearest(name, catalogue.names("prices"))
            raise InputError(f"unknown file of prices {shown(name)}{hint}", key="cost.prices")
        if file not in known:
            known[file] = read_prices(file)
        quotes += known[file]
    return PriceBook(quotes)


_BOOKS: WeakKeyDictionary[Catalogue, dict[Path, list[Known]]] = WeakKeyDictionary()
"""The files of prices that a catalogue has read."""


def base_gpu(gpu: str) -> str:
    """The GPU that is bought for one that is derived by name: a slice, or one under a power cap."""
    return gpu.partition(MARK)[0]
