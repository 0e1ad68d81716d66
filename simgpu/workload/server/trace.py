"""Traces of requests: files of arrivals and lengths as others publish them, read line by line.

CSV has a head: columns of one's own (arrival_s, input_tokens, output_tokens), of Azure's LLM inference traces of 2023
and 2024, of BurstGPT and of Vidur. JSONL has an object a line: of Mooncake, with `hash_ids` for blocks of its prompt
(an equal one stands for an equal prefix up to it), of Dynamo, whose rows of one `session_id` follow each other, and of
LLMServingSim. Files may be of any size; a file that ends in .gz is unpacked as it is read.
"""

from __future__ import annotations

import csv
import gzip
import json
import stat
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from simgpu.errors import InputError, nearest, shown
from simgpu.reading import kind_of
from simgpu.workload.server.requests import Path as Prefixes


class Row(NamedTuple):
    """A request of a trace.

    `sent` is in s from the first row on, `pause` the seconds after the answer to the request before it in its session;
    `path` are the prefixes it shares with others, `line` its place in the file, `parent` the place in its session of
    the request that it continues.
    """

    sent: float
    prompt: int
    output: int
    path: Prefixes = ()
    session: str | None = None
    pause: float = 0.0
    line: int = 0
    parent: int = 0


NAMES: Mapping[str, tuple[str, ...]] = {
    "arrival": ("arrival_s", "timestamp", "arrived_at"),
    "prompt": ("input_tokens", "contexttokens", "request tokens", "num_prefill_tokens"),
    "output": ("output_tokens", "generatedtokens", "response tokens", "num_decode_tokens"),
}
"""Columns of a CSV trace, in any case: a plain one's, and those of Azure, BurstGPT and Vidur."""

KEYS: Mapping[str, Mapping[str, float]] = {
    "arrival": {"timestamp": 1e-3, "arrival_time_ns": 1e-9, "arrival_s": 1.0},
    "prompt": {"input_length": 1, "input_toks": 1, "input_tokens": 1},
    "output": {"output_length": 1, "output_toks": 1, "output_tokens": 1},
}
"""Keys of a JSONL trace and their unit in s: Mooncake's and Dynamo's, LLMServingSim's, and those of a plain CSV."""

MOST_LINE = 1 << 24
"""Bytes of a line at most."""

LATEST = 1e12
"""Seconds; a time beyond is none."""


def read_rows(file: str, block: int = 512, key: str = "workload.trace") -> Iterator[Row]:
    """Rows of a trace in its own time; each of the `hash_ids` stands for `block` tokens.

    Raises `InputError` with file and line for what is no request, and for times that fall. A request without output is
    left out: it failed.
    """
    lines = _lines(file, key)
    first = next(lines, "")
    if not first.strip():
        raise InputError("is empty; expected a head and rows, or a JSON object a line", file=file)
    rows = _jsonl(chain([first], lines), file, block) if first.lstrip().startswith("{") else _csv(first, lines, file)
    start, last = None, 0.0
    for row in rows:
        if start is None:
            start = row.sent
        sent = row.sent - start
        if sent < last:
            raise InputError(f"comes {last - sent:g} s before the one above it; sort it", file=file, line=row.line)
        if row.prompt < 1 or row.output < 0:
            problem = f"{row.prompt} and {row.output} tokens; expected 1 and more"
            raise InputError(problem, file=file, line=row.line)
        last = sent
        if row.output:
            yield row._replace(sent=sent)


def _lines(file: str, key: str) -> Iterator[str]:
    """Lines of a file, however large it is. It is read more than once, so that it cannot be a pipe."""
    path = Path(file)
    try:
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode):
            raise InputError(f"is {kind_of(mode)}; expected a file, which is read more than once", file=file)
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
            number = 0
            while raw := stream.readline(MOST_LINE):
                number += 1
                if len(raw) == MOST_LINE:
                    raise InputError(f"a line of more than {MOST_LINE >> 20} MiB", file=file, line=number)
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise InputError("is not text in UTF-8", file=file) from None
    except (OSError, EOFError) as error:
        raise InputError(f"{shown(file)}: {getattr(error, 'strerror', None) or error}", key=key) from None


def _refuse(text: str, file: str, line: int) -> NoReturn:
    problem = f"{shown(text.strip())[:80]}: expected a time and two whole numbers of tokens"
    raise InputError(problem, file=file, line=line) from None


# ---- CSV ---------------------------------------------------------------------------------------------


