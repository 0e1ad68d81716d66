"""An experiment's answer: table, JSON document, CSV, and the files beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from simgpu.catalog import Catalogue
from simgpu.columns import COLUMNS
from simgpu.documents import as_text
from simgpu.errors import InputError
from simgpu.operations.money import asked
from simgpu.render.data import print_csv, print_json
from simgpu.render.files import written_whole
from simgpu.render.notes import (
    adapter_notes,
    context_notes,
    fit_notes,
    memory_notes,
    month_notes,
    price_notes,
    settings_notes,
    tier_notes,
    walk_notes,
)
from simgpu.render.requests_files import write_requests
from simgpu.render.requests_trace import request_events
from simgpu.render.trace import trace_events, write_events
from simgpu.simulation.result import Result
from simgpu.study.experiment.parts import (
    assumed,
    distances,
    doubtful_figures,
    idle_gpus,
    lone_microbatches,
    versions_of_runtimes,
)
from simgpu.study.experiment.running import ExperimentResult, refused_notes
from simgpu.study.experiment.shown import left_out, shown_columns
from simgpu.study.report.attribution import walks
from simgpu.study.report.figures import figures_of
from simgpu.study.report.memory import misfits, print_tables, row_name, stage_data, tight
from simgpu.trace_events import uncollected
from simgpu.version import __version__
from simgpu.workload.execution import PeriodicExecution
from simgpu.workload.jobs import longest_sequence

MAX_TRACE_EVENTS = 200_000
MAX_TRACE_RANKS = 64
CONSTANTS = "gpu.kernel."
"""What keys of constants of kernels begin with."""


def build(outcome: ExperimentResult, catalogue: Catalogue) -> dict[str, Any]:
    """The JSON document of an experiment.

    It holds the experiment, rows, notes, memory of every pipeline stage of rows that train, and every input of every
    scenario with its source; constants of kernels, some 300 of each GPU, stand once for all rows that share them.
    """
    fields = outcome.experiment.fields
    differences = walks(outcome, catalogue)
    compare = fields.compare
    notes = walk_notes(differences, compare.start, compare.end) if compare else []
    notes += settings_notes(outcome.experiment.settings, left_out(fields, outcome.rows))
    notes += memory_notes(outcome.rows, _first_label(outcome))
    if any(map(asked, outcome.rows)) or any(name.startswith("usd_") for name in shown_columns(fields, outcome.rows)):
        notes += price_notes(outcome.rows, _first_label(outcome))
    notes += month_notes(outcome.rows)
    notes += context_notes(stretched(outcome, catalogue))
    notes += fit_notes(misfits(outcome, catalogue))
    notes += tight(outcome)
    notes += doubtful_figures(outcome, catalogue)
    notes += tier_notes(outcome.rows) + adapter_notes(outcome.rows)
    notes += idle_gpus(outcome)
    notes += lone_microbatches(outcome)
    notes += versions_of_runtimes(outcome)
    notes += assumed(outcome)
    notes += distances(outcome)
    notes += refused_notes(outcome.refused)
    notes += [f"plot {n + 1} cannot be drawn: {error}" for n, error in outcome.undrawn.items()]
    if fields.search is not None:
        notes.append(
            f"This is where a search starts from; its answer: simgpu search {outcome.experiment.document.file}"
        )
    return {
        "experiment": outcome.experiment.name,
        "title": fields.title,
        "simgpu_version": __version__,
        "rows": outcome.rows,
        "notes": notes,
        "refused": [{"row": one.number, "name": one.name, "reason": str(one.error)} for one in outcome.refused],
        "memory": [[stage_data(stage) for stage in result.memory] for result in outcome.results],
        "scenarios": [_split(found)[0] for found in scenarios(outcome)],
        "constants": _constants(scenarios(outcome)),
    }


def stretched(outcome: ExperimentResult, catalogue: Catalogue) -> dict[str, tuple[int, int]]:
    """Models with sequences longer than their configuration allows: tokens of the longest, and the limit."""
    longest: dict[str, tuple[int, int]] = {}
    for case in outcome.experiment.cases:
        name, tokens = case.scenario.model, longest_sequence(case.scenario.workload)
        if (
            name
            and tokens
            and tokens > max((published := catalogue.model(name).max_tokens), longest.get(name, (0, 0))[0])
        ):
            longest[name] = tokens, published
    return longest


def scenarios(outcome: ExperimentResult) -> list[Mapping[str, Any]]:
    """Every input of each row's scenario: {key: {value, unit, source}}, in the order of the rows."""
    return [result.resolved for result in outcome.results]


