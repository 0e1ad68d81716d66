"""The search itself: best plans first, until no bound is below what is known.

Groups of structures are gone through once to find plans to begin with. What is simulated of them gives limits: the cost
of the last plan of the list, and for the front that of the best plan within each budget of memory (or for each number
of GPUs). A plan whose lower bound is not below its limit cannot change the answer. So the answer is that of simulating
every plan that fits, and says so; with a `tolerance` it may miss plans that are better by no more than that.
"""

from __future__ import annotations

import signal
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from time import perf_counter
from typing import Any

from simgpu.plan.parallelism import Plan
from simgpu.study.search.deciding import FIRST, KEPT, GroupDecision, Limits, Place
from simgpu.study.search.keeping import Keeper
from simgpu.study.search.problem import Group, Leaf, Problem
from simgpu.study.search.reasons import SAME
from simgpu.study.search.workers import Ticket, Workers


@dataclass
class Progress:
    """The progress of a search."""

    groups: int
    done: int = 0
    plans: int = 0
    misfits: int = 0
    over: int = 0  # miss a limit by their lower bounds
    simulated: int = 0
    best: float = inf
    doing: str = "deciding"


@dataclass(frozen=True)
class Simulated:
    """A plan that was run in full."""

    plan: Plan
    cost: float
    level: int
    bound: float
    row: dict[str, Any]
    within: bool = True  # the limits


@dataclass
class Searched:
    """The outcome of a search: simulated plans, cheapest first; which of them are the front; how it was done."""

    simulated: list[Simulated]
    front: list[Simulated]
    progress: Progress
    seconds: float
    deciding_s: float
    complete: bool = True

    @property
    def within(self) -> list[Simulated]:
        """The simulated plans that meet the limits."""
        return [run for run in self.simulated if run.within]

    def top(self, count: int) -> list[Simulated]:
        """The `count` cheapest of the plans within the limits."""
        return self.within[:count]


@dataclass
class _SimulatedPlans:
    """Everything simulated so far, and what limits follow."""

    problem: Problem
    runs: dict[Plan, Simulated] = field(default_factory=dict)

    def add(self, leaf: Leaf, row: dict[str, Any]) -> None:
        """Add the row of a simulated plan."""
        cost = self.problem.cost_of(leaf.plan, row)
        level = self.problem.level(leaf.plan, leaf.memory)
        self.runs[leaf.plan] = Simulated(leaf.plan, cost, level, leaf.bound, row, self.problem.keeps(row))

    @property
    def within(self) -> list[Simulated]:
        """Plans that keep the limits: no others count."""
        return [run for run in self.runs.values() if run.within]

    def limits(self) -> Limits:
        """The costs from which on a plan no longer matters."""
        top, last, count = inf, inf, 0
        for cost in sorted(run.cost for run in self.within):
            if not count or cost > last * (1 + SAME):  # plans that take the same time share a place
                last, count = cost, count + 1
            if count == self.problem.search.top:
                top = last
                break
        return Limits(top, self._levels() if self.problem.search.front else ())

    def _levels(self) -> tuple[float, ...]:
        best = [inf] * self.problem.levels
        for run in self.within:
            best[run.level] = min(best[run.level], run.cost)
        if self.problem.nested:
            for level in range(1, len(best)):
                best[level] = min(best[level], best[level - 1])
        return tuple(best)

    def front(self) -> list[Simulated]:
        """The best of each level, without those that a smaller one has too."""
        front: list[Simulated] = []
        for run in sorted(self.within, key=lambda run: (run.level, run.cost)):
            first = not front or front[-1].level != run.level
            if first and (not self.problem.nested or not front or run.cost < front[-1].cost):
                front.append(run)
        return front


