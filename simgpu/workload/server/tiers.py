"""Tiers of cache behind the prefix cache of a GPU: memory of the host, disks, and a store that all replicas share.

A tier keeps chunks of sequences, the longest unused are dropped first and of a sequence its end first. What a request
does not find on the GPU it looks for there, tier by tier; it holds its place and its blocks while that is loaded, and
other requests go on meanwhile (vLLM, v1/core/sched: WAITING_FOR_REMOTE_KVS). Loads and writes are fluid flows: those of
a replica share its host link, each kind in its direction, and those of a tier its bandwidth, both kinds together. What
is written at once is there when it has arrived; what the GPU drops stays on it until then.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

from simgpu.engine.network import FluidNetwork
from simgpu.workload.server.requests import Request


@dataclass(frozen=True)
class Level:
    """A tier: chunks, bytes/s that it reads and writes (infinite: the host link is the limit), s until a load begins.

    `shared`: one for all replicas, else one for each.
    """

    kind: str
    chunks: float
    rate: float = inf
    latency: float = 0.0
    shared: bool = False


@dataclass(frozen=True)
class Levels:
    """The tiers of a replica, from the GPU outwards.

    chunk, size, seconds
        Tokens of a chunk, its bytes on all GPUs of a replica, and seconds of the host link for it.
    at_once
        Whether a chunk is written to all tiers when it is computed, else where the GPU takes its room.
    notes
        What a user has to know of them.
    """

    levels: tuple[Level, ...]
    chunk: int
    size: float
    seconds: float
    at_once: bool = True
    notes: tuple[str, ...] = ()


class Shelf:
    """The chunks of a tier: how many of the first ones of each name, the longest unused first."""

    def __init__(self, chunks: float) -> None:
        self.chunks, self.used = chunks, 0
        self.kept: OrderedDict[Any, int] = OrderedDict()

    def put(self, name: Any, count: int) -> list[tuple[Any, int]]:
        """Keep so many chunks of a name, or touch it; returns what had to go, by name and chunks."""
        before = self.kept.pop(name, 0)
        count = max(before, int(min(count, self.chunks)))
        if not count:
            return []
        self.kept[name] = count
        self.used += count - before
        gone = []
        while self.used > self.chunks:
            oldest, held = next(iter(self.kept.items()))
            cut = int(min(held, self.used - self.chunks))
            self.used -= cut
            gone.append((oldest, held))
            if cut == held:
                del self.kept[oldest]
            else:
                self.kept[oldest] = held - cut
        return gone


class Ticket:
    """A load on its way: the requests that wait for it, and flows that have yet to end."""

    __slots__ = ("begun", "flows", "keeper", "names", "requests")

    def __init__(self, keeper: Keeper, request: Request, now: float) -> None:
        self.keeper, self.requests, self.begun = keeper, [request], now
        self.names: list[Any] = []
        self.flows = 0


class Write:
    """Chunks on their way to a tier: by name, how many of the first ones; `life` is that of the engine they are of."""

    __slots__ = ("chunks", "flows", "keeper", "level", "life")

    def __init__(self, keeper: Keeper, level: int) -> None:
        self.keeper, self.level, self.life = keeper, level, keeper.life
        self.chunks: dict[Any, int] = {}
        self.flows = 0


class Keeper:
    """The tiers as one replica sees them."""

    def __init__(self, levels: Levels, shelves: list[Shelf], replica: Any, loads: Loads) -> None:
        self.levels, self.shelves, self.replica, self.loads = levels, shelves, replica, loads
        self._arriving: dict[Any, Ticket] = {}
        self._computed: dict[Any, int] = {}
        self._going: dict[tuple[int, Any], int] = {}  # chunks that are being written, by tier and name
        self.life = 0  # how often the engine has failed

    # ---- what there is -------------------------------------------------------------------------------

    def segments(self, request: Request, tokens: int) -> Iterator[tuple[Any, int, int]]:
        """The names of which the first `tokens` tokens of a request are made: first chunk, and the one after the last.

        A chunk is of the name in which it ends.
        """
        chunk, first = self.levels.chunk, 0
        for name, until in (*request.path, (request.number, tokens)):
            last = min(until, tokens) // chunk
            if last > first:
                yield name, first, last
            first = max(first, last)

    def find(self, request: Request, hit: int, most: int) -> list[int]:
        """Tokens of each tier that follow on the first `hit` ones, `most` with these."""
        found, place, chunk = [0] * len(self.shelves), hit, self.levels.chunk
        for name, first, last in self.segments(request, request.tokens):
            for level, shelf in enumerate(self.shelves):
                end = min((first + shelf.kept.get(name, 0)) * chunk, last * chunk, most)
                if end > place:
                    found[level] += end - place
                    place = end
            if place < last * chunk:
                break
        return found

    def keep(self, request: Request, tokens: int) -> None:
        """The first `tokens` tokens of a request are computed."""
        parts = [(name, last - first) for name, first, last in reversed(list(self.segments(request, tokens)))]
        if self.levels.at_once:
            for level in range(len(self.shelves)):
                self._write(level, parts)
        else:
            for name, count in parts:
                self._computed[name] = max(self._computed.get(name, 0), count)

    def forget(self, name: Any) -> None:
        """The GPU takes room from what is known by a name: it goes to the first tier, and what has to go there on."""
        count = self._computed.pop(name, 0)
        if count and self.shelves:
            self._write(0, [(name, count)])

    def _write(self, level: int, parts: list[tuple[Any, int]]) -> None:
        """Write those chunks to a tier that it does not have; touch the others."""
        shelf, write, new = self.shelves[level], Write(self, level), 0
        gone: list[tuple[Any, int]] = []
        for name, count in parts:
            known = shelf.kept.get(name, 0)
            there = max(known, self._going.get((level, name), 0))
            if known:
                shelf.put(name, known)
            if count > there:
                new += count - there
                if self.levels.at_once:
                    self._going[level, name] = write.chunks[name] = count
                else:  # the GPU keeps it until it has arrived
                    gone += shelf.put(name, count)
        if new:
            self.replica.tally.written_bytes += new * self.levels.size
            self.loads.write(write, self.levels.levels[level], new, self.replica.now)
        if gone and level + 1 < len(self.shelves):
            self._write(level + 1, gone)

    def written(self, write: Write) -> None:
        """Chunks have come to a tier."""
        shelf = self.shelves[write.level]
        if write.life != self.life:
            return
        for name, count in write.chunks.items():
            if self._going.get((write.level, name)) == count:
                del self._going[write.level, name]
            shelf.put(name, count)

    def fail(self) -> None:
        """The engine is gone, and with it what it kept in the host's memory."""
        self._arriving, self._computed, self._going = {}, {}, {}
        self.life += 1
        for level, shelf in zip(self.levels.levels, self.shelves, strict=True):
            if level.kind == "host":
                shelf.kept.clear()
                shelf.used = 0

    # ---- loads ---------------------------------------------------------------------------------------

    def fetch(self, request: Request, hit: int, most: int, now: float) -> tuple[int, set[Ticket]]:
        """Load what follows on the first `hit` tokens: how many then are there, and what the request waits for."""
        waits = {self._arriving[name] for name, _ in request.path if name in self._arriving}
        for ticket in waits:
            ticket.requests.append(request)
        found = self.find(request, hit, most)
        tally, levels = self.replica.tally, self.levels
        if hit and request.admitted < 0.0:
            request.place = "gpu"
        if any(found):
            ticket = Ticket(self, request, now)
            waits.add(ticket)
            names = [(name, last - first) for name, first, last in self.segments(request, hit + sum(found))]
            for name, count in reversed(names):
                self._arriving[name] = ticket
                ticket.names.append(name)
                if levels.at_once:
                    for shelf in self.shelves:
                        shelf.put(name, count)
            for level, tokens in zip(levels.levels, found, strict=True):
                if not tokens:
                    continue
                tally.loaded_bytes += tokens / levels.chunk * levels.size
                if request.admitted < 0.0:
                    tally.loaded[level.kind] += tokens
                    request.place = level.kind
                self.loads.start(ticket, level, tokens, now)
        return hit + sum(found), waits

    def arrived(self, ticket: Ticket | Write, now: float) -> None:
        """A load or a write is over."""
        if isinstance(ticket, Write):
            self.written(ticket)
            return
        for name in ticket.names:
            if self._arriving.get(name) is ticket:
                del self._arriving[name]
        tally = self.replica.tally
        tally.loads += 1
        tally.load_s += now - ticket.begun
        self.replica.loaded(ticket, now)