def _split(found: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The inputs of a scenario without the constants of kernels, and these."""
    parts: tuple[dict[str, Any], dict[str, Any]] = {}, {}
    for key, one in found.items():
        parts[key.startswith(CONSTANTS)][key] = one
    return parts


def _constants(found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each constant of kernels once, beside others of the same rows: {rows: numbers from 0, inputs: {key: ...}}."""
    known: dict[str, tuple[str, Any, list[int]]] = {}
    for number, one in enumerate(found):
        for key, given in _split(one)[1].items():
            known.setdefault(f"{key} {given!r}", (key, given, []))[2].append(number)
    sets: dict[tuple[int, ...], dict[str, Any]] = {}
    for key, given, rows in known.values():
        sets.setdefault(tuple(rows), {})[key] = given
    return [{"rows": list(rows), "inputs": inputs} for rows, inputs in sets.items()]


def inputs(outcome: ExperimentResult) -> list[dict[str, Any]]:
    """Every input of each row's scenario, in a row of its own."""
    return [
        {"scenario": row_name(outcome, number), "key": key, "value": None, "unit": "", "source": "", **one}
        for number, found in enumerate(scenarios(outcome))
        for key, one in found.items()
    ]


def print_report(outcome: ExperimentResult, document: Mapping[str, Any], out: IO[str], memory: bool = False) -> None:
    """The table, the memory of every scenario if asked for, and the notes."""
    from simgpu.render.table import print_notes, print_table

    rows = outcome.rows
    print_table(rows, shown_columns(outcome.experiment.fields, rows), document["title"], [], out)
    if memory:
        print_tables(outcome, out)
    print_notes(document["notes"], out)


def write(
    outcome: ExperimentResult, document: Mapping[str, Any], folder: Path, plots: bool = True,
    formats: Sequence[str] = (), tables: Sequence[str] = (),
) -> list[tuple[str, Path]]:  # fmt: skip
    """Write data (JSON, CSV), trace and plots into `folder`; returns the files.

    `formats` of the plots are png, svg, pdf; by default those that the experiment names. `tables` are the formats, csv
    and parquet, in which requests of servers that are followed are written, and their state over time. Figures are
    built before anything is written, so that an error leaves no half of a result behind.
    """
    drawn = figures_of(outcome) if plots else {}
    written = []
    with written_whole(folder / "result.json") as stream:
        print_json(document, stream)
    with written_whole(folder / "rows.csv") as stream:
        print_csv(outcome.rows, stream)
    written += [("data", folder / "result.json"), ("data", folder / "rows.csv")]
    left_out = write_trace(outcome, folder / "trace.json", empty=True)
    written.append((f"trace ({left_out})" if left_out else "trace", folder / "trace.json"))
    for number, result in enumerate(outcome.results if tables else ()):
        if served := followed(result):
            below = folder / f"row{number + 1}" if len(outcome.results) > 1 else folder
            written += [("requests", file) for file in write_requests(served, below, tables)]
    return written + (_save(drawn, outcome, folder, formats) if drawn else [])


def draw(outcome: ExperimentResult, folder: Path, formats: Sequence[str] = ()) -> list[tuple[str, Path]]:
    """The pictures alone, all built before the first is written; returns the files."""
    return _save(figures_of(outcome), outcome, folder, formats)


def _save(
    drawn: Mapping[str, Any], outcome: ExperimentResult, folder: Path, formats: Sequence[str]
) -> list[tuple[str, Path]]:
    from simgpu.render.files import save

    kinds = list(dict.fromkeys(formats or outcome.experiment.fields.formats))
    files = (save(figure, *(folder / f"{name}.{kind}" for kind in kinds)) for name, figure in drawn.items())
    return [("plot", file) for some in files for file in some]


def followed(result: Result) -> Any:
    """What a server did whose requests were followed; None of any other result."""
    return getattr(result, "served", None)


@uncollected()
def write_trace(outcome: ExperimentResult, file: Path, empty: bool = False) -> str:
    """Write one trace with the timelines of the rows; each row is a group of processes.

    Returns what was left out, or ''.

    Of a row the first `MAX_TRACE_RANKS` ranks are written, and rows until the trace holds `MAX_TRACE_EVENTS` events. A
    step of so many microbatches that it alone has more is left out. Unless `empty` is allowed, a trace that would hold
    nothing is an `InputError`.
    """
    events: list[dict[str, Any]] = []
    told: list[dict[str, Any]] = []
    process = 0
    left_out = []
    for number, result in enumerate(outcome.results):
        if events and len(events) > MAX_TRACE_EVENTS:
            left_out.append(f"the first {number} of {len(outcome.results)} rows")
            break
        if served := followed(result):
            events += request_events(served, process, row_name(outcome, number) + ":")
            process += 2
            continue
        count = result.execution.activities if isinstance(result.execution, PeriodicExecution) else 0
        if count > MAX_TRACE_EVENTS:
            name = row_name(outcome, number)
            left_out.append(f"without {name}: {count:,} activities, a trace holds {MAX_TRACE_EVENTS:,}")
            continue
        ranks = min(len(result.execution.streams), MAX_TRACE_RANKS)
        try:
            events += trace_events(result.execution, process, row_name(outcome, number) + ":", ranks, result.board)
        except InputError as error:  # so many microbatches that they are not simulated one by one
            left_out.append(f"without {row_name(outcome, number)}: {error.problem}")
            continue
        process += ranks
        scenario = as_text({"scenario": outcome.experiment.cases[number].data})
        told.append({"processes": ranks, "experiment": scenario.text})
    some = {
        min(len(result.execution.streams), MAX_TRACE_RANKS) for result in outcome.results if _has_more_ranks(result)
    }
    if some:
        left_out.append(f"the first {max(some)} ranks of each row")
    if not events and not empty:
        raise InputError(f"{', '.join(left_out)}; expected fewer microbatches", key="trace")
    write_events(events, file, {"version": __version__, "rows": told})
    return ", ".join(left_out)


def _has_more_ranks(result: Result) -> bool:
    """True if a trace leaves out ranks: too many, or those that do what others do. In training one stands for all."""
    if followed(result):
        return False
    ranks = len(result.execution.streams)
    return ranks > MAX_TRACE_RANKS or (ranks < result.row["gpus"] and not result.execution.blocks)


def _first_label(outcome: ExperimentResult) -> str | None:
    return next((key for row in outcome.rows for key in row if key not in COLUMNS), None)
