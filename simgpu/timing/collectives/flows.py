"""The flows of one collective over given GPUs: who sends how much to whom, at what a protocol makes of it.

LL sends 8 bytes of data in every 16, LL128 120 in every 128 (NCCL src/include/device.h). Flows of LL and LL128 also
pass a lane of their own: what the channels of the sending GPU pass on, since these protocols are bound by SMs, not by
links.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import pairwise

from simgpu.errors import InputError, nearest
from simgpu.hardware.cluster_spec import Routing
from simgpu.hardware.faults import spines_of
from simgpu.hardware.topology import Route, Topology
from simgpu.timing.collectives import between, collisions, detours, schedules, tuner
from simgpu.timing.collectives.alone import makespan
from simgpu.timing.collectives.ideal import Edge, Transport
from simgpu.timing.collectives.schedules import Schedule
from simgpu.timing.collectives.traffic import KINDS, PAIRWISE, SEND

LIBRARIES = ("nccl", "custom", "gloo")

WIRE = {"ll": 2.0, "ll128": 128 / 120, "simple": 1.0}
"""Bytes on the wire per byte of data."""

Choice = tuple[str, str]
"""Algorithm and protocol: ('ring', 'll')."""


class CollectiveFlows:
    """One kind of collective over given GPUs of a topology, as flows."""

    def __init__(self, topology: Topology, kind: str, gpus: Sequence[int], library: str = "nccl", dtype: str = "bf16"):
        if kind not in (*KINDS, SEND):
            raise InputError(f"unknown collective '{kind}'{nearest(kind, KINDS)}", key="collective")
        if kind == SEND and len(gpus) > 2:
            raise InputError(f"a send has two ends, not {len(gpus)}; expected 2 GPUs", key="gpus")
        if library not in LIBRARIES:
            raise InputError(f"unknown library '{library}'{nearest(library, LIBRARIES)}", key="library")
        self.topology, self.kind, self.gpus = topology, kind, list(gpus)
        self.members = tuple(self.gpus)  # in the names of its channels: those of other collectives are others
        self.library, self.dtype = library, dtype
        self.n = len(self.gpus)
        self.constants = topology.cluster.kernel.group("collective", library)
        self._schedules: dict[str, Schedule] = {}
        self._unit: dict[Choice, float] = {}
        self._hop_sums: dict[Choice, tuple[float, float]] = {}
        self._flows: dict[Choice, tuple[list[Transport], dict[Edge, float]]] = {}

    @cached_property
    def _nodes(self) -> list[list[int]]:
        return schedules.nodes_of(self.topology, self.gpus)

    @cached_property
    def _communicator(self) -> tuner.Communicator:
        return tuner.communicator(self.topology, self.gpus, self.constants, self._fabric.plugin)

    @cached_property
    def _fabric(self) -> between.Fabric:
        """What the network between the nodes adds, by the way from each node to the next."""
        nodes = self._nodes
        routes = (self.topology.route(a[0], b[0]) for a, b in pairwise(nodes))
        return between.fabric_of(self.topology, routes)

    def schedule(self, algorithm: str) -> Schedule:
        """The flows of an algorithm, in bytes of data per byte of payload."""
        found = self._schedules.get(algorithm)
        if found is None:
            t, kind, gpus = self.topology, self.kind, self.gpus
            if kind in ("send_recv", SEND):
                found = schedules.shift(t, kind, gpus)
            elif algorithm in ("one-shot", "two-shot", "direct"):
                found = schedules.direct(t, kind, gpus, one_shot=algorithm == "one-shot")
            elif algorithm == "tree":
                found = schedules.tree(t, gpus)
            elif algorithm == "nvls":
                found = schedules.nvls(t, kind, gpus)
            elif algorithm == "collnet":
                found = schedules.collnet(t, gpus)
            else:
                found = schedules.ring(t, kind, gpus)
            self._schedules[algorithm] = found
        return found

    def wire(self, route: Route, choice: Choice) -> float:
        """Bytes on the wire per byte of data, over this route: framing of the protocol, and what kernels reach."""
        algorithm, protocol = choice
        c = self.constants
        if algorithm == "nvls" and route.via == "gpu-link":
            return 1 / (c["nvls_efficiency"] * c["nvls_fraction"])
        if route.via == "gpu-link":
            reached = c["link_fraction"]
            if protocol == "custom":
                reached = c["one_shot_fraction"] if algorithm == "one-shot" else c["two_shot_fraction"]
            elif self.kind == "all_to_all":
                reached *= c["pair_fraction"]
        elif route.via in ("pcie", "host"):
            reached = self._host_fraction(route)
        else:
            reached = self._fabric.pairs if self.kind == "all_to_all" else 1.0
            reached = between.REDUCED if algorithm == "collnet" else reached
        return WIRE.get(protocol, 1.0) / reached

    def _host_fraction(self, route: Route) -> float:
        """The reached fraction of PCIe's payload rate: writing to a peer, or through a buffer in host memory."""
        worst = 1.0
        for edge in route.edges:
            link = self.topology.cluster.links.get(self.topology.wires.edges[edge]["link"])
            figure = None if link is None else link.staged_fraction if route.via == "host" else link.peer_fraction
            worst = min(worst, figure.si if figure is not None else 1.0)
        return worst

    def flows(self, choice: Choice) -> tuple[list[Transport], dict[Edge, float]]:
        """All flows with wire bytes per byte of payload, and the channels they pass."""
        if choice in self._flows:
            return self._flows[choice]
        plan = self.schedule(choice[0])
        lane = self._lane(choice)
        channels: dict[Edge, float] = {}
        found: list[Transport] = []
        sent: dict[str, float] = {}
        wires: dict[str, float] = {}  # by `via`, where links do not matter
        for route, share, count in plan.flows:
            if route.via in ("pcie", "host"):
                bytes_on_wire = share * self.wire(route, choice)
            else:
                if route.via not in wires:
                    wires[route.via] = self.wire(route, choice)
                bytes_on_wire = share * wires[route.via]
            edges: tuple[Edge, ...] = route.edges
            if lane is not None:
                source = route.edges[0][0]
                sent[source] = sent.get(source, 0.0) + bytes_on_wire * count
                edges = (*edges, (source, "channels", choice, self.members))
            elif (far := self._far_lane(choice, route, channels)) is not None:
                edges = (*edges, far)
            elif choice[0] == "collnet" and route.via == "gpu-link":
                edges = (*edges, self._chain_lane(choice, route, channels))
            found.append(Transport(edges, bytes_on_wire, count))
        collided = self._collided(choice, found)
        if lane is not None:
            # the channels work through `work` bytes of data while `sent` bytes go out
            channels = {(gpu, "channels", choice, self.members): lane * out / plan.work for gpu, out in sent.items()}
        channels |= collided
        found, around = detours.detoured(self.topology, found, choice, self.members)
        channels |= around
        self._flows[choice] = found, channels
        return found, channels

    def _collided(self, choice: Choice, found: list[Transport]) -> dict[Edge, float]:
        """Let flows that are hashed over links cross a lane that holds what the slowest gets; the lanes' rates."""
        fabric, layout = self.topology.cluster.spec.fabric, self.topology.layout
        if fabric is None or layout is None or fabric.routing.kind != "ecmp":
            return {}
        crossing = [
            (i, flow)
            for i, flow in enumerate(self.schedule(choice[0]).flows)
            if flow.route.via == "network" and collisions.crossed(self.topology, flow.route)
        ]
        parts = self._hashed_parts(fabric.routing)
        counted = [(flow.route, flow.times) for _, flow in crossing]
        if self.kind in PAIRWISE:
            counted = [(route, some) for (route, _), some in zip(counted, collisions.at_once(counted), strict=True)]
        # groups like this one on the other GPUs of the nodes send at the same time
        beside = self.topology.cluster.gpus_per_node / max(map(len, self._nodes))
        drawn = [(route, count * beside) for route, count in counted]
        each = collisions.share_of_a_flow(self.topology, drawn, spines_of(layout), parts, fabric.routing)
        rates: dict[Edge, float] = {}
        for (i, flow), (_, at_once) in zip(crossing, counted, strict=True):
            edge = collisions.lane_of(flow.route, choice, self.members)
            if "gpu" not in edge[0]:
                continue  # between groups of a dragonfly
            rates[edge] = rates.get(edge, 0.0) + at_once * each
            found[i] = found[i]._replace(edges=(*found[i].edges, edge))
        return rates

    def _hashed_parts(self, routing: Routing) -> int:
        """Parts of a flow that are hashed by themselves: queue pairs of each channel of a NIC."""
        rails = max(self.topology.whole_rails, 1)
        channels = 1 if self.kind in PAIRWISE else max(round(self._communicator.channels / rails), 1)
        return channels * routing.queue_pairs

    def _far_lane(self, choice: Choice, route: Route, channels: dict[Edge, float]) -> Edge | None:
        """What channels pass on to the network: those of NVLS of a node, those of a pair of ranks; else None."""
        if route.via != "network" or (choice[0] != "nvls" and self.kind != "send_recv"):
            return None
        if self.kind == "send_recv":
            edge = (route.edges[0][0], "channels", choice, self.members)
            each = self.constants["pair_bandwidth"] / self.constants["channels"]
            channels[edge] = each * tuner.pair_channels(self._communicator, len(self._nodes[0]))
            return edge
        edge = (self.topology.wires.nodes[route.edges[0][0]]["node"], "channels", choice, self.members)
        channels[edge] = self.constants["nvls_channels"] * self.constants["nvls_network_bandwidth"]
        return edge

    def _chain_lane(self, choice: Choice, route: Route, channels: dict[Edge, float]) -> Edge:
        """What channels pass on along the chains of CollNet: the payload up and down, at the rate of a ring.

        A GPU that ends some of the chains has less to send there, but each channel is as slow as its middle (NCCL
        rates the chain at half of its links' rate, src/graph/tuning.cc, and so does S. Jeaugey, NVIDIA/nccl issue 320).
        """
        edge = (route.edges[0][0], "channels", choice, self.members)
        local = self.n / len(self._nodes)
        channels[edge] = self.topology.bandwidth(route) * self.constants["link_fraction"] * (local - 1) / local
        return edge

    def _lane(self, choice: Choice) -> float | None:
        """Bytes/s of data that all channels of a GPU work through; None where links are the limit."""
        if self.kind == "all_to_all":
            linked = len(self._nodes) == 1 and all(
                flow.route.via == "gpu-link" for flow in self.schedule("direct").flows
            )
            return self.constants["pair_bandwidth"] if linked else None
        lane = self._inner_lane(choice[1])
        if lane is None or choice[1] != "ll" or len(self._nodes) == 1:
            return lane
        return min(lane, self._communicator.ll_bandwidth * 1e9)

    def _inner_lane(self, protocol: str) -> float | None:
        """The same within a node."""
        c = self.constants
        if protocol == "ll":
            return c["planned_ll_bandwidth"] * c["ll_fraction"]
        if protocol == "ll128":
            return c["planned_ll128_bandwidth"] * c["channels"] * c["ll128_fraction"]
        return None

    def unit_time(self, choice: Choice) -> float:
        """K: seconds per byte of payload that the flows take with the links to themselves."""
        found = self._unit.get(choice)
        if found is None:
            flows, channels = self.flows(choice)
            found = self._unit[choice] = makespan(self.topology, flows, channels)
        return found
