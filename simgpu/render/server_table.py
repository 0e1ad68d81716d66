"""One server under one load, as benchmarks print it: latencies by percentile, then rates and what the server held."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import IO, Any

from simgpu.render.columns import cell_of, title, unsure
from simgpu.render.table import INTERVALS, grid, print_notes

Row = Mapping[str, Any]

_KINDS = {"TTFT": "ttft", "TPOT": "tpot", "ITL": "itl", "end to end": "e2e"}
_SHARES = (50, 90, 95, 99)
_FIGURES = (
    *("requests_served", "duration_s", "arrival_rate", "requests_per_s", "output_tokens_per_s", "total_tokens_per_s"),
    *("output_tokens_per_s_per_gpu", "output_tokens_per_s_per_user", "slo_goodput", "queue_s", "running", "waiting"),
    *("cache_use", "hit_rate", "preemptions", "stationary", "steady_ttft_s", "steady_tpot_s"),
)
UNSURE = (
    "unsure: within its 80 % interval this server keeps up with the load, and does not. The range is the answer; a "
    "number in its middle would mean nothing. A lower load, or a measured step (simgpu calibrate --step), narrows it."
)


def print_figures_of(row: Row, out: IO[str]) -> None:
    """Print a row of kind traffic: a line for each latency, a column for each percentile, then the other figures."""
    heads = ("latency", "mean", *(f"P{share}" for share in _SHARES))
    grid("", heads, [(name, *_latencies(kind, row)) for name, kind in _KINDS.items()], out, right=range(1, len(heads)))
    figures = [(title(column), cell_of(column, row)) for column in _FIGURES if row.get(column) is not None]
    grid("", ("figure", "value"), figures, out, right=(1,))
    print_notes([INTERVALS], out)


def _latencies(kind: str, row: Row) -> Sequence[str]:
    mean = "step_s" if kind == "e2e" else f"{kind}_s"
    return cell_of(mean, row), *(cell_of(f"{kind}_{share}th_s", row) for share in _SHARES)


def unsure_notes(rows: Sequence[Row]) -> list[str]:
    """A note where a row has a range in place of numbers."""
    return [UNSURE] if any(map(unsure, rows)) else []
