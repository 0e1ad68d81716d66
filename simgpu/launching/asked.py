"""One row of an experiment that is to be launched: its scenario, its model and machine, and what is predicted of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.model.config import TransformerConfig
from simgpu.plan.parallelism import Plan
from simgpu.scenario import Scenario, resolve_cluster
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import Given, find_experiment, load_experiment, run_case
from simgpu.study.experiment.selection import chosen, only, split_row
from simgpu.study.search.ranked import open_experiment
from simgpu.tree import leaves

SERVES = ("inference", "serving", "traffic")
TRAINS = ("training",)
NO_MATTER = ("model", "cluster", "workload.kind", "clocks", "framework", "algorithm", "protocol", "accumulate")
"""Keys that a launcher cannot set: what they say is the software itself, or holds for the simulation alone."""
APART = ("hardware", "cost", "reliability", "power", "require_fit")


@dataclass
class Asked:
    """A row of an experiment that is to be launched.

    name
        The name of the experiment.
    scenario, data
        The row, checked, and as the file and `--set` say it.
    config, cluster, model
        Its model and machine, and the id of the model on Hugging Face (its name in the catalogue where it has none).
    row
        What the simulation of it predicts.
    said
        Keys of the plan and the workload that were said, with their values; `used` are those a writer has taken.
    """

    name: str
    scenario: Scenario
    config: TransformerConfig
    cluster: Cluster
    catalogue: Catalogue
    model: str
    row: Mapping[str, Any]
    said: Mapping[str, Any]
    used: set[str] = field(default_factory=set)

    @property
    def job(self) -> Any:
        """The workload."""
        return self.scenario.workload

    @property
    def plan(self) -> Plan:
        """The plan, defaults filled in."""
        return self.scenario.plan.plan()

    @property
    def gpus(self) -> int:
        """GPUs that the plan uses."""
        return self.plan.world

    @property
    def per_node(self) -> int:
        """GPUs of each node that take part."""
        return min(self.cluster.gpus_per_node, self.gpus)

    @property
    def nodes(self) -> int:
        """Nodes that take part."""
        return -(-self.gpus // self.per_node)

    def take(self, key: str, default: Any = None) -> Any:
        """The value of a key ('plan.tp'), which counts as taken from here on."""
        self.used.add(key)
        here: Any = self.scenario
        for part in key.split("."):
            here = getattr(here, part, None)
        return default if here is None else here

    def left(self) -> Iterator[tuple[str, Any]]:
        """Keys that were said and that no writer took, with their values."""
        taken = {*self.used, *NO_MATTER}
        for key, value in self.said.items():
            if not any(key == one or key.startswith(f"{one}.") for one in taken):
                yield key, value


def ask(
    file: Given, settings: Sequence[str], catalogue: Catalogue, row: str | int | None = None, may_not_fit: bool = False
) -> Asked:
    """Read a row, 'FILE', 'FILE#ROW' or 'FILE:ROW', and simulate it. '#2' of a search is its second best plan.

    Raises `InputError` where the row is not there, is of another kind, or does not fit the memory: what would not start
    is not written.
    """
    if row is None and isinstance(file, str):
        file, row = _split(file)
    source = find_experiment(file, catalogue)
    experiment = load_experiment(source, settings, catalogue)
    if experiment.fields.search is not None and str(row or "").isdecimal():
        experiment, row = open_experiment(f"{source}#{row}", settings, catalogue), None
    how = "name one: FILE#ROW"
    number = only(experiment, "ROW", how) if row is None else chosen(experiment, str(row), "ROW")
    case = experiment.cases[number]
    scenario = case.scenario
    if scenario.workload.kind not in (*SERVES, *TRAINS):
        problem = f"{scenario.workload.kind} is not launched; expected training, {', '.join(SERVES)}"
        raise case.origins.error(problem, ("workload", "kind"))
    model = catalogue.model(scenario.model or "")
    if not isinstance(model, TransformerConfig):
        raise case.origins.error("only transformers are launched", ("model",))
    result = run_case(case, catalogue)
    if not may_not_fit and result.row.get("memory_fits") is False:
        problem = f"row {number + 1} does not fit the memory of {scenario.cluster}; nothing is written"
        raise InputError(f"{problem} ('simgpu run FILE --memory' says what takes it)", key="plan")
    cluster = resolve_cluster(scenario, catalogue, case.origins)
    return Asked(
        experiment.name, scenario, model, cluster, catalogue, _published(scenario, model, catalogue),
        result.row, dict(_said(case)),
    )  # fmt: skip


def _split(text: str) -> tuple[str, str | None]:
    file, mark, row = text.rpartition("#")
    return (file, row) if mark else split_row(text)


def _published(scenario: Scenario, config: TransformerConfig, catalogue: Catalogue) -> str:
    """The id of a model on Hugging Face, else its name."""
    ids = catalogue.model_source(config.name).huggingface
    return ids[0] if ids else str(scenario.model)


def _said(case: Case) -> Iterator[tuple[str, Any]]:
    """Keys that the file or `--set` say, less those that hold for the simulation alone."""
    for path, value in leaves({key: value for key, value in case.data.items() if key not in APART}):
        yield ".".join(map(str, path)), value
