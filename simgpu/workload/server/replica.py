"""One replica of a server: its queue, its batch, and the steps that it runs one after the other.

It is busy for one step, or for a leap over many equal ones, at a time: `plan` decides on it and says when it ends,
`commit` carries it out. While no prompt is in progress and nothing that waits can join, steps are decodes of the same
sequences, whose times lie on a line: a leap of k of them takes

    k t + b k (k - 1) / 2

with t of the first and b from each to the next. It ends where a sequence finishes, blocks run out, the line has a bend,
or a request comes that could join. `tick` counts steps of decodes, so that a sequence is known by its last tick alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from math import inf, sqrt

from simgpu.workload.server.pool import Pool
from simgpu.workload.server.requests import Request
from simgpu.workload.server.rules import Rules
from simgpu.workload.server.steps import Steps
from simgpu.workload.server.tally import Tally

Finished = Callable[[Request, float], None]


class Replica:
    """A replica of a server. `leaps`: whether equal steps are passed over at once."""

    def __init__(self, rules: Rules, steps: Steps, tally: Tally, leaps: bool = True, number: int = 0) -> None:
        self.rules, self.steps, self.tally, self.leaps, self.number = rules, steps, tally, leaps, number
        self.pool = Pool(rules.blocks, rules.block, rules.keeps)
        self.waiting: deque[Request] = deque()
        self.running: dict[int, Request] = {}
        self.prompts: list[Request] = []
        self.finishing: list[tuple[int, int, Request]] = []
        self.done: list[Request] = []
        self.n = self.held = self.tick = self.left = 0
        self.queued = 0  # tokens of prompts that wait
        self.now, self.end, self.last_start, self.extra = 0.0, inf, -inf, 0.0
        self.ratio = rules.reserve
        self._chunks: list[tuple[Request, int]] = []
        self._k, self._t, self._b = 0, 0.0, 0.0
        self._stepping = self._seen = 0
        self._late: list[tuple[float, int]] = []  # of engines that do not mix: last token, and of how many
        self.blocked = False
        self._state = (0, 0, 0, 0)

    # ---- from outside --------------------------------------------------------------------------------

    @property
    def requests(self) -> int:
        """Requests that wait or run."""
        return len(self.waiting) + len(self.running)

    @property
    def tokens(self) -> int:
        """Tokens that wait to be computed or are held."""
        return self.queued + self.held

    def receive(self, request: Request, now: float) -> None:
        """Take a request that comes at `now`."""
        request.arrival = now
        self.waiting.append(request)
        self.queued += request.tokens
        if self.end == inf:
            self.last_start = now
            self.plan(now)
            return
        if self._k > 1 and not self.blocked:
            self._cut(now)
        self.tally.series.span(now, self.end, (0, 1, 0, 0))

    def plan(self, now: float) -> None:
        """Decide on the next step; `end` is when it ends, infinite where there is nothing to do."""
        self.now = now
        seen = self.last_start if self.rules.ahead else now
        mixes = self.rules.mixes
        lost = mixes and self._make_room()
        need = self.pool.needed(self.tick, 1) if mixes else 0
        chunks = self._form(seen, need, lost)
        if not chunks and not mixes:
            self._make_room()
        if chunks:
            self._plan_prompts(chunks, need)
        elif self.n:
            self._plan_decodes(seen)
        else:
            self.end = inf
            if self.waiting:  # seen by the next step only: the engine has nothing else to do
                self.last_start = now
                self.plan(now)
            return
        pool = self.pool
        self._state = (len(self.running), len(self.waiting), pool.total - pool.free, self.n)

    def commit(self) -> None:
        """Carry out the planned step."""
        start, end, n = self.now, self.end, self.n
        self.tally.span(start, end, self._state)
        self.tally.step((self.number, start, end, n, sum(new for _, new in self._chunks), self._k))
        self.now = end
        if not self._chunks:
            self._decoded(start, end, n)
            return
        self.last_start = start
        self.tally.prompt_s += end - start
        if self._stepping:
            self.tally.gap(end - start, n)
            self.extra += end - start - self.steps.decode(n, self.held + n)
            self._advance(1)
        elif n:
            self.extra += end - start
        for request, new in self._chunks:
            request.left -= new
            self.queued -= new
            self.tally.computed += new
            if not request.left:
                self._first(request, end)
        self.prompts = [request for request in self.prompts if request.left]
        self._chunks = []

    # ---- planning ------------------------------------------------------------------------------------

    def _seat(self) -> bool:
        return len(self.running) < self.rules.seats

    def _make_room(self) -> bool:
        """Take places from the last to come until the others can decode; True if any lost its own."""
        lost = False
        while self.pool.needed(self.tick, 1) > self.pool.free:
            self._preempt()
            lost = True
        return lost

    def _preempt(self) -> None:
        """The last request to join gives its blocks back and goes to the front of the queue, to be computed again."""
        number, request = self.running.popitem()
        pool = self.pool
        if request.left:
            self.prompts.remove(request)
            pool.release(request, request.tokens, request.tokens - request.left)
            self.queued -= request.left
            request.again -= request.left
        else:
            held = request.offset + self.tick
            request.made = held - request.prompt + 1
            pool.leaves(request)
            pool.release(request, held, held)
            self.n -= 1
            self.held -= held
            self.left -= request.output - request.made
            request.interfered += self.extra - request.extra
            self.finishing = [one for one in self.finishing if one[1] != number]
            self.finishing.sort()
            request.lost = self.now
            if self._late:
                request.lost, count = self._late.pop()
                if count > 1:
                    self._late.append((request.lost, count - 1))
        request.preempted += 1
        request.ready = False
        self.tally.preemptions += 1
        self.waiting.appendleft(request)
        self.queued += request.tokens
        self.ratio = self.rules.reserve

    def _form(self, seen: float, need: int, lost: bool) -> list[tuple[Request, int]]:
        """Chunks of prompts for the next step: those in progress, then those that wait and fit."""
        rules, pool, waiting = self.rules, self.pool, self.waiting
        budget = rules.chunk - (self.n if rules.mixes else 0)
        chunks = []
        for request in self.prompts:
            if budget <= 0:
                break
            new = min(request.left, budget)
            chunks.append((request, new))
            budget -= new
        self.blocked = False
        kept = need + int(rules.watermark * rules.blocks)
        while waiting and budget > 0 and not lost:
            request = waiting[0]
            if request.arrival > seen:
                break
            if not self._seat():
                self.blocked = True
                break
            tokens = request.tokens
            spare = self._reserved(request) if 0.0 < rules.reserve < 1.0 else 0
            hit = pool.admit(request, tokens, request.longest if rules.whole else tokens, kept + spare)
            if hit < 0:
                self.blocked = True
                break
            waiting.popleft()
            new = self._admit(request, hit, budget)
            chunks.append((request, new))
            budget -= new
        return chunks

    def _admit(self, request: Request, hit: int, budget: int) -> int:
        """A request takes its place; returns the tokens of its first chunk."""
        self.queued -= hit
        if request.ready:  # its prompt came from another engine: the last token is computed once more
            self.queued -= request.tokens - hit - 1
            request.left = 1
            request.again += 1
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
        self.prompts.append(request)
        return min(request.left, budget)

    def _reserved(self, request: Request) -> int:
        """Blocks that stay free for outputs when a request is admitted."""
        tokens = self.left + min(request.output - request.made, self.rules.reserve_most)
        return self.pool.size(int(self.ratio * tokens))

    def _plan_prompts(self, chunks: list[tuple[Request, int]], need: int) -> None:
        """A step with prompts."""
        self._chunks = chunks
        stepping = self._stepping = self.n if self.rules.mixes else 0
        if need:
            self.pool.take(need)
        sizes = [(new, request.tokens - request.left) for request, new in chunks]
        self._k = 1
        self.end = self.now + self.steps.mixed(stepping, self.held + stepping, sizes) + self._seen * self.rules.look_s
        self._seen = 0

    def _plan_decodes(self, seen: float) -> None:
        """A step of decodes, or a leap over several."""
        n, tick = self.n, self.tick
        limit, start, slope = self.steps.line(n, self.held + n)
        self._t, self._b = start + slope * (self.held + n), slope * n
        most = 1
        pending = self.waiting and (
            self.waiting[0].arrival > seen or 0.0 < self.rules.reserve < 1.0 or not self.blocked
        )
        if self.leaps and not pending:
            most = min(self.finishing[0][0] - tick, max((limit - self.held) // n, 1))
            most = self.pool.lasts(tick, most)
        self._k = most
        self.end = self.now + self._seconds(most)

    def _seconds(self, k: int) -> float:
        return k * self._t + self._b * (k * (k - 1) // 2)

    def _cut(self, now: float) -> None:
        """End a leap with the step during which a request comes."""
        wanted = now - self.now
        if self._b:
            half = self._b / 2
            linear = self._t - half
            root = (sqrt(linear * linear + 4 * half * wanted) - linear) / (2 * half)
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

    # ---- carrying out --------------------------------------------------------------------------------

    def _decoded(self, start: float, end: float, n: int) -> None:
        """A leap of decodes is over."""
        k = self._k
        self.pool.take(self.pool.needed(self.tick, k))
        self.last_start = start + self._seconds(k - 1)
        tally = self.tally
        if self._late:
            for last, count in self._late:
                tally.gap(start + self._t - last, count)
            self._late = []
            tally.gaps(self._t + self._b, self._b, k - 1, n)
        else:
            tally.gaps(self._t, self._b, k, n)
        self._advance(k)
        if not self.rules.mixes and self.n:
            self._late = [(end, self.n)]

    def _advance(self, k: int) -> None:
        """All decodes make k tokens; those that are done leave."""
        n = self.n
        self.tick += k
        self.held += n * k
        self.left -= n * k
        self.tally.made += n * k
        rules = self.rules
        if self.ratio > rules.reserve_floor and rules.reserve_steps:
            step = (rules.reserve - rules.reserve_floor) / rules.reserve_steps
            self.ratio = max(self.ratio - k * step, rules.reserve_floor)
        finishing, tick = self.finishing, self.tick
        while finishing and finishing[0][0] <= tick:
            request = heappop(finishing)[2]
            held = request.offset + tick
            self.n -= 1
            self.held -= held
            if not rules.whole:
                self.pool.leaves(request)
            request.interfered += self.extra - request.extra
            request.made = request.output
            self._finish(request, held)

    def _first(self, request: Request, end: float) -> None:
        """The prompt of a request is computed: it has its next token, and decodes from now on."""
        self.tally.made += 1
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
        if not self.rules.whole:
            self.pool.joins(request)
        self.n += 1
        self.held += held
        self.left += rest
        request.extra = self.extra
        heappush(self.finishing, (self.tick + rest, request.number, request))
        if not self.rules.mixes:
            self._late.append((end, 1))

    def _finish(self, request: Request, held: int) -> None:
        """A request has its last token."""
        del self.running[request.number]
        self.pool.release(request, request.longest if self.rules.whole else held, held)
        request.last = self.now
        self.done.append(request)
