"""What a column of results is, said once for tables, plots, what-if and searches: which way is better, and what it
follows from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Direction = Literal["lower", "higher"]

COLUMNS_PAGE = "docs/results.md names all columns"
"""For a message about a column that no row has."""

_LOWER = ("training_days", "gpu_hours", "bubble_fraction", "smallest_gpus", "gpus")
_HIGHER = (
    *("mfu", "hfu", "mfu_full_attention", "efficiency", "speedup", "overlap"),
    *("most_sequences", "longest_context", "cache_tokens", "tokens_per_cycle"),
)
_RATES = ("_per_s", "_per_s_per_gpu", "_per_s_per_user")


def better(column: str) -> Direction | None:
    """'lower' for times, bytes and costs; 'higher' for rates, shares of the peak and what fits; None where only the
    reader knows. What is claimed of a column, and the ends of its interval, go the way of the column."""
    name = column.removeprefix("claimed_").removesuffix("_p10").removesuffix("_p90")
    if name.startswith("usd_") or name.endswith("_usd"):  # first: 'usd_per_step' is no rate
        return "lower"
    if name in _HIGHER or name.endswith(_RATES):
        return "higher"
    if name in _LOWER or name.endswith("_s") or ("bytes" in name and "capacity" not in name):
        return "lower"
    return None


def sign(column: str) -> int:
    """+1 where more is better, -1 where less is, 0 where it depends."""
    return {"higher": 1, "lower": -1, None: 0}[better(column)]


_OVER = {
    "step_s": (
        *("tokens_per_s", "tokens_per_s_per_gpu", "samples_per_s", "requests_per_s", "total_tokens_per_s"),
        *("output_tokens_per_s_per_gpu", "flop_per_s_per_gpu", "mfu", "hfu", "mfu_full_attention"),
    ),
    "tpot_s": ("output_tokens_per_s_per_user", "output_tokens_per_s"),
    "ttft_s": ("prefill_tokens_per_s",),
    "time_s": ("algbw", "busbw"),
}
_TIMES = {
    "step_s": (
        *("normalized_latency_s", "training_days", "gpu_hours", "usd_per_step", "usd_per_run"),
        "usd_per_million_output_tokens",
    ),
    "single_gpu_step_s": ("ideal_step_s",),
    "tpot_s": ("decode_s",),
    "ttft_s": ("prefill_s",),
}
_OF_A_SERVER = {"output_tokens_per_s": "step_s", "flop_per_s_per_gpu": "tpot_s", "mfu": "tpot_s"}
"""A server's output is that of its whole requests, and its FLOPs are those of a token."""

FOLLOWS: Mapping[str, tuple[str, int]] = {
    **{column: (time, -1) for time, columns in _OVER.items() for column in columns},
    **{column: (time, 1) for time, columns in _TIMES.items() for column in columns},
}
"""Columns that are something certain over a time (-1) or times it (1). They are as unsure as that time."""


def time_of(column: str, row: Mapping[str, Any]) -> str:
    """The time that a column of a row follows from; a column that follows from none is its own."""
    if row.get("workload") == "serving" and column in _OF_A_SERVER:
        return _OF_A_SERVER[column]
    return FOLLOWS[column][0] if column in FOLLOWS else column


def following_ends(row: Mapping[str, Any]) -> dict[str, float]:
    """P10 and P90 of all columns of a row that follow from a time of it which has both.

    A rate is at its P10 where its time is at its P90.
    """
    found: dict[str, float] = {}
    for column, (_, power) in FOLLOWS.items():
        value, time = row.get(column), time_of(column, row)
        if value is None or f"{time}_p10" not in row:
            continue
        for end, of in zip(("p10", "p90"), ("p10", "p90")[::power], strict=True):
            ratio = row[f"{time}_{of}"] / row[time] if row[time] else 1.0
            found[f"{column}_{end}"] = value * ratio**power
    return found


__all__ = ["FOLLOWS", "Direction", "better", "following_ends", "sign", "time_of"]
