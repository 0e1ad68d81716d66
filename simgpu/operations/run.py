"""A whole training run, second by second: failures, saves, restarts, spares, repairs, planned stops.

A run is a chain of attempts between interruptions. Its clock only stops at those, so that 100,000 GPUs over 90 days are
some thousand events. Every second goes to one account of the ledger, and the accounts add up to the time on the wall.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from math import ceil, floor, gamma, inf
from typing import Any

import numpy as np

from simgpu.operations.goodput import Saving
from simgpu.operations.spares import elastic_share
from simgpu.operations.spot import Preempted, last_save

MOST_EVENTS = 200_000
"""Interruptions of one run, beyond which it counts as one that never ends."""


@dataclass
class Ledger:
    """Seconds of a run by account, and what happened in it.

    useful
        Work that was kept; saving: training stood still for a save; lost: work that a failure threw away, with the
        saves in it; restarting: until training went on; waiting: no spare node was there; planned: stops on purpose;
        shrunk: of a job that goes on without its missing replicas, the part of the time that these would have worked.
    """

    useful: float = 0.0
    saving: float = 0.0
    lost: float = 0.0
    restarting: float = 0.0
    waiting: float = 0.0
    planned: float = 0.0
    shrunk: float = 0.0
    failures: int = 0
    stops: int = 0
    preempted: int = 0
    silent: int = 0
    by_cause: dict[str, int] = field(default_factory=dict)

    @property
    def wall(self) -> float:
        """All accounts together, s."""
        return self.useful + self.saving + self.lost + self.restarting + self.waiting + self.planned + self.shrunk

    @property
    def goodput(self) -> float:
        """The share of the time that was useful."""
        return self.useful / self.wall if self.wall else 1.0

    def seconds(self) -> dict[str, float]:
        """The accounts by name."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name in ACCOUNTS}


SILENT = "silent data corruption"
"""The cause of errors that nobody sees at once."""

ACCOUNTS = ("useful", "saving", "lost", "restarting", "waiting", "planned", "shrunk")
"""Every second of a run is in one of these."""


@dataclass(frozen=True)
class Plan:
    """What is simulated.

    useful or wall
        s of useful work after which it ends, or of time; one of them is infinite.
    causes
        Interruptions by cause, 1/s of the whole job; `silent` those that are found `delay` s late.
    replaced
        The share of failures after which a node is away for `repair` s on average; `spares` are held ready.
    fallback
        The share of failures that take copies in memory too (see `Saving`).
    nodes, lemons, shape
        Nodes of the job, variance over mean of their failures, Weibull shape of the gaps.
    taken
        Preemptions of the job: memoryless, without lemons.
    nodes_of_replica
        Nodes of the replicas by which the job shrinks where no spare is free; 0: it waits for one.
    """

    saving: Saving
    interval: float
    causes: Mapping[str, float]
    useful: float = inf
    wall: float = inf
    silent: float = 0.0
    delay: float = 0.0
    planned: float = 0.0
    planned_stop: float = 0.0
    replaced: float = 0.0
    repair: float = 0.0
    spares: int | None = None
    nodes: int = 1
    lemons: float = 1.0
    shape: float = 1.0
    taken: Preempted | None = None
    nodes_of_replica: int = 0

    @property
    def rate(self) -> float:
        """Interruptions of the job, 1/s, planned ones not among them."""
        return sum(self.causes.values()) + self.silent


class _Chances:
    """The random numbers of a run, by purpose, so that variants of one run meet the same failures."""

    def __init__(self, plan: Plan, seed: int) -> None:
        self.plan = plan
        gaps, kinds, repairs, lemons, taken = (np.random.default_rng([seed, stream]) for stream in range(5))
        self._gaps, self._kinds, self._repairs, self._taken = gaps, kinds, repairs, taken
        causes = {**plan.causes, SILENT: plan.silent}
        self.names = list(causes)
        total = sum(causes.values())
        self._ends = np.cumsum(list(causes.values())) / total if total else np.ones(len(causes))
        self.rate = total * self._luck(lemons)
        self._scale = 1.0 / (self.rate * gamma(1.0 + 1.0 / plan.shape)) if self.rate else inf

    def _luck(self, lemons: np.random.Generator) -> float:
        """What the job's own nodes are like over all nodes: a mean of gamma variates of each node.

        Counts of a node that fails k times on average have a variance over mean of 1 + k / shape; `lemons` is said of
        counts of about one and a half, those of 584 faults on 400 nodes.
        """
        if self.plan.lemons <= 1.0:
            return 1.0
        spread = (self.plan.lemons - 1.0) / 1.46
        return float(lemons.gamma(self.plan.nodes / spread, spread / self.plan.nodes))

    def gap(self) -> float:
        """S until the next interruption."""
        return float(self._scale * self._gaps.weibull(self.plan.shape)) if self.rate else inf

    def taken(self) -> float:
        """S until the next preemption."""
        often = self.plan.taken.rate if self.plan.taken is not None else 0.0
        return float(self._taken.exponential(1.0 / often)) if often else inf

    def kind(self) -> tuple[str, float]:
        """The cause of an interruption, and a number from 0 to 1 for what becomes of it."""
        at, chance = self._kinds.random(2)
        return self.names[min(int(np.searchsorted(self._ends, at)), len(self.names) - 1)], float(chance)

    def repair(self) -> float:
        """S that a node is away: heavy tailed, a log-normal whose 90th percentile is 2.4 of its mean."""
        sigma = 1.35
        return float(self.plan.repair * np.exp(sigma * self._repairs.standard_normal() - sigma**2 / 2.0))


