"""One replica of a server: the steps that it runs one after the other.

It is busy for one step, or for a leap over many equal ones, at a time: `plan` decides on it and says when it ends,
`commit` carries it out. While no prompt is in progress and nothing that waits can join, steps are decodes of the same
sequences, whose times lie on a line: a leap of k of them takes

    k t + b k (k - 1) / 2

with t of the first and b from each to the next. It ends where a sequence finishes, blocks run out, the line has a bend,
or a request comes that could join, or leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf, sqrt
from typing import Any

from simgpu.workload.server.batch import Batch
from simgpu.workload.server.requests import Request
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.slots import Slots
from simgpu.workload.server.steps import Steps
from simgpu.workload.server.tally import Tally
from simgpu.workload.server.tiers import Ticket

Finished = Callable[[Request, float], None]
Chunks = list[tuple[Request, int]]


class Replica(Batch):
    """A replica of a server. `leaps`: whether equal steps are passed over at once."""

    alone = True
    """True if nobody else takes part in its steps."""

    def __init__(self, rules: Rules, steps: Steps, tally: Tally, leaps: bool = True, number: int = 0) -> None:
        super().__init__(rules, tally, number)
        self.steps, self.leaps = steps, leaps
        self.engine: Any = self  # whose steps it takes part in
        self.members: Sequence[Replica] = (self,)
        self.serves, self.down = True, False  # takes new requests; has failed
        self._begin()

    def _begin(self) -> None:
        self._chunks: Chunks = []
        self._k, self._t, self._b = 0, 0.0, 0.0
        self._stepping, self.moved = 0, 0.0
        self._credit, self._brings = 0.0, 1
        self.blocked = False
        self._state = (0, 0, 0, 0)

    # ---- from outside --------------------------------------------------------------------------------

    def receive(self, request: Request, now: float) -> None:
        """Take a request that comes at `now`."""
        request.arrival, request.at = now, self
        self.waiting.append(request)
        self.queued += request.tokens
        if self.end == inf:
            self.last_start = now
            self.plan(now)
            return
        if self._k > 1 and (not self.blocked or self.slots is not None or self.waiting[0] is request):
            self.cut(now)
        self.tally.waits(now, self.end)

    def abort(self, request: Request, now: float) -> None:
        """A client has given a request up: it leaves the queue at once, its place after the step that runs."""
        if request.number in self.running:
            self.leaving.append(request)
        else:
            self.waiting.remove(request)
            self.queued -= request.tokens
            if not self.blocked:
                return
        if self._k > 1:
            self.cut(now)

    def wake(self, now: float) -> None:
        """Blocks have become free: what waits may join."""
        if self.end == inf and self.waiting:
            self.plan(now)
        elif self._k > 1 and self.blocked:
            self.cut(now)

    def loaded(self, ticket: Ticket, now: float) -> None:
        """A load from a tier is over: prompts that waited for it are computed with the next step."""
        if not self.come(ticket):
            return
        if self.end == inf:
            self.last_start = now
            self.plan(now)
        elif self._k > 1:
            self.cut(now)

    def fail(self, now: float) -> list[Request]:
        """All requests are lost; returns them."""
        lost = super().fail(now)
        self._begin()
        return lost

    def plan(self, now: float) -> None:
        """Decide on the next step; `end` is when it ends, infinite where there is nothing to do."""
        self.now = now
        if self.leaving:
            self.let_leave()
        rules = self.rules
        seen = self.last_start if rules.ahead else now
        mixes = rules.mixes
        lost, need = False, 0
        if mixes and self.n:
            growth = self.growth
            need = growth.phases[-self.tick % growth.block]
            if need > self.pool.free:
                lost = self.make_room()
                need = growth.needed(self.tick, 1)
        chunks = self._form(seen, need, lost) if self.waiting or self.prompts else []
        if not chunks and not mixes and self.make_room():
            self.blocked = False
        if chunks:
            self._plan_prompts(chunks)
        elif self.n:
            self._plan_decodes(seen)
        else:
            self.end = inf
            if self.alone and self.waiting and self.waiting[0].arrival > seen:  # the engine has nothing else to do
                self.last_start = now
                self.plan(now)
            return
        pool = self.pool
        self._state = (len(self.running), len(self.waiting), pool.total - pool.free, self.n)

    def commit(self) -> None:
        """Carry out the planned step."""
        start, end, n = self.now, self.end, self.n
        self._spent(start, end)
        self.now = end
        if not self._chunks:
            self._decoded(start, end, n)
            return
        self.last_start = start
        tally, brings = self.tally, self._brings
        tally.prompt_s += end - start
        if self._stepping:
            tally.gap((end - start) / brings, n * brings)
            self.extra += end - start - self.steps.decode(n, self.held + n) * brings
            self.advance(brings)
        elif n:
            self.extra += end - start
        self._computed(end)
        self._chunks = []

    def _spent(self, start: float, end: float) -> None:
        """Count the time of a step."""
        tally = self.tally
        tally.span(start, end, self._state)
        if self.slots is not None:
            tally.adapter_s += self.slots.distinct * (end - start)
        if tally.keeps:
            self._kept(start, end)

    def _kept(self, start: float, end: float) -> None:
        """Keep a record of a step, one of the first."""
        new = sum(new for _, new in self._chunks)
        self.tally.steps.append((self.number, start, end, self.n, new, self._k))

    def _computed(self, end: float) -> None:
        """Chunks of prompts are in the cache."""
        tally = self.tally
        for request, new in self._chunks:
            request.left -= new
            self.queued -= new
            tally.computed += new
            if not request.left:
                self.prompt_done(request, end)
        if self.prompts:
            self.prompts = [request for request in self.prompts if request.left]

    # ---- planning ------------------------------------------------------------------------------------

    def _seat(self) -> bool:
        return len(self.running) < self.rules.seats

    def _form(self, seen: float, need: int, lost: bool) -> Chunks:
        """Chunks of prompts for the next step: those in progress, then those that wait and fit."""
        rules, pool, waiting = self.rules, self.pool, self.waiting
        budget = rules.chunk - (self.n * rules.queries if rules.mixes else 0)
        chunks = []
        for request in self.prompts:
            if budget <= 0:
                break
            new = min(request.left, budget)
            chunks.append((request, new))
            budget -= new
        self.blocked = False
        kept = need + int(rules.watermark * rules.blocks) if self.running else need
        while waiting and budget > 0 and not lost:
            found = waiting[0] if self.slots is None else self._with_slot(seen, self.slots)
            if found is None or found.arrival > seen:
                break
            request = found
            if not self._seat():
                if self._displace(request, 0):
                    chunks, budget = self._left(chunks, budget)
                    continue
                self.blocked = True
                break
            tokens = request.tokens
            spare = self._reserved(request) if 0.0 < rules.reserve < 1.0 and self.running else 0
            held = request.longest if self.whole else tokens
            hit = pool.admit(request, tokens, held, kept + spare)
            if hit < 0:
                if self._displace(request, pool.size(held) + kept):
                    chunks, budget = self._left(chunks, budget)
                    continue
                self.blocked = True
                break
            if request is waiting[0]:
                waiting.popleft()
            else:
                waiting.remove(request)
            self.join(request, hit)
            if request.number in self.loading:
                continue
            new = min(request.left, budget)
            chunks.append((request, new))
            budget -= new
        return chunks

    def _displace(self, request: Request, blocks: int) -> bool:
        """Take the place of one of a later class for a request that needs so many blocks; False where that is no use.

        SGLang (managers/schedule_policy.py, preempt_to_schedule) takes the least urgent ones, and only if it helps.
        """
        if not self.rules.preempts:
            return False
        later = [one for one in self.running.values() if one.rank > request.rank]
        pool = self.pool
        if not later or pool.free + sum(pool.size(self._held(one)) for one in later) < blocks:
            return False
        self._preempt()
        return True

    def _held(self, request: Request) -> int:
        """Tokens for which a request has blocks."""
        if self.whole:
            return request.longest
        return request.tokens if request.left else request.offset + self.tick

    def _left(self, chunks: Chunks, budget: int) -> tuple[Chunks, int]:
        """The chunks of a step whose requests have kept their places, and what is left of its budget."""
        kept = [(one, new) for one, new in chunks if one.number in self.running]
        return kept, budget + sum(new for _, new in chunks) - sum(new for _, new in kept)

    def _with_slot(self, seen: float, slots: Slots) -> Request | None:
        """The first request that waits and whose adapter has a slot, or could have one."""
        found = next((one for one in self.waiting if one.arrival <= seen and slots.has_room(one.adapter)), None)
        self.blocked = self.blocked or found is None
        return found

    def _reserved(self, request: Request) -> int:
        """Blocks that stay free for outputs when a request is admitted."""
        tokens = self.left + min(request.output - request.made, self.rules.reserve_most)
        return self.pool.size(int(self.ratio * tokens))

    def _plan_prompts(self, chunks: Chunks) -> None:
        """A step with prompts."""
        self._chunks = chunks
        stepping = self._stepping = self.n if self.rules.mixes else 0
        self._brings = 1
        if stepping:
            if self.rules.brings > 1.0:  # tokens that a draft guessed
                self._credit += self.rules.brings
                self._brings = max(min(int(self._credit), self.growth.lasts(self.tick, 64, self.pool.free)), 1)
                self._credit -= self._brings
            self.pool.take(self.growth.needed(self.tick, self._brings))
        self._k = 1
        self._take_moves()
        mixed = (
            self.steps.mixed(*self.sizes())
            if self.slots is None
            else self.steps.mixed(*self.sizes(), adapters=self.slots.distinct)
        )
        self.end = self.now + mixed + self.moved + self._seen * self.rules.look_s
        self._seen = 0

    def _take_moves(self) -> None:
        """Caches that go to the host's memory, or come from there, do so before the next step."""
        self.moved, self.moving = self.moving, 0.0

    def sizes(self) -> tuple[int, int, list[tuple[int, int]]]:
        """Decodes of the planned step, the tokens that they hold then, and the chunks of its prompts."""
        n = self._stepping if self._chunks else self.n
        return n, self.held + n, [(new, request.tokens - request.left) for request, new in self._chunks]

    @property
    def has_prompts(self) -> bool:
        """True if the planned step has prompts."""
        return bool(self._chunks)

    @property
    def planned(self) -> int:
        """Steps that are planned."""
        return self._k

    def pace(self, first: float, rise: float, k: int) -> None:
        """Take k steps of these seconds instead of its own."""
        self._t, self._b, self._k = first, rise, k
        self.end = self.now + (first if self._chunks else self._seconds(k))

    def _plan_decodes(self, seen: float) -> None:
        """A step of decodes, or a leap over several."""
        n, tick = self.n, self.tick
        limit, start, slope = self._line(n, self.held + n)
        self._t, self._b = start + slope * (self.held + n), slope * n
        most = 1
        waiting = self.waiting
        self.moved, self.moving = self.moving, 0.0
        self._t += self.moved
        pending = self.moved or (waiting and (self._unseen(seen) or 0.0 < self.rules.reserve < 1.0 or not self.blocked))
        if self.leaps and not pending:
            most = self.finishing[0][0] - tick
            bend = (limit - self.held) // n
            if bend < most:
                most = bend if bend > 1 else 1
            growth, free = self.growth, self.pool.free
            if growth.growing * (most // growth.block + 1) > free:
                most = growth.lasts(tick, most, free)
        self._k = most
        self.end = self.now + (most * self._t + self._b * (most * (most - 1) // 2))

    def _unseen(self, seen: float) -> bool:
        """True if a request waits that the scheduler could take, and has not seen."""
        if self.slots is None:
            return self.waiting[0].arrival > seen
        return any(one.arrival > seen for one in self.waiting)

    def _line(self, n: int, held: int) -> tuple[int, float, float]:
        """The line of decodes, with those of the adapters that run."""
        return (
            self.steps.line(n, held) if self.slots is None else self.steps.line(n, held, adapters=self.slots.distinct)
        )

    def _seconds(self, k: int) -> float:
        return k * self._t + self._b * (k * (k - 1) // 2)

    def cut(self, now: float) -> None:
        """End a leap with the step that runs at `now`."""
        wanted = now - self.now
        if self._b:
            half = self._b / 2
            linear = self._t - half
            root = (sqrt(max(linear * linear + 4 * half * wanted, 0.0)) - linear) / (2 * half)
        else:
            root = wanted / self._t
        k = max(min(int(root), self._k), 1)
        while k < self._k and self.now + self._seconds(k) < now:
            k += 1
        while k > 1 and self.now + self._seconds(k - 1) >= now:
            k -= 1
        if k < self._k:
            self._k = k
            self.end = self.now + self._seconds(k)

    def _take(self, k: int) -> None:
        """Take the blocks of k steps of decodes."""
        count = self.growth.needed(self.tick, k)
        if count:
            self.pool.take(count)

    # ---- carrying out --------------------------------------------------------------------------------

    def _decoded(self, start: float, end: float, n: int) -> None:
        """A leap of decodes is over."""
        k, first, rise = self._k, self._t, self._b
        self._take(k)
        before = k - 1
        self.last_start = start + (before * first + rise * (before * (before - 1) // 2))
        tally = self.tally
        if self._late:
            for last, count in self._late:
                tally.gap(start + first - last, count)
            self._late = []
            tally.gaps(first + rise, rise, before, n)
        else:
            tally.gaps(first, rise, k, n)
        self.advance(k)
        if not self.rules.mixes and self.n:
            self._late = [(end, self.n)]
