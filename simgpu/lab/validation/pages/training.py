"""docs/validation-training.md: training steps against their measurements, row by row, with goals and the farthest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from simgpu.lab.validation.pages.goals import TRAINING_GOALS, StepGoal
from simgpu.lab.validation.pages.intervals import intervals_section
from simgpu.lab.validation.pages.operators import sections
from simgpu.lab.validation.run import Validation
from simgpu.lab.validation.steps import by_origin, errors_of, farthest, step_rows
from simgpu.render.training import quantity
from simgpu.render.validation import percent

HEAD = """\
<!-- generated, do not edit: simgpu validate training --data DIR --page docs/validation-training.md -->
# Training steps: predicted against measured

Every row of the tables of whole training steps, simulated by itself: a model by its shape, a machine, a plan, a
framework. Anyone can run it again on tables of the same columns; without a folder, the published figures that come with
simgpu are used:

    simgpu validate training --data DIR --out DIR

Errors are predicted / measured - 1, in percent. Nothing is fitted to a model, a row or a cluster; some constants of
frameworks were chosen on whole sources, [training.md](training.md) names them. Where a source leaves settings open, the
prediction is the median over those that fit what it says, and the interval covers all of them.
"""
PICTURE = "![Predicted against measured steps](images/training_parity.png)\n"
_BOUNDS = ("median", "mean", "P90", "largest")


def page_text(done: Validation) -> str:
    """The page of training as Markdown."""
    return page_of(done, HEAD, PICTURE, TRAINING_GOALS)


def page_of(
    done: Validation, head: str, picture: str, wanted: Sequence[StepGoal], more: Sequence[str] = (), every: bool = True
) -> str:
    """A page of whole steps or runs: goals, `more` sections, errors by origin, the farthest; `every` row if wanted."""
    rows = step_rows(done)
    bars = _joined(intervals_section(done))
    blocks = [
        head,
        picture,
        _joined(_goals(rows, wanted)),
        bars,
        *more,
        _joined(_origins(rows)),
        _joined(_farthest(rows)),
    ]
    blocks += [*([_joined(_rows(rows))] if every else []), _joined(_listed(done))]
    return "\n".join(block.rstrip("\n") + "\n" for block in blocks)


def _joined(lines: Iterator[str]) -> str:
    return "\n".join(lines)


def _goals(rows: Sequence[dict[str, Any]], wanted: Sequence[StepGoal]) -> Iterator[str]:
    yield "## Goals\n"
    yield "| rows of | rows | goal: median / mean / P90 / largest | reached so far | met | best known |"
    yield "|---|---:|---|---|---|---|"
    for goal in wanted:
        members = [row for row in rows if goal.takes(row)]
        if members:
            found = errors_of(members)
            values = [found[name] for name in ("median_ape", "mape", "p90_ape", "max_ape")]
            bounds = " / ".join("-" if bound is None else f"{bound:g}" for bound in goal.errors)
            got = " / ".join(percent(value) for value in values)
            yield f"| {goal.title} | {len(members)} | {bounds} | {got} | {_met(goal, values)} | {goal.known} |"


def _met(goal: StepGoal, values: Sequence[float]) -> str:
    return "yes" if all(b is None or round(100 * v, 1) <= b for v, b in zip(values, goal.errors, strict=True)) else "no"


def _origins(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "## By origin\n"
    yield "| origin | GPU | what | rows | median / mean / P90 / largest % | bias % | within |"
    yield "|---|---|---|---:|---|---:|---:|"
    for entry in by_origin(rows):
        errors = " / ".join(percent(entry[name]) for name in ("median_ape", "mape", "p90_ape", "max_ape"))
        cells = [entry["origin"], entry["gpu"], entry["op"].replace("_", " "), str(entry["rows"]), errors]
        yield f"| {' | '.join(cells)} | {percent(entry['bias'], signed=True)} | {100 * entry['coverage80']:.0f} % |"


def _farthest(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "## Farthest off\n"
    yield "| row | what | plan | error % | why |"
    yield "|---|---|---|---:|---|"
    for row in farthest(rows):
        why = row["why"] or row["caveat"] or "not explained yet"
        what = f"{row['model']} on {row['gpus']} {row['gpu']}"
        cells = [f"{row['source']}:{row['line']}", what, row["plan"], percent(row["error"], signed=True), why]
        yield f"| {' | '.join(cells)} |"


def _rows(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield "## Row by row\n"
    for origin in dict.fromkeys(row["origin"] for row in rows):
        yield f"### {origin}\n"
        yield "| model | GPUs | plan, batch, dtype | framework | measured | predicted | error % | interval | note |"
        yield "|---|---:|---|---|---:|---:|---:|---:|---|"
        for row in rows:
            if row["origin"] == origin:
                ends = f"{quantity(row['low'], row)} to {quantity(row['high'], row)}"
                repeats = f"median of {row['rows']}" if row["rows"] > 1 else ""
                cells = [row["model"], f"{row['gpus']:,} {row['gpu']}", row["plan"], row["framework"]]
                cells += [quantity(row["measured"], row), quantity(row["predicted"], row)]
                cells += [percent(row["error"], signed=True), ends, "; ".join(filter(None, (repeats, row["caveat"])))]
                yield f"| {' | '.join(cells)} |"
        yield ""


def _listed(done: Validation) -> Iterator[str]:
    for title, entries in sections(done):
        yield f"## {title}\n"
        together: dict[tuple[str, str], int] = {}
        for entry in entries:
            together[entry.source, entry.reason] = together.get((entry.source, entry.reason), 0) + entry.rows
        yield "| source | rows | why |"
        yield "|---|---:|---|"
        for (source, reason), count in sorted(together.items()):
            yield f"| {source} | {count:,} | {reason} |"
        yield ""
