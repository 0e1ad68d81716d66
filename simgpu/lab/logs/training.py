"""A trainer's log: its steps, those that are warm-up or hold something else told apart, and facts about the run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from simgpu.errors import InputError
from simgpu.lab.logs.observed import TRAINING, Measurement, Observed, spread_of
from simgpu.lab.logs.steps import split
from simgpu.lab.logs.text import lines_of, number_of
from simgpu.lab.logs.trainers import ALLOCATED, RESERVED, TRAINERS, Field, Trainer

PEAKS = (ALLOCATED, RESERVED)
"""Quantities of which the largest counts, over ranks and steps."""
MOST_STEPS = 1_000_000
"""Most steps that are kept; later ones are not read."""


@dataclass
class _Run:
    """Steps of one run of one tool, as they are read."""

    tool: Trainer
    begins: int
    numbers: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    values: dict[str, dict[int, float]] = field(default_factory=dict)  # column: step: value
    facts: dict[str, Any] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    nan: int = 0

    @property
    def summary(self) -> bool:
        """Whether the tool numbers no steps: a line of it may be of many."""
        return self.tool.step.pattern.startswith("()")

    def next(self, number: int | None, line: int) -> None:
        """Begin a step."""
        self.numbers.append(len(self.numbers) + 1 if number is None else number)
        self.lines.append(line)

    def put(self, column: str, value: float) -> None:
        """Keep a value of the step at hand; of peaks the largest, of others the first (other ranks print their own)."""
        of = self.values.setdefault(column, {})
        if column in PEAKS:
            of[0] = max(value, of.get(0, 0.0))
        elif self.numbers:
            of.setdefault(len(self.numbers) - 1, value)


def read(file: Path) -> list[Observed]:
    """The runs of a trainer's log, in order; none where no line is a step of a tool that is known.

    A run ends where the numbers of steps begin again. Raises `InputError` for a file that cannot be read, and for a log
    whose steps are warm-up alone.
    """
    runs = _runs(file)
    if any(run.tool.name != "tqdm" for run in runs):
        runs = [run for run in runs if run.tool.name != "tqdm"]
    return [_observed(file, run) for run in runs if run.numbers]


def _runs(file: Path) -> list[_Run]:
    """Runs by tool and restart."""
    runs: list[_Run] = []
    open_: dict[str, _Run] = {}
    facts: dict[str, Any] = {}
    for line, text in lines_of(file):
        _facts(text, facts)
        step = False
        for tool in TRAINERS:
            found = tool.step.search(text)
            if not found:
                continue
            step = True
            run = _run_of(tool, found, line, open_, runs)
            if run is not None:
                _values(run, text, file, line)
            break
        if not step:
            for run in open_.values():
                if run.tool.around:
                    _values(run, text, file, line)
    for run in runs:
        run.facts = {name: facts[name] for name in facts if name in run.tool.facts or name == "model"}
    return runs


def _run_of(tool: Trainer, found: re.Match[str], line: int, open_: dict[str, _Run], runs: list[_Run]) -> _Run | None:
    """The run that a step belongs to, with the step begun; None for the copy of a step that another rank printed."""
    number = int(found[1]) if found[1] else None
    run = open_.get(tool.name)
    if run is not None and number is not None and run.numbers:
        if number == run.numbers[-1]:
            return None
        if number < run.numbers[-1]:
            run = None
    if run is None:
        run = open_[tool.name] = _Run(tool, line)
        runs.append(run)
    if len(run.numbers) < MOST_STEPS:
        run.next(number, line)
    return run


def _facts(text: str, facts: dict[str, Any]) -> None:
    """Facts on a line; the first of each counts."""
    for tool in TRAINERS:
        for name, pattern in tool.facts.items():
            if name not in facts and (found := pattern.search(text)):
                facts[name] = int(found[1].replace(",", ""))


def _values(run: _Run, text: str, file: Path, line: int) -> None:
    """Values on a line of the step at hand."""
    for one in run.tool.fields:
        found = one.pattern.search(text)
        if not found:
            continue
        value = _si(one, number_of(found[1].rstrip(".,"), file, line))
        if not 0 < value < math.inf:
            run.bad.append(f"line {line}: {found[0]}")
            continue
        run.put(one.column, value)
    loss = run.tool.loss and run.tool.loss.search(text)
    run.nan += bool(loss and loss[1].strip("',").lower() in ("nan", "inf", "-inf"))


def _si(one: Field, value: float) -> float:
    """A printed number in SI units, 0 for one that has no inverse."""
    if one.inverse:
        return 1.0 / value if value else 0.0
    return value * one.unit


# ---- from steps to what they say -----------------------------------------------------------------------


def _observed(file: Path, run: _Run) -> Observed:
    """What the steady steps of a run say. Raises `InputError` where there are none."""
    timed = next(iter(run.values.items()), None)
    rates = {name: of for name, of in run.values.items() if name not in PEAKS}
    if timed is None or not rates:
        raise InputError(f"has steps of {run.tool.name} without a time", file=file, line=run.begins)
    column, of = next(iter(rates.items()))
    at = sorted(of)
    seconds = [of[i] if column.endswith("_s") and not column.startswith("samples") else 1.0 / of[i] for i in at]
    parts = split(seconds)
    if not parts.steady or ([run.numbers[i] for i in at] in ([0], [1]) and not run.summary):
        raise InputError("holds warm-up steps alone; expected more steps", file=file, line=run.begins)
    chosen = [at[i] for i in parts.steady]
    found = [Measurement(name, max(values.values())) for name, values in run.values.items() if name in PEAKS]
    for name, values in rates.items():
        kept = [values[i] for i in chosen if i in values]
        if kept:
            found.append(Measurement(name, median(kept), len(kept), spread_of(kept)))
    notes = list(_notes(run, [at[i] for i in parts.warm], [at[i] for i in parts.slow]))
    return Observed(file, TRAINING, run.tool.name, tuple(found), run.facts, tuple(notes))


def _notes(run: _Run, warm: list[int], slow: list[int]) -> Iterator[str]:
    """What was left out of the steps of a run, with where it stands."""
    if warm:
        yield f"{_steps(run, warm)} as warm-up"
    if slow:
        yield f"{_steps(run, slow)} as slow (evaluation, checkpoint or a pause)"
    if run.bad:
        yield f"{len(run.bad)} times that cannot be ({run.bad[0]})"
    if run.nan:
        yield f"{run.nan} steps have no finite loss; their times count"


def _steps(run: _Run, at: list[int]) -> str:
    """Steps by number, the first few of many."""
    named = ", ".join(str(run.numbers[i]) for i in at[:4]) + (", ..." if len(at) > 4 else "")
    return f"step{'s' if len(at) > 1 else ''} {named}"
