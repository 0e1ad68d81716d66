"""Why two rows differ: change one assumption after another and see what each moves.

The order matters where assumptions interact; it is the order of `compare.steps` in the experiment file, and the
report keeps it.
"""

from __future__ import annotations

from simgpu.catalog import Catalogue
from simgpu.result import Move, Walk
from simgpu.scenario import Key
from simgpu.study.experiment import Case, ExperimentResult
from simgpu.study.fields import CompareFields
from simgpu.study.loading import written_key
from simgpu.tree import leaves, value_at


def walks(outcome: ExperimentResult, catalogue: Catalogue) -> list[Walk]:
    """One walk for each pair of rows that the experiment's `compare` names; none where it names nothing."""
    compare = outcome.experiment.fields.compare
    if compare is None:
        return []
    cases = outcome.experiment.cases
    return [
        _walk(start, end, outcome, compare, catalogue)
        for start in range(len(cases))
        for end in range(len(cases))
        if _is_pair(cases[start], cases[end], compare)
    ]


def _is_pair(a: Case, b: Case, compare: CompareFields) -> bool:
    ends = (a.labels.get(compare.between), b.labels.get(compare.between)) == (compare.start, compare.end)
    return ends and all(a.labels.get(key) == b.labels.get(key) for key in compare.match)


def _walk(start: int, end: int, outcome: ExperimentResult, compare: CompareFields, catalogue: Catalogue) -> Walk:
    a, b = outcome.experiment.cases[start], outcome.experiment.cases[end]
    moves = []
    present, row = a, outcome.results[start].row
    for what, paths in _steps(a, b, compare):
        present = present.changed({path: value_at(b.data, path) for path in paths})
        after = present.run(catalogue).row
        moves.append(Move(what, row[compare.value], after[compare.value], row["step_s"], after["step_s"]))
        row = after
    match = {key: a.labels.get(key) for key in compare.match}
    final = outcome.results[end].row[compare.value]
    return Walk(match, compare.value, outcome.results[start].row[compare.value], final, moves)


def _steps(a: Case, b: Case, compare: CompareFields) -> list[tuple[str, list[Key]]]:
    """What differs between two cases, in the order and the groups of `compare.steps`; the rest one by one."""
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
