"""A scenario: a model, a workload, a cluster, a plan, and hardware parameters set by hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field as DataclassField
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model

from simgpu.catalog import Catalogue
from simgpu.errors import InputError, shown
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import Figure, figures
from simgpu.model.config import TransformerConfig
from simgpu.model.derive import written
from simgpu.model.networks.pipeline import Pipeline
from simgpu.operations.failures import failure_columns
from simgpu.operations.fields import SOURCES, CostFields, ReliabilityFields
from simgpu.operations.heat import SOURCES as HEAT_SOURCES
from simgpu.operations.heat import HeatFields, heat_columns, held_by_heat
from simgpu.operations.money import cost_columns, listed_columns
from simgpu.operations.month.columns import month_columns
from simgpu.operations.month.fields import SOURCES as MONTH_SOURCES
from simgpu.operations.month.fields import MonthFields
from simgpu.operations.power.fields import SOURCES as POWER_SOURCES
from simgpu.operations.power.fields import PowerFields
from simgpu.operations.power.fleet import fleet_columns
from simgpu.operations.power.site import site_columns
from simgpu.operations.quality import quality_columns
from simgpu.overrides import Override
from simgpu.plan.parallelism import KEYS, LISTS, Plan
from simgpu.schema_errors import TrueFalse
from simgpu.simulation.call import runtime_of, simulate
from simgpu.simulation.result import Result
from simgpu.tree import indexed, leaves
from simgpu.workload.defaults import absent
from simgpu.workload.framework_files import dimension
from simgpu.workload.frameworks import Framework
from simgpu.workload.inference.jobs import Deployed
from simgpu.workload.jobs import Accumulate, Dtype, Inference, Shared, Traffic, Training, Workload, deployed_as
from simgpu.workload.networks.job import Network
from simgpu.workload.options import RunOptions
from simgpu.workload.runtimes import Runtime

DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "cost": SOURCES, "power": POWER_SOURCES, "month": MONTH_SOURCES, "heat": HEAT_SOURCES,
}  # fmt: skip
"""Why defaults of a section are what they are, where somebody can be named for them."""

Key = tuple[str, ...]
"""Path of a value in a scenario. Hardware parameters have two parts: ('hardware', 'gpu.memory.bandwidth')."""


def _type_of(field: DataclassField[Any]) -> Any:
    """The type of what a file may give for a key of a plan."""
    key = KEYS[field.name]
    named: Any = Literal.__getitem__(key.values) if key.values else None
    if isinstance(field.default, bool):
        return TrueFalse
    if key.flag:
        return TrueFalse | None
    if key.real:
        return Annotated[float, Field(strict=True, gt=0, le=key.most, allow_inf_nan=False)] | None
    if key.listed:
        return tuple[Annotated[int, Field(strict=True, ge=key.least, le=key.most)], ...] | None
    if field.name in LISTS:
        several = tuple.__class_getitem__((named, ...))
        return several | None if field.default is None else several
    given = named or Annotated[int, Field(strict=True, gt=key.least - 1, le=key.most)]
    return given | None if field.default is None else given


_PLAN: Any = create_model("_PLAN", **{one.name: (_type_of(one), one.default) for one in fields(Plan)})  # type: ignore[call-overload]


class PlanFields(_PLAN):
    """A parallel plan as an experiment file gives it: the keys, limits and defaults of `simgpu.Plan`.

    Keys other than tp and dp are for training.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    if TYPE_CHECKING:  # fields are those of `Plan`, made above

        def __getattr__(self, name: str) -> Any: ...

    def plan(self) -> Plan:
        """The plan itself. Raises `InputError` for keys that contradict each other."""
        return Plan(**self.model_dump())


def _model_name(model: Any) -> Any:
    """A model as text: `{base: llama-3.1-8b, layers: 12}` is 'llama-3.1-8b@layers=12'."""
    if not isinstance(model, Mapping):
        return model
    base = model.get("base")
    if not isinstance(base, str):
        raise ValueError(f"{shown(base)} names no model; expected base: the model to start from, such as llama-3.1-8b")
    changes = {str(key): value for key, value in model.items() if key != "base"}
    wrong = next((key for key, value in changes.items() if not isinstance(value, (bool, int, str))), None)
    if wrong is not None:
        raise ValueError(f"{wrong}: {shown(changes[wrong])} is not a whole number, true or false")
    return written(base, changes)


