"""What a column of a claim can be: quantities by name, each with a dimension whose units may end a column's name.

`memory_bandwidth_tb_per_s` is the quantity `memory_bandwidth` in TB/s. The table is `quantities.csv`; a new quantity is
a new line. Inside everything is SI: bytes, seconds, FLOP/s, watts, USD per second, shares of 1.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from simgpu.errors import nearest
from simgpu.units import format_si

HOUR, DAY, YEAR = 3600.0, 86400.0, 365 * 86400.0
MONTH = 30 * DAY

UNITS: Mapping[str, Mapping[str, float]] = {
    "bytes": {"gb": 1e9, "gib": 2.0**30, "mb": 1e6, "mib": 2.0**20, "tb": 1e12, "kb": 1e3, "bytes": 1.0},
    "rate": {"gb_per_s": 1e9, "tb_per_s": 1e12, "mb_per_s": 1e6, "gbit_per_s": 1e9 / 8, "gib_per_s": 2.0**30},
    "flops": {"tflops": 1e12, "tops": 1e12, "gflops": 1e9, "pflops": 1e15},
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "min": 60.0, "hours": HOUR, "h": HOUR, "days": DAY, "months": YEAR / 12},
    "power": {"w": 1.0, "kw": 1e3, "mw": 1e6},
    "frequency": {"mhz": 1e6, "ghz": 1e9},
    "money": {"usd": 1.0},
    "money_rate": {
        "usd_per_h": 1 / HOUR, "usd_per_day": 1 / DAY, "usd_per_month": 1 / MONTH, "usd_per_year": 1 / YEAR,
    },
    "money_token": {"usd_per_m": 1e-6, "usd_per_million": 1e-6, "usd_per_1k": 1e-3, "usd_per_k": 1e-3},
    "money_image": {"usd_per_1k": 1e-3, "usd_per_image": 1.0},
    "money_energy": {"usd_per_kwh": 1 / 3.6e6},
    "token_rate": {"tokens_per_s": 1.0, "tok_per_s": 1.0},
    "token_money": {"tokens_per_s_per_usd": HOUR},
    "image_rate": {"per_s": 1.0, "per_min": 1 / 60, "per_h": 1 / HOUR},
    "share": {"fraction": 1.0, "percent": 0.01},
    "number": {"b": 1e9, "m": 1e6, "k": 1e3},
    "count": {},
    "bits": {"bit": 1.0},
    "flag": {},
    "flop_per_byte": {"flop_per_byte": 1.0},
    "per_s": {"gb_per_s_per_gb": 1.0},
    "flops_per_watt": {"tflops_per_w": 1e12, "gflops_per_w": 1e9},
    "per_byte_time": {"per_gb_year": 1e-9 / YEAR, "per_gb_month": 12e-9 / YEAR},
    "per_time": {"per_gpu_year": 1 / YEAR, "per_year": 1 / YEAR},
}  # fmt: skip
"""SI value of one unit, by dimension and by the end of a column's name."""

