"""Results of load generators as files and as the text on their terminal: vLLM, SGLang, genai-perf, GuideLLM, others.

One function is one tool: how its document is known, and which of its keys are which columns. Keys are those of
the tools: vllm 0.11 `vllm/benchmarks/serve.py`, sglang 0.5 `bench_serving.py`, genai-perf 0.0.16
`profile_export_genai_perf.json`, aiperf 0.3 `profile_export_aiperf.json`, GuideLLM 0.3 and 0.5 `benchmarks.json`,
inference-perf 0.2 `summary_lifecycle_metrics.json`, llama.cpp b5000 `llama-bench -o json`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from simgpu.lab.logs.observed import BATCH, SERVER, Measurement, Observed
from simgpu.lab.logs.text import lines_of, number_of

LATENCIES = ("ttft", "tpot", "itl", "e2e")
STATISTICS = {"": ("mean", "avg"), "_50th": ("median", "p50"), "_90th": ("p90",), "_95th": ("p95",), "_99th": ("p99",)}
"""Ending of a column by how tools call a statistic."""
MOST = 200_000_000
"""Most bytes of a document of results."""


def _column(latency: str, ending: str) -> str:
    return f"{latency}{ending}_s"


def read_document(file: Path, data: Any) -> list[Observed]:
    """The runs of a JSON document of results; none where it is of no tool that is known."""
    if isinstance(data, Mapping):
        for known in (_flat, _guidellm, _inference_perf, _genai_perf):
            found = known(file, data)
            if found:
                return found
        return []
    if isinstance(data, list) and data and isinstance(data[0], Mapping):
        if "avg_ts" in data[0]:
            return list(_llama_bench(file, data))
        return [one for entry in data if isinstance(entry, Mapping) for one in read_document(file, entry)]
    return []


def read_lines(file: Path) -> list[Observed]:
    """JSON documents, one a line, as `sglang.bench_serving --output-file` appends them."""
    found = []
    for _, text in lines_of(file):
        if text.startswith("{"):
            try:
                found += read_document(file, json.loads(text))
            except ValueError:
                return []
    return found


def _made(
    file: Path, kind: str, tool: str, values: Mapping[str, Any], facts: Mapping[str, Any], count: float | None
) -> Observed:
    """A run from columns; values that are no positive number are named."""
    found, wrong = [], []
    for column, value in values.items():
        if value is None:
            continue
        if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf:
            found.append(Measurement(column, float(value), int(count or 1)))
        elif value != 0:
            wrong.append(column)
    said = {name: value for name, value in facts.items() if value is not None and value != math.inf}
    return Observed(file, kind, tool, tuple(found), said, tuple(f"{name} is no positive number" for name in wrong))


def _flat(file: Path, data: Mapping[str, Any]) -> list[Observed]:
    """The result of `vllm bench serve` or `sglang.bench_serving`: keys such as mean_ttft_ms, in one mapping."""
    if "completed" not in data or not any(f"mean_{name}_ms" in data for name in LATENCIES):
        return []
    values: dict[str, Any] = {}
    for latency in LATENCIES:
        for ending, words in STATISTICS.items():
            names = [f"{word}_{latency}{kind}_ms" for word in words for kind in ("", "_latency")]
            value = next((data[name] for name in names if name in data), None)
            values[_column(latency, ending)] = _scaled(value, 1e-3)
    done = data["completed"]
    values["requests_per_s"] = data.get("request_throughput")
    values["output_tokens_per_s"] = data.get("output_throughput")
    values["total_tokens_per_s"] = data.get("total_token_throughput", data.get("total_throughput"))
    facts = {
        "model": data.get("model_id"),
        "rate": _number(data.get("request_rate")),
        "concurrency": _number(data.get("max_concurrency")),
        "requests": _number(done),
        "input_tokens": _share(data.get("total_input_tokens"), done),
        "output_tokens": _share(data.get("total_output_tokens"), done),
        "failed": _number(data.get("failed")),
    }
    tool = "sglang.bench_serving" if "sglang" in str(data.get("backend")) else "vllm bench serve"
    return [_made(file, SERVER, tool, values, facts, _number(done))]


def _number(value: Any) -> float | None:
    """A finite number above 0, None for anything else; of text, such as vLLM's "inf", the number in it."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) else 0.0
    except ValueError:
        return None
    return number if 0 < number < math.inf else None


def _scaled(value: Any, scale: float) -> Any:
    """A number in SI units; what is none as it stands, so that it is named."""
    return value * scale if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _of(data: Any, *keys: str) -> Any:
    """The value below several keys; None where a mapping on the way is none."""
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data