class Scenario(BaseModel):
    """One thing to simulate. `hardware` maps parameter keys to values that replace the catalogue's."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
    model: Annotated[str | None, BeforeValidator(_model_name)] = None
    cluster: Annotated[str, Field(min_length=1)]
    workload: Workload
    plan: PlanFields = PlanFields()
    dtype: Dtype = "bf16"
    accumulate: Accumulate | None = None
    algorithm: Literal["auto", "ring", "tree", "nvls", "collnet", "direct"] = "auto"
    protocol: Literal["auto", "ll", "ll128", "simple", "ideal"] = "auto"
    clocks: Literal["sustained", "burst"] | None = None
    framework: Annotated[str, Field(min_length=1)] = "megatron"
    require_fit: TrueFalse = False
    power: PowerFields = PowerFields()
    hardware: dict[str, Any] = {}
    cost: CostFields | None = None
    reliability: ReliabilityFields | None = None
    month: MonthFields | None = None
    heat: HeatFields | None = None

    def options(self, **changed: Any) -> RunOptions:
        """The options of the run, with single ones `changed`."""
        said = {
            name: getattr(self, name) for name in RunOptions.__dataclass_fields__ if name in type(self).model_fields
        }
        if self.heat is not None and self.clocks is None:
            said["clocks"] = "sustained"  # a GPU takes minutes to get hot
        return RunOptions(**{**said, **changed})


@dataclass(frozen=True)
class Place:
    """The place where a value was written: `source` in words, file and line, and `key` as the user spelt it."""

    source: str
    file: str | None = None
    line: int | None = None
    key: str | None = None


class Origins:
    """The places where each value of a scenario was written."""

    def __init__(self) -> None:
        self._places: dict[Key, Place] = {}

    def put(self, path: Key, place: Place) -> None:
        """Remember the place of a value; of several, the one put last counts."""
        self._places.pop(path, None)
        self._places[path] = place

    def again(self, path: Key) -> None:
        """Make the place of `path` the last that was put."""
        self.put(path, self._places[path])

    def source(self, path: Key) -> str:
        """The source of the value at `path`, for people."""
        place = self._nearest(path)[1]
        return place.source if place else "default"

    def error(self, problem: str, path: Key) -> InputError:
        """An error at `path`: the place of that value, of the last thing written below it, or of what encloses it."""
        below = [(known, place) for known, place in self._places.items() if path and known[: len(path)] == path]
        known, place = below[-1] if below else self._nearest(path)
        key = place.key if place and place.key and known == path else ".".join(path)
        if place is None:
            return InputError(problem, key=key)
        return InputError(problem, file=place.file or place.source, line=place.line, key=key)

    def override(self, key: str, value: Any) -> Override:
        """A hardware parameter with the place where it was set."""
        place = self._nearest(("hardware", key))[1] or Place("default")
        return Override(key, value, place.source, place.file, place.line)

    def copy(self) -> Origins:
        """The same places, to which others can be added."""
        other = Origins()
        other._places = dict(self._places)
        return other

    def _nearest(self, path: Key) -> tuple[Key, Place | None]:
        """The longest known part of `path`, and its place."""
        for end in range(len(path), -1, -1):
            if path[:end] in self._places:
                return path[:end], self._places[path[:end]]
        return path, None


def run_scenario(
    scenario: Scenario, catalogue: Catalogue, origins: Origins | None = None, resolved: Cluster | None = None
) -> Result:
    """Simulate a scenario. Errors name the file and line where the value in question was written.

    `resolved` is its cluster with its hardware parameters applied, where that is known already.
    """
    where = origins or Origins()
    try:
        model = _model_of(scenario, catalogue)
    except InputError as error:
        raise error if error.file else where.error(error.problem, ("model",)) from None
    framework = framework_of(scenario, catalogue, where)
    cluster = (
        resolved if resolved is not None and scenario.heat is None else resolve_cluster(scenario, catalogue, where)
    )
    try:
        result = simulate(
            cluster, scenario.workload, model, scenario.plan.plan(), scenario.options(framework=framework),
            catalogue=catalogue,
            draft=draft_of(scenario, catalogue),
        )  # fmt: skip
        columns = operations_of(result.row, scenario, cluster, model, catalogue)
        if scenario.heat is not None:
            columns |= heat_columns(scenario.heat, _cold_cluster(scenario, catalogue, where), catalogue)
    except InputError as error:  # of a file that the scenario names, the error says the place itself
        raise error if error.file else where.error(error.problem, tuple((error.key or "").split("."))) from None
    return result.operated(columns).told(inputs=lambda: resolve(scenario, cluster, catalogue, where))


def operations_of(
    row: Mapping[str, Any], scenario: Scenario, cluster: Cluster, model: TransformerConfig | Pipeline | None,
    catalogue: Catalogue,
) -> dict[str, Any]:  # fmt: skip
    """Columns of cost, of the site, and of failures where the scenario asks for them. Raises `InputError` (key only).

    Where it does not ask for cost, that is reckoned with the listed price on demand, where there is one.
    """
    hour = None
    if scenario.cost is None:
        columns = listed_columns(row, cluster, catalogue)
    else:
        columns, hour = cost_columns(scenario.cost, row, cluster, catalogue, scenario.power.pue)
    if scenario.reliability is not None:
        parameters = float(getattr(model, "parameters", 0) or 0)
        columns |= failure_columns(scenario.reliability, parameters, row, cluster, catalogue, hour, scenario.cost)
    if scenario.month is not None:
        columns |= month_columns(
            scenario.month, scenario.cost, {**row, **columns}, cluster, catalogue, scenario.power.pue
        )
    if isinstance(model, TransformerConfig):
        columns |= quality_columns(row, model, catalogue)
    return columns | site_columns(scenario.power, row, cluster) | fleet_columns(scenario.power, row, cluster)


def _model_of(scenario: Scenario, catalogue: Catalogue) -> TransformerConfig | Pipeline | None:
    """The model of a scenario, or its network of stages."""
    if not scenario.model:
        return None
    if isinstance(scenario.workload, Shared):
        raise InputError("models that share a GPU are named in workload.parts; leave it out", key="model")
    known = catalogue.network if isinstance(scenario.workload, Network) else catalogue.model
    found: TransformerConfig | Pipeline = known(scenario.model)
    return found


def framework_of(scenario: Scenario, catalogue: Catalogue, origins: Origins) -> Framework:
    """The framework of a scenario. Raises `InputError` at its place."""
    try:
        return catalogue.framework(scenario.framework)
    except InputError as error:
        raise error if error.file else origins.error(error.problem, ("framework",)) from None


def check_names(scenario: Scenario, catalogue: Catalogue, origins: Origins) -> None:
    """Raise `InputError`, at its place, for a framework or runtime that the catalogue does not have."""
    framework_of(scenario, catalogue, origins)
    if isinstance(scenario.workload, Deployed):
        try:
            runtime_of(scenario.workload, catalogue)
        except InputError as error:
            raise error if error.file else origins.error(error.problem, ("workload", "runtime")) from None


def draft_of(scenario: Scenario, catalogue: Catalogue) -> TransformerConfig | None:
    """The draft model of speculative decoding; None without one."""
    speculation = scenario.workload.speculative if isinstance(scenario.workload, (Inference, Traffic)) else None
    if speculation is None or speculation.draft == "mtp":
        return None
    try:
        return catalogue.model(speculation.draft)
    except InputError as error:
        raise InputError(error.problem, key="workload.speculative.draft") from None


def resolve_cluster(scenario: Scenario, catalogue: Catalogue, origins: Origins) -> Cluster:
    """The scenario's cluster with its hardware parameters applied."""
    cold = _cold_cluster(scenario, catalogue, origins)
    if scenario.heat is None:
        return cold
    try:
        held = held_by_heat(scenario.heat, cold, catalogue)
    except InputError as error:
        raise error if error.file else origins.error(error.problem, tuple((error.key or "").split("."))) from None
    if held.watts >= cold.gpu.power.tdp.si:
        return cold
    overrides = [origins.override(key, value) for key, value in scenario.hardware.items() if key != "gpu.power.tdp"]
    return catalogue.cluster(scenario.cluster, [*overrides, Override("gpu.power.tdp", f"{held.watts} W", held.words)])