def _csv(head: str, lines: Iterator[str], file: str) -> Iterator[Row]:
    places = _places(next(csv.reader([head])), file)
    for line, row in enumerate(csv.reader(lines), 2):
        if not row:
            continue
        try:
            arrival = _time(row[places["arrival"]])
            prompt, output = int(row[places["prompt"]]), int(row[places["output"]])
        except (ValueError, IndexError):
            _refuse(",".join(row), file, line)
        yield Row(arrival, prompt, output, line=line)


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
    """Seconds of a number, or of a date and a time (all of one place, or of UTC)."""
    try:
        value = float(text)
    except ValueError:
        return datetime.fromisoformat(text.strip()[:26]).replace(tzinfo=UTC).timestamp()
    if not 0 <= value < LATEST:
        raise ValueError(text)
    return value


# ---- JSONL -------------------------------------------------------------------------------------------


def _jsonl(lines: Iterator[str], file: str, block: int) -> Iterator[Row]:
    names: dict[str, tuple[str, float]] = {}
    last: dict[str, float] = {}
    now = 0.0
    for line, text in enumerate(lines, 1):
        if not text.strip():
            continue
        data = _object(text, file, line)
        names = names or _names(data, file, line)
        session = data.get("session_id")
        name = None if session is None else str(session)
        prompt, output = (_tokens(data, names[one][0], text, file, line) for one in ("prompt", "output"))
        arrival = _arrival(data, names["arrival"], text, file, line, name in last)
        pause = 0.0
        if name is not None and name in last:
            pause = _pause(data, None if arrival is None else arrival - last[name], file, line)
        now = now if arrival is None else arrival
        if name is not None:
            last[name] = now
        yield Row(now, prompt, output, _blocks(data, prompt, block, file, line), name, pause, line)


def _object(text: str, file: str, line: int) -> dict[str, Any]:
    def refuse(constant: str) -> NoReturn:
        raise ValueError(constant)

    try:
        data = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        raise InputError(f"{shown(text.strip())[:80]} is no JSON; expected an object", file=file, line=line) from None
    if not isinstance(data, dict):
        raise InputError(f"{shown(data)} is no object; expected one a line", file=file, line=line)
    return data


def _names(data: Mapping[str, Any], file: str, line: int) -> dict[str, tuple[str, float]]:
    """The key and the unit of each number, by the keys of the first row."""
    found = {}
    for what, keys in KEYS.items():
        name = next((one for one in keys if one in data), None)
        if name is None:
            given = next((key for key in data if nearest(key, keys).startswith("; did you")), "")
            hint = f" (here is {shown(given)})" if given else ""
            problem = f"has no key of the {what}{hint}; expected one of {', '.join(keys)}"
            raise InputError(problem, file=file, line=line)
        found[what] = name, keys[name]
    return found


def _tokens(data: Mapping[str, Any], key: str, text: str, file: str, line: int) -> int:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int):
        _refuse(text, file, line)
    return value


def _arrival(
    data: Mapping[str, Any], name: tuple[str, float], text: str, file: str, line: int, follows: bool
) -> float | None:
    """Seconds of an arrival; None of a request that follows another and has no time of its own."""
    value = data.get(name[0])
    if value is None and follows:
        return None
    if isinstance(value, str) and value.isdigit():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value * name[1] < LATEST:
        _refuse(text, file, line)
    return float(value * name[1])


def _pause(data: Mapping[str, Any], since: float | None, file: str, line: int) -> float:
    """Seconds between an answer and the next request of its session: `delay` (ms), or else the time in between."""
    value = data.get("delay")
    if value is None:
        return max(since or 0.0, 0.0)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (isfinite(value) and value >= 0):
        raise InputError(f"delay {shown(value)}: expected milliseconds, 0 or more", file=file, line=line)
    return float(value) / 1000


def _blocks(data: Mapping[str, Any], prompt: int, block: int, file: str, line: int) -> Prefixes:
    """Prefixes of a prompt by the names of its blocks; the last one may be part of a block."""
    names = data.get("hash_ids")
    if names is None:
        return ()
    if not isinstance(names, list) or not all(isinstance(name, (int, str)) for name in names):
        raise InputError(f"hash_ids {shown(names)}: expected a list of numbers", file=file, line=line)
    if len(names) > -(-prompt // block):
        problem = f"{len(names)} hash_ids for {prompt:,} tokens are more than its blocks of {block}"
        raise InputError(f"{problem}; expected another workload.trace_block", file=file, line=line)
    whole = [(("block", name), (i + 1) * block) for i, name in enumerate(names[: prompt // block])]
    if len(names) > len(whole):
        return *whole, (("block", names[-1], prompt % block), prompt)
    return tuple(whole)
