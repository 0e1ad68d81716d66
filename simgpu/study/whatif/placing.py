"""Where the nodes of a training job should stand on its fabric: a search among the nodes that are free.

Rings of a pipeline stage run through its nodes in the order of ranks, and each of their edges between two leaf switches
takes an uplink of both. Placements are found by that count alone, which costs microseconds: those with names first,
then changes of the best of them. The few with the least crossings at their busiest leaf are simulated, and the step
decides.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.layout import Layout, check_listed, host_numbers
from simgpu.plan.parallelism import Plan
from simgpu.scenario import resolve_cluster
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import Experiment, run_case
from simgpu.study.whatif.runs import with_hardware

TRIES = 12
"""Placements that are simulated where nobody says how many."""
STEPS = 4000
"""Changes of the best placement that are counted, not simulated."""

Places = tuple[int, ...]


@dataclass(frozen=True)
class Placed:
    """A case and its placements: rows of what, how many leaves, crossings, step; the best first."""

    name: str
    title: str
    rows: list[dict[str, Any]]
    given: float
    bound: float | None  # the step with all nodes below one switch

    @property
    def best(self) -> dict[str, Any]:
        """The row of the shortest step on nodes that are free."""
        return next(row for row in self.rows if row["free"])

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        best = float(self.best["step_s"])
        return {
            "place": self.name, "title": self.title, "step_s": self.given, "best_step_s": best,
            "gain": self.given / best - 1, "gpus_gained": (1 - best / self.given) * int(self.best["gpus"]),
            "one_switch_step_s": self.bound, "nodes": self.best["nodes"], "rows": self.rows,
        }  # fmt: skip


def place(
    experiment: Experiment,
    number: int,
    free: str,
    tries: int,
    catalogue: Catalogue,
    progress: Callable[[int, int], None] | None = None,
) -> Placed:
    """Search the placement of a case among `free` nodes (as Slurm lists them; empty: all). Raises `InputError`."""
    if number > len(experiment.cases):
        raise InputError(f"{number}: the experiment has {len(experiment.cases)}", key="--case")
    case = experiment.cases[number - 1]
    if case.scenario.workload.kind != "training":
        raise InputError(
            f"'{case.scenario.workload.kind}' is no training step, whose nodes can be placed", key="workload.kind"
        )
    cluster, plan = resolve_cluster(case.scenario, catalogue, case.origins), case.scenario.plan.plan()
    count = -(-plan.world // cluster.gpus_per_node)
    if cluster.spec.fabric is None or count < 2:
        raise InputError(f"all {plan.world} GPUs of the job stand in one node; expected two nodes", key="plan")
    ground = Ground(cluster, plan, count, _free(free, Layout(cluster.spec, cluster.node.nic_count), count))
    wanted = finalists(ground, tries)
    rows: list[dict[str, Any]] = []
    for i, (name, places) in enumerate(wanted):
        if progress is not None:
            progress(i, len(wanted))
        found = run_case(with_hardware(case, {"cluster.placement": list(places)}), catalogue).row
        rows.append(ground.row(name, places) | {"step_s": float(found["step_s"]), "gpus": int(found["gpus"])})
    (given,) = [float(row["step_s"]) for row in rows if row["placement"] == GIVEN]
    rows.sort(key=lambda row: float(row["step_s"]))
    title = experiment.fields.title or experiment.name
    done = Placed(experiment.name, title, rows, given, _one_switch(case, ground, catalogue))
    for row in rows:
        row["slowdown"] = float(row["step_s"]) / float(done.best["step_s"])
    return done


def _free(text: str, layout: Layout, count: int) -> list[int]:
    """The places of the nodes that are free."""
    if not text:
        return list(range(layout.nodes))
    try:
        found = host_numbers(text)
        check_listed(found, layout.nodes)
    except InputError as refused:
        raise InputError(refused.problem, key="--free") from None
    if len(found) < count:
        raise InputError(f"names {len(found)} nodes; the job has {count}", key="--free")
    return found


def _one_switch(case: Case, ground: Ground, catalogue: Catalogue) -> float | None:
    """The step if one leaf switch were above all nodes; None where a radix or the kind of fabric forbids that."""
    if not ground.layout.tree or ground.layout.fabric.radix is not None or ground.layout.per_leaf >= ground.count:
        return None
    changes = {"cluster.fabric.nodes_per_leaf": ground.layout.nodes, "cluster.placement": list(range(ground.count))}
    return float(run_case(with_hardware(case, changes), catalogue).row["step_s"])


# ---- what a placement is, without simulating it ------------------------------------------------------------

GIVEN, PACKED, SPREAD, WHOLE, APART, FOUND = "as given", "packed", "spread", "fullest leaves", "stages apart", "found"


class Ground:
    """A job of `count` nodes on a fabric: which of its nodes are in rings together, and what a placement crosses."""

    def __init__(self, cluster: Cluster, plan: Plan, count: int, free: Sequence[int]):
        self.cluster, self.count, self.free = cluster, count, list(free)
        self.layout = Layout(cluster.spec, cluster.node.nic_count)
        per_node = cluster.gpus_per_node
        stages = [
            tuple(sorted({plan.stage(rank) for rank in range(i * per_node, min((i + 1) * per_node, plan.world))}))
            for i in range(count)
        ]
        blocks: dict[tuple[int, ...], list[int]] = {}
        for node, stage in enumerate(stages):
            blocks.setdefault(stage, []).append(node)
        self.blocks = list(blocks.values())

    def crossings(self, places: Sequence[int]) -> tuple[int, int]:
        """Edges of rings that leave a leaf: at the leaf with the most of them, and of all."""
        out: Counter[int] = Counter()
        for block in self.blocks:
            leaves = [self.layout.group(places[node]) for node in block]
            out.update(a for a, b in zip(leaves, [*leaves[1:], leaves[0]], strict=True) if a != b)
        return max(out.values(), default=0), sum(out.values())

    def row(self, name: str, places: Places) -> dict[str, Any]:
        """A placement as data."""
        busiest, total = self.crossings(places)
        leaves = len({self.layout.group(place) for place in places})
        return {
            "placement": name, "leaves": leaves, "busiest_leaf": busiest, "crossings": total,
            "nodes": host_list(places), "free": set(places) <= set(self.free),
        }  # fmt: skip

    def named(self) -> list[tuple[str, Places]]:
        """Placements that have a name."""
        layout, free, n = self.layout, self.free, self.count
        spread = sorted(free, key=lambda place: (place % layout.per_leaf, place))
        by_leaf: dict[int, list[int]] = {}
        for place in free:
            by_leaf.setdefault(layout.group(place), []).append(place)
        fullest = [place for leaf in sorted(by_leaf.values(), key=lambda one: -len(one)) for place in leaf]
        return [
            (PACKED, tuple(sorted(free)[:n])), (SPREAD, tuple(spread[:n])), (WHOLE, tuple(fullest[:n])),
            (APART, self._apart(by_leaf)),
        ]  # fmt: skip

    def _apart(self, by_leaf: dict[int, list[int]]) -> Places:
        """Every block in leaves of its own as far as they reach, the largest blocks in the fullest leaves."""
        left = {leaf: list(places) for leaf, places in by_leaf.items()}
        untouched, found = set(left), [0] * self.count
        for block in sorted(self.blocks, key=len, reverse=True):
            need = list(block)
            while need:
                own = [leaf for leaf in left if leaf in untouched] or list(left)
                fits = [leaf for leaf in own if len(left[leaf]) >= len(need)]
                leaf = min(fits, key=lambda one: len(left[one])) if fits else max(own, key=lambda one: len(left[one]))
                taken, left[leaf] = left[leaf][: len(need)], left[leaf][len(need) :]
                for place in taken:
                    found[need.pop(0)] = place
                untouched.discard(leaf)
                if not left[leaf]:
                    del left[leaf]
        return tuple(found)


def finalists(ground: Ground, tries: int) -> list[tuple[str, Places]]:
    """The placements to simulate, at most `tries`: as given, those with a name, then the best that changes found."""
    found = [(GIVEN, Layout(ground.cluster.spec, ground.layout.nics).positions(ground.count))]
    seen = {found[0][1]}
    for name, places in sorted(ground.named(), key=lambda one: ground.crossings(one[1])):
        if places not in seen:
            found.append((name, places))
            seen.add(places)
    found = found[: max(tries, 1)]
    start = min((places for _, places in found if set(places) <= set(ground.free)), key=ground.crossings, default=None)
    if start is None:
        return found
    for places in changed(ground, start, tries - len(found)):
        if places not in seen:
            found.append((FOUND, places))
            seen.add(places)
    return found


def changed(ground: Ground, start: Places, most: int) -> list[Places]:
    """Placements that changes of `start` come to, no worse than it by their crossings, the best first.

    Two nodes change places, or one goes to a free place; a change for the worse is kept at times, less often the later
    (simulated annealing, with one seed).
    """
    draw = random.Random(0)
    here, cost = list(start), _weight(ground, start)
    best: dict[Places, float] = {}
    limit = cost
    for step in range(STEPS if most > 0 else 0):
        there = list(here)
        one = draw.randrange(len(there))
        unused = draw.choice(ground.free)
        if unused in there:
            other = there.index(unused)
            there[one], there[other] = there[other], there[one]
        else:
            there[one] = unused
        weight = _weight(ground, there)
        heat = 2.0 * (1 - step / STEPS) + 1e-9
        if weight <= cost or draw.random() < math.exp((cost - weight) / heat):
            here, cost = there, weight
            if weight < limit:
                best[tuple(here)] = weight
    return sorted(best, key=lambda places: best[places])[:most]


def _weight(ground: Ground, places: Sequence[int]) -> float:
    """What a placement costs by its crossings: those at the busiest leaf first, all of them where these are equal."""
    busiest, total = ground.crossings(places)
    return busiest + total / (4 * ground.count)


def host_list(places: Sequence[int]) -> str:
    """Places as Slurm lists hosts, in their order.

    >>> host_list([0, 1, 2, 8, 4, 5])
    'node[0-2,8,4-5]'
    """
    spans: list[list[int]] = []
    for place in places:
        if spans and place == spans[-1][1] + 1:
            spans[-1][1] = place
        else:
            spans.append([place, place])
    return f"node[{','.join(str(a) if a == b else f'{a}-{b}' for a, b in spans)}]"
