"""Which way a column of results is better: said once, for tables, plots, what-if and searches alike."""

from __future__ import annotations

from typing import Literal

Direction = Literal["lower", "higher"]

_LOWER = ("training_days", "gpu_hours", "bubble_fraction", "smallest_gpus", "gpus")
_HIGHER = (
    *("mfu", "hfu", "mfu_full_attention", "efficiency", "speedup", "overlap"),
    *("most_sequences", "longest_context", "tokens_per_cycle"),
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


__all__ = ["Direction", "better", "sign"]
