"""What collectives cost a step: inside blocks as seconds, between blocks as flows on links, for one rank or for all.

**Folding.** Ranks of a pipeline stage run the same program in the same surroundings, so one of them can stand for all:
its transfers carry, on each class of links, as many flows as cross one link of that class. Classes are: what belongs to
a GPU of the stage, by kind and rate; what belongs to a node that one stage fills, likewise; what several stages of a
node share, link by link. Nodes of a cluster are alike, so those of a group are numbered from 0 wherever they stand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from simgpu.engine import Phase, Simulator
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.topology import Topology
from simgpu.plan.parallelism import Plan
from simgpu.timing.collectives import Chosen, model_of
from simgpu.timing.collectives.ideal import CollectivePhase, Edge
from simgpu.timing.collectives.traffic import bus_factor
from simgpu.timing.kernels import NONE, Doubt, KernelModel

Ranks = tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """A collective: seconds with its links to itself and its like, how sure that is, what it takes from compute.

    `light` is its time at the rate of the first route, s; `drag` the share of multiprocessors its channels hold.
    """

    seconds: float
    doubt: Doubt
    light: float
    chosen: Chosen | None
    drag: float


FREE = Call(0.0, NONE, 0.0, None, 0.0)


@dataclass(frozen=True)
class Transfer:
    """A collective of some ranks as the engine runs it."""

    ranks: Ranks
    phases: tuple[Phase, ...]
    call: Call


class Links:
    """The links of a plan on a cluster."""

    def __init__(
        self, cluster: Cluster, plan: Plan, kernels: KernelModel, algorithm: str, protocol: str, folded: bool = True
    ) -> None:
        self.cluster, self.plan, self.kernels, self.folded = cluster, plan, kernels, folded
        self.algorithm, self.protocol = algorithm, protocol
        self.per_stage = plan.world // plan.pp
        self._inner: dict[tuple[str, str, float], Call] = {}
        self._transfers: dict[tuple, list[Transfer]] = {}
        self._numbers: dict[object, int] = {}
        self._sim: Simulator | None = None
        self._stage_of = lru_cache(None)(lambda rank: plan.coordinates(rank)["pp"])
        self._places: dict[Ranks, tuple[Topology, Ranks]] = {}

    # ---- ranks ---------------------------------------------------------------------------------------

    def ranks(self, stage: int) -> list[int]:
        """Ranks of a stage that are simulated: the first, or all."""
        if self.folded:
            return [self.plan.rank(pp=stage)]
        return [rank for rank in range(self.plan.world) if self._stage_of(rank) == stage]

    def _groups(self, kind: str, rank: int) -> list[Ranks]:
        """The group of a rank, and those that use the same nodes as it."""
        per_node, plan = self.cluster.gpus_per_node, self.plan
        found: dict[Ranks, None] = {plan.group(kind, rank): None}
        nodes: set[int] = set()
        fresh = {r // per_node for r in next(iter(found))}
        stage = self._stage_of(rank)
        while fresh:
            nodes |= fresh
            members = [r for n in sorted(fresh) for r in range(n * per_node, min((n + 1) * per_node, plan.world))]
            grouped = {r for group in found for r in group}
            for r in members:
                if r not in grouped and self._stage_of(r) == stage:
                    group = plan.group(kind, r)
                    found[group] = None
                    grouped.update(group)
            fresh = {r // per_node for group in found for r in group} - nodes
        return list(found)

    def _place(self, groups: Sequence[Ranks]) -> tuple[Topology, dict[int, int]]:
        """A topology that holds some ranks, and the GPU of each: nodes are taken in order from the first."""
        per_node = self.cluster.gpus_per_node
        nodes = sorted({rank // per_node for group in groups for rank in group})
        total = -(-self.plan.world // per_node)
        number = {n: (i if self.folded else n) for i, n in enumerate(nodes)}
        where = {r: number[r // per_node] * per_node + r % per_node for group in groups for r in group}
        return self.cluster.topology_of(len(nodes) if self.folded else total), where

    # ---- inside blocks -------------------------------------------------------------------------------

    def inner(self, kind: str, group: str, size: float) -> Call:
        """A collective over a group inside a block, all groups of the stage on the same nodes at once."""
        key = (kind, group, size)
        if key not in self._inner:
            self._inner[key] = self._time(kind, self._groups(group, 0), size)
        return self._inner[key]

    def _time(self, kind: str, groups: list[Ranks], size: float) -> Call:
        if len(groups[0]) == 1 or size == 0:
            return FREE
        if kind == "send_recv":
            groups = [(g[i], g[(i + 1) % len(g)]) for g in groups for i in range(len(g))]
        topology, where = self._place(groups)
        placed = [tuple(where[r] for r in group) for group in groups]
        model = model_of(topology, kind, placed[0])
        times = model.times(size, self.algorithm, self._protocol(kind))
        seconds = float(times.seconds)
        if len(groups) > 1:
            seconds = max(seconds, _together(topology, [self._phases(topology, kind, g, size) for g in placed]))
        return self._call(topology, kind, placed[0], size, seconds, int(times.channels))

    def _protocol(self, kind: str) -> str:
        return self.protocol if kind not in ("all_to_all", "send_recv") or self.protocol == "ideal" else "auto"

    def _phases(self, topology: Topology, kind: str, group: Ranks, size: float) -> list[CollectivePhase]:
        algorithm = self.algorithm if kind not in ("all_to_all", "send_recv") else "auto"
        return model_of(topology, kind, group).phases(size, algorithm, self._protocol(kind))

    def _call(self, topology: Topology, kind: str, group: Ranks, size: float, seconds: float, channels: int) -> Call:
        rate = topology.bandwidth(topology.route(group[0], group[1]))
        light = bus_factor(kind, len(group)) * size / rate
        doubt = NONE if self.protocol == "ideal" else self.kernels.doubt_of_collective(kind, light)
        algorithm = self.algorithm if kind not in ("all_to_all", "send_recv") else "auto"
        chosen = model_of(topology, kind, group).chosen(size, algorithm, self._protocol(kind))
        drag = channels / self.cluster.gpu.compute.sm_count.si
        return Call(seconds, doubt, light, chosen, min(drag, 0.5))

    # ---- between blocks ------------------------------------------------------------------------------

    def use(self, sim: Simulator) -> None:
        """The simulator that numbers the links from now on."""
        self._sim, self._numbers, self._transfers = sim, {}, {}

    def collective(self, kind: str, group: str, stage: int, size: float) -> list[Transfer]:
        """A collective over all groups of a stage: one transfer for each group; folded, one for all."""
        key = (kind, group, stage, size)
        found = self._transfers.get(key)
        if found is None:
            rank = self.plan.rank(pp=stage)
            if self.folded:
                groups = self._groups(group, rank)
            else:
                groups = list(dict.fromkeys(self.plan.group(group, r) for r in self.ranks(stage)))
            found = self._transfers[key] = self._all(kind, groups, size, (stage,))
        return found

    def between(self, stage: int, other: int, size: float, gather: float = 0.0) -> list[Transfer]:
        """Activations of every rank of a stage to its like on another stage; then `gather` s to put them together."""
        key = ("p2p", stage, other, size, gather)
        found = self._transfers.get(key)
        if found is None:
            senders = self.ranks(stage)
            if self.folded:
                per_node = self.cluster.gpus_per_node
                node = senders[0] // per_node
                here = range(node * per_node, min((node + 1) * per_node, self.plan.world))
                senders = [r for r in here if self._stage_of(r) == stage]
            groups: list[Ranks] = [(r, self._peer(r, other)) for r in senders]
            found = self._all("send_recv", groups, size, (stage, other))
            if gather:
                found = [Transfer(t.ranks, (*t.phases, Phase(gather)), t.call) for t in found]
            self._transfers[key] = found
        return found

    def _peer(self, rank: int, stage: int) -> int:
        return self.plan.rank(**{**self.plan.coordinates(rank), "pp": stage})

    def _all(self, kind: str, groups: list[Ranks], size: float, stages: tuple[int, ...]) -> list[Transfer]:
        if len(groups[0]) == 1 or size == 0:
            return []
        topology, where = self._place(groups)
        placed = [tuple(where[r] for r in group) for group in groups]
        times = model_of(topology, kind, placed[0]).times(
            size, self.algorithm if kind != "send_recv" else "auto", self._protocol(kind)
        )
        call = self._call(topology, kind, placed[0], size, float(times.seconds), int(times.channels))
        plain = [self._phases(topology, kind, group, size) for group in placed]
        back = {gpu: rank for rank, gpu in where.items()}
        if not self.folded:
            return [
                Transfer(ranks, tuple(self._plain(topology, phases)), call)
                for ranks, phases in zip(groups, plain, strict=True)
            ]
        phases = tuple(self._fold(topology, [p[i] for p in plain], back) for i in range(len(plain[0])))
        return [Transfer(tuple(self.plan.rank(pp=s) for s in stages), phases, call)]

    def _plain(self, topology: Topology, phases: Sequence[CollectivePhase]) -> Iterator[Phase]:
        for phase in phases:
            flows = tuple((tuple(self._link(topology, e, phase.lanes) for e in edges), b) for edges, b in phase.flows)
            yield Phase(phase.latency, flows)

    def _link(self, topology: Topology, edge: Edge, lanes: Mapping[Edge, float]) -> int:
        return self._number(edge, lanes[edge] if edge in lanes else topology.graph.edges[edge]["bandwidth"])

    def _number(self, key: object, capacity: float) -> int:
        number = self._numbers.get(key)
        if number is None:
            assert self._sim is not None
            number = self._numbers[key] = self._sim.add_link(capacity)
        return number

    # ---- folding -------------------------------------------------------------------------------------

    def _fold(self, topology: Topology, phases: Sequence[CollectivePhase], back: Mapping[int, int]) -> Phase:
        """Equal phases of several groups as one, on classes of links."""
        place = topology.graph.nodes
        rank_of = {topology.gpus[gpu]: rank for gpu, rank in back.items()}
        stages_on: dict[int, list[int]] = {}
        for vertex, rank in rank_of.items():
            stages_on.setdefault(place[vertex]["node"], []).append(rank)
        classes: dict[Edge, object] = {}
        members: Counter[object] = Counter()
        routes: Counter[tuple[tuple[object, ...], float]] = Counter()
        for phase in phases:
            for edges, size in phase.flows:
                route = []
                for edge in edges:
                    one = classes.get(edge)
                    if one is None:
                        one = classes[edge] = self._class(topology, edge, phase.lanes, rank_of, stages_on)
                        members[one] += 1
                    route.append(one)
                routes[tuple(route), size] += 1
        flows = []
        for (crossed, size), count in routes.items():
            times = Counter(crossed)  # a route may cross several links of a class: one of each of two nodes
            links = tuple(self._number(one, one[-1]) for one in times)  # type: ignore[index]
            flows.append((links, size, tuple(n * count / members[one] for one, n in times.items())))
        return Phase(phases[0].latency, tuple(flows))

    def _class(
        self,
        topology: Topology,
        edge: Edge,
        lanes: Mapping[Edge, float],
        rank_of: Mapping[str, int],
        stages_on: Mapping[int, Sequence[int]],
    ) -> tuple:
        """The class of a link; its last entry is the capacity."""
        place = topology.graph.nodes
        if edge in lanes:
            return ("lane", self._stage_of(rank_of[edge[0]]), edge[2], lanes[edge])
        capacity = topology.graph.edges[edge]["bandwidth"]
        a, b = edge
        kinds = (place[a]["kind"], place[b]["kind"])
        for vertex in edge:
            if vertex in rank_of:
                return ("gpu", self._stage_of(rank_of[vertex]), *kinds, capacity)
        nodes = [place[v]["node"] for v in edge if place[v].get("node") is not None]
        if not nodes:
            return ("fabric", *kinds, capacity)
        on_it = self._stages_of_node(stages_on.get(nodes[0], ()))
        if len(on_it) == 1:
            return ("node", on_it[0], *kinds, capacity)
        return ("shared", on_it, a.partition(".")[2], b.partition(".")[2], *kinds, capacity)

    def _stages_of_node(self, ranks: Sequence[int]) -> tuple[int, ...]:
        """All stages that have ranks on the node of some rank."""
        if not ranks:
            return (-1,)
        per_node = self.cluster.gpus_per_node
        first = ranks[0] // per_node * per_node
        return tuple(sorted({self._stage_of(r) for r in range(first, min(first + per_node, self.plan.world))}))


def _together(topology: Topology, all_phases: Sequence[Sequence[CollectivePhase]]) -> float:
    """Seconds until equal collectives that start together are all done."""
    sim = Simulator()
    numbers: dict[Edge, int] = {}

    def link(edge: Edge, lanes: Mapping[Edge, float]) -> int:
        if edge not in numbers:
            numbers[edge] = sim.add_link(lanes[edge] if edge in lanes else topology.graph.edges[edge]["bandwidth"])
        return numbers[edge]

    for i, phases in enumerate(all_phases):
        run = [
            Phase(p.latency, tuple((tuple(link(e, p.lanes) for e in edges), size) for edges, size in p.flows))
            for p in phases
        ]
        sim.transfer([sim.add_stream(str(i))], run)
    return sim.run().makespan
