"""Quantities of operations as files and options give them: rates, spans, prices, each with the unit it must have."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from math import isfinite
from typing import Annotated, Any

from pydantic import BeforeValidator

from simgpu.errors import InputError, shown

CURRENCIES = ("EUR", "GBP", "CNY", "JPY", "INR", "CHF", "CAD", "AUD", "KRW", "RMB", "€", "£", "¥")
"""Currencies that prices are not in: sums of several currencies would mean nothing."""

HOUR, DAY = 3600.0, 86400.0
YEAR_HOURS = 8760.0
"""Hours of a year of 365 days, as costs are counted."""
YEAR = YEAR_HOURS * HOUR
MONTH_HOURS = 730.0
"""Hours of a month, a twelfth of a year."""

SPANS = {
    **dict.fromkeys(("s", "second", "seconds"), 1.0),
    "ms": 1e-3,
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), HOUR),
    **dict.fromkeys(("d", "day", "days"), DAY),
    **dict.fromkeys(("week", "weeks"), 7 * DAY),
    **dict.fromkeys(("month", "months"), MONTH_HOURS * HOUR),
    **dict.fromkeys(("year", "years", "a"), YEAR),
}
"""Units of a span of time, in seconds."""

RATES = {f"/{unit}": 1 / seconds for unit, seconds in SPANS.items()}
"""Units of events, such as failures or preemptions, in 1/s."""


def parsed(text: Any, units: Mapping[str, float], example: str, bare: bool = False) -> float:
    """The number that `text` stands for, in the unit of which `units` are multiples.

    A number without a unit is taken where `bare`. Raises `ValueError` with what was expected; for another currency it
    says so.
    """
    if isinstance(text, bool) or not isinstance(text, (int, float, str)):
        raise ValueError(f"{shown(text)} is not a quantity; expected one such as '{example}'")
    number, unit = _split(text, example)
    if not unit:
        if not bare and number:
            raise ValueError(f"{shown(text)} has no unit; expected one such as '{example}'")
        return number
    if unit in units:
        return number * units[unit]
    if any(name in unit.upper() for name in CURRENCIES):
        raise ValueError(f"{shown(text)}: all prices are in USD, and currencies are not mixed; expected '{example}'")
    raise ValueError(f"{shown(text)}: unit '{unit}' does not fit; expected one such as '{example}'")


_EXPONENT = re.compile(r"[eE][-+0-9]")


def _split(text: int | float | str, example: str) -> tuple[float, str]:
    if not isinstance(text, str):
        value, unit = float(text), ""
    else:
        words = text.strip().replace("$", "USD ")
        end = 0
        while end < len(words) and (words[end] in "+-.,_0123456789" or _EXPONENT.match(words, end)):
            end += 2 if words[end] in "eE" else 1
        try:
            value = float(words[:end].replace(",", "").replace("_", ""))
        except ValueError:
            raise ValueError(f"{shown(text)} is not a quantity; expected one such as '{example}'") from None
        unit = " ".join(words[end:].split()).replace(" /", "/").replace("/ ", "/")
    if not isfinite(value):
        raise ValueError(f"{shown(text)} is not a finite number")
    return value, unit


def _quantity(
    units: Mapping[str, float], example: str, bare: bool = False, least: float = 0.0, most: float = float("inf"),
    above: bool = False,
) -> BeforeValidator:  # fmt: skip
    """A validator of quantities within limits; `above`: the least itself is not allowed."""

    def check(given: Any) -> Any:
        if given is None:
            return given
        value = parsed(given, units, example, bare)
        if value < least or value > most or (above and value <= least):
            limits = f"{'above' if above else 'at least'} {least:g}" + (f" and at most {most:g}" if most < 1e12 else "")
            raise ValueError(f"{shown(given)} is out of range; expected {limits}, such as '{example}'")
        return value

    return BeforeValidator(check)


PERCENT = {"%": 0.01}
Span = Annotated[float, _quantity(SPANS, "5 min")]
"""A time, s; a number alone has no unit and is refused, but for 0."""
Rate = Annotated[float, _quantity(RATES, "0.05/h")]
"""Events a time, 1/s."""
Share = Annotated[float, _quantity(PERCENT, "0.9", bare=True, most=1.0)]
"""A share from 0 to 1, or in percent."""
Utilisation = Annotated[float, _quantity(PERCENT, "0.7", bare=True, most=1.0, above=True)]
"""A share above 0: cost by use of what is never used is no number."""
Number = Annotated[float, _quantity({}, "1.5", bare=True)]
USD = Annotated[float, _quantity({"USD": 1.0}, "4000 USD")]
UsdPerHour = Annotated[float, _quantity({"USD/h": 1.0, "USD/hour": 1.0}, "2.5 USD/h", bare=True, above=True)]
UsdPerYear = Annotated[float, _quantity({"USD/year": 1.0, "USD/a": 1.0}, "900 USD/year")]
UsdPerKwh = Annotated[float, _quantity({"USD/kWh": 1.0, "USD/MWh": 1e-3}, "0.08 USD/kWh")]
UsdPerKwMonth = Annotated[float, _quantity({"USD/kW/month": 1.0}, "150 USD/kW/month")]
Bandwidth = Annotated[
    float,
    _quantity({f"{p}B/s": s for p, s in (("", 1.0), ("M", 1e6), ("G", 1e9), ("T", 1e12))}, "200 GB/s", above=True),
]
Watts = Annotated[float, _quantity({"W": 1.0, "kW": 1e3, "MW": 1e6}, "700 W", above=True)]


def _of_money(key: str) -> Callable[[Any], Any]:
    def check(given: Any) -> Any:
        """An amount, or a share of the GPU's price: ('USD', 4000) or ('share', .67)."""
        if given is None or isinstance(given, tuple):
            return given
        if isinstance(given, str) and given.strip().endswith("%"):
            return ("share", parsed(given, PERCENT, f"67 % of the GPU, or {key} USD"))
        value = parsed(given, {"USD": 1.0}, "4000 USD")
        if value < 0:
            raise ValueError(f"{shown(given)} is out of range; expected 0 or more, such as '4000 USD'")
        return ("USD", value)

    return check


Amount = Annotated[tuple[str, float], BeforeValidator(_of_money("4000"))]
"""USD for each GPU, or a share of what the GPU costs, as '67 %'."""


def span_of(text: str, key: str) -> float:
    """A time given by an option, s. Raises `InputError` at `key`."""
    try:
        value = parsed(text, SPANS, "60 s")
    except ValueError as error:
        raise InputError(str(error), key=key) from None
    if value < 0:
        raise InputError(f"{shown(text)} is out of range; expected 0 or more, such as '60 s'", key=key)
    return value


def share_of(text: Any, key: str, above: bool = False) -> float:
    """A share given by an option, such as 0.8 or '80 %'. Raises `InputError` at `key`."""
    try:
        value = parsed(text, PERCENT, "80 %", bare=True)
    except ValueError as error:
        raise InputError(str(error), key=key) from None
    if not 0 <= value <= 1 or (above and value == 0):
        limits = "above 0 and at most 1" if above else "0 to 1"
        raise InputError(f"{shown(text)} is out of range; expected {limits}, or a percentage", key=key)
    return value
