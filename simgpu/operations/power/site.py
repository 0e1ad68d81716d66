"""From the GPU to the meter of the site: node, PUE, energy and CO2 of a run.

    node = GPUs x power + share x overhead        site = nodes x node x PUE
    kWh  = site x hours                           CO2  = kWh x grid

CO2 is operational and location-based: of the electricity, by the mean of the country's grid in a year. Making the
machines is another sum, which `embodied_kg` spreads over their life.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import exp, log, sqrt
from typing import Any

from simgpu.hardware.cluster import Cluster
from simgpu.operations.fitting import MISFIT, fits
from simgpu.operations.power.fields import PowerFields

BASE_SHARE = 0.61
"""What a node draws beside its GPUs, over the overhead of its rating: an HGX H100 rated at 10.2 kW draws 8.4 kW with
its GPUs near full load, 2.8 of 4.6 kW (Latif et al., arXiv:2412.08602)."""

HYPOTHETICAL = "hypothetical: it does not fit the memory"
"""What stands for the source of the levels of a job that cannot run."""

KWH = 3.6e6
"""J of a kWh."""

DAY = 86_400.0


def node_base(cluster: Cluster, peak: bool = False) -> float:
    """W that a node draws beside its GPUs under load; at most, as its rating has it, with `peak`."""
    overhead = cluster.node.power.overhead.si if cluster.node.power else 0.0
    return overhead if peak else BASE_SHARE * overhead


def site_columns(fields: PowerFields, row: Mapping[str, Any], cluster: Cluster) -> dict[str, Any]:
    """Columns of the node, the site, and energy and CO2 of a run, with P10 and P90.

    A job that leaves GPUs of a node out has its share of what the node draws beside them. One that does not fit the
    memory has none of these, and says so, of its power too.
    """
    if not fits(row):  # its power and time are hypothetical
        return {"grid_used": MISFIT, "power_regime": HYPOTHETICAL}
    per_node, gpus = cluster.gpus_per_node, int(row["gpus"])
    base = node_base(cluster)
    found: dict[str, Any] = {}
    for end in ("", "_p10", "_p90"):
        node = per_node * row[f"power_w_per_gpu{end}"] + base
        found[f"node_power_w{end}"] = node
        found[f"site_power_w{end}"] = site = node * gpus / per_node * fields.pue
        found[f"co2_kg_per_h{end}"] = site * fields.carbon * 3600 / KWH / 1000
    found["grid_used"] = fields.words
    if row["workload"] in ("serving", "traffic"):
        return found
    seconds = row["training_days"] * DAY if row.get("training_days") else row["step_s"]
    for end in ("", "_p10", "_p90"):
        power = found[f"site_power_w{end}"] / found["site_power_w"]
        time = row[f"step_s{end}"] / row["step_s"]
        width = exp((1 if end == "_p90" else -1) * sqrt(log(power) ** 2 + log(time) ** 2)) if end else 1.0
        kwh = found["site_power_w"] * seconds / KWH * width
        found[f"energy_kwh_per_run{end}"] = kwh
        found[f"co2_kg_per_run{end}"] = kwh * fields.carbon / 1000
    return found


def embodied_kg(made_kg: float, life_s: float, seconds: float) -> float:
    """CO2 of making machines, `made_kg`, that falls to `seconds` of a life of `life_s`, kg: an even share."""
    return made_kg * seconds / life_s