def _cold_cluster(scenario: Scenario, catalogue: Catalogue, origins: Origins) -> Cluster:
    """The scenario's cluster whatever its temperature."""
    overrides = [origins.override(key, value) for key, value in scenario.hardware.items()]
    try:
        return catalogue.cluster(scenario.cluster, overrides)
    except InputError as error:
        raise error if error.file else origins.error(error.problem, ("cluster",)) from None


def resolve(
    scenario: Scenario, cluster: Cluster, catalogue: Catalogue, origins: Origins
) -> Mapping[str, Mapping[str, Any]]:
    """Every input of a scenario, defaults and catalogue figures included: value, unit, source. Values are SI."""
    inputs: dict[str, dict[str, Any]] = {}
    unasked = {"hardware", *(key for key in ("cost", "reliability", "month", "heat") if getattr(scenario, key) is None)}
    written = {path for path, _ in leaves(scenario.model_dump(exclude=unasked, exclude_unset=True))}
    dumped = scenario.model_dump(exclude=unasked)
    for path, value in leaves(dumped):
        place = indexed(dumped, path)
        usual = (
            DEFAULTS.get(path[0], {}).get(path[-1], "default")
            if len(path) == 2 or path[:2] == ("month", "start_up")
            else "default"
        )
        source = origins.source(place) if path in written else usual
        inputs[".".join(path)] = {**effective(path, value, scenario), "source": source}
    if isinstance(scenario.workload, Training):
        model = catalogue.model(scenario.model) if scenario.model else None
        try:
            inputs |= dict(_training_inputs(scenario, model, catalogue.framework(scenario.framework), inputs))
        except InputError as error:
            raise origins.error(error.problem, tuple((error.key or "").split("."))) from None
    if isinstance(scenario.workload, Deployed):
        inputs |= dict(_inference_inputs(scenario, cluster, catalogue))
    if scenario.model and isinstance(scenario.workload, Network):
        pipeline = catalogue.network(scenario.model)
        for key, value in pipeline.values().items():
            inputs[f"model.{key}"] = {"value": value, "source": pipeline.fields.source}
    elif scenario.model:
        described = catalogue.model_source(scenario.model)
        source = described.source or str(catalogue.find("models", scenario.model) or scenario.model)
        for key, value in catalogue.model(scenario.model).said().items():
            inputs[f"model.{key}"] = {"value": value, "source": source}
    specs: dict[str, Any] = {"cluster": cluster.spec, "node": cluster.node, "gpu": cluster.gpu}
    specs |= {f"link.{name}": link for name, link in cluster.links.items()}
    for root, spec in specs.items():
        for path, figure in figures(spec):
            inputs[".".join((root, *map(str, path)))] = _resolved(figure, spec.sources)
    for path, one in cluster.kernel.given.items():
        inputs["gpu.kernel." + ".".join(path)] = _resolved(one.figure, {one.figure.source or "": one.source})
    return inputs


