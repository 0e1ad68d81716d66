"""Tables of kernels (for `simgpu calibrate`) and traces: `simgpu observe` says what they are and what they hold."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

from simgpu.errors import InputError
from simgpu.lab.logs.observed import KERNELS, TRACE, Measurement, Observed
from simgpu.lab.logs.text import lines_of
from simgpu.lab.traces import command as traces
from simgpu.lab.traces.comparing import Group, class_of, grouped
from simgpu.lab.traces.records import COLLECTIVE
from simgpu.lab.validation.batches import KINDS

TIMES = {"time_us": 1e-6, "latency_us": 1e-6, "us": 1e-6, "time_ms": 1e-3, "latency_ms": 1e-3, "time_s": 1.0}
"""Columns of times in tables of kernels, s in their unit."""
SHAPES = ({"m", "n", "k"}, {"what"}, {"heads", "head_dim"}, {"bytes", "what"})
TOP = 3


def read_table(file: Path) -> list[Observed]:
    """A table of kernels; nothing where its header is none."""
    lines = (text for _, text in lines_of(file))
    header = next((line for line in lines if not line.startswith("#")), "")
    columns = [name.strip() for name in header.split(",")]
    time = next((name for name in TIMES if name in columns), None)
    if time is None or not any(shape <= set(columns) for shape in SHAPES):
        return []
    kinds: Counter[str] = Counter()
    seconds, bad = 0.0, 0
    for row in csv.DictReader(lines, fieldnames=columns):
        try:
            value = float(row[time] or "") * TIMES[time]
        except (TypeError, ValueError):
            value = 0.0
        bad += not 0 < value < 1e6
        seconds += value if 0 < value < 1e6 else 0.0
        kinds[row.get("what") or ("gemm" if {"m", "n", "k"} <= set(columns) else "attention")] += 1
    rows = kinds.total() - bad
    if not rows:
        raise InputError(f"has the columns of a table of kernels and no time in '{time}'", file=file)
    found = ", ".join(f"{count:,} of {kind}" for kind, count in kinds.most_common())
    unknown = sorted(set(kinds) - set(KINDS))
    notes = [f"rows: {found}; simgpu calibrate {file.name} --gpu NAME learns from them"]
    notes += [f"{bad} rows without a time"] if bad else []
    notes += [f"rows of {', '.join(unknown)[:80]} say nothing here"] if unknown else []
    return [Observed(file, KERNELS, "a table", (Measurement("time_s", seconds / rows, rows),), {}, tuple(notes))]


def read_trace(file: Path) -> list[Observed]:
    """The time of kernels in a trace, and the operators that take most of it. Raises `InputError`."""
    recorded = traces.read(file)
    groups = grouped(recorded.records)
    total = sum(group.total for group in groups)
    facts: dict[str, object] = {"operators": len(groups)} | (
        {"GPU": ", ".join(name for name, _, _ in recorded.gpus)} if recorded.gpus else {}
    )
    found = [Measurement("compute_s", sum(g.total for g in groups if g.record.kind != COLLECTIVE))]
    links = sum(g.total for g in groups if g.record.kind == COLLECTIVE)
    found += [Measurement("communication_s", links)] if links else []
    most = [f"{group.record.name} {100 * group.total / total:.0f} %" for group in groups[:TOP] if total]
    notes = [f"most time: {', '.join(most)}"] if most else []
    notes += _classes(groups, total)
    notes += [*recorded.notes, f"simgpu replay {file.name} plays it elsewhere"]
    measured = tuple(one for one in found if one.value)
    if not measured:
        raise InputError("holds no time of a kernel: was its window empty?", file=file)
    return [Observed(file, TRACE, recorded.what, measured, facts, tuple(notes))]


def _classes(groups: Sequence[Group], total: float) -> list[str]:
    """What share of the time each class of kernels takes, in words."""
    found: dict[str, float] = defaultdict(float)
    for group in groups:
        found[class_of(group)] += group.total
    most = sorted(found.items(), key=lambda one: -one[1])
    said = [f"{name} {100 * seconds / total:.0f} %" for name, seconds in most if seconds > 0]
    return [f"by class: {', '.join(said)}"] if said else []
