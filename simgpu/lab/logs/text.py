"""Numbers in logs as terminals leave them, and their lines."""

from __future__ import annotations

import re
from pathlib import Path

from simgpu.errors import InputError, shown
from simgpu.lab.lines import lines_of

_LOCAL = re.compile(r"\d{1,3}(\.\d{3})+,\d+|\d+,\d{1,2}|\d+,\d{4,}|0,\d+")
"""Numbers with a decimal comma; '5,867' is a thousand, as tools in English print it."""


def number_of(text: str, file: Path, line: int) -> float:
    """A number as tools print it, thousands with or without commas. Raises `InputError` for a decimal comma.

    >>> number_of("5,867.5", Path("log"), 1)
    5867.5
    """
    if _LOCAL.fullmatch(text):
        raise InputError(
            f"{shown(text)} has a decimal comma; expected a log written with LC_ALL=C", file=file, line=line
        )
    return float(text.replace(",", ""))


__all__ = ["lines_of", "number_of"]
