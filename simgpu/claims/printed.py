"""Numbers as they are printed: each stands for the interval of values that could have been printed so.

One unit of the last digit to each side (people truncate as often as they round), trailing zeros beyond two digits are
not digits, "120-140" its ends, "~50" 10 % to each side, "<20" and "60+" half lines. "yes" and "no" are flags.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

ABOUT = 0.10
"""Relative half-width of "~5"."""

_NUMBER = r"[-+]?\d[\d,]*(?:\.\d+)?(?:[eE][-+]?\d+)?"
_FORM = re.compile(
    rf"(?P<sign>~|≈|about |around |roughly |<=?|>=?|up to |under |over |from )?\s*\$?(?P<first>{_NUMBER})"
    rf"(?:\s*(?:-|–|to)\s*\$?(?P<second>{_NUMBER}))?\s*(?P<open>\+)?\s*(?P<unit>[A-Za-z%/$ ]*)",
)
_FLAGS = {"yes": True, "true": True, "no": False, "false": False}
_NOTHING = ("", "-", "n/a", "na", "null", "none")


@dataclass(frozen=True)
class Printed:
    """A printed figure in the unit of its column: its text, the interval it stands for, and its usual reading.

    `flag` is a yes or no; then the numbers are 1 or 0.
    """

    text: str
    low: float
    value: float
    high: float
    flag: bool | None = None
    whole: bool = False  # a printed zero, or a count: exactly this

    def scaled(self, factor: float) -> Printed:
        """The same figure in another unit."""
        return Printed(self.text, self.low * factor, self.value * factor, self.high * factor, self.flag, self.whole)


def last_digit(text: str) -> float:
    """One unit of the last digit of a printed number; trailing zeros beyond two digits are not digits.

    >>> last_digit("0.060"), last_digit("30000"), last_digit("2550"), last_digit("95")
    (0.001, 1000.0, 10.0, 1.0)
    """
    mantissa, _, exponent = text.lower().replace(",", "").lstrip("+-").partition("e")
    power = int(exponent or 0)
    if "." in mantissa:
        return float(f"1e{power - len(mantissa.partition('.')[2])}")
    digits = mantissa.lstrip("0") or "0"
    kept = max(len(digits.rstrip("0")), min(2, len(digits)))
    return float(f"1e{power + len(digits) - kept}")


def printed(given: object, exact: bool = False) -> Printed | None:
    """What a cell says; None for an empty one. `exact` is for counts, which have no last digit in doubt.

    Raises `ValueError` for a text that is no number.

    >>> printed("120-140").low, printed("~50").high, printed("60+").high, printed("<20").low
    (120.0, 55.0, inf, 0.0)
    """
    if given is None or (isinstance(given, str) and given.strip().lower() in _NOTHING):
        return None
    if isinstance(given, bool):
        return Printed("yes" if given else "no", float(given), float(given), float(given), given, True)
    text = _plain_text(given)
    if text.lower() in _FLAGS:
        flag = _FLAGS[text.lower()]
        return Printed(text, float(flag), float(flag), float(flag), flag, True)
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError("is not a number as tables print it, such as 95, '120-140', '~5', '<20', '60+', yes or no")
    return _of_form(text, found, exact)


def _plain_text(given: object) -> str:
    """The text of a cell; of a number as it would be printed. Raises `ValueError` for what is neither."""
    if isinstance(given, float):
        if not math.isfinite(given):
            raise ValueError("is not finite")
        return repr(given)
    if isinstance(given, (int, str)):
        text = str(given).strip()
        if len(text) > 80:
            raise ValueError("is too long for a printed number")
        return text
    raise ValueError("is not a number")


def _of_form(text: str, found: re.Match[str], exact: bool) -> Printed:
    first, second = (_float(found[name]) for name in ("first", "second"))
    sign = (found["sign"] or "").strip()
    assert first is not None
    if second is not None:
        low, high = sorted((first, second))
        return Printed(text, low, (low + high) / 2, math.inf if found["open"] else high)
    if sign in ("<", "<=", "up to", "under"):
        return Printed(text, 0.0, first, first)
    if found["open"] or sign in (">", ">=", "over", "from"):
        return Printed(text, first, first, math.inf)
    if first == 0:
        return Printed(text, 0.0, 0.0, 0.0, whole=True)
    if exact and not sign:
        return Printed(text, first, first, first, whole=True)
    away = max(last_digit(found["first"]), ABOUT * abs(first) if sign else 0.0)
    below = first - away
    return Printed(text, max(below, first / 2) if first > 0 else below, first, first + away)


def _float(text: str | None) -> float | None:
    if text is None:
        return None
    value = float(text.replace(",", ""))
    if not math.isfinite(value) or abs(value) > 1e40:
        raise ValueError("is beyond any figure of a machine")
    return value
