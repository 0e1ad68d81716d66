"""How many nodes a rack takes and how many GPUs a site takes, by power, height and cooling; and at which cap.

    nodes of a rack = least of  floor(power x derating / node peak), floor(height / node height),
                                floor(cooling / node peak)
    nodes of a site = floor(power / (node peak x PUE))

The peak of a node is its GPUs at their limit (or at the P99 of what they draw, where it is given) and its rated
overhead: a breaker does not know of means.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import Any

from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.operations.fitting import fits
from simgpu.operations.power.fields import PowerFields, RackFields
from simgpu.operations.power.site import node_base


@dataclass(frozen=True)
class Filled:
    """Nodes of a rack, and what there is no more of: power, height or cooling."""

    nodes: int
    bound: str


def node_peak(cluster: Cluster, gpu_w: float | None = None) -> float:
    """W of a node at its peak: GPUs at `gpu_w`, by default at their limit, and its rated overhead."""
    each = cluster.gpu.power.tdp.si if gpu_w is None else gpu_w
    return cluster.gpus_per_node * each + node_base(cluster, peak=True)


def filled(rack: RackFields, peak_w: float) -> Filled:
    """The nodes of `peak_w` W that a rack takes. Raises `InputError` (key only) where it takes none."""
    usable, switches = rack.power * rack.derating, rack.switches or 0.0
    counts = {
        "power": floor((usable - switches) / peak_w + SLACK),
        "height": rack.units // rack.node_units,
        "cooling": floor(((rack.cooling or usable) - switches) / peak_w + SLACK),
    }
    bound = min(counts, key=lambda name: counts[name])
    if counts[bound] < 1:
        problem = f"a node of {peak_w / 1e3:.1f} kW and {rack.node_units} units does not fit a rack"
        raise InputError(f"{problem} of {usable / 1e3:.1f} kW and {rack.units} units ({bound})", key="power.rack")
    return Filled(counts[bound], bound)


SLACK = 1e-9
"""Of a node that rounding may take from a budget that is exactly enough."""


def fleet_columns(fields: PowerFields, row: Mapping[str, Any], cluster: Cluster) -> dict[str, Any]:
    """Columns of the rack and of the fleet under a budget, where the site says these. Raises `InputError` (key only).

    A fleet runs as many copies of the job as its GPUs allow, all at once; none of one that does not fit the memory.
    """
    if not fits(row):
        return {}
    peak = node_peak(cluster)
    found: dict[str, Any] = {}
    if fields.rack is not None:
        rack = filled(fields.rack, peak)
        found = {"nodes_per_rack": rack.nodes, "rack_bound": rack.bound, "rack_peak_w": rack.nodes * peak}
    if fields.budget is not None:
        nodes = floor(fields.budget / (peak * fields.pue) + SLACK)
        if nodes < 1:
            problem = (
                f"{fields.budget / 1e3:g} kW are not enough for a node of {peak / 1e3:.1f} kW at PUE {fields.pue:g}"
            )
            raise InputError(problem, key="power.budget")
        gpus = nodes * cluster.gpus_per_node
        found["fleet_gpus"] = gpus
        rate = next((row[name] for name in RATES if row.get(name)), None)
        if rate is not None:
            found["fleet_rate_per_s"] = gpus / row["gpus"] * rate
    return found


RATES = ("output_tokens_per_s", "tokens_per_s", "total_tokens_per_s", "items_per_s")
"""What a job gets done in a second, by the first of these columns that it has."""