class Loads:
    """Loads of all replicas. `later` calls something at a time."""

    def __init__(self, later: Callable[[float, Callable[[float], None]], None]) -> None:
        self._later = later
        self._network = FluidNetwork()
        self._links: dict[Any, int] = {}
        self._flows = 0

    @property
    def next_time(self) -> float:
        """When the next load ends; infinite where there is none."""
        return self._network.next_time

    def start(self, ticket: Ticket, level: Level, tokens: int, now: float) -> None:
        """Tokens of a tier are loaded: after its latency they flow."""
        ticket.flows += 1
        if level.latency:
            self._later(now + level.latency, lambda time: self._flow(ticket, level, tokens, time))
        else:
            self._flow(ticket, level, tokens, now)

    def write(self, write: Write, level: Level, chunks: int, now: float) -> None:
        """Chunks flow to a tier."""
        write.flows += 1
        self._flow(write, level, chunks * write.keeper.levels.chunk, now, "from GPUs")

    def _flow(self, ticket: Ticket | Write, level: Level, tokens: int, now: float, link: str = "to GPUs") -> None:
        """A flow is as large as the seconds for which it has the host link of its replica to itself."""
        keeper, network = ticket.keeper, self._network
        levels = keeper.levels
        seconds = tokens / levels.chunk * levels.seconds
        route, counts = [self._link((link, keeper.replica.number), 1.0)], [1.0]
        if level.rate < inf:
            owner = "all" if level.shared else keeper.replica.number
            route.append(self._link((level.kind, owner), level.rate))
            counts.append(levels.size / levels.seconds)
        self._flows += 1
        network.start((ticket, self._flows), route, seconds, counts)
        network.solve(now)

    def finish(self) -> list[Ticket | Write]:
        """What has been loaded or written at `next_time`."""
        now = self._network.next_time
        over: list[Ticket | Write] = []
        done = self._network.finish(now)
        self._network.solve(now)
        for ticket, _ in done:
            ticket.flows -= 1
            if not ticket.flows:
                over.append(ticket)
        return over

    def _link(self, name: Any, rate: float) -> int:
        found = self._links.get(name)
        if found is None:
            found = self._links[name] = self._network.add_link(rate)
        return found


def put_behind(replicas: list[Any], later: Callable[[float, Callable[[float], None]], None]) -> Loads | None:
    """Give replicas the tiers that their rules say, with one network for all loads; None where there are none."""
    if not any(one.rules.tiers for one in replicas):
        return None
    loads = Loads(later)
    shared: dict[int, Shelf] = {}
    for one in replicas:
        levels = one.rules.tiers
        if levels is None:
            continue
        shelves = [
            shared.setdefault(place, Shelf(level.chunks)) if level.shared else Shelf(level.chunks)
            for place, level in enumerate(levels.levels)
        ]
        one.put_before(Keeper(levels, shelves, one, loads))
    return loads
