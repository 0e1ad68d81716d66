"""A server of several replicas under a load: requests come, a router deals them, steps follow each other.

Events are the arrival of a request, the end of a step or leap of an engine, the end of a transfer, and what a client or
an operator does at a time: give up, send again, start a replica. They come in the order of time; of equal times an
arrival comes first, and of several arrivals the lower number. State changes at these alone, so that a router sees what
a real one would see.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from math import inf
from typing import Any

from simgpu.errors import InputError
from simgpu.workload.server.care import CANCELLED, FAILED, PLAIN, TIMED_OUT, TURNED_AWAY, Care
from simgpu.workload.server.gateway import Gate
from simgpu.workload.server.replica import Replica
from simgpu.workload.server.requests import Request, again_of
from simgpu.workload.server.routing import Router
from simgpu.workload.server.tiers import Loads, put_behind
from simgpu.workload.server.transfers import Transfer, Transfers

RETRIED = 10**9
"""Added to the number of a request each time that its client sends it again."""


@dataclass(frozen=True)
class Clients:
    """How clients hold themselves back.

    `closed`: so many of them send the next request `think` seconds after they have their answer, until `until`; their
    first ones come over `start` seconds.
    `limit`: at most so many requests are on their way, the others wait at the client and are sent when one is answered.
    `gap`: a turn of a conversation is sent so many seconds after the one before was sent, or later.
    """

    closed: int = 0
    think: float = 0.0
    limit: int = 0
    until: float = inf
    start: float = 0.0
    gap: float = 0.0


OPEN = Clients()


@dataclass(frozen=True)
class Apart:
    """Replicas that decode what others computed the prompts of, the router between both, and how caches move.

    transfers
        How the caches of each engine leave it or come to it.
    """

    decoders: Sequence[Replica]
    router: Router
    transfers: Mapping[Any, Transfer]


Event = tuple[float, int, int, Any]
"""Time, order among events of that time, and a request, or a call."""

ARRIVAL, CALL = 0, 1


class Fleet:
    """Replicas behind a router. `report` gets every request that ends with an answer.

    With `apart`, the replicas take prompts alone, and these go on in a decoder that a second router chooses. `care` is
    what clients and operators do beside that.
    """

    def __init__(
        self, replicas: Sequence[Replica], router: Router, report: Callable[[Request], None],
        clients: Clients = OPEN, apart: Apart | None = None, care: Care = PLAIN,
    ) -> None:  # fmt: skip
        self.gate = Gate(self, care.gateway, replicas[0].rules.policy) if care.gateway else None
        self.takers, self.router, self.report, self.clients = list(replicas), router, report, clients
        self.decoders = list(apart.decoders) if apart else []
        self.second = apart.router if apart else None
        self.transfers = Transfers(apart.transfers) if apart else None
        self.care = care
        self.replicas = [*self.takers, *self.decoders]
        for i, one in enumerate(self.replicas):
            one.number = i
        self.engines = list(dict.fromkeys(one.engine for one in self.replicas))
        self._places = {engine: i for i, engine in enumerate(self.engines)}
        self.open, self.open_decoders = list(self.takers), list(self.decoders)
        self.room = max(map(_room, self.decoders or self.takers))
        self.prompt_room = max(map(_room, self.takers))
        self.alike = len(set(map(_room, self.takers))) == 1
        self.front = self.takers[0].rules.front_s
        self.area, self.inside, self.most_inside, self.now = 0.0, 0, 0, 0.0
        self.fates: Counter[str] = Counter()
        self.lost: Counter[int] = Counter()
        self.retries = self.failures = 0
        self.down_s = 0.0
        self.scaler: Any = None
        self._later: list[Event] = []
        self._ends: list[tuple[float, int]] = []
        self._held: deque[Request] = deque()
        self._stranded: deque[Request] = deque()
        self._outputs: dict[int, int] = {}
        self._order = self._coming = 0
        self._source: Iterator[Request] = iter(())
        self._next: Request | None = None
        self.loads = put_behind(self.takers, self.at)

    def run(self, requests: Iterator[Request]) -> None:
        """Serve all requests, which come in the order in which they are sent."""
        self._source = requests
        if self.clients.closed:
            for i in range(self.clients.closed):
                self._send_next(self.clients.start * i / self.clients.closed)
        else:
            self._next = next(requests, None)
        self.care.start(self)
        ends, later, engines, front = self._ends, self._later, self.engines, self.front
        transfers, step = self.transfers or self.loads, self._step
        while True:
            request = self._next
            coming = request.sent + front if request is not None else inf
            if later and later[0][0] < coming:
                coming = later[0][0]
            while ends:
                time, place = ends[0]
                if engines[place].end == time:
                    break
                heappop(ends)
            if ends and time < coming:
                if transfers is not None and transfers.next_time < time:
                    self._deliver()
                    continue
                heappop(ends)
                step(engines[place], place)
            elif transfers is not None and transfers.next_time < coming:
                self._deliver()
            elif coming < inf:
                self._event(coming)
            else:
                break
        self.care.stop(self)

    @property
    def busy(self) -> bool:
        """True while requests come or are inside."""
        return self._next is not None or self.inside > 0 or self._coming > 0 or bool(self._held)

    def at(self, time: float, call: Callable[[float], None]) -> None:
        """Call something at a time, with the time."""
        self._order += 1
        heappush(self._later, (time, CALL, self._order, call))

    # ---- events --------------------------------------------------------------------------------------

    def _step(self, engine: Any, place: int) -> None:
        end = engine.end
        engine.commit()
        for replica in engine.members:
            if replica.done:
                for request in replica.done:
                    if request.fate:  # its client left while the step ran
                        if request.moves:
                            replica.let_go(request)
                    elif request.moves:
                        self._hand_over(request, replica, end)
                    else:
                        self._ended(request, end)
                replica.done = []
        engine.plan(end)
        ends = engine.end
        if ends < inf:
            heappush(self._ends, (ends, place))
        if self.gate is not None:
            self.gate.drain(end)

    def _event(self, now: float) -> None:
        later = self._later
        if later and later[0][0] <= now:
            _, kind, _, what = heappop(later)
            if kind == CALL:
                what(now)
            else:
                self._coming -= 1
                self._arrive(what, now)
            return
        request = self._next
        assert request is not None
        self._next = next(self._source, None)
        self._arrive(request, now)

    def _arrive(self, request: Request, now: float) -> None:
        if self.clients.limit and self.inside >= self.clients.limit:
            self._held.append(request)
            return
        self._count(now, 1)
        care = self.care
        if care.watches:
            self._watch(request, now)
        if care.longest and request.prompt + request.output > care.longest:
            self.lose(request, TURNED_AWAY, now)
            return
        if request.longest > self.room or request.prompt > self.prompt_room:
            problem = f"request {request.number} of {request.prompt:,} + {request.output:,} tokens is more than the"
            room = self.room if request.longest > self.room else self.prompt_room
            raise InputError(f"{problem} {room:,} tokens of the cache", key="workload")
        if self.decoders and not request.moves:
            self._outputs[request.number] = request.output
            request.output, request.moves = 1, True
        self.dispatch(request, now)

    def dispatch(self, request: Request, now: float) -> None:
        """Give a request to the replica that the router chooses; where there is none, it waits for one."""
        if not self.open:
            self._stranded.append(request)
            return
        replicas = self.fitting(request)
        if self.gate is not None:
            replicas = [] if self.gate.queue else self.gate.free(replicas)
            if not replicas:
                self.gate.wait(request, now)
                return
        self.place(request, replicas, now)

    def place(self, request: Request, replicas: Sequence[Replica], now: float) -> None:
        """Give a request to that of some replicas which the router chooses."""
        replica = self.router.choose(request, replicas)
        most = self.care.queue
        if most is not None and len(replica.waiting) >= most and not self._idle(replica):
            last = replica.waiting[-1] if replica.rules.preempts and replica.waiting else request
            if last.rank <= request.rank:
                self.lose(request, TURNED_AWAY, now)
                return
            self._turn_out(last, now)
        self.give(replica, request, now)

    def fitting(self, request: Request) -> list[Replica]:
        """Replicas whose cache holds a request; all that are open where none of these does."""
        if self.alike:
            return self.open
        fits = [one for one in self.open if request.longest <= _room(one)]
        return fits or self.open

    def _decoder(self, request: Request) -> Replica:
        """The replica that decodes a request, of those whose cache holds it."""
        assert self.second is not None
        tokens = request.prompt + self._outputs.get(request.number, request.output) - 1
        fits = [one for one in self.open_decoders if tokens <= _room(one)]
        return self.second.choose(request, fits or self.open_decoders)

    def _idle(self, replica: Replica) -> bool:
        return bool(replica.engine.end == inf)

    def give(self, replica: Replica, request: Request, now: float) -> None:
        """Hand a request to a replica."""
        engine = replica.engine
        before = engine.end
        replica.receive(request, now)
        if engine.end != before:
            heappush(self._ends, (engine.end, self._places[engine]))

    def touched(self, engine: Any, before: float) -> None:
        """The step of an engine may end at another time than before."""
        if engine.end != before and engine.end < inf:
            heappush(self._ends, (engine.end, self._places[engine]))

    # ---- prompts apart -------------------------------------------------------------------------------

    def _hand_over(self, request: Request, replica: Replica, now: float) -> None:
        """The prompt of a request is computed: its cache moves to a decoder."""
        assert self.transfers is not None
        request.at = None
        if not self.open_decoders:
            self._drop_prompt(request, replica, now)
            self.lose(request, FAILED, now)
            return
        target = self._decoder(request)
        self.transfers.start(
            (request, replica, replica.pool, target), replica.engine, target.engine, request.prompt, now
        )

    def _drop_prompt(self, request: Request, replica: Replica, now: float) -> None:
        """Free the blocks of a prompt that has gone elsewhere."""
        engine = replica.engine
        before = engine.end
        replica.let_go(request)
        replica.wake(now)
        self.touched(engine, before)

    def _deliver(self) -> None:
        if self.loads is not None:
            self._load(self.loads)
            return
        assert self.transfers is not None
        now = self.transfers.next_time
        for request, source, pool, target in self.transfers.finish():
            if source.pool is pool:  # it has not failed meanwhile
                self._drop_prompt(request, source, now)
            if request.fate:
                continue
            request.output = self._outputs.pop(request.number)
            request.made, request.first, request.last = 0, -1.0, -1.0
            request.ready, request.moves = True, False
            if target.serves:
                self.give(target, request, now)
            elif self.open_decoders:
                self.give(self._decoder(request), request, now)
            else:
                self.lose(request, FAILED, now)

    def _load(self, loads: Loads) -> None:
        """Loads from tiers end."""
        now = loads.next_time
        for ticket in loads.finish():
            engine = ticket.keeper.replica.engine
            before = engine.end
            ticket.keeper.arrived(ticket, now)
            self.touched(engine, before)

    # ---- clients -------------------------------------------------------------------------------------

    def _watch(self, request: Request, now: float) -> None:
        """A client looks at its watch."""
        wait, fate = self.care.patience_of(request)
        if wait < inf:
            self.at(max(request.tried + wait, now), lambda time: self._give_up(request, fate, time))

    def _give_up(self, request: Request, fate: str, now: float) -> None:
        if request.fate or (request.last >= 0.0 and not request.moves):
            return
        replica = request.at
        self.lose(request, fate, now)
        if replica is None:
            if request in self._stranded:
                self._stranded.remove(request)
            elif self.gate is not None:
                self.gate.leave(request)
            return
        if request.last < 0.0:
            self._abort(request, replica, now)

    def _abort(self, request: Request, replica: Any, now: float) -> None:
        engine = replica.engine
        before = engine.end
        replica.abort(request, now)
        self.touched(engine, before)

    def _turn_out(self, request: Request, now: float) -> None:
        """A request that waits at a replica is turned away for a more urgent one."""
        replica = request.at
        self.lose(request, TURNED_AWAY, now)
        self._abort(request, replica, now)

    def lose(self, request: Request, fate: str, now: float) -> None:
        """A request ends without an answer; its client may send it again."""
        request.fate = fate
        request.output = self._outputs.pop(request.number, request.output)
        self._count(now, -1)
        if fate in (TURNED_AWAY, TIMED_OUT) and request.attempt < self.care.retries:
            self.retries += 1
            time = now + self.care.retry_s
            again = again_of(request, request.number + RETRIED, time)
            self._push(again, time)
            return
        self.fates[fate] += 1
        self.lost[request.rank] += 1
        self._next_of(request, now, follows=fate == CANCELLED)

    def _ended(self, request: Request, now: float) -> None:
        self._count(now, -1)
        self.report(request)
        self._next_of(request, now, follows=True)

    def _next_of(self, request: Request, now: float, follows: bool) -> None:
        """What the client of a request sends when that is over."""
        session, goes_on = request.session, False
        if session is not None:
            session.inside -= 1
        for following, pause in request.follows if follows else ():
            following.awaits -= 1
            if not following.awaits:
                goes_on = True
                if session is not None:
                    session.inside += 1
                self._send(following, max(now + pause, request.sent + self.clients.gap, following.sent))
        if self.clients.closed and not (session.inside if session is not None else goes_on):
            self._send_next(now + self.clients.think)
        if self._held and self.inside < self.clients.limit:
            self._send(self._held.popleft(), now)

    def _send_next(self, time: float) -> None:
        request = next(self._source, None) if time <= self.clients.until else None
        if request is not None:
            self._send(request, time)

    def _send(self, request: Request, time: float) -> None:
        request.sent = request.tried = time
        self._push(request, time)

    def _push(self, request: Request, time: float) -> None:
        self._coming += 1
        heappush(self._later, (time + self.front, ARRIVAL, request.number, request))

    # ---- operators -----------------------------------------------------------------------------------

    def takes(self, replica: Replica, serves: bool, now: float) -> None:
        """A replica takes new requests from now on, or no more."""
        replica.serves = serves
        self.open = [one for one in self.takers if one.serves]
        self.open_decoders = [one for one in self.decoders if one.serves]
        while self._stranded and self.open:
            self.dispatch(self._stranded.popleft(), now)
        if self.gate is not None:
            self.gate.drain(now)

    def restart(self, request: Request, now: float) -> None:
        """Give a request whose engine failed to another."""
        request.output = self._outputs.pop(request.number, request.output)
        request.anew()
        request.moves = False
        if self.decoders:
            self._outputs[request.number] = request.output
            request.output, request.moves = 1, True
        self.dispatch(request, now)

    def _count(self, now: float, change: int) -> None:
        """Requests inside the engines, and their sum over time."""
        inside = self.inside
        self.area += inside * (now - self.now)
        self.now = now
        self.inside = inside = inside + change
        if inside > self.most_inside:  # noqa: PLR1730 - quicker than max
            self.most_inside = inside


def _room(replica: Replica) -> int:
    """Tokens that the cache of a replica holds."""
    return replica.rules.blocks * replica.rules.block
