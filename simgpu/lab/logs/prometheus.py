"""The text of a server's `/metrics` page: vLLM's and SGLang's histograms of latencies and counts of tokens.

Names are those of vllm 0.11 `vllm/v1/metrics/loggers.py` and sglang 0.5 `sglang/srt/metrics/collector.py`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from simgpu.lab.logs.observed import SERVER, Measurement, Observed
from simgpu.lab.logs.text import lines_of

HISTOGRAMS = {
    "time_to_first_token_seconds": "ttft",
    "time_per_output_token_seconds": "tpot",
    "inter_token_latency_seconds": "tpot",
    "request_time_per_output_token_seconds": "tpot",
    "e2e_request_latency_seconds": "e2e",
}
"""Columns of latencies by metric; the last that a page holds counts."""
PERCENTILES = {"_50th": 0.5, "_90th": 0.9, "_95th": 0.95, "_99th": 0.99}

_SAMPLE = re.compile(r"^(vllm|sglang)[:_](\w+?)(?:\{(.*)\})?\s+(\S+)(?:\s+[\d.]+)?$")


@dataclass
class _Histogram:
    total: float = 0.0
    count: float = 0.0
    buckets: dict[float, float] = field(default_factory=dict)

    def percentile(self, share: float) -> float | None:
        """Linear within the bucket, as Prometheus' `histogram_quantile`; None where it lies beyond the last."""
        below, before = 0.0, 0.0
        for edge, count in sorted(self.buckets.items()):
            if count >= share * self.count:
                if edge == math.inf:
                    return None
                return below + (edge - below) * (share * self.count - before) / max(count - before, 1e-12)
            below, before = edge, count
        return None


def read(file: Path) -> list[Observed]:
    """What a page says since the server's start; nothing for another text."""
    found: dict[str, _Histogram] = {}
    counts: dict[str, float] = {}
    engine = ""
    for _, text in lines_of(file):
        sample = _SAMPLE.match(text)
        if not sample:
            continue
        engine, name, labels, value = sample[1], sample[2], sample[3] or "", _number(sample[4])
        base, _, part = name.rpartition("_")
        if part in ("bucket", "sum", "count") and base in HISTOGRAMS:
            _add(found.setdefault(base, _Histogram()), part, labels, value)
        else:
            counts[name] = counts.get(name, 0.0) + value
    return [_page(file, engine, found, counts)] if found else []


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _add(one: _Histogram, part: str, labels: str, value: float) -> None:
    """Add a sample, summed over models and engines of a page."""
    if part == "sum":
        one.total += value
    elif part == "count":
        one.count += value
    else:
        edge = re.search(r'le="([^"]+)"', labels)
        if edge:
            at = _number(edge[1].replace("+Inf", "inf"))
            one.buckets[at] = one.buckets.get(at, 0.0) + value


def _page(file: Path, engine: str, found: Mapping[str, _Histogram], counts: Mapping[str, float]) -> Observed:
    values: dict[str, Measurement] = {}
    for name, latency in HISTOGRAMS.items():
        one = found.get(name)
        if one is None or not one.count > 0:
            continue
        values[f"{latency}_s"] = Measurement(f"{latency}_s", one.total / one.count, int(one.count))
        for ending, share in PERCENTILES.items():
            at = one.percentile(share)
            if at:
                values[f"{latency}{ending}_s"] = Measurement(f"{latency}{ending}_s", at, int(one.count))
    requests = found.get("e2e_request_latency_seconds")
    done = requests.count if requests and requests.count else None
    facts = {
        "requests": done,
        "input_tokens": counts["prompt_tokens_total"] / done if done and "prompt_tokens_total" in counts else None,
        "output_tokens": counts["generation_tokens_total"] / done
        if done and "generation_tokens_total" in counts
        else None,
    }
    notes = ("since the server's start, percentiles to the width of its buckets",)
    said = {name: value for name, value in facts.items() if value is not None}
    return Observed(file, SERVER, f"{engine}'s /metrics page", tuple(values.values()), said, notes)
