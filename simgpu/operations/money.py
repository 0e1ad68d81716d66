"""Columns of cost of a row: USD of a step, a run, a million tokens, an image, at what a GPU-hour costs."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.columns import COST_PARTS, following_ends
from simgpu.hardware.cluster import Cluster
from simgpu.operations.cost import break_even_utilisation, payback_years, usd_per_million
from simgpu.operations.fields import CostFields
from simgpu.operations.fitting import MISFIT, fits
from simgpu.operations.hourly import Priced, listed_hour, priced_hour
from simgpu.operations.power.fields import USUAL_PUE


def of_jobs(row: Mapping[str, Any], usd_per_gpu_hour: float) -> dict[str, float]:
    """What a job costs at USD of a GPU-hour: of a step and a run of known length, of a million tokens, of an image.

    An hour has one price, and its tokens share it: `usd_per_million_output_tokens` gives all of it to the output,
    `usd_per_million_tokens` to prompts and output alike; by time, prompts pay for the seconds of prefill
    (`usd_per_million_input_tokens`) and output tokens for the rest (`usd_per_million_decoded_tokens`).
    """
    rate = row.get("output_tokens_per_s_per_gpu")
    if rate:
        cost = {"usd_per_million_output_tokens": usd_per_million(usd_per_gpu_hour, rate)}
        if row.get("sessions_per_s"):
            cost["usd_per_session"] = usd_per_gpu_hour * row["gpus"] / 3600 / row["sessions_per_s"]
        return {**cost, **_by_time(row, usd_per_gpu_hour)}
    if row["workload"] == "shared":
        rate = row["requests_per_s"]
        return {"usd_per_thousand_requests": usd_per_gpu_hour * row["gpus"] / 3.6 / rate} if rate else {}
    cost = {"usd_per_step": usd_per_gpu_hour / 3600 * row["gpus"] * row["step_s"]}
    if "gpu_hours" in row:
        cost["usd_per_run"] = usd_per_gpu_hour * row["gpu_hours"]
    if row.get("images_per_s"):
        cost["usd_per_image"] = usd_per_gpu_hour * row["gpus"] / 3600 / row["images_per_s"]
    if row.get("streams"):
        cost["usd_per_stream_hour"] = usd_per_gpu_hour * row["gpus"] / row["streams"]
    return cost


def _by_time(row: Mapping[str, Any], usd_per_gpu_hour: float) -> dict[str, float]:
    """The same hour shared by the time that prompts and output tokens take; of a million of all tokens too."""
    total, busy = row.get("total_tokens_per_s"), row.get("prefill_tokens_per_s")
    if not total:
        return {}
    output, hour = row["output_tokens_per_s_per_gpu"] * row["gpus"], usd_per_gpu_hour * row["gpus"]
    found = {"usd_per_million_tokens": usd_per_million(hour, total)}
    prompts = total - output
    if busy and prompts > 0:
        share = min(prompts / busy, 1.0)
        found["usd_per_million_input_tokens"] = usd_per_million(hour * share, prompts)
        found["usd_per_million_decoded_tokens"] = usd_per_million(hour * (1.0 - share), output)
    return found


def priced(row: Mapping[str, Any], price: float | None) -> Mapping[str, Any]:
    """The row with its costs at `price` USD per GPU-hour; as it is without one, or where it does not fit the memory."""
    if price is None or not fits(row):
        return row
    kept = {name: value for name, value in row.items() if not name.startswith("usd_per_")}
    cost = {"usd_per_gpu_hour": price, **of_jobs(row, price)}
    return {**kept, **cost, **following_ends({**kept, **cost})}


def asked(row: Mapping[str, Any]) -> bool:
    """True if the cost of a row is what its scenario asks for, not what it would be at the listed price."""
    return "fixed_usd_per_h" in row


def listed_columns(row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue) -> dict[str, Any]:
    """What a job whose scenario says nothing of cost costs at the listed price of its GPUs on demand.

    `price_used` names the quote, or says why there is none: nothing is asked for, so that nothing is an error.
    """
    if not fits(row):
        return {"price_used": MISFIT}
    hour, words = listed_hour(row, cluster, catalogue)
    return {"price_used": words, **({"usd_per_gpu_hour": hour, **of_jobs(row, hour)} if hour is not None else {})}


def cost_columns(
    fields: CostFields, row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue, pue: float = USUAL_PUE
) -> tuple[dict[str, Any], Priced | None]:
    """Columns of the cost of a row, and the price of its hour. Raises `InputError` where a price is missing.

    A job that does not fit the memory has no cost, and says so.
    """
    if not fits(row):
        return {"price_used": MISFIT}, None
    found = priced_hour(fields, row, cluster, catalogue, pue)
    hour, gpus = found.hourly, row["gpus"]
    columns: dict[str, Any] = {
        "price_used": found.words,
        "utilisation": hour.utilisation,
        "usd_per_gpu_hour": hour.used,
        "fixed_usd_per_h": hour.fixed * gpus,
        "energy_usd_per_h": hour.energy * gpus,
        "idle_usd_per_h": hour.idle * gpus,
        "tenants": round(1.0 / found.share),
    }
    shares = hour.shares()
    columns |= {f"{part}_usd_per_gpu_hour": shares[part] for part in COST_PARTS if part in shares}
    columns |= of_jobs(row, hour.used)
    if found.owned is not None and found.rent is not None:
        even = break_even_utilisation(hour.fixed, hour.energy, found.rent, hour.idle)
        columns["rent_compared"] = found.rent_words
        columns["rent_compared_usd_per_gpu_hour"] = found.rent
        years = payback_years(found.owned, found.draw.watts, found.draw.idle_watts, found.rent, hour.utilisation)
        known = {"break_even_utilisation": even, "payback_years": years}
        columns |= {name: value for name, value in known.items() if isfinite(value)}
    return columns, found
