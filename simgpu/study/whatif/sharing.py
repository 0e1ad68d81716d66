"""Training jobs at once on one fabric: what each is slowed by the others on links between switches.

Each job is simulated alone. Its step is then compute, and the bytes that it puts on each link of the fabric: transfers
take what they take alone, end with the step, and so begin when that is as far away as they are long. Jobs repeat their
steps side by side on the fluid network of the engine, where links that several use are shared fairly; they begin at
random against each other, and the mean over some draws counts. NICs belong to one job each.

Transfers that compute hides, and that could begin earlier, have no slack here: what comes out is the most that sharing
costs. With communication a share c of one job's steps and c' of the other's, and half of a link for each while both
send, it is about 1 + c c' (and 1 + c where phases lock).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.analysis.loads import Edge, fabric_loads
from simgpu.catalog import Catalogue
from simgpu.engine import Phase, Simulator
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.layout import Layout
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment.running import Experiment, run_case

STEPS, DRAWS = 12, 8
"""Steps of the longest job in a run, and runs with other beginnings."""


@dataclass(frozen=True)
class Running:
    """A job alone: its step, how long its network is busy in it, and bytes over each link between switches, s and B."""

    name: str
    gpus: int
    nodes: frozenset[int]
    step: float
    busy: float
    bytes: Mapping[Edge, float]
    rates: Mapping[Edge, float]


@dataclass(frozen=True)
class Shared:
    """Jobs on one fabric: a row for each."""

    name: str
    title: str
    rows: list[dict[str, Any]]
    notes: list[str]

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        return {"share": self.name, "title": self.title, "rows": self.rows, "notes": self.notes}


def share(experiment: Experiment, catalogue: Catalogue, progress: Callable[[int, int], None] | None = None) -> Shared:
    """Run the jobs of an experiment at once. Raises `InputError`."""
    if len(experiment.cases) < 2:
        raise InputError(
            "has one job; expected several cases, each a job", file=str(experiment.document.file), key="cases"
        )
    jobs: list[Running] = []
    taken: dict[int, str] = {}
    fabric: Any = None
    for i, case in enumerate(experiment.cases):
        if progress is not None:
            progress(i, len(experiment.cases))
        if case.scenario.workload.kind != "training":
            raise case.origins.error(f"'{case.scenario.workload.kind}' is no training job", ("workload", "kind"))
        cluster = resolve_cluster(case.scenario, catalogue, case.origins)
        about = (cluster.node, cluster.spec.fabric, cluster.spec.nodes.si)
        if fabric is not None and about != fabric:
            raise case.origins.error(f"job {i + 1} has another fabric than the first; expected one", ("cluster",))
        fabric = about
        label = next(iter(case.labels.values()), f"job {i + 1}")
        plan = case.scenario.plan.plan()
        places = _places(str(label), cluster, plan, taken, str(experiment.document.file))
        jobs.append(_running(str(label), cluster, run_case(case, catalogue), plan, places))
    together = simulate_together(jobs)
    title = experiment.fields.title or experiment.name
    rows = [_row(job, jobs, step) for job, step in zip(jobs, together, strict=True)]
    note = f"Mean of {DRAWS} beginnings; transfers that compute hides have no slack, so that this is the most it costs."
    return Shared(experiment.name, title, rows, [note])


def _running(name: str, cluster: Cluster, result: Any, plan: Any, places: frozenset[int]) -> Running:
    step = float(result.row["step_s"])
    loads = fabric_loads(result.execution, plan, cluster)
    graph = loads.topology.graph
    rates = {edge: float(graph.edges[edge]["bandwidth"]) for edge in loads.bytes}
    busy = min(max((loads.bytes[edge] / rates[edge] for edge in rates), default=0.0), step)
    between = [edge for edge in rates if all(graph.nodes[vertex]["kind"] != "nic" for vertex in edge)]
    moved = {edge: loads.bytes[edge] for edge in between}
    return Running(name, plan.world, places, step, busy, moved, {edge: rates[edge] for edge in between})


def _places(name: str, cluster: Cluster, plan: Any, taken: dict[int, str], file: str) -> frozenset[int]:
    """Places of the nodes of a job. Raises `InputError` where another job stands on one of them."""
    nodes = -(-plan.world // cluster.gpus_per_node)
    if cluster.spec.fabric is None or nodes == 1:
        raise InputError(f"job '{name}' fits one node and shares no fabric", file=file, key="plan")
    places = frozenset(Layout(cluster.spec, cluster.node.nic_count).positions(nodes))
    if both := sorted(place for place in places if place in taken):
        problem = f"'{taken[both[0]]}' and '{name}' both stand on node {both[0]}; expected other nodes for each"
        raise InputError(problem, file=file, key="cluster.placement")
    taken.update(dict.fromkeys(places, name))
    return places


def simulate_together(jobs: Sequence[Running], draws: int = DRAWS) -> list[float]:
    """Mean step of each job with all at once, s."""
    import numpy as np

    users = Counter(edge for job in jobs for edge in job.bytes)
    total = [0.0] * len(jobs)
    for draw in range(draws):
        begins = np.random.default_rng(draw).random(len(jobs))
        for i, step in enumerate(_run(jobs, users, [float(begin) for begin in begins])):
            total[i] += step / draws
    return total


def _run(jobs: Sequence[Running], users: Mapping[Edge, int], begins: Sequence[float]) -> list[float]:
    sim = Simulator()
    links: dict[Edge, int] = {}
    longest = STEPS * max(job.step for job in jobs)
    ends: list[tuple[int, int, int]] = []
    for job, begin in zip(jobs, begins, strict=True):
        compute, network = sim.add_stream(f"{job.name}/compute"), sim.add_stream(f"{job.name}/network")
        flows: list[Any] = []
        for edge, size in job.bytes.items():
            if users[edge] > 1 and size > 0:
                if edge not in links:
                    links[edge] = sim.add_link(job.rates[edge])
                own = sim.add_link(max(size / max(job.busy, 1e-12), 1e-9))
                flows.append(((links[edge], own), size, None))
        phases = [Phase(0.0, tuple(flows))]
        first = last = sim.delay(compute, begin * job.step)
        steps = max(round(longest / job.step), 1)
        for _ in range(steps):
            ready = sim.delay(compute, job.step - (job.busy if flows else 0.0), [last])
            last = sim.transfer([network], phases, [ready]) if flows else ready
        ends.append((first, last, steps))
    done = sim.run().end
    return [
        max((done[last] - done[first]) / steps, job.step) for (first, last, steps), job in zip(ends, jobs, strict=True)
    ]


def _row(job: Running, jobs: Sequence[Running], together: float) -> dict[str, Any]:
    others = {other.name: len(job.bytes.keys() & other.bytes.keys()) for other in jobs if other is not job}
    met = [name for name, count in others.items() if count]
    links = len({edge for other in jobs if other is not job for edge in job.bytes.keys() & other.bytes.keys()})
    return {
        "job": job.name, "gpus": job.gpus, "step_s": job.step, "together_s": together,
        "slowdown": together / job.step, "network_share": job.busy / job.step, "shared_links": links,
        "with": ", ".join(met),
    }  # fmt: skip
