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
have gone all the way before the pipeline runs full, so a part of the time of a slice is paid on top.

Between nodes (`between`; m of the hops cross, h is what a post takes, q(S) how long posts queue: 1 to 1.8)

    hops    + m h q(S) [+ m t_turn with LL128, + m t_flush with Simple]; in a ring each other hop takes at least
            what a step takes, t q(S)
    trees   + sum over hops of bytes in flight / rate of the hop
    CollNet + t_reduction, what switches that reduce take
    NVLS    t_NVLS + hops + (1 + levels up and down) K s S / (s + S),  s one chunk in all channels for all heads
    pairs   + t_far for each GPU of another node

`flows` says who sends, `lead` holds the equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from simgpu.errors import InputError
from simgpu.hardware.topology import Topology
from simgpu.memo import Region
from simgpu.timing.collectives import between, schedules, tuner
from simgpu.timing.collectives.alone import UNIT, makespan
from simgpu.timing.collectives.flows import LIBRARIES, Choice
from simgpu.timing.collectives.ideal import CollectivePhase, Transport, ideal_phases
from simgpu.timing.collectives.lead import LL_PASS_BYTES, CollectiveLead
from simgpu.timing.collectives.traffic import PAIRWISE, REDUCING, bus_factor
from simgpu.timing.parts import Array, ArrayLike

__all__ = [
    "ALGORITHMS",
    "LIBRARIES",
    "PROTOCOLS",
    "Choice",
    "Chosen",
    "CollectiveModel",
    "CollectiveTimes",
]

ALGORITHMS = ("auto", *schedules.ALGORITHMS)
PROTOCOLS = ("auto", *tuner.PROTOCOLS, "ideal")
SIZES = 4096
"""Sizes for which the choice of a collective is remembered."""

_CUSTOM_BLOCKS = 36  # vllm csrc/custom_all_reduce.cuh

_TUNED = ("channels", "channel_bandwidth", "planned_ll_bandwidth", "planned_ll128_bandwidth", "planned_tree_bandwidth")
_TIMED = {
    "ll": ("launch_latency", "ll_spread", "ll_pass", "ll_blend", "ll_fraction"),
    "ll128": ("launch_latency", "ll128_latency", "ll128_fraction"),
    "simple": ("launch_latency", "simple_latency", "simple_step", "copy_fraction", "fill", "slice_bytes"),
    "nvls": ("nvls_latency", "nvls_fraction", "nvls_efficiency", "nvls_speed"),
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
    far: str = ""  # of several nodes: what the residuals of their network are told by

    @property
    def measured_as(self) -> str:
        """The library under which residuals of such collectives stand: those between nodes have their own."""
        return f"{self.library} {self.far}".strip()


class CollectiveModel(CollectiveLead):
    """One kind of collective over given GPUs of a topology."""

    def __init__(self, topology: Topology, kind: str, gpus: Sequence[int], library: str = "nccl", dtype: str = "bf16"):
        super().__init__(topology, kind, gpus, library, dtype)
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
            wanted = ["direct"] if joined else ["ring", "tree", "nvls", "collnet"]
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
            return protocol == "simple" and works and wanted and self._switched
        if algorithm == "collnet":
            return protocol == "simple" and self._reduces
        if algorithm == "direct":
            return protocol == "simple" and self.kind not in ("broadcast", "reduce")
        if algorithm == "tree" and self.kind != "all_reduce":
            return False
        return protocol != "ll128" or self._communicator.ll128

    @cached_property
    def _switched(self) -> bool:
        return schedules.has_switch(self.topology, self.gpus)

    @cached_property
    def _reduces(self) -> bool:
        """Whether the switches between the nodes add up what these GPUs hold."""
        fabric = self.topology.cluster.spec.fabric
        sums = self.kind == "all_reduce" and self.dtype not in ("fp8", "fp4") and len(self._nodes) > 1
        return sums and fabric is not None and bool(fabric.sharp) and self.topology.whole_rails > 0

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
        far = between.measured_on(self.topology.cluster) if len(self._nodes) > 1 else ""
        return Chosen(*choice, int(self.channels(choice, size)), self.used(choice), library, far)

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
            links += ["pair_fraction", "pair_bandwidth"] if nvlink and self.kind == "all_to_all" else []
            return (*_TUNED[:2], "slice_bytes", *_TIMED["pairs"], *links)
        if choice[0] == "nvls":
            far = len(self._nodes) > 1
            links += ["nvls_channels", "nvls_network_bandwidth"] if far else ["nvls_fill", "nvls_slice_bytes"]
        elif self._communicator.nvls:
            links += ["nvls_efficiency", "nvls_speed"]
        if choice == ("ring", "ll128") and self.constants["ll128_ring"]:
            links += ["ll128_ring"]
        return (*_TUNED, *_TIMED["nvls" if choice[0] == "nvls" else choice[1]], *links)

    @property
    def _nvls_efficiency(self) -> float:
        return self.constants["nvls_efficiency"]

    # ---- time ----------------------------------------------------------------------------------------

    def channels(self, choice: Choice, size: ArrayLike) -> np.ndarray:
        """Thread blocks of the collective, each of which holds one SM: fewer where messages are small.

        NCCL gives a channel no less than what its threads take at once (src/include/device.h: 512 threads times 8
        bytes and n parts with LL, 640 times 8 with LL128, 512 times 64 with Simple), NVLS at most 16 channels.
        """
        size = np.asarray(size, float)
        if choice[1] == "custom":
            return np.full(size.shape, _CUSTOM_BLOCKS)
        most = (
            min(self._communicator.channels, int(self.constants["nvls_channels"]))
            if choice[0] == "nvls"
            else self._communicator.channels
        )
        least = {"ll": LL_PASS_BYTES * self.n, "ll128": 640 * 8 * self.n}.get(choice[1], 512 * 64)
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
