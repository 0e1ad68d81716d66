"""Names that a condition of an experiment file can use: plan, job, model, cluster, labels of a point.

A short name is a key of the plan (`tp`), of the job (`batch`), of the model's shape (`layers`), or one of `CLUSTER` and
`SCENARIO`. `plan.tp`, `workload.batch` and hardware parameters (`gpu.memory.bandwidth`, SI) can be written in full; a
name that stands in a plan and in a job (`offload`, `context`) must be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields as fields_of
from math import prod
from typing import Any, get_args

from simgpu.errors import InputError, nearest
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.overrides import HARDWARE_ROOTS
from simgpu.plan.parallelism import LISTS, RULES
from simgpu.scenario import Key, PlanFields, Scenario
from simgpu.study.experiment.resolver import Resolver
from simgpu.tree import value_at
from simgpu.workload.jobs import Workload
from simgpu.workload.options import clocks_of

SCENARIO = ("model", "cluster", "dtype", "accumulate", "algorithm", "protocol", "clocks", "framework", "require_fit")
CLUSTER: dict[str, Callable[[Cluster], Any]] = {
    "gpus": lambda cluster: cluster.gpu_count,
    "gpus_per_node": lambda cluster: cluster.gpus_per_node,
    "nodes": lambda cluster: int(cluster.spec.nodes.si),
    "gpu": lambda cluster: cluster.gpu.name,
}
"""Names of the cluster as the catalogue has it: `gpus` counts all of its GPUs."""

WORLD = ("tp", "cp", "pp", "dp")
_JOBS: dict[str, Any] = {
    get_args(job.model_fields["kind"].annotation)[0]: job for job in get_args(get_args(Workload)[0])
}
_JOB_KEYS = {key for job in _JOBS.values() for key in job.model_fields} - {"kind", "operators", "file", "speculative"}
_PLAN_KEYS = set(PlanFields.model_fields) - set(LISTS)
_MODEL_KEYS = {field.name for field in fields_of(TransformerConfig)} - {"name"} | {"parameters", "active_parameters"}
_BOTH = _JOB_KEYS & _PLAN_KEYS


class UnknownError(Exception):
    """The point names an unknown model or cluster: the check of the point itself reports it."""


def names(labels: Iterable[str]) -> set[str]:
    """Every name but hardware parameters, which depend on the cluster."""
    short = {*SCENARIO, *CLUSTER, "world", "workload", *((_PLAN_KEYS | _JOB_KEYS) - _BOTH), *_MODEL_KEYS}
    full = {f"plan.{key}" for key in _PLAN_KEYS} | {f"workload.{key}" for key in (*_JOB_KEYS, "kind")}
    return short | full | set(labels)


def is_hardware(name: str) -> bool:
    """True if a name is that of a hardware parameter."""
    return "." in name and name.partition(".")[0] in HARDWARE_ROOTS


def depends_on(name: str, labels: Iterable[str]) -> list[Key]:
    """The places in a scenario that decide the value of a name."""
    if name in labels:
        return []
    if is_hardware(name) or name in CLUSTER:
        return [("cluster",), ("hardware",)]
    where, _, key = name.rpartition(".")
    if where == "plan" or (not where and key in _PLAN_KEYS):
        _, of = RULES.get(key, (None, ()))
        return [("plan", key), *(("workload",) if name == "batch" else ("plan", name) for name in of)]
    if name == "world":
        return [("plan", degree) for degree in WORLD]
    if where == "workload" or name == "workload" or key in _JOB_KEYS:
        return [("workload", "kind"), ("workload", key)]
    return [("workload", "kind"), (name,)] if name in SCENARIO else [("model",)]


class PointValues(Mapping[str, Any]):
    """The values of names at one point, looked up when they are needed."""

    def __init__(self, data: Mapping[str, Any], labels: Mapping[str, Any], resolver: Resolver) -> None:
        self.data, self.labels, self.resolver = data, labels, resolver

    def __getitem__(self, name: str) -> Any:
        if name in self.labels:
            return self.labels[name]
        if is_hardware(name):
            return self._figure(name)
        if name in CLUSTER:
            return CLUSTER[name](self._cluster())
        where, _, key = name.rpartition(".")
        if where == "plan" or (not where and key in _PLAN_KEYS):
            return self._plan(key)
        if name == "world":
            degrees = [self._count("plan", degree) for degree in WORLD]
            return None if None in degrees else prod(degree for degree in degrees if degree)
        if where == "workload" or name == "workload" or key in _JOB_KEYS:
            return self._job("kind" if name == "workload" else key)
        return self._scenario(name) if name in SCENARIO else self._model(name)

    def __iter__(self) -> Iterator[str]:
        return iter(names(self.labels))

    def __len__(self) -> int:
        return len(names(self.labels))

    def _plan(self, key: str) -> Any:
        """A key of the plan, with its default where it is absent."""
        value = value_at(self.data, ("plan", key))
        if value is None:
            value = PlanFields.model_fields[key].default
        if value is not None or key not in RULES:
            return value
        rule, of = RULES[key]
        known = [self._count("workload" if name == "batch" else "plan", name) for name in of]
        return None if None in known else rule(*known)

    def _count(self, where: str, key: str) -> int | None:
        """A whole number above zero, else None: the check of the point reports others."""
        value = self._plan(key) if where == "plan" else self._job(key)
        return value if isinstance(value, int) and value > 0 else None

    def _job(self, key: str) -> Any:
        value = value_at(self.data, ("workload", key))
        job = _JOBS.get(str(value_at(self.data, ("workload", "kind"))))
        if value is None and job is not None and key in job.model_fields:
            default = job.model_fields[key].get_default()
            return None if default is None or not isinstance(default, (str, int, float)) else default
        return value

    def _scenario(self, name: str) -> Any:
        value = value_at(self.data, (name,))
        if value is None and not Scenario.model_fields[name].is_required():
            value = Scenario.model_fields[name].default
        if value is None and name == "clocks":
            return clocks_of(self._job("kind"))
        return value

    def _model(self, name: str) -> Any:
        model_name = value_at(self.data, ("model",))
        if model_name is None:
            return None
        try:
            return getattr(self.resolver.model(str(model_name)), name)
        except InputError:
            raise UnknownError from None

    def _cluster(self) -> Cluster:
        hardware = value_at(self.data, ("hardware",))
        try:
            return self.resolver.cluster(str(value_at(self.data, ("cluster",))), hardware or {})
        except (InputError, AttributeError):
            raise UnknownError from None

    def _figure(self, name: str) -> Any:
        found = self.resolver.figures(self._cluster())
        if name not in found:
            raise InputError(f"unknown name '{name}'{nearest(name, found, where='simgpu resolve names all figures')}")
        return found[name]
