"""A server of several replicas under a load: requests come, a router deals them, steps follow each other.

Events are the arrival of a request and the end of a replica's step or leap, in the order of time; of equal times an
arrival comes first, and of several arrivals the lower number. State changes at these alone, so that a router sees what
a real one would see.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf

from simgpu.errors import InputError
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request
from simgpu.workload.server.routing import Router


@dataclass(frozen=True)
class Clients:
    """How clients hold themselves back.

    `closed`: so many of them send the next request `think` seconds after they have their answer, until `until`; their
    first ones come over `start` seconds.
    `limit`: at most so many requests are on their way, the others wait at the client and are sent when one is answered.
    """

    closed: int = 0
    think: float = 0.0
    limit: int = 0
    until: float = inf
    start: float = 0.0


@dataclass(frozen=True)
class Transfer:
    """How caches move from engines of prompts to engines of decodes: bytes/s of an engine's links, bytes of tokens."""

    rate: float
    size: Callable[[int], float]


OPEN = Clients()


class Fleet:
    """Replicas behind a router. `report` gets every request that ends.

    With `decoders`, the replicas take prompts alone, and these go on in a decoder that a second router chooses.
    """

    def __init__(
        self, replicas: Sequence[Replica], router: Router, report: Callable[[Request], None],
        clients: Clients = OPEN, decoders: Sequence[Replica] = (), second: Router | None = None,
        transfer: Transfer | None = None,
    ) -> None:  # fmt: skip
        self.takers, self.router, self.report, self.clients = list(replicas), router, report, clients
        self.decoders, self.second, self.transfer = list(decoders), second, transfer
        self.replicas = [*self.takers, *self.decoders]
        for i, one in enumerate(self.replicas):
            one.number = i
        self.front = self.takers[0].rules.front_s
        self.area, self.inside, self.most_inside, self.now = 0.0, 0, 0, 0.0
        self._later: list[tuple[float, int, Request]] = []
        self._ends: list[tuple[float, int]] = []
        self._held: deque[Request] = deque()
        self._outputs: dict[int, int] = {}
        self._links = [0.0] * len(self.takers)
        self._source: Iterator[Request] = iter(())
        self._next: Request | None = None

    def run(self, requests: Iterator[Request]) -> None:
        """Serve all requests, which come in the order in which they are sent."""
        self._source = requests
        if self.clients.closed:
            for i in range(self.clients.closed):
                self._send_next(self.clients.start * i / self.clients.closed)
        else:
            self._next = next(requests, None)
        ends, later = self._ends, self._later
        while True:
            coming = self._next.sent + self.front if self._next is not None else inf
            if later and later[0][0] < coming:
                coming = later[0][0]
            while ends and self.replicas[ends[0][1]].end != ends[0][0]:
                heappop(ends)
            if ends and ends[0][0] < coming:
                self._step(self.replicas[heappop(ends)[1]])
            elif coming < inf:
                self._arrive(coming)
            else:
                return

    # ---- events --------------------------------------------------------------------------------------

    def _step(self, replica: Replica) -> None:
        end = replica.end
        replica.commit()
        if replica.done:
            for request in replica.done:
                if request.number in self._outputs:
                    self._hand_over(request, replica, end)
                else:
                    self._ended(request, end)
            replica.done = []
        replica.plan(end)
        if replica.end < inf:
            heappush(self._ends, (replica.end, replica.number))

    def _arrive(self, now: float) -> None:
        if self._later and self._later[0][0] <= now:
            request = heappop(self._later)[2]
        else:
            assert self._next is not None
            request = self._next
            self._next = next(self._source, None)
        if request.ready:
            assert self.second is not None
            self._give(self.second.choose(request, self.decoders), request, now)
            return
        if self.clients.limit and self.inside >= self.clients.limit:
            self._held.append(request)
            return
        self._count(now, 1)
        replica = self.router.choose(request, self.takers)
        rules = self.replicas[-1].rules
        if request.longest > rules.blocks * rules.block:
            problem = f"request {request.number} of {request.prompt:,} + {request.output:,} tokens is more than the"
            raise InputError(f"{problem} {rules.blocks * rules.block:,} tokens of the cache", key="workload")
        if self.decoders:
            self._outputs[request.number] = request.output
            request.output = 1
        self._give(replica, request, now)

    def _give(self, replica: Replica, request: Request, now: float) -> None:
        before = replica.end
        replica.receive(request, now)
        if replica.end != before:
            heappush(self._ends, (replica.end, replica.number))

    def _hand_over(self, request: Request, replica: Replica, now: float) -> None:
        """The prompt of a request is computed: its cache moves to a decoder, after those that were there before."""
        assert self.transfer is not None
        request.output = self._outputs.pop(request.number)
        request.made, request.first, request.ready = 0, -1.0, True
        start = max(now, self._links[replica.number])
        end = self._links[replica.number] = start + self.transfer.size(request.prompt) / self.transfer.rate
        heappush(self._later, (end, request.number, request))

    def _ended(self, request: Request, now: float) -> None:
        self._count(now, -1)
        self.report(request)
        if request.follows is not None:
            following, pause = request.follows
            self._send(following, now + pause)
        elif self.clients.closed:
            self._send_next(now + self.clients.think)
        elif self._held:
            self._send(self._held.popleft(), now)

    def _send_next(self, time: float) -> None:
        request = next(self._source, None) if time <= self.clients.until else None
        if request is not None:
            self._send(request, time)

    def _send(self, request: Request, time: float) -> None:
        request.sent = time
        heappush(self._later, (time + self.front, request.number, request))

    def _count(self, now: float, change: int) -> None:
        """Requests inside the engines, and their sum over time."""
        self.area += self.inside * (now - self.now)
        self.now = now
        self.inside += change
        self.most_inside = max(self.most_inside, self.inside)
