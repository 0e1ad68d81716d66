"""Differences between two scenarios, as changes that can be made one at a time.

Hardware that differs by a name (another cluster, another GPU) is taken apart into the physical inputs that both have:
bandwidths, peaks and latencies of the one are brought to those of the other by scaling, as `simgpu sensitivity` does;
what remains (multiprocessors, clocks, constants of kernels, wiring) is one change of its own. Degrees of the plan are
changed together, since each of them alone would change how many GPUs work.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.scenario import Key, resolve_cluster
from simgpu.simulation.result import Result
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.points import written_key
from simgpu.study.experiment.running import run_case
from simgpu.study.whatif.inputs import Input, inputs_of
from simgpu.study.whatif.runs import with_hardware
from simgpu.study.whatif.sensitivity import Progress
from simgpu.study.whatif.shapley import needed
from simgpu.tree import leaves, value_at

DEGREES = ("tp", "cp", "pp", "dp", "ep")
_TRANSPLANTED = (
    *("hbm_bandwidth", "hbm_capacity", "l2_cache", "tensor_peak", "vector_peak", "nvlink_bandwidth", "nvlink_latency"),
    *("pcie_bandwidth", "pcie_latency", "nic_bandwidth", "nic_latency", "oversubscription", "host_memory"),
)
"""Inputs that can be brought from one cluster to another by scaling."""


@dataclass(frozen=True)
class Change:
    """A difference of two scenarios.

    `paths` are keys of the scenario; `inputs` names of physical inputs; `rest` stands for the cluster with all that no
    input covers.
    """

    what: str
    paths: tuple[Key, ...] = ()
    inputs: tuple[str, ...] = ()
    rest: bool = False

    def joined(self, other: Change) -> Change:
        """Both changes as one."""
        what = f"{self.what} + {other.what}"
        return Change(what, self.paths + other.paths, self.inputs + other.inputs, self.rest or other.rest)


@dataclass(frozen=True)
class Side:
    """One of the two scenarios, simulated."""

    name: str
    case: Case
    result: Result
    inputs: Mapping[str, Input]


def side(name: str, case: Case, catalogue: Catalogue, dtype: str) -> Side:
    """Simulate a scenario; `dtype` says which peak names the tensor cores."""
    result, plan = run_case(case, catalogue), case.scenario.plan
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    known = inputs_of(cluster, dtype, plan.tp * plan.pp * plan.dp * plan.cp)
    return Side(name, case, result, {one.name: one for one in known})


def changes_between(a: Side, b: Side) -> list[Change]:
    """The changes that turn A into B, hardware first, in an order that does not depend on which is which."""
    plan, others, hardware = _differing(a.case, b.case)
    changes = []
    if a.case.scenario.cluster != b.case.scenario.cluster or a.result.row["gpu"] != b.result.row["gpu"]:
        both = [name for name in _TRANSPLANTED if name in a.inputs and name in b.inputs]
        moved = [name for name in both if _differ(a.inputs[name].value, b.inputs[name].value)]
        changes += [Change(a.inputs[name].title.partition(" (")[0], inputs=(name,)) for name in moved]
        changes.append(Change("all other hardware", rest=True))
    else:
        changes += _by_input(hardware, [*a.inputs.values(), *b.inputs.values()])
    if plan:
        changes.append(Change(", ".join(path[-1].upper() for path in plan), tuple(plan)))
    grouped: dict[str, list[Key]] = {}
    for path in others:
        grouped.setdefault(_group(path), []).append(path)
    return changes + [Change(name, tuple(paths)) for name, paths in sorted(grouped.items())]


def _differing(a: Case, b: Case) -> tuple[list[Key], list[Key], list[Key]]:
    """Paths whose values differ: degrees of the plan, other keys, hardware figures."""
    paths = dict.fromkeys(path for case in (a, b) for path, _ in leaves(case.data) if path[0] != "labels")
    dumps = a.scenario.model_dump(), b.scenario.model_dump()
    plan, others, hardware = [], [], []
    for path in sorted(paths):
        if path[0] == "hardware":
            if a.scenario.hardware.get(written_key(path)) != b.scenario.hardware.get(written_key(path)):
                hardware.append(path)
        elif path == ("cluster",) or value_at(dumps[0], path) == value_at(dumps[1], path):
            continue
        elif path[0] == "plan" and path[-1] in DEGREES:
            plan.append(path)
        else:
            others.append(path)
    return sorted(plan, key=lambda path: DEGREES.index(path[-1])), others, hardware


def _by_input(hardware: Sequence[Key], inputs: Iterable[Input]) -> list[Change]:
    """Figures set by hand, those of one physical input together."""
    titles = {key: one.title.partition(" (")[0] for one in inputs if not one.compound for key in one.figures}
    grouped: dict[str, list[Key]] = {}
    for path in hardware:
        grouped.setdefault(titles.get(written_key(path), written_key(path)), []).append(path)
    return [Change(title, tuple(paths)) for title, paths in grouped.items()]


def _group(path: Key) -> str:
    """The prefix that groups keys which mean something together only: items of a list, a mapping below a key."""
    return ".".join(path[:2]) if path[0] in ("workload", "plan") else path[0]


def _differ(value: float, other: float) -> bool:
    return abs(value - other) > 1e-9 * max(abs(value), abs(other))


@dataclass
class Between:
    """Scenarios between A and B, simulated when they are needed, each once."""

    a: Side
    b: Side
    changes: Sequence[Change]
    catalogue: Catalogue
    runs: dict[frozenset[int], Mapping[str, Any]] = field(default_factory=dict)

    def row(self, applied: frozenset[int]) -> Mapping[str, Any]:
        """The row after some changes (positions in `changes`). Raises `InputError` where that cannot be simulated."""
        if applied not in self.runs:
            if not applied or len(applied) == len(self.changes):
                self.runs[applied] = (self.b if applied else self.a).result.row
            else:
                self.runs[applied] = run_case(self._case([self.changes[n] for n in applied]), self.catalogue).row
        return self.runs[applied]

    def works(self, applied: frozenset[int]) -> bool:
        """True if the scenario after some changes can be simulated."""
        try:
            self.row(applied)
        except InputError:
            return False
        return True

    def _case(self, applied: Sequence[Change]) -> Case:
        a, b = self.a.case, self.b.case
        paths = {path: value_at(b.data, path) for change in applied for path in change.paths}
        rest = any(change.rest for change in applied)
        if rest:
            paths |= {("cluster",): b.data["cluster"], ("hardware",): dict(b.scenario.hardware)}
        case = a.changed(paths)
        here, figures = (self.b if rest else self.a).inputs, {}
        moved = {name for change in applied for name in change.inputs}
        for name in [name for change in self.changes for name in change.inputs]:
            wanted = (self.b if name in moved else self.a).inputs[name].value
            if _differ(wanted, here[name].value):
                figures.update(here[name].scaled(wanted / here[name].value)[1])
        return with_hardware(case, figures) if figures else case


def separable(a: Side, b: Side, catalogue: Catalogue, progress: Progress | None = None) -> Between:
    """The changes between A and B, those joined that cannot be made one at a time; all that shares need is simulated.

    A tensor-parallel degree of eight, say, needs the node of eight: where a scenario on the way cannot be simulated,
    the change that leads there and the one that helps are made together.
    """
    changes = changes_between(a, b)
    while True:
        between = Between(a, b, changes, catalogue)
        broken = _broken(between, progress)
        if broken is None:
            return between
        joined = changes[min(broken)].joined(changes[max(broken)])
        changes = [change for n, change in enumerate(changes) if n not in broken]
        changes.insert(min(broken), joined)


def _broken(between: Between, progress: Progress | None) -> tuple[int, int] | None:
    """Positions of two changes that must be made together; None where every one can be made by itself."""
    every = frozenset(range(len(between.changes)))
    wanted = needed(len(every))
    for done, applied in enumerate(wanted):
        if progress:
            progress(done, len(wanted))
        if not between.works(applied):
            guilty = next((one for one in sorted(applied) if between.works(applied - {one})), max(applied))
            helps = next(
                (one for one in sorted(every - applied) if between.works(applied | {one})), min(every - applied)
            )
            return guilty, helps
    return None
