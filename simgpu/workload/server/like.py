"""Command lines of the tools that load servers, and of the servers, as keys of a scenario.

A flag that this module does not know is refused, with the nearest that it knows; one that changes nothing is named.
Lengths mean what each tool means by them: `--random-range-ratio` r is uniform in L (1 - r) to L (1 + r) in
`vllm bench serve` (vllm/benchmarks/datasets.py), and in r L to L in `sglang.bench_serving` (bench_serving.py), by
default from 0.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

from simgpu.errors import InputError, nearest, shown

NOTHING = (
    *("--backend", "--base-url", "--disable-log-requests", "--endpoint", "--endpoint-type", "--host", "--ignore-eos"),
    *("--label", "--max-model-len", "--metric-percentiles", "--num-warmups", "--percentile-metrics", "--port"),
    *("--profile", "--result-dir", "--result-filename", "--save-detailed", "--save-result", "--served-model-name"),
    *("--tokenizer", "--trust-remote-code", "--ready-check-timeout-sec", "--disable-tqdm", "--output-file"),
    *("--context-length", "--model-name"),
)
"""Flags that change nothing of the times."""

_LOADS = {
    "--burstiness": float, "--dataset-name": str, "--goodput": list, "--max-concurrency": int, "--model": str,
    "--num-prompts": int, "--random-input-len": int, "--random-output-len": int, "--random-prefix-len": int,
    "--random-range-ratio": float, "--request-rate": float, "--seed": int,
    "--random-input": int, "--random-output": int,
}  # fmt: skip
_VLLM = {
    "--model": str, "--tensor-parallel-size": int, "--pipeline-parallel-size": int, "--data-parallel-size": int,
    "--enable-expert-parallel": bool, "--max-num-seqs": int, "--max-num-batched-tokens": int, "--block-size": int,
    "--gpu-memory-utilization": float, "--kv-cache-dtype": str, "--quantization": str, "--dtype": str,
    "--enable-prefix-caching": bool, "--no-enable-prefix-caching": bool,
}  # fmt: skip
_SGLANG = {
    "--model-path": str, "--tp-size": int, "--dp-size": int, "--ep-size": int, "--max-running-requests": int,
    "--chunked-prefill-size": int, "--mem-fraction-static": float, "--kv-cache-dtype": str, "--quantization": str,
    "--dtype": str, "--disable-radix-cache": bool, "--page-size": int,
}  # fmt: skip
_SHORT = {
    "-tp": "--tensor-parallel-size", "-dp": "--data-parallel-size", "-pp": "--pipeline-parallel-size",
    "--tp": "--tp-size", "--dp": "--dp-size", "--ep": "--ep-size", "-q": "--quantization",
}  # fmt: skip
_KEYS = {
    "--tensor-parallel-size": "plan.tp", "--pipeline-parallel-size": "plan.pp", "--data-parallel-size": "plan.dp",
    "--tp-size": "plan.tp", "--dp-size": "plan.dp", "--ep-size": "plan.ep", "--max-num-seqs": "workload.sequences",
    "--max-running-requests": "workload.sequences", "--max-num-batched-tokens": "workload.chunk",
    "--chunked-prefill-size": "workload.chunk", "--block-size": "workload.block", "--page-size": "workload.block",
    "--gpu-memory-utilization": "workload.memory_share", "--mem-fraction-static": "workload.memory_share",
}  # fmt: skip
_TYPES = {"bfloat16": "bf16", "float16": "fp16", "half": "fp16", "fp8_e4m3": "fp8", "fp8_e5m2": "fp8"}
_WEIGHTS = {"fp8": "fp8", "awq": "int4", "gptq": "int4", "awq_marlin": "int4", "gptq_marlin": "int4"}


@dataclass
class Meant:
    """What a command line means: keys of a scenario, the model as it names it, and flags that change nothing."""

    keys: dict[str, Any] = field(default_factory=dict)
    model: str = ""
    ignored: list[str] = field(default_factory=list)


def load_like(text: str) -> Meant:
    """The load that a tool's command line sends. Raises `InputError`."""
    words, tool = _words(text, "--like", {"vllm": ("bench", "serve"), "sglang.bench_serving": ()})
    flags, rest, ignored = _flags(words, _LOADS, "--like")
    if rest:
        raise InputError(f"{shown(rest[0])} is not expected", key="--like")
    if flags.get("--dataset-name", "random") != "random":
        problem = f"{shown(flags['--dataset-name'])} has lengths of its own; expected random, or workload.trace"
        raise InputError(problem, key="--like --dataset-name")
    prompt = flags.get("--random-input-len", flags.get("--random-input", 1024))
    output = flags.get("--random-output-len", flags.get("--random-output", 128 if tool == "vllm" else 1024))
    ratio = flags.get("--random-range-ratio", 0.0)
    if not 0 <= ratio <= 1:
        raise InputError(f"{ratio:g} is out of range; expected 0 to 1", key="--like --random-range-ratio")
    if tool != "vllm":
        prompt, output = (max(round(one * (1 + ratio) / 2), 1) for one in (prompt, output))
        ratio = (1 - ratio) / (1 + ratio)
    keys: dict[str, Any] = {"prompt": prompt, "output": output, "requests": flags.get("--num-prompts", 1000)}
    if ratio:
        keys |= {"lengths": "uniform", "spread": ratio}
    keys |= _arrivals(flags) | _limits(flags.get("--goodput", []))
    for flag, key in (
        ("--random-prefix-len", "prefix_tokens"),
        ("--max-concurrency", "max_concurrency"),
        ("--seed", "seed"),
    ):
        if flag in flags:
            keys[key] = flags[flag]
    return Meant({f"workload.{key}": value for key, value in keys.items()}, flags.get("--model", ""), ignored)


