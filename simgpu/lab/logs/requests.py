"""Requests that somebody timed one by one, as CSV or JSON, one a line: arrival, first token, whole time, tokens.

Columns say their unit at their end (`ttft_s`, `latency_ms`, `start_time_ns`): seconds and milliseconds are not told
apart by size. Names are those of LLMPerf (`*_individual_responses.json`) and of aiperf (`profile_export.jsonl`, whose
metrics have a unit each), and plain ones. Of inference-perf's and other tools' summaries see `simgpu.lab.logs.servers`.
"""

from __future__ import annotations

import csv
import json
import math
from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from simgpu.errors import InputError, shown
from simgpu.lab.logs.observed import SERVER, Measurement, Observed
from simgpu.lab.logs.text import lines_of

TIMES = {
    "arrival": ("arrival", "arrived_at", "arrival_time", "timestamp", "start", "start_time", "request_start"),
    "end": ("end", "end_time", "request_end", "finished_at"),
    "ttft": ("ttft", "time_to_first_token", "first_token_latency"),
    "e2e": ("e2e", "e2el", "latency", "e2e_latency", "end_to_end_latency", "request_latency", "total_time"),
    "tpot": ("tpot", "time_per_output_token", "itl", "inter_token_latency"),
}
"""Names of times in lower case, without their unit."""
COUNTS = {
    "input": ("input_tokens", "prompt_tokens", "prompt_len", "input_len", "number_input_tokens",
              "input_sequence_length"),
    "output": ("output_tokens", "completion_tokens", "generated_tokens", "output_len", "number_output_tokens",
               "output_sequence_length"),
}  # fmt: skip
"""Names of counts of tokens."""
UNITS = {"s": 1.0, "sec": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_TIME_OF = {f"{name}_{unit}": (key, scale) for key, names in TIMES.items() for name in names
            for unit, scale in UNITS.items()}  # fmt: skip
_BARE = {name: key for key, names in TIMES.items() for name in names}
_COUNT_OF = {name: key for key, names in COUNTS.items() for name in names}
FIRST = 20
"""Rows by which a file is known."""
MOST = 20_000_000
"""Most requests of a file: their times are held in memory."""
QUANTILES = {"_50th": 0.5, "_90th": 0.9, "_95th": 0.95, "_99th": 0.99}


def read(file: Path) -> list[Observed]:
    """The requests of a CSV file or of JSON objects, one a line; nothing for another text."""
    start = next(lines_of(file), (0, ""))[1]
    rows = _objects(file) if start.lstrip().startswith("{") else _table(file, start)
    return _read(file, rows)


def read_document(file: Path, data: Any) -> list[Observed]:
    """The requests of a JSON document that is a list of them, or one alone; nothing for another."""
    several = data if isinstance(data, list) else [data]
    return _read(file, enumerate((one for one in several if isinstance(one, Mapping)), 1))


def _table(file: Path, head: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    columns = [name.strip() for name in head.split(",")]
    timed = any(_BARE.get(name.lower()) in ("ttft", "e2e") for name in columns)
    if len(columns) < 2 or not (timed or _known(columns)):
        return
    lines = islice(lines_of(file), 1, None)
    for number, text in lines:
        if text.strip():
            yield number, dict(zip(columns, next(csv.reader([text])), strict=False))


def _objects(file: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, text in lines_of(file):
        if not text.strip():
            continue
        try:
            found = json.loads(text)
        except (ValueError, RecursionError) as error:
            if number == 1:
                return
            raise InputError(f"is no JSON ({str(error)[:60]}); is the file cut?", file=file, line=number) from None
        if isinstance(found, Mapping):
            yield number, found


def _known(names: Iterable[str]) -> dict[str, list[tuple[str, float]]]:
    """Which column has what, and its unit in s; several may: of them a row's first counts."""
    found: dict[str, list[tuple[str, float]]] = {}
    for name in names:
        low = name.lower()
        key, scale = _TIME_OF.get(low, (_COUNT_OF.get(low, ""), 1.0))
        if key:
            found.setdefault(key, []).append((name, scale))
    return found if "ttft" in found or "e2e" in found or {"arrival", "end"} <= set(found) else {}


@dataclass
class _Found:
    """What rows say: values by column, and how many rows were left out for what."""

    values: dict[str, array[float]] = field(default_factory=dict)
    out: dict[str, int] = field(default_factory=dict)
    rows: int = 0

    def add(self, name: str, value: float) -> None:
        self.values.setdefault(name, array("d")).append(value)

    def less(self, why: str) -> None:
        self.out[why] = self.out.get(why, 0) + 1


def _read(file: Path, rows: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Observed]:
    """One run of all rows. Raises `InputError` for a number that is none, or for times without a unit alone."""
    columns: dict[str, list[tuple[str, float]]] = {}
    found = _Found()
    bare: set[str] = set()
    for seen, (number, raw) in enumerate(rows):
        row = _flat(raw)
        columns = columns or _known(row)
        bare |= {name for name in row if name.lower() in _BARE} if seen < FIRST else set()
        if not columns:
            if seen >= FIRST:
                break
            continue
        found.rows += 1
        if found.rows > MOST:
            raise InputError(f"holds more than {MOST:,} requests", file=file, line=number)
        _take(found, row, columns, (file, number))
    times = sorted(name for name in bare if _BARE[name.lower()] in ("ttft", "e2e"))
    if not columns and times:
        said = f"'{times[0]}' says no unit; expected '{times[0]}_s' or '{times[0]}_ms'"
        raise InputError(said, file=file, line=1)
    return [_run(file, found, bare if not columns.get("arrival") else set())] if columns else []


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row of aiperf as flat columns; any other as it is."""
    metrics, about = row.get("metrics"), row.get("metadata")
    if not isinstance(metrics, Mapping) or not isinstance(about, Mapping):
        return row
    flat: dict[str, Any] = {**about, "error": row.get("error")}
    for name, one in metrics.items():
        if isinstance(one, Mapping) and "value" in one:
            flat[f"{name}_{one['unit']}" if one.get("unit") in UNITS else name] = one["value"]
    return flat


def _take(
    found: _Found, row: Mapping[str, Any], columns: Mapping[str, list[tuple[str, float]]], place: tuple[Path, int]
) -> None:
    """Add a request, or say why it is left out."""
    if row.get("benchmark_phase") == "warmup":
        return found.less("of the warm-up")
    if any(row.get(name) not in (None, "", False, "False", 0, "0") for name in
           ("error", "error_msg", "error_code", "was_cancelled")):  # fmt: skip
        return found.less("failed")
    one = {key: _value(row, some, place) for key, some in columns.items()}
    at, end, first, whole = (one.get(key) for key in ("arrival", "end", "ttft", "e2e"))
    if whole is None and at is not None and end is not None:
        whole = end - at
    if first is None and whole is None:
        return found.less("without a time")
    if min(value for value in (first, whole, one.get("tpot"), math.inf) if value is not None) <= 0:
        return found.less("whose clock jumped: a time is not positive")
    if first is not None and whole is not None and first > whole * (1 + 1e-6):
        return found.less("whose first token comes after their last")
    made = one.get("output")
    gap = one.get("tpot")
    if first is not None and whole is not None and made is not None and made > 1:
        gap = (whole - first) / (made - 1)
    for key, value in (("ttft", first), ("e2e", whole), ("tpot", gap), ("input", one.get("input")), ("output", made)):
        if value is not None and (value > 0 or key in COUNTS):
            found.add(key, value)
    if at is not None and whole is not None:
        found.add("from", at)
        found.add("to", at + whole)
    return None


def _value(row: Mapping[str, Any], columns: list[tuple[str, float]], place: tuple[Path, int]) -> float | None:
    """The number of a row under the first of some columns that has one. Raises `InputError` for what is none."""
    for name, scale in columns:
        value = row.get(name)
        if value is None or value == "":
            continue
        try:
            number = _moment(value) if isinstance(value, str) and value.count(":") >= 2 else float(value) * scale
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if isinstance(value, bool) or not math.isfinite(number):
            file, line = place
            raise InputError(f"{shown(value)} is no number", file=file, line=line, key=name)
        return number
    return None


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _run(file: Path, found: _Found, bare: set[str]) -> Observed:
    """Means, percentiles and rates of all requests."""
    made: list[Measurement] = []
    for name in ("ttft", "tpot", "e2e"):
        values = sorted(found.values.get(name, ()))
        if values:
            made.append(Measurement(f"{name}_s", fmean(values), len(values)))
            made += [Measurement(f"{name}{ending}_s", _quantile(values, share), len(values))
                     for ending, share in QUANTILES.items()]  # fmt: skip
    notes = [f"{count:,} of {found.rows:,} requests {why}" for why, count in found.out.items()]
    lengths = {f"{name}_tokens": fmean(found.values[name]) for name in COUNTS if found.values.get(name)}
    facts: dict[str, Any] = {"requests": found.rows - sum(found.out.values())} | lengths
    sent, ended = found.values.get("from"), found.values.get("to")
    if sent and ended and len(sent) > 1:
        span = max(ended) - min(sent)
        made.append(Measurement("requests_per_s", len(sent) / span, len(sent)))
        if len(found.values.get("output", ())) == len(sent):
            made.append(Measurement("output_tokens_per_s", sum(found.values["output"]) / span, len(sent)))
        if max(sent) > min(sent):
            facts["rate"] = (len(sent) - 1) / (max(sent) - min(sent))
        busy = sum(b - a for a, b in zip(sent, ended, strict=True)) / span
        notes.append(f"{busy:.3g} requests were under way on average, in {span:.4g} s")
    elif any(_BARE[name.lower()] == "arrival" for name in bare):
        notes.append("arrivals say no unit (expected arrival_s or arrival_ms): no rates")
    return Observed(file, SERVER, "requests one by one", tuple(made), facts, tuple(notes))


def _quantile(values: list[float], share: float) -> float:
    """Linear between neighbours, as numpy's."""
    at = share * (len(values) - 1)
    low = math.floor(at)
    return values[low] + (at - low) * (values[min(low + 1, len(values) - 1)] - values[low])


__all__ = ["read", "read_document"]
