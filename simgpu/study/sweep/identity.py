"""The identity of a scenario, whatever words it was written in: a key for all that decides its result.

The key is the SHA-256 of canonical JSON: the version of simgpu and a digest of the code that computes results, every
field of the scenario with its default filled in, and digests of what it refers to (the shape of the model, every figure
of cluster, node, GPU and links after overrides, inherited constants, constants of the framework or runtime). Titles,
sources and places do not count, so two files that say the same in other words have the same key.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.figure import Figure
from simgpu.hardware.inherit import Calibration
from simgpu.memo import WORDS, Region
from simgpu.model.config import TransformerConfig
from simgpu.model.networks.pipeline import Pipeline
from simgpu.operations.hourly import listed_hour
from simgpu.operations.prices import price_book
from simgpu.operations.rates import rates_of
from simgpu.scenario import Origins, Scenario, check_names, framework_of
from simgpu.study.experiment.resolver import Resolver
from simgpu.study.pools.versions import code_digest
from simgpu.version import __version__
from simgpu.workload.defaults import filled
from simgpu.workload.frameworks import Framework
from simgpu.workload.inference.jobs import Deployed
from simgpu.workload.jobs import Inference, OperatorList, PostTraining, Traffic, Training
from simgpu.workload.networks.job import Network
from simgpu.workload.networks.stacks import stack
from simgpu.workload.runtimes import Runtime

DIGESTS = 4096
"""Things whose digests are remembered."""


@dataclass(frozen=True)
class Identity:
    """The key of a scenario, the scenario with its defaults filled in, and digests of what it refers to by its part."""

    key: str
    asked: Mapping[str, Any]
    parts: Mapping[str, str]


class Identities:
    """Identities of many scenarios over one catalogue; what they refer to is digested once."""

    def __init__(self, resolver: Resolver) -> None:
        self.resolver = resolver
        self._contents: dict[str, str] = {}
        self._shown: set[str] = set()
        self._digests: Region[int, tuple[Any, str]] = Region(DIGESTS)  # they hold what they are of

    def of(self, scenario: Scenario, origins: Origins | None = None) -> Identity:
        """The identity of a scenario. Raises `InputError`, at its place, for names that the catalogue does not have."""
        places = origins or Origins()
        parts: dict[str, str] = {}
        model = None
        if scenario.model and isinstance(scenario.workload, Network):
            pipeline = self.resolver.catalogue.network(scenario.model)
            parts["model"] = digest_of(_of_network(pipeline, scenario.workload))
        elif scenario.model:
            model = self._model(scenario.model, places, ("model",))
            parts["model"] = self._digest(model, vars)
        job, stack, run = scenario.workload, None, None
        if isinstance(job, OperatorList) and job.file is not None:
            parts["graph"] = job.digest
        if isinstance(job, (Inference, Traffic)) and job.speculative is not None and job.speculative.draft != "mtp":
            draft = self._model(job.speculative.draft, places, ("workload", "speculative", "draft"))
            parts["draft"] = self._digest(draft, vars)
        if isinstance(job, PostTraining) and job.teacher is not None:
            teacher = self._model(job.teacher, places, ("workload", "teacher"))
            parts["teacher"] = self._digest(teacher, vars)
        if isinstance(job, (Traffic, Training)):
            names = [pool.cluster for pool in job.pools or ()]
            for place, name in enumerate(names):
                found = self._cluster(self.resolver.cluster(name, {}, places))
                parts |= {f"pool {place} {name}": digest for name, digest in found.items()}
        cluster = self.resolver.cluster(scenario.cluster, scenario.hardware, places)
        parts["operations"] = digest_of(_of_operations(scenario, cluster, self.resolver.catalogue))
        parts |= self._cluster(cluster)
        if isinstance(job, Training):
            stack = framework_of(scenario, self.resolver.catalogue, places)
            parts["framework"] = self._digest(stack, Framework.values)
        elif isinstance(job, Deployed):
            check_names(scenario, self.resolver.catalogue, places)
            run = self.resolver.catalogue.runtime(job.runtime)
            parts["runtime"] = self._digest(run, _of_runtime)
            if isinstance(job, Traffic) and job.trace is not None:
                parts["trace"] = _of_file(job.trace)
            if run.stack is not None:
                parts["framework"] = self._digest(run.stack, Framework.values)
        inputs = asked_of(scenario, model, stack, run)
        whole = {"simgpu": __version__, "code": code_digest(), "scenario": inputs, "parts": parts}
        return Identity(digest_of(whole), inputs, parts)

    def _model(self, name: str, places: Origins, path: tuple[str, ...]) -> TransformerConfig:
        try:
            return self.resolver.model(name)
        except InputError as error:
            raise error if error.file else places.error(error.problem, path) from None

    def _cluster(self, cluster: Cluster) -> dict[str, str]:
        specs: dict[str, BaseModel] = {"cluster": cluster.spec, "node": cluster.node, "gpu": cluster.gpu}
        specs |= {f"link.{name}": link for name, link in cluster.links.items()}
        found = {name: self._digest(spec, _figures) for name, spec in specs.items()}
        return {**found, "constants": self._digest(cluster.kernel, _constants)}

    def _digest(self, thing: Any, plain: Callable[[Any], Any]) -> str:
        """The digest of something; of the same object it is made once."""
        known = self._digests.get(id(thing))
        if known is None or known[0] is not thing:
            digest = digest_of(plain(thing))
            known = self._digests[id(thing)] = thing, digest
            if digest not in self._shown:
                self._shown.add(digest)
                self._contents[digest] = _content(thing)
        return known[1]

    def contents(self) -> dict[str, str]:
        """Contents behind the digests that are new since the last call, as JSON: figures with unit and source."""
        found, self._contents = self._contents, {}
        return found


def _of_network(pipeline: Pipeline, job: Network) -> Any:
    """What the file of a network of stages, the configurations of its stages and its stack say."""
    used = stack(job.stack or pipeline.fields.stack)
    configs = [one.config.document.data for one in pipeline.stages]
    return {**pipeline.fields.model_dump(), "configs": configs, "stack": {**vars(used), "sources": None}}


def _of_operations(scenario: Scenario, cluster: Cluster, catalogue: Catalogue) -> Any:
    """The quotes and failure rates that a scenario's cost and failures are reckoned with."""
    if scenario.cost is None and scenario.reliability is None:
        return listed_hour({}, cluster, catalogue)
    quotes = price_book(catalogue, scenario.cost.prices).known if scenario.cost is not None else ()
    rates = rates_of(catalogue, scenario.reliability.rates) if scenario.reliability is not None else None
    return {
        "listed": listed_hour({}, cluster, catalogue),
        "prices": [one.quote.model_dump(exclude={"source"}) for one in quotes],
        "rates": rates and rates.model_dump(exclude={"title", "sources"}),
    }