class Search:
    """Runs a search; `tell` is called with its progress now and then."""

    def __init__(
        self, problem: Problem, workers: Workers, tell: Callable[[Progress], None], keeper: Keeper | None = None
    ) -> None:
        self.problem, self.workers, self.tell, self.keeper = problem, workers, tell, keeper
        self.groups = problem.groups()
        self.known = _SimulatedPlans(problem)
        self.progress = Progress(len(self.groups))
        self._least: dict[Group, list[Leaf]] = {}

    def run(self) -> Searched:
        """Search to the end; Ctrl-C ends it with what is known (`complete` is false)."""
        start, decided, whole = perf_counter(), 0.0, True
        try:
            self._begin()
            decided = perf_counter() - start
            self._finish()
        except KeyboardInterrupt:  # another one shall not take away the answer to the first
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGINT, signal.SIG_IGN)
            whole = False
        runs = sorted(self.known.runs.values(), key=lambda run: (run.cost, str(run.plan)))
        front = self.known.front() if self.problem.search.front else []
        taken = perf_counter() - start
        return Searched(runs, front, self.progress, taken, decided or taken, whole)

    # ---- the two rounds ------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Decide every group once. Its best plans are simulated at once, so that later groups have less to look at."""
        keep = self.problem.search.top
        pending: dict[Ticket[GroupDecision], Group] = {}
        for group, structures in self.groups.items():
            pending[self.workers.decide(structures, self.known.limits(), keep, FIRST)] = group
            if len(pending) >= self.workers.jobs:
                self._first_of(pending)
        while pending:
            self._first_of(pending)

    def _first_of(self, pending: dict[Ticket[GroupDecision], Group]) -> None:
        """Take in the groups that are done first."""
        for done in self.workers.first_of(pending):
            group, part = pending.pop(done), done.result()
            self.progress.done += 1
            self.progress.plans += part.plans
            self.progress.misfits += part.misfits
            self.progress.over += part.over
            self._least[group] = part.leaves
            few = len(self.known.within) < self.problem.search.top
            self._simulate(part.leaves if few else self._best(part.leaves))
            self.tell(self.progress)

    def _best(self, leaves: list[Leaf]) -> list[Leaf]:
        """The best of all and of each level."""
        if not self.problem.search.front:
            return leaves[:1]
        best: dict[int, Leaf] = {}
        for leaf in leaves:
            best.setdefault(self.problem.level(leaf.plan, leaf.memory), leaf)
        return list(best.values())

    def _finish(self) -> None:
        """Go again through groups that may hold more, with the limits that are known by now."""
        self.progress.doing = "simulating"
        self._simulate([leaf for leaves in self._least.values() for leaf in leaves])
        after: dict[Group, Place] = dict.fromkeys(self.groups, FIRST)
        while after:
            limits = self.known.limits()
            open_ = {g: place for g, place in after.items() if self._may_matter(g, place, limits)}
            pending = {self.workers.decide(self.groups[g], limits, KEPT, place): g for g, place in open_.items()}
            after, leaves = {}, []
            for done, g in pending.items():
                part = done.result()
                leaves += part.leaves
                if part.cut is not None:
                    after[g] = (part.cut[0], part.cut[1] - 1)
            self._simulate(leaves)

    def _may_matter(self, group: Group, place: Place, limits: Limits) -> bool:
        if place[0] > -inf:
            return place[0] < max(limits.top, *limits.levels, 0.0)
        return any(leaf.bound < limits.of(self.problem, leaf) for leaf in self._least[group])

    def _simulate(self, leaves: list[Leaf]) -> None:
        """Run plans by their bounds, as long as they may matter."""
        queue = deque(sorted(leaves, key=lambda leaf: leaf.place))
        pending: dict[Ticket[dict[str, Any]], tuple[Leaf, float]] = {}
        while queue or pending:
            limits = self.known.limits()
            while queue and len(pending) < self.workers.jobs:
                leaf = queue.popleft()
                if leaf.plan in self.known.runs or leaf.bound >= limits.of(self.problem, leaf):
                    continue
                row = self.keeper.row(self.problem.scenario_of(leaf.plan)) if self.keeper else None
                if row is not None:
                    self._take(leaf, row)
                    limits = self.known.limits()
                else:
                    pending[self.workers.run(leaf.plan)] = leaf, perf_counter()
            for done in self.workers.first_of(pending):
                leaf, began = pending.pop(done)
                row = done.result()
                if self.keeper:
                    self.keeper.keep(self.problem.scenario_of(leaf.plan), row, perf_counter() - began)
                self._take(leaf, row)

    def _take(self, leaf: Leaf, row: dict[str, Any]) -> None:
        self.known.add(leaf, row)
        self.progress.simulated += 1
        self.progress.best = min(self.progress.best, self.known.runs[leaf.plan].cost)
        self.tell(self.progress)
