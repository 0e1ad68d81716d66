"""What `simgpu capacity` does: one row for each scenario of an experiment file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.scenario import resolve_cluster
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

    @property
    def rows(self) -> Sequence[dict[str, Any]]:
        """A row for each scenario."""
        return self.found


def capacity(
    file: str, settings: Sequence[str], catalogue: Catalogue, share: float, told: Callable[[int, int], None]
) -> Capacities:
    """The capacity of each scenario of a file. Raises `InputError` at its place."""
    experiment = load_experiment(find_experiment(file, catalogue), settings, catalogue)
    rows = []
    for number, case in enumerate(experiment.cases, 1):
        try:
            rows.append(_row(case, catalogue, share))
        except InputError as error:
            raise (
                error if error.file else case.origins.error(error.problem, tuple((error.key or "").split(".")))
            ) from None
        told(number, len(experiment.cases))
    return Capacities(experiment.name, experiment.fields.title, rows)


def _row(case: Case, catalogue: Catalogue, share: float) -> dict[str, Any]:
    scenario, job = case.scenario, case.scenario.workload
    if not isinstance(job, Traffic):
        raise InputError(f"'{job.kind}' has no requests to follow; expected traffic", key="workload.kind")
    limits = limits_of(job, share)
    cluster = resolve_cluster(scenario, catalogue, case.origins)
    model = catalogue.model(str(scenario.model)) if scenario.model else None
    plan, run = scenario.plan.plan(), catalogue.runtime(job.runtime)
    deployment = deploy(cluster, job.served(), model, plan, run, scenario.options())
    row = {"model": scenario.model, "gpu": cluster.gpu.name, "tp": plan.tp, "dp": plan.dp}
    return {**case.labels, **row, **capacity_of(deployment, job, limits).row()}