def asked_of(
    scenario: Scenario, model: TransformerConfig | None, framework: Framework | None, run: Runtime | None
) -> dict[str, Any]:
    """The scenario's own fields with defaults filled in. Whatever it refers to by name is left to digests.

    `framework` is that of a training step, `run` the runtime of inference; None for other jobs.
    """
    inputs = scenario.model_dump(mode="json", exclude={"hardware", "model", "cluster"})
    try:
        plan = scenario.plan.plan()
    except InputError:  # it will be told where it runs
        plan = None
    known = filled(scenario.workload, plan, scenario.dtype, framework, run, model, scenario.clocks, scenario.accumulate)
    for path, value in known.items():
        (inputs[path[0]] if len(path) > 1 else inputs)[path[-1]] = value
    return inputs


def digest_of(data: Any) -> str:
    """SHA-256 of data as canonical JSON: sorted keys, no blanks."""
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()


def _of_file(name: str) -> str:
    """The digest of a file; empty where it cannot be read, which is told where it is needed."""
    try:
        with Path(name).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError:
        return ""


def _figures(spec: Any) -> Any:
    """A specification as plain data: figures as SI numbers, without names and sources."""
    if isinstance(spec, Figure):
        more = {
            name: getattr(spec, name) for name in type(spec).model_fields if name not in ("value", "unit", "source")
        }
        return [spec.value, more] if more else spec.value
    if isinstance(spec, BaseModel):
        values = {name: _figures(getattr(spec, name)) for name in type(spec).model_fields if name not in WORDS}
        return {name: value for name, value in values.items() if value is not None}
    if isinstance(spec, Mapping):
        return {str(name): _figures(value) for name, value in spec.items()}
    return [_figures(item) for item in spec] if isinstance(spec, (list, tuple)) else spec


def _of_runtime(run: Runtime) -> Any:
    """A runtime without names and sources; its framework has a digest of its own."""
    return {name: value for name, value in vars(run).items() if name not in (*WORDS, "stack")}


def _constants(kernel: Calibration) -> Any:
    return {".".join(path): [one.figure.si, one.level, one.regime] for path, one in kernel.given.items()}


def _content(thing: Any) -> str:
    """The content behind a digest, for people who look it up."""
    if isinstance(thing, BaseModel):
        return thing.model_dump_json(exclude_none=True)
    if isinstance(thing, Calibration):
        given = {
            ".".join(path): {"value": one.figure.si, "unit": one.figure.unit, "level": one.level, "source": one.source}
            for path, one in thing.given.items()
        }
        return json.dumps(given)
    if isinstance(thing, Framework):
        return json.dumps(
            {key: {"value": value, "source": thing.sources[key]} for key, value in thing.values().items()}
        )
    return json.dumps({key: value for key, value in vars(thing).items() if key != "stack"}, default=_plain)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)