def _share(total: Any, count: Any) -> float | None:
    whole, parts = _number(total), _number(count)
    return whole / parts if whole and parts else None


def _statistics(found: Any, scale: float) -> Iterator[tuple[str, Any]]:
    """(ending, seconds) of a mapping of statistics under one of the tools' names."""
    if not isinstance(found, Mapping):
        return
    inner = found.get("percentiles")
    flat = {**found, **(inner if isinstance(inner, Mapping) else {})}
    for ending, words in STATISTICS.items():
        value = next((flat[word] for word in words if word in flat), None)
        if isinstance(value, (int, float)):
            yield ending, value * scale


_GENAI = {"time_to_first_token": "ttft", "inter_token_latency": "tpot", "request_latency": "e2e"}
_SECONDS = {"ms": 1e-3, "s": 1.0, "us": 1e-6, "ns": 1e-9, "sec": 1.0}


def _genai_perf(file: Path, data: Mapping[str, Any]) -> list[Observed]:
    """The export of genai-perf or aiperf: a mapping with unit, avg, p50 ... for each metric."""
    metrics = data.get("records", data)
    if not isinstance(metrics, Mapping) or not isinstance(metrics.get("request_latency"), Mapping):
        return []
    if "unit" not in metrics["request_latency"]:
        return []
    values: dict[str, Any] = {}
    for name, latency in _GENAI.items():
        found = metrics.get(name)
        scale = _SECONDS.get(str(_of(found, "unit") or "ms"), 1e-3)
        values |= {_column(latency, ending): value for ending, value in _statistics(found, scale)}
    rates = {"request_throughput": "requests_per_s", "output_token_throughput": "output_tokens_per_s"}
    values |= {column: _of(metrics, name, "avg") for name, column in rates.items()}
    lengths = {"input_sequence_length": "input_tokens", "output_sequence_length": "output_tokens"}
    facts = {fact: _of(metrics, name, "avg") for name, fact in lengths.items()}
    facts |= {"concurrency": _found(_profiling(data.get("input_config")), "concurrency"), "rate": None}
    facts["requests"] = _of(metrics, "request_count", "avg")
    tool = "aiperf" if "aiperf" in str(data)[:5000].lower() else "genai-perf"
    return [_made(file, SERVER, tool, values, facts, _number(facts["requests"]))]


def _profiling(asked: Any) -> Any:
    """Of what aiperf was asked, the phase that counts: it lists a warm-up, too."""
    phases = _of(asked, "phases")
    named = [one for one in phases if _of(one, "name") == "profiling"] if isinstance(phases, list) else []
    return named[0] if named else asked


def _found(data: Any, key: str) -> Any:
    """The first value of a key anywhere in a document that is a number."""
    stack = [data]
    while stack:
        here = stack.pop()
        if isinstance(here, Mapping):
            value = here.get(key)
            if isinstance(value, (int, float)):
                return value
            stack += list(here.values())
        elif isinstance(here, list):
            stack += here
    return None


_GUIDE = {
    "time_to_first_token_ms": ("ttft", 1e-3),
    "inter_token_latency_ms": ("tpot", 1e-3),
    "request_latency": ("e2e", 1.0),
}


def _guidellm(file: Path, data: Mapping[str, Any]) -> list[Observed]:
    """GuideLLM's benchmarks, one run for each rate."""
    runs = data.get("benchmarks")
    if not isinstance(runs, list):
        return []
    found = []
    for run in runs:
        metrics = run.get("metrics") if isinstance(run, Mapping) else None
        if not isinstance(metrics, Mapping):
            continue
        values: dict[str, Any] = {}
        for name, (latency, scale) in _GUIDE.items():
            succeeded = _of(metrics, name, "successful")
            values |= {_column(latency, ending): value for ending, value in _statistics(succeeded, scale)}
        for name, column in (
            ("requests_per_second", "requests_per_s"),
            ("output_tokens_per_second", "output_tokens_per_s"),
        ):
            values[column] = _of(metrics, name, "successful", "mean")
        lengths = {"prompt_token_count": "input_tokens", "output_token_count": "output_tokens"}
        facts = {f: _of(metrics, name, "successful", "mean") for name, f in lengths.items()}
        asked = run.get("config", run.get("args"))  # from 0.4 on, and before
        facts |= {"rate": _found(asked, "rate"), "concurrency": _found(asked, "streams")}
        found.append(_made(file, SERVER, "GuideLLM", values, facts, 1))
    return found