def simulate_run(plan: Plan, seed: int = 0) -> Ledger:
    """One run, from its start to the end of the work or of the time that `plan` gives.

    The same seed gives the same run. A run that loses as much as it does between failures never ends: it stops at
    `MOST_EVENTS` interruptions, with what it has reached.
    """
    chances, book = _Chances(plan, seed), Ledger()
    away: list[float] = []
    next_stop = 1.0 / plan.planned if plan.planned else inf
    due, taken = chances.gap(), chances.taken()
    for _ in range(MOST_EVENTS):
        share = _share(plan, book, away)
        moment = min(due, next_stop, taken, away[0] if share < 1.0 else inf)
        since = _train(plan, book, moment - book.wall, share)
        if since is None:
            break
        if moment == due:
            due = _fail(plan, book, since, away, chances, share)
            next_stop = max(next_stop, book.wall)
        elif moment == next_stop:
            book.stops += 1
            _spend(plan, book, "planned", plan.planned_stop + plan.saving.restart)
            next_stop += 1.0 / plan.planned
        elif moment == taken:
            _preempt(plan, book, since, share)
            taken = book.wall + chances.taken()
        else:  # a node is back: all replicas work again after a restart
            _spend(plan, book, "saving", last_save(plan.saving))
            _spend(plan, book, "restarting", plan.saving.restart)
    return book


def _share(plan: Plan, book: Ledger, away: list[float]) -> float:
    """The share of the job that works: without the replicas whose nodes are away, where it shrinks at all."""
    if not plan.nodes_of_replica or plan.spares is None:
        return 1.0
    while away and away[0] <= book.wall:
        heapq.heappop(away)
    return elastic_share(plan.nodes, max(len(away) - plan.spares, 0), plan.nodes_of_replica)


def _preempt(plan: Plan, book: Ledger, since: tuple[float, int], share: float) -> None:
    """Book a preemption: a last save where the notice is long enough, else what it loses; and the restart."""
    assert plan.taken is not None
    book.preempted += 1
    if plan.taken.announced(plan.saving):
        _spend(plan, book, "saving", last_save(plan.saving))
    else:
        _take_back(plan, book, _lost(plan, since, "", 0.0), share)
    _spend(plan, book, "restarting", plan.taken.restart)


def _fail(
    plan: Plan, book: Ledger, since: tuple[float, int], away: list[float], chances: _Chances, share: float
) -> float:
    """Book an interruption and all until training goes on; returns the time of the next one.

    Another that comes while the job restarts has it begin anew.
    """
    cause, chance = _counted(book, chances)
    _take_back(plan, book, _lost(plan, since, cause, chance), share)
    while True:
        if chance < plan.replaced:
            _wait_for_spare(plan, book, away, chances)
        due = book.wall + chances.gap()
        restart = plan.saving.fallback_restart if chance > 1.0 - plan.saving.fallback else plan.saving.restart
        if due >= book.wall + restart or book.wall >= plan.wall:
            _spend(plan, book, "restarting", restart)
            return due
        _spend(plan, book, "restarting", due - book.wall)
        cause, chance = _counted(book, chances)


def _counted(book: Ledger, chances: _Chances) -> tuple[str, float]:
    """Count an interruption; returns its cause, and a number from 0 to 1 for what becomes of it."""
    book.failures += 1
    cause, chance = chances.kind()
    book.by_cause[cause] = book.by_cause.get(cause, 0) + 1
    book.silent += cause == SILENT
    return cause, chance


