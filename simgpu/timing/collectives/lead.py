"""What a collective takes beside its flows: latencies of protocols, channels, hops and the filling of pipelines.

The equations stand in `simgpu.timing.collectives.model`, those of networks in `between`.
"""

from __future__ import annotations

import numpy as np

from simgpu.hardware.topology import Route
from simgpu.timing.collectives import between, schedules
from simgpu.timing.collectives.flows import WIRE, Choice, CollectiveFlows
from simgpu.timing.collectives.traffic import PAIRWISE
from simgpu.timing.parts import Array, ArrayLike

LL_PASS_BYTES = 512 * 8
"""Bytes of data that the threads of a channel take at once with LL."""


class CollectiveLead(CollectiveFlows):
    """One kind of collective over given GPUs: its flows, and the seconds that are not those of flows."""

    def lead(self, choice: Choice, size: ArrayLike) -> Array:
        """Seconds of a collective that are not those of its flows; see the module."""
        size = np.asarray(size, float)
        algorithm, protocol = choice
        c, n, plan = self.constants, self.n, self.schedule(algorithm)
        if protocol == "custom":
            barrier = c["custom_barrier"] if algorithm == "two-shot" else 0.0
            return np.full(size.shape, c["custom_latency"] + c["custom_step"] * (n - 1) + barrier)
        hops = self._hops(choice, size)
        if algorithm == "nvls":
            return c["nvls_latency"] + hops + self._nvls_fill(choice, size)
        if self.kind in PAIRWISE:
            return hops - c["simple_step"] + self._pairs(choice, size)
        fixed = c["launch_latency"] + hops + self._tree_fill(choice, size) + self._rendezvous(choice, size)
        if protocol == "ll":
            rate_bound = self.unit_time(choice) * size
            full_pass = c["ll_spread"] + c["ll_pass"] * plan.work * n
            one_pass = full_pass * np.minimum(1.0, size / (LL_PASS_BYTES * n))
            p = c["ll_blend"]
            made: Array = fixed + (one_pass**p + rate_bound**p) ** (1 / p) - rate_bound
            return made
        if protocol == "ll128":
            return fixed + c["ll128_latency"] + (c["ll128_ring"] if algorithm == "ring" else 0.0)
        fill = self._fill(choice, 2 * size / n, c["fill"], c["slice_bytes"])
        return fixed + c["simple_latency"] + self._own_part(size) + fill

    def _pairs(self, choice: Choice, size: Array) -> Array:
        c, part = self.constants, size / self.n if self.kind == "all_to_all" else size
        peers = self.n - 1 if self.kind == "all_to_all" else 1
        fixed: Array | float = c["launch_latency"] + c["pair_latency"] + c["pair_peer_latency"] * peers
        if self.kind == "all_to_all":
            largest, inject = self._fabric.inject
            far = self.n - min(map(len, self._nodes))
            fixed = fixed + (self._fabric.peer + np.where(part <= largest, inject, 0.0)) * far
        step = c["pair_step"] * part / (part + c["pair_bytes"])
        all_slices = self._slices(choice, c["slice_bytes"])
        soft = size * all_slices / (size + all_slices)
        return fixed + step + c["pair_fill"] * soft * self._per_byte(choice)

    def _hops(self, choice: Choice, size: Array) -> Array:
        """Seconds of all hops one after another: links, fence and flag of Simple, detours through hosts, posts."""
        found = self._hop_sums.get(choice)
        if found is None:
            found = self._hop_sums[choice] = self._summed_hops(choice)
        fixed, posts = found
        if not posts:
            return np.full(size.shape, fixed)
        made: Array = fixed + posts * between.queued(size, self.n if choice[0] == "ring" else 1)
        return made

    def _summed_hops(self, choice: Choice) -> tuple[float, float]:
        """Seconds of all hops whatever the size, and of their posts where none waits for another."""
        algorithm, protocol = choice
        fabric, fence = self._fabric, self.constants["simple_step"] if protocol == "simple" else 0.0
        fixed, posts = 0.0, 0.0
        for route, count in self.schedule(algorithm).hops:
            if algorithm == "nvls" and route.via != "network":
                continue
            own = self._hop(route, "ll" if algorithm == "nvls" else protocol)
            fixed += count * own
            if route.via == "network":
                posts += count * fabric.post
                fixed += between.REDUCTION if algorithm == "collnet" else 0.0
            elif algorithm == "ring":  # the larger of what the hop takes and what the proxies take for a step
                posts += count * max(fabric.step - (own - fence), 0.0)
        return fixed, posts

    def _hop(self, route: Route, protocol: str) -> float:
        """Seconds from one GPU to the next: links, fence and flag of Simple, detour through a host, flush."""
        extra = self.constants["simple_step"] if protocol == "simple" else 0.0
        if route.via == "host":
            links = [self.topology.wires.edges[edge]["link"] for edge in route.edges]
            known = [self.topology.cluster.links[name] for name in links if name in self.topology.cluster.links]
            extra += max((link.staged_latency.si for link in known if link.staged_latency), default=0.0)
        if route.via == "network":
            extra += between.hop(self._fabric, protocol)
        return route.latency + extra

    def _tree_fill(self, choice: Choice, size: Array) -> Array | float:
        """Seconds until the first chunk of a tree over several nodes has gone all the way."""
        algorithm, protocol = choice
        if algorithm != "tree" or len(self._nodes) == 1:
            return 0.0
        comm = self._communicator
        nodes, wire = len(self._nodes), WIRE[protocol]
        chunk = between.in_flight(protocol, size, comm.open_channels, nodes, self.n / nodes)
        lane = self._inner_lane(protocol)
        share = comm.open_channels / self.constants["channels"]
        own = chunk / (comm.bandwidth * 1e9 if lane is None else lane * share)
        across = chunk * wire / (comm.network * 1e9)
        counts = [(route.via == "network", count) for route, count in self.schedule(algorithm).hops]
        made: Array = own * sum(n for far, n in counts if not far) + across * sum(n for far, n in counts if far)
        return made

    def _rendezvous(self, choice: Choice, size: Array) -> Array | float:
        """Seconds in which the two ends of large messages between nodes find each other.

        In a ring other parts of the payload move meanwhile; in a tree the first chunk, of which there are at least as
        many as levels, waits at each.
        """
        largest, latency = self._fabric.rendezvous
        algorithm, protocol = choice
        if not latency:
            return 0.0
        parts = float(self.n)
        if algorithm == "tree":
            parts = 2 * self._communicator.open_channels * (1 + np.log2(len(self._nodes)))
        far = sum(count for route, count in self.schedule(algorithm).hops if route.via == "network")
        met = np.where(WIRE[protocol] * size / parts > largest, far * latency, 0.0)
        if algorithm == "tree":
            return met
        moving = self.unit_time(choice) * size
        made: Array = (met**between.MEETING + moving**between.MEETING) ** (1 / between.MEETING) - moving
        return made

    def _nvls_fill(self, choice: Choice, size: Array) -> Array:
        """Seconds until the pipeline of NVLS runs full.

        Within a node that is a part of a slice; over several, of NVLSTree, a slice for each level of the tree, up and
        down, and one for the switch.
        """
        c, nodes = self.constants, len(self._nodes)
        if nodes == 1:
            return self._fill(choice, size, c["nvls_fill"], c["nvls_slice_bytes"])
        heads = min(*map(len, self._nodes), schedules.NVLS_HEADS)
        channels = c["nvls_channels"] * self._communicator.open_channels / c["channels"]
        whole = between.nvls_slice(nodes, heads, channels)
        stages = 1 + sum(count for route, count in self.schedule(choice[0]).hops if route.via == "network")
        made: Array = stages * self.unit_time(choice) * size * whole / (size + whole)
        return made

    def _own_part(self, size: Array) -> Array:
        """Copying one's own n-th of the payload within the GPU's memory."""
        return size / self.n / (self.constants["copy_fraction"] * self.topology.cluster.gpu.memory.bandwidth.si)

    def _per_byte(self, choice: Choice) -> float:
        """Seconds per byte that leaves a GPU."""
        return self.unit_time(choice) / self.schedule(choice[0]).moved

    def _slices(self, choice: Choice, slice_bytes: float) -> float:
        """Bytes of a slice in every channel.

        Channels are as many as the rate asks for, here without rounding: else a link that is a little faster, and so
        has one channel more to fill, would take longer.
        """
        c = self.constants
        return slice_bytes * float(np.clip(1 / (self._per_byte(choice) * c["channel_bandwidth"]), 2, c["channels"]))

    def _fill(self, choice: Choice, part: Array, share: float, slice_bytes: float) -> Array:
        return share * np.minimum(part, self._slices(choice, slice_bytes)) * self._per_byte(choice)
