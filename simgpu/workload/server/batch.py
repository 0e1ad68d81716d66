"""What a replica of a server holds: its queue, its batch, its blocks, and how requests come in and go out.

`tick` counts steps of decodes, so that a sequence is known by its last tick alone: none of them is looked at while they
all make tokens.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from math import inf
from typing import Any

from simgpu.workload.server.pool import Growth, Pool
from simgpu.workload.server.queues import queue_of
from simgpu.workload.server.requests import Request
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.slots import Slots
from simgpu.workload.server.tally import Tally
from simgpu.workload.server.tiers import Keeper, Ticket


class Batch:
    """The requests of a replica. `now` is when its step began, `end` when it ends."""

    keeper: Keeper | None = None
    """What is behind its cache."""

    def __init__(self, rules: Rules, tally: Tally, number: int = 0) -> None:
        self.rules, self.tally, self.number = rules, tally, number
        self.pool = Pool(rules.blocks, rules.block, rules.keeps)
        self.growth = Growth(rules.block)
        self.waiting = queue_of(rules.policy)
        self.running: dict[int, Request] = {}
        self.prompts: list[Request] = []
        self.finishing: list[tuple[int, int, Request]] = []
        self.done: list[Request] = []
        self.leaving: list[Request] = []  # whose clients have given them up
        self.n = self.held = self.tick = self.left = 0
        self.queued = 0  # tokens of prompts that wait
        self.now, self.end, self.last_start, self.extra = 0.0, inf, -inf, 0.0
        self.ratio = rules.reserve
        self.swapped, self.moving = 0, 0.0  # tokens in the host's memory, and seconds that caches take to move
        self._late: list[tuple[float, int]] = []  # of engines that do not mix: last token, and of how many
        self._seen = 0  # prompts whose images the next step looks at
        self.whole = rules.whole
        self.loading: dict[int, set[Ticket]] = {}  # requests whose tokens come from a tier, and what they wait for
        self.slots = Slots(rules.adapters) if rules.adapters is not None else None
        if self.keeper is not None:
            self.pool.forgets = self.keeper.forget

    @property
    def requests(self) -> int:
        """Requests that wait or run."""
        return len(self.waiting) + len(self.running)

    @property
    def tokens(self) -> int:
        """Tokens that wait to be computed or are held."""
        return self.queued + self.held

    # ---- places --------------------------------------------------------------------------------------

    def join(self, request: Request, hit: int) -> None:
        """A request takes its place; `hit` of its tokens are in the cache."""
        waits: set[Ticket] = set()
        if self.keeper is not None and not request.ready:
            most = (request.tokens - 1) // self.rules.block * self.rules.block
            hit, waits = self.keeper.fetch(request, hit, most, self.now)
        self.queued -= hit
        if request.ready:  # its cache comes from another engine, or the host: the last token is computed once more
            self.queued -= request.tokens - hit - 1
            request.left = 1
            request.again += 1
            if self.swapped:
                self._swap_in(request)
        else:
            self._seen += 1
            request.left = request.tokens - hit
            self.tally.hits += hit
            if request.admitted < 0.0:
                request.admitted = self.now
                request.hit = hit
            else:
                request.again += request.left
        self.running[request.number] = request
        if self.slots is not None:
            self._load_adapter(request, self.slots)
        if waits:
            self.loading[request.number] = waits
        else:
            self.prompts.append(request)

    def _load_adapter(self, request: Request, slots: Slots) -> None:
        """The adapter of a request is there with the next step."""
        seconds = slots.join(request.adapter)
        self.tally.adapter_joins += 1
        if seconds:
            self.moving += seconds
            self.tally.adapter_loads += 1
            self.tally.adapter_load_s += seconds

    def put_before(self, keeper: Keeper) -> None:
        """Put its cache before tiers."""
        self.keeper = keeper
        self.pool.forgets = keeper.forget

    def come(self, ticket: Ticket) -> bool:
        """A load is over; True if the prompt of any request can go on."""
        came = False
        for request in ticket.requests:
            waits = self.loading.get(request.number, set())
            if ticket not in waits:  # it has lost its place meanwhile
                continue
            waits.remove(ticket)
            if not waits:
                del self.loading[request.number]
                self.prompts.append(request)
                came = True
        return came

    def make_room(self) -> bool:
        """Take places from the last to come until the others can decode; True if any lost its own."""
        lost = False
        while self.growth.needed(self.tick, 1) > self.pool.free:
            self._preempt()
            lost = True
        return lost

    def _preempt(self) -> None:
        """The last request to join gives its blocks back and goes to the front of the queue, to be computed again."""
        running = self.running
        number = next(reversed(running))
        if self.rules.policy == "priority":  # of the last class, the last to come
            number = max(running, key=lambda one: (running[one].rank, running[one].arrival, one))
        request = running[number]
        request.ready = False
        self._drop(request, swaps=True)
        request.preempted += 1
        self.tally.preemptions += 1
        self.waiting.appendleft(request)
        self.queued += request.tokens
        self.ratio = self.rules.reserve

    def _leave(self, request: Request) -> None:
        """A request has no place any more."""
        del self.running[request.number]
        if self.slots is not None:
            self.slots.leave(request.adapter)

    def _drop(self, request: Request, swaps: bool = False) -> None:
        """A request leaves its place before it is answered."""
        self._leave(request)
        pool, tokens = self.pool, request.tokens
        if request.left:
            if self.loading.pop(request.number, None) is None:
                self.prompts.remove(request)
            pool.release(request, request.longest if self.whole else tokens, tokens - request.left)
            self.queued -= request.left
            request.again -= request.left
            return
        held = request.offset + self.tick
        request.made = held - request.prompt + 1
        if not self.whole:
            self.growth.leaves(request)
        pool.release(request, request.longest if self.whole else held, held)
        self.n -= 1
        self.held -= held
        self.left -= request.output - request.made
        request.interfered += self.extra - request.extra
        self.finishing = [one for one in self.finishing if one[2] is not request]
        heapify(self.finishing)
        if self._late:
            self._drop_late(request)
        else:
            request.lost = self.now
        if swaps and self.rules.swap_tokens - self.swapped >= request.tokens:
            self.swapped += request.tokens
            self.moving += request.tokens * self.rules.swap_s
            request.ready = True

    def _drop_late(self, request: Request) -> None:
        """One of the sequences that wait for their next token is gone: of those that had their last one when it had."""
        times = [last for last, _ in self._late]
        place = times.index(request.lost) if request.lost in times else 0
        request.lost, count = self._late[place]
        self._late[place : place + 1] = [(request.lost, count - 1)] if count > 1 else []

    def _swap_in(self, request: Request) -> None:
        if request.made:
            self.swapped -= request.tokens
            self.moving += request.tokens * self.rules.swap_s

    # ---- steps ---------------------------------------------------------------------------------------

    def advance(self, k: int) -> None:
        """All decodes make k tokens; those that are done leave."""
        made = self.n * k
        tick = self.tick = self.tick + k
        self.held += made
        self.left -= made
        self.tally.made += made
        rules = self.rules
        if rules.reserve_steps and self.ratio > rules.reserve_floor:
            step = (rules.reserve - rules.reserve_floor) / rules.reserve_steps
            self.ratio = max(self.ratio - k * step, rules.reserve_floor)
        finishing = self.finishing
        while finishing and finishing[0][0] <= tick:
            last, _, request = heappop(finishing)
            held = request.offset + tick
            self.n -= 1
            self.held -= held
            self.left += tick - last
            self.tally.made -= tick - last  # a draft guessed further than the end
            if not self.whole:
                self.growth.leaves(request)
            request.interfered += self.extra - request.extra
            request.made = request.output
            self._finish(request, held)

    def prompt_done(self, request: Request, end: float) -> None:
        """The prompt of a request is computed: it has its next token, and decodes from now on."""
        self.tally.made += 1
        if self.keeper is not None:
            self.keeper.keep(request, request.tokens)
        if request.first < 0.0:
            request.first = end
        else:
            self.tally.gap(end - request.lost, 1)
        held = request.tokens
        request.made += 1
        if request.made >= request.output:
            self._finish(request, held)
            return
        rest = request.output - request.made
        request.offset = held - self.tick
        if not self.whole:
            self.growth.joins(request)
        self.n += 1
        self.held += held
        self.left += rest
        request.extra = self.extra
        heappush(self.finishing, (self.tick + rest, request.number, request))
        if not self.rules.mixes:
            self._late.append((end, 1))
            request.lost = end

    def _finish(self, request: Request, held: int) -> None:
        """A request has its last token."""
        self._leave(request)
        if self.keeper is not None:
            self.keeper.keep(request, held)
        if request.moves:
            request.offset = held
        else:
            self.pool.release(request, request.longest if self.whole else held, held)
        request.last = self.now
        self.done.append(request)

    # ---- what ends early -----------------------------------------------------------------------------

    def let_go(self, request: Request) -> None:
        """The cache of a request has moved to another engine: its blocks are free."""
        self.pool.release(request, request.prompt if self.whole else request.offset, request.offset)

    def let_leave(self) -> None:
        """Requests that their clients gave up while a step ran leave their places."""
        for request in self.leaving:
            if self.running.get(request.number) is request:
                self._drop(request)
        self.leaving = []

    def fail(self, now: float) -> list[Request]:
        """All requests are lost, and the cache with them; returns those that had not been answered."""
        if self.end < inf:
            self.tally.span(self.now, now, (len(self.running), len(self.waiting), 0, self.n))
        lost: list[Any] = [*self.running.values(), *self.waiting]
        rules, kept = self.rules, self.done
        if self.keeper is not None:
            self.keeper.fail()
        Batch.__init__(self, rules, self.tally, self.number)
        self.done = kept
        return lost
