"""GuideLLM: `guidellm benchmark [run]` up to 0.7 and `guidellm run` from 0.8 on (guidellm 0.8.1, and 0.3 for the old).

Lengths with a standard deviation are normal, cut to five of them or to their ends; with ends alone they are uniform. A
profile is `synchronous` (one request at a time), `concurrent` (so many), `throughput` (all that may be on their way),
`constant` or `poisson` (at rates), or `sweep`: one at a time, all, and rates evenly in between. Outputs end where
asked. A run without a limit ends with the 1000 requests of its data set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.errors import nearest, shown
from simgpu.workload.server.tools.words import (
    Given,
    Keys,
    Meant,
    Sweep,
    Tool,
    needs_lengths,
    number,
    numbers,
    pairs,
    positive,
    whole,
)

MOST = 512
"""Requests on their way where a profile sends all it can, unless it says how many (GUIDELLM__MAX_CONCURRENCY)."""
REQUESTS = 1000
"""Requests of a run without a limit."""

PROFILES = ("synchronous", "concurrent", "throughput", "constant", "poisson", "async", "sweep")

_DATA = (
    *("kind", "prompt_tokens", "prompt_tokens_stdev", "prompt_tokens_min", "prompt_tokens_max", "output_tokens"),
    *("output_tokens_stdev", "output_tokens_min", "output_tokens_max", "prefix_tokens", "prefix_count", "samples"),
    *("source", "turns", "delay"),
)


def read(given: Given) -> Meant:
    """What a command line of GuideLLM sends."""
    profile = dict(given("--profile", {}))
    if set(profile) == {""}:
        profile = {"kind": profile[""]}
    kind = profile.get("kind") or given("--rate-type")
    if kind is None:
        given.refuse("--profile", f"is missing; expected one of {', '.join(PROFILES)}")
    if kind not in PROFILES:
        given.refuse("--profile", f"{shown(kind)} is not modelled{nearest(kind, PROFILES)}")
    backend = given("--backend", {})
    meant = Meant(model=given("--model") or backend.get("model", ""))
    meant.load({"seed": _number(given, "--seed", given("--seed", {}).get("value") or given("--random-seed", 42))})
    meant.load(_lengths(given))
    seconds, requests = _limits(given)
    meant.load({"duration_s": seconds, "requests": requests if requests or seconds else REQUESTS})
    _profile(given, meant, kind, profile)
    return meant


def _profile(given: Given, meant: Meant, kind: str, profile: Mapping[str, str]) -> None:
    rates = _rates(given, profile, "streams" if kind == "concurrent" else "rate")
    most = _number(given, "--profile", profile.get("max_concurrency", MOST))
    if kind == "sweep":
        count = _number(given, "--profile", profile.get("sweep_size", rates[0] if rates else 10))
        meant.sweep = Sweep(max(count, 2), profile.get("strategy_type", "constant") == "constant", most)
        return
    if kind in ("synchronous", "throughput"):
        meant.load({"clients": 1 if kind == "synchronous" else round(rates[0]) if rates else most})
        return
    if not rates:
        given.refuse("--rate", f"is missing; expected it with {kind}")
    if kind == "concurrent":
        loads: list[tuple[str, Keys]] = [(f"{round(one)} clients", {"clients": round(one)}) for one in rates]
    else:
        meant.load({"arrivals": "constant" if kind == "constant" else "poisson"})
        meant.load({"max_concurrency": most if "max_concurrency" in profile else None})
        loads = [(f"{one:g}/s", {"rate": one}) for one in rates]
    meant.loads(loads)


def _rates(given: Given, profile: Mapping[str, str], key: str) -> list[float]:
    if key in profile:
        try:
            return numbers(profile[key].strip("[]").replace(" ", ","))
        except ValueError as error:
            given.refuse("--profile", f"{shown(profile[key])}: {error}")
    return list(given("--rate", []))


def _limits(given: Given) -> tuple[float | None, int | None]:
    """Seconds and requests of a run."""
    seconds, requests = given("--max-seconds"), given("--max-requests")
    for one in given("--constraint", []):
        kind = one.get("kind", "")
        if kind in ("max_duration", "max_seconds"):
            seconds = float(_number(given, "--constraint", one.get("seconds", one.get("value", ""))))
        elif kind in ("max_requests", "min_requests", "max_number"):
            requests = _number(given, "--constraint", one.get("count", one.get("value", "")))
        elif not kind.startswith(("max_errors", "max_error")):
            given.refuse("--constraint", f"{shown(kind)} is not modelled; expected max_duration or max_requests")
    return seconds, requests


def _lengths(given: Given) -> Keys:
    data = given("--data")
    if data is None:
        given.refuse("--data", "is missing; expected prompt_tokens=N,output_tokens=N")
    if "" in data or data.get("kind", "synthetic_text") not in ("synthetic_text", "mooncake") or (
        "prompt_tokens" not in data and data.get("kind") != "mooncake"
    ):  # fmt: skip
        return needs_lengths(given, "--data", data.get("", data.get("source", data.get("kind", ""))))
    if data.get("kind") == "mooncake":
        return {"lengths_file": data.get("path") or data.get("source")}
    unknown = next((key for key in data if key not in _DATA), None)
    if unknown is not None:
        given.refuse("--data", f"{shown(unknown)} is not modelled{nearest(unknown, _DATA)}")
    values = {key: _number(given, "--data", value) for key, value in data.items() if key not in ("kind", "source")}
    if "output_tokens" not in values:
        given.refuse("--data", "has no output_tokens; expected them")
    found: Keys = {}
    kinds = set()
    for name, spread in (("prompt", "spread"), ("output", "output_spread")):
        made, kind = _length(name, spread, values)
        found |= made
        kinds.add(kind)
    kinds.discard("fixed")
    if len(kinds) > 1:
        given.refuse("--data", "prompts and outputs are normal and uniform; expected the same of both")
    turns = values.get("turns", 1)
    shared = {"prefix_tokens": values.get("prefix_tokens"), "prefixes": values.get("prefix_count")}
    return {
        **found, **shared, "lengths": kinds.pop() if kinds else None, "turns": turns if turns > 1 else None,
        "think_s": values.get("delay"),
    }  # fmt: skip


def _length(name: str, spread: str, values: Mapping[str, int]) -> tuple[Keys, str]:
    """Lengths of prompts or outputs, and their kind (`IntegerRangeSampler` of guidellm/utils/random.py)."""
    mean, deviation = values[f"{name}_tokens"], values.get(f"{name}_tokens_stdev", 0)
    low = values.get(f"{name}_tokens_min", max(1, mean - 5 * deviation))
    high = values.get(f"{name}_tokens_max", mean + 5 * deviation)
    if low == high:
        return {name: low, spread: 0.0}, "fixed"
    if not deviation:
        return {name: max(min(round((low + high) / 2), high), low), f"{name}_range": [low, high]}, "uniform"
    return {name: mean, spread: deviation / mean, f"{name}_range": [low, high]}, "normal"


def _number(given: Given, flag: str, value: Any) -> int:
    try:
        return round(number(str(value)))
    except (ValueError, OverflowError):
        given.refuse(flag, f"{shown(str(value))} is not a number")


def _loose(text: str) -> dict[str, str]:
    """Names and values, or a single word under the name ''."""
    return pairs(text) if "=" in text or text.lstrip().startswith("{") else {"": text}


TOOL = Tool(
    name="'guidellm run ...'",
    starts=("guidellm benchmark run", "guidellm benchmark", "guidellm run"),
    source="GuideLLM 0.8.1, and 0.3 for the older form",
    read=read,
    kinds={
        "--backend": _loose, "--constraint": pairs, "--data": _loose, "--max-requests": positive,
        "--max-seconds": number, "--model": str, "--profile": _loose, "--random-seed": whole, "--rate": numbers,
        "--rate-type": str, "--seed": _loose,
    },
    nothing=(
        "--target --backend-type --backend-args --backend-kwargs --processor --processor-args --tokenizer --data-args"
        " --data-sampler --data-column-mapper --data-preprocessor --data-finalizer --data-loader --output --outputs"
        " --output-path --output-dir --output-formats --output-extras --output-sampling --metrics --label -l"
        " --warmup --cooldown --warmup-percent --cooldown-percent --request-type --request-format --max-errors"
        " --max-error-rate --sample-requests"
    ),
    switches="--disable-progress --display-scheduler-stats --disable-console-outputs --disable-console"
    " --disable-console-interactive",
    refused={
        "--config": "expected the flags themselves; files of GuideLLM are not read",
        "--scenario": "expected the flags themselves; files of GuideLLM are not read",
        "--override": "expected one profile; several are not read",
    },
    short={"--max-duration": "--max-seconds", "-c": "--config"},
    append=("--constraint",),
)  # fmt: skip
