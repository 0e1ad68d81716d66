"""Selection of a row of an experiment: by its number, a label, or its name."""

from __future__ import annotations

import os
from collections.abc import Sequence

from simgpu.errors import InputError, nearest, shown
from simgpu.render.columns import title
from simgpu.settings import scenario_path
from simgpu.study.experiment.loading import Case
from simgpu.study.experiment.running import Experiment
from simgpu.tree import value_at

LISTED = 12
"""Rows that an error names."""


def case_names(experiment: Experiment) -> list[str]:
    """The name of each row: its labels that are words, and what the file varies: 'NVSwitch, slow, tokens 1024'."""
    return [_name(case, experiment) for case in experiment.cases]


def _name(case: Case, experiment: Experiment) -> str:
    words = [str(value) for value in case.labels.values() if isinstance(value, str)]
    words += [str(value) for key, value in case.labels.items() if not words and not key.startswith("claimed_")]
    for key in experiment.fields.vary:
        value = value_at(case.data, scenario_path(key))
        words.append(str(value) if isinstance(value, str) else f"{title(key.removeprefix('plan.'))} {value}")
    return ", ".join(words) or case.scenario.cluster


def chosen(experiment: Experiment, row: str, key: str) -> int:
    """Position of the row that `row` means. Raises `InputError` at `key`, with the rows there are.

    `row` is a number from 1, a name, a label, or a part of a name that no other row has.
    """
    names = case_names(experiment)
    text = row.strip()
    if text.isdecimal():
        if not 1 <= int(text) <= len(names):
            raise InputError(f"row {text} is not there; expected 1 to {len(names)}{_listed(names)}", key=key)
        return int(text) - 1
    for matches in (
        [i for i, name in enumerate(names) if name == text],
        [i for i, case in enumerate(experiment.cases) if text in map(str, case.labels.values())],
        [i for i, name in enumerate(names) if text and text.lower() in name.lower()],
    ):
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(f"{i + 1}" for i in matches[:LISTED]) + (" ..." if len(matches) > LISTED else "")
            raise InputError(f"{shown(text)} matches rows {some}; expected one{_listed(names)}", key=key)
    raise InputError(f"no row is called {shown(text)}{nearest(text, names, 0)}{_listed(names)}", key=key)


def only(experiment: Experiment, key: str, how: str) -> int:
    """The single row of an experiment. Raises `InputError` at `key` where there are several; `how` says what to do."""
    names = case_names(experiment)
    if len(names) > 1:
        raise InputError(f"'{experiment.name}' has {len(names)} rows; {how}{_listed(names)}", key=key)
    return 0


def split_row(text: str) -> tuple[str, str | None]:
    """The parts of 'FILE:ROW'; a file whose name has a colon is taken whole where it exists."""
    if os.path.exists(text) or ":" not in text:
        return text, None
    file, _, row = text.partition(":")
    return file, row


def _listed(names: Sequence[str]) -> str:
    some = "; ".join(f"{i} {name}" for i, name in enumerate(names[:LISTED], 1))
    return f" ({some}{'; ...' if len(names) > LISTED else ''})"
