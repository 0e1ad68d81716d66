"""How long a collective takes: latencies of protocols and channels, and flows that share links.

For a payload of S bytes over n GPUs, with the links to itself,

    time = lead(S) + K S

K S is the time the flows take on the graph at the rates of the protocol; lead(S) is everything else:

    LL      launch + sum of hops + (pass^p + (K S)^p)^(1/p) - K S,
            pass = (t_spread + t_pass ops) min(1, S / (4096 n))
    LL128   launch + t_LL128 + sum of hops
    Simple  launch + t_Simple + sum of (hops + t_step) + own part S/n at the copy rate + fill
    NVLS    t_NVLS + fill
    custom  t_custom + t_step (n-1) [+ t_barrier for two shots]
    pairs   launch + t_pair + t_peer (n-1) + hop + t_step x / (x + x0) + fill,  x = S/n

`ops` are primitive operations of a ring: n, 2n-1 for an all-reduce. LL sends 8 bytes of data in every 16, LL128
120 in every 128 (NCCL src/include/device.h); 512 threads x 8 bytes are one pass of LL. Fill: the first slice must
have gone all the way before the pipeline runs full, so a part of the time of a slice is paid on top. Flows of LL
and LL128 also pass a lane of their own: what the channels of the sending GPU pass on, since these protocols are
bound by SMs, not by links.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from simgpu.errors import InputError, nearest
from simgpu.hardware.topology import Route, Topology
from simgpu.memo import Region
from simgpu.timing.collectives import schedules, tuner
from simgpu.timing.collectives.alone import UNIT, makespan
from simgpu.timing.collectives.ideal import CollectivePhase, Edge, Transport, ideal_phases
from simgpu.timing.collectives.schedules import Schedule
from simgpu.timing.collectives.traffic import KINDS, PAIRWISE, REDUCING, SEND, bus_factor
from simgpu.timing.parts import Array, ArrayLike

ALGORITHMS = ("auto", *schedules.ALGORITHMS)
PROTOCOLS = ("auto", *tuner.PROTOCOLS, "ideal")
LIBRARIES = ("nccl", "custom")
SIZES = 4096
"""Sizes for which the choice of a collective is remembered."""

_WIRE = {"ll": 2.0, "ll128": 128 / 120, "simple": 1.0}
"""Bytes on the wire per byte of data."""
_LL_PASS_BYTES = 512 * 8
_TREE_TURN = {"ll": 2.3e-6, "ll128": 5.8e-6, "simple": 0.0}
"""What a hop between nodes takes longer in a tree than the 2.7 us of a ring's with LL, s (NCCL src/graph/tuning.cc,
hwLatencies: 5.0, 8.5 and 14 us; the last is that of a ring)."""
_CUSTOM_BLOCKS = 36  # vllm csrc/custom_all_reduce.cuh

_TUNED = ("channels", "channel_bandwidth", "planned_ll_bandwidth", "planned_ll128_bandwidth", "planned_tree_bandwidth")
_TIMED = {
    "ll": ("launch_latency", "ll_spread", "ll_pass", "ll_blend", "ll_fraction"),
    "ll128": ("launch_latency", "ll128_latency", "ll128_fraction"),
    "simple": ("launch_latency", "simple_latency", "simple_step", "copy_fraction", "fill", "slice_bytes"),
    "nvls": ("nvls_latency", "nvls_fill", "nvls_slice_bytes", "nvls_fraction", "nvls_efficiency", "nvls_speed"),
    "one-shot": ("custom_limit", "one_shot_limit", "custom_latency", "custom_step", "one_shot_fraction"),
    "two-shot": (
        "custom_limit",
        "one_shot_limit",
        "custom_latency",
        "custom_step",
        "custom_barrier",
        "two_shot_fraction",
    ),
    "pairs": ("launch_latency", "pair_latency", "pair_peer_latency", "pair_step", "pair_bytes", "pair_fill"),
}
"""Constants that a choice and its time hang on."""

Choice = tuple[str, str]
"""Algorithm and protocol: ('ring', 'll')."""


class CollectiveTimes(NamedTuple):
    """Arrays over sizes: seconds, and what was chosen. `channels` is the number of SMs taken from compute."""

    seconds: Array
    algorithm: np.ndarray
    protocol: np.ndarray
    channels: np.ndarray
    algbw: Array  # bytes/s
    busbw: Array  # bytes/s


class Chosen(NamedTuple):
    """The way a library runs one collective, and the names of the constants that choice and time depend on."""

    algorithm: str
    protocol: str
    channels: int
    constants: tuple[str, ...]
    library: str = "nccl"


class CollectiveModel:
    """One kind of collective over given GPUs of a topology."""

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
        self._flows: dict[Choice, tuple[list[Transport], dict[Edge, float]]] = {}
        self._picked: Region[tuple[float, str, str], Choice] = Region(SIZES)

    # ---- what is possible, what is chosen ------------------------------------------------------------

    def allowed(self, algorithm: str = "auto", protocol: str = "auto") -> list[Choice]:
        """Algorithms and protocols among which the library chooses, best first where estimates are equal."""
        if self.library == "custom" and self._custom_works():
            return [("one-shot", "custom"), ("two-shot", "custom"), *self._nccl(algorithm, protocol)]
        return self._nccl(algorithm, protocol)

    def _custom_works(self) -> bool:
        """Frameworks use kernels of their own where all GPUs reach each other directly, over PCIe only in pairs."""
        if self.kind != "all_reduce" or len(self._nodes) > 1:
            return False
        vias = {self.topology.route(a, b).via for a in self.gpus for b in self.gpus if a != b}
        return vias == {"gpu-link"} or self.n == 2

    def _nccl(self, algorithm: str, protocol: str) -> list[Choice]:
        if self.kind in PAIRWISE:
            if algorithm not in ("auto", "direct"):
                raise InputError(f"'{algorithm}' is not for {self.kind}; expected direct", key="algorithm")
            return [("direct", "simple")]
        if algorithm == "auto":
            joined = schedules.all_joined(self.topology, self.gpus) and self.kind not in ("broadcast", "reduce")
            wanted = ["direct"] if joined else ["ring", "tree", "nvls"]
        else:
            wanted = [algorithm]
        protocols = [protocol] if protocol != "auto" else list(tuner.PROTOCOLS)
        found = [(a, p) for a in wanted for p in protocols if self._possible(a, p, algorithm != "auto")]
        if not found:
            which = "" if algorithm == "auto" else f"'{algorithm}' "
            how = "" if protocol == "auto" else f"with protocol {protocol} "
            where = f"{self.n} GPUs of {self.topology.cluster.name}"
            problem = f"no {which}algorithm {how}for {self.kind} over {where}"
            raise InputError(problem, key="algorithm" if algorithm != "auto" else "protocol")
        return found

    def _possible(self, algorithm: str, protocol: str, forced: bool) -> bool:
        if algorithm == "nvls":
            works = self.kind in ("all_reduce", "all_gather", "reduce_scatter") and self._nvls_efficiency > 0.01
            works = works and not (self.kind in REDUCING and self.dtype in ("int8", "fp8", "fp4"))
            works = works and (self.kind == "all_reduce" or max(map(len, self._nodes)) <= schedules.NVLS_HEADS)
            wanted = forced or self.kind == "all_reduce"
            return protocol == "simple" and works and wanted and schedules.has_switch(self.topology, self.gpus)
        if algorithm == "direct":
            return protocol == "simple" and self.kind not in ("broadcast", "reduce")
        if algorithm == "tree" and self.kind != "all_reduce":
            return False
        return protocol != "ll128" or self._communicator.nvlink

    def choose(self, size: ArrayLike, algorithm: str = "auto", protocol: str = "auto") -> tuple[list[Choice], Array]:
        """The combinations in play, and the index of the chosen one for each size."""
        size = np.asarray(size, float)
        choices = self.allowed(algorithm, protocol)
        custom = [choice for choice in choices if choice[1] == "custom"]
        rest = choices[len(custom) :]
        if len(rest) == 1:
            index = np.zeros(size.shape, int)
        else:
            estimates = [tuner.estimate(self._communicator, self.kind, *choice, size) for choice in rest]
            index = np.argmin(np.stack(estimates), axis=0)
        index = index + len(custom)
        if custom:
            c = self.constants
            one = (size <= c["one_shot_limit"] / self.n) | (self.n == 2)
            index = np.where(size <= c["custom_limit"], np.where(one, 0, 1), index)
        return choices, index

    def chosen(self, size: float, algorithm: str = "auto", protocol: str = "auto") -> Chosen:
        """The algorithm and protocol for `size` bytes. Ideal links know neither channels nor constants."""
        if protocol == "ideal":
            return Chosen(algorithm, protocol, 0, ())
        choice = self._pick(size, algorithm, protocol)
        library = "custom" if choice[1] == "custom" else "nccl"
        return Chosen(*choice, int(self.channels(choice, size)), self.used(choice), library)

    def _pick(self, size: float, algorithm: str, protocol: str) -> Choice:
        """`choose` for one size."""
        key = (size, algorithm, protocol)
        if key not in self._picked:
            choices, index = self.choose(size, algorithm, protocol)
            self._picked[key] = choices[int(index)]
        return self._picked[key]

    def used(self, choice: Choice) -> tuple[str, ...]:
        """Constants that the library's choice, and the time of that choice, depend on."""
        if choice[1] == "custom":
            return _TIMED[choice[0]]
        plan = self.schedule(choice[0])
        nvlink = choice[0] != "nvls" and any(flow.route.via == "gpu-link" for flow in plan.flows)
        links = ["link_fraction"] if nvlink else []
        if self.kind in PAIRWISE:
            links += ["pair_fraction"] if nvlink and self.kind == "all_to_all" else []
            return (*_TUNED[:2], "slice_bytes", *_TIMED["pairs"], *links)
        if choice[0] == "nvls":
            links += ["simple_step"] if any(route.via == "network" for route, _ in plan.hops) else []
        elif self._communicator.nvls:
            links += ["nvls_efficiency", "nvls_speed"]
        return (*_TUNED, *_TIMED["nvls" if choice[0] == "nvls" else choice[1]], *links)

    @cached_property
    def _nodes(self) -> list[list[int]]:
        return schedules.nodes_of(self.topology, self.gpus)

    @property
    def _nvls_efficiency(self) -> float:
        return self.constants["nvls_efficiency"]

    @cached_property
    def _communicator(self) -> tuner.Communicator:
        return tuner.communicator(self.topology, self.gpus, self.constants)

    # ---- flows ---------------------------------------------------------------------------------------

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
                found = schedules.tree(t, kind, gpus)
            elif algorithm == "nvls":
                found = schedules.nvls(t, kind, gpus)
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
            reached = 1.0
        return _WIRE.get(protocol, 1.0) / reached

    def _host_fraction(self, route: Route) -> float:
        """The reached fraction of PCIe's payload rate: writing to a peer, or through a buffer in host memory."""
        worst = 1.0
        for edge in route.edges:
            link = self.topology.cluster.links.get(self.topology.graph.edges[edge]["link"])
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
            found.append(Transport(edges, bytes_on_wire, count))
        if lane is not None:
            # the channels work through `work` bytes of data while `sent` bytes go out
            channels = {(gpu, "channels", choice, self.members): lane * out / plan.work for gpu, out in sent.items()}
        self._flows[choice] = found, channels
        return found, channels

    def _lane(self, choice: Choice) -> float | None:
        """Bytes/s of data that all channels of a GPU work through; None where links are the limit."""
        c = self.constants
        if choice[1] == "ll":
            return c["planned_ll_bandwidth"] * c["ll_fraction"]
        if choice[1] == "ll128":
            return c["planned_ll128_bandwidth"] * c["channels"] * c["ll128_fraction"]
        return None

    def unit_time(self, choice: Choice) -> float:
        """K: seconds per byte of payload that the flows take with the links to themselves."""
        found = self._unit.get(choice)
        if found is None:
            flows, channels = self.flows(choice)
            found = self._unit[choice] = makespan(self.topology, flows, channels)
        return found

    # ---- time ----------------------------------------------------------------------------------------

    def lead(self, choice: Choice, size: ArrayLike) -> Array:
        """Seconds of a collective that are not those of its flows; see the module."""
        size = np.asarray(size, float)
        algorithm, protocol = choice
        c, n, plan = self.constants, self.n, self.schedule(algorithm)
        if protocol == "custom":
            barrier = c["custom_barrier"] if algorithm == "two-shot" else 0.0
            return np.full(size.shape, c["custom_latency"] + c["custom_step"] * (n - 1) + barrier)
        if algorithm == "nvls":
            network = sum(count * self._hop(route, "simple") for route, count in plan.hops if route.via == "network")
            return np.asarray(c["nvls_latency"] + network) + self._fill(
                choice, size, c["nvls_fill"], c["nvls_slice_bytes"]
            )
        hops = sum(count * self._hop(route, protocol) for route, count in plan.hops)
        if algorithm == "tree":
            hops += sum(count * _TREE_TURN[protocol] for route, count in plan.hops if route.via == "network")
        if self.kind in PAIRWISE:
            return hops - c["simple_step"] + self._pairs(choice, size)
        fixed = c["launch_latency"] + hops
        if protocol == "ll":
            rate_bound = self.unit_time(choice) * size
            full_pass = c["ll_spread"] + c["ll_pass"] * plan.work * n
            one_pass = full_pass * np.minimum(1.0, size / (_LL_PASS_BYTES * n))
            p = c["ll_blend"]
            made: Array = fixed + (one_pass**p + rate_bound**p) ** (1 / p) - rate_bound
            return made
        if protocol == "ll128":
            return np.full(size.shape, fixed + c["ll128_latency"])
        fill = self._fill(choice, 2 * size / n, c["fill"], c["slice_bytes"])
        return fixed + c["simple_latency"] + self._own_part(size) + fill

    def _pairs(self, choice: Choice, size: Array) -> Array:
        c, part = self.constants, size / self.n if self.kind == "all_to_all" else size
        peers = self.n - 1 if self.kind == "all_to_all" else 1
        fixed = c["launch_latency"] + c["pair_latency"] + c["pair_peer_latency"] * peers
        step = c["pair_step"] * part / (part + c["pair_bytes"])
        all_slices = self._slices(choice, c["slice_bytes"])
        soft = size * all_slices / (size + all_slices)
        return fixed + step + c["pair_fill"] * soft * self._per_byte(choice)

    def _hop(self, route: Route, protocol: str) -> float:
        """Seconds from one GPU to the next: links, fence and flag of Simple, detours through host and proxy."""
        links = [self.topology.graph.edges[edge]["link"] for edge in route.edges]
        known = [self.topology.cluster.links[name] for name in links if name in self.topology.cluster.links]
        extra = self.constants["simple_step"] if protocol == "simple" else 0.0
        if route.via == "host":
            extra += max((link.staged_latency.si for link in known if link.staged_latency), default=0.0)
        if route.via == "network" and protocol == "simple":
            extra += max((link.proxy_latency.si for link in known if link.proxy_latency), default=0.0)
        return route.latency + extra

    def _own_part(self, size: Array) -> Array:
        """Copying one's own n-th of the payload within the GPU's memory."""
        return size / self.n / (self.constants["copy_fraction"] * self.topology.cluster.gpu.memory.bandwidth.si)

    def _per_byte(self, choice: Choice) -> float:
        """Seconds per byte that leaves a GPU."""
        return self.unit_time(choice) / self.schedule(choice[0]).moved

    def _slices(self, choice: Choice, slice_bytes: float) -> float:
        """Bytes of a slice in every channel. Channels are as many as the rate asks for, here without rounding: else a
        link that is a little faster, and so has one channel more to fill, would take longer."""
        c = self.constants
        return slice_bytes * float(np.clip(1 / (self._per_byte(choice) * c["channel_bandwidth"]), 2, c["channels"]))

    def _fill(self, choice: Choice, part: Array, share: float, slice_bytes: float) -> Array:
        return share * np.minimum(part, self._slices(choice, slice_bytes)) * self._per_byte(choice)

    def channels(self, choice: Choice, size: ArrayLike) -> np.ndarray:
        """Thread blocks of the collective, each of which holds one SM: fewer where messages are small.

        NCCL gives a channel no less than what its threads take at once (src/include/device.h: 512 threads times 8
        bytes and n parts with LL, 640 times 8 with LL128, 512 times 64 with Simple), NVLS at most 16 channels.
        """
        size = np.asarray(size, float)
        if choice[1] == "custom":
            return np.full(size.shape, _CUSTOM_BLOCKS)
        most = min(self._communicator.channels, 16) if choice[0] == "nvls" else self._communicator.channels
        least = {"ll": _LL_PASS_BYTES * self.n, "ll128": 640 * 8 * self.n}.get(choice[1], 512 * 64)
        made: np.ndarray[Any, Any] = np.clip(np.floor(size / least), 1, most).astype(int)
        return made

    def times(self, size: ArrayLike, algorithm: str = "auto", protocol: str = "auto") -> CollectiveTimes:
        """Seconds over sizes, with the links to itself."""
        size = np.asarray(size, float)
        if self.n == 1:
            none = np.full(size.shape, "none")
            return CollectiveTimes(np.zeros(size.shape), none, none, np.zeros(size.shape, int), size * 0, size * 0)
        if protocol == "ideal":
            return self._ideal_times(size, algorithm)
        choices, index = self.choose(size, algorithm, protocol)
        seconds, channels = np.zeros(size.shape), np.zeros(size.shape, int)
        for i, choice in enumerate(choices):
            here = index == i
            if here.any():
                seconds[here] = self.lead(choice, size[here]) + self.unit_time(choice) * size[here]
                channels[here] = self.channels(choice, size[here])
        seconds[size == 0] = 0.0
        names, protocols = (np.asarray(column)[index] for column in zip(*choices, strict=True))
        return self._result(size, seconds, names, protocols, channels)

    def note(self, size: float) -> str:
        """Where another way would take 1 % less than what NCCL chooses by its own estimates: which, and how long."""
        if self.n == 1 or size == 0:
            return ""
        chosen, choices = self._pick(size, "auto", "auto"), self.allowed()
        seconds = {one: float(self.lead(one, size) + self.unit_time(one) * size) for one in choices}
        best = min(seconds, key=lambda one: seconds[one])
        if chosen[1] == "custom" or seconds[best] > 0.99 * seconds[chosen]:
            return ""
        ways = [f"{'/'.join(one)} {seconds[one] * 1e6:.4g} us" for one in (chosen, best)]
        return f"NCCL chooses {ways[0]}, though it could take {ways[1]}"

    def _ideal_times(self, size: Array, algorithm: str) -> CollectiveTimes:
        launch = self.topology.cluster.kernel.launch_overhead.si
        phases = ideal_phases(self.topology, self.kind, self.gpus, UNIT, launch, algorithm)
        lead = sum(phase.latency for phase in phases)
        unit = sum(
            makespan(self.topology, [Transport(e, b / UNIT, n) for e, b, n in phase.flows], {}) for phase in phases
        )
        seconds = np.where(size > 0, lead + unit * size, 0.0)
        none = np.zeros(size.shape, int)
        return self._result(size, seconds, np.full(size.shape, algorithm), np.full(size.shape, "ideal"), none)

    def _result(
        self, size: Array, seconds: Array, names: np.ndarray, protocols: np.ndarray, channels: np.ndarray
    ) -> CollectiveTimes:
        rate = np.divide(size, seconds, out=np.zeros(size.shape), where=seconds > 0)
        return CollectiveTimes(seconds, names, protocols, channels, rate, rate * bus_factor(self.kind, self.n))

    def phases(self, size: float, algorithm: str = "auto", protocol: str = "auto") -> list[CollectivePhase]:
        """The phases that the engine runs."""
        if self.n == 1 or size == 0:
            return []
        if protocol == "ideal":
            launch = self.topology.cluster.kernel.launch_overhead.si
            return ideal_phases(self.topology, self.kind, self.gpus, size, launch, algorithm)
        choice = self._pick(size, algorithm, protocol)
        flows, channels = self.flows(choice)
        latency = float(self.lead(choice, size))
        return [CollectivePhase(latency, tuple(Transport(e, share * size, n) for e, share, n in flows), channels)]
