"""Classes of links of a large cluster that count as alike when one rank stands for all of its stage."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from simgpu.hardware.cluster import Cluster
from simgpu.hardware.layout import Layout
from simgpu.hardware.topology import Topology
from simgpu.plan.parallelism import Plan
from simgpu.timing.collectives.ideal import CollectivePhase, Edge

Class = tuple[Any, ...]
"""(stages that use a link, counted from the first of the transfer; what it is ...; bytes/s)."""

Stages = tuple[int, ...]


class Surroundings:
    """The places of a plan's ranks: nodes and leaf switches, and the stages that use them."""

    def __init__(self, cluster: Cluster, plan: Plan, stage_of: Callable[[int], int]) -> None:
        self.plan, self._stage_of = plan, stage_of
        self.per_node = cluster.gpus_per_node
        self.layout = Layout(cluster.spec, cluster.node.nic_count) if cluster.spec.fabric is not None else None
        self.per_leaf = self.layout.per_leaf if self.layout is not None else 1
        self.rails = self.layout.rails if self.layout is not None else 1
        self._on: dict[tuple[int, int], Stages] = {}
        self._groups: dict[int, Stages] = {}  # of leaf switches
        nodes = -(-plan.world // self.per_node)
        scattered = self.layout is not None and cluster.spec.placement.kind != "packed"
        self._positions = self.layout.positions(nodes) if self.layout is not None and scattered else None

    def position(self, node: int) -> int:
        """The place in the fabric of a node of the plan."""
        return node if self._positions is None else self._positions[node]

    def numbered(self, nodes: Iterable[int]) -> dict[int, int]:
        """A small number for each node, such that those on one leaf switch, and no others, are on one.

        Pods stay apart likewise. In a torus every place is another.
        """
        if self.layout is not None and not self.layout.tree:
            return {node: self.position(node) for node in nodes}
        pods: dict[int, int] = {}
        leaves: dict[int, int] = {}
        taken: Counter[int] = Counter()
        numbers = {}
        for node in sorted(nodes):
            group = self.position(node) // self.per_leaf
            if group not in leaves:
                pod = self.layout.pod(group) if self.layout is not None else 0
                place = pods.setdefault(pod, len(pods)) * (self.layout.per_pod if self.layout is not None else 0)
                leaves[group] = place + sum(1 for other in leaves if self._same_pod(other, group))
            leaf = leaves[group]
            numbers[node] = leaf * self.per_leaf + taken[leaf]
            taken[leaf] += 1
        return numbers

    def _same_pod(self, group: int, other: int) -> bool:
        return self.layout is None or self.layout.pod(group) == self.layout.pod(other)

    def stages(self, first: int, ranks: int) -> Stages:
        """All stages that have ranks among `ranks` of them from `first` on."""
        key = (first, ranks)
        if key not in self._on:
            here = range(first, min(first + ranks, self.plan.world))
            self._on[key] = tuple(sorted({self._stage_of(rank) for rank in here}))
        return self._on[key]

    def around(self, rank_of: Mapping[int, int], stage: int) -> tuple[Any, ...]:
        """Everything that classes of links depend on, for ranks by their GPU, with stages counted from `stage`."""
        nodes: dict[int, int] = {}
        for gpu, rank in rank_of.items():
            nodes.setdefault(gpu // self.per_node, rank)
        own = tuple(self._stage_of(rank) - stage for rank in rank_of.values())
        return own, tuple(
            (n, self._less(self._on_node(rank), stage), self._less(self._on_leaf(rank), stage))
            for n, rank in nodes.items()
        )

    def _on_node(self, rank: int) -> Stages:
        return self.stages(rank // self.per_node * self.per_node, self.per_node)

    def _on_leaf(self, rank: int) -> Stages:
        ranks = self.per_node * self.per_leaf
        if self._positions is None:
            return self.stages(rank // ranks * ranks, ranks)
        if not self._groups:
            on: defaultdict[int, set[int]] = defaultdict(set)
            for node, position in enumerate(self._positions):
                on[position // self.per_leaf].update(self._on_node(node * self.per_node))
            self._groups = {group: tuple(sorted(stages)) for group, stages in on.items()}
        return self._groups[self.position(rank // self.per_node) // self.per_leaf]

    @staticmethod
    def _less(stages: Stages, stage: int) -> Stages:
        return tuple(one - stage for one in stages)

    def folded(
        self, topology: Topology, phases: Sequence[CollectivePhase], rank_of: Mapping[int, int], stage: int
    ) -> list[tuple[tuple[Class, ...], float, tuple[float, ...]]]:
        """Flows of equal phases of several groups as one, `(classes, bytes, counts)`."""
        classes: dict[Edge, Class] = {}
        members: Counter[Class] = Counter()
        routes: defaultdict[tuple[tuple[Class, ...], float], float] = defaultdict(float)
        here = {topology.gpus[gpu]: rank for gpu, rank in rank_of.items()}
        nodes = {gpu // self.per_node: rank for gpu, rank in rank_of.items()}
        leaves = {node // self.per_leaf: rank for node, rank in nodes.items()}
        for phase in phases:
            for edges, size, number in phase.flows:
                route = []
                for edge in edges:
                    link_class = classes.get(edge)
                    if link_class is None:
                        stages, *rest = self._class(topology, edge, phase.channels, here, nodes, leaves)
                        link_class = classes[edge] = (self._less(stages, stage), *rest)
                        members[link_class] += 1
                    route.append(link_class)
                routes[tuple(route), size] += number
        result = []
        for (crossed, size), count in routes.items():
            times = Counter(crossed)  # a route may cross several links of a class: one of each of two nodes
            result.append(
                (tuple(times), size, tuple(n * count / members[link_class] for link_class, n in times.items()))
            )
        return result

    def _class(
        self, topology: Topology, edge: Edge, channels: Mapping[Edge, float], here: Mapping[str, int],
        nodes: Mapping[int, int], leaves: Mapping[int, int],
    ) -> Class:  # fmt: skip
        """The class of a link; its last entry is the capacity."""
        place = topology.wires.nodes
        if edge in channels and edge[0] in place and place[edge[0]]["kind"] == "spine":  # with detours by other groups
            return tuple(range(self.plan.pp)), "fabric", edge[2], channels[edge]
        if edge in channels:
            rank = nodes[edge[0]] if edge[0] in nodes else here[edge[0]]  # what a node passes on, or a GPU
            return (self._stage_of(rank),), "lane", edge[1], edge[2], channels[edge]
        capacity = topology.wires.edges[edge]["bandwidth"]
        a, b = edge
        kinds = (place[a]["kind"], place[b]["kind"])
        for vertex in edge:
            if vertex in here:
                return (self._stage_of(here[vertex]),), "gpu", *kinds, capacity
        node = place[a].get("node", place[b].get("node"))
        if node is not None:
            used = self._on_node(nodes[node])
            if node in topology.without_nics:  # where GPUs share what is left, links are not alike
                return used, "own", a, b, *kinds, capacity
            if len(used) == 1:
                return used, "node", *kinds, capacity
            return used, "shared", a.partition(".")[2], b.partition(".")[2], *kinds, capacity
        if "leaf" not in kinds or kinds == ("leaf", "leaf"):  # above leaves, or between routers
            return tuple(range(self.plan.pp)), "fabric", *kinds, capacity
        leaf = int((a if kinds[0] == "leaf" else b).removeprefix("leaf")) // self.rails
        return self._on_leaf(leaves[leaf]), "fabric", *kinds, capacity
