"""The commands `simgpu observe` and `simgpu compare`: what logs say, and an experiment against them."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import yaml

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.inherit import CALIBRATE
from simgpu.lab.logs.comparing import Comparison, compared
from simgpu.lab.logs.fitting import Answer, Fitted, Given
from simgpu.lab.logs.fitting import learn as fit
from simgpu.lab.logs.observed import Observed
from simgpu.lab.logs.reading import read
from simgpu.render.columns import cell, title
from simgpu.render.data import print_csv, print_json
from simgpu.render.files import written_whole
from simgpu.render.table import print_table
from simgpu.scenario import Origins, Scenario, run_scenario
from simgpu.units import format_si
from simgpu.version import __version__


def observe(files: Iterable[Path]) -> list[Observed]:
    """The runs of all files. Raises `InputError` for the first that cannot be read."""
    return [run for file in files for run in read(file)]


def compare(scenario: Scenario, origins: Origins, catalogue: Catalogue, logs: Iterable[Path]) -> list[Comparison]:
    """The row of a scenario against each run of some logs."""
    runs = observe(logs)
    if not runs:
        raise InputError("no log is given; expected --log FILE", key="--log")
    row = run_scenario(scenario, catalogue, origins).row
    return [compared(run, row) for run in runs]


# ---- what is shown ---------------------------------------------------------------------------------------


def show_observed(runs: Sequence[Observed], style: str, out: IO[str]) -> None:
    """Print what each run says."""
    if style == "json":
        print_json(observed_document(runs), out)
    elif style == "csv":
        print_csv(observed_rows(runs), out)
    else:
        for run in runs:
            rows = [_measured(one.column, one.value, one.count, one.spread) for one in run.measurements]
            facts = ", ".join(f"{name} {_short(value)}" for name, value in run.facts.items())
            notes = [*([f"says {facts}"] if facts else []), *(f"left out or noted: {note}" for note in run.notes)]
            heading = f"{run.file}: {run.kind} by {run.tool}"
            print_table(rows, tuple(rows[0]), heading, notes, out)


def observed_document(runs: Sequence[Observed]) -> dict[str, Any]:
    """What each run says, as data."""
    return {"runs": [_document(run) for run in runs]}


def observed_rows(runs: Sequence[Observed]) -> list[dict[str, Any]]:
    """A row for each figure that a run says."""
    return [{"file": str(run.file), "tool": run.tool, **vars(one)} for run in runs for one in run.measurements]


BANDWIDTHS = ("algbw", "busbw")


def _measured(column: str, value: float, count: int, spread: float) -> dict[str, str]:
    return {
        "quantity": title(column),
        "column": column,
        "measured": format_si(value, "B/s") if column in BANDWIDTHS else cell(column, value),
        "values": f"{count:,}",
        "spread": f"{100 * spread:.1f} %" if spread else "",
    }


def _short(value: Any) -> str:
    return f"{value:,.6g}" if isinstance(value, (int, float)) else str(value)


def _document(run: Observed) -> dict[str, Any]:
    return {
        "file": str(run.file), "kind": run.kind, "tool": run.tool, "facts": dict(run.facts), "notes": list(run.notes),
        "measurements": [vars(one) for one in run.measurements],
    }  # fmt: skip


def _compared(one: Comparison) -> dict[str, Any]:
    lines = [line.row() for line in one.lines]
    return {**_document(one.observed), "lines": lines, "unpredicted": list(one.unpredicted), "words": one.words()}


def compared_document(found: Sequence[Comparison]) -> dict[str, Any]:
    """Each run beside its prediction, as data, the largest differences in words."""
    return {"runs": [_compared(one) for one in found]}


def compared_rows(found: Sequence[Comparison]) -> list[dict[str, Any]]:
    """A row for each figure that was measured and predicted."""
    return [{"file": str(one.observed.file), **line.row()} for one in found for line in one.lines]


def show_compared(found: Sequence[Comparison], style: str, out: IO[str]) -> None:
    """Print predictions beside what logs say, the largest differences in words below."""
    if style == "json":
        print_json(compared_document(found), out)
    elif style == "csv":
        print_csv(compared_rows(found), out)
    else:
        for one in found:
            rows = [
                {
                    "quantity": title(line.column),
                    "measured": cell(line.column, line.measured.value),
                    "predicted": cell(line.column, line.predicted),
                    "80 % interval": f"{cell(line.column, line.p10)} to {cell(line.column, line.p90)}",
                    "measured / predicted": f"{line.ratio:.2f}",
                    "inside": "yes" if line.inside else "no",
                }
                for line in one.lines
            ]
            notes = [*one.words(), *(f"left out or noted: {note}" for note in one.observed.notes)]
            if one.unpredicted:
                notes.append(f"not predicted by this experiment: {', '.join(one.unpredicted)}")
            print_table(rows, tuple(rows[0]), f"{one.observed.file}: {one.observed.tool}", notes, out)


# ---- learning from logs ----------------------------------------------------------------------------------


def learn(cases: Sequence[Any], numbers: Sequence[int], runs: Sequence[Observed], catalogue: Catalogue) -> Answer:
    """Fit the factors of a machine to runs, each of the case of an experiment that its number (from 1) names."""
    return fit(of_cases(cases, numbers, runs), catalogue)


def of_cases(cases: Sequence[Any], numbers: Sequence[int], runs: Sequence[Observed]) -> list[Given]:
    """Runs with the case of each: one number for all, or one a run. Raises `InputError`."""
    chosen = list(numbers) or [1]
    if len(chosen) == 1:
        chosen *= len(runs)
    if len(chosen) != len(runs):
        raise InputError(
            f"is given {len(chosen)} times for {len(runs)} runs; expected once, or once a run", key="--case"
        )
    for number in chosen:
        if not 1 <= number <= len(cases):
            raise InputError(f"{number}: the experiment has {len(cases)}", key="--case")
    return [
        Given(run, at_load(cases[n - 1].scenario, run), cases[n - 1].origins)
        for run, n in zip(runs, chosen, strict=True)
    ]


def at_load(scenario: Scenario, run: Observed) -> Scenario:
    """A case of a server at the concurrency that a log says: one case stands for runs at several loads."""
    load = run.facts.get("concurrency")
    if scenario.workload.kind != "serving" or not isinstance(load, (int, float)) or load < 1 or load % 1:
        return scenario
    return scenario.model_copy(update={"workload": scenario.workload.model_copy(update={"concurrency": int(load)})})


def write_overlay(done: Answer, file: Path) -> None:
    """Write `mine.yaml`: what was learned, for `cluster:` of experiments."""
    logs = ", ".join(dict.fromkeys(held.run.file.name for held in done.runs))
    source = f"{logs}, {datetime.date.today().isoformat()}; {CALIBRATE} {__version__}"
    found = done.overlay(source)
    with written_whole(file) as stream:
        stream.write("# What logs say of one machine: name this file wherever a cluster is named.\n")
        yaml.safe_dump(found.model_dump(exclude_none=True), stream, sort_keys=False, allow_unicode=True, width=10_000)


def show_learned(done: Answer, style: str, out: IO[str]) -> None:
    """Print the factors, and each run before and after."""
    notes = [*_alike(done), *done.notes]
    if done.dropped:
        notes.append(f"not kept, since runs that are left out are predicted no nearer with them:"
                     f" {', '.join(map(_shown, done.dropped))}")  # fmt: skip
    if style == "json":
        print_json(learned_document(done), out)
    elif style == "csv":
        print_csv(_runs(done), out)
    else:
        factors = [
            {
                "factor": one.factor.name,
                "value": f"{one.value:.3f}",
                "80 % interval": f"{one.low:.3f} to {one.high:.3f}",
                "told by the logs": f"{100 * one.told:.0f} %",
            }
            for one in done.factors
        ]
        columns = ("factor", "value", "80 % interval", "told by the logs")
        print_table(factors, columns, f"{done.stack} on {done.machine}", notes, out)
        table = [
            {
                "run": held.run.file.name,
                "quantity": title(held.column),
                "measured / predicted": f"{held.before:.3f}",
                "after": f"{held.after:.3f}",
                "learned from the others": f"{held.left_out:.3f}",
            }
            for held in done.runs
        ]
        print_table(table, tuple(table[0]), "", [], out)


def learned_document(done: Answer) -> dict[str, Any]:
    """Factors, kept and dropped, and each run before and after, as data."""
    return {
        "machine": done.machine, "stack": done.stack, "alike": _alike(done), "notes": list(done.notes),
        "dropped": [_factor(one) for one in done.dropped], "factors": [_factor(one) for one in done.factors],
        "runs": _runs(done),
    }  # fmt: skip


def _alike(done: Answer) -> list[str]:
    return [f"{one} and {other} cannot be told apart by these logs" for one, other in done.alike]


def _shown(one: Fitted) -> str:
    return f"{one.factor.name} ({one.low:.2f} to {one.high:.2f})"


def _factor(one: Fitted) -> dict[str, Any]:
    return {"factor": one.factor.name, "value": one.value, "p10": one.low, "p90": one.high, "told": one.told}


def _runs(done: Answer) -> list[dict[str, Any]]:
    return [
        {"run": held.run.file.name, "column": held.column, "before": held.before, "after": held.after,
         "left_out": held.left_out}
        for held in done.runs
    ]  # fmt: skip