def server_like(text: str) -> Meant:
    """The server that a command line starts. Raises `InputError`."""
    words, tool = _words(text, "--server", {"vllm": ("serve",), "sglang.launch_server": ()})
    flags, rest, ignored = _flags(words, _VLLM if tool == "vllm" else _SGLANG, "--server")
    model = rest[0] if rest else flags.get("--model", flags.get("--model-path", ""))
    keys: dict[str, Any] = {"workload.runtime": "vllm" if tool == "vllm" else "sglang"}
    keys |= {_KEYS[flag]: value for flag, value in flags.items() if flag in _KEYS}
    if flags.get("--enable-expert-parallel"):
        keys["plan.ep"] = keys.get("plan.tp", 1) * keys.get("plan.dp", 1)
    if flags.get("--no-enable-prefix-caching") or flags.get("--disable-radix-cache"):
        keys["workload.prefix_cache"] = False
    if flags.get("--enable-prefix-caching"):
        keys["workload.prefix_cache"] = True
    for flag, key, names in (("--kv-cache-dtype", "workload.kv_cache", _TYPES), ("--dtype", "dtype", _TYPES),
                             ("--quantization", "workload.precision", _WEIGHTS)):  # fmt: skip
        if flags.get(flag, "auto") != "auto":
            keys[key] = names.get(flags[flag], flags[flag])
    return Meant(keys, model, ignored)


def _arrivals(flags: Mapping[str, Any]) -> dict[str, Any]:
    rate, shape = flags.get("--request-rate", inf), flags.get("--burstiness", 1.0)
    if rate == inf:
        return {"arrivals": "burst"}
    if shape == inf:
        return {"arrivals": "constant", "rate": rate}
    return {"rate": rate} if shape == 1.0 else {"arrivals": "gamma", "rate": rate, "burstiness": shape}


def _limits(given: list[str]) -> dict[str, float]:
    """Limits as `--goodput ttft:1000 tpot:50` has them, ms."""
    found = {}
    for one in given:
        name, _, value = one.partition(":")
        if name not in ("ttft", "tpot"):
            raise InputError(f"{shown(one)}: expected ttft:MS or tpot:MS", key="--like --goodput")
        found[f"{name}_limit_s"] = _number(value, float, "--like --goodput") / 1000
    return found


def _words(text: str, key: str, tools: Mapping[str, tuple[str, ...]]) -> tuple[list[str], str]:
    """The words behind the name of the tool, and the tool."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise InputError(f"{shown(text)}: {error}".lower(), key=key) from None
    words = words[2:] if words[:2] in (["python", "-m"], ["python3", "-m"]) else words
    for tool, more in tools.items():
        if words[: 1 + len(more)] == [tool, *more]:
            return words[1 + len(more) :], tool
    known = " or ".join(f"'{' '.join((tool, *more))} ...'" for tool, more in tools.items())
    raise InputError(f"{shown(text[:60])} is no command line that is known; expected {known}", key=key)


def _flags(
    words: list[str], known: Mapping[str, Callable[..., Any]], key: str
) -> tuple[dict[str, Any], list[str], list[str]]:
    """Values of flags, words that belong to none, and flags that change nothing."""
    found: dict[str, Any] = {}
    rest, ignored = [], []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        if not word.startswith("-"):
            rest.append(word)
            continue
        flag, equals, value = word.partition("=")
        flag = _SHORT.get(flag, flag)
        kind = known.get(flag)
        if kind is None and flag not in NOTHING:
            raise InputError(f"unknown flag {shown(flag)}{nearest(flag, (*known, *NOTHING))}", key=key)
        values = [value] if equals else []
        while not equals and kind is not bool and queue and not queue[0].startswith("-"):
            values.append(queue.pop(0))
            if kind is not list:
                break
        if kind is None:
            ignored.append(flag)
        elif kind is bool:
            found[flag] = True
        elif not values:
            raise InputError("expected a value", key=f"{key} {flag}")
        else:
            found[flag] = values if kind is list else _number(values[0], kind, f"{key} {flag}")
    return found, rest, ignored


def _number(text: str, kind: Callable[..., Any], key: str) -> Any:
    try:
        value = kind(text)
    except ValueError:
        name = {int: "a whole number", float: "a number"}.get(kind, "a value")  # type: ignore[call-overload]
        raise InputError(f"{shown(text)} is not {name}", key=key) from None
    if kind in (int, float) and not value >= 0:
        raise InputError(f"{shown(text)} is out of range; expected 0 or more", key=key)
    return value