_PERF = {
    "time_to_first_token": "ttft",
    "time_per_output_token": "tpot",
    "request_latency": "e2e",
    "inter_token_latency": "itl",
}


def _inference_perf(file: Path, data: Mapping[str, Any]) -> list[Observed]:
    """The summary of inference-perf."""
    done = data.get("successes")
    if not isinstance(done, Mapping) or "load_summary" not in data:
        return []
    values: dict[str, Any] = {}
    for name, latency in _PERF.items():
        found = _of(done, "latency", name)
        values |= {_column(latency, ending): value for ending, value in _statistics(found, 1.0)}
    values["requests_per_s"] = _of(done, "throughput", "requests_per_sec")
    values["output_tokens_per_s"] = _of(done, "throughput", "output_tokens_per_sec")
    facts = {
        "rate": _of(data, "load_summary", "requested_rate"),
        "input_tokens": _of(done, "prompt_len", "mean") or _of(done, "prompt_tokens", "mean"),
        "output_tokens": _of(done, "output_len", "mean") or _of(done, "output_tokens", "mean"),
        "requests": done.get("count"),
    }
    return [_made(file, SERVER, "inference-perf", values, facts, _number(done.get("count")))]


def _llama_bench(file: Path, data: list[Mapping[str, Any]]) -> Iterator[Observed]:
    """Tests of llama-bench: prompts (pp) as prompt tokens/s, tokens (tg) as tokens/s of one user."""
    for one in data:
        prompt, made = _number(one.get("n_prompt")), _number(one.get("n_gen"))
        if bool(prompt) == bool(made):
            continue
        column = "prefill_tokens_per_s" if prompt else "output_tokens_per_s"
        facts = {"model": one.get("model_type"), "input_tokens": prompt, "output_tokens": made}
        facts |= {"depth": _number(one.get("n_depth"))}
        samples = one.get("samples_ts")
        count = len(samples) if isinstance(samples, list) else 1
        yield _made(file, BATCH, "llama-bench", {column: one.get("avg_ts")}, facts, count)


# ---- text ------------------------------------------------------------------------------------------------

_TITLE = re.compile(r"=+ Serving Benchmark Result =+")
_LINE = re.compile(r"^(.*?):\s+([\d.,]+)\s*$")
_TEXT = {
    "Request throughput (req/s)": "requests_per_s",
    "Output token throughput (tok/s)": "output_tokens_per_s",
    "Total Token throughput (tok/s)": "total_tokens_per_s",
    "Total token throughput (tok/s)": "total_tokens_per_s",
}
_TIMES = re.compile(r"(Mean|Median|P90|P95|P99) (TTFT|TPOT|ITL|E2E Latency|E2EL) \(ms\)")
_COUNTS = {"Successful requests": "requests", "Total input tokens": "input", "Total generated tokens": "output"}
_COUNTS |= {"Maximum request concurrency": "concurrency", "Max request concurrency": "concurrency"}
_COUNTS |= {"Traffic request rate": "rate", "Request rate configured (RPS)": "rate"}


def read_text(file: Path) -> list[Observed]:
    """Blocks that `vllm bench serve` and `sglang.bench_serving` print at their end."""
    blocks: list[dict[str, float]] = []
    for number, text in lines_of(file):
        if _TITLE.search(text):
            blocks.append({})
        found = _LINE.match(text.strip()) if blocks else None
        if found:
            blocks[-1][found[1].strip()] = number_of(found[2], file, number)
    return [_block(file, block) for block in blocks if block]


def _block(file: Path, block: Mapping[str, float]) -> Observed:
    values: dict[str, Any] = {column: block.get(name) for name, column in _TEXT.items() if name in block}
    for name, value in block.items():
        found = _TIMES.fullmatch(name)
        if found:
            word, latency = (
                found[1].lower(),
                {"e2e latency": "e2e", "e2el": "e2e"}.get(found[2].lower(), found[2].lower()),
            )
            ending = next(ending for ending, words in STATISTICS.items() if word in words)
            values[_column(latency, ending)] = value / 1e3
    facts: dict[str, Any] = {fact: block[name] for name, fact in _COUNTS.items() if name in block}
    done = facts.get("requests")
    facts["input_tokens"] = _share(facts.pop("input", None), done)
    facts["output_tokens"] = _share(facts.pop("output", None), done)
    return _made(file, SERVER, "vllm bench serve or sglang.bench_serving", values, facts, done)
