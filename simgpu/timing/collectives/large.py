"""Collectives over all GPUs of thousands of nodes, at the cost of a few nodes that stand for all.

Nodes that stand side by side, from the first on, differ only in where their neighbours are: below the same leaf, in the
same pod, or beyond. So four nodes below each of two leaves, in two pods where there are such, have every kind of way,
and the rings and trees through them put on each link what the whole ones do. What all send to all is that of one node,
times the nodes that share a link.

Flows of equal size end together when the link with the most bytes for its rate is done: in max-min sharing none gets
less than an equal part of any of its links, and these only grow emptier. So the seconds per byte of an all-to-all are
those of that link. A test holds all of this against the whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from itertools import pairwise
from math import ceil

from simgpu.errors import InputError
from simgpu.hardware.cluster_spec import Routing
from simgpu.hardware.faults import spines_of
from simgpu.hardware.layout import Layout
from simgpu.hardware.machine import Machine
from simgpu.hardware.topology import Route, Topology, build_topology
from simgpu.timing.collectives import between, collisions, schedules, tuner
from simgpu.timing.collectives.exchanges import within
from simgpu.timing.collectives.flows import Choice
from simgpu.timing.collectives.ideal import Edge, Transport
from simgpu.timing.collectives.model import CollectiveModel
from simgpu.timing.collectives.schedules import Flow, Schedule
from simgpu.timing.collectives.traffic import SEND, bus_factor, passes, ring_steps

BELOW = 4
"""Nodes below each leaf that stand for all: rings and trees have every kind of neighbour in them."""


def can_stand(machine: Machine, gpus: Sequence[int]) -> bool:
    """True if a few nodes can stand for all of those that hold `gpus`: whole nodes side by side in a healthy tree."""
    cluster = machine.cluster
    if cluster.spec.fabric is None or cluster.spec.degraded or cluster.spec.placement.kind != "packed":
        return False
    per_node = cluster.gpus_per_node
    if not isinstance(gpus, range) or gpus.start or gpus.step != 1 or len(gpus) % per_node:
        return False
    layout = Layout(cluster.spec, cluster.node.nic_count)
    meshed = cluster.node.nvlink is not None and cluster.node.nvlink.topology in ("mesh", "full-mesh")
    return layout.kind in ("fat-tree", "rail-fat-tree", "rail-only") and not meshed


class LargeCollective(CollectiveModel):
    """One kind of collective over all GPUs of the first `nodes` nodes of a cluster."""

    def __init__(self, machine: Machine, kind: str, nodes: int, dtype: str = "bf16"):
        cluster = machine.cluster
        layout = Layout(cluster.spec, cluster.node.nic_count)
        groups = ceil(nodes / layout.per_leaf)
        pods = layout.pod(groups - 1) + 1
        chosen = dict.fromkeys((0, 1, layout.per_pod, layout.per_pod + 1) if pods > 1 else (0, 1))
        below = layout.per_leaf if kind == "send_recv" else min(BELOW, layout.per_leaf)  # each leaves by another rail
        places = [g * layout.per_leaf + i for g in chosen for i in range(below)]
        places = [place for place in places if place < nodes]
        topology = build_topology(cluster, len(places), positions=places)
        super().__init__(topology, kind, range(len(places) * cluster.gpus_per_node), "nccl", dtype)
        self.whole, self.groups, self.pods, self.layout, self.places = nodes, groups, pods, layout, places
        self._slowed: dict[Choice, float] = {}
        self.stand_ins = self.n
        self.n = nodes * cluster.gpus_per_node
        self._edges: dict[Choice, dict[Edge, float]] = {}

    @cached_property
    def _nodes(self) -> list[list[int]]:
        return [list(range(self.topology.cluster.gpus_per_node))] * self.whole

    @cached_property
    def _fabric(self) -> between.Fabric:
        here = range(0, self.stand_ins, self.topology.cluster.gpus_per_node)
        return between.fabric_of(self.topology, (self.topology.route(a, b) for a, b in pairwise(here)))

    @cached_property
    def _communicator(self) -> tuner.Communicator:
        made = tuner.communicator(self.topology, self.gpus, self.constants, self._fabric.plugin)
        return replace(made, ranks=self.n, nodes=self.whole)

    def schedule(self, algorithm: str) -> Schedule:
        """The flows of an algorithm through the nodes that stand for all, with the hops and bytes of all."""
        found = self._schedules.get(algorithm)
        if found is None:
            found = self._schedules[algorithm] = self._whole_schedule(algorithm)
        return found

    def _whole_schedule(self, algorithm: str) -> Schedule:
        t, kind, n = self.topology, self.kind, self.n
        if algorithm == "direct" and kind not in ("send_recv", SEND):
            return self._direct()
        if algorithm == "direct":
            return schedules.shift(t, kind, self.gpus)
        if algorithm in ("tree", "nvls"):
            few = schedules.tree(t, self.gpus) if algorithm == "tree" else schedules.nvls(t, kind, self.gpus)
            depth = 2.0 * (self.whole - 1).bit_length()
            hops = tuple((route, depth if route.via == "network" else count) for route, count in few.hops)
            return replace(few, hops=hops)
        if algorithm == "collnet":
            return schedules.collnet(t, self.gpus)
        few = schedules.ring(t, kind, self.gpus)
        more = bus_factor(kind, n) / bus_factor(kind, self.stand_ins)
        flows = tuple(Flow(flow.route, flow.share * more, flow.times) for flow in few.flows)
        return Schedule("ring", flows, self._ring_hops(), bus_factor(kind, n), passes(kind, n))

    def _ring_hops(self) -> tuple[tuple[Route, float], ...]:
        """The hops of a ring through all nodes: how many of each kind there are."""
        t, per_node = self.topology, self.topology.cluster.gpus_per_node
        steps = ring_steps(self.kind, self.n) / (self.n if self.kind not in ("broadcast", "reduce") else self.n - 1)
        (one, *_) = schedules.rings(t, self.gpus)
        inside = [t.route(a, b) for a, b in pairwise(one[:per_node])]
        hops = [(route, self.whole * steps) for route in inside]
        across = [
            t.route(a, b)
            for a, b in zip(one[per_node - 1 :: per_node], [*one[per_node::per_node], one[0]], strict=True)
        ]
        kinds: dict[int, Route] = {}
        for route in across:
            kinds.setdefault(sum(t.wires.edges[edge]["kind"] == "network" for edge in route.edges), route)
        beyond = self.pods if self.pods > 1 else 0
        other = self.groups - beyond if self.groups > 1 else 0
        closed = self.kind not in ("broadcast", "reduce")
        counts = {2: self.whole - beyond - other, 4: other, 6: beyond}
        furthest = max(size for size, count in counts.items() if count)
        counts[furthest] -= 0 if closed else 1
        return (*hops, *((kinds[size], count * steps) for size, count in counts.items() if count))

    # ---- all to all --------------------------------------------------------------------------------------

    def _direct(self) -> Schedule:
        """What the first node exchanges with all others."""
        per_node = self.topology.cluster.gpus_per_node
        ways: list[Route] = []
        flows = [Flow(route, 1 / self.n, count) for route, count in self._of_one_node(per_node, ways)]
        slowest = max(ways, key=lambda route: route.latency)
        moved = (self.n - 1) / self.n
        return Schedule("direct", tuple(flows), ((slowest, 1.0),), moved, 1.0)

    def _of_one_node(self, per_node: int, ways: list[Route]) -> list[tuple[Route, float]]:
        t, layout, found = self.topology, self.layout, []
        local = range(per_node)
        cross = t.crosses_over
        rails = Counter(layout.rail_of(t.leaf(gpu)) for gpu in local)
        below = min(layout.per_leaf, self.whole)
        in_pod = min(layout.per_leaf * layout.per_pod, self.whole) if layout.per_pod else self.whole
        for gpu in local:
            found += list(within(t, gpu, local, ways))
            rail = layout.rail_of(t.leaf(gpu))
            share = per_node / rails[rail] if cross else 1.0
            here = rails[rail] * (below - 1)
            pod = (rails[rail] if cross else per_node) * (in_pod - 1) - here
            beyond = (rails[rail] if cross else per_node) * (self.whole - in_pod)
            for count, where in ((here, 2), (pod, 4), (beyond, 6)):
                if count:
                    found += [(route, count * share) for route in self._halves(gpu, where, ways)]
            if cross and (other := (per_node - rails[rail]) * (self.whole - 1)):
                name = t.gpus[gpu]
                switch = t.wires.nodes[name]["nvswitch"]
                found.append((t.edges(((name, switch),)), float(other)))
                into = (per_node - rails[rail]) * (self.whole - 1)
                found.append((t.edges(((switch, name),)), float(into)))
        return found

    def _halves(self, gpu: int, length: int, ways: list[Route]) -> list[Route]:
        """The links of a GPU up to where its ways to GPUs at some distance part, and back."""
        t = self.topology

        def network(route: Route) -> list[int]:
            return [i for i, edge in enumerate(route.edges) if t.wires.edges[edge]["kind"] == "network"]

        far = range(t.cluster.gpus_per_node, len(t.gpus))
        same = (
            p for p in far if not t.crosses_over or self.layout.rail_of(t.leaf(p)) == self.layout.rail_of(t.leaf(gpu))
        )
        peer = next(p for p in same if len(network(t.route(gpu, p))) == length)
        there, here = t.route(gpu, peer), t.route(peer, gpu)
        ways.append(there)
        up, down = network(there), network(here)
        return [
            t.edges(there.edges[: up[length // 2 - 1] + 1], there.via),
            t.edges(here.edges[down[length // 2] :], here.via),
        ]

    def unit_time(self, choice: Choice) -> float:
        """K: seconds per byte of payload that the flows take with the links to themselves."""
        plain = self._evenly(choice)
        if self._hashed is None:
            return plain
        found = self._slowed.get(choice)
        if found is None:
            found = self._slowed[choice] = max(plain, self._of_collisions(choice, self._hashed))
        return found

    def _evenly(self, choice: Choice) -> float:
        """The same where flows spread evenly over equal links."""
        if choice[0] in ("ring", "collnet") or self.kind in ("send_recv", SEND):
            return super().unit_time(choice)
        found = self._unit.get(choice)
        if found is None and choice[0] in ("tree", "nvls"):
            found = self._unit[choice] = self._of_trees(choice)
        if found is None:
            flows, channels = self.flows(choice)
            load: Counter[Edge] = Counter()
            for edges, size, count in flows:
                for edge in edges:
                    load[edge] += size * count * self._sharing(edge)  # type: ignore[assignment]
            rates = ((edge, channels.get(edge) or self.topology.wires.edges[edge]["bandwidth"]) for edge in load)
            found = self._unit[choice] = max(load[edge] / rate for edge, rate in rates)
        return found

    def _of_trees(self, choice: Choice) -> float:
        """K of two trees of nodes on every rail: of the busiest node, leaf or pod, or of what happens in a node."""
        t = self.topology
        flows, channels = self.flows(choice)
        load: Counter[Edge] = Counter()
        sizes: set[float] = set()
        rails: dict[str, str] = {}  # the GPUs of the first node that send over the network, and where one sends to
        for (edges, size, count), plan in zip(flows, self.schedule(choice[0]).flows, strict=True):
            if plan.route.via != "network":
                load.update(dict.fromkeys(edges, size * count))
                continue
            sizes.add(size)
            if t.wires.nodes[plan.route.edges[0][0]]["node"] == 0:
                rails.setdefault(plan.route.edges[0][0], plan.route.edges[-1][1])
        (size,) = sizes
        ends = self._busiest()
        for own, other in rails.items():
            gpu, far = t.gpus.index(own), t.gpus.index(other)
            for route in (t.route(gpu, far), t.route(far, gpu)):
                for edge in route.edges:
                    mine = t.wires.nodes[edge[0]].get("node", t.wires.nodes[edge[1]].get("node")) == 0
                    load[edge] += size * ends["node"] if mine else 0.0  # type: ignore[assignment]
            leaf = t.leaf(gpu)
            for upper in t.wires[leaf]:
                if t.wires.nodes[upper]["kind"] == "spine":
                    load[leaf, upper] += size * ends["leaf"]  # type: ignore[assignment]
                    if "core" in t.wires and t.wires.has_edge(upper, "core"):
                        load[upper, "core"] += size * ends["pod"]  # type: ignore[assignment]
        slowest = max(float(load[edge] / (channels.get(edge) or t.wires.edges[edge]["bandwidth"])) for edge in load)
        lanes = [edge for edge in channels if edge not in load]
        if choice[0] == "nvls" and lanes:
            return max(slowest, size * ends["node"] * len(rails) / channels[lanes[0]])
        return max(slowest, super().unit_time(choice)) if lanes else slowest  # lanes of SMs are those of any node

    # ---- flows that collide ------------------------------------------------------------------------------

    @property
    def _hashed(self) -> Routing | None:
        fabric = self.topology.cluster.spec.fabric
        return fabric.routing if fabric is not None and fabric.routing.kind == "ecmp" else None

    def _collided(self, choice: Choice, found: list[Transport]) -> dict[Edge, float]:  # noqa: ARG002
        """None here: the leaves of the whole are counted, not those of the nodes that stand for them."""
        return {}

    def _of_collisions(self, choice: Choice, routing: Routing) -> float:
        """K of the slowest flow between a leaf and the stage above it, by a hash over its links."""
        plan, links = self.schedule(choice[0]), spines_of(self.layout)
        crossing = [
            (flow, size)
            for flow, (_, size, _) in zip(plan.flows, self.flows(choice)[0], strict=True)
            if flow.route.via == "network" and collisions.crossed(self.topology, flow.route)
        ]
        if not crossing:
            return 0.0
        pairs = choice[0] == "direct" and self.kind not in ("send_recv", SEND)
        alike = self._of_the_whole(choice, [flow for flow, _ in crossing], pairs, links)
        each = collisions.slowest_share(alike, links, self._hashed_parts(routing), routing)
        if not pairs:
            return max(size for _, size in crossing) / each
        loads: dict[Edge, list[float]] = {}
        some = collisions.at_once([(flow.route, flow.times) for flow, _ in crossing])
        for (flow, size), count in zip(crossing, some, strict=True):  # of a GPU, what it sends and what it receives
            load = loads.setdefault(collisions.lane_of(flow.route, choice, ()), [0.0, 0.0])
            load[0] += size * flow.times
            load[1] += count
        return max(size / count for size, count in loads.values()) / each

    def _of_the_whole(self, choice: Choice, flows: Sequence[Flow], pairs: bool, links: int) -> collisions.Alike:
        """Leaves of all nodes, both directions, by the flows on their links to the stage above."""
        t, alike = self.topology, collisions.Alike()
        on: Counter[tuple[str, str]] = Counter()
        counted = [(flow.route, flow.times) for flow in flows]
        some = collisions.at_once(counted) if pairs else [count for _, count in counted]
        for flow, count in zip(flows, some, strict=True):
            for edge in collisions.crossed(t, flow.route):
                on[edge] += count * (self._sharing(edge) if pairs else 1)  # type: ignore[assignment]
        rate = min(t.wires.edges[edge]["bandwidth"] for edge in on) / links
        if choice[0] in ("tree", "nvls"):
            rails = min(max(t.whole_rails, 1), t.cluster.gpus_per_node)
            for count in self._branches().values():
                alike[count * rails // self.layout.rails, rate] += 2 * self.layout.rails
            return alike
        stand_ins = len({self.layout.group(place) for place in self.places}) if not pairs else 1
        shared = Counter(max(round(count), 1) for count in on.values())
        for flows_of, edges in shared.items():
            alike[flows_of, rate] = max(round(edges * self.groups / stand_ins), 1)
        return alike

    def _branches(self) -> Counter[int]:
        """Branches of both trees that leave each group of leaves."""
        found: Counter[int] = Counter()
        for parents in schedules.double_tree(self.whole):
            for child, parent in parents.items():
                groups = {self.layout.group(node) for node in (child, parent)}
                found.update(groups if len(groups) > 1 else ())
        return found

    def _busiest(self) -> dict[str, int]:
        """The most ends of branches at a node, and the most branches that leave a leaf and a pod, of both trees."""
        at: Counter[tuple[str, int]] = Counter()
        for parents in schedules.double_tree(self.whole):
            for child, parent in parents.items():
                places = [(node, self.layout.group(node)) for node in (child, parent)]
                at.update(("node", node) for node, _ in places)
                groups = {group for _, group in places}
                at.update(("leaf", group) for group in groups if len(groups) > 1)
                pods = {self.layout.pod(group) for group in groups}
                at.update(("pod", pod) for pod in pods if len(pods) > 1)
        return {
            kind: max((n for (of, _), n in at.items() if of == kind), default=0) for kind in ("node", "leaf", "pod")
        }

    def _sharing(self, edge: Edge) -> int:
        """Nodes that use a link as the first does."""
        kinds = [self.topology.wires.nodes[vertex]["kind"] for vertex in edge] if len(edge) == 2 else []
        below = min(self.layout.per_leaf, self.whole)
        if "core" in kinds:
            return min(self.layout.per_leaf * self.layout.per_pod, self.whole)
        return below if "spine" in kinds else 1


def large_model(machine: Machine, kind: str, count: int, dtype: str) -> LargeCollective:
    """The model of a collective over the first `count` GPUs. Raises `InputError` where too few nodes stand for all."""
    if kind == SEND:
        raise InputError(f"a send has two ends, not {count}; expected 2 GPUs", key="gpus")
    return LargeCollective(machine, kind, count // machine.cluster.gpus_per_node, dtype)


__all__ = ["LargeCollective", "Topology", "can_stand", "large_model"]
