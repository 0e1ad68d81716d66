"""Decision on a group of structures, in a worker: goes through all of its plans, and keeps those that may matter."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import inf

from simgpu.plan.memory import LIKELY
from simgpu.plan.parallelism import Plan
from simgpu.plan.space import Structure
from simgpu.study.search.problem import Leaf, Problem

KEPT = 1000
"""Plans of a group that are handed over at a time, so that memory stays flat."""

Place = tuple[float, int]
"""Place of a plan in its group: its bound, then its number."""

FIRST: Place = (-inf, -1)


@dataclass(frozen=True)
class Limits:
    """Costs from which on a plan does not matter: for the list of the best, and for the best of each level."""

    top: float
    levels: tuple[float, ...] = ()

    def of(self, problem: Problem, leaf: Leaf) -> float:
        """The limit that a leaf must stay below: that of the list, or of its level."""
        return max(self.top, self.levels[problem.level(leaf.plan, leaf.memory)]) if self.levels else self.top


@dataclass
class GroupDecision:
    """The answer on a group. `cut`: where the leaves end that were handed over; None where there are no others."""

    plans: int = 0
    misfits: int = 0
    over: int = 0  # miss a limit by their lower bounds
    leaves: list[Leaf] = field(default_factory=list)
    cut: Place | None = None


def decide(
    problem: Problem, structures: Sequence[Structure], limits: Limits, keep: int = KEPT, after: Place = FIRST
) -> GroupDecision:
    """Go through the plans of some structures; return those that may matter.

    They are the `keep` best by their bounds that come after a place, and of each level the best.
    """
    part = GroupDecision()
    kept: list[Leaf] = []
    best: dict[int, Leaf] = {}
    cut: Place = (inf, 0)
    for leaf in _leaves(problem, structures, limits, part):
        if leaf.place <= after:
            continue
        kept.append(leaf)
        if limits.levels:
            level = problem.level(leaf.plan, leaf.memory)
            if level not in best or leaf.place < best[level].place:
                best[level] = leaf
        if len(kept) > 4 * keep:
            kept, cut = _smallest(kept, keep, cut)
    if len(kept) > keep:
        kept, cut = _smallest(kept, keep, cut)
    part.leaves = sorted({leaf.place: leaf for leaf in (*kept, *best.values())}.values(), key=lambda leaf: leaf.place)
    part.cut = cut if cut[0] < inf else None
    return part


def _smallest(leaves: list[Leaf], count: int, cut: Place) -> tuple[list[Leaf], Place]:
    """The best leaves, and the place of the first that was ever left out."""
    found = heapq.nsmallest(count + 1, leaves, key=lambda leaf: leaf.place)
    return found[:-1], min(cut, found[-1].place)


def _leaves(problem: Problem, structures: Sequence[Structure], limits: Limits, part: GroupDecision) -> Iterator[Leaf]:
    """Plans that fit and whose bound is below the limits."""
    bounds = problem.bounds()
    order = 0
    for at in structures:
        kernels = problem.kernels(at.cp)
        for family in _families(problem, at):
            part.plans += len(family)
            first, before = family[0], order
            order += len(family)
            memory = problem.memory(first)
            if memory.fit_probability < LIKELY:
                part.misfits += len(family)
                continue
            most = problem.limits.most_seconds(first.world)
            least = bounds.floor(problem.step(first), kernels)
            if least > most or memory.total > problem.limits.most_memory:
                part.over += len(family)
                continue
            floor = problem.cost(first, least)
            limit = limits.of(problem, Leaf(floor, before, memory.total, first))
            if floor >= limit:
                continue
            for number, plan in enumerate(family, before + 1):
                seconds = bounds.seconds(problem.step(plan), kernels)
                if seconds > most:
                    part.over += 1
                    continue
                bound = problem.cost(plan, seconds) * (1 + problem.search.tolerance)
                if bound < limit:
                    yield Leaf(bound, number, memory.total, plan)


def _families(problem: Problem, at: Structure) -> Iterator[list[Plan]]:
    """Plans of a structure that the conditions and the job allow; those that need equal memory stand together."""
    for family in problem.space.families(at):
        allowed = [plan for plan in family if problem.holds(plan)] if problem.conditions else family
        if allowed and problem.allows(allowed[0]):
            yield allowed
