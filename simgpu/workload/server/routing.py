"""Routers: the replica to which a request goes, by what is known when it comes.

A router of one's own is a class with `choose`; `ROUTERS` names those that come with simgpu.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol

from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request


class Router(Protocol):
    """What chooses a replica."""

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """The replica to which a request goes."""
        ...  # pragma: no cover


class RoundRobin:
    """One after the other."""

    def __init__(self, seed: int = 0) -> None:
        del seed
        self._next = -1

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """The replica after the last one that was chosen."""
        del request
        self._next = (self._next + 1) % len(replicas)
        return replicas[self._next]


class Uniform:
    """Any replica, with equal chances."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(f"router {seed}")

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """A random replica."""
        del request
        return replicas[int(self._random.random() * len(replicas))]


class LeastRequests:
    """The replica with the fewest requests that wait or run."""

    def __init__(self, seed: int = 0) -> None:
        del seed

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """The replica with the fewest requests, the first of several."""
        del request
        found, least = replicas[0], 1 << 60
        for one in replicas:  # in the order of their numbers; quicker than min with a key
            load = len(one.waiting) + len(one.running)
            if load < least:
                found, least = one, load
        return found


class LeastTokens:
    """The replica with the fewest tokens, those of prompts that wait and those that its decodes hold."""

    def __init__(self, seed: int = 0) -> None:
        del seed

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """The replica with the fewest tokens, the first of several."""
        del request
        found, least = replicas[0], 1 << 60
        for one in replicas:
            load = one.queued + one.held
            if load < least:
                found, least = one, load
        return found


class PrefixAware:
    """The replica on which prompt tokens to compute and blocks in use are least together.

    A prompt's blocks that the cache lacks, those of prompts that wait, and blocks in use, of equal weight (Dynamo's
    KV router, `overlap_score_weight` 1, without its softmax).
    """

    def __init__(self, seed: int = 0) -> None:
        del seed

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """The replica of least cost, the first of several."""

        def cost(one: Replica) -> tuple[float, int]:
            pool = one.pool
            new = request.prompt - pool.found(request) + one.queued
            return new / pool.block + pool.total - pool.free, one.number

        return min(replicas, key=cost)


class PowerOfTwo:
    """Of two random replicas the one with fewer requests."""

    def __init__(self, seed: int = 0) -> None:
        self._random = Random(f"router {seed}")

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """The better of two."""
        del request
        one, other = (replicas[int(self._random.random() * len(replicas))] for _ in range(2))
        return one if one.requests <= other.requests else other


class LeastLoad:
    """The replica with the least of 4 x waiting + running (vLLM, v1/engine/core_client.py, DPLBAsyncMPClient)."""

    def __init__(self, seed: int = 0) -> None:
        del seed

    def choose(self, request: Request, replicas: Sequence[Replica]) -> Replica:
        """The replica of least load, the first of several."""
        del request
        return min(replicas, key=lambda one: (4 * len(one.waiting) + len(one.running), one.number))


ROUTERS: Mapping[str, Callable[[int], Router]] = {
    "round_robin": RoundRobin,
    "random": Uniform,
    "least_requests": LeastRequests,
    "least_tokens": LeastTokens,
    "prefix_aware": PrefixAware,
    "power_of_two": PowerOfTwo,
    "least_load": LeastLoad,
}
"""Routers by name; each is made from a seed."""