SHOWN = {
    "gb": "GB", "gib": "GiB", "mb": "MB", "bytes": "B", "gb_per_s": "GB/s", "tflops": "TFLOPS", "tops": "TOPS",
    "w": "W",
    "mhz": "MHz", "usd": "USD", "usd_per_h": "USD/h", "usd_per_m": "USD/M", "tokens_per_s": "tokens/s", "percent": "%",
    "usd_per_year": "USD/year", "usd_per_day": "USD/day", "usd_per_month": "USD/month", "b": "B",
    "bit": "bit",
    "usd_per_1k": "USD per 1,000", "per_s": "/s", "per_min": "/min", "flop_per_byte": "FLOP/B", "hours": "h",
    "gb_per_s_per_gb": "GB/s/GB", "tflops_per_w": "TFLOPS/W", "tokens_per_s_per_usd": "tokens/s per USD/h",
    "fraction": "", "per_gb_year": "/GB/year", "per_gb_month": "/GB/month", "per_gpu_year": "/GPU-year",
    "usd_per_kwh": "USD/kWh", "tb_per_s": "TB/s",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Quantity:
    """One quantity: name, dimension, the unit it is shown in, its role, other names, meaning.

    The role 'input' is a condition of a claim, not a claim: it is not judged.
    """

    name: str
    dimension: str
    unit: str
    role: str
    aliases: tuple[str, ...]
    meaning: str

    @property
    def exact(self) -> bool:
        """True if the quantity is counted, so that its last digit is not in doubt."""
        return self.dimension in ("count", "bits", "flag")

    @property
    def scale(self) -> float:
        """SI value of one of the unit it is shown in."""
        return UNITS[self.dimension].get(self.unit, 1.0)


def _read() -> dict[str, Quantity]:
    with Path(__file__).with_name("quantities.csv").open(encoding="utf-8", newline="") as stream:
        return {
            row["name"]: Quantity(
                row["name"], row["dimension"], row["unit"], row["role"],
                tuple(row["aliases"].split("|")) if row["aliases"] else (), row["meaning"],
            )
            for row in csv.DictReader(stream)
        }  # fmt: skip


TABLE: Mapping[str, Quantity] = _read()
"""All quantities by name."""


def _columns() -> dict[str, tuple[Quantity, float]]:
    """Every name of a column, with the quantity and the SI value of one of its unit; bare names first come first."""
    found: dict[str, tuple[Quantity, float]] = {}
    for one in TABLE.values():
        found[one.name] = (one, one.scale)
    for one in TABLE.values():
        for alias in one.aliases:
            if alias:
                found.setdefault(alias, (one, one.scale))
    for one in TABLE.values():
        for unit, factor in UNITS[one.dimension].items():
            for base in (one.name, *one.aliases):
                found.setdefault(f"{base}_{unit}" if base else unit, (one, factor))
    for unit, base in (("tflops", "achieved"), ("tokens_per_s", "tokens_per_s"), ("bytes", "payload")):
        found[unit] = (TABLE[base], UNITS[TABLE[base].dimension][unit])
    return found


COLUMNS: Mapping[str, tuple[Quantity, float]] = _columns()


def quantity_of(column: str) -> tuple[Quantity, float]:
    """The quantity of a column's name, and the SI value of one of its unit. Raises `ValueError` for unknown names.

    >>> quantity_of("memory_bandwidth_tb_per_s")[1], quantity_of("usd_per_m")[0].name
    (1000000000000.0, 'usd_per_token')
    """
    known = COLUMNS.get(column)
    if known is None:
        base = max((one for one in TABLE if column.startswith(one + "_")), key=len, default="")
        units = ", ".join(UNITS[TABLE[base].dimension]) if base else ""
        hint = f"; {base} can be in {units}" if units else nearest(column, COLUMNS, 0) or "; docs/claims.md lists them"
        raise ValueError(f"is no quantity{hint}")
    return known


def show(value: float, quantity: Quantity, unit: str | None = None) -> str:
    """A value of SI as people print that quantity.

    >>> show(3.35e12, TABLE["memory_bandwidth"]), show(0.00086 / 1e6, TABLE["usd_per_token"])
    ('3350 GB/s', '0.00086 USD/M')
    """
    if quantity.dimension == "flag":
        return "yes" if value else "no"
    unit = quantity.unit if unit is None else unit
    scale = UNITS[quantity.dimension].get(unit, 1.0)
    if (
        quantity.dimension == "time"
        and unit not in ("hours", "h", "days", "months")
        and value == value
        and abs(value) < 1e4
    ):
        return format_si(value, "s")
    text = f"{value / scale:.4g}"
    if "e+" in text:
        text = f"{value / scale:.0f}"
    return f"{text} {SHOWN.get(unit, unit)}".rstrip()
