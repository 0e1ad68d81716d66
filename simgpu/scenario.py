"""What a user asks: a model, a workload, a cluster, a plan, and hardware parameters set by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from simgpu.catalog import Catalogue, Override
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import Figure, figures
from simgpu.plan.parallelism import Plan
from simgpu.result import Result
from simgpu.simulation import simulate
from simgpu.tree import leaves
from simgpu.workload.jobs import Accumulate, Dtype, Workload

HARDWARE_ROOTS = ("gpu", "node", "cluster", "link")
"""What a hardware parameter's key can begin with: 'gpu.memory.bandwidth', 'link.pcie-4.latency'."""

Degree = Annotated[int, Field(gt=0, le=1_000_000)]


class PlanFields(BaseModel):
    """Degrees of parallelism as an experiment file gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    tp: Degree = 1
    dp: Degree = 1
    sequence_parallel: bool = False

    def plan(self) -> Plan:
        return Plan(self.tp, self.dp, self.sequence_parallel)


class Scenario(BaseModel):
    """One thing to simulate. `hardware` maps parameter keys to values that replace the catalogue's."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    model: str | None = None
    cluster: str
    workload: Workload
    plan: PlanFields = PlanFields()
    dtype: Dtype = "bf16"
    accumulate: Accumulate | None = None
    algorithm: Literal["auto", "ring", "direct"] = "auto"
    hardware: dict[str, Any] = {}


class Origins:
    """Where each value of a scenario was written: `source` for people, file and line for error messages."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, ...], tuple[str, str | None, int | None]] = {}

    def put(self, path: tuple[str, ...], source: str, file: str | None = None, line: int | None = None) -> None:
        self._places[path] = (source, file, line)

    def source(self, path: tuple[str, ...]) -> str:
        return self._find(path)[0]

    def error(self, problem: str, path: tuple[str, ...]) -> InputError:
        source, file, line = self._find(path)
        return InputError(
            problem, file=file or (source if source != "default" else None), line=line, key=".".join(path)
        )

    def override(self, key: str, value: Any) -> Override:
        source, file, line = self._find(("hardware", key))
        return Override(key, value, source, file, line)

    def copy(self) -> Origins:
        other = Origins()
        other._places = dict(self._places)
        return other

    def _find(self, path: tuple[str, ...]) -> tuple[str, str | None, int | None]:
        """The place of the longest known part of `path`; a value that nobody wrote is a default."""
        for end in range(len(path), 0, -1):
            found = self._places.get(path[:end])
            if found is not None:
                return found
        return self._places.get((), ("default", None, None)) if path == () else ("default", None, None)


def run_scenario(scenario: Scenario, catalogue: Catalogue, origins: Origins | None = None) -> Result:
    """Simulate a scenario. Errors name the file and line where the value in question was written."""
    where = origins or Origins()
    try:
        model = catalogue.model(scenario.model) if scenario.model else None
    except InputError as error:
        raise error if error.file else where.error(error.problem, ("model",)) from None
    cluster = resolve_cluster(scenario, catalogue, where)
    try:
        result = simulate(
            cluster,
            scenario.workload,
            model,
            scenario.plan.plan(),
            scenario.dtype,
            scenario.accumulate,
            scenario.algorithm,
        )
    except InputError as error:
        raise where.error(error.problem, tuple((error.key or "").split("."))) from None
    return Result(result.row, result.execution, lambda: resolve(scenario, cluster, catalogue, where))


def resolve_cluster(scenario: Scenario, catalogue: Catalogue, origins: Origins) -> Cluster:
    """The scenario's cluster with its hardware parameters applied."""
    overrides = [origins.override(key, value) for key, value in scenario.hardware.items()]
    try:
        return catalogue.cluster(scenario.cluster, overrides)
    except InputError as error:
        raise error if error.file else origins.error(error.problem, ("cluster",)) from None


def resolve(
    scenario: Scenario, cluster: Cluster, catalogue: Catalogue, origins: Origins
) -> Mapping[str, Mapping[str, Any]]:
    """Every input of a scenario, defaults and catalogue figures included: value, unit, source. Values are SI."""
    found: dict[str, dict[str, Any]] = {}
    written = {path for path, _ in leaves(scenario.model_dump(exclude={"hardware"}, exclude_unset=True))}
    for path, value in leaves(scenario.model_dump(exclude={"hardware"})):
        found[".".join(path)] = {"value": value, "source": origins.source(path) if path in written else "default"}
    if scenario.model:
        described = catalogue.model_source(scenario.model)
        source = described.get("source") or str(catalogue.find("models", scenario.model) or scenario.model)
        for key, value in vars(catalogue.model(scenario.model)).items():
            found[f"model.{key}"] = {"value": value, "source": source}
    specs: dict[str, Any] = {"cluster": cluster.spec, "node": cluster.node, "gpu": cluster.gpu}
    specs |= {f"link.{name}": link for name, link in cluster.links.items()}
    for root, spec in specs.items():
        for path, figure in figures(spec):
            found[".".join((root, *map(str, path)))] = _resolved(figure, spec.sources)
    for name, figure in dict(cluster.kernel).items():
        found[f"gpu.kernel.{name}"] = _resolved(figure, {})
    return found


def _resolved(figure: Figure, sources: Mapping[str, str]) -> dict[str, Any]:
    source = sources.get(figure.source or "", figure.source)
    return {"value": figure.value, **({"unit": figure.unit} if figure.unit else {}), "source": source}
