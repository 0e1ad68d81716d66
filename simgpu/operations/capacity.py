"""How many machines a load takes: from users to requests a second, replicas, GPUs, nodes, racks, kW and USD a month."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, floor, inf
from typing import Any

from simgpu.errors import InputError
from simgpu.operations.power.fields import USUAL_PUE
from simgpu.operations.quantities import MONTH_HOURS
from simgpu.operations.spares import replicas_for


@dataclass(frozen=True)
class Demand:
    """A load as people name it; one of users with their think time, requests in flight, or requests a second.

    users
        Open conversations: each asks, waits for the answer, and thinks for `think` s before it asks again.
    in_flight
        Requests that are worked on at a time.
    rate
        Requests a second.
    peak
        The busiest hour over the mean.
    """

    users: float | None = None
    think: float | None = None
    in_flight: float | None = None
    rate: float | None = None
    peak: float = 1.0

    def check(self) -> None:
        """Raise `InputError` where it is not clear how many requests are meant: 'users' alone has three meanings."""
        given = [name for name in ("users", "in_flight", "rate") if getattr(self, name) is not None]
        if not given:
            raise InputError("no load; expected --users with --think-time, --in-flight or --rate", key="--users")
        if len(given) > 1:
            names = " and ".join("--" + name.replace("_", "-") for name in given)
            raise InputError(f"{names} are given; expected one of them", key="--" + given[-1].replace("_", "-"))
        if self.users is not None and self.think is None:
            problem = f"{self.users:,g} users may be open conversations, requests in flight, or requests a second"
            raise InputError(f"{problem}; expected --think-time too, or --in-flight, or --rate instead", key="--users")
        if self.think is not None and self.users is None:
            raise InputError("is of users; expected --users too", key="--think-time")

    def requests_per_s(self, latency: float) -> float:
        """Requests a second at the peak, where an answer takes `latency` s (Little's law; the response time law).

        users / (think + latency), in flight / latency, or the rate itself.
        """
        if self.users is not None:
            return self.peak * self.users / ((self.think or 0.0) + latency)
        if self.in_flight is not None:
            return self.peak * self.in_flight / latency
        return self.peak * (self.rate or 0.0)


@dataclass(frozen=True)
class Replica:
    """What one replica does: the largest requests/s within limits, s of an answer there, sequences that it holds."""

    largest: float
    latency: float
    holds: float
    gpus: int


@dataclass(frozen=True)
class Availability:
    """How often a replica is up, and how sure it shall be that enough are: mean times to fail and to repair, s."""

    mtbf: float = inf
    mttr: float = 0.0
    target: float = 0.0

    @property
    def up(self) -> float:
        """The share of the time that a replica is up."""
        return 1.0 if self.mtbf == inf else self.mtbf / (self.mtbf + self.mttr)


@dataclass(frozen=True)
class Replicas:
    """How many replicas a load takes, and why.

    binds
        What sets their number: load, memory, availability, or the fewest that are kept warm.
    """

    requests_per_s: float
    in_flight: float
    by_load: int
    by_memory: int
    needed: int
    total: int
    binds: str


def replicas(
    demand: Demand, one: Replica, headroom: float = 1.0, availability: Availability | None = None, warm: int = 1
) -> Replicas:
    """The replicas that a load takes: enough for its requests, for their caches, and for those that are down.

    Parameters
    ----------
    headroom : the share of a replica's largest load that is planned with
    availability : how often replicas fail; None counts none as down
    warm : replicas that are kept even without a request
    """
    rate = demand.requests_per_s(one.latency)
    flying = rate * one.latency
    by_load = ceil(rate / (one.largest * headroom) - 1e-9)
    by_memory = ceil(flying / one.holds - 1e-9) if one.holds else 0
    needed = max(by_load, by_memory, warm)
    binds = "load" if by_load == needed else "memory" if by_memory == needed else "kept warm"
    if rate == 0:
        binds = "kept warm"
    total = needed
    if availability is not None and availability.target > 0 and needed:
        total = replicas_for(needed, availability.up, availability.target)
        if not total:
            problem = f"{availability.up:.3%} of the time a replica is up; no number of them is enough for"
            raise InputError(f"{problem} {availability.target:.4%}", key="--availability")
        binds = "availability" if total > needed else binds
    return Replicas(rate, flying, by_load, by_memory, needed, total, binds)


@dataclass(frozen=True)
class Site:
    """Where nodes stand: power of a rack, W; the facility's PUE; hours of a month that are paid."""

    rack_w: float | None = None
    pue: float = USUAL_PUE
    hours: float = MONTH_HOURS


def placed(
    found: Replicas, one: Replica, gpus_per_node: int, node_w: float, site: Site, usd_per_gpu_hour: float | None
) -> dict[str, Any]:
    """GPUs, nodes, racks, kW and USD a month of so many replicas. Raises `InputError` for a rack that holds no node.

    Replicas do not share a node's GPUs unevenly: one of fewer GPUs than a node stands in one, larger ones take whole
    nodes. `node_w` is the power that a node is booked with, W.
    """
    gpus = found.total * one.gpus
    if one.gpus <= gpus_per_node:
        nodes = ceil(found.total / (gpus_per_node // one.gpus))
    else:
        nodes = found.total * ceil(one.gpus / gpus_per_node)
    row: dict[str, Any] = {"replicas": found.total, "gpus": gpus, "nodes": nodes}
    if site.rack_w is not None:
        each = floor(site.rack_w / node_w + 1e-9)
        if each < 1:
            problem = f"a rack of {site.rack_w / 1e3:g} kW holds no node of {node_w / 1e3:.3g} kW"
            raise InputError(f"{problem}; expected {node_w / 1e3:.3g} kW or more", key="--rack-kw")
        row |= {"nodes_per_rack": each, "racks": ceil(nodes / each)}
    row["kw"] = nodes * node_w / 1e3
    row["facility_kw"] = nodes * node_w / 1e3 * site.pue
    if usd_per_gpu_hour is not None:
        row["usd_per_month"] = usd_per_gpu_hour * gpus * site.hours
    return row


def words_of(row: Mapping[str, Any]) -> str:
    """The plan in a line."""
    racks = f", {row['racks']:,} racks" if "racks" in row else ""
    money = f", {row['usd_per_month']:,.0f} USD a month" if row.get("usd_per_month") is not None else ""
    return (
        f"{row['replicas']:,} replicas on {row['gpus']:,} GPUs in {row['nodes']:,} nodes{racks}, "
        f"{row['facility_kw']:,.4g} kW{money}; {row['binds']} sets their number"
    )
