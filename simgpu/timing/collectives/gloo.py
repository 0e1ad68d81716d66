"""Gloo, for contrast: collectives of PyTorch's `gloo` backend, over TCP through the memory of the hosts.

ProcessGroupGloo (torch/csrc/distributed/c10d/ProcessGroupGloo.cpp) copies the tensors of a GPU to pinned host memory,
runs the collective there, and copies the result back, one after the other. Of facebookincubator/gloo:

    all-reduce      ring of segments, 2 (n-1) steps, 2 (n-1)/n of the payload (gloo/allreduce.cc); halving_doubling:
                    2 log2 n steps with as many bytes, one after another (docs/algorithms.md)
    all-gather      ring, n-1 steps, (n-1)/n
    reduce-scatter  an all-reduce of which each rank keeps its part (ProcessGroupGloo)
    reduce          ring of n-1 steps, then every rank sends its part to the root (gloo/reduce.cc)
    broadcast       binomial tree, ceil(log2 n) rounds of the whole payload (gloo/broadcast.cc)
    pairs           one message for each

    time = launches + copy to the host + sum over rounds (steps t_message + bytes / rate) + copy back

The rate is what a process passes on, or the network's: all ranks of a node share one interface, that of its address.
The closed form of the ring, one rank a node: 2 (n-1) t_message + 2 (n-1)/n S / min(process, interface), with copies.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

from simgpu.errors import InputError, nearest
from simgpu.hardware.topology import Topology
from simgpu.timing.collectives.alone import makespan
from simgpu.timing.collectives.flows import Choice
from simgpu.timing.collectives.ideal import CollectivePhase, Edge, Transport
from simgpu.timing.collectives.model import Chosen, CollectiveModel, CollectiveTimes
from simgpu.timing.collectives.traffic import PAIRWISE, SEND
from simgpu.timing.parts import ArrayLike

GLOO = "gloo"
GLOO_ALGORITHMS = ("auto", "ring", "halving_doubling")

PROCESS_RATE = 20e6 / 17251e-6
"""Bytes/s that a process sends and receives at once: 20 MB in 17,251 us (median), two nodes with 40 Gb/s and one core
for each process (pytorch/gloo issue 248, allreduce_ring_chunked)."""
MESSAGE = 20e-6
"""Seconds of a message over a socket: what each level of a tree adds, up and down, to all-reduces of NCCL over sockets,
from 46 us on 2 nodes to 284 on 128 (argonne-lcf/alcf-nccl-tests, results_polaris). Within a node it is taken alike."""
SPREAD = (0.3, 3.0)
"""Factors to P10 and P90, a judgement: TCP alone reached 40 Gb/s with 30 % of a core in gloo's docs/latency.md, a
quarter of the time; processes that share cores, or hosts without large frames, take several times as long."""

_MOST_PAIRS = 256  # ranks of an all-to-all, each of which sends to each

Sends = list[tuple[int, int, float]]
"""From rank, to rank, bytes per byte of payload."""


class Round(NamedTuple):
    """Sends that start together after `steps` messages."""

    steps: int
    sends: Sends


class GlooModel(CollectiveModel):
    """One kind of collective by gloo over given GPUs of a topology."""

    def __init__(self, topology: Topology, kind: str, gpus: Sequence[int], dtype: str = "bf16"):
        super().__init__(topology, kind, gpus, GLOO, dtype)
        if kind == "all_to_all" and self.n > _MOST_PAIRS:
            problem = f"{self.n:,} GPUs are too many in an all-to-all of gloo; expected at most {_MOST_PAIRS}"
            raise InputError(problem, key="gpus")

    def allowed(self, algorithm: str = "auto", protocol: str = "auto") -> list[Choice]:
        """The one way that is asked for: rings are what PyTorch runs. Raises `InputError` for what gloo has not."""
        if algorithm not in GLOO_ALGORITHMS:
            raise InputError(f"'{algorithm}' is not of gloo{nearest(algorithm, GLOO_ALGORITHMS)}", key="algorithm")
        if protocol != "auto":
            raise InputError(f"'{protocol}' is not of gloo, which has TCP only; expected auto", key="protocol")
        if algorithm == "halving_doubling" and (self.kind != "all_reduce" or self.n & (self.n - 1)):
            problem = f"halving_doubling is for all_reduce over 2, 4, 8, ... GPUs, not {self.kind} over {self.n}"
            raise InputError(problem, key="algorithm")
        if algorithm == "auto":
            algorithm = "tree" if self.kind == "broadcast" else "direct" if self.kind in PAIRWISE else "ring"
        return [(algorithm, "tcp")]

    def rounds(self, algorithm: str) -> list[Round]:
        """The rounds of sends between ranks, without the copies."""
        n, kind = self.n, self.kind
        following = [(i, (i + 1) % n) for i in range(n)]
        if algorithm == "halving_doubling":
            halves = [(1 << k, 0.5 ** (k + 1)) for k in range(n.bit_length() - 1)]
            return [Round(1, [(i, i ^ far, part) for i in range(n)]) for far, part in [*halves, *halves[::-1]]]
        if kind in ("all_reduce", "reduce_scatter"):
            return [Round(2 * (n - 1), [(a, b, 2 * (n - 1) / n) for a, b in following])]
        if kind == "all_gather":
            return [Round(n - 1, [(a, b, (n - 1) / n) for a, b in following])]
        if kind == "reduce":
            ring = Round(n - 1, [(a, b, (n - 1) / n) for a, b in following])
            return [ring, Round(1, [(i, 0, 1 / n) for i in range(1, n)])]
        if kind == "broadcast":
            firsts = [1 << k for k in range((n - 1).bit_length())]
            return [Round(1, [(i, i + far, 1.0) for i in range(far) if i + far < n]) for far in firsts]
        if kind == "all_to_all":
            return [Round(n - 1, [(a, b, 1 / n) for a in range(n) for b in range(n) if a != b])]
        return [Round(1, [(0, 1, 1.0)] if kind == SEND else [(a, b, 1.0) for a, b in following])]

    @cached_property
    def _copied(self) -> tuple[list[Transport], list[Transport]]:
        """What crosses from GPUs to host memory and back, per byte of payload."""
        n, everyone = self.n, range(self.n)
        whole = dict.fromkeys(everyone, 1.0)
        part = dict.fromkeys(everyone, 1 / n)
        root = {0: 1.0}
        others = {rank: 1.0 for rank in everyone if rank}
        given = {"all_gather": part, "broadcast": root, SEND: root}.get(self.kind, whole)
        made = {"reduce_scatter": part, "broadcast": others, "reduce": root, SEND: others}.get(self.kind, whole)
        down = [Transport(self.topology.to_host(self.gpus[rank]), share) for rank, share in given.items()]
        up = [
            Transport(tuple((b, a) for a, b in reversed(self.topology.to_host(self.gpus[rank]))), share)
            for rank, share in made.items()
        ]
        return down, up

    def _sent(self, sends: Sends) -> tuple[list[Transport], dict[Edge, float]]:
        """Flows of a round, and what processes and the interfaces of nodes pass on."""
        lanes: dict[Edge, float] = {}
        flows: list[Transport] = []
        for a, b, share in sends:
            edges: tuple[Edge, ...] = ((self.gpus[a], "sends", self.members), (self.gpus[b], "receives", self.members))
            lanes |= dict.fromkeys(edges, PROCESS_RATE)
            nodes = [self.gpus[rank] // self.topology.cluster.gpus_per_node for rank in (a, b)]
            if nodes[0] != nodes[1]:
                route = self.topology.route(self.gpus[a], self.gpus[b])
                shared = ((nodes[0], "socket out", self.members), (nodes[1], "socket in", self.members))
                lanes |= dict.fromkeys(shared, self.topology.bandwidth(route))
                edges = (*route.edges, *edges, *shared)
            flows.append(Transport(edges, share))
        return flows, lanes

    def _parts(self, choice: Choice) -> list[tuple[float, list[Transport], dict[Edge, float]]]:
        """Latency, flows per byte of payload and lanes of everything that runs one after another."""
        launch = self.topology.cluster.kernel.launch_overhead.si
        down, up = self._copied
        rounds = [(one.steps * MESSAGE, *self._sent(one.sends)) for one in self.rounds(choice[0])]
        return [(launch, down, {}), *rounds, (launch, up, {})]

    def choose(
        self, size: ArrayLike, algorithm: str = "auto", protocol: str = "auto"
    ) -> tuple[list[Choice], np.ndarray]:
        """The one way, whatever the size."""
        return self.allowed(algorithm, protocol), np.zeros(np.shape(size), int)

    def times(self, size: ArrayLike, algorithm: str = "auto", protocol: str = "auto") -> CollectiveTimes:
        """Seconds over sizes, with the links to itself."""
        if self.n == 1 or protocol == "ideal":
            return super().times(size, algorithm, protocol)
        size = np.asarray(size, float)
        (choice,) = self.allowed(algorithm, protocol)
        parts = self._parts(choice)
        unit = sum(makespan(self.topology, flows, lanes) for _, flows, lanes in parts)
        seconds = np.where(size > 0, sum(latency for latency, _, _ in parts) + unit * size, 0.0)
        names, protocols = (np.full(size.shape, word) for word in choice)
        return self._result(size, seconds, names, protocols, np.zeros(size.shape, int))

    def chosen(self, size: float, algorithm: str = "auto", protocol: str = "auto") -> Chosen:
        """The algorithm. No kernel of it runs on the GPU, so that it takes no SMs."""
        if protocol == "ideal":
            return super().chosen(size, algorithm, protocol)
        return Chosen(*self.allowed(algorithm, protocol)[0], 0, (), GLOO)

    def note(self, size: float) -> str:  # noqa: ARG002 - every model's signature
        """Nothing: gloo does not choose."""
        return ""

    def phases(self, size: float, algorithm: str = "auto", protocol: str = "auto") -> list[CollectivePhase]:
        """The phases that the engine runs."""
        if self.n == 1 or size == 0 or protocol == "ideal":
            return super().phases(size, algorithm, protocol)
        (choice,) = self.allowed(algorithm, protocol)
        return [
            CollectivePhase(latency, tuple(Transport(e, share * size, n) for e, share, n in flows), lanes)
            for latency, flows, lanes in self._parts(choice)
        ]
