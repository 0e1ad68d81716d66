"""How the columns of a row are named and printed for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from simgpu.units import format_seconds, format_si

TITLES = {
    "step_s": "step",
    "compute_s": "compute",
    "communication_s": "communication",
    "exposed_communication_s": "exposed communication",
    "idle_s": "idle",
    "single_gpu_step_s": "on one GPU",
    "ideal_step_s": "ideal",
    "mfu": "MFU",
    "tokens_per_s": "tokens/s",
    "flop_per_s_per_gpu": "per GPU",
    "weights_bytes_per_gpu": "weights per GPU",
    "weights_fit": "weights fit",
    "sequence_parallel": "SP",
    "tp": "TP",
    "dp": "DP",
    "pp": "PP",
    "vp": "VP",
    "cp": "CP",
    "ep": "EP",
    "zero": "ZeRO",
    "hfu": "HFU",
    "mfu_full_attention": "MFU, full attention",
    "gpus": "GPUs",
    "micro_batch": "microbatch",
    "samples_per_s": "samples/s",
    "tokens_per_s_per_gpu": "tokens/s/GPU",
    "exposed_tp_s": "exposed TP",
    "exposed_cp_s": "exposed CP",
    "exposed_ep_s": "exposed EP",
    "exposed_pp_s": "exposed PP",
    "exposed_data_s": "exposed DP",
    "exposed_offload_s": "exposed offload",
    "allocated_memory_bytes_per_gpu": "allocated",
    "nvidia_smi_memory_bytes_per_gpu": "nvidia-smi",
    "host_memory_bytes_per_node": "host memory of a node",
    "nvme_memory_bytes_per_node": "NVMe of a node",
    "bubble_fraction": "bubble",
    "training_days": "days",
    "gpu_hours": "GPU-hours",
    "memory_bytes_per_gpu": "memory",
    "memory_budget_bytes": "memory budget",
    "memory_fits": "fits",
    "ttft_s": "TTFT",
    "tpot_s": "TPOT",
    "output_tokens_per_s": "output tokens/s",
    "output_tokens_per_s_per_user": "tokens/s/user",
    "output_tokens_per_s_per_gpu": "tokens/s/GPU",
    "prefill_tokens_per_s": "prompt tokens/s",
    "total_tokens_per_s": "tokens/s, prompts too",
    "speed_of_light_tokens_per_s_per_user": "bound of bandwidth and peak",
    "requests_per_s": "requests/s",
    "kv_bytes_per_token": "cache/token",
    "kv_cache": "KV cache",
    "kv_cache_memory_bytes": "KV cache",
    "most_sequences": "most sequences",
    "smallest_gpus": "fewest GPUs",
    "usd_per_step": "USD a step",
    "usd_per_run": "USD a run",
    "usd_per_million_output_tokens": "USD per million output tokens",
}

SHARES = ("mfu", "hfu", "mfu_full_attention", "bubble_fraction", "overlap")
"""Columns that hold fractions, beside all kinds of efficiency."""

TRAINING_TABLE = (
    *("model", "cluster", "gpus", "tp", "cp", "pp", "dp", "step_s", "compute_s", "exposed_communication_s"),
    *("bubble_fraction", "mfu", "memory_bytes_per_gpu", "memory_fits"),
)
INFERENCE_TABLE = (
    *(
        "model",
        "cluster",
        "runtime",
        "precision",
        "gpus",
        "tp",
        "pp",
        "batch",
        "prompt",
        "output",
        "prefill",
        "decodes",
    ),
    *("context", "ttft_s", "tpot_s", "output_tokens_per_s_per_user", "output_tokens_per_s_per_gpu", "step_s"),
    *("memory_bytes_per_gpu", "memory_fits"),
)
DEFAULT_TABLE = (
    "model",
    "cluster",
    "dtype",
    "tp",
    "dp",
    "step_s",
    "compute_s",
    "exposed_communication_s",
    "efficiency",
    "mfu",
)


def title(column: str) -> str:
    """Heading of a column."""
    plain = column.removeprefix("workload.").replace(".", " ").removesuffix("_s").replace("_", " ")
    if column.startswith("claimed_"):
        return f"{title(column.removeprefix('claimed_'))}, claimed"
    if column.endswith("_usd"):
        return plain.removesuffix(" usd") + " (USD)"
    return TITLES.get(column, plain)


def cell(column: str, value: Any) -> str:
    """A value as a table shows it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, (int, float)):
        return str(value)
    if is_share(column):
        return f"{100 * value:.1f} %"
    if "." in column and _figure_unit(column):
        return format_si(value, _figure_unit(column))
    if column == "training_days":
        return f"{value:,.0f} d" if value >= 100 else f"{value:.3g} d"
    if column in ("gpu_hours", "usd_per_run") or column.endswith("_usd"):
        return f"{value:,.0f}"
    if column.endswith(("_per_s", "tokens_per_s_per_gpu")):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    if column.endswith("_s"):
        return format_seconds(value)
    if "memory" in column and "bytes" in column:
        return f"{value / 2**30:.1f} GiB"  # as vendors count it and as capacities are given
    if "bytes" in column:
        return format_si(value, "B")
    if "flop_per_s" in column:
        return format_si(value, "FLOP/s")
    if column == "flop":
        return format_si(value, "FLOP")
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def cell_of(column: str, row: Mapping[str, Any]) -> str:
    """A value of a row with its P10 and P90 behind it, in the unit of the value: '1.3 ms (1.2-1.5)'."""
    text = cell(column, row.get(column))
    ends = interval_of(column, row)
    if ends is None or not text:
        return text
    number = text.partition(" ")[0]
    try:
        scale = float(number.replace(",", "")) / row[column]
    except ValueError:
        return text
    low, high = (f"{end * scale:,.0f}" if abs(end * scale) >= 100 else f"{end * scale:.3g}" for end in ends)
    return f"{text} ({low}-{high})"


