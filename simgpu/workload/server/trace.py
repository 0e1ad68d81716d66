"""Traces of requests: CSV files of arrivals and lengths, read line by line."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from simgpu.errors import InputError, shown

Row = tuple[float, int, int]
"""Arrival (s), tokens of the prompt, and of the output."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "arrival": ("arrival_s", "timestamp", "arrived_at"),
    "prompt": ("input_tokens", "contexttokens", "request tokens", "num_prefill_tokens"),
    "output": ("output_tokens", "generatedtokens", "response tokens", "num_decode_tokens"),
}
"""Columns of a trace, in any case: a plain CSV's, and those of Azure 2023 and 2024, BurstGPT and Vidur."""


def read_trace(file: str, scale: float, end: float) -> Iterator[Row]:
    """Rows of a trace up to `end`, s, from its first arrival on; raises `InputError` with file and line."""
    path = Path(file)
    try:
        stream = path.open(encoding="utf-8", newline="")
    except OSError as error:
        raise InputError(f"{shown(file)}: {error.strerror or error}", key="workload.trace") from None
    with stream:
        rows = csv.reader(stream)
        places = _places(next(rows, []), file)
        first, last = None, 0.0
        for line, row in enumerate(rows, 2):
            try:
                arrival = _time(row[places["arrival"]])
                prompt, output = (int(row[places[name]]) for name in ("prompt", "output"))
            except (ValueError, IndexError):
                problem = f"{shown(','.join(row))[:80]}: expected a time and two whole numbers of tokens"
                raise InputError(problem, file=file, line=line) from None
            first = arrival if first is None else first
            sent = (arrival - first) * scale
            if sent < last:
                raise InputError(f"comes {last - sent:g} s before the one above it; sort it", file=file, line=line)
            if prompt < 1 or output < 0:
                raise InputError(f"{prompt} and {output} tokens; expected 1 and more", file=file, line=line)
            last = sent
            if sent > end:
                return
            if output:  # a request that failed has none
                yield sent, prompt, output


def _places(head: list[str], file: str) -> dict[str, int]:
    """The place of each column in the head of a file."""
    known = {name.strip().lower(): i for i, name in enumerate(head)}
    found = {}
    for column, names in NAMES.items():
        place = next((known[name] for name in names if name in known), None)
        if place is None:
            listed = ", ".join(names)
            raise InputError(f"has no column of the {column}; expected one of {listed}", file=file, line=1)
        found[column] = place
    return found


def _time(text: str) -> float:
    """Seconds of a number, or of a date and a time."""
    try:
        value = float(text)
    except ValueError:
        return datetime.fromisoformat(text.strip()[:26]).timestamp()
    if not 0 <= value < 1e12:
        raise ValueError(text)
    return value