def _training_inputs(
    scenario: Scenario, model: TransformerConfig | None, framework: Framework, inputs: Mapping[str, Mapping[str, Any]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Number formats of a training step, defaults filled in, and the constants of its framework with their source."""
    assert isinstance(scenario.workload, Training)
    for key, value in vars(scenario.workload.numerics(scenario.dtype, model, framework)).items():
        written_value = inputs.get(f"workload.{key}", {})
        is_set = written_value.get("value") is not None and written_value["source"] != "default"
        source = written_value["source"] if is_set else f"follows from dtype {scenario.dtype} and the workload"
        yield f"numerics.{key}", {"value": value, "source": source}
    yield "framework.title", {"value": framework.title, "source": f"frameworks/{framework.name}.yaml"}
    for key, value in framework.values().items():
        unit = {"unit": dimension(key)} if dimension(key) else {}
        yield f"framework.{key}", {"value": value, **unit, "source": framework.sources[key]}


def _inference_inputs(
    scenario: Scenario, cluster: Cluster, catalogue: Catalogue
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The number formats of a served model, defaults filled in, and the constants of its runtime with their source."""
    from simgpu.workload.inference.deploying import deploy

    job = scenario.workload
    assert isinstance(job, Deployed)
    model = catalogue.model(scenario.model) if scenario.model else None
    run = runtime_of(job, catalogue)
    deployment = deploy(cluster, deployed_as(job), model, scenario.plan.plan(), run, scenario.options())
    for key, value in vars(deployment.precision).items():
        if key not in ("name", "source"):
            plain = dict(value) if isinstance(value, Mapping) else value
            yield f"precision.{key}", {"value": plain, "source": deployment.precision.source}
    follows = f"follows from dtype {scenario.dtype} and the workload"
    yield "serving.activations", {"value": deployment.dtype, "source": follows}
    yield "serving.kv_cache", {"value": deployment.kv_dtype or deployment.dtype, "source": follows}
    yield "serving.chunk", {"value": deployment.chunk, "source": f"{deployment.runtime.name} on {cluster.gpu.name}"}
    if deployment.config.experts > 1:
        yield "serving.routing", {"value": deployment.routing, "source": follows}
    sources = deployment.runtime.sources
    for key, value in vars(deployment.runtime).items():
        if key not in ("name", "sources", "stack"):
            unit = {"unit": "s"} if key.endswith("_s") else {"unit": "B"} if key.endswith("_bytes") else {}
            source = sources.get(key, _given_by(deployment.runtime, key))
            yield f"runtime.{key}", {"value": value, **unit, "source": source}


def _given_by(runtime: Runtime, key: str) -> str:
    """The source of a runtime's value for which its file names none."""
    file = f"runtimes/{runtime.engine}@{runtime.since}.yaml"
    return file if key in ("engine", "since", "title", "version", "released", "default", "measured") else "default"


def effective(path: Key, value: Any, scenario: Scenario) -> dict[str, Any]:
    """The value that a scenario's value stands for, with its unit: defaults that depend on others are filled in."""
    if value is None:
        value = absent(path, scenario.workload.kind, scenario.dtype)
    unit = {"time": "s", "bytes": "B"}.get(path[-1]) if len(path) > 1 else None
    return {"value": value, **({"unit": unit} if unit and value is not None else {})}


def _resolved(figure: Figure, sources: Mapping[str, str]) -> dict[str, Any]:
    source = sources.get(figure.source or "", figure.source)
    return {"value": figure.value, **({"unit": figure.unit} if figure.unit else {}), "source": source}