def interval_of(column: str, row: Mapping[str, Any]) -> tuple[float, float] | None:
    """P10 and P90 of a value of a row; None where it has none, or is as sure as what was given."""
    value, low, high = (row.get(name) for name in (column, f"{column}_p10", f"{column}_p90"))
    if not all(isinstance(number, (int, float)) for number in (value, low, high)):
        return None
    assert value is not None and low is not None and high is not None
    return (low, high) if value and high - low > 1e-6 * abs(value) else None


def drawn_interval(column: str, row: Mapping[str, Any]) -> tuple[float, float] | None:
    """`interval_of` as a plot shows it: a share that is below 100 % is not drawn above."""
    ends = interval_of(column, row)
    if ends is None or not is_share(column):
        return ends
    return min(ends[0], row[column]), min(ends[1], max(1.0, row[column]))


def _figure_unit(column: str) -> str:
    """SI unit of a varied hardware parameter or operator field, by the end of its key; '' if it has none."""
    units = {"bandwidth": "B/s", "capacity": "B", "bytes": "B", "l2_cache": "B", "latency": "s", "time": "s"}
    units |= {"launch_overhead": "s", "boost_clock": "Hz", "tdp": "W"}
    last = column.split(".")[-1]
    return units.get(last) or units.get(last.rpartition("_")[2], "")


def is_share(column: str) -> bool:
    """Whether a column holds fractions that are read as percent."""
    return column.removeprefix("claimed_") in SHARES or column.endswith("efficiency")


def axis(column: str, values: Sequence[float]) -> tuple[str, float]:
    """Label with unit for an axis, and the factor that brings `values` into that unit."""
    name = title(column)
    name = name if name.isupper() else name[0].upper() + name[1:]
    if is_share(column):
        return f"{name} (%)", 100.0
    given = _figure_unit(column) if "." in column else ""
    if given in _SHOWN_IN:
        unit, scale = _SHOWN_IN[given]
        return f"{name} ({unit})", scale
    if given == "s" or (column.endswith("_s") and not column.endswith("_per_s")):
        largest = max(values, default=1.0)
        unit, scale = next(
            (u, s) for u, s in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)) if largest * s >= 1 or u == "ns"
        )
        return f"{name} ({unit})", scale
    if "memory" in column and "bytes" in column:
        return f"{name} (GiB)", 2.0**-30  # as `cell` prints it
    if "bytes" in column:
        return f"{name} (GB)", 1e-9
    if "flop_per_s" in column:
        return "TFLOP/s per GPU", 1e-12
    what = COUNTED.get(column.removeprefix("workload."))
    return (f"{name} ({what})" if what else name), 1.0


_SHOWN_IN = {"B/s": ("GB/s", 1e-9), "B": ("GB", 1e-9), "Hz": ("GHz", 1e-9), "W": ("W", 1.0)}
"""Units of hardware figures on an axis."""
COUNTED = {"batch": "sequences", "micro_batch": "sequences", "concurrency": "clients", "prompt": "tokens"}
COUNTED |= {"output": "tokens", "context": "tokens", "training_days": "days", "longest_context": "tokens"}
"""What a number without a unit in its name counts."""


def columns_of(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[str]:
    """Columns to show: those asked for, else the labels and the most telling numbers that the rows have."""
    if wanted:
        return list(wanted)
    from simgpu.result import COLUMNS

    labels = [key for key in rows[0] if key not in COLUMNS] if rows else []
    kinds: dict[str, tuple[str, ...]] = {"runtime": INFERENCE_TABLE, "memory_fits": TRAINING_TABLE}
    telling = next((table for key, table in kinds.items() if any(key in row for row in rows)), DEFAULT_TABLE)
    return labels + [column for column in telling if any(column in row for row in rows)]
