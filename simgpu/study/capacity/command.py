"""What `simgpu capacity` does: one row for each scenario of an experiment file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, nearest, shown
from simgpu.hardware.cluster import Cluster
from simgpu.operations.fields import CostFields
from simgpu.operations.hourly import priced_hour
from simgpu.scenario import Scenario, resolve_cluster
from simgpu.study.capacity.finding import capacity_of, limits_of
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import find_experiment, load_experiment
from simgpu.tabular import Tabular
from simgpu.workload.inference.deploying import deploy
from simgpu.workload.jobs import Traffic


@dataclass(frozen=True, repr=False)
class Capacities(Tabular):
    """The capacities of the scenarios of a file."""

    name: str
    title: str
    found: Sequence[dict[str, Any]]
    notes: Sequence[str] = ()

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """A row for each scenario."""
        return self.found


def capacity(
    file: str, settings: Sequence[str], catalogue: Catalogue, share: float, told: Callable[[int, int], None],
    prices: Sequence[str] = (),
) -> Capacities:  # fmt: skip
    """The capacity of each scenario of a file. Raises `InputError` at its place.

    `prices` are USD of a GPU-hour: a number for every cluster, or 'CLUSTER=USD' of one; without any, those that the
    catalogue or the scenario's `cost` has, and no cost of a GPU without one.
    """
    known = _prices(prices)
    experiment = load_experiment(find_experiment(file, catalogue), settings, catalogue)
    paid = [_price(case, known) for case in experiment.cases]
    rows: list[dict[str, Any]] = []
    words: dict[str, None] = {}
    for number, case in enumerate(experiment.cases, 1):
        try:
            row, quote = _row(case, catalogue, share, paid[number - 1])
        except InputError as error:
            raise (
                error if error.file else case.origins.error(error.problem, tuple((error.key or "").split(".")))
            ) from None
        rows.append(row)
        words |= {quote: None} if quote else {}
        told(number, len(experiment.cases))
    return Capacities(experiment.name, experiment.fields.title, rows, [f"Price: {one}." for one in words])


def _prices(given: Sequence[str]) -> dict[str, float]:
    """Prices by cluster; '' of every other one."""
    found = {}
    for one in given:
        cluster, equals, text = one.rpartition("=")
        try:
            price = float(text)
        except ValueError:
            price = -1.0
        if not 0 < price < 1e9 or bool(equals) != bool(cluster):
            raise InputError(f"{shown(one)}: expected USD of a GPU-hour, or CLUSTER=USD", key="--price")
        found[cluster] = price
    return found


def _price(case: Case, prices: Mapping[str, float]) -> float | None:
    """USD of a GPU-hour of a scenario; None where no prices are given."""
    name = str(case.scenario.cluster)
    price = prices.get(name, prices.get(""))
    if prices and price is None:
        raise InputError(f"has no price of {shown(name)}{nearest(name, prices)}", key="--price")
    return price


def _quoted(scenario: Scenario, cluster: Cluster, gpus: int, catalogue: Catalogue) -> tuple[float | None, str]:
    """USD of a GPU-hour by the scenario's `cost` or the catalogue, and the price in words; None of a GPU without."""
    about = {"workload": "traffic", "gpus": gpus, "dp": 1, "running": 1.0}
    try:
        found = priced_hour(scenario.cost or CostFields(), about, cluster, catalogue)
    except InputError:
        if scenario.cost is not None:
            raise
        return None, ""
    return found.hourly.used, found.words


def _row(case: Case, catalogue: Catalogue, share: float, price: float | None) -> tuple[dict[str, Any], str]:
    """A row, and the price that its costs are reckoned with in words where it is the catalogue's."""
    scenario, job = case.scenario, case.scenario.workload
    if not isinstance(job, Traffic):
        raise InputError(f"'{job.kind}' has no requests to follow; expected traffic", key="workload.kind")
    limits = limits_of(job, share)
    cluster = resolve_cluster(scenario, catalogue, case.origins)
    model = catalogue.model(str(scenario.model)) if scenario.model else None
    plan, run = scenario.plan.plan(), catalogue.runtime(job.runtime)
    deployment = deploy(cluster, job.served(), model, plan, run, scenario.options())
    row = {"model": scenario.model, "gpu": cluster.gpu.name, "tp": plan.tp, "dp": plan.dp}
    found, words = capacity_of(deployment, job, limits), ""
    if price is None:
        price, words = _quoted(scenario, cluster, plan.world, catalogue)
    return {**case.labels, **row, **found.row(), **(found.costs(price) if price is not None else {})}, words
