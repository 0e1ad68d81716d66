"""Walks that say why two rows differ: change one assumption after another and see what each moves.

The order matters where assumptions interact; it is the order of `compare.steps` in the experiment file, and the report
keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from simgpu.analysis.walk import Move, Walk
from simgpu.catalog import Catalogue
from simgpu.scenario import Key
from simgpu.study.experiment.fields import CompareFields
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.points import written_key
from simgpu.study.experiment.running import ExperimentResult, run_case
from simgpu.tree import leaves, value_at


def walks(outcome: ExperimentResult, catalogue: Catalogue) -> list[Walk]:
    """One walk for each pair of rows that the experiment's `compare` names; none where it names nothing."""
    compare = outcome.experiment.fields.compare
    if compare is None:
        return []
    ends: dict[tuple[Any, ...], int] = {}
    for number, row in enumerate(outcome.rows):
        if row.get(compare.between) == compare.end:
            ends.setdefault(_match(row, compare), number)
    pairs = [
        (number, ends[_match(row, compare)])
        for number, row in enumerate(outcome.rows)
        if row.get(compare.between) == compare.start and _match(row, compare) in ends
    ]
    return [_walk(start, end, outcome, compare, catalogue) for start, end in pairs]


def _match(row: Mapping[str, Any], compare: CompareFields) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in compare.match)


def _walk(start: int, end: int, outcome: ExperimentResult, compare: CompareFields, catalogue: Catalogue) -> Walk:
    a, b = outcome.experiment.cases[start], outcome.experiment.cases[end]
    moves = []
    present, row = a, outcome.results[start].row
    for what, paths in _steps(a, b, compare):
        present = present.changed({path: value_at(b.data, path) for path in paths})
        after = run_case(present, catalogue).row
        moves.append(Move(what, row[compare.value], after[compare.value], row["step_s"], after["step_s"]))
        row = after
    first, last = outcome.results[start].row, outcome.results[end].row
    match = {key: first.get(key) for key in compare.match}
    return Walk(match, compare.value, first[compare.value], last[compare.value], moves)


def _steps(a: Case, b: Case, compare: CompareFields) -> list[tuple[str, list[Key]]]:
    """Differences of two cases, in the order and the groups of `compare.steps`; the rest one by one."""
    differing = [path for path in _paths(a, b) if value_at(a.data, path) != value_at(b.data, path)]
    steps = []
    for step in compare.steps:
        mine = [path for path in differing if written_key(path) in step.keys]
        if mine:
            steps.append((step.what, mine))
            differing = [path for path in differing if path not in mine]
    return steps + [(written_key(path), [path]) for path in differing]


def _paths(a: Case, b: Case) -> list[Key]:
    return list(dict.fromkeys(path for case in (a, b) for path, _ in leaves(case.data) if path[0] != "labels"))
