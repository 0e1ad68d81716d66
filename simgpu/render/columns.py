"""Names and values of columns as people read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from simgpu.columns import COLUMNS, TABLE, unit
from simgpu.units import UNITS, format_seconds, format_si, format_span

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


SHARED_TABLE = (
    *("model", "cluster", "sharing", "gpus", "requests_per_s", "capacity_per_s", "offered_load", "load_limit"),
    *("latency_50th_s", "latency_99th_s", "stages_99th", "slowdown", "memory_bytes_per_gpu", "memory_fits"),
)
STREAMS_TABLE = (
    *("model", "cluster", "dtype", "gpus", "streams", "decode_streams", "detect_streams", "encode_streams"),
    *("video_limit", "power_w_per_gpu", "power_w_per_stream", "memory_bytes_per_gpu", "memory_fits"),
)
DATA_TABLE = (
    *("model", "cluster", "dtype", "gpus", "step_s", "images_per_s", "tokens_per_s", "data_wait_s"),
    *("data_samples_per_s", "data_limit", "data_buys", "memory_bytes_per_gpu", "memory_fits"),
)

OPERATIONS_TABLE = (
    *("usd_per_gpu_hour", "usd_per_step", "usd_per_image", "usd_per_million_output_tokens"),
    *("usd_per_stream_hour", "usd_per_thousand_requests"),
    *("usd_per_million_input_tokens", "usd_per_run", "training_goodput", "training_days_with_failures"),
    "usd_per_run_with_failures",
)
"""What is added where a scenario asks for cost."""

LISTED_TABLE = (
    *("usd_per_step", "usd_per_image", "usd_per_million_output_tokens", "usd_per_run", "training_goodput"),
    *("usd_per_stream_hour", "usd_per_thousand_requests"),
    "training_days_with_failures",
)
"""What is added where it does not: what the job costs at the listed price, and failures where it asks for them."""


def title(column: str) -> str:
    """Heading of a column."""
    if column.endswith("gpu.power.tdp"):
        return "power limit"
    plain = column.removeprefix("workload.").replace(".", " ").removesuffix("_s").replace("_", " ")
    if column.startswith("claimed_"):
        return f"{title(column.removeprefix('claimed_'))}, claimed"
    if column.endswith("_kw"):
        return plain.removesuffix(" kw") + " (kW)"
    if column.endswith("_usd"):
        return plain.removesuffix(" usd") + " (USD)"
    if column == "lost_by":
        return "slower than best by"
    return TABLE[column].title if column in TABLE else plain.replace("kwh ", "kWh ")


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
    unit_of_column = unit(column)
    if column in TABLE and TABLE[column].jobs == "operations" and unit_of_column == "s":
        return format_span(value)
    if column.startswith("usd_per_run") or column.endswith("_usd"):
        return f"{value:,.0f}"
    if unit_of_column in _PRINTED:
        return _PRINTED[unit_of_column](value)
    if isinstance(value, float) and 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def cell_of(column: str, row: Mapping[str, Any]) -> str:
    """A value of a row with its P10 and P90 behind it, in the unit of the value: '1.3 ms (1.2-1.5)'.

    Of memory that may or may not suffice the probability that it does stands there: 'tight, 16 %'. Of a server that
    may or may not keep up the range stands there alone, '0.4 s to 9.1 s', and '-' where there is none.
    """
    if column == "memory_fits" and row.get("memory_verdict") == "tight":
        return f"tight, {100 * row['fit_probability']:.0f} %"
    text = cell(column, row.get(column))
    if not text and column.startswith("usd_") and row.get("price_used"):
        return "-"  # the price says why
    ends = interval_of(column, row)
    if unsure(row) and column in MAGNIFIED:
        return "-"
    if unsure(row) and ends is not None:
        return f"{cell(column, ends[0])} to {cell(column, ends[1])}"
    if ends is None or not text:
        return text
    number, _, shown_in = text.partition(" ")
    if not number[-1].isdigit():  # 'never'
        return text
    scale = 1.0 / (86400.0 if shown_in == "d" and unit(column) == "s" else _SHOWN_UNITS.get(shown_in, 1.0))
    low, high = (_end(end * scale, row[column] * scale, number) for end in ends)
    return f"{text} ({low}-{high})"


def _end(end: float, value: float, shown: str) -> str:
    """An end of an interval in three digits; in four, or as the value, where rounding puts it on its other side."""
    whole = f"{end:,.0f}" if abs(end) >= 100 else f"{end:.3g}"
    number = float(shown.replace(",", ""))
    for text in (whole, f"{end:.4g}"):
        rounded = float(text.replace(",", ""))
        if (rounded <= number) if end <= value else (rounded >= number):
            return text
    return shown


_SHOWN_UNITS = {name: factor for name, (_, factor) in UNITS.items()} | {"%": 0.01, "min": 60.0, "kJ": 1e3}
"""What one of a unit behind a value is in the unit of its column."""

MAGNIFIED = ("waiting", "running", "cache_use", "most_cache_use", "preemptions", "duration_s", "busy", "hit_rate")
"""Columns without an interval that depend on whether a server keeps up."""


def unsure(row: Mapping[str, Any]) -> bool:
    """True if a server keeps up with its load at one end of the interval and falls behind at the other."""
    return row.get("stationary") == "unsure"


def interval_of(column: str, row: Mapping[str, Any]) -> tuple[float, float] | None:
    """P10 and P90 of a value of a row; None where it has none, or is as sure as the input."""
    value, low, high = (row.get(name) for name in (column, f"{column}_p10", f"{column}_p90"))
    if not all(isinstance(number, (int, float)) for number in (value, low, high)):
        return None
    assert value is not None and low is not None and high is not None
    return (low, high) if value and high - low > 1e-6 * abs(value) else None


def drawn_interval(column: str, row: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval of `interval_of` as a plot shows it: a share that is below 100 % is not drawn above."""
    ends = interval_of(column, row)
    if ends is None or not is_share(column):
        return ends
    return min(ends[0], row[column]), min(ends[1], max(1.0, row[column]))