def _train(plan: Plan, book: Ledger, seconds: float, share: float) -> tuple[float, int] | None:
    """Train for `seconds`; returns s of work and saves since the last save, and how many there were since the start.

    None where the work, or the time, of the run is done before. Where only a `share` of the job works, what it gets
    done in a second is that share of it; saves come as often as ever.
    """
    left, room = (plan.useful - book.useful) / share, plan.wall - book.wall
    saves = max(ceil(left / plan.interval) - 1, 0) if left < inf else 0
    needed = left + plan.saving.stall * saves
    if min(needed, room) > seconds:
        return _book_cycles(plan, book, max(seconds, 0.0), share)
    if needed <= room:
        book.useful += left * share
        book.shrunk += left * (1.0 - share)
        book.saving += needed - left
    else:
        _book_cycles(plan, book, max(room, 0.0), share)
    return None


def _book_cycles(plan: Plan, book: Ledger, seconds: float, share: float) -> tuple[float, int]:
    """Book `seconds` of work with the saves in them; returns s since the last save, and how many there were."""
    cycle = plan.interval + plan.saving.stall
    whole = floor(seconds / cycle)
    rest = seconds - whole * cycle
    work = min(rest, plan.interval)
    book.useful += (whole * plan.interval + work) * share
    book.shrunk += (whole * plan.interval + work) * (1.0 - share)
    book.saving += whole * plan.saving.stall + rest - work
    return rest, whole


def _lost(plan: Plan, since: tuple[float, int], cause: str, chance: float) -> float:
    """S of work and saves that an interruption throws away, some time after the last save."""
    cycle = plan.interval + plan.saving.stall
    back, saves = since
    if back < plan.saving.persist and saves:
        back += cycle  # the last save was not safe yet
    if chance > 1.0 - plan.saving.fallback:
        back += cycle * (plan.saving.storage_every - 1) / 2.0
    if cause == SILENT:
        back += cycle * ceil(plan.delay / cycle)
    return back


def _take_back(plan: Plan, book: Ledger, back: float, share: float) -> None:
    """Book work and saves of the last `back` s as lost, what missing replicas did not do in them too."""
    cycle = plan.interval + plan.saving.stall
    whole, rest = divmod(back, cycle)
    work = whole * plan.interval + min(rest, plan.interval)
    saves = whole * plan.saving.stall + max(rest - plan.interval, 0.0)
    for account, seconds in (("useful", work * share), ("shrunk", work * (1.0 - share)), ("saving", saves)):
        taken = min(seconds, getattr(book, account))
        setattr(book, account, getattr(book, account) - taken)
        book.lost += taken


def _wait_for_spare(plan: Plan, book: Ledger, away: list[float], chances: _Chances) -> None:
    """Take a node from the spares, or wait until one is repaired; go on without it where the job may shrink."""
    while away and away[0] <= book.wall:
        heapq.heappop(away)
    elastic = plan.nodes_of_replica > 0 and plan.spares is not None
    missing = max(len(away) + 1 - (plan.spares or 0), 0)
    if elastic and elastic_share(plan.nodes, missing, plan.nodes_of_replica) > 0:
        heapq.heappush(away, book.wall + chances.repair())
    elif plan.spares is not None and len(away) >= plan.spares:
        back = chances.repair()
        first = min(away[0] - book.wall, back) if away else back
        if away and away[0] - book.wall <= back:
            heapq.heapreplace(away, book.wall + back)
        _spend(plan, book, "waiting", first)
    else:
        heapq.heappush(away, book.wall + chances.repair())


def _spend(plan: Plan, book: Ledger, account: str, seconds: float) -> None:
    """Book `seconds` to an account, up to the end of the run."""
    setattr(book, account, getattr(book, account) + max(min(seconds, plan.wall - book.wall), 0.0))


@dataclass(frozen=True)
class Runs:
    """Several runs of one plan with different seeds."""

    ledgers: Sequence[Ledger]

    def of(self, what: str) -> Any:
        """A figure of every run, as an array."""
        return np.array([getattr(one, what) for one in self.ledgers])

    def mean(self, what: str) -> tuple[float, float]:
        """The mean of a figure and half of its 95 % interval."""
        values = self.of(what)
        half = 1.96 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else 0.0
        return float(values.mean()), half

    def ends(self, what: str) -> tuple[float, float]:
        """P10 and P90 of a figure over the runs."""
        low, high = np.percentile(self.of(what), [10, 90])
        return float(low), float(high)


def simulate_runs(plan: Plan, runs: int, seed: int = 0) -> Runs:
    """`runs` runs with the seeds that follow `seed`."""
    return Runs([simulate_run(plan, seed + n) for n in range(runs)])
