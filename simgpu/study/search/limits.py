"""Limits of a search: columns of a row with their upper or lower limits, in the unit that readers use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

from simgpu.columns import FOLLOWS, UNCERTAIN, better
from simgpu.errors import InputError, nearest, shown
from simgpu.operations.quality import COLUMN, LIMIT
from simgpu.operations.quantities import share_of
from simgpu.units import parse_quantity, to_si

TRAINING = (
    *("step_s", "training_days", "gpu_hours", "usd_per_step", "usd_per_run", "samples_per_s", "tokens_per_s"),
    *("tokens_per_s_per_gpu", "memory_bytes_per_gpu"),
    *("power_w_per_gpu", "energy_j_per_step", "energy_j_per_token"),
)
"""Columns that can have a limit in training: those that follow from the time of a step, and memory."""

SERVING = {
    "serving": ("ttft_s", "tpot_s", "step_s"),
    "inference": ("ttft_s", "tpot_s", "step_s", "prefill_s", "decode_s"),
    "traffic": (
        *("ttft_s", "tpot_s", "step_s", "itl_s"),
        *(f"{kind}_{share}th_s" for kind in ("ttft", "tpot", "itl", "e2e") for share in (50, 90, 95, 99)),
    ),
}
"""Times that a limit of inference can be set to: to the first token, between tokens, end to end, and of its phases."""

ENERGY = ("power_w_per_gpu", "energy_j_per_token", "energy_j_per_request", "tokens_per_j")
"""Columns of power and energy that can have a limit in inference."""

DAY = 86400.0
_NUMBER = r"\$?\s*(?P<number>\d[\d,_]*\.?\d*(?:[eE][-+]?\d+)?)\s*(?P<scale>[kKM]?)\s*"
_SCALES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6}
_RATES = {
    "samples_per_s": ("samples/s", "sequences/s", "images/s"),
    "requests_per_s": ("requests/s",),
    "_per_s_per_user": ("tokens/s/user", "tokens/s"),
    "_per_s_per_gpu": ("tokens/s/gpu", "tokens/s"),
    "tokens_per_s": ("tokens/s",),
}
"""Units of rates, by how the name of the column ends."""

_PLAIN = {
    **dict.fromkeys(("energy_j_per_step", "energy_j_per_token", "energy_j_per_request"), (("j",), "0.5 J")),
    "tokens_per_j": (("tokens/j",), "10 tokens/J"),
    "gpu_hours": (("gpu-hours", "gpu-hour", "gpu-h", "h"), "5000 GPU-hours"),
    "usd": (("usd",), "20000 USD"),
}


def ends_of(column: str) -> list[str]:
    """A column, and the end of its interval that is worse: P90 of times and costs, P10 of rates."""
    certain = column not in UNCERTAIN and column not in FOLLOWS
    worse = "p10" if better(column) == "higher" else "p90"
    return [column] if certain else [column, f"{column}_{worse}"]


def plain(column: str) -> str:
    """A column without the end of its interval."""
    return column.removesuffix("_p10").removesuffix("_p90")


def at_least(column: str) -> bool:
    """True if a limit of a column is a lower limit, as for rates."""
    return better(column) == "higher"


def limits_of(written: Mapping[str, Any], columns: Sequence[str], price: float | None) -> dict[str, float]:
    """Limits as numbers of their columns.

    Raises `InputError` for columns outside `columns`, for another unit, and for costs without a price.
    """
    known = [end for column in columns for end in ends_of(column)]
    limits: dict[str, float] = {}
    for column, value in written.items():
        key = f"search.limits.{column}"
        if column not in known:
            problem = f"{shown(column)} cannot be limited in this search{nearest(column, known, most=0)}"
            raise InputError(f"{problem}; expected one of {', '.join(known)}", key=key)
        if plain(column).startswith("usd_") and price is None:
            problem = f"{shown(value)}: a limit of cost needs a price; expected search.price too, in USD per GPU-hour"
            problem += ", or cost in the scenario"
            raise InputError(problem, key=key)
        if column == LIMIT:
            limits[COLUMN] = share_of(value, key, above=True)
        else:
            limits[column] = _number(column, value, key)
    return limits


def within(row: Mapping[str, Any], limits: Mapping[str, float]) -> bool:
    """True if times, costs and sizes are no more, and rates no less, than the limits."""
    found = ((row.get(column), limit, at_least(column)) for column, limit in limits.items())
    return all(value is not None and (value >= limit if least else value <= limit) for value, limit, least in found)


@dataclass(frozen=True)
class StepLimits:
    """Limits of training, and the numbers that turn them into seconds of a step.

    These are samples and tokens of a step and of a whole run.
    """

    limits: Mapping[str, float]
    samples: float
    tokens: float
    train_tokens: float | None
    price: float | None

    def most_seconds(self, gpus: int) -> float:
        """The longest step on `gpus` GPUs that may keep the limits: the worse end of an interval is no better."""
        hour = 3600.0
        steps = self.train_tokens / self.tokens if self.train_tokens else inf
        most = {
            "step_s": lambda limit: limit,
            "training_days": lambda limit: limit * DAY / steps,
            "gpu_hours": lambda limit: limit * hour / steps / gpus,
            "usd_per_step": lambda limit: limit * hour / (self.price or 0.0) / gpus,
            "usd_per_run": lambda limit: limit * hour / (self.price or 0.0) / steps / gpus,
            "samples_per_s": lambda limit: self.samples / limit,
            "tokens_per_s": lambda limit: self.tokens / limit,
            "tokens_per_s_per_gpu": lambda limit: self.tokens / limit / gpus,
        }
        bounds = ((most.get(plain(column)), limit) for column, limit in self.limits.items())
        return min((of(limit) for of, limit in bounds if of is not None), default=inf) * (1 + 1e-12)

    @property
    def most_memory(self) -> float:
        """Bytes of a GPU that a plan may take."""
        return self.limits.get("memory_bytes_per_gpu", inf)


def _number(column: str, limit: Any, key: str) -> float:
    """'10 days' of `training_days` is 10; '2 s' of a time are seconds. A number is in the unit of the column."""
    value, example = _parsed(plain(column), limit)
    if value is None or not isfinite(value) or value <= 0:
        problem = f"{shown(limit)} is not a limit of '{plain(column)}'; expected a positive number, such as '{example}'"
        raise InputError(problem, key=key)
    return value


def _parsed(column: str, text: Any) -> tuple[float | None, str]:
    """The number of a column that a text means, None if it means none, and an example."""
    units, example = _units(column)
    if isinstance(text, (int, float)) and not isinstance(text, bool):
        return float(text), example
    if not isinstance(text, str) or len(text) > 100:
        return None, example
    if units:
        unit = re.fullmatch(_NUMBER + r"(?P<unit>[A-Za-z/-]*)", text.strip())
        if unit is None or unit["unit"].lower() not in ("", *units):
            return None, example
        return float(unit["number"].replace(",", "").replace("_", "")) * _SCALES[unit["scale"]], example
    try:
        return _measured(column, text), example
    except ValueError:
        return None, example


def _measured(column: str, given: str) -> float:
    """A time in seconds or days, or a size in bytes."""
    value, unit = parse_quantity(given)
    if "bytes" in column:
        return to_si(value, unit, "B")
    if column.startswith("power_"):
        return to_si(value, unit, "W")
    days = column.endswith("_days")
    if unit in ("d", "day", "days") or (not unit and days):
        seconds = value * DAY
    else:
        seconds = value * 60.0 if unit == "min" else to_si(value, unit, "s")
    return seconds / DAY if days else seconds


def _units(column: str) -> tuple[tuple[str, ...], str]:
    """Units of counts, costs and rates, in small letters; none of times and sizes. With an example."""
    for end, units in _RATES.items():
        if column.endswith(end):
            return units, f"30 {units[0].replace('gpu', 'GPU')}"
    if column.startswith("usd_"):
        return _PLAIN["usd"]
    if column in _PLAIN:
        return _PLAIN[column]
    if "bytes" in column:
        return (), "70 GiB"
    if column.startswith("power_"):
        return (), "600 W"
    return (), "10 days" if column.endswith("_days") else "2 s"