def _figure_unit(column: str) -> str:
    """SI unit of a varied hardware parameter or operator field, by the end of its key; '' if it has none."""
    units = {"bandwidth": "B/s", "capacity": "B", "bytes": "B", "l2_cache": "B", "latency": "s", "time": "s"}
    units |= {"launch_overhead": "s", "boost_clock": "Hz", "tdp": "W", "interval": "s"}
    last = column.split(".")[-1]
    return units.get(last) or units.get(last.rpartition("_")[2], "")


def is_share(column: str) -> bool:
    """True if a column holds fractions that are read as percent."""
    return unit(column) == "share"


def axis(column: str, values: Sequence[float]) -> tuple[str, float]:
    """Label with unit for an axis, and the factor that brings `values` into that unit."""
    name = title(column)
    name = name if name.isupper() else name[0].upper() + name[1:]
    if is_share(column):
        return f"{name} (%)", 100.0
    given = _figure_unit(column) if "." in column else ""
    if given in _SHOWN_IN:
        shown, scale = _SHOWN_IN[given]
        return f"{name} ({shown})", scale
    si_unit = given or unit(column)
    if si_unit == "s":
        largest = max(values, default=1.0)
        shown, scale = next(
            (u, s) for u, s in (("s", 1.0), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)) if largest * s >= 1 or u == "ns"
        )
        return f"{name} ({shown})", scale
    if si_unit in _ON_AXES:
        shown, scale = _ON_AXES[si_unit]
        return f"{name} ({shown})", scale
    if si_unit == "FLOP/s":
        return "TFLOP/s per GPU", 1e-12
    counted = _ASKED.get(column) or unit(column.removeprefix("workload."))
    return (f"{name} ({counted})" if counted in _COUNTED and counted not in name.lower() else name), 1.0


_SHOWN_IN = {"B/s": ("GB/s", 1e-9), "B": ("GB", 1e-9), "Hz": ("GHz", 1e-9), "W": ("W", 1.0)}
"""Units of hardware figures on an axis."""
_ON_AXES = {"GiB": ("GiB", 2.0**-30), "B": ("GB", 1e-9), "W": ("W", 1.0), "J": ("J", 1.0), "kWh": ("kWh", 1.0)}
_ASKED = {"workload.rate": "requests/s", "workload.end_rate": "requests/s"}
"""Units of what a job asks for and no result repeats."""
_COUNTED = ("sequences", "clients", "tokens", "days", "requests/s", "requests")
"""Units of counts, which stand beside the name on an axis."""


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


_PRINTED: dict[str, Callable[[float], str]] = {
    "days": lambda value: f"{_rate(value)} d",
    "GPU-hours": lambda value: f"{value:,.0f}",
    **dict.fromkeys(("tokens/s", "tokens/s/GPU", "requests/s", "samples/s", "1/s"), _rate),
    "s": format_seconds,
    "W": lambda value: f"{value:,.0f} W" if value < 1e4 else f"{value / 1e3:,.4g} kW",
    "J": lambda value: f"{value:.3g} J" if value < 1e3 else f"{value / 1e3:,.4g} kJ",
    "kWh": lambda value: f"{_rate(value)} kWh",
    "kg": lambda value: f"{_rate(value)} kg",
    "kg/h": lambda value: f"{_rate(value)} kg/h",
    "GiB": lambda value: f"{value / 2**30:.1f} GiB",  # as vendors count it and as capacities are given
    "B": lambda value: format_si(value, "B"),
    "FLOP/s": lambda value: format_si(value, "FLOP/s"),
    "FLOP": lambda value: format_si(value, "FLOP"),
}
"""Functions that print values of a unit in tables."""


def columns_of(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[str]:
    """Columns to show: those asked for, else the labels and the most telling numbers that the rows have."""
    if wanted:
        return list(wanted)
    labels = [key for key in rows[0] if key not in COLUMNS] if rows else []
    kinds: dict[str, tuple[str, ...]] = {
        "runtime": INFERENCE_TABLE, "sharing": SHARED_TABLE, "streams": STREAMS_TABLE, "data_limit": DATA_TABLE,
        "memory_fits": TRAINING_TABLE,
    }  # fmt: skip
    telling = next((table for key, table in kinds.items() if any(key in row for row in rows)), DEFAULT_TABLE)
    operations = OPERATIONS_TABLE if any("fixed_usd_per_h" in row for row in rows) else LISTED_TABLE
    found = [column for column in (*telling, *operations) if any(column in row for row in rows)]
    return labels + found
