"""Which failure hurts most: every link, NIC, switch and GPU of a training job broken in turn, of those alike one.

Nodes are alike where the same pipeline stages are on them, and as many nodes of the job stand below the leaf switches
above them; so are leaf switches. Of those that are alike the first is broken. A job does not go on without a NIC or a
switch: it is started again and runs as the table has it (what a restart costs is the subject of `reliability`).

NCCL chooses by its own estimates, so that with a part broken it may choose what is faster than what it chose before: a
row that is faster says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.analysis.choices import Choices, choices_of, switches
from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.faults import spines_of
from simgpu.hardware.layout import Layout
from simgpu.plan.parallelism import Plan
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import Experiment, run_case
from simgpu.study.whatif.runs import with_hardware

SLOW, HALF = 0.8, 0.5
"""What is left of the speed of a slow GPU, as a power brake or heat leave it, and of a link with half of its lanes."""
SHOWN = 0.0005
"""Least part of a step that the table shows."""


@dataclass(frozen=True)
class Failure:
    """A failure in words, where the first of its kind is, how many are alike, and the fault of a cluster."""

    what: str
    where: str
    alike: int
    fault: dict[str, Any]


def failures(cluster: Cluster, plan: Plan) -> list[Failure]:
    """Every kind of failure of a cluster that differs for a plan."""
    nodes = -(-plan.world // cluster.gpus_per_node)
    spec = cluster.spec
    layout = Layout(spec, cluster.node.nic_count) if spec.fabric is not None and nodes > 1 else None
    places = layout.positions(nodes) if layout is not None else tuple(range(nodes))
    groups = [layout.group(place) if layout is not None else 0 for place in places]
    below = Counter(groups)
    stages = [_stages(plan, node, cluster.gpus_per_node) for node in range(nodes)]
    found: list[Failure] = []
    kinds: dict[Any, list[int]] = {}
    for node in range(nodes):
        kinds.setdefault((stages[node], below[groups[node]]), []).append(node)
    for alike in kinds.values():
        found += _of_node(cluster, alike[0], len(alike), stages[alike[0]], plan, layout is not None)
    if layout is not None:
        found += _of_fabric(cluster, layout, groups, stages)
    return found


def _stages(plan: Plan, node: int, per_node: int) -> tuple[int, ...]:
    ranks = range(node * per_node, min((node + 1) * per_node, plan.world))
    return tuple(sorted({plan.stage(rank) for rank in ranks}))


def _of_node(
    cluster: Cluster, node: int, alike: int, stages: Sequence[int], plan: Plan, network: bool
) -> Iterator[Failure]:
    where = f"node {node}" + (f", stage {', '.join(map(str, stages))}" if plan.pp > 1 else "")
    gpus, nics = cluster.gpus_per_node, cluster.node.nic_count
    left = f"{SLOW:.0%}"
    yield Failure(f"GPU at {left}", where, alike * gpus, {"node": node, "gpu": 0, "rate": SLOW})
    if cluster.node.nvlink is not None and gpus > 1:
        yield Failure("links of a GPU at 50%", where, alike * gpus, {"node": node, "nvlink": 0, "rate": HALF})
    if network:
        yield Failure("NIC at 50%", where, alike * nics, {"node": node, "nic": 0, "rate": HALF})
        if nics > 1:
            yield Failure("NIC lost", where, alike * nics, {"node": node, "nic": 0})


def _of_fabric(
    cluster: Cluster, layout: Layout, groups: Sequence[int], stages: Sequence[tuple[int, ...]]
) -> Iterator[Failure]:
    fabric = cluster.spec.fabric
    assert fabric is not None
    if layout.tree:
        on: dict[int, list[int]] = {}
        for node, group in enumerate(groups):
            on.setdefault(group, []).append(node)
        kinds: dict[Any, list[int]] = {}
        for group, nodes in on.items():
            kinds.setdefault((len(nodes), tuple(sorted({s for n in nodes for s in stages[n]}))), []).append(group)
        for (count, _), alike in kinds.items():
            leaf, many = alike[0] * layout.rails, len(alike) * layout.rails
            where = f"leaf {leaf}, {count} nodes below"
            if layout.rails > 1:
                yield Failure("leaf switch lost", where, many, {"leaf": leaf})
            if len(on) > 1:
                yield Failure("leaf's uplinks at 50%", where, many, {"leaf": leaf, "rate": HALF})
        if len(on) > 1 and spines_of(layout) > 1:
            yield Failure("spine switch lost", f"one of {spines_of(layout)}", spines_of(layout), {"spines": 1})
    if fabric.planes > 1:
        yield Failure("plane lost", f"one of {fabric.planes}", fabric.planes, {"planes": 1})


@dataclass(frozen=True)
class Broken:
    """A case and the step with each failure: rows of what, where, how many alike, step and how much longer it is."""

    name: str
    title: str
    step: float
    rows: list[dict[str, Any]]
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {"what_breaks": self.name, "title": self.title, "step_s": self.step, "rows": self.rows,
                "notes": self.notes}  # fmt: skip


def what_breaks(
    experiment: Experiment, number: int, catalogue: Catalogue, progress: Callable[[int, int], None] | None = None
) -> Broken:
    """Break every part of the machine of a case in turn. Raises `InputError`."""
    if number > len(experiment.cases):
        raise InputError(f"{number}: the experiment has {len(experiment.cases)}", key="--case")
    case = experiment.cases[number - 1]
    if case.scenario.workload.kind != "training":
        raise InputError(f"'{case.scenario.workload.kind}' is no training step, whose parts can be broken in turn",
                         key="workload.kind")  # fmt: skip
    cluster = resolve_cluster(case.scenario, catalogue, case.origins)
    whole = run_case(case, catalogue)
    chosen = choices_of(whole.execution)
    known = [fault.model_dump(exclude_none=True) for fault in cluster.spec.degraded]
    kinds = failures(cluster, case.scenario.plan.plan())
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    for i, one in enumerate(kinds):
        if progress is not None:
            progress(i, len(kinds))
        try:
            broken = run_case(_with(case, [*known, one.fault]), catalogue)
        except InputError as refused:
            notes.append(f"{one.what} ({one.where}): {refused.problem}")
            continue
        step = float(broken.row["step_s"])
        slowdown = step / float(whole.row["step_s"])
        rows.append({"failure": one.what, "where": one.where, "alike": one.alike, "step_s": step, "slowdown": slowdown,
                     "gpus_lost": (1 - 1 / slowdown) * int(whole.row["gpus"]),
                     "note": why_faster(slowdown, chosen, choices_of(broken.execution))})  # fmt: skip
    rows.sort(key=lambda row: -row["slowdown"])
    title = experiment.fields.title or experiment.name
    return Broken(experiment.name, title, float(whole.row["step_s"]), rows, notes)


def why_faster(slowdown: float, before: Choices, after: Choices) -> str:
    """Why a step with a part broken is faster than without, where the table shows that it is; else ''."""
    if slowdown > 1 - SHOWN:
        return ""
    others = switches(before, after)
    if not others:
        return "faster: pipelines of the same algorithms with fewer bytes in flight fill sooner; read it as no loss"
    what = "takes other numbers of channels" if others[0].endswith("channels") else "chooses another algorithm"
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    return f"faster: NCCL {what} ({others[0]}{more})"


def _with(case: Case, faults: list[dict[str, Any]]) -> Case:
    return with_hardware(case, {"cluster.degraded": faults})
