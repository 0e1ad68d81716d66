"""What `simgpu plan-capacity` does: the machines that a load takes, for each server of an experiment file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.operations.capacity import Availability, Demand, Replica, Site, placed, replicas, words_of
from simgpu.operations.draw import power_of
from simgpu.operations.fields import CostFields, ReliabilityFields
from simgpu.operations.hourly import priced_hour
from simgpu.operations.rates import job_rates, rates_of
from simgpu.plan.serving_memory import most_sequences
from simgpu.scenario import Scenario, resolve_cluster
from simgpu.study.capacity.finding import capacity_of, limits_of
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import Given, find_experiment, load_experiment
from simgpu.tabular import Tabular
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.jobs import Traffic


@dataclass(frozen=True)
class CapacityAsked:
    """The question: a load, how much of a replica is planned with, how sure it shall be, where it stands.

    target
        The share of the time in which enough replicas are up; 0 counts none as down.
    mttr
        s that a replica is away after a failure; None: a restart, and a repair where a part is replaced.
    low
        True to plan with the lower end (P10) of what a replica does.
    pue
        Of the facility; None: that of each server's scenario.
    rates
        Files of failure rates by GPU, '' for all others; without one the scenario's, or the usual ones.
    """

    demand: Demand
    headroom: float = 1.0
    target: float = 0.0
    mttr: float | None = None
    warm: int = 1
    site: Site = field(default_factory=Site)
    percentile: float = 99.0
    low: bool = False
    pue: float | None = None
    rates: Mapping[str, str] = field(default_factory=dict)


def rates_by_gpu(given: Sequence[str]) -> dict[str, str]:
    """Files of failure rates as options name them: 'FILE' for every GPU, or 'GPU=FILE'. Raises `InputError`."""
    found: dict[str, str] = {}
    for one in given:
        gpu, equals, file = one.rpartition("=")
        if not file or bool(equals) != bool(gpu):
            raise InputError(f"{shown(one)}: expected a file of failure rates, or GPU=FILE", key="--rates")
        if gpu in found:
            raise InputError(f"{shown(one)} is the second file of {gpu or 'all GPUs'}; expected one", key="--rates")
        found[gpu] = file
    return found


@dataclass(frozen=True, repr=False)
class PlannedCapacity(Tabular):
    """The machines that a load takes, a row for each server of a file."""

    name: str
    title: str
    found: Sequence[dict[str, Any]]
    notes: Sequence[str]

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """A row for each server; the cheapest a month comes first where all have a price."""
        return self.found


SHOWN = (
    "requests_per_s", "in_flight", "largest_rate", "replicas", "gpus", "nodes", "racks", "facility_kw",
    "usd_per_month", "binds", "why_not",
)  # fmt: skip
"""Columns of the table."""

KEYS = {
    "model", "gpu", "tp", "largest_rate", "largest_rate_p10", "holds", "requests_per_s", "in_flight", "latency_s",
    "by_load", "by_memory", "binds", "replicas", "gpus", "nodes", "nodes_per_rack", "racks", "kw", "facility_kw",
    "usd_per_month", "plan", "why_not",
}  # fmt: skip
"""All columns of a row that are no labels of the file."""


def plan_capacity(
    file: Given, settings: Sequence[str], catalogue: Catalogue, asked: CapacityAsked,
    told: Callable[[int, int], None] | None = None,
) -> PlannedCapacity:  # fmt: skip
    """The machines for each server of a file. Raises `InputError` at its place."""
    asked.demand.check()
    experiment = load_experiment(find_experiment(file, catalogue), settings, catalogue)
    rows, prices, rates = [], [], []
    gpus = {resolve_cluster(case.scenario, catalogue, case.origins).gpu.name for case in experiment.cases}
    for gpu in asked.rates:
        if gpu and gpu not in gpus:
            raise InputError(f"no server has the GPU {shown(gpu)}{nearest(gpu, gpus)}", key="--rates")
    for number, case in enumerate(experiment.cases, 1):
        try:
            row, price, file = _row(case, catalogue, asked)
        except InputError as error:
            if error.file or (error.key or "").startswith("--"):
                raise
            raise case.origins.error(error.problem, tuple((error.key or "").split("."))) from None
        rows.append(row)
        prices.append(price)
        rates.append(file)
        if told:
            told(number, len(experiment.cases))
    if all(row.get("usd_per_month") is not None for row in rows):
        rows.sort(key=lambda row: row["usd_per_month"])
    notes = [f"Price: {words}." for words in dict.fromkeys(prices) if words]
    if asked.target:
        named = ", ".join(dict.fromkeys(name for name in rates if name))
        notes.append(f"Replicas that are down: failure rates of {named}, {asked.target:.4%} of the time enough are up.")
    return PlannedCapacity(experiment.name, experiment.fields.title, rows, notes)


def _row(case: Case, catalogue: Catalogue, asked: CapacityAsked) -> tuple[dict[str, Any], str, str]:
    """The plan of one server, the price that it was reckoned with in words, and its file of failure rates."""
    scenario, job = case.scenario, case.scenario.workload
    if not isinstance(job, Traffic):
        raise InputError(f"'{job.kind}' has no requests to follow; expected traffic", key="workload.kind")
    cluster = resolve_cluster(scenario, catalogue, case.origins)
    one, low = replica_of(scenario, cluster, catalogue, asked.percentile)
    row: dict[str, Any] = {**case.labels, "model": scenario.model, "gpu": cluster.gpu.name, "tp": scenario.plan.tp}
    row |= {"largest_rate": one.largest, "largest_rate_p10": low, "holds": one.holds}
    if asked.low:
        one = replace(one, largest=low)
    if not one.largest:
        return {**row, "binds": "none", "why_not": "no load keeps the limits"}, "", ""
    up, rates = _availability(scenario, cluster, catalogue, asked, one)
    found = replicas(asked.demand, one, asked.headroom, up, asked.warm)
    about = {"workload": "traffic", "gpus": one.gpus, "dp": 1, "running": one.largest * one.latency}
    site = replace(asked.site, pue=scenario.power.pue if asked.pue is None else asked.pue)
    hour, words = _hour(scenario, about, cluster, catalogue, site.pue)
    node_w = power_of(about, cluster).booked_watts * cluster.gpus_per_node
    row |= {"requests_per_s": found.requests_per_s, "in_flight": found.in_flight, "latency_s": one.latency}
    row |= {"by_load": found.by_load, "by_memory": found.by_memory, "binds": found.binds}
    row |= placed(found, one, cluster.gpus_per_node, node_w, site, hour)
    return {**row, "plan": words_of(row)}, words, rates


def replica_of(scenario: Scenario, cluster: Cluster, catalogue: Catalogue, percentile: float) -> tuple[Replica, float]:
    """What one replica of a server does within its limits, and the lower end of its largest load."""
    job = scenario.workload
    assert isinstance(job, Traffic)
    job = job.model_copy(update={"rate": 1.0})  # where the search starts, and no load of its own
    model = catalogue.model(str(scenario.model))
    plan = replace(scenario.plan.plan(), dp=1)
    deployment = deploy(cluster, job.served(), model, plan, catalogue.runtime(job.runtime), scenario.options())
    found = capacity_of(deployment, job, limits_of(job, percentile))
    latency = found.at.total.mean if found.at is not None else 0.0
    tokens = (job.prompt or 1) + (job.output or 1)
    holds = most_sequences(deployment.served, tokens, cluster.gpu.memory.capacity.si)
    return Replica(found.largest, latency, holds, plan.world), found.low


def _availability(
    scenario: Scenario, cluster: Cluster, catalogue: Catalogue, asked: CapacityAsked, one: Replica
) -> tuple[Availability | None, str]:
    """How often a replica is up, by the rates of the failures of its GPUs, and the file that they are from."""
    if not asked.target:
        return None, ""
    fields = scenario.reliability or ReliabilityFields()
    named = asked.rates.get(cluster.gpu.name, asked.rates.get(""))
    try:
        file = rates_of(catalogue, named or fields.rates)
    except InputError as error:
        raise error if error.file or not named else InputError(error.problem, key="--rates") from None
    rates = job_rates(file, one.gpus, cluster.gpus_per_node, fields.factor, fields.ecc)
    repair = file.repair.mean if fields.repair is None else fields.repair
    replaced = rates.replaced / rates.unplanned if rates.unplanned else 0.0
    mttr = fields.restart.seconds + replaced * repair if asked.mttr is None else asked.mttr
    return Availability(rates.mttf, mttr, asked.target), file.name


def _hour(
    scenario: Scenario, about: dict[str, Any], cluster: Cluster, catalogue: Catalogue, pue: float
) -> tuple[float | None, str]:
    """USD of a GPU-hour and the price in words; of a GPU without a price nothing, unless the file asks for cost."""
    try:
        found = priced_hour(scenario.cost or CostFields(), about, cluster, catalogue, pue)
    except InputError:
        if scenario.cost is not None:
            raise
        return None, ""
    return found.hourly.used, found.words
